"""Checks of a custom encoder, which sees to preprocessing, device and precision by itself."""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from frofa.doctor.checks.cost import SECONDS, SIZES, images_per_second
from frofa.doctor.checks.sensitivity import MOST_BATCH
from frofa.doctor.finding import Outcome, failed, ok, skipped
from frofa.doctor.subject import Subject, relative_difference
from frofa.encoders.backbone import CustomBackbone
from frofa.encoders.samples import as_samples

Check: TypeAlias = Callable[[Subject], Outcome]


def check_digest(subject: Subject) -> Outcome:
    """Name the spec, which stands for the weights."""
    return ok(f"{subject.backbone.weights_digest} (of the spec {subject.backbone.data_config['encoder']!r})")


def of_module(check: Check) -> Check:
    """The check of a PyTorch module, where the encoder is or has one."""

    def checked(subject: Subject) -> Outcome:
        if isinstance(subject.backbone.module, nn.Identity):
            return skipped("the encoder shows no PyTorch module")
        return check(subject)

    return checked


def leave_out(subject: Subject) -> Outcome:
    """What is the encoder's own."""
    del subject
    return skipped("a custom encoder sees to it by itself")


def check_features(subject: Subject) -> Outcome:
    """Features are finite, the same twice, and of different items others; the encoder leaves its batch as it was."""
    backbone = cast(CustomBackbone, subject.backbone)
    [sample] = as_samples(list(subject.items[:1]), getattr(backbone.encoder, "load", None))
    batch = backbone.preprocessing.whole(cast(Any, sample))[None]
    before = batch.clone()
    backbone.extract(batch.to(backbone.device), [], "auto")
    if not torch.equal(batch.nan_to_num(), before.nan_to_num()):
        return failed("the encoder changes the batch that it is given")
    first, second = _features(subject), _features(subject)
    if not bool(first.isfinite().all()):
        return failed(
            f"{int((~first.isfinite()).flatten(1).any(1).sum())} of {len(first)} items have infinite features"
        )
    if not torch.equal(first, second):
        return failed(f"two passes over the same items differ by {relative_difference(first, second):.1e}")
    if len(first) > 1 and bool((first == first[0]).all()):
        return failed(f"{len(first)} items all have the same features")
    return ok(f"finite, the same in two passes; shape {tuple(first.shape)}")


def check_batch(subject: Subject) -> Outcome:
    """An item has the same features alone and among others."""
    if len(subject.items) < 2:
        return skipped("takes two items at least")
    difference = relative_difference(_features(subject, 1), _features(subject))
    message = f"max relative difference {difference:.1e} between batches of 1 and of {len(subject.items)}"
    return ok(message) if difference <= MOST_BATCH else failed(f"{message}: features depend on the batch")


def check_throughput(subject: Subject) -> Outcome:
    """How many items a second are prepared and encoded."""
    rate = images_per_second(lambda: _features(subject), len(subject.items), subject.backbone.device, SECONDS)
    return ok(f"{rate:.4g} items/s on {subject.backbone.device.type}, with their preprocessing")


def check_store(subject: Subject) -> Outcome:
    """How much disk the features of a million items take."""
    n_values = _features(subject)[0].numel()
    sizes = ", ".join(f"{name} {n_values * size / 1e3:.4g} GB" for name, size in SIZES.items())
    return ok(f"a million items take: {sizes}")


def _features(subject: Subject, batch_size: int | None = None) -> Tensor:
    """As an extraction gives them."""
    extractor = clone(subject.extractor).set_params(on_error="raise", dtype="float32", verbose=False)
    if batch_size is not None:
        extractor.set_params(batch_size=batch_size)
    return torch.from_numpy(np.array(extractor.extract(subject.items).features))
