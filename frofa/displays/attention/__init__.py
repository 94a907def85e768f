"""Attention over images: what token heads look at."""

from frofa.displays.attention.display import AttentionDisplay
from frofa.displays.attention.overlay import enlarged, layer, overlay, said

__all__ = ["AttentionDisplay", "enlarged", "layer", "overlay", "said"]
