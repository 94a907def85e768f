"""Few large shards instead of many small ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frofa.store.directory import StoreDirectory, check_store, spec_directories
from frofa.store.disk.format import Array
from frofa.store.disk.index import INDEX
from frofa.store.disk.shard import CHUNK, COMPACTED, SHARDS, Shard, next_number, write_shard
from frofa.store.disk.table import SpecTable
from frofa.store.file_digests import FILES, UNSAMPLED
from frofa.store.keys import KeyArray, first_of_each, prefixes
from frofa.store.spec import FeatureSpec
from frofa.utils.files import disk_usage, remove_directory, remove_stale
from frofa.utils.progress import progress_bar

SHARD_BYTES = 2**30
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Compaction:
    """What a compaction did.

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

    Parameters
    ----------
    store : StoreDirectory
    progress : bool
        Show a progress bar.

    Returns
    -------
    Compaction

    Raises
    ------
    StoreError
        If a shard's keys are damaged; nothing is lost.
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
            for part in (store.path, store.path / FILES, directory, directory / SHARDS, directory / INDEX):
                remove_stale(part)
        remove_directory(store.path / UNSAMPLED)
    return Compaction(before, after, duplicates, size - disk_usage(store.path))


def _compact(directory: Path, shards: Sequence[Shard], *, progress: bool) -> int:
    n_rows = max(1, SHARD_BYTES // shards[0].row_bytes)
    keys = np.concatenate([shard.checked_keys() for shard in shards])
    ends = np.cumsum([len(shard) for shard in shards])
    chosen, replaced = _choose_copies(shards, ends, keys)
    counts = np.diff(np.searchsorted(chosen, ends), prepend=0)
    finished = 0
    while finished < len(shards) and _is_finished(shards, finished, n_rows, counts):
        finished += 1
    rows = chosen[chosen >= (ends[finished - 1] if finished else 0)]
    done, written = finished, {shard.path.name for shard in shards[:finished]}
    groups = [rows[start : start + n_rows] for start in range(0, len(rows), n_rows)]
    # A shard is named by its keys and checksums, so that the one with a damaged copy may have a name that is wanted.
    first = next_number([shard.path.name for shard in shards], COMPACTED) if replaced else finished
    for number, group in enumerate(progress_bar(groups, desc="compact", unit="shard", shown=progress), first):
        written.add(_merge(directory, f"{COMPACTED}-{number:08d}", shards, ends, group).path.name)
        while done < len(shards) and ends[done] <= group[-1] + 1:
            done = _drop(shards[done], written, done)
    while done < len(shards):  # duplicates are left
        done = _drop(shards[done], written, done)
    return len(keys) - len(chosen)


def _choose_copies(shards: Sequence[Shard], ends: Counts, keys: KeyArray) -> tuple[npt.NDArray[np.intp], bool]:
    """Of each key the first row that is what was written, or else the first; and whether a later one had to be taken.

    Only rows whose key comes again are read.
    """
    first = first_of_each(keys)
    if len(first) == len(keys):
        return first, False
    values = prefixes(keys)
    again = np.isin(values, values[np.setdiff1d(np.arange(len(keys)), first)])
    damaged = np.zeros(len(keys), bool)
    for shard, end in zip(shards, ends, strict=True):
        start = end - len(shard)
        rows = np.flatnonzero(again[start:end])
        damaged[start + rows] = ~shard.whole_rows(rows)
    order = np.argsort(damaged, kind="stable")
    chosen = np.sort(order[first_of_each(keys[order])])
    return chosen, not np.array_equal(chosen, first)


def _is_finished(shards: Sequence[Shard], number: int, n_rows: int, counts: Counts) -> bool:
    """Whether a shard is in its place, full or the last of all, and all of its rows are chosen."""
    shard = shards[number]
    in_place = shard.path.name.startswith(f"{COMPACTED}-{number:08d}-")
    return in_place and (len(shard) == n_rows or number == len(shards) - 1) and bool(counts[number] == len(shard))


def _drop(shard: Shard, written: set[str], done: int) -> int:
    if shard.path.name not in written:
        remove_directory(shard.path)
    return done + 1


def _merge(directory: Path, stem: str, shards: Sequence[Shard], ends: Counts, rows: npt.NDArray[np.intp]) -> Shard:
    numbers = np.searchsorted(ends, rows, side="right")
    sources = []
    for number in np.unique(numbers):
        start = ends[number] - len(shards[number])
        sources.append((shards[number], rows[numbers == number] - start))
    table = np.concatenate([shard.rows[of_it] for shard, of_it in sources])
    spec = FeatureSpec.from_json(directory / "spec.json")
    return write_shard(
        directory, spec, stem, table, (len(rows), *shards[0].shape[1:]), shards[0].dtype, _parts(sources)
    )


def _parts(sources: Sequence[tuple[Shard, npt.NDArray[np.intp]]]) -> Iterator[Array]:
    for shard, rows in sources:
        size = max(1, CHUNK // shard.row_bytes)
        for start in range(0, len(rows), size):
            yield shard.features[rows[start : start + size]]
