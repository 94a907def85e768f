"""Plans of heads: the model, the samples, the seeds and the schedule of each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from frofa.augmentations import Augmentation
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, Params
from frofa.estimators.training.schedule import Schedule

Indices = npt.NDArray[np.intp]


class Trained(NamedTuple):
    """A trained head: its weights, and the step at which they were reached."""

    weights: dict[str, npt.NDArray[np.float32]]
    n_iter: int


Watch: TypeAlias = Callable[[int, Callable[[], Trained]], bool]
"""Listener to the steps of a head: told how many there were, and given a function that returns what training would, if
it ended here; it does if the answer is true."""


class StepBatch(NamedTuple):
    """The batches of a step: tokens (S, n, N, C), mask (S, n, N) and targets (S, n, n_classes) of S streams.

    `blocks` are numbers of streams in a row that have so many heads each; heads come in the order of their streams.
    """

    tokens: Tensor
    mask: Tensor | None
    targets: Tensor
    blocks: Sequence[tuple[int, int]]

    @property
    def n_batch(self) -> int:
        """Samples that a head sees in the step."""
        return self.targets.shape[1]

    def parts(self) -> Iterator[tuple[slice, "StepBatch"]]:
        """Split by blocks, so that all streams of a part have as many heads: the heads, and their part of the step."""
        first_head = first_stream = 0
        for n_streams, heads_each in self.blocks:
            heads = slice(first_head, first_head := first_head + n_streams * heads_each)
            streams = slice(first_stream, first_stream := first_stream + n_streams)
            mask = None if self.mask is None else self.mask[streams]
            yield heads, StepBatch(self.tokens[streams], mask, self.targets[streams], [(n_streams, heads_each)])


class TokenModel(ABC):
    """A head on tokens, as pure functions of its parameters: all that training has to know of its kind.

    Models are compared and hashed, best as frozen dataclasses. A kind of head is new by a model and by a
    `frofa.estimators.token_classifier.TokenClassifier` that makes it.
    """

    def shape(self, channels: int) -> Hashable:  # noqa: ARG002 (for models of which it depends on the tokens)
        """Tell models apart whose heads, on tokens of so many channels, cannot be trained together."""
        return self

    def start(self, seed: int) -> Hashable:
        """Tell initial parameters apart, among models of equal shape: equal ones are made once."""
        return seed

    @abstractmethod
    def initial(self, channels: int, n_classes: int, generator: Generator) -> Params:
        """Make the initial parameters of one head, float32 on the generator's device.

        Kernels, which decay, are those of two dimensions and more whose names end in ``.weight``.
        """

    @abstractmethod
    def logits(self, params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute class logits (H, n, n_classes) of H heads, which are the leading dimension of parameters.

        Tokens (S, n, N, C) are of S streams, a divisor of H: the first H / S heads see the first stream, and so on;
        tokens (n, N, C) are shared by all heads. The mask, (S, n, N) or (n, N), is True where a token is seen, of which
        every image needs one.
        """

    def gradients(self, heads: Heads, step: StepBatch, out: Gradient) -> None:
        """Write the gradients of each head's mean cross-entropy, by autograd; all streams have as many heads."""
        with torch.enable_grad():
            params = {name: value.detach().requires_grad_() for name, value in heads.params.items()}
            logits = self.logits(params, step.tokens, step.mask)
            # Targets of each head (H, n, n_classes), from those of its stream.
            targets = step.targets.repeat_interleave(len(logits) // len(step.targets), 0)
            loss = -(logits.log_softmax(2) * targets).sum() / step.n_batch  # heads do not meet: the sum of their losses
            gradients = torch.autograd.grad(loss, list(params.values()))
        for name, gradient in zip(params, gradients, strict=True):
            out.params[name].copy_(gradient)

    @abstractmethod
    def head_bytes(self, image: Tensor, n_batch: int) -> int:
        """Estimate the bytes that training one head takes, on batches of images like one of shape (N, C)."""


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Labelled samples: positions in the tokens that heads share, class indices, weights of mean one, (n,) each."""

    rows: Indices
    codes: Indices
    weights: npt.NDArray[np.float32]

    def key(self) -> Hashable:
        """Tell samples apart: keys are equal where samples are."""
        return self.rows.tobytes(), self.codes.tobytes(), self.weights.tobytes()


@dataclass(frozen=True, eq=False)
class HeadPlan:
    """All that decides what a head becomes, besides the tokens.

    Seeds are for the initial weights, the batches and the augmentation. The validation samples decide when to stop,
    after `patience` evaluations without improvement. Prefix and grid are as in `TokenBatch.from_tokens`. With
    `n_views`, the tokens have so many views of each image, one view of all images after another: samples are images,
    whose rows are those of their first view. `watch` is told of each step, and changes nothing but when training ends.
    """

    model: TokenModel
    train: LabelledRows
    n_classes: int
    seeds: tuple[int, int, int]
    schedule: Schedule
    augment: Augmentation | None
    validation: LabelledRows | None = None
    n_prefix: int = 0
    grid: tuple[int, int] | None = None
    patience: int = 10
    n_views: int = 1
    watch: Watch | None = None

    @cached_property
    def source(self) -> Hashable:
        """A key that is equal for heads that see the same batches."""
        return self.train.key(), self.seeds[1]

    @cached_property
    def stream(self) -> Hashable:
        """A key that is equal for heads that see the same batches, augmented in the same way."""
        return self.source, self.seeds[2], signature(self.augment)

    @property
    def n_batch(self) -> int:
        """Samples a step."""
        return min(len(self.train.rows), self.schedule.batch_size)

    def all_views(self, part: LabelledRows, n_rows: int) -> LabelledRows:
        """Give every view of some samples a row of its own, out of so many rows of the tokens."""
        if self.n_views == 1:
            return part
        # Rows (V * n,), view by view; a sample's views share its weight.
        first_rows = np.arange(self.n_views, dtype=np.intp)[:, None] * (n_rows // self.n_views)
        codes, weights = np.tile(part.codes, self.n_views), np.tile(part.weights, self.n_views)
        return LabelledRows((first_rows + part.rows).ravel(), codes, weights)


def signature(value: Any) -> Hashable:
    """Make a key that is equal for augmentations of the same type and parameters."""
    if isinstance(value, Augmentation):
        # Nested augmentations are told apart by their own parameters, not by identity.
        params = value.get_params(deep=False)
        return type(value), tuple((name, signature(params[name])) for name in sorted(params))
    if isinstance(value, (list, tuple)):
        return tuple(map(signature, value))
    return (type(value), value) if isinstance(value, (int, float, str, type(None))) else id(value)
