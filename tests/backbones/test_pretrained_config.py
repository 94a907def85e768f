"""What a checkpoint says about its preprocessing, and its files: an error in one line that names file and field."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tower_helpers import rewritten

from frofa import FrozenFeatureExtractor
from frofa.backbones.checkpoints.config import check_preprocessing
from frofa.exceptions import ModelNotFoundError

NAN = float("nan")
WRONG: dict[str, list[Any]] = {
    "mean": [
        [NAN, 0.5, 0.5],
        [float("inf")] * 3,
        "0.5",
        ["0.5"] * 3,
        [0.5, 0.5],
        [123.7, 116.3, 103.5],
        [True] * 3,
        0.5,
    ],
    "std": [[0.5, 0.0, 0.5], [-0.2] * 3, [NAN] * 3, [0.5] * 4, {}, [[0.5]] * 3],
    "crop_pct": [0, 7, -0.9, NAN, "0.9", [0.9]],
    "crop_mode": ["centre", 3, ["center"]],
    "interpolation": ["cubic", "random", 3, ["bicubic"]],
    "input_size": [[3, 32], [3, 0, 32], [3, 32, -32], [3, 32.5, 32], 32, "3x32x32", [3, 10**9, 32], [[3], 32, 32]],
}


def refusal(name: str) -> str:
    """The error for a model; it is one line."""
    with pytest.raises(ModelNotFoundError) as caught:
        FrozenFeatureExtractor(name, device="cpu").fit()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_preprocessing_that_cannot_be_done(field: str, value: Any, small_vit: str, tmp_path: Path) -> None:
    message = refusal(rewritten(small_vit, tmp_path, **{field: value}))
    assert f"config.json: {field} must be " in message
    assert "Got " in message


def test_what_is_absent_or_none_is_timms_default() -> None:
    check_preprocessing({}, "config.json")
    check_preprocessing(dict.fromkeys(WRONG), "config.json")
    check_preprocessing({"mean": (0.5,), "std": [1], "crop_pct": 1.15, "interpolation": "lanczos"}, "config.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[]", "config.json is no JSON object: expected an object. Got list"),
        (b"{", "config.json is no JSON"),
        (b'{"architecture": "\xff"}', "config.json is no JSON"),
        (b"[" * 100_000, "config.json is no JSON"),
        (b"{}", "config.json: architecture must be a model of timm's. Got None"),
        (b'{"architecture": "vit_unheard_of"}', "architecture must be a model of timm's. Got 'vit_unheard_of'"),
        (b'{"architecture": ["vit_tiny_patch16_224"]}', "architecture must be a model of timm's"),
        (b'{"architecture": "vit_tiny_patch16_224", "model_args": []}', "model_args must be an object. Got []"),
        (b'{"architecture": "vit_tiny_patch16_224", "pretrained_cfg": 1}', "pretrained_cfg must be an object. Got 1"),
        (b'{"architecture": "vit_tiny_patch16_224", "mean": [0, 0]}', "config.json: mean must be"),
        (b'{"architecture": "vit_tiny_patch16_224", "model_args": {"deep": 2}}', "config.json: "),
        (b'{"architecture": "vit_tiny_patch16_224", "model_args": {"depth": [2147483648]}}', "must be 65536 at most"),
    ],
)
def test_configs_that_are_none(content: bytes, reason: str, small_vit: str, tmp_path: Path) -> None:
    name = rewritten(small_vit, tmp_path)
    (Path(name.removeprefix("local-dir:")) / "config.json").write_bytes(content)
    assert reason in refusal(name)


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_weights_that_are_no_numbers(value: float, small_vit: str, tmp_path: Path) -> None:
    name = rewritten(small_vit, tmp_path)
    file = Path(name.removeprefix("local-dir:")) / "model.safetensors"
    weights = load_file(file)
    weights["blocks.1.mlp.fc1.weight"][0, 0] = value
    save_file(weights, file)
    assert f"{file.parent}: blocks.1.mlp.fc1.weight holds NaN or infinite values" in refusal(name)


def test_files_of_weights_that_are_none(small_vit: str, tmp_path: Path) -> None:
    name = rewritten(small_vit, tmp_path)
    file = Path(name.removeprefix("local-dir:")) / "model.safetensors"
    content = file.read_bytes()
    for damaged in (content[:-100], content[:5], b"", b"\0" * 100):
        file.write_bytes(damaged)
        assert f"{file} is no whole file of safetensors" in refusal(name)
    save_file({"norm.weight": torch.ones(7)}, file)
    assert f"{file}: Error(s) in loading state_dict" in refusal(name)
