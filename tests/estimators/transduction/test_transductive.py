"""TransductiveClassifier: what it learns from a pool, and what it must not lose by one."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import frofa
from frofa import FeatureBlocks
from frofa.estimators import ShrinkageProbeClassifier, TransductiveClassifier

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 12))
N_SHOTS, N_POOL = 3, 30


def images(counts: list[int], rng: np.random.Generator, noise: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    codes = np.repeat(np.arange(len(counts)), counts)
    return CENTRES[codes] + noise * rng.normal(size=(len(codes), 12)), codes


def drawn(seed: int, counts: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features and labels of shots and a pool of so many images a class, and the truth of the pool."""
    rng = np.random.default_rng(seed)
    shots, y = images([N_SHOTS] * 4, rng)
    pool, truth = images(counts, rng)
    X, labels = np.concatenate([shots, pool]), np.concatenate([y, np.full(len(pool), -1)])
    order = rng.permutation(len(X))
    return X[order], labels[order], np.concatenate([y, truth])[order], order


def test_a_pool_helps_and_predictions_are_inductive() -> None:
    gains = []
    for seed in range(6):
        X, y, truth, _ = drawn(seed, [N_POOL] * 4)
        fresh, codes = images([50] * 4, np.random.default_rng(100 + seed))
        head = TransductiveClassifier(unlabeled=-1).fit(X, y)
        probe = ShrinkageProbeClassifier(unlabeled=-1).fit(X, y)
        gains.append(head.score(fresh, codes) - probe.score(fresh, codes))
        assert np.mean(head.transduction_[y < 0] == truth[y < 0]) > 0.5
        # A sample is predicted the same whatever else is.
        np.testing.assert_allclose(head.predict_proba(fresh[:1]), head.predict_proba(fresh)[:1], atol=1e-12)
    assert np.mean(gains) > 0.02


def test_labels_that_were_given_stay() -> None:
    X, y, _, _ = drawn(0, [5, 5, 5, 5])
    names = np.array(["ant", "bee", "cat", "dog", None], object)[y]
    head = TransductiveClassifier().fit(X, names)
    assert head.transduction_[y >= 0].tolist() == names[y >= 0].tolist()
    assert set(head.transduction_.tolist()) <= {"ant", "bee", "cat", "dog"}
    assert head.label_distributions_.shape == (32, 4)
    np.testing.assert_allclose(head.label_distributions_.sum(1), 1)
    assert (head.label_distributions_[y >= 0].max(1) == 1).all()
    np.testing.assert_array_equal(head.classes_[head.label_distributions_.argmax(1)], head.transduction_)
    assert np.isnan(head.loo_proba_[y < 0]).all()
    assert np.isfinite(head.loo_proba_[y >= 0]).all()


def test_proportions_follow_an_unequal_pool() -> None:
    X, y, truth, _ = drawn(1, [60, 20, 4, 0])
    head = TransductiveClassifier(unlabeled=-1).fit(X, y)
    assert head.proportions_.argmax() == 0
    assert head.proportions_[3] < 0.2
    assert head.proportions_.sum() == pytest.approx(1)
    inductive = head.predict(X[y < 0])
    assert np.mean(head.transduction_[y < 0] == truth[y < 0]) >= np.mean(inductive == truth[y < 0])


def test_without_a_pool_it_is_the_probe() -> None:
    X, y, _, _ = drawn(2, [1, 1, 1, 1])
    X, y = X[y >= 0], y[y >= 0]
    head, probe = TransductiveClassifier().fit(X, y), ShrinkageProbeClassifier().fit(X, y)
    np.testing.assert_array_equal(head.predict_proba(X), probe.predict_proba(X))
    np.testing.assert_array_equal(head.transduction_, y)
    assert head.pool_weights_.tolist() == [1, 0, 0, 0, 0]


def test_a_pool_that_does_not_help_leaves_the_probe() -> None:
    # The classes are told by the first channel; what the pool has in clusters is the second, which says nothing.
    rng = np.random.default_rng(0)
    shots = np.concatenate([rng.normal(size=(20, 6)) * 0.3 + np.eye(6)[0] * s for s in (-1, 1)])
    shots[:, 1] += rng.choice([-4, 4], 40)
    pool = rng.normal(size=(200, 6)) * 0.3
    pool[:, 1] += rng.choice([-4, 4], 200)
    X, y = np.concatenate([shots, pool]), np.repeat([0, 1, -1], [20, 20, 200])
    head = TransductiveClassifier(unlabeled=-1).fit(X, y)
    probe = ShrinkageProbeClassifier(unlabeled=-1).fit(X, y)
    assert head.pool_weights_[0] > 0.5 or head.loo_log_loss_ <= probe.loo_log_loss_
    fresh = np.concatenate([rng.normal(size=(100, 6)) * 0.3 + np.eye(6)[0] * s for s in (-1, 1)])
    fresh[:, 1] += rng.choice([-4, 4], 200)
    codes = np.repeat([0, 1], 100)
    assert head.score(fresh, codes) >= probe.score(fresh, codes) - 0.02


def test_weights_views_blocks_and_frames() -> None:
    X, y, _, _ = drawn(3, [8, 8, 8, 8])
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    head = TransductiveClassifier(unlabeled=-1).fit(X, y, weights)
    scaled = TransductiveClassifier(unlabeled=-1).fit(X, y, 3 * weights)
    np.testing.assert_allclose(scaled.predict_proba(X), head.predict_proba(X), atol=1e-8)
    # A sample without weight is as if it was not there, but gets a label if it has none.
    weights[:6] = 0
    with_none = TransductiveClassifier(unlabeled=-1).fit(X, y, weights)
    without = TransductiveClassifier(unlabeled=-1).fit(X[6:], y[6:], weights[6:])
    np.testing.assert_allclose(with_none.predict_proba(X), without.predict_proba(X), atol=1e-10)
    assert len(with_none.transduction_) == len(y)
    blocks = FeatureBlocks({"a": [X, X + 0.1], "b": [X[:, :5], X[:, 1:6]]})
    of_views = TransductiveClassifier(unlabeled=-1, block_weights="auto").fit(blocks, y)
    assert of_views.predict_proba(blocks).shape == (44, 4)
    frame = pd.DataFrame(X).rename(columns=str)
    of_frame = TransductiveClassifier(unlabeled=-1).fit(frame, pd.Series(y))
    np.testing.assert_allclose(
        of_frame.predict_proba(frame), TransductiveClassifier(unlabeled=-1).fit(X, y).predict_proba(X), atol=1e-12
    )
    prior = TransductiveClassifier(unlabeled=-1, class_prior="empirical", class_weight="balanced").fit(X, y)
    assert np.isfinite(prior.predict_proba(X)).all()


def test_it_grows_and_is_saved(tmp_path: Path) -> None:
    X, y, _, _ = drawn(4, [8, 8, 8, 8])
    whole = TransductiveClassifier(unlabeled=-1).fit(X, y)
    first = TransductiveClassifier(unlabeled=-1).partial_fit(X[::2], y[::2], classes=range(4))
    frofa.save(first, tmp_path / "head.frofa")
    again: Any = frofa.load(tmp_path / "head.frofa")
    again.partial_fit(X[1::2], y[1::2])
    np.testing.assert_allclose(again.predict_proba(X), whole.predict_proba(X), atol=1e-8)
    assert again.transduction_.shape == (44,)
    copied = pickle.loads(pickle.dumps(whole))  # noqa: S301
    np.testing.assert_array_equal(copied.predict_proba(X), whole.predict_proba(X))
    frofa.save(whole, tmp_path / "whole.frofa")
    loaded: Any = frofa.load(tmp_path / "whole.frofa")
    np.testing.assert_array_equal(loaded.transduction_, whole.transduction_)
    np.testing.assert_array_equal(loaded.predict(X), whole.predict(X))


def test_one_sample_a_class() -> None:
    X, y, _, _ = drawn(5, [8, 8, 8, 8])
    first = np.concatenate([np.flatnonzero(y == code)[:1] for code in range(4)])
    rows = np.concatenate([first, np.flatnonzero(y < 0)])
    head = TransductiveClassifier(unlabeled=-1).fit(X[rows], y[rows])
    assert np.isnan(head.pool_losses_).all()
    np.testing.assert_allclose(head.pool_weights_, 0.2)
    assert np.isnan(head.loo_proba_).all()
