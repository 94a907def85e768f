"""Laws that learning curves follow, as functions of shots, each with a prior of its parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class Law:
    """An error as a function of shots, which falls and never crosses that of guessing.

    Parameters are standard normal a priori: `location` and `scale` (d,) turn them into those that `error` takes, which
    are logarithms and log-odds; `weight` is the law's own probability. ``error(parameters (m, d), shots (J,),
    guessing)`` is of shape (m, J).
    """

    name: str
    location: tuple[float, ...]
    scale: tuple[float, ...]
    weight: float
    error: Callable[[Array, Array, float], Array]

    @property
    def n_parameters(self) -> int:
        """The number d of parameters."""
        return len(self.location)

    def accuracy(self, z: Array, shots: Array, guessing: float) -> Array:
        """Accuracies (m, J) by standardised parameters (m, d) at shots (J,), where guessing errs so often."""
        parameters = np.asarray(self.location) + z * np.asarray(self.scale)
        # Below one shot, which is where most classes have a single image, laws go on beyond guessing, and overflow.
        with np.errstate(over="ignore"):
            found: Array = 1 - np.minimum(self.error(parameters, shots, guessing), guessing)
        return found


def _power(parameters: Array, shots: Array, guessing: float) -> Array:
    """Power law with an asymptote: c + (e_1 - c) n^-b."""
    at_one, slope, floor = parameters.T[..., None]
    first = guessing * expit(at_one)
    c = first * expit(floor)
    error: Array = c + (first - c) * np.exp(-np.exp(slope) * np.log(shots))
    return error


def _piecewise(parameters: Array, shots: Array, guessing: float) -> Array:
    """Piecewise power law: log e is quadratic in log n up to a break, and goes on straight after it."""
    at_one, slope, last_slope, log_break = parameters.T[..., None]
    x = np.log(shots)
    # Slopes b_1 at one shot and b_2 from the break N on: in between they change evenly, which is the quadratic.
    b_1, b_2, n = np.exp(slope), np.exp(last_slope), np.exp(log_break)
    before = np.minimum(x, n)
    fall = b_1 * before - (b_1 - b_2) * before**2 / (2 * n) + b_2 * np.maximum(x - n, 0)
    error: Array = guessing * expit(at_one) * np.exp(-fall)
    return np.minimum(error, guessing)


def _exponential(parameters: Array, shots: Array, guessing: float) -> Array:
    """Exponential law: c + (e_1 - c) exp(-(n - 1) / t)."""
    at_one, log_time, floor = parameters.T[..., None]
    first = guessing * expit(at_one)
    c = first * expit(floor)
    error: Array = c + (first - c) * np.exp(-(shots - 1) / np.exp(log_time))
    return error


POWER = Law("power", (0.5, np.log(0.35), -2.0), (1.5, 0.5, 1.2), 0.45, _power)
PIECEWISE = Law("piecewise power", (0.5, np.log(0.3), np.log(0.2), 0.8), (1.5, 0.6, 0.5, 0.5), 0.45, _piecewise)
EXPONENTIAL = Law("exponential", (0.5, np.log(6.0), 0.0), (1.5, 1.0, 1.0), 0.1, _exponential)
LAWS = (POWER, PIECEWISE, EXPONENTIAL)
"""Power law with an asymptote; piecewise power law (arXiv 2303.01598); exponential.

The priors hold the curves, from 1 to 110 shots, that frozen features of four backbones have on training images of four
image sets, with room to either side. Over this range most curves rule the exponential law out, which has the less
weight: where few shots are known, nothing else would.
"""
