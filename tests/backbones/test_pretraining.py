"""frofa.backbones.pretraining: the output that the pre-training loss was applied to, by family."""

import pytest
from torch import nn

from frofa.backbones.loading import load_backbone
from frofa.backbones.pretraining import pretraining, pretraining_vector


@pytest.mark.parametrize(
    ("name", "vector"),
    [
        ("vit_large_patch16_siglip_256.v2_webli", "pooled"),
        ("naflexvit_base_patch16_siglip.v2_webli", "pooled"),
        ("vit_so400m_patch14_siglip_gap_224.pali2_3b_pt", None),
        ("vit_so400m_patch14_siglip_gap_378.webli_ft_in1k", "pooled"),
        ("vit_pe_core_large_patch14_336.fb", "pooled"),
        ("vit_pe_spatial_large_patch14_448.fb", None),
        ("vit_7b_patch16_dinov3.lvd1689m", "cls"),
        ("vit_base_patch14_reg4_dinov2.lvd142m", "cls"),
        ("vit_small_patch16_224.dino", "cls"),
        ("xcit_small_12_p16_224.fb_dist_in1k", "pooled"),
        ("vit_base_patch16_clip_224.laion2b", "cls"),
        ("vit_base_patch16_clip_224.laion2b_ft_in12k_in1k", "pooled"),
        ("eva02_base_patch16_clip_224.merged2b", "cls"),
        ("eva02_base_patch14_224.mim_in22k", None),
        ("eva02_base_patch14_448.mim_in22k_ft_in22k_in1k", "pooled"),
        ("vit_base_patch16_224.mae", None),
        ("convnextv2_base.fcmae", None),
        ("convnextv2_base.fcmae_ft_in22k_in1k_384", "pooled"),
        ("convnext_base.clip_laion2b", "pooled"),
        ("resnet50_clip.openai", "pooled"),
        ("resnet50_clip_gap.openai", None),
        ("vit_huge_patch14_224.in1k_ijepa", None),
        ("aimv2_large_patch14_224.apple_pt", None),
        ("resnet50.a1_in1k", "pooled"),
    ],
)
def test_vectors_of_timms_families(name: str, vector: str | None) -> None:
    module = nn.Identity()
    architecture, _, tag = name.partition(".")
    module.pretrained_cfg = {"architecture": architecture, "tag": tag, "num_classes": 0}  # type: ignore[assignment]
    assert pretraining_vector(module) == vector


def test_a_classifier_read_the_pooled_vector() -> None:
    module = nn.Identity()
    assert pretraining(module) is None
    module.pretrained_cfg = {"architecture": "vit_unheard_of", "num_classes": 12}  # type: ignore[assignment]
    family = pretraining(module)
    assert family is not None
    assert (family.vector, family.loss) == ("pooled", "a last layer of 12 outputs, which reads it")


def test_the_embedded_backbone() -> None:
    assert pretraining_vector(load_backbone("frofa/vit_tiny_tin200", None, "cpu").module) == "pooled"
