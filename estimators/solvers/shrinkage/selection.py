"""Shares of blocks by the likelihood of left-out samples: so that layers can be offered without harm."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.estimators.solvers.shrinkage.fitting import Problems, rate_members


def choose_shares(problems: Problems) -> Tensor:
    """Choose the shares (B, n_blocks) of blocks, of sum 1; they stay as they are where no sample can be left out.

    Blocks are ordered by the evidence of the members of each alone, in the first space. Sets of the best, of the two
    best, and so on, in equal shares, are averaged by their evidence.
    """
    shares = problems.shares
    if shares.shape[1] == 1:
        return shares
    alone = torch.eye(shares.shape[1], dtype=shares.dtype, device=shares.device)
    evidence, n_rated = _evidence(problems, [row.expand_as(shares) for row in alone])
    ranks = evidence.argsort(1, descending=True).argsort(1)
    nested = [(ranks < size).to(shares.dtype) / size for size in range(1, shares.shape[1] + 1)]
    weights = _evidence(problems, nested)[0].softmax(1)
    chosen = (torch.stack(nested, 2) * weights.unsqueeze(1)).sum(2)
    return torch.where(n_rated.unsqueeze(1) > 0, chosen, shares)


def _evidence(problems: Problems, candidates: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rate shares (B, n_blocks) of blocks: (B, n_candidates), by so many samples (B,)."""
    rated = [rate_members(problems._replace(shares=each), 1) for each in candidates]
    return torch.stack([each.evidence for each in rated], 1), rated[0].n_rated


def shares_of(given: Any, names: tuple[str, ...]) -> npt.NDArray[np.float64] | None:
    """Return shares (n_blocks,) of sum 1 of weights as users give them; None where they are to be chosen."""
    if isinstance(given, str):
        if given not in ("equal", "auto"):
            raise ValueError(_expected(given, names))
        return None if given == "auto" else np.full(len(names), 1 / len(names))
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise ValueError(_expected(given, names))
        given = [given[name] for name in names]
    try:
        weights = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(_expected(given, names)) from error
    if weights.shape != (len(names),) or not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise ValueError(_expected(given, names))
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


def _expected(given: Any, names: tuple[str, ...]) -> str:
    return (
        f"block_weights must be 'equal', 'auto' or a weight, not negative and not all zero, of each block, "
        f"{', '.join(names)}, in an array or by name. Got {given!r}."
    )
