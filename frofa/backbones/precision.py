"""Coarser linear layers of a vision transformer: weights pruned to 2:4, and int8 arithmetic, for CPUs."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from frofa.backbones.backbone import Backbone

INT8_MOST = 127
"""The range of int8 is used symmetrically, so that zero is exact and needs no offset."""


class Int8Linear(nn.Module):
    """A linear layer in int8: weights are rounded once, one scale an output; inputs in each pass, one scale a token.

    Products are summed in int32, exactly. As each token has a scale of its own, no feature depends on what else is in
    its batch, which is not so with one scale for all that `torch.ao.quantization.quantize_dynamic` takes.

    Parameters
    ----------
    linear : nn.Linear
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
        """There is none in floating point, for models that go past `forward`."""
        raise ValueError(
            "this model takes the weights of its linear layers instead of calling them: precision='int8' is not "
            "possible with it. Choose 'bfloat16'."
        )

    def forward(self, x: Tensor) -> Tensor:
        """Of x (..., in_features); the result has its dtype."""
        rows = x.reshape(-1, x.shape[-1])
        values, scales = quantise(rows.float())
        product = torch._int_mm(values, self.values.t()).float() * scales * self.scales
        if self.bias is not None:
            product = product + self.bias
        return product.to(x.dtype).view(*x.shape[:-1], -1)


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (n, K) to int8, with the scale of each, (n, 1), which gives values back: ``values * scales``."""
    scales = (rows.abs().amax(1, keepdim=True) / INT8_MOST).clamp(min=torch.finfo(torch.float32).tiny)
    return (rows / scales).round_().clamp_(-INT8_MOST, INT8_MOST).to(torch.int8), scales


def prune_2_4(name: str, module: nn.Module) -> None:
    """Set the two smallest of every four consecutive weights of an output to zero, in the linear layers of the blocks.

    Parameters
    ----------
    name : str
        Of the model, for the error.
    module : nn.Module
        Changed in place.

    Raises
    ------
    ValueError
        If it is not a vision transformer with one sequence of blocks.

    References
    ----------
    Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021: magnitude pruning to 2:4, here without training
    afterwards.
    """
    for _, _, linear in linear_layers(name, module, "weights='2:4'"):
        with torch.no_grad():
            linear.weight.mul_(mask_2_4(linear.weight))


def mask_2_4(weight: Tensor) -> Tensor:
    """True at the two weights of the largest magnitude of each group of four, (out, in); of equal ones, the first."""
    groups = weight.abs().unflatten(1, (-1, 4))
    largest = groups.argsort(dim=-1, descending=True, stable=True)[..., :2]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, largest, True).flatten(1)


def linear_layers(name: str, module: nn.Module, what: str) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """The linear layers of a transformer's blocks whose inputs are a multiple of 8, with their parents and names.

    Raises
    ------
    ValueError
        If there are none; the message says what was asked for.
    """
    blocks = getattr(module, "blocks", None)
    if blocks is None or not hasattr(module, "num_prefix_tokens"):
        raise ValueError(
            f"{what} is for the linear layers of a vision transformer's blocks. Got {name}, a {type(module).__name__}."
        )
    found = [
        (part, key, child)
        for part in blocks.modules()
        for key, child in part.named_children()
        if isinstance(child, nn.Linear) and child.in_features % 8 == 0 and child.out_features % 8 == 0
    ]
    if not found:
        raise ValueError(f"{what} needs linear layers with multiples of 8 in- and outputs, which {name} has not.")
    yield from found


def low_precision_key(backbone: "Backbone", precision: str) -> str:
    """What of a forward pass changes bits, for a store's key: the precision, and that of the rest of the layers.

    Raises
    ------
    ValueError
        If the model has no layers that could run in int8, or is on a GPU.
    """
    if precision != "int8":
        return precision
    if backbone.device.type != "cpu":
        raise ValueError(
            f"precision='int8' is for CPUs: GPUs are faster in bfloat16. Got it on device {str(backbone.device)!r}."
        )
    next(linear_layers(backbone.name, backbone.module, "precision='int8'"))
    return f"int8 {rest_precision(backbone, precision)}"


def rest_precision(backbone: "Backbone", precision: str) -> str:
    """What layers run in that have no int8."""
    return backbone.resolve_precision("auto") if precision == "int8" else precision


def low_precision(backbone: "Backbone", precision: str) -> "Backbone":
    """The backbone with the layers that this precision asks for, made once; or itself.

    It is to be run in `rest_precision`.
    """
    if precision != "int8":
        return backbone
    variants: dict[str, Backbone] = backbone._variants  # type: ignore[attr-defined]
    if precision not in variants:
        low_precision_key(backbone, precision)
        variants[precision] = with_layers(backbone, "precision='int8'", Int8Linear)
    return variants[precision]


def with_layers(backbone: "Backbone", what: str, make: Callable[[nn.Linear], nn.Module]) -> "Backbone":
    """A backbone that shares all parameters with the given one, but for its linear layers."""
    tensors = [*backbone.module.parameters(), *backbone.module.buffers()]
    shared: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    module = copy.deepcopy(backbone.module, shared)
    with torch.no_grad():
        for parent, key, linear in linear_layers(backbone.name, module, what):
            setattr(parent, key, make(linear).eval())
    return replace(backbone, module=module)
