"""Figure of the law: accuracy by shots, and by weights that are left."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from frofa.study.law.results import LawResult
from frofa.study.law.surface import ErrorSurface, Places, means
from frofa.study.reporting.plots import save_figure
from frofa.utils.drawing import new_figure


class Setting(NamedTuple):
    """A backbone, by name and number, at a sparsity, with what was measured: accuracy by shots."""

    backbone: str
    number: int
    sparsity: float
    kept: int
    zeros: float
    points: dict[int, float]


def write_figure(by_set: Mapping[str, Sequence[LawResult]], surfaces: Mapping[str, ErrorSurface], path: Path) -> str:
    """Write a figure of two rows, a column a set; returns its name.

    Above is accuracy by shots, below by the share of weights that are left, at the most shots.
    """
    figure = new_figure(3.6 * len(by_set) + 0.8, 6.6)
    axes = figure.subplots(2, len(by_set), squeeze=False)
    for column, (name, results) in enumerate(by_set.items()):
        _by_shots(axes[0, column], results, surfaces[name])
        _by_sparsity(axes[1, column], results, surfaces[name])
        axes[0, column].set_title(name, fontsize=9)
    axes[0, 0].legend(fontsize=6)
    axes[0, 0].set_ylabel("top-1 on test images, %")
    axes[1, 0].set_ylabel("top-1 at the most shots, %")
    save_figure(figure, path)
    return path.name


def _settings(results: Sequence[LawResult], surface: ErrorSurface) -> Iterator[Setting]:
    measured = means(results)
    for one in sorted({one.place: one for one in results}.values(), key=lambda one: one.place):
        points = {k: a for (b, s, k), a in measured.items() if (b, s) == (one.backbone, one.sparsity)}
        number = surface.backbones.index(one.backbone)
        zeros = 1 - one.n_kept / one.n_weights
        yield Setting(one.backbone, number, one.sparsity, one.n_kept, zeros, dict(sorted(points.items())))


def _by_shots(ax: Any, results: Sequence[LawResult], surface: ErrorSurface) -> None:
    shots = np.geomspace(1, 4 * max(one.shots for one in results), 60)
    for one in _settings(results, surface):
        colour, style, label = f"C{one.number}", ":" if one.sparsity else "-", None if one.sparsity else one.backbone
        places = Places(np.full(60, one.kept), np.full(60, one.zeros), shots, np.full(60, one.number))
        ax.plot(shots, 100 * (1 - surface.error(places)), style, color=colour, label=label, linewidth=1)
        ax.plot(list(one.points), [100 * a for a in one.points.values()], "o", color=colour, markersize=3)
    ax.set(xscale="log", xlabel="shots; dotted: pruned")
    ax.grid(alpha=0.3)


def _by_sparsity(ax: Any, results: Sequence[LawResult], surface: ErrorSurface) -> None:
    most = max(one.shots for one in results)
    found = list(_settings(results, surface))
    for number in sorted({one.number for one in found}):
        own = [one for one in found if one.number == number]
        n_weights = own[0].kept / (1 - own[0].zeros)
        zeros = np.linspace(0, max(one.zeros for one in own), 60)
        places = Places(n_weights * (1 - zeros), zeros, np.full(60, most), np.full(60, number))
        if len(own) > 1:
            ax.plot(zeros, 100 * (1 - surface.error(places)), color=f"C{number}", linewidth=1)
        heights = [100 * one.points[most] if most in one.points else np.nan for one in own]
        ax.plot([one.zeros for one in own], heights, "o", color=f"C{number}", markersize=3)
    ax.set(xlabel="share of weights that are zero")
    ax.grid(alpha=0.3)
