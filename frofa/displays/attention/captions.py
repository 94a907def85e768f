"""Text above images, and pictures with it on axes."""

from typing import Any

import numpy as np
from PIL import Image

from frofa.displays.drawing import short
from frofa.displays.inputs import Predictions
from frofa.utils.drawing import plain

LONGEST = 26
"""Characters of a line above a picture."""


def captions_of(found: Predictions) -> list[str]:
    """Say of each image what was predicted, and where that was wrong, what it is."""
    captions = []
    for truth, predicted, table in zip(found.truth, found.predicted, found.probabilities, strict=True):
        # The probability first, so that a long name does not push it out.
        lines = [f"{table[predicted]:.2f} {found.names[predicted]}"]
        if truth not in (-1, predicted):
            lines.append(f"is {found.names[truth]}")
        captions.append("\n".join(line.replace("\n", " ") for line in lines))
    return captions


def draw_picture(ax: Any, picture: Image.Image, caption: str, x: float, y: float) -> None:
    """Draw a picture into the unit square whose lower left corner is at (x, y - 1), upright and not stretched."""
    longest = max(picture.size) / 0.94
    width, height = picture.width / longest, picture.height / longest
    left, top = x + (0.94 - width) / 2, y
    ax.imshow(np.asarray(picture), extent=(left, left + width, top - height, top), interpolation="antialiased")
    lines = [plain(short(line, LONGEST)) for line in caption.split("\n")]
    ax.text(x + 0.47, y + 0.03, "\n".join(lines), ha="center", va="bottom", fontsize=7)
