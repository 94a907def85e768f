"""A new head on tokens costs one file, ``mean_head.py``, and one registration: all else is there for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from map_helpers import head as map_head
from map_helpers import small_tokens
from mean_head import MeanClassifier, MeanModel
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import Generator

import frofa
from frofa import estimators
from frofa.augmentations import Brightness, MixUp, PatchDropout
from frofa.estimators import BatchedSearchCV, MAPClassifier, RaggedTokens
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, ParameterLayout
from frofa.estimators.training.plan import StepBatch, TokenModel
from frofa.persistence import types

X, Y = small_tokens(40)
N, C = 40, 16
ALL = np.arange(N)


def head(**params: Any) -> MeanClassifier:
    return MeanClassifier(**{"augment": None, "n_steps": 20, "random_state": 0, "device": "cpu", **params})


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The one registration."""
    monkeypatch.setattr(estimators, "MeanClassifier", MeanClassifier, raising=False)
    monkeypatch.setattr(estimators, "__all__", [*estimators.__all__, "MeanClassifier"])
    for cached in (types._own_types, types.saved_type):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (types._own_types, types.saved_type):
        cached.cache_clear()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("blocks", [[(1, 1)], [(1, 3)], [(2, 2)], [(1, 2), (2, 1)]], ids=str)
def test_its_gradients_are_those_of_autograd(blocks: list[tuple[int, int]], masked: bool) -> None:
    generator = Generator().manual_seed(0)
    n_streams, n_heads = sum(s for s, _ in blocks), sum(s * h for s, h in blocks)
    each = [MeanModel().initial(C, 3, generator) for _ in range(n_heads)]
    params = {name: torch.stack([one[name] for one in each]).double() for name in each[0]}
    tokens = torch.randn((n_streams, 5, 7, C), generator=generator, dtype=torch.float64)
    mask = torch.rand((n_streams, 5, 7), generator=generator) < 0.6 if masked else None
    if mask is not None:
        mask[..., 0] = True
    targets = torch.rand((n_streams, 5, 3), generator=generator, dtype=torch.float64)
    layout = ParameterLayout.of(params)
    values = Heads(layout, layout.pack(params))
    own, expected = (Heads(layout, torch.full_like(values.flat, torch.nan)) for _ in range(2))
    for heads, part in StepBatch(tokens, mask, targets, blocks).parts():
        MeanModel().gradients(values[heads], part, Gradient(layout, own.flat[heads]))
        TokenModel.gradients(MeanModel(), values[heads], part, Gradient(layout, expected.flat[heads]))
    for name, wanted in expected.params.items():
        assert wanted.abs().max() > 1e-3
        torch.testing.assert_close(own.params[name], wanted)


def test_it_fits_predicts_and_validates() -> None:
    means = np.eye(3, C, dtype=np.float32)[Y]
    tokens = X + 2 * means[:, None]
    assert head(n_steps=100).fit(tokens, Y).score(tokens, Y) > 0.9
    stopped = head(n_steps=200, validation_fraction=0.4, patience=3).fit(
        X, np.random.default_rng(1).integers(2, size=N)
    )
    assert stopped.n_iter_ < 200
    rows = X.reshape(N, -1)
    cut = head(n_tokens=4).fit(rows, Y)
    np.testing.assert_array_equal(cut.predict_proba(rows), head().fit(X, Y).predict_proba(X))
    np.testing.assert_allclose(cut.predict_proba(rows).sum(1), 1, atol=1e-6)


def test_it_takes_images_of_different_sizes() -> None:
    grids = np.random.default_rng(0).integers(1, 5, (N, 2))
    values = np.eye(3, C, dtype=np.float32)[Y.repeat(grids.prod(1))]
    tokens = RaggedTokens(values, grids)
    fitted = head(n_steps=100, augment=PatchDropout(0.3)).fit(tokens, Y)
    assert fitted.score(tokens, Y) == 1
    np.testing.assert_allclose(fitted.predict_proba(tokens[[3]]), fitted.predict_proba(tokens)[[3]], atol=1e-6)


@pytest.mark.parametrize("augment", ["auto", MixUp(0.4), PatchDropout(0.5)], ids=repr)
def test_it_trains_on_augmented_tokens(augment: Any) -> None:
    plain, augmented = head().fit(X, Y), head(augment=augment).fit(X, Y)
    assert not np.allclose(plain.weights_["head.weight"], augmented.weights_["head.weight"])
    if not isinstance(augment, MixUp):
        views = clone(augmented).set_params(n_views=2).fit(X, Y)
        assert not np.allclose(views.predict_proba(X), augmented.predict_proba(X))


def test_hundreds_are_trained_together_as_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    n_together, gradients = [], MeanModel.gradients

    def watched(self: MeanModel, heads: Heads, step: StepBatch, out: Gradient) -> None:
        n_together.append(len(heads.flat))
        gradients(self, heads, step, out)

    monkeypatch.setattr(MeanModel, "gradients", watched)
    grid = {"lr": np.geomspace(0.003, 0.3, 36).tolist(), "augment": [None, Brightness(0.3)]}
    search = BatchedSearchCV(head(n_steps=5), grid, cv=3, refit=False).fit(X, Y)
    assert sum(n_together) == 5 * 36 * 2 * 3
    assert min(n_together) > 5
    monkeypatch.undo()
    one = GridSearchCV(head(n_steps=5), {**grid, "lr": grid["lr"][::12]}, cv=3, refit=False).fit(X, Y)
    scores = search.cv_results_["mean_test_score"].reshape(2, 36)[:, ::12]
    np.testing.assert_allclose(scores, one.cv_results_["mean_test_score"].reshape(2, 3), atol=1e-6)


def test_it_is_trained_beside_other_heads() -> None:
    jobs = [Job(kind(lr=lr), rows) for lr in (0.01, 0.1) for kind in (head, map_head) for rows in (ALL[:30], ALL[5:])]
    fitted: list[Any] = fit_many(X, Y, jobs)
    assert [type(one) for one in fitted] == [MeanClassifier, MeanClassifier, MAPClassifier, MAPClassifier] * 2
    for one, job in zip(fitted, jobs, strict=True):
        alone = clone(job.estimator).fit(X[job.rows], Y[job.rows])
        np.testing.assert_allclose(one.predict_proba(X), alone.predict_proba(X), atol=1e-5)


@pytest.mark.usefixtures("registered")
def test_files_keep_it_once_it_is_registered(tmp_path: Path) -> None:
    fitted = head(augment=Brightness(0.3)).fit(X, Y)
    frofa.save(fitted, tmp_path / "head.frofa")
    loaded = frofa.load(tmp_path / "head.frofa")
    assert isinstance(loaded, MeanClassifier)
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
