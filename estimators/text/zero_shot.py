"""Classifier by the words for its classes, which needs no image."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.utils import Tags, check_consistent_length
from sklearn.utils.validation import _check_sample_weight

from frofa.blocks import FeatureBlocks
from frofa.compute.arrays import as_features, check_weights
from frofa.estimators.core.blocks import PLAIN, check_blocks
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.confident.novelty import rows_of
from frofa.estimators.core.confident.parameters import CONFIDENCE, Calibrate, ClassPrior, Novelty
from frofa.estimators.core.support import Array, Indices, Support
from frofa.estimators.core.validation import one_label_each
from frofa.estimators.solvers.calibration import Scaling, fit_scaling
from frofa.estimators.solvers.left_out import LEAST, LeftOut, log_frequencies
from frofa.estimators.solvers.shrinkage.priors import log_priors
from frofa.estimators.text.block import refuse_tokens, text_block_of
from frofa.estimators.text.embeddings import ClassTexts, class_texts
from frofa.estimators.text.names import classes_named, looked_up
from frofa.estimators.text.temperature import fit_temperature
from frofa.utils.callbacks import fit_task, with_callbacks


class ZeroShotClassifier(FeatureClassifier):
    """Nearest class by words: the cosine of an image and the name of each class, in the space of an image-text model.

    `fit` needs no image. Where it gets some, with labels, they fit the temperature of the probabilities, and change no
    direction: `ShrinkageProbeClassifier` with ``prior="text"`` learns from images and words.

    Parameters
    ----------
    class_names : mapping of label to str or list of str, or sequence of str, default=None
        Words for each class; several are averaged. A mapping says which classes there are. A sequence has the labels
        themselves, in any order, also with other case, ``_``, ``-`` and blanks; or, where `fit` gets other labels, is
        in their sorted order. None takes the labels of `fit`, with ``_`` read as a space.
    text : object with `transform`, array-like of shape (n_classes, D) or mapping of label to array
        What turns words into vectors, such as `frofa.FrozenTextExtractor`; or vectors of the classes, by label, or one
        for each of `class_names`, in the order in which these are given, and without names in sorted order. Their scale
        is that of CLIP's published weights, 100. A classifier that was loaded has none, and keeps its vectors.
    templates : "auto", str or list of str, default="auto"
        Captions with one ``{}`` each, in which words are embedded, and averaged; ``"{}"`` takes words as they are.
        ``"auto"`` takes those that the text tower was published with, and otherwise eight that suit most images.
    text_block : str, default=None
        The block of `FeatureBlocks` that is in the space of words; None takes ``"text"`` if it is there, else
        ``"projected"``, else ``"pooled"``, else the only one, unless that is ``"mean"``, ``"cls"`` or ``"tokens"``.
    calibrate : bool, "temperature" or "vector", default=True
        Fit probabilities to images, where there are some: by a temperature, or a scale and an offset of each class
        where these are worth more on images that they were not fitted to. A name forces the one or the other. Without
        images, or with False, the temperature is the model's own.
    class_prior : "uniform", "empirical", array-like of shape (n_classes,) or dict, default=None
        Probability of each class before an image is seen, as in `ShrinkageProbeClassifier`; None is equal ones.
    reject : float, default=None
        Share, between 0 and 1, of known images that `predict` may reject as none of the classes; None rejects none. It
        needs images of each class.
    reject_label : object, default=None
        What `predict` calls rejected images; None is -1 for classes that are numbers, and "none of these" otherwise.
    novelty : {"auto", "mahalanobis", "relative", "knn", "energy"} or None, default="auto"
        How `novelty_score` tells images unlike those that `fit` got, as in `NoveltyDetector`, or by the energy of
        logits. None keeps nothing of the images.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Sorted labels.
    text_features_ : ndarray of shape (n_classes, D)
        Embeddings of the classes, of length one.
    logit_scale_, logit_bias_ : float
        What cosines are multiplied by, and what is added; the bias changes no probability.
    temperature_ : float
        What scores are divided by before the softmax of `predict_proba`: 1, or fitted to images.
    class_scales_, class_offsets_ : ndarray of shape (n_classes,) or None
        What log-probabilities by the temperature are multiplied by, and what is added: by vector scaling, and for
        `class_prior`. Where there are any, `decision_function` is the logits.
    loo_proba_ : ndarray of shape (n_samples, n_classes)
        Probabilities of the images that `fit` got, of which words know nothing; only with images. NaN where an image
        has no weight.
    n_features_in_ : int
        Width D of the space.

    Raises
    ------
    ValueError, TypeError
        By `fit`: if classes have no names, names no vectors, or images are not in the same space.

    References
    ----------
    Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021; Zhai et al.,
    "Sigmoid loss for language image pre-training", ICCV 2023.

    Examples
    --------
    Vectors stand for a text tower here; ``text=FrozenTextExtractor(model)`` makes them of the names.

    >>> from frofa.estimators import ZeroShotClassifier
    >>> words = {"cat": [1.0, 0.0], "dog": [0.0, 1.0]}
    >>> head = ZeroShotClassifier(text=words).fit()
    >>> head.predict([[3.0, 1.0], [0.1, 0.2]]).tolist(), head.classes_.tolist()
    (['cat', 'dog'], ['cat', 'dog'])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "class_names": [Mapping, "array-like", None],
        "text": [object],
        "templates": [object],
        "text_block": [str, None],
        **CONFIDENCE,
    }
    _partly_unknown = ("loo_proba_",)
    _unsaved = ("text",)

    def __init__(
        self,
        class_names: Any = None,
        *,
        text: Any = None,
        templates: str | Iterable[str] = "auto",
        text_block: str | None = None,
        calibrate: Calibrate = True,
        class_prior: ClassPrior = None,
        reject: float | None = None,
        reject_label: Any = None,
        novelty: Novelty = "auto",
    ):
        self.class_names = class_names
        self.text = text
        self.templates = templates
        self.text_block = text_block
        self.calibrate = calibrate
        self.class_prior = class_prior
        self.reject = reject
        self.reject_label = reject_label
        self.novelty = novelty

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        return tags

    @property
    def _left_out_in(self) -> str | None:
        return "loo_proba_"

    @with_callbacks
    def fit(self, X: Any = None, y: Any = None, sample_weight: Any = None) -> "ZeroShotClassifier":
        """Embed the names of the classes, and calibrate probabilities where there are images with labels.

        Parameters
        ----------
        X : array-like of shape (n, D), or FeatureBlocks, default=None
            Features of images, in the space of words; None is no image. Tokens (n, N, D) are refused, as no average of
            them is in that space, unless `text_block` is ``"features"``.
        y : array-like of shape (n,), default=None
            Their labels, which need not be of all classes if `class_names` is a mapping; None is none, and images are
            then checked and of no other use.
        sample_weight : array-like of shape (n,), default=None
            Non-negative; only their proportions matter.

        Returns
        -------
        self
        """
        self._check_parameters()
        if X is None and (y is not None or sample_weight is not None):
            raise ValueError("ZeroShotClassifier.fit needs images for labels and weights. Got X=None.")
        with fit_task(self, X, y, sample_weight):
            self._forget()
            images = None if X is None else self._check_features(X, reset=True)
            labels = None if y is None else one_label_each(y, type(self).__name__)
            self._learn_words(labels, images)
            support = None
            if images is not None and labels is not None:
                support = self._images(images, labels, sample_weight)
            self._finish_words(support)
        return self

    def _forget(self) -> None:
        for name in ("loo_proba_", "novelty_", "n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)

    def _learn_words(self, labels: Array | None, images: FeatureBlocks | None) -> None:
        if (kept := self._kept_texts()) is None:
            self.classes_ = self._classes(labels)
        self._check_named(labels)
        texts = self._texts() if kept is None else kept
        width = texts.embeddings.shape[1]
        if images is not None:
            text_block_of(images, width=width)
        self.n_features_in_ = width
        self.text_features_, self.logit_scale_, self.logit_bias_ = texts

    def _kept_texts(self) -> ClassTexts | None:
        """Give the words of a classifier that was loaded: it has no text tower any more."""
        if self.text is not None or not hasattr(self, "text_features_"):
            return None
        if isinstance(self.class_names, Mapping) and self.class_names.keys() != set(self.classes_.tolist()):
            return None
        return ClassTexts(self.text_features_, self.logit_scale_, self.logit_bias_)

    def _classes(self, labels: Array | None) -> Array:
        """Say which classes there are, sorted: those of the labels (n,), if nothing else tells."""
        by_label = self.class_names is None and isinstance(self.text, Mapping)
        given = dict.fromkeys(self.text, "-") if by_label else self.class_names
        return classes_named(given, labels, type(self).__name__)

    def _check_named(self, labels: Array | None) -> None:
        """Check that each of the labels (n,) is a class."""
        by_label = dict.fromkeys(self.classes_.tolist())
        for label in [] if labels is None else np.unique(labels).tolist():
            looked_up(by_label, label, "text" if self.class_names is None else "class_names")

    def _texts(self) -> ClassTexts:
        return class_texts(self.classes_, self.class_names, self.text, self.templates)

    def _images(self, images: FeatureBlocks, labels: Array, sample_weight: Any) -> Support:
        check_consistent_length(images, labels)
        codes = np.searchsorted(self.classes_, labels).astype(np.intp)
        weights = _check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True)
        check_weights(weights)
        return Support(self._prepare(images), codes, weights)

    def _finish_words(self, support: Support | None) -> None:
        if support is not None:
            self._check_can_reject(support)
            self._finish(support, self._scores(support.features), alone=True)
            return
        if self.reject is not None:
            raise ValueError(f"reject={self.reject:g} needs images, to know how alike they are. Got none with labels.")
        offsets = self._offsets(np.array([], np.intp), np.array([]))
        shift = offsets if offsets.any() else None
        self.temperature_, self.class_scales_, self.class_offsets_ = Scaling(1.0, None, shift)

    def _check_can_reject(self, support: Support) -> None:
        lacking = np.setdiff1d(np.arange(len(self.classes_)), support.codes[support.weights > 0])
        if self.reject is not None and lacking.size:
            raise ValueError(
                f"reject={self.reject:g} needs images of each class: those of a class without would all be rejected. "
                f"Got none of {self.classes_.tolist()[lacking[0]]!r}."
            )

    def _calibrate(self, support: Support, left_out: Array | None) -> None:
        """Fit to all images with weight: words know nothing of any of them."""
        scores = np.asarray(left_out)
        used = support.weights > 0
        seen = self._seen(support).rows(used)
        shift = seen.offsets if seen.offsets.any() else None
        scaling = Scaling(1.0, None, shift)
        if self.calibrate:
            scaling = fit_scaling(scores[used], seen, self.calibrate, fit_temperature(scores[used], seen))
        self.temperature_, self.class_scales_, self.class_offsets_ = scaling
        self.loo_proba_ = softmax(np.where(used[:, None], self._logits_of(scores), np.nan), axis=1)

    def _seen(self, support: Support) -> LeftOut:
        """Say what images count: as if there were as many of each class, or as many as priors say."""
        offsets = self._offsets(support.codes, support.weights)
        n_classes = len(self.classes_)
        equal = np.full(n_classes, -np.log(n_classes))
        counted = LeftOut.of(support.codes, support.weights, equal + offsets, n_classes, equal)
        return counted._replace(offsets=offsets, absent=None)

    def _offsets(self, codes: Indices, weights: npt.NDArray[np.float64]) -> Array:
        """Logarithms (n_classes,) of priors, relative to equal ones, which words have."""
        n_classes = len(self.classes_)
        if self.class_prior is None:
            return np.zeros(n_classes)
        logs = log_priors(self.class_prior, None, self.classes_)
        if logs is None:  # those of the images
            if not codes.size:
                raise ValueError("class_prior='empirical' needs images with labels. Got none.")
            logs = log_frequencies(codes, weights, n_classes)
        offsets: Array = np.maximum(logs, np.log(LEAST)) + np.log(n_classes)
        return offsets

    def _out_of_fold(self, support: Support) -> Array:
        return self._scores(support.features)

    def _fit(self, support: Support) -> Array:
        """Score the images by the words, of which nothing was fitted to them."""
        return self._scores(support.features)

    def _check_features(self, X: Any, *, reset: bool) -> FeatureBlocks:  # type: ignore[override]
        """Check the block in the space of words, and leave the others out."""
        X = as_features(X)
        refuse_tokens(X, self.text_block, type(self).__name__)
        if isinstance(X, FeatureBlocks):
            name = text_block_of(X, self.text_block, None if reset else self.n_features_in_)
            return check_blocks(self, X.select([name]), widths=None, reset=reset)
        return check_blocks(self, X, widths=None if reset else {PLAIN: self.n_features_in_}, reset=reset)

    def _prepare(self, tokens: Any) -> Array:
        """Average unit vectors of all views, and bring the mean to length one: (n, D)."""
        return rows_of(tokens)

    def _scores(self, features: Array) -> Array:
        return ClassTexts(self.text_features_, self.logit_scale_, self.logit_bias_).scores(features)
