"""How fast images of many sizes go through a vision transformer, packed, padded as timm does, and at one size.

Work: 4,096 images with the sizes of a folder of photographs, over and over, under a budget of tokens each; the forward
pass alone, on patches that are on the device (random numbers, the same for each pass), to the model's own pooled vector
of each image; bfloat16 autocast, random weights. Widths B/16 and So400m/16 of SigLIP2. Three ways:

- packed: first-fit decreasing into sequences, attention within each image (`frofa.backbones.navit`); with its packing.
- padded: timm's `NaFlexVit`, each image padded to the budget; also with its smaller, key-only mask, if it has one.
- dense: timm's `VisionTransformer` of the same width, square images of as many tokens as the budget.

Sizes: "timm" enlarges small images to the budget, as timm's evaluation does; "native" does not (`enlarge=False`).
Bars: packed 1.5 times as fast as padded, under 5 % of the places in sequences empty, and at least 0.8 of the tokens a
second of dense. Also the relative error against float64 of packed and padded, and peak memory.

Usage: python benchmarks/navit.py [--device cpu --tiny] [--photos DIRECTORY | --sizes FILE] [--compile]
    [--out FILE.json]
Prints one line of JSON a part as it comes, and all parts at the end.
"""

import argparse
import copy
import json
import platform
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor

import frofa
from frofa import list_images
from frofa.backbones.navit.model import PackedModel
from frofa.backbones.navit.packing import first_fit_decreasing
from frofa.backbones.outputs import Request
from frofa.decoding.patches import native_grid

PHOTOS = (Path("../shared/data/photos"), Path("shared/data/photos"))
LONG = 10.0
"""Seconds after which a part takes no further turn."""
Grid = tuple[int, int]
Record = dict[str, Any]


@dataclass(frozen=True)
class Width:
    """Names of timm's models of one width, and their parameters where they are not as published."""

    naflex: str
    dense: str
    parameters: dict[str, Any]


WIDTHS = {
    "B/16": Width("naflexvit_base_patch16_siglip", "vit_base_patch16_siglip_256", {}),
    "So400m/16": Width("naflexvit_so400m_patch16_siglip", "vit_so400m_patch16_siglip_256", {}),
}
TINY = {"embed_dim": 48, "depth": 2, "num_heads": 4}


class Bench:
    """One width: its models, its device, and what is timed on them."""

    def __init__(self, name: str, args: argparse.Namespace):
        self.args, self.name = args, name
        self.device = torch.device(args.device)
        width, parameters = WIDTHS[name], TINY if args.tiny else {}
        torch.manual_seed(0)
        self.naflex: Any = self._made(width.naflex, **parameters)
        self._dense = lru_cache(maxsize=1)(lambda side: self._made(width.dense, img_size=side, **parameters))
        self.patch = 16
        generator = torch.Generator(self.device).manual_seed(0)
        shape = (args.capacity, 3 * self.patch**2)
        self.patches = torch.randn(shape, generator=generator, device=self.device)

    def _made(self, name: str, **parameters: Any) -> Any:
        with torch.device(self.device):
            module: Any = timm.create_model(name, num_classes=0, **parameters).eval().requires_grad_(False)
        if self.args.compile:  # `packed` compiles its own loop over the blocks
            for block in module.blocks:
                block.compile()
        return module

    def packed(self, grids: Sequence[Grid], budget: int) -> Callable[[], Tensor]:
        """A run that packs images and passes sequence after sequence."""
        model = PackedModel(self.naflex, budget)
        request = [Request("pooled", len(self.naflex.blocks) - 1, True)]
        lengths = [rows * columns for rows, columns in grids]

        def run() -> Tensor:
            packs = first_fit_decreasing(lengths, self.args.capacity)
            parts = []
            for pack in packs:
                patches = self.patches[: sum(lengths[image] for image in pack)]
                parts += model(patches, [grids[image] for image in pack], request, compiled=self.args.compile)
            order = torch.tensor([image for pack in packs for image in pack]).argsort().to(self.device)
            return torch.cat(parts)[order]

        return run

    def padded(self, grids: Sequence[Grid], budget: int, *, key_only: bool) -> Callable[[], Tensor]:
        """A run of timm's own, in batches of padded images."""
        size = self.args.capacity // budget
        batches = [self._collated(grids[start : start + size], budget) for start in range(0, len(grids), size)]
        patches = self.patches[: size * budget].view(size, budget, -1)

        def run() -> Tensor:
            self.naflex.use_key_only_attn_mask = key_only
            parts = []
            for coordinates, valid in batches:
                found = self.naflex.forward_features(patches[: len(valid)], coordinates, valid)
                parts.append(self.naflex.forward_head(**found, pre_logits=True))
            return torch.cat(parts)

        return run

    def _collated(self, grids: Sequence[Grid], budget: int) -> tuple[Tensor, Tensor]:
        coordinates = torch.zeros(len(grids), budget, 2, dtype=torch.long)
        valid = torch.zeros(len(grids), budget, dtype=torch.bool)
        for row, (height, width) in enumerate(grids):
            coordinates[row, : height * width] = torch.cartesian_prod(torch.arange(height), torch.arange(width))
            valid[row, : height * width] = True
        return coordinates.to(self.device), valid.to(self.device)

    def dense(self, n: int, budget: int) -> Callable[[], Tensor]:
        """A run of the model of one size."""
        side, size = round(budget**0.5) * self.patch, self.args.capacity // budget
        module = self._dense(side)
        images = self.patches[: size * budget].view(size, 3, side, side)

        def run() -> Tensor:
            parts = []
            for start in range(0, n, size):
                features = module.forward_features(images[: min(size, n - start)])
                parts.append(module.forward_head(features, pre_logits=True))
            return torch.cat(parts)

        return run

    def timed(self, run: Callable[[], Tensor]) -> float:
        """Seconds of a run."""
        self.synchronise()
        begun = time.perf_counter()
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16):
            run()
        self.synchronise()
        return time.perf_counter() - begun

    def peak(self, run: Callable[[], Tensor]) -> float | None:
        """GiB that a run takes beyond weights and patches; it also warms up."""
        if self.device.type != "cuda":
            self.timed(run)
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.timed(run)
        return round((torch.cuda.max_memory_allocated() - before) / 2**30, 2)

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def throughput(bench: Bench, grids: Sequence[Grid], budget: int, sizes: str) -> Record:
    """Seconds of each way, turn by turn; a record with ratios of medians."""
    args = bench.args
    few = list(grids[: 2 * args.capacity // budget])
    ways: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "packed": (bench.packed(few, budget), bench.packed(grids, budget)),
        "padded": (bench.padded(few, budget, key_only=False), bench.padded(grids, budget, key_only=False)),
        "dense": (bench.dense(len(few), budget), bench.dense(len(grids), budget)),
    }
    if hasattr(bench.naflex, "use_key_only_attn_mask") and bench.name == "B/16":
        masks = (bench.padded(few, budget, key_only=True), bench.padded(grids, budget, key_only=True))
        ways["padded_key_only"] = masks
    peaks = {way: bench.peak(warm) for way, (warm, _) in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    while min(map(len, seconds.values())) < args.repeats and sum(map(sum, seconds.values())) < LONG:
        for way, (_, run) in ways.items():
            seconds[way].append(bench.timed(run))
    middle = {way: sorted(values)[len(values) // 2] for way, values in seconds.items()}
    lengths = [rows * columns for rows, columns in grids]
    packs = first_fit_decreasing(lengths, args.capacity)
    record: Record = {"part": "throughput", "width": bench.name, "sizes": sizes, "budget": budget}
    record |= {"images": len(grids), "tokens": sum(lengths), "capacity": args.capacity, "sequences": len(packs)}
    record |= {"padding_waste_packed": round(1 - sum(lengths) / (args.capacity * len(packs)), 4)}
    record |= {"padding_waste_padded": round(1 - sum(lengths) / (budget * len(lengths)), 4)}
    record |= {"seconds": {way: [round(value, 4) for value in values] for way, values in seconds.items()}}
    record |= {"images_per_second": {way: round(len(grids) / value, 1) for way, value in middle.items()}}
    rates = {way: (len(grids) * budget if way == "dense" else sum(lengths)) / value for way, value in middle.items()}
    record |= {"tokens_per_second": {way: round(value) for way, value in rates.items()}, "peak_gib": peaks}
    record |= {f"packed_to_{way}": round(middle[way] / middle["packed"], 3) for way in ways if way.startswith("padded")}
    return record | {"tokens_packed_to_dense": round(rates["packed"] / rates["dense"], 3)}


def errors(bench: Bench, budget: int) -> Record:
    """Relative error of bfloat16, packed and padded, against each image alone through timm's model in float64."""
    grids = [(1, 1), (1, min(budget, 64)), (7, 9), (4, 16), (8, 8), (16, 3), (int(budget**0.5),) * 2]
    exact = copy.deepcopy(bench.naflex).double()
    layer = len(bench.naflex.blocks) - 1
    requests = [Request("tokens", layer, True), Request("pooled", layer, True)]
    sizes = [rows * columns for rows, columns in grids]
    patches = torch.randn(sum(sizes), bench.patches.shape[1], generator=torch.Generator().manual_seed(0))
    parts = patches.to(bench.device).split(sizes)
    tokens, pooled = [], []
    with torch.inference_mode():
        for part, grid in zip(parts, grids, strict=True):
            found = exact.forward_features(part[None].double(), *bench._collated([grid], len(part)))
            tokens.append(found["patches"][0])
            pooled.append(exact.forward_head(**found, pre_logits=True))
        with torch.autocast(bench.device.type, torch.bfloat16):
            packed = PackedModel(bench.naflex)(torch.cat(parts), grids, requests)
            coordinates, valid = bench._collated(grids, budget)
            filled = torch.zeros(len(grids), budget, patches.shape[1], device=bench.device)
            filled[valid] = torch.cat(parts)
            bench.naflex.use_key_only_attn_mask = False
            found = bench.naflex.forward_features(filled, coordinates, valid)
            padded = [found["patches"][valid], bench.naflex.forward_head(**found, pre_logits=True)]
    record: Record = {"part": "bfloat16 error against float64", "width": bench.name, "images": len(grids)}
    for name, values in (("packed", packed), ("padded", padded)):
        for what, ours, expected in zip(("tokens", "pooled"), values, (tokens, pooled), strict=True):
            whole = torch.cat(expected)
            record[f"{what}_{name}"] = float((ours.double() - whole).norm() / whole.norm())
    return record


def sizes_of_photos(args: argparse.Namespace) -> list[tuple[int, int]]:
    """Width and height of each photograph, pixels."""
    if args.sizes:
        return [(width, height) for width, height in json.loads(args.sizes.read_text())]
    found = [path for path in ([args.photos] if args.photos else PHOTOS) if path.is_dir()]
    if not found:
        raise SystemExit(f"no folder of photographs at {args.photos or PHOTOS[0]}: give one by --photos, or --sizes")
    return [Image.open(path).size for path in list_images(found[0])]


def grids_of(sizes: Sequence[tuple[int, int]], n: int, budget: int, *, enlarge: bool) -> list[Grid]:
    """Grids of n images of these sizes, over and over."""
    grids = [native_grid(height, width, (16, 16), budget, enlarge=enlarge) for width, height in sizes]
    return [grids[index % len(grids)] for index in range(n)]


def run_parts(args: argparse.Namespace) -> list[Record]:
    """All parts; one that fails leaves its error, and those that would begin too late are left out."""
    photos, records = sizes_of_photos(args), []
    begun = time.monotonic()

    def part(function: Callable[..., Record], *given: Any) -> None:
        if time.monotonic() - begun > args.seconds:
            record: Record = {"left out": f"begins after {args.seconds} s", "given": str(given[1:])[:80]}
        else:
            try:
                record = function(*given)
            except Exception:  # the other parts are worth having
                record = {"error": traceback.format_exc(limit=-3), "given": str(given[2:])[:80]}
        record["at_second"] = round(time.monotonic() - begun, 1)
        print(json.dumps(record), flush=True)
        records.append(record)

    for name in args.widths:
        bench = Bench(name, args)
        part(errors, bench, args.budgets[-1])
        for sizes in ("native", "timm"):
            for budget in reversed(args.budgets if name == "B/16" else args.budgets[-1:]):
                grids = grids_of(photos, args.images, budget, enlarge=sizes == "timm")
                part(throughput, bench, grids, budget, sizes)
        del bench
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="two narrow layers, 40 images: whether it runs at all")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--sizes", type=Path, help="instead: a JSON list of [width, height] in pixels")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--budgets", type=int, nargs="+", default=[256, 1024], help="tokens an image, squares")
    parser.add_argument("--capacity", type=int, default=65536, help="tokens of a sequence, and of a padded batch")
    parser.add_argument("--widths", nargs="+", default=list(WIDTHS), choices=list(WIDTHS))
    parser.add_argument("--repeats", type=int, default=3, help="turns of a part, fewer if they are long")
    parser.add_argument("--seconds", type=float, default=110, help="no part begins later")
    parser.add_argument("--compile", action="store_true", help="compile the blocks of all three ways")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.tiny:
        args.images, args.budgets, args.capacity, args.repeats = 40, [16, 64], 512, 1
    cuda = args.device.startswith("cuda")
    machine = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    versions = {"frofa": frofa.__version__, "torch": torch.__version__, "timm": timm.__version__}
    result: Record = {"benchmark": "navit", "device": machine, **versions, "precision": "bfloat16 autocast"}
    result |= {"compiled": args.compile, "parts": run_parts(args)}
    print(json.dumps(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
