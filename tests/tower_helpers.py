"""Hugging Face folders with towers of seeded random weights, as the towers' own authors write them."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frofa.backbones.backbone import Backbone
from frofa.backbones.loading import ImageSize, load_backbone
from frofa.backbones.outputs import Output, Request

SMALL = {"hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**SMALL, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "patch_size": 14}


def randomise(model: Any, seed: int = 0) -> Any:
    """Draw every weight, those that start as zeros and ones too, so that none can be confused or forgotten."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim <= 1:
                parameter.mul_(0.5).add_(0.2 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
    return model.eval()


def siglip(**config: Any) -> Any:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    with torch.random.fork_rng(devices=[]):
        return randomise(SiglipVisionModel(SiglipVisionConfig(**config)))


def naflex(**config: Any) -> Any:
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    with torch.random.fork_rng(devices=[]):
        return randomise(Siglip2VisionModel(Siglip2VisionConfig(**config)))


def paligemma(**vision: Any) -> Any:
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    text = {**SMALL, "model_type": "gemma", "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 60}
    config = PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **vision}, text_config=text, projection_dim=32
    )
    with torch.random.fork_rng(devices=[]):
        return randomise(PaliGemmaForConditionalGeneration(config))


def save(model: Any, folder: Path, size: int | None = None, **options: Any) -> str:
    """Write a model and its image processor; the name of its folder for frofa."""
    from transformers import Siglip2ImageProcessor, SiglipImageProcessor

    model.save_pretrained(folder, **options)
    processor = SiglipImageProcessor(size={"height": size, "width": size}) if size else Siglip2ImageProcessor()
    processor.save_pretrained(folder)
    return f"hf-dir:{folder}"


def extract(name: str, images: Tensor, *outputs: Output, size: ImageSize = None) -> list[Tensor]:
    """What frofa computes of pixels (n, 3, H, W)."""
    backbone: Backbone = load_backbone(name, size, "cpu")
    requests = [Request(output, backbone.resolve_layer(output, None, True), True) for output in outputs]
    return backbone.extract(images, requests, "float32")


def pixels(n: int, height: int, width: int | None = None) -> Tensor:
    return torch.randn(n, 3, height, width or height, generator=torch.Generator().manual_seed(1))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def rewritten(name: str, folder: Path, **fields: Any) -> str:
    """A copy of a ``local-dir:`` model whose ``config.json`` has other preprocessing."""
    copy = Path(shutil.copytree(name.removeprefix("local-dir:"), folder / "rewritten", dirs_exist_ok=True))
    config = json.loads((copy / "config.json").read_text())
    config["pretrained_cfg"] |= fields
    (copy / "config.json").write_text(json.dumps(config))
    return f"local-dir:{copy}"
