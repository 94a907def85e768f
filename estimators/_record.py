"""Recording of a training step on a GPU."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from frofa.augmentations import TokenBatch
from frofa.estimators._schedule import Rule

TENSORS = ("patches", "grid", "mask", "targets", "prefix")


class Recorded:
    """A training step that runs a few times as it is, is then recorded as a CUDA graph, and replayed from then on.

    A step of a light head is hundreds of small kernels, and launching them takes the host several times as long as they
    run. A replay reads from fixed places, to which each batch is copied.

    Parameters
    ----------
    step : callable
        Takes a batch and a rule, of which only the learning rates change from step to step; it must neither wait for
        the device nor draw numbers on the host.
    generators : sequence of Generator
        All that it draws from.
    """

    WARM_UP = 3  # PyTorch's advice: libraries allocate their workspaces in the first calls

    def __init__(self, step: Callable[[TokenBatch, Rule], None], generators: Sequence[Generator]):
        self.step, self.generators = step, generators
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.last: TokenBatch | None = None

    def __call__(self, batch: TokenBatch, rule: Rule) -> None:
        """Take a step."""
        device = batch.patches.device
        self.calls += 1
        if self.calls <= self.WARM_UP:
            with _side_stream(device):
                self.step(batch, rule)
            return
        if self.graph is None:
            self.batch, self.rule = _copy(batch), rule._replace(lr=rule.lr.clone())
            torch.cuda.empty_cache()  # what the first steps took: a recording has memory of its own
            self.graph = torch.cuda.CUDAGraph()
            for generator in self.generators:
                self.graph.register_generator_state(generator)
            with torch.cuda.device(device), torch.cuda.graph(self.graph):
                self.step(self.batch, self.rule)
        if batch is not self.last:  # the same one, where every step sees all samples
            self.last = batch
            for name in TENSORS:
                if isinstance(target := getattr(self.batch, name), Tensor):
                    target.copy_(getattr(batch, name))
        self.rule.lr.copy_(rule.lr)
        self.graph.replay()


class Replay:
    """Work on tensors that stay where they are: done as it is at first, then recorded as a CUDA graph, and replayed.

    Parameters
    ----------
    work : callable
        Must not wait for the device.
    device : torch.device
        On a CPU, work is always done as it is.
    pool : optional
        Of memory, which several recordings may share that leave nothing in it.
    """

    def __init__(self, work: Callable[[], object], device: torch.device, pool: Any = None):
        self.work, self.device, self.pool = work, device, pool
        self.called = False
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Do it."""
        if not self.called or self.device.type != "cuda":
            self.called = True
            self.work()
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.device(self.device), _side_stream(self.device):
                self.graph.capture_begin(self.pool)  # `torch.cuda.graph` would also empty the cache of memory
                try:
                    self.work()
                finally:
                    self.graph.capture_end()
        self.graph.replay()


def replays(works: Sequence[Callable[[], object]], device: torch.device) -> list[Replay]:
    """Replays of works one of which is done at a time."""
    pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
    return [Replay(work, device, pool) for work in works]


class _side_stream:  # noqa: N801 (used as a function)
    """Run on another stream than the current one, in order with it."""

    def __init__(self, device: torch.device):
        self.main, self.side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        self.context = torch.cuda.stream(self.side)

    def __enter__(self) -> None:
        self.side.wait_stream(self.main)
        self.context.__enter__()

    def __exit__(self, *error: object) -> None:
        self.context.__exit__(*error)
        self.main.wait_stream(self.side)


def _copy(batch: TokenBatch) -> TokenBatch:
    parts = {name: getattr(batch, name) for name in TENSORS}
    return batch.replace(**{name: part.clone() if isinstance(part, Tensor) else part for name, part in parts.items()})
