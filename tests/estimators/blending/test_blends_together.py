"""Blends that are fitted together: each is what it is alone, and what one raises harms no other."""

from typing import Any

import numpy as np
import pytest

from frofa.blocks import FeatureBlocks
from frofa.estimators import FewShotClassifier
from frofa.estimators.batched.jobs import Job, fit_many

CODES = np.tile(np.arange(3), 16)


@pytest.fixture(scope="module")
def blocks() -> FeatureBlocks:
    """Tokens that say what an image is, and vectors that do not."""
    rng = np.random.default_rng(0)
    tokens = [rng.normal(size=(48, 4, 16)).astype(np.float32) + np.eye(3, 16)[CODES][:, None] for _ in range(2)]
    return FeatureBlocks({"noise": [rng.normal(size=(48, 4)) for _ in range(2)], "tokens": tokens})


def blend(seed: int, **options: Any) -> FewShotClassifier:
    return FewShotClassifier("high", n_steps=20, n_folds=2, random_state=seed, device="cpu", **options)


def test_blends_are_what_they_are_alone(blocks: FeatureBlocks) -> None:
    weights = np.linspace(0.5, 2, 48)
    jobs = [Job(blend(0), np.arange(0, 24)), Job(blend(1, class_weight={0: 2, 1: 1, 2: 1}), np.arange(12, 48))]
    for sample_weight in (None, weights):
        together = fit_many(blocks, CODES, jobs, sample_weight=sample_weight)
        for job, found in zip(jobs, together, strict=True):
            assert isinstance(found, FewShotClassifier)
            given = None if sample_weight is None else sample_weight[job.rows]
            alone = blend(job.estimator.random_state, class_weight=job.estimator.class_weight)
            alone.fit(blocks[job.rows], CODES[job.rows], sample_weight=given)
            assert found.weights_ == pytest.approx(alone.weights_, abs=1e-5)
            assert found.predict_proba(blocks) == pytest.approx(alone.predict_proba(blocks), abs=1e-4)
    counts = [head.weights_ for head in together if isinstance(head, FewShotClassifier)]
    assert any((weights[1:] > 0).any() for weights in counts), "a head on tokens counts"


def test_one_failure_harms_no_other(blocks: FeatureBlocks) -> None:
    jobs = [Job(blend(0), np.arange(0, 24)), Job(blend(0), np.array([0, 3, 6])), Job(blend(-1), np.arange(24))]
    done: list[int] = []
    good, one_class, bad_seed = fit_many(blocks, CODES, jobs, on_done=done.append)
    assert isinstance(good, FewShotClassifier)
    assert isinstance(one_class, ValueError)
    assert isinstance(bad_seed, ValueError)
    assert sum(done) == 3


def test_fast_ones_train_nothing(blocks: FeatureBlocks) -> None:
    jobs = [Job(FewShotClassifier("fast", random_state=0), np.arange(24)), Job(blend(0), np.arange(24))]
    fast, high = fit_many(blocks, CODES, jobs)
    assert isinstance(fast, FewShotClassifier)
    assert isinstance(high, FewShotClassifier)
    assert fast.weights_[0] == 1
    assert fast.predict_proba(blocks).shape == high.predict_proba(blocks).shape
