"""Class statistics of weighted samples: what a discriminant knows of its support."""

from typing import NamedTuple

import torch
from torch import Tensor

LARGE = 2**22
"""Elements of membership of samples in classes beyond which sums are not by a product with it."""
LEFT = 1e-9
"""Share of its class's weight that must be left without a sample, for it to be left out."""


class Statistics(NamedTuple):
    """Statistics of B support sets of one shape, in float64.

    Features are (B, n, D); codes (B, n) are classes from 0 to K - 1, and weights (B, n) are zero for rows that only
    fill up the shape. Of each class, `totals` and `squares` (B, K) are the sums of its weights and of their squares,
    and `means` (B, K, D) those of its features, zero where it has no weight.
    """

    features: Tensor
    codes: Tensor
    weights: Tensor
    totals: Tensor
    squares: Tensor
    means: Tensor

    @classmethod
    def of(cls, features: Tensor, codes: Tensor, weights: Tensor, n_classes: int) -> "Statistics":
        """Sum up weighted samples class by class."""
        zeros = weights.new_zeros(len(weights), n_classes)
        totals = zeros.scatter_add(1, codes, weights)
        squares = zeros.scatter_add(1, codes, weights**2)
        if weights.numel() * n_classes > LARGE:
            sums = features.new_zeros(len(weights), n_classes, features.shape[2])
            index = codes.unsqueeze(2).expand_as(features)
            sums = sums.scatter_add_(1, index, features * weights.unsqueeze(2))
        else:
            # By membership (B, n, K), scaled by the weights: quicker, and in the same order on every device.
            member = torch.nn.functional.one_hot(codes, n_classes).to(weights.dtype) * weights.unsqueeze(2)
            sums = member.mT @ features
        means = sums / torch.where(totals > 0, totals, 1).unsqueeze(2)
        return cls(features, codes, weights, totals, squares, means)

    @property
    def n_classes(self) -> int:
        """The number K of classes."""
        return self.totals.shape[1]

    @property
    def residuals(self) -> Tensor:
        """Samples minus the mean of their class, (B, n, D)."""
        return self.features - self.at_own_class(self.means)

    def at_own_class(self, values: Tensor) -> Tensor:
        """Give each sample what its class has: of (B, K) or (B, K, D), (B, n) or (B, n, D)."""
        if values.ndim == 2:
            return values.gather(1, self.codes)
        return values.gather(1, self.codes.unsqueeze(2).expand(-1, -1, values.shape[2]))

    @property
    def left(self) -> Tensor:
        """Weight of each sample's class without the sample, (B, n)."""
        return (self.at_own_class(self.totals) - self.weights).clamp(min=0)

    @property
    def can_be_left_out(self) -> Tensor:
        """Tell of each sample (B, n) whether its class goes on without it."""
        return (self.weights > 0) & (self.left > LEFT * self.at_own_class(self.totals))

    @property
    def uncertainty(self) -> Tensor:
        """Variance of each class mean, in units of the variance of a sample: 1 / n_c of equal weights, (B, K)."""
        return self.squares / torch.where(self.totals > 0, self.totals, 1) ** 2

    @property
    def uncertainty_left(self) -> Tensor:
        """Variance of the mean of each sample's class without the sample, in the same units, (B, n)."""
        squares = (self.at_own_class(self.squares) - self.weights**2).clamp(min=0)
        return squares / torch.where(self.can_be_left_out, self.left, 1) ** 2

    @property
    def n_effective(self) -> Tensor:
        """Number of equally weighted samples that are worth as much, by Kish's rule; (B,)."""
        return self.totals.sum(1) ** 2 / self.squares.sum(1).clamp(min=1e-300)
