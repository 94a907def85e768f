"""The training loop on a linear model, of which every step can be checked."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from frofa.estimators import MAPClassifier
from frofa.estimators._training import Labelled, Schedule, batches, evaluate, train

SCHEDULE = Schedule(
    lr=0.5,
    n_steps=10,
    batch_size=64,
    weight_decay=0.0,
    momentum=0.0,
    warmup_steps=0,
    schedule="constant",
    clip_norm=None,
)


def schedule(**changes: Any) -> Schedule:
    return Schedule(**{**vars(SCHEDULE), **changes})


def linear(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return F.linear(x, params["head.weight"], params["head.bias"])


def start(classes: int = 2, channels: int = 4) -> dict[str, Tensor]:
    draw = torch.randn(classes, channels, generator=Generator().manual_seed(7))
    return {"head.weight": draw, "head.bias": torch.full((classes,), 0.5)}


def generators() -> dict[str, Any]:
    return {f"{name}_generator": Generator().manual_seed(seed) for seed, name in enumerate(("batch", "augment"))}


def data(n: int, seed: int, channels: int = 4) -> Labelled:
    """Random labels: there is nothing to learn but the samples."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(n, channels, generator=generator)
    return Labelled(x, torch.randint(2, (n,), generator=generator), torch.ones(n))


def run(part: Labelled, plan: Schedule, **options: Any) -> tuple[dict[str, Tensor], int]:
    options = {"augment": None, **generators(), **options}
    return train(start(channels=part.features.shape[1]), linear, part, plan, **options)


def test_warm_up_is_linear_then_constant() -> None:
    plan = schedule(warmup_steps=3, lr=2.0)
    assert [plan.lr_at(step) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert plan.lr_at(9) == 2.0


def test_schedule_of_a_head_is_that_of_its_parameters() -> None:
    head = MAPClassifier(
        lr=0.3, n_steps=40, batch_size=7, weight_decay=0.2, momentum=0.8, warmup_fraction=0.25, schedule="constant"
    )
    expected = Schedule(
        lr=0.3,
        n_steps=40,
        batch_size=7,
        weight_decay=0.2,
        momentum=0.8,
        warmup_steps=10,
        schedule="constant",
        clip_norm=1.0,
    )
    assert head._schedule() == expected


def test_cosine_falls_from_the_peak_towards_zero() -> None:
    plan = schedule(schedule="cosine", lr=2.0)
    assert plan.lr_at(0) == 2.0
    assert plan.lr_at(5) == pytest.approx(1.0)
    assert plan.lr_at(9) == pytest.approx(1 + math.cos(0.9 * math.pi))
    warm = schedule(schedule="cosine", lr=2.0, warmup_steps=4)
    assert [warm.lr_at(step) / plan.lr_at(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (12, 4), (9, 8)])
def test_batches_cover_an_epoch_without_repetition(n: int, batch_size: int) -> None:
    endless = batches(n, batch_size, Generator().manual_seed(0))
    epochs = []
    for _ in range(20):
        epoch = [rows for rows in itertools.islice(endless, n // batch_size) if isinstance(rows, Tensor)]
        assert [len(rows) for rows in epoch] == [batch_size] * (n // batch_size)
        epochs.append(torch.cat(epoch).tolist())
        assert len(set(epochs[-1])) == len(epochs[-1])
    assert len({tuple(epoch) for epoch in epochs}) == 20
    assert set().union(*epochs) == set(range(n))


@pytest.mark.parametrize("n", [3, 4])
def test_few_samples_are_one_batch(n: int) -> None:
    assert list(itertools.islice(batches(n, 4, Generator()), 3)) == [slice(None)] * 3


def test_one_step_is_gradient_descent_with_decay_of_kernels_only() -> None:
    part = Labelled(data(6, 0).features, data(6, 0).classes, torch.tensor([2.0, 0.5, 0.5, 1.0, 1.0, 1.0]))
    trained, n_iter = run(part, schedule(n_steps=1, weight_decay=0.1))
    params = {name: value.clone().requires_grad_() for name, value in start().items()}
    loss = (F.cross_entropy(linear(params, part.features), part.classes, reduction="none") * part.weights).mean()
    weight, bias = torch.autograd.grad(loss, list(params.values()))
    before = start()
    torch.testing.assert_close(trained["head.weight"], 0.95 * before["head.weight"] - 0.5 * weight)
    torch.testing.assert_close(trained["head.bias"], before["head.bias"] - 0.5 * bias)
    assert n_iter == 1


def test_only_kernels_decay() -> None:
    shapes = {"latent": (1, 1, 4), "norm.weight": (4,), "norm.bias": (4,), "fc1.weight": (3, 4), "fc1.bias": (3,)}

    def constant(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return x[:, :2] + 0 * torch.stack([value.sum() for value in params.values()]).sum()

    params = {name: torch.ones(shape) for name, shape in shapes.items()}
    plan = schedule(n_steps=1, weight_decay=0.1)
    trained, _ = train(params, constant, data(6, 0), plan, augment=None, **generators())
    assert {name for name, value in trained.items() if not torch.equal(value, params[name])} == {"fc1.weight"}


def test_momentum_carries_the_first_step_into_the_second() -> None:
    part, moments = data(6, 0), {}
    for momentum in (0.0, 0.9):
        plans = [schedule(n_steps=n, momentum=momentum) for n in (1, 2)]
        moments[momentum] = [run(part, plan)[0]["head.bias"] for plan in plans]
    assert torch.equal(moments[0.0][0], moments[0.9][0])
    first_step = moments[0.0][0] - start()["head.bias"]
    torch.testing.assert_close(moments[0.9][1] - moments[0.0][1], 0.9 * first_step)


def test_gradient_is_clipped_to_the_norm() -> None:
    trained, _ = run(data(6, 0), schedule(n_steps=1, clip_norm=0.01))
    change = torch.cat([(trained[name] - value).flatten() for name, value in start().items()])
    assert float(change.norm()) == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_initial_parameters_and_data_are_not_modified() -> None:
    params, part = start(), data(6, 0)
    features = part.features.clone()

    def augment(x: Tensor, generator: Generator) -> Tensor:
        return x + torch.randn(x.shape, generator=generator)

    train(params, linear, part, SCHEDULE, augment=augment, **generators())
    assert all(torch.equal(params[name], value) for name, value in start().items())
    assert torch.equal(part.features, features)


@pytest.mark.parametrize(("n_steps", "every"), [(100, 2), (30, 1), (200, 4)])
def test_best_evaluation_is_kept_and_training_stops_after_patience(n_steps: int, every: int) -> None:
    part, validation = data(30, 1, channels=60), data(40, 2, channels=60)
    evaluated: list[tuple[tuple[float, float], dict[str, Tensor]]] = []
    taken = []

    def forward(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        if x is validation.features:
            logits = linear(params, x)
            accuracy = float((logits.argmax(1) == validation.classes).float().mean())
            loss = float(F.cross_entropy(logits, validation.classes))
            evaluated.append(((accuracy, -loss), {name: value.clone() for name, value in params.items()}))
        return linear(params, x)

    trained, n_iter = train(
        start(channels=60),
        forward,
        part,
        schedule(n_steps=n_steps, momentum=0.9),
        augment=None,
        **generators(),
        validation=validation,
        patience=4,
        on_step=lambda: taken.append(1),
    )
    scores = [score for score, _ in evaluated]
    best = max(range(len(scores)), key=lambda i: (round(scores[i][0], 6), round(scores[i][1], 5)))
    assert n_iter == (best + 1) * every
    assert all(torch.equal(trained[name], value) for name, value in evaluated[best][1].items())
    assert len(evaluated) == best + 1 + 4
    assert len(taken) == len(evaluated) * every < n_steps


def test_last_step_is_evaluated() -> None:
    part = data(30, 1)
    trained, n_iter = run(part, schedule(n_steps=101), validation=part, patience=1000)
    assert n_iter > 90
    assert all(not value.requires_grad for value in trained.values())


def test_evaluation_is_weighted() -> None:
    params = {"head.weight": torch.tensor([[-1.0], [1.0]]), "head.bias": torch.zeros(2)}
    part = Labelled(torch.tensor([[1.0], [1.0]]), torch.tensor([1, 0]), torch.tensor([1.5, 0.5]))
    accuracy, negative_loss = evaluate(params, linear, part)
    assert accuracy == 0.75
    assert negative_loss == pytest.approx(-(0.75 * math.log1p(math.exp(-2)) + 0.25 * math.log1p(math.exp(2))))
