"""The folded forward pass against timm's module."""

from functools import partial
from typing import Any

import pytest
import torch
from timm.layers import AttentionPoolLatent
from torch import Generator, Tensor, nn
from torch.func import functional_call

from frofa.estimators import MAPClassifier
from frofa.estimators.models.map_head import default_num_heads, init_map_head, map_logits
from frofa.estimators.models.map_model import MapModel
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, ParameterLayout
from frofa.estimators.training.plan import StepBatch

SHAPES = [(64, 4, 4.0, 9), (24, 1, 2.0, 5), (48, 6, 4.0, 1), (192, 3, 4.0, 64)]


class Reference(nn.Module):
    """timm's pooling, then a linear layer."""

    def __init__(self, channels: int, num_heads: int, mlp_ratio: float, n_classes: int):
        super().__init__()
        layer_norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.pool = AttentionPoolLatent(channels, num_heads=num_heads, mlp_ratio=mlp_ratio, norm_layer=layer_norm)
        self.head = nn.Linear(channels, n_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.head(self.pool(tokens))
        return scores


def reference_names(params: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name if name.startswith("head.") else f"pool.{name}": value for name, value in params.items()}


def many(*params: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of several heads, with a leading dimension."""
    return {name: torch.stack([one[name] for one in params]) for name in params[0]}


def random_params(channels: int, mlp_ratio: float, seed: int = 0, n_classes: int = 3) -> dict[str, Tensor]:
    """No parameter at its initial value: zero biases and a zero classifier would hide errors."""
    generator = Generator().manual_seed(seed)
    params = init_map_head(channels, n_classes, mlp_ratio, generator)
    return {
        name: value + 0.3 * channels**-0.5 * torch.randn(value.shape, generator=generator)
        for name, value in params.items()
    }


@pytest.mark.parametrize(("channels", "num_heads", "mlp_ratio", "n_tokens"), SHAPES)
def test_scores_are_those_of_timm(channels: int, num_heads: int, mlp_ratio: float, n_tokens: int) -> None:
    params = random_params(channels, mlp_ratio)
    tokens = torch.randn(7, n_tokens, channels, generator=Generator().manual_seed(1))
    with torch.device("meta"):
        reference = Reference(channels, num_heads, mlp_ratio, 3)
    reference.load_state_dict(reference_names(params), assign=True)
    with torch.no_grad():
        expected = reference.eval()(tokens)
    torch.testing.assert_close(map_logits(many(params), tokens, num_heads=num_heads)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("channels", "num_heads", "mlp_ratio", "n_tokens"), SHAPES)
def test_gradients_are_those_of_timm(channels: int, num_heads: int, mlp_ratio: float, n_tokens: int) -> None:
    values = {name: value.double() for name, value in random_params(channels, mlp_ratio).items()}
    generator = Generator().manual_seed(1)
    tokens = torch.randn(5, n_tokens, channels, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    with torch.device("meta"):
        reference = Reference(channels, num_heads, mlp_ratio, 3)
    ours = {name: value.clone().requires_grad_() for name, value in values.items()}
    theirs = {name: value.clone().requires_grad_() for name, value in values.items()}
    scores, expected = (
        map_logits(many(ours), tokens, num_heads=num_heads)[0],
        functional_call(reference, reference_names(theirs), (tokens,)),
    )
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-10)
    gradients = torch.autograd.grad((scores * weights).sum(), [*ours.values(), tokens])
    expected_gradients = torch.autograd.grad((expected * weights).sum(), [*theirs.values(), tokens])
    for name, actual, wanted in zip([*ours, "tokens"], gradients, expected_gradients, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-10, msg=name)


def losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of each head (H, n, n_classes)."""
    return -(logits.log_softmax(-1) * targets).sum(-1).mean(-1)


def soft_targets(*shape: int) -> Tensor:
    """Mixed labels times sample weights."""
    generator = Generator().manual_seed(2)
    mixed = torch.randn(shape, generator=generator, dtype=torch.float64).softmax(-1)
    return mixed * torch.rand((*shape[:-1], 1), generator=generator, dtype=torch.float64)


def gradients(
    params: dict[str, Tensor], num_heads: int, step: StepBatch, *, factored: bool = False
) -> dict[str, Tensor]:
    """Those that training uses; the products of factors are taken here."""
    layout = ParameterLayout.of(params)
    values = Heads(layout, layout.pack(params))
    found = Heads(layout, torch.full_like(values.flat, 0.0 if factored else torch.nan))
    for heads, part in step.parts():
        out = Gradient(layout, found.flat[heads], torch.float64 if factored else None)
        MapModel(num_heads).gradients(values[heads], part, out)
        norms = out.norms()
        for name, view, upstream, inputs in out.factors:
            view(out.params[name]).copy_(upstream.mT @ inputs)
        if factored:
            assert len(out.factors) >= 6
            squares = [value.flatten(1).square().sum(1) for value in out.params.values()]
            torch.testing.assert_close(norms, torch.stack(squares).sum(0).sqrt())
    return found.params


@pytest.mark.parametrize("n_classes", [3, 40], ids=["folded classifier", "classifier"])
@pytest.mark.parametrize(("channels", "num_heads", "mlp_ratio", "n_tokens"), SHAPES)
def test_written_out_gradients_are_those_of_timm(
    channels: int, num_heads: int, mlp_ratio: float, n_tokens: int, n_classes: int
) -> None:
    values = {name: value.double() for name, value in random_params(channels, mlp_ratio, 0, n_classes).items()}
    generator = Generator().manual_seed(1)
    tokens = torch.randn(1, 12, n_tokens, channels, generator=generator, dtype=torch.float64)
    targets = soft_targets(1, 12, n_classes)
    found = gradients(many(values), num_heads, StepBatch(tokens, None, targets, [(1, 1)]))
    with torch.device("meta"):
        reference = Reference(channels, num_heads, mlp_ratio, n_classes)
    theirs = {name: value.clone().requires_grad_() for name, value in values.items()}
    loss = losses(functional_call(reference, reference_names(theirs), (tokens[0],)), targets[0])
    for name, wanted in zip(theirs, torch.autograd.grad(loss, [*theirs.values()]), strict=True):
        torch.testing.assert_close(found[name][0], wanted, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("factored", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_classes", [3, 40])
@pytest.mark.parametrize("blocks", [[(1, 3)], [(3, 1)], [(2, 3)], [(1, 2), (2, 1), (1, 3)]], ids=str)
def test_written_out_gradients_are_those_of_autograd(
    blocks: list[tuple[int, int]], n_classes: int, masked: bool, factored: bool
) -> None:
    n_streams, n_heads = (sum(counts) for counts in ([s for s, _ in blocks], [s * h for s, h in blocks]))
    params = many(*(random_params(48, 2.0, seed, n_classes) for seed in range(n_heads)))
    params = {name: value.double().requires_grad_() for name, value in params.items()}
    generator = Generator().manual_seed(1)
    tokens = torch.randn(n_streams, 10, 9, 48, generator=generator, dtype=torch.float64)
    mask = torch.rand((n_streams, 10, 9), generator=generator) < 0.6 if masked else None
    if mask is not None:
        mask[..., 0] = True
    step = StepBatch(tokens, mask, soft_targets(n_streams, 10, n_classes), blocks)
    stream_of = torch.arange(n_streams).repeat_interleave(torch.tensor([h for s, h in blocks for _ in range(s)]))
    seen = None if mask is None else mask[stream_of]
    loss = losses(map_logits(params, tokens[stream_of], seen, num_heads=6), step.targets[stream_of]).sum()
    wanted = torch.autograd.grad(loss, [*params.values()])
    found = gradients({name: value.detach() for name, value in params.items()}, 6, step, factored=factored)
    for name, value in zip(params, wanted, strict=True):
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("masked", [False, True])
def test_heads_at_once_are_the_heads_one_by_one(masked: bool) -> None:
    generator = Generator().manual_seed(1)
    each = [random_params(48, 4.0, seed) for seed in range(3)]
    tokens = torch.randn(3, 5, 9, 48, generator=generator)
    mask = torch.rand((3, 5, 9), generator=generator) < 0.6 if masked else None
    if mask is not None:
        mask[..., 0] = True
    together = map_logits(many(*each), tokens, mask, num_heads=6)
    shared = map_logits(many(*each), tokens[0], None if mask is None else mask[0], num_heads=6)
    for i, params in enumerate(each):
        seen = None if mask is None else mask[i : i + 1]
        torch.testing.assert_close(together[i], map_logits(many(params), tokens[i : i + 1], seen, num_heads=6)[0])
        first = None if mask is None else mask[:1]
        torch.testing.assert_close(shared[i], map_logits(many(params), tokens[:1], first, num_heads=6)[0])
    pairs = map_logits(many(*each[:2], *each[1:]), tokens[:2], None if mask is None else mask[:2], num_heads=6)
    torch.testing.assert_close(pairs[:2], shared[:2])
    torch.testing.assert_close(pairs[2], together[1])


def test_hidden_tokens_are_as_good_as_absent() -> None:
    params = many(random_params(48, 4.0), random_params(48, 4.0, seed=1))
    tokens = torch.randn(2, 5, 9, 48, generator=Generator().manual_seed(1))
    mask = torch.zeros(2, 5, 9, dtype=torch.bool)
    mask[:, :, 2:6] = True
    hidden = map_logits(params, tokens.masked_fill(~mask.unsqueeze(-1), 1e3), mask, num_heads=6)
    torch.testing.assert_close(hidden, map_logits(params, tokens[:, :, 2:6], num_heads=6))
    assert not torch.allclose(hidden, map_logits(params, tokens, num_heads=6))


def test_fitted_weights_load_into_timm() -> None:
    tokens = torch.randn(12, 6, 32, generator=Generator().manual_seed(0))
    head = MAPClassifier(num_heads=4, n_steps=20, random_state=0, device="cpu").fit(tokens, torch.arange(12) % 3)
    with torch.device("meta"):
        reference = Reference(32, 4, 4.0, 3)
    weights = {name: torch.tensor(value) for name, value in head.weights_.items()}
    reference.load_state_dict(reference_names(weights), assign=True)
    with torch.no_grad():
        expected = reference.eval()(tokens)
    scores = torch.tensor(head.decision_function(tokens))
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
    assert float(scores.std()) > 1e-3


@pytest.mark.parametrize(
    ("channels", "num_heads"), [(1, 1), (63, 1), (64, 1), (128, 2), (192, 3), (200, 2), (331, 1), (768, 12), (1152, 18)]
)
def test_default_number_of_heads(channels: int, num_heads: int) -> None:
    assert default_num_heads(channels) == num_heads


def test_initial_parameters_are_those_of_big_vision() -> None:
    params = init_map_head(32, 5, 4.0, Generator().manual_seed(0))
    zero = {"q.bias", "kv.bias", "proj.bias", "norm.bias", "mlp.fc1.bias", "mlp.fc2.bias", "head.weight", "head.bias"}
    assert {name for name, value in params.items() if not value.any()} == zero
    assert (params["norm.weight"] == 1).all()
    kernels = {"latent": 33, "q.weight": 64, "proj.weight": 64, "mlp.fc1.weight": 160, "mlp.fc2.weight": 160}
    for name, fans in kernels.items():
        bound = (6 / fans) ** 0.5
        assert 0.8 * bound < float(params[name].abs().max()) <= bound, name
        assert float(params[name].std()) == pytest.approx(bound / 3**0.5, rel=0.3 if name == "latent" else 0.05)
    assert float(params["kv.weight"].abs().max()) <= (6 / 64) ** 0.5  # key and value each a kernel of their own
    assert float(params["kv.weight"].abs().max()) > (6 / 96) ** 0.5
