"""Checks of a custom encoder, which sees to preprocessing, device and precision by itself."""

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from frofa.doctor.checks.cost import MEASURED_SECONDS, images_per_second, sizes_of_a_million
from frofa.doctor.checks.outputs import compare_passes
from frofa.doctor.checks.sensitivity import MOST_BATCH
from frofa.doctor.finding import Outcome, failed, ok, ok_up_to, skipped
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
    """Skip what a custom encoder does by itself."""
    del subject
    return skipped("a custom encoder sees to it by itself")


def check_features(subject: Subject) -> Outcome:
    """Features are finite, the same twice, and of different items others; the encoder leaves its batch as it was."""
    # A copy of a batch of one tells whether the encoder works in place.
    backbone = cast(CustomBackbone, subject.backbone)
    [sample] = as_samples(list(subject.items[:1]), getattr(backbone.encoder, "load", None))
    batch = backbone.preprocessing.whole(cast(Any, sample))[None]
    before = batch.clone()
    backbone.extract(batch.to(backbone.device), [], "auto")
    if not torch.equal(batch.nan_to_num(), before.nan_to_num()):
        return failed("the encoder changes the batch that it is given")
    return compare_passes(_features(subject), _features(subject), "items", "infinite")


def check_batch(subject: Subject) -> Outcome:
    """An item has the same features alone and among others."""
    if len(subject.items) < 2:
        return skipped("takes two items at least")
    difference = relative_difference(_features(subject, 1), _features(subject))
    message = f"max relative difference {difference:.1e} between batches of 1 and of {len(subject.items)}"
    return ok_up_to(MOST_BATCH, difference, message, "features depend on the batch")


def check_throughput(subject: Subject) -> Outcome:
    """Measure how many items a second are prepared and encoded."""
    rate = images_per_second(lambda: _features(subject), len(subject.items), subject.backbone.device, MEASURED_SECONDS)
    return ok(f"{rate:.4g} items/s on {subject.backbone.device.type}, with their preprocessing")


def check_store(subject: Subject) -> Outcome:
    """Say how much disk the features of a million items take."""
    return ok(f"a million items take: {sizes_of_a_million(_features(subject)[0].numel())}")


def _features(subject: Subject, batch_size: int | None = None) -> Tensor:
    """Extract as a user would, in float32."""
    extractor = clone(subject.extractor).set_params(on_error="raise", dtype="float32", verbose=False)
    if batch_size is not None:
        extractor.set_params(batch_size=batch_size)
    return torch.from_numpy(np.array(extractor.extract(subject.items).features))
