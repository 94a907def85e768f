"""Digests of what computes features: its weights and its architecture."""

import re
from hashlib import blake2b

import torch
from torch import nn


def weights_digest(module: nn.Module) -> str:
    """Digest of a module's parameters and buffers: the same on every machine and with every version of timm."""
    digest = blake2b(digest_size=20, person=b"frofa-weights")
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def architecture_digest(module: nn.Module) -> str:
    """Digest of what computes with the weights: a module's parts and their plain settings (heads, eps, ...).

    Another version of timm or torch may give another digest for the same computation: then features are extracted
    again, which is safe.
    """
    digest = blake2b(digest_size=20, person=b"frofa-module")
    digest.update(re.sub(r" at 0x[0-9a-f]+", "", repr(module)).encode())
    for name, part in module.named_modules():
        for key, value in sorted(vars(part).items()):
            if isinstance(value, (int, float, str)) and key not in ("training", "fused_attn"):
                digest.update(f"{name}.{key}={value!r};".encode())
    return digest.hexdigest()
