"""What tests of archives put into them."""

import io
import tarfile

from PIL import Image

from frofa.images import ImageSet


def _png() -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(encoded, "PNG")
    return encoded.getvalue()


PNG = _png()
"""A small image, encoded."""


def add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def members_of(images: ImageSet) -> list[str]:
    return [name.partition("!/")[2] for name in images.names]
