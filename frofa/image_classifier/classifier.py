"""The estimator: an extractor and the few-shot classifier in one."""

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions

from frofa.backbones.loading import ImageSize
from frofa.encoders.protocol import Encoder
from frofa.encoders.sharing import SharesModel
from frofa.estimators import FewShotClassifier, ZeroShotClassifier
from frofa.estimators.confidence.ready import set_state
from frofa.estimators.core.confident.parameters import CONFIDENCE, ClassPrior, Novelty
from frofa.estimators.core.unlabelled import CONSTRAINT, MISSING
from frofa.estimators.text.prior import warn_unused_words
from frofa.evaluation import log_loss, proportion_interval
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.image_classifier.predictor import ImagePredictor
from frofa.image_classifier.support import ImageSupport, image_extractor, image_support, labelled
from frofa.image_classifier.words import PairedExtractor, Words, text_model_of, with_words, words_extractor
from frofa.images.items import Images
from frofa.persistence.saving import load, save
from frofa.pretrained import start_of
from frofa.store import FeatureStore
from frofa.utils.callbacks import CallbackSupportMixin, fit_task, task_of, with_callbacks

Array = npt.NDArray[Any]
OF_THE_EXTRACTOR = (
    *("model", "view_area", "mirror", "image_size", "background", "batch_size", "device", "precision", "n_jobs"),
    *("store", "rehash", "on_error", "verbose"),
)
"""Parameters that go to the extractor as they are."""
OF_NOVELTY = ("reject", "reject_label", "novelty")
"""Parameters that go to the heads, and say which images they reject."""


class ImageClassifier(CallbackSupportMixin, SharesModel, ImagePredictor, ClassifierMixin, BaseEstimator):
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
    prior : "text" or None, default=None
        ``"text"`` starts from the words for the classes, as a text tower reads them, as `FewShotClassifier` does: `fit`
        then takes few images of each class, or none at all.
    class_names : mapping of label to str or list of str, or sequence, default=None
        Words for the classes, as in `ZeroShotClassifier`, for ``prior="text"``; None takes the labels, ``_`` read as a
        space. `fit` without images takes the classes from them.
    templates : "auto", str or list of str, default="auto"
        Captions with one ``{}`` for the words, as in `ZeroShotClassifier`.
    text_model : str, default=None
        The backbone that compares images with words, by its name; None is `model`. Another one sees the same views,
        and its vector is the block ``"text"``, which the words alone are compared with.
    class_prior : "uniform", "empirical", array-like of shape (n_classes,), dict or None, default="uniform"
        How frequent classes are among the images to be classified; None takes them to be equally frequent, too.
    class_weight : dict or "balanced", default=None
        Weights of the classes, times those of the samples.
    reject : float, default=None
        Share, between 0 and 1, of images of the known classes that `predict` may reject as none of them; it needs
        ``1 / reject - 1`` images to fit to, 19 for 0.05. None rejects none. It may be set later, too.
    reject_label : object, default=None
        What `predict` calls rejected images; None is -1 for classes that are numbers, and "none of these" otherwise.
    novelty : {"auto", "mahalanobis", "relative", "knn", "energy"}, default="auto"
        How `novelty_score` tells images of other classes, as in `NoveltyDetector`.
    unlabeled : "auto", None or label, default="auto"
        What stands for no label in y, as in `FewShotClassifier`: features are centred and scaled by such images, too.
        In an ImageSet, ``""`` is none, too.
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
        Positions in the input of the images that the heads were fitted to, those without a label included. Of copies,
        byte for byte, it is the first, with the weights of all, so that none is on both sides of a fold. Copies with
        several labels are left out, with a warning.
    sets_ : dict
        The images that `predict_set` ranks others among: their features, up to a thousand of them, with
        ``effort="fast"``; otherwise their out-of-fold probabilities.
    skipped_ : list of ImageReadError
        The images that could not be read. Not saved.
    n_copies_ : int
        Images that repeat others.
    weights_digest_ : str
        As of `FrozenFeatureExtractor`; of an image's vector that is compared with words, where there are words alone.
    text_weights_digest_ : str or None
        The same of `text_model`, where that is another backbone, beside the images' own.

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
        "prior": [StrOptions({"text"}), None],
        "class_names": [dict, "array-like", None],
        "templates": [object],
        "text_model": [str, None],
        "class_prior": [str, dict, "array-like", None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        **{name: CONFIDENCE[name] for name in OF_NOVELTY},
        "unlabeled": CONSTRAINT,
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
        prior: Literal["text"] | None = None,
        class_names: Any = None,
        templates: str | Sequence[str] = "auto",
        text_model: str | None = None,
        class_prior: ClassPrior = "uniform",
        class_weight: dict[Any, float] | str | None = None,
        reject: float | None = None,
        reject_label: Any = None,
        novelty: Novelty = "auto",
        unlabeled: Any = "auto",
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
        self.prior = prior
        self.class_names = class_names
        self.templates = templates
        self.text_model = text_model
        self.class_prior = class_prior
        self.class_weight = class_weight
        self.reject = reject
        self.reject_label = reject_label
        self.novelty = novelty
        self.unlabeled = unlabeled
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

    @with_callbacks
    def fit(self, X: Images | None = None, y: Any = None, sample_weight: Any = None) -> "ImageClassifier":
        """Extract features, and fit the heads; or take the words for the classes alone.

        Parameters
        ----------
        X : list or column of paths, list of PIL images, uint8 array (n, H, W, 3), or ImageSet, default=None
            As in `FrozenFeatureExtractor.transform`. Without images, `class_names` say which classes there are, with
            ``prior="text"``, and ``head_`` is a `ZeroShotClassifier`: there are no out-of-fold scores, prediction sets
            or rejections then.
        y : array-like of shape (n,), default=None
            Labels, of two classes at least; some may be missing, as `unlabeled` says. Not needed where X is an ImageSet
            that has them.
        sample_weight : array-like of shape (n,), default=None
            Non-negative; a weight of 2 counts as the image twice.

        Returns
        -------
        self

        Raises
        ------
        ImageReadError
            If an image cannot be read and ``on_error="raise"``, or none can be.
        ModelNotFoundError
            If there is no text tower for ``prior="text"``.
        ValueError
            If a parameter is wrong, or labels are missing, of one class alone, or of a class that has no image left, or
            a class has no words.
        """
        with fit_task(self, X, y, sample_weight, n_tasks=3):
            self._validate_params()
            if X is None:
                return self._fit_to_words(y)
            warn_unused_words(self, stacklevel=4)
            return self._fit_to(self._support_of(X, y, sample_weight))

    def _fit_to_words(self, y: Any) -> "ImageClassifier":
        """Let words say what the classes are, without an image of them."""
        if self.prior is None or self.class_names is None or y is not None:
            raise ValueError(
                f"{type(self).__name__} needs images to fit to. Without any, and without labels, prior='text' and "
                f"class_names say which classes there are. Got X=None with prior={self.prior!r}, "
                f"{'no class_names' if self.class_names is None else 'class_names'} and "
                f"{'no labels' if y is None else 'labels'}."
            )
        head = self._words().zero_shot().fit()
        extractor = self._extractor_of_words(self.n_views).fit()
        nothing = np.array([], np.intp)
        self._take(head, ImageSupport(None, nothing, None, nothing, [], 0, extractor.weights_digest_))
        self.__dict__.pop("sets_", None)  # of a former fit
        self._set_scores(np.nan, (np.nan, np.nan), np.nan)
        return self

    def _words(self) -> Words:
        """Give the words for the classes, with what reads them."""
        model = text_model_of(self.model, self.text_model)
        return Words(model, self.class_names, self.templates, self.store, self.device, self.verbose)

    def _support_of(self, X: Images, y: Any = None, sample_weight: Any = None) -> ImageSupport:
        """Check the parameters, and extract the features of labelled images."""
        self._validate_params()
        X, labels = labelled(X, y, type(self).__name__, self.unlabeled)
        if self.prior is not None:
            self._words().check(labels)  # before images are read, which takes long
        extractor = self._extractor(self.n_views, tokens=self.effort == "high")
        with task_of(self).hand_to(extractor, "extract-features"):
            return image_support(extractor, X, labels, sample_weight)

    def _few_shot(self) -> FewShotClassifier:
        """Make the heads, which are not fitted yet."""
        return FewShotClassifier(
            effort=self.effort,
            init=start_of(self.model) if self.effort == "high" else "random",
            class_prior=self.class_prior,
            class_weight=self.class_weight,
            reject=self.reject,
            reject_label=self.reject_label,
            novelty=self.novelty,
            device=self.device,
            # What stands for no label is None by now; -1 may be a class.
            unlabeled=MISSING,
            random_state=self.random_state,
            verbose=self.verbose,
            **({} if self.prior is None else self._words().of_head()),
        )

    def _fit_to(self, support: ImageSupport) -> "ImageClassifier":
        """Fit the heads to features."""
        head, task = self._few_shot(), task_of(self)
        with task.hand_to(head, "fit-heads"):
            head.fit(support.features, support.y, support.weights)
        self._take(head, support)
        with task.part("prediction-sets"):
            self.sets_ = set_state(self.head_, support.features, support.y, support.weights)
        self._judge(support)
        return self

    def _take(self, head: Any, support: ImageSupport) -> None:
        """Set what was fitted, and what is known of the images."""
        self.head_ = head
        self.classes_ = head.classes_
        self.weights_digest_: Any = support.weights_digest
        self.text_weights_digest_: Any = support.text_weights_digest
        self.kept_, self.skipped_, self.n_copies_ = support.kept, support.skipped, support.n_copies

    def _judge(self, support: ImageSupport) -> None:
        """Set the accuracy and log-loss of the out-of-fold probabilities (n, n_classes), where there are some."""
        known = np.isfinite(self.head_.out_of_fold_proba_).all(1)
        if support.weights is not None:
            known &= support.weights > 0
        n, y, table = int(known.sum()), np.asarray(support.y[known].tolist()), self.head_.out_of_fold_proba_[known]
        n_hits = int((self.classes_[table.argmax(1)] == y).sum())
        accuracy, *ends = proportion_interval(n_hits, n) if n else (np.nan, np.nan, np.nan)
        self._set_scores(accuracy, (ends[0], ends[1]), log_loss(y, table, self.classes_) if n else np.nan)

    def _set_scores(self, accuracy: float, interval: tuple[float, float], loss: float) -> None:
        self.out_of_fold_accuracy_, self.out_of_fold_interval_ = accuracy, interval
        self.out_of_fold_log_loss_ = loss

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

    def _predictor(self) -> FrozenFeatureExtractor:
        """Make the extractor of predictions, which refuses other weights than those fitted with."""
        n_views = self.n_views if self.predict_views is None else self.predict_views
        if isinstance(self.head_, ZeroShotClassifier):
            return self._as_fitted(self._extractor_of_words(n_views))
        # The probe, the first member, reads vectors alone.
        return self._as_fitted(self._extractor(n_views, tokens=bool(self.head_.weights_[1:].any())))

    def _trainer(self) -> FrozenFeatureExtractor:
        """Make the extractor of training images, of vectors alone, which refuses other weights, too."""
        if isinstance(self.head_, ZeroShotClassifier):
            return self._as_fitted(self._extractor_of_words(self.n_views))
        return self._as_fitted(self._extractor(self.n_views, tokens=False))

    def _as_fitted(self, extractor: FrozenFeatureExtractor) -> FrozenFeatureExtractor:
        extractor.weights_digest_ = self.weights_digest_
        if isinstance(extractor, PairedExtractor):
            extractor.partner.weights_digest_ = self.text_weights_digest_
        return extractor

    def _extractor(self, n_views: int, *, tokens: bool) -> FrozenFeatureExtractor:
        extractor = image_extractor(self._of_extractor(n_views), tokens=tokens)
        return extractor if self.prior is None else with_words(extractor, text_model_of(self.model, self.text_model))

    def _extractor_of_words(self, n_views: int) -> FrozenFeatureExtractor:
        """Make an extractor of what is compared with words alone."""
        return words_extractor(self._of_extractor(n_views), text_model_of(self.model, self.text_model))

    def _of_extractor(self, n_views: int) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in OF_THE_EXTRACTOR}, "n_views": n_views}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = tags.input_tags.three_d_array = False
        tags.input_tags.string = tags.no_validation = True
        return tags
