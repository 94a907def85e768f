"""How fast text towers embed captions, beside transformers with the same weights, threads and batches.

Towers of the sizes of SigLIP B/16 and CLIP B/32 with random weights, in float32, on captions of ImageNet's length.
Transformers is given ids padded to the whole context, as SigLIP was trained, and for CLIP also to the longest text of
the batch, which is the best that a user can do. Runs alternate, and ratios are of medians. Bars: 1.0 or more for SigLIP
and against CLIP padded to the longest, 2 against CLIP padded in full.

Usage: python benchmarks/text.py [--texts N] [--rounds N] [--threads N] [--out FILE.json]
Prints one line of JSON a measurement.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from frofa.backbones.text.config import TextConfig
from frofa.backbones.text.transformer import TextTransformer

BATCH = 64
SIGLIP = TextConfig(32000, 64, 768, 12, 12, 3072, "gelu_tanh", 1e-6, projection=768, projection_bias=True)
CLIP = TextConfig(49408, 77, 512, 12, 8, 2048, "quick_gelu", causal=True, pooling="eos", eos_id=49407, projection=512)
LENGTHS = (6, 14)
"""Tokens of "a photo of a NAME." with the special ones, for the names of ImageNet's classes."""


def captions(config: TextConfig, n: int) -> tuple[Tensor, Tensor]:
    """Ids (n, L) of captions of such lengths, padded, and the mask (n, L)."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, config.vocabulary - 2, (n, config.context), generator=generator)
    lengths = torch.randint(*LENGTHS, (n, 1), generator=generator)
    places = torch.arange(config.context)
    ids = torch.where(places < lengths - 1, ids, config.vocabulary - 1 if config.pooling == "eos" else 1)
    return ids, places < lengths


def ours(config: TextConfig) -> TextTransformer:
    """Make a tower of random weights."""
    module = TextTransformer(config)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.02)
    return module.eval().requires_grad_(False)


def peer(config: TextConfig) -> Any:
    """Make the tower of transformers of the same sizes."""
    sizes: dict[str, Any] = {
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context,
    }
    model: Any
    if config.causal:
        model = transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(**sizes, projection_dim=config.projection)
        )
    else:
        model = transformers.SiglipTextModel(transformers.SiglipTextConfig(**sizes))
    return model.eval().requires_grad_(False)


def rates(
    runs: dict[str, Callable[[Tensor, Tensor], object]], ids: Tensor, mask: Tensor, rounds: int
) -> dict[str, Any]:
    """Texts a second of each run, in turn, after a batch to warm up: the median, and all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for run in runs.values():
            run(ids[:BATCH], mask[:BATCH])
        for _ in range(rounds):
            for name, run in runs.items():
                begun = time.perf_counter()
                for part, seen in zip(ids.split(BATCH), mask.split(BATCH), strict=True):
                    run(part, seen)
                seconds[name].append(time.perf_counter() - begun)
    return {name: len(ids) / statistics.median(times) for name, times in seconds.items()}


def measure(name: str, config: TextConfig, n: int, rounds: int) -> dict[str, Any]:
    ids, mask = captions(config, n)
    own, theirs = ours(config), peer(config)
    runs: dict[str, Callable[[Tensor, Tensor], object]] = {"frofa": own, "transformers": lambda ids, _: theirs(ids)}
    if config.causal:

        def to_longest(ids: Tensor, mask: Tensor) -> object:
            longest = int(mask.sum(1).max())
            return theirs(ids[:, :longest], attention_mask=mask[:, :longest])

        runs["transformers, padded to the longest"] = to_longest
    found = rates(runs, ids, mask, rounds)
    ratios = {f"over {peer}": round(found["frofa"] / rate, 2) for peer, rate in found.items() if peer != "frofa"}
    return {"tower": name, "texts": n, **{f"{key}, texts/s": round(rate, 1) for key, rate in found.items()}, **ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    records = []
    for name, config in {"SigLIP B/16": SIGLIP, "CLIP B/32": CLIP}.items():
        records.append(measure(name, config, args.texts, args.rounds))
        print(json.dumps(records[-1]), flush=True)
    if args.out:
        machine = {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": args.threads,
            "load_average": round(os.getloadavg()[0], 1),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "command": " ".join(["python benchmarks/text.py", *sys.argv[1:]]),
        }
        args.out.write_text(json.dumps({**machine, "results": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
