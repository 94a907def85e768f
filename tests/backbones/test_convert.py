"""frofa convert: the folder that it writes has the features of its source."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from big_vision_helpers import write_npz
from safetensors.torch import load_file
from tower_helpers import SMALL, extract, naflex, paligemma, pixels, relative_error, save, siglip

from frofa import FrozenFeatureExtractor
from frofa.cli import main

TOWER = {**SMALL, "image_size": 32, "patch_size": 8}
ARCHITECTURE = "vit_frofa_test_siglip_32"


@pytest.fixture(scope="module", autouse=True)
def small_architecture() -> None:
    """A SigLIP tower of that size under a name of timm's."""

    def vit_frofa_test_siglip_32(pretrained: bool = False, **options: Any) -> Any:
        sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 2.25, "img_size": 32, "patch_size": 8}
        own = {**sizes, "class_token": False, "global_pool": "map", **options}
        tower: Any = timm.create_model("vit_base_patch16_siglip_224", pretrained=pretrained, **own)
        tower.pretrained_cfg = {**tower.pretrained_cfg, "input_size": (3, 32, 32)}
        return tower

    timm.models.register_model(vit_frofa_test_siglip_32)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: siglip(**TOWER), 32),
        (lambda: naflex(**SMALL, patch_size=8, num_patches=16), None),
        (lambda: paligemma(**TOWER), 32),
    ],
)
def test_a_converted_folder_is_the_same_model(make: Any, size: int | None, tmp_path: Path) -> None:
    name = save(make(), tmp_path / "source", size)
    assert run("convert", name, tmp_path / "out") == 0
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    for output in ("tokens", "pooled", "mean"):
        theirs = FrozenFeatureExtractor(name, output=output, device="cpu")
        ours = FrozenFeatureExtractor(f"local-dir:{tmp_path / 'out'}", output=output, device="cpu")
        np.testing.assert_array_equal(ours.transform(images), theirs.transform(images))
        assert ours.feature_spec() == theirs.feature_spec()  # a store shares them


@torch.no_grad()
@pytest.mark.parametrize(("root", "stacked"), [("params/img/", True), ("params/", False), ("", False)])
def test_big_vision_files_are_what_transformers_computes(root: str, stacked: bool, tmp_path: Path) -> None:
    model = siglip(**TOWER)
    write_npz(model, tmp_path / "w.npz", root, stacked=stacked)
    assert run("convert", tmp_path / "w.npz", tmp_path / "out", "--architecture", ARCHITECTURE) == 0
    tokens, pooled = extract(f"local-dir:{tmp_path / 'out'}", pixels(2, 32), "tokens", "pooled")
    expected = model(pixels(2, 32))
    assert relative_error(tokens, expected.last_hidden_state) < 1e-4
    assert relative_error(pooled, expected.pooler_output) < 1e-4


@torch.no_grad()
def test_the_form_of_gelu_is_told_apart(tmp_path: Path) -> None:
    model = siglip(**TOWER, hidden_act="gelu")
    write_npz(model, tmp_path / "w.npz")
    expected = model(pixels(2, 32)).last_hidden_state
    errors = {}
    for gelu in ("tanh", "exact"):
        assert run("convert", tmp_path / "w.npz", tmp_path / gelu, "--architecture", ARCHITECTURE, "--gelu", gelu) == 0
        [tokens] = extract(f"local-dir:{tmp_path / gelu}", pixels(2, 32), "tokens")
        errors[gelu] = relative_error(tokens, expected)
    assert errors["exact"] < 1e-5
    assert errors["tanh"] > 1e-4


def fewer(weights: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in weights.items() if "probe" not in name}


@pytest.mark.parametrize(
    ("change", "config", "reason"),
    [
        (fewer, {}, "has no weights for"),
        (dict, {"num_hidden_layers": 3}, "3 blocks where it has 2"),
        (dict, {"num_attention_heads": 4}, "4 attention heads where it has 2"),
        (dict, {"image_size": 40}, "25 positions where it has 16"),
        (dict, {"patch_size": 16}, "768 values a patch where it has 192"),
        (lambda weights: {k: v.view("V4") for k, v in weights.items()}, {}, "take the file of float32 weights"),
        (lambda _: {"a": np.zeros(3)}, {}, "has no 'embedding/kernel'"),
        (lambda weights: {k: v * np.nan for k, v in weights.items()}, {}, "has no weights for 42 parameters of"),
    ],
)
def test_files_that_are_not_the_architecture(
    change: Any, config: Any, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_npz(siglip(**{**TOWER, **config}), tmp_path / "w.npz")
    with np.load(tmp_path / "w.npz") as weights:
        changed = change(dict(weights))
    np.savez(tmp_path / "w.npz", **changed)
    assert run("convert", tmp_path / "w.npz", tmp_path / "out", "--architecture", ARCHITECTURE) == 1
    error = capsys.readouterr().err
    assert "w.npz" in error
    assert reason in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["w.npz", "out"], "give the timm name of its architecture"),
        (["w.npz", "out", "--architecture", "vit_frofa_nothing"], "'vit_frofa_nothing' is no architecture of timm"),
        (["w.npz", "out", "--architecture", "resnet10t"], "resnet10t is no vision transformer"),
        (["absent.npz", "out", "--architecture", ARCHITECTURE], "there is no file absent.npz"),
        (["vit_base_patch16_siglip_224", "out"], "expected 'hf-dir:PATH' or a big_vision .npz file"),
        (["hf-dir:.", "out", "--architecture", "x"], "is in its config.json. Got 'x' too"),
        (["hf-dir:absent", "out"], "absent/config.json"),
        (["w.npz", "there"], "there is there already"),
        (["w.npz", "no/where"], "there is no directory no"),
    ],
)
def test_wrong_usage_says_what_is_right(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    np.savez("w.npz", a=np.zeros(2))
    assert run("convert", *arguments) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_only_the_tower_is_written(tmp_path: Path) -> None:
    assert run("convert", save(paligemma(**TOWER), tmp_path / "source", 32), tmp_path / "out") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    assert not any("lang" in name or "attn_pool" in name for name in load_file(tmp_path / "out" / "model.safetensors"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_args"]["global_pool"] == "avg"
    assert config["architecture"] == "vit_base_patch16_224"
