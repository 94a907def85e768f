"""Thumbnails: small encoded images, one at a time, or many within a bound on their bytes."""

import base64
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import joblib
from PIL import Image

from frofa.exceptions import ImageReadError
from frofa.images.items import ImageItem
from frofa.images.pixels.budget import hold
from frofa.images.reading import content, decode, n_bytes, read_error
from frofa.utils.progress import progress_bar

Kind: TypeAlias = Literal["webp", "jpeg", "png"]
KINDS = ("webp", "jpeg", "png")
GAP = 2
"""JPEG files are decoded to so many times the thumbnail's size or more, and from there resized by averaging."""


class Setting(NamedTuple):
    """Size in pixels of the longer side, and quality of the encoding from 0 to 100."""

    size: int
    quality: int


SIZES = (256, 192, 160, 128, 112, 96, 88, 80, 72, 64, 56, 48, 40, 32, 24)
QUALITIES = (80, 78, 75, 72, 68, 64, 61, 58, 55, 52, 46, 40, 34, 28, 24)
SETTINGS = tuple(Setting(*one) for one in zip(SIZES, QUALITIES, strict=True))
"""From the best to the smallest; `thumbnails` takes the first that fits."""
SAMPLE = 48
"""Images that are encoded first, to see which setting fits."""
RESERVE = 1.06
"""The sample's mean is taken to be too small by so much."""


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Encoded images of one setting.

    Attributes
    ----------
    data : list of bytes or None
        One an image, in the order of the items: None of those that cannot be read or did not fit.
    kind : {"webp", "jpeg", "png"}
        Format of the bytes.
    setting : Setting
        Size and quality that were chosen.
    failed : dict of int to ImageReadError
        By position, why images could not be read.
    n_left_out : int
        Readable images that did not fit.
    """

    data: list[bytes | None]
    kind: Kind
    setting: Setting
    failed: dict[int, ImageReadError]
    n_left_out: int

    @property
    def n_bytes(self) -> int:
        """Characters that all of them take as data URIs."""
        return sum(uri_length(one, self.kind) for one in self.data if one is not None)


def thumbnail(
    item: ImageItem, size: int, quality: int = 70, kind: Kind = "webp", *, position: int = 0, exact: bool = False
) -> bytes:
    """Encode an image so that its longer side has at most `size` pixels.

    It is upright, RGB whatever its mode was, and never larger than the image itself: small ones are to be enlarged
    where they are shown. A large JPEG file costs a few milliseconds, as it is decoded to a fraction of its size.

    Parameters
    ----------
    item : path, PIL image, uint8 array (H, W, 3) or LazyImage
    size : int
        Pixels of the longer side, at most.
    quality : int, default=70
        From 0 to 100; of no meaning for PNG.
    kind : {"webp", "jpeg", "png"}, default="webp"
    position : int, default=0
        What errors say is the position of the image.
    exact : bool, default=False
        Decode the whole of a JPEG file all the same.

    Returns
    -------
    bytes
        The encoded image, without EXIF data or other notes of its file.

    Raises
    ------
    ImageReadError
        If the image cannot be read.
    ValueError
        If `size`, `quality` or `kind` is none of the above.

    Examples
    --------
    >>> from PIL import Image
    >>> from frofa.web.thumbnails import thumbnail
    >>> data = thumbnail(Image.new("L", (640, 320)), 64)
    >>> data[:4], Image.open(io.BytesIO(data)).size
    (b'RIFF', (64, 32))
    """
    _check(Setting(size, quality), kind)
    return encode(small(item, size, position=position, exact=exact), size, quality, kind)


def small(item: ImageItem, size: int, *, position: int = 0, exact: bool = False) -> Image.Image:
    """Read an image as an upright RGB image whose longer side has at most `size` pixels; errors as of `thumbnail`."""
    try:
        with hold(n_bytes(item)):
            image = decode(content(item)[0], near=None if exact else GAP * size)
            return _shrink(image, size)
    except Exception as error:  # decoders raise a dozen types
        raise read_error(position, item, error) from error


def encode(image: Image.Image, size: int, quality: int, kind: Kind = "webp") -> bytes:
    """Encode an RGB image of which the longer side is shrunk to `size` pixels, if it has more."""
    buffer = io.BytesIO()
    options = {"webp": {"quality": quality, "method": 4}, "jpeg": {"quality": quality, "optimize": True}}
    _shrink(image, size).save(buffer, kind, **options.get(kind, {}))
    return buffer.getvalue()


def data_uri(data: bytes, kind: str) -> str:
    """Write an encoded image as a URI that holds it; `kind` is "webp", "jpeg", "png" or "svg+xml".

    Examples
    --------
    >>> from frofa.web.thumbnails import data_uri
    >>> data_uri(b"abc", "png")
    'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def uri_length(data: bytes, kind: str) -> int:
    """Count the characters of `data_uri`."""
    return len("data:image/;base64,") + len(kind) + 4 * -(-len(data) // 3)


def thumbnails(
    items: Sequence[ImageItem],
    budget_bytes: int,
    order: Iterable[int] | None = None,
    *,
    largest: int = SETTINGS[0].size,
    kind: Kind = "webp",
    shown: bool | None = None,
) -> Thumbnails:
    """Encode many images within a bound on what they take together in a page.

    Size and quality are the same for all: the best of `SETTINGS` that fits, as a sample of the images tells. Where even
    the smallest does not fit, those late in `order` are left out. Images that cannot be read are left out too.

    Parameters
    ----------
    items : sequence of n images
        As of `thumbnail`.
    budget_bytes : int
        Characters that all thumbnails may take as data URIs (`data_uri`), base64 included.
    order : iterable of int, default=None
        Positions of the images that are wanted, the most important first, each once; None is all as they come. Images
        that are not in it have no thumbnail.
    largest : int, default=256
        Pixels of the longer side, at most.
    kind : {"webp", "jpeg", "png"}, default="webp"
    shown : bool or None, default=None
        Whether there is a progress bar, as in `frofa.utils.progress.progress_bar`.

    Returns
    -------
    Thumbnails

    Raises
    ------
    ValueError
        If an argument is none of the above, or `order` has a position twice or one of no image.

    Examples
    --------
    >>> from PIL import Image
    >>> from frofa.web.thumbnails import thumbnails
    >>> made = thumbnails([Image.new("RGB", (100, 50), colour) for colour in ("red", "blue")], 1_000)
    >>> made.setting.size, made.n_bytes <= 1_000, made.n_left_out
    (256, True, 0)
    """
    _check(Setting(largest, 0), kind)
    positions = _positions(order, len(items))
    fitting = [one for one in SETTINGS if one.size < largest]
    # The first setting has the size asked for, in the quality of the next larger one of the list.
    best = next((one.quality for one in reversed(SETTINGS) if one.size >= largest), SETTINGS[0].quality)
    settings = [Setting(largest, best), *fitting]
    sizes = _sample_sizes(items, positions, settings, kind)
    chosen = next((i for i, size in enumerate(sizes) if RESERVE * size <= budget_bytes), len(settings) - 1)
    while True:
        encoded, failed = _encode_all(items, positions, settings[chosen], kind, shown)
        total = sum(uri_length(one, kind) for one in encoded.values())
        if total <= budget_bytes or chosen == len(settings) - 1:
            break
        # The sample misled: its proportions between the settings, at the size that all have, say how far to go down.
        ratio = total / sizes[chosen]
        smaller = range(chosen + 1, len(settings))
        chosen = next((i for i in smaller if RESERVE * ratio * sizes[i] <= budget_bytes), len(settings) - 1)
    kept = _first_that_fit(encoded, positions, budget_bytes, kind)
    data = [encoded[i] if i in kept else None for i in range(len(items))]
    return Thumbnails(data, kind, settings[chosen], failed, len(encoded) - len(kept))


def _check(setting: Setting, kind: str) -> None:
    if setting.size < 1:
        raise ValueError(f"expected a size of 1 pixel or more. Got {setting.size}.")
    if not 0 <= setting.quality <= 100:
        raise ValueError(f"expected a quality from 0 to 100. Got {setting.quality}.")
    if kind not in KINDS:
        raise ValueError(f"expected one of the formats {', '.join(KINDS)}. Got {kind!r}.")


def _positions(order: Iterable[int] | None, n: int) -> list[int]:
    positions = list(range(n)) if order is None else [int(i) for i in order]
    if len(set(positions)) < len(positions) or not all(0 <= i < n for i in positions):
        raise ValueError(f"expected different positions from 0 to {n - 1}, each once. Got {positions[:10]}...")
    return positions


def _shrink(image: Image.Image, size: int) -> Image.Image:
    longer = max(image.size)
    if longer <= size:
        return image
    width, height = (max(1, round(side * size / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _sample_sizes(
    items: Sequence[ImageItem], positions: Sequence[int], settings: Sequence[Setting], kind: Kind
) -> list[float]:
    """Estimate the characters that all images take in each setting, by some of them."""
    picked = [positions[i * len(positions) // SAMPLE] for i in range(SAMPLE)] if len(positions) > SAMPLE else positions
    lengths: list[list[int]] = []
    for i in picked:
        try:
            image = small(items[i], settings[0].size, position=i)
        except ImageReadError:
            continue
        lengths.append([uri_length(encode(image, *setting, kind), kind) for setting in settings])
    n = max(1, len(lengths))
    return [len(positions) / n * sum(column) for column in zip(*lengths, strict=True)] or [0.0] * len(settings)


def _encode_all(
    items: Sequence[ImageItem], positions: Sequence[int], setting: Setting, kind: Kind, shown: bool | None
) -> tuple[dict[int, bytes], dict[int, ImageReadError]]:
    """Encode in threads, as Pillow leaves Python's lock while it decodes, resizes and encodes."""

    def one(i: int) -> bytes | ImageReadError:
        try:
            return thumbnail(items[i], *setting, kind, position=i)
        except ImageReadError as error:
            return error

    encoded, failed = {}, {}
    bar = partial(progress_bar, shown=shown, total=len(positions), desc="thumbnails", unit="image", delay=1)
    with ThreadPoolExecutor(joblib.cpu_count(), "frofa-thumbnails") as threads:
        for i, found in zip(positions, bar(threads.map(one, positions)), strict=True):
            if isinstance(found, bytes):
                encoded[i] = found
            else:
                failed[i] = found
    return encoded, failed


def _first_that_fit(encoded: dict[int, bytes], positions: Sequence[int], budget: int, kind: Kind) -> set[int]:
    """Take images in their order while there is room."""
    kept, used = set(), 0
    for i in (i for i in positions if i in encoded):
        used += uri_length(encoded[i], kind)
        if used > budget:
            break
        kept.add(i)
    return kept
