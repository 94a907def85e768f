"""Towers over bytes: text.json and text.safetensors, by PyTorch's own transformer and by the given tower's values."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tower_helpers import randomise, relative_error

from frofa.backbones.text.loading import load_text_tower
from frofa.exceptions import ModelNotFoundError

TEXTS = ["a photo of a cat", "a", "ein Käfer 🪲", "long " * 30]
SIZES = {"width": 32, "layers": 2, "heads": 4, "mlp_ratio": 3, "context": 24, "pad_id": 256, "vocabulary": 257}


class Reference(nn.Module):
    """The tower as it was trained: attention sees the padding, the mean leaves it out."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 96, 0.0, "gelu", batch_first=True, norm_first=True)
        self.enc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.tok, self.norm, self.proj = nn.Embedding(257, 32), nn.LayerNorm(32), nn.Linear(32, 32)
        self.pos = nn.Parameter(torch.zeros(24, 32))

    def forward(self, texts: list[str]) -> Tensor:
        ids = torch.full((len(texts), 24), 256)
        for row, text in zip(ids, texts, strict=True):
            data = text.encode()[:24]
            row[: len(data)] = torch.tensor(list(data))
        real = (ids != 256)[..., None]
        x = self.norm(self.enc(self.tok(ids) + self.pos))
        pooled: Tensor = self.proj((x * real).sum(1) / real.sum(1))
        return pooled


@pytest.fixture
def model() -> Reference:
    with torch.random.fork_rng(devices=[]):
        made: Reference = randomise(Reference())
    return made


@pytest.fixture
def folder(model: Reference, tmp_path: Path) -> Path:
    save_file(model.state_dict() | {"t": torch.tensor(3.0), "b": torch.tensor(-5.0)}, tmp_path / "text.safetensors")
    content = {"architecture": "byte_text", **SIZES, "logit_scale": 20, "logit_bias": -5.0, "templates": ["a {}", "{}"]}
    (tmp_path / "text.json").write_text(json.dumps(content))
    return tmp_path


def encode(name: str, texts: list[str]) -> Tensor:
    tower = load_text_tower(name, "cpu")
    return tower.encode(*map(torch.as_tensor, tower.tokenizer(texts)))


@torch.no_grad()
def test_a_tower_without_an_image_tower(folder: Path, model: Reference) -> None:
    tower = load_text_tower(f"local-dir:{folder}", "cpu")
    assert (tower.width, tower.context, tower.logit_scale, tower.logit_bias) == (32, 24, 20.0, -5.0)
    assert tower.templates == ("a {}", "{}")
    assert relative_error(encode(f"local-dir:{folder}", TEXTS), model(TEXTS)) < 1e-5
    assert encode(f"local-dir:{folder}", [""]).isfinite().all()


def test_embeddings_may_have_other_channels_than_the_tower(folder: Path, model: Reference) -> None:
    tensors = load_file(folder / "text.safetensors")
    tensors |= {"proj.weight": tensors["proj.weight"][:20].clone(), "proj.bias": tensors["proj.bias"][:20].clone()}
    save_file(tensors, folder / "text.safetensors")
    found = encode(f"local-dir:{folder}", TEXTS)
    assert load_text_tower(f"local-dir:{folder}", "cpu").width == 20
    with torch.no_grad():
        assert relative_error(found, model(TEXTS)[:, :20]) < 1e-5


def test_the_given_tower_has_its_golden_values(shared_backbones: Path) -> None:
    folder = shared_backbones / "vit_tiny_patch8_64.siglip_tin202"
    golden = json.loads((folder / "text.json").read_text())["golden"]
    found = nn.functional.normalize(encode(f"local-dir:{folder}", list(golden)), dim=1)
    assert (found[:, :8] - torch.tensor(list(golden.values()))).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "word_text"}, "architecture must be 'byte_text'. Got 'word_text'"),
        ({"width": None}, "the width must be an int from 1 to 65536. Got None"),
        ({"context": -1}, "the number of tokens of a text must be an int"),
        ({"layers": 3}, r"lack 'enc.layers.2.norm1.weight'"),
        ({"layers": 1}, r"lacks: enc.layers.1"),
        ({"mlp_ratio": 4}, r"fc1.weight \(96, 32\) instead of \(128, 32\)"),
        ({"pad_id": 257}, "pad_id must be an int that is no byte, from 256 to 256. Got 257"),
        ({"logit_scale": 0}, "logit_scale must be above 0"),
        ({"logit_bias": "none"}, "logit_bias must be a finite number. Got 'none'"),
        ({"templates": ["a {} {}"]}, "templates must be a list of sentences with one '{}' each"),
    ],
)
def test_wrong_configurations_are_named(values: dict[str, Any], message: str, folder: Path) -> None:
    content = json.loads((folder / "text.json").read_text())
    (folder / "text.json").write_text(json.dumps({**content, **values}))
    with pytest.raises(ModelNotFoundError, match=message):
        load_text_tower(f"local-dir:{folder}", "cpu")


def test_damaged_files_are_named(folder: Path) -> None:
    name, weights = f"local-dir:{folder}", folder / "text.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"pos": tensors["pos"] * torch.inf}, weights)
    with pytest.raises(ModelNotFoundError, match="position_embedding holds NaN or infinite values"):
        load_text_tower(name, "cpu")
    weights.write_bytes(b"not weights")
    with pytest.raises(ModelNotFoundError, match=r"text\.safetensors is no whole file of safetensors"):
        load_text_tower(name, "cpu")
    weights.unlink()
    with pytest.raises(ModelNotFoundError, match=r"has text\.json but no text\.safetensors"):
        load_text_tower(name, "cpu")
    (folder / "text.json").write_text("[]")
    with pytest.raises(ModelNotFoundError, match=r"text\.json is no JSON object"):
        load_text_tower(name, "cpu")
