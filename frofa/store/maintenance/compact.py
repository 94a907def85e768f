"""Few large shards instead of many small ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frofa.compute.memory import row_chunks, rows_per_chunk
from frofa.store.directory import StoreDirectory, check_store, remove_leftovers, spec_directories
from frofa.store.disk.shard import COMPACTED, RowNumbers, Shard, next_number, take_rows, write_shard
from frofa.store.disk.table import SpecTable
from frofa.store.file_digests import UNSAMPLED
from frofa.store.keys import KeyArray, first_of_each, prefixes
from frofa.store.spec import FeatureSpec
from frofa.utils.files import disk_usage, remove_directory
from frofa.utils.progress import progress_bar

SHARD_BYTES = 2**30
"""Bytes of features in a compacted shard; so much free space a compaction needs."""


@dataclass(frozen=True)
class Compaction:
    """The work that a compaction did.

    Attributes
    ----------
    n_before, n_after : int
        Shards.
    n_duplicates : int
        Features that were there twice and are now there once.
    bytes_freed : int
    """

    n_before: int
    n_after: int
    n_duplicates: int
    bytes_freed: int


def compact(store: StoreDirectory, *, progress: bool = False) -> Compaction:
    """Merge shards into large ones of 1 GiB, in the order in which the features were written, and index them.

    Of a feature that is there several times, the first copy that is what was written is kept. Others may read and write
    meanwhile. Killed at any moment, it loses nothing, and goes on when it is called again.
    Two stores with the same features written in the same order have the same files afterwards, bit for bit.

    Damaged keys of a shard are a StoreError; nothing is lost.
    """
    check_store(store.path)
    if not store.path.exists():
        return Compaction(0, 0, 0, 0)
    before = after = duplicates = 0
    size = disk_usage(store.path)
    with store.lock():
        for directory in spec_directories(store.path):
            table = SpecTable(directory)
            shards = table.shards()
            before += len(shards)
            duplicates += _compact(directory, shards, progress=progress) if shards else 0
            after += len(table.shards())
            if shards:
                table.write_index()
        remove_leftovers(store.path)
        remove_directory(store.path / UNSAMPLED)
    return Compaction(before, after, duplicates, size - disk_usage(store.path))


def _compact(directory: Path, shards: Sequence[Shard], *, progress: bool) -> int:
    """Compact one spec; return how many duplicates were dropped. Rows are numbered over all shards, in order."""
    n_rows = rows_per_chunk(SHARD_BYTES, shards[0].row_bytes)
    keys = np.concatenate([shard.checked_keys() for shard in shards])
    # The row behind the last one of each shard, shape (n_shards,).
    ends = np.cumsum([len(shard) for shard in shards])
    chosen, replaced = _choose_copies(shards, ends, keys)
    # Shards at the beginning that an earlier compaction has made are left as they are.
    counts = np.diff(np.searchsorted(chosen, ends), prepend=0)
    finished = 0
    while finished < len(shards) and _is_finished(shards, finished, n_rows, counts):
        finished += 1
    rows = chosen[chosen >= (ends[finished - 1] if finished else 0)]
    done, written = finished, {shard.path.name for shard in shards[:finished]}
    # A shard is named by its keys and checksums, so that the one with a damaged copy may have a name that is wanted.
    first = next_number([shard.path.name for shard in shards], COMPACTED) if replaced else finished
    groups = [rows[part] for part in row_chunks(len(rows), n_rows, 1)]
    for number, group in enumerate(progress_bar(groups, desc="compact", unit="shard", shown=progress), first):
        # A new shard is on disk before any is removed whose rows it has: at no moment is a feature nowhere.
        written.add(_merge(directory, f"{COMPACTED}-{number:08d}", shards, ends, group).path.name)
        done = _drop(shards, ends, done, group[-1] + 1, written)
    _drop(shards, ends, done, ends[-1], written)  # duplicates are left
    return len(keys) - len(chosen)


def _choose_copies(shards: Sequence[Shard], ends: RowNumbers, keys: KeyArray) -> tuple[npt.NDArray[np.intp], bool]:
    """Choose of each key the first row that is what was written, or else the first; say whether a later one was taken.

    Only rows whose key comes again are read.
    """
    first = first_of_each(keys)
    if len(first) == len(keys):
        return first, False
    # Rows of keys that come again, or nearly so: their first 8 bytes do.
    values = prefixes(keys)
    again = np.isin(values, values[np.setdiff1d(np.arange(len(keys)), first)])
    damaged = np.zeros(len(keys), bool)
    for shard, end in zip(shards, ends, strict=True):
        start = end - len(shard)
        rows = np.flatnonzero(again[start:end])
        damaged[start + rows] = ~shard.whole_rows(rows)
    # Whole rows before damaged ones, each in the order they were written: the first of a key is its best.
    order = np.argsort(damaged, kind="stable")
    chosen = np.sort(order[first_of_each(keys[order])])
    return chosen, not np.array_equal(chosen, first)


def _is_finished(shards: Sequence[Shard], number: int, n_rows: int, counts: RowNumbers) -> bool:
    """Whether a shard is in its place, full or the last of all, and all of its rows are chosen."""
    shard = shards[number]
    in_place = shard.path.name.startswith(f"{COMPACTED}-{number:08d}-")
    return in_place and (len(shard) == n_rows or number == len(shards) - 1) and bool(counts[number] == len(shard))


def _drop(shards: Sequence[Shard], ends: RowNumbers, done: int, end: int, written: set[str]) -> int:
    """Remove the shards from number `done` on that end by row `end`, unless written anew; return the next number."""
    while done < len(shards) and ends[done] <= end:
        if shards[done].path.name not in written:
            remove_directory(shards[done].path)
        done += 1
    return done


def _merge(directory: Path, stem: str, shards: Sequence[Shard], ends: RowNumbers, rows: RowNumbers) -> Shard:
    """Write rows, numbered over all shards, as one shard."""
    # The shard of each row, ascending as the rows are.
    numbers = np.searchsorted(ends, rows, side="right")
    sources = []
    for number in np.unique(numbers):
        start = ends[number] - len(shards[number])
        sources.append((shards[number], rows[numbers == number] - start))
    table = np.concatenate([shard.rows[of_it] for shard, of_it in sources])
    parts = chain.from_iterable(take_rows(shard.features, of_it) for shard, of_it in sources)
    spec = FeatureSpec.from_json(directory / "spec.json")
    return write_shard(directory, spec, table, (shards[0].shape[1:], shards[0].dtype), parts, stem)
