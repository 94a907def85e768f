from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skactiveml.pool
from skactiveml.classifier import SklearnClassifier
from skactiveml.utils import unlabeled_indices
from sklearn.base import clone

from frofa import FeatureBlocks, suggest
from frofa.estimators import ShrinkageProbeClassifier
from frofa.labelling import UncertaintyHerding

Array = npt.NDArray[Any]
HEAD = ShrinkageProbeClassifier()
CLASSES = np.repeat([0, 1, 2], 20)


@pytest.fixture(scope="module", name="X")
def samples() -> Array:
    return np.asarray(np.random.default_rng(0).normal(size=(60, 8)) + 6 * np.eye(3, 8)[CLASSES])


def labels(missing: Any) -> Array:
    """Six of them are known."""
    if isinstance(missing, str) or missing is None:
        y = np.full(60, missing, dtype=object)
        y[::10] = np.array(["a", "b", "c"], dtype=object)[CLASSES[::10]]
        return y
    y = np.full(60, missing)
    y[::10] = CLASSES[::10]
    return y


@pytest.mark.parametrize("missing", [np.nan, None, -1, "unknown"])
def test_missing_labels_are_marked_as_in_scikit_activeml(missing: Any, X: Array) -> None:
    expected = suggest(HEAD, X, X[::10], CLASSES[::10], 5)
    strategy = UncertaintyHerding(missing_label=missing)
    rows, utilities = strategy.query(X, labels(missing), clf=HEAD, batch_size=5, return_utilities=True)
    assert rows.tolist() == expected.tolist()
    assert utilities.shape == (5, 60)
    assert np.isnan(utilities[:, ::10]).all()
    assert np.isnan(utilities[4]).sum() == 6 + 4


def test_a_loop_of_scikit_activeml_takes_it(X: Array) -> None:
    y = np.full(60, np.nan)
    clf = SklearnClassifier(HEAD, classes=[0, 1, 2])
    strategy = clone(UncertaintyHerding(random_state=0))
    for _ in range(3):
        rows = strategy.query(X, y, clf=clf, batch_size=2)
        assert set(rows) <= set(unlabeled_indices(y))
        y[rows] = CLASSES[rows]
    assert clf.fit(X, y).score(X, CLASSES) > 0.95


def test_candidates_are_positions_or_samples(X: Array) -> None:
    y = labels(np.nan)
    few = np.arange(1, 9)
    rows, utilities = UncertaintyHerding().query(X, y, clf=HEAD, candidates=few, batch_size=3, return_utilities=True)
    assert set(rows) <= set(few)
    assert np.isfinite(utilities[0]).sum() == 8
    others = X[few] + 0.1
    rows, utilities = UncertaintyHerding().query(X, y, clf=HEAD, candidates=others, batch_size=3, return_utilities=True)
    assert utilities.shape == (3, 8)
    assert np.nanargmax(utilities, 1).tolist() == rows.tolist()
    with pytest.raises(ValueError, match=r"candidates of 8 features, as X has\. Got 2"):
        UncertaintyHerding().query(X, y, candidates=np.ones((4, 2)))


def test_a_fitted_classifier_is_asked_as_it_is(X: Array) -> None:
    fitted = clone(HEAD).fit(X[::10], CLASSES[::10])
    y = labels(np.nan)
    expected = UncertaintyHerding().query(X, y, clf=HEAD, batch_size=5)
    assert UncertaintyHerding().query(X, y, clf=fitted, fit_clf=False, batch_size=5).tolist() == expected.tolist()


def test_without_a_classifier_it_is_coverage(X: Array) -> None:
    y = labels(np.nan)
    expected = suggest(HEAD, X, X[::10], CLASSES[::10], 5, strategy="coverage")
    assert UncertaintyHerding().query(X, y, batch_size=5).tolist() == expected.tolist()


NEEDING_NO_CLASSIFIER = [skactiveml.pool.TypiClust, skactiveml.pool.ProbCover, skactiveml.pool.MaxHerding]
NEEDING_ONE = [skactiveml.pool.Badge, skactiveml.pool.UncertaintySampling, skactiveml.pool.DropQuery]


@pytest.mark.parametrize("kind", [*NEEDING_NO_CLASSIFIER, *NEEDING_ONE])
@pytest.mark.parametrize("missing", [np.nan, -1, "?"])
def test_strategies_of_scikit_activeml_are_used(kind: Any, missing: Any, X: Array) -> None:
    y = np.array(["a", "b", "c"])[CLASSES]
    strategy = kind(missing_label=missing, random_state=0)
    # Some of them draw from the global generator.
    state = np.random.get_state()  # noqa: NPY002
    rows, utilities = suggest(HEAD, X, X[::10], y[::10], 4, strategy=strategy, return_utilities=True)
    np.random.set_state(state)  # noqa: NPY002
    assert len(set(rows)) == 4
    assert not set(rows) & set(range(0, 60, 10))
    assert utilities.shape == (4, 60)


def test_uncertainty_sampling_of_scikit_activeml_is_ours(X: Array) -> None:
    expected = suggest(HEAD, X, X[::10], CLASSES[::10], 5, strategy="uncertainty")
    strategy = skactiveml.pool.UncertaintySampling(method="least_confident", random_state=0)
    assert suggest(HEAD, X, X[::10], CLASSES[::10], 5, strategy=strategy).tolist() == expected.tolist()


def test_they_see_the_blocks_side_by_side(X: Array) -> None:
    blocks = FeatureBlocks({"a": [X[:, :4], X[:, :4]], "b": [X[:, 4:], X[:, 4:]]})
    head = ShrinkageProbeClassifier(block_sizes=[4, 4])
    expected = suggest(head, X, X[::10], CLASSES[::10], 5, strategy="margin")
    strategy = skactiveml.pool.UncertaintySampling(method="margin_sampling", random_state=0)
    assert suggest(HEAD, blocks, blocks[::10], CLASSES[::10], 5, strategy=strategy).tolist() == expected.tolist()


def test_any_object_with_query_is_a_strategy(X: Array) -> None:
    class Last:
        def query(self, X: Array, y: Array, candidates: Array, batch_size: int) -> Array:
            assert len(X) == len(y) == 66
            return candidates[-batch_size:]

    assert suggest(HEAD, X, X[::10], CLASSES[::10], 3, strategy=Last()).tolist() == [57, 58, 59]


def test_what_a_strategy_needs_is_said(X: Array) -> None:
    class Asks:
        def query(self, X: Any, y: Any, ensemble: Any, candidates: Any, batch_size: int) -> Any:
            return ensemble.predict(X)[candidates][y][:batch_size]

    with pytest.raises(TypeError, match=r"expected a strategy with query\(X, y, clf"):
        suggest(HEAD, X, strategy=Asks())
    with pytest.raises(ValueError, match=r"Badge needs samples of at least 2 classes\. Got 0: begin with"):
        suggest(HEAD, X, strategy=skactiveml.pool.Badge())
