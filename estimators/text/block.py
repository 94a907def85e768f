"""The block of features that lies in the space of words."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from frofa.blocks import FeatureBlocks
from frofa.estimators.core.blocks import PLAIN

PREFERRED = ("text", "projected", "pooled")
"""Names of blocks in the space of words, the surest first."""
OTHERS = ("tokens", "mean", "cls")
"""Outputs of backbones that are in another space than words, unless `text_block` says that they are not."""


def refuse_tokens(X: Any, name: str | None, head: str) -> None:
    """Refuse image features that have no vector in the space of words, in the name of a head.

    These are tokens, a block of tokens alone, and features of a store that are known to be of another output.

    Raises
    ------
    ValueError
        If `name`, which is `text_block`, does not say that they are to be compared with words all the same.
    """
    if name is not None:
        return
    own = PLAIN
    if isinstance(X, FeatureBlocks):
        own = (X.vectors or X.names)[0]
        # A block of another name may be anything.
        got = f"no other block than {_listed(_widths(X, X.names))}" if set(X.names) <= set(OTHERS) else None
    elif (output := getattr(getattr(X, "spec", None), "output", None)) in OTHERS:
        got = f"the output {output!r}"
    else:
        is_token = getattr(X, "ndim", 2) == 3 and X.shape[1] != 1
        got = f"tokens of shape {tuple(X.shape)}" if is_token else None
    if got is not None:
        raise ValueError(
            f"{head} compares words with a vector of each image in the same space, such as "
            "FrozenFeatureExtractor(model, output='projected') gives; views of an image are FeatureBlocks. Got "
            f"{got}. If it lies in that space, on average, text_block={own!r} says so."
        )


def text_block_of(blocks: Any, name: str | None = None, width: int | None = None) -> str:
    """Name the block of image features that is compared with embeddings of texts.

    Parameters
    ----------
    blocks : FeatureBlocks, or array-like of shape (n, C), which is one block
    name : str, default=None
        The block that is asked for; None takes ``"text"`` if it is there, else ``"projected"``, else ``"pooled"``, else
        the only one.
    width : int, default=None
        Channels D of the embeddings, which the block must have; None checks nothing.

    Raises
    ------
    ValueError
        If there is no such block, several that it could be, or one of another width.
    """
    if isinstance(blocks, FeatureBlocks):
        widths = _widths(blocks, blocks.vectors or blocks.names)
    else:
        widths = {PLAIN: int(np.shape(blocks)[-1])}
    chosen = _choose(widths, name)
    if width is not None and widths[chosen] != width:
        got = f"the block {chosen!r} of {widths[chosen]}, of {_listed(widths)}: the parameter text_block names another"
        if set(widths) == {PLAIN}:
            got = f"features of {widths[chosen]}"
        raise ValueError(
            f"images and words must be of the same space: embeddings of texts have {width} channels. Got {got}."
        )
    return chosen


def _choose(widths: dict[str, int], name: str | None) -> str:
    if name is not None:
        if name not in widths:
            raise ValueError(f"text_block must be one of the blocks {_listed(widths)}. Got {name!r}.")
        return name
    found = [each for each in PREFERRED if each in widths] or list(widths)
    if found[0] not in PREFERRED and len(found) > 1:
        raise ValueError(f"text_block must say which block is in the space of words: {_listed(widths)}. Got None.")
    return found[0]


def _widths(blocks: FeatureBlocks, names: Iterable[str]) -> dict[str, int]:
    return {name: int(blocks.views(name)[0].shape[-1]) for name in names}


def _listed(widths: dict[str, int]) -> str:
    return ", ".join(f"{name} ({width} channels)" for name, width in widths.items())
