"""Destinations of the features of a run: arrays, or a store."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from frofa.backbones.outputs import Request
from frofa.decoding.views import PLAIN, ImageView, View
from frofa.extraction.request import Target
from frofa.extraction.transfers import as_array
from frofa.ragged import RaggedTokens
from frofa.store import FeatureArray, FeatureSpec, FeatureStore, ShardWriter
from frofa.store.ragged import RaggedStore, RaggedWriter


class MemoryWriter:
    """Takes the place of a store's writer where the store cannot be written: puts features into `rows`, by key.

    Tokens of images of different sizes are (h, w, C) each.
    """

    is_due = False

    def __init__(self, rows: dict[str, npt.NDArray[Any]]):
        self._rows = rows

    def add(self, keys: Sequence[str], features: Any) -> None:
        """Take a batch."""
        self._rows.update(zip(keys, as_array(features), strict=True))

    def commit(self) -> None:
        """Do nothing: what was added stays in memory."""

    def __enter__(self) -> "MemoryWriter":
        return self

    def __exit__(self, *_: object) -> None: ...


Writer: TypeAlias = ShardWriter | RaggedWriter | MemoryWriter
COMMIT_BYTES = 2**28
"""Bytes of features that wait together to be committed, however many targets there are: each counts its own up to a
quarter of that (`frofa.store.writer`)."""
COMMITS_AT_ONCE = 8
"""Threads that commit the features of several targets: beside others on a disk, 48 small shards took 2.2 s one by one,
0.2 s in eight threads."""
_RaggedParts: TypeAlias = "list[tuple[list[int], RaggedTokens]]"
"""Positions and tokens, batch by batch."""


class Share(NamedTuple):
    """The part of all features that belongs to a target: rows of one view, of the array of this number."""

    number: int
    view: View = PLAIN


def shared(targets: Sequence[Target]) -> tuple[list[Target], list[Share]]:
    """Find what the forward passes compute for these targets, and the share of it that belongs to each.

    Targets that differ in nothing but the view, or keep the same numbers under another spec, are computed once.
    """
    computed: dict[tuple[Request, str, bool], Target] = {}
    shares = []
    for target in targets:
        feature = target.request, target.spec.dtype, target.is_ragged
        computed.setdefault(feature, target)
        shares.append(Share(list(computed).index(feature), target.view))
    return list(computed.values()), shares


class MemorySink:
    """Keeps features of `n` positions in memory: for each share, an array or the parts of ragged tokens."""

    def __init__(self, n: int, shares: Sequence[Share]):
        self._n, self._shares = n, shares
        self._found: list[npt.NDArray[Any] | _RaggedParts] = []

    def __call__(self, views: list[ImageView], features: list[Any]) -> int:
        """Take a batch; return its size."""
        # The first batch tells which shape (n, ...) and dtype the arrays have.
        batch: list[Any] = [as_array(values) for values in features]
        self._found = self._found or [self._for(batch[share.number]) for share in self._shares]
        rows_of = _rows_by_view(views)
        for found, share in zip(self._found, self._shares, strict=True):
            if not (rows := rows_of.get(share.view)):
                continue
            positions, values = [views[row].position for row in rows], _select(batch[share.number], rows)
            if isinstance(found, list):
                found.append((positions, values))
            else:
                check_shape(values.shape[1:], found.shape[1:])
                found[positions] = values
        return len(views)

    def commit(self) -> int:
        """Do nothing: what was taken is done already."""
        return 0

    def features(self, kept: npt.NDArray[np.intp]) -> list[Any]:
        """Give the features of each target at these positions, which are all that came, in order."""
        return [
            _by_position(found) if isinstance(found, list) else found if len(kept) == self._n else found[kept]
            for found in self._found
        ]

    def _for(self, values: Any) -> "npt.NDArray[Any] | _RaggedParts":
        """Make what takes features such as these."""
        return [] if isinstance(values, RaggedTokens) else np.empty((self._n, *values.shape[1:]), values.dtype)


def _by_position(parts: Sequence[tuple[list[int], RaggedTokens]]) -> RaggedTokens:
    """Join batches, ordered by position."""
    # Whole batches come in order, so that sorting mostly finds nothing to do, and copies nothing.
    whole = RaggedTokens.concatenate([tokens for _, tokens in parts])
    order = np.argsort(np.concatenate([positions for positions, _ in parts]), kind="stable")
    return whole if (order == np.arange(len(order))).all() else whole[order]


class Lack(NamedTuple):
    """A share of the features, the keys that a store lacks it for, and what takes them there."""

    share: Share
    keys: Mapping[str, object]
    writer: Writer


class StoreSink:
    """Writes to a store the features of each target that it lacks; commits those of all targets together.

    `digests` are the keys by position.
    """

    def __init__(self, digests: Mapping[int, str], lacks: Sequence[Lack]):
        self._digests, self._lacks = digests, lacks
        self._shapes: list[tuple[int, ...]] = []
        self._n_waiting = self._n_bytes = 0
        self.n_added = [0] * len(lacks)

    def __call__(self, views: list[ImageView], features: list[Any]) -> int:
        """Take a batch; return how many views of images are on disk since the last call."""
        keys = [self._digests[view.position] for view in views]
        self._shapes = self._shapes or [_shape(values) for values in features]
        for values, shape in zip(features, self._shapes, strict=True):
            check_shape(_shape(values), shape)
        rows_of = _rows_by_view(views)
        for target, (share, lacking, writer) in enumerate(self._lacks):
            # A view of the batch may be there for another target alone.
            rows = [row for row in rows_of.get(share.view, []) if keys[row] in lacking]
            if rows:
                writer.add([keys[row] for row in rows], _select(features[share.number], rows))
                self.n_added[target] += len(rows)
        self._n_waiting += len(views)
        self._n_bytes += sum(_n_bytes(values) for values in features)
        is_due = self._n_bytes >= COMMIT_BYTES or any(lack.writer.is_due for lack in self._lacks)
        return self.commit() if is_due else 0

    def commit(self) -> int:
        """Put all on disk; return how many views of images that are."""
        # A commit mostly waits for the disk, and many wait together.
        with ThreadPoolExecutor(min(COMMITS_AT_ONCE, len(self._lacks)), "frofa-commit") as threads:
            for done in [threads.submit(lack.writer.commit) for lack in self._lacks]:
                done.result()
        n, self._n_waiting, self._n_bytes = self._n_waiting, 0, 0
        return n


Sink: TypeAlias = MemorySink | StoreSink


def gather(store: FeatureStore | RaggedStore, spec: FeatureSpec, keys: Sequence[str], rows: Mapping[str, Any]) -> Any:
    """Give features in the order of the keys, out of memory where they are there, and else out of a store.

    They are a FeatureArray, which is not read yet, if all are in the store; else an array or RaggedTokens.
    """
    if not rows:
        return store.features(spec, keys)
    # Each stored image is read once, however often it is wanted.
    stored = list(dict.fromkeys(key for key in keys if key not in rows))
    found: Any = store.features(spec, stored) if stored else ()
    if isinstance(found, FeatureArray):
        found = np.asarray(found)
    by_key = {**rows, **dict(zip(stored, found, strict=True))}
    parts = [by_key[key] for key in keys]
    if not isinstance(store, RaggedStore):
        return np.stack(parts)
    # Tokens of each image come as (h, w, C): joined, (T, C).
    values = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
    return RaggedTokens(values, [part.shape[:2] for part in parts])


def _rows_by_view(views: Sequence[ImageView]) -> dict[View, list[int]]:
    """Sort the rows of a batch by their views."""
    rows: dict[View, list[int]] = {}
    for row, (_, view) in enumerate(views):
        rows.setdefault(view, []).append(row)
    return rows


def _select(features: Any, rows: list[int]) -> Any:
    """Select rows, in order: all, and those at equal distances, as rows of one view mostly are, without a copy."""
    step = rows[1] - rows[0] if len(rows) > 1 else 1
    even = range(rows[0], rows[-1] + 1, step) if rows else range(0)
    return features[even.start : even.stop : even.step] if rows == list(even) else features[rows]


def _shape(features: Any) -> tuple[int, ...]:
    """Shape of one image's features, as far as all images share it."""
    shape: tuple[int, ...] = features.shape[2:] if isinstance(features, RaggedTokens) else features.shape[1:]
    return shape


def _n_bytes(features: Any) -> int:
    n_bytes: int = (features.values if isinstance(features, RaggedTokens) else features).nbytes
    return n_bytes


def check_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise an error if images have features of different shapes, which no array can hold."""
    if shape != expected:
        raise ValueError(
            f"these images have features of different shapes, {expected} and {shape}: choose output='mean', 'cls' or "
            "'pooled', or extract images of each size apart."
        )
