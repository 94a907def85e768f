"""The training loop on a linear model, of which every step can be checked."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from frofa.augmentations import Augmentation, PatchDropout, TokenBatch
from frofa.augmentations.base import Params
from frofa.estimators import MAPClassifier
from frofa.estimators.models.map_model import MapModel
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.loop import ValidationSet, evaluate, train
from frofa.estimators.training.parameters import Heads, ParameterLayout
from frofa.estimators.training.plan import HeadPlan, LabelledRows, StepBatch
from frofa.estimators.training.schedule import Rules, Schedule
from frofa.estimators.training.streams import Streams, batches

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


def rates(plan: Schedule) -> list[float]:
    """Learning rates, step by step."""
    rules = Rules([plan], torch.device("cpu"))
    return [float(rules.at(step).lr) for step in range(plan.n_steps)]


def linear(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return x @ params["head.weight"].mT + params["head.bias"].unsqueeze(1)


class Autograd:
    """A model of which the gradients are PyTorch's."""

    def __init__(self, forward: Callable[[Mapping[str, Tensor], Tensor], Tensor]):
        self.forward = forward

    def logits(self, params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        assert mask is None  # all that is validated on here is of one size
        return self.forward(params, tokens)

    def gradients(self, heads: Heads, step: StepBatch, out: Gradient) -> None:
        params = {name: value.clone().requires_grad_() for name, value in heads.params.items()}
        with torch.enable_grad():
            logits = self.forward(params, step.tokens)
            losses = F.cross_entropy(logits.flatten(0, 1), step.targets.flatten(0, 1), reduction="none")
            loss = losses.sum() / logits.shape[1]
        for value, gradient in zip(out.params.values(), torch.autograd.grad(loss, [*params.values()]), strict=True):
            value.copy_(gradient)


def autograd(forward: Callable[[Mapping[str, Tensor], Tensor], Tensor] = linear) -> Any:
    """A model for `train`, which asks no more of it than this."""
    return Autograd(forward)


class Same(Streams):
    """The same step, again and again."""

    def __init__(self, step: StepBatch):
        self.step, self.generators = step, None

    def gather(self) -> TokenBatch:
        return TokenBatch(torch.empty(0, 1, 1))

    def expand(self, batch: TokenBatch) -> StepBatch:  # noqa: ARG002 (that of all streams)
        return self.step

    def keep(self, heads: Sequence[int]) -> None:
        self.step = step_of(self.step.tokens[heads], self.step.targets[heads])


def step_of(tokens: Tensor, targets: Tensor) -> StepBatch:
    """Each head's own tokens (H, n, C) and targets."""
    return StepBatch(tokens, None, targets, [(len(tokens), 1)])


def start(classes: int = 2, channels: int = 4) -> dict[str, Tensor]:
    draw = torch.randn(1, classes, channels, generator=Generator().manual_seed(7))
    return {"head.weight": draw, "head.bias": torch.full((1, classes), 0.5)}


def fit(
    params: dict[str, Tensor], forward: Any, step: StepBatch, plan: Schedule | list[Schedule], **options: Any
) -> tuple[dict[str, Tensor], list[int]]:
    """Train on the same step, again and again."""
    plans = plan if isinstance(plan, list) else [plan] * len(params["head.weight"])
    for name, value in options.items():
        if name in ("validation", "patience"):
            options[name] = [value] * len(plans)
    return train(params, autograd(forward), Same(step), plans, **options)


def packed(params: dict[str, Tensor]) -> Heads:
    layout = ParameterLayout.of(params)
    return Heads(layout, layout.pack(params))


def all_of(part: ValidationSet) -> StepBatch:
    return step_of(part.features[None], one_hot(part)[None])


def one_hot(part: ValidationSet) -> Tensor:
    return F.one_hot(part.classes, 2) * part.weights[:, None]


def data(n: int, seed: int, channels: int = 4) -> ValidationSet:
    """Random labels: there is nothing to learn but the samples."""
    generator = Generator().manual_seed(seed)
    x = torch.randn(n, channels, generator=generator)
    return ValidationSet(x, torch.randint(2, (n,), generator=generator), torch.ones(n))


def run(part: ValidationSet, plan: Schedule, **options: Any) -> tuple[dict[str, Tensor], int]:
    trained, [n_iter] = fit(start(channels=part.features.shape[1]), linear, all_of(part), plan, **options)
    return trained, n_iter


def test_warm_up_is_linear_then_constant() -> None:
    plan = schedule(warmup_steps=3, lr=2.0)
    assert rates(plan) == [0.5, 1.0, 1.5, *[2.0] * 7]


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
    assert rates(plan) == pytest.approx([1 + math.cos(step / 10 * math.pi) for step in range(10)])
    warm = schedule(schedule="cosine", lr=2.0, warmup_steps=4)
    factors = [0.2, 0.4, 0.6, 0.8, *[1] * 6]
    assert rates(warm) == pytest.approx([rate * factor for rate, factor in zip(rates(plan), factors, strict=True)])


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (12, 4), (9, 8)])
def test_batches_cover_an_epoch_without_repetition(n: int, batch_size: int) -> None:
    forever = batches(n, batch_size, Generator().manual_seed(0))
    epochs = []
    for _ in range(20):
        epoch = [rows for rows in itertools.islice(forever, n // batch_size) if isinstance(rows, Tensor)]
        assert [len(rows) for rows in epoch] == [batch_size] * (n // batch_size)
        epochs.append(torch.cat(epoch).tolist())
        assert len(set(epochs[-1])) == len(epochs[-1])
    assert len({tuple(epoch) for epoch in epochs}) == 20
    assert set().union(*epochs) == set(range(n))


@pytest.mark.parametrize("n", [3, 4])
def test_few_samples_are_one_batch(n: int) -> None:
    assert list(itertools.islice(batches(n, 4, Generator()), 3)) == [slice(None)] * 3


def test_one_step_is_gradient_descent_with_decay_of_kernels_only() -> None:
    part = ValidationSet(data(6, 0).features, data(6, 0).classes, torch.tensor([2.0, 0.5, 0.5, 1.0, 1.0, 1.0]))
    trained, n_iter = run(part, schedule(n_steps=1, weight_decay=0.1))
    params = {name: value.clone().requires_grad_() for name, value in start().items()}
    losses = F.cross_entropy(linear(params, part.features)[0], part.classes, reduction="none")
    loss = (losses * part.weights).mean()
    weight, bias = torch.autograd.grad(loss, list(params.values()))
    before = start()
    torch.testing.assert_close(trained["head.weight"], 0.95 * before["head.weight"] - 0.5 * weight)
    torch.testing.assert_close(trained["head.bias"], before["head.bias"] - 0.5 * bias)
    assert n_iter == 1


def test_only_kernels_decay() -> None:
    shapes = {"latent": (1, 1, 4), "norm.weight": (4,), "norm.bias": (4,), "fc1.weight": (3, 4), "fc1.bias": (3,)}

    def constant(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return x[..., :2] + 0 * torch.stack([value.sum() for value in params.values()]).sum()

    params = {name: torch.ones(1, *shape) for name, shape in shapes.items()}
    trained, _ = fit(params, constant, all_of(data(6, 0)), [schedule(n_steps=1, weight_decay=0.1)])
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
    fit(params, linear, all_of(part), SCHEDULE)
    assert all(torch.equal(params[name], value) for name, value in start().items())
    assert torch.equal(part.features, features)


def test_heads_at_once_train_as_they_do_alone() -> None:
    generator = Generator().manual_seed(0)
    firsts = [
        {name: torch.randn(value.shape, generator=generator) for name, value in start().items()} for _ in range(3)
    ]
    parts = [data(8, seed) for seed in range(3)]
    tokens = torch.stack([part.features for part in parts])
    targets = torch.stack([one_hot(part) for part in parts])
    plans = [
        schedule(lr=0.5, weight_decay=0.0, clip_norm=0.3, momentum=0.5),
        schedule(lr=0.1, weight_decay=0.3, clip_norm=None, momentum=0.5, n_steps=7, schedule="cosine"),
        schedule(lr=0.2, weight_decay=0.01, clip_norm=0.1, momentum=0.9, n_steps=13, warmup_steps=4),
    ]
    initial = {name: torch.cat([first[name] for first in firsts]) for name in firsts[0]}
    together, n_iter = fit(initial, linear, step_of(tokens, targets), plans)
    assert n_iter == [10, 7, 13]
    for i, (first, part, plan) in enumerate(zip(firsts, parts, plans, strict=True)):
        trained, _ = fit(first, linear, all_of(part), plan)
        for name, value in trained.items():
            torch.testing.assert_close(together[name][i : i + 1], value)


def test_soft_targets_are_a_weighted_sum_of_losses() -> None:
    x, plan = data(2, 0).features, schedule(n_steps=1)
    targets = torch.tensor([[[0.3, 0.7], [2.0, 0.0]]])
    soft = fit(start(), linear, step_of(x[None], targets), plan)[0]
    twice = ValidationSet(
        x[[0, 0, 1]], torch.tensor([0, 1, 0]), torch.tensor([0.3, 0.7, 2.0]) * 1.5
    )  # a mean over 3, not 2
    hard = fit(start(), linear, all_of(twice), plan)[0]
    assert all(torch.allclose(soft[name], hard[name]) for name in soft)


class Marking(Augmentation):
    """Adds a number to all patches, and counts how often it is applied."""

    def __init__(self, number: float = 0.0):
        self.number = number
        self.calls = 0

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:  # noqa: ARG002 (the contract's)
        return {}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:  # noqa: ARG002
        self.calls += 1
        return batch.replace(patches=batch.patches + self.number)


def plan_of(rows: list[int], augment: Augmentation | None, seed: int = 0, batch_size: int = 64) -> HeadPlan:
    chosen = np.array(rows)
    part = LabelledRows(chosen, chosen % 3, np.ones(len(rows), np.float32))
    return HeadPlan(MapModel(1), part, 3, (seed, seed, seed), schedule(batch_size=batch_size), augment, n_prefix=1)


def test_a_stream_is_gathered_and_augmented_once_for_all_of_its_heads() -> None:
    tokens = torch.arange(8.0).view(8, 1, 1).expand(8, 5, 4).clone()
    first, same, other, elsewhere = Marking(0.25), Marking(0.25), Marking(0.5), Marking(0.25)
    heads = [([0, 1], first), ([0, 1], same), ([0, 1], other), ([6, 7], elsewhere)]
    streams = Streams(tokens, [plan_of(rows, augment) for rows, augment in heads])
    batch = streams.gather()
    assert batch.patches[:, 0, 0].tolist() == [0, 1, 6, 7]
    step = streams.expand(batch)
    assert step.tokens[:, :, 0, 0].tolist() == [[0, 1], [0, 1], [6, 7]], "the prefix"
    assert step.tokens[:, :, 1, 0].tolist() == [[0.25, 1.25], [0.5, 1.5], [6.25, 7.25]]
    assert step.targets.argmax(2).tolist() == [[0, 1], [0, 1], [0, 1]]
    assert step.blocks == [(1, 2), (2, 1)]
    assert [augment.calls for augment in (first, same, other, elsewhere)] == [1, 0, 1, 1]
    streams.keep([1, 3])
    step = streams.expand(streams.gather())
    assert step.tokens[:, :, 1, 0].tolist() == [[0.25, 1.25], [6.25, 7.25]]
    assert (step.blocks, other.calls) == ([(2, 1)], 1)


def test_streams_draw_their_own_batches_and_masks() -> None:
    tokens = torch.arange(20.0).view(20, 1, 1).expand(20, 5, 4).clone()
    plans = [plan_of(list(range(20)), augment, seed, 8) for seed in (0, 1) for augment in (None, PatchDropout(0.5))]
    together, alone = Streams(tokens, plans), [Streams(tokens, [plan]) for plan in plans]
    for _ in range(5):
        step, each = together.expand(together.gather()), [one.expand(one.gather()) for one in alone]
        assert step.tokens.equal(torch.cat([one.tokens for one in each]))
        assert step.targets.equal(torch.cat([one.targets for one in each]))
        assert step.mask is not None
        assert each[1].mask is not None
        assert step.mask[::2].all()
        assert step.mask[1].equal(each[1].mask[0])
        assert step.mask[1].sum(1).tolist() == [3] * 8, "two of four patches, and the prefix"
    assert not step.tokens[0].equal(step.tokens[2])


def test_best_parameters_are_kept_for_each_head() -> None:
    """One head starts at what is best on the validation part and only gets worse, the other gets better."""
    x = torch.tensor([[1.0], [-1.0]])
    validation = ValidationSet(x, torch.tensor([0, 1]), torch.ones(2))
    weights = torch.tensor([[[-1.0], [1.0]], [[5.0], [-5.0]]])
    initial = {"head.weight": weights, "head.bias": torch.zeros(2, 2)}
    targets = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    trained, n_iter = fit(
        initial, linear, step_of(x.expand(2, 2, 1), targets), schedule(n_steps=20), validation=validation
    )
    assert n_iter == [20, 1]
    assert (evaluate(packed(trained), autograd(), validation)[:, 0] == 1).all()


@pytest.mark.parametrize(("n_steps", "every"), [(100, 2), (30, 1), (200, 4)])
def test_best_evaluation_is_kept_and_training_stops_after_patience(n_steps: int, every: int) -> None:
    part, validation = data(30, 1, channels=60), data(40, 2, channels=60)
    evaluated: list[tuple[tuple[float, float], dict[str, Tensor]]] = []
    taken: list[int] = []

    def forward(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        if x is validation.features:
            logits = linear(params, x)[0]
            accuracy = float((logits.argmax(1) == validation.classes).float().mean())
            loss = float(F.cross_entropy(logits, validation.classes))
            evaluated.append(((accuracy, -loss), {name: value.clone() for name, value in params.items()}))
        return linear(params, x)

    trained, [n_iter] = fit(
        start(channels=60),
        forward,
        all_of(part),
        schedule(n_steps=n_steps, momentum=0.9),
        validation=validation,
        patience=4,
        on_step=taken.append,
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
    params = {"head.weight": torch.tensor([[[-1.0], [1.0]]]), "head.bias": torch.zeros(1, 2)}
    part = ValidationSet(torch.tensor([[1.0], [1.0]]), torch.tensor([1, 0]), torch.tensor([1.5, 0.5]))
    [[accuracy, negative_loss]] = evaluate(packed(params), autograd(), part).tolist()
    assert accuracy == 0.75
    assert negative_loss == pytest.approx(-(0.75 * math.log1p(math.exp(-2)) + 0.25 * math.log1p(math.exp(2))))
