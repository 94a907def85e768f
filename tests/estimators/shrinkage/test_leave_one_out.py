"""Scores of left-out samples are those of models that were fitted without them, for every penalty."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import frofa.estimators.solvers.shrinkage.leave_one_out
from frofa.estimators.solvers.shrinkage.leave_one_out import combine_left_out, leave_one_out
from frofa.estimators.solvers.shrinkage.linalg import eigh_by_threads, gram_schmidt
from frofa.estimators.solvers.shrinkage.path import DECADES, Path, decompose, span
from frofa.estimators.solvers.shrinkage.statistics import Statistics

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
N_CLASSES = 4
SHAPES = {"few": (22, 40), "many": (60, 7), "square": (22, 22)}


def samples(n: int, width: int, weighted: bool) -> tuple[Array, Codes, Array]:
    """Features of many scales, classes of 2, 3, ... samples, and weights of which one is zero."""
    rng = np.random.default_rng(n)
    codes = np.sort(np.concatenate([np.repeat(np.arange(N_CLASSES), [2, 3, 5, 4]), rng.integers(0, N_CLASSES, n - 14)]))
    features = rng.normal(size=(n, width)) * np.geomspace(0.1, 3, width) + rng.normal(size=(N_CLASSES, width))[codes]
    weights = rng.uniform(0.3, 2, n) if weighted else np.ones(n)
    weights[-1] = 0.0 if weighted else 1.0
    return features, codes, weights


def refit(
    features: Array, codes: Codes, weights: Array, prior: Array, penalty: float, sample: Array
) -> tuple[Array, Array, Array]:
    """Products of a sample and the class means, squares of the means, and the metric, by their definition."""
    scatter, means = np.zeros((len(sample), len(sample))), []
    for c in range(N_CLASSES):
        own = (codes == c) & (weights > 0)
        means.append(np.average(features[own], axis=0, weights=weights[own]))
        residuals = features[own] - means[-1]
        scatter += (residuals.T * weights[own]) @ residuals
    metric = np.eye(len(sample))
    if np.isfinite(penalty):
        metric = np.asarray(penalty * np.linalg.inv(scatter + prior + penalty * metric), np.float64)
    return np.array([sample @ metric @ m for m in means]), np.array([m @ metric @ m for m in means]), metric


def as_batch(array: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(array)[None]


def path_of(features: Array, codes: Codes, weights: Array, rows: Array | None) -> Path:
    known = Statistics.of(as_batch(features), as_batch(codes), as_batch(weights), N_CLASSES)
    basis = span(known)
    if rows is None:
        return decompose(known, basis)
    projected = as_batch(rows) if basis is None else as_batch(rows) @ basis
    return decompose(known, basis, projected.mT @ projected)


def scatter_of(rows: Array | None, path: Path) -> Array:
    """Scatter of the rows of a prior, on the span of the samples."""
    width = path.basis.shape[1]
    if rows is None:
        return np.zeros((width, width))
    basis = path.basis[0].numpy()
    on_span = rows @ basis @ basis.T
    return np.asarray(on_span.T @ on_span, np.float64)


def penalties_of(path: Path) -> list[float]:
    return [1 / inverse if inverse else float("inf") for inverse in path.inverse[0].tolist()]


@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_penalty_equals_refitting(shape: str, weighted: bool, with_prior: bool) -> None:
    features, codes, weights = samples(*SHAPES[shape], weighted)
    rows = np.random.default_rng(1).normal(size=(9, features.shape[1])) if with_prior else None
    path = path_of(features, codes, weights, rows)
    inner, outer = (part[0].numpy() for part in leave_one_out(path))
    assert inner.shape == outer.shape == (len(DECADES), len(features), N_CLASSES)
    scatter = scatter_of(rows, path)
    for i in np.flatnonzero(weights):
        without = weights.copy()
        without[i] = 0
        for k, penalty in enumerate(penalties_of(path)):
            expected_inner, expected_outer, _ = refit(features, codes, without, scatter, penalty, features[i])
            np.testing.assert_allclose(inner[k, i], expected_inner, rtol=1e-8, atol=1e-8)
            np.testing.assert_allclose(outer[k, i], expected_outer, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sum_over_the_path_is_the_sum_of_its_penalties(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = path_of(*samples(*SHAPES[shape], weighted=True), None)
    factors = torch.from_numpy(np.random.default_rng(3).uniform(0, 1, (2, 1, len(DECADES))))
    factors[1, :, 3] = 0
    inner, outer = (
        torch.einsum("bl,blnk->bnk", factor, part) for factor, part in zip(factors, leave_one_out(path), strict=True)
    )
    expected = inner - 0.5 * outer
    monkeypatch.setattr(frofa.estimators.solvers.shrinkage.leave_one_out, "ELEMENTS", 20)
    torch.testing.assert_close(combine_left_out(path, *factors), expected, rtol=1e-10, atol=1e-10)
    monkeypatch.setattr(frofa.estimators.solvers.shrinkage.leave_one_out, "LARGE", 1)
    torch.testing.assert_close(combine_left_out(path, *factors), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_noise_is_the_distance_to_means_and_by_metrics_without_the_sample(shape: str, weighted: bool) -> None:
    features, codes, weights = samples(*SHAPES[shape], weighted)
    path = path_of(features, codes, weights, None)
    nothing = np.zeros((features.shape[1],) * 2)
    for k, penalty in enumerate(penalties_of(path)):
        total = 0.0
        for i in np.flatnonzero(weights):
            without = weights.copy()
            without[i] = 0
            own = without * (codes == codes[i])
            distance = features[i] - np.average(features, axis=0, weights=own)
            metric = refit(features, codes, without, nothing, penalty, features[i])[2]
            total += weights[i] * distance @ metric @ distance / (1 + (own**2).sum() / own.sum() ** 2)
        assert path.noise()[0, k].item() == pytest.approx(total / weights.sum(), rel=1e-8)


@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_path_is_what_its_definition_says(shape: str, with_prior: bool) -> None:
    features, codes, weights = samples(*SHAPES[shape], weighted=True)
    rows = np.random.default_rng(1).normal(size=(9, features.shape[1])) if with_prior else None
    path = path_of(features, codes, weights, rows)
    x = np.random.default_rng(2).normal(size=(1, features.shape[1]))[0]
    for k, penalty in enumerate(penalties_of(path)):
        chosen = torch.zeros_like(path.inverse)
        chosen[0, k] = 1
        coef, intercept = (part[0].numpy() for part in path.combine(2 * chosen, 3 * chosen, 5 * chosen))
        inner, outer, _ = refit(features, codes, weights, scatter_of(rows, path), penalty, x)
        excess = 3 * 5 * path.statistics.uncertainty[0].numpy()
        np.testing.assert_allclose(coef @ x, 2 * inner, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(intercept, (excess - 3 * outer) / 2, rtol=1e-8, atol=1e-8)


def test_samples_that_fill_up_a_shape_change_nothing() -> None:
    features, codes, weights = samples(22, 40, weighted=True)
    more, more_codes = np.vstack([features, np.zeros((5, 40))]), np.append(codes, [0, 1, 2, 3, 0])
    plain = leave_one_out(path_of(features, codes, weights, None))
    padded = leave_one_out(path_of(more, more_codes, np.append(weights, np.zeros(5)), None))
    known = torch.from_numpy(np.flatnonzero(weights))
    for one, other in zip(plain, padded, strict=True):
        torch.testing.assert_close(other[:, :, known], one[:, :, known], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("repeated", [[], [3], [0, 21], [1, 2, 3]])
def test_the_span_is_that_of_the_samples_whatever_their_order(repeated: list[int]) -> None:
    features, codes, weights = samples(22, 40, weighted=False)
    features[repeated] = features[5]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    basis = span(Statistics.of(as_batch(features), as_batch(codes), as_batch(weights), N_CLASSES))
    assert basis is not None
    for found in (basis, gram_schmidt(as_batch(features))):
        projection = (found @ found.mT)[0].numpy()
        np.testing.assert_allclose(projection, np.linalg.pinv(features) @ features, atol=1e-9)


def test_threads_find_the_eigenvalues_of_each_matrix() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 5, 5)))
    matrices = rows @ rows.mT
    values, vectors = eigh_by_threads(matrices)
    torch.testing.assert_close(vectors * values.unsqueeze(1) @ vectors.mT, matrices)
