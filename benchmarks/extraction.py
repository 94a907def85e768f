"""How fast and in how much memory features are extracted.

On a CPU: a plain loop of timm and PyTorch's `DataLoader` against `FrozenFeatureExtractor`, the same model in float32,
the same files in the file cache and as many threads and workers; uncached, and a second run with a store. Runs
alternate, and ratios are of medians. Bars: 1.0 or more uncached, more than 50 for the second run.

On a CUDA device: ViT-B/16 at 224 px with random weights, JPEG files of about 500 x 375 px. Decoding alone on all cores,
in processes and in threads; the forward pass alone in bfloat16, compiled and not; then both together, from JPEG files
to a finished store, in a process that has the model: the first files (--few) and all, in processes and in threads,
compiled and not, as a fraction of the slower of the two alone (`of_the_smaller`; threads share Python's lock, and are
compared with what they decode alone); and the naive loop: float32, batches of 64, no workers.

With --memory: peak memory of a process that extracts 1,000 images, and of one that extracts 50,000, into a store.

Usage: python benchmarks/extraction.py [--photos DIRECTORY] [--images N] [--out FILE.json] [--memory]
Prints one line of JSON a measurement.
"""

import argparse
import io
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file

import frofa
from frofa import FrozenFeatureExtractor, list_images
from frofa.backbones.backbone import Backbone
from frofa.backbones.loading import load_backbone
from frofa.backbones.outputs import Request
from frofa.decoding.decoders import Decoders
from frofa.decoding.task import DecodeTask
from frofa.extraction.batches import PixelRows, batches

PHOTOS = Path("../shared/data/photos")
Record = dict[str, Any]


def timed(function: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def write_images(photos: Path, folder: Path, n: int, ending: str = "jpg") -> list[str]:
    """Files of about 500 x 375 pixels, made of photographs, each with a digest of its own."""
    sources = list_images(photos)
    variants: list[bytes] = []
    for index in range(min(n, 2 * len(sources))):
        image = Image.open(sources[index % len(sources)]).convert("RGB")
        image = ImageOps.fit(image, (500, 375) if image.width >= image.height else (375, 500))
        encoded = io.BytesIO()
        (ImageOps.mirror(image) if index >= len(sources) else image).save(
            encoded, "JPEG" if ending == "jpg" else "PNG", quality=87
        )
        variants.append(encoded.getvalue())
    paths = []
    for index in range(n):  # bytes after the image's end: the same work, another digest
        path = folder / f"{index:06}.{ending}"
        path.write_bytes(variants[index % len(variants)] + index.to_bytes(8, "little"))
        paths.append(str(path))
    return paths


class Files(torch.utils.data.Dataset[Any]):
    """What a plain loop has: a path in, timm's transform out."""

    def __init__(self, paths: Sequence[str], transform: Callable[[Any], Any]):
        self._paths, self._transform = paths, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Any:
        return self._transform(Image.open(self._paths[index]).convert("RGB"))


def plain_loop(backbone: Backbone, paths: Sequence[str], workers: int) -> Any:
    """Class tokens, or what the model pools, as a script of a few lines would get them."""
    loader = torch.utils.data.DataLoader(Files(paths, backbone.preprocess), batch_size=64, num_workers=workers)
    model: Any = backbone.module
    found = []
    with torch.inference_mode():
        for images in loader:
            features = model.forward_features(images.to(backbone.device))
            found.append(model.forward_head(features, pre_logits=True).float().cpu().numpy())
    return np.concatenate(found)


def on_cpu(args: argparse.Namespace) -> None:
    n_threads = args.threads or len(os.sched_getaffinity(0))
    workers = max(1, n_threads // 2)
    torch.set_num_threads(max(1, n_threads - workers))
    records: list[Record] = []
    for ending in ("jpg", "png"):
        records.append(compare("frofa/vit_tiny_tin200", args, ending, workers))
        show(records, args.out)


def compare(name: str, args: argparse.Namespace, ending: str, workers: int) -> Record:
    """The plain loop, ours, ours into a new store, and ours from that store."""
    backbone = load_backbone(name, None, "cpu")
    shared: Any = {"output": "pooled", "device": "cpu", "n_jobs": workers}
    seconds: dict[str, list[float]] = {"plain": [], "ours": [], "first": [], "second": []}
    with tempfile.TemporaryDirectory(dir=args.scratch) as temporary:
        paths = write_images(args.photos, Path(temporary), args.images or 400, ending)
        expected = plain_loop(backbone, paths, workers)
        found = FrozenFeatureExtractor(name, **shared).transform(paths)
        for turn in range(args.repeats):
            stored = {**shared, "store": Path(temporary) / f"store{turn}"}
            seconds["plain"].append(timed(lambda: plain_loop(backbone, paths, workers)))
            seconds["ours"].append(timed(lambda: FrozenFeatureExtractor(name, **shared).transform(paths)))
            for which in ("first", "second"):
                extractor = FrozenFeatureExtractor(name, **stored)
                seconds[which].append(timed(partial(extractor.transform, paths)))
    middle = {which: statistics.median(values) for which, values in seconds.items()}
    record: Record = {"measurement": "cpu", "model": name, "files": f"{len(paths)} {ending}"}
    record |= {"threads_forward": torch.get_num_threads(), "workers": workers}
    record |= {f"seconds_{which}": round(value, 3) for which, value in middle.items()}
    record |= {f"ratio_{which}": round(middle["plain"] / middle[which], 3) for which in ("ours", "first", "second")}
    record["largest_difference"] = float(np.abs(expected - found).max())
    return record


def save_vit(folder: Path) -> str:
    """ViT-B/16 with random weights, in timm's folder format."""
    torch.manual_seed(0)
    module: Any = timm.create_model("vit_base_patch16_224", num_classes=0)
    config = {
        "architecture": "vit_base_patch16_224",
        "num_classes": 0,
        "pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 0.9, "interpolation": "bicubic"},
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(module.state_dict(), folder / "model.safetensors")
    return f"local-dir:{folder}"


def decode_rate(backbone: Backbone, paths: Sequence[str], n_jobs: int, decode: str) -> float:
    """Images a second that processes or threads read, decode and resize, in steady state."""
    geometry = backbone.preprocessing.geometry
    assert geometry is not None
    tasks = [DecodeTask(position, path, None) for position, path in enumerate(paths)]
    with closing(Decoders(n_jobs, processes=decode == "process")) as decoders:
        rows = PixelRows(torch.from_numpy(decoders.allocate(1024, geometry)))

        def run(part: Sequence[DecodeTask]) -> None:
            for batch in batches(part, decoders, rows, 256, fail):
                batch.release()

        run(tasks[:512])  # starts the processes
        return len(tasks) / timed(lambda: run(tasks))


def fail(error: Exception) -> None:
    raise error


def forward_rate(backbone: Backbone, size: int, *, compiled: bool, passes: int = 30) -> float:
    """Images a second of the forward pass alone, on pixels that are on the device."""
    pixels = torch.randint(0, 256, (size, 224, 224, 3), dtype=torch.uint8, device=backbone.device)

    def run(n: int) -> None:
        for _ in range(n):
            backbone.extract(pixels, [Request("cls", 11, True)], "bfloat16", compiled)
        torch.cuda.synchronize()

    run(5)
    return passes * size / timed(lambda: run(passes))


def on_cuda(args: argparse.Namespace) -> None:
    n = args.images or 40_000
    n_jobs = args.threads or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=args.scratch) as temporary:
        folder = Path(temporary)
        model = save_vit(folder / "model")
        (folder / "images").mkdir()
        paths = write_images(args.photos, folder / "images", n)
        few = paths[: args.few]
        backbone = load_backbone(model, None, "cuda")
        about: Record = {"measurement": "cuda", "device": torch.cuda.get_device_name(), "cores": n_jobs}
        forward = {compiled: forward_rate(backbone, args.batch_size, compiled=compiled) for compiled in (False, True)}
        decoding = {kind: decode_rate(backbone, few, n_jobs, kind) for kind in ("process", "thread")}
        rates = {"forward": forward[False], "forward_compiled": forward[True]}
        rates |= {f"decode_{kind}": rate for kind, rate in decoding.items()}
        records = [about | {f"{name}_images_per_s": round(rate, 1) for name, rate in rates.items()}]
        show(records, args.out)
        shared: Any = {"device": "cuda", "n_jobs": n_jobs, "batch_size": args.batch_size}

        def whole(part: Sequence[str], **own: Any) -> None:
            parameters: Any = {**shared, "output": "cls", **own}
            FrozenFeatureExtractor(model, **parameters).transform(part[: args.batch_size])  # compiles
            extractor = FrozenFeatureExtractor(model, store=folder / f"store{len(records)}", **parameters)
            rates = [len(part) / timed(lambda: extractor.extract(part)) for _ in range(2)]
            smaller = min(forward[own.get("compile", False)], decoding[own.get("decode", "process")])
            record: Record = {"files": len(part), **own, "images_per_s": round(rates[0], 1)}
            record |= {"of_the_smaller": round(rates[0] / smaller, 3), "second_run_images_per_s": round(rates[1], 1)}
            records.append(record)
            show(records, args.out)

        for part in (few, paths):
            for decode in ("process", "thread"):
                for compiled in (False, True):
                    whole(part, decode=decode, compile=compiled)
        whole(few, output="tokens", dtype="float16", compile=True)
        naive = few[: max(len(few) // 5, 1)]
        plain_loop(backbone, naive[:64], 0)
        rate = len(naive) / timed(lambda: plain_loop(backbone, naive, 0))
        best = max(record["images_per_s"] for record in records[1:])
        records.append({"naive_images_per_s": round(rate, 1), "times_naive": round(best / rate, 1)})
        show(records, args.out)


def memory(args: argparse.Namespace) -> None:
    """Peak resident memory of a child process, with few and with many images."""
    records: list[Record] = []
    with tempfile.TemporaryDirectory(dir=args.scratch) as temporary:
        folder = Path(temporary) / "images"
        folder.mkdir()
        most = args.images or 50_000
        for index in range(most):
            pixels = np.full((16, 16, 3), index % 256, np.uint8)
            pixels[0, :2, :] = np.frombuffer(index.to_bytes(6, "little"), np.uint8).reshape(2, 3)
            Image.fromarray(pixels).save(folder / f"{index:06}.bmp")
        for n in (1000, most):
            command = [sys.executable, __file__, "--memory-child", str(folder), str(n), str(Path(temporary) / f"s{n}")]
            ran = subprocess.run(command, check=True, capture_output=True, text=True)
            records.append({"measurement": "memory", "images": n, **json.loads(ran.stdout)})
            show(records, args.out)
    ratio = records[1]["peak_mib"] / records[0]["peak_mib"]
    records.append({"measurement": "memory ratio", "ratio": round(ratio, 4)})
    show(records, args.out)


def memory_child(folder: str, n: str, store: str) -> None:
    paths = list_images(folder)[: int(n)]
    # At 16 px the embedded backbone has four tokens: the work is in the pipeline.
    extractor = FrozenFeatureExtractor(output="mean", image_size=16, store=store, device="cpu", n_jobs=1)
    seconds = timed(lambda: extractor.extract(paths))
    # `getrusage` would count what the process that started this one had.
    peak = int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024
    print(json.dumps({"peak_mib": round(peak, 1), "seconds": round(seconds, 1)}))


def show(records: Sequence[Record], out: Path | None) -> None:
    """Print the last measurement, and write all of them, so that a run that is cut short leaves what it has."""
    print(json.dumps(records[-1]), flush=True)
    if out:
        versions = {"frofa": frofa.__version__, "torch": torch.__version__, "python": platform.python_version()}
        about = {"command": "python " + " ".join(sys.argv), **versions}
        out.write_text(json.dumps({**about, "measurements": records}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos", type=Path, default=PHOTOS, help="photographs to make files of (default: %(default)s)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, help="files (default: 400 on a CPU, 40000 on a GPU, 50000 for --memory)")
    parser.add_argument("--few", type=int, default=6000, help="files of short runs on a GPU (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="cores to use (default: all)")
    parser.add_argument("--batch-size", type=int, default=256, help="on a GPU (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of each run on a CPU (default: %(default)s)")
    parser.add_argument("--scratch", type=Path, help="directory for files (default: the system's own)")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--memory-child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    if args.memory_child:
        memory_child(*args.memory_child)
        return
    measure = memory if args.memory else on_cuda if args.device == "cuda" else on_cpu
    measure(args)


if __name__ == "__main__":
    main()
