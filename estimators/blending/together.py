"""Blends whose token heads are trained together: of one classifier, or of many on the same features."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from frofa.estimators.batched.jobs import Fitted, Job, fit_many
from frofa.estimators.batched.sharing import check_jobs
from frofa.estimators.blending.joining import Fits, Steps, Wanted
from frofa.estimators.blending.members import tokens_of
from frofa.estimators.core.support import Support

T = TypeVar("T")


def drive(steps: Steps[T], train: Callable[[Wanted], Fits]) -> T:
    """Go through steps to their result, and train what they want on the way."""
    try:
        wanted = next(steps)
        while True:
            wanted = steps.send(train(wanted))
    except StopIteration as end:
        result: T = end.value
        return result


def fit_together(
    X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any, on_done: Callable[[int], object]
) -> list[Fitted]:
    """Fit blends as `fit_many` does, all of their token heads at a time; those that weigh samples go alone."""
    results: dict[int, Fitted] = {}
    running: dict[int, tuple[Any, Support, Steps[Any]]] = {}
    wanted: dict[int, Wanted] = {}

    def advance(i: int, found: Fits | None) -> None:
        """Take a blend to what it wants next, or to its end."""
        head, support, steps = running[i]
        try:
            wanted[i] = next(steps) if found is None else steps.send(found)
        except StopIteration as end:
            results[i] = _finished(head, support, end.value)
        except Exception as error:
            results[i] = error
        if i in results:
            del running[i]
            on_done(1)

    for i, checked in enumerate(check_jobs(X, y, jobs, sample_weight)):
        if isinstance(checked, Exception):
            results[i] = checked
            on_done(1)
            continue
        head: Any = checked[0]
        running[i] = head, checked[1], head._fitting(checked[1])
        advance(i, None)
    while running:
        fits = _train(X, y, {i: (jobs[i], running[i][1], wanted[i]) for i in running})
        for i, found in fits.items():
            advance(i, found)
    return [results[i] for i in range(len(jobs))]


def _finished(head: Any, support: Support, left_out: Any) -> Fitted:
    try:
        head._finish(support, left_out)
    except Exception as error:
        return error
    fitted: Fitted = head
    return fitted


def _train(X: Any, y: Any, wanted: dict[int, tuple[Job, Support, Wanted]]) -> dict[int, Fits]:
    """Train what several blends want: together, except for those with weights, which are each blend's own."""
    tokens, labels = tokens_of(X, "FewShotClassifier"), np.asarray(y)
    alike = [i for i, (_, support, _) in wanted.items() if (support.weights == 1).all()]
    fits = {}
    for group in [alike, *([i] for i in wanted if i not in alike)]:
        parts = [(i, name, part) for i in group for name in wanted[i][2].heads for part in wanted[i][2].parts]
        weights = None
        if group is not alike:
            job, support, _ = wanted[group[0]]
            weights = np.zeros(len(labels))
            weights[job.rows] = support.weights
        trained = fit_many(
            tokens,
            labels,
            [Job(wanted[i][2].heads[name], wanted[i][0].rows[part]) for i, name, part in parts],
            sample_weight=weights,
        )
        for i in group:
            fits[i] = {name: list[Fitted]() for name in wanted[i][2].heads}
        for (i, name, _), one in zip(parts, trained, strict=True):
            fits[i][name].append(one)
    return fits
