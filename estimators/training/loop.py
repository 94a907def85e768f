"""Training of many heads at once by SGD: the one training loop of the library.

Every parameter has a leading dimension, that of the heads; a single head is the case of one. Heads never meet: each has
its own loss, its own clipping and its own schedule, and stops on its own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from frofa.augmentations import TokenBatch
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, ParameterLayout, Params
from frofa.estimators.training.plan import TokenModel, Trained, Watch
from frofa.estimators.training.recorded import Recorded
from frofa.estimators.training.schedule import Rule, Rules, Schedule
from frofa.estimators.training.sgd import factor_dtype, update
from frofa.estimators.training.streams import Streams

EVALUATIONS = 50
"""Evaluations on the validation part, spread over the steps."""


@dataclass(frozen=True)
class ValidationSet:
    """Samples that a head is validated on, on one device, as classes and weights (n,) are.

    `rows` (n,) are their positions in the features (m, ...); None is all, in order. The mask (n, N) is True where there
    is a token, if images differ in size.
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
    validation: Sequence[ValidationSet] | None = None,
    patience: Sequence[int] | None = None,
    on_step: Callable[[int], object] = lambda _: None,
    watch: Sequence[Watch | None] = (),
) -> tuple[Params, list[int]]:
    """Minimise each head's mean cross-entropy; return trained parameters and the number of steps that led to them.

    All heads have one model, and each its parameters along the leading dimension, which are not modified, a schedule,
    and, where there is one, a validation set and its patience. A head that is done retires, and the others go on
    without it. Steps on a GPU are recorded once and replayed, if possible: the host launches one thing a step instead
    of hundreds.

    With validation, a head's parameters of the best of about 50 evaluations (accuracy, then cross-entropy) are
    returned; it stops after `patience` evaluations without improvement. Validation samples are never augmented, and
    heads that have the same ones are evaluated together. `on_step` is called after each step, with the number of heads
    that took it, and each head's `watch` then, where there are some.
    """
    layout = ParameterLayout.of(params)
    training = _Training(Heads(layout, layout.pack(params)), model, streams, schedules)
    best = (
        None if validation is None else _Best(training.values, validation, patience or [EVALUATIONS] * len(schedules))
    )
    # Rows (n_heads, size) are filled as heads retire.
    results, n_iter = torch.empty_like(training.values.flat), [plan.n_steps for plan in schedules]
    for step in range(max(n_iter)):
        training.take(step)
        on_step(len(training.heads))
        stopped = [] if best is None else best.compare(training, step + 1)
        if any(watch):
            stopped += _ask(watch, training, best, step + 1)
        # Heads that have waited or have no more steps keep what they reached and retire; places count those that train.
        done = [i for i, head in enumerate(training.heads) if head in stopped or schedules[head].n_steps == step + 1]
        if not done:
            continue
        which = [training.heads[i] for i in done]
        results[which] = training.values.flat[done] if best is None else best.values[which]
        for head in which:
            n_iter[head] = step + 1
        training.keep([i for i in range(len(training.heads)) if i not in done])
        if not training.heads:
            break
    if best is not None:
        n_iter = best.steps
    return layout.views(results), n_iter


def _ask(watch: Sequence[Watch | None], training: "_Training", best: "_Best | None", step: int) -> list[int]:
    """Tell those that watch heads of a step; return the heads that are to stop."""

    def reached(place: int, head: int) -> Trained:
        values = training.values.flat[place] if best is None else best.values[head]
        views = training.values.layout.views(values.unsqueeze(0))
        weights = {name: view[0].cpu().numpy().copy() for name, view in views.items()}
        return Trained(weights, step if best is None else best.steps[head])

    told = [(i, head, watch[head]) for i, head in enumerate(training.heads)]
    return [head for i, head, ask in told if ask is not None and ask(step, partial(reached, i, head))]


class _Training:
    """The heads that are being trained."""

    def __init__(self, values: Heads, model: TokenModel, streams: Streams, schedules: Sequence[Schedule]):
        self.model, self.streams, self.schedules = model, streams, schedules
        self.heads = list(range(len(schedules)))  # numbers of those that still train, by place
        self.rules = Rules(schedules, values.flat.device)
        self._start(values, Heads(values.layout, torch.zeros_like(values.flat)))

    def _start(self, values: Heads, velocity: Heads) -> None:
        self.values, self.velocity = values, velocity
        self.gradient = torch.zeros_like(values.flat)
        recordable = self.streams.generators is not None and velocity.flat.device.type == "cuda"
        self.recorded = Recorded(self._learn, self.streams.generators or ()) if recordable else None

    def _learn(self, batch: TokenBatch, rule: Rule) -> None:
        """Augment, and update the heads part by part: all of a step that is recorded."""
        step = self.streams.expand(batch)
        for heads, part in step.parts():
            values, velocity = self.values[heads], self.velocity[heads]
            # The same memory at every step: gradients are overwritten, never accumulated.
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

    def __init__(self, values: Heads, validation: Sequence[ValidationSet], patience: Sequence[int]):
        self.values = values.flat.clone()
        self.validation, self.patience = validation, patience
        self.scores = [(-math.inf, -math.inf)] * len(validation)
        self.steps, self.waited = [0] * len(validation), [0] * len(validation)

    def compare(self, training: _Training, step: int) -> list[int]:
        """Take the parameters of those heads that have become better; return those that have waited long enough."""
        # Places of the heads that are evaluated after this step, by the samples that they are evaluated on.
        due: dict[int, list[int]] = {}
        for i, head in enumerate(training.heads):
            n_steps = training.schedules[head].n_steps
            if step % max(1, n_steps // EVALUATIONS) == 0 or step == n_steps:
                due.setdefault(id(self.validation[head]), []).append(i)
        for places in due.values():
            data = self.validation[training.heads[places[0]]]
            scores = evaluate(training.values[places], training.model, data).tolist()
            for i, score in zip(places, scores, strict=True):
                self._compare(training, i, tuple(score), step)
        return [training.heads[i] for places in due.values() for i in places if self.has_waited(training.heads[i])]

    def _compare(self, training: _Training, place: int, score: tuple[float, ...], step: int) -> None:
        head = training.heads[place]
        if score > self.scores[head]:  # False for a loss that is not a number
            self.scores[head], self.steps[head], self.waited[head] = (score[0], score[1]), step, 0
            self.values[head] = training.values.flat[place]
        else:
            self.waited[head] += 1

    def has_waited(self, head: int) -> bool:
        """Tell whether a head has become no better for too long."""
        return self.waited[head] >= self.patience[head]


@torch.no_grad()
def evaluate(heads: Heads, model: TokenModel, data: ValidationSet) -> Tensor:
    """Weighted accuracy and negative cross-entropy of each head, (n_heads, 2)."""
    logits = model.logits(heads.params, data.selected, data.mask)  # (n_heads, n, n_classes)
    # Samples one after another for all heads, and back to (n_heads, n).
    correct = (logits.argmax(2) == data.classes).float()
    classes = data.classes.expand(len(logits), -1)
    losses = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view_as(correct)
    return torch.stack([correct @ data.weights, -(losses @ data.weights)], 1) / data.weights.sum()
