"""Heads on tokens of several views, on a GPU as on a CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from frofa import FeatureBlocks
from frofa.augmentations import Brightness
from frofa.estimators import FewShotClassifier, MAPClassifier, SoftMoEClassifier
from frofa.store import FeatureSpec, FeatureStore

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

N, V = 80, 3
rng = np.random.default_rng(0)
CODES = np.arange(N) % 4
VIEWS = [(rng.normal(size=(N, 16, 64)) + np.eye(64)[CODES][:, None]).astype(np.float16) for _ in range(V)]
y = np.array(["ant", "bee", "cat", "dog"])[CODES]


def blocks(views: Any = VIEWS) -> FeatureBlocks:
    return FeatureBlocks({"mean": [view.mean(1, dtype=np.float32) for view in VIEWS], "tokens": list(views)})


@pytest.mark.parametrize("kind", [MAPClassifier, SoftMoEClassifier])
def test_recorded_steps_on_views_are_the_steps(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    head = kind(Brightness(0.1), n_steps=60, batch_size=32, random_state=0, device="cuda")
    recorded = clone(head).fit(blocks(), y)
    monkeypatch.setattr("frofa.estimators.training.loop.Recorded", lambda step, _: step)
    head.fit(blocks(), y)
    for name, value in head.weights_.items():
        np.testing.assert_allclose(recorded.weights_[name], value, rtol=1e-2, atol=5e-4, err_msg=name)
    assert head.score(blocks(), y) > 0.9
    # Predictions by the same weights, on either device.
    found = head.predict_proba(blocks())
    np.testing.assert_allclose(head.set_params(device="cpu").predict_proba(blocks()), found, atol=2e-3)


def test_lazy_views_of_a_store_go_to_the_gpu_in_one_piece(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store")
    lazy = []
    for v, view in enumerate(VIEWS):
        spec = FeatureSpec("weights", "architecture", f"view {v}", "decoder", "tokens", 1, True, "float32", "float16")
        store.put(spec, rng.integers(0, 256, (N, 20), np.uint8), view)
        lazy.append(store.features(spec))
    settings: dict[str, Any] = {"n_steps": 60, "batch_size": 32, "random_state": 0, "device": "cuda"}
    expected = MAPClassifier(None, **settings).fit(blocks(), y).predict_proba(blocks())
    found = MAPClassifier(None, **settings).fit(blocks(lazy), y).predict_proba(blocks(lazy))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_few_shot_classifier_is_trained_on_the_gpu_and_used_here() -> None:
    head = FewShotClassifier("high", n_steps=60, random_state=0, device="cuda").fit(blocks(), y)
    found = head.predict_proba(blocks())
    np.testing.assert_allclose(head.weights_.sum(), 1)
    assert all("failed" not in one.reason for one in head.members_.values())
    assert head.score(blocks(), y) > 0.9
    for one in head.members_.values():
        if one.estimator is not None:
            one.estimator.set_params(device="cpu")
    np.testing.assert_allclose(head.predict_proba(blocks()), found, atol=2e-3)
