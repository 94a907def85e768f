"""What a stored feature's key depends on, and that another program can read it."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_helpers import SPEC, features, filled, key, keys

from frofa import FeatureStore, FrozenFeatureExtractor
from frofa.images.reading import content
from frofa.store import FeatureSpec

DOCS = Path(__file__).resolve().parents[2] / "docs" / "store.md"
CHANGES = {
    "weights": "other",
    "architecture": "other",
    "preprocessing": "other",
    "decoder": "Pillow 0.1",
    "output": "cls",
    "layer": 0,
    "norm": False,
    "precision": "bfloat16",
    "dtype": "float16",
}


def spec_of(model: str, **parameters: Any) -> FeatureSpec:
    spec: FeatureSpec = FrozenFeatureExtractor(model, device="cpu", **parameters).feature_spec()
    return spec


def test_a_spec_names_all_that_its_digest_depends_on() -> None:
    assert set(CHANGES) == set(SPEC.__dict__)
    digests = {FeatureSpec(**{**SPEC.__dict__, name: value}).digest for name, value in CHANGES.items()}
    assert len(digests | {SPEC.digest}) == len(CHANGES) + 1
    assert FeatureSpec(**{**SPEC.__dict__, "layer": None}).digest not in digests | {SPEC.digest}


@pytest.mark.parametrize("name", CHANGES)
def test_no_other_spec_gets_a_feature_and_explain_names_the_part(name: str, tmp_path: Path) -> None:
    image = np.full((4, 5, 3), 7, np.uint8)
    other = FeatureSpec(**{**SPEC.__dict__, name: CHANGES[name]})
    further = FeatureSpec(**{**other.__dict__, **{field: CHANGES[field] for field in ("weights", "output", "norm")}})
    store = FeatureStore(tmp_path)
    store.put(SPEC, [content(image)[1]], features([1]))
    store.put(further, [content(image)[1]], features([2]).astype(further.dtype))
    assert store.missing(other, [content(image)[1]]) == [content(image)[1]]
    assert store.explain(image, SPEC).hit
    explanation = store.explain(image, other)
    assert not explanation.hit
    difference = (CHANGES[name], SPEC.__dict__[name])
    assert explanation.differences[SPEC.digest] == {name: difference}
    assert next(iter(explanation.differences)) == SPEC.digest or name in ("weights", "output", "norm")
    assert f"{name}: asked for {difference[0]!r}, stored {difference[1]!r}" in str(explanation)
    assert "no feature of image" in str(store.explain(image + 1, SPEC))


@pytest.fixture
def model(small_vit: str, tmp_path: Path) -> Callable[..., str]:
    """A function that changes the configuration of a copy of a small model, or its weights."""

    def changed(*, weights: bool = False, **preprocessing: Any) -> str:
        folder = Path(shutil.copytree(small_vit.removeprefix("local-dir:"), tmp_path / f"{weights}{preprocessing}"))
        config = json.loads((folder / "config.json").read_text())
        config["pretrained_cfg"].update(preprocessing)
        (folder / "config.json").write_text(json.dumps(config))
        if weights:
            from safetensors.torch import load_file, save_file

            tensors = load_file(folder / "model.safetensors")
            tensors["blocks.0.mlp.fc1.bias"][3] += 1e-3
            save_file(tensors, folder / "model.safetensors")
        return f"local-dir:{folder}"

    return changed


@pytest.mark.parametrize(
    ("change", "parameters", "field"),
    [
        ({"weights": True}, {}, "weights"),
        ({"interpolation": "bilinear"}, {}, "preprocessing"),
        ({"mean": [0.4, 0.5, 0.7]}, {}, "preprocessing"),
        ({"std": [0.2, 0.3, 0.5]}, {}, "preprocessing"),
        ({"crop_pct": 0.9}, {}, "preprocessing"),
        ({}, {"image_size": 48}, "preprocessing"),
        ({}, {"output": "cls"}, "output"),
        ({}, {"layer": 0}, "layer"),
        ({}, {"norm": False}, "norm"),
        ({}, {"precision": "bfloat16"}, "precision"),
        ({}, {"dtype": "float16"}, "dtype"),
    ],
)
def test_a_change_of_the_model_or_its_use_changes_the_key(
    change: dict[str, Any], parameters: dict[str, Any], field: str, model: Callable[..., str], small_vit: str
) -> None:
    before, after = spec_of(small_vit), spec_of(model(**change), **parameters)
    assert before.digest != after.digest
    assert field in before.differences(after)
    assert set(before.differences(after)) <= {field, "architecture"}  # another image size is another position embedding


def test_a_copied_model_is_the_same(model: Callable[..., str], small_vit: str) -> None:
    assert spec_of(model()) == spec_of(small_vit)
    assert spec_of(small_vit, layer=-1, precision="float32", batch_size=3, n_jobs=2) == spec_of(small_vit)


def test_renaming_moving_and_touching_a_file_does_not_change_its_key(image_paths: list[str], tmp_path: Path) -> None:
    path = Path(image_paths[0])
    digest = content(path)[1]
    os.utime(path, (1, 1))
    assert content(path)[1] == digest
    moved = path.rename(tmp_path / "elsewhere.png")
    assert content(moved)[1] == content(str(moved))[1] == digest
    moved.write_bytes(moved.read_bytes() + b"\0")
    assert content(moved)[1] != digest


def test_the_reader_in_the_documentation_reads_a_store(tmp_path: Path) -> None:
    [code] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(code.split("def read_store")[1].splitlines()) <= 15
    names: dict[str, Any] = {}
    exec(code, names)
    store = filled(tmp_path, range(4), range(3, 6))
    for _ in range(2):
        read = names["read_store"](tmp_path / SPEC.digest)
        assert list(read) == keys(range(6))
        np.testing.assert_array_equal(np.stack([read[key(i)] for i in range(6)]), features(range(6)))
        store.compact()


def test_the_documentation_lists_the_files_of_a_store(tmp_path: Path) -> None:
    store = filled(tmp_path, range(4))
    store.compact()
    [layout] = re.findall(r"```text\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert {name for name in names if name not in layout} == set()
