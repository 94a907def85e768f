"""Training of a head by SGD on features that fit on one device: pure functions over parameter dictionaries."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]
EVALUATIONS = 50  # of the validation part, spread over the steps


@dataclass(frozen=True)
class Schedule:
    """How to train: SGD with momentum, linear warm-up, then cosine to zero or constant."""

    lr: float
    n_steps: int
    batch_size: int
    weight_decay: float
    momentum: float
    warmup_steps: int
    schedule: str
    clip_norm: float | None

    def lr_at(self, step: int) -> float:
        """Learning rate of a step in 0..n_steps-1."""
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "constant":
            return self.lr * warmup
        return self.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / self.n_steps))


def batches(n: int, batch_size: int, generator: Generator) -> Iterator[Tensor | slice]:
    """Indices of batches without end: a new permutation each epoch, its ragged end dropped; all rows if they fit."""
    while n <= batch_size:
        yield slice(None)
    while True:
        order = torch.randperm(n, generator=generator, device=generator.device)
        yield from torch.split(order[: n - n % batch_size], batch_size)


@dataclass(frozen=True)
class Labelled:
    """Features (n, ...), class indices (n,) and sample weights (n,) of mean one, on one device."""

    features: Tensor
    classes: Tensor
    weights: Tensor


def train(
    params: dict[str, Tensor],
    forward: Forward,
    data: Labelled,
    schedule: Schedule,
    *,
    augment: Callable[[Tensor, Generator], Tensor] | None,
    batch_generator: Generator,
    augment_generator: Generator,
    validation: Labelled | None = None,
    patience: int = EVALUATIONS,
    on_step: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Tensor], int]:
    """Minimise the weighted cross-entropy; return trained parameters and the number of steps that led to them.

    Only training batches are augmented, from a generator of its own: with and without augmentation, the same seed gives
    the same batches. With `validation`, the parameters of the best of about 50 evaluations are
    returned (accuracy, then cross-entropy), and training stops after `patience` of them without improvement.
    """
    params = {name: value.clone().requires_grad_() for name, value in params.items()}
    kernels = {name for name, value in params.items() if name.endswith(".weight") and value.ndim > 1}
    groups: list[dict[str, Any]] = [
        {"params": [params[name] for name in kernels], "weight_decay": schedule.weight_decay},
        {"params": [value for name, value in params.items() if name not in kernels]},
    ]
    optimizer = torch.optim.SGD(groups, lr=schedule.lr, momentum=schedule.momentum, fused=True)
    best, best_score, best_step, waited = params, (-math.inf, -math.inf), schedule.n_steps, 0
    every = max(1, schedule.n_steps // EVALUATIONS)
    for step, rows in zip(
        range(schedule.n_steps), batches(len(data.classes), schedule.batch_size, batch_generator), strict=False
    ):
        x = data.features[rows]
        if augment is not None:
            x = augment(x, augment_generator)
        losses = F.cross_entropy(forward(params, x), data.classes[rows], reduction="none")
        optimizer.zero_grad()
        (losses * data.weights[rows]).mean().backward()
        if schedule.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(params.values(), schedule.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr_at(step)
        optimizer.step()
        on_step()
        if validation is not None and ((step + 1) % every == 0 or step + 1 == schedule.n_steps):
            score = evaluate(params, forward, validation)
            waited += 1
            if score > best_score:
                best, best_score, best_step, waited = detached(params), score, step + 1, 0
            elif waited >= patience:
                break
    return detached(best), best_step


@torch.no_grad()
def evaluate(params: Mapping[str, Tensor], forward: Forward, data: Labelled) -> tuple[float, float]:
    """Weighted accuracy and negative cross-entropy."""
    logits = forward(params, data.features)
    correct = (logits.argmax(1) == data.classes).float()
    losses = F.cross_entropy(logits, data.classes, reduction="none")
    total = data.weights.sum()
    return float((correct * data.weights).sum() / total), -float((losses * data.weights).sum() / total)


def detached(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies without gradients."""
    return {name: value.detach().clone() for name, value in params.items()}
