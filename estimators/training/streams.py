"""What heads see: the batches of each distinct sample and seed, gathered once, and each augmentation of them, once."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from frofa.augmentations import Augmentation, TokenBatch
from frofa.estimators.tokens.batches import Batches, DenseBatches, PaddedBatches
from frofa.estimators.tokens.lazy import Tokens
from frofa.estimators.tokens.padding import PaddedTokens
from frofa.estimators.training.loop import Step, batches
from frofa.estimators.training.schedule import Schedule

if TYPE_CHECKING:
    from frofa.estimators.models.soft_moe_head import SoftMoEModel

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Part:
    """Labelled samples.

    Attributes
    ----------
    rows : ndarray of int, shape (n,)
        Of the tokens that all heads share.
    codes : ndarray of int, shape (n,)
        Class indices.
    weights : ndarray of float32, shape (n,)
        Sample weights, of mean one.
    """

    rows: Rows
    codes: Rows
    weights: npt.NDArray[np.float32]

    def key(self) -> Hashable:
        """Equal for equal samples."""
        return self.rows.tobytes(), self.codes.tobytes(), self.weights.tobytes()


@dataclass(frozen=True, eq=False)
class HeadPlan:
    """All that decides what a head becomes, besides the tokens.

    Attributes
    ----------
    train : Part
    validation : Part or None
        What training is stopped by.
    n_classes : int
    seeds : (int, int, int)
        Of the initial weights, the batches and the augmentation.
    schedule : Schedule
    augment : Augmentation or None
    num_heads : int
        Attention heads.
    mlp_ratio : float
    n_prefix : int
    grid : (int, int) or None
        As in `TokenBatch.from_tokens`.
    patience : int
        Evaluations without improvement after which training stops.
    initial : mapping of str to Tensor or None
        Weights to start from, instead of fresh ones.
    soft_moe : SoftMoEModel or None
        The soft-MoE head that it is; None is a MAP head.
    """

    train: Part
    n_classes: int
    seeds: tuple[int, int, int]
    schedule: Schedule
    augment: Augmentation | None
    num_heads: int
    mlp_ratio: float = 4.0
    validation: Part | None = None
    n_prefix: int = 0
    grid: tuple[int, int] | None = None
    patience: int = 10
    initial: Mapping[str, Tensor] | None = None
    soft_moe: "SoftMoEModel | None" = None
    source: Hashable = field(init=False)
    stream: Hashable = field(init=False)

    def __post_init__(self) -> None:
        source = self.train.key(), self.seeds[1]
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "stream", (source, self.seeds[2], signature(self.augment)))

    @property
    def n_batch(self) -> int:
        """Samples a step."""
        return min(len(self.train.rows), self.schedule.batch_size)


def signature(value: Any) -> Hashable:
    """What is equal for augmentations of the same type and parameters."""
    if isinstance(value, Augmentation):
        params = value.get_params(deep=False)
        return type(value), tuple((name, signature(params[name])) for name in sorted(params))
    if isinstance(value, (list, tuple)):
        return tuple(map(signature, value))
    return (type(value), value) if isinstance(value, (int, float, str, type(None))) else id(value)


class Source:
    """Batches of one sample in the order of one seed."""

    def __init__(self, plan: HeadPlan, device: torch.device):
        part = plan.train
        self.rows = torch.as_tensor(part.rows, device=device)
        classes, weights = torch.as_tensor(part.codes, device=device), torch.as_tensor(part.weights, device=device)
        self.targets = torch.nn.functional.one_hot(classes, plan.n_classes) * weights[:, None]
        generator = Generator(device).manual_seed(plan.seeds[1])
        self.order = batches(len(part.rows), plan.schedule.batch_size, generator)
        self.whole = len(part.rows) <= plan.schedule.batch_size

    def next(self) -> tuple[Tensor, Tensor]:
        """Rows and targets of the next batch."""
        chosen = next(self.order)
        return self.rows[chosen], self.targets[chosen]


class Stream:
    """One augmentation of a source."""

    def __init__(self, plan: HeadPlan, source: Source, device: torch.device):
        self.source, self.augment = source, plan.augment
        self.generator = Generator(device).manual_seed(plan.seeds[2])

    def apply(self, batch: TokenBatch) -> TokenBatch:
        """Augment a batch of the source."""
        return batch if self.augment is None else self.augment.apply(batch, self.generator)


class Streams:
    """The batches of many heads of the same shapes; heads of equal source and augmentation are given in a row.

    Parameters
    ----------
    tokens : Tensor, LazyTokens or PaddedTokens of shape (n, P + N, C)
        Floating point; batches are float32.
    plans : sequence of HeadPlan
        One a head.
    """

    generators: Sequence[Generator] | None

    def __init__(self, tokens: Tokens, plans: Sequence[HeadPlan]):
        first, device = plans[0], tokens.device
        self.sources: list[Source] = []
        self.heads: list[Stream] = []
        sources: dict[Hashable, Source] = {}
        for key, group in groupby(plans, key=lambda plan: plan.stream):
            del key
            same = list(group)
            if same[0].source not in sources:
                sources[same[0].source] = Source(same[0], device)
            self.heads += [Stream(same[0], sources[same[0].source], device)] * len(same)
        self.batches: Batches = (
            PaddedBatches(tokens, first.train.rows)
            if isinstance(tokens, PaddedTokens)
            else DenseBatches(tokens, first.n_prefix, first.grid)
        )
        recordable = all(stream.augment is None or stream.augment.recordable for stream in self.heads)
        self.recordable = recordable
        self._group()

    def _group(self) -> None:
        self.streams, counts = [], []
        for _, group in groupby(self.heads, key=id):
            heads = list(group)
            self.streams.append(heads[0])
            counts.append(len(heads))
        self.blocks = [(len(list(equal)), count) for count, equal in groupby(counts)]
        self.sources = list(dict.fromkeys(stream.source for stream in self.streams))
        self.whole: TokenBatch | None = None
        self.generators = [stream.generator for stream in self.streams] if self.recordable else None

    def keep(self, heads: Sequence[int]) -> None:
        """Go on with some of the heads, in order."""
        self.heads = [self.heads[i] for i in heads]
        self._group()

    def gather(self) -> TokenBatch:
        """The next batch of every source, one after another."""
        if self.whole is not None:
            return self.whole
        rows, targets = zip(*(source.next() for source in self.sources), strict=True)
        batch = self.batches.take(torch.cat(rows), torch.cat(targets))
        if all(source.whole for source in self.sources):  # all steps see all samples
            self.whole = batch
        return batch

    def expand(self, batch: TokenBatch) -> Step:
        """Augment what each stream sees."""
        size = len(batch.patches) // len(self.sources)
        of_source = {
            id(source): batch if len(self.sources) == 1 else batch.select(slice(i * size, (i + 1) * size))
            for i, source in enumerate(self.sources)
        }
        seen = TokenBatch.join([stream.apply(of_source[id(stream.source)]) for stream in self.streams])
        if seen.targets is None:
            raise ValueError("training takes a batch with targets.")
        mask, sizes = seen.token_mask, (len(self.streams), -1)
        mask = None if mask is None else mask.unflatten(0, sizes)
        return Step(seen.tokens.unflatten(0, sizes), mask, seen.targets.unflatten(0, sizes), self.blocks)
