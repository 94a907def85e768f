"""Training of many heads at once by SGD, on features that fit on one device: pure functions of parameter dictionaries.

Every parameter has a leading dimension, that of the heads; a single head is the case of one. Heads never meet: the loss
is the sum of theirs, and gradients are clipped for each.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from frofa.augmentations import TokenBatch
from frofa.augmentations._pointwise import fusible
from frofa.estimators._record import Recorded

Params = dict[str, Tensor]
Forward = Callable[[Mapping[str, Tensor], Tensor, Tensor | None], Tensor]
"""Logits (n_heads, n, n_classes) of parameters, tokens and mask; tokens without a leading dimension are shared."""
EVALUATIONS = 50  # of the validation part, spread over the steps


@dataclass(frozen=True)
class Schedule:
    """How to train: SGD with momentum, linear warm-up, then cosine to zero or constant.

    ``lr`` and ``weight_decay`` are numbers, or tensors with one for each head.
    """

    lr: float | Tensor
    n_steps: int
    batch_size: int
    weight_decay: float | Tensor
    momentum: float
    warmup_steps: int
    schedule: str
    clip_norm: float | None

    def lr_at(self, step: int) -> float | Tensor:
        """Learning rate of a step in 0..n_steps-1."""
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "constant":
            return self.lr * warmup
        return self.lr * (warmup * 0.5 * (1 + math.cos(math.pi * step / self.n_steps)))


class Step(NamedTuple):
    """What H heads see in a step: tokens (H, n, N, C), mask (H, n, N) or None, targets (H, n, n_classes)."""

    tokens: Tensor
    mask: Tensor | None
    targets: Tensor


@dataclass(frozen=True)
class Labelled:
    """Features (n, ...), class indices (n,) and sample weights (n,) of mean one, on one device."""

    features: Tensor
    classes: Tensor
    weights: Tensor

    def targets(self, n_classes: int) -> Tensor:
        """One-hot labels times sample weights, (n, n_classes)."""
        return F.one_hot(self.classes, n_classes) * self.weights[:, None]


def batches(n: int, batch_size: int, generator: Generator) -> Iterator[Tensor | slice]:
    """Indices of batches without end: a new permutation each epoch, its ragged end dropped; all rows if they fit."""
    while n <= batch_size:
        yield slice(None)
    while True:
        order = torch.randperm(n, generator=generator, device=generator.device)
        yield from torch.split(order[: n - n % batch_size], batch_size)


def batches_of(data: TokenBatch, batch_size: int, generator: Generator) -> Iterator[TokenBatch]:
    """Batches without end."""
    return map(data.select, batches(len(data.patches), batch_size, generator))


def as_step(batch: TokenBatch, n_heads: int = 1) -> Step:
    """What n_heads heads see of a batch that holds the images of one after another."""
    mask, targets = batch.token_mask, batch.targets
    if targets is None:
        raise ValueError("training takes a batch with targets.")
    size = (n_heads, len(targets) // n_heads)
    seen = None if mask is None else mask.unflatten(0, size)
    return Step(batch.tokens.unflatten(0, size), seen, targets.unflatten(0, size))


def train(
    params: Params,
    forward: Forward,
    data: Iterator[TokenBatch],
    schedule: Schedule,
    *,
    expand: Callable[[TokenBatch], Step] = as_step,
    capture: Sequence[Generator] | None = None,
    validation: Labelled | None = None,
    patience: int = EVALUATIONS,
    on_step: Callable[[], object] = lambda: None,
) -> tuple[Params, list[int]]:
    """Minimise each head's mean cross-entropy; return trained parameters and the number of steps that led to them.

    Parameters
    ----------
    params : dict of str to Tensor
        Initial ones, which are not modified.
    forward : callable
        Computes logits.
    data : iterator of TokenBatch
        Batches, all of one shape.
    schedule : Schedule
    expand : callable
        Turns a batch into what each head sees: augmentation is done here.
    capture : sequence of Generator, default=None
        If given, steps on a GPU are recorded once and replayed: the host launches one thing a step instead of hundreds.
        Takes an `expand` that can be recorded, which draws from these generators only.
    validation : Labelled, default=None
        Each head's parameters of the best of about 50 evaluations on it, which is never augmented, are returned
        (accuracy, then cross-entropy), and training stops when no head has become better in `patience` of them.
    patience : int
    on_step : callable
        Called after each step.
    """
    params = {name: value.clone().requires_grad_() for name, value in params.items()}
    momenta = {name: torch.zeros_like(value) for name, value in params.items()}
    first = next(iter(params.values()))
    n_heads, device = len(first), first.device

    def learn(batch: TokenBatch, lr: Tensor | float) -> None:
        tokens, mask, targets = expand(batch)
        logits = forward(params, tokens, mask)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1), reduction="none")
        loss = losses.sum() / logits.shape[1]  # the sum of each head's mean
        update(params, momenta, torch.autograd.grad(loss, list(params.values())), schedule, lr)

    take = Recorded(learn, capture) if capture is not None and device.type == "cuda" else learn
    best = None if validation is None else _Best(params, n_heads)
    every = max(1, schedule.n_steps // EVALUATIONS)
    for step, batch in zip(range(schedule.n_steps), data, strict=False):
        take(batch, schedule.lr_at(step))
        on_step()
        if best is not None and validation is not None and ((step + 1) % every == 0 or step + 1 == schedule.n_steps):
            best.compare(params, evaluate(params, forward, validation), step + 1)
            if best.waited >= patience:
                break
    if best is not None:
        return best.params, best.steps.tolist()
    return detached(params), [schedule.n_steps] * n_heads


@torch.no_grad()
def update(
    params: Params, momenta: Params, gradients: tuple[Tensor, ...], schedule: Schedule, lr: Tensor | float
) -> None:
    """One step of SGD with momentum, in place; clipping is before weight decay, which is of kernels only."""
    scale: float | Tensor = 1.0
    if schedule.clip_norm is not None:
        norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
        scale = (schedule.clip_norm / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp_(max=1)
    for (name, value), gradient in zip(params.items(), gradients, strict=True):
        decay = schedule.weight_decay if name.endswith(".weight") and value.ndim > 2 else 0.0
        if fusible(value):
            _fused_update(value, momenta[name], gradient, scale, decay, lr, schedule.momentum)
            continue
        momentum = momenta[name].mul_(schedule.momentum)
        _add(momentum, gradient, scale)
        if isinstance(decay, Tensor) or decay:
            _add(momentum, value, decay)
        _add(value, momentum, -lr)


def _fused_update(
    value: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    scale: float | Tensor,
    decay: float | Tensor,
    rate: float | Tensor,
    momentum: float,
) -> None:
    from frofa.estimators._triton_sgd import fused_sgd  # loads Triton

    def per_head(factor: float | Tensor) -> Tensor:
        if isinstance(factor, Tensor):
            return factor.expand(len(value)).contiguous()
        return torch.full((len(value),), factor, device=value.device)

    fused_sgd(
        value,
        velocity,
        gradient,
        scale=per_head(scale),
        decay=per_head(decay),
        rate=per_head(rate),
        momentum=momentum,
    )


def _add(target: Tensor, value: Tensor, factor: float | Tensor) -> None:
    """Add `value` times a factor, one number or one for each head."""
    if isinstance(factor, Tensor):
        target.addcmul_(value, factor.view(-1, *(1,) * (value.ndim - 1)))
    else:
        target.add_(value, alpha=factor)


class _Best:
    """The best parameters of each head so far."""

    def __init__(self, params: Params, n_heads: int):
        self.params = detached(params)
        self.scores = torch.full((n_heads, 2), -math.inf)
        self.steps = torch.zeros(n_heads, dtype=torch.int64)
        self.waited = 0

    def compare(self, params: Params, scores: Tensor, step: int) -> None:
        """Take the parameters of those heads that have become better."""
        scores = scores.cpu()
        more_accurate, same = scores[:, 0] > self.scores[:, 0], scores[:, 0] == self.scores[:, 0]
        better = more_accurate | (same & (scores[:, 1] > self.scores[:, 1]))
        self.waited = 0 if better.any() else self.waited + 1
        if self.waited:
            return
        self.scores[better], self.steps[better] = scores[better], step
        for name, value in params.items():
            self.params[name][better.to(value.device)] = value.detach()[better.to(value.device)]


@torch.no_grad()
def evaluate(params: Mapping[str, Tensor], forward: Forward, data: Labelled) -> Tensor:
    """Weighted accuracy and negative cross-entropy of each head, (n_heads, 2)."""
    logits = forward(params, data.features, None)
    correct = (logits.argmax(2) == data.classes).float()
    classes = data.classes.expand(len(logits), -1)
    losses = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view_as(correct)
    return torch.stack([correct @ data.weights, -(losses @ data.weights)], 1) / data.weights.sum()


def detached(params: Mapping[str, Tensor]) -> Params:
    """Copies without gradients."""
    return {name: value.detach().clone() for name, value in params.items()}
