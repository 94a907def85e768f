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
from tower_helpers import SMALL, SO400M, TEXT, extract, naflex, paligemma, pixels, randomise, relative_error, save, siglip

from frofa import FrozenFeatureExtractor
from frofa.backbone import load_backbone
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
        ({"num_hidden_layers": 3}, 224),  # B/16
        ({**SO400M, "num_hidden_layers": 2}, 224),
        ({**SO400M, "num_hidden_layers": 1, "image_size": 384}, 384),  # not a multiple of the patch
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
    model = paligemma(**SO400M, num_hidden_layers=2, image_size=224, vision_use_head=False)
    name = save(model, tmp_path, 224)
    images = pixels(1, 224)
    expected = model.model.vision_tower(images).last_hidden_state
    tokens, mean, pooled = extract(name, images, "tokens", "mean", "pooled")
    assert relative_error(tokens, expected) < TOLERANCE
    assert relative_error(mean, expected.mean(1)) < TOLERANCE
    assert relative_error(pooled, expected.mean(1)) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("config", [{**SMALL, "patch_size": 8, "num_patches": 16}, {"num_hidden_layers": 2}])
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
