"""Grey pixels of more than 8 bits, or of floats, turned to 8 bits."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

BITS = (8, 10, 12, 14, 16)
"""Depths of grey pixels that are whole numbers; a picture has the first that its largest pixel fits in."""
MOST = (1 << BITS[-1]) - 1
HALF_A_STEP = 0.5 / 255
PHOTOMETRIC_INTERPRETATION, WHITE_IS_ZERO = 262, 0
"""TIFF's tag, and its value in files where the largest number is black."""


def eight_bits(image: Image.Image) -> Image.Image:
    """Turn grey pixels to 8 bits, by the rule of `to_rgb`: mode L, or LA where one value is transparent."""
    values = np.asarray(image)  # (H, W)
    grey = _to_bytes(values, image.mode)
    tags = getattr(image, "tag_v2", None)
    if tags is not None and tags.get(PHOTOMETRIC_INTERPRETATION, WHITE_IS_ZERO) == WHITE_IS_ZERO:
        grey = 255 - grey
    shown = Image.fromarray(grey)
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        shown.putalpha(Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
    return shown


def _to_bytes(values: npt.NDArray[Any], mode: str) -> npt.NDArray[np.uint8]:
    low, high = values.min(), values.max()
    is_float = values.dtype.kind == "f"
    # Half a step beyond 0 and 1 is rounding of whoever wrote the file.
    if is_float and low >= -HALF_A_STEP and high <= 1 + HALF_A_STEP:
        scaled: npt.NDArray[np.uint8] = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
        return scaled
    if not (low >= 0 and high <= MOST) or (is_float and (values != np.rint(values)).any()):
        raise OSError(
            f"pixels of mode {mode} {_range_of(values)}; expected whole numbers from 0 to {MOST}, or floats from 0 to 1"
        )
    # The smallest depth that holds the largest pixel; its upper 8 bits are kept.
    bits = next(bits for bits in BITS if high < 1 << bits)
    return (values.astype(np.uint16) >> (bits - 8)).astype(np.uint8)


def _range_of(values: npt.NDArray[Any]) -> str:
    finite = values[np.isfinite(values)]
    parts = [f"from {finite.min():g} to {finite.max():g}"] if finite.size else []
    if n_others := values.size - finite.size:
        parts.append(f"of which {n_others} are NaN or infinite")
    return ", ".join(parts)
