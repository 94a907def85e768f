"""HTML from Python: elements whose text is escaped unless it is HTML already, tables, and numbers for people."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from frofa.evaluation import Interval
from frofa.utils.text import chance
from frofa.web.page import escape

LONGEST = 160
"""Characters of a name that are shown; longer ones lose their middle."""
DASH, MINUS, SPACE = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
"""Signs: for nothing, before negative numbers, and before signs of percent."""
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_EMPTY = ("br", "img", "input")


class Html(str):
    """Text that is HTML already, which `tag` takes as it is."""

    __slots__ = ()


def tag(element: str, *children: Any, **attributes: Any) -> Html:
    """Write an element.

    Parameters
    ----------
    element : str
        Its name.
    *children : Html, list of children, None or anything
        What is not `Html` is text, and escaped; None is left out.
    **attributes : str, int, bool or None
        Underscores stand for hyphens, and one at the end for nothing: ``class_``. True is an attribute without a value,
        False and None are none. Values are escaped.

    Examples
    --------
    >>> from frofa.reporting.page.markup import tag
    >>> tag("p", "1 < 2 ", tag("b", "so"), class_="lead")
    '<p class="lead">1 &lt; 2 <b>so</b></p>'
    """
    # Zero is a value, though it equals False.
    given = ((key, value) for key, value in attributes.items() if value is not None and value is not False)
    written = "".join(_attribute(key, value) for key, value in given)
    if element in _EMPTY:
        return Html(f"<{element}{written}>")
    return Html(f"<{element}{written}>{join(children)}</{element}>")


def join(children: Iterable[Any]) -> Html:
    """Write children of an element one after another, as `tag` does."""
    return Html("".join(_child(child) for child in children))


def visible(text: object, longest: int = LONGEST) -> str:
    r"""Write characters that cannot be seen, or turn text around, as Python does, and cut out the middle of long text.

    Examples
    --------
    >>> from frofa.reporting.page.markup import visible
    >>> visible("a\nb\udcff"), visible("a" * 99, 9)
    ('a\\nb\\xff', 'aaaa…aaaa')
    """
    whole = _UNSEEN.sub(_spelt, str(text))
    if len(whole) <= longest:
        return whole
    end = (longest - 1) // 2
    return f"{whole[: longest - 1 - end]}…{whole[-end:]}"


def name(text: object, longest: int = LONGEST) -> Html:
    """Write a name from outside: visible, escaped, and apart from the direction of the text around it."""
    return tag("bdi", visible(text, longest))


def path(text: str) -> Html:
    """Write the end of a path, where there is little room: the file and its folder, the whole on hovering.

    Examples
    --------
    >>> from frofa.reporting.page.markup import path
    >>> path("/photos/train/cats/1.jpg")
    '<bdi title="/photos/train/cats/1.jpg">…/cats/1.jpg</bdi>'
    """
    parts = re.split(r"[/\\]", text)
    return name(text) if len(parts) < 3 else tag("bdi", visible("…/" + "/".join(parts[-2:]), 60), title=visible(text))


def percent(share: float, digits: int = 1) -> str:
    """Write a share as a percentage, ``"83.4 %"``, whose space does not break."""
    return f"{100 * share:.{digits}f}{SPACE}%"


def likely(probability: float) -> str:
    """Write a probability without rounding it to certainty, ``"over 99 %"``, whose spaces do not break."""
    return chance(probability).replace(" ", SPACE)


def with_interval(share: Interval, digits: int = 1) -> str:
    """Write a share with its interval: ``"83.4 % (80.2 to 86.1)"``."""
    return f"{percent(share.mean, digits)} ({100 * share.low:.{digits}f} to {100 * share.high:.{digits}f})"


def points(difference: Interval) -> str:
    """Write a difference of shares in percentage points: ``"+1.2 (+0.3 to +2.7)"``."""
    # Adding zero turns -0.0 into 0.0.
    mean, low, high = (f"{round(100 * one, 1) + 0:+.1f}".replace("-", MINUS) for one in difference)
    return f"{mean} ({low} to {high})"


def counted(n: int, one: str, many: str | None = None) -> str:
    """Write a number of things: ``"1 image"``, ``"1,200 images"``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str, *, text: Sequence[int] = (0,)) -> Html:
    """Write a table in a box that scrolls; the first cell of a row is its heading, and all but columns `text` numbers.

    The caption is the box's name, too.
    """
    kinds = [None if i in text else "number" for i in range(len(head))]
    titles = [tag("th", cell, scope="col", class_=kind) for cell, kind in zip(head, kinds, strict=True)]
    body = [
        tag(
            "tr",
            tag("th", first, scope="row", class_=kinds[0]),
            [tag("td", cell, class_=kind) for cell, kind in zip(rest, kinds[1:], strict=True)],
        )
        for first, *rest in rows
    ]
    inner = tag("table", tag("caption", caption), tag("thead", tag("tr", titles)), tag("tbody", body))
    return scrolling(inner, caption)


def scrolling(inner: Html, label: str) -> Html:
    """Put what may be wide into a box that scrolls, by keyboard too."""
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=label)


def details(summary: str, *children: Any) -> Html:
    """Write what opens when its summary is clicked."""
    return tag("details", tag("summary", summary), *children)


def interval_bar(share: Interval) -> Html:
    """Draw a share from 0 to 1 with its interval, as wide as 120 pixels; the numbers stand beside it."""
    low, mean, high = (round(120 * one, 1) for one in (share.low, share.mean, share.high))
    parts = [
        tag("rect", class_="track", x=0, y=6, width=120, height=4, rx=2),
        tag("rect", class_="reach", x=low, y=5, width=round(max(high - low, 1), 1), height=6, rx=3),
        tag("circle", class_="mean", cx=min(max(mean, 4), 116), cy=8, r=4),
    ]
    return tag("svg", parts, class_="bar", viewBox="0 0 120 16", width=120, height=16, aria_hidden="true")


def prose(text: str) -> str:
    """Keep numbers and their signs of percent together, in a sentence of our own."""
    return text.replace(" %", f"{SPACE}%")


def _child(child: Any) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    return join(child) if isinstance(child, (list, tuple)) else escape(child)


def _attribute(key: str, value: Any) -> str:
    written = key.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{escape(value)}"'


def _spelt(found: re.Match[str]) -> str:
    code = ord(found.group())
    # File names that are not UTF-8 have their bytes at U+DC80 and on.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return found.group().encode("unicode_escape").decode("ascii")
