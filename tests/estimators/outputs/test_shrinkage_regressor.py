"""The averaged ridge regression: exact without each sample, honest about errors, in the units of its targets."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from features import real_features
from refitting import refit
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import frofa
from frofa import FeatureBlocks, RaggedTokens
from frofa.estimators import ShrinkageRegressor

Array = npt.NDArray[np.float64]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 12)) + 1
Y = X @ RNG.normal(size=(12, 2)) + 0.5 * RNG.normal(size=(40, 2))


def blocks(n: int, width: int, n_views: int, seed: int = 0) -> FeatureBlocks:
    rng = np.random.default_rng(seed)
    plain = rng.normal(size=(n, width)) + 0.5
    views = [plain + 0.4 * rng.normal(size=plain.shape) for _ in range(n_views)]
    return FeatureBlocks({"a": [v[:, : width // 3] for v in views], "b": [9 * v[:, width // 3 :] for v in views]})


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "width", "n_views"), [(9, 15, 1), (9, 15, 3), (20, 6, 3), (2, 6, 1), (3, 9, 2)])
def test_leaving_samples_out_equals_fitting_without_them(n: int, width: int, n_views: int, weighted: bool) -> None:
    features, new = blocks(n, width, n_views), blocks(4, width, n_views, seed=1)
    rng = np.random.default_rng(2)
    y = np.asarray(features)[:, :2] + rng.normal(size=(n, 2)) + [5, -70]
    w = rng.uniform(0.5, 2, n) if weighted else np.ones(n)
    regressor = ShrinkageRegressor().fit(features, y, 3 * w)
    knives = regressor.predict_interval(new, 0.6 if n > 2 else 0.3, allow_infinite_bounds=True)[1]
    for output in range(2):
        expected = refit(features, y[:, output], new, w)
        np.testing.assert_allclose(regressor.loo_predictions_[:, output], expected.left_out, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(regressor.predict(new)[:, output], expected.predicted, rtol=1e-8, atol=1e-8)
        if not weighted:
            size = np.abs(y[:, output] - expected.left_out)
            level = 0.6 if n > 2 else 0.3
            rank = int(np.ceil(level * (n + 1) - 1e-9)) - 1
            if rank < n:
                upper = np.sort(expected.without_each + size, axis=1)[:, rank]
                lower = -np.sort(size - expected.without_each, axis=1)[:, rank]
                np.testing.assert_allclose(knives[:, output, :, 0], np.stack([lower, upper], 1), rtol=1e-8, atol=1e-8)


def test_what_is_said_of_left_out_samples_is_true_of_new_ones() -> None:
    data = real_features("mean")
    features, y = data.shots(20)
    rng = np.random.default_rng(0)
    classes, position = np.unique([*y, *data.y_held_out], return_inverse=True)
    amounts = rng.normal(size=len(classes))
    targets = amounts[position] + 0.5 * rng.normal(size=len(position))
    regressor = ShrinkageRegressor().fit(features, targets[: len(y)])
    true, (predicted, deviations) = targets[len(y) :], regressor.predict(data.held_out, return_std=True)
    assert regressor.loo_rmse_ == pytest.approx(mean_squared_error(true, predicted) ** 0.5, rel=0.2)
    assert regressor.loo_r2_ == pytest.approx(r2_score(true, predicted), abs=0.15)
    assert np.mean(((true - predicted) / deviations) ** 2) == pytest.approx(1, abs=0.3)
    assert 0.4 < regressor.sigma_ < regressor.loo_rmse_
    _, bounds = regressor.predict_interval(data.held_out, [0.5, 0.9])
    covered = ((true[:, None] >= bounds[:, 0]) & (true[:, None] <= bounds[:, 1])).mean(0)
    np.testing.assert_allclose(covered, [0.5, 0.9], atol=0.1)
    tuned = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 15))).fit(features, targets[: len(y)])
    assert r2_score(true, predicted) > r2_score(true, tuned.predict(data.held_out)) - 0.02


def test_deviations_grow_away_from_the_samples() -> None:
    regressor = ShrinkageRegressor().fit(X, Y[:, 0])
    _, near = regressor.predict(X.mean(0, keepdims=True), return_std=True)
    _, far = regressor.predict(X.mean(0, keepdims=True) + 100, return_std=True)
    assert far > 2 * near > 2 * regressor.sigma_


@pytest.mark.parametrize("factor", [1e-200, 3e7, -1e60])
def test_predictions_are_in_the_units_of_the_targets(factor: float) -> None:
    plain, scaled = ShrinkageRegressor().fit(X, Y), ShrinkageRegressor().fit(X, factor * (Y - 3))
    np.testing.assert_allclose(scaled.predict(X), factor * (plain.predict(X) - 3), rtol=1e-7)
    np.testing.assert_allclose(scaled.predict(X, return_std=True)[1], abs(factor) * plain.predict(X, True)[1])
    np.testing.assert_allclose(scaled.loo_r2_, plain.loo_r2_)
    assert scaled.loo_rmse_ == pytest.approx(abs(factor) * plain.loo_rmse_)


def test_outputs_are_as_if_fitted_by_themselves() -> None:
    both = ShrinkageRegressor().fit(X, Y)
    assert both.predict(X).shape == both.loo_predictions_.shape == (40, 2)
    assert both.coef_.shape == (3, 2, 12)
    for output in range(2):
        one = ShrinkageRegressor().fit(X, Y[:, output])
        np.testing.assert_allclose(one.predict(X), both.predict(X)[:, output])
        np.testing.assert_allclose(one.weights_, both.weights_[:, output], atol=1e-12)
        np.testing.assert_allclose(one.predict_interval(X)[1], both.predict_interval(X)[1][:, output])
        np.testing.assert_allclose(one.predict(X, return_std=True)[1], both.predict(X, return_std=True)[1][:, output])
        assert one.loo_r2_ == pytest.approx(both.loo_r2_[output])
        assert isinstance(one.intercept_, float)
    column = ShrinkageRegressor().fit(X, Y[:, :1])
    assert column.predict(X).shape == (40, 1)


def test_constant_targets_are_predicted_exactly() -> None:
    y = np.stack([np.full(40, 0.1), Y[:, 0]], 1)
    regressor = ShrinkageRegressor().fit(X, y)
    predicted, deviations = regressor.predict(X + 5, return_std=True)
    np.testing.assert_array_equal(predicted[:, 0], 0.1)
    np.testing.assert_array_equal(deviations[:, 0], 0)
    np.testing.assert_array_equal(regressor.predict_interval(X)[1][:, 0], 0.1)
    assert regressor.loo_r2_[0] == 1
    assert regressor.loo_rmse_[0] == regressor.sigma_[0] == 0


def test_features_without_information_give_the_mean() -> None:
    regressor = ShrinkageRegressor().fit(np.ones((5, 3)), np.arange(5.0))
    predicted, deviations = regressor.predict(np.ones((2, 3)), return_std=True)
    np.testing.assert_allclose(predicted, 2)
    assert np.isfinite(deviations).all()
    noise = np.random.default_rng(1).normal(size=200)
    predicted = ShrinkageRegressor().fit(RNG.normal(size=(200, 4)), noise).predict(RNG.normal(size=(50, 4)))
    assert predicted.std() < 0.2 * noise.std()


def test_samples_without_weight_are_not_there() -> None:
    w = np.r_[np.ones(30), np.zeros(10)]
    weighted, part = ShrinkageRegressor().fit(X, Y, w), ShrinkageRegressor().fit(X[:30], Y[:30])
    np.testing.assert_allclose(weighted.predict(X), part.predict(X))
    assert np.isnan(weighted.loo_predictions_[30:]).all()
    np.testing.assert_allclose(weighted.loo_predictions_[:30], part.loo_predictions_)
    np.testing.assert_allclose(weighted.predict_interval(X, 0.8)[1], part.predict_interval(X, 0.8)[1])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.where(np.arange(40) == 3, np.nan, 1.0), "Input y contains NaN"),
        (np.where(np.arange(80).reshape(40, 2) == 3, np.nan, 1.0), "Input y contains NaN"),
        (np.repeat(["a", "b"], 20), "predicts numbers.*ShrinkageProbeClassifier"),
        (None, "requires y to be passed"),
        (np.ones((40, 2, 2)), "Found array with dim 3"),
        (np.full(40, 1e90), "features must be between|magnitude"),
        (np.ones(39), "inconsistent numbers of samples"),
    ],
)
def test_targets_that_are_none_are_errors(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShrinkageRegressor().fit(X, y)


def test_too_few_samples_are_errors() -> None:
    with pytest.raises(ValueError, match="needs 2 samples of positive weight or more"):
        ShrinkageRegressor().fit(X, Y, np.r_[1, np.zeros(39)])
    regressor = ShrinkageRegressor().fit(X[:8], Y[:8, 0])
    with pytest.raises(ValueError, match=r"an interval of 0.9 needs 9 samples of equal weight. Got 8"):
        regressor.predict_interval(X)
    assert np.isinf(regressor.predict_interval(X, [0.5, 0.9], allow_infinite_bounds=True)[1][:, :, 1]).all()
    with pytest.raises(ValueError, match="keep_support=False"):
        ShrinkageRegressor(keep_support=False).fit(X, Y).predict_interval(X)
    with pytest.raises(ValueError, match="between 0 and 1"):
        regressor.predict_interval(X, 90)
    with pytest.raises(ValueError, match="'auto', which classifiers have alone"):
        ShrinkageRegressor(block_weights="auto").fit(X, Y)


def test_features_of_every_kind_are_taken() -> None:
    tokens = RNG.normal(size=(40, 5, 12)).astype(np.float16)
    mean = tokens.astype(np.float64).mean(1)
    ragged = RaggedTokens(tokens.reshape(200, 12), [(1, 5)] * 40)
    expected = ShrinkageRegressor().fit(mean, Y).predict(mean)
    for given in (tokens, torch.from_numpy(tokens), ragged, FeatureBlocks({"t": [tokens]})):
        np.testing.assert_allclose(ShrinkageRegressor().fit(given, Y).predict(given), expected, rtol=1e-6, atol=1e-8)
    frame = pd.DataFrame(mean, columns=[f"c{i}" for i in range(12)])
    regressor = ShrinkageRegressor().fit(frame, pd.DataFrame(Y))
    np.testing.assert_allclose(regressor.predict(frame), expected)
    np.testing.assert_allclose(ShrinkageRegressor().fit(mean, torch.from_numpy(Y)).predict(mean), expected)
    assert regressor.feature_names_in_.tolist() == frame.columns.tolist()
    several = blocks(30, 9, 2)
    one = ShrinkageRegressor(block_weights={"a": 0.2, "b": 0.8}).fit(several, Y[:30])
    assert one.block_weights_ == {"a": 0.2, "b": 0.8}
    np.testing.assert_allclose(one.predict(several.select(["b", "a"])), one.predict(several))
    cut = ShrinkageRegressor(block_sizes=[3, 6]).fit(np.asarray(several), Y[:30])
    assert list(cut.blocks_.values()) == [3, 6]


@pytest.mark.parametrize("keep_support", [True, False])
def test_it_is_saved_with_its_intervals(keep_support: bool, tmp_path: Path) -> None:
    several = blocks(30, 9, 2)
    for y in (Y[:30], Y[:30, 0]):
        regressor = ShrinkageRegressor(keep_support=keep_support).fit(several, y)
        frofa.save(regressor, tmp_path / "regressor.frofa")
        loaded = frofa.load(tmp_path / "regressor.frofa")
        for with_std in zip(loaded.predict(several, True), regressor.predict(several, True), strict=True):
            np.testing.assert_array_equal(*with_std)
        if keep_support:
            np.testing.assert_array_equal(loaded.predict_interval(several)[1], regressor.predict_interval(several)[1])
        assert hasattr(loaded, "support_") == keep_support
    pipeline = make_pipeline(StandardScaler(), ShrinkageRegressor()).fit(X, Y)
    frofa.save(pipeline, tmp_path / "pipeline.frofa")
    np.testing.assert_array_equal(frofa.load(tmp_path / "pipeline.frofa").predict(X), pipeline.predict(X))


def test_it_is_searched_and_validated() -> None:
    search = GridSearchCV(ShrinkageRegressor(), {"block_sizes": [None, [4, 8]]}, cv=3).fit(X, Y)
    assert search.best_score_ > 0.5
    assert cross_val_score(clone(search.best_estimator_), blocks(30, 9, 2), Y[:30]).shape == (5,)
