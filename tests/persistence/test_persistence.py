"""Saving and loading: equal predictions, no execution, damaged and foreign files refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import frofa
from frofa.augmentations import Brightness, Posterize, Sequential
from frofa.estimators import LogisticProbeClassifier, MAPClassifier, PrototypeClassifier, RidgeProbeClassifier
from frofa.exceptions import SavedFileError
from frofa.extraction.extractor import FrozenFeatureExtractor

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(12, 4, 8)).astype(np.float32)
LABELS = np.array(["ant", "bee", "cow"] * 4)
HEADS = [
    RidgeProbeClassifier(),
    LogisticProbeClassifier(class_weight="balanced"),
    PrototypeClassifier(),
    MAPClassifier(Sequential([Brightness(0.2), Posterize()]), n_steps=5, random_state=0),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
@pytest.mark.parametrize(
    "labels", [LABELS, LABELS.astype(object), np.arange(12) % 3, pd.Series(LABELS)], ids=["U", "O", "i", "pandas"]
)
def test_heads_predict_the_same_after_loading(head: Any, labels: Any, tmp_path: Path) -> None:
    head.fit(TOKENS, labels)
    frofa.save(head, tmp_path / "head.frofa")
    loaded = frofa.load(tmp_path / "head.frofa")
    assert repr(loaded) == repr(head)
    np.testing.assert_array_equal(loaded.predict_proba(TOKENS), head.predict_proba(TOKENS))
    np.testing.assert_array_equal(loaded.predict(TOKENS), head.predict(TOKENS))
    assert loaded.classes_.dtype == head.classes_.dtype


def test_parameters_keep_their_types(tmp_path: Path) -> None:
    head = RidgeProbeClassifier(alphas=np.logspace(-2, 2, 3), class_weight={0: 2.0, 1: 1.0, 2: 1.0}).fit(
        TOKENS, np.arange(12) % 3
    )
    frofa.save(head, tmp_path / "head.frofa")
    loaded = frofa.load(tmp_path / "head.frofa")
    np.testing.assert_array_equal(loaded.alphas, head.alphas)
    assert loaded.class_weight == head.class_weight
    assert loaded.fit(TOKENS, np.arange(12) % 3).alpha_ == head.alpha_


def test_pipeline_from_images(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (6, 20, 20, 3)).astype(np.uint8)
    extractor = FrozenFeatureExtractor(output="pooled", store=tmp_path / "store")
    pipeline = make_pipeline(extractor, StandardScaler(), LogisticProbeClassifier()).fit(images, LABELS[:6])
    frofa.save(pipeline, tmp_path / "model.frofa")
    loaded = frofa.load(tmp_path / "model.frofa")
    np.testing.assert_allclose(loaded.predict_proba(images), pipeline.predict_proba(images), atol=1e-6)
    assert loaded[0].store == tmp_path / "store"
    assert pipeline[0].store == tmp_path / "store"
    assert loaded[0].weights_digest_ == pipeline[0].weights_digest_
    assert (tmp_path / "model.frofa").stat().st_size < 100_000  # the spec, not the backbone


def test_saved_on_a_gpu_loads_without_one(tmp_path: Path) -> None:
    head = MAPClassifier(n_steps=2, random_state=0).fit(TOKENS, LABELS).set_params(device="cuda:7")
    frofa.save(head, tmp_path / "head.frofa")
    assert frofa.load(tmp_path / "head.frofa").device == "auto"
    assert frofa.load(tmp_path / "head.frofa", device="cpu").predict(TOKENS).shape == (12,)
    assert head.device == "cuda:7"


def test_loads_in_another_process(tmp_path: Path) -> None:
    head = PrototypeClassifier().fit(TOKENS, LABELS)
    frofa.save(head, tmp_path / "head.frofa")
    np.save(tmp_path / "tokens.npy", TOKENS)
    code = "import frofa, numpy as np; print(frofa.load('head.frofa').predict(np.load('tokens.npy')).tolist())"
    environment = {**os.environ, "PYTHONPATH": str(Path(frofa.__file__).parents[1])}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert ran.stdout.decode().strip() == str(head.predict(TOKENS).tolist())


def test_unknown_types_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(SavedFileError, match="expected an estimator"):
        frofa.save([1], tmp_path / "x")
    with pytest.raises(SavedFileError, match="random_state"):
        frofa.save(MAPClassifier(random_state=np.random.RandomState(0)), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_every_changed_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.frofa"
    head = PrototypeClassifier().fit(TOKENS.mean(1)[:, :2], LABELS)
    frofa.save(head, path)
    original = path.read_bytes()
    for position in range(len(original)):
        changed = bytearray(original)
        changed[position] ^= 1
        path.write_bytes(changed)
        try:
            loaded = frofa.load(path)
        except SavedFileError:
            continue
        # Only a byte that means nothing (such as a space of the padding) may be let through.
        np.testing.assert_array_equal(loaded.prototypes_, head.prototypes_)
        assert repr(loaded) == repr(head)
    for length in (0, 4, 8, 100, len(original) - 1):
        path.write_bytes(original[:length])
        with pytest.raises(SavedFileError):
            frofa.load(path)


def test_files_of_the_first_version_are_read() -> None:
    loaded = frofa.load(Path(__file__).parents[1] / "data" / "frofa-0.1.0.frofa")
    X = (np.arange(24).reshape(6, 4) % 7).astype(np.float32)
    assert loaded.predict(X).tolist() == ["ant", "bee", "ant", "ant", "bee", "cow"]
    np.testing.assert_allclose(loaded.predict_proba(X)[0], [0.6786945265969824, 0.0871291406088, 0.23417633279420336])
    assert repr(loaded[-1].augment) == "Brightness(level=0.2)"


@pytest.mark.parametrize(("weights", "sparsity"), [("dense", None), ("2:4", "2:4")])
def test_the_weights_of_an_extractor_of_the_first_version_are_its_sparsity(
    weights: str, sparsity: str | None, tmp_path: Path
) -> None:
    def change(text: dict[str, Any], _: Any) -> None:
        del text["root"]["params"]["sparsity"]
        text["root"]["params"]["weights"] = weights

    forge(tmp_path / "old.frofa", change, FrozenFeatureExtractor(layer=3))
    loaded = frofa.load(tmp_path / "old.frofa")
    assert loaded.get_params() == FrozenFeatureExtractor(layer=3, sparsity=sparsity).get_params()  # type: ignore[arg-type]


def forge(
    path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], estimator: BaseEstimator | None = None
) -> None:
    """Save an estimator, a fitted head by default, with a description or arrays changed, and the right digest."""
    from frofa.persistence.saving import _digest

    frofa.save(PrototypeClassifier().fit(TOKENS, LABELS) if estimator is None else estimator, path)
    data, arrays = path.read_bytes(), load_file(path)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    description = json.loads(header["__metadata__"]["frofa"])
    changed = change(description, arrays)
    text = changed if isinstance(changed, str) else json.dumps(description)
    save_file(arrays, path, metadata={"frofa": text, "digest": _digest(text, arrays)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text, _: text["root"].update(type="os.system"), "unknown type, 'os.system'"),
        (lambda text, _: text["root"].update(type=["os.system"]), "unknown type"),
        (lambda text, _: text["root"].update(type="sklearn.os"), "unknown type"),
        (lambda text, _: text["root"]["state"].update(__class__=1), "no fitted attribute"),
        (lambda text, _: text["root"]["state"].update(_fit=1), "no fitted attribute"),
        (lambda text, _: text["root"].update(params={"nonsense": 1}), "nonsense"),
        (lambda text, _: text["root"].update(params=None), "no estimator"),
        (lambda text, _: text["root"]["state"].update(classes_={}), "Got an object with nothing"),
        (lambda text, _: text["root"]["state"].update(classes_={"import": "os"}), "Got an object with 'import'"),
        (lambda text, _: text["root"]["state"].update(classes_={"array": "absent"}), "absent"),
        (lambda text, _: text["root"]["state"].update(classes_={"function": "os.system"}), r"os\.system"),
        (lambda text, _: text["root"]["state"].update(classes_={"labels": ["a"], "dtype": "O8,O8"}), "type of labels"),
        (
            lambda text, _: text["root"]["state"].update(classes_={"labels": ["a"], "dtype": "<U99999999"}),
            "1 labels of 399999996 bytes",
        ),
        (lambda text, _: text["root"]["state"].update(classes_={"labels": ["ant"], "dtype": "<U3"}), "do not fit"),
        (lambda text, _: text["root"]["state"].update(n_features_in_=10**300), "do not fit together"),
        (lambda text, _: text["root"]["state"].pop("n_features_in_"), "is fitted, but n_features_in_ is missing"),
        (lambda text, _: text["root"]["state"].pop("prototypes_"), "do not fit together"),
        (lambda text, _: text.update(format=99), "has format 99"),
        (lambda text, _: text.update(format="2"), "expected int as 'format'"),
        (lambda text, _: text.pop("root"), "no 'root'"),
        (lambda text, _: text.update(root=[]), "expected dict as 'root'"),
        (lambda *_: 100_000 * "[", "more than 100 lists"),
        (lambda *_: "null", "expected an object"),
        (lambda *_: '{"format": %s}' % ("9" * 5000), "ValueError"),
        (lambda _, arrays: arrays.pop("estimator.prototypes_"), "prototypes_"),
        (lambda _, arrays: arrays.update({"estimator.prototypes_": np.zeros((2, 8))}), "do not fit together"),
        (lambda _, arrays: arrays.update({"estimator.prototypes_": np.zeros((3, 9))}), "do not fit together"),
        (lambda _, arrays: arrays.update({"estimator.prototypes_": np.full((3, 8), np.nan)}), "not finite"),
    ],
)
def test_forged_files_are_refused_in_one_line(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "head.frofa"
    forge(path, change)
    with pytest.raises(SavedFileError, match=message) as refused:
        frofa.load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_scikit_learn_is_named_where_it_may_be_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "head.frofa"

    def change(text: dict[str, Any], _: Any) -> None:
        text["scikit-learn"] = "99.0"
        text["root"]["params"]["of_the_future"] = 1

    forge(path, change)
    with pytest.raises(SavedFileError, match=r"of_the_future.*saved with scikit-learn 99\.0, read with"):
        frofa.load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(SavedFileError, match=r"not a file that frofa\.save wrote"):
        frofa.load(tmp_path / "plain.safetensors")
    with pytest.raises(FileNotFoundError):
        frofa.load(tmp_path / "absent")
