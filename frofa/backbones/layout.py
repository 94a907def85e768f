"""The contract of what a backbone returns, and the pass over two images that finds out whether it is kept.

For images (n, channels, H, W):

- ``forward_features(images)`` gives prefix tokens, then the patch tokens row by row, (n, P + h * w, C); or a grid,
  (n, C, h, w) or (n, h, w, C). P is the model's ``num_prefix_tokens``; where it has none, it is found by which tokens
  change with a part of the image. The class token, if the model has one, is the first of the prefix.
- ``forward_head(features, pre_logits=True)`` gives one vector an image, (n, D).
- ``forward_intermediates`` gives the same patch tokens after a block, of models with ``blocks``; and the prefix tokens,
  where it takes ``return_prefix_tokens``.

All of it is finite. A model may lack tokens or the pooled vector: it is loaded, and that output is refused.
"""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from frofa.utils.text import one_line

_CHANGED = ((1 / 4, 1 / 2), (1 / 2, 3 / 4))
"""Rows and columns, as parts of the image, in which the second probing image differs from the first."""
_MOST_PREFIX = 2
"""Prefix tokens that are looked for where a model does not say how many it has."""


class Layout(NamedTuple):
    """A reading of what a model returns.

    The `n_prefix` tokens before the patch tokens are the class token, a distillation token and registers; `grid` has
    rows and columns of patch tokens, and with `channels_last` comes as (n, h, w, C). `widths` are the channels of
    ``"tokens"``, ``"pooled"`` and ``"projected"``, and `lacking` says which of these cannot be had, and why. With
    `prefix_in_blocks`, inner layers have their prefix tokens too. With `is_projection_own`, ``"projected"`` is what the
    model's own last layer gives; otherwise it is the pooled vector.
    """

    n_prefix: int = 0
    grid: tuple[int, int] | None = None
    channels_last: bool = False
    widths: Mapping[str, int] = {}
    lacking: Mapping[str, str] = {}
    prefix_in_blocks: bool = False
    is_projection_own: bool = False

    def split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Prefix tokens (n, P, C) and patch tokens (n, N, C) of what `forward_features` returned."""
        if features.ndim == 4:
            tokens = features.flatten(1, 2) if self.channels_last else features.flatten(2).transpose(1, 2)
            return tokens[:, :0], tokens
        return features[:, : self.n_prefix], features[:, self.n_prefix :]


UNCHECKED = Layout()
"""The layout of an encoder that is no model of timm's: nothing is known of it."""


class _BrokenContractError(Exception):
    """The message says how."""


def probing_images(channels: int, height: int, width: int) -> Tensor:
    """Make two images of noise, (2, channels, H, W), float32; they differ in a rectangle."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, channels, height, width, generator=generator).repeat(2, 1, 1, 1)
    rows, columns = (
        slice(int(begin * side), max(int(end * side), int(begin * side) + 1))
        for (begin, end), side in zip(_CHANGED, (height, width), strict=True)
    )
    images[1, :, rows, columns] = torch.randn(images[1, :, rows, columns].shape, generator=generator)
    return images


def read_layout(name: str, module: nn.Module, shape: tuple[int, int, int], device: torch.device) -> Layout:
    """Run a model on two images, and find out how what it returns is to be read.

    The model is in eval mode on the device; `shape` has channels, height and width. If it cannot take such images, or
    neither tokens nor a pooled vector can be had, a ValueError names it.
    """
    model: Any = module
    with torch.inference_mode():
        try:
            features = model.forward_features(probing_images(*shape).to(device))
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # of any model's own code
            what = f"{name} ({type(module).__name__}) cannot take images of {shape[0]} x {shape[1]} x {shape[2]}"
            raise ValueError(f"{what} (channels, height, width): {one_line(error)}") from error
        # Not every model gives the prefix tokens of inner blocks; the signature tells, without a pass.
        of_blocks = getattr(module, "forward_intermediates", None)
        parameters = () if of_blocks is None else inspect.signature(of_blocks).parameters
        found = Layout(prefix_in_blocks="return_prefix_tokens" in parameters)
        # Either kind of output may be lacking by itself: a fault of one is noted, and the other still read.
        widths, lacking = {}, {}
        try:
            found = _read_tokens(module, features, shape[1:], found)
            widths["tokens"] = found.split(features)[1].shape[2]
        except _BrokenContractError as error:
            lacking["tokens"] = str(error)
        try:
            widths["pooled"] = _read_pooled(model, features).shape[1]
        except _BrokenContractError as error:
            lacking["pooled"] = str(error)
    if not widths:
        why = "; ".join(lacking.values())
        raise ValueError(f"{name} ({type(module).__name__}) returns no features that can be read: {why}")
    return found._replace(widths=widths, lacking=lacking)


def check_block(layout: Layout, prefix: Tensor, tokens: Tensor) -> str | None:
    """Say what is wrong with the tokens of an inner layer for `probing_images`; None if nothing."""
    assert layout.grid is not None
    n = layout.grid[0] * layout.grid[1]
    if tokens.ndim != 3 or tokens.shape[1] != n:
        return f"gives {tuple(tokens.shape[1:])} for {n} patch tokens"
    if prefix.shape[1] not in (0, layout.n_prefix):
        return f"gives {prefix.shape[1]} prefix tokens, not {layout.n_prefix}"
    return None if bool(tokens.isfinite().all()) else "gives NaN or infinite tokens"


def _read_tokens(module: nn.Module, features: Any, size: tuple[int, int], layout: Layout) -> Layout:
    if not isinstance(features, Tensor):
        raise _BrokenContractError(f"forward_features gives {_shapes(features)}, not one tensor of tokens")
    if features.ndim not in (3, 4) or len(features) != 2:
        raise _BrokenContractError(f"forward_features gives {tuple(features.shape[1:])} an image, not tokens or a grid")
    if not bool(features.isfinite().all()):
        raise _BrokenContractError("forward_features gives NaN or infinite values: are the weights whole?")
    # A model that ignores its input would pass all checks of shape.
    if torch.equal(features[0], features[1]):
        raise _BrokenContractError("forward_features gives the same for two different images")
    if features.ndim == 4:
        last = _is_channels_last(module, features)
        height, width = features.shape[1:3] if last else features.shape[2:4]
        return layout._replace(grid=(height, width), channels_last=last)
    # A sequence: prefix and patches are told apart by what the model declares, or else by a search.
    declared = getattr(module, "num_prefix_tokens", None)
    if declared is not None:
        grid_ = _grid(module, features.shape[1] - declared, size)
        if grid_ is None:
            raise _BrokenContractError(
                f"its {features.shape[1]} tokens are not {declared} prefix tokens and a grid of patches"
            )
        return layout._replace(n_prefix=int(declared), grid=grid_)
    return _find_prefix(module, features, size, layout)


def _find_prefix(module: nn.Module, features: Tensor, size: tuple[int, int], layout: Layout) -> Layout:
    """Find the number of prefix tokens of a model that does not say it, by where the tokens of a changed part lie."""
    # How much each token (n,) changes with the part, and for each possible prefix how well that fits a grid.
    changes = 1 - torch.nn.functional.cosine_similarity(features[0].double(), features[1].double(), dim=-1)
    n, scores = len(changes), {}
    for n_prefix in range(int(has_cls_token(module)), _MOST_PREFIX + 1):
        grid = _grid(module, n - n_prefix, size)
        if grid is not None:
            scores[n_prefix, grid] = _locality(changes[n_prefix:], grid)
    if not scores:
        raise _BrokenContractError(f"its {n} tokens are not a grid of patches, with or without a class token")
    # The best fit must be a clear one, too: the changed part changes more than the rest does, and tokens at the end of
    # the sequence in place of the prefix would not fit better.
    n_prefix, grid = best = max(scores, key=lambda key: scores[key])
    is_all_grid = len(scores) == 1 and n_prefix == 0  # LeViT, before training, changes everywhere alike
    is_last = n_prefix > 0 and _locality(changes[:-n_prefix], grid) > scores[best]
    if is_last or scores[best] <= (1 / 2 if is_all_grid else 1):
        raise _BrokenContractError(
            f"of its {n} tokens, those of a part of the image are not where a grid of {grid[0]} x {grid[1]} has them"
        )
    return layout._replace(n_prefix=n_prefix, grid=grid)


def _locality(changes: Tensor, grid: tuple[int, int]) -> float:
    """Say how much more the tokens (N,) of the changed part change than others; 1 if the grid has no such part."""
    # Centres of rows and columns as parts of the image, and which tokens lie in the rectangle: (h, w), then (N,).
    (top, bottom), (left, right) = _CHANGED
    rows, columns = ((torch.arange(side) + 0.5) / side for side in grid)
    inside = ((rows >= top) & (rows <= bottom))[:, None] & ((columns >= left) & (columns <= right))
    inside = inside.flatten().to(changes.device)
    # A small grid may have no token in the rectangle, or no other.
    if not inside.any() or inside.all():
        return 1.0
    return float(changes[inside].mean() / changes[~inside].mean().clamp(min=torch.finfo(torch.float64).tiny))


def _grid(module: nn.Module, n: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Find rows and columns of n patches of an image: by the model's patch size, or at the image's aspect ratio."""
    patch = patch_size(module)
    if patch is not None and (size[0] // patch[0]) * (size[1] // patch[1]) == n:
        return size[0] // patch[0], size[1] // patch[1]
    if n < 1:
        return None
    # Without a patch size: the grid of n tokens that has the image's own aspect ratio.
    rows = round((n * size[0] / size[1]) ** 0.5)
    columns = round((n * size[1] / size[0]) ** 0.5)
    return (rows, columns) if rows * columns == n else None


def has_cls_token(module: nn.Module) -> bool:
    """Whether the model has a class token, which may be no part of what it returns."""
    return getattr(module, "cls_token", None) is not None


def patch_size(module: nn.Module) -> tuple[int, int] | None:
    """Height and width of a patch, where the model says it."""
    embedding = getattr(module, "patch_embed", None) or getattr(module, "embeds", None)
    size = getattr(embedding, "patch_size", None)
    if isinstance(size, int):
        return size, size
    return None if size is None else (int(size[0]), int(size[1]))


def _is_channels_last(module: nn.Module, grid: Tensor) -> bool:
    """Whether a grid is (n, h, w, C): as the model says, unless only the other axis has the channels that it says."""
    said, width = getattr(module, "output_fmt", "NCHW") == "NHWC", getattr(module, "num_features", None)
    axis, other = (3, 1) if said else (1, 3)
    return said != (grid.shape[axis] != width and grid.shape[other] == width)


def _read_pooled(model: Any, features: Any) -> Tensor:
    try:
        pooled = model.forward_head(features, pre_logits=True)
    except Exception as error:  # of any model's own code
        raise _BrokenContractError(f"forward_head fails: {one_line(error)}") from error
    if not isinstance(pooled, Tensor) or pooled.ndim != 2 or len(pooled) != 2:
        raise _BrokenContractError(f"forward_head gives {_shapes(pooled)}, not one vector an image")
    if not bool(pooled.isfinite().all()):
        raise _BrokenContractError("forward_head gives NaN or infinite values: are the weights whole?")
    return pooled


def _shapes(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"{len(value)} parts ({', '.join(_shapes(part) for part in value)})"
    return f"a {type(value).__name__}"
