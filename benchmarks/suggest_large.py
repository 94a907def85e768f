"""Seconds to suggest images of a large pool, beside reading it once, and coverage beside that of all pairs.

python benchmarks/suggest_large.py --device cpu
python benchmarks/suggest_large.py --device cuda --exact 100000

The pool is of clusters of very unequal sizes, each in some directions of its own, in a file of float16 that is mapped
into memory. Coverage is measured on images of the pool that stand for it in the measurement alone.
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import frofa
from frofa import suggest
from frofa.compute.devices import resolve_device
from frofa.estimators import ShrinkageProbeClassifier
from frofa.labelling.suggestions.covering import Space
from frofa.labelling.suggestions.herding import Population
from frofa.labelling.suggestions.pool import Pool

Array = npt.NDArray[Any]
N_CLUSTERS, N_DIRECTIONS, N_CLASSES, N_LABELS = 1000, 24, 10, 200
SCORED = 20_000
"""Images on which coverage is measured."""


def write_pool(path: Path, n: int, channels: int) -> Array:
    """Write features (n, channels) part by part, and return the cluster (n,) of each."""
    rng = np.random.default_rng(0)
    sizes = rng.pareto(1.2, N_CLUSTERS) + 0.05
    clusters = rng.choice(N_CLUSTERS, n, p=sizes / sizes.sum())
    centres = rng.normal(size=(N_CLUSTERS, channels)).astype(np.float32)
    directions = rng.normal(size=(N_CLUSTERS, N_DIRECTIONS, channels)).astype(np.float32) / N_DIRECTIONS**0.5
    out = np.lib.format.open_memmap(path, "w+", np.float16, (n, channels))
    order = np.argsort(clusters, kind="stable")
    # Cluster by cluster, into its places in the file.
    for cluster, rows in zip(
        range(N_CLUSTERS), np.split(order, np.cumsum(np.bincount(clusters, minlength=N_CLUSTERS))[:-1]), strict=True
    ):
        inside = rng.standard_normal((len(rows), N_DIRECTIONS), np.float32) @ directions[cluster]
        out[rows] = centres[cluster] + 1.2 * inside + 0.3 * rng.normal(size=(1, channels)).astype(np.float32)
    out.flush()
    return clusters


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def read_once(pool: Pool) -> float:
    """Read all rows to the device, in float32, and add them up: what any method must do that looks at all."""
    return float(sum(pool._tensor(pool.rows(part), np.arange(part.start, part.stop)).sum() for part in pool.parts()))


def coverage_of(X: Array, device: str, labelled: Array | None = None) -> Callable[[Array], float]:
    """Make a function that measures the coverage of rows, and of what is labelled, on evenly spaced images."""
    pool = Pool(X, resolve_device(device))
    space = Space(pool)
    scored = space.read(pool, np.unique(np.linspace(0, len(X) - 1, SCORED).astype(np.intp)))
    population = Population(scored, torch.full((len(scored),), 1 / len(scored), device=scored.device), space.width)

    def measure(rows: Array) -> float:
        every = rows if labelled is None else np.concatenate([labelled, rows])
        return population.coverage(population.covered(space.read(pool, every)))

    return measure


def compare(X: Array, device: str, exact: int, sampled: int) -> dict[str, float]:
    """Coverage by a sample of `sampled`, relative to that by all pairs of the first `exact` images; and at random."""
    part = X[:exact]
    measure = coverage_of(part, device)
    head = ShrinkageProbeClassifier()
    seconds, best = timed(lambda: suggest(head, part, max_exact=exact, device=device))
    found = [measure(suggest(head, part, max_exact=sampled, device=device, random_state=seed)) for seed in range(3)]
    chance = [measure(suggest(head, part, strategy="random", device=device, random_state=seed)) for seed in range(3)]
    whole = measure(best)
    return {
        "n": exact,
        "sampled": sampled,
        "seconds_exact": seconds,
        "sampled_share": float(np.mean(found)) / whole,
        "worst_share": min(found) / whole,
        "random_share": float(np.mean(chance)) / whole,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=768)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--exact", type=int, default=10_000, help="images that are compared in all pairs (10,000)")
    parser.add_argument("--pool", type=Path, default=Path("suggest_pool.npy"), help="file for the features")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    clusters = write_pool(args.pool, args.n, args.channels)
    X, y = np.load(args.pool, mmap_mode="r"), clusters % N_CLASSES
    labelled = np.random.default_rng(1).choice(args.n, N_LABELS, replace=False)
    known = (np.asarray(X[labelled], np.float32), y[labelled])
    head = ShrinkageProbeClassifier(device="cpu")
    suggest(head, X[:1000], *known, device=args.device)  # what the first call loads
    seconds: dict[str, float] = {}
    seconds["reading the pool once"], _ = timed(lambda: read_once(Pool(X, resolve_device(args.device))))
    asked: list[tuple[str, tuple[Any, ...], str]] = [
        ("no labels", (), "auto"),
        ("200 labels", known, "auto"),
        ("margin", known, "margin"),
    ]
    for name, given, strategy in asked:
        seconds[name], rows = timed(
            lambda given=given, strategy=strategy: suggest(  # type: ignore[misc]
                head, X, *given, strategy=strategy, device=args.device, random_state=0
            )
        )
        print(f"{name}: {seconds[name]:.1f} s", len(rows), flush=True)
    facts = {
        "command": f"python benchmarks/suggest_large.py --device {args.device} --exact {args.exact}",
        "device": torch.cuda.get_device_name() if args.device != "cpu" else platform.processor() or "CPU",
        "threads": torch.get_num_threads(),
        "versions": f"frofa {frofa.__version__}, torch {torch.__version__}, NumPy {np.__version__}",
        "pool": {"n": args.n, "channels": args.channels, "dtype": "float16"},
        "seconds": seconds,
        "ratio_to_reading": {name: value / seconds["reading the pool once"] for name, value in seconds.items()},
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "coverage": compare(X, args.device, args.exact, args.exact // 10),
    }
    args.pool.unlink()
    print(json.dumps(facts, indent=1))
    kind = "cpu" if args.device == "cpu" else "gpu"
    (args.out / f"confidence_suggest_large_{kind}.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
