"""Trial of loaded estimators on one row: a file may be of another version, or forged."""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.numbers.estimator import OutputsEstimator
from frofa.exceptions import SavedFileError

OF_CLASSES = ("predict_proba", "decision_function")
TRIED_METHODS = (*OF_CLASSES, "predict", "transform")


def try_out(estimator: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Ask a fitted estimator of numbers about one row of ones; one that is not fitted passes.

    One of the file's arrays must be as wide as its input, which bounds the size of the row.

    It is a SavedFileError if its parts do not fit together, or are no finite numbers where they must be.
    """
    width, name = getattr(estimator, "n_features_in_", None), type(estimator).__name__
    if width is None:
        if any(key.endswith("_") and not key.startswith("_") for key in vars(estimator)):
            raise SavedFileError(f"{name} is fitted, but n_features_in_ is missing")
        return
    if not isinstance(width, Integral) or not any(width in array.shape for array in arrays.values()):
        raise SavedFileError(f"the parts of {name} do not fit together: none has {width!r:.80} columns")
    if not np.isfinite(getattr(estimator, "coef_", 0)).all():
        raise SavedFileError(f"the coefficients of {name} are not finite")
    try:
        _use(estimator, _row(estimator, int(width)))
    except Exception as error:  # NumPy's, PyTorch's, scikit-learn's
        raise SavedFileError(f"the parts of {name} do not fit together: {type(error).__name__}: {error}") from error


def _row(estimator: Any, width: int) -> Any:
    """A row of ones, as a data frame with names of columns if the estimator was fitted to one."""
    ones = np.ones((1, width))
    if not hasattr(estimator, "feature_names_in_"):
        return ones
    import pandas as pd

    return pd.DataFrame(ones, columns=estimator.feature_names_in_)


def _use(estimator: Any, row: Any) -> None:
    # A shallow copy takes the change of a parameter; what is fitted is shared, and only read.
    copied = copy(estimator)
    if isinstance(copied, FeatureClassifier):
        copied.n_views = 0  # views are of tokens
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what was so when it was fitted
        for method in TRIED_METHODS:
            if hasattr(copied, method):
                with suppress(NotImplementedError):  # of a solver that does not transform
                    _check(copied, method, np.asarray(getattr(copied, method)(row)))
    if isinstance(copied, FeatureClassifier) and not np.isfinite(copied.predict_proba(row)).all():
        raise ValueError("probabilities are not finite")


def _check(estimator: Any, method: str, found: npt.NDArray[Any]) -> None:
    """Check the shape of what a method returned for one row."""
    shapes: tuple[tuple[int, ...], ...] = ((1,),)
    if isinstance(estimator, OutputsEstimator) and getattr(estimator, "multilabel_", True):
        shapes = ((1, *estimator.coef_.shape[1:-1]),)
    elif method in OF_CLASSES:
        n = len(estimator.classes_)
        shapes = ((1, n),) if n > 2 or method == "predict_proba" else ((1,), (1, 2))
    if len(found) != 1 or (method != "transform" and found.shape not in shapes):
        raise ValueError(f"{method} returns shape {found.shape} for one row")
