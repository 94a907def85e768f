"""Knowledge of images, learnt while they are labelled; nothing here needs PyTorch."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Guess(NamedTuple):
    """The likeliest class of an image, and its probability."""

    label: str
    probability: float


class Group(NamedTuple):
    """Images (positions) that lie together, with the class that they are guessed to be, None where none is known."""

    label: str | None
    positions: tuple[int, ...]


class Mistake(NamedTuple):
    """A label that may be wrong: of which image, what it may be instead, and how likely it is wrong."""

    position: int
    given: str
    suggested: str
    probability: float


class Needed(NamedTuple):
    """Number of further labels that a target takes, None where that cannot be said, and a sentence about it.

    It belongs to the first `version` rows of a record, and to the accuracy on `n` labelled images. No target is left
    where `target` is None.
    """

    text: str
    n_more: int | None
    target: float | None
    version: int
    n: int


class Measured(NamedTuple):
    """Accuracy by the `n` labelled images, each left out, and weighted to be like all images; with an interval."""

    accuracy: float
    low: float
    high: float
    n: int


def _no_positions() -> npt.NDArray[np.intp]:
    return np.empty(0, np.intp)


@dataclass(frozen=True, eq=False)
class Knowledge:
    """Knowledge after the first `version` rows of a record; parts that take longer may be those of an earlier one.

    `guesses` (n,) are numbers of `classes`, -1 where there is none, with `probabilities` (n,); `order` has positions of
    images to label next, the most useful first.
    """

    version: int
    classes: tuple[str, ...] = ()
    guesses: npt.NDArray[np.intp] | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    measured: Measured | None = None
    order: npt.NDArray[np.intp] = field(default_factory=_no_positions)
    groups: tuple[Group, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    needed: Needed | None = None
    seconds: float = 0.0

    def guess(self, position: int) -> Guess | None:
        """The likeliest class of an image, where there is one."""
        if self.guesses is None or self.probabilities is None or self.guesses[position] < 0:
            return None
        return Guess(self.classes[self.guesses[position]], float(self.probabilities[position]))
