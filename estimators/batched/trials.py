"""MAP heads of a study: one for each support sample and each setting, trained together."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from frofa.augmentations import Augmentation
from frofa.compute.memory import rows_per_chunk
from frofa.estimators.batched.chunks import free_memory
from frofa.estimators.batched.engine import fit_plans
from frofa.estimators.models.map_head import default_num_heads, map_logits
from frofa.estimators.models.map_model import MapModel
from frofa.estimators.training.parameters import Params
from frofa.estimators.training.plan import HeadPlan, LabelledRows
from frofa.estimators.training.schedule import Schedule

PASS_ELEMENTS = 2**28
"""Elements of the largest tensor of a prediction: 1 GiB in float32."""


@dataclass(frozen=True)
class Trial:
    """A setting of the MAP head: augmentation, learning rate, weight decay."""

    augment: Augmentation | None
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Samples:
    """Support samples of equal size on one device: tokens (n_samples, n, P + N, C), targets (n_samples, n, n_classes).

    Targets are one-hot labels. Each sample has a seed of initial weights, batches and augmentation; prefix and grid are
    as in `TokenBatch.from_tokens`.
    """

    tokens: Tensor
    targets: Tensor
    seeds: Sequence[int]
    n_prefix: int = 0
    grid: tuple[int, int] | None = None


def trials_at_once(samples: Samples, batch_size: int) -> int:
    """Tell how many trials, each of a head for every sample, memory holds."""
    n_samples, image = len(samples.tokens), samples.tokens[0, 0]
    # The heads of a trial, one for each sample, count as one: they are trained together.
    head_bytes = MapModel(default_num_heads(image.shape[1])).head_bytes(image, batch_size)
    return rows_per_chunk(free_memory(image.device), n_samples * head_bytes)


def fit_heads(
    samples: Samples,
    trials: Sequence[Trial],
    schedule: Schedule,
    *,
    on_step: Callable[[int], object] = lambda _: None,
) -> Params:
    """Train one head for each trial and sample, all at once; parameters come with n_trials * n_samples heads.

    Heads come trial by trial. Those of the same sample start from the same weights and see the same batches, so that
    trials differ in nothing else; a trial's result does not depend on the others that are trained with it.
    """
    n_samples, n = samples.targets.shape[:2]
    # Samples lie one after another along the first axis of the tokens that are trained on.
    codes = samples.targets.argmax(2).cpu().numpy()
    rows = np.arange(n_samples * n).reshape(n_samples, n)
    weights, model = np.ones(n, np.float32), MapModel(default_num_heads(samples.tokens.shape[3]))
    plans = [
        HeadPlan(
            model,
            LabelledRows(rows[i], codes[i], weights),
            samples.targets.shape[2],
            (seed, seed, seed),
            replace(schedule, lr=trial.lr, weight_decay=trial.weight_decay),
            trial.augment,
            n_prefix=samples.n_prefix,
            grid=samples.grid,
        )
        for trial in trials
        for i, seed in enumerate(samples.seeds)
    ]
    trained = []
    for outcome in fit_plans(samples.tokens.flatten(0, 1), plans, on_step=on_step):
        if isinstance(outcome, Exception):
            raise outcome
        trained.append(outcome.weights)
    device = samples.tokens.device
    return {name: torch.as_tensor(np.stack([one[name] for one in trained]), device=device) for name in trained[0]}


@torch.inference_mode()
def predict_heads(params: Params, tokens: Tensor) -> Tensor:
    """Predicted class (n_heads, n) of tokens (n, N, C) on the device of the parameters, by every head."""
    return torch.cat([logits.argmax(2) for logits in _logits(params, tokens)], 1)


@torch.inference_mode()
def head_logits(params: Params, tokens: Tensor) -> Tensor:
    """Logits (n_heads, n, n_classes) of tokens (n, N, C), in any precision, by every head."""
    return torch.cat(list(_logits(params, tokens)), 1)


def _logits(params: Params, tokens: Tensor) -> Iterator[Tensor]:
    n_heads, channels = len(params["latent"]), tokens.shape[2]
    num_heads = default_num_heads(channels)
    # The largest tensor is that of the attention, of the sums that it weighs, or of the MLP's hidden layer.
    size = rows_per_chunk(PASS_ELEMENTS, n_heads * max(num_heads * max(channels, tokens.shape[1]), 4 * channels))
    for part in tokens.split(size):
        yield map_logits(params, part.float(), num_heads=num_heads)
