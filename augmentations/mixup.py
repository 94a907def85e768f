"""Augmentation that mixes pairs of images and their labels."""

from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Generator, Tensor

from frofa.augmentations.base import Augmentation, Params
from frofa.augmentations.batch import TokenBatch
from frofa.augmentations.ops.resample import Taps, resample


class MixUp(Augmentation):
    """Mix each image with another one of the batch, and their labels in the same proportion.

    Parameters
    ----------
    alpha : float, default=0.2
        The proportion is drawn from Beta(alpha, alpha), one for the whole batch as in the reference. 0 is the identity.

    Notes
    -----
    It takes the targets of a `TokenBatch`, as `MAPClassifier` gives them; sample weights are mixed with the labels.
    Prefix tokens are mixed too. With token counts that differ, the head sees the tokens that either image has.

    References
    ----------
    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; big_vision's ``get_mixup``; Bär et al., CVPR
    2024, section 4.

    Examples
    --------
    >>> import torch
    >>> from frofa.augmentations import MixUp, TokenBatch
    >>> generator = torch.Generator().manual_seed(0)
    >>> batch = TokenBatch.from_tokens(torch.randn(3, 64, 192, generator=generator), targets=torch.eye(3))
    >>> MixUp(alpha=1.0)(batch, generator).targets.sum(1).tolist()
    [1.0, 1.0, 1.0]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"alpha": [Interval(Real, 0, None, closed="left")]}
    recordable = True
    strength = ("alpha", 0.0, 1.0)
    mixes_labels = True

    def __init__(self, alpha: float = 0.2):
        self.alpha = alpha

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:
        """Draw ``{"partner": permutation (n,), "proportion": Beta(alpha, alpha), shape ()}``."""
        device = batch.patches.device
        if self.alpha == 0:  # partners would show tokens that an image does not have
            alone = torch.arange(len(batch.patches), device=device)
            return {"partner": alone, "proportion": torch.ones((), device=device)}
        order = torch.randperm(len(batch.patches), generator=generator, device=device)
        partner = torch.empty_like(order).scatter_(0, order, order.roll(1))  # of more than one image, never itself
        shape = torch.full((2,), self.alpha + 1.0, device=device, dtype=torch.float64)
        # Beta(a, a) from two gamma variates, each Gamma(a) = Gamma(a + 1) * U ** (1 / a); in logarithms, as those of a
        # small alpha are below the smallest of any float.
        one, other = torch._standard_gamma(shape, generator=generator).log()
        u, v = torch.rand(2, generator=generator, device=device, dtype=torch.float64).log()
        return {"partner": partner, "proportion": torch.sigmoid(one - other + (u - v) / self.alpha).float()}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:
        """Mix patches, prefix and targets."""
        if batch.targets is None:
            raise ValueError("MixUp mixes labels too: give it a TokenBatch with targets, or to a MAPClassifier.")
        partner, proportion = params["partner"], params["proportion"]
        patches, mask, prefix = batch.patches, batch.mask, batch.prefix
        if mask is not None:
            patches = patches.masked_fill(~mask.unsqueeze(2), 0)
            mask = mask | mask[partner]
        return batch.replace(
            patches=_mix(patches, partner, proportion),
            mask=mask,
            targets=torch.lerp(batch.targets[partner], batch.targets, proportion.to(batch.targets.dtype)),
            prefix=None if prefix is None else _mix(prefix, partner, proportion),
        )


def _mix(x: Tensor, partner: Tensor, proportion: Tensor) -> Tensor:
    """Sum each image (n, N, C) and its partner: as tokens of one long image, of which each has two taps."""
    # All tokens of the batch as those of one image; index and weight are (n * N, 2).
    n, n_tokens, channels = x.shape
    position = torch.arange(n_tokens, device=x.device)
    own, other = (images[:, None] * n_tokens + position for images in (torch.arange(n, device=x.device), partner))
    index = torch.stack([own.flatten(), other.flatten()], 1)
    weight = torch.stack([proportion, 1 - proportion]).expand(index.shape)
    whole = TokenBatch(x.reshape(1, n * n_tokens, channels))
    return resample(whole, Taps(index.unsqueeze(0), weight.unsqueeze(0))).view(x.shape)
