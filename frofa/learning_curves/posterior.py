"""The parameters of a law given what was measured: weighted samples by adaptive importance sampling."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from scipy.stats import multivariate_t

Array = npt.NDArray[Any]
ROUNDS, DRAWS, FREEDOM = 5, 800, 5
"""Rounds of sampling, draws in each, and degrees of freedom of the proposals, whose tails are to be heavier than those
of what they are to find."""


class Posterior(NamedTuple):
    """Standardised parameters (m, d) with log-weights (m,) of sum 1, and the logarithm of the evidence."""

    z: Array
    log_weights: Array
    log_evidence: float


def sample_posterior(
    log_likelihood: Callable[[Array], Array], n_parameters: int, rng: np.random.Generator
) -> Posterior:
    """Sample parameters (m, d) that are standard normal a priori; `log_likelihood` is of shape (m,).

    Each round draws from a Student distribution about what the rounds before have found, the first from one about the
    prior. All draws count, against the mixture of all proposals (adaptive multiple importance sampling, Cornuet et
    al., 2012), so that the mean weight is the evidence.
    """
    mean, spread = np.zeros(n_parameters), np.eye(n_parameters)
    draws: list[Array] = []
    heights: list[Array] = []
    proposals: list[Any] = []
    for _ in range(ROUNDS):
        proposals.append(multivariate_t(mean, spread, FREEDOM))
        draws.append(proposals[-1].rvs(DRAWS, random_state=rng).reshape(DRAWS, n_parameters))
        prior = -0.5 * (draws[-1] ** 2).sum(1) - 0.5 * n_parameters * np.log(2 * np.pi)
        heights.append(prior + log_likelihood(draws[-1]))
        z, height = np.concatenate(draws), np.concatenate(heights)
        # Every draw is weighed against the mixture that it might have come from, (m,).
        mixture = logsumexp([one.logpdf(z).reshape(-1) for one in proposals], axis=0) - np.log(len(proposals))
        log_weights = height - mixture
        mean, spread = _moments(z, log_weights)
    total = float(logsumexp(log_weights))
    return Posterior(z, log_weights - total, total - np.log(len(z)))


def _moments(z: Array, log_weights: Array) -> tuple[Array, Array]:
    """Mean (d,) and spread (d, d) of weighted draws, made wider while few of them count."""
    # Weights of a power below 1 let more draws count: without it, one draw alone would have no spread.
    power = 1.0
    weights = np.exp(log_weights - logsumexp(log_weights))
    while 1 / (weights**2).sum() < 10 * z.shape[1] and power > 1e-3:
        power /= 1.5
        weights = np.exp(power * log_weights - logsumexp(power * log_weights))
    mean = weights @ z
    centred = z - mean
    return mean, (weights[:, None] * centred).T @ centred + 1e-6 * np.eye(z.shape[1])
