"""A packed pass gives each image what timm's own gives it alone."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from navit_cases import CASES, GRIDS, PATCH, alone, drawn, model, patches_of
from torch import Tensor

from frofa.backbones.navit.attention import attend, segments_of
from frofa.backbones.navit.backbone import places_in_order
from frofa.backbones.navit.model import PackedModel
from frofa.backbones.navit.pooling import reduce
from frofa.backbones.outputs import Request

LAST = 2
ALL = [Request("tokens", LAST, True), Request("mean", LAST, True), Request("pooled", LAST, True)]


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", CASES)
def test_packed_equals_each_alone(name: str) -> None:
    module, patches = model(name), patches_of(GRIDS)
    n_prefix = module.num_prefix_tokens
    with torch.inference_mode():
        tokens, means, pooled = PackedModel(module)(torch.cat(patches), GRIDS, ALL)
        for index, part in enumerate(tokens.split([len(values) for values in patches])):
            expected, expected_pooled = alone(module, patches[index], GRIDS[index])
            assert error(part, expected[n_prefix:]) < 1e-5
            assert error(means[index], expected[n_prefix:].mean(0)) < 1e-5
            assert error(pooled[index], expected_pooled) < 1e-5


@pytest.mark.parametrize("name", ["siglip2", "rope_mixed", "cls"])
def test_in_float64_to_the_last_digits(name: str) -> None:
    module, patches = model(name).double(), [values.double() for values in patches_of(GRIDS)]
    with torch.inference_mode():
        [tokens] = PackedModel(module)(torch.cat(patches), GRIDS, ALL[:1])
        expected = torch.cat([alone(module, *image)[0][module.num_prefix_tokens :] for image in zip(patches, GRIDS)])  # noqa: B905
    assert tokens.dtype == torch.float64
    # Rotary positions of timm's are computed in float32.
    assert error(tokens, expected) < (1e-6 if "rope" in name else 1e-13)


def test_layers_and_norms_of_one_pass() -> None:
    module, patches = model("cls"), patches_of(GRIDS)
    requests = [Request("tokens", 0, False), Request("cls", 1, True), Request("tokens", LAST, False)]
    with torch.inference_mode():
        found = PackedModel(module)(torch.cat(patches), GRIDS, requests)
        [again] = PackedModel(module)(torch.cat(patches), GRIDS, requests[:1])
        seen: list[Tensor] = []
        for block in module.blocks:
            block.register_forward_hook(lambda *given: seen.append(given[2][0]))
        alone(module, patches[0], GRIDS[0])
        assert error(found[0][: len(patches[0])], seen[0][2:]) < 1e-5
        assert error(found[1][0], module.norm(seen[1])[0]) < 1e-5
        assert error(found[2][: len(patches[0])], seen[2][2:]) < 1e-5
    assert torch.equal(again, found[0])


VITS: dict[str, dict[str, Any]] = {
    "cls": {},
    "reg": {"reg_tokens": 3, "no_embed_class": True, "init_values": 0.4, "qk_norm": True},
    "siglip": {"class_token": False, "global_pool": "map", "act_layer": partial(torch.nn.GELU, approximate="tanh")},
    "gap": {"class_token": False, "global_pool": "avg", "fc_norm": True},
    "no_positions": {"pos_embed": "none", "pre_norm": True},
}


@pytest.mark.parametrize("name", VITS)
def test_plain_vits_with_interpolated_positions(name: str) -> None:
    sizes: Any = {"img_size": 24, "patch_size": PATCH, "embed_dim": 48, "depth": 3, "num_heads": 4, "num_classes": 0}
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        vit: Any = drawn(VisionTransformer(**sizes, **VITS[name], dynamic_img_size=True).eval())
    patches = patches_of(GRIDS)
    with torch.inference_mode():
        tokens, pooled = PackedModel(vit)(torch.cat(patches), GRIDS, [ALL[0], ALL[2]])
        for index, part in enumerate(tokens.split([len(values) for values in patches])):
            rows, columns = GRIDS[index]
            image = patches[index].view(rows, columns, PATCH, PATCH, 3).permute(4, 0, 2, 1, 3)
            expected = vit.forward_features(image.reshape(1, 3, rows * PATCH, columns * PATCH))
            assert error(part, expected[0, vit.num_prefix_tokens :]) < 1e-5
            assert error(pooled[index], vit.forward_head(expected, pre_logits=True)[0]) < 1e-5


def test_registered_models_are_taken() -> None:
    for name in timm.list_models("naflexvit_*"):
        if "base" in name:
            with torch.device("meta"):
                PackedModel(timm.create_model(name, num_classes=0))


@pytest.mark.parametrize("name", ["convnext_atto", "vit_relpos_small_patch16_224", "vit_small_r26_s32_224"])
def test_other_models_are_refused(name: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(name)
    with pytest.raises(ValueError, match="max_tokens"):
        PackedModel(module)


def test_images_attend_to_themselves_only() -> None:
    module, patches = model("siglip2"), patches_of(GRIDS)
    changed = [values * 3 if index == 4 else values for index, values in enumerate(patches)]
    with torch.inference_mode():
        before, after = (PackedModel(module)(torch.cat(given), GRIDS, ALL) for given in (patches, changed))
    sizes = [len(values) for values in patches]
    for index, (first, second) in enumerate(zip(before[0].split(sizes), after[0].split(sizes), strict=True)):
        assert torch.equal(first, second) == (index != 4)
    for first, second in zip(before[1:], after[1:], strict=True):
        assert (first == second).all(1).tolist() == [index != 4 for index in range(len(GRIDS))]


def test_attention_of_segments_is_masked_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 3, 1, 5]
    queries, keys, values = torch.randn(3, 12, 2, 8, generator=generator, dtype=torch.float64)
    segments = segments_of(lengths, queries.device)
    owner = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))
    q, k, v = (part.transpose(0, 1) for part in (queries, keys, values))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=owner[:, None] == owner)
    found = attend(queries, keys, values, segments, segments)
    torch.testing.assert_close(found, expected.transpose(0, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lengths", [[4], [1, 6, 2]])
def test_reductions(lengths: list[int]) -> None:
    x = torch.randn(sum(lengths), 5, generator=torch.Generator().manual_seed(0))
    segments = segments_of(lengths, x.device)
    parts = x.split(lengths)
    torch.testing.assert_close(reduce(x, segments, "mean"), torch.stack([part.mean(0) for part in parts]))
    torch.testing.assert_close(reduce(x, segments, "max"), torch.stack([part.amax(0) for part in parts]))


def test_tokens_in_the_order_of_the_caller() -> None:
    sizes, order = np.array([3, 1, 2]), np.array([1, 2, 0])
    assert places_in_order(sizes, order).tolist() == [3, 4, 5, 0, 1, 2]
