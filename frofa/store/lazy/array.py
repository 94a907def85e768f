"""A lazy array of stored features."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from frofa.store.disk.format import Array, map_file
from frofa.store.disk.table import Places, SpecTable
from frofa.store.lazy.indexing import is_basic, out_of_bounds, row_positions, split_index
from frofa.store.lazy.reading import BLOCK, Rows, Steps, as_rows, mapped_features, take_steps
from frofa.store.lazy.source import Source, pick, slice_of
from frofa.store.lazy.transfer import resolve, transfer
from frofa.store.spec import FeatureSpec


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

    def __init__(self, table: SpecTable, spec: FeatureSpec, places: Places):
        self._set(Source.of_places(table, spec, places), None, ())

    @classmethod
    def of_shards(cls, table: SpecTable, spec: FeatureSpec) -> "FeatureArray":
        """All rows of a spec, in the order they were written."""
        return cls._of(Source.of_shards(table, spec), None, ())

    @classmethod
    def _of(cls, source: Source, at: Rows | range | None, steps: Steps) -> "FeatureArray":
        array = cls.__new__(cls)
        array._set(source, at, steps)
        return array

    def _set(self, source: Source, at: Rows | range | None, steps: Steps) -> None:
        self._source, self._steps = source, steps
        self._at: Rows | range = range(source.shape[0]) if at is None else at
        feature = np.broadcast_to(np.uint8(0), (1, *source.shape[1:]))
        self.shape: tuple[int, ...] = (len(self._at), *take_steps(feature, steps).shape[1:])
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
        return _restore, (self._source.select(self._at, self._steps),)

    def __getitem__(self, item: Any) -> Any:
        rows, inner = split_index(item, self.ndim)
        if rows is None or not is_basic(inner) or (isinstance(rows, np.ndarray) and rows.ndim != 1):
            return self._gather(item, rows, inner)
        if isinstance(rows, int):
            return self._rows(np.array([self._position(rows)]), inner).__array__()[0]
        if isinstance(rows, np.ndarray):
            rows = row_positions(rows, len(self))
        return self._rows(rows, inner)

    def __iter__(self) -> Iterator[Array]:
        size = max(1, BLOCK // max(1, self.nbytes // max(1, len(self))))
        for start in range(0, len(self), size):
            yield from self[start : start + size].__array__()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        wanted = self.dtype if dtype is None else np.dtype(dtype)
        if wanted == self.dtype == self._stored and not copy and (view := self._view()) is not None:
            return view
        if copy is False:
            raise ValueError("these features can only be had as a copy: they are not one run of rows of one file.")
        if wanted == self._stored != self.dtype:
            return self.__array__().astype(wanted)
        out: Array = np.empty(self.shape, wanted)
        self._source.read(self._at, out, self._steps)
        return out

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
                features = mapped.view(self._torch_dtype).view(shard.shape)[rows]
                return take_steps(features, (*self._source.steps, *self._steps))  # type: ignore[arg-type, return-value]
        # Allocated by NumPy, which asks for large pages: the first touch of small ones takes longer than reading.
        bits: Array = np.empty(self.shape, self._stored)
        self._source.read(self._at, bits, self._steps)
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
        whole = self._source.on_device.get(device)
        if whole is None or (dtype is not None and dtype != whole.dtype):
            if not isinstance(self._at, range) or self._at != range(self._source.shape[0]) or self._steps:
                self._set(self._source.select(self._at, self._steps), None, ())  # what is shared is this and its views
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
        if isinstance(self._at, range) and self._at.step > 0:
            rows = whole[slice_of(self._at)]
        else:
            rows = whole[torch.from_numpy(np.ascontiguousarray(as_rows(self._at))).to(device)]
        return take_steps(rows, self._steps)  # type: ignore[arg-type, return-value]

    def release(self) -> None:
        """Forget what `to_device` has put on devices: the memory is free when no one else uses the tensors."""
        self._source.on_device.clear()

    @property
    def _torch_dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self._source.spec.dtype)
        return dtype

    def _rows(self, rows: Any, inner: tuple[Any, ...] = ()) -> "FeatureArray":
        at = self._at[rows] if isinstance(rows, slice) else pick(self._at, rows)
        steps = self._steps
        if any(one != slice(None) for one in inner):
            np.broadcast_to(np.uint8(0), (1, *self.shape[1:]))[(slice(None), *inner)]  # raises what NumPy would
            steps = (*steps, inner)
        return FeatureArray._of(self._source, at, steps)

    def _position(self, row: int) -> int:
        if not -len(self) <= row < len(self):
            raise out_of_bounds(row, len(self))
        return row % len(self)

    def _gather(self, item: Any, rows: Any, inner: tuple[Any, ...]) -> Any:
        """What is no view of the rows: read those that are needed, and let NumPy index them."""
        if isinstance(rows, slice):
            return np.asarray(self._rows(rows))[(slice(None), *inner)]
        if isinstance(rows, int):
            return np.asarray(self._rows(np.array([self._position(rows)])))[(0, *inner)]
        if isinstance(rows, np.ndarray) and rows.ndim and not any(one is None for one in inner):
            first, *others = rows.nonzero() if rows.dtype == bool and rows.ndim > 1 else [rows]
            used, places = np.unique(row_positions(first.reshape(-1), len(self)), return_inverse=True)
            shape = first.shape if first.dtype != bool else (-1,)
            return np.asarray(self._rows(used))[(places.reshape(shape), *others, *inner)]
        return np.asarray(self)[item]

    def _view(self) -> Array | None:
        """The memory map, if the rows lie evenly spaced in one shard that is there."""
        run = self._source.one_run(self._at)
        if run is None:
            return None
        try:
            return take_steps(mapped_features(run[0])[run[1]], (*self._source.steps, *self._steps))
        except FileNotFoundError:
            return None


def _restore(source: Source) -> FeatureArray:
    return FeatureArray._of(source, None, ())
