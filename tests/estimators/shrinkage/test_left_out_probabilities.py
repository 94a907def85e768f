"""Left-out probabilities of the whole probe are those of an implementation that refits it for every sample."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax

from frofa import FeatureBlocks
from frofa.estimators import ShrinkageProbeClassifier
from frofa.estimators.solvers.shrinkage.averaging import BIASES
from frofa.estimators.solvers.shrinkage.fitting import PRIOR_SAMPLES
from frofa.estimators.solvers.shrinkage.path import DECADES, USUAL
from frofa.estimators.solvers.shrinkage.spaces import FLOOR

Array = npt.NDArray[np.float64]
COUNTS = (2, 5, 3, 7)


def support(width: int, n_views: int) -> tuple[FeatureBlocks, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(width)
    y = np.repeat(np.arange(len(COUNTS)), COUNTS)
    plain = rng.normal(size=(len(COUNTS), width))[y] + rng.normal(size=(len(y), width)) + 0.5
    views = [plain + 0.5 * rng.normal(size=plain.shape) for _ in range(n_views)]
    return FeatureBlocks({"a": [v[:, : width // 3] for v in views], "b": [9 * v[:, width // 3 :] for v in views]}), y


def unit(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float64)


def spaces_of(blocks: FeatureBlocks, y: npt.NDArray[np.int64], weights: Array) -> list[tuple[Array, Array]]:
    """Features and residuals of views, (n, D) and (n, V, D), in both spaces."""
    views = [unit(np.asarray(blocks.block(name), np.float64)) for name in blocks.names]
    means = [each.mean(1) for each in views]
    root = math.sqrt(len(views))
    rows = np.hstack([unit(mean) for mean in means]) / root
    lengths = [np.linalg.norm(mean, axis=1)[:, None, None] * root for mean in means]
    residuals = np.concatenate(
        [(each - mean[:, None]) / length for each, mean, length in zip(views, means, lengths, strict=True)], 2
    )
    centre = np.mean([np.average(rows[y == c], axis=0, weights=weights[y == c]) for c in np.unique(y)], axis=0)
    moved = rows - centre
    centred, around = unit(moved), residuals / np.linalg.norm(moved, axis=1)[:, None, None]
    mean = np.average(centred, axis=0, weights=weights)
    variance = np.average((centred - mean) ** 2, axis=0, weights=weights)
    deviation = np.sqrt(variance + FLOOR * variance.mean())
    moved = (centred - mean) / deviation
    return [(centred, around), (unit(moved), around / deviation / np.linalg.norm(moved, axis=1)[:, None, None])]


def discriminant(x: Array, y: npt.NDArray[np.int64], w: Array, prior: Array, penalty: float) -> tuple[Array, ...]:
    """Class means, their uncertainty, and the metric of weighted samples."""
    classes = range(len(COUNTS))
    means = np.array([np.average(x[y == c], axis=0, weights=w[y == c]) for c in classes])
    uncertain = np.array([(w[y == c] ** 2).sum() / w[y == c].sum() ** 2 for c in classes])
    d = (x - means[y]) * np.sqrt(w)[:, None]
    metric = np.eye(x.shape[1])
    if np.isfinite(penalty):
        metric = np.asarray(penalty * np.linalg.inv(d.T @ d + prior + penalty * metric), np.float64)
    return means, uncertain, metric


@pytest.mark.parametrize("prior", ["uniform", "empirical"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_views", [1, 3])
@pytest.mark.parametrize("width", [9, 30])
def test_they_are_those_of_refitting(width: int, n_views: int, weighted: bool, prior: Any) -> None:
    blocks, y = support(width, n_views)
    n = len(y)
    weights = np.random.default_rng(1).uniform(0.5, 2, n) if weighted else np.ones(n)
    head = ShrinkageProbeClassifier(class_prior=prior).fit(blocks, y, weights)
    w = weights / weights.mean()
    shape = 2, len(DECADES), len(BIASES)
    factors = (head.weights_ / head.temperatures_).reshape(shape)
    logits = np.zeros((n, len(COUNTS)))
    for (x, residuals), of_space in zip(spaces_of(blocks, y, w), factors, strict=True):
        scatter = np.zeros((width, width))
        if n_views > 1:
            on_span = residuals @ np.linalg.pinv(x) @ x if n < width else residuals
            scatter = np.einsum("i,ivc,ivd->cd", w, on_span, on_span) * PRIOR_SAMPLES / ((n_views - 1) * w.sum())
        means, _, _ = discriminant(x, y, w, scatter, np.inf)
        total = np.trace(scatter) + (w[:, None] * (x - means[y]) ** 2).sum()
        usual = USUAL * total / (w.sum() ** 2 / (w**2).sum() - 1)
        for decade, of_penalty in zip(DECADES, of_space, strict=True):
            fits = []
            for i in range(n):
                rest = np.arange(n) != i
                fits.append(discriminant(x[rest], y[rest], w[rest], scatter, usual * 10**decade))
            # The mean square distance of samples to the true mean of their class, by metrics without them.
            own = np.array([m[y[i]] for i, (m, _, _) in enumerate(fits)])
            squares = [(x[i] - own[i]) @ metric @ (x[i] - own[i]) for i, (_, _, metric) in enumerate(fits)]
            noise = np.average(np.array(squares) / [1 + u[y[i]] for i, (_, u, _) in enumerate(fits)], weights=w)
            for bias, factor in zip(BIASES, of_penalty, strict=True):
                for i, (m, u, metric) in enumerate(fits):
                    square = np.einsum("kc,cd,kd->k", m, metric, m) - noise * u
                    logits[i] += factor * (x[i] @ metric @ m.T - bias / 2 * square)
    for i in range(n):
        rest = np.arange(n) != i
        if prior == "empirical":
            logits[i] += np.log(np.bincount(y[rest], w[rest]))
    np.testing.assert_allclose(head.loo_proba_, softmax(logits, axis=1), rtol=1e-8, atol=1e-8)
