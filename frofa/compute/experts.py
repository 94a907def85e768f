"""Arithmetic of soft experts that the vision transformers and the light heads share."""

import torch
from torch import Tensor

UNIT_EPS = 1e-6


def unit_norm(x: Tensor, dim: int) -> Tensor:
    """Scale vectors to norm one along a dimension (vmoe, ``projects/soft_moe/router.py: normalize``)."""
    return x * torch.rsqrt(x.square().sum(dim, keepdim=True) + UNIT_EPS)


def batched_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply linear layers (B, outputs, inputs), each to its own rows: (B, rows, inputs) to (B, rows, outputs)."""
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
