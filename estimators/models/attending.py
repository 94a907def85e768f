"""Attention of token heads: weights over the tokens of each image."""

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from frofa.compute.devices import resolve_device
from frofa.compute.memory import row_chunks
from frofa.estimators.tokens.batches import seen_on
from frofa.estimators.tokens.image_views import views_in
from frofa.ragged import RaggedTokens

Weights: TypeAlias = "npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]"
"""Weights (n, n_maps, N) of tokens; of RaggedTokens a list, (n_maps, N_i) for each image."""
BATCH = 1024
"""Images that are looked at at once, as many as are scored."""


class LooksAtTokens(Protocol):
    """A model of heads that weigh tokens."""

    def attention(self, params: dict[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute weights (H, n, n_maps, N) of H heads on tokens, as of `TokenModel.logits`; zero where masked."""


class Attending:
    """The method `attention` of token heads; comes before `TokenClassifier`."""

    def attention(self, X: Any) -> Weights:
        """Weigh the tokens of images as the head does.

        Parameters
        ----------
        X : array-like of shape (n, N, C) or (n, N * C), RaggedTokens or FeatureBlocks
            As in `predict`. Of several views of an image, the first is looked at, which is the image as it is.

        Returns
        -------
        ndarray of float32, shape (n, n_maps, N), or list of n ndarrays of shape (n_maps, N_i)
            Weights, of which none is negative and the sum over the tokens is 1; a list for RaggedTokens, with the
            tokens of image i row by row of its grid. Class and register tokens, `n_prefix` of them, come first.
            `MAPClassifier` has a map for each attention head, ``num_heads_`` in all: the softmax by which the head
            averages values of the tokens. `SoftMoEClassifier` has one for each slot, expert by expert,
            ``num_experts * slots_per_expert`` in all: the dispatch weights by which the slot, an input of its
            expert, averages normalised tokens. Augmented views of `n_views` play no part.

        Raises
        ------
        NotFittedError, ValueError
            If the head is not fitted, or X has other features than it was fitted to.

        Examples
        --------
        >>> import numpy as np
        >>> from frofa.estimators import MAPClassifier
        >>> rng = np.random.default_rng(0)
        >>> tokens = rng.normal(size=(20, 16, 128)) + np.repeat([0, 1], 10)[:, None, None]
        >>> head = MAPClassifier(n_steps=5, random_state=0).fit(tokens, np.repeat(["cat", "dog"], 10))
        >>> weights = head.attention(tokens[:3])
        >>> weights.shape, bool(np.allclose(weights.sum(2), 1))
        ((3, 2, 16), True)
        """
        head: Any = self
        check_is_fitted(head)
        features = views_in(head._tokens(head._check_features(X, reset=False)))[0]
        device = resolve_device(head.device)
        return weigh_tokens(head._fitted_model(features.shape[2]), head._weights_on(device), features, device)


@torch.inference_mode()
def weigh_tokens(model: LooksAtTokens, params: dict[str, Tensor], features: Any, device: torch.device) -> Weights:
    """Compute the weights by one head, `params` with a leading dimension of one, of tokens of any kind."""
    parts = [
        model.attention(params, *seen_on(features[rows], device))[0].cpu().numpy()
        for rows in row_chunks(len(features), BATCH, row_size=1)
    ]
    if not isinstance(features, RaggedTokens):
        return np.concatenate(parts)
    # Of each image (n_maps, N), without padding.
    of_each = [image for part in parts for image in part]
    return [weights[:, :size].copy() for weights, size in zip(of_each, features.sizes, strict=True)]
