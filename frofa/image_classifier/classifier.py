"""The estimator: an extractor and the few-shot classifier in one."""

import os
from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from frofa.backbones.loading import ImageSize
from frofa.encoders.protocol import Encoder
from frofa.encoders.sharing import SharesModel
from frofa.estimators import FewShotClassifier
from frofa.evaluation import log_loss, proportion_interval
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.extraction.run import Extraction
from frofa.image_classifier.report import EvaluationReport, evaluation_report
from frofa.image_classifier.support import ImageSupport, image_extractor, image_support, labelled
from frofa.images.items import Images
from frofa.persistence.saving import load, save
from frofa.pretrained import start_of
from frofa.store import FeatureStore

Array = npt.NDArray[Any]
OF_THE_EXTRACTOR = (
    *("model", "view_area", "mirror", "image_size", "background", "batch_size", "device", "precision", "n_jobs"),
    *("store", "rehash", "on_error", "verbose"),
)
"""Parameters that go to the extractor as they are."""


class ImageClassifier(SharesModel, ClassifierMixin, BaseEstimator):
    """Few-shot classifier of images, with nothing to tune: frozen features of several views, and the heads on them.

    It is a `FrozenFeatureExtractor`, of several views of each image, and a `FewShotClassifier` in one.
    ``effort="fast"`` fits linear discriminants to pooled vectors in a second; ``"high"`` also trains attention heads on
    all tokens, with augmentation in feature space (FroFA), and blends them in as far as they pay out of fold.

    Parameters
    ----------
    model : str or Encoder, default="frofa/vit_tiny_tin200"
        The backbone, as in `FrozenFeatureExtractor`. A custom encoder has no views: ``n_views=1``.
    n_views : int, default=6
        Views of each image to fit to, of which each takes a forward pass: the image, its mirror image, and random
        crops, always the same ones of the same image.
    predict_views : int, default=None
        Views of each image that a prediction averages over, fewer or more than `n_views`; None takes as many. With 1,
        the image alone, predictions are fastest.
    view_area : (float, float), default=(0.5, 1.0)
        Least and largest part of the image's area that a crop shows.
    mirror : bool, default=True
        Take mirror images as views. False suits images in which left and right have a meaning, such as letters.
    effort : {"fast", "high"}, default="fast"
        As in `FewShotClassifier`.
    class_prior : "uniform", "empirical", array-like of shape (n_classes,) or dict, default="uniform"
        How frequent classes are among the images to be classified.
    class_weight : dict or "balanced", default=None
        Weights of the classes, times those of the samples.
    image_size, background, batch_size, device, precision, n_jobs, rehash, verbose
        As in `FrozenFeatureExtractor`, with the same defaults. `device` is where attention heads train, too.
    store : path or FeatureStore, default=None
        Directory that keeps features, so that no view of an image is computed twice: a second fit takes a second.
    on_error : {"raise", "skip"}, default="raise"
        What `fit`, `score` and `evaluate` do about an image that cannot be read: raise an `ImageReadError` that names
        it, or leave it out with its label and a `SkippedImagesWarning`. For predictions it is always an error, as the
        others would move up by one; `extract` and ``frofa predict`` leave it out there, too.
    random_state : int, RandomState or None, default=None
        Seed of the attention heads and their folds.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    head_ : FewShotClassifier
        The fitted heads; ``head_.members_`` and ``head_.weights_`` say which there are and what each counts.
    out_of_fold_accuracy_ : float
        Accuracy on the images of `fit`, each predicted by heads that did not see it, but for those that are the only
        one of their class; NaN where all are.
    out_of_fold_interval_ : (float, float)
        Ends of its 95 % interval (Wilson's).
    out_of_fold_log_loss_ : float
        Log-loss of these predictions, in nats.
    kept_ : ndarray of int
        Positions in the input of the images that the heads were fitted to. Of copies, byte for byte, it is the first,
        with the weights of all, so that none is on both sides of a fold. Copies with several labels are left out, with
        a warning.
    skipped_ : list of ImageReadError
        The images that could not be read. Not saved.
    n_copies_ : int
        Images that repeat others.
    weights_digest_ : str
        As of `FrozenFeatureExtractor`.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import ImageClassifier
    >>> rng = np.random.default_rng(0)
    >>> dark, light = rng.integers(0, 100, (4, 32, 32, 3)), rng.integers(150, 250, (4, 32, 32, 3))
    >>> images = np.concatenate([dark, light]).astype(np.uint8)
    >>> model = ImageClassifier(n_views=2).fit(images, ["night"] * 4 + ["day"] * 4)
    >>> model.predict(images[2:6]).tolist()
    ['night', 'night', 'day', 'day']
    >>> model.save("daylight.frofa")
    >>> ImageClassifier.load("daylight.frofa").evaluate(images, ["night"] * 4 + ["day"] * 4).accuracy.mean
    1.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{name: FrozenFeatureExtractor._parameter_constraints[name] for name in OF_THE_EXTRACTOR},
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "predict_views": [Interval(Integral, 1, None, closed="left"), None],
        "effort": [StrOptions({"fast", "high"})],
        "class_prior": [str, dict, "array-like"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        model: str | Encoder = "frofa/vit_tiny_tin200",
        *,
        n_views: int = 6,
        predict_views: int | None = None,
        view_area: tuple[float, float] = (0.5, 1.0),
        mirror: bool = True,
        effort: Literal["fast", "high"] = "fast",
        class_prior: str | npt.ArrayLike | Mapping[Any, float] = "uniform",
        class_weight: dict[Any, float] | str | None = None,
        image_size: ImageSize = None,
        background: str | tuple[int, int, int] = "silver",
        batch_size: int | Literal["auto"] = 64,
        device: str = "auto",
        precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto",
        n_jobs: int | None = None,
        store: str | os.PathLike[str] | FeatureStore | None = None,
        rehash: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.model = model
        self.n_views = n_views
        self.predict_views = predict_views
        self.view_area = view_area
        self.mirror = mirror
        self.effort = effort
        self.class_prior = class_prior
        self.class_weight = class_weight
        self.image_size = image_size
        self.background = background
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.store = store
        self.rehash = rehash
        self.on_error = on_error
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Images, y: Any = None, sample_weight: Any = None) -> "ImageClassifier":
        """Extract features, and fit the heads.

        Parameters
        ----------
        X : list or column of paths, list of PIL images, uint8 array (n, H, W, 3), or ImageSet
            As in `FrozenFeatureExtractor.transform`.
        y : array-like of shape (n,), default=None
            Labels, of two classes at least. Not needed where X is an ImageSet that has them.
        sample_weight : array-like of shape (n,), default=None
            Non-negative; a weight of 2 counts as the image twice.

        Returns
        -------
        self

        Raises
        ------
        ImageReadError
            If an image cannot be read and ``on_error="raise"``, or none can be.
        ValueError
            If a parameter is wrong, or labels are missing, of one class alone, or of a class that has no image left.
        """
        self._validate_params()
        X, labels = labelled(X, y, type(self).__name__)
        extractor = self._extractor(self.n_views, tokens=self.effort == "high").fit()
        support = image_support(extractor, X, labels, sample_weight)
        self.head_ = FewShotClassifier(
            effort=self.effort,
            init=start_of(self.model) if self.effort == "high" else "random",
            class_prior=self.class_prior,
            class_weight=self.class_weight,
            device=self.device,
            random_state=self.random_state,
            verbose=self.verbose,
        ).fit(support.features, support.y, support.weights)
        self.classes_, self.weights_digest_ = self.head_.classes_, extractor.weights_digest_
        self.kept_, self.skipped_, self.n_copies_ = support.kept, support.skipped, support.n_copies
        self._judge(support)
        return self

    def _judge(self, support: ImageSupport) -> None:
        """Set the accuracy and log-loss of the out-of-fold probabilities (n, n_classes), where there are some."""
        known = np.isfinite(self.head_.out_of_fold_proba_).all(1)
        if support.weights is not None:
            known &= support.weights > 0
        n, y, table = int(known.sum()), support.y[known], self.head_.out_of_fold_proba_[known]
        n_hits = int((self.classes_[table.argmax(1)] == y).sum())
        accuracy, *ends = proportion_interval(n_hits, n) if n else (np.nan, np.nan, np.nan)
        self.out_of_fold_accuracy_, self.out_of_fold_interval_ = accuracy, tuple(ends)
        self.out_of_fold_log_loss_ = log_loss(y, table, self.classes_) if n else np.nan

    def predict(self, X: Images) -> Array:
        """Predict the class of images; returns labels, shape (n,), and ImageReadError for one that cannot be read."""
        return self._ask("predict", X)

    def predict_proba(self, X: Images) -> Array:
        """Predict the probability of each class, in the order of `classes_`; shape (n, n_classes)."""
        return self._ask("predict_proba", X)

    def decision_function(self, X: Images) -> Array:
        """Score images, (n, n_classes), or (n,) for two classes; larger is more likely, for two of ``classes_[1]``."""
        return self._ask("decision_function", X)

    def score(self, X: Images, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy on images and labels (n,), which may be weighted, as of `fit`; unknown labels count as wrong."""
        X, labels = labelled(X, y, type(self).__name__)
        extraction = self.extract(X, labels)
        weights = None if sample_weight is None else np.asarray(sample_weight)[extraction.kept]
        return float(accuracy_score(extraction.y, self.head_.predict(extraction.features), sample_weight=weights))

    def evaluate(self, X: Images, y: Any = None) -> EvaluationReport:
        """Accuracy with its interval, of each class too, log-loss, calibration error and confusion matrix.

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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file of safetensors and JSON, by `frofa.save`; the backbone is its name and digest alone."""
        save(self, path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, device: str | None = None, encoder: Encoder | None = None
    ) -> "ImageClassifier":
        """Load a file of `save`, as `frofa.load` does; a TypeError says that it has another estimator."""
        loaded = load(path, device=device, encoder=encoder)
        if not isinstance(loaded, cls):
            raise TypeError(
                f"expected a saved {cls.__name__}. Got a {type(loaded).__name__} in {path}: use frofa.load."
            )
        return loaded

    def _ask(self, method: str, X: Images) -> Array:
        """Call a method of the heads with the features of images, all of which must be readable."""
        check_is_fitted(self)
        features = self._predictor().set_params(on_error="raise").extract(X).features
        answer: Array = getattr(self.head_, method)(features)
        return answer

    def _predictor(self) -> FrozenFeatureExtractor:
        """Make the extractor of predictions, which refuses other weights than those fitted with."""
        n_views = self.n_views if self.predict_views is None else self.predict_views
        # The probe, the first member, reads vectors alone.
        extractor = self._extractor(n_views, tokens=bool(self.head_.weights_[1:].any()))
        extractor.weights_digest_ = self.weights_digest_
        return extractor

    def _extractor(self, n_views: int, *, tokens: bool) -> FrozenFeatureExtractor:
        own = {name: getattr(self, name) for name in OF_THE_EXTRACTOR}
        return image_extractor({**own, "n_views": n_views}, tokens=tokens)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = tags.input_tags.three_d_array = False
        tags.input_tags.string = tags.no_validation = True
        return tags
