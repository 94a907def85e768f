"""Blocks of features behave as arrays do for scikit-learn, and keep what belongs to an image together."""

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from frofa import FeatureBlocks, RaggedTokens

N, VIEWS = 24, 3
rng = np.random.default_rng(0)
POOLED = rng.normal(size=(VIEWS, N, 5)).astype(np.float32)
MEAN = rng.normal(size=(VIEWS, N, 3)).astype(np.float16)
TOKENS = rng.normal(size=(VIEWS, N, 4, 3)).astype(np.float32)
y = np.repeat(["a", "b"], N // 2)


@pytest.fixture
def blocks() -> FeatureBlocks:
    return FeatureBlocks({"pooled": list(POOLED), "tokens": list(TOKENS), "mean": list(MEAN)})


def test_array_has_vectors_side_by_side_averaged_over_views(blocks: FeatureBlocks) -> None:
    expected = np.hstack([POOLED.mean(0), MEAN.astype(np.float64).mean(0)]).astype(np.float32)
    np.testing.assert_allclose(np.asarray(blocks), expected, rtol=1e-6, atol=1e-6)
    assert blocks.shape == np.asarray(blocks).shape == (N, 8)
    assert blocks.dtype == np.asarray(blocks).dtype == np.float32
    assert np.asarray(blocks, np.float64).dtype == np.float64
    assert blocks.feature_names() == [*(f"pooled_{i}" for i in range(5)), *(f"mean_{i}" for i in range(3))]


def test_one_view_is_itself(blocks: FeatureBlocks) -> None:
    np.testing.assert_array_equal(np.asarray(blocks.select(["mean"], n_views=1)), MEAN[0])


@pytest.mark.parametrize(
    "rows", [slice(2, 9, 3), [3, -1, 3], np.arange(N) % 2 == 0, np.array([], np.intp), (np.array([1, 0]), ...)]
)
def test_rows_keep_all_blocks_and_views(blocks: FeatureBlocks, rows: Any) -> None:
    chosen = blocks[rows]
    first = rows[0] if isinstance(rows, tuple) else rows
    np.testing.assert_array_equal(chosen.block("pooled"), POOLED[:, first].swapaxes(0, 1))
    np.testing.assert_array_equal(chosen.block("tokens"), TOKENS[:, first].swapaxes(0, 1))
    assert chosen.n_views == VIEWS


def test_one_row_and_columns_are_of_the_array(blocks: FeatureBlocks) -> None:
    np.testing.assert_array_equal(blocks[2], np.asarray(blocks)[2])
    np.testing.assert_array_equal(blocks[:, 1:3], np.asarray(blocks)[:, 1:3])


def test_tokens_alone_are_the_plain_image(blocks: FeatureBlocks) -> None:
    tokens = blocks.select(["tokens"])
    assert tokens.shape == (N, 4, 3)
    np.testing.assert_array_equal(np.asarray(tokens), TOKENS[0])


def test_scikit_learn_takes_them_as_an_array(blocks: FeatureBlocks) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(model, {"logisticregression__C": [0.1, 1]}, cv=3)
    found = search.fit(blocks, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, search.fit(np.asarray(blocks), y).cv_results_["mean_test_score"])
    np.testing.assert_array_equal(
        cross_val_predict(model, blocks, y, cv=3), cross_val_predict(model, np.asarray(blocks), y, cv=3)
    )


def test_column_transformer_puts_them_beside_other_columns(blocks: FeatureBlocks) -> None:
    frame = {"row": np.arange(N, dtype=np.float64)}
    pandas = pytest.importorskip("pandas")
    columns = ColumnTransformer(
        [("image", FunctionTransformer(lambda rows: blocks[rows["row"].to_numpy(int)]), ["row"])],
        remainder="passthrough",
    )
    found = columns.fit_transform(pandas.DataFrame({**frame, "other": 1.0}))
    np.testing.assert_array_equal(found, np.column_stack([np.asarray(blocks), np.ones(N)]).astype(found.dtype))


def test_ragged_tokens_stay_ragged() -> None:
    ragged = RaggedTokens(np.ones((10, 2), np.float32), np.array([[2, 3], [1, 4]]))
    blocks = FeatureBlocks({"mean": [np.zeros((2, 2))], "tokens": [ragged]})
    assert blocks[[1]].views("tokens")[0].grids.tolist() == [[1, 4]]


def test_they_survive_pickling(blocks: FeatureBlocks) -> None:
    copied = pickle.loads(pickle.dumps(blocks))  # noqa: S301 (our own)
    np.testing.assert_array_equal(copied.block("mean"), blocks.block("mean"))
    assert copied.names == blocks.names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "at least one block"),
        ({"a": []}, "one view or more"),
        ({"a": [POOLED[0]], "b": [MEAN[0], MEAN[1]]}, "same images and views"),
        ({"a": [POOLED[0]], "b": [MEAN[0][:3]]}, "same images and views"),
        ({"a": [POOLED[0], MEAN[0]]}, "all of one shape"),
        ({"a": [POOLED[0, 0]]}, r"features \(n, C\) or tokens"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureBlocks(given)


def test_wrong_names_views_and_rows_are_named(blocks: FeatureBlocks) -> None:
    with pytest.raises(KeyError, match="pooled, tokens, mean"):
        blocks.views("cls")
    with pytest.raises(ValueError, match="n_views of 1 to 3"):
        blocks.select(n_views=4)
    with pytest.raises(IndexError, match="a mask of these images has 24"):
        blocks[np.ones(3, bool)]
