"""Heads that are trained together: of the same shapes, and no more of them than memory holds."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from frofa.compute.memory import rows_per_chunk
from frofa.estimators.tokens.lazy import Tokens
from frofa.estimators.tokens.padding import PaddedTokens
from frofa.estimators.training.plan import HeadPlan

CPU_MEMORY = 2**30
"""Bytes that the heads trained at a time on a CPU may take, all threads together."""
CPU_HEADS = 12
"""Heads of a stream that a CPU trains together, as they share its batches (``benchmarks/search_map.py cpu``)."""
GPU_SHARE = 0.4
"""Share of a GPU's free memory that heads may take (``benchmarks/search_map.py gpu``): `head_bytes` is an estimate,
and a recorded step has memory of its own."""


def free_memory(device: torch.device) -> int:
    """Tell how many bytes heads may take on a device."""
    return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else CPU_MEMORY


def chunks_of(tokens: Tokens, plans: Sequence[HeadPlan], memory: int, n_workers: int) -> list[list[int]]:
    """Choose the heads that are trained together, given by number: the chunks with most steps come first."""
    groups: dict[Hashable, dict[Hashable, list[int]]] = {}
    for i, plan in enumerate(plans):
        groups.setdefault(_shape(tokens, plan), {}).setdefault(plan.stream, []).append(i)
    image, chunks = _image(tokens), list[list[int]]()
    for streams in groups.values():
        # Plans of a group differ in nothing that decides how much memory a head takes.
        plan = plans[next(iter(streams.values()))[0]]
        fitting = rows_per_chunk(memory // n_workers, plan.model.head_bytes(image, plan.n_batch))
        if tokens.device.type == "cpu":
            size = min(fitting, CPU_HEADS, -(-len(plans) // n_workers))
            chunks += [part for heads in streams.values() for part in split(heads, size)]
        else:  # streams with the same number of heads next to each other, then those of the same source
            ordered = sorted(streams.values(), key=len)
            chunks += split([i for heads in ordered for i in heads], fitting)
    return sorted(chunks, key=lambda chunk: -sum(plans[i].schedule.n_steps for i in chunk))


def split(heads: list[int], size: int) -> list[list[int]]:
    """Cut a list into parts of a size; the last may be shorter."""
    return [heads[i : i + size] for i in range(0, len(heads), size)]


def _shape(tokens: Tokens, plan: HeadPlan) -> Hashable:
    """Make a key that is equal for heads that can be trained together."""
    # On a GPU one augmentation that cannot be recorded would keep all heads of its chunk from being recorded.
    recordable = plan.augment is None or plan.augment.recordable or tokens.device.type == "cpu"
    grid = None if plan.grid is None else tuple(plan.grid)
    shapes = plan.n_batch, plan.n_classes, plan.model.shape(tokens.shape[2]), plan.n_prefix, grid
    padding = None
    if isinstance(tokens, PaddedTokens):
        padding = tokens.shape_of(plan.all_views(plan.train, len(tokens)).rows)
    return *shapes, plan.validation is None, recordable, padding


def _image(tokens: Tokens) -> Tensor:
    """An image; of images of different sizes, one like the largest, without values."""
    return torch.empty(tokens.shape[1:], device="meta") if isinstance(tokens, PaddedTokens) else tokens[0]
