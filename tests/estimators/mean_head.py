"""A third head on tokens in one file, as who adds one would write it: the tokens' mean, linearly classified."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from frofa.estimators.token_classifier import TokenClassifier
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, Params
from frofa.estimators.training.plan import StepBatch, TokenModel


@dataclass(frozen=True)
class MeanModel(TokenModel):
    """The mean of the tokens that are seen, and a linear layer."""

    def initial(self, channels: int, n_classes: int, generator: Generator) -> Params:
        draw = torch.randn((n_classes, channels), generator=generator, device=generator.device)
        return {"head.weight": draw * channels**-0.5, "head.bias": torch.zeros(n_classes, device=generator.device)}

    def logits(self, params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        return _linear(params, _features(params, tokens, mask))

    def gradients(self, heads: Heads, step: StepBatch, out: Gradient) -> None:
        features = _features(heads.params, step.tokens, step.mask)
        targets = step.targets.repeat_interleave(len(features) // len(step.targets), 0)
        probabilities = _linear(heads.params, features).softmax(2)
        upstream = (probabilities * targets.sum(2, keepdim=True) - targets) / step.n_batch
        out.of_kernels("head.weight", upstream, features)
        torch.sum(upstream, 1, out=out.params["head.bias"])

    def head_bytes(self, image: Tensor, n_batch: int) -> int:
        return 4 * image.shape[1] * (n_batch + 100)


def _features(params: Mapping[str, Tensor], tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Means (H, n, C) of what each head sees."""
    if mask is None:
        means = tokens.mean(-2)
    else:
        means = tokens.masked_fill(~mask[..., None], 0).sum(-2) / mask.sum(-1, keepdim=True)
    means = means if means.ndim == 3 else means[None]
    return means.repeat_interleave(len(params["head.bias"]) // len(means), 0)


def _linear(params: Mapping[str, Tensor], features: Tensor) -> Tensor:
    return torch.baddbmm(params["head.bias"].unsqueeze(1), features, params["head.weight"].mT)


class MeanClassifier(TokenClassifier):
    """The mean of the tokens, linearly classified; parameters are those that all heads on tokens have."""

    def _model(self, channels: int) -> MeanModel:  # noqa: ARG002 (of whatever tokens)
        return MeanModel()
