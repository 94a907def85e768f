"""The notebook-style examples run, on a model that knows nothing, and on one that knows its classes."""

import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_tower_helpers import siglip_like
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def run(name: str, images: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", [name, str(images), model])
    monkeypatch.chdir(images)
    return runpy.run_path(str(EXAMPLES / name))


def test_words_on_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for place in ("train/daisy", "train/red_rose", "test/daisy", "test/red_rose"):
        (tmp_path / place).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / place / f"{i}.png")
    found = run("words.py", tmp_path, siglip_like(tmp_path / "siglip"), monkeypatch)
    assert found["again"].classes_.tolist() == ["daisy", "red_rose"]


def test_words_on_images_that_the_model_knows(
    shared_data: Path, shared_backbones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "test"):
        for name in ("acorn", "dragonfly", "go-kart", "sock", "teapot"):
            (tmp_path / split / name).mkdir(parents=True)
            for file in sorted((shared_data / "tin20" / split / name).iterdir())[:3]:
                shutil.copy(file, tmp_path / split / name)
    model = f"local-dir:{shared_backbones / 'vit_tiny_patch8_64.siglip_tin202'}"
    found = run("words.py", tmp_path, model, monkeypatch)
    assert found["accuracy"]["auto"] > 0.5
    assert found["scores"][2] > 0.5
    assert "acorn" in found["index"].names[found["positions"][0, 0]]
