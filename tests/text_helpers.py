"""Folders with image and text towers of seeded random weights, and small tokenizers, as their authors write them."""

import functools
import json
from pathlib import Path
from typing import Any

import torch
from token_helpers import write_clip_tokenizer, write_siglip2_tokenizer, write_siglip_tokenizer
from torch import Tensor
from tower_helpers import SMALL, randomise, save

VISION = {**SMALL, "image_size": 32, "patch_size": 8}
WORDS = ["a photo of a cat", "", "dog", "A photo of a very small, blurry grey horse! " * 8, "\u732b \u0644\u0627"]


def siglip_folder(folder: Path, *, sized: bool = True, **text: Any) -> str:
    """Write a whole SigLIP with its tokenizer; `sized` SigLIP 2 has this architecture with Gemma's tokenizer."""
    from transformers import SiglipConfig, SiglipModel

    size = write_siglip_tokenizer(folder) if sized else write_siglip2_tokenizer(folder)
    config = SiglipConfig(text_config={**SMALL, "vocab_size": size, **text}, vision_config=VISION)
    with torch.random.fork_rng(devices=[]):
        return save(randomise(SiglipModel(config)), folder, 32)


def siglip2_folder(folder: Path, *, naflex: bool = True, **text: Any) -> str:
    """Write a whole SigLIP 2 with its tokenizer: for images of any size, or of one."""
    if not naflex:
        return siglip_folder(folder, sized=False, **text)
    from transformers import Siglip2Config, Siglip2Model

    size = write_siglip2_tokenizer(folder)
    vision = {**SMALL, "patch_size": 8, "num_patches": 16}
    config = Siglip2Config(text_config={**SMALL, "vocab_size": size, **text}, vision_config=vision)
    with torch.random.fork_rng(devices=[]):
        return save(randomise(Siglip2Model(config)), folder)


def clip_folder(folder: Path, *, former_eos: bool = False, **options: Any) -> str:
    """Write a whole CLIP with its tokenizer; `former_eos` names the end-of-text token as OpenAI's folders do, wrongly.

    Other options are those of ``save_pretrained``.
    """
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    size = write_clip_tokenizer(folder)
    text = {**SMALL, "vocab_size": size, "projection_dim": 24, "eos_token_id": 2 if former_eos else size - 1}
    config = CLIPConfig(text_config=text, vision_config={**VISION, "projection_dim": 24}, projection_dim=24)
    with torch.random.fork_rng(devices=[]):
        randomise(CLIPModel(config)).save_pretrained(folder, **options)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return f"hf-dir:{folder}"


def open_clip_model(
    kind: str, vocabulary: int, *, quick_gelu: bool = False, **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Make open_clip's own model, ``"clip"`` or ``"siglip"``, and its `model_cfg`; `options` go into `text_cfg`."""
    import open_clip

    text = {"context_length": 16, "vocab_size": vocabulary, "width": 32, "heads": 2, "layers": 2}
    config: dict[str, Any] = {
        "embed_dim": 24,
        "quick_gelu": quick_gelu,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {**text, **options},
    }
    if kind == "siglip":
        config["vision_cfg"] = {"image_size": 32, "timm_model_name": small_siglip(), "timm_pool": "map"}
        config["vision_cfg"] |= {"timm_model_pretrained": False, "timm_proj": "none"}
        config |= {"embed_dim": 32, "init_logit_bias": -10}
        config["text_cfg"] |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
        config["text_cfg"] |= {"norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"}, **options}
    with torch.random.fork_rng(devices=[]):
        model = (open_clip.CustomTextCLIP if kind == "siglip" else open_clip.CLIP)(**config)
    return randomise(model), config | {"custom_text": kind == "siglip"}


@functools.cache
def small_siglip() -> str:
    """Register a model with timm that is SigLIP's image tower but small; its name."""
    from timm.models import register_model
    from timm.models.vision_transformer import VisionTransformer, vit_base_patch16_siglip_224

    def vit_small_for_tests_siglip(pretrained: bool = False, **options: Any) -> VisionTransformer:
        sizes = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}
        return vit_base_patch16_siglip_224(pretrained, **sizes | options)  # type: ignore[no-any-return]

    vit_small_for_tests_siglip.__module__ = "timm.models.vision_transformer"
    register_model(vit_small_for_tests_siglip)
    return "vit_small_for_tests_siglip"


def write_open_clip(folder: Path, model: Any, config: dict[str, Any], *, mean: float = 0.5) -> str:
    """Write weights and configuration of open_clip's model beside what is in a folder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights_of(folder))
    preprocessing = {"mean": [mean] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    content = {"model_cfg": config, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return f"local-dir:{folder}"


def weights_of(folder: Path) -> Path:
    return folder / "open_clip_model.safetensors"


def ids_of(vocabulary: int, context: int, n: int = 6) -> tuple[Tensor, Tensor]:
    """Token ids (n, context), and a mask with padding of every length, that any tower takes."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, vocabulary - 1, (n, context), generator=generator)
    lengths = torch.randint(1, context + 1, (n, 1), generator=generator)
    mask = torch.arange(context) < lengths
    return torch.where(mask, ids, 0), mask
