"""Text towers compute what transformers computes with the same folders, ids and weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from text_helpers import WORDS, clip_folder, siglip2_folder, siglip_folder
from torch import Tensor
from tower_helpers import relative_error

from frofa.backbones.text.loading import load_text_tower
from frofa.exceptions import ModelNotFoundError

TOLERANCE = 1e-4
FOLDERS: dict[str, Callable[[Path], str]] = {
    "siglip": siglip_folder,
    "siglip 2": lambda folder: siglip2_folder(folder, naflex=False),
    "siglip 2 naflex": siglip2_folder,
    "clip": clip_folder,
    "clip of 2021": lambda folder: clip_folder(folder, former_eos=True),
}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {kind: write(tmp_path_factory.mktemp("tower")) for kind, write in FOLDERS.items()}


@pytest.fixture
def copied(names: dict[str, str], tmp_path: Path) -> Callable[[str], Path]:
    """Copy a folder, to change it."""
    return lambda kind: Path(shutil.copytree(names[kind].removeprefix("hf-dir:"), tmp_path / "copy"))


def reference(name: str) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(name.removeprefix("hf-dir:")).eval()


def encode(name: str, texts: list[str]) -> Tensor:
    tower = load_text_tower(name, "cpu")
    return tower.encode(*map(torch.as_tensor, tower.tokenizer(texts)))


@torch.no_grad()
@pytest.mark.parametrize("kind", FOLDERS)
def test_embeddings_are_those_of_transformers(kind: str, names: dict[str, str]) -> None:
    model, tower = reference(names[kind]), load_text_tower(names[kind], "cpu")
    ids, mask = map(torch.as_tensor, tower.tokenizer(WORDS))
    expected = model.get_text_features(ids, attention_mask=mask).pooler_output
    found = tower.encode(ids, mask)
    assert (tower.context, tower.width) == (ids.shape[1], expected.shape[1])
    assert relative_error(found, expected) < TOLERANCE
    assert tower.logit_scale == pytest.approx(float(model.logit_scale.exp()), rel=1e-6)
    assert tower.logit_bias == pytest.approx(float(getattr(model, "logit_bias", 0.0)))
    assert tower.templates is None


@torch.no_grad()
@pytest.mark.parametrize("kind", ["siglip", "siglip 2 naflex"])
def test_padding_is_seen_where_the_folder_says_so(kind: str, copied: Callable[[str], Path]) -> None:
    """As all published folders do: SigLIP was trained so."""
    folder = copied(kind)
    change(folder, "tokenizer_config.json", model_input_names=["input_ids"])
    model, tower = reference(str(folder)), load_text_tower(f"hf-dir:{folder}", "cpu")
    ids, mask = map(torch.as_tensor, tower.tokenizer(WORDS))
    assert relative_error(tower.encode(ids, mask), model.get_text_features(ids).pooler_output) < TOLERANCE
    masked = model.get_text_features(ids, attention_mask=mask).pooler_output
    assert relative_error(tower.encode(ids, mask), masked) > 0.01
    # Features of both are not to be mistaken for each other.
    (folder / "tokenizer_config.json").unlink()
    change(folder, "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    assert load_text_tower(f"hf-dir:{folder}", "cpu").architecture != tower.architecture


@torch.no_grad()
@pytest.mark.parametrize("act", ["gelu", "gelu_pytorch_tanh", "quick_gelu"])
def test_activations_and_a_projection_of_another_width(act: str, tmp_path: Path) -> None:
    name = siglip_folder(tmp_path, hidden_act=act, projection_size=40, max_position_embeddings=16)
    model, tower = reference(name), load_text_tower(name, "cpu")
    ids, mask = map(torch.as_tensor, tower.tokenizer(WORDS))
    assert ids.shape == (len(WORDS), 16)
    expected = model.get_text_features(ids, attention_mask=mask).pooler_output
    assert expected.shape == (len(WORDS), 40)
    assert relative_error(tower.encode(ids, mask), expected) < TOLERANCE


def test_each_text_is_embedded_alone(names: dict[str, str]) -> None:
    for kind in ("siglip", "clip"):
        together = encode(names[kind], WORDS)
        alone = torch.cat([encode(names[kind], [text]) for text in WORDS])
        assert relative_error(together, alone) < 1e-5
        assert encode(names[kind], []).shape == (0, together.shape[1])


def test_several_files_give_the_same_tower(names: dict[str, str], tmp_path: Path) -> None:
    name = clip_folder(tmp_path, max_shard_size="60KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert load_text_tower(name, "cpu").weights_digest == load_text_tower(names["clip"], "cpu").weights_digest


def test_a_tower_is_loaded_once_until_its_files_change(copied: Callable[[str], Path]) -> None:
    folder = copied("siglip")
    name = f"hf-dir:{folder}"
    tower = load_text_tower(name, "cpu")
    assert load_text_tower(name, "cpu") is tower
    weights = load_file(folder / "model.safetensors")
    weights["text_model.head.bias"] += 1
    save_file(weights, folder / "model.safetensors")
    again = load_text_tower(name, "cpu")
    assert again.weights_digest != tower.weights_digest
    assert again.architecture == tower.architecture


def test_names_of_older_transformers(copied: Callable[[str], Path]) -> None:
    """A second text_config counts as a whole, and files hold the numbers of positions."""
    folder = copied("clip")
    config = json.loads((folder / "config.json").read_text())
    text, wrong = config["text_config"], {**config["text_config"], "num_hidden_layers": 7}
    change(folder, "config.json", text_config=wrong, text_config_dict=text)
    weights = load_file(folder / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(weights, folder / "model.safetensors")
    assert encode(f"hf-dir:{folder}", WORDS).isfinite().all()


def test_ids_beyond_the_vocabulary_are_an_error(names: dict[str, str]) -> None:
    tower = load_text_tower(names["siglip"], "cpu")
    ids, mask = map(torch.as_tensor, tower.tokenizer(["a cat"]))
    ids[0, 0] = 10**6
    with pytest.raises(ValueError, match=r"token 1000000.*do not belong together"):
        tower.encode(ids, mask)


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "paligemma"}, "has no text tower that frofa knows of: it has model_type 'paligemma'"),
        ({"model_type": None}, "model_type None"),
        ({"text_config": []}, r"text_config must be an object. Got \[\]"),
        ({"text_config": {"hidden_size": "wide"}}, "the width must be an int from 1 to 65536. Got 'wide'"),
        ({"text_config": {"hidden_size": True}}, "the width must be an int"),
        ({"text_config": {"num_attention_heads": 7}}, "7 attention heads do not divide a width of 768"),
        ({"text_config": {"hidden_act": "relu"}}, "hidden_act must be one of gelu_pytorch_tanh"),
        ({"text_config": {"layer_norm_eps": 0}}, "epsilon of layer norms"),
        ({"text_config": {"num_hidden_layers": 10**9}}, "the number of layers must be an int from 1 to 1024"),
        ({"text_config": {}}, "the text tower's weights"),
    ],
)
def test_wrong_configurations_are_named(values: dict[str, Any], message: str, copied: Callable[[str], Path]) -> None:
    folder = copied("siglip")
    change(folder, "config.json", **values)
    with pytest.raises(ModelNotFoundError, match=message):
        load_text_tower(f"hf-dir:{folder}", "cpu")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda weights: weights.pop("text_model.encoder.layers.1.mlp.fc2.bias"), r"lack 'encoder.layers.1.mlp.fc2.b"),
        (lambda weights: weights.pop("logit_scale"), "lack 'logit_scale'"),
        (lambda weights: weights.update(logit_scale=torch.zeros(3)), "logit_scale must be one finite number"),
        (lambda weights: weights.update({"text_model.extra": torch.zeros(3)}), "lacks: extra"),
        (lambda weights: weights["text_model.head.weight"].fill_(np.nan), "projection.weight holds NaN"),
        (
            lambda weights: weights.update({"text_model.head.bias": torch.zeros(3)}),
            r"projection.bias \(3,\) instead of \(32,\)",
        ),
        (lambda weights: weights.pop("text_model.embeddings.token_embedding.weight"), "Got 0 named"),
    ],
)
def test_damaged_weights_are_named(
    damage: Callable[[dict[str, Tensor]], object], message: str, copied: Callable[[str], Path]
) -> None:
    folder = copied("siglip")
    weights = load_file(folder / "model.safetensors")
    damage(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelNotFoundError, match=message):
        load_text_tower(f"hf-dir:{folder}", "cpu")


def test_missing_and_cut_files_are_named(copied: Callable[[str], Path]) -> None:
    folder = copied("siglip")
    name, weights = f"hf-dir:{folder}", folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelNotFoundError, match=r"model\.safetensors"):
        load_text_tower(name, "cpu")
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match=r"weights as .bin files are not read"):
        load_text_tower(name, "cpu")
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json"):
        load_text_tower(name, "cpu")
    shutil.rmtree(folder)
    with pytest.raises(ModelNotFoundError, match="is no folder"):
        load_text_tower(name, "cpu")
