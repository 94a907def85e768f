"""Training of many heads at once by SGD: the one training loop of the library.

Every parameter has a leading dimension, that of the heads; a single head is the case of one. Heads never meet: each has
its own loss, its own clipping and its own schedule, and stops on its own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from frofa.augmentations import TokenBatch
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, ParameterLayout, Params
from frofa.estimators.training.plan import TokenModel
from frofa.estimators.training.recorded import Recorded
from frofa.estimators.training.schedule import Rule, Rules, Schedule
from frofa.estimators.training.sgd import factor_dtype, update
from frofa.estimators.training.streams import Streams

EVALUATIONS = 50  # of the validation part, spread over the steps


@dataclass(frozen=True)
class ValidationSet:
    """What a head is validated on, on one device.

    Attributes
    ----------
    features : Tensor of shape (m, ...)
    classes : Tensor of int, shape (n,)
        Indices.
    weights : Tensor of shape (n,)
    rows : Tensor of int, shape (n,), or None
        Those of `features`; None is all, in order.
    mask : Tensor of bool, shape (n, N), or None
        Where images differ in size: True where there is a token.
    """

    features: Tensor
    classes: Tensor
    weights: Tensor
    rows: Tensor | None = None
    mask: Tensor | None = None

    @property
    def selected(self) -> Tensor:
        """The features of the rows, in float32 at least."""
        chosen = self.features if self.rows is None else self.features[self.rows]
        return chosen.to(torch.promote_types(chosen.dtype, torch.float32))


@torch.no_grad()
def train(
    params: Mapping[str, Tensor],
    model: TokenModel,
    streams: Streams,
    schedules: Sequence[Schedule],
    *,
    validation: Sequence[ValidationSet | None] | None = None,
    patience: Sequence[int] | None = None,
    on_step: Callable[[int], object] = lambda _: None,
) -> tuple[Params, list[int]]:
    """Minimise each head's mean cross-entropy; return trained parameters and the number of steps that led to them.

    Parameters
    ----------
    params : dict of str to Tensor
        Initial ones, which are not modified.
    model : TokenModel
    streams : Streams
        Steps on a GPU are recorded once and replayed, if it can be: the host launches one thing a step instead of
        hundreds.
    schedules : sequence of Schedule
        One a head. A head that is done retires, and the others go on without it.
    validation : sequence of ValidationSet or None, default=None
        One a head: its parameters of the best of about 50 evaluations on it, which is never augmented, are returned
        (accuracy, then cross-entropy). Heads of the same one are evaluated together.
    patience : sequence of int, default=None
        Evaluations without improvement after which a head stops.
    on_step : callable
        Called after each step, with the number of heads that took it.
    """
    layout = ParameterLayout.of(params)
    run = _Training(Heads(layout, layout.pack(params)), model, streams, schedules)
    best = None if validation is None else _Best(run.values, validation, patience or [EVALUATIONS] * len(schedules))
    results, n_iter = torch.empty_like(run.values.flat), [plan.n_steps for plan in schedules]
    for step in range(max(n_iter)):
        run.take(step)
        on_step(len(run.heads))
        stopped = [] if best is None else best.compare(run, step + 1)
        done = [i for i, head in enumerate(run.heads) if head in stopped or schedules[head].n_steps == step + 1]
        if not done:
            continue
        which = [run.heads[i] for i in done]
        results[which] = run.values.flat[done] if best is None else best.values[which]
        run.keep([i for i in range(len(run.heads)) if i not in done])
        if not run.heads:
            break
    if best is not None:
        n_iter = best.steps
    return layout.views(results), n_iter


class _Training:
    """The heads that are being trained."""

    def __init__(self, values: Heads, model: TokenModel, streams: Streams, schedules: Sequence[Schedule]):
        self.model, self.streams, self.schedules = model, streams, schedules
        self.heads = list(range(len(schedules)))
        self.rules = Rules(schedules, values.flat.device)
        self._start(values, Heads(values.layout, torch.zeros_like(values.flat)))

    def _start(self, values: Heads, velocity: Heads) -> None:
        self.values, self.velocity = values, velocity
        self.gradient = torch.zeros_like(values.flat)
        recordable = self.streams.generators is not None and velocity.flat.device.type == "cuda"
        self.recorded = Recorded(self._learn, self.streams.generators or ()) if recordable else None

    def _learn(self, batch: TokenBatch, rule: Rule) -> None:
        step = self.streams.expand(batch)
        for heads, part in step.parts():
            values, velocity = self.values[heads], self.velocity[heads]
            gradient = Gradient(values.layout, self.gradient[heads], factor_dtype(values.flat, part.n_batch))
            self.model.gradients(values, part, gradient)
            update(values, velocity, gradient, Rule(*(numbers[heads] for numbers in rule)))

    def take(self, step: int) -> None:
        """Take a step with all heads."""
        (self.recorded or self._learn)(self.streams.gather(), self.rules.at(step))

    def keep(self, places: list[int]) -> None:
        """Go on with the heads at some places."""
        self.heads = [self.heads[i] for i in places]
        self.recorded = None  # its memory is freed before there is another
        if places:
            self.rules.keep(places)
            self.streams.keep(places)
            self._start(self.values[places], self.velocity[places])


class _Best:
    """The best parameters of each head so far."""

    def __init__(self, values: Heads, validation: Sequence[ValidationSet | None], patience: Sequence[int]):
        self.values = values.flat.clone()
        self.validation, self.patience = validation, patience
        self.scores = [(-math.inf, -math.inf)] * len(validation)
        self.steps, self.waited = [0] * len(validation), [0] * len(validation)

    def compare(self, run: _Training, step: int) -> list[int]:
        """Take the parameters of those heads that have become better; return those that have waited long enough."""
        due: dict[int, list[int]] = {}
        for i, head in enumerate(run.heads):
            n_steps = run.schedules[head].n_steps
            if step % max(1, n_steps // EVALUATIONS) == 0 or step == n_steps:
                due.setdefault(id(self.validation[head]), []).append(i)
        for places in due.values():
            data = self.validation[run.heads[places[0]]]
            if data is None:
                raise ValueError("validation must be of all heads, or None.")
            scores = evaluate(run.values[places], run.model, data).tolist()
            for i, score in zip(places, scores, strict=True):
                self._compare(run, i, tuple(score), step)
        return [run.heads[i] for places in due.values() for i in places if self.has_waited(run.heads[i])]

    def _compare(self, run: _Training, place: int, score: tuple[float, ...], step: int) -> None:
        head = run.heads[place]
        if score > self.scores[head]:  # False for a loss that is not a number
            self.scores[head], self.steps[head], self.waited[head] = (score[0], score[1]), step, 0
            self.values[head] = run.values.flat[place]
        else:
            self.waited[head] += 1

    def has_waited(self, head: int) -> bool:
        """Whether a head has become no better for too long."""
        return self.waited[head] >= self.patience[head]


@torch.no_grad()
def evaluate(heads: Heads, model: TokenModel, data: ValidationSet) -> Tensor:
    """Weighted accuracy and negative cross-entropy of each head, (n_heads, 2)."""
    logits = model.logits(heads.params, data.selected, data.mask)
    correct = (logits.argmax(2) == data.classes).float()
    classes = data.classes.expand(len(logits), -1)
    losses = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view_as(correct)
    return torch.stack([correct @ data.weights, -(losses @ data.weights)], 1) / data.weights.sum()
