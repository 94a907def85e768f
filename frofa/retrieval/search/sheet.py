"""Contact sheets: what a search found, as one picture that needs nothing but Pillow."""

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from frofa.exceptions import ImageReadError
from frofa.images.items import ImageItem
from frofa.retrieval.search.searching import Answer, Hit
from frofa.web.thumbnails import small

SIDE = 160
"""Pixels of the longer side of a picture: larger images are shrunk, smaller ones enlarged."""
GAP, MARGIN = 12, 20
LINE = 17
"""Pixels from one line of text to the next."""
TEXT, TITLE = 13, 18
"""Sizes of letters in pixels."""
GROUND, INK, MUTED, EMPTY, MARK = "#ffffff", "#1c2228", "#56616c", "#eef1f4", "#0a62b5"
FONTS = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf")
"""Fonts with many scripts, by the names under which systems have them; without any, Pillow's own has Latin letters."""


def contact_sheet(answers: Sequence[Answer], *, columns: int = 5) -> Image.Image:
    """Draw the images that were found, query by query, with rank, similarity, label and name below each.

    An image that asks stands first, in a frame. Images that are no longer there are grey.

    Parameters
    ----------
    answers : sequence of Answer
        One at least.
    columns : int, default=5
        Pictures in a row.

    Returns
    -------
    PIL.Image.Image
        Mode RGB.

    Raises
    ------
    ValueError
        If there is nothing to draw, or not one column.
    """
    if not answers or columns < 1:
        raise ValueError(f"expected one answer or more, in one column or more. Got {len(answers)}, {columns}.")
    widest = max(len(_tiles(answer)) for answer in answers)
    columns = min(columns, max(2, widest))
    width = 2 * MARGIN + columns * SIDE + (columns - 1) * GAP
    heights = [_height(answer, columns) for answer in answers]
    sheet = Image.new("RGB", (width, MARGIN + sum(heights)), GROUND)
    top = MARGIN
    for answer, height in zip(answers, heights, strict=True):
        _draw_answer(sheet, answer, columns, top)
        top += height
    return sheet


def caption(hit: Hit) -> list[str]:
    """Write what stands below a picture: rank and similarity, the label if there is one, and the file's name."""
    name = hit.name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    copies = f" (+{len(hit.others)})" if hit.others else ""
    return [f"{hit.rank}   {hit.similarity:.3f}", *([hit.label] if hit.label else []), name + copies]


def picture(item: "ImageItem | None", side: int = SIDE) -> Image.Image | None:
    """Read an image for a sheet; None if it is not there or cannot be read."""
    if item is None:
        return None
    try:
        found = small(item, side)
    except ImageReadError:
        return None
    # All pictures of a sheet are of one size, so that small images are seen as well as others.
    width, height = (max(1, round(length * side / max(found.size))) for length in found.size)
    return found.resize((width, height), Image.Resampling.BICUBIC) if max(found.size) < side else found


def _tiles(answer: Answer) -> list[Hit | None]:
    """The hits, and before them None for the query where it is an image."""
    return [*([] if answer.image is None else [None]), *answer.hits]


def _lines(answer: Answer) -> int:
    return max((len(caption(hit)) for hit in answer.hits), default=1)


def _height(answer: Answer, columns: int) -> int:
    rows = -(-len(_tiles(answer)) // columns)
    return TITLE + GAP + rows * _row(answer) + GAP


def _row(answer: Answer) -> int:
    return SIDE + 4 + LINE * _lines(answer) + GAP


def _draw_answer(sheet: Image.Image, answer: Answer, columns: int, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    _write(draw, (MARGIN, top), answer.query, sheet.width - 2 * MARGIN, TITLE, INK)
    for i, hit in enumerate(_tiles(answer)):
        row, column = divmod(i, columns)
        left, upper = MARGIN + column * (SIDE + GAP), top + TITLE + GAP + row * _row(answer)
        _draw_picture(sheet, draw, answer.image if hit is None else hit.item, left, upper, framed=hit is None)
        for number, line in enumerate(["query"] if hit is None else caption(hit)):
            place = (left, upper + SIDE + 4 + number * LINE)
            _write(draw, place, line, SIDE, TEXT, INK if number == 0 else MUTED)


def _draw_picture(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, item: "ImageItem | None", left: int, top: int, *, framed: bool
) -> None:
    found = picture(item)
    if found is None:
        draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill=EMPTY)
        _write(draw, (left + 10, top + SIDE // 2 - TEXT), "not there", SIDE - 20, TEXT, MUTED)
        return
    x, y = left + (SIDE - found.width) // 2, top + (SIDE - found.height) // 2
    sheet.paste(found, (x, y))
    if framed:
        draw.rectangle((x - 3, y - 3, x + found.width + 2, y + found.height + 2), outline=MARK, width=3)


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: int, size: int, fill: str) -> None:
    """Write a line, cut in the middle where it is too long: names differ at their ends."""
    shown, font = _printable(text), _font(size)
    longest = len(shown)
    while font.getlength(shown) > width and longest > 2:
        longest -= 1
        head = longest // 2
        shown = f"{_printable(text)[:head]}…{_printable(text)[-(longest - head) :]}"
    draw.text(at, shown, fill=fill, font=font)


@lru_cache(1024)
def _printable(text: str) -> str:
    """Replace what no font draws: controls, and bytes of names that are no text."""
    known = (" " if character.isspace() else character for character in text)
    return "".join("\ufffd" if unicodedata.category(one) in ("Cc", "Cs", "Cn") else one for one in known)


@cache
def _font(size: int) -> Any:
    for name in FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
