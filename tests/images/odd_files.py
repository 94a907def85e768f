"""A directory of files such as people have: valid but odd ones, and ones that cannot be read, with the reasons."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

VALID = (
    "1x1.png",
    "20000x20.png",
    "a path with spaces/größe 你好 %s.jpg",
    "animated.gif",
    "cmyk.jpg",
    "deep16.png",
    "link to a valid one.png",
)
UNREADABLE = {
    "bomb.png": "decompression bomb.*exceeds limit of",
    "bomb below Pillow's error.png": "decompression bomb.*exceeds limit of",
    "dangling.jpg": "a link to nowhere.jpg, which does not exist",
    "empty.jpg": "the file is empty",
    "loop.jpg": "[Ss]ymbolic links",
    "text.jpg": "not an image",
    "truncated.jpg": "truncated",
    "truncated.png": "truncated|broken",
}


def write_odd_files(root: Path) -> None:
    """Write all of them into a new directory `root`; below it, one image lies in a sub-directory."""
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 255, (60, 80, 3), np.uint8)
    nested = root / "a path with spaces"
    nested.mkdir(parents=True)
    Image.fromarray(photo).save(nested / "größe 你好 %s.jpg")
    Image.new("RGB", (1, 1), (9, 8, 7)).save(root / "1x1.png")
    Image.fromarray(np.resize(photo, (20, 20_000, 3))).save(root / "20000x20.png")
    frames = [Image.fromarray(np.roll(photo, 20 * i, 1)) for i in range(3)]
    frames[0].save(root / "animated.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(photo).convert("CMYK").save(root / "cmyk.jpg")
    Image.fromarray(rng.integers(0, 65535, (30, 40), np.uint16)).save(root / "deep16.png")
    (root / "link to a valid one.png").symlink_to("deep16.png")

    for kind in ("jpg", "png"):
        encoded = io.BytesIO()
        Image.fromarray(photo).save(encoded, {"jpg": "JPEG", "png": "PNG"}[kind])
        (root / f"truncated.{kind}").write_bytes(encoded.getvalue()[: encoded.tell() // 2])
    assert Image.MAX_IMAGE_PIXELS is not None
    (root / "bomb.png").write_bytes(black_png(60_000, 60_000))
    (root / "bomb below Pillow's error.png").write_bytes(black_png(1000, Image.MAX_IMAGE_PIXELS // 1000 + 1))
    (root / "dangling.jpg").symlink_to("nowhere.jpg")
    (root / "empty.jpg").touch()
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "text.jpg").write_text("I am not an image")

    (root / "directory.jpg").mkdir()  # not images, and so not read
    (root / "loop of directories").symlink_to(".")
    (root / "photo.heic").write_bytes(b"of an ending that is not known")
    (root / "notes.txt").touch()
    (root / ".hidden.jpg").touch()
    os.mkfifo(root / "pipe.jpg")


def black_png(width: int, height: int) -> bytes:
    """A valid PNG header of any size with next to no data: what a decompression bomb looks like."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def first_frame(file: Path) -> npt.NDArray[np.uint8]:
    """Pixels of an animation's first frame, by Pillow itself."""
    with Image.open(file) as image:
        image.seek(0)
        return np.asarray(image.convert("RGB"))
