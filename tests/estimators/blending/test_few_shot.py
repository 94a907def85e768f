"""The few-shot classifier: what it fits, what it blends, and what it says of it."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.base import clone

import frofa
from frofa import FeatureBlocks
from frofa.estimators import FewShotClassifier, MAPClassifier, ShrinkageProbeClassifier
from frofa.estimators.blending import members
from frofa.estimators.models.map_head import init_map_head
from frofa.estimators.models.map_model import HeadWeights

N, V = 30, 2
CODES = np.repeat([0, 1, 2], N // 3)
y = np.array(["cat", "dog", "owl"])[CODES]
rng = np.random.default_rng(0)


def tokens(signal: float) -> Any:
    """Views (V, n, 16, 8) in which two tokens, at random places, tell the class, and their mean tells nothing."""
    views = rng.normal(size=(V, N, 16, 8)).astype(np.float32)
    places = np.argsort(rng.random((N, 16)))[:, :2]
    views[:, np.arange(N), places[:, 0], CODES] += signal
    views[:, np.arange(N), places[:, 1], CODES] -= signal
    return views


def blocks(signal: float, of_mean: float) -> Any:
    found = tokens(signal)
    mean = found.mean(2) + of_mean * np.eye(8)[CODES]
    return FeatureBlocks({"mean": list(mean), "tokens": list(found)})


TELLING, NOISE = blocks(16, 0.2), blocks(0, 1)


def classifier(effort: Any = "high", **params: Any) -> Any:
    return FewShotClassifier(effort, **{"n_steps": 60, "random_state": 0, "device": "cpu", **params})


@pytest.fixture(scope="module")
def fitted() -> Any:
    return classifier().fit(TELLING, y)


def test_fast_is_the_probe() -> None:
    fast, probe = classifier("fast").fit(TELLING, y), ShrinkageProbeClassifier().fit(TELLING.select(["mean"]), y)
    np.testing.assert_allclose(fast.predict_proba(TELLING), probe.predict_proba(TELLING.select(["mean"])))
    np.testing.assert_allclose(fast.out_of_fold_proba_, probe.loo_proba_)
    assert fast.out_of_fold_accuracy_ == probe.loo_accuracy_
    assert fast.out_of_fold_log_loss_ == pytest.approx(probe.loo_log_loss_)
    assert fast.weights_.tolist() == [1, 0, 0, 0, 0]
    assert {one.reason for name, one in fast.members_.items() if name != "probe"} == {"effort is fast"}


def test_heads_join_where_tokens_tell_more_than_their_mean(fitted: Any) -> None:
    assert fitted.weights_[1:].sum() > 0.05
    assert fitted.weights_.sum() == pytest.approx(1)
    assert fitted.out_of_fold_log_loss_ < fitted.members_["probe"].out_of_fold_log_loss
    for name, one in fitted.members_.items():
        assert (one.weight > 0) == (one.reason == "")
        assert name == "probe" or (one.estimator is not None) == (one.weight > 0)


def test_heads_stay_out_where_tokens_are_noise() -> None:
    head = classifier().fit(NOISE, y)
    assert head.weights_.tolist() == [1, 0, 0, 0, 0]
    assert all(one.reason and one.estimator is None for name, one in head.members_.items() if name != "probe")
    np.testing.assert_allclose(head.predict_proba(NOISE), classifier("fast").fit(NOISE, y).predict_proba(NOISE))


def test_the_blend_is_the_weighted_mean_of_log_probabilities(fitted: Any) -> None:
    total = np.zeros((N, 3))
    for name, one in fitted.members_.items():
        if one.weight > 0:
            scores = one.estimator.decision_function(TELLING if name == "probe" else TELLING.select(["tokens"]))
            total += one.weight * log_softmax(one.scale * scores, axis=1)
    np.testing.assert_allclose(fitted.predict_proba(TELLING), softmax(fitted.scale_ * total, axis=1), rtol=1e-5)


def test_members_out_of_fold_have_not_seen_the_images(fitted: Any) -> None:
    # Labels that nothing tells: members that had seen them would know them by heart, as they do in training.
    head = classifier(n_steps=150).fit(NOISE, y)
    assert MAPClassifier(None, n_steps=150, random_state=0).fit(NOISE, y).score(NOISE, y) > 0.8
    assert head.members_["map"].out_of_fold_accuracy < 0.7
    assert 0 < fitted.out_of_fold_accuracy_ <= 1


class Source:
    """Weights of a backbone's head, as `frofa.PretrainedHead` loads them: two attention heads, an MLP of 12."""

    def load(self) -> HeadWeights:
        drawn = init_map_head(8, 2, 1.5, torch.Generator().manual_seed(1))
        return HeadWeights("a tower", {name: v for name, v in drawn.items() if not name.startswith("head.")}, 2)


def test_map_heads_start_where_they_are_told() -> None:
    head = classifier(init=Source()).fit(TELLING, y)
    started = [one.estimator for name, one in head.members_.items() if name.startswith("map") and one.weight > 0]
    assert started
    assert all(one.num_heads_ == 2 and one.weights_["mlp.fc1.weight"].shape == (12, 8) for one in started)
    with pytest.raises(ValueError, match=r"'init' parameter of FewShotClassifier must be .*'random'.*Got 'other'"):
        classifier(init="other").fit(TELLING, y)


def test_equal_seeds_give_equal_blends(fitted: Any) -> None:
    again = clone(fitted).fit(TELLING, y)
    np.testing.assert_array_equal(again.predict_proba(TELLING), fitted.predict_proba(TELLING))
    assert not np.array_equal(
        classifier(random_state=1).fit(TELLING, y).predict_proba(TELLING), fitted.predict_proba(TELLING)
    )


def test_files_and_pickles_give_back_the_blend(fitted: Any, tmp_path: Path) -> None:
    frofa.save(fitted, tmp_path / "head.frofa")
    for copied in (frofa.load(tmp_path / "head.frofa"), pickle.loads(pickle.dumps(fitted))):  # noqa: S301 (our own)
        np.testing.assert_array_equal(copied.predict_proba(TELLING), fitted.predict_proba(TELLING))
        assert copied.members_["map"].reason == fitted.members_["map"].reason


def test_samples_without_weight_change_nothing() -> None:
    weights = np.ones(N)
    weights[::5] = 0
    weighted = classifier().fit(TELLING, y, sample_weight=weights)
    without = classifier().fit(TELLING[weights > 0], y[weights > 0])
    np.testing.assert_allclose(weighted.weights_, without.weights_, atol=1e-3)
    np.testing.assert_allclose(weighted.predict_proba(TELLING), without.predict_proba(TELLING), atol=1e-3)


def test_class_prior_holds_for_heads_as_for_the_probe() -> None:
    uneven = np.concatenate([np.arange(10), np.arange(10, 14), np.arange(20, 24)])
    head = classifier(class_prior={"cat": 0.98, "dog": 0.01, "owl": 0.01}).fit(TELLING[uneven], y[uneven])
    even = classifier().fit(TELLING[uneven], y[uneven])
    assert head.predict_proba(NOISE)[:, 0].mean() > even.predict_proba(NOISE)[:, 0].mean() + 0.1
    assert even.predict_proba(NOISE).mean(0).max() < 0.6


def test_a_class_of_one_image_is_known_but_never_held_out() -> None:
    rows = np.arange(21)  # ten cats, ten dogs, one owl
    head = classifier().fit(TELLING[rows], y[rows])
    assert np.isnan(head.out_of_fold_proba_[20]).all()
    assert np.isfinite(head.out_of_fold_proba_[:20]).all()
    assert np.isfinite(head.predict_proba(TELLING)).all()
    assert head.predict_proba(TELLING).shape == (N, 3)


@pytest.mark.parametrize("shots", [1, 2])
def test_few_samples_are_the_probe_s_alone(shots: int) -> None:
    rows = np.concatenate([np.flatnonzero(y == label)[:shots] for label in np.unique(y)])
    head = classifier().fit(TELLING[rows], y[rows])
    assert head.weights_.tolist() == [1, 0, 0, 0, 0]
    assert "too few samples" in head.members_["map"].reason
    assert np.isnan(head.out_of_fold_accuracy_) == (shots == 1)


def test_features_without_tokens_are_the_probe_s_alone() -> None:
    vectors = TELLING.select(["mean"])
    for X in (vectors, np.asarray(vectors)):
        head = classifier().fit(X, y)
        assert head.members_["map"].reason == "X has no tokens"
        np.testing.assert_allclose(head.predict_proba(X), classifier("fast").fit(X, y).predict_proba(X))


def test_plain_tokens_are_averaged_for_the_probe() -> None:
    plain = TELLING.views("tokens")[0]
    head = classifier().fit(plain, y)
    assert head.weights_[1:].sum() > 0
    np.testing.assert_allclose(
        classifier("fast").fit(plain, y).predict_proba(plain),
        ShrinkageProbeClassifier().fit(plain.mean(1), y).predict_proba(plain.mean(1)),
        rtol=1e-4,
    )


def test_heads_that_cannot_be_trained_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def heads(settings: Any, init: Any) -> Any:
        shared = settings._asdict()
        return {"map": MAPClassifier(None, init=init, **shared), "wild": MAPClassifier(None, lr=1e30, **shared)}

    monkeypatch.setattr("frofa.estimators.few_shot.token_heads", heads)
    head = classifier().fit(TELLING, y)
    assert "training failed" in head.members_["wild"].reason
    assert head.members_["map"].weight > 0


def test_prediction_asks_for_the_tokens_that_were_fitted(fitted: Any) -> None:
    with pytest.raises(ValueError, match="needs features with tokens"):
        fitted.predict(TELLING.select(["mean"]))
    assert members.tokens_of(TELLING, "head").names == ("tokens",)


def test_fewer_views_may_be_predicted_than_were_fitted(fitted: Any) -> None:
    assert fitted.predict_proba(TELLING.select(n_views=1)).shape == (N, 3)
