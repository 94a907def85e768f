"""Many MAP heads at once: the same support samples, one head for each of them and each setting."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from frofa.augmentations import Augmentation, TokenBatch
from frofa.estimators._map_head import default_num_heads, init_map_head, map_logits
from frofa.estimators._training import Params, Schedule, Step, as_step, batches, train

HEADS_PER_PASS = 2**28  # elements of the largest tensor of a prediction


@dataclass(frozen=True)
class Trial:
    """A setting of the MAP head: augmentation, learning rate, weight decay."""

    augment: Augmentation | None
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Samples:
    """Support samples of equal size on one device.

    Attributes
    ----------
    tokens : Tensor of shape (n_samples, n, P + N, C)
    targets : Tensor of shape (n_samples, n, n_classes)
        One-hot labels.
    seeds : sequence of int
        One a sample, for initial weights and batches.
    n_prefix : int
    grid : (int, int) or None
    """

    tokens: Tensor
    targets: Tensor
    seeds: Sequence[int]
    n_prefix: int = 0
    grid: tuple[int, int] | None = None


def fit_heads(
    samples: Samples, trials: Sequence[Trial], schedule: Schedule, *, on_step: Callable[[], object] = lambda: None
) -> Params:
    """Train one head for each trial and sample, all at once.

    Heads of the same sample start from the same weights and see the same batches, so that trials differ in nothing
    else; a trial's result does not depend on the others that are trained with it.

    Returns
    -------
    dict of str to Tensor
        Parameters with a leading dimension of n_trials * n_samples, trial by trial.
    """
    device, n_samples = samples.tokens.device, len(samples.seeds)
    channels, n_classes = samples.tokens.shape[3], samples.targets.shape[2]
    initial = [init_map_head(channels, n_classes, 4.0, Generator().manual_seed(seed)) for seed in samples.seeds]
    params = {
        name: torch.stack([one[name] for one in initial]).to(device).repeat(len(trials), *(1,) * initial[0][name].ndim)
        for name in initial[0]
    }

    def per_head(values: list[float]) -> Tensor:
        return torch.tensor(values, device=device).repeat_interleave(n_samples)

    plan = Schedule(
        **{
            **vars(schedule),
            "lr": per_head([trial.lr for trial in trials]),
            "weight_decay": per_head([trial.weight_decay for trial in trials]),
        }
    )
    generators = [Generator(device).manual_seed(samples.seeds[0]) for _ in trials]

    def expand(batch: TokenBatch) -> Step:
        parts = [
            _augment(batch, trial.augment, generator, n_samples)
            for trial, generator in zip(trials, generators, strict=True)
        ]
        return as_step(TokenBatch.join(parts), len(trials) * n_samples)

    recordable = all(trial.augment is None or trial.augment.recordable for trial in trials)
    trained, _ = train(
        params,
        partial(map_logits, num_heads=default_num_heads(channels)),
        shared_batches(samples, schedule.batch_size),
        plan,
        expand=expand,
        capture=generators if recordable else None,
        on_step=on_step,
    )
    return trained


def shared_batches(samples: Samples, batch_size: int) -> Iterator[TokenBatch]:
    """Batches of all samples, one after another, gathered once a step for all trials."""
    device, n = samples.tokens.device, samples.tokens.shape[1]
    rows = [batches(n, batch_size, Generator(device).manual_seed(seed)) for seed in samples.seeds]
    for chosen in zip(*rows, strict=True):
        tokens = torch.cat([samples.tokens[i, which] for i, which in enumerate(chosen)])
        targets = torch.cat([samples.targets[i, which] for i, which in enumerate(chosen)])
        yield TokenBatch.from_tokens(tokens, n_prefix=samples.n_prefix, grid=samples.grid, targets=targets)


def _augment(batch: TokenBatch, augment: Augmentation | None, generator: Generator, n_samples: int) -> TokenBatch:
    """Augment the batches of all samples; where labels are mixed, each sample's on its own."""
    if augment is None:
        return batch
    if not augment.mixes_labels:
        return augment.apply(batch, generator)
    size = len(batch.patches) // n_samples
    parts = [augment.apply(batch.select(slice(i * size, (i + 1) * size)), generator) for i in range(n_samples)]
    return TokenBatch.join(parts)


@torch.inference_mode()
def predict_heads(params: Params, tokens: Tensor) -> Tensor:
    """Predicted class (n_heads, n) of tokens (n, N, C) on the device of the parameters, by every head."""
    n_heads, channels = len(params["latent"]), tokens.shape[2]
    num_heads = default_num_heads(channels)
    size = max(1, HEADS_PER_PASS // (n_heads * max(num_heads * max(channels, tokens.shape[1]), 4 * channels)))
    return torch.cat([map_logits(params, part, num_heads=num_heads).argmax(2) for part in tokens.split(size)], 1)


def head_bytes(samples: Samples, batch_size: int) -> int:
    """Memory that training one head takes, roughly, in bytes."""
    _, n, n_tokens, channels = samples.tokens.shape
    batch = min(n, batch_size)
    parameters = 13 * channels**2 + 20 * channels
    return 4 * (5 * parameters + batch * (3 * n_tokens * channels + 24 * channels))
