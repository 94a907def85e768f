"""Checks of a backbone over images at their own aspect ratio, several in one sequence."""

from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from sklearn.base import clone
from torch import Tensor

from frofa.backbones.navit.backbone import NativeBackbone
from frofa.backbones.navit.positions import is_naflex
from frofa.backbones.outputs import Output
from frofa.decoding.patches import NativeGeometry, grids_of
from frofa.doctor.checks.sensitivity import MOST_BATCH
from frofa.doctor.finding import Outcome, failed, ok, ok_up_to, skipped
from frofa.doctor.subject import BOTH, FLOAT32_TOLERANCE, Subject, features_of, relative_difference
from frofa.images.reading import content, decode


def check_golden(subject: Subject) -> Outcome:
    """Golden vectors are for images at the model's own size, and say nothing here."""
    del subject
    return skipped("they are of images at the model's own size: run the checks without max_tokens, too")


def check_tokens(subject: Subject) -> Outcome:
    """Each image has a token for each patch of its grid, and no more than the budget."""
    backbone = cast(NativeBackbone, subject.backbone)
    # Tokens of all images are one array (sum of N, C): only their sum can be compared with the grids.
    grids, tokens = grids_of(subject.pixels.numpy()), subject.features("tokens")
    sizes = grids.prod(1)
    if sizes.max() > backbone.max_tokens:
        return failed(f"an image has {sizes.max()} patches, more than max_tokens={backbone.max_tokens}")
    if len(tokens) != sizes.sum():
        return failed(f"{len(tokens)} tokens do not fill grids of {sizes.sum()} patches")
    shapes = ", ".join(dict.fromkeys(f"{height} x {width}" for height, width in grids.tolist()))
    return ok(f"grids {shapes} of at most {backbone.max_tokens} patches, tokens of {tokens.shape[1]}")


def check_pooling(subject: Subject) -> Outcome:
    """Packed images have the tokens and pooled features that the model's own passes give each image alone."""
    own = _of_naflex if is_naflex(subject.backbone.module) else _of_plain
    found, expected, whose = own(subject)
    for output, values in expected.items():
        if not (difference := relative_difference(found[output], values)) <= FLOAT32_TOLERANCE:
            return failed(f"{output} of packed images differ from {whose} by {difference:.1e}")
    return ok(f"{' and '.join(expected)} of packed images are {whose}")


def check_batch(subject: Subject) -> Outcome:
    """An image has the same features alone, among others, and in another order."""
    rows = subject.pixels
    if len(rows) < 2:
        return skipped("takes two images at least")
    sizes = grids_of(rows.numpy()).prod(1).tolist()
    together = subject.features("tokens")
    alone = torch.cat([subject.features("tokens", pixels=row[None]) for row in rows])
    backwards = subject.features("tokens", pixels=rows.flip(0)).split(sizes[::-1])
    # All are (sum of N, C): one image after another, in the order of the images.
    alone_by, order_by = (relative_difference(one, together) for one in (alone, torch.cat(backwards[::-1])))
    message = f"max relative difference {alone_by:.1e} to each image alone, {order_by:.1e} in another order, float32"
    return ok_up_to(MOST_BATCH, max(alone_by, order_by), message, "features depend on the batch")


Found = tuple[dict[Output, Tensor], dict[Output, Tensor], str]
"""Features of packed images by output, those that they should be, and a phrase for the latter."""


def _of_naflex(subject: Subject) -> Found:
    """Compare with each image by itself through timm's NaFlexViT."""
    backbone: Any = subject.backbone
    tokens, pooled = [], []
    for row, (height, width) in zip(subject.pixels, grids_of(subject.pixels.numpy()).tolist(), strict=True):
        # Patches (1, N, P), their row and column (1, N, 2), and a mask (1, N) of which all are valid.
        patches = backbone.normalise(row[1 : 1 + height * width].to(backbone.device))[None]
        places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).view(1, -1, 2)
        valid = torch.ones(patches.shape[:2], dtype=torch.bool)
        with torch.inference_mode():
            sequence = backbone.module.forward_features(
                patches, *(part.to(backbone.device) for part in (places, valid))
            )
            pooled.append(backbone.module.forward_head(**sequence, pre_logits=True).float().cpu())
        tokens.append(sequence["patches"][0, -height * width :].float().cpu())
    found = {output: subject.features(output) for output in BOTH}
    return found, {"tokens": torch.cat(tokens), "pooled": torch.cat(pooled)}, "those of each alone through timm's model"


def _of_plain(subject: Subject) -> Found:
    """Compare with a pass without packing, over the images resized to the model's own size."""
    dense = clone(subject.extractor).set_params(max_tokens=None)._backbone()
    height, width = dense.data_config["input_size"][-2:]
    # The budget of a packed image is the dense grid, so that both passes see the same patches.
    images = [decode(content(item)[0]).resize((width, height), Image.Resampling.BICUBIC) for item in subject.items]
    patch = cast(NativeGeometry, subject.backbone.preprocessing.geometry).patch_size
    enlarge = cast(NativeBackbone, subject.backbone).enlarge
    packed = NativeBackbone(subject.backbone, (height // patch[0]) * (width // patch[1]), enlarge)
    rows = torch.stack([torch.from_numpy(np.array(packed.preprocessing.geometry(image))) for image in images])  # type: ignore[misc]
    # The dense pass takes (n, 3, H, W), the packed one a row of patches for each image.
    whole = [torch.from_numpy(np.array(image.convert("RGB")))[None] for image in images]
    pixels = torch.stack([dense.preprocessing.normalise(each)[0] for each in whole])
    found = {output: features_of(packed, rows, output) for output in BOTH}
    expected = {output: features_of(dense, pixels, output) for output in BOTH}
    expected["tokens"] = expected["tokens"].flatten(0, 1)
    return found, expected, f"those of the model's own pass over {height} x {width} pixels"
