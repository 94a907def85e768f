"""Batches of many heads: gathered once for each sample and seed, and augmented once for each augmentation of these."""

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
    """Choose batches without end: a new permutation each epoch, its ragged end dropped; all rows if they fit."""
    while n <= batch_size:
        yield slice(None)
    while True:
        order = torch.randperm(n, generator=generator, device=generator.device)
        yield from torch.split(order[: n - n % batch_size], batch_size)


class BatchSource:
    """Batches of one sample in the order of one seed, which several heads may see.

    Of images with several views, each is seen by one of them, drawn anew for each batch: `n_rows` are those of all.
    """

    def __init__(self, plan: HeadPlan, device: torch.device, n_rows: int):
        part = plan.train
        self.rows = torch.as_tensor(part.rows, device=device)
        classes, weights = torch.as_tensor(part.codes, device=device), torch.as_tensor(part.weights, device=device)
        # Targets (n, n_classes): labels one-hot, times the sample weights.
        self.targets = torch.nn.functional.one_hot(classes, plan.n_classes) * weights[:, None]
        self.generator = Generator(device).manual_seed(plan.seeds[1])
        self.order = batches(len(part.rows), plan.schedule.batch_size, self.generator)
        self.n_views, self.n_images = plan.n_views, n_rows // plan.n_views
        self.whole = len(part.rows) <= plan.schedule.batch_size and plan.n_views == 1

    def next(self) -> tuple[Tensor, Tensor]:
        """Rows and targets of the next batch."""
        chosen = next(self.order)
        rows = self.rows[chosen]
        if self.n_views > 1:
            view = torch.randint(self.n_views, rows.shape, generator=self.generator, device=rows.device)
            rows = rows + view * self.n_images
        return rows, self.targets[chosen]


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

    Tokens (n, P + N, C) are floating point, and batches float32; each head has a plan.
    """

    generators: Sequence[Generator] | None
    """All that `expand` draws from, if steps can be recorded, else None."""

    def __init__(self, tokens: Tokens, plans: Sequence[HeadPlan]):
        first, device = plans[0], tokens.device
        self.heads: list[AugmentedStream] = []  # the stream of each head
        sources: dict[Hashable, BatchSource] = {}
        for _, group in groupby(plans, key=lambda plan: plan.stream):
            plan, *others = group
            # Heads that differ in their augmentation alone still share the gathering of their batches.
            if plan.source not in sources:
                sources[plan.source] = BatchSource(plan, device, len(tokens))
            self.heads += [AugmentedStream(plan, sources[plan.source], device)] * (1 + len(others))
        self.batches = (
            PaddedBatches(tokens, first.all_views(first.train, len(tokens)).rows)
            if isinstance(tokens, PaddedTokens)
            else DenseBatches(tokens, first.n_prefix, first.grid)
        )
        self.recordable = all(stream.augment is None or stream.augment.recordable for stream in self.heads)
        self._group()

    def _group(self) -> None:
        """Count the heads of each stream, and streams in a row that have as many."""
        groups = [list(group) for _, group in groupby(self.heads, key=id)]
        self.streams, counts = [group[0] for group in groups], map(len, groups)
        self.blocks = [(len(list(equal)), count) for count, equal in groupby(counts)]
        self.sources = list(dict.fromkeys(stream.source for stream in self.streams))
        self.whole: TokenBatch | None = None
        self.generators = [stream.generator for stream in self.streams] if self.recordable else None

    def keep(self, heads: Sequence[int]) -> None:
        """Go on with some of the heads, in order."""
        self.heads = [self.heads[i] for i in heads]
        self._group()

    def gather(self) -> TokenBatch:
        """Gather the next batch of every source, one after another; the shape is always the same."""
        if self.whole is not None:
            return self.whole
        rows, targets = zip(*(source.next() for source in self.sources), strict=True)
        batch = self.batches.take(torch.cat(rows), torch.cat(targets))
        if all(source.whole for source in self.sources):  # all steps see all samples
            self.whole = batch
        return batch

    def expand(self, batch: TokenBatch) -> StepBatch:
        """Augment the batch of each stream's source."""
        size = len(batch.patches) // len(self.sources)
        # A source's batch is shared by its streams, none of which changes it.
        of_source = {
            id(source): batch if len(self.sources) == 1 else batch.select(slice(i * size, (i + 1) * size))
            for i, source in enumerate(self.sources)
        }
        # Streams follow each other along the first axis, and then become an axis of their own: (S, n, ...).
        seen = TokenBatch.join([stream.apply(of_source[id(stream.source)]) for stream in self.streams])
        if seen.targets is None:
            raise ValueError("training takes a batch with targets.")
        mask, sizes = seen.token_mask, (len(self.streams), -1)
        mask = None if mask is None else mask.unflatten(0, sizes)
        return StepBatch(seen.tokens.unflatten(0, sizes), mask, seen.targets.unflatten(0, sizes), self.blocks)
