"""What tests of archives put into them."""

import io

from PIL import Image


def _png() -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(encoded, "PNG")
    return encoded.getvalue()


PNG = _png()
"""A small image, encoded."""
