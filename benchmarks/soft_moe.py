"""Throughput of a Soft MoE vision transformer beside dense ones of the same width and depth.

Three models on the same random pixels: Soft MoE S/16 with 128 experts in the last half of its blocks; timm's
``vit_small_patch16_224``; and the same as the first without experts (mean of the tokens, query-key norm), which tells
what the experts cost from what else is different. Weights are random: the time does not depend on them. Each model is
measured at each batch size, the median of several rounds after a warm-up. In the file, per model and way of running:

autocast: float32 weights under bfloat16 autocast, which is what `FrozenFeatureExtractor` runs on a GPU. Every pass
casts the weights, of which Soft MoE has forty times as many: that is paid once a batch, not once an image.
bfloat16: weights converted once.
compiled: with --compile, the same by torch.compile, at the last batch size only.
float32: on a CPU.

Usage: python benchmarks/soft_moe.py [--device cuda] [--batch 64 256 1024] [--compile] [--out FILE.json]
       python benchmarks/soft_moe.py --device cpu --batch 2 --rounds 2
"""

import argparse
import contextlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import frofa
from frofa.soft_moe import SoftMoE

SPARSE, DENSE, TWIN = "soft_moe_vit_small_patch16", "vit_small_patch16_224", "soft_moe_vit_small_patch16, no experts"
WARM_UP, SECONDS = 2, 0.5


def build(name: str, device: torch.device) -> nn.Module:
    """A model with random weights, drawn on the device."""
    arguments: dict[str, Any] = {"moe_blocks": 0} if name == TWIN else {}
    with device:
        model: nn.Module = timm.create_model(name.split(",")[0], num_classes=0, **arguments)
    return model.eval().requires_grad_(False)


def seconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median time of one call; a round takes as many as fill half a second, or one."""
    for _ in range(WARM_UP):
        run()
    calls = max(1, int(SECONDS / max(_timed(run, device, 1), 1e-6) / rounds))
    return statistics.median(_timed(run, device, calls) / calls for _ in range(rounds))


def _timed(run: Callable[[], object], device: torch.device, calls: int) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def measure(name: str, batches: list[int], device: torch.device, args: argparse.Namespace) -> dict[str, Any]:
    """Images a second by way of running and by batch size."""
    model = build(name, device)
    about = describe(model, device)
    modes = ["float32"] if device.type == "cpu" else ["autocast", "bfloat16", *["compiled"] * args.compile]
    speeds: dict[str, dict[int, float]] = {}
    for mode in modes:
        if mode == "bfloat16":
            model = model.to(torch.bfloat16)
        run: Any = torch.compile(model, dynamic=False) if mode == "compiled" else model
        dtype = next(model.parameters()).dtype
        speeds[mode] = {}
        for batch in batches[-1:] if mode == "compiled" else batches:
            images = torch.zeros(batch, 3, 224, 224, device=device, dtype=dtype).uniform_(-1, 1)
            speeds[mode][batch] = batch / seconds(partial(_pass, run, images, mode), device, args.rounds)
            print(f"{name:<40} {mode:<10} batch {batch:>5} {speeds[mode][batch]:10.1f} images/s", file=sys.stderr)
    return {**about, "images_per_second": speeds}


def _pass(model: Callable[[Tensor], Tensor], images: Tensor, mode: str) -> Tensor:
    precision = torch.autocast(images.device.type, torch.bfloat16) if mode == "autocast" else contextlib.nullcontext()
    with torch.inference_mode(), precision:
        return model(images)


def describe(model: nn.Module, device: torch.device) -> dict[str, Any]:
    """Parameters, and operations of one image: of a multiplication and an addition, two."""
    layers = [part for part in model.modules() if isinstance(part, SoftMoE)]
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(torch.zeros(1, 3, 224, 224, device=device))
    return {
        "blocks_with_experts": len(layers),
        "experts_each": layers[0].num_experts if layers else 0,
        "million_parameters": sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        "gflop_per_image": counter.get_total_flops() / 1e9,
    }


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, threads: {torch.get_num_threads()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    device = torch.device(args.device)
    models = {}
    for name in (SPARSE, DENSE, TWIN):
        models[name] = measure(name, args.batch, device, args)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    ratios = {
        other: {
            mode: {batch: speed / models[other]["images_per_second"][mode][batch] for batch, speed in speeds.items()}
            for mode, speeds in models[SPARSE]["images_per_second"].items()
        }
        for other in (DENSE, TWIN)
    }
    report = {
        "command": " ".join(["python", *sys.argv]),
        "device": _name(device),
        "versions": {
            "frofa": frofa.__version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
        },
        "models": models,
        "throughput_of_soft_moe_relative_to": ratios,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
