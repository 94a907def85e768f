"""Successive halving against scikit-learn's."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import loguniform
from search_helpers import FEATURES, LABELS, assert_same_results
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 (makes the next import possible)
from sklearn.model_selection import HalvingGridSearchCV, HalvingRandomSearchCV, ShuffleSplit

from frofa.estimators import BatchedSearchCV, LogisticProbeClassifier, MAPClassifier

MAP = MAPClassifier(None, batch_size=16, random_state=0, device="cpu")
ATTRIBUTES = (
    "n_resources_",
    "n_candidates_",
    "n_remaining_candidates_",
    "max_resources_",
    "min_resources_",
    "n_iterations_",
    "n_possible_iterations_",
    "n_required_iterations_",
)


def assert_same_halving(ours: Any, theirs: Any) -> None:
    ours.fit(FEATURES, LABELS)
    theirs.fit(FEATURES, LABELS)
    assert_same_results(ours, theirs, atol=1e-4)
    for name in ATTRIBUTES:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert len(ours.n_candidates_) > 1


@pytest.mark.parametrize("arguments", [{}, {"min_resources": "smallest"}, {"aggressive_elimination": True}], ids=str)
def test_halving_of_samples(arguments: dict[str, Any]) -> None:
    grid: Any = {"C": np.logspace(-3, 2, 9)}
    arguments = {"scoring": "neg_log_loss", "cv": 2, "random_state": 0, "factor": 2, **arguments}
    assert_same_halving(
        BatchedSearchCV(LogisticProbeClassifier(), grid, halving=True, **arguments),
        HalvingGridSearchCV(LogisticProbeClassifier(), grid, return_train_score=False, **arguments),
    )


def test_halving_of_steps() -> None:
    grid: Any = {"lr": [1e-3, 1e-2, 1e-1], "weight_decay": [0.0, 1e-2]}
    arguments: dict[str, Any] = {
        "resource": "n_steps",
        "max_resources": 12,
        "min_resources": 2,
        "factor": 2,
        "cv": 2,
        "scoring": "neg_log_loss",
    }
    ours = BatchedSearchCV(MAP, grid, halving=True, **arguments)
    assert_same_halving(ours, HalvingGridSearchCV(MAP, grid, return_train_score=False, **arguments))
    assert ours.n_resources_ == [2, 4, 8]
    assert ours.best_estimator_.n_steps == 8


def test_halving_of_drawn_candidates() -> None:
    distributions = {"C": loguniform(1e-3, 1e2)}
    arguments: dict[str, Any] = {
        "min_resources": 12,
        "factor": 2,
        "cv": 2,
        "random_state": 1,
        "scoring": "neg_log_loss",
    }
    assert_same_halving(
        BatchedSearchCV(LogisticProbeClassifier(), distributions, n_iter=5, halving=True, **arguments),
        HalvingRandomSearchCV(
            LogisticProbeClassifier(), distributions, n_candidates=5, return_train_score=False, **arguments
        ),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scoring": ["accuracy"]}, "halving needs a single metric"),
        ({"resource": "n_steps"}, "not supported by estimator LogisticProbeClassifier"),
        ({"resource": "max_iter"}, "resource can only be 'n_samples' when max_resources='auto'"),
        ({"resource": "C", "max_resources": 4}, "it is part of the searched parameters"),
        ({"cv": ShuffleSplit(2)}, "must yield consistent folds"),
        ({"min_resources": 100}, "is greater than max_resources_"),
        ({"factor": 0}, "'factor' parameter of BatchedSearchCV must be"),
    ],
    ids=str,
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    search = BatchedSearchCV(LogisticProbeClassifier(), {"C": [0.1, 1.0]}, halving=True, **arguments)
    with pytest.raises(ValueError, match=message):
        search.fit(FEATURES, LABELS)
