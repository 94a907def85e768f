"""Export of features to files that other programs read, and import from a plain ``.npy`` file."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch

from frofa.compute.memory import row_chunks
from frofa.images.image_set import as_image_list
from frofa.images.items import Images
from frofa.images.reading import content, read_error
from frofa.store.directory import StoreDirectory
from frofa.store.disk.format import Array, npy_header
from frofa.store.keys import KEY_BYTES, KeyArray, Keys, as_keys, first_of_each, to_hex
from frofa.store.lazy.array import FeatureArray
from frofa.store.lazy.transfer import bits_of
from frofa.store.spec import FORMAT, FeatureSpec
from frofa.store.writer import ShardWriter
from frofa.utils.files import expand_home, write_atomically, write_together
from frofa.utils.optional import require
from frofa.utils.progress import progress_bar

COPY_BYTES = 2**26
"""Bytes that are in memory at once; a row group of Parquet."""
SAFETENSORS_DTYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "bfloat16": "BF16"}
PathLike = str | os.PathLike[str]


def export_parquet(
    features: FeatureArray, path: PathLike, *, keys: Literal["hex", "binary"] = "hex", progress: bool = False
) -> None:
    """Write features to a Parquet file, some rows at a time.

    Its columns are ``key``, the digest of the image, and ``features``, a list of fixed size: the values of a feature in
    C order. bfloat16, which Parquet does not have, becomes float32, which is exact. The file's metadata has, under
    ``frofa``, JSON with the fields of the spec and the shape of a feature.

    Parameters
    ----------
    features : FeatureArray
        Of `FeatureStore.features`.
    path : path
        Replaced, if it is there, when all is written.
    keys : {"hex", "binary"}, default="hex"
        40 hexadecimal digits, or 20 bytes.
    progress : bool, default=False
        Show a progress bar.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    """
    pa, pq = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    shape = features.shape[1:]
    size = int(np.prod(shape, dtype=np.int64))
    description = {"format": FORMAT, "spec": asdict(features.spec), "shape": shape}
    column = pa.list_(pa.from_numpy_dtype(features.dtype), size)
    schema = pa.schema(
        [("key", pa.string() if keys == "hex" else pa.binary(KEY_BYTES)), ("features", column)],
        metadata={"frofa": json.dumps(description)},
    )

    def write(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
            for part in _parts(features, progress=progress):
                # Arrow's lists of fixed size are the values of all rows, one after another.
                flat = pa.array(np.asarray(part).reshape(-1))
                names = to_hex(part.keys) if keys == "hex" else [key.tobytes() for key in part.keys]
                columns = [pa.array(names, schema.field("key").type), pa.FixedSizeListArray.from_arrays(flat, size)]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=len(part))

    write_atomically(Path(expand_home(path)), write)


def export_safetensors(features: FeatureArray, path: PathLike, *, progress: bool = False) -> None:
    """Write features to a safetensors file, some rows at a time.

    Its tensors are ``features``, of the stored dtype, and ``keys``, uint8 of shape (n, 20). The fields of the spec are
    JSON in the metadata, under ``frofa``. Parameters as in `export_parquet`.
    """
    n, dtype = len(features), features.spec.dtype
    n_bytes = features.size * np.dtype(features.spec.stored_dtype).itemsize
    description = {"format": FORMAT, "spec": asdict(features.spec)}
    # The format: the length of the header as 8 bytes, the header, and the tensors at its offsets.
    header = json.dumps(
        {
            "__metadata__": {"frofa": json.dumps(description)},
            "features": {"dtype": SAFETENSORS_DTYPES[dtype], "shape": features.shape, "data_offsets": [0, n_bytes]},
            "keys": {"dtype": "U8", "shape": [n, KEY_BYTES], "data_offsets": [n_bytes, n_bytes + n * KEY_BYTES]},
        }
    ).encode()
    header += b" " * (-len(header) % 8)  # the data is aligned

    def write(file: BinaryIO) -> None:
        file.write(len(header).to_bytes(8, "little") + header)
        for part in _parts(features, progress=progress):
            file.write(bits_of(part.tensor().contiguous()).data)
        _write_keys(file, features)

    write_atomically(Path(expand_home(path)), write)


def export_npy(features: FeatureArray, path: PathLike, *, progress: bool = False) -> Path:
    """Write features to a ``.npy`` file, some rows at a time, and their keys to another beside it.

    bfloat16, which NumPy does not have, becomes float32, which is exact. Parameters as in `export_parquet`.

    Returns
    -------
    Path
        Of the keys, uint8 of shape (n, 20): ``NAME.keys.npy`` for ``NAME.npy``. None is there before both are written.
    """
    path = Path(expand_home(path))
    keys = path.with_name(f"{path.name.removesuffix('.npy')}.keys.npy")
    dtype = features.dtype.newbyteorder("<")

    def write_keys(file: BinaryIO) -> None:
        file.write(npy_header(np.dtype(np.uint8), (len(features), KEY_BYTES)))
        _write_keys(file, features)

    def write(file: BinaryIO) -> None:
        file.write(npy_header(dtype, features.shape))
        for part in _parts(features, progress=progress):
            file.write(np.ascontiguousarray(part, dtype).data)

    # Neither file without the other: rows are of no use without the keys that name them.
    write_together({keys: write_keys, path: write})
    return keys


def import_npy(
    store: StoreDirectory,
    spec: FeatureSpec,
    path: PathLike,
    *,
    keys: Keys | PathLike | None = None,
    images: Images = None,
    progress: bool = False,
) -> int:
    """Put the features of a plain ``.npy`` file into a store, some rows at a time.

    What is there already is left as it is; interrupted, it goes on when it is called again.

    Parameters
    ----------
    store : FeatureStore
    spec : FeatureSpec
        What the features were computed with. Its dtype is the file's; float32 is taken for a spec of bfloat16 if no
        value is rounded by it.
    path : path
        Of an array (n, ...).
    keys : sequence of str, ndarray of uint8 of shape (n, 20), or path, default=None
        Digests of the images, row by row; or a ``.npy`` file of them, or a text file with one a line.
    images : images, default=None
        In the place of keys: what `FrozenFeatureExtractor` takes, row by row. Their digests are computed.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    int
        How many features were added.

    Raises
    ------
    ValueError
        If the file is no array, its dtype or number of rows does not fit, or a key comes twice with different features.
    ImageReadError
        If an image cannot be read.
    """
    features = _open_array(Path(expand_home(path)), spec)
    if (keys is None) == (images is None):
        raise ValueError("expected either keys or images, one for each row of features.")
    wanted = _read_keys(keys) if keys is not None else _digests(images, progress)
    if len(wanted) != len(features):
        raise ValueError(f"expected one key for each row of {path}. Got {len(wanted)} keys, {len(features)} rows.")
    # A key may come again, as the same image does, but with the same feature only.
    first = first_of_each(wanted)
    _check_repeated(features, wanted, first)
    # Rows whose key the store does not have, each key once.
    new = first[store.table(spec).locate(wanted[first]).shard < 0]
    bar = progress_bar(total=len(new), unit="image", desc="import", shown=progress)
    with ShardWriter(store, spec) as writer, bar:
        for part in row_chunks(len(new), COPY_BYTES, features[:1].nbytes):
            rows = new[part]
            writer.add(wanted[rows], _as_spec(features[rows], spec, path))
            bar.update(len(rows))
    return len(new)


def _write_keys(file: BinaryIO, features: FeatureArray) -> None:
    for part in _parts(features, progress=False):
        file.write(part.keys.data)


def _parts(features: FeatureArray, *, progress: bool) -> Iterator[FeatureArray]:
    with progress_bar(total=len(features), unit="image", desc="export", shown=progress) as bar:
        for rows in row_chunks(len(features), COPY_BYTES, features[:1].nbytes):
            part = features[rows]
            yield part
            bar.update(len(part))


def _open_array(path: Path, spec: FeatureSpec) -> Array:
    try:
        features: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"expected a .npy file of features. Got {path}: {error}") from error
    if not isinstance(features, np.ndarray) or features.ndim < 2:
        got = f"shape {features.shape}" if isinstance(features, np.ndarray) else "several arrays"
        raise ValueError(f"expected a .npy file of features of shape (n, ...). Got {path}: {got}.")
    expected = "float32" if spec.dtype == "bfloat16" else spec.dtype
    if features.dtype.newbyteorder("=") != np.dtype(expected):
        raise ValueError(f"expected features of {expected} for a spec of {spec.dtype}. Got {features.dtype} in {path}.")
    return features


def _read_keys(keys: Any) -> KeyArray:
    if not isinstance(keys, (str, os.PathLike)):
        return as_keys(keys)
    path = Path(expand_home(keys))
    if path.suffix != ".npy":
        return as_keys(path.read_text().split())
    found = np.load(path, allow_pickle=False)
    return as_keys(found if found.dtype == np.uint8 else found.tolist())


def _digests(images: Images, progress: bool) -> KeyArray:
    items = as_image_list(images)
    digests = []
    for position, item in enumerate(progress_bar(items, unit="image", desc="read", shown=progress)):
        try:
            digests.append(content(item)[1])
        except OSError as error:
            raise read_error(position, item, error) from error
    return as_keys(digests)


def _check_repeated(features: Array, keys: KeyArray, first: Any) -> None:
    if len(first) == len(keys):
        return
    rows = dict(zip(to_hex(keys[first]), first.tolist(), strict=True))
    for row in np.setdiff1d(np.arange(len(keys)), first).tolist():
        [key] = to_hex(keys[row : row + 1])
        if not np.array_equal(features[row], features[rows[key]], equal_nan=True):
            raise ValueError(f"rows {rows[key]} and {row} have the same key {key}, but different features.")


def _as_spec(features: Array, spec: FeatureSpec, path: PathLike) -> Any:
    if spec.dtype != "bfloat16":
        return features.astype(features.dtype.newbyteorder("="), copy=False)
    # Rounded and back, every value must be the same; NaN, which equals nothing, is left out of that.
    exact = torch.from_numpy(np.array(features, np.float32))
    rounded = exact.to(torch.bfloat16)
    if not torch.equal(rounded.float().nan_to_num(nan=0), exact.nan_to_num(nan=0)):
        raise ValueError(f"{path} has values that bfloat16 would round: take a spec of float32.")
    return rounded
