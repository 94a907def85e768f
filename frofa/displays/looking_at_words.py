"""Heat of texts over the patches of images, as a backbone sees them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from frofa.backbones.patch_text import check_patches, patch_contributions, patch_vectors
from frofa.backbones.text.loading import load_text_tower
from frofa.displays.attention.looking import inside
from frofa.displays.attention.pictures import SeenPictures, seen_by
from frofa.displays.inputs import Predictions, from_classifier
from frofa.estimators.text.embeddings import SCALE
from frofa.exceptions import ModelNotFoundError
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.image_classifier import ImageClassifier
from frofa.images.items import ImageItem
from frofa.images.pixels.colour import parse_colour
from frofa.images.reading import content, decode, read_error

Maps = npt.NDArray[np.float32]
BATCH = 16
"""Images of a forward pass."""


class OfClassifier(NamedTuple):
    """A classifier's words: its predictions, pictures, unit vectors of the classes (K, D), and the scores' scale."""

    found: Predictions
    extractor: FrozenFeatureExtractor
    vectors: npt.NDArray[np.float64]
    scale: float


def extractor_of(model: str | FrozenFeatureExtractor) -> FrozenFeatureExtractor:
    """Take an extractor, or make one of a backbone's name; a ValueError says why its patches have no words."""
    extractor = FrozenFeatureExtractor(model, output="projected") if isinstance(model, str) else model
    if not isinstance(extractor, FrozenFeatureExtractor):
        raise TypeError(f"expected the name of a backbone, or a FrozenFeatureExtractor. Got {type(model).__name__}.")
    backbone = extractor._backbone()
    if backbone.is_custom:
        raise ValueError(f"{backbone.name} is an encoder of your own, of which patches are not known.")
    check_patches(backbone)
    return extractor


def heat_of(
    extractor: FrozenFeatureExtractor,
    items: Sequence[ImageItem],
    vectors: npt.NDArray[np.float64],
    scale: float,
    method: str = "score",
) -> tuple[SeenPictures, list[Maps]]:
    """Look for texts in n images: pictures, and heat (m, rows, columns), which adds up to 1 over each map, or is 0.

    Unit vectors of texts are (m, D), or (n, m, D) where each image has its own.
    """
    backbone = extractor._backbone()
    own = np.broadcast_to(vectors, (len(items), *vectors.shape[-2:])) if vectors.ndim == 2 else vectors
    width = backbone.layout.widths["projected"]
    if own.shape[2] != width:
        raise ValueError(f"expected texts in {width} dimensions, those of {backbone.name}. Got {own.shape[2]}.")
    background = parse_colour(extractor.background)
    maps: list[Maps] = []
    for start in range(0, len(items), BATCH):
        part = range(start, min(start + BATCH, len(items)))
        images = torch.stack([_seen(backbone, items[i], i, background) for i in part])
        texts = torch.from_numpy(own[part.start : part.stop].astype(np.float32)).to(backbone.device)
        heat = _by_score(backbone, images, texts) if method == "score" else _by_patch(backbone, images, texts, scale)
        rows, columns = backbone.layout.grid or (1, heat.shape[2])
        maps += list(heat.reshape(len(part), -1, rows, columns).cpu().numpy())
    return seen_by(extractor, items), maps


def _by_score(backbone: Any, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Share out what speaks for a text among the patches, (n, m, N)."""
    added = patch_contributions(backbone, images, texts).clamp(min=0)
    return added / added.sum(2, keepdim=True).clamp(min=torch.finfo(added.dtype).tiny)


def _by_patch(backbone: Any, images: torch.Tensor, texts: torch.Tensor, scale: float) -> torch.Tensor:
    """Compare patches by themselves, and take the softmax over patches of the model's scores, (n, m, N)."""
    patches = torch.nn.functional.normalize(patch_vectors(backbone, images), dim=2)
    return (scale * texts @ patches.transpose(1, 2)).softmax(2)


def words_of(estimator: Any, X: Any, y: Any, images: Any) -> OfClassifier:
    """Take a fitted classifier that knows words apart, and let it predict.

    A TypeError says that it knows none, a ValueError that there are no pictures or no extractor.
    """
    estimator = inside(estimator)
    check_is_fitted(estimator)
    head = estimator.head_ if isinstance(estimator, ImageClassifier) else estimator
    head = head[-1] if isinstance(head, Pipeline) else head
    vectors = getattr(head, "text_features_", None)
    if vectors is None:
        raise TypeError(
            "expected a classifier that knows words for its classes: ImageClassifier(prior='text'), or a pipeline of "
            f"an extractor and ZeroShotClassifier or a head with prior='text'. Got {type(estimator).__name__}."
        )
    found = from_classifier(estimator, X, y, images=images, need_labels=False)
    if found.parts is None or found.pictures is None or found.parts.extractor is None:
        raise ValueError("words are looked for in images. Got features: give a pipeline that begins with an extractor.")
    # Where another backbone compares images with words, its patches are what counts.
    extractor: Any = getattr(found.parts.extractor, "partner", found.parts.extractor)
    extractor = extractor_of(extractor)
    scale = float(getattr(head, "logit_scale_", 0) or _scale_of(extractor.model))
    return OfClassifier(found, extractor, np.asarray(vectors, np.float64), scale)


def _scale_of(model: Any) -> float:
    """Give the logit scale of a model's own text tower, or where there is none, CLIP's."""
    try:
        return load_text_tower(model, "cpu").logit_scale
    except ModelNotFoundError:
        return SCALE


def _seen(backbone: Any, item: ImageItem, position: int, background: Any) -> torch.Tensor:
    try:
        return torch.as_tensor(backbone.preprocess(decode(content(item)[0], background)))
    except Exception as error:  # decoders raise a dozen types
        raise read_error(position, item, error) from error
