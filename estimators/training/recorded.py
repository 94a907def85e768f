"""A training step on a GPU that is recorded once as a CUDA graph, and replayed from then on."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Generator, Tensor

from frofa.augmentations import TokenBatch
from frofa.compute.cuda_graphs import CAPTURES, Pool, Recording, side_stream
from frofa.estimators.training.schedule import Rule

TENSORS = ("patches", "grid", "mask", "targets", "prefix")
"""Parts of a batch that may be tensors."""


class Recorded:
    """A training step that runs a few times as it is, is then recorded as a CUDA graph, and replayed from then on.

    A step of a light head is hundreds of small kernels, and launching them takes the host several times as long as they
    run. A replay reads from fixed places, to which each batch is copied. A step that cannot be recorded goes on as it
    is.

    The step takes a batch and a rule, of which only the learning rates change from step to step; it must neither wait
    for the device nor draw numbers on the host, and draws from the generators only.
    """

    WARM_UP = 3  # PyTorch's advice: libraries allocate their workspaces in the first calls

    def __init__(self, step: Callable[[TokenBatch, Rule], None], generators: Sequence[Generator]):
        self.step, self.generators = step, generators
        self.calls = 0
        self.recording: Recording | None = None
        self.last: TokenBatch | None = None

    def __call__(self, batch: TokenBatch, rule: Rule) -> None:
        """Take a step, recorded or not."""
        self.calls += 1
        if self.calls == self.WARM_UP + 1:
            self._record(batch, rule)
        if self.recording is None:
            with side_stream(batch.patches.device):
                self.step(batch, rule)
            return
        if batch is not self.last:  # the same one, where every step sees all samples
            self.last = batch
            for name in TENSORS:
                if isinstance(target := getattr(self.batch, name), Tensor):
                    target.copy_(getattr(batch, name))
        self.rule.lr.copy_(rule.lr)
        self.recording.replay()

    def _record(self, batch: TokenBatch, rule: Rule) -> None:
        self.batch, self.rule = _copy(batch), rule._replace(lr=rule.lr.clone())
        CAPTURES.empty_cache()  # what the first steps took: a recording has memory of its own
        work = partial(self.step, self.batch, self.rule)
        self.recording = CAPTURES.record(work, batch.patches.device, Pool(), self.generators)


def _copy(batch: TokenBatch) -> TokenBatch:
    parts = {name: getattr(batch, name) for name in TENSORS}
    return batch.replace(**{name: part.clone() if isinstance(part, Tensor) else part for name, part in parts.items()})
