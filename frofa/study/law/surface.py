"""The law of error over weights, sparsity and labels (Frantar et al., ICLR 2024), for frozen features of backbones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import expit

from frofa.evaluation import Interval
from frofa.learning_curves.averaging import DRIFT
from frofa.study.law.results import LawResult

Array = npt.NDArray[Any]
NAMES = ("a", "share", "b_S", "b_N", "a_D", "b_D", "c")
CENTRES = np.array([np.log(0.3), 0.0, 0.0, np.log(0.2), np.log(0.4), np.log(0.4), np.log(0.02)])
SCALES = np.array([1.0, 1.5, 2.0, 0.7, 1.0, 0.5, 1.0])
"""Prior of the law's parameters: logarithms, but for the log-odds of `share` and for b_S itself. Where a study has few
backbones or sparsities, what they do not say stays near these centres."""
OF_BACKBONE = 0.4
"""Prior deviation of the logarithm of the factor by which a backbone's errors differ from those of its size."""
N_DRAWS, LEAST_NOISE, SHARPNESS = 100, 0.02, 8.0
"""Bootstrap draws; least relative noise of a point, since no law is exact; how suddenly errors stop at guessing."""


class Places(NamedTuple):
    """Settings that errors are asked for, arrays (m,): non-zero weights, share of zeros, shots, number of the backbone.

    The backbone's number is -1 for one that was not measured.
    """

    kept: Array
    zeros: Array
    shots: Array
    backbone: Array


@dataclass(frozen=True)
class ErrorSurface:
    """Error of a set of images by non-zero weights N, share of zero weights S, and shots D.

    The law is that of sparsely connected foundation models, ``((a_S (1 - S)^b_S + c_S) N^-b_N + (a_D / D)^b_D + c)``,
    times a factor for each backbone, and never more than guessing. It is fitted to mean errors over support samples,
    in logarithms, with Huber's loss; `draws` (N_DRAWS, p) are fits to resampled support samples.

    Parameters
    ----------
    backbones : tuple of str
        Measured, in the order of their factors.
    unit : float
        Weights that N is counted in: the geometric mean.
    guessing : float
        Error of guessing.
    fitted, draws : ndarray of shape (p,) and (N_DRAWS, p)
        Parameters `NAMES`, then the logarithm of each backbone's factor.
    residual : float
        Relative deviation of errors from the law.
    last : int
        The largest number of shots that was measured.
    noise : ndarray of shape (N_DRAWS, 2)
        Standard normal numbers of each draw: how far a backbone that was not measured is from one of its size, and how
        far curves leave the law beyond `last`.
    """

    backbones: tuple[str, ...]
    unit: float
    guessing: float
    fitted: Array
    draws: Array
    residual: float
    last: int
    noise: Array

    def error(self, places: Places) -> Array:
        """Errors (m,) of the fitted law."""
        found: Array = np.exp(log_error(self.fitted, places, self.unit, self.guessing))
        return found

    def drawn(self, places: Places) -> Array:
        """Errors (N_DRAWS, m) of each draw, with its deviation from the law, which differs from place to place."""
        curves = np.stack([log_error(draw, places, self.unit, self.guessing) for draw in self.draws])
        # The deviation of a setting is its own, and the same at all shots.
        kinds = np.unique(np.stack([places.kept, places.backbone]), axis=1, return_inverse=True)[1].reshape(-1)
        deviation = np.random.default_rng(1).standard_normal((len(self.draws), kinds.max() + 1))[:, kinds]
        new = (places.backbone < 0) * OF_BACKBONE * self.noise[:, :1]
        beyond = DRIFT * np.log(np.maximum(places.shots / self.last, 1)) * self.noise[:, 1:]
        errors = np.exp(curves + self.residual * deviation + new + beyond)
        return np.minimum(errors, self.guessing)

    def predict(
        self, n_kept: float, sparsity: float, shots: float, backbone: str | None = None, confidence_level: float = 0.9
    ) -> Interval:
        """Predict accuracy, with its interval.

        Parameters
        ----------
        n_kept : float
            Weights that are not zero.
        sparsity : float
            Share of all weights that are zero, from 0 to below 1.
        shots : float
            Labelled images a class.
        backbone : str, default=None
            One of `backbones`; None is another one of this size, of which the interval is wider.
        confidence_level : float, default=0.9

        Returns
        -------
        Interval
        """
        if backbone is not None and backbone not in self.backbones:
            raise ValueError(f"backbone must be one of {', '.join(self.backbones)}, or None. Got {backbone!r}.")
        number = -1 if backbone is None else self.backbones.index(backbone)
        place = Places(*(np.array([value]) for value in (n_kept, sparsity, shots, number)))
        accuracies = 1 - self.drawn(place)[:, 0]
        tail = (1 - confidence_level) / 2
        low, high = np.quantile(accuracies, [tail, 1 - tail])
        return Interval(float(1 - self.error(place)[0]), float(low), float(high))

    @property
    def parameters(self) -> dict[str, float]:
        """Parameters of the law as the paper has them, N in `unit`."""
        a, share, b_s, b_n, a_d, b_d, c = self.fitted[: len(NAMES)]
        top, rest = np.exp(a) * expit(share), np.exp(a) * expit(-share)
        values = (top, b_s, rest, np.exp(b_n), np.exp(a_d / np.exp(b_d)), np.exp(b_d), np.exp(c))
        return dict(zip(("a_S", "b_S", "c_S", "b_N", "a_D", "b_D", "c"), map(float, values), strict=True))


def log_error(parameters: Array, places: Places, unit: float, guessing: float) -> Array:
    """Logarithms (m,) of the law's errors, which bend to that of guessing."""
    a, share, b_s, b_n, a_d, b_d, c = parameters[: len(NAMES)]
    left = np.log1p(-places.zeros)
    of_weights = np.exp(a - np.exp(b_n) * np.log(places.kept / unit))
    of_sparsity = expit(share) * np.exp(np.clip(b_s * left, -20, 20)) + expit(-share)
    of_labels = np.exp(a_d - np.exp(b_d) * np.log(places.shots))
    # The last factor, 1, is that of a backbone that was not measured, whose number is -1.
    factors = np.append(parameters[len(NAMES) :], 0.0)
    law = np.log(of_weights * of_sparsity + of_labels + np.exp(c)) + factors[places.backbone.astype(int)]
    bent: Array = -np.logaddexp(-SHARPNESS * law, -SHARPNESS * np.log(guessing)) / SHARPNESS
    return bent


def fit_surface(results: Sequence[LawResult], random_state: int = 0) -> ErrorSurface:
    """Fit the law to the results of one set of images, of one backbone at least, at two numbers of shots at least."""
    if len({one.dataset for one in results}) != 1 or len({one.shots for one in results}) < 2:
        raise ValueError("a law takes results of one set of images, at 2 numbers of shots at least. Got others.")
    backbones = tuple(sorted({one.backbone for one in results}))
    cells: dict[tuple[str, float, int], list[LawResult]] = {}
    for one in results:
        cells.setdefault((one.backbone, one.sparsity, one.shots), []).append(one)
    places = places_of([cell[0] for cell in cells.values()], backbones)
    unit = float(np.exp(np.log(places.kept).mean()))
    guessing = 1 - 1 / results[0].n_classes
    # Errors (m, seeds), never none: half an image is wrong at least. Cells that lack seeds repeat those they have.
    n_seeds = max(map(len, cells.values()))
    errors = np.stack([np.resize([1 - one.accuracy for one in cell], n_seeds) for cell in cells.values()])
    errors = np.maximum(errors, 0.5 / results[0].n_test)
    noise = np.log(errors).std(1, ddof=1) / np.sqrt(n_seeds) if n_seeds > 1 else np.full(len(errors), 0.1)
    noise = np.hypot(noise, LEAST_NOISE)

    def fit(seeds: Array, start: Array) -> Array:
        observed = np.log(errors[:, seeds].mean(1))

        def rows(parameters: Array) -> Array:
            gaps: Array = (log_error(parameters, places, unit, guessing) - observed) / noise
            return gaps

        return _least_squares(rows, start, len(backbones))

    rng = np.random.default_rng(random_state)
    start = np.append(CENTRES, np.zeros(len(backbones)))
    fitted = fit(np.arange(n_seeds), start)
    # Support samples are resampled for all settings at once, as they are the same images in all of them.
    draws = np.stack([fit(rng.integers(n_seeds, size=n_seeds), fitted) for _ in range(N_DRAWS)])
    gaps = np.log(errors.mean(1)) - log_error(fitted, places, unit, guessing)
    freedom = max(len(gaps) - len(fitted), 1) / len(gaps)
    residual = float(max(np.sqrt((gaps**2).mean() / max(freedom, 0.25)), LEAST_NOISE))
    last = max(one.shots for one in results)
    return ErrorSurface(backbones, unit, guessing, fitted, draws, residual, last, rng.standard_normal((N_DRAWS, 2)))


def _least_squares(rows: Any, start: Array, n_backbones: int) -> Array:
    """Minimise Huber's loss of the rows, and the squares of what the prior says."""
    centres = np.append(CENTRES, np.zeros(n_backbones))
    scales = np.append(SCALES, np.full(n_backbones, OF_BACKBONE))

    def everything(parameters: Array) -> Array:
        # Huber's loss of a row is the square of this: linear beyond two deviations.
        gaps = rows(parameters)
        robust = np.sqrt(np.where(np.abs(gaps) <= 2, gaps**2, 4 * np.abs(gaps) - 4)) * np.sign(gaps)
        return np.concatenate([robust, (parameters - centres) / scales])

    found: Array = least_squares(everything, start, method="lm", max_nfev=400 * len(start)).x
    return found


def places_of(results: Sequence[LawResult], backbones: Sequence[str]) -> Places:
    """The places of some results."""
    rows = [(one.n_kept, 1 - one.n_kept / one.n_weights, one.shots, backbones.index(one.backbone)) for one in results]
    kept, zeros, shots, number = np.array(rows, float).T
    return Places(kept, zeros, shots, number.astype(int))


def means(results: Sequence[LawResult]) -> Mapping[tuple[str, float, int], float]:
    """Mean accuracy over seeds, by backbone, sparsity and shots."""
    cells: dict[tuple[str, float, int], list[float]] = {}
    for one in results:
        cells.setdefault((one.backbone, one.sparsity, one.shots), []).append(one.accuracy)
    return {cell: float(np.mean(found)) for cell, found in cells.items()}
