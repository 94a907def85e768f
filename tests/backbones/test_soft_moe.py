"""frofa.backbones.soft_moe: the layer against its formulas, and the models as backbones."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Generator, Tensor, nn

from frofa import FrozenFeatureExtractor
from frofa.backbones.loading import load_backbone
from frofa.backbones.soft_moe import SoftMoE
from frofa.exceptions import ModelNotFoundError

TINY = "soft_moe_vit_tiny_patch16"


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def transcription(x: Tensor, parts: Mapping[str, Tensor], *, dispatched: Tensor | None = None) -> Tensor:
    """Router and experts, sum by sum: g images, m tokens, d channels, n experts, p slots of each."""
    unit_x = x / torch.sqrt((x * x).sum(2, keepdim=True) + 1e-6)
    unit_mu = parts["mu"] / torch.sqrt((parts["mu"] * parts["mu"]).sum(0, keepdim=True) + 1e-6)
    weights = torch.exp(parts["scale"] * torch.einsum("gmd,dnp->gmnp", unit_x, unit_mu))
    dispatch = weights / weights.sum(1, keepdim=True)
    combine = weights / weights.sum((2, 3), keepdim=True)
    slots = torch.einsum("gmnp,gmd->gnpd", dispatch, x if dispatched is None else dispatched)
    hidden = gelu_tanh(torch.einsum("gnpd,nhd->gnph", slots, parts["fc1.weight"]) + parts["fc1.bias"][:, None])
    outputs = torch.einsum("gnph,ndh->gnpd", hidden, parts["fc2.weight"]) + parts["fc2.bias"][:, None]
    return torch.einsum("gmnp,gnpd->gmd", combine, outputs)


def random_layer(dim: int, hidden: int, num_experts: int, slots: int) -> SoftMoE:
    """In float64, no parameter at its initial value."""
    generator = Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        layer = SoftMoE(dim, hidden, num_experts, slots, act_layer=lambda: nn.GELU("tanh")).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        layer.scale.fill_(2.5)
    return layer


@pytest.mark.parametrize(("num_experts", "slots"), [(5, 1), (3, 4), (1, 1), (1, 3)])
@pytest.mark.parametrize("n_tokens", [1, 11])
def test_layer_is_its_formulas(num_experts: int, slots: int, n_tokens: int) -> None:
    layer = random_layer(12, 20, num_experts, slots)
    generator = Generator().manual_seed(1)
    x, upstream = (torch.randn(3, n_tokens, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    parts = {name: value.detach().clone().requires_grad_() for name, value in layer.named_parameters()}
    x, same = x.requires_grad_(), x.clone().requires_grad_()
    found, expected = layer(x), transcription(same, parts)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    gradients = torch.autograd.grad((found * upstream).sum(), [x, *layer.parameters()])
    wanted = torch.autograd.grad((expected * upstream).sum(), [same, *parts.values()])
    for name, one, other in zip(["x", *parts], gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6, msg=name)


def test_tokens_are_dispatched_as_they_are() -> None:
    """Ports that dispatch normalised tokens compute something else."""
    layer = random_layer(12, 20, 5, 1)
    x = 3 * torch.randn(3, 11, 12, generator=Generator().manual_seed(1), dtype=torch.float64)
    parts = dict(layer.named_parameters())
    wrong = transcription(x, parts, dispatched=torch.nn.functional.normalize(x, dim=2))
    assert float((layer(x) - wrong).detach().abs().max()) > 0.1


def test_model_is_a_vision_transformer_with_experts_in_the_last_half(tiny: Any) -> None:
    model = tiny.double()
    x = torch.randn(2, 3, 64, 64, generator=Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        tokens = model.patch_embed(x) + model.pos_embed
        for i, block in enumerate(model.blocks):
            tokens = tokens + block.attn(block.norm1(tokens))
            inner = block.norm2(tokens)
            tokens = tokens + (block.mlp(inner) if i < 2 else transcription(inner, dict(block.mlp.named_parameters())))
        final = nn.functional.layer_norm(tokens, (64,), model.norm.weight, model.norm.bias, 1e-6)
        torch.testing.assert_close(model.forward_features(x), final, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(model(x), model.head(final.mean(1)), rtol=1e-6, atol=1e-6)


PUBLISHED = {  # experts, dense blocks, blocks with experts, millions of parameters without the classifier
    "soft_moe_vit_small_patch16": (128, 6, 6, 922.3),
    "soft_moe_vit_small_patch14": (256, 6, 6, 1830.0),
    "soft_moe_vit_base_patch16": (128, 6, 6, 3684.9),
    "soft_moe_vit_large_patch16": (128, 12, 12, 13096.9),
    "soft_moe_vit_huge_patch14": (256, 16, 16, 54139.5),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_are_those_of_the_reference(name: str) -> None:
    num_experts, dense, sparse, millions = PUBLISHED[name]
    with torch.device("meta"):
        model: Any = timm.create_model(name, num_classes=0)
    assert [isinstance(block.mlp, SoftMoE) for block in model.blocks] == [False] * dense + [True] * sparse
    assert {block.mlp.mu.shape for block in model.blocks[dense:]} == {(model.embed_dim, num_experts, 1)}
    assert all(isinstance(block.attn.q_norm, nn.LayerNorm) for block in model.blocks)
    assert (model.global_pool, model.num_prefix_tokens) == ("avg", 0)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


def test_models_are_registered_without_weights() -> None:
    names = timm.list_models("soft_moe_vit_*")
    assert set(names) == {TINY, *PUBLISHED}
    assert not set(names) & set(timm.list_models(pretrained=True))
    for name in names:
        with pytest.raises(RuntimeError, match=f"no weights of {name} were ever published"):
            timm.create_model(name, pretrained=True)
    with pytest.raises(ModelNotFoundError, match=r"no weights of soft_moe_vit_base_patch16 .* 'local-dir:PATH'"):
        load_backbone("soft_moe_vit_base_patch16", None, "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_experts": 0}, r"num_experts must be 1 or more\. Got 0"),
        ({"slots_per_expert": 0}, r"slots_per_expert must be 1 or more\. Got 0"),
        ({"moe_blocks": 5}, r"moe_blocks must be 0 to 4, .* Got 5"),
        ({"fix_init": True}, "fix_init"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm.create_model(TINY, **arguments)


@pytest.fixture
def tiny() -> Any:
    """The tiny model in eval mode, parameters away from their initial values."""
    return _changed(timm.create_model)


def _changed(create: Callable[..., Any], **arguments: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create(TINY, **arguments)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(torch.randn(parameter.shape) * (2.0 if name.endswith("scale") else 0.05))
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the format of timm's `save_for_hf`, of two slots an expert."""
    path = tmp_path_factory.mktemp("soft_moe")
    arguments = {"slots_per_expert": 2}
    timm.models.save_for_hf(_changed(timm.create_model, **arguments), str(path), model_args=arguments)
    return path


def test_a_saved_checkpoint_is_a_backbone(folder: Path, image_paths: list[str]) -> None:
    assert json.loads((folder / "config.json").read_text())["architecture"] == TINY
    name = f"local-dir:{folder}"
    backbone = load_backbone(name, None, "cpu")
    model: Any = backbone.module
    assert model.blocks[3].mlp.mu.shape == (64, 8, 2)
    with Image.open(image_paths[0]) as image:
        pixels = backbone.preprocess(image.convert("RGB")).unsqueeze(0)
    assert pixels.shape == (1, 3, 64, 64)
    assert list(backbone.data_config["mean"]) == [0.5, 0.5, 0.5]
    with torch.no_grad():
        final = model.forward_features(pixels).numpy()
        inner = model.forward_intermediates(pixels, indices=[2], norm=False, output_fmt="NLC", intermediates_only=True)
        pooled = model.forward_head(torch.tensor(final), pre_logits=True).numpy()

    def features(**options: Any) -> Any:
        return FrozenFeatureExtractor(name, device="cpu", **options).transform(image_paths)

    np.testing.assert_allclose(features(output="tokens")[:1], final, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features(output="pooled")[:1], pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features(output="mean")[:1], pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features(layer=2, norm=False)[:1], inner[0].numpy(), rtol=1e-4, atol=1e-5)
    assert features(output="tokens", image_size=96).shape == (12, 36, 64)
    assert features(output="tokens", image_size=(96, 64)).shape == (12, 24, 64)


def test_half_precision_and_compilation_compute_the_same(tiny: Any) -> None:
    x = torch.randn(3, 3, 64, 64, generator=Generator().manual_seed(1))
    with torch.no_grad():
        exact = tiny.double().forward_features(x.double())
        tiny.float()
        single = tiny.forward_features(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = tiny.forward_features(x).double()
        run: Any = torch.compile(tiny, backend="aot_eager", fullgraph=True)
        compiled = run(x)
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled, tiny.forward_head(single))
    assert half.dtype == torch.float64
    assert float((half - exact).norm() / exact.norm()) < 0.02


def test_an_image_does_not_depend_on_its_neighbours(tiny: Any) -> None:
    x = torch.randn(4, 3, 64, 64, generator=Generator().manual_seed(1))
    with torch.no_grad():
        together = tiny.forward_features(x)
        alone = torch.cat([tiny.forward_features(one) for one in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_all_parameters_learn(tiny: Any) -> None:
    tiny.train()
    tiny(torch.randn(2, 3, 64, 64, generator=Generator().manual_seed(1))).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in tiny.parameters())
