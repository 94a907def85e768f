"""scikit-learn's callbacks, which it has from version 1.9 on: what a fit tells them, its tasks and theirs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any, TypeVar

from frofa.utils.progress import progress_mode

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
    from sklearn.callback import ProgressBar
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in for scikit-learn's mixin, before version 1.9: estimators take no callbacks."""

    ProgressBar = None
    _with_callbacks = None

Method = TypeVar("Method", bound=Callable[..., Any])
Attributes = Callable[[], Mapping[str, Any]]
"""Function that makes the fitted attributes that an estimator would have if its fit stopped now."""


def with_callbacks(method: Method) -> Method:
    """Decorate a method that uses `fit_task`: callbacks are torn down when it ends, also by an error."""
    decorated: Method = method if _with_callbacks is None else _with_callbacks(method)
    return decorated


class FitTask:
    """A task of a fit, of which callbacks are told; where `context` is None, nobody listens, and nothing is done.

    `data` are what the task is fitted to: ``X``, ``y`` and ``metadata``, or functions that make them.
    """

    def __init__(self, estimator: Any, context: Any = None, data: Mapping[str, Any] | None = None):
        self.estimator, self.context, self.data = estimator, context, data or {}

    @property
    def is_heard(self) -> bool:
        """Whether a callback listens to this task."""
        return self.context is not None and bool(self.context._callbacks)

    def begin(self) -> None:
        """Tell callbacks that the task begins."""
        if self.is_heard:
            self.context.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end(self, fitted: Attributes | None = None) -> bool:
        """Tell callbacks that the task has ended; return whether one of them asks the fit to stop here."""
        if not self.is_heard:
            return False
        attributes = {} if fitted is None else {"reconstruction_attributes": fitted}
        return bool(self.context.call_on_fit_task_end(estimator=self.estimator, **self.data, **attributes))

    @contextmanager
    def part(self, name: str, n_tasks: int | None = 0) -> "Iterator[FitTask]":
        """Do a part of the task, which has so many parts itself; None, if their number is not known."""
        task = self
        if self.is_heard:
            context = self.context.subcontext(task_name=name, max_subtasks=n_tasks)
            task = FitTask(self.estimator, context, self.data)
            task.begin()
        yield task
        if task is not self:
            task.end()

    def step(self, name: str, fitted: Attributes | None = None) -> bool:
        """Tell of a part that was done just now; return whether a callback asks the fit to stop here."""
        if not self.is_heard:
            return False
        task = FitTask(self.estimator, self.context.subcontext(task_name=name), self.data)
        task.begin()
        return task.end(fitted)

    @contextmanager
    def hand_to(self, estimator: Any, name: str) -> Iterator[None]:
        """Let another estimator be fitted as a part of the task: callbacks that ask for it go on to it."""
        if self.context is None:
            yield
            return
        task = FitTask(self.estimator, self.context.subcontext(task_name=name), self.data)
        with task.context.propagate_callback_context(estimator):
            task.begin()
            yield
            task.end()


class TaskCounter:
    """Tells of the parts of a task, all alike, as far as so much of their common work is done: told once each."""

    def __init__(self, task: FitTask, name: str, n_parts: int, total: int):
        self.task, self.name, self.n_parts, self.total = task, name, n_parts, total
        self.n_done = self.n_told = 0

    def __call__(self, n: int) -> None:
        """Count work that was done just now; less than none takes some back that is to be done again."""
        self.n_done += n
        while self.n_told < self.n_parts and (self.n_told + 1) * self.total <= self.n_done * self.n_parts:
            self.n_told += 1
            self.task.step(self.name)

    def up_to(self, n: int) -> None:
        """Count all work up to here."""
        self(max(0, n - self.n_done))


@contextmanager
def fit_task(
    estimator: Any,
    X: Any = None,
    y: Any = None,
    sample_weight: Any = None,
    *,
    name: str = "fit",
    n_tasks: int | None = 0,
) -> Iterator[FitTask]:
    """Tell callbacks of a fit: that it begins, and that it ended, unless it raises.

    The method that does it is decorated by `with_callbacks`. Where no callback listens, this costs nothing, and where
    scikit-learn shows a bar, those of tqdm are hidden meanwhile. `task_of` gives the task to methods that `fit` calls.
    """
    if not (hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx")):
        yield FitTask(estimator)
        return
    weights = {} if sample_weight is None else {"metadata": {"sample_weight": sample_weight}}
    context = estimator._init_callback_context(task_name=name, max_subtasks=n_tasks)
    task = FitTask(estimator, context, {"X": X, "y": y, **weights})
    estimator._fit_task = task
    try:
        with progress_mode("none") if shows_bar(estimator) else nullcontext():
            task.begin()
            yield task
            # The estimator is fitted: it is what it would be if the fit stopped here.
            task.end(dict)
    finally:
        del estimator._fit_task


def tells_callbacks(fit: Method) -> Method:
    """Decorate a `fit` of X, y and weights that has no parts: callbacks are told that it begins and ends."""

    @wraps(fit)
    def told(estimator: Any, *args: Any, **options: Any) -> Any:
        given = {**dict(zip(("X", "y", "sample_weight"), args, strict=False)), **options}
        with fit_task(estimator, given.get("X"), given.get("y"), given.get("sample_weight")):
            return fit(estimator, *args, **options)

    return with_callbacks(told)  # type: ignore[return-value]  # it takes what `fit` takes


def task_of(estimator: Any) -> FitTask:
    """Give the task of the fit that an estimator is in."""
    task: FitTask = getattr(estimator, "_fit_task", None) or FitTask(estimator)
    return task


def has_callbacks(estimator: Any) -> bool:
    """Tell whether callbacks were set on an estimator."""
    return bool(getattr(estimator, "_skl_callbacks", ()))


def shows_bar(estimator: Any) -> bool:
    """Tell whether scikit-learn shows a progress bar of an estimator's fit."""
    return ProgressBar is not None and any(
        isinstance(one, ProgressBar) for one in getattr(estimator, "_skl_callbacks", [])
    )
