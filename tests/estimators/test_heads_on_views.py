"""Heads on tokens of several views of the same images."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import _safe_indexing

from frofa import FeatureBlocks
from frofa.augmentations import Brightness
from frofa.estimators import BatchedSearchCV, MAPClassifier, RaggedTokens, SoftMoEClassifier
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.tokens import image_views
from frofa.estimators.tokens.image_views import LazyViews, views_on

N, V = 24, 3
y = np.tile(["cat", "dog", "owl"], N // 3)
rng = np.random.default_rng(0)
VIEWS = [(rng.normal(size=(N, 9, 8)) + 0.5 * np.eye(8)[np.arange(N) % 3][:, None]).astype(np.float32) for _ in range(V)]


def blocks(views: Any = VIEWS) -> Any:
    return FeatureBlocks({"mean": [view.mean(1) for view in views], "tokens": list(views)})


def head(kind: Any = MAPClassifier, **params: Any) -> Any:
    return kind(**{"augment": Brightness(0.3), "n_steps": 12, "random_state": 0, "device": "cpu", **params})


class Lazy:
    """Features that look as if they were not in memory."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> Any:
        return Lazy(self.values[rows])

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array(self.values, dtype)

    def tensor(self) -> Any:
        return torch.from_numpy(self.values.copy())

    def to_device(self, device: Any) -> Any:
        return self.tensor().to(device)


@pytest.mark.parametrize("kind", [MAPClassifier, SoftMoEClassifier])
def test_views_that_are_all_the_same_are_as_good_as_one(kind: Any) -> None:
    one = head(kind).fit(VIEWS[0], y)
    several = head(kind).fit(blocks([VIEWS[0]] * V), y)
    for name, weights in one.weights_.items():
        np.testing.assert_array_equal(several.weights_[name], weights)
    np.testing.assert_allclose(several.predict_proba(blocks()[:5].select(n_views=1)), one.predict_proba(VIEWS[0][:5]))


def test_a_head_trains_on_every_view_and_on_no_other_row() -> None:
    # A view that is not a number spoils the weights if it is ever drawn, and if it is not, it does not.
    spoilt = [VIEWS[0], VIEWS[1], VIEWS[2].copy()]
    spoilt[2][5] = 1e9
    seen = head(batch_size=8).fit(blocks(), y)
    without = head(batch_size=8).fit(blocks(VIEWS[:2]), y)
    changed = head(batch_size=8).fit(blocks(spoilt), y)
    assert not np.array_equal(seen.weights_["head.weight"], without.weights_["head.weight"])
    assert not np.array_equal(seen.weights_["head.weight"], changed.weights_["head.weight"])
    rows = np.delete(np.arange(N), 5)
    [left_out], [intact] = (fit_many(blocks(views), y, [Job(head(batch_size=8), rows)]) for views in (spoilt, VIEWS))
    assert isinstance(left_out, MAPClassifier)
    assert isinstance(intact, MAPClassifier)
    np.testing.assert_array_equal(left_out.weights_["head.weight"], intact.weights_["head.weight"])


def test_predictions_average_log_probabilities_over_views() -> None:
    fitted = head().fit(blocks(), y)
    logs = np.mean([np.log(fitted.predict_proba(view)) for view in VIEWS], axis=0)
    expected = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    np.testing.assert_allclose(fitted.predict_proba(blocks()), expected, rtol=1e-5)
    few = fitted.predict_proba(blocks().select(n_views=2))
    assert not np.allclose(few, expected)


def test_augmented_views_are_taken_of_every_view() -> None:
    fitted = head(augment=Brightness(0.3), n_views=2).fit(blocks(), y)
    scores = np.mean([fitted.decision_function(view) for view in VIEWS], axis=0)
    np.testing.assert_allclose(fitted.decision_function(blocks()), scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("small", [2**24, 0])
def test_lazy_views_train_as_arrays_do(monkeypatch: Any, small: Any) -> None:
    monkeypatch.setattr(image_views, "SMALL", small)
    lazy = FeatureBlocks({"tokens": [Lazy(view) for view in VIEWS]})
    assert isinstance(views_on(image_views.ImageViews(lazy.views("tokens")), torch.device("cpu")), LazyViews) == (
        small == 0
    )
    expected, found = head(batch_size=8).fit(blocks(), y), head(batch_size=8).fit(lazy, y)
    for name, weights in expected.weights_.items():
        np.testing.assert_array_equal(found.weights_[name], weights)
    np.testing.assert_allclose(found.predict_proba(lazy), expected.predict_proba(blocks()), rtol=1e-6)


def test_lazy_views_are_read_row_by_row() -> None:
    lazy = LazyViews([Lazy(view) for view in VIEWS], torch.device("cpu"))
    whole = np.concatenate(VIEWS)
    rows = torch.tensor([2 * N + 1, 0, N + 3, 0])
    np.testing.assert_array_equal(lazy[rows], whole[rows.numpy()])
    np.testing.assert_array_equal(lazy[N - 1 : N + 2], whole[N - 1 : N + 2])
    np.testing.assert_array_equal(lazy[N], whole[N])
    assert len(lazy) == len(whole)
    assert lazy.shape == whole.shape


def test_a_search_trains_views_together_and_never_splits_an_image() -> None:
    grid = {"augment": [None, Brightness(0.3)], "n_steps": [8, 12]}
    folds = StratifiedKFold(3)
    search = BatchedSearchCV(head(batch_size=8), grid, cv=folds, error_score="raise").fit(blocks(), y)
    alone = head(batch_size=8, augment=None, n_steps=12)
    train, test = next(folds.split(y, y))
    score = alone.fit(_safe_indexing(blocks(), train), y[train]).score(_safe_indexing(blocks(), test), y[test])
    assert search.cv_results_["split0_test_score"][1] == score


def test_early_stopping_looks_at_every_view() -> None:
    settings = {"validation_fraction": 0.25, "n_steps": 40, "lr": 0.1}
    fitted = head(**settings).fit(blocks(), y)
    same = head(**settings).fit(blocks([VIEWS[0]] * V), y)
    one = head(**settings).fit(VIEWS[0], y)
    assert same.n_iter_ == one.n_iter_
    assert 0 < fitted.n_iter_ <= 40


def test_half_precision_and_ragged_views() -> None:
    half = [view.astype(np.float16) for view in VIEWS]
    assert head().fit(blocks(half), y).score(blocks(half), y) > 0.5
    grids = np.tile([[3, 3], [1, 9]], (N // 2, 1))
    ragged = FeatureBlocks({"tokens": [RaggedTokens(view.reshape(-1, 8), grids) for view in VIEWS]})
    fitted, dense = head(augment=None).fit(ragged, y), head(augment=None).fit(blocks(), y)
    np.testing.assert_allclose(fitted.predict_proba(ragged), dense.predict_proba(blocks()), rtol=1e-3, atol=1e-5)


def test_blocks_of_vectors_are_a_single_token() -> None:
    vectors = blocks().select(["mean"])
    fitted = head().fit(vectors, y)
    np.testing.assert_allclose(fitted.predict_proba(vectors), fitted.predict_proba(np.asarray(vectors)))
    assert fitted.n_features_in_ == 8


def test_several_blocks_of_tokens_are_refused() -> None:
    several = FeatureBlocks({"tokens": VIEWS, "deeper": VIEWS})
    with pytest.raises(ValueError, match=r"one block of tokens: choose it by .*tokens, deeper"):
        head().fit(several, y)
    with pytest.raises(ValueError, match="9 features a token"):
        head().fit(blocks(), y).predict(FeatureBlocks({"tokens": [np.zeros((2, 4, 9))] * 2}))


def test_automatic_augmentation_is_left_off_where_there_are_several_views() -> None:
    fitted, none = head(augment="auto").fit(blocks(), y), head(augment=None).fit(blocks(), y)
    assert fitted.augment_ is None
    np.testing.assert_array_equal(fitted.weights_["head.weight"], none.weights_["head.weight"])
    assert head(augment="auto").fit(VIEWS[0], y).augment_.level == 0.1
    with pytest.raises(ValueError, match="no augmentation where images have several views, and n_views=2"):
        head(augment="auto", n_views=2).fit(blocks(), y).predict(blocks())
