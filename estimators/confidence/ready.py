"""Prediction sets of a classifier that is fitted, from what its fit left out anyway."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import _safe_indexing

from frofa.estimators.confidence.closed_form import closed_form_of, kept_of
from frofa.estimators.confidence.conformal import ConformalClassifier
from frofa.estimators.few_shot import FewShotClassifier

Array = npt.NDArray[Any]
MOST_KEPT = 1000
"""Samples up to which they are kept, and each has its own model: beyond, these are the fitted one to three digits."""


def set_state(head: FewShotClassifier, X: Any, y: Array, weights: Array | None) -> dict[str, Any]:
    """Keep what prediction sets of fitted heads need: arrays, which files may hold.

    It is the samples (n,) of positive weight where there are closed forms, and out-of-fold probabilities otherwise, as
    where samples without a label, None, are part of what features are scaled by.
    """
    known = np.array([label is not None for label in y.tolist()])
    used = np.flatnonzero(known if weights is None else known & (weights > 0))
    codes = np.searchsorted(head.classes_, y[used])
    state: dict[str, Any] = {"codes": codes, "left_out_proba": head.out_of_fold_proba_[used]}
    closed = closed_form_of(head)
    if closed is None or len(used) > MOST_KEPT or not known.all():
        return state
    rows = X if len(used) == len(y) else _safe_indexing(X, used)
    return {**state, "support": kept_of(closed, rows, codes, None if weights is None else weights[used])}


def with_sets(head: FewShotClassifier, state: Mapping[str, Any]) -> ConformalClassifier:
    """Make a fitted classifier of sets around fitted heads."""
    model = ConformalClassifier(head)
    model.head_, model.classes_, model.seed_ = head, head.classes_, 0
    model.codes_, model.left_out_proba_ = state["codes"], state["left_out_proba"]
    if "support" in state:
        model.support_ = state["support"]
    return model
