"""Paths of logistic regression whose steps are the same operations at every step, so that a GPU can replay them."""

from typing import Any

import numpy as np
import pytest
import torch
from features import gaussian
from sklearn.model_selection import StratifiedKFold
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from frofa.estimators import LogisticProbeClassifier
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.solvers.descent import Line, Trial
from frofa.estimators.solvers.lbfgs import Memory
from frofa.estimators.solvers.path import solve_path
from frofa.estimators.solvers.preconditioner import ClassBlocks, is_small
from frofa.estimators.solvers.problems import Problems
from frofa.estimators.solvers.replay import _SHELVES, _Replayed, replay_path
from frofa.estimators.solvers.stages import Stage, State

CS = (1e-3, 1e-2, 0.1, 1.0, 10.0)
CASES = {"n > d": (200, 120, 5), "n < d": (60, 90, 4), "two classes": (90, 600, 2), "many classes": (120, 60, 30)}
SEPARABLE = 1000.0


def problems_of(name: str, seed: int = 0, n_problems: int = 3) -> Problems:
    """Problems of one shape, large enough for it; the last one has rows that only fill it up."""
    n, channels, n_classes = CASES[name]
    rng = np.random.default_rng(seed)
    X, y = zip(*(gaussian(n, channels, n_classes, seed=seed + i) for i in range(n_problems)), strict=True)
    features = np.zeros((n_problems, n, 600))  # beyond the size at which a Hessian is inverted as it is
    features[:, :, :channels] = [one - one.mean(0) for one in X]
    features[:, :, -1] = 1
    weights = rng.uniform(0.5, 2, (n_problems, n))
    weights[-1, -5:] = 0
    codes = np.stack([np.unique(labels, return_inverse=True)[1] for labels in y])
    return Problems(torch.tensor(features), torch.tensor(codes), torch.tensor(weights), n_classes)


def objective(problems: Problems, coef: Tensor, C: float) -> Tensor:
    return problems.losses(problems.scores(coef)) + 0.5 * (problems.penalty(C) * coef**2).sum((1, 2))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tol", [1e-4, 1e-8])
def test_minimum_is_that_of_the_other_descent(name: str, tol: float) -> None:
    problems = problems_of(name)
    assert not is_small(problems)
    path = [Stage(C, tol, 1000) for C in (*CS, SEPARABLE)]
    exact = list(solve_path(problems_of(name), [stage._replace(tol=1e-11) for stage in path]))
    for stage, found, best in zip(path, replay_path(problems, path), exact, strict=True):
        least = objective(problems, best.coef, stage.C)
        assert found.converged.all()
        assert ((objective(problems, found.coef, stage.C) - least) <= 0.2 * tol * least + 1e-13).all()


def test_rough_stages_lead_on() -> None:
    problems, path = problems_of("n < d"), [Stage(0.01, None, 1000), Stage(1.0, 1e-9, 1000)]
    rough, found = replay_path(problems, path)
    _, expected = solve_path(problems_of("n < d"), [path[0], path[1]._replace(tol=1e-11)])
    torch.testing.assert_close(found.coef, expected.coef, rtol=0, atol=1e-5)
    assert (rough.n_iter < found.n_iter).all()


def test_steps_that_do_not_suffice_are_told() -> None:
    path = [Stage(C, 1e-8, 2) for C in CS]
    solutions = list(replay_path(problems_of("many classes"), path))
    expected = list(solve_path(problems_of("many classes"), path))
    assert len(solutions) == len(CS)
    assert not solutions[-1].converged.any()
    assert [one.converged.tolist() for one in solutions[1:]] == [one.converged.tolist() for one in expected[1:]]


def test_nothing_is_left_of_earlier_problems() -> None:
    path = [Stage(C, 1e-6, 1000) for C in CS]
    first, second = (problems_of("n < d", seed) for seed in (0, 10))
    for problems in (first, second):
        problems.use_float64()
    replayed, fresh = _Replayed(ClassBlocks(first)), _Replayed(ClassBlocks(second))
    for stage in path:
        replayed.solve(stage)
    replayed.adopt(ClassBlocks(second))
    for stage in path:
        found, expected = replayed.solve(stage), fresh.solve(stage)
        assert found is not None
        assert expected is not None
        torch.testing.assert_close(found.coef, expected.coef, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["n < d", "two classes"])
def test_what_is_recorded_never_waits_for_the_device(name: str) -> None:
    """On a GPU that is made up, whose values nobody can ask for."""
    problems = problems_of(name)
    problems.use_float64()
    replayed = _Replayed(ClassBlocks(problems))
    with FakeTensorMode():
        to_made_up_gpu(replayed, {})
        for work in (replayed._begin, replayed._retry, replayed._go_on, replayed._advance, replayed._renew):
            work()
        with pytest.raises(DataDependentOutputException):
            replayed.report.tolist()


def to_made_up_gpu(value: Any, known: dict[int, Any]) -> Any:
    """Replace all tensors that the descent holds by fake ones on a GPU, those that it shares by the same ones."""
    if id(value) in known:
        return known[id(value)][1]
    found = value
    if isinstance(value, Tensor):
        found = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    elif isinstance(value, State | Line | Trial):
        found = type(value)(*(to_made_up_gpu(part, known) for part in value))
    known[id(value)] = value, found
    if isinstance(value, _Replayed | ClassBlocks | Problems | Memory):
        for name, part in list(vars(value).items()):
            setattr(value, name, to_made_up_gpu(part, known))
    return found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_searches_on_a_gpu_are_those_on_a_cpu() -> None:
    """Also where the samples have the shape of those before, whose recording is replayed."""
    for seed, n in ((0, 120), (1, 120), (2, 90)):
        X, y = gaussian(n, 200, 6, seed=seed)
        rows = [train for train, _ in StratifiedKFold(3).split(X, y)]
        heads: dict[str, Any] = {}
        for device in ("cpu", "cuda"):
            jobs = [Job(LogisticProbeClassifier(C, tol=1e-9, device=device), train) for C in CS for train in rows]
            heads[device] = fit_many(X, y, jobs)
        assert any(shelf.kept for shelf in _SHELVES[torch.device("cuda", 0)])
        for ours, expected in zip(heads["cuda"], heads["cpu"], strict=True):
            # `tol` is on the gradient, from which weights differ by as much divided by the penalty, 1 / (C n).
            np.testing.assert_allclose(ours.predict_proba(X), expected.predict_proba(X), rtol=0, atol=1e-5)
