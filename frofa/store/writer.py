"""Adding features to a store, some shards at a time."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from frofa.store.directory import StoreDirectory
from frofa.store.disk.format import Array
from frofa.store.disk.shard import row_table, write_shard
from frofa.store.keys import KeyArray, Keys, as_keys
from frofa.store.lazy.transfer import bits_of
from frofa.store.spec import FeatureSpec

COMMIT_BYTES, COMMIT_SECONDS = 2**26, 2.0
"""Bytes of features that wait to be committed, and seconds that they wait; a crash loses what waits."""
ATTEMPTS = 100
"""Attempts at a commit while others delete the directory that it writes to; two or three do."""


class ShardWriter:
    """Batches of features on their way into a store: committed as a shard every 2 seconds or 64 MiB, and at the end.

    A batch is committed as a whole. What is committed is on disk and stays; what is not, a crash loses. Leaving the
    ``with`` block commits the rest, also when an exception leaves it.

    Parameters
    ----------
    store : StoreDirectory
        A `FeatureStore`, for example.
    spec : FeatureSpec
    on_commit : callable, default=None
        Called with the number of images after each commit.
    automatic : bool, default=True
        False leaves it to the caller to look at `is_due` and to commit.

    Examples
    --------
    >>> with store.writer(spec) as writer:  # doctest: +SKIP
    ...     writer.add(keys, features)
    """

    def __init__(
        self,
        store: StoreDirectory,
        spec: FeatureSpec,
        on_commit: Callable[[int], object] | None = None,
        *,
        automatic: bool = True,
    ):
        self._store, self._spec, self._on_commit, self._automatic = store, spec, on_commit, automatic
        self._batches: list[tuple[KeyArray, Array]] = []
        self._bytes, self._since = 0, time.monotonic()
        self._shape: tuple[int, ...] | None = None

    def add(self, keys: Keys, features: Any) -> None:
        """Take a batch.

        Parameters
        ----------
        keys : sequence of str, or ndarray of uint8 of shape (n, 20)
        features : ndarray or Tensor of shape (n, ...)
            Kept until they are committed: not to be changed. A Tensor for a spec of bfloat16.

        Raises
        ------
        ValueError
            If numbers or shapes do not fit.
        OSError
            If the disk is full or not writable; nothing half-written is left.
        """
        stored = as_stored(features, self._spec)
        batch = as_keys(keys)
        if len(batch) != len(stored):
            raise ValueError(f"expected one row of features a key. Got {len(batch)} keys, {len(stored)} rows.")
        if not len(batch):
            return
        self._check_shape(stored.shape[1:])
        if not self._batches:
            self._since = time.monotonic()
        self._batches.append((batch, stored))
        self._bytes += stored.nbytes
        if self._automatic and self.is_due:
            self.commit()

    @property
    def is_due(self) -> bool:
        """Whether enough waits, or waits for so long, that it should be committed."""
        late = time.monotonic() - self._since >= COMMIT_SECONDS
        return bool(self._batches) and (late or self._bytes >= COMMIT_BYTES)

    def commit(self) -> None:
        """Put on disk what was added."""
        if not self._batches:
            return
        # Let go before they are written: what could not be written is not tried again together with what comes later.
        batches, self._batches, self._bytes = self._batches, [], 0
        table = np.concatenate([row_table(keys, features) for keys, features in batches])
        row = batches[0][1].shape[1:], self._spec.stored_dtype
        # Each attempt makes the directory anew, if it is not there.
        for attempt in range(1, ATTEMPTS + 1):
            try:
                write_shard(self._store.create(self._spec), self._spec, table, row, (part for _, part in batches))
                break
            except FileNotFoundError:  # another process deletes the features of this spec
                if attempt == ATTEMPTS:
                    raise
        if self._on_commit is not None:
            self._on_commit(len(table))

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.commit()
        if kind is None:
            self._store.index_if_worth_it(self._spec)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if 0 in shape:
            raise ValueError(f"expected features of one value or more an image. Got shape {shape}.")
        if self._shape is None:
            # What the store has already decides; in an empty one, the first batch.
            found = self._store.table(self._spec).feature_shape()
            self._shape = shape if found is None else found
        if shape != self._shape:
            raise ValueError(f"this spec's features have shape {self._shape}. Got {shape}.")


def as_stored(features: Any, spec: FeatureSpec) -> Array:
    """Turn features into what the files hold, the bits of bfloat16 as integers; ValueError for another dtype."""
    if isinstance(features, torch.Tensor):
        name = str(features.dtype).removeprefix("torch.")
        array = bits_of(features.detach().cpu().contiguous())
    else:
        array = np.asarray(features)
        name = str(array.dtype.newbyteorder("="))
    if name != spec.dtype:
        raise ValueError(f"expected features of {spec.dtype}, the spec's dtype. Got {name}.")
    if not array.ndim:
        raise ValueError("expected one row of features a key. Got a single number.")
    return array.astype(spec.stored_dtype, copy=False)
