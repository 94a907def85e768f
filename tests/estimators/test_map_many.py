"""MAP heads trained together against each of them trained alone."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from map_helpers import head, small_tokens
from sklearn.base import clone
from torch import Generator

from frofa.augmentations import (
    Augmentation,
    Brightness,
    Contrast,
    Crop,
    MixUp,
    PatchDropout,
    RandomChoice,
    Sequential,
    ShearX,
    TokenBatch,
)
from frofa.augmentations.base import Params
from frofa.estimators import MAPClassifier
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.models.map_model import MapModel
from frofa.estimators.training.loop import train

X, Y = small_tokens(40)
ALL = np.arange(40)
FOLDS = [np.delete(ALL, slice(i * 8, (i + 1) * 8)) for i in range(5)]
UNEQUAL = [np.delete(ALL, slice(0, 13)), np.delete(ALL, slice(13, 27)), np.delete(ALL, slice(27, 40))]
AUGMENTATIONS: list[Any] = [
    None,
    "auto",
    Brightness(0.3),
    Brightness(0.1, "c"),
    Crop(),
    PatchDropout(0.4),
    MixUp(0.4),
    Sequential([Brightness(0.2), Contrast(0.3)]),
    RandomChoice([Brightness(0.2), PatchDropout(0.3)]),
]


def jobs_of(heads: list[MAPClassifier], folds: list[Any] = FOLDS) -> list[Job]:
    return [Job(one, rows) for one in heads for rows in folds]


def alone(job: Job, y: Any = Y, weights: Any = None, tokens: Any = X) -> Any:
    rows = job.rows
    return clone(job.estimator).fit(tokens[rows], y[rows], None if weights is None else weights[rows])


def compare(fitted: Any, expected: Any, tokens: Any = X) -> None:
    assert type(fitted) is type(expected)
    np.testing.assert_allclose(fitted.predict_proba(tokens), expected.predict_proba(tokens), rtol=0, atol=1e-4)
    # What tells novelty is kept by heads that are fitted alone, or that reject.
    found, wanted = ({name for name in vars(one) if name.endswith("_")} - {"novelty_"} for one in (fitted, expected))
    assert found == wanted
    assert fitted.classes_.tolist() == expected.classes_.tolist()
    for name in ("n_iter_", "num_heads_", "n_features_in_"):
        assert getattr(fitted, name) == getattr(expected, name), name
    assert repr(fitted.augment_) == repr(expected.augment_)
    assert getattr(fitted, "augment_seed_", None) == getattr(expected, "augment_seed_", None)
    for name, value in expected.weights_.items():
        assert fitted.weights_[name].dtype == np.float32
        np.testing.assert_allclose(fitted.weights_[name], value, rtol=0, atol=1e-4, err_msg=name)


def check(jobs: list[Job], y: Any = Y, weights: Any = None) -> list[Any]:
    """Fit together, and compare each with its fit alone; all must differ."""
    fitted = fit_many(X, y, jobs, sample_weight=weights)
    for one, job in zip(fitted, jobs, strict=True):
        compare(one, alone(job, y, weights))
    return fitted


GRIDS: dict[str, list[dict[str, Any]]] = {
    "learning rates": [{"lr": lr} for lr in (0.01, 0.03, 0.1)],
    "weight decays": [{"weight_decay": decay} for decay in (0.0, 0.02, 0.3)],
    "momenta and clipping": [{"momentum": 0.0}, {"momentum": 0.5, "clip_norm": None}, {"clip_norm": 0.1}],
    "schedules": [{"schedule": "constant"}, {"warmup_fraction": 0.5}, {"n_steps": 7}, {"n_steps": 33}],
    "seeds": [{"random_state": seed, "augment": Brightness(0.3)} for seed in range(3)],
    "shapes": [{"num_heads": 4}, {"num_heads": 2}, {"mlp_ratio": 2.0}, {"mlp_ratio": 2.0, "num_heads": 2}],
    "batches": [{"batch_size": size, "augment": Brightness(0.3)} for size in (5, 8, 64)],
    "class weights": [{"class_weight": weight} for weight in (None, {0: 4.0}, {1: 0.0})],
    "prefix": [{"n_prefix": n, "augment": Brightness(0.3)} for n in (0, 1, 2)],
}


@pytest.mark.parametrize("name", GRIDS)
def test_grid_is_its_candidates_alone(name: str) -> None:
    fitted = check(jobs_of([head(**params) for params in GRIDS[name]], FOLDS[:2]))
    chosen = fitted[::2]
    for i, first in enumerate(chosen):
        for second in chosen[:i]:
            assert not np.allclose(first.predict_proba(X), second.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("batch_size", [8, 64])
def test_augmentations_draw_what_they_draw_alone(batch_size: int) -> None:
    heads = [head(augment=augment, lr=lr, batch_size=batch_size) for augment in AUGMENTATIONS for lr in (0.03, 0.1)]
    check(jobs_of(heads, FOLDS[:2]))


def test_folds_of_different_size() -> None:
    check(jobs_of([head(lr=lr, augment=Brightness(0.3)) for lr in (0.03, 0.1)], UNEQUAL))


@pytest.mark.parametrize("labels", [["cat", "dog", "eel"], [7, 3, 5]])
def test_folds_that_lack_a_class(labels: list[Any]) -> None:
    y = np.array(labels)[Y]
    folds = [FOLDS[0], np.flatnonzero(Y > 0), np.flatnonzero(Y != 1)]
    fitted = check(jobs_of([head(lr=lr, augment=MixUp(0.3)) for lr in (0.03, 0.1)], folds), y)
    assert [len(one.classes_) for one in fitted] == [3, 2, 2] * 2


def test_sample_weights_reach_each_job() -> None:
    weights = np.random.default_rng(0).integers(0, 4, len(Y)).astype(float)
    heads = [head(augment=augment, class_weight=c) for augment in (None, MixUp(0.4)) for c in (None, "balanced")]
    weighted = check(jobs_of(heads, FOLDS[:2]), Y, weights)
    plain: Any = fit_many(X, Y, jobs_of(heads, FOLDS[:1]))[0]
    assert not np.allclose(weighted[0].predict_proba(X), plain.predict_proba(X))


def test_early_stopping_is_each_head_s_own() -> None:
    noisy = np.random.default_rng(0).integers(2, size=len(Y))
    params: list[dict[str, Any]] = [{"lr": 0.1}, {"lr": 0.001}, {"patience": 3}, {"validation_fraction": 0.5}]
    params += [{"n_steps": 33}, {"lr": 0.05, "augment": Brightness(0.3)}, {"random_state": 3}]
    heads = [head(**{"validation_fraction": 0.3, "n_steps": 100, "patience": 5, **one}) for one in params]
    fitted = check(jobs_of([*heads, head(n_steps=100)], FOLDS[:2]), noisy)
    assert len({one.n_iter_ for one in fitted}) > 4


def test_rows_that_are_cut_into_tokens() -> None:
    rows = X.reshape(len(X), -1)
    jobs = jobs_of([head(n_tokens=n, n_steps=10) for n in (1, 4, 2)], FOLDS[:2])
    for one, job in zip(fit_many(rows, Y, jobs), jobs, strict=True):
        compare(one, alone(job, tokens=rows), rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_other_precisions(dtype: torch.dtype) -> None:
    tokens = torch.as_tensor(X.copy()).to(dtype)
    jobs = jobs_of([head(), head(lr=0.1)], FOLDS[:2])
    for one, job in zip(fit_many(tokens, Y, jobs), jobs, strict=True):
        compare(one, alone(job, tokens=tokens), tokens)


def test_jobs_are_left_as_they_are_and_come_back_in_order() -> None:
    heads = [head(lr=lr, augment=augment) for lr in (0.03, 0.1) for augment in (None, Brightness(0.3))]
    jobs = jobs_of(heads)
    done: list[int] = []
    fitted: list[Any] = fit_many(X, Y, jobs, on_done=done.append)
    assert sum(done) == len(jobs)
    assert all(one is not job.estimator for one, job in zip(fitted, jobs, strict=True))
    assert not any(hasattr(job.estimator, "weights_") for job in jobs)
    order = np.random.default_rng(0).permutation(len(jobs))
    for i, one in zip(order, fit_many(X, Y, [jobs[i] for i in order]), strict=True):
        compare(one, fitted[i])


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def several() -> list[Job]:
    heads = [head(lr=lr, augment=augment) for lr in (0.03, 0.1, 0.05) for augment in (None, Brightness(0.3))]
    return jobs_of([*heads, head(n_steps=30)])


@pytest.mark.usefixtures("threads")
def test_threads_train_different_heads() -> None:
    names = set()

    def watched(*args: Any, **options: Any) -> Any:
        names.add(threading.current_thread().name)
        assert torch.get_num_threads() == 1
        return train(*args, **options)

    expected = [alone(job) for job in several()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frofa.estimators.batched.engine.train", watched)
        fitted = fit_many(X, Y, several())
    assert len(names) > 1
    assert torch.get_num_threads() == 3
    for one, wanted in zip(fitted, expected, strict=True):
        compare(one, wanted)


@pytest.mark.usefixtures("threads")
def test_interruption_stops_all_threads() -> None:
    def interrupt(n: int) -> None:
        raise KeyboardInterrupt(n)

    with pytest.raises(KeyboardInterrupt):
        fit_many(X, Y, several(), on_done=interrupt)
    assert torch.get_num_threads() == 3
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


@pytest.mark.parametrize(("memory", "heads"), [(1, 8), (2**30, 1), (2**30, 3)])
def test_results_do_not_depend_on_the_split(memory: int, heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected: list[Any] = fit_many(X, Y, several())
    monkeypatch.setattr("frofa.estimators.batched.chunks.CPU_MEMORY", memory)
    monkeypatch.setattr("frofa.estimators.batched.chunks.CPU_HEADS", heads)
    for one, wanted in zip(fit_many(X, Y, several()), expected, strict=True):
        compare(one, wanted)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
@pytest.mark.parametrize("at_step", [0, 5])
def test_out_of_memory_shrinks_the_batch_of_heads(
    error: Exception, at_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[Any] = fit_many(X, Y, several())
    sizes, take = [], MapModel.gradients

    def limited(self: Any, heads: Any, step: Any, out: Any) -> None:
        sizes.append(len(heads.flat))
        if len(heads.flat) > 2 and len(sizes) > at_step:
            raise error
        take(self, heads, step, out)

    monkeypatch.setattr(MapModel, "gradients", limited)
    done: list[int] = []
    for one, wanted in zip(fit_many(X, Y, several(), on_done=done.append), expected, strict=True):
        compare(one, wanted)
    assert sum(done) == len(several())
    assert max(sizes) > 2
    assert sum(size > 2 for size in sizes) < 10 + at_step, "it is not tried again and again"


def test_a_head_without_memory_is_an_error_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(MapModel, "gradients", never)
    fitted = fit_many(X, Y, several())
    assert {type(one) for one in fitted} == {torch.OutOfMemoryError}


@pytest.mark.parametrize("augment", [None, Brightness(0.3)])
def test_divergence_is_an_error_in_its_place(augment: Any) -> None:
    options = {"augment": augment, "clip_norm": None, "momentum": 0.9}
    wild, tame = head(lr=1e20, **options), [head(lr=lr, **options) for lr in (0.01, 0.03)]
    jobs = jobs_of([tame[0], wild, tame[1]], FOLDS[:2])
    fitted = fit_many(X, Y, jobs)
    with pytest.raises(ValueError, match="diverged") as raised:
        alone(jobs[2])
    for error in fitted[2:4]:
        assert isinstance(error, ValueError)
        assert str(error) == str(raised.value)
    for i in (0, 1, 4, 5):
        compare(fitted[i], alone(jobs[i]))


class Infinite(Augmentation):
    """Shows what no head survives."""

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:  # noqa: ARG002 (the contract's)
        return {}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:  # noqa: ARG002
        return batch.replace(patches=batch.patches * torch.inf)


def test_infinite_features_of_one_stream_stay_there() -> None:
    jobs = jobs_of([head(), head(augment=Infinite()), head(lr=0.1)], FOLDS[:2])
    fitted = fit_many(X, Y, jobs)
    assert [isinstance(one, ValueError) for one in fitted] == [False, False, True, True, False, False]
    for i in (0, 1, 4, 5):
        compare(fitted[i], alone(jobs[i]))


def test_what_a_fit_raises_is_in_its_place() -> None:
    heads = [head(), head(lr=-1.0), head(num_heads=3), head(augment=ShearX(), grid=(1, 3)), head(n_prefix=9)]
    jobs = [*jobs_of(heads, FOLDS[:1]), Job(head(), np.flatnonzero(Y == 0)), Job(head(lr=0.1), FOLDS[0])]
    fitted: list[Any] = fit_many(X, Y, jobs)
    for job, one in zip(jobs[1:-1], fitted[1:-1], strict=True):
        with pytest.raises(type(one)) as raised:
            alone(job)
        assert str(one) == str(raised.value)
    compare(fitted[0], alone(jobs[0]))
    compare(fitted[-1], alone(jobs[-1]))


def test_broken_features_are_an_error_of_those_who_see_them() -> None:
    tokens = X.copy()
    tokens[3] = np.nan
    jobs = jobs_of([head(), head(lr=0.1)], FOLDS[:2])
    done: list[int] = []
    fitted: list[Any] = fit_many(tokens, Y, jobs, on_done=done.append)
    assert sum(done) == len(jobs)
    for i in (0, 2):  # the first fold leaves the sample out
        compare(fitted[i], alone(jobs[i], tokens=tokens))
    for i in (1, 3):
        assert "NaN" in str(fitted[i])


def test_random_states_are_those_of_seeds() -> None:
    jobs = [Job(head(random_state=np.random.RandomState(3)), FOLDS[0]), Job(head(random_state=3), FOLDS[0])]
    first, second = fit_many(X, Y, jobs)
    compare(first, second)
