"""Images to choose from, as features of the extractor of an `ImageClassifier`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import _num_samples

from frofa.estimators import FewShotClassifier
from frofa.image_classifier import ImageClassifier
from frofa.image_classifier.support import labelled
from frofa.images.image_set import ImageSet
from frofa.images.items import Images


@dataclass(frozen=True)
class ImageFeatures:
    """Features of images in a pool of `n` images, and at which positions they are, `kept`; and those with labels.

    `classifier` works on features: to be fitted, or fitted where there are no labels.
    """

    classifier: Any
    pool: Any
    n: int
    kept: npt.NDArray[np.intp]
    X: Any
    y: Any


def image_features(classifier: ImageClassifier, X_pool: Images, X: Images | None, y: Any) -> ImageFeatures:
    """Extract features of a pool, and of labelled images where there are some."""
    fitted = hasattr(classifier, "head_")
    if X is None and fitted:
        extractor, head = classifier._predictor(), classifier.head_
    else:
        # By pooled vectors alone, whatever the effort: attention heads are not trained for suggestions.
        extractor, head = classifier._extractor(classifier.n_views, tokens=False).fit(), probe_of(classifier)
    pool = extractor.extract(X_pool)
    n = len(X_pool.items) if isinstance(X_pool, ImageSet) else _num_samples(X_pool)
    if X is None:
        return ImageFeatures(head, pool.features, n, pool.kept, None, None)
    X, y = labelled(X, y, type(classifier).__name__)
    known = extractor.extract(X, y)
    return ImageFeatures(head, pool.features, n, pool.kept, known.features, known.y)


def probe_of(classifier: ImageClassifier) -> FewShotClassifier:
    """Make the probe, with the parameters that both have."""
    names = set(FewShotClassifier().get_params(deep=False)) - {"effort", "init", "verbose"}
    given = classifier.get_params(deep=False)
    if classifier.prior is not None:
        given |= classifier._words().of_head()
    return FewShotClassifier(**{name: given[name] for name in names & given.keys()})
