"""Averaged ridge regressions fitted anew without each sample, by NumPy: what closed forms are to equal."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from frofa import FeatureBlocks
from frofa.estimators.solvers.outputs.averaging import DEVIATION, USUAL
from frofa.estimators.solvers.outputs.fitting import VIEWS
from frofa.estimators.solvers.outputs.path import DECADES
from frofa.estimators.solvers.outputs.spaces import FLOOR
from frofa.estimators.solvers.shrinkage.spaces import FLOOR as UNIT_FLOOR

Array = npt.NDArray[np.float64]


def unit(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float64)


class Space(NamedTuple):
    """Features (n, D), residuals of views (n, V, D), and features of new samples (m, D)."""

    rows: Array
    views: Array
    new: Array


def spaces_of(blocks: FeatureBlocks, new: FeatureBlocks, w: Array) -> list[Space]:
    root = math.sqrt(len(blocks.names))
    parts = [(np.asarray(blocks.block(n), np.float64), np.asarray(new.block(n), np.float64)) for n in blocks.names]
    # Of length one, block by block.
    views, rows, others = [], [], []
    for block, other in parts:
        mean = unit(block).mean(1)
        length = np.linalg.norm(mean, axis=1)[:, None, None] * root
        views.append((unit(block) - mean[:, None]) / length)
        rows.append(unit(mean) / root)
        others.append(unit(unit(other).mean(1)) / root)
    x, around, z = np.hstack(rows), np.concatenate(views, 2), np.hstack(others)
    found = []
    for stage in range(2):
        centre = np.average(x, axis=0, weights=w)
        deviation = np.ones(x.shape[1])
        if stage:
            variance = np.average((x - centre) ** 2, axis=0, weights=w)
            deviation = np.sqrt(variance + UNIT_FLOOR * variance.mean())
        moved = (x - centre) / deviation
        around = around / deviation / np.linalg.norm(moved, axis=1)[:, None, None]
        x, z = unit(moved), unit((z - centre) / deviation)
        found.append(Space(x, around, z))
    # Of their own length.
    rows, views, others = [], [], []
    for block, other in parts:
        mean = block.mean(1)
        centre = np.average(mean, axis=0, weights=w)
        variance = np.average((mean - centre) ** 2, axis=0, weights=w)
        deviation = np.sqrt((variance + FLOOR * variance.mean()) * len(variance) * len(parts))
        rows.append((mean - centre) / deviation)
        views.append((block - mean[:, None]) / deviation)
        others.append((other.mean(1) - centre) / deviation)
    return [*found, Space(np.hstack(rows), np.concatenate(views, 2), np.hstack(others))]


def ridge(x: Array, y: Array, w: Array, prior: Array, penalty: float) -> tuple[Array, float]:
    """Weights and intercept, solved with an intercept that is not penalised."""
    centre, mean = np.average(x, axis=0, weights=w), float(np.average(y, weights=w))
    if math.isinf(penalty):
        return np.zeros(x.shape[1]), mean
    scatter = (x - centre).T @ ((x - centre) * w[:, None]) + prior
    coef = np.linalg.solve(scatter + penalty * np.eye(len(scatter)), (x - centre).T @ ((y - mean) * w))
    return np.asarray(coef, np.float64), mean - float(centre @ coef)


class Refitted(NamedTuple):
    """Left-out predictions (n,), and predictions (m, n) of new samples without each sample."""

    left_out: Array
    predicted: Array
    without_each: Array


def refit(blocks: FeatureBlocks, y: Array, new: FeatureBlocks, w: Array) -> Refitted:
    """Average all members, each fitted again without each sample, of one output."""
    w = w / w.mean()
    n, n_views = len(y), blocks.n_views
    left_out, predicted, without_each, squares, logs = [], [], [], [], []
    for space in spaces_of(blocks, new, w):
        x = space.rows
        prior = np.zeros((x.shape[1], x.shape[1]))
        if n_views > 1:
            prior = VIEWS / (n_views - 1) * np.einsum("n,nvd,nve->de", w, space.views, space.views)
            if len(x) < x.shape[1]:  # on the span of the samples
                left, sizes, _ = np.linalg.svd(x.T, full_matrices=False)
                basis = left[:, sizes > 1e-8]
                prior = basis @ basis.T @ prior @ basis @ basis.T
        kish = w.sum() ** 2 / (w**2).sum()
        distance = float((w[:, None] * (x - np.average(x, axis=0, weights=w)) ** 2).sum() / max(kish - 1, 1))
        for decade in DECADES:
            penalty = distance * 10.0**decade
            coef, intercept = ridge(x, y, w, prior, penalty)
            predicted.append(space.new @ coef + intercept)
            fits = [ridge(np.delete(x, i, 0), np.delete(y, i), np.delete(w, i), prior, penalty) for i in range(n)]
            left_out.append([x[i] @ coef + intercept for i, (coef, intercept) in enumerate(fits)])
            without_each.append([space.new @ coef + intercept for coef, intercept in fits])
            step = 2.5 if math.isinf(decade) else decade
            squares.append((y - np.array(left_out[-1])) ** 2)
            logs.append(-0.5 * ((step - USUAL) / DEVIATION) ** 2)

    def weigh(share: Array, n_samples: float) -> Array:
        found = np.array(logs) - 0.5 * n_samples * np.log([np.average(each, weights=share) for each in squares])
        weights = np.exp(found - found.max())
        weights /= weights.sum()
        weights[weights < 1e-5] = 0
        return np.asarray(weights / weights.sum(), np.float64)

    # Each sample is left to members that count by the others.
    weights = weigh(w, kish)
    others = np.array([weigh(np.where(np.arange(n) == i, 0, w), max(kish - 1, 0)) for i in range(n)])
    return Refitted(
        np.einsum("nk,kn->n", others, left_out),
        weights @ np.array(predicted),
        np.einsum("nk,knm->mn", others, without_each),
    )
