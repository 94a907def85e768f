"""Predictions of blends for many images, from tokens that stay on the device."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.blocks import FeatureBlocks
from frofa.estimators.token_classifier import TokenClassifier

AT_ONCE = 2**27
"""Elements of the tokens that a head scores at once."""


class KnownScores(NamedTuple):
    """Scores (n, n_classes) that a member of a blend has for some images, in the place of the member."""

    classes_: npt.NDArray[Any]
    scores: npt.NDArray[Any]

    def _checked_scores(self, X: Any) -> npt.NDArray[Any]:
        assert len(X) == len(self.scores), "scores are those of these images"
        return self.scores


def predict_blends(heads: Sequence[Any], unseen: FeatureBlocks, device: torch.device) -> npt.NDArray[Any]:
    """Probabilities (n_heads, n, n_classes) of the same images by FewShotClassifiers.

    They are those of `predict_proba`, of which each call would check all tokens and move them to the device anew.
    """
    tokens = [torch.as_tensor(np.asarray(view), device=device) for view in unseen.views("tokens")]
    vectors = unseen.select(unseen.vectors)
    found = []
    for head in heads:
        # Members give way to their scores, and the head blends these as it always does.
        members = {name: (one, one.estimator) for name, one in head.members_.items() if one.weight > 0}
        for one, estimator in members.values():
            is_head = isinstance(estimator, TokenClassifier)
            scores = token_scores(estimator, tokens) if is_head else estimator._checked_scores(vectors)
            one.estimator = KnownScores(estimator.classes_, scores)
        found.append(head.predict_proba(unseen))
        for one, estimator in members.values():
            one.estimator = estimator
    return np.stack(found)


@torch.inference_mode()
def token_scores(head: TokenClassifier, views: Sequence[Tensor]) -> npt.NDArray[Any]:
    """Score images (n, n_classes) by the mean over their views (n, N, C), which lie on the device."""
    n_tokens, channels = views[0].shape[1:]
    model = head._fitted_model(channels)
    weights = {name: torch.as_tensor(value, device=views[0].device)[None] for name, value in head.weights_.items()}
    size = max(1, AT_ONCE // (n_tokens * channels))
    scored = [torch.cat([model.logits(weights, part.float())[0] for part in view.split(size)]) for view in views]
    scores: npt.NDArray[Any] = torch.stack(scored).double().mean(0).cpu().numpy()
    return scores
