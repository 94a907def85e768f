"""Cost of a backbone on this device: time, memory, and disk."""

import sys
import time
from collections.abc import Callable

import torch

from frofa.backbones.backbone import Backbone
from frofa.backbones.outputs import Request
from frofa.doctor.finding import Outcome, ok
from frofa.doctor.subject import Subject
from frofa.extraction.batch_size import CPU_PASS

MEASURED_SECONDS = 0.5
"""Time that throughput is measured for, after the first pass."""
GPU_PASS = 64
"""Images a pass on a GPU: the default batch size of an extraction."""
SIZES = {"float32": 4, "float16 or bfloat16": 2}
"""Bytes a value, by the types that a store may hold."""


def images_per_second(run: Callable[[], object], n_images: int, device: torch.device, seconds: float) -> float:
    """Measure how many images a second a pass over `n_images` works through, waiting for the device after each.

    It is the median of passes, two at least, over about so many seconds; one before them is not counted.
    """

    def timed() -> float:
        begun = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    # The first pass allocates, compiles and chooses kernels. A median leaves out what else the machine does meanwhile.
    timed()
    took = [timed(), timed()]
    while sum(took) < seconds:
        took.append(timed())
    return n_images / sorted(took)[len(took) // 2]


def forward_rate(backbone: Backbone, pixels: torch.Tensor, precision: str, *, compiled: bool = False) -> float:
    """Measure the images a second of the forward pass alone, pooled, in passes as an extraction makes them.

    Pixels (n, 3, H, W), float32, or rows of patches, are repeated or cut to the size of a pass.
    """
    # As many images as an extraction passes at once on this device, on the device: transfers are not measured.
    n = GPU_PASS if backbone.device.type == "cuda" else CPU_PASS
    batch = pixels.repeat(-(-n // len(pixels)), *[1] * (pixels.ndim - 1))[:n].to(backbone.device)
    request = Request("pooled", backbone.resolve_layer("pooled", None, True), True)
    return images_per_second(
        lambda: backbone.extract(batch, [request], precision, compiled), n, backbone.device, MEASURED_SECONDS
    )


def check_throughput(subject: Subject) -> Outcome:
    """Measure how many images a second go through the model."""
    precision = subject.backbone.resolve_precision(subject.extractor.precision)
    rate = forward_rate(subject.backbone, subject.pixels, precision)
    device = subject.backbone.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return ok(f"{rate:.4g} images/s in {precision} on {name}, forward pass alone, not compiled")


def check_memory(subject: Subject) -> Outcome:
    """Say how much memory weights take, and on a GPU how much a pass takes besides."""
    backbone = subject.backbone
    tensors = [*backbone.module.parameters(), *backbone.module.buffers()]
    message = f"weights {sum(t.numel() * t.element_size() for t in tensors) / 1e6:.4g} MB"
    if backbone.device.type == "cuda":
        # The peak above what is held before the pass is what activations take, without the weights.
        torch.cuda.reset_peak_memory_stats(backbone.device)
        before = torch.cuda.memory_allocated(backbone.device)
        subject.features(precision=backbone.resolve_precision(subject.extractor.precision))
        peak = torch.cuda.max_memory_allocated(backbone.device) - before
        message += f", a pass of {len(subject.items)} images {peak / 1e6:.4g} MB"
    elif (most := _process_peak()) is not None:
        message += f"; this process had {most / 1e6:.4g} MB at most"
    return ok(message)


def check_store(subject: Subject) -> Outcome:
    """Say how much disk the features of a million images take, before compression by the file system."""
    # Values an image: of images at their own aspect ratio, which have different numbers of tokens, the mean.
    n_values = {output: subject.features(output).numel() / len(subject.items) for output in subject.outputs}
    parts = [f"{output} {sizes_of_a_million(n)}" for output, n in n_values.items()]
    return ok("a million images take: " + "; ".join(parts))


def sizes_of_a_million(n_values: float) -> str:
    """Disk space of a million feature arrays of so many values, by type."""
    return ", ".join(f"{name} {n_values * size / 1e3:.4g} GB" for name, size in SIZES.items())


def _process_peak() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    # ru_maxrss is in bytes on macOS, in KiB elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
