"""How fast a feature store is read, and how fast a large one opens.

Tokens: features (n, N, C), by default (n, 196, 768) in float16, written through the store's writer. "whole" is all of
them into one new torch tensor, beside `np.fromfile` of one flat file of the same bytes; "batches" is the same in runs
of 128, each summed up afterwards as 64-bit integers, so that what is only mapped is read; "random" is 128 random rows
into a new tensor, beside h5py, zarr and safetensors, each with the same features in one file (zarr: one chunk an image)
without compression, and each read in the faster of the ways it has. Those that are not installed are named and left
out. Rounds of all take turns, and a ratio is one of medians. "cold" is after the files were dropped from the page
cache, where the system does so on request.

Opening: pooled features (n, 64), by default 10 million, in a store whose shards are as a writer leaves them (64 MiB),
and in one of thousands of shards, as runs of hours do. A fresh process opens it and reads 128 random entries, by their
keys and by their rows; the time is from after the imports to when the batch is there, the memory is the whole process's
peak.

Usage: python benchmarks/store.py FOLDER [--parts tokens opening] [--gigabytes 2] [--entries 10000000] [--out FILE.json]
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from frofa.store import FeatureSpec, FeatureStore

BATCH, ROUNDS, BATCHES = 128, 5, 8
Read = Callable[[], object]


def spec_of(output: str, dtype: str) -> FeatureSpec:
    return FeatureSpec("benchmark", "benchmark", "{}", "none", output, None, True, "float32", dtype)


def keys_of(start: int, stop: int) -> Any:
    """Distinct keys that lie as those of images do: at random."""
    return np.random.default_rng([7, start]).integers(0, 256, (stop - start, 20), np.uint8)


def seconds(read: Read) -> float:
    start = time.perf_counter()
    read()
    return time.perf_counter() - start


def in_turns(readers: Mapping[str, Read], before: Callable[[], object] = lambda: None) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        for name, read in readers.items():
            before()
            times[name].append(seconds(read))
    return times


def drop(folder: Path) -> None:
    """Drop files from the page cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def write_tokens(folder: Path, n: int, shape: tuple[int, int]) -> None:
    """The same features as a store and as one flat file."""
    store, spec = FeatureStore(folder / "store"), spec_of("tokens", "float16")
    rng = np.random.default_rng(0)
    with store.writer(spec) as writer, (folder / "flat.bin").open("wb") as flat:
        for start in tqdm(range(0, n, BATCH), "write tokens", leave=False):
            size = min(BATCH, n - start)
            features = rng.standard_normal((size, *shape), np.float32).astype(np.float16)
            writer.add(keys_of(start, start + size), features)
            flat.write(features.data)


def tokens(folder: Path, gigabytes: float, shape: tuple[int, int]) -> dict[str, Any]:
    n = int(gigabytes * 1e9) // (2 * shape[0] * shape[1])
    write_tokens(folder, n, shape)
    store, spec = FeatureStore(folder / "store"), spec_of("tokens", "float16")
    features = store.features(spec)
    flat = folder / "flat.bin"
    n_bytes = flat.stat().st_size
    count = BATCH * shape[0] * shape[1]

    def flat_batches() -> None:
        with flat.open("rb") as file:
            while len(part := torch.from_numpy(np.fromfile(file, np.float16, count))):
                part.view(torch.int64).sum()

    def our_batches() -> None:
        for start in range(0, n, BATCH):
            features[start : start + BATCH].tensor().view(torch.int64).sum()

    whole = {"frofa": features.tensor, "fromfile": lambda: torch.from_numpy(np.fromfile(flat, np.float16))}
    in_batches = {"frofa": our_batches, "fromfile": flat_batches}
    same = torch.equal(features.tensor().flatten(), torch.from_numpy(np.fromfile(flat, np.float16)))
    results: dict[str, Any] = {
        "n": n,
        "shape": shape,
        "gigabytes": n_bytes / 1e9,
        "shards": n_shards(folder),
        "equal": same,
    }
    results["whole"] = rates(in_turns(whole), n_bytes, "fromfile")
    results["batches"] = rates(in_turns(in_batches), n_bytes, "fromfile")
    results["whole cold"] = rates(in_turns(whole, partial(drop, folder)), n_bytes, "fromfile")
    flat.unlink()
    readers = {"frofa": lambda rows: features[rows].tensor(), **others(folder, features)}
    size = BATCHES * BATCH * n_bytes // n
    results["random"] = random_batches(readers, n, size, lambda: None)
    results["random cold"] = random_batches(readers, n, size, partial(drop, folder))
    results["left out"] = [name for name in ("h5py", "zarr", "safetensors") if not importable(name)]
    results["versions"] = {name: version(name) for name in ("h5py", "zarr", "safetensors") if importable(name)}
    return results


def random_batches(
    readers: dict[str, Callable[[Any], Any]], n: int, n_bytes: int, before: Callable[[], object]
) -> dict[str, Any]:
    rows = [np.random.default_rng(i).choice(n, BATCH, replace=False) for i in range(BATCHES)]
    expected = readers["frofa"](rows[0])
    for name, read in readers.items():
        if not torch.equal(read(rows[0]), expected):
            raise AssertionError(f"{name} reads other features")

    def of_all(read: Callable[[Any], Any]) -> None:
        for batch in rows:
            read(batch)

    return rates(in_turns({name: partial(of_all, read) for name, read in readers.items()}, before), n_bytes, None)


def rates(times: dict[str, list[float]], n_bytes: int, baseline: str | None) -> dict[str, Any]:
    """Gigabytes a second, and ours as a fraction of each other."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    found: dict[str, Any] = {"GB/s": {name: n_bytes / value / 1e9 for name, value in medians.items()}}
    found["ours as a multiple"] = {
        name: value / medians["frofa"]
        for name, value in medians.items()
        if name != "frofa" and baseline in (None, name)
    }
    found["seconds"] = times
    return found


def others(folder: Path, features: Any) -> dict[str, Callable[[Any], Any]]:
    """Ways to read random rows, of those libraries that are installed."""
    found: dict[str, Callable[[Any], Any]] = {}
    for name, make in (("h5py", h5py_readers), ("zarr", zarr_readers), ("safetensors", safetensors_readers)):
        if importable(name):
            found |= make(folder, features)
    return found


def importable(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


def parts(features: Any) -> Iterator[tuple[slice, Any]]:
    for start in tqdm(range(0, len(features), BATCH), "write for others", leave=False):
        rows = slice(start, start + BATCH)
        yield rows, np.asarray(features[rows])


def h5py_readers(folder: Path, features: Any) -> dict[str, Callable[[Any], Any]]:
    h5py = import_module("h5py")
    with h5py.File(folder / "tokens.h5", "w") as file:
        data = file.create_dataset("features", features.shape, features.dtype)
        for rows, part in parts(features):
            data[rows] = part
    opened = h5py.File(folder / "tokens.h5", "r")["features"]

    def by_list(rows: Any) -> Any:  # which must be ascending
        order = np.argsort(rows)
        out = np.empty((len(rows), *features.shape[1:]), features.dtype)
        out[order] = opened[rows[order]]
        return torch.from_numpy(out)

    def one_by_one(rows: Any) -> Any:
        out = np.empty((len(rows), *features.shape[1:]), features.dtype)
        for i, row in enumerate(rows):
            opened.read_direct(out, np.s_[row], np.s_[i])
        return torch.from_numpy(out)

    return {"h5py list": by_list, "h5py rows": one_by_one}


def zarr_readers(folder: Path, features: Any) -> dict[str, Callable[[Any], Any]]:
    zarr = import_module("zarr")
    data = zarr.create_array(
        store=str(folder / "tokens.zarr"),
        shape=features.shape,
        dtype=features.dtype,
        chunks=(1, *features.shape[1:]),
        compressors=None,
    )
    for rows, part in parts(features):
        data[rows] = part
    return {"zarr": lambda rows: torch.from_numpy(data.oindex[rows])}


def safetensors_readers(folder: Path, features: Any) -> dict[str, Callable[[Any], Any]]:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    save_file({"features": np.asarray(features)}, folder / "tokens.safetensors")
    file: Any = safe_open(folder / "tokens.safetensors", "pt")
    rows_of, mapped = file.get_slice("features"), file.get_tensor("features")

    def one_by_one(rows: Any) -> Any:
        return torch.stack([rows_of[int(row)] for row in rows])

    return {"safetensors slices": one_by_one, "safetensors tensor": lambda rows: mapped[torch.from_numpy(rows)]}


def n_shards(folder: Path) -> int:
    return len(list(folder.glob("store/*/shards/*")))


def write_pooled(folder: Path, n: int, commit: int | None) -> None:
    store, spec = FeatureStore(folder / "store"), spec_of("pooled", "float16")
    rng = np.random.default_rng(0)
    step = commit or 2**17
    with store.writer(spec) as writer:
        for start in tqdm(range(0, n, step), "write pooled", leave=False):
            size = min(step, n - start)
            writer.add(keys_of(start, start + size), rng.standard_normal((size, 64), np.float32).astype(np.float16))
            if commit:
                writer.commit()


def opening(folder: Path, n: int, commit: int | None) -> dict[str, Any]:
    start = time.perf_counter()
    write_pooled(folder, n, commit)
    results: dict[str, Any] = {"entries": n, "write_seconds": time.perf_counter() - start, "shards": n_shards(folder)}
    rows = np.sort(np.random.default_rng(5).choice(n, BATCH, replace=False))
    step = commit or 2**17
    keys = np.stack([keys_of(row - row % step, min(n, row - row % step + step))[row % step] for row in rows.tolist()])
    np.savez(folder / "wanted.npz", rows=rows, keys=keys)
    for by in ("keys", "rows"):
        for state in ("warm", "cold"):
            runs = []
            for _ in range(ROUNDS):
                if state == "cold":
                    drop(folder)
                command = [sys.executable, __file__, str(folder), "--child", by]
                runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            results[f"{by}, {state}"] = {name: statistics.median(run[name] for run in runs) for name in runs[0]} | {
                "all seconds": [run["seconds"] for run in runs]
            }
    return results


def child(folder: Path, by: str) -> None:
    """Open the store and read 128 entries, as a process of its own."""
    wanted = np.load(folder / "wanted.npz")
    at_start = peak_mib()
    start = time.perf_counter()
    store, spec = FeatureStore(folder / "store"), spec_of("pooled", "float16")
    features = store.features(spec, wanted["keys"]) if by == "keys" else store.features(spec)[wanted["rows"]]
    batch = features.tensor()
    taken = time.perf_counter() - start
    assert np.array_equal(features.keys, wanted["keys"])
    print(json.dumps({"seconds": taken, "peak_mib": peak_mib(), "imports_mib": at_start, "rows": len(batch)}))


def peak_mib() -> float:
    """Of this process: `getrusage` would count what its parent had when it was started."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the stores, which are deleted at the end")
    parser.add_argument("--parts", nargs="+", choices=["tokens", "opening"], default=["tokens", "opening"])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--shape", type=int, nargs=2, default=[196, 768])
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--commit", type=int, default=4096, help="entries a shard in the store of many shards")
    parser.add_argument("--child", choices=["keys", "rows"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.child:
        child(args.folder, args.child)
        return
    work: dict[str, Callable[[Path], dict[str, Any]]] = {}
    if "tokens" in args.parts:
        work["tokens"] = lambda folder: tokens(folder, args.gigabytes, tuple(args.shape))
    if "opening" in args.parts:
        work["opening"] = lambda folder: opening(folder, args.entries, None)
        work["opening, many shards"] = lambda folder: opening(folder, args.entries, args.commit)
    results: dict[str, Any] = {"machine": machine(), "command": " ".join(sys.argv[1:])}
    for name, measure in work.items():
        folder = args.folder / "frofa-benchmark"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            results[name] = measure(folder)
        finally:
            shutil.rmtree(folder)
        print(name, json.dumps(results[name], indent=1), flush=True)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


def machine() -> dict[str, Any]:
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
