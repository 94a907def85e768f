"""frofa.images.pixels.colour: images of every mode become upright RGB, by stated rules."""

import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, TiffImagePlugin

from frofa.images.pixels.colour import SILVER, parse_colour, to_rgb
from frofa.images.reading import decode, open_image

RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
ORIENTATION, RESOLUTION, GPS = 0x112, 0x11A, 0x8825
PHOTOMETRIC_INTERPRETATION = 262


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def both_ways(image: Image.Image, data: bytes | None = None) -> list[Image.Image]:
    """As it is in memory, and as files."""
    files = [data] if data is not None else [encoded(image, "TIFF")]
    return [to_rgb(image), *(decode(file) for file in files), *(to_rgb(open_image(file)) for file in files)]


# EXIF


def exif_block(*tags: bytes, data: bytes = b"") -> bytes:
    """Orientation 6 and further tags of twelve bytes each; `data` begins at 26 bytes and 12 for each of them."""
    entries = [struct.pack("<HHLHH", ORIENTATION, 3, 1, 6, 0), *tags]
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries)) + b"".join(entries) + struct.pack("<L", 0) + data


MINUS_TWO_OVER_ZERO = struct.pack("<ll", -2, 0)
TURNED = {
    "nothing odd": exif_block(),
    "resolution -2/0": exif_block(struct.pack("<HHLL", RESOLUTION, 10, 1, 38), data=MINUS_TWO_OVER_ZERO),
    "a unit that does not fit": exif_block(struct.pack("<HHLL", 0x128, 4, 1, 70000)),
    "software as a float": exif_block(struct.pack("<HHLf", 0x131, 11, 1, 2.5)),
    "GPS data far behind the end": exif_block(struct.pack("<HHLL", GPS, 4, 1, 1 << 30)),
    "GPS data that are the main ones": exif_block(struct.pack("<HHLL", GPS, 4, 1, 8)),
    "altitude -2/0": exif_block(
        struct.pack("<HHLL", GPS, 4, 1, 38),
        data=struct.pack("<HHHLLL", 1, 6, 10, 1, 56, 0) + MINUS_TWO_OVER_ZERO,
    ),
}
IGNORED = {
    "no TIFF header": b"Exif\0\0" + b"\xff" * 20,
    "a header cut short": b"Exif\0\0II*\0",
    "a directory cut short": exif_block()[:20],
    "orientation 9": exif_block().replace(struct.pack("<HH", 6, 0), struct.pack("<HH", 9, 0)),
    "orientation as text": b"Exif\0\0II*\0" + struct.pack("<LHHHL4sL", 8, 1, ORIENTATION, 2, 4, b"six\0", 0),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "memory"])
@pytest.mark.parametrize(
    ("block", "size"),
    [*((block, (48, 64)) for block in TURNED.values()), *((block, (64, 48)) for block in IGNORED.values())],
    ids=[*TURNED, *IGNORED],
)
def test_of_exif_data_only_the_orientation_counts(block: bytes, size: tuple[int, int], kind: str) -> None:
    image = Image.fromarray(RAMP).convert("RGB")
    if kind == "memory":
        image.info["exif"] = block
        assert to_rgb(image).size == size
        assert image.info["exif"] == block
    else:
        data = encoded(image, kind, exif=block)
        assert decode(data).size == to_rgb(open_image(data)).size == size


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {"exif": exif_block()}) for kind in ("JPEG", "PNG", "WEBP", "TIFF")),
        ("WEBP", {"xmp": b'<rdf tiff:Orientation="6"/>'}),
    ],
)
def test_what_is_upright_is_not_turned_again(kind: str, options: dict[str, bytes]) -> None:
    once = decode(encoded(Image.fromarray(RAMP).convert("RGB"), kind, **options))
    assert once.size == to_rgb(once).size == decode(encoded(once, "PNG")).size == (48, 64)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize(("tag", "value"), [(GPS, 12), (0x8769, 1 << 30)])
def test_broken_exif_data_of_tiff_files(tag: int, value: int, compression: str) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ORIENTATION], tags[tag] = 6, value
    data = encoded(Image.fromarray(RAMP), "TIFF", tiffinfo=tags, compression=compression)
    expected = np.rot90(RAMP, -1)
    np.testing.assert_array_equal(np.asarray(decode(data))[..., 0], expected)
    np.testing.assert_array_equal(np.asarray(to_rgb(open_image(data)))[..., 0], expected)


def test_avif_files_with_broken_exif_data() -> None:
    Image.init()
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    unit = b"Exif\0\0II*\0" + struct.pack("<LHHHLHHL", 8, 1, 0x128, 3, 1, 2, 0, 0)
    data = encoded(Image.fromarray(RAMP).convert("RGB"), "AVIF", exif=unit)
    assert data.count(b"II*\0") == 1
    broken = data.replace(b"II*\0", b"\xff" * 4)
    np.testing.assert_array_equal(np.asarray(decode(broken)), np.asarray(decode(data)))


# Grey of more than 8 bits, and of other types


def as_image(values: npt.NDArray[Any], dtype: str) -> Image.Image:
    return Image.fromarray(values.astype(dtype))


DEEP = {
    "16 bits": (RAMP.astype(int) * 257, "u2"),
    "14 bits in 16": (RAMP.astype(int) * 64, "u2"),
    "12 bits in 16": (RAMP.astype(int) * 16, "u2"),
    "10 bits in 16": (RAMP.astype(int) * 4, "u2"),
    "8 bits in 16": (RAMP, "u2"),
    "8 bits in 32": (RAMP, "i4"),
    "16 bits in 32": (RAMP.astype(int) * 257, "i4"),
    "floats from 0 to 1": (RAMP / 255, "f4"),
    "floats a little beyond": (RAMP / 255 * 1.002 - 0.001, "f4"),
    "floats from 0 to 255": (RAMP, "f4"),
    "floats from 0 to 65535": (RAMP.astype(int) * 257, "f4"),
}


@pytest.mark.parametrize(("values", "dtype"), DEEP.values(), ids=DEEP)
def test_grey_of_every_type_has_one_rule(values: npt.NDArray[Any], dtype: str) -> None:
    image = as_image(values, dtype)
    for found in both_ways(image):
        np.testing.assert_array_equal(np.asarray(found), RAMP[..., None].repeat(3, 2))


@pytest.mark.parametrize(("mode", "dtype"), [("I;16", "<u2"), ("I;16L", "<u2"), ("I;16B", ">u2"), ("I;16N", "=u2")])
def test_either_order_of_bytes(mode: str, dtype: str) -> None:
    image = Image.frombytes(mode, (64, 48), (RAMP.astype(int) * 257).astype(dtype).tobytes())
    np.testing.assert_array_equal(np.asarray(to_rgb(image))[..., 0], RAMP)


@pytest.mark.parametrize("largest", [255, 1023, 4095, 65535])
def test_portable_grey_maps(largest: int) -> None:
    values = (RAMP.astype(int) * largest // 255).astype("u1" if largest < 256 else ">u2")
    grey = np.asarray(decode(b"P5 64 48 %d\n" % largest + values.tobytes()))[..., 0]
    assert np.abs(grey.astype(int) - RAMP).max() <= 1


def test_portable_float_maps() -> None:
    data = b"Pf\n64 48\n-1.0\n" + (RAMP / 255).astype("<f4")[::-1].tobytes()
    np.testing.assert_array_equal(np.asarray(decode(data))[..., 0], RAMP)


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        (RAMP.astype(int) - 5, "i4", "mode I from -5 to 250; expected whole numbers from 0 to 65535"),
        (RAMP.astype(int) << 12, "i4", "mode I from 0 to 1.04448e\\+06;"),
        (RAMP / 255 * 2 - 1, "f4", "mode F from -1 to 1; .* or floats from 0 to 1"),
        (RAMP * 1.5, "f4", "mode F from 0 to 382.5"),
        (RAMP.astype(int) << 12, "f4", r"mode F from 0 to 1.04448e\+06"),
        (np.where(RAMP == 255, np.nan, RAMP / 255), "f4", "mode F from 0 to 0.98.*, of which 48 are NaN or infinite"),
        (RAMP * np.nan, "f4", "mode F of which 3072 are NaN or infinite"),
    ],
)
def test_what_has_no_scale_is_an_error(values: npt.NDArray[Any], dtype: str, message: str) -> None:
    image = as_image(values, dtype)
    with pytest.raises(OSError, match=message):
        to_rgb(image)
    with pytest.raises(OSError, match=message):
        decode(encoded(image, "TIFF"))


@pytest.mark.parametrize("compression", ["raw", "tiff_adobe_deflate"])
@pytest.mark.parametrize(
    "stored",
    [
        as_image(255 - RAMP, "u1"),
        as_image((255 - RAMP.astype(int)) * 257, "u2"),
        as_image((255 - RAMP.astype(int)) * 16, "u2"),
        as_image(1 - RAMP / 255, "f4"),
    ],
    ids=["8 bits", "16 bits", "12 bits in 16", "floats"],
)
def test_tiff_files_where_white_is_zero(stored: Image.Image, compression: str) -> None:
    def tag(value: int) -> bytes:
        return struct.pack("<HHLHH", PHOTOMETRIC_INTERPRETATION, 3, 1, value, 0)

    data = encoded(stored, "TIFF", compression=compression)
    assert data.count(tag(1)) == 1
    for found in both_ways(Image.fromarray(RAMP), data.replace(tag(1), tag(0))):
        np.testing.assert_array_equal(np.asarray(found)[..., 0], RAMP)


def test_deep_pixels_of_a_turned_file() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ORIENTATION] = 6
    data = encoded(as_image(np.rot90(RAMP.astype(int) * 257), "u2"), "TIFF", tiffinfo=tags)
    np.testing.assert_array_equal(np.asarray(decode(data))[..., 0], RAMP)


# Transparency

BACKGROUND = (0, 100, 200)


def palette(transparency: Any, mode: str = "RGB", colours: Any = (9, 9, 9, 10, 20, 30)) -> Image.Image:
    image = Image.new("P", (3, 2), 1)
    image.putpalette(colours, mode)
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def with_value(mode: str, value: Any) -> Image.Image:
    """All of one value, which is the transparent one."""
    image = Image.new(mode, (3, 2), value)
    image.info["transparency"] = value
    return image


CLEAR = {
    "RGBA": (Image.new("RGBA", (3, 2), (255, 0, 0, 0)), "PNG"),
    "RGBA, WebP": (Image.new("RGBA", (3, 2), (255, 0, 0, 0)), "WEBP"),
    "RGBA, TIFF": (Image.new("RGBA", (3, 2), (255, 0, 0, 0)), "TIFF"),
    "LA": (Image.new("LA", (3, 2), (50, 0)), "PNG"),
    "PA": (Image.new("PA", (3, 2), (0, 0)), None),
    "La": (Image.new("La", (3, 2), (0, 0)), None),
    "RGBa": (Image.new("RGBa", (3, 2), (0, 0, 0, 0)), None),
    "P, one colour": (palette(1), "PNG"),
    "P, one colour, GIF": (palette(1), "GIF"),
    "P, bytes": (palette(b"\xff\x00"), "PNG"),
    "P, a palette with alpha": (palette(None, "RGBA", (9, 9, 9, 255, 10, 20, 30, 0)), None),
    "1": (with_value("1", 0), "PNG"),
    "L": (with_value("L", 50), "PNG"),
    "RGB": (with_value("RGB", (1, 2, 3)), "PNG"),
    "I;16": (with_value("I;16", 300), None),
}


@pytest.mark.parametrize(("image", "kind"), CLEAR.values(), ids=CLEAR)
def test_what_is_transparent_shows_the_background(image: Image.Image, kind: str | None) -> None:
    before = (image.mode, image.tobytes(), dict(image.info))
    assert to_rgb(image).getpixel((0, 0)) == SILVER
    assert to_rgb(image, BACKGROUND).getpixel((0, 0)) == BACKGROUND
    assert (image.mode, image.tobytes(), dict(image.info)) == before
    if kind is not None:
        assert decode(encoded(image, kind, lossless=True), BACKGROUND).getpixel((0, 0)) == BACKGROUND


def test_half_transparent_pixels_are_mixed() -> None:
    image = Image.new("RGBA", (3, 2), (255, 0, 0, 51))  # a fifth
    assert to_rgb(image, (0, 100, 200)).getpixel((0, 0)) == (51, 80, 160)


def test_opaque_alpha_changes_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    image = Image.fromarray(pixels).convert("RGBA")
    np.testing.assert_array_equal(np.asarray(to_rgb(image, BACKGROUND)), pixels)


@pytest.mark.parametrize(
    ("colour_type", "depth", "hidden", "pixels", "shown"),
    [
        (0, 16, (300,), struct.pack(">2H", 300, 0xFFFF), [255, 255, 255]),
        (0, 4, (3,), b"\x3f", [255, 255, 255]),
        (0, 2, (1,), b"\x70", [255, 255, 255]),
        (0, 1, (0,), b"\x40", [255, 255, 255]),
        (2, 8, (1, 2, 3), bytes([1, 2, 3, 1, 2, 4]), [1, 2, 4]),
        (2, 16, (0x0102, 0x0304, 0x0506), struct.pack(">6H", 0x0102, 0x0304, 0x0506, 1, 2, 3), [0, 0, 0]),
    ],
)
def test_the_transparent_value_of_a_png_file(
    colour_type: int, depth: int, hidden: tuple[int, ...], pixels: bytes, shown: list[int]
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, colour_type, 0, 0, 0)),
        (b"tRNS", struct.pack(f">{len(hidden)}H", *hidden)),
        (b"IDAT", zlib.compress(b"\0" + pixels)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    for found in (decode(data, BACKGROUND), to_rgb(open_image(data), BACKGROUND)):
        assert np.asarray(found).tolist() == [[list(BACKGROUND), shown]]


@pytest.mark.parametrize(
    ("given", "colour"),
    [
        ("silver", SILVER),
        ("#0064C8", BACKGROUND),
        ("rgb(0, 100, 200)", BACKGROUND),
        (BACKGROUND, BACKGROUND),
        ([0, 100, 200], BACKGROUND),
        (tuple(np.array(BACKGROUND)), BACKGROUND),
    ],
)
def test_colours(given: Any, colour: tuple[int, int, int]) -> None:
    assert parse_colour(given) == colour


@pytest.mark.parametrize(
    "given", ["whit", "", "#00640080", (0, 100), (0, 100, 256), (-1, 0, 0), (0.5, 0.5, 0.5), (True, 0, 0), None, 7]
)
def test_what_is_no_colour_is_an_error(given: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"'background' parameter must be the name of a colour.*{re.escape(repr(given))}"
    ):
        parse_colour(given)


# Formats that need a program


def test_a_postscript_file_that_is_not_loaded_is_refused() -> None:
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(OSError, match="not an image, or of a format that Pillow cannot read"):
        decode(data)
    with pytest.raises(OSError, match=r"format EPS that is not loaded.*Load it before, by image.load\(\)"):
        to_rgb(Image.open(io.BytesIO(data)))


def test_an_image_without_pixels_is_named() -> None:
    with pytest.raises(OSError, match="it has no pixels"):
        to_rgb(Image.new("RGB", (0, 5)))
