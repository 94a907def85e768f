"""Logistic regressions of a search, several at once, against fits one by one."""

import warnings
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from features import gaussian
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from test_logistic import objective

from frofa.augmentations import GaussianNoise
from frofa.estimators import LogisticProbeClassifier
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.solvers.logistic import Chain, solve_chains
from frofa.estimators.solvers.stages import Stage

Array = npt.NDArray[Any]
CS = (1e-3, 0.1, 10.0)
CASES = {
    "n < d": (60, 90, 4),
    "n > d": (90, 20, 4),
    "two classes": (60, 30, 2),
    "many classes, few samples": (60, 40, 20),
}


def folds(y: Array, n: int = 3) -> list[Array]:
    return [train for train, _ in StratifiedKFold(n).split(y[:, None], y)]


def grid(y: Array, Cs: Any = CS, **params: Any) -> list[Job]:
    return [Job(LogisticProbeClassifier(C, device="cpu", **params), rows) for C in Cs for rows in folds(y)]


def fitted(X: Any, y: Any, jobs: list[Job], **params: Any) -> list[Any]:
    heads = fit_many(X, y, jobs, **params)
    for head in heads:
        if isinstance(head, Exception):
            raise head
    return heads


def assert_same(head: Any, job: Job, X: Array, y: Array, weights: Array | None = None) -> None:
    """A head is what its estimator becomes alone."""
    part = None if weights is None else weights[job.rows]
    alone: Any = clone(job.estimator).fit(X[job.rows], y[job.rows], part)
    assert head.get_params() == alone.get_params()
    # What tells novelty is kept by heads that are fitted alone, or that reject.
    assert vars(head).keys() == vars(alone).keys() - {"novelty_"}
    np.testing.assert_array_equal(head.classes_, alone.classes_)
    assert head.n_features_in_ == alone.n_features_in_
    assert head.coef_.shape == alone.coef_.shape
    assert head.coef_.dtype == np.float64
    np.testing.assert_allclose(head.predict_proba(X), alone.predict_proba(X), rtol=0, atol=1e-6)
    ours, theirs = (objective(one, X[job.rows], y[job.rows], 1.0 if part is None else part) for one in (head, alone))
    assert ours == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_each_job_is_what_it_is_alone(name: str) -> None:
    X, y = gaussian(*CASES[name])
    jobs = grid(y, tol=1e-10)
    for head, job in zip(fitted(X, y, jobs), jobs, strict=True):
        assert_same(head, job, X, y)


def test_weights_and_labels_are_those_of_the_rows() -> None:
    X, numbers = gaussian(60, 30)
    y = np.array(["ash", "beech", "cedar"])[numbers]
    weights = np.random.default_rng(0).uniform(0, 2, len(y)) * (np.arange(len(y)) % 7 != 0)
    jobs = grid(y, tol=1e-10) + grid(y, (0.1,), tol=1e-10, class_weight={"ash": 3.0, "beech": 1.0, "cedar": 1.0})
    heads = fitted(X, y, jobs, sample_weight=weights)
    for head, job in zip(heads, jobs, strict=True):
        assert_same(head, job, X, y, weights)
    assert np.abs(heads[3].coef_ - heads[-3].coef_).max() > 1e-3


def test_fold_without_a_class_and_folds_of_unequal_size() -> None:
    X, y = gaussian(60, 20)
    rows = [np.flatnonzero(y != 2), np.arange(45), np.arange(60)]
    jobs = [Job(LogisticProbeClassifier(C, tol=1e-10, device="cpu"), part) for C in CS for part in rows]
    heads = fitted(X, y, jobs)
    assert heads[0].classes_.tolist() == [0, 1]
    for head, job in zip(heads, jobs, strict=True):
        assert_same(head, job, X, y)


def test_constant_channels_have_no_weight() -> None:
    X, y = gaussian(60, 20)
    X = X.copy()
    X[:, [3, 7]] = 5.0, 0.0
    for head, job in zip(fitted(X, y, jobs := grid(y, tol=1e-10)), jobs, strict=True):
        assert_same(head, job, X, y)
        np.testing.assert_allclose(head.coef_[:, [3, 7]], 0, atol=1e-12)


def test_hardly_penalised_and_separable() -> None:
    X, y = gaussian(60, 80)
    jobs = grid(y, (1.0, 1e6))
    for head, job in zip(fitted(X, y, jobs), jobs, strict=True):
        exact = LogisticProbeClassifier(head.C, tol=1e-13, max_iter=20000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            exact.fit(X[job.rows], y[job.rows])
        least = objective(exact, X[job.rows], y[job.rows])
        assert objective(head, X[job.rows], y[job.rows]) <= least * (1 + 1e-8)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_features_of_any_scale(scale: float) -> None:
    X, y = gaussian(60, 20)
    for head, job in zip(fitted(X * scale, y, jobs := grid(y, np.array(CS) / scale**2, tol=1e-10)), jobs, strict=True):
        unscaled = LogisticProbeClassifier(head.C * scale**2, tol=1e-10).fit(X[job.rows], y[job.rows])
        np.testing.assert_allclose(head.predict_proba(X * scale), unscaled.predict_proba(X), rtol=0, atol=1e-5)


def test_what_one_job_raises_harms_no_other() -> None:
    X, y = gaussian(60, 20)
    good = Job(LogisticProbeClassifier(0.1, tol=1e-10), np.arange(60))
    bad = [
        Job(LogisticProbeClassifier(-1.0), good.rows),
        Job(LogisticProbeClassifier(np.nan), good.rows),
        Job(LogisticProbeClassifier(device="no such device"), good.rows),
        Job(LogisticProbeClassifier(), np.flatnonzero(y == 0)),
        Job(LogisticProbeClassifier(), np.array([], dtype=np.intp)),
    ]
    results = fit_many(X, y, [bad[0], good, *bad[1:]])
    assert_same(results[1], good, X, y)
    for job, result in zip(bad, [results[0], *results[2:]], strict=True):
        with pytest.raises(Exception) as alone:  # noqa: PT011 (the very error is compared below)
            clone(job.estimator).fit(X[job.rows], y[job.rows])
        assert isinstance(result, type(alone.value))
        assert str(result) == str(alone.value)


def test_values_that_are_missing_are_errors_of_their_folds_only() -> None:
    X, y = gaussian(60, 20)
    X = X.copy()
    X[0, 3] = np.nan
    results = fit_many(X, y, [Job(LogisticProbeClassifier(), np.arange(start, 60)) for start in (0, 1)])
    assert isinstance(results[0], ValueError)
    assert "NaN" in str(results[0])
    assert isinstance(results[1], LogisticProbeClassifier)


def test_results_do_not_depend_on_the_company() -> None:
    X, y = gaussian(90, 30, 4)
    jobs = grid(y, tol=1e-10)
    together = fitted(X, y, jobs)
    apart = fitted(X, y, jobs[::-2]) + fitted(X, y, jobs[-2::-2])
    for job, head in zip(jobs[::-2] + jobs[-2::-2], apart, strict=True):
        other = together[jobs.index(job)]
        np.testing.assert_allclose(head.predict_proba(X), other.predict_proba(X), rtol=0, atol=1e-6)


def test_batches_and_threads_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = gaussian(90, 30, 4)
    stages = tuple(Stage(C, 1e-10, 1000) for C in CS)
    chains = [Chain(X[rows], y[rows], np.ones(len(rows)), 4, stages) for rows in [*folds(y), np.arange(70)]]
    side_by_side = solve_chains(chains, torch.device("cpu"))
    monkeypatch.setattr("frofa.estimators.solvers.logistic.SMALL", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        threaded = solve_chains(chains, torch.device("cpu"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for one, other in zip(chain(*side_by_side), chain(*threaded), strict=True):
        assert one.converged
        np.testing.assert_allclose(one.coef, other.coef, rtol=0, atol=1e-6)


def test_jobs_that_do_not_converge_warn() -> None:
    X, y = gaussian(60, 20)
    jobs = [Job(LogisticProbeClassifier(C, max_iter=n), np.arange(60)) for C, n in [(0.1, 1000), (10.0, 1)]]
    with pytest.warns(ConvergenceWarning, match="did not reach tol=1e-06 in 1 steps"):
        heads = fitted(X, y, jobs)
    assert heads[1].n_iter_ == 1
    assert heads[0].n_iter_ > 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(fit_many(X, y, jobs)[1], ConvergenceWarning)


def test_augmented_jobs_draw_their_own_copies() -> None:
    X, y = gaussian(30, 20)
    jobs = [
        Job(LogisticProbeClassifier(C, augment=GaussianNoise(std=0.1), random_state=seed), np.arange(30))
        for C in (0.1, 1.0)
        for seed in (0, 1)
    ]
    heads = fitted(X, y, jobs)
    for head, job in zip(heads, jobs, strict=True):
        alone = clone(job.estimator).fit(X, y)
        np.testing.assert_array_equal(head.coef_, alone.coef_)
        assert head.augment_seed_ == alone.augment_seed_
    assert np.abs(heads[0].coef_ - heads[1].coef_).max() > 1e-6


def test_tokens_are_averaged_and_names_kept() -> None:
    pandas = pytest.importorskip("pandas")
    X, y = gaussian(60, 20)
    tokens = np.stack([X - 1, X + 1], 1)
    jobs = grid(y, (0.1,), tol=1e-10)
    names = [f"channel {i}" for i in range(20)]
    for of_tokens, of_frame, job in zip(
        fitted(tokens, y, jobs), fitted(pandas.DataFrame(X, columns=names), y, jobs), jobs, strict=True
    ):
        assert_same(of_tokens, job, X, y)
        assert of_frame.feature_names_in_.tolist() == names


def test_progress_counts_fits() -> None:
    X, y = gaussian(60, 20)
    counts: list[int] = []
    jobs = grid(y)
    fitted(X, y, [*jobs, jobs[0]], on_done=counts.append)
    assert sum(counts) == len(jobs) + 1
    assert len(counts) > 2
