"""Training the heads of a search together, a chunk of fits at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from frofa.compute.memory import rows_per_chunk
from frofa.estimators.batched.jobs import Fitted, Job, arrays_of, fit_many
from frofa.estimators.searching.features import FeatureCache, FoldFeatures
from frofa.estimators.searching.linear_scores import scores_by_product
from frofa.estimators.searching.plan import BatchPlan
from frofa.estimators.searching.scoring import result_of
from frofa.estimators.searching.sklearn_compat import FitResult, SearchTask, take_rows

CHUNK_SECONDS = 5.0
"""Seconds that a chunk may take before the next is no larger: what a kill may lose, where a checkpoint keeps chunks."""
CHUNK_BYTES = 2**31
"""Limit of the fitted heads of a chunk."""
FEATURE_BYTES = 2**31
"""Limit of the folds' own features, where there is more than one fold in a chunk."""

Done: TypeAlias = list[tuple[SearchTask, FitResult]]
OnDone: TypeAlias = Callable[[int], object]


@dataclass
class ChunkSize:
    """The number of fits in a chunk: it grows while chunks take few seconds, or less time a fit than smaller ones."""

    size: int
    rate: float = 0.0

    def learn(self, n: int, seconds: float, n_bytes: int) -> None:
        """Take into account how long `n` fits took, and the memory that their heads take."""
        rate = n / max(seconds, 1e-6)
        # Chunks cut short by memory or by the end of the tasks say nothing about larger ones.
        if n >= self.size and (seconds < CHUNK_SECONDS or rate > 1.2 * self.rate):
            self.size *= 2
        self.rate = rate
        self.size = min(self.size, rows_per_chunk(CHUNK_BYTES * n, max(n, n_bytes)))


def train_together(
    pairs: Sequence[tuple[SearchTask, BatchPlan]],
    cache: FeatureCache,
    *,
    first_chunk: int,
    on_begin: Callable[[list[SearchTask]], object],
    on_done: OnDone,
) -> Iterator[Done]:
    """Train and score tasks in chunks, at first of `first_chunk` fits if memory holds them; yield each chunk's results.

    Fits of the same features are neighbours, fold by fold, as engines have most to share there. The cache keeps
    features of all samples, where there is one kind of these, for the tasks of a later call. `on_begin` is called with
    the tasks of a chunk, and `on_done` with the number of fits done since the last call.
    """
    pairs = sorted(pairs, key=lambda pair: _order(*pair))
    to_keep = {plan.shared_key for _, plan in pairs}
    chunk = ChunkSize(first_chunk)
    while pairs:
        start = time.time()
        # features and heads of the next chunk, as many as memory holds
        if not chunk.rate:
            chunk.size = _first_size(chunk.size, cache.get(*pairs[0]))
        features = _features(pairs[: chunk.size], cache)
        now, pairs = pairs[: len(features)], pairs[len(features) :]
        on_begin([task for task, _ in now])
        fitted = _fit(now, features, on_done)
        seconds = time.time() - start
        # scores (n, n_classes) of all linear heads at once, then results one by one
        known = scores_by_product(fitted, features)
        yield [
            (task, result_of(task, plan, head, fold, seconds / len(now), scores))
            for (task, plan), head, fold, scores in zip(now, fitted, features, known, strict=True)
        ]
        # the size of the next chunk, and memory for its features
        n_bytes = sum(array.nbytes for head in fitted for _, array in arrays_of(head))
        chunk.learn(len(now), time.time() - start, n_bytes)
        needed = {cache.key(*pair) for pair in pairs}
        cache.forget(needed, to_keep if len(to_keep) == 1 else {key.shared for key in needed})


def _order(task: SearchTask, plan: BatchPlan) -> tuple[str, int, str, str, int]:
    return plan.shared_key, task.split, plan.fitted_key, type(plan.head).__name__, task.candidate


def _features(pairs: Sequence[tuple[SearchTask, BatchPlan]], cache: FeatureCache) -> list[FoldFeatures | Exception]:
    """Compute the features of the first tasks, up to the fold at which memory ends."""
    features: list[FoldFeatures | Exception] = []
    held: dict[int, int] = {}
    for pair in pairs:
        fold = cache.get(*pair)
        if isinstance(fold, FoldFeatures):
            # Arrays that folds share are counted once.
            held.update({id(part): getattr(part, "nbytes", 0) for part in (fold.array, *fold.scored)})
            if features and fold is not features[-1] and sum(held.values()) > FEATURE_BYTES:
                break
        features.append(fold)
    return features


def _fit(
    pairs: Sequence[tuple[SearchTask, BatchPlan]], features: Sequence[FoldFeatures | Exception], on_done: OnDone
) -> list[Fitted]:
    """Fit heads, those of the same array of features together."""
    fitted: list[Any] = list(features)
    groups: dict[tuple[int, int], list[int]] = {}
    for i, ((_, plan), fold) in enumerate(zip(pairs, features, strict=True)):
        if isinstance(fold, Exception):
            on_done(1)
        else:
            # Engines take one array of features and one of weights: folds of steps that learn nothing share both.
            groups.setdefault((id(fold.array), id(plan.sample_weight)), []).append(i)
    for members in groups.values():
        (task, plan), fold = pairs[members[0]], fitted[members[0]]
        weight = None if plan.sample_weight is None else np.asarray(take_rows(plan.sample_weight, fold.origin))
        jobs = [Job(pairs[i][1].head, fitted[i].rows) for i in members]
        labels = np.asarray(take_rows(task.y, fold.origin))
        heads = fit_many(fold.array, labels, jobs, sample_weight=weight, on_done=on_done)
        for i, head in zip(members, heads, strict=True):
            fitted[i] = head
    return fitted


def _first_size(size: int, features: FoldFeatures | Exception) -> int:
    """Reduce a number of heads to what memory holds, each taken for a MAP head, which has 13 C**2 weights."""
    shape = () if isinstance(features, Exception) else getattr(features.array, "shape", ())
    return min(size, rows_per_chunk(CHUNK_BYTES, 14 * 4 * shape[-1] ** 2)) if shape else size
