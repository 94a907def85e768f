"""Frozen-feature augmentations: random changes of token features, drawn anew at each training step.

Every augmentation takes a tensor of shape (n, tokens, channels), or a `TokenBatch` that says more about it, and a
`torch.Generator`; it knows nothing of images, disks or estimators.
"""

from frofa.augmentations.automatic import RandAugment, TrivialAugment
from frofa.augmentations.base import Augmentation
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.compose import RandomApply, RandomChoice, Sequential
from frofa.augmentations.crop import Crop, InceptionCrop, PatchDropout, ResizedCrop
from frofa.augmentations.equalize import Equalize
from frofa.augmentations.geometric import Rotate, ShearX, ShearY, TranslateX, TranslateY
from frofa.augmentations.jpeg import JPEG
from frofa.augmentations.mixup import MixUp
from frofa.augmentations.noise import ChannelDropout, GaussianNoise
from frofa.augmentations.ops.mapping import FeatureImage, Variant, from_image, to_image
from frofa.augmentations.sharpness import Sharpness
from frofa.augmentations.stylistic import Brightness, Contrast, Invert, Posterize, Solarize

__all__ = [
    "JPEG",
    "Augmentation",
    "Brightness",
    "ChannelDropout",
    "Contrast",
    "Crop",
    "Equalize",
    "FeatureImage",
    "GaussianNoise",
    "InceptionCrop",
    "Invert",
    "MixUp",
    "PatchDropout",
    "Posterize",
    "RandAugment",
    "RandomApply",
    "RandomChoice",
    "ResizedCrop",
    "Rotate",
    "Sequential",
    "Sharpness",
    "ShearX",
    "ShearY",
    "Solarize",
    "TokenBatch",
    "TranslateX",
    "TranslateY",
    "TrivialAugment",
    "Variant",
    "from_image",
    "to_image",
]
