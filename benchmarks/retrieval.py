"""Search among 10 million features of 768 channels: recall, queries a second, time to build and memory.

Rows are synthetic, in float16, in a feature store: "clustered" has 20,000 clusters with the covariance of real
features (``--real``: an array (n, 768), which is mixed in as well), "isotropic" has nothing to be found but chance.
1,000 needles are planted at random places. Queries are rows that were left out, needles with noise of a fifth of their
length, and directions at random, which are like no row.

Measured, in one process after another: building `FeatureIndex` (its own bytes, and the most anonymous memory that the
process had while it was built, features in the page cache not counted); recall@1 and @10 of the default against the
exact search; queries a second of both, by themselves and 1,000 at once; needles that the exact setting finds; and
beside them faiss used by hand (IVF with 8-bit codes over lists of the same number, whose centres come from a GPU here,
searched as widely as recall@10 above 99 % needs), and faiss' flat search and scikit-learn's `NearestNeighbors` over two
million of the rows. HNSW is left out: its graph takes hours to build, and memory of more than the features have.

Usage: python benchmarks/retrieval.py FOLDER --kind clustered [--rows 10000000] [--real FILE.npy] [--out FILE.json]
"""

import argparse
import gc
import json
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from frofa import FeatureIndex
from frofa.retrieval.approximate.lists import Lists, assign, number_of_lists
from frofa.store import FeatureSpec, FeatureStore

WIDTH, CLUSTERS, NEEDLES, QUERIES, DIRECTIONS, BATCH = 768, 20_000, 1000, 1000, 300, 2**16
PART = 2_000_000
SPREAD, NOISE = 0.6, 0.2
SPEC = FeatureSpec("benchmark", "benchmark", "{}", "none", "pooled", None, True, "float32", "float16")


def say(*words: object) -> None:
    print(f"[{time.perf_counter() - STARTED:6.1f}]", *words, flush=True)


STARTED = time.perf_counter()


class Maker:
    """Rows of one kind, on a device."""

    def __init__(self, kind: str, real: np.ndarray[Any, Any] | None, device: torch.device):
        self.device, self.generator = device, torch.Generator(device).manual_seed(0)
        self.kind = kind
        if kind == "clustered":
            values = torch.from_numpy(np.asarray(real, np.float32)).to(device)
            self.mean = values.mean(0)
            covariance = torch.cov(values.T) + 1e-4 * values.var() * torch.eye(WIDTH, device=device)
            eigen, vectors = torch.linalg.eigh(covariance)
            self.root = (vectors * eigen.clamp(min=0).sqrt()).T.contiguous()
            self.centres = self.normal(CLUSTERS) @ self.root

    def normal(self, n: int) -> torch.Tensor:
        """Draw rows (n, 768) of independent values."""
        return torch.randn(n, WIDTH, generator=self.generator, device=self.device)

    def __call__(self, n: int) -> torch.Tensor:
        """Draw rows (n, 768)."""
        if self.kind == "isotropic":
            return self.normal(n)
        which = torch.randint(0, CLUSTERS, (n,), generator=self.generator, device=self.device)
        rows: torch.Tensor = self.mean + self.centres[which] + SPREAD * (self.normal(n) @ self.root)
        return rows


def fill(store: FeatureStore, make: Maker, n: int, real: Any, needles: Any, places: Any) -> None:
    """Write n rows; real ones come first, and needles to their places."""
    rng = np.random.default_rng(1)
    with store.writer(SPEC) as writer:
        for start in range(0, n, BATCH):
            size = min(BATCH, n - start)
            rows = make(size).half().cpu().numpy()
            if real is not None and start < len(real):
                part = real[start : start + size]
                rows[: len(part)] = part
            inside = (places >= start) & (places < start + size)
            rows[places[inside] - start] = needles[inside]
            writer.add(rng.integers(0, 256, (size, 20), np.uint8), rows)


def anonymous() -> int:
    """Bytes of this process that are no files'."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


class Peak:
    """The most anonymous memory while something runs, beside what there was before."""

    def __enter__(self) -> "Peak":
        gc.collect()
        self.before = self.most = anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.most = max(self.most, anonymous())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        gc.collect()
        self.kept, self.peak = anonymous() - self.before, self.most - self.before


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def one_by_one(index: FeatureIndex, queries: Any) -> None:
    """Search for each query by itself."""
    for query in queries:
        index.kneighbors(query[None], 10)


def recall(found: Any, exact: Any) -> dict[str, float]:
    """Part of the true first and first ten that are among the first and first ten."""
    pairs = list(zip(found, exact, strict=True))
    return {str(k): float(np.mean([len(np.intersect1d(a[:k], b[:k])) / k for a, b in pairs])) for k in (1, 10)}


def units(rows: Any) -> Any:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def measure_ours(store: FeatureStore, queries: dict[str, Any], places: Any, device: str) -> tuple[dict[str, Any], Any]:
    index = FeatureIndex(store, method="approximate", device=device)
    features = index.features
    with Peak() as peak:
        _, seconds = timed(index.build)
    approximate: Any = index._approximate
    result: dict[str, Any] = {
        "build_seconds": seconds,
        "index_bytes": index.nbytes,
        "features_bytes": features.nbytes,
        "index_part": index.nbytes / features.nbytes,
        "peak_part_while_built": peak.peak / features.nbytes,
        "kept_part": peak.kept / features.nbytes,
        "own_recall": index.recall_,
        "bits": approximate.scanner.code_size * 8 / WIDTH,
        "z": approximate.z,
        "margin": approximate.margin,
        "candidates": approximate.candidates,
        "lists": len(approximate.lists.centres),
    }
    say("built", result)
    truth: dict[str, Any] = {}
    fast: dict[str, Any] = {}
    for kind, values in queries.items():
        index.kneighbors(values[:1], 10, exact=True)
        (_, exact), exact_seconds = timed(partial(index.kneighbors, values, 10, exact=True))
        index.kneighbors(values[:32], 10)
        (_, found), fast_seconds = timed(partial(index.kneighbors, values, 10))
        _, single = timed(partial(one_by_one, index, values[:5]))
        truth[kind], fast[kind] = exact, found
        result[kind] = {
            "recall": recall(found, exact),
            "queries_per_second": len(values) / fast_seconds,
            "milliseconds_of_one_query": 1000 * single / 5,
            "exact_queries_per_second": len(values) / exact_seconds,
        }
        say(kind, result[kind])
    result["needles_found_exactly"] = int((truth["needles"][:, 0] == places).sum())
    result["needles_found_by_default"] = int((fast["needles"][:, 0] == places).sum())
    result["needles_planted"] = len(places)
    say("needles", result["needles_found_exactly"], result["needles_found_by_default"])
    return result, truth


def unit_chunks(features: Any, n: int, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
    """Unit rows in float32, some at a time, and the position of the first."""
    for at in range(0, n, 2**19):
        part = features[at : min(at + 2**19, n)].tensor().to(device).float()
        yield at, torch.nn.functional.normalize(part)


def measure_ivf(features: Any, queries: Any, exact: Any, device: torch.device) -> dict[str, Any]:
    """IVF with 8-bit codes of unit rows, searched as widely as it must be."""
    n_lists, rng = number_of_lists(len(features)), np.random.default_rng(2)
    start = time.perf_counter()
    chosen = np.sort(rng.choice(len(features), min(len(features), 64 * n_lists), replace=False))
    sample = torch.nn.functional.normalize(features[chosen].tensor().to(device).float())
    centres = Lists.fit(sample, n_lists).centres
    coarse = faiss.IndexFlatIP(WIDTH)
    coarse.add(centres.numpy())
    index = faiss.IndexIVFScalarQuantizer(
        coarse, WIDTH, n_lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.train(sample[: 2**17].cpu().numpy())
    for at, part in unit_chunks(features, len(features), device):
        own, rows = assign(part, centres.to(device)).cpu().numpy(), part.cpu().numpy()
        ids = np.arange(at, at + len(part))
        index.add_core(len(part), faiss.swig_ptr(rows), faiss.swig_ptr(ids), faiss.swig_ptr(own))
    built = time.perf_counter() - start
    tried = []
    for probes in (32, 128, 512, 2048, n_lists):
        index.nprobe = min(probes, n_lists)
        few = queries if probes <= 128 else queries[:200]
        (_, found), seconds = timed(partial(index.search, few, 10))
        part_found = recall(found, exact[: len(few)])
        tried.append({"lists": index.nprobe, "recall": part_found, "queries_per_second": len(few) / seconds})
        say("IVF-SQ8", tried[-1])
        if part_found["10"] > 0.99 or probes >= n_lists:
            break
    return {"build_seconds": built, "index_part": (index.code_size + 8) / (2 * WIDTH), "widths": tried}


def measure_brute(features: Any, queries: Any, device: torch.device) -> dict[str, dict[str, Any]]:
    """Flat faiss and scikit-learn over the first rows, whose time grows with their number."""
    n = min(PART, len(features))
    rows = np.concatenate([part.cpu().numpy() for _, part in unit_chunks(features, n, device)])
    few = queries[:20]
    model = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(rows)
    (_, flat), flat_seconds = timed(partial(faiss.knn, queries[:200], rows, 10, faiss.METRIC_INNER_PRODUCT))
    brute, seconds = timed(partial(model.kneighbors, few, return_distance=False))
    agree = recall(brute, flat[:20])
    say("brute", flat_seconds, seconds, agree)
    return {
        "faiss flat": {"rows": n, "queries": 200, "queries_per_second": 200 / flat_seconds, "index_part": 2.0},
        "scikit-learn NearestNeighbors": {
            "rows": n,
            "queries": 20,
            "queries_per_second": 20 / seconds,
            "agrees_with_flat": agree,
            "index_part": 2.0,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("clustered", "isotropic"), required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    real = None if arguments.real is None else np.load(arguments.real)
    make = Maker(arguments.kind, real, device)
    rng = np.random.default_rng(0)
    places = np.sort(rng.choice(np.arange(0 if real is None else len(real), arguments.rows), NEEDLES, replace=False))
    needles = make(NEEDLES).half().cpu().numpy()
    noise = rng.standard_normal(needles.shape) / WIDTH**0.5
    lengths = np.linalg.norm(needles.astype(float), axis=1, keepdims=True)
    queries = {
        "rows": make(QUERIES).cpu().numpy(),
        "needles": needles + NOISE * lengths * noise,
        "directions": rng.standard_normal((DIRECTIONS, WIDTH)),
    }
    store = FeatureStore(arguments.folder / arguments.kind)
    shutil.rmtree(store.path, ignore_errors=True)
    _, seconds = timed(lambda: fill(store, make, arguments.rows, real, needles, places))
    say(f"{arguments.rows} rows written in {seconds:.0f} s")
    ours, truth = measure_ours(store, queries, places, str(device))
    results: dict[str, Any] = {
        "kind": arguments.kind,
        "rows": arguments.rows,
        "width": WIDTH,
        "real_rows": 0 if real is None else len(real),
        "machine": {
            "gpu": torch.cuda.get_device_name() if device.type == "cuda" else None,
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "faiss": faiss.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "command": " ".join(["python", "benchmarks/retrieval.py", "FOLDER", *sys.argv[2:]]),
        "write_seconds": seconds,
        "FeatureIndex": ours,
    }
    write(arguments.out, results)
    features = store.features(SPEC)
    results |= measure_brute(features, units(queries["rows"]), device)
    write(arguments.out, results)
    results["faiss IVF-SQ8"] = measure_ivf(features, units(queries["rows"]), truth["rows"], device)
    write(arguments.out, results)


def write(path: Path | None, results: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
