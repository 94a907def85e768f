"""Checks of the law by what it was not fitted to, and the backbone that it advises for some labels."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from frofa.study.law.results import LawResult
from frofa.study.law.surface import ErrorSurface, fit_surface, means, places_of

LEVEL = 0.9


class Check(NamedTuple):
    """Deviation of foretold accuracies from measured ones, in points, and the share that the 90 % intervals hold."""

    what: str
    n: int
    rms: float
    bias: float
    coverage: float


class Advice(NamedTuple):
    """The setting that the law expects most of, and the one of the fewest weights that it expects no point less of.

    Settings are backbone and sparsity; accuracies and ends of the interval are from 0 to 1, and the chance is that of
    being the best of those measured.
    """

    shots: int
    best: tuple[str, float]
    accuracy: float
    low: float
    high: float
    chance: float
    small: tuple[str, float]
    small_accuracy: float
    small_kept: int


def checks(results: Sequence[LawResult]) -> list[Check]:
    """Fit without the largest number of shots, and without each sparsity between others, and foretell these."""
    shots, sparsities = sorted({one.shots for one in results}), sorted({one.sparsity for one in results})
    left_out: dict[str, Callable[[LawResult], bool]] = {}
    if len(shots) > 2:
        left_out[f"{shots[-1]} shots from {shots[-2]} and less"] = lambda one: one.shots == shots[-1]
    for sparsity in sparsities[1:-1]:
        left_out[f"sparsity {sparsity:g} from the others"] = partial(_is_of, sparsity)
    return [_check(what, results, choose) for what, choose in left_out.items()]


def _is_of(sparsity: float, one: LawResult) -> bool:
    return one.sparsity == sparsity


def _check(what: str, results: Sequence[LawResult], left_out: Callable[[LawResult], bool]) -> Check:
    surface = fit_surface([one for one in results if not left_out(one)])
    # A backbone that was not fitted at all is foretold as any other of its size.
    cells = {(one.backbone, one.sparsity, one.shots): one for one in results if left_out(one)}
    measured = means([one for one in results if left_out(one)])
    said = [
        surface.predict(
            one.n_kept,
            1 - one.n_kept / one.n_weights,
            one.shots,
            one.backbone if one.backbone in surface.backbones else None,
            LEVEL,
        )
        for one in cells.values()
    ]
    real = np.array([measured[cell] for cell in cells])
    mean, low, high = np.array(said).T
    error = 100 * (mean - real)
    inside = float(((low <= real) & (real <= high)).mean())
    return Check(what, len(real), float(np.sqrt((error**2).mean())), float(error.mean()), inside)


def advice(surface: ErrorSurface, results: Sequence[LawResult], shots: Sequence[int]) -> list[Advice]:
    """Say which of the measured settings is best at each number of shots, by the law."""
    settings = list({one.place: one for one in results}.values())
    places = places_of(settings, surface.backbones)
    names = [(one.backbone, one.sparsity) for one in settings]
    kept = [one.n_kept for one in settings]
    found = []
    for k in shots:
        at = places._replace(shots=np.full(len(settings), float(k)))
        expected, drawn = 1 - surface.error(at), 1 - surface.drawn(at)
        best = int(expected.argmax())
        low, high = np.quantile(drawn[:, best], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        good = np.flatnonzero(expected >= expected[best] - 0.01)
        small = int(min(good, key=lambda i: kept[i]))
        chance = float((drawn.argmax(1) == best).mean())
        best_of = names[best], float(expected[best]), float(low), float(high), chance
        found.append(Advice(k, *best_of, names[small], float(expected[small]), kept[small]))
    return found
