"""frofa.ImageClassifier with words for its classes: without images, and of one backbone or of two."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_tower_helpers import siglip_like
from sklearn.base import clone

import frofa
from frofa import FeatureBlocks, FrozenFeatureExtractor, FrozenTextExtractor, FunctionEncoder, ImageClassifier
from frofa.cli import main
from frofa.estimators import FewShotClassifier, ZeroShotClassifier
from frofa.exceptions import (
    ImageReadError,
    ModelNotFoundError,
    SkippedImagesWarning,
    UnusedWordsWarning,
    WeightsChangedError,
)
from frofa.image_classifier.words import with_words

NAMES = {"blue": "blue", "green": ["green", "grass"], "red": "a red thing"}


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Towers of images and texts, of random weights."""
    return siglip_like(tmp_path_factory.mktemp("words") / "siglip")


@pytest.fixture
def labels(image_paths: list[str]) -> list[str]:
    return [Path(path).parent.name for path in image_paths]


def make(model: Any, **options: Any) -> ImageClassifier:
    return ImageClassifier(model, **{"prior": "text", "class_names": NAMES, "n_views": 2, "device": "cpu", **options})


def test_without_images_it_is_the_zero_shot_classifier(tower: str, image_paths: list[str], labels: list[str]) -> None:
    model = make(tower).fit()
    features = FrozenFeatureExtractor(tower, output="projected", n_views=2, device="cpu").transform(image_paths)
    text = FrozenTextExtractor(tower, device="cpu")
    expected = ZeroShotClassifier(NAMES, text=text).fit().predict_proba(features)
    np.testing.assert_allclose(model.predict_proba(image_paths), expected, rtol=1e-6)
    assert model.classes_.tolist() == ["blue", "green", "red"]
    assert model.score(image_paths, labels) == np.mean(model.classes_[expected.argmax(1)] == labels)
    assert model.evaluate(image_paths, labels).n == 12
    assert np.isnan(model.out_of_fold_accuracy_)
    assert (model.kept_.tolist(), model.skipped_, model.n_copies_) == ([], [], 0)


def test_a_store_keeps_features_for_words_and_images_once(tower: str, image_paths: list[str], tmp_path: Path) -> None:
    make(tower, store=tmp_path / "store").fit().predict(image_paths)
    own = FrozenFeatureExtractor(tower, output="pooled", n_views=2, device="cpu", store=tmp_path / "store")
    found = own.extract(image_paths)
    assert (found.n_computed, found.n_from_store) == (0, 12)


def test_words_for_classes_are_put_into_templates(tower: str, image_paths: list[str]) -> None:
    plain = make(tower, templates="{}").fit()
    captions = make(tower, templates=["a photo of {}", "{}!"]).fit()
    assert not np.allclose(plain.predict_proba(image_paths), captions.predict_proba(image_paths))
    vectors = FrozenTextExtractor(tower, device="cpu").transform(["blue"])[0]
    np.testing.assert_allclose(plain.head_.text_features_[0], vectors / np.linalg.norm(vectors), rtol=1e-5)


@pytest.mark.parametrize("other", [False, True])
def test_a_classifier_by_words_is_saved_and_loaded(
    other: bool, tower: str, small_vit: str, image_paths: list[str], tmp_path: Path
) -> None:
    model = make(small_vit, text_model=tower).fit() if other else make(tower).fit()
    model.save(tmp_path / "m.frofa")
    loaded = ImageClassifier.load(tmp_path / "m.frofa")
    np.testing.assert_array_equal(loaded.predict_proba(image_paths), model.predict_proba(image_paths))
    assert loaded.class_names == NAMES
    for copied in (clone(model).fit(), pickle.loads(pickle.dumps(model))):  # noqa: S301 (written here)
        np.testing.assert_array_equal(copied.predict_proba(image_paths), model.predict_proba(image_paths))


def test_what_needs_images_says_so(tower: str, image_paths: list[str]) -> None:
    model = make(tower).fit()
    for ask in (model.predict_set, model.novelty_score, model.novelty_p_value):
        with pytest.raises(ValueError, match=r"this ImageClassifier was fitted to words, without any\.$"):
            ask(image_paths)
    with pytest.raises(ValueError, match="novelty_threshold compares new images with those of fit"):
        model.novelty_threshold(0.1)
    with pytest.raises(ValueError, match=r"reject=0\.1 compares new images"):
        model.set_params(reject=0.1).predict(image_paths)


def test_words_without_the_prior_are_told_to_do_nothing(
    small_vit: str, image_paths: list[str], labels: list[str]
) -> None:
    with pytest.warns(UnusedWordsWarning, match="^class_names and text_model have no effect") as warned:
        make(small_vit, prior=None, text_model="x", n_views=1).fit(image_paths, labels)
    assert [one.filename for one in warned] == [__file__]


def test_a_fit_without_images_needs_names_and_the_prior(tower: str, small_vit: str) -> None:
    for model in (make(tower, prior=None), make(tower, class_names=None)):
        with pytest.raises(ValueError, match=r"needs images to fit to.*prior='text' and\s+class_names"):
            model.fit()
    with pytest.raises(ValueError, match="Got X=None with prior='text', class_names and labels"):
        make(tower).fit(y=["blue", "red"])
    with pytest.raises(ValueError, match=r"text_model must name one\. Got None"):
        make(FunctionEncoder(lambda items: np.zeros((len(items), 3)), "zeros")).fit()
    with pytest.raises(ModelNotFoundError, match="has no text tower"):
        make(small_vit).fit()


@pytest.mark.parametrize("other", [False, True])
def test_with_images_it_is_the_few_shot_classifier_that_starts_from_words(
    other: bool, tower: str, small_vit: str, image_paths: list[str], labels: list[str], tmp_path: Path
) -> None:
    model = make(small_vit, text_model=tower) if other else make(tower)
    model.fit(image_paths, labels)
    settings: dict[str, Any] = {"n_views": 2, "device": "cpu"}
    blocks = FrozenFeatureExtractor(small_vit if other else tower, output="auto", **settings).transform(image_paths)
    if other:
        text = FrozenFeatureExtractor(tower, output="projected", **settings).transform(image_paths)
        blocks = FeatureBlocks({**{name: blocks.views(name) for name in blocks.names}, "text": text.views("projected")})
    words = FrozenTextExtractor(tower, device="cpu")
    head = FewShotClassifier(prior="text", class_names=NAMES, text=words, device="cpu").fit(blocks, labels)
    expected = head.predict_proba(blocks)
    np.testing.assert_allclose(model.predict_proba(image_paths), expected, rtol=1e-6)
    alone = make(model.model, prior=None, class_names=None).fit(image_paths, labels)
    assert not np.allclose(expected, alone.predict_proba(image_paths))
    assert model.evaluate(image_paths, labels).accuracy.mean == model.score(image_paths, labels)
    assert 0 <= model.out_of_fold_accuracy_ <= 1
    found, sets = model.predict_set(image_paths, 0.8)
    assert (found.tolist(), sets.shape) == (model.predict(image_paths).tolist(), (12, 3, 1))
    model.save(tmp_path / "m.frofa")
    loaded = ImageClassifier.load(tmp_path / "m.frofa")
    for again in (loaded, pickle.loads(pickle.dumps(model))):  # noqa: S301 (written here)
        np.testing.assert_array_equal(again.predict_proba(image_paths), model.predict_proba(image_paths))
        np.testing.assert_array_equal(again.predict_set(image_paths, 0.8)[1], sets)
    # Of the same classifier, a fit without images forgets these.
    with pytest.raises(ValueError, match="prediction sets rank"):
        model.fit().predict_set(image_paths)


def test_images_to_label_next_are_chosen_with_words(tower: str, image_paths: list[str], labels: list[str]) -> None:
    model = make(tower)
    chosen = frofa.suggest(model, image_paths, image_paths[::4], labels[::4], batch_size=2)
    assert len(set(chosen.tolist()) & set(range(12))) == 2
    assert set(frofa.label_issues(model, image_paths, labels).classes.tolist()) == set(NAMES)


def test_labels_without_words_are_refused_before_images_are_read(tower: str) -> None:
    with pytest.raises(ValueError, match="Got none for 'pink'"):
        make(tower).fit(["missing.png", "neither.png"], ["blue", "pink"])
    with pytest.raises(ValueError, match=r"one \{\} each"):
        make(tower, templates="a photo").fit(["missing.png", "neither.png"], ["blue", "red"])


def test_a_backbone_of_images_gets_the_block_of_another_beside_its_own(
    tower: str, small_vit: str, image_paths: list[str]
) -> None:
    settings: dict[str, Any] = {"n_views": 3, "device": "cpu", "mirror": False}
    own = FrozenFeatureExtractor(small_vit, output="auto", **settings)
    both = with_words(own, tower).fit()
    features = both.transform(image_paths)
    assert features.names == ("pooled", "mean", "text")
    words = FrozenFeatureExtractor(tower, output="projected", **settings).transform(image_paths)
    np.testing.assert_array_equal(features.block("text"), words.block("projected"))
    np.testing.assert_array_equal(features.block("mean"), own.transform(image_paths).block("mean"))
    assert both.get_feature_names_out()[[0, -1]].tolist() == ["pooled_0", f"text_{words.shape[1] - 1}"]
    np.testing.assert_allclose(
        clone(both).transform(image_paths[:2]).block("text"), features[:2].block("text"), atol=1e-6
    )
    # Settings of both are set together, and no other extractor's are.
    assert both.set_params(n_views=1).transform(image_paths[:2]).n_views == 1


def test_an_image_that_cannot_be_read_is_left_out_of_both(
    tower: str, small_vit: str, image_paths: list[str], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    paths = [image_paths[0], str(tmp_path / "broken.png"), image_paths[1]]
    both = with_words(FrozenFeatureExtractor(small_vit, output="auto", device="cpu", on_error="skip"), tower)
    with pytest.warns(SkippedImagesWarning):
        found = both.extract(paths, ["a", "b", "c"])
    assert (found.kept.tolist(), [one.position for one in found.skipped]) == ([0, 2], [1])
    assert isinstance(found.features, FeatureBlocks)
    assert len(found.features) == 2
    assert found.y is not None
    assert found.y.tolist() == ["a", "c"]
    with pytest.raises(ImageReadError):
        both.set_params(on_error="raise").extract(paths)


def test_the_backbone_itself_gives_the_vector_for_words(tower: str, small_vit: str) -> None:
    same = with_words(FrozenFeatureExtractor(tower, output="auto", device="cpu"), tower)
    assert same.output == "auto"  # SigLIP's pooled vector is compared with words
    assert with_words(same.set_params(output=["mean"]), tower).output == ["mean", "projected"]
    with pytest.raises(ValueError, match="projected"):
        with_words(FrozenFeatureExtractor(small_vit, output="auto", device="cpu"), small_vit)


def test_other_weights_than_those_of_the_fit_are_refused(tower: str, image_paths: list[str]) -> None:
    model = make(tower).fit()
    model.weights_digest_ = "0" * 40
    with pytest.raises(WeightsChangedError):
        model.predict(image_paths[:1])


def test_the_command_line_fits_to_words(
    tower: str, image_paths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> int:
        return main([str(argument) for argument in arguments])

    saved, names = tmp_path / "m.frofa", tmp_path / "names.json"
    names.write_text(json.dumps(NAMES))
    options = ("--model", tower, "--views", 2, "--device", "cpu", "--out", saved)
    assert run("fit", "--prior", "text", "--class-names", names, *options) == 0
    assert "no images, 3 classes: blue, green, red" in capsys.readouterr().out
    model = frofa.load(saved)
    expected = make(tower, on_error="skip").fit().predict_proba(image_paths)
    np.testing.assert_allclose(model.predict_proba(image_paths), expected, rtol=1e-6)
    assert run("predict", saved, Path(image_paths[0]).parent, "--out", tmp_path / "p.csv") == 0
    folders = Path(image_paths[0]).parents[1]
    assert run("fit", folders, "--prior", "text", "--class-names", names, *options) == 0
    assert "out-of-fold accuracy" in capsys.readouterr().out
    assert run("evaluate", saved, folders, "--device", "cpu") == 0
    text = "blue=blue,green=green|grass,red=a red thing"
    assert run("fit", "--prior", "text", "--class-names", text, "--templates", "{}", *options) == 0
    np.testing.assert_allclose(
        frofa.load(saved).predict_proba(image_paths), make(tower, templates="{}").fit().predict_proba(image_paths)
    )
    capsys.readouterr()
    for arguments, message in {
        ("predict", saved, image_paths[0], "--sets", 0.9): "fitted to words alone",
        ("predict", saved, image_paths[0], "--reject", 0.1): "fitted to words alone",
        ("fit", "--class-names", text, *options): "--class-names goes with --prior text",
        ("fit", "--prior", "text", *options): "fit needs a SOURCE",
        ("fit", "--prior", "text", "--class-names", "a=,b", *options): "Got 'a='",
        ("fit", "--prior", "text", "--class-names", "no.json", *options): "--class-names: there is no file no.json.",
        ("fit", image_paths[0], "--prior", "text", "--head", "ridge", *options): "not with --head",
    }.items():
        assert run(*arguments) == 1
        assert message in capsys.readouterr().err
