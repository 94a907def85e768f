"""How many labels are enough: answers, what they say when they cannot say it, and who may ask."""

import itertools
import json
import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from frofa import (
    FeatureBlocks,
    FrozenFeatureExtractor,
    ImageClassifier,
    LearningCurveDisplay,
    how_many_labels,
    load_images,
)
from frofa.estimators import (
    FewShotClassifier,
    LogisticProbeClassifier,
    MAPClassifier,
    MultiLabelProbeClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
)
from frofa.learning_curves.supports import nested_supports

CENTRES = np.random.default_rng(7).normal(size=(5, 40))


def blobs(*sizes: int, spread: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features and string labels of so many classes, overlapping the less the larger the spread."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    return spread * CENTRES[codes] + rng.normal(size=(len(codes), 40)), np.array(list("abcde"))[codes]


def test_supports_are_nested_and_every_class_grows() -> None:
    codes = np.repeat([0, 1, 2], [20, 7, 1])
    supports = nested_supports(codes, 10, np.random.default_rng(0))
    assert len(supports.orders) == 10
    assert (np.diff(supports.counts, axis=0) >= 0).all()
    assert (supports.counts[:, 2] == 1).all()
    assert (supports.counts[-1, :2] < [20, 7]).all()
    for order in range(10):
        rows = [set(supports.rows(order, size).tolist()) for size in range(len(supports.counts))]
        assert all(small < large for small, large in itertools.pairwise(rows))
    # The images that five turns leave out at the largest size are all images of a class, equally often.
    left = [set(range(20)) - set(supports.rows(order, -1).tolist()) for order in range(5)]
    assert sorted(i for one in left for i in one) == list(range(20))


def test_what_is_foretold_comes_true() -> None:
    X, y = blobs(12, 12, 12, 12)
    needed = how_many_labels(ShrinkageProbeClassifier(), X, y, target=0.9)
    new_X, new_y = blobs(500, 500, 500, 500, seed=1)
    inside = []
    for seed in range(5):
        more_X, more_y = blobs(40, 40, 40, 40, seed=10 + seed)
        accuracy = ShrinkageProbeClassifier().fit(more_X, more_y).score(new_X, new_y)
        inside.append(needed.predict(40).low <= accuracy <= needed.predict(40).high)
    assert np.mean(inside) >= 0.8
    now = ShrinkageProbeClassifier().fit(X, y).score(new_X, new_y)
    assert needed.accuracy_now_interval[0] <= now <= needed.accuracy_now_interval[1]
    assert needed.predict(12) == (needed.accuracy_now, *needed.accuracy_now_interval)


def test_a_number_where_labels_say_it() -> None:
    X, y = blobs(60, 60, 60, 60, 60, spread=0.3)
    needed = how_many_labels(RidgeProbeClassifier(), X, y, target=0.7, n_orders=5)
    assert needed.answer in ("enough", "reached")
    assert isinstance(needed.n_labels, int)
    assert needed.n_labels == needed.median_labels
    low, high = needed.n_labels_interval
    assert low <= needed.n_labels <= high
    assert needed.predict(needed.shots).mean == pytest.approx(0.7, abs=0.02)
    assert f"about {needed.n_labels:,} labels in all" in str(needed)


def test_an_easy_target_is_reached_and_a_hard_one_out_of_reach() -> None:
    X, y = blobs(30, 30, 30, spread=0.6)
    reached = how_many_labels(RidgeProbeClassifier(), X, y, target=0.6)
    assert reached.answer == "reached"
    assert (reached.n_labels or 0) <= 90
    assert reached.probability == 1
    assert "reached already" in str(reached)
    rng = np.random.default_rng(0)
    noise = how_many_labels(RidgeProbeClassifier(), rng.normal(size=(300, 5)), np.tile([0, 1, 2], 100), target=0.99)
    assert noise.answer == "out of reach"
    assert noise.n_labels == math.inf
    assert "out of reach" in str(noise)
    assert noise.to_dict()["n_labels"] is None


def test_too_few_labels_say_nothing() -> None:
    X, y = blobs(2, 2, 2, spread=0.3)
    needed = how_many_labels(ShrinkageProbeClassifier(), X, y, target=0.8)
    assert (needed.answer, needed.n_labels, needed.shots) == ("cannot be said", None, None)
    assert "cannot be said from 6" in str(needed)
    assert "Label as many again (6)" in str(needed)


@pytest.mark.parametrize(
    "classifier",
    [
        FewShotClassifier(),
        MAPClassifier(n_steps=5, random_state=0),
        LogisticProbeClassifier(),
        LogisticRegression(),
        GaussianNB(),
    ],
    ids=lambda one: type(one).__name__,
)
def test_any_classifier_may_ask(classifier: Any) -> None:
    X, y = blobs(8, 8, 8)
    X = X[:, None] if isinstance(classifier, MAPClassifier) else X
    needed = how_many_labels(classifier, X, y, target=0.9, n_orders=2)
    assert needed.n_labelled == 24
    assert needed.n_classes == 3
    assert [point.n_labels for point in needed.curve][:2] == [3, 6]
    assert not hasattr(classifier, "classes_")
    assert json.loads(json.dumps(needed.to_dict()))["curve"][0]["shots"] == 1


def test_blocks_and_frames_are_features() -> None:
    X, y = blobs(6, 6)
    blocks = FeatureBlocks({"pooled": [X, X + 0.01]})
    assert how_many_labels(ShrinkageProbeClassifier(), blocks, y, n_orders=2).n_labelled == 12
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(40)])
    of_frame = how_many_labels(LogisticRegression(), frame, pd.Series(y), n_orders=2)
    assert of_frame == how_many_labels(LogisticRegression(), X, y, n_orders=2)


def test_leave_one_out_is_a_point_of_its_own() -> None:
    X, y = blobs(9, 9)
    closed = how_many_labels(ShrinkageProbeClassifier(), X, y)
    head = ShrinkageProbeClassifier().fit(X, y)
    assert closed.curve[-1].shots == 8
    assert closed.curve[-1].n_labels == 16
    assert closed.curve[-1].accuracy == pytest.approx(head.loo_accuracy_)
    assert how_many_labels(GaussianNB(), X, y).curve[-1].shots < 8


def test_rows_of_the_same_size_say_what_each_is() -> None:
    """Of five a class, four are fitted to at most, which is what is left where one is left out, too."""
    X, y = blobs(5, 5, 5)
    needed = how_many_labels(ShrinkageProbeClassifier(), X, y)
    rest, alone = needed.curve[-2:]
    assert (rest.n_labels, rest.left_out) == (12, "the rest")
    assert (alone.n_labels, alone.left_out) == (12, "one by one")
    assert needed.to_dict()["curve"][-1]["left_out"] == "one by one"
    lines = [line.split("  ") for line in str(needed).splitlines()]
    assert ["the rest" in line for line in lines].count(True) == len(needed.curve) - 1
    assert ["one by one" in line for line in lines].count(True) == 1
    assert "by the laws" in str(needed)
    assert "of the 15 images that each row leaves out" in str(needed)


def test_several_labels_of_each_are_refused() -> None:
    X, y = blobs(6, 6)
    several = np.stack([y == "a", y == "b", y == "b"], axis=1).astype(int)
    with pytest.raises(ValueError, match=r"how_many_labels takes one label of each sample.*Got shape \(12, 3\)"):
        how_many_labels(MultiLabelProbeClassifier(), X, several)


def test_images_are_extracted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    bright = np.repeat([60, 120, 180], 4)
    images = rng.integers(0, 75, (12, 24, 24, 3)) + bright[:, None, None, None]
    images[-1] = images[-2]
    items = list(images.astype(np.uint8))
    labels = np.repeat(["dark", "grey", "light"], 4)
    model = ImageClassifier(n_views=2)
    calls: list[int] = []
    extract = FrozenFeatureExtractor.extract

    def counted(*args: Any) -> Any:
        calls.append(1)
        return extract(*args)

    monkeypatch.setattr(FrozenFeatureExtractor, "extract", counted)
    needed = how_many_labels(model, load_images(np.stack(items), labels=labels), target=0.9, n_orders=2)
    assert len(calls) == 1
    assert needed.n_labelled == 11
    assert needed.notes == ("Left out, as they repeat others: 1 image",)
    assert not hasattr(model, "head_")


def test_lone_images_are_said() -> None:
    X, y = blobs(10, 10, 1)
    needed = how_many_labels(RidgeProbeClassifier(), X, y)
    assert needed.notes == (
        "1 of 3 classes have one image, which is never left out: c. Accuracies are those on the other 2",
    )
    assert needed.notes[0] in str(needed)


class Demanding(ClassifierMixin, BaseEstimator):
    """Takes two samples of each class at least."""

    def fit(self, X: Any, y: Any) -> "Demanding":
        if np.unique(y, return_counts=True)[1].min() < 2:
            raise ValueError("two of each, please")
        self.classes_, self.inner_ = np.unique(y), GaussianNB().fit(X, y)
        return self

    def predict(self, X: Any) -> Any:
        return self.inner_.predict(X)


def test_sizes_that_cannot_be_fitted_are_said() -> None:
    X, y = blobs(8, 8)
    needed = how_many_labels(Demanding(), X, y, n_orders=2)
    assert needed.curve[0].shots == 2
    assert needed.notes == ("some fits failed at 1 shots: two of each, please",)
    with pytest.raises(ValueError, match="could not be fitted to any part of the images: two of each"):
        how_many_labels(Demanding(), X[6:10], y[6:10])


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"classifier": "ridge"}, TypeError, "takes a classifier. Got 'ridge'"),
        ({"target": 90}, ValueError, "'target' parameter of how_many_labels must be .* Got 90"),
        ({"n_orders": 0}, ValueError, "n_orders"),
        ({"y": None}, ValueError, "requires y"),
        ({"y": ["a"] * 12}, ValueError, "at least 2 classes. Got one class only: a"),
        ({"y": np.arange(12)}, ValueError, "needs 2 of one class at least. Got 12 images"),
        ({"y": [0, 1]}, ValueError, "inconsistent"),
    ],
)
def test_wrong_questions(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y = blobs(6, 6)
    given = {"classifier": RidgeProbeClassifier(), "X": X, "y": y, **changed}
    with pytest.raises(error, match=message):
        how_many_labels(**given)
    with pytest.raises(ValueError, match="n_shots must be above 0"):
        how_many_labels(RidgeProbeClassifier(), X, y, n_orders=1).predict(0)


def test_a_test_of_few_images_widens_the_interval() -> None:
    X, y = blobs(20, 20)
    needed = how_many_labels(RidgeProbeClassifier(), X, y, n_orders=5)
    few, many, any_number = needed.predict(20, n_test=20), needed.predict(20, n_test=10_000), needed.predict(20)
    assert few.half_width > 1.5 * any_number.half_width
    assert many.half_width == pytest.approx(any_number.half_width, rel=0.1)


def test_the_display_shows_points_band_and_target() -> None:
    X, y = blobs(20, 20, 20)
    display = LearningCurveDisplay.from_estimator(RidgeProbeClassifier(), X, y, target=0.8, n_orders=2)
    needed = display.needed
    labels = display.ax_.get_legend_handles_labels()[1]
    assert {"90 % band of accuracy", "averaged laws", "measured", "target"} <= set(labels)
    heights = display.ax_.containers[0][0].get_ydata()
    assert heights.tolist() == [100 * point.accuracy for point in needed.curve]
    again = LearningCurveDisplay.from_predictions(needed, ax=display.figure_.add_subplot())
    assert again.ax_ is not display.ax_
    assert again.figure_ is display.figure_


def test_rejected_images_are_not_wrong_ones() -> None:
    X, y = blobs(12, 12)
    plain, rejecting = ShrinkageProbeClassifier(), ShrinkageProbeClassifier(reject=0.3)
    assert how_many_labels(rejecting, X, y, n_orders=2) == how_many_labels(plain, X, y, n_orders=2)


def test_what_has_no_label_does_not_count() -> None:
    X, y = blobs(12, 12)
    some = np.arange(24) % 3 > 0
    partly = np.where(some, y == "a", -1)
    needed = how_many_labels(ShrinkageProbeClassifier(unlabeled=-1), X, partly, n_orders=2)
    assert needed.n_labelled == 16
    assert needed.notes == ("Left out, as they have no label: 8 images",)
    assert needed.curve == how_many_labels(ShrinkageProbeClassifier(), X[some], partly[some], n_orders=2).curve


@pytest.mark.parametrize(
    "sizes", [[2, 1], [2, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 3, 1, 1, 1, 1, 1, 2], [2, 1, 2, 2, 1, 1, 1, 1, 1], [4, 1, 1]]
)
def test_a_few_labels_of_many_classes_say_little(sizes: list[int]) -> None:
    y = np.repeat(np.arange(len(sizes)), sizes)
    X = np.random.default_rng(0).normal(size=(len(y), 16)) + 3 * np.eye(16)[y]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        needed = how_many_labels(ShrinkageProbeClassifier(), X, y, n_orders=4)
    low, high = needed.accuracy_now_interval
    assert 0 <= low <= needed.accuracy_now <= high <= 1
    assert high - low > 0.2
