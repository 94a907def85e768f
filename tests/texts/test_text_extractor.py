"""frofa.FrozenTextExtractor: towers and custom encoders, the store, other tools, and what it refuses."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from byte_tower_helpers import BIAS, SCALE, TEMPLATES, WIDTH, byte_folder, siglip_like
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import frofa
from frofa import (
    FeatureStore,
    FrozenFeatureExtractor,
    FrozenTextExtractor,
    FunctionEncoder,
    TorchEncoder,
    ZeroShotClassifier,
)
from frofa.backbones.text.loading import load_text_tower
from frofa.estimators import PrototypeClassifier
from frofa.exceptions import EncoderError, ImageReadError, ModelNotFoundError, WeightsChangedError
from frofa.store import FeatureArray

TEXTS = ["a cat", "", "an ox", "a cat", "\u732b \u0645\u0631\u062d\u0628\u0627", "x" * 500, "A cat", "a  cat"]


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> str:
    name: str = byte_folder(tmp_path_factory.mktemp("tower"))
    return name


class Vowels:
    """An encoder of texts that is no more than the protocol; notes what it was asked."""

    spec: Any = "vowels v1"

    def __init__(self, fails_after: int | None = None) -> None:
        self.batches: list[list[str]] = []
        self.fails_after = fails_after

    def __repr__(self) -> str:
        return "Vowels()"

    def __call__(self, texts: list[str]) -> Any:
        if len(self.batches) == self.fails_after:
            raise KeyboardInterrupt
        self.batches.append(texts)
        return [[float(text.count(vowel)) for vowel in "aeiou"] for text in texts]


with pytest.warns(SkipTestWarning, match="Can't test estimator FrozenTextExtractor which requires input"):
    # It takes texts, not (n, features): scikit-learn leaves out what needs a table, and keeps the checks of the API.
    scikit_learn_contract = parametrize_with_checks([FrozenTextExtractor(Vowels())])


@scikit_learn_contract  # type: ignore[untyped-decorator]
def test_scikit_learn_contract(estimator: Any, check: Any) -> None:
    check(estimator)


def test_features_are_those_of_the_tower(tower: str) -> None:
    found = FrozenTextExtractor(tower, batch_size=3).transform(TEXTS)
    loaded = load_text_tower(tower, "cpu")
    ids, mask = loaded.tokenizer(TEXTS)
    expected = loaded.encode(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(found[0], found[6])
    assert not np.allclose(found[0], found[7])


def test_it_says_how_its_model_scores(tower: str) -> None:
    extractor = FrozenTextExtractor(tower)
    assert (extractor.logit_scale, extractor.logit_bias, extractor.templates) == (SCALE, BIAS, TEMPLATES)
    custom = FrozenTextExtractor(Vowels())
    assert (custom.logit_scale, custom.logit_bias, custom.templates) == (None, None, None)
    spec = extractor.feature_spec()
    assert (spec.output, spec.decoder, spec.precision) == ("text", "utf-8", "float32")


def test_each_text_is_computed_once(tmp_path: Path) -> None:
    encoder, store = Vowels(), FeatureStore(tmp_path / "store")
    extractor = FrozenTextExtractor(encoder, batch_size=2, store=store)
    first = extractor.extract(TEXTS, range(8))
    assert isinstance(first.features, FeatureArray)
    assert (first.n_computed, first.n_duplicates, first.n_from_store) == (7, 1, 0)
    assert sorted(text for batch in encoder.batches for text in batch) == sorted(set(TEXTS))
    assert max(map(len, encoder.batches)) == 2
    plain = FrozenTextExtractor(Vowels()).transform(TEXTS)
    np.testing.assert_array_equal(np.asarray(first.features), plain)
    assert first.y is not None
    assert first.y.tolist() == list(range(8))
    again = extractor.extract(["an ox", "a dog", "a cat"])
    assert (again.n_computed, again.n_from_store) == (1, 2)
    np.testing.assert_array_equal(np.asarray(again.features)[[0, 2]], plain[[2, 0]])
    assert extractor.transform(["an ox"]).flags.writeable


def test_other_specs_are_other_features(tower: str, tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store")
    plain = FrozenTextExtractor(tower, store=store).transform(TEXTS)
    half = FrozenTextExtractor(tower, store=store, dtype="float16").extract(TEXTS)
    assert half.n_computed == 7
    np.testing.assert_array_equal(np.asarray(half.features), plain.astype(np.float16))
    other = FrozenTextExtractor(byte_folder(tmp_path / "other", seed=1), store=store).extract(TEXTS)
    assert other.n_computed == 7
    encoder = Vowels()
    encoder.spec = {"name": "vowels", "version": 2}
    assert FrozenTextExtractor(encoder, store=store).extract(TEXTS).n_computed == 7
    assert len(store.info()) == 4


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(40)]
    with pytest.raises(KeyboardInterrupt):
        FrozenTextExtractor(Vowels(fails_after=3), batch_size=5, store=tmp_path / "store").transform(texts)
    encoder = Vowels()
    found = FrozenTextExtractor(encoder, batch_size=5, store=tmp_path / "store").extract(texts)
    assert found.n_from_store > 0
    assert found.n_computed + found.n_from_store == 40
    assert sum(map(len, encoder.batches)) == found.n_computed
    np.testing.assert_array_equal(np.asarray(found.features), Vowels()(texts))


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    extractor = FrozenTextExtractor(byte_folder(tmp_path / "tower"), store=tmp_path / "store").fit()
    before = extractor.transform(TEXTS)
    byte_folder(tmp_path / "tower", seed=1)
    with pytest.raises(WeightsChangedError, match="fit again"):
        extractor.transform(TEXTS)
    assert not np.allclose(extractor.fit().transform(TEXTS), before)


def test_custom_encoders_take_texts_or_what_they_make_of_them(tmp_path: Path) -> None:
    def codes(text: str) -> Any:
        return np.array([ord(letter) for letter in text] or [0], np.float32)

    encoder = FunctionEncoder(lambda batch: np.stack([batch.sum(1), batch.max(1)], 1), "codes v1", preprocess=codes)
    extractor = FrozenTextExtractor(encoder, batch_size=3, store=tmp_path)
    found = extractor.transform(["ab", "c", "ba", "", "abc"])
    np.testing.assert_array_equal(found, [[195, 98], [99, 99], [195, 98], [0, 0], [294, 99]])
    module = TorchEncoder(torch.nn.Identity(), preprocess=lambda text: np.ones(3, np.float32) * len(text), spec="l")
    np.testing.assert_array_equal(FrozenTextExtractor(module).transform(["ab", "c"]), [[2] * 3, [1] * 3])


def test_texts_that_an_encoder_cannot_take_are_named() -> None:
    def picky(texts: list[str]) -> Any:
        if "bad" in texts:
            raise RuntimeError("no such word")
        return [[len(text)] for text in texts]

    extractor = FrozenTextExtractor(FunctionEncoder(picky, "picky v1"), batch_size=4)
    with pytest.raises(ImageReadError, match=r"position 2.*'bad'|'bad'.*position 2"):
        extractor.transform(["a", "b", "bad", "c"])
    never = FunctionEncoder(lambda _: [[1.0, 2.0]], "one v1")
    with pytest.raises(EncoderError, match=r"batch of 2. Got shape \(1, 2\)"):
        FrozenTextExtractor(never).transform(["a", "b"])
    tokens = FunctionEncoder(lambda texts: np.ones((len(texts), 3, 2)), "tokens v1")
    with pytest.raises(EncoderError, match="one vector of each text"):
        FrozenTextExtractor(tokens).transform(["a"])


@pytest.mark.parametrize(
    ("texts", "error", "says"),
    [
        ("a cat", TypeError, "pass a list of one"),
        ([], ValueError, "at least one text"),
        (["a", 3], TypeError, "int .3. at position 1"),
        (["a", None], TypeError, "NoneType .None. at position 1"),
        (["a", b"b"], TypeError, "bytes"),
        (["a", "\ud800b"], ValueError, "lone surrogate.*position 1, character 0"),
        (np.array([["a", "b"]]), ValueError, r"shape \(1, 2\)"),
        (iter(["a"]), TypeError, "a list, an array or a column"),
        ({"a": 1}, TypeError, "Got dict"),
    ],
)
def test_what_is_no_text_is_refused(texts: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        FrozenTextExtractor(Vowels()).transform(texts)


def test_texts_come_in_lists_arrays_columns_and_frames() -> None:
    extractor, expected = FrozenTextExtractor(Vowels()), Vowels()(TEXTS)
    column = pd.Series(TEXTS, index=range(10, 18))
    kinds = [tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, object)[:, None], column, column.to_frame()]
    for texts in (*kinds, column.astype("string")):
        np.testing.assert_array_equal(extractor.transform(texts), expected)
    frame = clone(extractor).set_output(transform="pandas").fit_transform(column)
    assert frame.columns.tolist() == [f"frozentextextractor{i}" for i in range(5)]
    assert frame.index.tolist() == column.index.tolist()


def test_parameters_are_checked(tower: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'batch_size' parameter"):
        FrozenTextExtractor(tower, batch_size=0).transform(["a"])
    with pytest.raises(EncoderError, match=r"leave device and precision at their defaults. Got precision"):
        FrozenTextExtractor(Vowels(), precision="float32").transform(["a"])
    with pytest.raises(EncoderError, match="has a 'spec'"):
        FrozenTextExtractor(len).transform(["a"])  # type: ignore[arg-type]
    with pytest.raises(ModelNotFoundError, match="text"):
        FrozenTextExtractor(f"local-dir:{tmp_path}").transform(["a"])
    with pytest.raises(ValueError, match=r"one label a text. Got 1 texts, and labels of shape .2"):
        FrozenTextExtractor(Vowels()).extract(["a"], [1, 2])


def test_copies_share_what_they_can(tower: str) -> None:
    extractor = FrozenTextExtractor(tower).fit()
    pickled = pickle.dumps(extractor)
    assert len(pickled) < 2000
    np.testing.assert_array_equal(pickle.loads(pickled).transform(TEXTS), extractor.transform(TEXTS))  # noqa: S301
    encoder = Vowels()
    assert clone(FrozenTextExtractor(encoder)).model is encoder
    assert repr(FrozenTextExtractor("a", batch_size=8)) == "FrozenTextExtractor(batch_size=8, model='a')"


def test_it_is_saved_and_loaded(tower: str, tmp_path: Path) -> None:
    frofa.save(FrozenTextExtractor(tower, store=tmp_path / "store").fit(), tmp_path / "a.frofa")
    loaded = frofa.load(tmp_path / "a.frofa")
    assert loaded.get_params()["store"] == tmp_path / "store"
    np.testing.assert_array_equal(loaded.transform(TEXTS), FrozenTextExtractor(tower).transform(TEXTS))
    frofa.save(make_pipeline(FrozenTextExtractor(Vowels()), PrototypeClassifier()), tmp_path / "b.frofa")
    again = frofa.load(tmp_path / "b.frofa", encoder=Vowels())
    assert again.fit(TEXTS, [0, 1] * 4).predict(TEXTS).shape == (8,)


def test_names_become_a_classifier(tower: str, tmp_path: Path) -> None:
    names = {"cat": "cat", "ox": ["ox", "bull"], "slug": "sea slug"}
    text = FrozenTextExtractor(tower, store=tmp_path / "store")
    head = ZeroShotClassifier(names, text=text).fit()
    assert (head.logit_scale_, head.logit_bias_) == (SCALE, BIAS)
    vectors = text.transform(["ox", "one ox", "bull", "one bull"]).astype(np.float64)
    mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(0)
    np.testing.assert_allclose(head.text_features_[1], mean / np.linalg.norm(mean), rtol=1e-6)
    assert text.extract(["ox", "one bull"]).n_computed == 0
    images = np.random.default_rng(0).normal(size=(5, WIDTH))
    nested = clone(head).set_params(text__batch_size=2).fit()
    np.testing.assert_allclose(nested.decision_function(images), head.decision_function(images), rtol=1e-5)
    frofa.save(head, tmp_path / "head.frofa")
    loaded = frofa.load(tmp_path / "head.frofa")
    np.testing.assert_array_equal(loaded.predict_proba(images), head.predict_proba(images))


def test_images_and_words_work_in_pipelines_and_searches(tmp_path: Path) -> None:
    model = siglip_like(tmp_path / "model")
    pictures = np.random.default_rng(0).integers(0, 256, (12, 40, 40, 3), np.uint8)
    labels = np.array(["cat", "guinea_pig", "ox"] * 4)
    head = ZeroShotClassifier(text=FrozenTextExtractor(model))
    pipeline = make_pipeline(FrozenFeatureExtractor(model, output="projected", n_views=2), head)
    found = pipeline.fit(pictures, labels).predict_proba(pictures)
    frofa.save(pipeline, tmp_path / "pipeline.frofa")
    np.testing.assert_array_equal(frofa.load(tmp_path / "pipeline.frofa").predict_proba(pictures), found)
    # Of several blocks, the one that is compared with words.
    blocks = FrozenFeatureExtractor(model, output="auto", n_views=2).transform(pictures)
    assert blocks.names == ("pooled", "mean")
    search = GridSearchCV(head, {"templates": ["{}", ["a {}", "the {}."]], "text__batch_size": [4]}, cv=2)
    search.fit(blocks, labels)
    assert search.best_estimator_.text_features_.shape == (3, WIDTH)
    np.testing.assert_allclose(pipeline[-1].predict_proba(blocks), found, rtol=1e-4)


def test_the_given_tower_knows_its_classes(shared_backbones: Path) -> None:
    folder = shared_backbones / "vit_tiny_patch8_64.siglip_tin202"
    golden = json.loads((folder / "text.json").read_text())["golden"]
    found = FrozenTextExtractor(f"local-dir:{folder}").transform(list(golden)).astype(np.float64)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(found[:, :8], list(golden.values()), atol=2e-5)
