"""Figures with captions made of their parameters, and questions about them in the format of SciFIBench.

`draw_pairs` draws plots of twelve categories and fourteen kinds; `write_questions` writes them as the published files
are: parquet shards with the columns ID, Question, Options, Answer, Category and Images. What a caption says of a figure
can be seen in it, but for the subject, whose words are those of its category.
"""

import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

CATEGORIES = {
    "cs.AI": ("reward", "plan length", "nodes expanded"),
    "cs.CL": ("BLEU", "perplexity", "word frequency"),
    "cs.CR": ("attack rate", "key length", "leakage"),
    "cs.CV": ("precision", "recall", "IoU"),
    "cs.DC": ("speedup", "latency", "throughput"),
    "cs.IT": ("bit error rate", "capacity", "SNR"),
    "cs.LG": ("loss", "accuracy", "gradient norm"),
    "cs.NE": ("fitness", "spikes", "population"),
    "cs.NI": ("packet loss", "delay", "jitter"),
    "cs.RO": ("joint angle", "torque", "drift"),
    "cs.SI": ("degree", "clustering", "retweets"),
    "other cs": ("energy", "cost", "run time"),
}
COLOURS = ("blue", "red", "green", "orange", "purple", "black", "brown", "pink")
TRENDS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "rising": lambda x: x,
    "falling": lambda x: 1 - x,
    "peaked": lambda x: np.exp(-(((x - 0.5) / 0.15) ** 2)),
    "periodic": lambda x: 0.5 + 0.45 * np.sin(4 * np.pi * x),
    "saturating": lambda x: 1 - np.exp(-6 * x),
    "flat": lambda x: np.full_like(x, 0.5),
}
PROMPTS = {"Figure2Caption": "Which caption best matches the image?", "Caption2Figure": "Which image best matches the"}


class Pair(NamedTuple):
    """A figure, encoded as PNG, with its caption and category."""

    category: str
    caption: str
    png: bytes


class Parameters(NamedTuple):
    """What a figure shows, and its caption says."""

    kind: str
    colour: str
    trend: str
    series: int
    subject: str


def _line(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.plot(x, y, color=colour, linewidth=2)


def _dashed(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.plot(x, y, "--", color=colour, linewidth=2)


def _scatter(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.scatter(x, y, color=colour, s=14)


def _bar(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.bar(x[::3], y[::3], width=0.08, color=colour)


def _barh(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.barh(x[::3], y[::3], height=0.08, color=colour)


def _step(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.step(x[::3], y[::3], color=colour, linewidth=2)


def _stem(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.vlines(x[::2], 0, y[::2], color=colour)
    axes.scatter(x[::2], y[::2], color=colour, s=18)


def _area(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.fill_between(x, 0, y, color=colour, alpha=0.7)


def _error_bars(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.errorbar(x[::3], y[::3], yerr=0.12, color=colour, capsize=3)


def _band(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.plot(x, y, color=colour)
    axes.fill_between(x, y - 0.15, y + 0.15, color=colour, alpha=0.3)


def _box(axes: Any, x: Any, y: Any, colour: str) -> None:
    boxes = [level + np.linspace(-0.2, 0.2, 9) for level in y[::6]]
    style = {"facecolor": colour}
    axes.boxplot(boxes, positions=x[::6], widths=0.12, patch_artist=True, boxprops=style, manage_ticks=False)


def _heat_map(axes: Any, x: Any, y: Any, colour: str) -> None:
    shades = {"blue": "Blues", "red": "Reds", "green": "Greens", "orange": "Oranges", "purple": "Purples"}
    axes.imshow(np.outer(y, x), cmap=shades.get(colour, "Greys"), origin="lower", extent=(0, 1, 0, 1), aspect="auto")


def _contours(axes: Any, x: Any, y: Any, colour: str) -> None:
    axes.contour(x, x, y[:, None] + x[None] ** 2, colors=colour, levels=6)


def _pie(axes: Any, x: Any, y: Any, colour: str) -> None:
    grey = [colour, "lightgrey", "silver", "darkgrey", "gainsboro"]
    axes.pie(0.1 + y[::5] + 0 * x[::5], colors=grey, radius=1.2)


KINDS: dict[str, tuple[Callable[[Any, Any, Any, str], None], int]] = {
    "line plot": (_line, 3),
    "dashed line": (_dashed, 3),
    "scatter plot": (_scatter, 3),
    "bar chart": (_bar, 1),
    "horizontal bars": (_barh, 1),
    "step plot": (_step, 3),
    "stem plot": (_stem, 1),
    "area plot": (_area, 1),
    "error bars": (_error_bars, 3),
    "confidence band": (_band, 2),
    "box plot": (_box, 1),
    "heat map": (_heat_map, 1),
    "contour plot": (_contours, 1),
    "pie chart": (_pie, 1),
}
"""How each kind is drawn, and how many series it may have."""


@cache
def draw_pairs(n: int, seed: int = 0) -> tuple[Pair, ...]:
    """Draw figures whose captions all differ, of each category in turn; a process draws them once."""
    rng = np.random.default_rng(seed)
    found: dict[str, Pair] = {}
    names = [*CATEGORIES]
    while len(found) < n:
        category = names[len(found) % len(names)]
        what = draw_parameters(rng, category)
        caption = caption_of(what)
        if caption not in found:
            found[caption] = Pair(category, caption, draw(what, rng))
    return tuple(found.values())


def draw_parameters(rng: np.random.Generator, category: str) -> Parameters:
    """Draw at random what a figure shows."""
    kind, colour = str(rng.choice([*KINDS])), str(rng.choice(COLOURS))
    series = int(rng.integers(1, KINDS[kind][1] + 1))
    return Parameters(kind, colour, str(rng.choice([*TRENDS])), series, str(rng.choice(CATEGORIES[category])))


def caption_of(what: Parameters) -> str:
    """Say what a figure shows, the subject last: short towers read 64 bytes."""
    many = "" if what.series == 1 else f" with {what.series} curves"
    return f"{what.colour} {what.kind}{many}, {what.trend}, of {what.subject}"


def draw(what: Parameters, rng: np.random.Generator) -> bytes:
    """Draw a figure of 160 x 160 pixels; noise, range and size of the axes vary."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 2), dpi=80)
    FigureCanvasAgg(figure)
    left, bottom = rng.uniform(0.12, 0.2, 2)
    axes = figure.add_axes((left, bottom, 0.95 - left, 0.93 - bottom))
    x = np.linspace(0, 1, 25)
    for number in range(what.series):
        # Further series are the same curve, lower, in grey tones of their own.
        y = TRENDS[what.trend](x) * (1 - 0.3 * number) + rng.normal(0, 0.02, x.shape)
        KINDS[what.kind][0](axes, x, np.clip(y, 0.02, None), what.colour if number == 0 else str(0.3 + 0.25 * number))
    axes.tick_params(labelsize=6)
    axes.set_ylabel(what.subject, fontsize=6)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def write_questions(
    file: Path, task: str, pairs: Sequence[Pair], rows: Sequence[int], negatives: npt.NDArray[Any], seed: int = 0
) -> None:
    """Write questions about the pairs in `rows`, with `negatives` (n, 4) of each pair, as a parquet shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    table = []
    for number, row in enumerate(rows):
        order = rng.permutation(5)
        choices = [pairs[place] for place in np.array([row, *negatives[row]])[order]]
        letter = "ABCDE"[int(np.flatnonzero(order == 0)[0])]
        table.append({"ID": number, **_question(task, pairs[row], choices), "Answer": letter})
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = [("ID", pa.int64()), ("Question", pa.string()), ("Options", pa.list_(pa.string()))]
    columns += [("Answer", pa.string()), ("Category", pa.string()), ("Images", pa.list_(image))]
    pq.write_table(pa.Table.from_pylist(table, pa.schema(columns)), file)


def _question(task: str, pair: Pair, choices: Sequence[Pair]) -> dict[str, Any]:
    shown: Sequence[Pair] = [pair]
    if task == "Figure2Caption":
        question, texts = PROMPTS[task], [choice.caption for choice in choices]
    else:
        question, shown = f"Caption: {pair.caption} {PROMPTS[task]} caption?", choices
        texts = [f"image{place}" for place in range(len(choices))]
    options = [f"{letter}) {text}" for letter, text in zip("ABCDE", texts, strict=True)]
    images = [{"bytes": one.png, "path": None} for one in shown]
    return {"Question": question, "Options": options, "Category": pair.category, "Images": images}
