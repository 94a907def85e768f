"""Plots of results, in scikit-learn's Display style: data in, matplotlib only when drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from frofa.evaluation import mean_interval
from frofa.utils.drawing import RichDisplay, ink, new_figure

__all__ = ["FewShotDisplay", "new_figure"]


class FewShotDisplay(RichDisplay):
    """Accuracy of several heads by shots, with intervals over seeds.

    Parameters
    ----------
    accuracies : mapping of int to mapping of str to sequence of float
        By shots, then by the head's name: top-1 accuracy in percent, one a seed.

    Attributes
    ----------
    ax_, figure_
        Matplotlib's, once drawn.

    Examples
    --------
    >>> from frofa.display import FewShotDisplay
    >>> display = FewShotDisplay({5: {"ridge": [60.0, 62.0], "MAP": [58.0, 63.0]}}).plot()  # doctest: +SKIP
    >>> display.figure_.savefig("accuracy.png")  # doctest: +SKIP
    """

    def __init__(self, accuracies: Mapping[int, Mapping[str, Sequence[float]]]):
        self.accuracies = accuracies

    def plot(self, ax: Any = None, *, against: str | None = None) -> "FewShotDisplay":
        """Draw means and 95 % intervals, one colour a head.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure of its own.
        against : str, default=None
            A head. Drawn is then, of each of the others, the difference to it, paired by seed: what the seeds have in
            common falls out, and intervals are narrower than those of the accuracies.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no head of the name `against`.
        """
        if ax is None:
            ax = new_figure(7, 4.2).add_subplot()
        self.ax_, self.figure_ = ax, ax.figure
        shots = sorted(self.accuracies)
        names = list(self.accuracies[shots[0]])
        if against is not None and against not in names:
            raise ValueError(f"expected one of the heads {', '.join(names)}. Got {against!r}.")
        for index, name in enumerate(names):
            # Drawn empty where it would be compared with itself, so that all keep their colours and places.
            intervals = [] if name == against else [mean_interval(self._values(k, name, against)) for k in shots]
            # Heads stand side by side around each number of shots, so that their intervals can be told apart.
            offset = (index - (len(names) - 1) / 2) * 0.12
            ax.errorbar(
                np.arange(len(intervals)) + offset,
                [interval.mean for interval in intervals],
                yerr=[np.nan_to_num(interval.half_width, posinf=0) for interval in intervals],
                fmt="o",
                capsize=3,
                label=name,
            )
        ax.set_xticks(np.arange(len(shots)), [str(k) for k in shots])
        quantity = "top-1 accuracy, %" if against is None else f"difference to {against}, points"
        ax.set(xlabel="shots (labelled images a class); bars are 95 % intervals over seeds", ylabel=quantity)
        ax.margins(x=0.1)
        ax.grid(axis="y", alpha=0.3)
        if against is not None:
            ax.axhline(0, color=ink(), linewidth=0.8)
        ax.legend()
        return self

    def describe(self) -> str:
        """Say which accuracies are shown."""
        shots = sorted(self.accuracies)
        means = {k: {name: float(np.mean(values)) for name, values in self.accuracies[k].items()} for k in shots}
        leads = "; ".join(f"{k} shots: {max(found, key=lambda one: found[one])} leads" for k, found in means.items())
        return f"Top-1 accuracy of heads by shots. {leads}."

    def _values(self, shots: int, name: str, against: str | None) -> Any:
        """Accuracies of a head, or its differences to another, one a seed."""
        found = self.accuracies[shots]
        return found[name] if against is None else np.subtract(found[name], found[against])
