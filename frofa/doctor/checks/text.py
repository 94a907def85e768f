"""Check of the text tower that belongs to a backbone."""

import torch
from torch import Tensor

from frofa.backbones.text.finding import find_tower
from frofa.backbones.text.loading import load_text_tower
from frofa.backbones.text.tower import TextTower
from frofa.doctor.finding import Outcome, failed, note, ok, skipped
from frofa.doctor.subject import Subject
from frofa.exceptions import ModelNotFoundError

CAPTIONS = ("a photo of a cat", "an aeroplane above the clouds", "")


def check_tower(subject: Subject) -> Outcome:
    """Say which text tower there is, and that its vectors are comparable with those of images."""
    model, widths = subject.backbone.name, subject.backbone.layout.widths
    try:
        find_tower(model, cached=True)  # nothing is fetched only to look at it
    except ModelNotFoundError as error:
        return skipped(str(error))
    try:
        tower = load_text_tower(model, str(subject.backbone.device))
        embedded = embed(tower, CAPTIONS)
    except ImportError as error:  # of the tokenizer's library
        return skipped(str(error))
    except ModelNotFoundError as error:
        # A folder without a tokenizer is one that was made for images.
        return (note if isinstance(error.__cause__, FileNotFoundError) else failed)(str(error))
    if not bool(embedded.isfinite().all()):
        return failed("embeddings of texts hold NaN or infinite values")
    if bool((embedded[0] == embedded[1]).all()):
        return failed(f"{CAPTIONS[0]!r} and {CAPTIONS[1]!r} have the same embedding")
    if widths.get("projected", tower.width) != tower.width:
        return failed(f"texts have {tower.width} channels, the images' 'projected' vectors {widths['projected']}")
    return ok(describe(tower) + ("" if "projected" in widths else f"; of images, {_missing(subject)}"))


def embed(tower: TextTower, texts: tuple[str, ...]) -> Tensor:
    """Embed texts, float32 (n, D) on the CPU."""
    ids, mask = tower.tokenizer(texts)
    return tower.encode(torch.as_tensor(ids), torch.as_tensor(mask)).cpu()


def describe(tower: TextTower) -> str:
    """Name the tower's sizes, scale, and weights in one line."""
    n = sum(parameter.numel() for parameter in tower.module.parameters())
    templates = "" if tower.templates is None else f", {len(tower.templates)} templates of its own"
    return (
        f"{tower.width} channels, {tower.context} tokens a text, logit scale {tower.logit_scale:.2f}, bias "
        f"{tower.logit_bias:.2f}{templates}; {tower.weights_digest} ({n / 1e6:.1f} M parameters)"
    )


def _missing(subject: Subject) -> str:
    return subject.backbone.layout.lacking.get("projected", "there is no 'projected' vector")
