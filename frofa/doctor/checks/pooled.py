"""Checks of what the pooled vector is, whether the pre-training loss was applied to it, and what to take instead."""

from frofa.backbones.pooling import CLASS_TOKEN, MEAN
from frofa.backbones.pretraining import pretraining
from frofa.backbones.wanted import automatic_outputs
from frofa.doctor.finding import Outcome, note, ok
from frofa.doctor.subject import Subject

_OUTPUTS = {CLASS_TOKEN: "cls", MEAN: "mean"}
"""The output that is the same vector, by the kind of pooled vector."""


def check_pooled(subject: Subject) -> Outcome:
    """Say which vector ``pooled`` is, and whether the pre-training loss was applied to it."""
    pooling, family = subject.backbone.pooling, pretraining(subject.backbone.module)
    is_what = f"pooled is {pooling}"
    if family is None:
        return ok(f"{is_what}; which vector the pre-training loss was applied to is not known")
    if family.vector is None:
        return note(f"{is_what}; the pre-training loss was not applied to it ({family.loss})")
    if family.vector in ("pooled", _OUTPUTS.get(pooling.kind)):
        return ok(f"{is_what}; the pre-training loss was applied to it ({family.loss})")
    return note(
        f"{is_what}; the pre-training loss was applied to output={family.vector!r} instead ({family.loss}): try that"
    )


def check_automatic(subject: Subject) -> Outcome:
    """Say which outputs ``"auto"`` takes, and why."""
    outputs, reason = automatic_outputs(subject.backbone)
    return ok(f"output='auto' takes {' and '.join(outputs)}: {reason}")
