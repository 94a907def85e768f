"""The features of several outputs and views, joined to one extraction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from frofa.blocks import FeatureBlocks
from frofa.extraction.run import Extraction


def joined(parts: Mapping[str, Sequence[Extraction]]) -> Extraction:
    """Join what one run found of the same images, by block, each with its views, to an Extraction of FeatureBlocks.

    An image counts as computed if one of its features was, and as stored if all of them were.
    """
    several = [extraction for views in parts.values() for extraction in views]
    return replace(
        several[0],
        features=FeatureBlocks({name: [view.features for view in views] for name, views in parts.items()}),
        n_computed=max(extraction.n_computed for extraction in several),
        n_from_store=min(extraction.n_from_store for extraction in several),
        n_not_kept=max(extraction.n_not_kept for extraction in several),
    )
