"""How each head is trained: the learning rate over the steps, and what else a step of SGD takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """How to train a head: SGD with momentum, linear warm-up, then cosine to zero or constant."""

    lr: float
    n_steps: int
    batch_size: int
    weight_decay: float
    momentum: float
    warmup_steps: int
    schedule: str
    clip_norm: float | None


@lru_cache(maxsize=64)
def _factors(n_steps: int, warmup_steps: int, schedule: str) -> npt.NDArray[np.float64]:
    """What the peak learning rate is multiplied with at each step."""
    step = np.arange(n_steps)
    factors = np.minimum(1.0, (step + 1) / (warmup_steps + 1))
    return factors if schedule == "constant" else factors * 0.5 * (1 + np.cos(math.pi * step / n_steps))


class Rule(NamedTuple):
    """What a step of SGD takes: one of each for every head, (n_heads,); a clip_norm of inf does not clip."""

    lr: Tensor
    weight_decay: Tensor
    momentum: Tensor
    clip_norm: Tensor


class Rules:
    """The rules of many heads, step by step."""

    def __init__(self, schedules: Sequence[Schedule], device: torch.device):
        lengths = [plan.n_steps for plan in schedules]
        rates = np.zeros((max(lengths), len(schedules)))
        for head, plan in enumerate(schedules):
            rates[: plan.n_steps, head] = plan.lr * _factors(plan.n_steps, plan.warmup_steps, plan.schedule)
        decays = [plan.weight_decay for plan in schedules]
        momenta = [plan.momentum for plan in schedules]
        clips = [math.inf if plan.clip_norm is None else plan.clip_norm for plan in schedules]
        self.rates = torch.tensor(rates, dtype=torch.float32, device=device)
        self.rest = [torch.tensor(values, dtype=torch.float32, device=device) for values in (decays, momenta, clips)]

    def at(self, step: int) -> Rule:
        """The rule of a step."""
        return Rule(self.rates[step], *self.rest)

    def keep(self, heads: list[int]) -> None:
        """Go on with some of the heads."""
        self.rates = self.rates[:, heads]
        self.rest = [values[heads] for values in self.rest]
