"""Figures of a comparison of heads."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from frofa.study.reporting.answers import in_shots
from frofa.study.reporting.heads.bar import best_default
from frofa.study.reporting.heads.methods import BLEND, FEW_SHOT, ORACLES, TUNED, Cells, Method, each_cell, gains
from frofa.study.reporting.summary import average, by_cell, compare
from frofa.study.results import StudyResult
from frofa.utils.drawing import new_figure


class HeadsDisplay:
    """A figure of a comparison of heads.

    Its `figure_` is matplotlib's, once drawn, and None where the study has nothing to draw.
    """

    def __init__(self, results: Iterable[StudyResult]):
        self.cells = by_cell(row for row in results if row.features)
        self.backbones = sorted({cell.backbone for cell in self.cells})
        self.shots = sorted({cell.shots for cell in self.cells})
        self.figure_: Any = None

    def plot_accuracy(self) -> "HeadsDisplay":
        """Draw the mean over sets by shots, a panel a backbone, of the heads and of what they are compared with."""
        default = best_default(self.cells)
        compared = [default, TUNED["pooled"], ORACLES["auto, 6 views"], FEW_SHOT, BLEND]
        methods = [method for method in compared if method and each_cell(self.cells, method, lambda s: s.test)]
        if not methods:
            return self
        self.figure_ = new_figure(3.4 * len(self.backbones) + 0.6, 3.8)
        axes = self.figure_.subplots(1, len(self.backbones), squeeze=False, sharey=True)[0]
        for ax, backbone in zip(axes, self.backbones, strict=True):
            part = {cell: scores for cell, scores in self.cells.items() if cell.backbone == backbone}
            for number, method in enumerate(methods):
                means = [self._mean(part, method, k) for k in self.shots]
                style = "--" if method.choice == "oracle" else "-"
                ax.plot(range(len(self.shots)), means, f"o{style}", label=method.name, color=f"C{number}", markersize=3)
            ax.set_xticks(range(len(self.shots)), list(map(str, self.shots)))
            ax.set_title(backbone, fontsize=9)
            ax.grid(axis="y", alpha=0.3)
        axes[0].legend(fontsize=7)
        self.figure_.supxlabel("shots (labelled images a class)")
        self.figure_.supylabel("top-1 on test images, %")
        return self

    def plot_oracle(self) -> "HeadsDisplay":
        """Draw how far the head that needs no tuning is from the oracle, each set with its interval, a panel a shot."""
        found = gains(self.cells, FEW_SHOT, ORACLES["auto, 6 views"])
        if not found:
            return self
        sets = sorted({cell.dataset for cell in found})
        self.figure_ = new_figure(1.9 * len(self.shots) + 1.6, 0.5 * len(sets) + 1.6)
        axes = self.figure_.subplots(1, len(self.shots), squeeze=False, sharey=True, sharex=True)[0]
        for ax, k in zip(axes, self.shots, strict=True):
            for colour, backbone in enumerate(self.backbones):
                here = {cell.dataset: compare([found[cell]]) for cell in found if cell[1:] == (backbone, k)}
                places = [sets.index(name) + 0.15 * (colour - 1.5) for name in here]
                intervals = [change.interval for change in here.values() if change]
                ax.errorbar(
                    [interval.mean for interval in intervals],
                    places,
                    xerr=[np.nan_to_num(interval.half_width, posinf=0) for interval in intervals],
                    fmt="o",
                    markersize=3,
                    capsize=2,
                    color=f"C{colour}",
                    label=backbone,
                )
            ax.axvline(0, color="black", linewidth=0.8)
            ax.set_title(in_shots(k), fontsize=9)
            ax.grid(axis="x", alpha=0.3)
        axes[0].set_yticks(range(len(sets)), sets, fontsize=8)
        self.figure_.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=7)
        self.figure_.supxlabel(f"{FEW_SHOT.name} less the best probe by test accuracy, points")
        return self

    @staticmethod
    def _mean(cells: Cells, method: Method, shots: int) -> float:
        found = each_cell(cells, method, lambda scores: scores.test)
        by_seed = average([values for cell, values in found.items() if cell.shots == shots])
        return float(np.mean(list(by_seed.values()))) if by_seed else float("nan")
