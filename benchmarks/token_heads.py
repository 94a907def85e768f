"""Which head on tokens adds to a linear probe: MAP heads, other starts, residuals, efficient probing, views.

Training images alone: support samples come from the study's pool, and all other images of ``train`` are classified.
Every head is blended with an averaged shrinkage probe (class or pooled vector and mean token, the same views) by
log-probabilities, with weights of the head from 0 to 1. Tables show, for each number of shots, what the head alone is
against the probe, the best weight for all sets together with its gain, in hindsight, and the gain at a weight of 0.2,
with that of the worst set in brackets; in points of top-1, with 95 % intervals over support samples.

Usage: python benchmarks/token_heads.py DIRECTORY... --backbone NAME... [--shots 1 5 10 25] [--seeds 10] [--out FILE]
DIRECTORY holds train/CLASS/IMAGE; all have as many classes. Results are added to the file, and not made twice.
On one H200, six sets of 600 to 1,500 images and three backbones take seven minutes, a third of it features and start.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from token_heads_bench import WEIGHTS, Bench
from token_heads_data import Array, ImageSet, load, render, side_of
from token_heads_models import Head

import frofa
from frofa.evaluation import mean_interval
from frofa.study.data import short_name

VIEWS, PRIOR = 6, 0.2
HEADS = [
    Head("MAP, 1 view", n_views=1),
    Head("MAP + FroFA, 1 view", n_views=1, level=0.3),
    Head("MAP"),
    Head("MAP + FroFA", level=0.3),
    Head("residual, left out, + FroFA", base="left out", level=0.3),
    Head("efficient, 32 queries, + FroFA", kind="ep", level=0.3),
    Head("own pool, + FroFA", start="pool", level=0.3),
    Head("last block, + FroFA", kind="block", level=0.3),
    Head("vector as token, + FroFA", token=True, level=0.3),
    Head("MAP + FroFA, decay 0.1", level=0.3, weight_decay=0.1),
    Head("residual, fitted, + FroFA", base="fitted", level=0.3),
    Head("efficient, 32 queries", kind="ep"),
    Head("own pool", start="pool"),
    Head("last block", kind="block"),
    Head("residual, left out", base="left out"),
    Head("residual, left out, + FroFA, decay 0.1", base="left out", level=0.3, weight_decay=0.1),
    Head("efficient, residual, + FroFA", kind="ep", base="left out", level=0.3),
    Head("own pool, + FroFA, towards start 0.1", start="pool", level=0.3, weight_decay=0.1, towards_start=True),
    Head("last block, + FroFA, towards start 0.1", kind="block", level=0.3, weight_decay=0.1, towards_start=True),
    Head("own pool, residual, + FroFA", start="pool", base="left out", level=0.3),
    Head("last block, residual, + FroFA", kind="block", base="left out", level=0.3),
    Head("class query, + FroFA", start="query", level=0.3),
    Head("MAP + FroFA, towards start 0.1", level=0.3, weight_decay=0.1, towards_start=True),
    Head("efficient, 8 queries, + FroFA", kind="ep", n_queries=8, level=0.3),
    Head("MAP + FroFA, lr 0.01", level=0.3, lr=0.01),
    Head("MAP + FroFA, 1000 steps", level=0.3, n_steps=1000),
    Head("MAP + FroFA 0.6", level=0.6),
    Head("efficient, 32 queries, + FroFA, lr 0.1", kind="ep", level=0.3, lr=0.1),
    Head("efficient, 32 queries, + FroFA, decay 0.1", kind="ep", level=0.3, weight_decay=0.1),
    Head("residual, left out, + FroFA, 100 steps", base="left out", level=0.3, n_steps=100),
    Head("MAP, 1000 steps", n_steps=1000),
    Head("last block's weights, + FroFA, 1000 steps", start="query", level=0.3, n_steps=1000),
    Head("own pool, + FroFA, 1000 steps", start="pool", level=0.3, n_steps=1000),
    Head(
        "own pool, + FroFA, 1000 steps, towards start 0.02", start="pool", level=0.3, n_steps=1000, towards_start=True
    ),
    Head("MAP + FroFA, lr 0.1", level=0.3, lr=0.1),
    Head("efficient, residual, + FroFA, 1000 steps", kind="ep", base="left out", level=0.3, n_steps=1000),
    Head("MAP + FroFA, 1000 steps, 3 members", level=0.3, n_steps=1000, n_members=3),
]


def cell(row: dict[str, Any]) -> str:
    """The head alone, the best weight and its gain, and the gain at the prior weight with that of the worst set."""
    gains = np.array(row["by_sample"])
    gains = gains - gains[:, :1]  # (seeds, weights)
    best, prior = int(gains.mean(0).argmax()), WEIGHTS.index(PRIOR)
    at_best = f"{mean_interval(gains[:, best]):+.1f}" if best else "0"
    worst = min(accuracies[prior] - accuracies[0] for accuracies in row["by_set"].values())
    return (
        f"{gains[:, -1].mean():+.1f}; {at_best} ({WEIGHTS[best]}); {mean_interval(gains[:, prior]):+.1f} [{worst:+.1f}]"
    )


def tables(results: list[dict[str, Any]]) -> Iterator[str]:
    """A table for each backbone, in Markdown."""
    shots = sorted({row["shots"] for row in results})
    for backbone in dict.fromkeys(row["backbone"] for row in results):
        rows = [row for row in results if row["backbone"] == backbone]
        yield f"\n**{backbone}**\n"
        yield f"| head | {' | '.join(f'{n} shots' for n in shots)} |\n| --- |{' --- |' * len(shots)}"
        for head in dict.fromkeys(row["head"] for row in rows):
            found = {row["shots"]: cell(row) for row in rows if row["head"] == head}
            yield f"| {head} | {' | '.join(found.get(n, '') for n in shots)} |"
        for views in ("MAP, 1 view", "MAP"):
            probes = {row["shots"]: np.mean(row["by_sample"], 0)[0] for row in rows if row["head"] == views}
            name = "probe, 1 view" if "view" in views else f"probe, {VIEWS} views"
            yield f"| {name}: top-1 % | {' | '.join(f'{probes[n]:.1f}' if n in probes else '' for n in shots)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", type=Path, nargs="*")
    parser.add_argument("--backbone", nargs="+", default=["frofa/vit_tiny_tin200"])
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 10, 25])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--heads", type=int, nargs="+", help="numbers of heads, by default all")
    parser.add_argument("--n-images", type=int, help="of each set, at random; all by default")
    parser.add_argument("--cache", type=Path, help="directory that keeps features of a backbone for the next call")
    parser.add_argument("--out", type=Path, help="results; without DIRECTORY, its tables are printed")
    args = parser.parse_args()
    kept = args.out is not None and args.out.exists()
    results: list[dict[str, Any]] = json.loads(args.out.read_text())["results"] if kept else []
    if args.directories:
        run(args, results)
    print("\n".join(tables(results)))


def run(args: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    started = time.perf_counter()
    rendered = _rendered(args)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    benches: dict[str, Bench] = {}
    for backbone in args.backbone:
        sets = [_load(args, directory, backbone, rendered, device) for directory in args.directories]
        benches[backbone] = Bench(sets, backbone, args.seeds, device)
    done = {(row["backbone"], row["shots"], row["head"]) for row in results}
    for number, head in enumerate(HEADS):
        for backbone, bench in benches.items():
            for shots in args.shots:
                key = short_name(backbone), shots, head.name
                if (args.heads and number not in args.heads) or not bench.can(head) or key in done:
                    continue
                row = dict(zip(("backbone", "shots", "head"), key, strict=True)) | bench.run(head, shots)
                results.append(row)
                print(f"{time.perf_counter() - started:5.0f} s  {key}: {cell(row)}", flush=True)
        if args.out:
            _write(args.out, results, device)


def _kept(args: argparse.Namespace, directory: Path, backbone: str) -> Path | None:
    cache: Path | None = args.cache
    return cache and cache / f"{directory.name}__{short_name(backbone)}.pt"


def _rendered(args: argparse.Namespace) -> dict[int, dict[Path, tuple[Array, Array]]]:
    """Views of all images that features are to be made of, by their side; before a GPU is used, as this forks."""
    found = {}
    for side in sorted({side_of(backbone) for backbone in args.backbone}):
        kept = [_kept(args, d, b) for d in args.directories for b in args.backbone if side_of(b) == side]
        if not all(file and file.exists() for file in kept):
            found[side] = render(args.directories, side, VIEWS, args.n_images)
    return found


def _load(args: argparse.Namespace, directory: Path, backbone: str, rendered: Any, device: str) -> ImageSet:
    kept = _kept(args, directory, backbone)
    if kept and kept.exists():
        return ImageSet(**torch.load(kept, map_location=device, weights_only=False))
    one = load(directory.name, rendered[side_of(backbone)][directory], backbone, device)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vars(one), kept)
    return one


def _write(out: Path, results: list[dict[str, Any]], device: str) -> None:
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {platform.machine()}"
    versions = {"frofa": frofa.__version__, "torch": torch.__version__, "timm": timm.__version__}
    lines = ",\n".join(json.dumps(row) for row in results)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f'{{"device": {json.dumps(where)}, "versions": {json.dumps(versions)}, "results": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
