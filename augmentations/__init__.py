"""Frozen-feature augmentations: random changes of token features, drawn anew at each training step.

Every augmentation takes a tensor of shape (n, tokens, channels) and a `torch.Generator` and knows nothing of images,
disks or estimators.
"""

from frofa.augmentations._base import Augmentation
from frofa.augmentations._mapping import FeatureImage, Variant, from_image, to_image
from frofa.augmentations._sequential import Sequential
from frofa.augmentations.pointwise import Brightness, Contrast, Posterize

__all__ = [
    "Augmentation",
    "Brightness",
    "Contrast",
    "FeatureImage",
    "Posterize",
    "Sequential",
    "Variant",
    "from_image",
    "to_image",
]
