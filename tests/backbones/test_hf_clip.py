"""hf-dir: CLIP's vision tower and its projection compute what transformers computes with the same weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tower_helpers import SMALL, extract, pixels, randomise, relative_error

from frofa import FrozenFeatureExtractor
from frofa.backbones.checkpoints.convert import convert
from frofa.backbones.loading import load_backbone
from frofa.backbones.wanted import automatic_outputs
from frofa.exceptions import ModelNotFoundError

TOLERANCE = 1e-4


def save_clip(folder: Path, kind: str = "CLIPModel", *, resize: int = 32, **vision: Any) -> str:
    """Write a CLIP of random weights, or its vision part alone."""
    import transformers

    given: dict[str, Any] = {**SMALL, "image_size": 32, "patch_size": 8, "projection_dim": 24, **vision}
    if kind == "CLIPModel":
        text = {**SMALL, "vocab_size": 30, "projection_dim": 24}
        config: Any = transformers.CLIPConfig(text_config=text, vision_config=given, projection_dim=24)
    else:
        config = transformers.CLIPVisionConfig(**given)
    with torch.random.fork_rng(devices=[]):
        randomise(getattr(transformers, kind)(config)).save_pretrained(folder)
    side = given["image_size"]
    transformers.CLIPImageProcessor(
        size={"shortest_edge": resize}, crop_size={"height": side, "width": side}
    ).save_pretrained(folder)
    return f"hf-dir:{folder}"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def folder(small: str, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(small.removeprefix("hf-dir:"), tmp_path / "copy"))


def change(folder: Path, file: str = "config.json", **values: Any) -> str:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **values}))
    return f"hf-dir:{folder}"


@torch.no_grad()
@pytest.mark.parametrize(
    "vision", [{}, {"hidden_act": "gelu"}, {"patch_size": 14, "image_size": 30, "intermediate_size": 70}]
)
def test_outputs_are_those_of_transformers(vision: dict[str, Any], tmp_path: Path) -> None:
    from transformers import CLIPModel

    side = vision.get("image_size", 32)
    name, images = save_clip(tmp_path, resize=side, **vision), pixels(3, side)
    model: Any = CLIPModel.from_pretrained(tmp_path)
    model.eval()
    expected = model.vision_model(images)
    tokens, pooled, cls, projected = extract(name, images, "tokens", "pooled", "cls", "projected")
    assert relative_error(projected, model.visual_projection(expected.pooler_output)) < TOLERANCE
    assert projected.shape == (3, 24)
    assert relative_error(pooled, expected.pooler_output) < TOLERANCE
    assert torch.equal(cls, pooled)
    # Patch tokens are normalised as the class token is, which transformers leaves to its users.
    normalised = model.vision_model.post_layernorm(expected.last_hidden_state)
    assert relative_error(tokens, normalised[:, 1:]) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("kind", ["CLIPVisionModelWithProjection", "CLIPVisionModel"])
def test_the_vision_part_alone(kind: str, tmp_path: Path) -> None:
    import transformers

    name, images = save_clip(tmp_path, kind), pixels(2, 32)
    expected = getattr(transformers, kind).from_pretrained(tmp_path).eval()(images)
    if kind == "CLIPVisionModel":
        assert relative_error(extract(name, images, "pooled")[0], expected.pooler_output) < TOLERANCE
        with pytest.raises(ValueError, match="its last layer, which projects into the space of texts, was left out"):
            extract(name, images, "projected")
    else:
        assert relative_error(extract(name, images, "projected")[0], expected.image_embeds) < TOLERANCE


def test_older_folders_say_it_twice(folder: Path) -> None:
    found = extract(f"hf-dir:{folder}", pixels(2, 32), "projected")[0]
    config = json.loads((folder / "config.json").read_text())
    vision = config["vision_config"]
    name = change(folder, vision_config={**vision, "num_hidden_layers": 7}, vision_config_dict=vision)
    assert torch.equal(extract(name, pixels(2, 32), "projected")[0], found)


@pytest.mark.parametrize(("shape", "resize"), [((64, 64), 32), ((96, 70), 32), ((70, 96), 40)])
def test_preprocessing_is_that_of_the_processor(shape: tuple[int, int], resize: int, tmp_path: Path) -> None:
    from transformers import CLIPImageProcessorPil

    name = save_clip(tmp_path, resize=resize)
    # Smooth, since transformers crops one pixel beside torchvision where the margins are not equal.
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = Image.fromarray(np.stack([rows, columns, rows + columns], 2).astype(np.uint8))
    processor = CLIPImageProcessorPil(size={"shortest_edge": resize}, crop_size={"height": 32, "width": 32})
    expected = processor(images=image, return_tensors="pt").pixel_values[0]
    found = load_backbone(name, None, "cpu").preprocess(image)
    # A pixel of this image is up to 4 of 255 from the one beside it, and 0.26 is the smallest deviation.
    assert float((found - expected).abs().max()) < (1e-6 if shape == (64, 64) else 6 / 255 / 0.26)


def test_preprocessing_of_other_forms(folder: Path) -> None:
    file = "preprocessor_config.json"
    plain = load_backbone(f"hf-dir:{folder}", None, "cpu").data_config
    assert (plain["crop_pct"], plain["crop_mode"], plain["interpolation"]) == (1.0, "center", "bicubic")
    assert plain["mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert load_backbone(change(folder, file, size=32, crop_size=32), None, "cpu").data_config == plain
    squashed = change(folder, file, size={"height": 32, "width": 32}, do_center_crop=False)
    assert load_backbone(squashed, None, "cpu").data_config["crop_mode"] == "squash"
    for wrong in ({"crop_size": 30}, {"size": {"shortest_edge": 20}}, {"size": 32, "do_center_crop": False}):
        with pytest.raises(ModelNotFoundError, match="the preprocessor"):
            load_backbone(change(folder, file, **{"size": 32, "do_center_crop": True, **wrong}), None, "cpu")


def test_the_automatic_output_stays_the_class_token(small: str) -> None:
    found = automatic_outputs(load_backbone(small, None, "cpu"))
    assert found.outputs == ("cls", "mean")
    assert "CLIP" in found.reason


def test_images_of_their_own_size_are_projected_too(small: str) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
    fixed, native = (
        FrozenFeatureExtractor(small, output=["projected", "pooled"], max_tokens=n).transform(images)
        for n in (None, 16)
    )
    for block, width in (("projected", 24), ("pooled", 32)):
        assert native.views(block)[0].shape == (3, width)
        np.testing.assert_allclose(native.block(block), fixed.block(block), atol=1e-5)


def test_what_does_not_fit_is_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())["vision_config"]
    with pytest.raises(ModelNotFoundError, match=r"layer_norm_eps must be 1e-05\. Got 1e-06"):
        load_backbone(change(folder, vision_config={**config, "layer_norm_eps": 1e-6}), None, "cpu")
    with pytest.raises(ModelNotFoundError, match="weights of other shapes than"):
        load_backbone(change(folder, vision_config={**config, "patch_size": 16}), None, "cpu")
    name = change(folder, vision_config=config)
    tensors = load_file(folder / "model.safetensors")
    del tensors["vision_model.pre_layrnorm.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelNotFoundError, match=r"the weights lack 'pre_layrnorm\.bias'"):
        load_backbone(name, None, "cpu")


def test_converted_folders_keep_the_projection(small: str, tmp_path: Path) -> None:
    convert(small, tmp_path / "converted")
    images = np.random.default_rng(0).integers(0, 255, (3, 40, 50, 3), np.uint8)
    names = small, f"local-dir:{tmp_path / 'converted'}"
    extractors = [FrozenFeatureExtractor(name, output=["projected", "cls"]) for name in names]
    assert extractors[0].feature_spec() == extractors[1].feature_spec()
    found = [extractor.transform(images) for extractor in extractors]
    for block in ("projected", "cls"):
        np.testing.assert_array_equal(found[0].block(block), found[1].block(block))
