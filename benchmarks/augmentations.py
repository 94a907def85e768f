"""What each augmentation costs on a GPU, beside a training step of the MAP head and beside copying the batch.

Work: one batch of tokens (n, N, C), by default (128, 196, 768) in bfloat16, drawn and augmented. Several batches are
used in turn, together larger than the card's cache. "device" is the time of the work alone: a CUDA graph of one call a
batch, replayed; "eager" is the time of plain calls, which for small kernels is that of launching them. The step is one
forward and backward pass of the MAP head (12 attention heads, 100 classes) under bfloat16 autocast, without the
optimiser: ours, with the projections folded, and timm's `AttentionPoolLatent` with a linear layer. Ratios are device to
device and eager to eager. The floor is the time of one copy of the batch: each element read once and written once.

Usage: python benchmarks/augmentations.py [--shape 128 196 768] [--dtype bfloat16] [--out FILE.json]
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import AttentionPoolLatent
from torch import Generator, Tensor, nn

import frofa
from frofa import augmentations as A
from frofa.augmentations import Augmentation, TokenBatch
from frofa.estimators.models.map_head import default_num_heads, init_map_head, map_logits

N_CLASSES, WARM_UP, ROUNDS, REPEATS = 100, 3, 7, 10
VARIED = (A.Brightness, A.Contrast, A.Posterize, A.Solarize, A.Invert, A.Sharpness, A.Equalize, A.JPEG)
POINTWISE = ("Brightness", "Contrast", "Posterize", "Solarize", "Invert")


def augmentations() -> dict[str, Augmentation]:
    found: dict[str, Augmentation] = {}
    for kind in VARIED:
        for variant in ("default", "c", "c2"):
            found[f"{kind.__name__} {variant}"] = kind(variant=variant)
    found |= {f"GaussianNoise {variant}": A.GaussianNoise(variant=variant) for variant in ("default", "c2")}
    others: tuple[Augmentation, ...] = (
        A.Rotate(), A.ShearX(), A.ShearY(), A.TranslateX(), A.TranslateY(), A.Crop(), A.ResizedCrop(),
        A.InceptionCrop(), A.PatchDropout(), A.MixUp(), A.ChannelDropout(), A.RandAugment(), A.TrivialAugment(),
    )  # fmt: skip
    found |= {type(augment).__name__: augment for augment in others}
    best = A.Sequential([A.Brightness(variant="c2"), A.Posterize(variant="c")])
    return found | {"Brightness c2 > Posterize c": best}


def seconds(run: Callable[[], object], calls: int) -> float:
    """Median time of one call, by events around several."""
    for _ in range(WARM_UP):
        run()
    times = []
    for _ in range(ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(REPEATS):
            run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / REPEATS / calls)
    return float(statistics.median(times))


def in_graph(run: Callable[[], object], generator: Generator) -> Callable[[], object] | str:
    """The same as one CUDA graph, or why there is none."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    try:
        with torch.cuda.graph(graph):
            run()
    except (RuntimeError, torch.AcceleratorError) as error:
        return str(error).splitlines()[0]
    return graph.replay


def measure(run: Callable[[], object], calls: int, generator: Generator) -> dict[str, Any]:
    found: dict[str, Any] = {"eager_us": 1e6 * seconds(run, calls)}
    replay = in_graph(run, generator)
    if isinstance(replay, str):
        return {**found, "device_us": None, "why": replay}
    return {**found, "device_us": 1e6 * seconds(replay, calls)}


def steps(shape: tuple[int, int, int], batches: list[TokenBatch]) -> dict[str, Callable[[], object]]:
    """Forward and backward of the MAP head on every batch: ours and timm's."""
    channels = shape[2]
    num_heads = default_num_heads(channels)
    initial = init_map_head(channels, N_CLASSES, 4.0, Generator().manual_seed(0))
    params = {name: value.cuda().unsqueeze(0).requires_grad_() for name, value in initial.items()}
    norm: Any = partial(nn.LayerNorm, eps=1e-6)
    with torch.random.fork_rng():
        pool = AttentionPoolLatent(channels, num_heads=num_heads, norm_layer=norm).cuda()
        head = nn.Linear(channels, N_CLASSES).cuda()

    def backward(logits: Tensor, batch: TokenBatch, weights: list[Tensor]) -> None:
        torch.autograd.grad(F.cross_entropy(logits, batch.targets), weights)  # type: ignore[arg-type]

    def ours() -> None:
        for batch in batches:
            with torch.autocast("cuda", torch.bfloat16):
                logits = map_logits(params, batch.patches.unsqueeze(0), num_heads=num_heads)[0]
            backward(logits, batch, list(params.values()))

    def theirs() -> None:
        for batch in batches:
            with torch.autocast("cuda", torch.bfloat16):
                logits = head(pool(batch.patches))
            backward(logits, batch, [*pool.parameters(), *head.parameters()])

    return {"ours": ours, "timm": theirs}


def copy_bandwidth() -> float:
    """Bytes a second of copying 1 GiB, read and written."""
    source, target = (torch.empty(2**30, dtype=torch.uint8, device="cuda") for _ in range(2))
    return 2 * 2**30 / seconds(lambda: target.copy_(source), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[128, 196, 768])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    shape, dtype = (args.shape[0], args.shape[1], args.shape[2]), getattr(torch, args.dtype)
    generator = Generator("cuda").manual_seed(0)
    size = 2 * torch.Size(shape).numel() * dtype.itemsize  # read once, written once
    n_batches = max(2, int(4e8 // size))
    batches = []
    for _ in range(n_batches):
        tokens = torch.randn(shape, generator=generator, device="cuda").to(dtype)
        classes = torch.randint(N_CLASSES, shape[:1], generator=generator, device="cuda")
        batches.append(TokenBatch.from_tokens(tokens, targets=F.one_hot(classes, N_CLASSES).float()))
    outputs = [torch.empty_like(batch.patches) for batch in batches]

    def copy() -> None:
        for batch, output in zip(batches, outputs, strict=True):
            output.copy_(batch.patches)

    bandwidth = copy_bandwidth()
    copied = measure(copy, n_batches, generator)
    heads = {name: measure(run, n_batches, generator) for name, run in steps(shape, batches).items()}
    rows = {}
    for name, augment in augmentations().items():

        def run(augment: Augmentation = augment) -> None:
            for batch in batches:
                augment.apply(batch, generator)

        rows[name] = measure(run, n_batches, generator)
        print(name, rows[name], file=sys.stderr, flush=True)
    report = {
        "work": {"shape": shape, "dtype": args.dtype, "bytes_read_and_written_once": size, "batches": n_batches},
        "card": torch.cuda.get_device_name(),
        "versions": {"frofa": frofa.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "command": "python " + " ".join(sys.argv),
        "copy_bandwidth_of_1_GiB_GB_per_s": bandwidth / 1e9,
        "copy_of_the_batch": copied,
        "head_step": heads,
        "augmentations": rows,
    }
    table(report)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n")


def table(report: dict[str, Any]) -> None:
    size, copied, heads = (report[k] for k in ("work", "copy_of_the_batch", "head_step"))
    size = size["bytes_read_and_written_once"]
    bandwidth = report["copy_bandwidth_of_1_GiB_GB_per_s"]
    print(f"{report['card']}, {report['versions']}, tokens {report['work']['shape']} {report['work']['dtype']}")
    print(f"copy of 1 GiB {bandwidth:.0f} GB/s, of the batch {copied['device_us']:.0f} us")
    for name, step in heads.items():
        print(f"head step, {name}: device {step['device_us'] or float('nan'):.0f} us, eager {step['eager_us']:.0f} us")
    print(f"{'':<28}{'device us':>10}{'/ copy':>8}{'GB/s':>7}{'/ step':>8}{'/ timm':>8}{'eager us':>10}{'/ step':>8}")
    for name, row in report["augmentations"].items():
        device = row["device_us"]
        values = "".join(f"{'-':>{width}}" for width in (10, 8, 7, 8, 8))
        if device:
            ratios = device / copied["device_us"], size / device / 1e3, *(device / heads[k]["device_us"] for k in heads)
            values = f"{device:>10.0f}{ratios[0]:>8.2f}{ratios[1]:>7.0f}{ratios[2]:>8.2f}{ratios[3]:>8.2f}"
        print(f"{name:<28}{values}{row['eager_us']:>10.0f}{row['eager_us'] / heads['ours']['eager_us']:>8.2f}")


if __name__ == "__main__":
    main()
