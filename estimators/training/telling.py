"""Steps of a head's training, as scikit-learn's callbacks are told of them."""

from collections.abc import Callable, Mapping
from typing import Any

from frofa.estimators.training.plan import Trained
from frofa.utils.callbacks import FitTask


class StepTeller:
    """Tells callbacks of each step of a head once, also where training begins again, as where memory ran out.

    `attributes` makes the fitted attributes of a head of what was trained.
    """

    def __init__(self, task: FitTask, attributes: Callable[[Trained], Mapping[str, Any]]):
        self.task, self.attributes = task, attributes
        self.n_told = 0
        self.error: Exception | None = None

    def __call__(self, step: int, reached: Callable[[], Trained]) -> bool:
        """Tell of a step; return whether training is to stop here."""
        if self.error is not None:
            raise self.error
        if step <= self.n_told:
            return False
        self.n_told = step
        try:
            return self.task.step("step", lambda: self.attributes(reached()))
        except Exception as error:
            self.error = error  # in a callback: to begin training again would not help
            raise
