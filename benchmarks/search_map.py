"""Searches over MAP heads: all candidates and folds at once, beside one head after another.

cpu: 24 candidates (4 learning rates x 2 weight decays x 3 settings of brightness) x 5 folds on the embedded ViT's
tokens of 100 images of CIFAR-10 (10 shots). One side is `GridSearchCV(n_jobs=2)` around the single-head estimator as it
was before heads were trained together: the commit BEFORE is unpacked from this repository's history into a temporary
folder and run from there. The other is `fit_many` with two threads, then scoring. Each run is a process of its own; the
sides take turns. Times are of the search alone, without imports; CPU time is that of the process and its workers.

gpu: head-steps per second of 64 heads (8 learning rates x 8 weight decays) on one support sample of 1,000 images with
196 tokens of 768 channels in bfloat16, 100 classes, batches of 128, brightness c2; beside the ordinary loop over one
head, timm's `AttentionPoolLatent` with a linear layer under bfloat16 autocast, SGD and one gather a step; and beside
what the bytes that must move and the products that must be computed allow.

Usage: python benchmarks/search_map.py cpu [DIRECTORY] [--rounds 3] [--steps 300] [--out FILE.json]
       python benchmarks/search_map.py gpu [--steps 300] [--out FILE.json]
DIRECTORY holds CLASS/IMAGE, by default ../shared/data/cifar10/train.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BEFORE = "4e254c8"
ROOT = Path(__file__).parents[1]
LRS, DECAYS = (0.01, 0.03, 0.06, 0.1), (0.02, 0.001)
LEVELS: tuple[tuple[float, Any], ...] = ((0.3, "c2"), (0.6, "c2"), (0.1, "c"))
FOLDS = 5
BANDWIDTH, FLOPS = 3.0e12, 7.0e14  # of an H100: bytes a second of a large copy, bfloat16 operations a second


def cpu(args: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turn."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        before.mkdir()
        archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "x", "-C", before], input=archive.stdout, check=True)
        tokens = Path(folder) / "tokens.npz"
        _run_side(ROOT, "extract", [str(args.directory), str(tokens)], threads=2)
        rounds: list[dict[str, Any]] = []
        for _ in range(args.rounds):
            rounds.append(
                {
                    "before": _run_side(before, "grid", [str(tokens), str(args.steps)], threads=1),
                    "together": _run_side(ROOT, "many", [str(tokens), str(args.steps)], threads=2),
                }
            )
            print(
                json.dumps({side: {k: v for k, v in run.items() if k != "scores"} for side, run in rounds[-1].items()})
            )
    first, second = (np.array(rounds[-1][side].pop("scores")) for side in ("before", "together"))
    for one in rounds:
        for run in one.values():
            run.pop("scores", None)
    ratios = {
        kind: statistics.median(one["before"][kind] for one in rounds)
        / statistics.median(one["together"][kind] for one in rounds)
        for kind in ("wall_s", "cpu_s")
    }
    return {
        "work": {"candidates": len(LRS) * len(DECAYS) * len(LEVELS), "folds": FOLDS, "steps": args.steps},
        "rounds": rounds,
        "ratio_of_medians": ratios,
        "scores": {
            "fits": first.size,
            "equal": int((first == second).sum()),
            "largest_difference": float(np.abs(first - second).max()),
            "same_best_candidate": bool(first.mean(1).argmax() == second.mean(1).argmax()),
        },
    }


def _run_side(root: Path, side: str, arguments: list[str], *, threads: int) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(Path(__file__).resolve()), side, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def extract(directory: str, out: str) -> dict[str, Any]:
    """Write tokens (100, 64, 192) and labels of 10 shots."""
    from frofa import FrozenFeatureExtractor, load_image_folder, sample_shots

    paths, labels = load_image_folder(directory)
    rows = sample_shots(labels, 10, random_state=0)
    np.savez(out, X=FrozenFeatureExtractor(output="tokens").transform([paths[i] for i in rows]), y=labels[rows])
    return {}


def _problem(path: str, steps: int) -> tuple[Any, Any, Any, Any, dict[str, list[Any]]]:
    from sklearn.model_selection import StratifiedKFold

    from frofa.augmentations import Brightness
    from frofa.estimators import MAPClassifier

    data = np.load(path)
    head = MAPClassifier(n_steps=steps, random_state=0, device="cpu")
    augmentations = [Brightness(level, variant) for level, variant in LEVELS]
    grid: dict[str, list[Any]] = {"augment": augmentations, "lr": list(LRS), "weight_decay": list(DECAYS)}
    splits = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(data["X"], data["y"]))
    return data["X"], data["y"], head, splits, grid


def _timed(search: Callable[[], Any]) -> dict[str, Any]:
    def cpu_seconds() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    wall, before = time.perf_counter(), cpu_seconds()
    scores = search()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_seconds() - before, "scores": scores.tolist()}


def grid(path: str, steps: str) -> dict[str, Any]:
    """One head after another, in two processes."""
    from joblib.externals.loky import get_reusable_executor
    from sklearn.model_selection import GridSearchCV

    X, y, head, splits, candidates = _problem(path, int(steps))

    def search() -> Any:
        found = GridSearchCV(head, candidates, cv=splits, n_jobs=2, refit=False).fit(X, y).cv_results_
        get_reusable_executor().shutdown(wait=True)  # so that the workers' time is counted
        return np.stack([found[f"split{i}_test_score"] for i in range(FOLDS)], 1)

    return _timed(search)


def many(path: str, steps: str) -> dict[str, Any]:
    """All heads together."""
    from sklearn.base import clone
    from sklearn.model_selection import ParameterGrid

    from frofa.estimators.batched.jobs import Job, fit_many

    X, y, head, splits, candidates = _problem(path, int(steps))

    def search() -> Any:
        heads = [clone(head).set_params(**params) for params in ParameterGrid(candidates)]
        fitted = fit_many(X, y, [Job(one, train) for one in heads for train, _ in splits])
        tests = [test for _ in heads for _, test in splits]
        scores = [one.score(X[test], y[test]) for one, test in zip(fitted, tests, strict=True)]  # type: ignore[union-attr]
        return np.reshape(scores, (-1, FOLDS))

    return _timed(search)


def gpu(args: argparse.Namespace) -> dict[str, Any]:
    """The engine beside the ordinary loop and the limit."""
    import timm
    import torch

    torch.set_float32_matmul_precision(args.precision)
    n, n_tokens, channels, n_classes, batch = 1000, 196, 768, 100, 128
    generator = torch.Generator("cuda").manual_seed(0)
    tokens = torch.randn(n, n_tokens, channels, generator=generator, device="cuda").bfloat16()
    codes = np.arange(n) % n_classes
    alone = _one_head(tokens, torch.as_tensor(codes, device="cuda"), batch, args.steps)
    together = _many_heads(tokens, codes, batch, args.steps)
    limit = limits(n_tokens, channels, n_classes, batch, len(LRS_GPU) * len(DECAYS_GPU))
    return {
        "work": {"tokens": [n, n_tokens, channels], "dtype": "bfloat16", "classes": n_classes, "batch": batch},
        "command": f"python benchmarks/search_map.py gpu --steps {args.steps} --precision {args.precision}",
        "float32_matmul_precision": args.precision,
        "card": torch.cuda.get_device_name(),
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "one_head_steps_per_s": alone,
        "head_steps_per_s": together,
        "ratio": together / alone,
        "limit": limit,
        "part_of_the_limit": together / limit["head_steps_per_s"],
    }


LRS_GPU = tuple(0.003 * 1.6**i for i in range(8))
DECAYS_GPU = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 2e-2, 5e-2)
WARM_UP = 20


def _one_head(tokens: Any, codes: Any, batch: int, steps: int) -> float:
    """Steps per second of timm's head with a linear layer, trained as everybody does."""
    import torch
    from timm.layers import AttentionPoolLatent

    channels, n_classes = tokens.shape[2], int(codes.max()) + 1
    head = torch.nn.Sequential(AttentionPoolLatent(channels, num_heads=12), torch.nn.Linear(channels, n_classes)).cuda()
    optimiser = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            torch.cuda.synchronize()
            started = time.perf_counter()
        rows = torch.randint(len(tokens), (batch,), device="cuda")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(head(tokens[rows]), codes[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.cuda.synchronize()
    return steps / (time.perf_counter() - started)


def _many_heads(tokens: Any, codes: Any, batch: int, steps: int) -> float:
    """Head-steps per second of the engine; starting up, recording included, is not counted."""
    import torch

    from frofa.augmentations import Brightness
    from frofa.estimators.batched.engine import fit_plans
    from frofa.estimators.models.map_model import MapModel
    from frofa.estimators.training.plan import HeadPlan, LabelledRows
    from frofa.estimators.training.schedule import Schedule

    part = LabelledRows(np.arange(len(codes)), codes, np.ones(len(codes), np.float32))
    plans = [
        HeadPlan(
            MapModel(num_heads=12),
            part,
            int(codes.max()) + 1,
            (0, 0, 0),
            Schedule(lr, WARM_UP + steps, batch, decay, 0.9, (WARM_UP + steps) // 10, "cosine", 1.0),
            Brightness(0.3, "c2"),
        )
        for lr in LRS_GPU
        for decay in DECAYS_GPU
    ]
    taken: list[tuple[int, float]] = []

    def on_step(n_heads: int) -> None:
        if len(taken) in (WARM_UP, WARM_UP + steps - 1):
            torch.cuda.synchronize()
        taken.append((n_heads, time.perf_counter()))

    for outcome in fit_plans(tokens, plans, on_step=on_step):
        if isinstance(outcome, Exception):
            raise outcome
    if taken[0][0] != len(plans):
        print(f"memory holds {taken[0][0]} of {len(plans)} heads at a time", file=sys.stderr)
    first, last = taken[WARM_UP], taken[WARM_UP + steps - 1]
    return (steps - 1) * first[0] / (last[1] - first[1])


def limits(n_tokens: int, channels: int, n_classes: int, batch: int, n_heads: int) -> dict[str, Any]:
    """What one head's step moves and computes at the least.

    Float32 weights and velocity are read and written once (16 bytes a parameter), weights are read twice more in
    bfloat16 (4), the gradient is written and read in float32 (8). Tokens in bfloat16 are gathered (read, write),
    augmented (read, write) and read by four products, for all heads together.
    """
    parameters = 4 * channels**2 + 2 * channels * 4 * channels + channels * n_classes
    moved = 28 * parameters + 2 * 8 * batch * n_tokens * channels / n_heads
    attention = 4 * batch * n_tokens * channels * 12
    products = attention + 3 * batch * (2 * channels**2 + 8 * channels**2 + channels * n_classes)
    by_bytes, by_operations = moved / BANDWIDTH, 2 * products / FLOPS
    return {
        "parameters": parameters,
        "bytes": moved,
        "operations": 2 * products,
        "us_for_bytes": 1e6 * by_bytes,
        "us_for_operations": 1e6 * by_operations,
        "head_steps_per_s": 1 / max(by_bytes, by_operations),
    }


def main() -> None:
    sides: dict[str, Callable[..., Any]] = {"extract": extract, "grid": grid, "many": many}
    if len(sys.argv) > 1 and sys.argv[1] in sides:  # a process of `cpu`
        print(json.dumps(sides[sys.argv[1]](*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["cpu", "gpu"])
    parser.add_argument(
        "directory", type=Path, nargs="?", default=ROOT.parent / "shared" / "data" / "cifar10" / "train"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument(
        "--precision", choices=["highest", "high", "medium"], default="medium", help="PyTorch's, of float32 products"
    )
    parser.add_argument("--out", type=Path, help="write all numbers there, as JSON")
    args = parser.parse_args()
    result = (cpu if args.part == "cpu" else gpu)(args)
    result |= {"python": platform.python_version(), "cores": os.cpu_count()}
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
