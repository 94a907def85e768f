"""Ridge and prototype probes of a search, which share what fits on the same rows have in common."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from features import gaussian
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.validation import check_is_fitted

import frofa.estimators.ridge
from frofa.augmentations import GaussianNoise
from frofa.estimators import PrototypeClassifier, RidgeProbeClassifier
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.solvers.ridge import decompose

Array = npt.NDArray[Any]
NOISE = GaussianNoise(std=0.1)
RIDGES = [
    RidgeProbeClassifier(),
    RidgeProbeClassifier(0.1),
    RidgeProbeClassifier([1.0, 10.0]),
    RidgeProbeClassifier([1.0, 10.0], cv=3),
    RidgeProbeClassifier(10.0, cv=3),
    RidgeProbeClassifier([1.0, 10.0], cv=StratifiedKFold(3, shuffle=True, random_state=0)),
    RidgeProbeClassifier(10.0, class_weight="balanced"),
    RidgeProbeClassifier(10.0, class_weight={0: 5.0, 1: 1.0, 2: 1.0}),
    RidgeProbeClassifier(10.0, augment=NOISE, n_augmented=2, random_state=0),
    RidgeProbeClassifier(10.0, augment=NOISE, n_augmented=2, random_state=1),
]
PROTOTYPES = [
    PrototypeClassifier(center=center, normalize=normalize, temperature=temperature)
    for center in (True, False)
    for normalize in (True, False)
    for temperature in (0.1, 1.0)
]


def jobs_of(estimators: list[Any], y: Array) -> list[Job]:
    rows = [train for train, _ in StratifiedKFold(3).split(y[:, None], y)]
    return [Job(estimator, part) for estimator in estimators for part in rows]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("estimators", [RIDGES, PROTOTYPES], ids=["ridge", "prototype"])
@pytest.mark.parametrize("channels", [20, 80])
def test_each_job_is_what_it_is_alone(estimators: list[Any], channels: int, weighted: bool) -> None:
    X, y = gaussian(60, channels)
    weights = np.random.default_rng(0).uniform(0, 2, 60) * (np.arange(60) % 7 != 0) if weighted else None
    jobs, counts = jobs_of(estimators, y), list[int]()
    for head, job in zip(fit_many(X, y, jobs, sample_weight=weights, on_done=counts.append), jobs, strict=True):
        alone: Any = clone(job.estimator).fit(X[job.rows], y[job.rows], None if weights is None else weights[job.rows])
        assert not isinstance(head, Exception)
        # Known samples are kept by heads that are fitted by themselves.
        assert vars(head).keys() == vars(alone).keys() - {"novelty_"}
        for name in vars(head):
            value = getattr(alone, name)
            if name.endswith("_") and value is not None:
                np.testing.assert_allclose(getattr(head, name), value, rtol=1e-12, atol=1e-12)
    assert sum(counts) == len(jobs)


def test_one_eigendecomposition_serves_all_penalties(monkeypatch: pytest.MonkeyPatch) -> None:
    decomposed: list[int] = []

    def count(features: Array, targets: Array, weights: Array) -> Any:
        decomposed.append(len(features))
        return decompose(features, targets, weights)

    monkeypatch.setattr(frofa.estimators.ridge, "decompose", count)
    X, y = gaussian(60, 20)
    fit_many(X, y, jobs_of([RidgeProbeClassifier(alpha) for alpha in (0.1, 1.0, 10.0)], y))
    assert decomposed == [40] * 3
    decomposed.clear()
    fit_many(X, y, jobs_of([RidgeProbeClassifier([alpha, 1.0], cv=2) for alpha in (0.1, 10.0)], y))
    assert decomposed == [40, 20, 20] * 3


def test_what_one_job_raises_harms_no_other() -> None:
    X, y = gaussian(60, 20)
    rows = np.arange(60)
    bad = [
        Job(RidgeProbeClassifier(-1.0), rows),
        Job(RidgeProbeClassifier([1.0, 2.0], cv=50), rows),
        Job(RidgeProbeClassifier(), np.flatnonzero(y == 1)),
        Job(PrototypeClassifier(temperature=0.0), rows),
        Job(PrototypeClassifier(), rows[:1]),
    ]
    good = [Job(RidgeProbeClassifier(), rows), Job(PrototypeClassifier(), rows)]
    results = fit_many(X, y, [*bad, *good])
    for job, result in zip(bad, results, strict=False):
        with pytest.raises(Exception) as alone:  # noqa: PT011 (the very error is compared below)
            clone(job.estimator).fit(X[job.rows], y[job.rows])
        assert isinstance(result, type(alone.value))
        assert str(result) == str(alone.value)
    for head in results[len(bad) :]:
        check_is_fitted(head)


def test_rows_without_weight_are_errors_of_their_jobs_only() -> None:
    X, y = gaussian(60, 20)
    weights = np.where(np.arange(60) < 57, 0.0, 1.0)
    jobs = [Job(PrototypeClassifier(), np.arange(57)), Job(PrototypeClassifier(), np.arange(60))]
    poor, rich = fit_many(X, y, jobs, sample_weight=weights)
    assert isinstance(poor, ValueError)
    assert "at least one" in str(poor)
    check_is_fitted(rich)
