"""Checks of how much features depend on what should not matter: the batch, and the precision."""

from frofa.doctor.finding import Outcome, failed, ok, ok_up_to, skipped
from frofa.doctor.subject import Subject, relative_difference

MOST_BATCH = 1e-3
"""Relative difference in float32: other kernels for another batch size are within 1e-4; another image is not."""
MOST_PRECISION = 0.25
"""Relative difference in bfloat16, above which features are of little use in it."""


def check_batch(subject: Subject) -> Outcome:
    """An image has the same features alone and among others."""
    if len(subject.items) < 2:
        return skipped("takes two images at least")
    # Tokens where the model has any, as an average of them may hide a difference.
    output = subject.outputs[0]
    together = subject.features(output)
    alone = [subject.features(output, pixels=pixels[None])[0] for pixels in subject.pixels[:4]]
    difference = max(relative_difference(one[None], all_[None]) for one, all_ in zip(alone, together, strict=False))
    message = f"max relative difference {difference:.1e} between batches of 1 and of {len(together)}, float32"
    return ok_up_to(MOST_BATCH, difference, message, "features depend on the batch")


def check_precision(subject: Subject) -> Outcome:
    """Features in bfloat16 and in the extractor's own precision are close to those in float32."""
    backbone = subject.backbone
    own = backbone.resolve_precision(subject.extractor.precision)
    expected, found = subject.features(), {}
    for precision in dict.fromkeys(["bfloat16", own]):
        if precision != "float32":
            found[precision] = relative_difference(subject.features(precision=precision), expected)
    message = "max relative difference to float32: " + ", ".join(f"{name} {value:.1e}" for name, value in found.items())
    if own == "int8":
        message += f" (the other layers in {backbone.resolve_precision('auto')})"
    # Written so that NaN, which is not below anything, is too much.
    too_much = [name for name, value in found.items() if not value <= MOST_PRECISION]
    return failed(f"{message}: too much in {', '.join(too_much)}") if too_much else ok(message)
