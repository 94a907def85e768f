"""The averaged shrinkage probe: what it takes, what it says of itself, and where it is kept."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from features import gaussian, real_features
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

import frofa
from frofa import FeatureBlocks
from frofa.estimators import (
    BatchedSearchCV,
    FewShotClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
    TransductiveClassifier,
)

X, Y = gaussian(60, 20)
NAMES = np.array(["cat", "ant", "bee"])
VIEWS = 3
RNG = np.random.default_rng(0)
BLOCKS = FeatureBlocks(
    {
        "pooled": [(X[:, :12] + 0.1 * RNG.normal(size=(60, 12))).astype(np.float32) for _ in range(VIEWS)],
        "mean": [X[:, 12:] + 0.1 * RNG.normal(size=(60, 8)) for _ in range(VIEWS)],
    }
)


def test_it_is_no_worse_than_either_end_of_the_path_on_features_of_images() -> None:
    data = real_features("mean")

    def accuracy(head: Any) -> float:
        return float(np.mean([head.fit(*data.shots(k)).score(data.held_out, data.y_held_out) for k in (2, 5, 10, 20)]))

    for other in (PrototypeClassifier(), RidgeProbeClassifier()):
        assert accuracy(ShrinkageProbeClassifier()) > accuracy(other) - 0.01


@pytest.mark.parametrize("shots", [5, 20])
def test_probabilities_are_calibrated(shots: int) -> None:
    data = real_features("mean")
    head = ShrinkageProbeClassifier().fit(*data.shots(shots))
    probabilities = head.predict_proba(data.held_out)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    losses = [
        log_loss(data.y_held_out, probabilities**power / (probabilities**power).sum(1, keepdims=True))
        for power in (0.5, 1, 2)
    ]
    assert losses[1] < min(losses) + 0.06
    assert abs(head.loo_log_loss_ - losses[1]) < 0.25
    assert head.loo_log_loss_ == pytest.approx(log_loss(data.shots(shots)[1], head.loo_proba_))


def test_labels_may_be_strings_and_classes_two() -> None:
    head, coded = ShrinkageProbeClassifier().fit(X, NAMES[Y]), ShrinkageProbeClassifier().fit(X, Y)
    np.testing.assert_array_equal(head.predict(X), NAMES[coded.predict(X)])
    two = ShrinkageProbeClassifier().fit(X[Y < 2], NAMES[Y[Y < 2]])
    np.testing.assert_allclose(
        two.predict_proba(X)[:, 1], 1 / (1 + np.exp(-two.decision_function(X))), rtol=1e-9, atol=1e-12
    )


def test_blocks_bring_their_names_and_plain_features_are_cut() -> None:
    head = ShrinkageProbeClassifier().fit(BLOCKS, Y)
    assert head.blocks_ == {"pooled": 12, "mean": 8}
    plain = ShrinkageProbeClassifier(block_sizes=[12, 8]).fit(np.asarray(BLOCKS), Y)
    one = BLOCKS.select(["mean", "pooled"])
    for features in (
        BLOCKS,
        np.asarray(BLOCKS),
        one,
        FeatureBlocks({"other": [X], **{n: one.views(n)[:1] for n in one.names}}),
    ):
        assert head.predict_proba(features).shape == (60, 3)
    np.testing.assert_allclose(head.predict_proba(one), head.predict_proba(BLOCKS))
    # Plain features are averaged over views before each is brought to length one, blocks after.
    np.testing.assert_allclose(head.predict_proba(np.asarray(BLOCKS)), head.predict_proba(BLOCKS), atol=1e-3)
    cut = FeatureBlocks({"features_0": [np.asarray(BLOCKS)[:, :12]], "features_1": [np.asarray(BLOCKS)[:, 12:]]})
    np.testing.assert_allclose(plain.predict_proba(np.asarray(BLOCKS)), plain.predict_proba(cut))
    assert head.predict_proba(BLOCKS.select(n_views=1)).shape == (60, 3)
    with pytest.raises(ValueError, match=r"was fitted to blocks of pooled \(12 channels\), mean \(8 channels\)"):
        head.predict(BLOCKS.select(["mean"]))
    with pytest.raises(ValueError, match="add up to the 20 features"):
        ShrinkageProbeClassifier(block_sizes=[12, 9]).fit(X, Y)


def test_blocks_count_the_same_whatever_their_scales() -> None:
    scaled = FeatureBlocks({"pooled": BLOCKS.views("pooled"), "mean": [1000 * view for view in BLOCKS.views("mean")]})
    np.testing.assert_allclose(
        ShrinkageProbeClassifier().fit(scaled, Y).predict_proba(scaled),
        ShrinkageProbeClassifier().fit(BLOCKS, Y).predict_proba(BLOCKS),
        rtol=1e-8,
    )


def test_tokens_are_averaged() -> None:
    tokens, y = real_features("tokens").shots(3)
    pooled = tokens.mean(1, dtype=np.float64)
    head = ShrinkageProbeClassifier().fit(tokens, y)
    np.testing.assert_array_equal(head.coef_, ShrinkageProbeClassifier().fit(pooled, y).coef_)
    np.testing.assert_array_equal(head.decision_function(tokens), head.decision_function(pooled))
    np.testing.assert_array_equal(
        head.coef_, ShrinkageProbeClassifier().fit(FeatureBlocks({"tokens": [tokens]}), y).coef_
    )


def test_one_shot_is_near_the_nearest_mean() -> None:
    support = real_features("mean").shots(1)
    head, held_out = ShrinkageProbeClassifier().fit(*support), real_features("mean").held_out
    # Length one, centred, length one.
    means, features = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (support[0], held_out))
    means, features = means - means.mean(0), features - means.mean(0)
    cosines = features @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    assert (head.predict(held_out) == support[1][cosines.argmax(1)]).mean() > 0.85
    assert 0.3 < head.predict_proba(held_out).max(1).mean() < 0.7
    assert np.isnan(head.loo_proba_).all()
    assert np.isnan([head.loo_accuracy_, head.loo_log_loss_]).all()


def test_classes_of_one_sample_stand_beside_others() -> None:
    rows = np.flatnonzero((Y > 0) | (np.arange(60) == 0))
    head = ShrinkageProbeClassifier().fit(X[rows], Y[rows])
    assert np.isnan(head.loo_proba_[0]).all()
    assert np.isfinite(head.loo_proba_[1:]).all()


@pytest.mark.parametrize("prior", [[0.5, 0.3, 0.2], {"ant": 0.3, "bee": 0.2, "cat": 0.5}])
def test_priors_shift_the_logits(prior: Any) -> None:
    uniform = ShrinkageProbeClassifier().fit(X, NAMES[Y])
    given = ShrinkageProbeClassifier(class_prior=prior).fit(X, NAMES[Y])
    values = prior if isinstance(prior, list) else [prior[name] for name in sorted(prior)]
    shifts = given.intercept_ - np.log(values)
    assert np.ptp(shifts - (uniform.intercept_ - np.log(1 / 3))) < 1  # temperatures move a little


def test_empirical_priors_are_those_of_the_weights() -> None:
    weights = np.where(Y == 0, 3.0, 1.0)
    empirical = ShrinkageProbeClassifier(class_prior="empirical").fit(X, Y, weights)
    given = ShrinkageProbeClassifier(class_prior=[0.6, 0.2, 0.2]).fit(X, Y, weights)
    np.testing.assert_allclose(empirical.predict_proba(X), given.predict_proba(X), rtol=0.1, atol=0.01)
    balanced = ShrinkageProbeClassifier(class_prior="empirical", class_weight="balanced").fit(X[3:], Y[3:])
    assert np.isfinite(balanced.loo_log_loss_)


@pytest.mark.parametrize("kind", [ShrinkageProbeClassifier, FewShotClassifier, TransductiveClassifier])
def test_without_priors_classes_are_equally_frequent(kind: Any) -> None:
    none, uniform, empirical = (
        kind(class_prior=prior).fit(X[1:], Y[1:]).predict_proba(X) for prior in (None, "uniform", "empirical")
    )
    np.testing.assert_array_equal(none, uniform)
    assert np.abs(none - empirical).max() > 1e-6


@pytest.mark.parametrize(
    "prior", ["flat", [0.5, 0.5], [1, 1, -1], [0, 0, 0], [1, 1, np.nan], {0: 0.5, 1: 0.5}, ["a", "b", "c"]]
)
def test_other_priors_are_errors(prior: Any) -> None:
    with pytest.raises(ValueError, match="class_prior"):
        ShrinkageProbeClassifier(class_prior=prior).fit(X, Y)


def test_a_class_without_weight_is_never_predicted() -> None:
    weights = np.where(Y == 1, 0.0, 1.0)
    head = ShrinkageProbeClassifier().fit(X, Y, weights)
    assert head.predict_proba(X)[:, 1].max() == 0
    others = ShrinkageProbeClassifier().fit(X[Y != 1], Y[Y != 1])
    np.testing.assert_allclose(head.predict_proba(X)[:, [0, 2]], others.predict_proba(X), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("features", [X, BLOCKS], ids=["array", "blocks"])
def test_it_is_saved_and_pickled(features: Any, tmp_path: Path) -> None:
    head = ShrinkageProbeClassifier().fit(features, NAMES[Y])
    frofa.save(head, tmp_path / "head.frofa")
    loaded, copied = frofa.load(tmp_path / "head.frofa"), pickle.loads(pickle.dumps(head))  # noqa: S301
    for other in (loaded, copied):
        np.testing.assert_array_equal(other.predict_proba(features), head.predict_proba(features))
        assert other.members_ == head.members_


@pytest.mark.parametrize("features", [X, BLOCKS], ids=["array", "blocks"])
def test_it_is_searched(features: Any) -> None:
    grid = {"class_prior": ["uniform", "empirical"]}
    one = GridSearchCV(ShrinkageProbeClassifier(), grid, cv=3, scoring="neg_log_loss").fit(features, Y)
    many = BatchedSearchCV(ShrinkageProbeClassifier(), grid, cv=3, scoring="neg_log_loss").fit(features, Y)
    np.testing.assert_allclose(many.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"], rtol=1e-8)
    assert clone(many.best_estimator_).get_params() == many.best_estimator_.get_params()


def test_a_background_is_what_features_are_normalised_by() -> None:
    rng = np.random.default_rng(1)
    other = rng.normal(size=(500, 20)) * np.linspace(1, 3, 20) + 1
    head = ShrinkageProbeClassifier(background=other).fit(X[:3], Y[:3])
    unit = np.vstack([X[:3], other])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    np.testing.assert_allclose(head.shifts_[0], unit.mean(0))
    centred = unit - unit.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(head.scales_[1], np.sqrt(centred.var(0) + 0.1 * centred.var(0).mean()))
    with pytest.raises(ValueError, match="20 features"):
        ShrinkageProbeClassifier(background=other[:, :5]).fit(X, Y)


def test_a_search_shares_a_background() -> None:
    grid = {"background": [None, BLOCKS[:9]], "class_weight": [None, "balanced"]}
    one = GridSearchCV(ShrinkageProbeClassifier(), grid, cv=3, scoring="neg_log_loss").fit(BLOCKS, Y)
    many = BatchedSearchCV(ShrinkageProbeClassifier(), grid, cv=3, scoring="neg_log_loss").fit(BLOCKS, Y)
    np.testing.assert_allclose(many.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"], rtol=1e-8)


def with_noise() -> FeatureBlocks:
    noise = np.random.default_rng(2).normal(size=(3, 60, 30))
    signal = noise[2] + np.random.default_rng(3).normal(size=(3, 30))[Y]
    return FeatureBlocks({"noise": [noise[0]], "pooled": [signal], "more": [noise[1]]})


def test_blocks_of_no_use_get_small_weights() -> None:
    blocks = with_noise()
    chosen = ShrinkageProbeClassifier(block_weights="auto").fit(blocks, Y)
    assert sum(chosen.block_weights_.values()) == pytest.approx(1)
    assert chosen.block_weights_["pooled"] > 0.5
    assert chosen.loo_log_loss_ < ShrinkageProbeClassifier().fit(blocks, Y).loo_log_loss_
    # One sample a class says nothing of blocks.
    assert ShrinkageProbeClassifier(block_weights="auto").fit(blocks[:3], Y[:3]).block_weights_ == pytest.approx(
        dict.fromkeys(blocks.names, 1 / 3)
    )


@pytest.mark.parametrize("weights", [{"pooled": 2.0, "noise": 0.0, "more": 0.0}, [0, 1, 0]], ids=str)
def test_a_block_of_weight_zero_is_as_good_as_absent(weights: Any) -> None:
    blocks = with_noise()
    given = ShrinkageProbeClassifier(block_weights=weights).fit(blocks, Y)
    alone = blocks.select(["pooled"])
    expected = ShrinkageProbeClassifier().fit(alone, Y)
    np.testing.assert_allclose(given.predict_proba(blocks), expected.predict_proba(alone), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(given.loo_proba_, expected.loo_proba_, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("weights", ["best", [1, 1], [0, 0, 0], [1, 1, -1], {"pooled": 1.0}, ["a", "b", "c"]], ids=str)
def test_other_weights_of_blocks_are_errors(weights: Any) -> None:
    with pytest.raises(ValueError, match="block_weights"):
        ShrinkageProbeClassifier(block_weights=weights).fit(with_noise(), Y)


def test_a_search_chooses_weights_fit_by_fit() -> None:
    grid = {"block_weights": ["equal", "auto", {"noise": 0.1, "pooled": 0.8, "more": 0.1}]}
    one = GridSearchCV(ShrinkageProbeClassifier(), grid, cv=3, scoring="neg_log_loss").fit(with_noise(), Y)
    many = BatchedSearchCV(ShrinkageProbeClassifier(), grid, cv=3, scoring="neg_log_loss").fit(with_noise(), Y)
    np.testing.assert_allclose(many.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"], rtol=1e-8)


def test_sample_weights_are_routed() -> None:
    weights = np.random.default_rng(4).uniform(0.1, 3, 60)
    seen = []

    class Probe(ShrinkageProbeClassifier):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Probe":
            seen.append(sample_weight)
            super().fit(X, y, sample_weight)
            return self

    with sklearn.config_context(enable_metadata_routing=True):
        probe = Probe().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        GridSearchCV(probe, {"class_prior": ["uniform"]}, cv=3).fit(X, Y, sample_weight=weights)
    assert [len(each) for each in seen] == [40, 40, 40, 60]
    np.testing.assert_array_equal(seen[-1], weights)


def test_weights_are_relative() -> None:
    weights = np.random.default_rng(4).uniform(0.1, 3, 60)
    one, many = (ShrinkageProbeClassifier(class_prior="empirical").fit(X, Y, k * weights) for k in (1, 1e6))
    np.testing.assert_allclose(one.predict_proba(X), many.predict_proba(X), rtol=1e-9)
    np.testing.assert_allclose(one.loo_proba_, many.loo_proba_, rtol=1e-9)
