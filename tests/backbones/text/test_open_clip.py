"""Folders of open_clip: both towers compute what open_clip computes with the same weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from text_helpers import ids_of, open_clip_model, weights_of, write_open_clip
from token_helpers import write_clip_tokenizer
from tower_helpers import extract, pixels, relative_error

from frofa import FrozenFeatureExtractor
from frofa.backbones.loading import load_backbone
from frofa.backbones.text.loading import load_text_tower
from frofa.exceptions import ModelNotFoundError

TOLERANCE = 1e-4
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("clip", {}),
    "quick_gelu": ("clip", {}),
    "siglip": ("siglip", {}),
    "first token": ("siglip", {"pool_type": "first", "proj_bias": False}),
    "no projection": ("clip", {"width": 24, "proj_type": "none"}),
    "largest id": ("clip", {"no_causal_mask": True, "mlp_ratio": 3.0}),
    "end of text": ("clip", {"pool_type": "eos", "eos_id": 5}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a tokenizer of CLIP."""
    write_clip_tokenizer(tmp_path)
    return tmp_path


def write(folder: Path, kind: str = "clip", *, quick_gelu: bool = False, **text: Any) -> tuple[str, Any]:
    """Write a model beside a tokenizer; its name, and open_clip's module."""
    vocabulary = len(json.loads((folder / "vocab.json").read_text()))
    model, config = open_clip_model(kind, vocabulary, quick_gelu=quick_gelu, **text)
    return write_open_clip(folder, model, config), model


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_both_towers_are_those_of_open_clip(case: str, folder: Path) -> None:
    kind, text = CASES[case]
    name, model = write(folder, kind, quick_gelu=case == "quick_gelu", **text)
    tower, backbone = load_text_tower(name, "cpu"), load_backbone(name, None, "cpu")
    ids, mask = ids_of(tower.module.token_embedding.num_embeddings, 16)
    ids[0, 7] = 5  # for the one that looks for it
    expected = model.encode_text(ids)
    assert (tower.context, tower.width) == (16, expected.shape[1])
    assert relative_error(tower.encode(ids, mask), expected) < TOLERANCE
    assert tower.logit_scale == pytest.approx(float(model.logit_scale.exp()), rel=1e-6)
    assert tower.logit_bias == pytest.approx(0.0 if model.logit_bias is None else float(model.logit_bias))
    images = pixels(2, 32)
    assert relative_error(extract(name, images, "projected")[0], model.encode_image(images)) < TOLERANCE
    config = backbone.data_config
    assert (config["mean"], config["crop_mode"], config["interpolation"]) == ([0.5] * 3, "squash", "bicubic")


def test_images_and_texts_by_one_name(folder: Path, image_paths: list[str]) -> None:
    name, _ = write(folder, "siglip")
    tower = load_text_tower(name, "cpu")
    embedded = tower.encode(*map(torch.as_tensor, tower.tokenizer(["a photo of a cat", ""])))
    images = FrozenFeatureExtractor(name, output="projected", device="cpu").transform(image_paths[:2])
    assert images.shape == embedded.shape == (2, 32)


def test_weights_with_a_scale_of_one_element_and_numbers_beside(folder: Path) -> None:
    """As OpenAI's own files, and open_clip's option for several GPUs, have them."""
    name, model = write(folder)
    scale, digest = load_text_tower(name, "cpu").logit_scale, load_text_tower(name, "cpu").weights_digest
    others = {"logit_scale": model.logit_scale.detach()[None], "context_length": torch.tensor(16)}
    save_file(load_file(weights_of(folder)) | others, weights_of(folder))
    tower = load_text_tower(name, "cpu")
    assert (tower.logit_scale, tower.weights_digest) == (scale, digest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.update(text_cfg=3), "text_cfg must be an object. Got 3"),
        (lambda model: model["text_cfg"].update(hf_model_name="roberta"), "with hf_model_name='roberta' is not supp"),
        (lambda model: model["text_cfg"].update(embed_cls=True), "with embed_cls=True is not supported"),
        (lambda model: model["text_cfg"].update(pool_type="none"), "pool_type must be one of first, last, argmax, eos"),
        (lambda model: model["text_cfg"].update(proj_type="mlp"), "proj_type must be 'linear' or 'none'. Got 'mlp'"),
        (lambda model: model["text_cfg"].update(act_kwargs={"alpha": 1}), "act_kwargs must be"),
        (lambda model: model["text_cfg"].update(heads=5), "5 attention heads do not divide a width of 32"),
        (lambda model: model["text_cfg"].update(layers=3), "lack 'transformer.resblocks.2.ln_1.weight'"),
        (lambda model: model["text_cfg"].update(no_causal_mask="no"), "no_causal_mask must be true or false. Got 'no'"),
        (lambda model: model.pop("embed_dim"), "projection"),
    ],
)
def test_unknown_text_towers_are_named(change: Callable[[dict[str, Any]], object], message: str, folder: Path) -> None:
    name, _ = write(folder)
    alter(folder, change)
    with pytest.raises(ModelNotFoundError, match=message):
        load_text_tower(name, "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model["vision_cfg"].update(layers=[2, 2, 2, 2]), "CLIP's ResNets are read under timm's names"),
        (lambda model: model["vision_cfg"].update(no_ln_pre=True), "with no_ln_pre=True is not supported"),
        (lambda model: model["vision_cfg"].update(image_size=[32, 32]), r"image_size must be an int above 0. Got \[32"),
        (lambda model: model["vision_cfg"].update(width="wide"), "width of vision_cfg must be an int above 0"),
        (
            lambda model: model["vision_cfg"].update(timm_model_name="no_such", timm_proj="none"),
            "timm_model_name must be a model of timm",
        ),
        (lambda model: model.pop("vision_cfg"), "must have an int embed_dim and a vision_cfg"),
    ],
)
def test_unknown_image_towers_are_named(change: Callable[[dict[str, Any]], object], message: str, folder: Path) -> None:
    name, _ = write(folder)
    alter(folder, change)
    with pytest.raises(ModelNotFoundError, match=message):
        load_backbone(name, None, "cpu")


def alter(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "open_clip_config.json"
    content = json.loads(file.read_text())
    change(content["model_cfg"])
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "load", [lambda name: load_text_tower(name, "cpu"), lambda name: load_backbone(name, None, "cpu")]
)
def test_missing_and_damaged_weights_are_named(load: Callable[[str], object], folder: Path) -> None:
    name, _ = write(folder)
    weights_of(folder).write_bytes(b"no weights")
    with pytest.raises(ModelNotFoundError, match=r"open_clip_model\.safetensors is no whole file of safetensors"):
        load(name)
    weights_of(folder).rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelNotFoundError, match=r"no open_clip_pytorch_model\.safetensors \(weights as \.bin and"):
        load(name)
    (folder / "open_clip_config.json").write_text('{"model_cfg": 1}')
    with pytest.raises(ModelNotFoundError, match=r"model_cfg must be an object\. Got 1"):
        load(name)
