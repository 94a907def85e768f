"""Drawings in light and dark, and pictures in rows with a line or two of text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image

from frofa.utils.drawing import plain, svg_of, whole
from frofa.utils.optional import require

LINES = {
    "light": (
        "#0a62b5",
        "#b45309",
        "#1b7038",
        "#8a3fb0",
        "#b3261e",
        "#00767d",
        "#c2387f",
        "#4d7c0f",
        "#7a5c00",
        "#5c6670",
    ),
    "dark": (
        "#74b7f7",
        "#f0a35e",
        "#74cf8f",
        "#cfa3f0",
        "#ff9a90",
        "#5fd0d6",
        "#f28bbf",
        "#b5cc6a",
        "#e3c766",
        "#a2adb8",
    ),
}
"""Colours of lines and points: the first is the theme's accent; each can be told from the ground it is on."""
GROUNDS = {"light": ("#ffffff", "#1c2228", "#86919c"), "dark": ("#14181c", "#e5e9ed", "#74808c")}
"""Ground, text and lines of axes, as the theme of the pages has them."""
SIDE = 0.92
"""A picture takes so much of the width of its tile."""
TEXT = 8
"""Points of the text of tiles."""
PIXELATED = 64
"""Pixels of the longer side up to which pictures are enlarged as they are."""
FRAMES: Mapping[str, str] = {"good": "#2e9e55", "bad": "#d9483b"}
"""Seen on light and dark grounds; what they say is said in words, too."""


class Tile(NamedTuple):
    """A picture with lines of text below it, and a frame that says what is right: "good" or "bad"."""

    picture: Image.Image | None
    lines: Sequence[str] = ()
    frame: str | None = None


def theme_settings(theme: str) -> dict[str, Any]:
    """Give matplotlib's settings of the pages' theme, "light" or "dark"; use them by ``matplotlib.rc_context``."""
    ground, text, line = GROUNDS[theme]
    texts = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
    settings = dict.fromkeys(texts, text)
    settings |= dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), line)
    settings |= dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor"), ground)
    cycler = require("cycler", "plot").cycler
    sizes = {"font.size": 10, "axes.titlesize": 11, "axes.spines.top": False, "axes.spines.right": False}
    return settings | sizes | {"legend.edgecolor": ground, "axes.prop_cycle": cycler(color=LINES[theme])}


def svg_pair(plot: Callable[[], Any]) -> tuple[str, str]:
    """Draw twice, as SVG for light and for dark pages.

    Parameters
    ----------
    plot : callable
        Such as a display's `plot`: draws, and returns an object with the matplotlib figure as ``figure_``.

    Returns
    -------
    light, dark : str
        SVG with text as text; the same drawing is the same text each time.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from frofa.display import FewShotDisplay
    >>> from frofa.displays.drawing import svg_pair
    >>> display = FewShotDisplay({5: {"ridge": [60.0, 62.0]}})
    >>> light, dark = svg_pair(display.plot)  # doctest: +SKIP
    """
    matplotlib = require("matplotlib", "plot")
    drawn = []
    for theme in ("light", "dark"):
        with matplotlib.rc_context(theme_settings(theme)):
            drawn.append(svg_of(whole(plot().figure_)))
    return drawn[0], drawn[1]


def class_colours(n: int) -> list[Any]:
    """Give n colours: those of the lines, and of more classes, around the circle of hues, at two brightnesses."""
    cycle = require("matplotlib", "plot").rcParams["axes.prop_cycle"].by_key()["color"]
    if n <= len(cycle):
        return list(cycle[:n])
    colours = require("matplotlib.colors", "plot")
    levels = (0.82, 0.6) if sum(colours.to_rgb(shades()[0])) > 1.5 else (0.98, 0.75)
    return [tuple(colours.hsv_to_rgb((i / n, 0.62, levels[i % 2]))) for i in range(n)]


def shades() -> tuple[str, str]:
    """Colours of the ground and of the first line, between which shades lie, in the theme that is set."""
    settings = require("matplotlib", "plot").rcParams
    return settings["axes.facecolor"], settings["axes.prop_cycle"].by_key()["color"][0]


def between(ground: str, full: str) -> Any:
    """Make a colour map of the shades from one colour to another."""
    return require("matplotlib.colors", "plot").LinearSegmentedColormap.from_list("shades", [ground, full])


def draw_tiles(ax: Any, tiles: Sequence[Tile], n_columns: int, *, top: float = 0, height: float = 1) -> None:
    """Draw tiles in rows on axes on which a tile is one unit wide; `height` is that of a row with its text."""
    for i, tile in enumerate(tiles):
        row, column = divmod(i, n_columns)
        _draw_tile(ax, tile, column, top + row * height)


def _draw_tile(ax: Any, tile: Tile, left: float, top: float) -> None:
    if tile.picture is not None:
        # The picture keeps its proportions within the square.
        scale = SIDE / max(tile.picture.size)
        width, height = (scale * length for length in tile.picture.size)
        x, y = left + (1 - width) / 2, top + (SIDE - height) / 2
        extent = (x, x + width, y + height, y)
        # Small pictures are enlarged pixel by pixel, by whoever shows the SVG, too.
        smooth = "nearest" if max(tile.picture.size) <= PIXELATED else "antialiased"
        ax.imshow(tile.picture, extent=extent, interpolation=smooth, aspect="auto")
        if tile.frame:
            rectangle = require("matplotlib.patches", "plot").Rectangle
            ax.add_patch(rectangle((x, y), width, height, fill=False, edgecolor=FRAMES[tile.frame], linewidth=2))
    if tile.lines:
        text = "\n".join(plain(line) for line in tile.lines)
        ax.text(left + 0.5, top + SIDE + 0.03, text, ha="center", va="top", fontsize=TEXT, linespacing=1.2)


def short(name: str, most: int = 22) -> str:
    """Cut a long name, for drawings."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
