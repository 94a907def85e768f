"""Drawings by matplotlib, imported when there is something to draw: figures, SVG, and displays in notebooks."""

import base64
import html
import io
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from frofa.utils.optional import require

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif"
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff\u2028\u2029]")
AS_TEXT: Mapping[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "frofa"}
"""Settings by which SVG has text as text, and the same bytes each time."""


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure in inches that needs no screen and leaves no global state, as pyplot's would."""
    return require("matplotlib.figure", "plot").Figure(figsize=(width, height), layout="constrained")


def whole(figure: Any) -> Any:
    """Give the figure that a sub-figure is a part of, or the figure itself."""
    return figure if hasattr(figure, "savefig") else figure.figure


def ink() -> str:
    """The colour of text, for lines that are to be seen on light and dark grounds alike."""
    return str(require("matplotlib", "plot").rcParams["text.color"])


def plain(text: object) -> str:
    r"""Keep text from being taken for mathematics, or for anything that SVG cannot hold.

    Examples
    --------
    >>> from frofa.utils.drawing import plain
    >>> plain("$x^2$"), plain("a\nb\udce9") == "a b\ufffd"
    ('\\$x^2\\$', True)
    """
    return _UNPRINTABLE.sub(" ", _SURROGATE.sub("\ufffd", str(text))).replace("$", r"\$")


def svg_of(figure: Any) -> str:
    """Write a figure as SVG with text as text in the reader's own font, the same bytes each time."""
    written = io.StringIO()
    with require("matplotlib", "plot").rc_context(AS_TEXT), warnings.catch_warnings():
        # The reader's fonts have more than matplotlib's, by which it measures.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    # From the prologue, which pages do not want, on; fonts are those of the page around.
    text = written.getvalue()
    return re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", FONTS, text[text.index("<svg") :])


class RichDisplay(ABC):
    """A display that notebooks show as a picture with alternative text.

    Subclasses draw in `plot`, which sets ``figure_``, and say in `describe` what there is to see.
    """

    figure_: Any

    @abstractmethod
    def plot(self, *args: Any, **options: Any) -> Any:
        """Draw on axes that are given, or on a figure of its own, and return the display."""

    def describe(self) -> str:
        """Say in a sentence or two what the picture shows, for those who do not see it."""
        return type(self).__name__

    def _repr_html_(self) -> str | None:
        try:
            figure = self.figure_ if hasattr(self, "figure_") else self.plot().figure_
        except ImportError:
            return None
        # Figures of pyplot have a number, and notebooks show them already.
        if getattr(figure, "number", None) is not None:
            return None
        data = base64.b64encode(svg_of(whole(figure)).encode())
        alt = html.escape(self.describe())
        return f'<img src="data:image/svg+xml;base64,{data.decode()}" alt="{alt}" style="max-width: 100%">'
