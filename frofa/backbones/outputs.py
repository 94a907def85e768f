"""The outputs of a backbone: what one pass is asked for, and how they are taken from its tokens.

Class token and registers leave here: `Layout.split` cuts the prefix tokens off what the model returns, and
`select_output` returns patch tokens only, unless the class token itself is asked for.
"""

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy.typing as npt
from torch import Tensor

Output: TypeAlias = Literal["tokens", "cls", "mean", "pooled"]

Computed: TypeAlias = npt.NDArray[Any] | Tensor
"""Features on the host: an array, or a tensor of bfloat16, which NumPy does not have."""


class Request(NamedTuple):
    """One output of a forward pass.

    Attributes
    ----------
    output : {"tokens", "cls", "mean", "pooled"}
    layer : int or None
        Index of the block from 0; None for models that are no transformers.
    norm : bool
        Whether the model's final normalisation is applied.
    """

    output: Output
    layer: int | None
    norm: bool


def select_output(output: Output, prefix: Tensor, tokens: Tensor) -> Tensor:
    """Take an output from prefix tokens (n, P, C), of which the class token is the first, and patch tokens (n, N, C).

    Returns
    -------
    Tensor
        The patch tokens (n, N, C), their mean (n, C), or the class token (n, C).
    """
    if output == "cls":
        return prefix[:, 0]
    return tokens.mean(1) if output == "mean" else tokens
