"""What heads see: the batches of each distinct sample and seed, gathered once, and each augmentation of them, once."""

from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby

import torch
from torch import Generator, Tensor

from frofa.augmentations import TokenBatch
from frofa.estimators.tokens.batches import DenseBatches, PaddedBatches
from frofa.estimators.tokens.lazy import Tokens
from frofa.estimators.tokens.padding import PaddedTokens
from frofa.estimators.training.plan import HeadPlan, StepBatch


def batches(n: int, batch_size: int, generator: Generator) -> Iterator[Tensor | slice]:
    """Indices of batches without end: a new permutation each epoch, its ragged end dropped; all rows if they fit."""
    while n <= batch_size:
        yield slice(None)
    while True:
        order = torch.randperm(n, generator=generator, device=generator.device)
        yield from torch.split(order[: n - n % batch_size], batch_size)


class BatchSource:
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


class AugmentedStream:
    """One augmentation of a source."""

    def __init__(self, plan: HeadPlan, source: BatchSource, device: torch.device):
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
        self.sources: list[BatchSource] = []
        self.heads: list[AugmentedStream] = []
        sources: dict[Hashable, BatchSource] = {}
        for key, group in groupby(plans, key=lambda plan: plan.stream):
            del key
            same = list(group)
            if same[0].source not in sources:
                sources[same[0].source] = BatchSource(same[0], device)
            self.heads += [AugmentedStream(same[0], sources[same[0].source], device)] * len(same)
        self.batches = (
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

    def expand(self, batch: TokenBatch) -> StepBatch:
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
        return StepBatch(seen.tokens.unflatten(0, sizes), mask, seen.targets.unflatten(0, sizes), self.blocks)
