"""Detector of samples unlike all that it was fitted to, on features alone."""

import warnings
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, column_or_1d

from frofa.blocks import FeatureBlocks
from frofa.compute.arrays import as_features, as_labels
from frofa.estimators.core.blocks import check_blocks
from frofa.estimators.core.confident.novelty import check_share, rows_of, some_of
from frofa.estimators.core.support import Array
from frofa.estimators.solvers.novelty.ranks import p_values, threshold
from frofa.estimators.solvers.novelty.scores import BY_ROWS, left_out_scores_of, scores_of
from frofa.exceptions import TooFewSamplesWarning
from frofa.utils.callbacks import CallbackSupportMixin, tells_callbacks


class NoveltyDetector(CallbackSupportMixin, OutlierMixin, BaseEstimator):
    """Detector of images unlike all that it was fitted to, which rejects a stated share of those that are like them.

    It needs no images of the other kind. Each training image is scored as if it had not been there, exactly, and a new
    one is novel if its score is among the largest of these. So ``reject=0.05`` turns away about one image in 20 of the
    known kinds, whatever else is shown; how many of the others it turns away depends on the features.

    Parameters
    ----------
    method : {"auto", "mahalanobis", "relative", "knn"}, default="auto"
        What is novel, of features of length one. ``"mahalanobis"`` is the squared distance to the nearest class mean,
        by a shrunk covariance within classes, over ``1 + 1 / m`` for a class of m images, as means of few are off.
        ``"relative"`` is that less the distance to the mean of all images, by the covariance about it. ``"auto"`` takes
        off a part, ``0.8 * m / (m + 4)``, of the distance to the centre of the class means, by the covariance within
        classes: on training images of six sets by four backbones, it told others best of these. ``"knn"`` is one minus
        the mean cosine to the five nearest images.
    reject : float, default=0.05
        Share, between 0 and 1, of known images that `predict` takes for novel. It needs ``1 / reject - 1`` images.

    Attributes
    ----------
    offset_ : float
        What `score_samples` of novel images are below; minus infinity where images are too few to tell.
    scores_ : ndarray of shape (n_kept,)
        `score_samples` of the training images, each scored by the others. At most 1000 images are kept, evenly among
        the classes, but five of each at least.
    rows_ : ndarray of shape (n_kept, D)
        Their features, of length one, in float16.
    codes_ : ndarray of shape (n_kept,)
        Their classes, numbered.
    blocks_ : dict of str to int
        Name and width of each block of features.
    n_features_in_ : int

    Notes
    -----
    A left-out image leaves its class one smaller than a new image finds it, for which the division by ``1 + 1 / m``
    makes up. Measured, shares are within a point of `reject` on average at five images a class and more. At two, they
    are off by several points, and at one, no class is left to compare with (``docs/confidence.md``).

    References
    ----------
    Lee et al., "A simple unified framework for detecting out-of-distribution samples", NeurIPS 2018; Ren et al., "A
    simple fix to Mahalanobis distance", 2021; Sun et al., "Out-of-distribution detection with deep nearest neighbors",
    ICML 2022; Laxhammar and Falkman, "Conformal prediction for distribution-independent anomaly detection", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import NoveltyDetector
    >>> rng = np.random.default_rng(0)
    >>> known = rng.normal(size=(40, 8)) + np.repeat([[6.0] * 4 + [0.0] * 4, [0.0] * 4 + [6.0] * 4], 20, axis=0)
    >>> detector = NoveltyDetector(reject=0.05).fit(known, np.repeat(["cat", "dog"], 20))
    >>> detector.predict([[6, 6, 6, 6, 0, 0, 0, 0], [-6, 6, -6, 6, -6, 6, -6, 6]]).tolist()
    [1, -1]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "method": [StrOptions(set(BY_ROWS))],
        "reject": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self, method: Literal["auto", "mahalanobis", "relative", "knn"] = "auto", *, reject: float = 0.05
    ) -> None:
        self.method = method
        self.reject = reject

    @tells_callbacks
    def fit(self, X: Any, y: Any = None) -> "NoveltyDetector":
        """Keep what is known, and find the threshold.

        Parameters
        ----------
        X : FeatureBlocks, array-like of shape (n, C) or (n, N, C), or RaggedTokens
            Features of known images: blocks, each with all views of an image; vectors; or tokens, which are averaged.
        y : array-like of shape (n,), default=None
            Their classes, each of which is a kind by itself; None takes all for one kind.

        Returns
        -------
        self

        Warns
        -----
        TooFewSamplesWarning
            If images are too few for the share, and nothing is rejected: 19 are needed for ``reject=0.05``. It is no
            error, as scores are of use without a threshold.
        """
        self._validate_params()
        blocks = check_blocks(self, as_features(X), widths=None, reset=True)
        codes = np.zeros(len(blocks), np.intp)
        if y is not None:
            labels = column_or_1d(as_labels(y), warn=True)
            check_consistent_length(blocks, labels)
            codes = np.unique(labels, return_inverse=True)[1]
        name = type(self).__name__
        if self.n_features_in_ == 1:
            raise ValueError(f"{name} compares directions, and needs 2 features or more. Got 1 feature(s).")
        if len(blocks) < 2:
            raise ValueError(f"{name} leaves samples out, and needs 2 samples or more. Got 1 sample.")
        kept = some_of(codes, np.ones(len(codes)))
        self.blocks_ = blocks.widths
        self.rows_, self.codes_ = rows_of(blocks[kept]).astype(np.float16), codes[kept]
        self.scores_ = -left_out_scores_of(self._known_rows(), self.codes_, self.method)
        self.offset_ = -self._threshold()
        return self

    def _threshold(self) -> float:
        try:
            check_share(self.reject, len(self.scores_), type(self).__name__)
        except ValueError as error:
            warnings.warn(f"{error} Nothing is rejected.", TooFewSamplesWarning, stacklevel=3)
            return float("inf")
        return threshold(-self.scores_, self.reject)

    def score_samples(self, X: Any) -> Array:
        """Score samples of the kinds that `fit` takes, (n,); as in scikit-learn, smaller is more novel."""
        check_is_fitted(self)
        blocks: FeatureBlocks = check_blocks(self, as_features(X), widths=self.blocks_, reset=False)
        return -scores_of(self._known_rows(), self.codes_, rows_of(blocks), self.method)

    def decision_function(self, X: Any) -> Array:
        """Score samples above the threshold, (n,): what is negative is novel."""
        decisions: Array = self.score_samples(X) - self.offset_
        return decisions

    def predict(self, X: Any) -> Array:
        """Tell samples like those known, 1, from novel ones, -1; shape (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_value(self, X: Any) -> Array:
        """Estimate the share of known images that are as novel as each sample, or more.

        Parameters
        ----------
        X
            Samples, of the kinds that `fit` takes.

        Returns
        -------
        ndarray of shape (n,)
            ``(1 + #{known >= score}) / (n_kept + 1)``, counting training images by their left-out scores, and between
            the ranks by interpolation. Among known images, p-values are spread evenly between 0 and 1.
        """
        scores = self.score_samples(X)
        return p_values(-self.scores_, -scores)

    def novelty_threshold(self, share: float) -> float:
        """Return the score, minus that of `score_samples`, that this share of known images exceed.

        Raises
        ------
        ValueError
            If it takes more images to say so: 19 for 0.05.
        """
        check_is_fitted(self)
        check_share(share, len(self.scores_), type(self).__name__)
        return threshold(-self.scores_, share)

    def _known_rows(self) -> npt.NDArray[np.float64]:
        return self.rows_.astype(np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = False
        return tags
