"""A directory of features, keyed by what determines them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import save as to_safetensors

from frofa._files import write_atomically
from frofa.exceptions import StoreError

FORMAT = 1
MANIFEST = "frofa-store.json"


@dataclass(frozen=True)
class FeatureSpec:
    """Everything but the image that determines a feature.

    Attributes
    ----------
    weights, architecture : str
        Digests of the backbone's weights, and of what computes with them.
    preprocessing : str
        The checkpoint's own preprocessing as JSON: size, interpolation, crop, mean and standard deviation.
    decoder : str
        Name and version of the library that decodes images.
    output, layer, norm : str, int or None, bool
        As in `FrozenFeatureExtractor`, the layer as a non-negative index.
    precision, dtype : str
        Of the forward pass, and of what is stored.
    """

    weights: str
    architecture: str
    preprocessing: str
    decoder: str
    output: str
    layer: int | None
    norm: bool
    precision: str
    dtype: str

    @property
    def digest(self) -> str:
        """The name of this spec's directory: 40 hexadecimal digits."""
        canonical = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)
        return blake2b(canonical.encode(), digest_size=20, person=b"frofa-spec").hexdigest()


class FeatureStore:
    """Features on disk, one directory for any number of images and backbones.

    A feature's key is the content of its image and a `FeatureSpec`: weights, preprocessing, decoder, output, layer,
    norm, precision and dtype. So a second run does no forward pass, ten new images cost ten, moved or renamed files
    cost none, and another model never gets these features.

    Each batch is one safetensors file, written to a temporary name, synced and renamed: it is there whole or not at
    all. Several processes may read and write at once. No pickle.

    Parameters
    ----------
    path : path
        The directory; created at the first write.

    Examples
    --------
    >>> from frofa import FeatureStore, FrozenFeatureExtractor
    >>> store = FeatureStore("features")
    >>> extractor = FrozenFeatureExtractor(store=store)  # the path alone would do
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._rows: dict[str, dict[str, tuple[Path, int]]] = {}

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_rows": {}}  # copies and pickles carry the path, not what is known of its content

    def missing(self, spec: FeatureSpec, keys: Sequence[str]) -> list[str]:
        """Those of the keys that the store does not have, once each, in order.

        Raises
        ------
        StoreError
            If the directory is not a store of this version, or has a damaged file.
        """
        rows = self._known(spec, keys)
        return [key for key in dict.fromkeys(keys) if key not in rows]

    def get(self, spec: FeatureSpec, keys: Sequence[str]) -> npt.NDArray[Any]:
        """Read features in the order of the keys, shape (len(keys), ...).

        Raises
        ------
        KeyError
            If one is not there.
        StoreError
            If a file is damaged.
        """
        rows = self._known(spec, keys)
        by_shard: dict[Path, list[tuple[int, int]]] = {}
        for position, key in enumerate(keys):
            shard, row = rows[key]
            by_shard.setdefault(shard, []).append((position, row))
        out: npt.NDArray[Any] | None = None
        for shard, places in by_shard.items():
            features = _read_features(shard)
            if out is None:
                out = np.empty((len(keys), *features.shape[1:]), features.dtype)
            positions, taken = zip(*places, strict=True)
            out[list(positions)] = features[list(taken)]
        if out is None:
            raise KeyError("no keys to read")
        return out

    def put(self, spec: FeatureSpec, keys: Sequence[str], features: npt.NDArray[Any]) -> None:
        """Write one batch; when this returns, it is on disk.

        Parameters
        ----------
        spec : FeatureSpec
        keys : sequence of str
            Digests of the images.
        features : ndarray of shape (len(keys), ...)

        Raises
        ------
        OSError
            If the disk is full or not writable; nothing half-written is left.
        """
        if len(keys) != len(features):
            raise ValueError(f"expected one row of features a key. Got {len(keys)} keys, {len(features)} rows.")
        directory = self._create(spec)
        name = blake2b("".join(keys).encode(), digest_size=20).hexdigest()
        shard = directory / f"{name}.safetensors"
        data = to_safetensors({"features": np.ascontiguousarray(features)}, metadata={"keys": json.dumps(list(keys))})
        write_atomically(shard, lambda file: file.write(data))
        known = self._rows.setdefault(spec.digest, {})
        known.update({key: (shard, row) for row, key in enumerate(keys)})

    def specs(self) -> dict[str, Mapping[str, Any]]:
        """What the store holds: each spec's digest and fields, with the number of its images as ``n_images``."""
        self._check()
        found: dict[str, Mapping[str, Any]] = {}
        for file in sorted(self.path.glob("*/spec.json")):
            keys = {key for shard in file.parent.glob("*.safetensors") for key in _shard_keys(shard)}
            found[file.parent.name] = {**json.loads(file.read_text()), "n_images": len(keys)}
        return found

    def _check(self) -> None:
        manifest = self.path / MANIFEST
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; a feature store is a directory.")
        # Listed before the manifest is read: of a store that another process is creating, the manifest comes first.
        empty = self.path.is_dir() and all(file.name.startswith(".tmp-") for file in self.path.iterdir())
        try:
            version = json.loads(manifest.read_text())["format"]
        except FileNotFoundError:
            if empty:
                return  # about to become a store
            raise StoreError(
                f"{self.path} is not a feature store: it has no {MANIFEST}. Pass an empty or new directory."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{manifest} is damaged: {error}") from error
        if version != FORMAT:
            raise StoreError(f"{self.path} has format {version}; this version of frofa reads format {FORMAT}.")

    def _create(self, spec: FeatureSpec) -> Path:
        self._check()
        directory = self.path / spec.digest
        for file, content in ((self.path / MANIFEST, {"format": FORMAT}), (directory / "spec.json", asdict(spec))):
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                data = json.dumps(content, indent=1).encode()
                write_atomically(file, lambda opened, data=data: opened.write(data))  # type: ignore[misc]
        return directory

    def _known(self, spec: FeatureSpec, keys: Sequence[str]) -> dict[str, tuple[Path, int]]:
        rows = self._rows.setdefault(spec.digest, {})
        if not all(shard.exists() for shard in {rows[key][0] for key in keys if key in rows}):
            rows.clear()  # a damaged file was deleted, as the error advises
        if any(key not in rows for key in keys):  # look what this or another process has added
            self._check()
            for shard in (self.path / spec.digest).glob("*.safetensors"):
                rows.update({key: (shard, row) for row, key in enumerate(_shard_keys(shard))})
        return rows


def _shard_keys(shard: Path) -> tuple[str, ...]:
    stat = shard.stat()
    return _read_keys(shard, stat.st_ino, stat.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _read_keys(shard: Path, inode: int, mtime_ns: int) -> tuple[str, ...]:
    del inode, mtime_ns  # only part of the cache's key
    try:
        with safetensors.safe_open(shard, "np") as file:
            keys = json.loads(file.metadata()["keys"])
            if len(keys) != file.get_slice("features").get_shape()[0]:
                raise ValueError("the number of keys differs from the number of rows")
            return tuple(keys)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _damaged(shard, error) from error


def _read_features(shard: Path) -> npt.NDArray[Any]:
    try:
        with safetensors.safe_open(shard, "np") as file:
            features: npt.NDArray[Any] = file.get_tensor("features")
            return features
    except safetensors.SafetensorError as error:
        raise _damaged(shard, error) from error


def _damaged(shard: Path, error: Exception) -> StoreError:
    return StoreError(f"{shard} is damaged ({error}): delete this file, and its images will be extracted again.")
