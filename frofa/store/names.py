"""Names of the images in a store: where each was read from, and its label there. For people; features need none.

A store finds features by content, and so knows neither paths nor labels. What is kept here beside them answers the
question which image a feature is of: for each key, the places where such an image was found, as they were then. Nothing
but searches reads it, and it may be deleted. Beside that, for each spec, the name under which the user gave the model.
"""

import os
import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from frofa.exceptions import StoreError
from frofa.store.disk.format import Array, header_bytes, open_npy, read_sealed, seal, write_npy
from frofa.store.keys import KEY_BYTES, KeyArray, Keys, as_keys, prefixes
from frofa.utils.files import make_directory, write_atomically

NAMES = "names"
"""The directory of a store that these tables are in."""
FORMAT = 2
RECORD = np.dtype(
    [
        ("key", "u1", (KEY_BYTES,)),
        ("place", "<u8"),
        ("label", "<u8"),
        ("start", "<u8"),
        ("size", "<u4"),
        ("crc32", "<u4"),
    ]
)
"""Key, digests of key and path and of the label, where the text is, its bytes, and the CRC-32 of all that and it."""
MAX_TABLES = 16
"""Tables after which the next one takes in all others."""


class Named(NamedTuple):
    """A place where an image was found: an absolute path, or ``ARCHIVE!/MEMBER``; and its label there, or ``""``."""

    path: str
    label: str


class _Table(NamedTuple):
    """Records sorted by the prefixes of their keys, and the bytes that they point into."""

    values: npt.NDArray[np.uint64]
    records: Array
    text: Array


class ImageNames:
    """Names and labels of images by key, and of models by spec, in a directory of a store.

    Parameters
    ----------
    directory : Path
        Made when something is remembered.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._tables: dict[str, _Table] = {}

    def remember(self, keys: Keys, names: Sequence[Named]) -> int:
        """Keep the names of images, those that are not there yet; return how many were added.

        A label replaces the one that was known at a place; an empty one is not known, and replaces none.

        Parameters
        ----------
        keys : sequence of n str, or ndarray of uint8 of shape (n, 20)
        names : sequence of n Named

        Raises
        ------
        OSError
            If they cannot be written.
        """
        wanted, texts = _records(as_keys(keys), names)
        # Of these images at these paths, what was remembered last: there may be millions of others.
        found = [table.records[np.isin(table.records["place"], wanted["place"])] for table in self._load()]
        known = _latest(np.concatenate([wanted[:0], *found]))
        fresh = _latest(wanted)
        # Who reads images without their labels does not know better.
        new = np.sort([row for place, (label, row) in fresh.items() if label not in _said(known.get(place))])
        if not len(new):
            return 0
        make_directory(self.directory)
        self._write(wanted[new], [texts[row] for row in new.tolist()])
        return len(new)

    def find(self, keys: Keys) -> list[list[Named]]:
        """Look up the places where each image was found, the latest first; none of those that are not known."""
        wanted = as_keys(keys)
        heads = prefixes(wanted)
        found: list[dict[str, Named]] = [{} for _ in range(len(wanted))]
        for table in reversed(self._load()):
            starts, stops = (np.searchsorted(table.values, heads, side) for side in ("left", "right"))
            for i in np.flatnonzero(starts < stops).tolist():
                for row in range(int(stops[i]) - 1, int(starts[i]) - 1, -1):
                    named = _read(table, row)
                    if named is not None and (table.records["key"][row] == wanted[i]).all():
                        found[i].setdefault(named.path, named)
        return [list(places.values()) for places in found]

    def labelled(self, labels: Iterable[str]) -> KeyArray:
        """List the keys of all images that have one of these labels at one of their places, shape (m, 20)."""
        tables = self._load()
        if not tables:
            return np.zeros((0, KEY_BYTES), np.uint8)
        records = np.concatenate([table.records for table in tables])
        latest = np.array([row for _, row in _latest(records).values()], np.intp)
        chosen = np.isin(
            records["label"][latest], [_digest(label.encode("utf-8", "surrogateescape")) for label in labels]
        )
        keys: KeyArray = records["key"][latest[chosen]]
        return keys

    def all_labels(self) -> list[str]:
        """List the labels that some image has, sorted."""
        found: set[str] = set()
        for table in self._load():
            # One record of each label is enough to read it.
            _, rows = np.unique(table.records["label"], return_index=True)
            found |= {named.label for row in rows.tolist() if (named := _read(table, row)) is not None}
        return sorted(found - {""})

    def remember_model(self, spec: str, model: str) -> None:
        """Keep the name of the model by which the features of a spec, given by its digest, were computed."""
        file, content = self.directory / f"{spec}.json", seal({"format": FORMAT, "model": model})
        if not file.exists() or file.read_bytes() != content:
            make_directory(self.directory)
            write_atomically(file, lambda opened: opened.write(content))

    def model(self, spec: str) -> str | None:
        """Look up the name of the model that was given last for a spec; None where it is not known."""
        try:
            return str(read_sealed(self.directory / f"{spec}.json", FORMAT, {"model": str})["model"])
        except (StoreError, FileNotFoundError):
            return None

    def _write(self, records: Array, texts: list[bytes]) -> None:
        names = _names(self.directory)
        merged = names if len(names) >= MAX_TABLES else []
        if merged:
            # All become one before the old ones are removed: killed between, this leaves both, and loses nothing.
            older = self._load()
            texts = [text for table in older for text in _texts(table)] + texts
            records = np.concatenate([*(table.records for table in older), records])
            rows = np.sort([row for _, row in _latest(records).values()])
            records, texts = records[rows], [texts[row] for row in rows.tolist()]
        order = np.argsort(prefixes(records["key"]), kind="stable")
        records, texts = records[order], [texts[row] for row in order.tolist()]
        records["size"] = [len(text) for text in texts]
        records["start"] = np.cumsum(records["size"], dtype=np.uint64) - records["size"]
        raw, step = records.tobytes(), RECORD.itemsize
        heads = (raw[start : start + step - 4] for start in range(0, len(raw), step))
        records["crc32"] = [zlib.crc32(text, zlib.crc32(head)) for head, text in zip(heads, texts, strict=True)]
        data = np.frombuffer(b"".join(texts), np.uint8)
        number = 1 + max((int(name.split("-")[0]) for name in names), default=-1)
        tag = blake2b(records.tobytes() + data.tobytes(), digest_size=8).hexdigest()
        # The records come last: a table is there once they are.
        for kind, dtype, array in (("text", "u1", data), ("records", RECORD, records)):
            path = self.directory / f"{number:08d}-{tag}.{kind}.npy"
            write_atomically(path, lambda file, d=dtype, a=array: write_npy(file, d, a.shape, [a]))  # type: ignore[misc]
        for name in merged:
            for kind in ("records", "text"):
                (self.directory / f"{name}.{kind}.npy").unlink(missing_ok=True)

    def _load(self) -> list[_Table]:
        names = _names(self.directory)
        self._tables = {name: table for name, table in self._tables.items() if name in names}
        for name in names:
            if name not in self._tables:
                try:
                    self._tables[name] = _open(self.directory, name)
                except (StoreError, FileNotFoundError):  # names less, which a run over the images brings back
                    continue
        return [self._tables[name] for name in names if name in self._tables]


def _names(directory: Path) -> list[str]:
    found = (file.name for file in directory.glob("*.records.npy"))
    return sorted(name.removesuffix(".records.npy") for name in found if not name.startswith("."))


def _open(directory: Path, name: str) -> _Table:
    """Map a table; StoreError if it is damaged."""
    sizes = {"records": RECORD.itemsize, "text": 1}
    arrays = {}
    for kind, dtype in (("records", RECORD), ("text", np.dtype("u1"))):
        path = directory / f"{name}.{kind}.npy"
        n = max(0, path.stat().st_size - header_bytes(dtype, ())) // sizes[kind]
        arrays[kind] = open_npy(path, dtype, (n,))[0]
    return _Table(prefixes(arrays["records"]["key"]), arrays["records"], arrays["text"])


def _records(keys: KeyArray, names: Sequence[Named]) -> tuple[Array, list[bytes]]:
    """Make records of names, not placed yet, and the text of each: the path, a zero byte, the label."""
    records: Array = np.zeros(len(keys), RECORD)
    records["key"] = keys
    paths = [os.fsencode(named.path) for named in names]
    labels = [named.label.encode("utf-8", "surrogateescape") for named in names]
    of_labels = {label: _digest(label) for label in set(labels)}
    raw = np.ascontiguousarray(keys).tobytes()
    heads = [raw[start : start + KEY_BYTES] for start in range(0, len(raw), KEY_BYTES)]
    records["place"] = [_digest(head + path) for head, path in zip(heads, paths, strict=True)]
    records["label"] = [of_labels[label] for label in labels]
    return records, [path + b"\0" + label for path, label in zip(paths, labels, strict=True)]


def _latest(records: Array) -> dict[int, tuple[int, int]]:
    """Find the digest of the label that was remembered last, and its row, by the digest of key and path."""
    labels, rows = records["label"].tolist(), range(len(records))
    return dict(zip(records["place"].tolist(), zip(labels, rows, strict=True), strict=True))


def _said(known: tuple[int, int] | None) -> set[int]:
    """Digests of labels that say nothing new of a place; every label does, of one that is not known."""
    return set() if known is None else {known[0], _digest(b"")}


def _read(table: _Table, row: int) -> Named | None:
    """Read a record's text; None where it is not what was written."""
    record = table.records[row]
    start, size = int(record["start"]), int(record["size"])
    text = table.text[start : start + size].tobytes()
    if (
        len(text) != size
        or int(record["crc32"]) != zlib.crc32(text, zlib.crc32(record.tobytes()[:-4]))
        or b"\0" not in text
    ):
        return None
    path, label = text.split(b"\0", 1)
    return Named(os.fsdecode(path), label.decode("utf-8", "surrogateescape"))


def _texts(table: _Table) -> list[bytes]:
    stops = [*table.records["start"].tolist(), len(table.text)]
    whole = table.text.tobytes()
    return [whole[start:stop] for start, stop in pairwise(stops)]


def _digest(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8, person=b"frofa-name").digest(), "little")
