"""Training of many heads at once by SGD: the one training loop of the library.

Every parameter has a leading dimension, that of the heads; a single head is the case of one. Heads never meet: each has
its own loss, its own clipping and its own schedule, and stops on its own.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from frofa.augmentations import TokenBatch
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, ParameterLayout, Params
from frofa.estimators.training.recorded import Recorded
from frofa.estimators.training.schedule import Rule, Rules, Schedule
from frofa.estimators.training.sgd import factor_dtype, update

EVALUATIONS = 50  # of the validation part, spread over the steps


class StepBatch(NamedTuple):
    """What heads see in a step.

    Attributes
    ----------
    tokens : Tensor of shape (S, n, N, C)
        Of S streams.
    mask : Tensor of bool, shape (S, n, N), or None
    targets : Tensor of shape (S, n, n_classes)
    blocks : sequence of (int, int)
        So many streams in a row with so many heads each; heads come in the order of their streams.
    """

    tokens: Tensor
    mask: Tensor | None
    targets: Tensor
    blocks: Sequence[tuple[int, int]]

    @property
    def n_batch(self) -> int:
        """Samples that a head sees."""
        return self.targets.shape[1]

    def parts(self) -> Iterator[tuple[slice, "StepBatch"]]:
        """Heads whose streams have as many heads each, and what they see."""
        first_head = first_stream = 0
        for n_streams, heads_each in self.blocks:
            heads = slice(first_head, first_head := first_head + n_streams * heads_each)
            streams = slice(first_stream, first_stream := first_stream + n_streams)
            mask = None if self.mask is None else self.mask[streams]
            yield heads, StepBatch(self.tokens[streams], mask, self.targets[streams], [(n_streams, heads_each)])


class Model(Protocol):
    """What is trained."""

    def logits(self, params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (H, n, n_classes) of tokens (n, ...), of which a mask (n, N) shows some."""

    def gradients(self, heads: Heads, step: StepBatch, out: Gradient) -> None:
        """Write the gradients of each head's mean cross-entropy; all streams of the step have as many heads."""


class Feed(Protocol):
    """Where batches come from.

    ``generators`` are all that `expand` draws from, if steps can be recorded, else None.
    """

    generators: Sequence[Generator] | None

    def gather(self) -> TokenBatch:
        """The next batch of every source, one after another, always of the same shape."""

    def expand(self, batch: TokenBatch) -> StepBatch:
        """What each head sees of it: augmentation is done here."""

    def keep(self, heads: Sequence[int]) -> None:
        """Go on with some of the heads, in order."""


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


def batches(n: int, batch_size: int, generator: Generator) -> Iterator[Tensor | slice]:
    """Indices of batches without end: a new permutation each epoch, its ragged end dropped; all rows if they fit."""
    while n <= batch_size:
        yield slice(None)
    while True:
        order = torch.randperm(n, generator=generator, device=generator.device)
        yield from torch.split(order[: n - n % batch_size], batch_size)


@torch.no_grad()
def train(
    params: Mapping[str, Tensor],
    model: Model,
    feed: Feed,
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
    model : Model
    feed : Feed
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
    run = _Training(Heads(layout, layout.pack(params)), model, feed, schedules)
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

    def __init__(self, values: Heads, model: Model, feed: Feed, schedules: Sequence[Schedule]):
        self.model, self.feed, self.schedules = model, feed, schedules
        self.heads = list(range(len(schedules)))
        self.rules = Rules(schedules, values.flat.device)
        self._start(values, Heads(values.layout, torch.zeros_like(values.flat)))

    def _start(self, values: Heads, velocity: Heads) -> None:
        self.values, self.velocity = values, velocity
        self.gradient = torch.zeros_like(values.flat)
        recordable = self.feed.generators is not None and velocity.flat.device.type == "cuda"
        self.recorded = Recorded(self._learn, self.feed.generators or ()) if recordable else None

    def _learn(self, batch: TokenBatch, rule: Rule) -> None:
        step = self.feed.expand(batch)
        for heads, part in step.parts():
            values, velocity = self.values[heads], self.velocity[heads]
            gradient = Gradient(values.layout, self.gradient[heads], factor_dtype(values.flat, part.n_batch))
            self.model.gradients(values, part, gradient)
            update(values, velocity, gradient, Rule(*(numbers[heads] for numbers in rule)))

    def take(self, step: int) -> None:
        """Take a step with all heads."""
        (self.recorded or self._learn)(self.feed.gather(), self.rules.at(step))

    def keep(self, places: list[int]) -> None:
        """Go on with the heads at some places."""
        self.heads = [self.heads[i] for i in places]
        self.recorded = None  # its memory is freed before there is another
        if places:
            self.rules.keep(places)
            self.feed.keep(places)
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
def evaluate(heads: Heads, model: Model, data: ValidationSet) -> Tensor:
    """Weighted accuracy and negative cross-entropy of each head, (n_heads, 2)."""
    logits = model.logits(heads.params, data.selected, data.mask)
    correct = (logits.argmax(2) == data.classes).float()
    classes = data.classes.expand(len(logits), -1)
    losses = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view_as(correct)
    return torch.stack([correct @ data.weights, -(losses @ data.weights)], 1) / data.weights.sum()
