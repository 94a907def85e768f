"""Training the heads of a search together, a chunk of fits at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from sklearn.utils import _safe_indexing

from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.searching.features import FeatureCache, FoldFeatures
from frofa.estimators.searching.linear_scores import known_scores
from frofa.estimators.searching.plan import Plan, Task
from frofa.estimators.searching.scoring import Result, result_of

FIRST_CHUNK = 1024  # fits
FIRST_CHUNK_KEPT = 8  # fits, where a checkpoint keeps finished chunks: a kill loses the one that is under way
CHUNK_SECONDS = 5.0
CHUNK_BYTES = 2**31  # of fitted heads
FEATURE_BYTES = 2**31  # of the folds' own features, where there is more than one fold in a chunk

Done: TypeAlias = list[tuple[Task, Result]]
OnDone: TypeAlias = Callable[[int], object]


@dataclass
class ChunkSize:
    """How many fits are done together: more as long as they take few seconds, or less time each than fewer did."""

    size: int
    rate: float = 0.0

    def learn(self, n: int, seconds: float, n_bytes: int) -> None:
        """Take into account how long `n` fits took, and the memory that their heads take."""
        rate = n / max(seconds, 1e-6)
        if n >= self.size and (seconds < CHUNK_SECONDS or rate > 1.2 * self.rate):
            self.size *= 2
        self.rate = rate
        self.size = max(1, min(self.size, CHUNK_BYTES * n // max(n, n_bytes)))


def train_together(
    pairs: Sequence[tuple[Task, Plan]], cache: FeatureCache, *, first_chunk: int, on_done: OnDone
) -> Iterator[Done]:
    """Train and score tasks in chunks; yield what comes out of each chunk.

    Fits of the same features are neighbours, fold by fold: there, engines have most to share.

    Parameters
    ----------
    pairs : sequence of (Task, Plan)
    cache : FeatureCache
        Keeps features of all samples, where there is one kind of these, for the tasks of a later call.
    first_chunk : int
        Fits in the first chunk, if memory holds their heads.
    on_done : callable
        Called with the number of fits done since the last call.
    """
    pairs = sorted(pairs, key=lambda pair: _order(*pair))
    to_keep = {plan.shared_key for _, plan in pairs}
    chunk = ChunkSize(first_chunk)
    while pairs:
        start = time.time()
        if not chunk.rate:
            chunk.size = min(chunk.size, _heads_in_memory(cache.get(*pairs[0])))
        features = _features(pairs[: chunk.size], cache)
        now, pairs = pairs[: len(features)], pairs[len(features) :]
        fitted = _fit(now, features, on_done)
        seconds = time.time() - start
        known = known_scores(fitted, features)
        yield [
            (task, result_of(task, plan, head, fold, seconds / len(now), scores))
            for (task, plan), head, fold, scores in zip(now, fitted, features, known, strict=True)
        ]
        chunk.learn(len(now), time.time() - start, sum(map(_n_bytes, fitted)))
        needed = {cache.key(*pair) for pair in pairs}
        cache.forget(needed, to_keep if len(to_keep) == 1 else {key[0] for key in needed})


def _order(task: Task, plan: Plan) -> tuple[str, int, str, str, int]:
    return plan.shared_key, task.split, plan.fitted_key, type(plan.head).__name__, task.candidate


def _features(pairs: Sequence[tuple[Task, Plan]], cache: FeatureCache) -> list[FoldFeatures | Exception]:
    """Features of the first tasks, up to the fold at which memory ends."""
    features: list[FoldFeatures | Exception] = []
    held: dict[int, int] = {}
    for pair in pairs:
        fold = cache.get(*pair)
        if isinstance(fold, FoldFeatures):
            held.update({id(part): getattr(part, "nbytes", 0) for part in (fold.array, *fold.scored)})
            if features and fold is not features[-1] and sum(held.values()) > FEATURE_BYTES:
                break
        features.append(fold)
    return features


def _fit(
    pairs: Sequence[tuple[Task, Plan]], features: Sequence[FoldFeatures | Exception], on_done: OnDone
) -> list[FeatureClassifier | Exception]:
    """Fit heads, those of the same array of features together."""
    fitted: list[Any] = list(features)
    groups: dict[tuple[int, int], list[int]] = {}
    for i, ((_, plan), fold) in enumerate(zip(pairs, features, strict=True)):
        if isinstance(fold, Exception):
            on_done(1)
        else:
            groups.setdefault((id(fold.array), id(plan.sample_weight)), []).append(i)
    for members in groups.values():
        (task, plan), fold = pairs[members[0]], fitted[members[0]]
        weight = None if plan.sample_weight is None else np.asarray(_safe_indexing(plan.sample_weight, fold.origin))
        jobs = [Job(pairs[i][1].head, fitted[i].rows) for i in members]
        labels = np.asarray(_safe_indexing(task.y, fold.origin))
        heads = fit_many(fold.array, labels, jobs, sample_weight=weight, on_done=on_done)
        for i, head in zip(members, heads, strict=True):
            fitted[i] = head
    return fitted


def _heads_in_memory(features: FoldFeatures | Exception) -> int:
    """How many heads memory holds before one has been seen, each taken for a MAP head, which has 13 C**2 weights."""
    shape = () if isinstance(features, Exception) else getattr(features.array, "shape", ())
    return max(1, CHUNK_BYTES // (14 * 4 * max(1, *shape[-1:]) ** 2)) if shape else FIRST_CHUNK


def _n_bytes(fitted: FeatureClassifier | Exception) -> int:
    arrays = [
        array for value in vars(fitted).values() for array in (value.values() if isinstance(value, dict) else [value])
    ]
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
