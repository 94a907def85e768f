"""Probes whose one setting is chosen on test images: no head may do that, so they are a bar, not a baseline.

Logistic regression over its penalty, least squares over its penalty, and linear discriminants over their shrinkage,
each on two kinds of features: normalised, centred and normalised again (CL2N), and standardised by the deviations of
the support samples.
"""

from collections.abc import Iterator

import numpy as np

from baselines.head import Array, Codes, class_means, normalised
from baselines.logistic_grid import path

LOGISTIC = tuple(np.linspace(-1.5, 2.5, 9))
RIDGE = tuple(np.linspace(-3, 2, 11))
SHRINKAGE = (*np.linspace(-2, 3, 11), 9.0)
SETTINGS = len(LOGISTIC) + len(RIDGE) + len(SHRINKAGE)


def oracle_accuracies(
    X: Array, y: Codes, queries: Array, labels: Codes, blocks: tuple[int, ...]
) -> dict[str, tuple[float, float]]:
    """Accuracies of every probe and setting, by name: in percent, on every second query from the first, and the others.

    Features are (n, C), blocks of these widths side by side; y and labels are numbers of classes from 0, all of which
    are in y. A setting that is chosen on one half of the queries can be judged on the other.
    """
    found = {}
    for space, rows, others in _spaces(X.astype(np.float64), y, queries.astype(np.float64), blocks):
        # Probes see inner products alone: coordinates in the span of the samples, of r <= n channels.
        span = np.linalg.svd(rows, full_matrices=False)
        basis = span[2][span[1] > span[1][0] * 1e-6].T
        for name, scores in _scores(rows @ basis, y, others @ basis, X.shape[1]):
            right = scores.argmax(1) == labels
            found[f"{space}, {name}"] = (100 * float(right[::2].mean()), 100 * float(right[1::2].mean()))
    return found


def _spaces(X: Array, y: Codes, queries: Array, blocks: tuple[int, ...]) -> Iterator[tuple[str, Array, Array]]:
    ends = np.cumsum(blocks)[:-1]
    pairs = list(zip(np.split(X, ends, axis=1), np.split(queries, ends, axis=1), strict=True))
    # CL2N: every block counts the same.
    support = np.concatenate([normalised(a) for a, _ in pairs], axis=1)
    centre = class_means(support, y).mean(0)
    others = np.concatenate([normalised(b) for _, b in pairs], axis=1)
    yield "CL2N", normalised(support - centre), normalised(others - centre)
    mean, deviation = X.mean(0), X.std(0)
    deviation = np.maximum(deviation, 1e-6 * deviation.max())
    # Rows of mean square 1, so that one grid of penalties fits both kinds of features.
    scale = np.sqrt(X.shape[1])
    yield "standardised", (X - mean) / deviation / scale, (queries - mean) / deviation / scale


def _scores(X: Array, y: Codes, queries: Array, channels: int) -> Iterator[tuple[str, Array]]:
    n, width = X.shape
    targets, centre = np.eye(y.max() + 1)[y], X.mean(0)
    for power, model in zip(LOGISTIC, path(X, y, LOGISTIC), strict=True):
        scores = model.decision_function(queries)
        yield f"logistic {power:.1f}", np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
    rows = X - centre
    scatter = rows.T @ rows
    for power in RIDGE:
        penalty = 10**power * np.trace(scatter) / n
        coef = np.linalg.solve(scatter + penalty * np.eye(width), rows.T @ (targets - targets.mean(0)))
        yield f"ridge {power:.1f}", (queries - centre) @ coef + targets.mean(0)
    means = class_means(X, y)
    residuals = X - means[y]
    within = residuals.T @ residuals
    trace = np.trace(within) or 1.0
    for power in SHRINKAGE:
        coef = np.linalg.solve(within + 10**power * trace / channels * np.eye(width), means.T)
        yield f"discriminant {power:.1f}", queries @ coef - 0.5 * (means.T * coef).sum(0)
