"""Linear probes over a grid of penalties and preparations, for all support samples at once.

Which of them is best is for the report to say: by validation accuracy, as one would choose, or by test accuracy, which
nobody can and which is the bar.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from frofa.estimators.solvers.logistic import Chain, solve_chains
from frofa.estimators.solvers.ridge import decompose
from frofa.estimators.solvers.stages import Stage
from frofa.study.heads.inputs import Inputs
from frofa.study.results import Candidate

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
STANDARDISED = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""C of the logistic probe on standardised channels."""
UNIT = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""C of the logistic probe on blocks of length one."""
ALPHAS = (10.0, 100.0, 300.0, 1e3, 3e3, 1e4)
"""Penalties of the ridge probe, which standardises channels itself."""
TOLERANCE, MAX_ITER = 1e-4, 1000


class Linear(NamedTuple):
    """Weights (S, n_scores, C) and intercepts (S, n_scores) of one setting, for features as they are or of unit length.

    There is a fit for each of S support samples. `probabilistic` says whether scores are log-odds.
    """

    setting: str
    head: str
    unit: bool
    probabilistic: bool
    coef: Array
    intercept: Array


def settings() -> list[tuple[str, str]]:
    """Heads and settings of the grid."""
    return [
        *(("logistic", f"standardised C={c:g}") for c in STANDARDISED),
        *(("logistic", f"unit C={c:g}") for c in UNIT),
        *(("ridge", f"alpha={alpha:g}") for alpha in ALPHAS),
    ]


def probe_candidates(inputs: Inputs) -> list[Candidate]:
    """The grid as candidates on some features."""
    return [
        Candidate(head, setting=setting, features=inputs.features, views=inputs.views) for head, setting in settings()
    ]


def fit_grid(
    features: Array, unit: Array, codes: Codes, samples: Sequence[Codes], device: torch.device
) -> Iterator[Linear]:
    """Fit the grid to each support sample, rows (n,) of features (N, C) as they are and of unit length."""
    n_classes = int(codes.max()) + 1
    supports = [(features[rows], unit[rows], codes[rows]) for rows in samples]
    scalers = [StandardScaler().fit(plain) for plain, _, _ in supports]
    standardised = [scaler.transform(plain) for scaler, (plain, _, _) in zip(scalers, supports, strict=True)]
    for c, coef, intercept in _logistic(standardised, supports, STANDARDISED, n_classes, device):
        # Weights for standardised channels become weights for channels as they are.
        scaled = np.stack([one / scaler.scale_ for one, scaler in zip(coef, scalers, strict=True)])
        moved = np.stack([one @ scaler.mean_ for one, scaler in zip(scaled, scalers, strict=True)])
        yield Linear(f"standardised C={c:g}", "logistic", False, True, scaled, intercept - moved)
    for c, coef, intercept in _logistic([s[1] for s in supports], supports, UNIT, n_classes, device):
        yield Linear(f"unit C={c:g}", "logistic", True, True, coef, intercept)
    paths = [
        decompose(plain, 2.0 * np.eye(n_classes)[labels] - 1, np.ones(len(plain))) for plain, _, labels in supports
    ]
    for alpha in ALPHAS:
        solved = [path.solve(alpha) for path in paths]
        coef, intercept = np.stack([one.T for one, _ in solved]), np.stack([one for _, one in solved])
        yield Linear(f"alpha={alpha:g}", "ridge", False, False, coef, intercept)


def predict_grid(fits: Linear, features: Tensor, unit: Tensor) -> Tensor:
    """Scores (S, n, n_classes) of features (n, C), given as they are and of unit length."""
    seen = unit if fits.unit else features
    coef = torch.as_tensor(fits.coef, device=seen.device)
    # All support samples in one product: (n, S * n_scores).
    products = seen @ coef.flatten(0, 1).T
    scores = products.unflatten(1, coef.shape[:2]).transpose(0, 1)
    scores = scores + torch.as_tensor(fits.intercept, device=seen.device)[:, None]
    # Two classes have one score, that of the second, against zero for the first.
    return torch.cat([torch.zeros_like(scores), scores], 2) if scores.shape[2] == 1 else scores


def _logistic(
    features: Sequence[Array],
    supports: Sequence[tuple[Array, Array, Codes]],
    path: Sequence[float],
    n_classes: int,
    device: torch.device,
) -> Iterator[tuple[float, Array, Array]]:
    stages = tuple(Stage(c, TOLERANCE, MAX_ITER) for c in path)
    chains = [
        Chain(np.ascontiguousarray(x), labels, np.ones(len(x)), n_classes, stages)
        for x, (_, _, labels) in zip(features, supports, strict=True)
    ]
    solved = solve_chains(chains, device)
    for i, c in enumerate(path):
        yield c, np.stack([fits[i].coef for fits in solved]), np.stack([fits[i].intercept for fits in solved])
