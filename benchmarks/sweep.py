"""A sweep of the FroFA paper's size for one number of shots, on one device.

10 learning rates x 10 weight decays x 6 settings of augmentation x 5 support samples: 3,000 MAP heads of 1,000 steps.
For each augmentation the setting is chosen by validation accuracy, averaged over the samples; test images are only
reported. Changes against no augmentation, at its own best setting, are paired over the samples.

Usage: python benchmarks/sweep.py DIRECTORY [--shots 10] [--steps 1000] [--out FILE.json] [--table FILE.md]
DIRECTORY holds train/CLASS/IMAGE and test/CLASS/IMAGE.
"""

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frofa.augmentations import Augmentation, Brightness
from frofa.compute.devices import resolve_device
from frofa.estimators.batched.trials import Samples, Trial, fit_heads, predict_heads, trials_at_once
from frofa.estimators.training.schedule import Schedule
from frofa.evaluation import mean_interval
from frofa.study.data import StudyData, load_study_data
from frofa.study.run import versions

RATES = np.geomspace(0.003, 0.3, 10)
DECAYS = (0.0, *np.geomspace(1e-4, 5e-2, 9))
AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    "brightness c2 0.1": Brightness(0.1, "c2"),
    "brightness c2 0.3": Brightness(0.3, "c2"),
    "brightness c2 0.5": Brightness(0.5, "c2"),
    "brightness c 0.1": Brightness(0.1, "c"),
    "brightness c 0.2": Brightness(0.2, "c"),
}
N_SEEDS, BATCH_SIZE = 5, 64


def make_samples(data: StudyData, tokens: torch.Tensor, shots: int) -> Samples:
    """The support samples on the device."""
    classes, codes = np.unique(data.y, return_inverse=True)
    supports, _ = data.support(shots, N_SEEDS)
    targets = np.eye(len(classes), dtype=np.float32)[[codes[rows] for rows in supports]]
    rows = torch.as_tensor(np.stack(supports), device=tokens.device)
    return Samples(tokens[rows], torch.as_tensor(targets, device=tokens.device), range(N_SEEDS))


def sweep(data: StudyData, shots: int, steps: int, device: torch.device) -> tuple[np.ndarray[Any, Any], float]:
    """Accuracies (2, augmentation, setting, sample) on validation and test images, and the seconds it took."""
    tokens = torch.as_tensor(data.features["tokens"], device=device)
    samples = make_samples(data, tokens, shots)
    _, codes = np.unique(data.y, return_inverse=True)
    schedule = Schedule(0.0, steps, BATCH_SIZE, 0.0, 0.9, steps // 10, "cosine", 1.0)
    settings = list(itertools.product(RATES, DECAYS))
    trials = [Trial(augment, float(lr), float(wd)) for augment in AUGMENTATIONS.values() for lr, wd in settings]
    size = trials_at_once(samples, BATCH_SIZE)
    parts = [torch.as_tensor(rows, device=device) for rows in (data.validation, data.test)]
    truth = [torch.as_tensor(codes[rows], device=device) for rows in (data.validation, data.test)]
    found: list[list[torch.Tensor]] = [[], []]
    started = time.perf_counter()
    for start in range(0, len(trials), size):
        params = fit_heads(samples, trials[start : start + size], schedule)
        for part, rows, right in zip(found, parts, truth, strict=True):
            part.append((predict_heads(params, tokens[rows]) == right).float().mean(1).cpu())
        print(f"{min(len(trials), start + size) * N_SEEDS} heads, {time.perf_counter() - started:.0f} s", flush=True)
    seconds = time.perf_counter() - started
    scores = np.stack([torch.cat(part).numpy() for part in found])
    return scores.reshape(2, len(AUGMENTATIONS), len(settings), N_SEEDS), seconds


def table(scores: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """For each augmentation: its setting of the best validation accuracy, and what that gives."""
    settings = list(itertools.product(RATES, DECAYS))
    best = scores[0].mean(2).argmax(1)
    baseline = scores[1][0][best[0]]
    rows = []
    for index, name in enumerate(AUGMENTATIONS):
        test = scores[1][index][best[index]]
        lr, decay = settings[best[index]]
        row: dict[str, Any] = {"augmentation": name, "lr": float(lr), "weight_decay": float(decay)}
        row["validation"] = 100 * float(scores[0][index][best[index]].mean())
        row["test"], row["test_interval"] = (100 * value for value in interval(test))
        row["change"], row["change_interval"] = (100 * value for value in interval(test - baseline))
        rows.append(row)
    return rows


def interval(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Mean and half width of the 95 % interval."""
    mean, low, high = mean_interval(values)
    return mean, (high - low) / 2


def markdown(record: dict[str, Any]) -> str:
    """The record as a page."""
    intro = (
        f"{record['dataset']}, tokens of the embedded ViT, {record['shots']} shots: {record['heads']} MAP heads of "
        f"{record['steps']} steps (10 learning rates x 10 weight decays x 6 settings of augmentation x 5 disjoint "
        f"support samples), trained together in {record['seconds']:.0f} s, predictions included: "
        f"{record['head_steps_per_s']:,.0f} head-steps a second ({record['versions']}). "
        f"Written by `{record['command']}`."
    )
    how = (
        "For each augmentation, the setting of the best mean validation accuracy; top-1 in % on the test images with "
        "95 % intervals over the samples, and the paired change against no augmentation at its own best setting."
    )
    head = ["| augmentation | learning rate | weight decay | validation | test | change |"]
    lines = ["# A sweep of the paper's size", "", intro, "", how, "", *head, "| --- | --- | --- | --- | --- | --- |"]
    for row in record["table"]:
        change = "" if row["augmentation"] == "none" else f"{row['change']:+.1f} ± {row['change_interval']:.1f}"
        lines.append(
            f"| {row['augmentation']} | {row['lr']:.2g} | {row['weight_decay']:.2g} | {row['validation']:.1f} | "
            f"{row['test']:.1f} ± {row['test_interval']:.1f} | {change} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--precision", choices=["highest", "high", "medium"], default="high", help="of products")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument("--table", type=Path, metavar="FILE.md")
    args = parser.parse_args()
    torch.set_float32_matmul_precision(args.precision)
    device = resolve_device("auto")
    with tempfile.TemporaryDirectory() as scratch:
        data = load_study_data(
            args.directory,
            "frofa/vit_tiny_tin200",
            Path(scratch),
            args.shots,
            device="auto",
            n_jobs=-1,
            outputs=["tokens"],
        )
        scores, seconds = sweep(data, args.shots, args.steps, device)
    n_heads = scores[0].size
    record = {
        "command": f"python benchmarks/sweep.py {args.directory.name} --shots {args.shots} --steps {args.steps}",
        "versions": f"{versions('auto')}; float32 products of precision '{args.precision}'",
        "dataset": data.dataset,
        "shots": args.shots,
        "steps": args.steps,
        "heads": n_heads,
        "seconds": seconds,
        "head_steps_per_s": n_heads * args.steps / seconds,
        "table": table(scores),
    }
    print(markdown(record))
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    if args.table:
        args.table.write_text(markdown(record), "utf-8")


if __name__ == "__main__":
    main()
