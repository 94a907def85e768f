"""Hypothesis strategies of what a user or an attacker may hand over: bytes, JSON, images, tables, archives, arrays."""

import csv
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from PIL import Image, features

ODD_NUMBERS = [0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**62, 2**63, 2**64 - 1]
DEEP = 100_000
"""Levels of nested JSON at which a parser that calls itself gives up."""


# Bytes and JSON


@st.composite
def mutated(draw: st.DrawFn, data: bytes, most: int = 3) -> bytes:
    """Bytes with a few changes: bits flipped, numbers replaced, parts cut off, removed, repeated or inserted."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        size = draw(st.sampled_from([1, 2, 4, 8, 30]))
        match draw(st.sampled_from(["flip", "number", "cut", "remove", "repeat", "insert"])):
            case "flip" if changed:
                changed[at] ^= 1 << draw(st.integers(0, 7))
            case "number":
                number = draw(st.sampled_from(ODD_NUMBERS)) % 256**size
                changed[at : at + size] = number.to_bytes(size, draw(st.sampled_from(["big", "little"])))
            case "cut":
                del changed[at:]
            case "remove":
                del changed[at : at + size]
            case "repeat":
                changed[at:at] = changed[at : at + size]
            case "insert":
                changed[at:at] = draw(st.binary(max_size=size))
    return bytes(changed)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 3, 2**31, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf")]),
    st.sampled_from(["", "x", "os.system", "../x", "/dev/null", "\x00", "\ud800", "auto", "cuda:9", "float32", "<f4"]),
)
json_values: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "type", "list"]), inner),
    max_leaves=6,
)


@st.composite
def mutated_json(draw: st.DrawFn, tree: Any) -> str:
    """The text of a JSON value in which some members are others, gone, renamed, repeated, or nested very deeply."""
    root: list[Any] = [deepcopy(tree)]
    for _ in range(draw(st.integers(1, 2))):
        parent, key = draw(st.sampled_from(list(_members(root))))
        match draw(st.sampled_from(["replace", "replace", "remove", "wrap", "copy"])):
            case "replace":
                parent[key] = draw(json_values)
            case "remove" if parent is not root:
                del parent[key]
            case "wrap":
                parent[key] = draw(st.sampled_from([[parent[key]], {"list": parent[key]}, [[[parent[key]]]]]))
            case "copy":
                other, place = draw(st.sampled_from(list(_members(root))))
                parent[key] = deepcopy(other[place])
    text = json.dumps(root[0])
    if draw(st.integers(0, 19)) == 0:
        left, right = draw(st.sampled_from([("[", "]"), ('{"a":', "}"), ("[", "")]))
        text = f"{left * DEEP}{text}{right * DEEP}"
    return text


def _members(value: Any) -> Any:
    """Every place in a JSON value: what holds it, and the key or index there."""
    keys: Any = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _members(value[key])


# Images


def _encoded(kind: str, mode: str, **options: Any) -> bytes:
    pixels = np.arange(9 * 7 * 3, dtype=np.uint8).reshape(7, 9, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


IMAGES = {
    "jpg": _encoded("JPEG", "RGB"),
    "cmyk.jpg": _encoded("JPEG", "CMYK"),
    "png": _encoded("PNG", "RGB"),
    "la.png": _encoded("PNG", "LA"),
    "p.png": _encoded("PNG", "P", transparency=0),
    "i.png": _encoded("PNG", "I;16"),
    "gif": _encoded("GIF", "P"),
    "bmp": _encoded("BMP", "RGB"),
    "tif": _encoded("TIFF", "RGB"),
    "f.tif": _encoded("TIFF", "F"),
    "lzw.tif": _encoded("TIFF", "L", compression="tiff_lzw"),
    "ppm": _encoded("PPM", "RGB"),
    **({"webp": _encoded("WEBP", "RGB")} if features.check("webp") else {}),
}
"""A small image of each kind, by the ending of its name."""
_TAGS = [
    0x100,
    0x101,
    0x102,
    0x103,
    0x106,
    0x111,
    0x112,
    0x115,
    0x116,
    0x117,
    0x11A,
    0x11C,
    0x140,
    0x152,
    0x153,
    0x8769,
]
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


def _short(tag: int, value: int) -> tuple[int, int, int, bytes]:
    return tag, 3, 1, struct.pack("<I", value)


_GREY = [(0x100, 8), (0x101, 8), (0x102, 8), (0x103, 1), (0x106, 1), (0x111, 8), (0x115, 1), (0x116, 8), (0x117, 64)]


@st.composite
def tiffs(draw: st.DrawFn, pixels: bytes = bytes(range(64))) -> bytes:
    """A TIFF file of 8 x 8 grey pixels, with odd tags added or in the place of right ones."""
    entries = {tag: _short(tag, value) for tag, value in _GREY} if pixels else {}
    kinds = st.sampled_from([*_SIZES, 0, 14, 255])
    for _ in range(draw(st.integers(1, 4))):
        tag = draw(st.sampled_from(_TAGS))
        count = draw(st.sampled_from([0, 1, 1, 2, 100, 0xFFFFFFFF]))
        value = struct.pack("<I", draw(st.sampled_from(ODD_NUMBERS)) & 0xFFFFFFFF)
        entries[tag] = draw(st.sampled_from([(tag, draw(kinds), count, value), _short(tag, draw(st.integers(0, 64)))]))
    directory = b"".join(struct.pack("<HHI4s", *entry) for _, entry in sorted(entries.items()))
    header = struct.pack("<2sHI", b"II", 42, 8 + len(pixels))
    return header + pixels + struct.pack("<H", len(entries)) + directory + bytes(4) + draw(st.binary(max_size=16))


@st.composite
def images_with_exif(draw: st.DrawFn) -> tuple[str, bytes]:
    """An image whose EXIF block has odd tags."""
    ending, kind = draw(st.sampled_from([("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")]))
    block = draw(tiffs(b"") | mutated(b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"))
    if ending not in IMAGES:
        return "jpg", IMAGES["jpg"]
    return ending, _encoded(kind, "RGB", exif=block if block.startswith(b"Exif") else b"Exif\0\0" + block)


@st.composite
def pngs(draw: st.DrawFn) -> tuple[str, bytes]:
    """A PNG with an odd chunk, whose checksum is right, after its header."""
    name = draw(
        st.sampled_from([b"tRNS", b"PLTE", b"iCCP", b"eXIf", b"zTXt", b"iTXt", b"pHYs", b"IHDR", b"acTL", b"fcTL"])
    )
    data = draw(st.binary(max_size=30) | st.sampled_from([b"k\0\0" + zlib.compress(bytes(2**20))]))
    chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    base = IMAGES[draw(st.sampled_from(["png", "la.png", "p.png", "i.png"]))]
    return "png", base[:33] + chunk + base[33:]


image_files: st.SearchStrategy[tuple[str, bytes]] = st.one_of(
    st.sampled_from(sorted(IMAGES)).flatmap(lambda name: st.tuples(st.just(name), mutated(IMAGES[name]))),
    tiffs().map(lambda data: ("tif", data)),
    images_with_exif(),
    pngs(),
    st.tuples(st.sampled_from(["jpg", "png", "tif"]), st.binary(max_size=40)),
)
"""The ending of a file's name, and its bytes."""


# Names, tables and archives

file_names: st.SearchStrategy[bytes] = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).map(str.encode),
    st.binary(min_size=1, max_size=8).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")),
    st.sampled_from(["train", "café", "cafe\u0301", "a\nb", '"', ",", "-", "~", "%s", "{}", " "]).map(str.encode),
).filter(lambda name: name not in (b".", b".."))


class Entry(NamedTuple):
    """Something in a directory: what it is, and the names that lead there."""

    kind: str
    parts: tuple[bytes, ...]


trees: st.SearchStrategy[list[Entry]] = st.lists(
    st.builds(
        Entry,
        st.sampled_from(
            ["image", "image", "text", "directory", "link above", "link nowhere", "link to itself", "pipe"]
        ),
        st.lists(file_names, min_size=1, max_size=3).map(tuple),
    ),
    max_size=6,
)

_CELLS = st.one_of(
    st.sampled_from(["a.png", "b.png", "cats/a.png", "../a.png", "/a.png", "", " ", "nan", "1", "1.0", "1e999", "dog"]),
    st.text(max_size=5),
)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A CSV or TSV file, perhaps a broken one."""
    names = st.sampled_from(["path", "label", "Label", " label", "class", "image", "path, label", "", "path", "label"])
    header = draw(st.lists(names | st.text(max_size=3), max_size=4))
    rows = draw(st.lists(st.lists(_CELLS, max_size=4), max_size=4))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=draw(st.sampled_from(",\t;")), quotechar=draw(st.sampled_from("\"'")))
    writer.writerows([header, *rows])
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"]))
    data = text.getvalue().encode(encoding, errors="replace")
    return draw(
        st.just(data) | mutated(data) | st.just(data.replace(b"\r\n", b"\r")) | st.just(data + b'"' + b"x" * 200_000)
    )


_SAMPLES = {
    "cats/a.png": IMAGES["png"],
    "dogs/b.jpg": IMAGES["jpg"],
    "0.jpg": IMAGES["jpg"],
    "0.cls": b"3",
    "1.seg.png": IMAGES["png"],
    "1.png": IMAGES["png"],
    "1.json": b'{"label": "dog"}',
    "2.jpg": IMAGES["jpg"],
    "2.txt": "größe".encode(),
}


@st.composite
def _members_of_archives(draw: st.DrawFn) -> dict[str, bytes]:
    names = st.sampled_from(list(_SAMPLES))
    members = {name: _SAMPLES[name] for name in draw(st.lists(names, min_size=1, max_size=6))}
    for name in draw(
        st.lists(st.sampled_from(["../x.png", "/x.png", "a//b.png", "x.png/", ".png", "ü.png"]), max_size=2)
    ):
        members[name] = IMAGES["png"]
    if "1.json" in members:
        members["1.json"] = draw(st.binary(max_size=10) | mutated_json({"label": "dog", "b": [1]}).map(_escaped))
    if "0.cls" in members:
        members["0.cls"] = draw(st.binary(max_size=6) | st.sampled_from([b"9" * 5000, b"-1", b"1.5", b"nan", b" 2\n"]))
    return members


def _escaped(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    """A zip archive; mostly one with damaged headers or members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in draw(_members_of_archives()).items():
            archive.writestr(name, data, draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])))
    data = file.getvalue()
    first = data.find(b"PK\1\2")  # the directory, which says where all is
    directory = mutated(data[first:]).map(lambda changed: data[:first] + changed)
    return draw(st.just(data) | directory | mutated(data))


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    """A tar archive whose headers have odd kinds and sizes, and right checksums; perhaps damaged besides."""
    blocks = []
    for name, data in draw(_members_of_archives()).items():
        info = tarfile.TarInfo(name)
        info.size, info.linkname = len(data), draw(st.sampled_from(["", "", "a.png", "../../x", name]))
        header = bytearray(info.tobuf(draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))))
        if draw(st.integers(0, 2)) == 0:
            header[156:157] = draw(st.sampled_from([b"0", b"1", b"2", b"3", b"5", b"6", b"x", b"g", b"L", b"K", b"S"]))
        if draw(st.integers(0, 4)) == 0:
            header[124:136] = draw(st.sampled_from(_TAR_SIZES))
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header[:512])
        blocks.append(bytes(header) + data + bytes(-len(data) % 512))
    whole = b"".join(blocks) + bytes(draw(st.sampled_from([0, 512, 1024])))
    return draw(st.just(whole) | mutated(whole))


def _tar_number(value: int) -> bytes:
    """A number in base 256, as GNU tar writes large and negative ones."""
    return (b"\x80" if value >= 0 else b"\xff") + (value % 256**11).to_bytes(11, "big")


_TAR_SIZES = [b"77777777777\0", b"x" * 12, bytes(12), *map(_tar_number, (-1, -512, -(2**62), 2**40, 2**62, 2**80))]


# Arrays


class Problem(NamedTuple):
    """What an estimator is fitted on, and what it is to predict then."""

    X: Any
    y: Any
    sample_weight: Any
    X_new: Any


SCALES = [1.0, 1.0, 0.0, 1e-300, 1e-20, 1e7, 1e20, 1e38, 1e150, 1e300]
_LABELS: dict[str, Callable[[int], Any]] = {
    "text": lambda n: np.array(["ant", "bee", "cow"])[np.arange(n) % 3],
    "two": lambda n: np.arange(n) % 2 == 0,
    "whole": lambda n: np.arange(n) % 3 - 1,
    "large": lambda n: np.array([2**63 - 1, -(2**63)])[np.arange(n) % 2],
    "real": lambda n: np.arange(n) / 3,
    "halves": lambda n: np.arange(n) % 2 + 0.0,
    "dates": lambda n: np.array(["2024-01-01", "2025-01-01"], "datetime64[D]")[np.arange(n) % 2],
    "NaN": lambda n: np.where(np.arange(n) % 2, np.nan, 1.0),
    "mixed": lambda n: np.array(([None, "a", 1] * n)[:n], object),
    "objects": lambda n: np.array((["a", "b"] * n)[:n], object),
    "one": lambda n: np.zeros(n, int),
    "every": lambda n: np.arange(n),
    "column": lambda n: (np.arange(n) % 2)[:, None],
    "pairs": lambda n: np.zeros((n, 2), int),
    "short": lambda n: np.arange(max(0, n - 1)) % 2,
    "lists": lambda n: [[i] for i in range(n)],
    "none": lambda n: None,  # noqa: ARG005 (one signature for all)
    "bytes": lambda n: np.array([b"a", b"b"])[np.arange(n) % 2],
}
_WEIGHTS: dict[str, Callable[[int], Any]] = {
    "none": lambda n: None,  # noqa: ARG005 (one signature for all)
    "ones": np.ones,
    "zeros": np.zeros,
    "few": lambda n: (np.arange(n) < 2) * 1.0,
    "negative": lambda n: -np.ones(n),
    "huge": lambda n: np.full(n, 1e300),
    "tiny": lambda n: np.full(n, 1e-300),
    "far apart": lambda n: 10.0 ** (np.arange(n) % 7 * 100 - 300),
    "NaN": lambda n: np.full(n, np.nan),
    "text": lambda n: ["a"] * n,
    "short": lambda n: np.ones(max(0, n - 1)),
}


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Features or tokens of a scale, with perhaps a column, a row or a value that is another's kind."""
    rng = np.random.default_rng(draw(st.integers(0, 3)))
    values = rng.normal(size=shape) * draw(st.sampled_from(SCALES))
    if values.size and draw(st.booleans()):
        place: Any = tuple(draw(st.sampled_from([0, -1, slice(None)])) for _ in shape)
        values[place] = draw(st.sampled_from([0.0, 1.0, 5e7, 1e20, 1e300, np.nan, np.inf, -np.inf]))
    kind = draw(
        st.sampled_from(
            [*["float64"] * 4, *["float32"] * 4, "float16", "int64", "uint8", "bool", "complex128", "O", "U"]
        )
    )
    with np.errstate(all="ignore"):
        return values.astype(kind)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Data of 0 to 12 samples: mostly sound ones with something odd."""
    n = draw(st.sampled_from([12, 12, 8, 6, 3, 2, 1, 0]))
    shape: Sequence[int] = draw(
        st.sampled_from([(4,), (4,), (3, 4), (3, 4), (1,), (0,), (0, 4), (3, 0), (), (2, 2, 4)])
    )
    other: Sequence[int] = draw(st.sampled_from([shape, shape, shape, (5,), (3, 4)]))
    return Problem(
        draw(arrays((n, *shape))),
        _LABELS[draw(st.sampled_from(["text", "text", "whole", *_LABELS]))](n),
        _WEIGHTS[draw(st.sampled_from(["none", "none", "none", *_WEIGHTS]))](n),
        draw(arrays((draw(st.sampled_from([0, 1, 5])), *other))),
    )


@st.composite
def images_in_memory(draw: st.DrawFn) -> Any:
    """What may be given as images: arrays and PIL images of odd shapes and modes, and what is no image at all."""
    shapes = [(1, 8, 8, 3), (2, 1, 9, 3), (0, 8, 8, 3), (1, 0, 8, 3), (8, 8, 3), (1, 8, 8), (1, 8, 8, 4), ()]
    modes = ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "PA", "La", "RGBa"]
    singles = st.one_of(
        st.sampled_from(modes).map(lambda mode: Image.new(mode, (5, 4))),
        st.sampled_from([(0, 0), (0, 4), (1, 1), (3000, 1)]).map(lambda size: Image.new("RGB", size)),
        st.sampled_from([(8, 8, 3), (0, 8, 3), (8, 8), (8, 8, 4), (1, 1, 3)]).flatmap(arrays),
        st.sampled_from([None, 1, "", "\0", "x.png", b"x.png", "x" * 5000, "\ud800.png", float("nan")]),
    )
    kinds = st.sampled_from(["uint8", "uint8", "int64", "float32", "uint16", "bool", "O"])
    whole = st.sampled_from(shapes).flatmap(lambda shape: kinds.map(lambda kind: np.ones(shape).astype(kind)))
    return draw(st.lists(singles, max_size=3) | whole | st.sampled_from([None, "x.png", 5, {}, {"a": 1}, iter([])]))


_COMMANDS = [
    ["extract", "images", "--out", "out.npz"],
    ["extract", "paths.csv", "--out", "out.npz", "--output", "cls"],
    ["fit", "images", "--out", "other.frofa", "--head", "prototype"],
    ["predict", "model.frofa", "images/cats"],
    ["predict", "model.frofa", "images/cats", "--out", "out.csv"],
    ["store", "info", "frofa-store"],
    ["store", "verify", "frofa-store"],
    ["models"],
]
_OPTIONS = [
    "--shots",
    "--cv",
    "--seed",
    "--batch-size",
    "--n-jobs",
    "--image-size",
    "--device",
    "--layer",
    "--out",
    "--store",
]
_ARGUMENTS = [
    "", "-", "--", "0", "-1", "1", "1e9", "nan", "9" * 400, "\0", "\ud800", "images", "text.png", "nofile", "/dev/null",
    "model.frofa", "paths.csv", ".", "cpu", "cuda:9", "--help", "--debug", "a\nb", "%s", "%(prog)s", "~", "*", "{}",
]  # fmt: skip


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with some arguments replaced, removed or added."""
    arguments = list(draw(st.sampled_from(_COMMANDS)))
    odd = st.sampled_from(_ARGUMENTS) | st.text(max_size=3)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(1, len(arguments)))
        match draw(st.sampled_from(["replace", "remove", "add", "option"])):
            case "replace":
                arguments[at : at + 1] = [draw(odd)]
            case "remove":
                del arguments[at : at + 1]
            case "add":
                arguments.insert(at, draw(odd))
            case "option":
                arguments += [draw(st.sampled_from(_OPTIONS)), draw(odd)]
    return [argument for argument in arguments if argument != "--debug"]
