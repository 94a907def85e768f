"""A lazy array of stored features."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from frofa.compute.memory import row_chunks
from frofa.store.disk.format import Array, map_file
from frofa.store.disk.shard import RowNumbers
from frofa.store.lazy.indexing import is_basic, out_of_bounds, row_positions, split_index
from frofa.store.lazy.reading import READ_BYTES, InnerIndices, as_rows, inner_shape, mapped_features, take_inner
from frofa.store.lazy.source import FeatureSource, pick, slice_of
from frofa.store.lazy.transfer import resolve, transfer


class FeatureArray:
    """Features of a store that are read when they are used.

    Made by `FeatureStore.features`. It has the shape and dtype of an array and is indexed like one. Several rows, with
    integers and slices for further axes, are a view of the same kind, and nothing is read; a single row is an ndarray.
    ``np.asarray(x)`` reads: rows that lie evenly spaced in one shard are the memory map itself, read-only, others are
    copied. scikit-learn's splitters, searches and pipelines take it like an ndarray, and the heads of
    `frofa.estimators` take tokens in it without reading them all into memory.

    Features of bfloat16, which NumPy does not have, are float32 as arrays, which is exact, and ``torch.bfloat16`` as
    tensors.

    Copies and pickles carry the store's path and places in it, no features. When another process compacts the store,
    the features are found again by their keys.

    Attributes
    ----------
    shape : tuple of int
    ndim : int
    dtype : dtype
        Of ``np.asarray(x)``.
    size : int
        Number of elements.
    nbytes : int
        Bytes of ``np.asarray(x)``.
    keys : ndarray of uint8, shape (n, 20)
        The image's digest of each row.
    spec : FeatureSpec

    Examples
    --------
    >>> features = store.features(spec)  # doctest: +SKIP
    >>> head.fit(features[train], labels[train])  # doctest: +SKIP
    >>> batch = features[:128].tensor()  # doctest: +SKIP
    """

    def __init__(self, source: FeatureSource, at: RowNumbers | range | None = None, inner: InnerIndices = ()):
        self._source, self._inner = source, inner
        self._at: RowNumbers | range = range(source.shape[0]) if at is None else at
        self.shape: tuple[int, ...] = (len(self._at), *inner_shape(source.shape[1:], inner))
        self._stored = np.dtype(source.spec.stored_dtype)
        self.dtype = np.dtype(np.float32) if source.spec.dtype == "bfloat16" else self._stored

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    keys = property(lambda self: self._source.keys(self._at))
    spec = property(lambda self: self._source.spec)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        spec = self._source.spec
        return (
            f"FeatureArray(shape={self.shape}, dtype={spec.dtype}, {self.size * self._stored.itemsize / 2**20:.4g} MiB "
            f"in {str(self._source.table.directory)!r})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureArray, (self._source.select(self._at, self._inner),)

    def __getitem__(self, item: Any) -> Any:
        # `rows` is for the first axis, `index` for those of a feature.
        rows, index = split_index(item, self.ndim)
        # Only one axis of row numbers, and views of each feature, can wait until they are read.
        if rows is None or not is_basic(index) or (isinstance(rows, np.ndarray) and rows.ndim != 1):
            return self._gather(item, rows, index)
        if isinstance(rows, int):
            return self._rows(np.array([self._position(rows)]), index).__array__()[0]
        if isinstance(rows, np.ndarray):
            rows = row_positions(rows, len(self))
        return self._rows(rows, index)

    def __iter__(self) -> Iterator[Array]:
        for part in row_chunks(len(self), READ_BYTES, self.nbytes // max(1, len(self))):
            yield from self[part].__array__()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        wanted = self.dtype if dtype is None else np.dtype(dtype)
        if wanted == self.dtype == self._stored and not copy and (view := self._view()) is not None:
            return view
        if copy is False:
            raise ValueError("these features can only be had as a copy: they are not one run of rows of one file.")
        # Who asks bfloat16 for uint16, in which it is stored, wants numbers, not bits.
        if wanted == self._stored != self.dtype:
            return self.__array__().astype(wanted)
        out: Array = np.empty(self.shape, wanted)
        self._source.read(self._at, out, self._inner)
        return out

    def _digested(self) -> tuple[Any, ...]:
        """Parts that a digest is made of, the same wherever features lie: spec, keys, and what is taken of each."""
        return self.spec.digest, self.keys, (*self._source.inner, *self._inner)

    def tensor(self) -> torch.Tensor:
        """Read into a tensor on the CPU, of the stored dtype.

        Rows that lie evenly spaced in one shard are not read, but mapped. What is written to the tensor stays in it.

        Returns
        -------
        Tensor of shape (n, ...)
        """
        if (run := self._source.one_run(self._at)) is not None and (run[1].step or 1) > 0:
            shard, rows = run
            try:
                shard.check_sizes()
                mapped = map_file(shard.path / "features.npy")[shard.offset :]
            except FileNotFoundError:  # compacted: read below
                pass
            else:
                # Bytes of the file behind its header, as features (rows of the shard, ...), and of them our rows.
                features = mapped.view(self._torch_dtype).view(shard.shape)[rows]
                return take_inner(features, (*self._source.inner, *self._inner))
        # Allocated by NumPy, which asks for large pages: the first touch of small ones takes longer than reading.
        bits: Array = np.empty(self.shape, self._stored)
        self._source.read(self._at, bits, self._inner)
        return torch.from_numpy(bits).view(self._torch_dtype)

    def to_device(
        self, device: str | torch.device, dtype: torch.dtype | None = None, budget: int | None = None
    ) -> torch.Tensor:
        """Put the features on a device, once.

        They are read in chunks into pinned memory while the chunk before is copied. The tensor is kept by this array:
        it and all views of it, made before or after, find their rows there, whoever asks (the heads do), until
        `release`, or until the array and its views are gone. Slices of the rows are views of the tensor; other choices
        are gathered on the device.

        Parameters
        ----------
        device : str or torch.device
        dtype : torch.dtype, default=None
            None takes what is on the device in whichever dtype, or else the stored one.
        budget : int, default=None
            Bytes that may be used on the device; None is 80 % of what is free there.

        Returns
        -------
        Tensor of shape (n, ...)

        Raises
        ------
        MemoryError
            If they do not fit; the message says what is needed and what is free.
        """
        device = resolve(device)
        # All rows of the source, of which this array may have some only.
        whole = self._source.on_device.get(device)
        if whole is None or (dtype is not None and dtype != whole.dtype):
            if not isinstance(self._at, range) or self._at != range(self._source.shape[0]) or self._inner:
                # A source of its own: only this array and its views share what is on the device.
                self._source = self._source.select(self._at, self._inner)
                self._at, self._inner = range(len(self)), ()
            source = self._source
            whole = transfer(
                lambda start, stop, out: source.read(self._at[start:stop], out),
                self.shape,
                self._torch_dtype,
                device,
                dtype or self._torch_dtype,
                budget,
            )
            source.on_device[device] = whole
        # A slice of what is on the device is a view; torch has none that go backwards.
        if isinstance(self._at, range) and self._at.step > 0:
            rows = whole[slice_of(self._at)]
        else:
            rows = whole[torch.from_numpy(np.ascontiguousarray(as_rows(self._at))).to(device)]
        return take_inner(rows, self._inner)

    def release(self) -> None:
        """Forget what `to_device` has put on devices: the memory is free when no one else uses the tensors."""
        self._source.on_device.clear()

    @property
    def _torch_dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self._source.spec.dtype)
        return dtype

    def _rows(self, rows: Any, index: tuple[Any, ...] = ()) -> "FeatureArray":
        at = self._at[rows] if isinstance(rows, slice) else pick(self._at, rows)
        if all(one == slice(None) for one in index):
            return FeatureArray(self._source, at, self._inner)
        return FeatureArray(self._source, at, (*self._inner, index))

    def _position(self, row: int) -> int:
        if not -len(self) <= row < len(self):
            raise out_of_bounds(row, len(self))
        return row % len(self)

    def _gather(self, item: Any, rows: Any, index: tuple[Any, ...]) -> Any:
        """Index what is no view of the rows: read those that are needed, and leave the rest to NumPy."""
        if isinstance(rows, slice):
            return np.asarray(self._rows(rows))[(slice(None), *index)]
        if isinstance(rows, int):
            return np.asarray(self._rows(np.array([self._position(rows)])))[(0, *index)]
        if isinstance(rows, np.ndarray) and rows.ndim and not any(one is None for one in index):
            # A mask over several axes is one array of positions for each of them; the first is that of the rows.
            first, *others = rows.nonzero() if rows.dtype == bool and rows.ndim > 1 else [rows]
            # Each row is read once, however often it is asked for.
            used, positions = np.unique(row_positions(first.reshape(-1), len(self)), return_inverse=True)
            shape = first.shape if first.dtype != bool else (-1,)
            return np.asarray(self._rows(used))[(positions.reshape(shape), *others, *index)]
        return np.asarray(self)[item]

    def _view(self) -> Array | None:
        """The memory map, if the rows lie evenly spaced in one shard that is there."""
        run = self._source.one_run(self._at)
        if run is None:
            return None
        try:
            return take_inner(mapped_features(run[0])[run[1]], (*self._source.inner, *self._inner))
        except FileNotFoundError:
            return None
