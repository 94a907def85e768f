"""frofa.report: what it says of any classifier agrees with the classifier, and nothing is passed over in silence."""

import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reporting_helpers import CLASSES, ENCODER, Features, Photos, write_photos
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import frofa
from frofa import FeatureBlocks, FrozenFeatureExtractor, ImageClassifier, load_images
from frofa.estimators import (
    ConformalClassifier,
    FewShotClassifier,
    MAPClassifier,
    MultiLabelProbeClassifier,
    ShrinkageProbeClassifier,
)
from frofa.reporting import Facts, Report
from frofa.reporting.facts import learning, scores
from frofa.reporting.facts.contents import SECTIONS


@pytest.fixture(autouse=True)
def few_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning curves are tested elsewhere: here they are to be there, in little time."""
    monkeypatch.setattr(learning, "N_ORDERS", 1)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    root = tmp_path_factory.mktemp("photos")
    return Photos(write_photos(root / "train", 12, seed=0), write_photos(root / "test", 8, seed=1))


@pytest.fixture(scope="session")
def classifier(photos: Photos) -> ImageClassifier:
    """Of an encoder that takes no time: what reports say of backbones, one test says."""
    return ImageClassifier(ENCODER, n_views=1, random_state=0).fit(load_images(photos.train))


@pytest.fixture
def features() -> Features:
    rng = np.random.default_rng(0)
    codes, codes_test = np.repeat([0, 1, 2], 20), np.repeat([0, 1, 2], 15)
    centres, names = 1.2 * rng.normal(size=(3, 16)), np.array(CLASSES)
    X, X_test = (centres[c] + rng.normal(size=(len(c), 16)) for c in (codes, codes_test))
    return Features(X, names[codes], X_test, names[codes_test])


def facts_of(*args: Any, **options: Any) -> Facts:
    return frofa.report(*args, **options).facts


def test_it_says_what_an_image_classifier_says(classifier: ImageClassifier, photos: Photos) -> None:
    images = load_images(photos.test)
    facts = facts_of(classifier, images)
    assert facts.labels == list(CLASSES)
    assert facts.names == images.names
    assert facts.pictures == images.items
    np.testing.assert_array_equal(classifier.classes_[facts.truth], images.labels)
    np.testing.assert_array_equal(classifier.classes_[facts.predicted], classifier.predict(images))
    np.testing.assert_allclose(facts.probabilities, classifier.predict_proba(images))
    np.testing.assert_array_equal(facts.sets, classifier.predict_set(images, 0.9)[1][:, :, 0])
    assert facts.novelty is not None
    np.testing.assert_allclose(facts.novelty, classifier.novelty_p_value(images))
    assert facts.evaluation.to_dict() == classifier.evaluate(images).to_dict()
    assert facts.rejection is not None
    assert facts.rejection.by_confidence.accuracy[-1] == facts.evaluation.accuracy.mean
    assert facts.coordinates is not None
    assert facts.coordinates.shape == (24, 2)
    assert facts.needed is not None
    assert facts.needed.n_labelled == 36
    assert facts.identity["backbone"].startswith("FunctionEncoder(spectra")
    assert set(facts.notes) <= set(SECTIONS)
    assert "36 training images" in facts.notes["learning"]


def test_sets_and_curves_are_of_the_level_and_the_target(classifier: ImageClassifier, photos: Photos) -> None:
    facts = facts_of(classifier, photos.test, confidence_level=0.8, target=0.55)
    np.testing.assert_array_equal(facts.sets, classifier.predict_set(load_images(photos.test), 0.8)[1][:, :, 0])
    assert facts.needed is not None
    assert (facts.needed.target, facts.needed.confidence_level) == (0.55, 0.8)
    assert facts.level == 0.8


def test_a_level_without_enough_images_has_a_reason(classifier: ImageClassifier, photos: Photos) -> None:
    facts = facts_of(classifier, photos.test, confidence_level=0.99)
    assert facts.sets is None
    assert "99" in facts.notes["unsure"]


def test_a_classifier_that_rejects_is_judged_by_its_most_probable_class(
    classifier: ImageClassifier, photos: Photos
) -> None:
    rejecting = clone(classifier).set_params(reject=0.5).fit(load_images(photos.train))
    facts = facts_of(rejecting, photos.test)
    np.testing.assert_allclose(facts.probabilities, facts_of(classifier, photos.test).probabilities)
    assert facts.evaluation.n == 24


def test_images_that_are_left_out_are_counted_and_named(
    classifier: ImageClassifier, photos: Photos, tmp_path: Path
) -> None:
    root = shutil.copytree(photos.test, tmp_path / "test")
    shutil.copytree(photos.test / "oak", root / "birch")
    (root / "moss" / "99.png").write_bytes(b"no image")
    images = load_images(root)
    assert images.labels is not None
    gaps = images.labels.copy()
    gaps[[0, 9]] = ""
    facts = facts_of(classifier, replace(images, labels=gaps))
    assert facts.n_unlabelled == 2
    assert facts.evaluation.unknown_labels == {"birch": 7}
    [(name, reason)] = facts.skipped
    assert name == str(root / "moss" / "99.png")
    assert "image" in reason
    assert len(facts.names) == facts.evaluation.n == 8 * 4 + 1 - 1 - 8 - 1
    assert str(root / "moss" / "99.png") not in facts.names
    labels = dict(zip(images.names, images.labels.tolist(), strict=True))
    assert [labels[one] for one in facts.names] == [facts.labels[code] for code in facts.truth]
    assert facts.evaluation.skipped[0].position == images.names.index(name)


def test_copies_of_training_images_are_leaks(classifier: ImageClassifier, photos: Photos, tmp_path: Path) -> None:
    root = shutil.copytree(photos.test, tmp_path / "test")
    shutil.copy(photos.train / "fern" / "03.png", root / "fern" / "exact.png")
    darker = np.asarray(Image.open(photos.train / "oak" / "05.png")) // 16 * 15
    Image.fromarray(darker.astype(np.uint8)).save(root / "moss" / "darker.png")
    for train in (None, photos.train):
        facts = facts_of(classifier, root, train=train)
        found = {copy.name: (leak, copy) for leak in facts.leaks for copy in leak.copies}
        exact, copy = found[str(root / "fern" / "exact.png")]
        assert exact.is_leak
        assert copy.where == "test"
        assert facts.names[copy.index] == copy.name
        near, _ = found[str(root / "moss" / "darker.png")]
        assert near.is_leak
        assert not near.exact
        assert near.labels == ["oak", "moss"]
        original = near.copies[0]
        assert original.where == "training"
        if train is None:
            assert (original.name, original.index, original.picture) == ("training image 30", 29, None)
        else:
            assert original.name == original.picture == str(photos.train / "oak" / "05.png")
            assert exact.exact
    assert facts.leaks[0].is_leak


def test_wrong_labels_are_found_among_both(classifier: ImageClassifier, photos: Photos, tmp_path: Path) -> None:
    roots = [shutil.copytree(getattr(photos, part), tmp_path / part) for part in ("train", "test")]
    for root in roots:
        (root / "fern" / "00.png").rename(root / "oak" / "wrong.png")
    fitted = clone(classifier).fit(load_images(roots[0]))
    facts = facts_of(fitted, roots[1], train=roots[0])
    worst = {(one.where, one.name, one.given, one.suggested) for one in facts.wrong[:3]}
    assert ("training", str(roots[0] / "oak" / "wrong.png"), "oak", "fern") in worst
    assert ("test", str(roots[1] / "oak" / "wrong.png"), "oak", "fern") in worst
    probabilities = [one.probability for one in facts.wrong]
    assert probabilities == sorted(probabilities, reverse=True)
    assert min(probabilities) > 0.5
    assert "labels" not in facts.notes


def test_a_wrong_label_is_not_confirmed_by_its_copies(features: Features) -> None:
    X = np.concatenate([features.X, features.X[[0, 0, 0]]])
    y = np.concatenate([features.y, ["oak"] * 3])
    head = ShrinkageProbeClassifier().fit(features.X_test, features.y_test)
    facts = facts_of(head, X, y)
    assert any(one.given == "oak" and one.suggested == "fern" for one in facts.wrong)


@pytest.mark.parametrize(
    "head",
    [
        LogisticRegression(),
        KNeighborsClassifier(),
        ShrinkageProbeClassifier(),
        ShrinkageProbeClassifier(keep_support=False),
        FewShotClassifier(),
        make_pipeline(StandardScaler(), FewShotClassifier()),
        ConformalClassifier(LogisticRegression()),
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3),
    ],
    ids=lambda head: type(head).__name__,
)
def test_classifiers_of_features(head: Any, features: Features) -> None:
    head.fit(features.X, features.y)
    facts = facts_of(head, features.X_test, features.y_test, train=(features.X, features.y))
    np.testing.assert_allclose(facts.probabilities, head.predict_proba(features.X_test))
    assert facts.names[0] == "image 1"
    assert facts.pictures is None
    assert facts.needed is not None
    assert facts.needed.n_labelled == 60
    assert facts.coordinates is not None
    assert facts.evaluation.accuracy.mean == np.mean(head.predict(features.X_test) == features.y_test)
    has_sets = isinstance(head, (ConformalClassifier, ShrinkageProbeClassifier, FewShotClassifier))
    if has_sets or "Pipeline" in type(head).__name__:
        assert facts.sets is not None
        assert facts.sets[np.arange(45), facts.truth].mean() > 0.75
    else:
        assert "ConformalClassifier" in facts.notes["unsure"]


def test_sets_of_a_conformal_classifier_are_its_own(features: Features) -> None:
    head = ConformalClassifier(LogisticRegression(), score="aps").fit(features.X, features.y)
    facts = facts_of(head, features.X_test, features.y_test)
    np.testing.assert_array_equal(facts.sets, head.predict_set(features.X_test, 0.9)[1][:, :, 0])


def test_features_have_the_images_behind_them(features: Features, photos: Photos) -> None:
    items = load_images(photos.test).items[:2]
    pictures = [*items, *(Image.new("RGB", (8, 8)) for _ in features.y_test[2:])]
    head = LogisticRegression().fit(features.X, features.y)
    train = (features.X, features.y)
    facts = facts_of(
        head, features.X_test, features.y_test, images=pictures, train=train, train_images=pictures[:1] * 60
    )
    assert facts.names[:3] == [*items, "image 3"]
    assert facts.pictures == pictures
    with pytest.raises(ValueError, match="Got 2 images and 45 rows"):
        frofa.report(head, features.X_test, features.y_test, images=items)


def test_without_training_images_it_says_what_it_could_not_look_at(features: Features) -> None:
    head = LogisticRegression().fit(features.X, features.y)
    facts = facts_of(head, features.X_test, features.y_test)
    assert facts.needed is None
    assert "not given" in facts.notes["learning"]
    assert "no training images" in facts.notes["labels"]
    assert "Novelty is not known" in facts.notes["rejection"]


def test_pipelines_of_an_extractor(photos: Photos) -> None:
    model = make_pipeline(FrozenFeatureExtractor(ENCODER), StandardScaler(), LogisticRegression())
    train, test = load_images(photos.train), load_images(photos.test)
    model.fit(*train)
    facts = facts_of(model, test, train=train)
    np.testing.assert_allclose(facts.probabilities, model.predict_proba(test.items), atol=1e-6)
    assert facts.needed is not None
    assert facts.identity["backbone"].startswith("FunctionEncoder")


def test_token_heads_have_a_curve_of_a_probe() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat(["cat", "dog"], 12)
    tokens = rng.normal(size=(24, 9, 64)).astype(np.float32) + np.repeat([0, 1], 12)[:, None, None]
    head = MAPClassifier(n_steps=10, random_state=0).fit(tokens, y)
    facts = facts_of(head, tokens[::2], y[::2], train=(tokens, y))
    assert facts.needed is not None
    assert "linear probe" in facts.notes["learning"]
    assert sum(leak.is_leak and leak.exact for leak in facts.leaks) == 12


def test_views_of_training_images_may_be_more_than_of_others(photos: Photos) -> None:
    """The one test with a backbone of images: others take an encoder that costs nothing."""
    model = ImageClassifier(n_views=3, predict_views=1).fit(load_images(photos.train))
    facts = facts_of(model, photos.test, train=photos.train)
    assert "labels" not in facts.notes
    assert facts.identity["backbone"] == "frofa/vit_tiny_tin200"
    assert len(facts.identity["digest of its weights"]) == 40


def test_labels_may_be_numbers(features: Features) -> None:
    codes = {name: 7 * i for i, name in enumerate(CLASSES)}
    y, y_test = (np.array([codes[name] for name in part]) for part in (features.y, features.y_test))
    head = ShrinkageProbeClassifier().fit(features.X, y)
    facts = facts_of(head, features.X_test, [*y_test[:-1].tolist(), 99])
    assert facts.labels == ["0", "7", "14"]
    assert facts.evaluation.unknown_labels == {"99": 1}
    assert len(facts.truth) == 44


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("model.frofa", TypeError, "expected a fitted classifier"),
        (Ridge(), TypeError, "expected a fitted classifier"),
        (LogisticRegression(), NotFittedError, "not fitted"),
        (LinearSVC(random_state=0).fit(np.eye(3), CLASSES), ValueError, "predict_proba"),
        (LogisticRegression().fit(np.eye(16)[:2], ["elm", "ash"]), ValueError, "Got fern, moss, oak"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_report_can_be_of_is_refused(model: Any, error: type, message: str, features: Features) -> None:
    with pytest.raises(error, match=message):
        frofa.report(model, features.X_test, features.y_test)


def test_several_labels_an_image_are_refused(features: Features) -> None:
    Y = np.eye(3, dtype=int)[np.unique(features.y, return_inverse=True)[1]]
    for model in (MultiLabelProbeClassifier(), MultiOutputClassifier(LogisticRegression())):
        model.fit(features.X, Y)
        with pytest.raises((ValueError, TypeError), match=r"one label|expected a fitted"):
            frofa.report(model, features.X_test, Y[:45])


@pytest.mark.parametrize("options", [{"confidence_level": 1}, {"embedding": "tsne"}, {"max_bytes": 10}, {"title": 3}])
def test_parameters_are_checked(options: dict[str, Any], features: Features) -> None:
    head = LogisticRegression().fit(features.X, features.y)
    with pytest.raises(ValueError, match=f"The '{next(iter(options))}' parameter of report"):
        frofa.report(head, features.X_test, features.y_test, **options)


def test_training_images_are_checked(features: Features, photos: Photos) -> None:
    head = LogisticRegression().fit(features.X, features.y)
    for train, message in (([1, 2, 3], "Got list of 3"), (load_images(photos.train), "Got an ImageSet")):
        with pytest.raises(TypeError, match=message):
            frofa.report(head, features.X_test, features.y_test, train=train)


def test_a_section_that_fails_costs_the_others_nothing(features: Features) -> None:
    class Moody(LogisticRegression):
        def novelty_p_value(self, X: Any) -> Any:  # noqa: ARG002 (the heads' signature)
            raise RuntimeError("not today")

    head = Moody().fit(features.X, features.y)
    with pytest.warns(RuntimeWarning, match="no rejection: not today"):
        facts = facts_of(head, features.X_test, features.y_test)
    assert facts.novelty is None
    assert "not today" in facts.notes["rejection"]
    assert facts.rejection is not None


def test_the_same_inputs_make_the_same_page_and_none_is_changed(classifier: ImageClassifier, photos: Photos) -> None:
    before = vars(classifier).copy()
    pages = [frofa.report(classifier, photos.test, train=photos.train).html() for _ in range(2)]
    made_on = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC")
    assert made_on.sub("", pages[0]) == made_on.sub("", pages[1])
    assert vars(classifier) == before


def test_a_report_is_saved_shown_and_told(classifier: ImageClassifier, photos: Photos, tmp_path: Path) -> None:
    found = frofa.report(classifier, photos.test, out=tmp_path / "report.html", title="Trees & <mosses>")
    assert isinstance(found, Report)
    assert (tmp_path / "report.html").read_text("utf-8") == found.html()
    frame = found._repr_html_()
    assert frame.startswith('<iframe title="Trees &amp; &lt;mosses&gt;" srcdoc="&lt;!DOCTYPE')
    assert 'sandbox="allow-scripts"' in frame
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["title"] == "Trees & <mosses>"
    assert told["evaluation"]["n_images"] == len(told["truth"]) == 24
    assert told["needed"]["n_labelled"] == 36
    assert "pictures" not in told
    assert "accuracy" in repr(found)


def test_images_in_memory_and_blocks(classifier: ImageClassifier, photos: Photos) -> None:
    items, labels = load_images(photos.test)
    arrays = [np.asarray(Image.open(item)) for item in items]
    facts = facts_of(classifier, arrays, labels)
    assert facts.names[:2] == ["image 1", "image 2"]
    np.testing.assert_allclose(facts.probabilities, facts_of(classifier, photos.test).probabilities, atol=1e-5)


def test_blocks_of_features(features: Features) -> None:
    train, test = (FeatureBlocks({"a": [X, X + 0.1]}) for X in (features.X, features.X_test))
    head = FewShotClassifier().fit(train, features.y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facts = facts_of(head, test, features.y_test, train=(train, features.y))
    np.testing.assert_allclose(facts.probabilities, head.predict_proba(test))
    assert facts.needed is not None


def test_training_images_that_cannot_be_read_are_told(
    classifier: ImageClassifier, photos: Photos, tmp_path: Path
) -> None:
    root = shutil.copytree(photos.train, tmp_path / "train")
    (root / "oak" / "04.png").write_bytes(b"no image")
    facts = facts_of(classifier, photos.test, train=root)
    assert facts.notes["skipped"] == f"1 training image could not be read, such as {root / 'oak' / '04.png'}."
    assert facts.needed is not None
    assert facts.needed.n_labelled == 35
    with pytest.raises(ValueError, match="of the training images: no image has a label that the classifier knows"):
        frofa.report(classifier, photos.test, train=(load_images(photos.train).items, ["elm"] * 36))


def test_two_classes_and_a_target_out_of_reach(features: Features) -> None:
    y, y_test = features.y == "oak", features.y_test == "oak"
    head = ShrinkageProbeClassifier().fit(features.X, y)
    found = frofa.report(head, features.X_test, y_test, train=(features.X, y), target=0.9999)
    assert found.facts.labels == ["False", "True"]
    assert found.facts.probabilities.shape == (45, 2)
    assert "learning" in found.html()


def test_text_is_classified_too() -> None:
    texts = [f"{label} {i}" for label in CLASSES for i in range(6)]
    y = np.repeat(CLASSES, 6)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, y)
    facts = facts_of(model, texts, y, train=(texts, y))
    assert facts.needed is not None
    assert facts.coordinates is None
    assert {"map", "labels"} <= facts.notes.keys()


def test_one_image_is_enough(features: Features) -> None:
    head = ShrinkageProbeClassifier().fit(features.X, features.y)
    found = frofa.report(head, features.X_test[:1], features.y_test[:1])
    assert found.facts.evaluation.n == 1
    assert "3 images" in found.facts.notes["map"]
    assert len(found.html()) > 10_000


def test_many_images_have_sets_of_out_of_fold_probabilities(
    classifier: ImageClassifier, photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = facts_of(classifier, photos.test).sets
    monkeypatch.setattr(scores, "MOST_SCORES", 24 * 3 * 36 - 1)
    facts = facts_of(classifier, photos.test)
    assert "out-of-fold" in facts.notes["unsure"]
    assert facts.sets is not None
    assert exact is not None
    assert (facts.sets == exact).mean() > 0.9
    np.testing.assert_array_equal(classifier.predict_set(load_images(photos.test))[1][:, :, 0], exact)
