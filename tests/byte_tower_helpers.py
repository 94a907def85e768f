"""Folders with a text tower over bytes, of seeded random weights, alone or beside an image tower."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

WIDTH, CONTEXT, SCALE, BIAS = 16, 24, 20.0, -4.0
TEMPLATES = ("{}", "one {}")


def byte_folder(folder: Path, seed: int = 0) -> str:
    """Write ``text.json`` and ``text.safetensors``; return the model's name."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, activation="gelu", batch_first=True, norm_first=True)
        encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    shapes = {
        "tok.weight": (257, WIDTH),
        "pos": (CONTEXT, WIDTH),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "proj.weight": (WIDTH, WIDTH),
        "proj.bias": (WIDTH,),
        **{f"enc.{name}": tuple(tensor.shape) for name, tensor in encoder.state_dict().items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()},
        folder / "text.safetensors",
    )
    sizes = {
        "width": WIDTH,
        "layers": 2,
        "heads": 2,
        "mlp_ratio": 2,
        "context": CONTEXT,
        "vocabulary": 257,
        "pad_id": 256,
    }
    scores = {"logit_scale": SCALE, "logit_bias": BIAS, "templates": list(TEMPLATES)}
    (folder / "text.json").write_text(json.dumps({"architecture": "byte_text", **sizes, **scores}))
    return f"local-dir:{folder}"


def siglip_like(folder: Path, seed: int = 0) -> str:
    """Write both towers: images of 32 x 32 pixels, and texts, in a space of 16 channels; return the model's name."""
    import timm

    settings: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": 1, "num_heads": 2}
    settings |= {"class_token": False, "global_pool": "map"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image_tower = timm.create_model("vit_tiny_patch16_224", num_classes=0, **settings)
    name = byte_folder(folder, seed)
    save_file(image_tower.state_dict(), folder / "model.safetensors")
    preprocessing = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "tag": "siglip_random"}
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "num_features": WIDTH, "model_args": settings}
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": preprocessing}))
    return name
