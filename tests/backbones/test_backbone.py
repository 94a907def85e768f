"""frofa.backbones: loaded once a process, frozen, known by its weights; or an error that says what would work."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from frofa import FrozenFeatureExtractor
from frofa.backbones.loading import _load, load_backbone
from frofa.exceptions import ModelNotFoundError, WeightsChangedError


@pytest.fixture
def folder(small_vit: str, tmp_path: Path) -> Path:
    """A copy of the small backbone, to change."""
    return Path(shutil.copytree(small_vit.removeprefix("local-dir:"), tmp_path / "copy"))


@pytest.fixture
def creations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names that timm.create_model was called with."""
    names: list[str] = []
    original = timm.create_model

    def counted(name: str, **options: Any) -> Any:
        names.append(name)
        return original(name, **options)

    monkeypatch.setattr(timm, "create_model", counted)
    _load.cache_clear()
    yield names
    _load.cache_clear()


def change_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["norm.bias"] = weights["norm.bias"] + 1
    save_file(weights, folder / "model.safetensors")


def test_a_model_is_loaded_once_a_process(creations: list[str], small_vit: str, image_paths: list[str]) -> None:
    for output in ("tokens", "mean", "cls"):
        extractor = FrozenFeatureExtractor(small_vit, output=output, device="cpu")
        assert creations in ([], [small_vit])
        extractor.fit(image_paths).transform(image_paths)
    assert creations == [small_vit]


def test_nothing_is_loaded_before_first_use(creations: list[str]) -> None:
    repr(FrozenFeatureExtractor("no_such_model").set_params(layer=3))
    assert creations == []


def test_the_model_is_frozen(small_vit: str, image_paths: list[str]) -> None:
    backbone = load_backbone(small_vit, None, "cpu")
    assert not any(module.training for module in backbone.module.modules())
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    before = {name: tensor.clone() for name, tensor in backbone.module.state_dict().items()}
    FrozenFeatureExtractor(small_vit, device="cpu").transform(image_paths)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.module.state_dict().items())


def test_preprocessing_is_the_checkpoints_own(small_vit: str) -> None:
    config = load_backbone(small_vit, None, "cpu").data_config
    assert list(config["mean"]) == [0.4, 0.5, 0.6]
    assert list(config["std"]) == [0.2, 0.3, 0.4]
    assert config["crop_pct"] == 0.8
    assert tuple(config["input_size"]) == (3, 32, 32)


def test_loading_leaves_the_global_random_state(creations: list[str], small_vit: str) -> None:
    state = torch.get_rng_state()
    load_backbone(small_vit, None, "cpu")
    assert creations == [small_vit]
    assert torch.equal(torch.get_rng_state(), state)


def test_changed_weights_are_refused_after_fit(folder: Path, image_paths: list[str]) -> None:
    extractor = FrozenFeatureExtractor(f"local-dir:{folder}", output="mean", device="cpu").fit()
    features = extractor.transform(image_paths)
    original = (folder / "model.safetensors").read_bytes()
    change_weights(folder)
    with pytest.raises(WeightsChangedError, match=f"has other weights .*{extractor.weights_digest_}"):
        extractor.transform(image_paths)
    (folder / "model.safetensors").write_bytes(original)  # another time stamp, the same weights
    np.testing.assert_array_equal(extractor.transform(image_paths), features)
    change_weights(folder)
    np.testing.assert_allclose(extractor.fit().transform(image_paths), features + 1, atol=1e-5)


def test_another_setting_is_another_model(folder: Path) -> None:
    def digests() -> tuple[str, str]:
        backbone = load_backbone(f"local-dir:{folder}", None, "cpu")
        return backbone.weights_digest, backbone.architecture_digest

    weights, architecture = digests()
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["num_heads"] = 4  # the same tensors, another computation
    (folder / "config.json").write_text(json.dumps(config))
    assert digests()[0] == weights
    assert digests()[1] != architecture


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("no_such_model", "Unknown model"),
        ("vit_tiny_patch16_224", "Hub"),
        ("vit_tiny_patch16_224.augreg_in21k", "Hub"),
        ("vit_base_patch32_plus_256", "No pretrained weights exist"),
        ("hf-hub:nobody/nothing", "Hub"),
        ("local-dir:absent/folder", "absent/folder has no config.json"),
        ("frofa/vit_huge", "no embedded model is called 'frofa/vit_huge'"),
        ("", "Unknown model"),
    ],
)
def test_missing_models_say_what_works_offline(model: str, reason: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        FrozenFeatureExtractor(model).fit()
    message = str(caught.value)
    for part in (repr(model), reason, "frofa/vit_tiny_tin200", "local-dir:PATH", "HF_HUB_OFFLINE"):
        assert part in message
    assert isinstance(caught.value, OSError)


def test_close_names_are_suggested() -> None:
    with pytest.raises(ModelNotFoundError, match=r"Close timm names: .*vit_base_patch16_siglip_224"):
        FrozenFeatureExtractor("vit_base_patch16_siglip224").fit()


@pytest.mark.parametrize("damage", ["absent", "truncated", "other"])
def test_folders_without_these_weights_never_give_random_ones(
    damage: str, folder: Path, save_backbone: Callable[..., str]
) -> None:
    weights = folder / "model.safetensors"
    if damage == "absent":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        other = save_backbone("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2)
        shutil.copy(Path(other.removeprefix("local-dir:")) / "model.safetensors", weights)
    with pytest.raises(ModelNotFoundError, match="could not be loaded"):
        FrozenFeatureExtractor(f"local-dir:{folder}").fit()


def test_convolutional_models_have_no_class_token_and_no_layers(save_backbone: Callable[..., str]) -> None:
    name = save_backbone("resnet10t", stem_width=8)
    with pytest.raises(ValueError, match="has no class token: choose output='tokens', 'mean' or 'pooled'"):
        FrozenFeatureExtractor(name, output="cls").fit()
    with pytest.raises(ValueError, match="layer=1, norm=True need a vision transformer"):
        FrozenFeatureExtractor(name, layer=1).fit()
    with pytest.raises(ValueError, match="layer=None, norm=False need a vision transformer"):
        FrozenFeatureExtractor(name, norm=False).fit()
