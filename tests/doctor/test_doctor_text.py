"""The doctor says whether there is a text tower, of which scale, and what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from text_helpers import clip_folder, siglip_folder
from tower_helpers import SMALL, paligemma, save

from frofa.doctor import extractor_for
from frofa.doctor.checks.text import check_tower
from frofa.doctor.finding import Outcome
from frofa.doctor.subject import Subject


def outcome(name: str) -> Outcome:
    extractor = extractor_for(name, device="cpu")
    return check_tower(Subject(extractor, extractor._backbone(), []))


@pytest.mark.parametrize("write", [siglip_folder, clip_folder])
def test_a_tower_is_described(write: Callable[[Path], str], tmp_path: Path) -> None:
    found = outcome(write(tmp_path))
    scale = float(load_file(tmp_path / "model.safetensors")["logit_scale"].exp())
    assert found.status == "ok"
    assert f"{24 if write is clip_folder else 32} channels" in found.message
    assert f"logit scale {scale:.2f}, bias" in found.message


def test_models_without_one_are_no_fault(tmp_path: Path) -> None:
    assert outcome("frofa/vit_tiny_tin200").status == "skipped"
    name = save(paligemma(**SMALL, image_size=32, patch_size=8, vision_use_head=False), tmp_path, 32)
    found = outcome(name)
    assert found.status == "skipped"
    assert "model_type 'paligemma'" in found.message


def test_a_folder_without_its_tokenizer_is_worth_a_look(tmp_path: Path) -> None:
    name = siglip_folder(tmp_path)
    (tmp_path / "spiece.model").unlink()
    assert outcome(name).status == "note"


def test_damaged_towers_fail(tmp_path: Path) -> None:
    name, weights = siglip_folder(tmp_path), tmp_path / "model.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"text_model.head.weight": torch.zeros(32, 32)}, weights)
    assert outcome(name) == Outcome(
        "failed", "'a photo of a cat' and 'an aeroplane above the clouds' have the same embedding"
    )
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["hidden_size"] = 64
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = outcome(name)
    assert found.status == "failed"
    assert "of other shapes than its configuration" in found.message
