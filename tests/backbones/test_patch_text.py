"""Patches and words: contributions that add up, MaskCLIP by hand, and models without either."""

from typing import Any

import pytest
import torch
from text_helpers import clip_folder, siglip_folder
from torch import Tensor, nn
from tower_helpers import pixels

from frofa.backbones.backbone import Backbone
from frofa.backbones.loading import load_backbone
from frofa.backbones.outputs import Request
from frofa.backbones.patch_text import patch_contributions, patch_vectors

N = 2


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(siglip_folder(tmp_path_factory.mktemp("siglip")), None, "cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(clip_folder(tmp_path_factory.mktemp("clip")), None, "cpu")


@pytest.fixture(params=["siglip", "clip"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    found: Backbone = request.getfixturevalue(request.param)
    return found


def embeddings(backbone: Backbone, m: int = 3) -> Tensor:
    texts = torch.randn(m, backbone.layout.widths["projected"], generator=torch.Generator().manual_seed(0))
    return nn.functional.normalize(texts, dim=1)


def test_a_head_that_sees_one_patch_alone(siglip: Backbone) -> None:
    head: Any = siglip.module.attn_pool
    images = pixels(N, 32)
    tokens = siglip.extract(images, [Request("tokens", 1, True)], "float32")[0]
    # By hand: values, output projection, and the MLP beside its input.
    value = nn.functional.linear(tokens, *(part.chunk(2)[1] for part in (head.kv.weight, head.kv.bias)))
    found = head.proj(value)
    torch.testing.assert_close(patch_vectors(siglip, images), found + head.mlp(head.norm(found)), atol=1e-5, rtol=1e-4)


def test_a_last_block_that_sees_one_patch_alone_is_maskclip(clip: Backbone) -> None:
    model: Any = clip.module
    images = pixels(N, 32)
    tokens = clip.extract(images, [Request("tokens", 0, False)], "float32")[0]
    block = model.blocks[1]
    weight, bias = (part.chunk(3)[2] for part in (block.attn.qkv.weight, block.attn.qkv.bias))
    seen = tokens + block.attn.proj(nn.functional.linear(block.norm1(tokens), weight, bias))
    seen = seen + block.mlp(block.norm2(seen))
    torch.testing.assert_close(patch_vectors(clip, images), model.head(model.norm(seen)), atol=1e-5, rtol=1e-4)


def test_contributions_are_what_the_score_loses_without_a_patch(backbone: Backbone) -> None:
    """A value that is a little smaller lowers the cosine by so much of its contribution."""
    images, texts = pixels(N, 32), embeddings(backbone)
    added = patch_contributions(backbone, images, texts)
    module: Any = backbone.module
    head = getattr(module, "attn_pool", None)
    layer, parts = (head.kv, 2) if head is not None else (module.blocks[-1].attn.qkv, 3)
    n_prefix, step, patch = (backbone.layout.n_prefix if head is None else 0), 1e-2, 5

    def cosines(share: float) -> Tensor:
        def shrink(_: nn.Module, __: object, output: Tensor) -> Tensor:
            changed = output.clone()
            changed[:, n_prefix + patch, -(output.shape[2] // parts) :] *= 1 - share
            return changed

        handle = layer.register_forward_hook(shrink)
        try:
            vectors = backbone.extract(images, [Request("projected", 1, True)], "float32")[0]
        finally:
            handle.remove()
        return nn.functional.normalize(vectors, dim=1) @ texts.T

    lost = (cosines(-step) - cosines(step)) / (2 * step)
    torch.testing.assert_close(added[:, :, patch], lost, atol=2e-4, rtol=2e-2)
    assert added.shape == (N, 3, 16)


def test_each_image_may_have_texts_of_its_own(backbone: Backbone) -> None:
    images, texts = pixels(N, 32), embeddings(backbone)
    all_of_them = patch_contributions(backbone, images, texts)
    own = patch_contributions(backbone, images, torch.stack([texts[1:2], texts[2:3]]))
    torch.testing.assert_close(own[:, 0], torch.stack([all_of_them[0, 1], all_of_them[1, 2]]), atol=1e-6, rtol=1e-4)
    # Nothing is left of the look inside.
    assert not any(part._forward_hooks for part in backbone.module.modules())
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())


def test_uint8_images_are_taken(siglip: Backbone) -> None:
    images = torch.randint(0, 256, (N, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    normal = siglip.preprocessing.normalise(images)
    torch.testing.assert_close(patch_vectors(siglip, images), patch_vectors(siglip, normal))


def test_models_without_words_are_refused(small_vit: str) -> None:
    found = load_backbone(small_vit, None, "cpu")
    with pytest.raises(ValueError, match="has no space of words"):
        patch_vectors(found, pixels(1, 32))
    with pytest.raises(ValueError, match="has no space of words"):
        patch_contributions(found, pixels(1, 32), torch.ones(1, 16))
