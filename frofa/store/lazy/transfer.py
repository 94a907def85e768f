"""Features onto a device, in chunks and within a memory budget."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from frofa.compute.memory import rows_per_chunk
from frofa.store.disk.format import Array

PINNED_BYTES = 2**26
"""Bytes of a pinned buffer, of which there are two: one is read into while the other is copied."""
FREE_FRACTION = 0.8
"""The part of the free memory of a device that is used, if no budget is given; heads need some, too."""
Read = Callable[[int, int, Array], None]
"""A function that reads rows start to stop into an array of the stored dtype."""


def resolve(device: str | torch.device) -> torch.device:
    """The device with its number."""
    resolved = torch.device(device)
    if resolved.type == "cuda" and resolved.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return resolved


def transfer(
    read: Read,
    shape: tuple[int, ...],
    stored: torch.dtype,
    device: torch.device,
    dtype: torch.dtype,
    budget: int | None,
) -> Tensor:
    """Read features of a shape (n, ...) into a tensor on a device, from the files' dtype `stored` into `dtype`.

    `budget` is how many bytes may be used; None is 80 % of what is free, where that is known. MemoryError if that is
    not enough.
    """
    rows = max(1, min(shape[0], rows_per_chunk(PINNED_BYTES, stored.itemsize * math.prod(shape[1:]))))
    _check_budget(shape, rows, stored, device, dtype, budget)
    out = torch.empty(shape, dtype=dtype, device=device)
    if device.type == "cuda":
        _through_pinned(read, out, rows, stored)
        return out
    buffer = torch.empty((rows, *shape[1:]), dtype=stored)
    for start in range(0, shape[0], rows):
        part = buffer[: min(rows, shape[0] - start)]
        read(start, start + len(part), bits_of(part))
        out[start : start + len(part)] = part.to(device)
    return out


def bits_of(tensor: Tensor) -> Array:
    """The memory of a tensor on the CPU as an array; the bits of bfloat16 as integers."""
    bits: Array = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return bits


def _through_pinned(read: Read, out: Tensor, rows: int, stored: torch.dtype) -> None:
    stream, current = torch.cuda.Stream(out.device), torch.cuda.current_stream(out.device)
    stream.wait_stream(current)  # `out` may be memory that is still used there
    buffers = [torch.empty((rows, *out.shape[1:]), dtype=stored, pin_memory=True) for _ in range(2)]
    copied = [torch.cuda.Event(), torch.cuda.Event()]
    # While one buffer is copied, the other is read into; before a buffer is read into again, its copy is waited for.
    for i, start in enumerate(range(0, len(out), rows)):
        part = buffers[i % 2][: len(out) - start]
        copied[i % 2].synchronize()  # at once, before it was first recorded
        read(start, start + len(part), bits_of(part))
        with torch.cuda.stream(stream):
            # Converted there: of another dtype, a copy would be converted here, and would wait.
            out[start : start + len(part)] = part.to(out.device, non_blocking=True)
            copied[i % 2].record(stream)
    stream.synchronize()


def _check_budget(
    shape: tuple[int, ...],
    rows: int,
    stored: torch.dtype,
    device: torch.device,
    dtype: torch.dtype,
    budget: int | None,
) -> None:
    # On a GPU, the buffer of rows in the stored dtype is there beside the result.
    row = math.prod(shape[1:])
    needed = shape[0] * row * dtype.itemsize + (rows * row * stored.itemsize if device.type == "cuda" else 0)
    free = _free(device)
    allowed = budget if budget is not None else None if free is None else int(FREE_FRACTION * free)
    if allowed is None or needed <= allowed:
        return
    known = "" if free is None else f", where {_size(free)} are free"
    raise MemoryError(
        f"features of shape {shape} in {str(dtype).removeprefix('torch.')} need {_size(needed)} on {device}{known}; "
        f"the budget is {_size(allowed)}{'' if budget is not None else ' (80 % of what is free)'}. Take fewer rows, a "
        "smaller dtype, or say a larger budget."
    )


def _free(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    # Memory that PyTorch keeps for itself, but has given to no tensor, is as good as free.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"
