"""SoftMoEClassifier: the folded layer against its formulas, and the contract of the heads."""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from map_helpers import small_tokens
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import Generator, Tensor

import frofa
from frofa.augmentations import Brightness, MixUp, PatchDropout, Sequential
from frofa.estimators import BatchedSearchCV, RidgeProbeClassifier, SoftMoEClassifier
from frofa.estimators.batched.jobs import Job, engine_of, fit_many
from frofa.estimators.models.soft_moe_head import SoftMoEModel
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, ParameterLayout
from frofa.estimators.training.plan import StepBatch

X, Y = small_tokens(40)
C = 16


def head(**params: Any) -> SoftMoEClassifier:
    return SoftMoEClassifier(**{"augment": None, "n_steps": 20, "random_state": 0, "device": "cpu", **params})


def same(first: Any, second: Any) -> bool:
    return all(np.array_equal(value, second.weights_[name]) for name, value in first.weights_.items())


def pairs(n: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.str_]]:
    """Two of eight tokens are opposite, so that their mean is zero; the class is how a first and second channel go."""
    rng = np.random.default_rng(seed)
    sign = np.arange(n) % 2 * 2 - 1
    signal = np.zeros((n, 32))
    signal[:, 0], signal[:, 1] = 4, 4 * sign
    tokens = 0.5 * rng.normal(size=(n, 8, 32))
    tokens -= tokens.mean(1, keepdims=True)
    places = rng.permuted(np.tile(np.arange(8), (n, 1)), axis=1)
    tokens[np.arange(n), places[:, 0]] += signal
    tokens[np.arange(n), places[:, 1]] -= signal
    return tokens.astype(np.float32), np.where(sign > 0, "same", "opposite")


def transcription(params: dict[str, Tensor], tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Logits of one head, sum by sum: the layer's output for every token, then their mean."""
    mean = tokens.mean(2, keepdim=True)
    x = (tokens - mean) / torch.sqrt(((tokens - mean) ** 2).mean(2, keepdim=True) + 1e-6)
    unit_x = x / torch.sqrt((x * x).sum(2, keepdim=True) + 1e-6)
    unit_mu = params["mu"] / torch.sqrt((params["mu"] ** 2).sum(0, keepdim=True) + 1e-6)
    weights = torch.exp(params["scale"] * torch.einsum("gmd,dnp->gmnp", unit_x, unit_mu))
    combine = weights / weights.sum((2, 3), keepdim=True)
    shown = torch.ones(tokens.shape[:2]).to(tokens) if mask is None else mask.to(tokens)
    dispatch = weights * shown[:, :, None, None]
    slots = torch.einsum("gmnp,gmd->gnpd", dispatch / dispatch.sum(1, keepdim=True), x)
    hidden = torch.einsum("gnpd,nhd->gnph", slots, params["fc1.weight"]) + params["fc1.bias"][:, None]
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    outputs = torch.einsum("gnph,ndh->gnpd", hidden, params["fc2.weight"]) + params["fc2.bias"][:, None]
    y = tokens + torch.einsum("gmnp,gnpd->gmd", combine, outputs)
    pooled = torch.einsum("gmd,gm->gd", y, shown) / shown.sum(1, keepdim=True)
    return pooled @ params["head.weight"].mT + params["head.bias"]


def random_heads(model: SoftMoEModel, n_heads: int) -> dict[str, Tensor]:
    """In float64, no parameter at its initial value."""
    generator = Generator().manual_seed(0)
    each = [model.initial(C, 3, generator) for _ in range(n_heads)]
    stacked = {name: torch.stack([one[name] for one in each]).double() for name in each[0]}
    return {
        name: value + 0.3 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for name, value in stacked.items()
    }


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("blocks", [[(1, 1)], [(1, 3)], [(2, 2)], [(1, 2), (2, 1)]], ids=str)
@pytest.mark.parametrize("shape", [(4, 2, 1.0), (1, 3, 2.0), (3, 1, 0.5)], ids=str)
def test_logits_and_gradients_are_the_formulas(
    shape: tuple[int, int, float], blocks: list[tuple[int, int]], masked: bool
) -> None:
    model = SoftMoEModel(*shape, router_scale=3.0)
    n_streams, n_heads = sum(s for s, _ in blocks), sum(s * h for s, h in blocks)
    params = random_heads(model, n_heads)
    generator = Generator().manual_seed(1)
    tokens = 3 * torch.randn(n_streams, 5, 7, C, generator=generator, dtype=torch.float64)
    mask = torch.rand((n_streams, 5, 7), generator=generator) < 0.6 if masked else None
    if mask is not None:
        mask[..., 0] = True
    targets = torch.rand((n_streams, 5, 3), generator=generator, dtype=torch.float64)
    stream_of = [s for s, h in enumerate(h for count, h in blocks for _ in range(count)) for _ in range(h)]
    layout = ParameterLayout.of(params)
    values = Heads(layout, layout.pack(params))
    found = Heads(layout, torch.zeros_like(values.flat))
    for heads, part in StepBatch(tokens, mask, targets, blocks).parts():
        model.gradients(values[heads], part, Gradient(layout, found.flat[heads]))
    for i, stream in enumerate(stream_of):
        one = {name: value[i].clone().requires_grad_() for name, value in params.items()}
        seen = None if mask is None else mask[stream]
        logits = transcription(one, tokens[stream], seen)
        mine = model.logits({name: value[i : i + 1] for name, value in params.items()}, tokens[stream], seen)
        torch.testing.assert_close(mine[0], logits.detach(), rtol=1e-6, atol=1e-6)
        loss = -(logits.log_softmax(1) * targets[stream]).sum(1).mean()
        for name, wanted in zip(one, torch.autograd.grad(loss, list(one.values())), strict=True):
            torch.testing.assert_close(found.params[name][i], wanted, rtol=1e-6, atol=1e-6, msg=name)


def test_tokens_that_are_shared_are_seen_by_all_heads() -> None:
    model = SoftMoEModel(2, 2, 1.0)
    params = random_heads(model, 3)
    tokens = torch.randn(5, 7, C, generator=Generator().manual_seed(1), dtype=torch.float64)
    together = model.logits(params, tokens)
    for i in range(3):
        one = {name: value[i] for name, value in params.items()}
        torch.testing.assert_close(together[i], transcription(one, tokens, None))


def test_it_learns_where_the_mean_says_nothing() -> None:
    (train, y), (test, y_test) = pairs(200, 0), pairs(200, 1)
    assert RidgeProbeClassifier().fit(train, y).score(test, y_test) < 0.6
    fitted = head(n_steps=200).fit(train, y)
    assert fitted.score(test, y_test) > 0.9
    assert set(fitted.predict(test)) == {"same", "opposite"}
    np.testing.assert_allclose(fitted.predict_proba(test).sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("batch_size", [8, 64])
def test_random_state_decides_everything(batch_size: int) -> None:
    options = {"augment": Brightness(), "batch_size": batch_size, "validation_fraction": 0.3}
    fitted = head(**options).fit(X, Y)
    assert same(fitted, head(**options).fit(X, Y))
    assert same(fitted, head(**options, random_state=np.random.RandomState(0)).fit(X, Y))
    assert not same(fitted, head(**options, random_state=1).fit(X, Y))


def test_sample_weights_equal_repetition() -> None:
    counts = np.random.default_rng(0).integers(0, 4, 40)
    weighted, repeated = head().fit(X, Y, counts), head().fit(X.repeat(counts, axis=0), Y.repeat(counts))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)
    assert not same(weighted, head().fit(X, Y))


@pytest.mark.parametrize(
    "augment", ["auto", MixUp(0.4), PatchDropout(0.3), Sequential([MixUp(0.4), PatchDropout(0.3)])], ids=repr
)
def test_augmentations_train(augment: Any) -> None:
    plain = head(n_steps=150).fit(X, Y)
    fitted = head(n_steps=150, augment=augment).fit(X, Y)
    assert fitted.score(X, Y) > 0.9
    assert not same(fitted, plain)


def test_early_stopping_keeps_the_best() -> None:
    noise = np.random.default_rng(1).integers(2, size=40)
    fitted = head(n_steps=200, validation_fraction=0.4, patience=3).fit(X, noise)
    assert fitted.n_iter_ < 200


def test_views_prefix_and_rows_are_those_of_the_map_head() -> None:
    rows = X.reshape(len(X), -1)
    plain, views = (head(n_tokens=4, augment="auto", n_views=n).fit(rows, Y) for n in (0, 3))
    assert same(plain, views)
    assert not np.allclose(views.decision_function(rows), plain.decision_function(rows))
    assert same(plain, head(augment="auto").fit(X, Y))
    assert same(head(n_prefix=1).fit(X, Y), head().fit(X, Y))
    assert not same(head(augment="auto", n_prefix=1).fit(X, Y), head(augment="auto").fit(X, Y)), "the first is kept"


def test_clone_pickle_and_file_keep_the_head(tmp_path: Path) -> None:
    y = np.array(["cat", "dog", "eel"])[Y]
    fitted = head(augment=Brightness(0.3), num_experts=3, slots_per_expert=2).fit(X, y)
    assert fitted.weights_["mu"].shape == (C, 3, 2)
    assert {value.dtype.name for value in fitted.weights_.values()} == {"float32"}
    frofa.save(fitted, tmp_path / "head.frofa")
    for restored in (pickle.loads(pickle.dumps(fitted)), frofa.load(tmp_path / "head.frofa")):  # noqa: S301
        assert same(fitted, restored)
        assert restored.get_params()["num_experts"] == 3
        np.testing.assert_array_equal(restored.predict_proba(X), fitted.predict_proba(X))
    copy = clone(fitted).set_params(augment__level=0.7)
    assert (copy.augment.level, copy.num_experts, hasattr(copy, "weights_")) == (0.7, 3, False)


def test_parameters_that_do_not_fit_are_named() -> None:
    for name, value in {"num_experts": 0, "slots_per_expert": 1.5, "router_scale": 0.0, "mlp_ratio": -1}.items():
        with pytest.raises(ValueError, match=f"'{name}' parameter of SoftMoEClassifier must be .* Got {value}"):
            head(**{name: value}).fit(X, Y)
    with pytest.raises(ValueError, match="num_heads"):
        head().set_params(num_heads=2)
    with pytest.raises(ValueError, match="lower lr"):
        head(lr=1e30, clip_norm=None).fit(X, Y)


GRID = {"num_experts": [1, 3], "lr": [0.01, 0.1], "augment": [None, Brightness(0.3)]}


def test_heads_trained_together_are_the_heads_alone() -> None:
    folds = [np.delete(np.arange(40), slice(i * 8, (i + 1) * 8)) for i in range(2)]
    options: list[dict[str, Any]] = [
        {},
        {"lr": 0.1},
        {"augment": Brightness(0.3)},
        {"num_experts": 2},
        {"router_scale": 2.0},
        {"n_steps": 9},
    ]
    jobs = [Job(head(**params), rows) for params in options for rows in folds]
    fitted: list[Any] = fit_many(X, Y, jobs)
    for one, job in zip(fitted, jobs, strict=True):
        alone = clone(job.estimator).fit(X[job.rows], Y[job.rows])
        np.testing.assert_allclose(one.predict_proba(X), alone.predict_proba(X), rtol=0, atol=1e-4)
        assert one.n_iter_ == alone.n_iter_
    assert not np.allclose(fitted[0].predict_proba(X), fitted[2].predict_proba(X), atol=1e-4)


def test_searches_find_the_same() -> None:
    one = GridSearchCV(head(), GRID, cv=2).fit(X, Y)
    many = BatchedSearchCV(head(), GRID, cv=2).fit(X, Y)
    assert engine_of(SoftMoEClassifier) is not None, "heads are trained together, not one by one"
    for name in ("mean_test_score", "rank_test_score"):
        np.testing.assert_allclose(many.cv_results_[name], one.cv_results_[name], atol=1e-6)
    assert repr(many.best_params_) == repr(one.best_params_)
    assert many.best_estimator_.score(X, Y) == one.best_estimator_.score(X, Y)


def test_heads_of_other_shapes_are_trained_apart() -> None:
    fitted: list[Any] = fit_many(X, Y, [Job(head(slots_per_expert=n), np.arange(40)) for n in (2, 3)])
    assert [one.weights_["mu"].shape for one in fitted] == [(C, 4, 2), (C, 4, 3)]


def test_memory_grows_with_the_shape_of_a_head() -> None:
    image = torch.zeros(49, 64)
    small, large = (SoftMoEModel(n, 4, 1.0).head_bytes(image, 64) for n in (2, 16))
    n_weights = sum(value.numel() for value in SoftMoEModel(2, 4, 1.0).initial(64, 3, Generator()).values())
    assert 4 * 3 * n_weights < small < large
