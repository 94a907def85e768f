"""Classification by words alone, and what images add to it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import frofa
from frofa.blocks import FeatureBlocks
from frofa.estimators import AbstentionClassifier, ConformalClassifier, ZeroShotClassifier
from frofa.estimators.text.embeddings import ClassTexts

NAMES = {"ox": "ox", "sea_slug": ["sea slug", "nudibranch"], "cat": "cat"}
WIDTH = 12


class Hashed:
    """Gives each text a direction of its own."""

    logit_scale, logit_bias, templates = 20.0, -5.0, ("a {}", "{}")

    def transform(self, texts: list[str]) -> Any:
        return np.stack([3 * np.random.default_rng(list(text.encode())).normal(size=WIDTH) for text in texts])


class AnyWidth(ZeroShotClassifier):
    """Has ready words for features of any width, as scikit-learn's checks choose it."""

    def _kept_texts(self) -> None:
        return None

    def _texts(self) -> ClassTexts:
        width = getattr(self, "n_features_in_", 2)
        rows = np.random.default_rng(0).normal(size=(len(self.classes_), width))
        return ClassTexts(rows / np.linalg.norm(rows, axis=1, keepdims=True), 10.0)


def expected_failures(estimator: Any) -> dict[str, str]:
    failures = {"check_classifiers_train": "words are not fitted to samples, and know nothing of blobs"}
    if estimator.calibrate:
        name = "check_sample_weight_equivalence_on_dense_data"
        failures[name] = (
            "only proportions of weights matter: two images hold a temperature by more than one of weight 2"
        )
    return failures


HEADS = [AnyWidth(), AnyWidth(calibrate="vector"), AnyWidth(calibrate=False, class_prior="empirical")]


@parametrize_with_checks(HEADS, expected_failed_checks=expected_failures, xfail_strict=True)  # type: ignore[untyped-decorator]
def test_scikit_learns_contract(estimator: Any, check: Any) -> None:
    check(estimator)


def images(head: ZeroShotClassifier, shots: int = 6, noise: float = 0.4) -> tuple[Any, Any]:
    """Draw features (n, D) about the words of a fitted classifier, and labels."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(len(head.classes_)), shots)
    X = head.text_features_[codes] + noise * rng.normal(size=(len(codes), WIDTH))
    return 7 * X, head.classes_[codes]


def zero_shot(**parameters: Any) -> ZeroShotClassifier:
    return ZeroShotClassifier(NAMES, text=Hashed(), **parameters)


def test_names_alone_make_a_classifier() -> None:
    head = zero_shot().fit()
    assert head.classes_.tolist() == ["cat", "ox", "sea_slug"]
    X, y = images(head)
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    scores = 20 * rows @ head.text_features_.T - 5
    np.testing.assert_allclose(head.decision_function(X), scores, rtol=1e-12)
    np.testing.assert_allclose(head.predict_proba(X), softmax(scores, axis=1), rtol=1e-12)
    assert (head.predict(X) == head.classes_[scores.argmax(1)]).all()
    assert head.score(X, y) > 0.8
    texts = [text.replace("{}", word) for word in NAMES["sea_slug"] for text in Hashed.templates]
    vectors = Hashed().transform(texts)
    mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(0)
    np.testing.assert_allclose(head.text_features_[2], mean / np.linalg.norm(mean), rtol=1e-12)


def test_two_classes_have_one_decision() -> None:
    head = ZeroShotClassifier(text={0: [1.0, 0.0], 1: [0.0, 1.0]}).fit()
    np.testing.assert_allclose(head.decision_function([[3.0, 4.0]]), [100 * 0.2])
    assert head.predict([[3.0, 4.0]]).tolist() == [1]


def test_images_fit_the_temperature_and_no_prediction() -> None:
    plain = zero_shot().fit()
    X, y = images(plain, shots=40, noise=0.8)
    head = zero_shot(calibrate="temperature").fit(X, y)
    np.testing.assert_array_equal(head.decision_function(X), plain.decision_function(X))
    scores, codes = plain.decision_function(X), np.searchsorted(plain.classes_, y)
    losses = {t: -log_softmax(scores / t, axis=1)[np.arange(len(y)), codes].mean() for t in np.geomspace(0.1, 10, 201)}
    best = min(losses, key=lambda t: losses[t])
    assert head.temperature_ == pytest.approx(best, rel=0.05) != 1
    np.testing.assert_allclose(head.loo_proba_, head.predict_proba(X))
    assert zero_shot(calibrate=False).fit(X, y).temperature_ == 1
    # What images told is forgotten.
    assert not {"loo_proba_", "novelty_"} & vars(head.fit()).keys()
    assert head.temperature_ == 1


def test_scales_of_any_size_give_the_same_order_of_temperatures() -> None:
    head = zero_shot().fit()
    X, y = images(head, shots=1)
    units = {}
    for factor in (0.1, 1.0, 10.0):
        text = ClassTexts(head.text_features_, 20 * factor, 0.0)
        units[factor] = ZeroShotClassifier(text=text, class_names=sorted(NAMES)).fit(X, y).temperature_ / factor
    assert units[0.1] > units[1.0] > units[10.0] > units[0.1] / 12  # held by a scale that is wrong by a hundred
    same = ZeroShotClassifier(text=ClassTexts(np.ones((3, WIDTH)), 20.0, 0.0)).fit(X, y)
    assert same.temperature_ == 1
    np.testing.assert_allclose(same.predict_proba(X), 1 / 3)


def test_very_many_images_are_counted_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = images(zero_shot().fit(), shots=40, noise=0.8)
    whole = zero_shot(calibrate="temperature").fit(X, y).temperature_
    monkeypatch.setattr("frofa.estimators.text.temperature.RATED", 240)  # every other image of three classes
    part = zero_shot(calibrate="temperature").fit(X, y).temperature_
    assert part == zero_shot(calibrate="temperature").fit(X[::2], y[::2]).temperature_ != whole


def test_images_of_one_class_are_enough() -> None:
    plain = zero_shot().fit()
    X, y = images(plain)
    head = zero_shot().fit(X[y == "ox"], y[y == "ox"])
    assert head.classes_.tolist() == plain.classes_.tolist()
    assert (head.predict(X) == plain.predict(X)).all()
    assert head.temperature_ > 0
    one = zero_shot().fit(X[:1], y[:1])
    assert np.isfinite(one.predict_proba(X)).all()


def test_images_without_weight_count_nothing() -> None:
    X, y = images(zero_shot().fit(), noise=1.0)
    weights = np.arange(len(y)) % 3.0
    head = zero_shot().fit(X, y, weights)
    assert head.temperature_ != zero_shot().fit(X, y).temperature_
    changed = np.where(weights == 0, "ox", y)
    assert zero_shot().fit(X, changed, weights).temperature_ == head.temperature_
    assert np.isnan(head.loo_proba_[weights == 0]).all()


def test_class_priors_move_probabilities() -> None:
    head, prior = zero_shot().fit(), {"cat": 0.7, "ox": 0.3, "sea_slug": 0.0}
    X, y = images(head)
    moved = zero_shot(class_prior=prior).fit()
    expected = head.predict_proba(X) * [0.7, 0.3, 0.0]
    np.testing.assert_allclose(moved.predict_proba(X), expected / expected.sum(1, keepdims=True), atol=1e-12)
    few = np.r_[0:6, 6:9]  # cats, and half as many oxen
    empirical = zero_shot(class_prior="empirical", calibrate=False).fit(X[few], y[few])
    expected = head.predict_proba(X) * [6, 3, 0]
    np.testing.assert_allclose(empirical.predict_proba(X), expected / expected.sum(1, keepdims=True), atol=1e-12)
    with pytest.raises(ValueError, match=r"'empirical' needs images"):
        zero_shot(class_prior="empirical").fit()


def test_views_and_blocks_are_averaged_in_the_space_of_words() -> None:
    head = zero_shot().fit()
    X, y = images(head)
    views = [X, 100 * X[:, ::-1]]
    blocks = FeatureBlocks({"mean": [np.ones((len(X), 5))] * 2, "pooled": views})
    rows = sum(view / np.linalg.norm(view, axis=1, keepdims=True) for view in views)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(head.decision_function(blocks), 20 * rows @ head.text_features_.T - 5)
    fitted = zero_shot(calibrate="temperature").fit(blocks, y)
    assert fitted.n_features_in_ == WIDTH
    np.testing.assert_array_equal(fitted.predict(blocks), head.predict(blocks))
    np.testing.assert_array_equal(fitted.predict(X), head.predict(X))
    tokens = np.stack([X, X], 1)
    with pytest.raises(ValueError, match=r"tokens of shape \(18, 2, 12\).*text_block='features' says so"):
        head.decision_function(tokens)
    with pytest.raises(ValueError, match=r"no other block than mean \(12 channels\).*text_block='mean' says so"):
        head.predict(FeatureBlocks({"mean": views}))
    said = zero_shot(text_block="features").fit()
    np.testing.assert_allclose(said.decision_function(tokens), head.decision_function(X))
    with pytest.raises(ValueError, match=r"texts have 12 channels. Got the block 'mean' of 5"):
        zero_shot(text_block="mean").fit(blocks, y)
    with pytest.raises(ValueError, match=r"texts have 12 channels. Got the block 'mean' of 5"):
        zero_shot(text_block="mean").fit().predict(blocks)
    with pytest.raises(ValueError, match=r"texts have 12 channels. Got features of 9\.$"):
        zero_shot().fit(X[:, :9], y)
    with pytest.raises(ValueError, match="9 features, but ZeroShotClassifier is expecting 12"):
        head.predict(X[:, :9])


def test_classes_come_from_names_or_labels() -> None:
    X, y = images(zero_shot().fit())
    by_label = ZeroShotClassifier(text=Hashed()).fit(X, y)
    assert by_label.classes_.tolist() == ["cat", "ox", "sea_slug"]
    in_any_order = ZeroShotClassifier(["sea_slug", "cat", "ox"], text=Hashed(), templates="{}").fit(X[:6], y[:6])
    assert in_any_order.classes_.tolist() == ["cat", "ox", "sea_slug"]
    np.testing.assert_allclose(
        in_any_order.text_features_[0] * np.linalg.norm(Hashed().transform(["cat"])), Hashed().transform(["cat"])[0]
    )
    told_by_word = ZeroShotClassifier(["Sea slug", "yak", "OX"], text=Hashed()).fit(X[y != "cat"], y[y != "cat"])
    assert told_by_word.classes_.tolist() == ["ox", "sea_slug", "yak"]
    numbers = np.searchsorted(["cat", "ox", "sea_slug"], y)
    by_position = ZeroShotClassifier(["cat", "ox", "sea_slug"], text=Hashed()).fit(X, numbers)
    assert by_position.classes_.tolist() == [0, 1, 2]
    ready = ZeroShotClassifier(text=by_position.text_features_).fit(X, y)
    np.testing.assert_array_equal(ready.predict(X), ready.classes_[by_position.predict(X)])


@pytest.mark.parametrize(
    ("parameters", "with_images", "says"),
    [
        ({"class_names": None}, False, "needs class_names, or labels"),
        ({"class_names": {"cat": "a", "ox": "b"}}, True, "none for 'sea_slug'"),
        ({"class_names": ["a", "b"]}, True, "each of the 3 classes"),
        ({"class_names": {"cat": "a"}}, False, "at least 2 classes"),
        ({"class_names": "cat"}, False, "'class_names' parameter"),
        ({"text": None}, False, "FrozenTextExtractor"),
        ({"templates": None}, False, "templates must be 'auto'.*Got None"),
        ({"templates": "photo"}, False, "one {}"),
        ({"reject": 0.3}, False, "reject=0.3 needs images"),
    ],
)
def test_errors_say_what_is_missing(parameters: dict[str, Any], with_images: bool, says: str) -> None:
    X, y = images(zero_shot().fit())
    head = zero_shot().set_params(**parameters)
    with pytest.raises((ValueError, TypeError), match=says):
        head.fit(*((X, y) if with_images else ()))


def test_ready_vectors_are_in_the_order_of_names() -> None:
    head = zero_shot().fit()
    X, y = images(head)
    order = [head.classes_.tolist().index(label) for label in NAMES]
    for names in (NAMES, list(NAMES)):
        ready = ZeroShotClassifier(names, text=head.text_features_[order])
        for fitted in (ready.fit(), clone(ready).fit(X, y)):
            np.testing.assert_allclose(fitted.text_features_, head.text_features_)


def test_labels_of_another_kind_are_refused() -> None:
    X, y = images(zero_shot().fit())
    codes = np.unique(y, return_inverse=True)[1]
    with pytest.raises(ValueError, match=r"class_names by label.*numbers, such as 0\. Got strings: '0', '1', '2'"):
        ZeroShotClassifier({"0": "cat", "1": "ox", "2": "slug"}, text=Hashed()).fit(X, codes)
    with pytest.raises(ValueError, match=r"text by label.*strings, such as '0'\. Got numbers: 0, 1, 2"):
        ZeroShotClassifier(text=dict(enumerate(np.eye(3)))).fit(X, codes.astype(str))


def test_labels_need_images() -> None:
    with pytest.raises(ValueError, match=r"needs images for labels and weights. Got X=None"):
        zero_shot().fit(y=["cat"])
    X, y = images(zero_shot().fit())
    with pytest.raises(ValueError, match=r"none of 'sea_slug'"):
        zero_shot(reject=0.2).fit(X[:12], y[:12])


def test_images_unlike_those_of_the_fit_are_rejected() -> None:
    X, y = images(zero_shot().fit(), shots=20, noise=0.1)
    head = zero_shot(reject=0.05).fit(X, y)
    strange = np.random.default_rng(1).normal(size=(20, WIDTH))
    assert (head.predict(strange) == "none of these").mean() > 0.8
    assert (head.predict(X) == y).mean() > 0.9
    assert zero_shot(novelty="energy").fit(X, y).novelty_score(X).shape == (60,)


def test_it_works_in_frames_and_with_other_tools() -> None:
    X, y = images(zero_shot().fit())
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(WIDTH)])
    head = zero_shot().fit(frame, pd.Series(y))
    assert head.feature_names_in_.tolist() == list(frame)
    assert head.predict(frame).tolist() == clone(head).fit(X, y).predict(X).tolist()
    conformal = ConformalClassifier(zero_shot(), 0.8, method="cv+", random_state=0).fit(X, y)
    _, sets = conformal.predict_set(X)
    held = sets[np.arange(len(y)), np.searchsorted(head.classes_, y), 0]
    assert np.mean(held) >= 0.8
    assert AbstentionClassifier(zero_shot()).fit(X, y).predict(X).shape == y.shape


@pytest.mark.parametrize("with_images", [False, True])
def test_saved_files_need_no_words(tmp_path: Path, with_images: bool) -> None:
    X, y = images(zero_shot().fit())
    head = zero_shot().fit(*((X, y) if with_images else ()))
    frofa.save(head, tmp_path / "head.frofa")
    loaded = frofa.load(tmp_path / "head.frofa")
    np.testing.assert_array_equal(loaded.predict_proba(X), head.predict_proba(X))
    assert loaded.text is None
    assert loaded.class_names == NAMES
    np.testing.assert_array_equal(loaded.fit(X, y).predict_proba(X), zero_shot().fit(X, y).predict_proba(X))
    with pytest.raises(ValueError, match=r"class_names must name every class\. Got none for 'yak'"):
        loaded.fit(X, ["yak", *y[1:]])
    with pytest.raises(TypeError, match=r"files keep none\. Got None"):
        loaded.set_params(class_names={"cat": "cat", "yak": "yak"}).fit()
