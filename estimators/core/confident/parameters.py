"""Parameters of all heads that tell how sure they are to be, and of what."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy.typing as npt
from sklearn.utils._param_validation import Interval, StrOptions

Calibrate: TypeAlias = bool | Literal["temperature", "vector"]
ClassPrior: TypeAlias = str | npt.ArrayLike | Mapping[Any, float] | None
Novelty: TypeAlias = Literal["auto", "mahalanobis", "relative", "knn", "energy"] | None
CONFIDENCE: dict[str, list[Any]] = {
    "calibrate": ["boolean", StrOptions({"temperature", "vector"})],
    "class_prior": [str, dict, "array-like", None],
    "reject": [Interval(Real, 0, 1, closed="neither"), None],
    "reject_label": [object],
    "novelty": [StrOptions({"auto", "mahalanobis", "relative", "knn", "energy"}), None],
}
"""Constraints of these parameters, as scikit-learn checks them."""
