"""Features as images: min-max normalisation in the three variants of FroFA."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Variant = Literal["default", "c", "c2"]


class FeatureImage(NamedTuple):
    """Features seen as images of C channels.

    Attributes
    ----------
    pixels : Tensor of shape (n, N, C)
        Values in [0, 1].
    low, span : Tensor of shape (n, 1, 1) or (n, 1, C)
        What maps pixels back to features: ``pixels * span + low``. The span of a constant channel is 0.
    """

    pixels: Tensor
    low: Tensor
    span: Tensor


def to_image(features: Tensor, /, variant: Variant) -> FeatureImage:
    """Map features to [0, 1].

    Parameters
    ----------
    features : Tensor of shape (n, N, C)
        Floating point; N tokens of C channels an image. Not modified.
    variant : {"default", "c", "c2"}
        Minimum and maximum are taken over all elements of an image's feature map (``"default"`` and ``"c"``), or over
        the positions of each of its channels (``"c2"``); never over the batch. ``"default"`` and ``"c"`` differ only in
        how random values are drawn.

    Returns
    -------
    FeatureImage
        Where all values are equal, pixels are 0 and the span is 0, so that the way back gives the features themselves.

    References
    ----------
    Bär et al., "Frozen Feature Augmentation for Few-Shot Image Classification", CVPR 2024, section 3.

    Examples
    --------
    >>> import torch
    >>> image = to_image(torch.tensor([[[0.0, 4.0], [2.0, 8.0]]]), "c2")
    >>> image.pixels.tolist(), image.span.tolist()
    ([[[0.0, 0.0], [1.0, 1.0]]], [[[2.0, 4.0]]])
    """
    low, high = feature_range(features, variant)
    span = high - low
    return FeatureImage((features - low) / span.where(span > 0, 1), low, span)


def feature_range(features: Tensor, /, variant: Variant, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Minimum and maximum of features (n, N, C), as in `to_image`: shape (n, 1, 1), or (n, 1, C) for ``"c2"``.

    With a mask (n, N), those of the tokens where it is True.
    """
    dims = (1,) if variant == "c2" else (1, 2)
    if mask is None:
        return features.amin(dims, keepdim=True), features.amax(dims, keepdim=True)
    # Hidden tokens (n, N, 1) become infinite, so that they are neither the smallest nor the largest.
    hidden = ~mask.unsqueeze(2)
    low = features.masked_fill(hidden, torch.inf).amin(dims, keepdim=True)
    return low, features.masked_fill(hidden, -torch.inf).amax(dims, keepdim=True)


def from_image(image: FeatureImage, /) -> Tensor:
    """Map pixels back to features, shape (n, N, C): the inverse of `to_image`.

    Examples
    --------
    >>> import torch
    >>> features = torch.tensor([[[0.0, 4.0], [2.0, 8.0]]])
    >>> from_image(to_image(features, "c2")).equal(features)
    True
    """
    return image.pixels * image.span + image.low
