"""All checks of an extractor, one after the other."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from sklearn.base import clone

from frofa.backbones.backbone import Backbone
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.doctor.checks import cost, custom, golden, native, outputs, pooled, preprocessing, sensitivity, text, weights
from frofa.doctor.checks.custom import Check
from frofa.doctor.finding import Finding, Outcome
from frofa.doctor.subject import Subject, reference_images, some
from frofa.encoders.backbone import CustomBackbone
from frofa.encoders.protocol import describe
from frofa.encoders.samples import ArraySample, as_samples
from frofa.exceptions import ExtractorCheckError, FrofaError
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.images.image_set import as_image_list
from frofa.images.items import Images
from frofa.utils.files import expand_home

CHECKS: dict[str, Check] = {
    "weights digest": weights.check_digest,
    "eval mode": weights.check_eval_mode,
    "finite weights": weights.check_finite,
    "constant weights": weights.check_constant,
    "loaded weights": weights.check_loaded,
    "checkpoint file": weights.check_file,
    "preprocessing": preprocessing.check_config,
    "pixel values": preprocessing.check_pixels,
    "EXIF orientation": preprocessing.check_exif,
    "golden vectors": golden.check_golden,
    "features": outputs.check_features,
    "tokens and grid": outputs.check_tokens,
    "pooling": outputs.check_pooling,
    "pooled vector": pooled.check_pooled,
    "automatic output": pooled.check_automatic,
    "text tower": text.check_tower,
    "batch size": sensitivity.check_batch,
    "precision": sensitivity.check_precision,
    "throughput": cost.check_throughput,
    "memory": cost.check_memory,
    "store size": cost.check_store,
}
NATIVE_CHECKS: dict[str, Check] = {
    "golden vectors": native.check_golden,
    "tokens and grid": native.check_tokens,
    "pooling": native.check_pooling,
    "batch size": native.check_batch,
}
"""Checks that replace those of the same name where images keep their aspect ratio."""
OWN_CHECKS = ("eval mode", "finite weights", "constant weights", "loaded weights")
"""Checks of a PyTorch module, which a custom encoder may have, too."""
CUSTOM_CHECKS: dict[str, Check] = {
    **dict.fromkeys(CHECKS, custom.leave_out),
    **{name: custom.of_module(CHECKS[name]) for name in OWN_CHECKS},
    "weights digest": custom.check_digest,
    "checkpoint file": CHECKS["checkpoint file"],
    "features": custom.check_features,
    "batch size": custom.check_batch,
    "throughput": custom.check_throughput,
    "memory": CHECKS["memory"],
    "store size": custom.check_store,
}
"""Checks of a custom encoder, by the same names."""


def check_extractor(
    extractor_or_model: FrozenFeatureExtractor | str,
    images: Images = None,
    *,
    golden: str | os.PathLike[str] | None = None,
    on_fail: Literal["raise"] | None = "raise",
) -> list[Finding]:
    """Check that an extractor does what it should, as scikit-learn's `check_estimator` does for estimators.

    Weights (finite, loaded in whole, the file's), eval mode, preprocessing against the checkpoint, EXIF orientation,
    golden vectors where they are known, tokens and their grid, pooling, and how much features depend on batch and
    precision; besides, throughput, memory and the size of a store.

    Parameters
    ----------
    extractor_or_model : FrozenFeatureExtractor or str
        An extractor, or the name of a model as it takes one. It is not changed, and its store is not used.
    images : images, default=None
        As in `FrozenFeatureExtractor.transform`, of which eight are taken; None for four that are shipped, which no
        custom encoder takes.
    golden : path, default=None
        Golden vectors of `frofa.doctor.write_golden`; None takes ``golden.npz`` of the model's folder, or those that
        are shipped for these weights.
    on_fail : {"raise", None}, default="raise"
        What to do where something is off: raise, or return all findings.

    Returns
    -------
    list of Finding
        One a check, with `check`, `status` (``"ok"``, ``"note"``, ``"skipped"`` or ``"failed"``) and `message`.

    Raises
    ------
    ExtractorCheckError
        If a check fails; the message names it, and `findings` has all of them.

    Examples
    --------
    >>> from frofa import check_extractor
    >>> findings = check_extractor("frofa/vit_tiny_tin200")
    >>> {finding.status for finding in findings} <= {"ok", "note", "skipped"}
    True
    """
    if on_fail not in ("raise", None):
        raise ValueError(f"on_fail must be 'raise' or None. Got {on_fail!r}.")
    findings = list(examine(extractor_or_model, images, golden=golden))
    if on_fail == "raise" and any(finding.status == "failed" for finding in findings):
        raise ExtractorCheckError(findings)
    return findings


def examine(
    extractor_or_model: FrozenFeatureExtractor | str,
    images: Images = None,
    *,
    golden: str | os.PathLike[str] | None = None,
) -> Iterator[Finding]:
    """Yield each finding of `check_extractor` as soon as it is known.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of an accepted form.
    """
    # Wrong arguments raise; a model that does not load is a finding, as everything that a check meets is.
    extractor = _as_extractor(extractor_or_model)
    items = _items_of(extractor, images)
    if not items:
        raise ValueError("expected at least one image. Got none.")
    try:
        subject = Subject(
            extractor, extractor._backbone(), items, None if golden is None else Path(expand_home(golden))
        )
    except (FrofaError, ValueError) as error:
        yield Finding("loading", "failed", " ".join(str(error).split()))
        return
    for name, check in checks_of(subject.backbone).items():
        try:
            outcome = check(subject)
        except Exception as error:  # whatever a broken model raises
            outcome = Outcome("failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
        yield Finding(name, outcome.status, outcome.message)


def checks_of(backbone: Backbone) -> dict[str, Check]:
    """The checks of a backbone of this kind, by name."""
    if isinstance(backbone, CustomBackbone):
        return CUSTOM_CHECKS
    return CHECKS | NATIVE_CHECKS if isinstance(backbone, NativeBackbone) else CHECKS


def _items_of(extractor: FrozenFeatureExtractor, images: Any) -> Sequence[Any]:
    encoder = extractor._encoder()
    if encoder is None:
        return some(as_image_list(reference_images() if images is None else images))
    if images is None:
        raise ValueError(
            f"{describe(encoder)} is a custom encoder: expected some of the items that it takes. Got images=None."
        )
    # The extractor takes items as a user gives them: arrays and paths, not the samples that they were checked as.
    samples = some(as_samples(images, getattr(encoder, "load", None)))
    return [sample.array if isinstance(sample, ArraySample) else os.fspath(sample) for sample in samples]


def extractor_for(model: str, **options: Any) -> FrozenFeatureExtractor:
    """An extractor to examine a model by, of its pooled vector, as some models return no tokens.

    It takes the parameters of `FrozenFeatureExtractor`.
    """
    extractor = FrozenFeatureExtractor(model, **options)
    is_special = extractor._encoder() is not None or extractor.max_tokens is not None
    return extractor if is_special else extractor.set_params(output="pooled")


def _as_extractor(extractor_or_model: FrozenFeatureExtractor | str) -> FrozenFeatureExtractor:
    if isinstance(extractor_or_model, str):
        return extractor_for(extractor_or_model)
    if not isinstance(extractor_or_model, FrozenFeatureExtractor):
        raise TypeError(
            f"expected a FrozenFeatureExtractor or the name of a model. Got {type(extractor_or_model).__name__}."
        )
    extractor: FrozenFeatureExtractor = clone(extractor_or_model).set_params(store=None)
    extractor._validate_params()
    return extractor
