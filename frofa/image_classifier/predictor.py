"""Predictions of a fitted classifier of images, and what becomes of them: scores, reports, prediction sets."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from frofa.estimators import ConformalClassifier, ZeroShotClassifier
from frofa.estimators.confidence.promises import check_levels
from frofa.estimators.confidence.ready import with_sets
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.extraction.run import Extraction
from frofa.image_classifier.report import EvaluationReport, evaluation_report
from frofa.image_classifier.support import labelled
from frofa.images.items import Images

Array = npt.NDArray[Any]


class ImagePredictor(ABC):
    """Base of a classifier of images: its heads predict from the features of an extractor."""

    head_: Any
    classes_: Array
    sets_: dict[str, Any]
    reject: float | None
    reject_label: Any

    @abstractmethod
    def _predictor(self) -> FrozenFeatureExtractor:
        """Make the extractor of predictions, which refuses other weights than those fitted with."""

    def predict(self, X: Images) -> Array:
        """Predict the class of images; returns labels, shape (n,), and ImageReadError for one that cannot be read.

        With `reject`, they are `reject_label` for images whose `novelty_score` is beyond the threshold.
        """
        return self._ask("predict", X)

    def predict_proba(self, X: Images) -> Array:
        """Predict the probability of each class, in the order of `classes_`; shape (n, n_classes)."""
        return self._ask("predict_proba", X)

    def decision_function(self, X: Images) -> Array:
        """Score images, (n, n_classes), or (n,) for two classes; larger is more likely, for two of ``classes_[1]``."""
        return self._ask("decision_function", X)

    def predict_set(
        self, X: Images, confidence_level: float | Sequence[float] = 0.9
    ) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Predict sets of labels that hold the right one as often as asked for, as `ConformalClassifier` does.

        With ``effort="fast"``, up to a thousand images are ranked by jackknife+. More of them, and heads of ``"high"``,
        are ranked out of fold, beside new images by the heads that were fitted to all: that is as good where heads
        hardly change with a fold, and nothing is proven of it; ``ConformalClassifier(ImageClassifier(effort="high"),
        method="cv+")`` is, at the price of more fits.

        Parameters
        ----------
        X
            As in `predict`.
        confidence_level : float or list of float, default=0.9
            Each needs ``level / (1 - level)`` images to fit to: 9 for 0.9, 19 for 0.95.

        Returns
        -------
        labels : ndarray of shape (n,)
            As `predict` has them.
        sets : ndarray of bool, shape (n, n_classes, n_levels)
            Whether a label, in the order of `classes_`, is in the set of each level.

        Raises
        ------
        ValueError
            If there were too few images for a level, with the numbers, or the classifier was saved by a version that
            kept nothing to rank new images among.
        """
        check_is_fitted(self)
        check_levels(confidence_level)
        return self._sets().predict_set(self._features_of(X), confidence_level)

    def _sets(self) -> ConformalClassifier:
        """Give what predicts sets from features."""
        if isinstance(self.head_, ZeroShotClassifier):
            raise ValueError(_needs_images("prediction sets rank", self))
        if not hasattr(self, "sets_"):
            raise ValueError(
                f"this {type(self).__name__} was fitted by a version of frofa without prediction sets, and kept "
                "nothing that new images could be ranked among: fit it again."
            )
        return with_sets(self._head(), self.sets_)

    def novelty_score(self, X: Images) -> Array:
        """Score how unlike the images of `fit` others are, (n,); larger is more novel."""
        return self._ask("novelty_score", X)

    def novelty_threshold(self, share: float) -> float:
        """Return the `novelty_score` that this share of images of the known classes exceed; ValueError if too few."""
        check_is_fitted(self)
        if isinstance(self.head_, ZeroShotClassifier):
            raise ValueError(_needs_images("novelty_threshold compares", self))
        threshold: float = self.head_.novelty_threshold(share)
        return threshold

    def novelty_p_value(self, X: Images) -> Array:
        """Estimate the share of images of the known classes that are as novel as each image, or more; (n,).

        It is the rank of an image's `novelty_score` among those of the images of `fit`, each left out, and means what
        it says for as many views of an image as those had.
        """
        return self._ask("novelty_p_value", X)

    def score(self, X: Images, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy on images and labels (n,), which may be weighted, as of `fit`; unknown labels count as wrong.

        With `reject`, rejected images count as wrong, too.
        """
        X, labels = labelled(X, y, type(self).__name__)
        extraction = self.extract(X, labels)
        weights = None if sample_weight is None else np.asarray(sample_weight)[extraction.kept]
        return float(accuracy_score(extraction.y, self._head().predict(extraction.features), sample_weight=weights))

    def evaluate(self, X: Images, y: Any = None) -> EvaluationReport:
        """Accuracy with its interval, of each class too, log-loss, Brier score, calibration and confusion matrix.

        All are of the probabilities, and of the most probable class: whatever `reject` is, no image is rejected.

        Parameters
        ----------
        X, y
            As in `fit`. Whether the classifier was fitted to these images is not checked. Those with labels that it
            does not know are counted, and left out, and so are unreadable ones with ``on_error="skip"``.

        Returns
        -------
        EvaluationReport
            ``print`` shows all of it.
        """
        X, labels = labelled(X, y, type(self).__name__)
        extraction = self.extract(X, labels)
        probabilities = self.head_.predict_proba(extraction.features)
        return evaluation_report(labels[extraction.kept], probabilities, self.classes_, extraction.skipped)

    def extract(self, X: Images, y: Any = None) -> Extraction:
        """Extract the features that `head_` predicts from, as `FrozenFeatureExtractor.extract` does."""
        check_is_fitted(self)
        return self._predictor().extract(X, y)

    def _ask(self, method: str, X: Images) -> Array:
        """Call a method of the heads with the features of images, all of which must be readable."""
        check_is_fitted(self)
        if isinstance(self.head_, ZeroShotClassifier) and method.startswith("novelty"):
            raise ValueError(_needs_images(f"{method} compares", self))
        head = self._head()
        answer: Array = getattr(head, method)(self._features_of(X))
        return answer

    def _features_of(self, X: Images) -> Any:
        """Extract the features of images, all of which must be readable."""
        check_is_fitted(self)
        return self._predictor().set_params(on_error="raise").extract(X).features

    def _head(self) -> Any:
        """Give the heads what may be set after they were fitted; those of `fit` stay as they are."""
        check_is_fitted(self)
        head: Any = copy(self.head_)
        if isinstance(head, ZeroShotClassifier):
            if self.reject is not None:
                raise ValueError(_needs_images(f"reject={self.reject} compares", self))
            return head
        head.reject, head.reject_label = self.reject, self.reject_label
        return head


def _needs_images(what: str, classifier: ImagePredictor) -> str:
    """Sentence on what a classifier that was fitted to words alone cannot do."""
    return (
        f"{what} new images with those of fit, and this {type(classifier).__name__} was fitted to words, without any."
    )
