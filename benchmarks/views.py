"""What several views of each image cost.

For 1, 2, 4, 6, 10 and 16 views: a run from JPEG files to a finished store (`extract`, pooled output and mean of the
tokens), the forward passes alone, of as many rows of pixels that are there already, and decoding alone, all views
resized. Then from 6 to 10 views in the store of 6. Milliseconds an image, of the clock and of processor time (all
threads of this process; decoding in other processes, as on a GPU, is not in it). `to_one` is the run against that of
one view, `to_forward` the run against its forward passes alone. Numbers of views take turns, and the best of --repeats
counts: other work on the machine can only add.

Bars: on a GPU, a run of several views takes 1.1 times its forward passes alone at most, where its processes decode as
fast as these; on a CPU, no more than n times a run of one view, since decoding is paid once.

Usage: python benchmarks/views.py [--model NAME | --architecture NAME] [--images N] [--size W H] [--out FILE.json]
Prints one line of JSON a measurement.
"""

import argparse
import io
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file

import frofa
from frofa import FrozenFeatureExtractor, list_images
from frofa.backbones.backbone import Backbone
from frofa.backbones.loading import load_backbone
from frofa.backbones.wanted import requests_of
from frofa.decoding.decoders import Decoders
from frofa.decoding.task import DecodeTask
from frofa.decoding.views import make_views
from frofa.extraction.batch_size import CPU_PASS
from frofa.extraction.batches import PixelRows, batches

Record = dict[str, Any]
OUTPUTS: list[Any] = ["pooled", "mean"]
MEASURED = (1, 2, 4, 6, 10, 16)


def timed(function: Callable[[], Any], n_images: int) -> tuple[float, float]:
    """Milliseconds an image: of the clock, and of processor time."""
    begun, used = time.perf_counter(), time.process_time()
    function()
    ended = time.perf_counter() - begun, time.process_time() - used
    return 1000 * ended[0] / n_images, 1000 * ended[1] / n_images


def write_images(photos: Path, folder: Path, n: int, size: tuple[int, int]) -> list[str]:
    """JPEG files of that size or the turned one, made of photographs, each with a digest of its own."""
    encoded = []
    for source in list_images(photos)[:n]:
        image = Image.open(source).convert("RGB")
        image = ImageOps.fit(image, size if image.width >= image.height else size[::-1])
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=87)
        encoded.append(buffer.getvalue())
    paths = []
    for index in range(n):  # bytes after the image's end: the same work, another digest
        path = folder / f"{index:06}.jpg"
        path.write_bytes(encoded[index % len(encoded)] + index.to_bytes(8, "little"))
        paths.append(str(path))
    return paths


def save_random(architecture: str, folder: Path) -> str:
    """A model of timm's with random weights, which computes as long as any, in timm's folder format."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: Any = timm.create_model(architecture, num_classes=0)
    wanted = ("input_size", "crop_pct", "interpolation", "mean", "std")
    config = {"architecture": architecture, "num_classes": 0}
    config |= {"pretrained_cfg": {name: module.pretrained_cfg[name] for name in wanted}}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(module.state_dict(), folder / "model.safetensors")
    return f"local-dir:{folder}"


def forward(backbone: Backbone, n_rows: int, batch_size: int, compiled: bool) -> None:
    """Run the forward passes alone, in the sizes that a run has."""
    geometry = backbone.preprocessing.geometry
    assert geometry is not None
    size = min(batch_size, CPU_PASS) if backbone.device.type == "cpu" else batch_size
    pixels = torch.randint(0, 256, (size, *geometry.shape), dtype=torch.uint8, device=backbone.device)
    requests = list(requests_of(backbone, OUTPUTS, None, True).values())
    precision = backbone.resolve_precision("auto")
    for start in range(0, n_rows, size):
        backbone.extract(pixels[: n_rows - start], requests, precision, compiled)
    if backbone.device.type == "cuda":
        torch.cuda.synchronize()


def decoding(backbone: Backbone, paths: Sequence[str], n_views: int, args: argparse.Namespace) -> None:
    """Read, decode and resize all views, and do nothing with them."""
    geometry = backbone.preprocessing.geometry
    assert geometry is not None
    views = make_views(n_views)
    tasks = [DecodeTask(position, path, views=views) for position, path in enumerate(paths)]
    with closing(Decoders(args.n_jobs, processes=args.device == "cuda")) as decoders:
        n_rows = 4 * args.batch_size + args.n_jobs * (n_views - 1)
        rows = PixelRows(torch.from_numpy(decoders.allocate(n_rows, geometry)))
        for batch in batches(tasks, decoders, rows, args.batch_size, fail):
            batch.release()


def fail(error: Exception) -> None:
    raise error


def measure(args: argparse.Namespace, folder: Path) -> None:
    model = save_random(args.architecture, folder / "model") if args.architecture else args.model
    backbone = load_backbone(model, None, args.device)
    shared: Any = {"output": OUTPUTS, "device": args.device, "n_jobs": args.n_jobs, "batch_size": args.batch_size}
    shared |= {"compile": args.compile}
    best: dict[tuple[str, int], tuple[float, float]] = {}

    def note(what: str, n_views: int, function: Callable[[], Any]) -> None:
        clock, used = timed(function, args.images)
        before = best.get((what, n_views), (clock, used))
        best[what, n_views] = min(before[0], clock), min(before[1], used)

    (folder / "images").mkdir()
    paths = write_images(args.photos, folder / "images", args.images, tuple(args.size))
    FrozenFeatureExtractor(model, **shared).transform(paths[: args.batch_size])  # compiles, starts libraries
    for _ in range(args.repeats):
        for n_views in args.views:
            store = folder / "store"

            def run(n_views: int = n_views, store: Path = store) -> None:
                FrozenFeatureExtractor(model, store=store, n_views=n_views, **shared).extract(paths)

            note("run", n_views, run)
            if n_views == 6:
                note("more", 10, lambda run=run: run(10))  # type: ignore[misc]
            shutil.rmtree(store)
            n_rows = n_views * args.images
            note("forward", n_views, lambda n_rows=n_rows: forward(backbone, n_rows, args.batch_size, args.compile))  # type: ignore[misc]
            note("decoding", n_views, lambda n=n_views: decoding(backbone, paths, n, args))  # type: ignore[misc]
    report(best, args)


def report(best: dict[tuple[str, int], tuple[float, float]], args: argparse.Namespace) -> None:
    # On a CPU other work disturbs the clock, and processor time is compared; on a GPU the clock.
    kind = 0 if args.device == "cuda" else 1
    records: list[Record] = []
    for n_views in args.views:
        record: Record = {"views": n_views}
        for what in ("run", "forward", "decoding"):
            clock, used = best[what, n_views]
            record |= {f"{what}_ms": round(clock, 3), f"{what}_cpu_ms": round(used, 3)}
        whole = best["run", n_views][kind]
        record["to_one"] = round(whole / best["run", args.views[0]][kind], 2)
        record["to_forward"] = round(whole / best["forward", n_views][kind], 3)
        records.append(record)
    if ("more", 10) in best:
        clock, used = best["more", 10]
        records.append({"views": "6 to 10", "run_ms": round(clock, 3), "run_cpu_ms": round(used, 3)})
    for record in records:
        print(json.dumps(record), flush=True)
    if args.out:
        about: Record = {"command": "python " + " ".join(sys.argv), "frofa": frofa.__version__}
        about |= {"torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
        about["device"] = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
        about["threads"] = torch.get_num_threads()
        args.out.write_text(json.dumps({**about, "measurements": records}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="frofa/vit_tiny_tin200")
    parser.add_argument("--architecture", help="one of timm's, with random weights, in the model's place")
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/photos"))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, help="files (default: 100 on a CPU, 5000 on a GPU)")
    parser.add_argument("--size", type=int, nargs=2, default=[500, 375], metavar=("W", "H"), help="of the files")
    parser.add_argument("--views", type=int, nargs="+", default=list(MEASURED))
    parser.add_argument("--n-jobs", type=int, help="threads or processes that decode (default: 1 on a CPU, else all)")
    parser.add_argument("--batch-size", type=int, help="default: 64 on a CPU, 256 on a GPU")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="directory for files (default: the system's own)")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    on_gpu = args.device == "cuda"
    args.images = args.images or (5000 if on_gpu else 100)
    args.batch_size = args.batch_size or (256 if on_gpu else 64)
    args.n_jobs = args.n_jobs or (len(os.sched_getaffinity(0)) if on_gpu else 1)
    with tempfile.TemporaryDirectory(dir=args.scratch) as temporary:
        measure(args, Path(temporary))


if __name__ == "__main__":
    main()
