"""Figures of a study, in the style of `frofa.display`: results in, matplotlib only when drawn."""

from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from frofa.images.reading import open_image
from frofa.study.reporting.answers import in_shots
from frofa.study.reporting.heads.plots import HeadsDisplay
from frofa.study.reporting.levels import pooled_levels
from frofa.study.reporting.summary import (
    METHODS,
    ByShots,
    Change,
    augmentation_names,
    by_backbone,
    by_cell,
    of_augmentation,
    pooled_by_shots,
)
from frofa.study.results import VARIANTS, StudyResult
from frofa.utils.drawing import new_figure
from frofa.utils.files import write_atomically

DRAWN = ("best FroFA", "best probe")
"""The methods whose gain over MAP^wd is drawn by shots."""


class StudyDisplay:
    """A figure of the changes in accuracy that a study has found, pooled over the sets of each backbone.

    Its `figure_` is matplotlib's, once drawn, and None where the study has nothing to draw.
    """

    def __init__(self, results: Iterable[StudyResult]):
        self.backbones = by_backbone(by_cell(row for row in results if not row.features))
        self.figure_: Any = None

    def plot_changes(self) -> "StudyDisplay":
        """Draw a heat map of augmentations x shots, a panel a backbone: change against MAP default."""
        drawn = {backbone: rows for backbone, by_shots in self.backbones.items() if (rows := _changes(by_shots))}
        if not drawn:
            return self._nothing()
        n_rows, n_columns = max(map(len, drawn.values())), max(len(self.backbones[backbone]) for backbone in drawn)
        axes = self._panels(1, len(drawn), 3.2 + 0.5 * n_columns, max(3, 1 + 0.24 * n_rows))
        found = [change for rows in drawn.values() for row in rows.values() for change in row.values()]
        # One scale for all panels, symmetric, so that white is no change.
        limit = max(abs(change.interval.mean) for change in found)
        for ax, (backbone, rows) in zip(axes[0], drawn.items(), strict=True):
            image = _draw_heat_map(ax, rows, list(self.backbones[backbone]), max(limit, 0.1))
            ax.set_title(backbone)
        self.figure_.supxlabel("shots (labelled images a class)")
        self.figure_.colorbar(image, ax=list(axes[0]), label="change against MAP default, points", shrink=0.6)
        return self

    def plot_brightness(self) -> "StudyDisplay":
        """Draw the change against level 0 by level and variant of brightness: backbones x shots."""
        curves = {
            (backbone, shots): {v: points for v in VARIANTS if (points := pooled_levels(sets, "brightness", v))}
            for backbone, by_shots in self.backbones.items()
            for shots, sets in by_shots.items()
        }
        drawn = {place: lines for place, lines in curves.items() if lines}
        if not drawn:
            return self._nothing()
        backbones, shots = sorted({b for b, _ in drawn}), sorted({k for _, k in drawn})
        axes = self._panels(len(backbones), len(shots), 2.8, 2.6, sharex=True)
        for (backbone, k), lines in drawn.items():
            ax = axes[backbones.index(backbone)][shots.index(k)]
            # Lines are shifted a little against each other, so that their intervals do not overlap.
            for variant, points in lines.items():
                colour = VARIANTS.index(variant)
                _draw_line(ax, [p.level + 0.01 * colour for p in points], [p.change for p in points], variant, colour)
            _finish(ax, f"{backbone}, {in_shots(k)}")
        return self._label("level of brightness", "change against level 0, points")

    def plot_gains(self) -> "StudyDisplay":
        """Draw what the best augmentation and the best probe gain over MAP^wd by shots, a panel a backbone."""
        drawn = {backbone: lines for backbone, by_shots in self.backbones.items() if (lines := _gains(by_shots))}
        if not drawn:
            return self._nothing()
        axes = self._panels(1, len(drawn), 4.2, 3.4, sharey=True)
        for ax, (backbone, lines) in zip(axes[0], drawn.items(), strict=True):
            shots = list(self.backbones[backbone])
            for name, line in lines.items():
                colour = DRAWN.index(name)
                _draw_line(ax, [shots.index(k) + 0.08 * colour for k in line], list(line.values()), name, colour)
            ax.set_xticks(range(len(shots)), list(map(str, shots)))
            _finish(ax, backbone)
        return self._label("shots (labelled images a class)", "gain over MAP^wd, points")

    def _panels(self, rows: int, columns: int, width: float, height: float, **options: bool) -> Any:
        self.figure_ = new_figure(width * columns + 1, height * rows + 0.4)
        return self.figure_.subplots(rows, columns, squeeze=False, **options)

    def _label(self, x: str, y: str) -> "StudyDisplay":
        self.figure_.supxlabel(x)
        self.figure_.supylabel(y)
        # One legend for all panels, in the first that has something to show: lines of one label look alike everywhere.
        panels = [ax for ax in self.figure_.axes if ax.has_data()]
        lines = {label: line for ax in panels for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        panels[0].legend(lines.values(), lines.keys(), fontsize=8)
        return self

    def _nothing(self) -> "StudyDisplay":
        self.figure_ = None
        return self


def write_figures(results: Iterable[StudyResult], directory: Path) -> list[Path]:
    """Write the figures that the study has results for.

    Of heads, these are ``accuracy.png`` and ``oracle.png``; of augmentations, ``changes.png``, ``brightness.png`` and
    ``gains.png``. Returns the paths of those that were written; raises ImportError if matplotlib is not installed.
    """
    results = list(results)
    display, heads = StudyDisplay(results), HeadsDisplay(results)
    plots: dict[str, Callable[[], StudyDisplay | HeadsDisplay]] = {
        "accuracy": heads.plot_accuracy,
        "oracle": heads.plot_oracle,
        "changes": display.plot_changes,
        "brightness": display.plot_brightness,
        "gains": display.plot_gains,
    }
    paths = []
    for name, plot in plots.items():
        figure = plot().figure_
        if figure is not None:
            paths.append(directory / f"{name}.png")
            save_figure(figure, paths[-1])
    return paths


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure of at most 1,600 pixels' width as PNG with a palette, which keeps it small."""
    # Drawn in memory first: savefig has no palettes, and the file is to appear whole.
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=min(100, 1600 / figure.get_figwidth()))
    image = open_image(buffer.getvalue()).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    write_atomically(path, lambda file: image.save(file, "png", optimize=True))


def _changes(by_shots: ByShots) -> dict[str, dict[int, Change]]:
    """Changes against MAP default, by augmentation and shots; augmentations without any are left out."""
    rows = {
        name: pooled_by_shots(by_shots, of_augmentation(name), METHODS["MAP default"])
        for name in augmentation_names(by_shots)
    }
    return {name: row for name, row in rows.items() if row}


def _gains(by_shots: ByShots) -> dict[str, dict[int, Change]]:
    """Changes of the drawn methods against MAP^wd, by method and shots; methods without any are left out."""
    lines = {name: pooled_by_shots(by_shots, METHODS[name], METHODS["MAP^wd"]) for name in DRAWN}
    return {name: line for name, line in lines.items() if line}


def _draw_heat_map(ax: Any, rows: Mapping[str, Mapping[int, Change]], shots: list[int], limit: float) -> Any:
    means = [[row[k].interval.mean if k in row else np.nan for k in shots] for row in rows.values()]
    image = ax.imshow(means, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for i, row in enumerate(means):
        for j, mean in enumerate(row):
            if np.isfinite(mean):
                colour = "white" if abs(mean) > 0.6 * limit else "black"
                text = f"{round(mean, 1) + 0.0:+.1f}"
                ax.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
    ax.set_xticks(range(len(shots)), list(map(str, shots)))
    ax.set_yticks(range(len(rows)), list(rows), fontsize=8)
    return image


def _draw_line(ax: Any, x: list[float], changes: list[Change], label: str, colour: int) -> None:
    intervals = [change.interval for change in changes]
    # A single seed has an infinite interval, which is drawn as none.
    half_widths = [np.nan_to_num(interval.half_width, posinf=0) for interval in intervals]
    means = [interval.mean for interval in intervals]
    style = {"fmt": "o-", "markersize": 3, "capsize": 2, "color": f"C{colour}"}
    ax.errorbar(x, means, yerr=half_widths, label=label, **style)


def _finish(ax: Any, title: str) -> None:
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_title(title, fontsize=9)
    ax.grid(axis="y", alpha=0.3)
