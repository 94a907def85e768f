"""The outputs that are asked for: what auto takes of timm's families, and of the shared backbones."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frofa import FrozenFeatureExtractor, check_extractor
from frofa.backbones.loading import load_backbone
from frofa.backbones.navit.backbone import native_backbone
from frofa.backbones.wanted import automatic_outputs, listed, requests_of

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


def tagged(model: str, tag: str) -> str:
    """Give a saved model the tag of a checkpoint of timm's."""
    file = Path(model.removeprefix("local-dir:")) / "config.json"
    config = json.loads(file.read_text())
    config["pretrained_cfg"]["tag"] = tag
    file.write_text(json.dumps(config))
    return model


@pytest.mark.parametrize(
    ("architecture", "tag", "arguments", "outputs", "reason"),
    [
        (
            "vit_base_patch16_siglip_224",
            "v2_webli",
            VIT,
            ("pooled", "mean"),
            "pooled was trained by the image-text loss of SigLIP",
        ),
        ("vit_base_patch16_siglip_gap_224", "webli", VIT, ("mean",), "and there is no class token"),
        ("vit_base_patch16_224", "augreg_in21k", VIT, ("pooled", "mean"), "classification .*, and is the class token"),
        ("vit_small_patch16_224", "dino", VIT, ("cls", "mean"), "cls was trained by the DINO loss"),
        ("vit_small_patch14_dinov2", "lvd142m", VIT, ("cls", "mean"), "cls was trained by the DINO loss"),
        ("vit_small_patch16_dinov3", "lvd1689m", VIT, ("cls", "mean"), "cls was trained by the DINO loss"),
        ("vit_base_patch16_clip_224", "openai", VIT, ("cls", "mean"), "cls was trained by the image-text loss of CLIP"),
        ("vit_base_patch16_224", "mae", VIT, ("cls", "mean"), "no vector has the .*single patches"),
        ("beit_base_patch16_224", "in22k_ft_in22k", VIT, ("pooled",), "average of the patch tokens, normalised"),
        (
            "vit_tiny_patch16_224",
            "in1k",
            {**VIT, "global_pool": "avg"},
            ("pooled",),
            "average of the patch tokens, norm",
        ),
        ("vit_tiny_patch16_224", "of_somebody", {**VIT, "global_pool": "avg"}, ("pooled",), "is not known"),
        ("vit_tiny_patch16_224", "of_somebody", VIT, ("pooled", "mean"), "is not known; .* is the class token"),
        ("deit_tiny_distilled_patch16_224", "fb_in1k", VIT, ("pooled", "mean"), "class and distillation tokens"),
        ("resnet10t", "in1k", {"stem_width": 8}, ("pooled",), "the average of the patch tokens$"),
        ("convnext_atto", "in1k", {"dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1)}, ("pooled",), "tokens, normalised$"),
        ("mobilenetv3_small_050", "in1k", {}, ("pooled", "mean"), "made by the model's own head"),
        ("crossvit_tiny_240", "in1k", {"img_size": 240}, ("pooled",), "no tokens"),
    ],
)
def test_auto_of_timms_families(
    architecture: str, tag: str, arguments: Any, outputs: Any, reason: str, save_backbone: Callable[..., str]
) -> None:
    model = tagged(save_backbone(architecture, **arguments), tag)
    backbone = load_backbone(model, None, "cpu")
    automatic = automatic_outputs(backbone)
    assert automatic.outputs == outputs
    assert re.search(reason, automatic.reason)
    assert tuple(requests_of(backbone, "auto", None, True)) == outputs


def test_auto_takes_one_block_where_pooled_is_the_mean(
    save_backbone: Callable[..., str], image_paths: list[str]
) -> None:
    """What auto leaves out is the pooled vector itself, of a model without a norm behind its pool."""
    model = tagged(save_backbone("resnet10t", stem_width=8), "in1k")
    blocks = FrozenFeatureExtractor(model, output="auto", device="cpu").transform(image_paths)
    both = FrozenFeatureExtractor(model, output=["pooled", "mean"], device="cpu").transform(image_paths)
    assert blocks.names == ("pooled",)
    np.testing.assert_allclose(both.block("mean"), both.block("pooled"), atol=1e-5)
    np.testing.assert_array_equal(blocks.block("pooled"), both.block("pooled"))


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("naflexvit_tiny_patch8.sup_tin202", ("pooled",)),
        ("tf_efficientnet_lite0.in1k", ("pooled",)),
        ("vit_tiny_patch8_64.siglip_tin202", ("pooled", "mean")),
        ("vit_tiny_patch8_64.sup_tin200", ("pooled", "mean")),
    ],
)
def test_auto_of_shared_backbones(name: str, outputs: Any, shared_backbones: Path, image_paths: list[str]) -> None:
    model = f"local-dir:{shared_backbones / name}"
    extractor = FrozenFeatureExtractor(model, output="auto", n_views=2, device="cpu")
    blocks = extractor.transform(image_paths[:2])
    assert (blocks.names, blocks.n_views) == (outputs, 2)
    for output in outputs:
        plain, mirrored = blocks.views(output)
        alone = FrozenFeatureExtractor(model, output=output, device="cpu")
        np.testing.assert_allclose(plain, alone.transform(image_paths[:2]), atol=1e-4)
        turned = [
            Image.open(path).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT) for path in image_paths[:2]
        ]
        # Nearly the same as of a mirrored image: pixels of the resized one may lie half a pixel beside.
        assert np.corrcoef(mirrored.ravel(), alone.transform(turned).ravel())[0, 1] > 0.98


def test_auto_at_native_resolution_is_that_of_the_model(save_backbone: Callable[..., str]) -> None:
    model = tagged(save_backbone("vit_base_patch16_siglip_224", **VIT), "webli")
    backbone = native_backbone(load_backbone(model, None, "cpu"), 16)
    assert automatic_outputs(backbone).outputs == ("pooled", "mean")


def test_the_doctor_says_what_auto_takes(small_vit: str) -> None:
    findings = check_extractor(FrozenFeatureExtractor(small_vit, output="auto", n_views=2, device="cpu"))
    [message] = [finding.message for finding in findings if finding.check == "automatic output"]
    assert message.startswith("output='auto' takes pooled and mean: how it was trained is not known; ")


def test_layers_are_named_by_what_they_resolve_to(small_vit: str) -> None:
    backbone = load_backbone(small_vit, None, "cpu")
    wanted: Any = ["cls", ("cls", -2), ("mean", np.int64(0))]
    requests = requests_of(backbone, wanted, None, True)
    assert {name: request.layer for name, request in requests.items()} == {"cls": 1, "cls@0": 0, "mean@0": 0}
    assert list(requests_of(backbone, "mean", -2, False)) == ["mean"]
    assert [tuple(entry) for entry in listed(["mean", ["cls", -1]])] == [("mean", None), ("cls", -1)]  # type: ignore[list-item]
