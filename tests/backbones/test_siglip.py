"""hf-dir: towers of SigLIP, SigLIP 2 and PaliGemma compute what transformers computes with the same weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tower_helpers import (
    SMALL,
    SO400M,
    TEXT,
    extract,
    naflex,
    paligemma,
    pixels,
    randomise,
    relative_error,
    save,
    siglip,
)

from frofa import FrozenFeatureExtractor
from frofa.backbones.loading import load_backbone
from frofa.exceptions import ModelNotFoundError

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SigLIP tower with 4 x 4 patches."""
    return save(siglip(**SMALL, image_size=32, patch_size=8), tmp_path_factory.mktemp("siglip"), 32)


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
    ("config", "size"),
    [
        ({"num_hidden_layers": 2}, 224),  # B/16
        ({**SO400M, "num_hidden_layers": 2}, 224),
        ({**SMALL, "patch_size": 14, "image_size": 384}, 384),  # not a multiple of the patch
        ({**SMALL, "patch_size": 8, "image_size": 32, "hidden_act": "gelu"}, 32),
    ],
)
def test_siglip_is_that_of_transformers(config: dict[str, Any], size: int, tmp_path: Path) -> None:
    model = siglip(**config)
    images = pixels(1, size)
    expected = model(images)
    tokens, pooled = extract(save(model, tmp_path, size), images, "tokens", "pooled")
    assert relative_error(tokens, expected.last_hidden_state) < TOLERANCE
    assert relative_error(pooled, expected.pooler_output) < TOLERANCE


@torch.no_grad()
def test_the_tower_of_a_whole_siglip_in_several_files(tmp_path: Path) -> None:
    from transformers import SiglipConfig, SiglipModel

    config = SiglipConfig(text_config=TEXT, vision_config={**SMALL, "image_size": 32, "patch_size": 8})
    with torch.random.fork_rng(devices=[]):
        model = randomise(SiglipModel(config))
    name = save(model, tmp_path, 32, max_shard_size="50KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    tokens, pooled = extract(name, pixels(2, 32), "tokens", "pooled")
    expected = model.vision_model(pixels(2, 32))
    assert relative_error(tokens, expected.last_hidden_state) < TOLERANCE
    assert relative_error(pooled, expected.pooler_output) < TOLERANCE


@torch.no_grad()
def test_paligemmas_tower_has_tokens_and_their_mean(tmp_path: Path) -> None:
    model = paligemma(**SO400M, num_hidden_layers=1, image_size=224, vision_use_head=False)
    name = save(model, tmp_path, 224)
    images = pixels(1, 224)
    expected = model.model.vision_tower(images).last_hidden_state
    tokens, mean, pooled = extract(name, images, "tokens", "mean", "pooled")
    assert relative_error(tokens, expected) < TOLERANCE
    assert relative_error(mean, expected.mean(1)) < TOLERANCE
    assert relative_error(pooled, expected.mean(1)) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("config", [{**SMALL, "patch_size": 8, "num_patches": 16}, {"num_hidden_layers": 1}])
def test_naflex_is_that_of_transformers(config: dict[str, Any], tmp_path: Path) -> None:
    model = naflex(**config)
    backbone = load_backbone(save(model, tmp_path), None, "cpu")
    side = model.config.patch_size
    shapes, length = [(4, 4), (2, 6), (7, 3), (1, 1)], 24
    patches = torch.zeros(len(shapes), length, 3 * side**2)
    valid, coordinates = torch.zeros(len(shapes), length, dtype=torch.bool), torch.zeros(len(shapes), length, 2).long()
    for i, (height, width) in enumerate(shapes):
        n = height * width
        patches[i, :n], valid[i, :n] = torch.randn(n, 3 * side**2, generator=torch.Generator().manual_seed(i)), True
        coordinates[i, :n] = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    expected = model(patches, valid.int(), torch.tensor(shapes))
    module: Any = backbone.module
    features = module.forward_features(patches, patch_coord=coordinates, patch_valid=valid)
    pooled = module.forward_head(features["patches"], patch_valid=valid, pre_logits=True)
    assert relative_error(features["patches"][valid], expected.last_hidden_state[valid]) < TOLERANCE
    assert relative_error(pooled, expected.pooler_output) < TOLERANCE


@torch.no_grad()
def test_naflex_at_a_fixed_size(tmp_path: Path) -> None:
    model = naflex(**SMALL, patch_size=8, num_patches=16)
    name = save(model, tmp_path)
    assert tuple(load_backbone(name, None, "cpu").data_config["input_size"]) == (3, 32, 32)
    images = pixels(2, 32, 48)
    tokens, pooled = extract(name, images, "tokens", "pooled", size=(32, 48))
    patches = images.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
    expected = model(patches, torch.ones(2, 24).int(), torch.tensor([[4, 6]] * 2))
    assert relative_error(tokens, expected.last_hidden_state) < TOLERANCE
    assert relative_error(pooled, expected.pooler_output) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("size", [224, 448, 896])
def test_image_sizes_by_interpolated_positions(size: int, tmp_path: Path) -> None:
    """As a tower of that size with the table resized: bicubic, antialiased, which is what timm does."""
    model, resized = (siglip(**SMALL, image_size=side, patch_size=14) for side in (224, size))
    name = "embeddings.position_embedding.weight"
    table = model.get_parameter(name).T.reshape(1, 32, 16, 16)
    grid = (size // 14, size // 14)
    table = torch.nn.functional.interpolate(table, size=grid, mode="bicubic", antialias=True).flatten(2)[0].T
    resized.load_state_dict({**model.state_dict(), name: table})
    expected = resized(pixels(1, size))
    tokens, pooled, mean = extract(save(model, tmp_path, 224), pixels(1, size), "tokens", "pooled", "mean", size=size)
    assert tokens.shape == (1, grid[0] ** 2, 32)
    assert relative_error(tokens, expected.last_hidden_state) < TOLERANCE
    assert relative_error(pooled, expected.pooler_output) < TOLERANCE
    assert relative_error(mean, expected.last_hidden_state.mean(1)) < TOLERANCE


@torch.no_grad()
def test_preprocessing_is_the_processors_own(folder: Path) -> None:
    from transformers import SiglipImageProcessorPil

    name = change(folder, "preprocessor_config.json", resample=2, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4])
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    expected = SiglipImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(load_backbone(name, None, "cpu").preprocess(image), expected, rtol=0, atol=1e-5)


def test_the_processor_may_be_part_of_another(folder: Path) -> None:
    content = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": {**content, "image_mean": [0.1] * 3}}))
    assert load_backbone(f"hf-dir:{folder}", None, "cpu").data_config["mean"] == [0.1] * 3


@torch.no_grad()
def test_a_tower_without_a_head_averages(tmp_path: Path) -> None:
    model = siglip(**SMALL, image_size=32, patch_size=8, vision_use_head=False)
    expected = model(pixels(2, 32)).last_hidden_state.mean(1)
    [pooled] = extract(save(model, tmp_path, 32), pixels(2, 32), "pooled")
    assert relative_error(pooled, expected) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit_so400m_patch14_siglip_224", "vit_so400m_patch14_siglip_gap_224"])
def test_pooling_of_timms_own_names(name: str, save_backbone: Callable[..., str]) -> None:
    tower = save_backbone(name, img_size=28, embed_dim=32, depth=2, num_heads=2)
    module: Any = load_backbone(tower, None, "cpu").module
    tokens, pooled, mean = extract(tower, pixels(2, 28), "tokens", "pooled", "mean")
    assert tokens.shape == (2, 4, 32)
    torch.testing.assert_close(tokens, module.forward_features(pixels(2, 28)))
    torch.testing.assert_close(mean, tokens.mean(1))
    torch.testing.assert_close(pooled, mean if "gap" in name else module.attn_pool(tokens))
    assert ("gap" in name) == torch.allclose(pooled, mean)


def test_published_configs_leave_out_what_is_the_default(tmp_path: Path) -> None:
    from frofa.backbones.checkpoints.huggingface import read_tower

    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 224, "width": 224}}))
    name = change_or_create(tmp_path, model_type="siglip", vision_config={"model_type": "siglip_vision_model"})
    tower = read_tower(Path(name.removeprefix("hf-dir:")))
    assert tower.architecture == "vit_base_patch16_siglip_224"
    expected = {"img_size": 224, "patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0}
    assert expected.items() <= tower.model_args.items()
    assert tower.model_args["act_layer"] == "gelu_tanh"
    assert tower.pretrained_cfg["interpolation"] == "bicubic"


def change_or_create(folder: Path, **values: Any) -> str:
    (folder / "config.json").write_text("{}")
    return change(folder, **values)


@pytest.mark.parametrize("prefix", ["vision_model.", "vision_tower.vision_model.", "model.vision_tower."])
def test_names_as_other_versions_wrote_them(prefix: str, folder: Path) -> None:
    digest = load_backbone(f"hf-dir:{folder}", None, "cpu").weights_digest
    weights = {prefix + name: tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    weights |= {f"{prefix}embeddings.position_ids": torch.arange(16), "text_model.head.weight": torch.ones(2, 2)}
    save_file(weights, folder / "model.safetensors")
    assert load_backbone(f"hf-dir:{folder}", None, "cpu").weights_digest == digest


def test_half_precision_weights_are_computed_in_float32(folder: Path) -> None:
    half = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(half, folder / "model.safetensors")
    found = extract(f"hf-dir:{folder}", pixels(1, 32), "tokens", "pooled")
    save_file({name: tensor.float() for name, tensor in half.items()}, folder / "model.safetensors")
    for one, other in zip(found, extract(f"hf-dir:{folder}", pixels(1, 32), "tokens", "pooled"), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"model_type": "blip"}, "model_type 'blip'; known are siglip, "),
        ({"hidden_act": "relu"}, "hidden_act must be one of gelu_pytorch_tanh, .*Got 'relu'"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps must be 1e-06"),
        ({"num_channels": 1}, "num_channels must be 3"),
        ({"patch_size": [8, 8]}, "patch_size must be an int"),
        ({"image_size": 40}, r"the preprocessor resizes to .*32.*; the tower's image_size is 40"),
        ({"patch_size": 0}, "patch_size must be"),
        ({"hidden_size": "32"}, "hidden_size must be a positive int. Got '32'"),
        ({"hidden_act": ["gelu"]}, "hidden_act must be one of"),
        ({"model_type": ["siglip"]}, r"config.json has model_type \['siglip'\]; known are"),
        ({"num_hidden_layers": 3}, r"the weights lack 'encoder.layers.2"),
        ({"num_hidden_layers": 1}, r"the weights hold what config.json does not know: encoder.layers.1"),
        ({"intermediate_size": 80}, r"blocks.0.mlp.fc1.weight \(72, 32\) where config.json has \(80, 32\)"),
        ({"model_type": "paligemma"}, "expected a SigLIP vision tower. Got None"),
    ],
)
def test_configs_that_are_not_the_weights(values: dict[str, Any], reason: str, folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=reason):
        FrozenFeatureExtractor(change(folder, **values)).fit()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"do_center_crop": True}, "do_center_crop is no part"),
        ({"do_normalize": False}, "do_normalize switched off"),
        ({"rescale_factor": 1.0}, "rescale_factor must be 1/255. Got 1.0"),
        ({"rescale_factor": "1/255"}, "rescale_factor must be 1/255. Got '1/255'"),
        ({"rescale_factor": float("nan")}, "rescale_factor must be 1/255. Got nan"),
        ({"resample": 4}, "resample must be one of"),
        ({"resample": [3]}, r"resample must be one of .*Got \[3\]"),
        ({"image_mean": [float("nan")] * 3}, "image_mean must be 1 or 3 numbers .*Got .nan, nan, nan"),
        ({"image_mean": "0.5"}, "image_mean must be 1 or 3 numbers"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std must be 1 or 3 positive numbers"),
        ({"image_std": [0.5, 0.5]}, "image_std must be 1 or 3 positive numbers"),
        ({"size": 3}, "the preprocessor resizes to 3"),
    ],
)
def test_preprocessing_that_is_not_siglips(values: dict[str, Any], reason: str, folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=reason):
        FrozenFeatureExtractor(change(folder, "preprocessor_config.json", **values)).fit()


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no model.safetensors and no model.safetensors.index.json"),
        ("preprocessor_config.json", "has no preprocessor_config.json and no processor_config.json"),
    ],
)
def test_missing_files_are_named(file: str, reason: str, folder: Path) -> None:
    (folder / file).unlink()
    with pytest.raises(ModelNotFoundError, match=reason):
        FrozenFeatureExtractor(f"hf-dir:{folder}").fit()


def test_damaged_files_are_named(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: weights[name] for name in weights if "patch_embedding" not in name}, folder / "model.safetensors")
    with pytest.raises(ModelNotFoundError, match=r"expected the weights of one vision tower .*Got 0"):
        FrozenFeatureExtractor(f"hf-dir:{folder}").fit()
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelNotFoundError, match=r"config.json is no JSON"):
        FrozenFeatureExtractor(f"hf-dir:{folder}").fit()


def test_changed_weights_are_loaded_again(folder: Path) -> None:
    before = load_backbone(f"hf-dir:{folder}", None, "cpu").weights_digest
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "post_layernorm.bias": weights["post_layernorm.bias"] + 1}, folder / "model.safetensors")
    assert load_backbone(f"hf-dir:{folder}", None, "cpu").weights_digest != before
