"""Checks of several labels an image: an indicator of 0 and 1, one column a label."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.utils import check_array
from torch import Tensor

from frofa.compute.arrays import as_features
from frofa.estimators.core.support import Array


class Indicator(NamedTuple):
    """Labels (n, L) of 0.0 and 1.0, and names (L,): columns of a data frame, or 0, 1, ..."""

    labels: Array
    names: Array


def is_indicator(y: Any) -> bool:
    """Tell several labels an image, (n, L), from one, (n,), or a column of others than 0 and 1."""
    if issparse(y) or hasattr(y, "columns"):
        return bool(y.shape[1] > 1 or _is_binary(y.toarray() if issparse(y) else np.asarray(y)))
    try:
        values = np.asarray(as_features(y) if isinstance(y, Tensor) else y)
    except ValueError:  # sets of different sizes
        return True
    if values.dtype.kind == "O" and len(values) and isinstance(values[0], (list, tuple, set, np.ndarray)):
        return True
    return values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 1 and not _is_binary(values))


def _is_binary(values: Array) -> bool:
    return values.dtype.kind in "biuf" and bool(np.isin(values, (0, 1)).all())


def check_indicator(y: Any, name: str) -> Indicator:
    """Check an indicator of labels, of numbers or booleans, dense or sparse, an array or a data frame."""
    names = np.asarray(y.columns) if hasattr(y, "columns") else None
    if issparse(y):
        y = y.toarray()
    y = as_features(y) if isinstance(y, Tensor) else y
    try:
        values = np.asarray(y)
    except ValueError as error:  # sets of different sizes
        raise ValueError(_expected(name, "sets of labels")) from error
    if values.ndim != 2 or values.dtype.kind not in "biufO" or not values.shape[1]:
        raise ValueError(_expected(name, f"shape {values.shape} of {values.dtype}"))
    labels: Array = check_array(y, dtype=np.float64, estimator=name, input_name="y")
    if not np.isin(labels, (0, 1)).all():
        other = labels[~np.isin(labels, (0, 1))][0]
        raise ValueError(f"Unknown label type: {_expected(name, f'the value {other:g}')}")
    return Indicator(labels, np.arange(labels.shape[1]) if names is None else names)


def _expected(name: str, got: str) -> str:
    return (
        f"{name} expects labels (n,), or an indicator of 0 and 1 of shape (n, n_labels), which scikit-learn's "
        f"MultiLabelBinarizer makes of sets of labels; ShrinkageRegressor takes numbers. Got {got}."
    )


def log_odds_of(given: Any, names: Array, empirical: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return logits (L,) of prevalences as users give them: one, of each label, or of some by name."""
    if given is None or (isinstance(given, str) and given == "empirical"):
        return empirical
    if isinstance(given, str) and given == "uniform":
        return np.zeros(len(names))
    if isinstance(given, Mapping):
        unknown = [label for label in given if label not in names.tolist()]
        if unknown:
            raise ValueError(f"class_prior has {unknown[0]!r}, which is none of the labels.")
        own = 1 / (1 + np.exp(-empirical))
        given = [given.get(label, each) for label, each in zip(names.tolist(), own, strict=True)]
    shares = check_shares(given, len(names), "class_prior")
    found: npt.NDArray[np.float64] = np.log(shares) - np.log1p(-shares)
    return found


def check_shares(given: Any, n_labels: int, parameter: str) -> npt.NDArray[np.float64]:
    """Check a number between 0 and 1, or one of each label: (L,)."""
    try:
        values = np.broadcast_to(np.asarray(given, dtype=np.float64), (n_labels,))
    except (TypeError, ValueError) as error:
        raise ValueError(_wrong(parameter, n_labels, given)) from error
    if not ((values > 0) & (values < 1)).all():
        raise ValueError(_wrong(parameter, n_labels, given))
    return np.array(values)


def _wrong(parameter: str, n_labels: int, given: Any) -> str:
    return f"{parameter} must be between 0 and 1, for all labels or each of {n_labels}. Got {given!r}."
