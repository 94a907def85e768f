from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import skactiveml.pool
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from frofa import FeatureBlocks, RaggedTokens, suggest
from frofa.estimators import FewShotClassifier, ShrinkageProbeClassifier

Array = npt.NDArray[Any]
N, WIDTH = 90, 8


@pytest.fixture(scope="module")
def classes() -> Array:
    """Of five classes, two are rare."""
    classes = np.repeat(["cat", "dog", "hen", "owl", "yak"], [30, 30, 20, 5, 5])
    classes.setflags(write=False)
    return classes


@pytest.fixture(scope="module")
def pool(classes: Array) -> Array:
    codes = np.unique(classes, return_inverse=True)[1]
    features = np.random.default_rng(0).normal(size=(N, WIDTH)) + 6 * np.eye(5, WIDTH)[codes]
    features.setflags(write=False)
    return features.astype(np.float32)


HEAD = ShrinkageProbeClassifier()
LABELLED = [0, 31, 62]


def test_the_first_images_are_of_different_classes(pool: Array, classes: Array) -> None:
    rows = suggest(HEAD, pool, batch_size=5)
    assert sorted(classes[rows]) == ["cat", "dog", "hen", "owl", "yak"]


@pytest.mark.parametrize("strategy", ["auto", "coverage"])
def test_classes_that_nobody_knows_of_are_found(strategy: str, pool: Array, classes: Array) -> None:
    rows = suggest(HEAD, pool, pool[LABELLED], classes[LABELLED], 7, strategy=strategy)
    assert set(classes[rows]) >= {"owl", "yak"}


@pytest.mark.parametrize("strategy", ["auto", "coverage", "uncertainty", "margin", "entropy", "random"])
def test_labelled_and_repeated_images_are_not_suggested(strategy: str, pool: Array, classes: Array) -> None:
    twice = np.concatenate([pool, pool])
    rows = suggest(HEAD, twice, pool[LABELLED], classes[LABELLED], 60, strategy=strategy, random_state=0)
    assert len(set(rows % N)) == 60
    assert not set(rows % N) & set(LABELLED)


@pytest.mark.parametrize("strategy", ["auto", "margin", "random", skactiveml.pool.TypiClust(random_state=0)])
def test_there_are_fewer_where_the_pool_has_fewer(strategy: Any, pool: Array, classes: Array) -> None:
    few = np.concatenate([pool[:6], pool[:6]])
    rows = suggest(HEAD, few, pool[[0, 31]], classes[[0, 31]], 10, strategy=strategy, random_state=0)
    assert sorted(rows % 6) == [1, 2, 3, 4, 5]
    none = suggest(HEAD, pool[[0, 0]], pool[[0, 31]], classes[[0, 31]], strategy="auto")
    assert none.shape == (0,)
    assert none.dtype == np.intp


def test_half_precision_repeats_an_image_but_scaling_does_not(pool: Array, classes: Array) -> None:
    images = np.concatenate([pool[[0, 31]].astype(np.float16).astype(np.float32), 2 * pool[[0, 31]]])
    rows = suggest(HEAD, images, pool[[0, 31]], classes[[0, 31]], 4)
    assert sorted(rows) == [2, 3]


def coverage_by_hand(vectors: Array, rows: Array, width: float) -> float:
    squares = ((vectors[:, None] - vectors[rows]) ** 2).sum(2)
    return float(np.exp(-squares / (2 * width**2)).max(1).mean())


def normalised(features: Array) -> Array:
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    rows = rows - rows.mean(0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centred = rows - rows.mean(0)
    rows = centred / np.sqrt(centred.var(0) + 0.1 * centred.var(0).mean())
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_coverage_is_greedy_as_by_hand(pool: Array) -> None:
    from frofa.labelling.suggestions.covering import WIDTH as FACTOR

    vectors = normalised(pool.astype(float))
    squares = ((vectors[:, None] - vectors) ** 2).sum(2)
    width = FACTOR * np.sqrt(np.quantile(squares[np.triu_indices(N, 1)], 0.5, method="lower"))
    rows, utilities = suggest(HEAD, pool, batch_size=6, return_utilities=True)
    chosen: list[int] = []
    for step in range(6):
        before = coverage_by_hand(vectors, np.array(chosen), width) if chosen else 0.0
        gains = [coverage_by_hand(vectors, np.array([*chosen, row]), width) - before for row in range(N)]
        free = ~np.isin(np.arange(N), chosen)
        np.testing.assert_allclose(utilities[step][free], np.array(gains)[free], rtol=1e-3, atol=1e-6)
        chosen.append(int(np.argmax(gains)))
    assert rows.tolist() == chosen


@pytest.mark.parametrize("strategy", ["auto", "coverage", "uncertainty", "margin", "entropy", "random"])
def test_utilities_are_largest_of_what_is_chosen(strategy: str, pool: Array, classes: Array) -> None:
    rows, utilities = suggest(
        HEAD, pool, pool[LABELLED], classes[LABELLED], 4, strategy=strategy, return_utilities=True, random_state=0
    )
    assert utilities.shape == (4, N)
    assert np.nanargmax(utilities, 1).tolist() == rows.tolist()
    for step in range(4):
        assert np.isnan(utilities[step, rows[:step]]).all()


def test_margin_and_the_like_follow_the_classifier(pool: Array, classes: Array) -> None:
    labelled = [0, 1, 31, 32]
    head = LogisticRegression().fit(pool[labelled], classes[labelled])
    proba = head.predict_proba(pool)
    unsure = np.argsort(-(1 - proba.max(1)), kind="stable")
    rows = suggest(LogisticRegression(), pool, pool[labelled], classes[labelled], 5, strategy="uncertainty")
    assert rows.tolist() == [row for row in unsure if row not in labelled][:5]
    # A fitted one, without the labels, is asked as it is.
    assert suggest(head, pool, strategy="uncertainty").tolist() == unsure[:10].tolist()


def as_blocks(pool: Array) -> FeatureBlocks:
    return FeatureBlocks({"pooled": [pool, pool]})


def as_tokens(pool: Array) -> Array:
    return np.repeat(pool[:, None], 4, axis=1)


def as_ragged(pool: Array) -> RaggedTokens:
    return RaggedTokens(np.repeat(pool, 4, axis=0), np.full((len(pool), 2), 2))


@pytest.mark.parametrize("kind", [as_blocks, as_tokens, as_ragged, pd.DataFrame, np.ndarray.tolist, np.float64])
def test_all_kinds_of_features_give_the_same(kind: Callable[[Array], Any], pool: Array, classes: Array) -> None:
    expected = suggest(HEAD, pool, pool[LABELLED], classes[LABELLED])
    assert suggest(HEAD, kind(pool), kind(pool[LABELLED]), classes[LABELLED]).tolist() == expected.tolist()


def test_candidates_are_all_that_is_suggested(pool: Array) -> None:
    allowed = np.arange(40, 70)
    rows = suggest(HEAD, pool, batch_size=5, candidates=allowed)
    assert set(rows) <= set(allowed)
    mask = np.isin(np.arange(N), allowed)
    assert suggest(HEAD, pool, batch_size=5, candidates=mask).tolist() == rows.tolist()


def test_one_class_is_no_classifier(pool: Array, classes: Array) -> None:
    covered = suggest(HEAD, pool, pool[:2], classes[:2], strategy="coverage")
    assert suggest(HEAD, pool, pool[:2], classes[:2]).tolist() == covered.tolist()
    with pytest.raises(ValueError, match=r"at least 2 classes\. Got 1: begin with strategy='auto'"):
        suggest(HEAD, pool, pool[:2], classes[:2], strategy="margin")


def test_uncertainty_counts_the_more_labels_there_are(pool: Array, classes: Array) -> None:
    from frofa.labelling.suggestions.answering import trust

    assert trust(np.array([0, 1])) < 0.01
    assert trust(np.repeat([0, 1], 15)) == 0.25
    assert trust(np.repeat([0, 1], 40)) == trust(None) == 1
    # A fitted classifier without its samples is trusted: of two classes, images of neither are what it is unsure of.
    known = np.flatnonzero(np.isin(classes, ["cat", "dog"]))
    head = ShrinkageProbeClassifier().fit(pool[known], classes[known])
    rows = suggest(head, pool, batch_size=3)
    assert not set(classes[rows]) & {"cat", "dog"}


def test_a_classifier_that_is_sure_of_all_leaves_coverage(pool: Array, classes: Array) -> None:
    class Sure(ShrinkageProbeClassifier):
        def predict_proba(self, X: Any) -> Array:
            return np.eye(len(self.classes_))[np.zeros(len(X), int)]

    labelled = pool[LABELLED], classes[LABELLED]
    assert suggest(Sure(), pool, *labelled).tolist() == suggest(HEAD, pool, *labelled, strategy="coverage").tolist()


def test_the_classifier_is_left_as_it_is(pool: Array, classes: Array) -> None:
    head = FewShotClassifier()
    suggest(head, pool, pool[LABELLED], classes[LABELLED])
    assert not hasattr(head, "classes_")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"classifier": "a probe"}, TypeError, "expected a classifier"),
        ({"classifier": RidgeClassifier(), "strategy": "auto"}, TypeError, "predict_proba"),
        ({"batch_size": 0}, ValueError, "batch_size of 1 or more. Got 0"),
        ({"max_exact": 1.5}, ValueError, "max_exact of 1 or more. Got 1.5"),
        ({"strategy": "best"}, ValueError, "expected a strategy of 'auto'"),
        ({"y": None}, ValueError, "expected X and y, or neither. Got X of type ndarray and y None"),
        ({"y": ["cat", "dog"]}, ValueError, "inconsistent numbers of samples"),
        ({"X": np.ones((3, 5))}, ValueError, "same features. Got 5 features and 8 features"),
        ({"X_pool": np.full((4, WIDTH), np.nan)}, ValueError, "finite features. Got NaN or infinity at position 0"),
        ({"X_pool": np.ones(4)}, ValueError, "expected features"),
        ({"candidates": [N]}, IndexError, "out of bounds"),
    ],
)
def test_errors_say_what_is_wrong(
    changes: dict[str, Any], error: type[Exception], message: str, pool: Array, classes: Array
) -> None:
    given = {"classifier": HEAD, "X_pool": pool, "X": pool[LABELLED], "y": classes[LABELLED], "strategy": "coverage"}
    with pytest.raises(error, match=message):
        suggest(**{**given, **changes})
