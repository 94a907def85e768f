"""Checks of what comes out of the model."""

from typing import Any

import torch
from torch import Tensor

from frofa.doctor.finding import Outcome, failed, note, ok
from frofa.doctor.subject import FLOAT32_TOLERANCE, Subject, relative_difference


def check_features(subject: Subject) -> Outcome:
    """Features are finite, the same twice, and those of different images differ."""
    first, second = subject.features(), subject.features()
    return compare_passes(first, second, "images", "NaN or infinite", ": dropout, or another random part?")


def compare_passes(first: Tensor, second: Tensor, items: str, infinite: str, reason: str = "") -> Outcome:
    """Judge the features (n, ...) of two passes over the same items, which the message calls so."""
    if n_infinite := int((~first.isfinite()).flatten(1).any(1).sum()):
        return failed(f"{n_infinite} of {len(first)} {items} have {infinite} features")
    if not torch.equal(first, second):
        difference = relative_difference(first, second)
        return failed(f"two passes over the same {items} differ by {difference:.1e}{reason}")
    if len(first) > 1 and bool((first == first[0]).all()):
        return failed(f"{len(first)} {items} all have the same features")
    return ok(f"finite, the same in two passes; shape {tuple(first.shape)}")


def check_tokens(subject: Subject) -> Outcome:
    """The model's sequence is its prefix tokens and the patch tokens, which fill a grid."""
    layout, sequence = subject.backbone.layout, subject.raw()
    if layout.grid is None:
        return note(f"none: {layout.lacking['tokens']}")
    # A sequence is (n, prefix + N, C); the maps of convolutional models are (n, H, W, C) or (n, C, H, W).
    tokens, (height, width) = subject.features("tokens"), layout.grid
    expected = (layout.n_prefix + height * width,) if sequence.ndim == 3 else layout.grid
    found = sequence.shape[1:-1] if sequence.ndim == 3 or layout.channels_last else sequence.shape[2:]
    if tuple(found) != tuple(expected):
        return failed(f"tokens {tuple(found)} are not {layout.n_prefix} prefix tokens and a grid of {height} x {width}")
    if height * width != tokens.shape[1]:
        return failed(f"{tokens.shape[1]} patch tokens do not fill a grid of {height} x {width}")
    return ok(
        f"{layout.n_prefix} prefix tokens ({_prefix(subject)}), {height} x {width} patch tokens of {tokens.shape[2]}"
    )


def check_pooling(subject: Subject) -> Outcome:
    """Pooled features are those of the model's own head; the mean is that of the tokens; cls is the first token."""
    module: Any = subject.backbone.module
    with torch.inference_mode():
        sequence = subject.raw()
        head = module.forward_head(sequence, pre_logits=True).float().cpu()
    # Each output (n, C) with what it should be, which is computed without frofa's pooling.
    pairs = {"pooled": (head, "the model's forward_head")}
    if "tokens" in subject.outputs:
        pairs["mean"] = subject.features("tokens").mean(1), "the mean of the tokens"
    if subject.backbone.has_cls_token and isinstance(sequence, Tensor) and sequence.ndim == 3:
        pairs["cls"] = sequence[:, 0].float().cpu(), "the first token"
    for output, (expected, what) in pairs.items():
        found = subject.features(output)  # type: ignore[arg-type]
        if found.shape != expected.shape:
            return failed(f"{output} has shape {tuple(found.shape)}, and {what} {tuple(expected.shape)}")
        if not (difference := relative_difference(found, expected)) <= FLOAT32_TOLERANCE:
            return failed(f"{output} differs from {what} by {difference:.1e}")
    pool = getattr(module, "global_pool", None)
    how = f" ({pool})" if isinstance(pool, str) and pool else ""
    return ok("; ".join(f"{output} is {what}{how * (output == 'pooled')}" for output, (_, what) in pairs.items()))


def _prefix(subject: Subject) -> str:
    n_registers = int(getattr(subject.backbone.module, "num_reg_tokens", 0) or 0)
    names = ["class token"] * subject.backbone.has_cls_token + [f"{n_registers} registers"] * (n_registers > 0)
    return ", ".join(names) or "none"
