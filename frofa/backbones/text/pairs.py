"""Pairs of timm's image towers and the repositories of their text towers, as open_clip names them."""

import re

_SIZES = {
    "base": "B",
    "large": "L",
    "so400m": "SO400M",
    "giantopt": "gopt",
}
_SIGLIP = re.compile(r"vit_(base|large|so400m|giantopt)_patch(\d+)_siglip(?:_gap)?_(\d+)\.(webli|v2_webli|webli_i18n)")
_WITHOUT_SIZE = {"ViT-B-16-SigLIP-224", "ViT-SO400M-14-SigLIP-224", "ViT-B-16-SigLIP2-224", "ViT-SO400M-14-SigLIP2-224"}
"""Repositories of 224 pixels, whose names do not say so."""
_SAME_WEIGHTS = {"ViT-SO400M-14-SigLIP-378": "ViT-SO400M-14-SigLIP-384"}
"""Repositories that are others' weights at another image size."""
_OTHERS = {
    "naflexvit_base_patch16_siglip.v2_webli": "google/siglip2-base-patch16-naflex",
    "naflexvit_so400m_patch16_siglip.v2_webli": "google/siglip2-so400m-patch16-naflex",
    "vit_pe_core_tiny_patch16_384.fb": "timm/PE-Core-T-16-384",
    "vit_pe_core_small_patch16_384.fb": "timm/PE-Core-S-16-384",
    "vit_pe_core_base_patch16_224.fb": "timm/PE-Core-B-16",
    "vit_pe_core_large_patch14_336.fb": "timm/PE-Core-L-14-336",
    "vit_pe_core_gigantic_patch14_448.fb": "timm/PE-Core-bigG-14-448",
    "eva_giant_patch14_clip_224.laion400m": "timm/eva_giant_patch14_clip_224.laion400m_s11b_b41k",
    "eva_giant_patch14_clip_224.merged2b": "timm/eva_giant_patch14_plus_clip_224.merged2b_s11b_b114k",
    "eva02_base_patch16_clip_224.merged2b": "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
    "eva02_large_patch14_clip_224.merged2b": "timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k",
    "eva02_large_patch14_clip_336.merged2b": "timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k",
    "eva02_enormous_patch14_clip_224.laion2b": "timm/eva02_enormous_patch14_clip_224.laion2b_s4b_b115k",
    "eva02_enormous_patch14_clip_224.laion2b_plus": "timm/eva02_enormous_patch14_plus_clip_224.laion2b_s9b_b144k",
}
_RESNET = re.compile(r"resnet\w+_clip\.(openai|yfcc15m|cc12m)")
"""CLIP's ResNets: timm's own repositories hold the pairs."""
_CLIP = re.compile(r"(vit_\w+?)_clip(?:_quickgelu)?_(\d+)\.(\w+)")
_CLIP_TIMM = (
    "openai",
    "laion400m_e32",
    "metaclip_400m",
    "metaclip_2pt5b",
    "metaclip_altogether",
    "metaclip2_worldwide",
)
"""Tags whose pairs timm's own repositories hold, beside the image tower."""
_CLIP_ELSEWHERE = {
    "vit_base_patch32_clip_224.laion2b": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "vit_base_patch16_clip_224.laion2b": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    "vit_large_patch14_clip_224.laion2b": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "vit_huge_patch14_clip_224.laion2b": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "vit_giant_patch14_clip_224.laion2b": "laion/CLIP-ViT-g-14-laion2B-s34B-b88K",
    "vit_gigantic_patch14_clip_224.laion2b": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
    "vit_base_patch32_clip_224.datacompxl": "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
    "vit_base_patch32_clip_256.datacompxl": "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
    "vit_base_patch16_clip_224.datacompxl": "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
    "vit_large_patch14_clip_224.datacompxl": "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    "vit_base_patch16_clip_224.dfn2b": "apple/DFN2B-CLIP-ViT-B-16",
    "vit_large_patch14_clip_224.dfn2b": "apple/DFN2B-CLIP-ViT-L-14",
    "vit_large_patch14_clip_224.dfn2b_s39b": "apple/DFN2B-CLIP-ViT-L-14-39B",
    "vit_huge_patch14_clip_224.dfn5b": "apple/DFN5B-CLIP-ViT-H-14",
    "vit_huge_patch14_clip_378.dfn5b": "apple/DFN5B-CLIP-ViT-H-14-378",
}


def repository_of(name: str) -> str | None:
    """The repository ``OWNER/NAME`` of the hub with the text tower of a timm name, or None if it has none.

    References
    ----------
    open_clip 3.3, ``open_clip/pretrained.py``, and timm 1.0, ``timm/models/vision_transformer.py``.

    Examples
    --------
    >>> from frofa.backbones.text.pairs import repository_of
    >>> repository_of("vit_base_patch16_siglip_224.webli")
    'timm/ViT-B-16-SigLIP'
    >>> repository_of("vit_base_patch32_clip_quickgelu_224.openai")
    'timm/vit_base_patch32_clip_224.openai'
    """
    bare = name.removeprefix("timm/")
    if bare in _OTHERS:
        return _OTHERS[bare]
    if _RESNET.fullmatch(bare):
        return f"timm/{bare}"
    if found := _SIGLIP.fullmatch(bare):
        return f"timm/{_siglip(*found.groups())}"
    if found := _CLIP.fullmatch(bare):
        model, size, tag = found.groups()
        plain = f"{model}_clip_{size}.{tag}"
        if tag in _CLIP_TIMM:
            return f"timm/{plain}"
        return _CLIP_ELSEWHERE.get(plain)
    return None


def _siglip(size: str, patch: str, side: str, tag: str) -> str:
    version = "SigLIP2" if tag == "v2_webli" else "SigLIP"
    language = "-i18n" if tag == "webli_i18n" else ""
    named = f"ViT-{_SIZES[size]}-{patch}-{version}{language}-{side}"
    return named.removesuffix("-224") if named in _WITHOUT_SIZE else _SAME_WEIGHTS.get(named, named)
