"""All fits of a search: trained together where possible, in the ordinary way where not."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from joblib import effective_n_jobs
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils.parallel import Parallel

from frofa.compute.digests import digest, digest_data
from frofa.estimators.searching.checkpoint import Checkpoint
from frofa.estimators.searching.chunks import (
    FIRST_CHUNK,
    FIRST_CHUNK_KEPT,
    ChunkSize,
    Done,
    OnDone,
    train_together,
)
from frofa.estimators.searching.features import FeatureCache
from frofa.estimators.searching.plan import Plan, Task, plan
from frofa.estimators.searching.scoring import Result, asks_for_predictions
from frofa.exceptions import BatchFallbackWarning
from frofa.utils.progress import progress_bar


def sklearn_fit(parallel: Callable[..., Any]) -> Callable[..., Any]:
    """scikit-learn's own ``BaseSearchCV.fit``, of whatever version is installed, with another ``Parallel``.

    So splits, error messages, results, refit and callbacks are scikit-learn's own, and only who does the fits is ours.
    """
    body: FunctionType = BaseSearchCV.fit.__wrapped__
    if "Parallel" not in body.__code__.co_names:
        raise RuntimeError("this version of scikit-learn has another BaseSearchCV.fit than frofa knows.")
    names = {**body.__globals__, "Parallel": parallel}
    return FunctionType(body.__code__, names, body.__name__, body.__defaults__, body.__closure__)


@dataclass(eq=False)
class SearchRun:
    """Stands where scikit-learn's search has ``Parallel``: takes the calls of its fits, returns their results.

    Parameters
    ----------
    checkpoint : Checkpoint or None
    progress : bool
    n_jobs, pre_dispatch
        Of ``Parallel``, for the fits that cannot be trained together.
    """

    checkpoint: Checkpoint | None
    progress: bool
    n_jobs: int | None = None
    pre_dispatch: int | str = "2*n_jobs"
    _warned: set[str] = field(default_factory=set)
    _features: FeatureCache | None = None
    _parallel: Any = None
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "SearchRun":
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def __call__(self, calls: Iterable[Any]) -> list[Result]:
        """Do all fits; results are in the order of the calls."""
        tasks = [Task(call) for call in calls]
        keys = dict(zip(tasks, self._keys(tasks), strict=True))
        known = {} if self.checkpoint is None else self.checkpoint.results
        results: dict[Task, Result] = {task: dict(known[key]) for task, key in keys.items() if key in known}
        for task in results:
            _notify(task)
        with progress_bar(
            total=len(tasks), initial=len(results), unit="fit", desc="search", leave=False, shown=self.progress
        ) as bar:
            for done in self._fits([task for task in tasks if task not in results], bar.update):
                results.update(done)
                if self.checkpoint is not None:
                    self.checkpoint.add([(keys[task], result) for task, result in done])
        return [results[task] for task in tasks]

    def _keys(self, tasks: Sequence[Task]) -> list[str]:
        """What the checkpoint knows each fit by."""
        if self.checkpoint is None or not tasks:
            return [""] * len(tasks)
        splits = {task.split: digest(task.train, task.test) for task in {task.split: task for task in tasks}.values()}
        if not self.checkpoint.begun:
            self.checkpoint.begin(_identity(tasks, splits), _scores_of(tasks[0]))
        return [digest(task.options["parameters"], splits[task.split]) for task in tasks]

    def _fits(self, tasks: Sequence[Task], on_done: OnDone) -> Iterator[Done]:
        if self._features is None:
            self._features = FeatureCache(pool=bool(tasks) and asks_for_predictions(tasks[0].options["scorer"]))
        plans: dict[int, Plan | str] = {}
        for task in tasks:
            if task.candidate not in plans:
                plans[task.candidate] = plan(task)
        together, ordinary = [], []
        for task in tasks:
            how = plans[task.candidate]
            if isinstance(how, Plan):
                together.append((task, how))
            else:
                ordinary.append((task, how))
        first_chunk = FIRST_CHUNK if self.checkpoint is None else FIRST_CHUNK_KEPT
        for done in train_together(together, self._features, first_chunk=first_chunk, on_done=on_done):
            for task, _ in done:
                _notify(task)
            yield done
        if ordinary:
            self._warn(Counter(reason for _, reason in ordinary))
            yield from self._one_by_one([task for task, _ in ordinary], on_done)

    def _one_by_one(self, tasks: Sequence[Task], on_done: OnDone) -> Iterator[Done]:
        if self._parallel is None:
            self._parallel = self._open.enter_context(Parallel(n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch))
        at_once = self.checkpoint is None and not self.progress
        chunk = ChunkSize(len(tasks) if at_once else FIRST_CHUNK_KEPT * effective_n_jobs(self.n_jobs))
        while tasks:
            start, now, tasks = time.time(), tasks[: chunk.size], tasks[chunk.size :]
            results = self._parallel(task.call for task in now)
            yield list(zip(now, results, strict=True))
            on_done(len(now))
            chunk.learn(len(now), time.time() - start, 0)

    def _warn(self, reasons: Counter[str]) -> None:
        new = {reason: n for reason, n in reasons.items() if reason not in self._warned}
        self._warned.update(new)
        if new:
            listed = "; ".join(f"{reason} ({n} fits)" for reason, n in new.items())
            warnings.warn(f"not trained together, but fitted one by one: {listed}.", BatchFallbackWarning, stacklevel=2)


def _identity(tasks: Sequence[Task], splits: dict[int, str]) -> dict[str, str]:
    """What makes a search another one, by what a person calls it."""
    first, options = tasks[0], tasks[0].options
    candidates = {task.candidate: task.options["parameters"] for task in tasks}
    return {
        "estimator": digest(first.estimator),
        "candidates": digest(list(candidates.values())),
        "X": digest_data(first.X),
        "y": digest(first.y),
        "fit parameters": digest(options["fit_params"], options["score_params"]),
        "splits": digest(list(splits.values())),
        "scoring": digest(options["scorer"], options["return_train_score"], options["error_score"]),
    }


def _scores_of(task: Task) -> dict[str, list[str] | None]:
    """The fields of scores in a result, and the names of the scores in them; None is one score without a name."""
    scorer = task.options["scorer"]
    if isinstance(scorer, _MultimetricScorer):
        names = list(scorer._scorers)
    elif asks_for_predictions(scorer):
        names = None
    else:  # a function of the user's, which may return the one or the other
        return {}
    return {"test_scores": names} | ({"train_scores": names} if task.options["return_train_score"] else {})


def _notify(task: Task) -> None:
    """Tell scikit-learn's callbacks of a fit that it did not do itself."""
    context = task.options.get("callback_ctx")
    if context is not None:
        context.call_on_fit_task_begin(estimator=task.options["caller"])
        context.call_on_fit_task_end(estimator=task.options["caller"])
