"""What each display computes and draws."""

import os
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from display_cases import Fitted, coloured_images, fitted_classifier
from matplotlib.figure import Figure
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import cross_validate

from frofa import ConfusionDisplay, EmbeddingDisplay, MistakesDisplay, RejectionDisplay, ReliabilityDisplay
from frofa.displays.embedding import embed
from frofa.displays.map import spread
from frofa.displays.mistakes import Mistake, choose
from frofa.evaluation import calibration_error, rejection_curve, reliability

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)) + np.repeat(np.eye(3, 5), 20, axis=0) * 2
Y = np.repeat(["a", "b", "c"], 20)
TRUE = ["a", "a", "a", "b", "b", "c"]
PREDICTED = ["b", "b", "a", "c", "b", "c"]
TABLE = np.array([[0.1, 0.9], [0.45, 0.55], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
TABLE_Y = ["a", "a", "a", "b", "b"]


@pytest.fixture
def fitted() -> Fitted:
    return fitted_classifier()


@pytest.fixture
def coloured() -> list[Image.Image]:
    return coloured_images()


def colour(image: Image.Image) -> Any:
    return image.convert("RGB").getpixel((0, 0))


def drawn(display: Any) -> list[str]:
    return [text.get_text() for ax in display.figure_.axes for text in ax.texts]


# Confusions


def test_confusions_are_counted_and_the_largest_show_their_images(coloured: list[Image.Image]) -> None:
    display = ConfusionDisplay.from_predictions(TRUE, PREDICTED, images=coloured[:6])
    assert display.confusion_matrix.tolist() == [[1, 2, 0], [0, 1, 1], [0, 0, 1]]
    assert display.largest() == [(0, 1), (1, 2)]
    assert {cell: [colour(one) for one in shown] for cell, shown in display.images.items()} == {
        (0, 1): [colour(coloured[0]), colour(coloured[1])],
        (1, 2): [colour(coloured[3])],
    }
    assert "2 \N{MULTIPLICATION SIGN} a taken for b" in drawn(display)


def test_the_surest_mistakes_of_a_cell_come_first(coloured: list[Image.Image]) -> None:
    table = np.array([[0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [1.0, 0.0], [0.2, 0.8]])
    display = ConfusionDisplay.from_predictions(["a"] * 4 + ["b"], table, images=coloured[:5], n_images=2)
    assert [colour(one) for one in display.images[0, 1]] == [colour(coloured[1]), colour(coloured[2])]


def test_confusions_of_classifiers_of_images_and_of_features(fitted: Fitted) -> None:
    display = ConfusionDisplay.from_estimator(fitted.classifier, fitted.items, fitted.y)
    report = fitted.classifier.evaluate(fitted.items, fitted.y)
    np.testing.assert_array_equal(display.confusion_matrix, report.confusion_matrix)
    head = ConfusionDisplay.from_estimator(fitted.classifier.head_, fitted.features, fitted.y, images=fitted.items)
    np.testing.assert_array_equal(head.confusion_matrix, report.confusion_matrix)
    assert head.images.keys() == display.images.keys() != set()


def test_confusions_need_no_probabilities() -> None:
    display = ConfusionDisplay.from_estimator(RidgeClassifier().fit(X, Y), X, Y)
    assert display.confusion_matrix.sum() == 60


def test_many_classes_are_cut_to_the_most_confused() -> None:
    matrix = np.eye(50, dtype=int) * 9
    matrix[40, 3] = 5
    matrix[7, 40] = 4
    display = ConfusionDisplay(matrix).plot(n_classes=4)
    ticks = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    assert {"3", "7", "40"} < set(ticks)
    assert len(ticks) == 4
    assert display.ax_.get_title() == "the 4 most confused of 50 classes"
    with pytest.raises(ValueError, match="Got 1"):
        display.plot(n_classes=1)


def test_axes_that_are_given_are_drawn_on(coloured: list[Image.Image]) -> None:
    ax = Figure().add_subplot()
    display = ConfusionDisplay.from_predictions(TRUE, PREDICTED, images=coloured[:6], ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert len(ax.figure.axes) == 1


@pytest.mark.parametrize(("matrix", "names"), [([[1, 2]], None), ([[1]], ["a", "b"]), (np.zeros((0, 0)), None)])
def test_matrices_are_square_and_names_fit(matrix: Any, names: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        ConfusionDisplay(matrix, names)


# Mistakes


def test_the_worst_have_the_least_probability_of_their_class() -> None:
    truth = np.array([0, 0, 0, 1, 1])
    assert choose(TABLE, truth, "worst").tolist() == [0, 3, 1]
    assert choose(TABLE, truth, "unsure").tolist() == [1, 4, 3, 2, 0]


def test_mistakes_show_what_is_said_of_them(coloured: list[Image.Image]) -> None:
    display = MistakesDisplay.from_predictions(TABLE_Y, TABLE, images=coloured[:5], n_images=2)
    assert display.indices.tolist() == [0, 3]
    first = display.mistakes[0]
    assert (first.true, first.predicted, first.probability) == ("a", "b", 0.9)
    assert first.picture is not None
    assert colour(first.picture) == colour(coloured[0])
    assert drawn(display) == ["is a\ntaken for b, 90\u00a0%", "is b\ntaken for a, 70\u00a0%"]


def test_sets_are_those_of_the_classifier(fitted: Fitted) -> None:
    display = MistakesDisplay.from_estimator(
        fitted.classifier, fitted.items, show="unsure", n_images=3, confidence_level=0.8
    )
    _, sets = fitted.classifier.predict_set(fitted.items, 0.8)
    for one in display.mistakes:
        assert one.true is None
        assert one.possible == tuple(fitted.classifier.classes_[sets[one.index, :, 0]].tolist())
    assert display.confidence_level == 0.8


def test_heads_without_sets_have_none(coloured: list[Image.Image]) -> None:
    head = LogisticRegression().fit(X, Y)
    display = MistakesDisplay.from_estimator(head, X, Y, images=coloured * 5, n_images=4)
    assert {one.possible for one in display.mistakes} == {None}
    assert display.confidence_level is None
    with pytest.raises(ValueError, match=r"images=\. Got features alone"):
        MistakesDisplay.from_estimator(head, X, Y)


def test_a_perfect_classifier_has_no_mistakes(coloured: list[Image.Image]) -> None:
    display = MistakesDisplay.from_predictions(["a", "b"], np.eye(2), images=coloured[:2])
    assert display.mistakes == []
    assert display.describe() == "The worst mistakes, 0 images: none."
    display._repr_html_()


def test_almost_certain_is_not_certain() -> None:
    one = Mistake(0, None, "a", "b", 0.9996)
    assert "100.0" in MistakesDisplay([one]).describe()
    assert "99.7" in MistakesDisplay([Mistake(0, None, "a", "b", 0.997)]).describe()


@pytest.mark.parametrize("show", ["best", ""])
def test_what_is_shown_is_checked(show: Any, coloured: list[Image.Image]) -> None:
    with pytest.raises(ValueError, match="show must be 'worst' or 'unsure'"):
        MistakesDisplay.from_predictions(TABLE_Y, TABLE, images=coloured[:5], show=show)


# Maps


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    # Of many rows with many channels, the axes are found one by one.
    large = RNG.normal(size=(700, 600)) @ np.diag(np.linspace(1, 4, 600))
    for rows in (X, X[:4], large):
        coordinates, explained = embed(rows)
        centred = rows - rows.mean(0)
        left, values, _ = np.linalg.svd(centred, full_matrices=False)
        np.testing.assert_allclose(np.abs(coordinates), np.abs(left * values)[:, :2], rtol=1e-4, atol=1e-4)
        assert explained is not None
        np.testing.assert_allclose(explained, (values**2 / (values**2).sum())[:2])
    np.testing.assert_array_equal(embed(X)[0], embed(X.copy())[0])


def test_few_and_equal_rows_have_a_map() -> None:
    coordinates, explained = embed(np.ones((3, 4)))
    assert coordinates.tolist() == [[0, 0]] * 3
    assert explained == (0, 0)
    assert embed(np.ones((1, 1)))[0].shape == (1, 2)
    np.testing.assert_allclose(embed([[1.0], [3.0]])[0], [[-1, 0], [1, 0]])


@pytest.mark.parametrize(
    ("rows", "method", "message"),
    [(np.ones(3), "pca", "Got shape"), ([[np.nan]], "pca", "NaN"), (X, "tsne", "pca, umap. Got 'tsne'")],
)
def test_rows_and_methods_are_checked(rows: Any, method: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embed(rows, method)


class FakeUmap:
    """Takes UMAP's place, which compiles itself for a minute."""

    def __init__(self, **options: Any):
        self.options = options

    def fit_transform(self, rows: Any) -> Any:
        made.append((self.options, rows))
        return rows[:, :2]


made: list[Any] = []


def test_umap_is_seeded_and_starts_from_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FakeUmap))
    made.clear()
    wide = RNG.normal(size=(60, 80))
    coordinates, explained = embed(wide, "umap", random_state=3)
    [(options, rows)] = made
    assert (options["random_state"], options["n_jobs"], options["n_neighbors"]) == (3, 1, 15)
    assert rows.shape == (60, 50)
    assert explained is None
    assert coordinates.dtype == np.float32
    np.testing.assert_allclose(coordinates, embed(wide)[0], rtol=1e-5)
    # Of few, all are neighbours; of two, there is nothing to learn.
    embed(wide[:5], "umap")
    assert made[1][0]["n_neighbors"] == 4
    assert embed(wide[:2], "umap")[0].shape == (2, 2)
    assert len(made) == 2


def test_umap_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"pip install 'frofa\[umap\]'"):
        embed(X, "umap")


@pytest.mark.skipif(not os.environ.get("CI"), reason="UMAP compiles itself for a minute: where CI is set")
def test_umap_is_the_same_each_time() -> None:
    first, _ = embed(X, "umap", random_state=3)
    np.testing.assert_array_equal(first, embed(X, "umap", random_state=3)[0])
    # Samples of a class lie together.
    centres = np.stack([first[label == Y].mean(0) for label in "abc"])
    nearest = np.linalg.norm(first[:, None] - centres, axis=2).argmin(1)
    assert (np.array(list("abc"))[nearest] == Y).mean() > 0.7


def test_thumbnails_do_not_overlap_and_mistakes_come_first(coloured: list[Image.Image]) -> None:
    right = np.arange(60) % 10 != 0
    display = EmbeddingDisplay(embed(X)[0], Y, right=right, images=coloured * 5).plot(n_thumbnails=8)
    shown = display.shown_
    assert 2 <= len(shown) <= 8
    assert not right[shown[0]]
    at = display.ax_.transData.transform(display.coordinates[shown]) / display.figure_.dpi
    apart = np.abs(at[:, None] - at).max(2)[~np.eye(len(shown), dtype=bool)]
    assert apart.min() >= 0.3 - 1e-6


def test_points_are_spread_greedily() -> None:
    at = RNG.uniform(0, 10, (500, 2))
    order = RNG.permutation(500)
    chosen = spread(at, order, 1.0)
    slow: list[int] = []
    for i in order.tolist():
        if all(np.abs(at[i] - at[j]).max() >= 1.0 for j in slow):
            slow.append(i)
    assert chosen == slow


def test_a_map_of_a_classifier_marks_its_mistakes(fitted: Fitted) -> None:
    display = EmbeddingDisplay.from_estimator(fitted.classifier, fitted.items, fitted.y)
    assert display.right is not None
    np.testing.assert_array_equal(display.right, fitted.classifier.predict(fitted.items) == fitted.y)
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == [*fitted.classifier.classes_.tolist(), "predicted wrong"]
    unlabelled = EmbeddingDisplay.from_estimator(fitted.classifier, fitted.items)
    assert unlabelled.right is None
    np.testing.assert_allclose(unlabelled.coordinates, display.coordinates)


def test_a_map_of_features_alone_has_no_thumbnails() -> None:
    display = EmbeddingDisplay.from_features(X)
    assert display.shown_ == []
    assert display.describe() == "Map of 60 images by their features (PCA)."
    with pytest.raises(ValueError, match="dense features"):
        EmbeddingDisplay.from_features(csr_matrix(X))
    tokens = EmbeddingDisplay.from_features(RNG.normal(size=(5, 4, 3)), list("aabbc"))
    assert tokens.coordinates.shape == (5, 2)


@pytest.mark.parametrize("wrong", [{"labels": ["a"]}, {"right": [True]}, {"images": ["a.png"]}])
def test_what_a_map_is_given_fits(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Got 1"):
        EmbeddingDisplay(np.zeros((3, 2)), **wrong)
    with pytest.raises(ValueError, match="finite coordinates"):
        EmbeddingDisplay(np.full((3, 2), np.nan))


# Reliability and rejection


def test_reliability_is_that_of_the_predictions(fitted: Fitted) -> None:
    display = ReliabilityDisplay.from_estimator(fitted.classifier, fitted.items, fitted.y)
    table = fitted.classifier.predict_proba(fitted.items)
    expected = reliability(fitted.y, table, fitted.classifier.classes_)
    np.testing.assert_allclose(display.reliability.accuracy, expected.accuracy)
    error = calibration_error(fitted.y, table, fitted.classifier.classes_)
    assert display.calibration_error == pytest.approx(error)
    # The bins alone tell the error, too.
    assert ReliabilityDisplay(expected).calibration_error == pytest.approx(error)
    with pytest.raises(ValueError, match=r"shape \(n, n_classes\)"):
        ReliabilityDisplay.from_predictions(TRUE, PREDICTED)


def test_rejection_goes_by_confidence_or_novelty(fitted: Fitted) -> None:
    display = RejectionDisplay.from_estimator(fitted.classifier, fitted.items, fitted.y)
    table = fitted.classifier.predict_proba(fitted.items)
    right = fitted.classifier.classes_[table.argmax(1)] == fitted.y
    assert display.curves["confidence"].area == pytest.approx(rejection_curve(right, table.max(1)).area)
    by = RejectionDisplay.from_estimator(fitted.classifier, fitted.items, fitted.y, by="novelty")
    scores = fitted.classifier.novelty_score(fitted.items)
    assert by.curves["novelty"].area == pytest.approx(rejection_curve(right, -scores).area)
    head = LogisticRegression().fit(X, Y)
    with pytest.raises(ValueError, match="novelty_score"):
        RejectionDisplay.from_estimator(head, X, Y, by="novelty")
    with pytest.raises(ValueError, match="Got 'luck'"):
        RejectionDisplay.from_estimator(head, X, Y, by="luck")  # type: ignore[arg-type]


def test_rejection_of_labels_needs_a_confidence() -> None:
    display = RejectionDisplay.from_predictions(TRUE, PREDICTED, confidence=[1, 2, 6, 3, 5, 4])
    assert display.curves["confidence"].accuracy[:3].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="a confidence for each label"):
        RejectionDisplay.from_predictions(TRUE, PREDICTED)


def test_a_long_curve_is_drawn_with_its_ends() -> None:
    n = 5000
    display = RejectionDisplay(rejection_curve(RNG.random(n) < 0.9, RNG.random(n))).plot()
    kept = display.ax_.lines[0].get_xdata()
    assert len(kept) <= 400
    assert (kept[0], kept[-1]) == (100 / n, 100)


# Out of fold


def test_all_take_the_results_of_cross_validation(coloured: list[Image.Image]) -> None:
    folds = cross_validate(LogisticRegression(), X, Y, cv=3, return_estimator=True, return_indices=True)
    table = np.zeros((60, 3))
    for estimator, test in zip(folds["estimator"], folds["indices"]["test"], strict=True):
        table[test] = estimator.predict_proba(X[test])
    wrong = np.array(list("abc"))[table.argmax(1)] != Y
    images = coloured * 5
    assert wrong.any()
    assert ConfusionDisplay.from_cv_results(folds, X, Y).confusion_matrix.trace() == (~wrong).sum()
    mistakes = MistakesDisplay.from_cv_results(folds, X, Y, images=images, n_images=60)
    assert sorted(mistakes.indices.tolist()) == np.flatnonzero(wrong).tolist()
    assert ReliabilityDisplay.from_cv_results(folds, X, Y).reliability.counts.sum() == 60
    assert RejectionDisplay.from_cv_results(folds, X, Y).curves["confidence"].accuracy[-1] == (~wrong).mean()
    marked = EmbeddingDisplay.from_cv_results(folds, X, Y, features=X).right
    np.testing.assert_array_equal(marked, ~wrong)
