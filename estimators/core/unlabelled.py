"""Samples without labels among the training samples: which they are, and how fitted attributes tell of them."""

import warnings
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _check_sample_weight

from frofa.compute.arrays import missing, plain_labels, present_labels
from frofa.estimators.core.support import Array
from frofa.exceptions import UnlabelledWarning

AUTO = "auto"
UNLABELLED = -1
"""Label of samples without one in scikit-learn's semi-supervised estimators."""
MISSING = float("nan")
"""Value of `unlabeled` where no label stands for none, but labels may be missing: nothing is equal to it."""
CONSTRAINT: list[Any] = [object]
"""Constraint of the parameter `unlabeled`: any label may be the one that stands for none."""
Mask = npt.NDArray[np.bool_]


class Divided(NamedTuple):
    """Samples with labels, and those without, if there are some.

    `known` (n,) tells of each sample that was given whether it has a label. It is None where all have one, and so are
    the features of the `pool` and its weights.
    """

    X: Any
    y: Any
    sample_weight: Any
    pool: Any = None
    pool_weights: npt.NDArray[np.float64] | None = None
    known: Mask | None = None


def divide(X: Any, y: Any, sample_weight: Any, unlabeled: Any, name: str) -> Divided:
    """Divide checked features of any kind, labels (n,) and weights (n,), in the name of an estimator."""
    known = labelled_rows(y, unlabeled)
    if known is None:
        return Divided(X, y, sample_weight)
    check_consistent_length(X, known)
    if not known.any():
        raise ValueError(f"{name} needs samples of at least 2 classes. Got none with a label.")
    weights = _check_sample_weight(sample_weight, known, dtype=np.float64, ensure_non_negative=True)
    rows, others = np.flatnonzero(known), np.flatnonzero(~known)
    return Divided(X[rows], present_labels(y, rows), weights[rows], X[others], weights[others], known)


def labelled_rows(y: Any, unlabeled: Any, *, warn: bool = True) -> Mask | None:
    """Tell which samples (n,) have a label; None where all have one, or `unlabeled` is None, as is none.

    A label that is missing is none. With ``"auto"``, so is -1 beside two other classes, of which a warning tells, or
    beside strings.
    """
    if unlabeled is None or y is None:
        return None
    labels = plain_labels(y)
    if labels.ndim != 1:  # an error of its own, or a column of labels
        return None
    without = missing(labels)
    if not (isinstance(unlabeled, str) and unlabeled == AUTO):
        without = without | _equal(labels, unlabeled)
    elif (marked := _equal(labels, UNLABELLED)).any():
        others = labels[~(marked | without)]
        strings = any(isinstance(label, str) for label in others)
        if strings or len(np.unique(others)) >= 2:
            without = without | marked
            if warn and not strings:
                warn_of_auto(int(marked.sum()))
    return ~without if without.any() else None


def resolved(unlabeled: Any, classes: Any) -> Any:
    """Give what ``"auto"`` stands for where the classes (K,) are told: -1, unless it is one of them."""
    if classes is None or not (isinstance(unlabeled, str) and unlabeled == AUTO):
        return unlabeled
    return None if _equal(plain_labels(classes), UNLABELLED).any() else UNLABELLED


def warn_of_auto(n: int) -> None:
    """Say what -1 was taken for."""
    are = "sample of label -1 is" if n == 1 else "samples of label -1 are"
    warnings.warn(
        f"{n} {are} taken to have no label, as in scikit-learn's semi-supervised estimators. unlabeled=-1 says that it "
        "is so, without this warning; unlabeled=None makes -1 a class.",
        UnlabelledWarning,
        stacklevel=6,
    )


def spread(values: Array, known: Mask) -> Array:
    """Put rows of samples with labels, of shape (n_labelled, K), where these are among all: others have NaN."""
    spread_out: Array = np.full((len(known), *values.shape[1:]), np.nan, values.dtype)
    spread_out[known] = values
    return spread_out


def _equal(labels: Array, label: Any) -> Mask:
    """Tell which labels (n,) are this one; True is not 1, and a string is no number."""
    if labels.dtype.kind == "O":
        gaps = missing(labels)  # pandas' NA is neither equal nor not
        alike = [_kind(one) == _kind(label) and not gap for one, gap in zip(labels, gaps, strict=True)]
        return np.array([same and bool(one == label) for one, same in zip(labels, alike, strict=True)], bool)
    kind = "number" if labels.dtype.kind in "iuf" else "boolean" if labels.dtype.kind == "b" else "other"
    return np.asarray(labels == label) if _kind(label) == kind else np.zeros(len(labels), bool)


def _kind(label: Any) -> str:
    if isinstance(label, (bool, np.bool_)):
        return "boolean"
    return "number" if isinstance(label, Real) else "other"
