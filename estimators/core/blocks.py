"""Checks of blocks of features, for heads that give each block its own normalisation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite

from frofa.blocks import FeatureBlocks
from frofa.compute.arrays import check_magnitude
from frofa.estimators.core.support import Array
from frofa.estimators.core.validation import check_features
from frofa.estimators.tokens.lazy import average_tokens

PLAIN = "features"
"""Name of the block that plain arrays are."""


def check_blocks(head: Any, X: Any, *, widths: dict[str, int] | None, reset: bool) -> FeatureBlocks:
    """Check FeatureBlocks, or features of any other kind, and return them as blocks of vectors.

    Blocks of tokens are averaged over the tokens where there is no block of vectors, and left out where there is. Plain
    features are cut into blocks of these `widths`, or are one. Without `reset`, blocks must be those of `widths`, in
    any order, and others are left out; ``n_features_in_`` of the head is the sum of the widths.
    """
    if not isinstance(X, FeatureBlocks):
        features = mean_of_tokens(check_features(head, X, np.float64, reset=reset))
        return FeatureBlocks({PLAIN: [features]}) if widths is None else cut(features, widths)
    blocks = X if X.vectors else FeatureBlocks({name: [mean_of_tokens(v) for v in X.views(name)] for name in X.names})
    blocks = blocks.select(blocks.vectors if reset or widths is None else _known(blocks, widths, head))
    for name in blocks.names:
        for view in blocks.views(name):
            _check_values(np.asarray(view), name, head)
    if reset:
        head.n_features_in_ = sum(blocks.widths.values())
        if hasattr(head, "feature_names_in_"):
            del head.feature_names_in_
    return blocks


def mean_of_tokens(tokens: Any) -> Array:
    """Average tokens (n, N, C) of any kind over the tokens, in float64; features (n, C) stay as they are."""
    averaged: Array = average_tokens(tokens) if tokens.ndim == 3 else tokens
    return averaged


def check_sizes(sizes: Sequence[int], n_features: int, name: str) -> dict[str, int]:
    """Name the widths of the blocks that plain features are cut into."""
    if not len(sizes) or any(int(size) < 1 for size in sizes) or sum(sizes) != n_features:
        raise ValueError(
            f"The 'block_sizes' parameter of {name} must be widths of blocks that add up to the {n_features} features "
            f"of X. Got {sizes!r}."
        )
    return {f"{PLAIN}_{i}": int(size) for i, size in enumerate(sizes)}


def cut(features: Array, widths: dict[str, int]) -> FeatureBlocks:
    """Cut features (n, C) into blocks of these widths, which add up to C."""
    parts = np.split(features, np.cumsum(list(widths.values()))[:-1], axis=1)
    return FeatureBlocks({block: [part] for block, part in zip(widths, parts, strict=True)})


def _known(blocks: FeatureBlocks, widths: dict[str, int], head: Any) -> list[str]:
    found = {name: blocks.widths[name] for name in widths if name in blocks.vectors}
    if found != widths:
        raise ValueError(
            f"{type(head).__name__} was fitted to blocks of {_listed(widths)}, and expects them. Got "
            f"{_listed(blocks.widths)}."
        )
    return list(widths)


def _listed(widths: dict[str, int]) -> str:
    return ", ".join(f"{name} ({width} channels)" for name, width in widths.items())


def _check_values(view: Array, name: str, head: Any) -> None:
    if not len(view):
        raise ValueError(f"{type(head).__name__} needs one sample or more. Got none in block {name!r}.")
    if view.dtype.kind not in "fiub":
        raise ValueError(f"expected numbers in block {name!r}. Got {view.dtype}.")
    assert_all_finite(view, estimator_name=type(head).__name__, input_name=f"block {name!r}")
    if view.dtype.kind == "f":
        check_magnitude(view, np.float64, type(head).__name__)
