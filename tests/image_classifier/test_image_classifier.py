"""frofa.ImageClassifier: images to labels in one estimator, copies, unreadable images, scores, saving."""

import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import frofa
from frofa import FrozenFeatureExtractor, FunctionEncoder, ImageClassifier, load_images
from frofa.estimators import AbstentionClassifier, FewShotClassifier, PrototypeClassifier
from frofa.evaluation import calibration_error, proportion_interval
from frofa.exceptions import ImageReadError, SavedFileError, SkippedImagesWarning, WeightsChangedError

with pytest.warns(SkipTestWarning, match="Can't test estimator ImageClassifier which requires input"):
    # It takes images, not (n, features): scikit-learn leaves out what needs a table, and keeps the checks of the API.
    scikit_learn_contract = parametrize_with_checks([ImageClassifier()])


@scikit_learn_contract  # type: ignore[untyped-decorator]
def test_scikit_learn_contract(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture
def labels(image_paths: list[str]) -> list[str]:
    return [Path(path).parent.name for path in image_paths]


@pytest.fixture
def make(small_vit: str) -> Callable[..., ImageClassifier]:
    """A function that makes a classifier on a small backbone, of two views."""
    return lambda **options: ImageClassifier(small_vit, **{"device": "cpu", "n_views": 2, **options})


@pytest.fixture
def model(make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str]) -> ImageClassifier:
    return make().fit(image_paths, labels)


def test_it_is_the_extractor_and_the_few_shot_classifier(
    model: ImageClassifier, small_vit: str, image_paths: list[str], labels: list[str]
) -> None:
    blocks = FrozenFeatureExtractor(small_vit, output="auto", n_views=2, device="cpu").fit_transform(image_paths)
    head = FewShotClassifier(device="cpu").fit(blocks, labels)
    np.testing.assert_array_equal(model.predict_proba(image_paths), head.predict_proba(blocks))
    np.testing.assert_array_equal(model.decision_function(image_paths), head.decision_function(blocks))
    assert model.predict(image_paths).tolist() == head.predict(blocks).tolist()
    assert model.classes_.tolist() == ["blue", "green", "red"]
    assert model.score(image_paths, labels) == np.mean(model.predict(image_paths) == labels)


def test_it_rejects_images_of_no_class(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str], tmp_path: Path
) -> None:
    model = make(reject=0.2, reject_label="other").fit(image_paths, labels)
    p_values = model.novelty_p_value(image_paths)
    found = model.predict(image_paths)
    np.testing.assert_array_equal(
        found == "other", model.novelty_score(image_paths) > model.head_.novelty_threshold(0.2)
    )
    assert p_values.shape == (12,)
    model.save(tmp_path / "m.frofa")
    assert ImageClassifier.load(tmp_path / "m.frofa").predict(image_paths).tolist() == found.tolist()
    # A share may be set afterwards, by which no fit changes.
    plain = make().fit(image_paths, labels)
    kept = plain.set_params(reject=0.2, reject_label="other").predict(image_paths)
    assert kept.tolist() == found.tolist()
    assert plain.head_.reject is None
    assert plain.score(image_paths, labels) == (found == labels).mean()
    # Reports are of probabilities, and reject nothing.
    right = (plain.classes_[plain.predict_proba(image_paths).argmax(1)] == labels).mean()
    assert plain.evaluate(image_paths, labels).accuracy.mean == pytest.approx(right)


def test_without_priors_classes_are_equally_frequent(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str]
) -> None:
    none, uniform, empirical = (
        make(class_prior=prior).fit(image_paths[2:], labels[2:]).predict_proba(image_paths)
        for prior in (None, "uniform", "empirical")
    )
    np.testing.assert_array_equal(none, uniform)
    assert np.abs(none - empirical).max() > 1e-6


def test_a_label_of_rejected_images_that_is_a_class_is_refused_at_fit(
    make: Callable[..., ImageClassifier], image_paths: list[str]
) -> None:
    y = np.repeat([-1, 1], 6)
    with pytest.raises(ValueError, match=r"such as reject_label=-2. Got -1, which is one"):
        make(reject=0.2).fit(image_paths, y)
    assert set(make(reject=0.2, reject_label=-2).fit(image_paths, y).predict(image_paths)) <= {-2, -1, 1}


def test_costs_decide_on_images(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str]
) -> None:
    model = AbstentionClassifier(make(), cost_reject=0.3, unknown_share=0.2).fit(image_paths, labels)
    found, sets = model.predict_set(image_paths)
    assert (sets.shape, found.tolist()) == ((12, 3, 1), model.predict(image_paths).tolist())
    np.testing.assert_array_equal(model.novelty_p_value(image_paths), model.classifier_.novelty_p_value(image_paths))
    np.testing.assert_array_equal(sets.any((1, 2)), found != "none of these")


def test_out_of_fold_scores_have_an_interval(model: ImageClassifier, labels: list[str]) -> None:
    predicted = model.classes_[model.head_.out_of_fold_proba_.argmax(1)]
    n_hits = int((predicted == labels).sum())
    accuracy, *interval = proportion_interval(n_hits, 12)
    assert (model.out_of_fold_accuracy_, model.out_of_fold_interval_) == (accuracy, tuple(interval))
    own = model.head_.out_of_fold_proba_[np.arange(12), np.searchsorted(model.classes_, labels)]
    assert model.out_of_fold_log_loss_ == pytest.approx(-np.log(own).mean())


def test_one_image_a_class_has_no_out_of_fold_scores(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str]
) -> None:
    model = make().fit(image_paths[::4], labels[::4])
    assert np.isnan([model.out_of_fold_accuracy_, *model.out_of_fold_interval_, model.out_of_fold_log_loss_]).all()
    assert model.predict(image_paths[::4]).tolist() == labels[::4]


def test_images_of_any_kind_are_the_same(
    make: Callable[..., ImageClassifier], model: ImageClassifier, image_folder: Path, image_paths: list[str]
) -> None:
    found = load_images(image_folder)
    of_set = make().fit(found)
    assert of_set.classes_.tolist() == model.classes_.tolist()
    expected = of_set.predict_proba(found)
    column = pd.DataFrame({"path": found.items})["path"]
    np.testing.assert_array_equal(of_set.predict_proba(column), expected)
    pixels = [Image.open(path).convert("RGB") for path in image_paths]
    arrays = np.stack([np.asarray(image) for image in pixels])
    # Crops would differ, since they are drawn from what a file or an array holds; two views have none.
    np.testing.assert_allclose(model.predict_proba(pixels), model.predict_proba(arrays), atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(arrays), model.predict_proba(image_paths), atol=1e-5)


def test_predictions_may_take_fewer_views(
    make: Callable[..., ImageClassifier],
    model: ImageClassifier,
    small_vit: str,
    image_paths: list[str],
    labels: list[str],
) -> None:
    one = make(predict_views=1).fit(image_paths, labels)
    assert model.extract(image_paths).features.n_views == 2
    assert one.extract(image_paths).features.n_views == 1
    # The same heads, which see the images as they are: batches are those of an extractor of one view, bit for bit.
    plain = FrozenFeatureExtractor(small_vit, output="auto", device="cpu").fit_transform(image_paths)
    np.testing.assert_array_equal(one.predict_proba(image_paths), model.head_.predict_proba(plain))


def test_copies_are_one_image_of_their_weights(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str], tmp_path: Path
) -> None:
    copied = shutil.copy(image_paths[5], tmp_path / "again.png")
    model = make().fit([*image_paths, copied], [*labels, labels[5]])
    assert (model.n_copies_, model.kept_.tolist()) == (1, list(range(12)))
    assert model.head_.out_of_fold_proba_.shape == (12, 3)
    weighted = make().fit(image_paths, labels, sample_weight=[1 + (i == 5) for i in range(12)])
    np.testing.assert_array_equal(model.predict_proba(image_paths), weighted.predict_proba(image_paths))
    # The same with a store, which knows the digests already.
    stored = make(store=tmp_path / "store").fit([*image_paths, copied], [*labels, labels[5]])
    np.testing.assert_allclose(stored.predict_proba(image_paths), model.predict_proba(image_paths), atol=1e-9)


def test_images_of_several_labels_are_left_out(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str]
) -> None:
    with pytest.warns(SkippedImagesWarning, match="left out, as they have several labels: 1 image, such as one of"):
        model = make().fit([*image_paths, image_paths[0]], [*labels, "red"])
    assert model.kept_.tolist() == list(range(1, 12))
    with pytest.raises(ValueError, match="each image of these classes is also one of another: white"):
        make().fit([*image_paths, image_paths[0]], [*labels, "white"])


def test_unreadable_images_are_left_out_with_their_labels(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str]
) -> None:
    Path(image_paths[2]).write_text("no image")
    with pytest.raises(ImageReadError, match="position 2"):
        make().fit(image_paths, labels)
    model = make(on_error="skip")
    with pytest.warns(SkippedImagesWarning, match="skipped 1 of 12"):
        model.fit(image_paths, labels, sample_weight=np.arange(12) + 1.0)
    good = [i for i in range(12) if i != 2]
    assert model.kept_.tolist() == good
    assert [error.position for error in model.skipped_] == [2]
    rest = make().fit([image_paths[i] for i in good], [labels[i] for i in good], sample_weight=np.array(good) + 1.0)
    shown = [image_paths[i] for i in good]
    np.testing.assert_allclose(model.predict_proba(shown), rest.predict_proba(shown), atol=1e-6)
    with pytest.warns(SkippedImagesWarning):
        report = model.evaluate(image_paths, labels)
    assert (report.n, [error.position for error in report.skipped]) == (11, [2])
    with pytest.warns(SkippedImagesWarning):
        weighted = model.score(image_paths, labels, sample_weight=[0.0, 0, 5, *[0] * 8, 1])
    assert weighted == (model.predict(image_paths[11:])[0] == labels[11])
    with pytest.raises(ImageReadError, match="position 2"):
        model.predict(image_paths)  # rows would move up
    for path in image_paths[:4]:
        Path(path).write_text("no image")
    with pytest.raises(ValueError, match="no image could be read of: blue"), pytest.warns(SkippedImagesWarning):
        model.fit(image_paths, labels)


def test_evaluation(model: ImageClassifier, image_paths: list[str], labels: list[str]) -> None:
    report = model.evaluate(image_paths[:8], [*labels[:6], "white", "white"])
    probabilities, truth = model.predict_proba(image_paths[:6]), labels[:6]
    right = model.classes_[probabilities.argmax(1)] == truth
    assert report.accuracy == proportion_interval(int(right.sum()), 6)
    assert report.unknown_labels == {"white": 2}
    assert report.confusion_matrix.sum(1).tolist() == [4, 2, 0]
    assert report.class_accuracies["red"] is None
    assert report.class_accuracies["blue"] == proportion_interval(int(right[:4].sum()), 4)
    assert report.calibration_error == pytest.approx(calibration_error(truth, probabilities, model.classes_))
    own = probabilities[np.arange(6), [0, 0, 0, 0, 1, 1]]
    assert report.log_loss == pytest.approx(-np.log(own).mean())
    assert f"accuracy           {100 * right.mean():.1f} %" in str(report)
    assert report.to_dict()["n_images"] == 6
    with pytest.raises(ValueError, match=r"no image has a label that the model knows.* blue, green, red"):
        model.evaluate(image_paths, ["white"] * 12)


def test_searches_and_cross_validation(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str], tmp_path: Path
) -> None:
    grid = {"n_views": [1, 2], "predict_views": [None, 1]}
    search = GridSearchCV(make(store=tmp_path / "store"), grid, cv=2, error_score="raise").fit(image_paths, labels)
    assert search.best_estimator_.predict(image_paths).shape == (12,)
    expected = cross_val_score(make(**search.best_params_), image_paths, labels, cv=2).mean()
    assert search.best_score_ == pytest.approx(expected)


def test_clones_and_pickles_carry_no_weights(model: ImageClassifier, image_paths: list[str]) -> None:
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "head_")
    with pytest.raises(NotFittedError):
        copy.predict(image_paths)
    pickled = pickle.dumps(model)
    assert len(pickled) < 50_000
    again = pickle.loads(pickled)  # noqa: S301 (written one line above)
    np.testing.assert_array_equal(again.predict_proba(image_paths), model.predict_proba(image_paths))


def test_saved_files_give_the_same(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str], tmp_path: Path
) -> None:
    model = make(store=tmp_path / "store", class_weight={"blue": 2.0, "green": 1.0, "red": 1.0}).fit(
        image_paths, labels
    )
    model.save(tmp_path / "model.frofa")
    for loaded in (ImageClassifier.load(tmp_path / "model.frofa"), frofa.load(tmp_path / "model.frofa")):
        np.testing.assert_array_equal(loaded.predict_proba(image_paths), model.predict_proba(image_paths))
        assert loaded.get_params() == model.get_params()
        assert loaded.out_of_fold_interval_ == model.out_of_fold_interval_
        assert loaded.classes_.tolist() == model.classes_.tolist()
    make().save(tmp_path / "unfitted.frofa")
    assert not hasattr(ImageClassifier.load(tmp_path / "unfitted.frofa"), "head_")
    frofa.save(PrototypeClassifier().fit(np.eye(2), ["a", "b"]), tmp_path / "head.frofa")
    with pytest.raises(TypeError, match=r"expected a saved ImageClassifier.* PrototypeClassifier"):
        ImageClassifier.load(tmp_path / "head.frofa")


def test_other_weights_are_refused(model: ImageClassifier, image_paths: list[str]) -> None:
    with pytest.raises(WeightsChangedError):
        model.set_params(model="frofa/vit_tiny_tin200").predict(image_paths)


def test_custom_encoders_have_no_views(image_paths: list[str], labels: list[str], tmp_path: Path) -> None:
    def colours(images: Any) -> Any:
        return np.stack([np.asarray(image, np.float32).mean((0, 1)) / 255 for image in images])

    encoder = FunctionEncoder(colours, spec="mean colour")
    arrays = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in image_paths])
    model = ImageClassifier(encoder, n_views=1).fit(arrays, labels)
    assert clone(model).model is encoder
    assert model.score(arrays, labels) == np.mean(model.predict(arrays) == labels)
    model.save(tmp_path / "colours.frofa")
    with pytest.raises(SavedFileError, match="custom encoder, whose code is not saved"):
        ImageClassifier.load(tmp_path / "colours.frofa")
    loaded = ImageClassifier.load(tmp_path / "colours.frofa", encoder=encoder)
    np.testing.assert_array_equal(loaded.predict_proba(arrays), model.predict_proba(arrays))
    with pytest.raises(ValueError, match="Got n_views=6"):
        ImageClassifier(encoder).fit(arrays, labels)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_views": 0}, "'n_views' parameter .* Got 0"),
        ({"predict_views": 0}, "'predict_views' parameter .* Got 0"),
        ({"effort": "none"}, "'effort' parameter .* Got 'none'"),
        ({"on_error": "ignore"}, "'on_error' parameter .* Got 'ignore'"),
        ({"class_weight": "heavy"}, "'class_weight' parameter .* Got 'heavy'"),
        ({"background": "no colour"}, "no colour"),
        ({"view_area": (0.0, 2.0)}, r"Got \(0.0, 2.0\)"),
    ],
)
def test_invalid_parameters_are_named(
    parameters: dict[str, Any],
    message: str,
    make: Callable[..., ImageClassifier],
    image_paths: list[str],
    labels: list[str],
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**parameters).fit(image_paths, labels)


def test_labels_are_needed(make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str]) -> None:
    with pytest.raises(ValueError, match="ImageClassifier requires y to be passed, but the target y is None"):
        make().fit(image_paths)
    with pytest.raises(ValueError, match="Got 12 images, and labels of shape"):
        make().fit(image_paths, labels[:3])
    with pytest.raises(ValueError, match="at least 2 classes"):
        make().fit(image_paths[:4], labels[:4])
    gaps = load_images(image_paths, labels=[*labels[:11], None])
    with pytest.raises(ValueError, match=r"expected a label for each image.* 1 image without"):
        make(unlabeled=None).fit(gaps)


def test_high_effort_reads_tokens_where_they_count(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = partial(FewShotClassifier, n_steps=30)
    monkeypatch.setattr("frofa.image_classifier.classifier.FewShotClassifier", short)
    model = make(effort="high", random_state=0).fit(image_paths, labels)
    assert model.head_.init.model == model.model  # heads start from the backbone's last block
    assert make().fit(image_paths, labels).head_.init == "random"
    names = model.extract(image_paths).features.names
    assert set(names) - {"tokens"} == set(make().fit(image_paths, labels).extract(image_paths).features.names)
    assert model.predict_proba(image_paths).shape == (12, 3)
    again = make(effort="high", random_state=0).fit(image_paths, labels)
    np.testing.assert_array_equal(again.predict_proba(image_paths), model.predict_proba(image_paths))


def test_images_of_unknown_labels_are_counted(
    model: ImageClassifier, image_paths: list[str], labels: list[str]
) -> None:
    strange = ["violet" if label == "blue" else label for label in labels]
    report, n = model.evaluate(image_paths, strange), labels.count("blue")
    assert report.unknown_labels == {"violet": n}
    assert f"left out           {n} images of labels that the model does not know (violet)" in str(report)
    assert model.score(image_paths, strange) == pytest.approx(report.accuracy.mean * report.n / len(labels))


def test_labels_that_are_none_are_refused(make: Callable[..., ImageClassifier], image_paths: list[str]) -> None:
    numbers = np.arange(len(image_paths)) % 2.0
    with pytest.raises(ValueError, match="Input y contains NaN"):
        make(unlabeled=None).fit(image_paths, np.where(numbers == 0, np.nan, numbers))
    with pytest.raises(ValueError, match=r"at least 2 classes. Got one class only: 1\.$"):
        make().fit(image_paths, np.where(numbers == 0, np.nan, numbers))
    with pytest.raises(ValueError, match=r"at least 2 classes. Got one class only: 1.0"):
        make().fit(image_paths, np.ones(len(image_paths)))
    with pytest.raises(ValueError, match=r"at least 2 classes. Got none with a label"):
        make().fit(image_paths, [None] * len(image_paths))


def test_images_without_labels_are_a_background(
    make: Callable[..., ImageClassifier], image_paths: list[str], labels: list[str], tmp_path: Path
) -> None:
    # Every third image has no label, and two of these are copies: of a labelled one, and of one another.
    shutil.copy(image_paths[1], tmp_path / "copy.png")
    shutil.copy(image_paths[0], tmp_path / "twin.png")
    paths = [*image_paths, str(tmp_path / "copy.png"), str(tmp_path / "twin.png")]
    y = [None if i % 3 == 0 else label for i, label in enumerate(labels)] + [None, None]
    model = make().fit(paths, y)
    assert model.kept_.tolist() == list(range(len(image_paths)))
    assert model.n_copies_ == 2
    blocks = FrozenFeatureExtractor(model.model, output="auto", n_views=2, device="cpu").fit_transform(image_paths)
    head = FewShotClassifier(device="cpu").fit(blocks, y[:-2])
    np.testing.assert_array_equal(model.predict_proba(image_paths), head.predict_proba(blocks))
    np.testing.assert_array_equal(model.head_.out_of_fold_proba_, head.out_of_fold_proba_)
    known = np.array([label is not None for label in y[:-2]])
    np.testing.assert_array_equal(np.isfinite(model.head_.out_of_fold_proba_).all(1), known)
    guesses = model.classes_[model.head_.out_of_fold_proba_[known].argmax(1)]
    assert model.out_of_fold_accuracy_ == np.mean(guesses == np.array(labels)[known])
    # A set with gaps, and labels that stand for none, are the same.
    for again in (
        make().fit(load_images(paths, labels=y)),
        make(unlabeled="?").fit(paths, [each or "?" for each in y]),
    ):
        np.testing.assert_array_equal(again.predict_proba(image_paths), model.predict_proba(image_paths))
    model.save(tmp_path / "model.frofa")
    loaded = ImageClassifier.load(tmp_path / "model.frofa")
    np.testing.assert_array_equal(loaded.predict_proba(image_paths), model.predict_proba(image_paths))
    with pytest.raises(ValueError, match=r"expected a label for each image\. Got 6 images without one"):
        model.score(load_images(paths, labels=y))
