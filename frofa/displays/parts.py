"""Fitted classifiers taken apart: what makes features of images, what comes between, and the head."""

from copy import copy
from typing import Any, NamedTuple

from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from frofa.estimators import ConformalClassifier
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.image_classifier import ImageClassifier


class Parts(NamedTuple):
    """Parts of a fitted classifier.

    Attributes
    ----------
    whole : classifier
        As it was given; of a search, its best estimator.
    extractor : FrozenFeatureExtractor or None
        What makes features of images, for predictions; None of a classifier of features.
    training_extractor : FrozenFeatureExtractor or None
        The same for training images, which may be looked at in more views, and of which tokens are not needed.
    before : Pipeline or None
        Fitted steps between the extractor, or the features that are given, and the head.
    head : classifier
        The last step, which is fitted to features.
    sets : ConformalClassifier or None
        What predicts sets of labels from the head's features.
    """

    whole: Any
    extractor: FrozenFeatureExtractor | None
    training_extractor: FrozenFeatureExtractor | None
    before: Pipeline | None
    head: Any
    sets: ConformalClassifier | None

    @property
    def unlabeled(self) -> Any:
        """Label that stands for none, as the head has it."""
        return getattr(self.whole if isinstance(self.whole, ImageClassifier) else self.head, "unlabeled", None)

    def prepare(self, extracted: Any) -> Any:
        """Turn features, as they are extracted or given, into what the head takes."""
        return extracted if self.before is None else self.before.transform(extracted)


def parts_of(classifier: Any, *, fail_fast: bool = False, probabilities: bool = True) -> Parts:
    """Take a fitted classifier apart, and check that it has probabilities.

    Parameters
    ----------
    classifier : classifier
        An ImageClassifier, a pipeline, a head or any classifier of scikit-learn; or a search over such ones.
    fail_fast : bool, default=False
        Whether an image that cannot be read is an error; if not, it is left out.
    probabilities : bool, default=True
        Whether it must have them.

    Raises
    ------
    TypeError
        If it is no classifier.
    ValueError
        If it has no probabilities, or is not fitted (a NotFittedError).
    """
    classifier = getattr(classifier, "best_estimator_", classifier)
    if not (hasattr(classifier, "fit") and is_classifier(classifier)):
        raise TypeError(f"expected a fitted classifier. Got {classifier!r:.200}.")
    check_is_fitted(classifier)
    sets = None
    if isinstance(classifier, ConformalClassifier) and isinstance(classifier.head_, ImageClassifier):
        classifier, sets = classifier.head_, classifier
    if probabilities and not hasattr(classifier, "predict_proba"):
        raise ValueError(f"expected a classifier with predict_proba. Got {classifier!r:.200}.")
    on_error = "raise" if fail_fast else "skip"
    if isinstance(classifier, ImageClassifier):
        return _of_images(classifier, sets, on_error)
    extractor, before, head = None, None, classifier
    if isinstance(classifier, Pipeline):
        head, steps = classifier[-1], classifier[:-1]
        if isinstance(classifier[0], FrozenFeatureExtractor):
            extractor, steps = copy(classifier[0]).set_params(on_error=on_error), classifier[1:-1]
        before = steps if len(steps) else None
    sets = head if isinstance(head, ConformalClassifier) else None
    return Parts(classifier, extractor, extractor, before, head, sets)


def _of_images(classifier: ImageClassifier, sets: ConformalClassifier | None, on_error: str) -> Parts:
    predictor = classifier._predictor().set_params(on_error=on_error)
    trainer = classifier._trainer().set_params(on_error=on_error)
    if sets is None and hasattr(classifier, "sets_"):
        sets = classifier._sets()
    return Parts(classifier, predictor, trainer, None, classifier.head_, sets)
