"""All fits of a search: trained together where possible, in the ordinary way where not."""

import time
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel

from frofa.compute.digests import digest, digest_data, former_digest_of_data
from frofa.estimators.searching.checkpoint import Checkpoint
from frofa.estimators.searching.chunks import ChunkSize, Done, OnDone, train_together
from frofa.estimators.searching.features import FeatureCache
from frofa.estimators.searching.plan import BatchPlan, batch_plan
from frofa.estimators.searching.sklearn_compat import (
    Call,
    FitResult,
    SearchTask,
    asks_for_predictions,
    metric_names,
)
from frofa.exceptions import BatchFallbackWarning
from frofa.utils.callbacks import shows_bar
from frofa.utils.progress import progress_bar

FIRST_CHUNK = 1024
"""Fits in the first chunk. Little depends on it: 500 ridge probes take 3 % longer where it has 8."""
FIRST_CHUNK_KEPT = 8
"""Fits in the first chunk where a checkpoint keeps finished chunks: a kill loses the one that is under way."""


@dataclass(eq=False)
class SearchRun:
    """Stand-in for ``Parallel`` in scikit-learn's search: takes the calls of its fits, returns their results.

    Finished fits are kept in the checkpoint, if there is one; `progress` shows a bar over the fits. scikit-learn gives
    `n_jobs` and `pre_dispatch`, which are used for the fits that cannot be trained together.
    """

    checkpoint: Checkpoint | None
    progress: bool
    n_jobs: int | None = None
    pre_dispatch: int | str = "2*n_jobs"
    _warned: set[str] = field(default_factory=set)
    _features: FeatureCache | None = None

    def __enter__(self) -> "SearchRun":
        return self

    def __exit__(self, *error: Any) -> None:
        """Leave nothing open, as there is nothing: ``Parallel`` is a context, so this has to be one."""

    def __call__(self, calls: Iterable[Call]) -> list[FitResult]:
        """Do all fits; results are in the order of the calls."""
        tasks = [SearchTask.of(call) for call in calls]
        # Fits of earlier runs, which are known by their keys, are not done again, but callbacks hear of them.
        keys = dict(zip(tasks, self._keys(tasks), strict=True))
        known = {} if self.checkpoint is None else self.checkpoint.results
        results: dict[SearchTask, FitResult] = {task: dict(known[key]) for task, key in keys.items() if key in known}
        for task in results:
            task.tell_callbacks()
        shown = self.progress and not (tasks and shows_bar(tasks[0].caller))
        with progress_bar(
            total=len(tasks), initial=len(results), unit="fit", desc="search", leave=False, shown=shown
        ) as bar:
            for done in self._fits([task for task in tasks if task not in results], bar.update):
                results.update(done)
                if self.checkpoint is not None:
                    self.checkpoint.add([(keys[task], result) for task, result in done])
        return [results[task] for task in tasks]

    def _keys(self, tasks: Sequence[SearchTask]) -> list[str]:
        """Return the key that each fit has in the checkpoint."""
        if self.checkpoint is None or not tasks:
            return [""] * len(tasks)
        # Splits are digested once, and not for each of the fits, of which there may be thousands.
        by_split = {task.split: task for task in tasks}
        splits = {split: digest(task.train, task.test) for split, task in by_split.items()}
        if not self.checkpoint.begun:
            former = {"X": former_digest_of_data(tasks[0].X)}
            self.checkpoint.begin(_identity(tasks, splits), _scores_of(tasks[0]), former)
        return [digest(task.parameters, splits[task.split]) for task in tasks]

    def _fits(self, tasks: Sequence[SearchTask], on_done: OnDone) -> Iterator[Done]:
        if self._features is None:
            self._features = FeatureCache(pool=bool(tasks) and asks_for_predictions(tasks[0].scorer))
        plans: dict[int, BatchPlan | str] = {}
        together: list[tuple[SearchTask, BatchPlan]] = []
        ordinary: list[SearchTask] = []
        reasons: Counter[str] = Counter()
        for task in tasks:
            # one plan for all fits of a candidate
            candidate = task.candidate
            if candidate not in plans:
                plans[candidate] = batch_plan(task)
            plan = plans[candidate]
            if isinstance(plan, BatchPlan):
                together.append((task, plan))
            else:
                ordinary.append(task)
                reasons[plan] += 1
        first_chunk = FIRST_CHUNK if self.checkpoint is None else FIRST_CHUNK_KEPT
        telling = _Telling(on_done)
        chunks = train_together(
            together, self._features, first_chunk=first_chunk, on_begin=telling.begin, on_done=telling
        )
        for done in chunks:
            telling.end()
            yield done
        if ordinary:
            self._warn(reasons)
            yield from self._one_by_one(ordinary, on_done)

    def _one_by_one(self, tasks: Sequence[SearchTask], on_done: OnDone) -> Iterator[Done]:
        # One call of ``Parallel`` is fastest, but checkpoint and progress bar hear of its fits only when it returns.
        at_once = self.checkpoint is None and not self.progress
        chunk = ChunkSize(len(tasks) if at_once else FIRST_CHUNK_KEPT * effective_n_jobs(self.n_jobs))
        with Parallel(n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch) as parallel:
            while tasks:
                start, now, tasks = time.time(), tasks[: chunk.size], tasks[chunk.size :]
                yield list(zip(now, parallel(task.call for task in now), strict=True))
                on_done(len(now))
                chunk.learn(len(now), time.time() - start, 0)

    def _warn(self, reasons: Counter[str]) -> None:
        new = {reason: n for reason, n in reasons.items() if reason not in self._warned}
        self._warned.update(new)
        if new:
            listed = "; ".join(f"{reason} ({n} fits)" for reason, n in new.items())
            warnings.warn(f"not trained together, but fitted one by one: {listed}.", BatchFallbackWarning, stacklevel=2)


class _Telling:
    """Tells callbacks of the fits of a chunk, in their order, as so many of them are done: they are trained together.

    What is done is counted by `on_done`, too.
    """

    def __init__(self, on_done: OnDone):
        self.on_done = on_done
        self.waiting, self.n_done, self.n_told = deque[SearchTask](), 0, 0

    def begin(self, tasks: Sequence[SearchTask]) -> None:
        """Take the fits of the next chunk."""
        self.waiting, self.n_done, self.n_told = deque(tasks), 0, 0

    def __call__(self, n: int) -> None:
        """Count fits that are done; less than none are to be done again, one by one."""
        self.on_done(n)
        self.n_done += n
        while self.waiting and self.n_told < self.n_done:
            self.waiting.popleft().tell_callbacks()
            self.n_told += 1

    def end(self) -> None:
        """Tell of what is left of the chunk."""
        while self.waiting:
            self.waiting.popleft().tell_callbacks()


def _identity(tasks: Sequence[SearchTask], splits: dict[int, str]) -> dict[str, str]:
    """Return digests of all that makes a search another one, by what a person calls it."""
    first = tasks[0]
    candidates = {task.candidate: task.parameters for task in tasks}
    return {
        "estimator": digest(first.estimator),
        "candidates": digest(list(candidates.values())),
        "X": digest_data(first.X),
        "y": digest(first.y),
        "fit parameters": digest(first.fit_params, first.score_params),
        "splits": digest(list(splits.values())),
        "scoring": digest(first.scorer, first.return_train_score, first.error_score),
    }


def _scores_of(task: SearchTask) -> dict[str, list[str] | None]:
    """Return the fields of scores in a result, with the names of the scores in them; None is one score without a name.

    Of a function of the user's nothing is known: it may return the one or the other.
    """
    names = metric_names(task.scorer)
    if names is None and not asks_for_predictions(task.scorer):
        return {}
    return {"test_scores": names} | ({"train_scores": names} if task.return_train_score else {})
