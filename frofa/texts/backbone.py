"""A text tower, or an encoder of texts, in the place of a backbone."""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from frofa.backbones.backbone import HALVES, Backbone
from frofa.backbones.outputs import Request
from frofa.backbones.preprocessing import Preprocessing
from frofa.backbones.text.tower import TextTower
from frofa.compute.memory import is_out_of_memory
from frofa.encoders.backbone import CustomBackbone
from frofa.encoders.protocol import Encoder
from frofa.exceptions import EncoderCallError, EncoderError
from frofa.texts.sample import TextSample

OUTPUT = "text"
"""Output of a spec whose features are embeddings of texts."""


class TowerBackbone(Backbone):
    """A text tower, as a run sees a backbone: texts are tokenized in threads, and encoded in batches."""

    is_custom = True  # items are no images, and have one view
    unit = "text"
    decoder = "utf-8"

    def __init__(self, tower: TextTower):
        super().__init__(
            tower.name,
            nn.Identity(),
            {"tokenizer": tower.tokenizer.digest, "context": tower.context},
            tower.weights_digest,
            tower.architecture,
            tower.device,
            Preprocessing(self._prepare),
        )
        self.tower = tower

    def _prepare(self, sample: Any) -> Tensor:
        """Tokenize one text: ids and mask, int64 (2, L)."""
        ids, mask = self.tower.tokenizer([sample.read()])
        return torch.stack([torch.from_numpy(ids[0]), torch.from_numpy(mask[0]).long()])

    def precision_key(self, precision: str, *, compiled: bool) -> str:
        """Say what the forward pass computes in."""
        del compiled
        return self.resolve_precision(precision)

    def extract(
        self, images: Tensor, requests: Sequence[Request], precision: str, compiled: bool = False
    ) -> list[Tensor]:
        """Embed tokenized texts (n, 2, L): float32 (n, D), the same for every request."""
        del compiled
        halves = HALVES.get(precision)
        kind = self.device.type
        casting = torch.autocast(kind, dtype=halves) if halves else contextlib.nullcontext()
        with torch.inference_mode(), casting:
            features = self.tower.encode(images[:, 0], images[:, 1].bool())
        return [features] * len(requests)


class TextEncoderBackbone(CustomBackbone):
    """A custom encoder of texts, as a run sees a backbone; without `preprocess`, it is called with lists of str."""

    unit = "text"

    def __init__(self, encoder: Encoder, samples: Sequence[TextSample] = ()):
        super().__init__(encoder)
        self._samples = samples

    @property
    def _takes_texts(self) -> bool:
        return getattr(self.encoder, "preprocess", None) is None

    def _prepare(self, sample: Any) -> Tensor:
        """Preprocess one text as the encoder does; else its number stands for it, until the encoder is called."""
        return torch.tensor(sample.number) if self._takes_texts else super()._prepare(sample)

    def extract(
        self, images: Tensor, requests: Sequence[Request], precision: str, compiled: bool = False
    ) -> list[Tensor]:
        """Run a batch of preprocessed texts, or of the texts of these numbers (n,)."""
        if not self._takes_texts:
            return super().extract(images, requests, precision, compiled)
        texts = [self._samples[number].text for number in images.tolist()]
        with torch.inference_mode():
            try:
                features = self.encoder(texts)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                raise EncoderCallError(
                    f"{self.name} raised {type(error).__name__} for a list of {len(texts)} texts: {error}"
                ) from error
            return [self._checked(features, len(texts))] * len(requests)

    def _checked(self, found: Any, n: int) -> Tensor:
        features = super()._checked(found, n)
        if features.ndim != 2:
            raise EncoderError(f"{self.name}: expected one vector of each text, ({n}, D). Got {tuple(features.shape)}.")
        return features
