"""Coarser linear layers of a vision transformer: pruned weights, and int8 arithmetic, for CPUs."""

import copy
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

Sparsity: TypeAlias = Literal["2:4"] | float | None
"""The weights of linear layers that are zero: two of every four, this share of each layer, or none more than were."""
INT8_MOST = 127
"""Largest value of an int8 weight or input: the range is symmetric, so that zero is exact and needs no offset."""
MULTIPLE = 8
"""In- and outputs of a layer that int8 kernels take are multiples of this; pruning leaves out the same layers."""


class LinearLayer(NamedTuple):
    """A linear layer of a model, with the module that holds it under a name."""

    parent: nn.Module
    name: str
    linear: nn.Linear


class Int8Linear(nn.Module):
    """A linear layer in int8: weights are rounded once, one scale an output; inputs in each pass, one scale a token.

    Products are summed in int32, exactly. As each token has a scale of its own, no feature depends on what else is in
    its batch, which is not so with one scale for all that `torch.ao.quantization.quantize_dynamic` takes.
    """

    values: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear):
        super().__init__()
        values, scales = quantise(linear.weight.detach().float())
        self.register_buffer("values", values)
        self.register_buffer("scales", scales.view(-1))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float())

    @property
    def weight(self) -> Tensor:
        """Refuse models that go past `forward`: there are no weights in floating point."""
        raise ValueError(
            "this model takes the weights of its linear layers instead of calling them: precision='int8' is not "
            "possible with it. Choose 'bfloat16'."
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in_features) to (..., out_features), of the same dtype."""
        rows = x.reshape(-1, x.shape[-1])
        values, scales = quantise(rows.float())
        # (rows, out_features): exact sums in int32, then the scales of tokens (rows, 1) and of outputs (out_features,).
        product = torch._int_mm(values, self.values.t()).float() * scales * self.scales
        if self.bias is not None:
            product = product + self.bias
        return product.to(x.dtype).view(*x.shape[:-1], -1)


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round rows (n, K) to int8, with scales (n, 1): ``values * scales`` is about `rows`."""
    # A row of zeros gets the smallest normal number as its scale, so that nothing is divided by zero.
    scales = (rows.abs().amax(1, keepdim=True) / INT8_MOST).clamp(min=torch.finfo(torch.float32).tiny)
    return (rows / scales).round_().clamp_(-INT8_MOST, INT8_MOST).to(torch.int8), scales


def prune(name: str, module: nn.Module, sparsity: Literal["2:4"] | float) -> None:
    """Set the smallest weights in the linear layers of a transformer's blocks to zero, in place.

    ``"2:4"`` takes the two smallest of every four consecutive weights of an output; a share between 0 and 1 takes that
    many of each layer, wherever they lie. A model without such layers is a ValueError.

    References
    ----------
    Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015: pruning by magnitude;
    Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021: to 2:4. Here without training afterwards.
    """
    for layer in linear_layers(name, module, f"sparsity={sparsity!r}"):
        weight = layer.linear.weight
        mask = mask_2_4(weight) if sparsity == "2:4" else mask_of_largest(weight, float(sparsity))
        with torch.no_grad():
            weight.mul_(mask)


def mask_2_4(weight: Tensor) -> Tensor:
    """True at the two weights of the largest magnitude of each group of four, (out, in); of equal ones, the first."""
    # (out, in / 4, 4); of equal weights, a stable sort takes the same ones on all devices.
    groups = weight.abs().unflatten(1, (-1, 4))
    largest = groups.argsort(dim=-1, descending=True, stable=True)[..., :2]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, largest, True).flatten(1)


def mask_of_largest(weight: Tensor, sparsity: float) -> Tensor:
    """False at this share of the weights, those of the smallest magnitude; of equal ones, the last."""
    magnitudes = weight.abs().flatten()
    n_kept = len(magnitudes) - round(sparsity * len(magnitudes))
    largest = magnitudes.argsort(descending=True, stable=True)[:n_kept]
    return torch.zeros_like(magnitudes, dtype=torch.bool).index_fill_(0, largest, True).view_as(weight)


def linear_layers(name: str, module: nn.Module, what: str) -> list[LinearLayer]:
    """Find the linear layers of a transformer's blocks that have multiples of `MULTIPLE` in- and outputs.

    If there are none, a ValueError names the model and what they were wanted for.
    """
    blocks = getattr(module, "blocks", None)
    if blocks is None or not hasattr(module, "num_prefix_tokens"):
        raise ValueError(
            f"{what} is for the linear layers of a vision transformer's blocks. Got {name}, a {type(module).__name__}."
        )
    found = [
        LinearLayer(part, key, child)
        for part in blocks.modules()
        for key, child in part.named_children()
        if isinstance(child, nn.Linear) and child.in_features % MULTIPLE == 0 and child.out_features % MULTIPLE == 0
    ]
    if not found:
        raise ValueError(f"{what} needs linear layers with multiples of 8 in- and outputs, which {name} has not.")
    return found


def with_linear_layers(name: str, module: nn.Module, what: str, make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Return a model that shares all tensors with this one, but has other layers in place of `linear_layers`."""
    # A copy of the modules but of no tensor: the weights of a large model are in memory once.
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    copied = copy.deepcopy(module, shared)  # the memo makes tensors copies of themselves
    for layer in linear_layers(name, copied, what):
        with torch.no_grad():
            setattr(layer.parent, layer.name, make(layer.linear).eval())
    return copied
