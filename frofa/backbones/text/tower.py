"""Text towers: what turns token ids into vectors in the space of images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from frofa.backbones.text.transformer import TextTransformer
from frofa.tokenizing.interface import Tokenizer


@dataclass(frozen=True, eq=False)
class TextTower:
    """One text tower, loaded on a device, in eval mode, with its tokenizer.

    Attributes
    ----------
    name : str
        As the user gave it.
    tokenizer : Tokenizer
        Turns texts into the `ids` and `mask` of `encode`.
    width : int
        Channels D of an embedding, those of the image's vector.
    context : int
        Tokens of a text.
    logit_scale, logit_bias : float
        The score of an image for a text is ``logit_scale * cosine + logit_bias``; the bias is 0 where the loss had
        none (CLIP).
    templates : tuple of str or None
        Sentences with one ``{}`` that the checkpoint itself names for zero-shot classification.
    weights_digest, architecture : str
        Digests of the parameters, and of what computes with them.
    device : torch.device
        Where it is.
    """

    name: str
    module: TextTransformer
    tokenizer: Tokenizer
    width: int
    context: int
    logit_scale: float
    logit_bias: float
    templates: tuple[str, ...] | None
    weights_digest: str
    architecture: str
    device: torch.device

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embed texts, given as the tokenizer's ids int64 (n, L) and mask bool (n, L), which is False at padding.

        Returns
        -------
        Tensor of shape (n, D), float32
            On the tower's device; not normalised.

        Raises
        ------
        ValueError
            If the tokenizer's ids go beyond the tower's vocabulary: they are not of the same model.
        """
        # A GPU would not say which, and would be of no use to the process from then on.
        known, largest = self.module.token_embedding.num_embeddings, int(ids.max()) if ids.numel() else 0
        if largest >= known:
            raise ValueError(
                f"{self.name}: the tokenizer gives token {largest}, the text tower has {known} tokens: their files do "
                "not belong together."
            )
        with torch.inference_mode():
            return self.module(ids.to(self.device), mask.to(self.device)).float()  # type: ignore[no-any-return]
