"""The linear probe of the FroFA and big_vision papers: closed-form ridge regression to one-hot targets."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import check_cv
from sklearn.utils._param_validation import HasMethods, Interval

from frofa.augmentations import Augmentation
from frofa.estimators.batched.sharing import Shared, fit_sharing, once
from frofa.estimators.core.confident.calibrating import can_be_left_out
from frofa.estimators.core.confident.parameters import CONFIDENCE, Calibrate, ClassPrior, Novelty
from frofa.estimators.core.linear import LinearClassifier
from frofa.estimators.core.support import Array, Indices, Support
from frofa.estimators.solvers.ridge import RidgePath, decompose
from frofa.estimators.solvers.shrinkage.temperature import LOST
from frofa.estimators.tokens.views import CONSTRAINTS

DEFAULT_ALPHAS = tuple(2.0**k for k in range(-20, 11))


class RidgeProbeClassifier(LinearClassifier):
    """L2-regularised least squares to targets of -1 and +1, in closed form: the linear probe of few-shot papers.

    Features are standardised with the mean and standard deviation of the training data (plus 1e-5), and a constant
    feature of 100 makes the intercept almost unpenalised. One eigendecomposition, of C x C or n x n, whichever is
    smaller, serves every penalty; it is done in float64.

    Parameters
    ----------
    alphas : float or array-like of float, default=None
        Penalties. One is used as given; among several, the one with the least squared error is chosen on the training
        data. None is the path of the paper, 2^k for k = -20..10.
    cv : int, splitter or iterable, default=None
        Splits by which a penalty is chosen, as in scikit-learn; None is efficient leave-one-out. Augmented copies are
        left out with their sample, and errors are those of the samples as they are. At one shot a class, every left-out
        sample is the only one of its class, and the choice is little more than a guess in either way.
    class_weight : dict or "balanced", default=None
        Weight of each class, by label, or inversely proportional to its number of samples, as in scikit-learn; None is
        1 for all.
    augment : Augmentation, default=None
        Augmentation of `frofa.augmentations`, which a search reaches as ``augment`` and ``augment__level``: the probe
        is fitted to the samples and to augmented copies of them, drawn once, in float32. Tokens are augmented as
        tokens, and then averaged over those that are seen. Pooled features (n, C) have no positions: augmentations that
        need a grid are errors, and variant ``"c2"`` and `Contrast` are the identity. Those that mix labels are refused.
    n_augmented : int, default=10
        Number of copies of each sample, with `augment` only. A sample and its copies share its weight, ``1 /
        (n_augmented + 1)`` each, so that the total weight, and with it the meaning of a penalty, is that of the
        samples. Leave-one-out solves a system of ``n_augmented + 1`` equations for each sample and penalty.
    n_views : int, default=0
        Number of augmented views at prediction: scores are the mean over the features as they are and these views,
        which are drawn once and treat all samples alike. So a few views of an augmentation that shifts channels, such
        as brightness, lean all predictions to the same classes.
    n_prefix : int, default=0
        Number of class and register tokens, which come first and are not augmented; of use with tokens only.
    grid : (int, int), default=None
        Height and width of the grid that the other tokens lie on, row by row; None takes it to be a square.
    random_state : int, RandomState or None, default=None
        Seed that copies and views are drawn from; None draws others at each fit.
    calibrate : bool, "temperature" or "vector", default=True
        Fit probabilities to samples that were left out: by a temperature, or a scale and an offset of each class where
        these are worth more on samples that they were not fitted to. A name forces the one or the other; False leaves
        scores as they are.
    class_prior : "uniform", "empirical", array-like of shape (n_classes,) or dict, default=None
        Probability of each class before an image is seen, as in `ShrinkageProbeClassifier`; None is what the head has
        learnt, the frequencies of the weighted samples.
    reject : float, default=None
        Share, between 0 and 1, of known images that `predict` may reject as none of the classes; None rejects none.
    reject_label : object, default=None
        What `predict` calls rejected images; None is -1 for classes that are numbers, and "none of these" otherwise.
    novelty : {"auto", "mahalanobis", "relative", "knn", "energy"} or None, default="auto"
        How `novelty_score` tells images of other classes, as in `NoveltyDetector`, or by the energy of logits, which
        costs heads without leave-one-out five more fits. None keeps nothing of the training images.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, C), or (1, C) for two classes
        For features as given, not standardised ones.
    intercept_ : ndarray of shape (n_classes,) or (1,)
    alpha_ : float
        The penalty used.
    errors_ : ndarray of shape (n_alphas,) or None
        Mean squared validation error of each penalty, where there was a choice.
    temperature_ : float
        What scores are divided by for `predict_proba`: fitted to the predictions of held-out samples (leave-one-out, or
        `cv`); 1 at one shot a class, which says nothing of it.
    class_scales_, class_offsets_ : ndarray of shape (n_classes,) or None
        What log-probabilities by the temperature are multiplied by, and what is added: by vector scaling, and for
        `class_prior`. Where there are any, `decision_function` is the logits.
    loo_proba_ : ndarray of shape (n_samples, n_classes)
        Probabilities of each training sample without it, with the standardisation and penalty of all; NaN where its
        class has no other sample, or it has no weight. Not there with `cv`.
    augment_seed_ : int
        The seed that copies and views were drawn from, with `augment` only.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int

    Notes
    -----
    For `GaussianNoise`, pooled features need no copies: noise is a penalty. Let its standard deviation on sample i, of
    weight w_i, be s_i (``std`` times the range of the sample). In expectation it adds ``sum(w_i * s_i ** 2) * |coef_|
    ** 2`` to the squared error, and ``mean(s_i ** 2)`` to the variance ``sigma_c ** 2`` by which channel c is
    standardised. What many copies approach is therefore ridge regression without noise, standardised by these
    ``sigma_c``, with penalty ``alpha + sum(w_i * s_i ** 2) / sigma_c ** 2`` on channel c: where channels are of one
    scale, a larger `alphas`. A finite number of copies m and the sample itself give ``m / (m + 1)`` of both terms. Of
    noise on N tokens, averaging leaves ``s_i ** 2 / N``.

    References
    ----------
    big_vision, ``evaluators/fewshot_lsr.py``; Bär et al., CVPR 2024, "linear probe"; Bishop, "Training with Noise is
    Equivalent to Tikhonov Regularization", Neural Computation 1995.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import RidgeProbeClassifier
    >>> features = np.random.default_rng(0).normal(size=(20, 8)) + np.repeat([[0], [3]], 10, axis=0)
    >>> RidgeProbeClassifier().fit(features, np.repeat(["cat", "dog"], 10)).predict(features[[0, 19]]).tolist()
    ['cat', 'dog']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alphas": [Interval(Real, 0, None, closed="neither"), "array-like", None],
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split"]), "array-like", None],
        "class_weight": [dict, str, None],
        **CONSTRAINTS,
        **CONFIDENCE,
    }
    _partly_unknown = ("loo_proba_",)
    _opposite = -1.0
    _lost = LOST

    def __init__(
        self,
        alphas: float | npt.ArrayLike | None = None,
        *,
        cv: Any = None,
        class_weight: dict[Any, float] | str | None = None,
        augment: Augmentation | None = None,
        n_augmented: int = 10,
        n_views: int = 0,
        n_prefix: int = 0,
        grid: tuple[int, int] | None = None,
        random_state: int | np.random.RandomState | None = None,
        calibrate: Calibrate = True,
        class_prior: ClassPrior = None,
        reject: float | None = None,
        reject_label: Any = None,
        novelty: Novelty = "auto",
    ):
        self.alphas = alphas
        self.cv = cv
        self.class_weight = class_weight
        self.augment = augment
        self.n_augmented = n_augmented
        self.n_views = n_views
        self.n_prefix = n_prefix
        self.grid = grid
        self.random_state = random_state
        self.calibrate = calibrate
        self.class_prior = class_prior
        self.reject = reject
        self.reject_label = reject_label
        self.novelty = novelty

    @property
    def _left_out_in(self) -> str | None:
        return "loo_proba_" if self.cv is None else None

    def _fit(self, support: Support) -> Array:
        return self._fit_sharing(support, {})

    def _fit_sharing(self, support: Support, shared: Shared) -> Array:
        """Choose a penalty, and solve; decompositions are shared by fits on the same samples.

        Scores (n, n_classes) of left-out samples are returned.
        """
        self.__dict__.pop("loo_proba_", None)  # of a fit with other parameters
        # Fits that share have the same samples: one decomposition serves all penalties of equal weights.
        alphas, weights = self._check_alphas(), support.weights.tobytes()
        path = once(shared, weights, lambda: self._decompose(support))
        splits = self.cv if self.cv is None or isinstance(self.cv, Integral) else object()  # which may split at random
        held_out = once(shared, (weights, splits), lambda: self._held_out(support, path))
        self.errors_ = None
        if len(alphas) > 1:
            self.errors_ = np.array([held_out(alpha).error() for alpha in alphas])
        self.alpha_ = float(alphas[0] if self.errors_ is None else alphas[self.errors_.argmin()])
        coef, intercept = path.solve(self.alpha_)
        self.coef_, self.intercept_ = np.ascontiguousarray(coef.T), intercept
        # Scores (n, n_targets) to (n, n_classes): two classes have one target, of -1 and +1.
        scores = held_out(self.alpha_).of_samples(len(support.codes))
        return np.hstack([-scores, scores]) if scores.shape[1] == 1 else scores

    _fit_many = staticmethod(fit_sharing)
    """Engine of `fit_many`: one eigendecomposition for all penalties on the same samples."""

    def _as_of_all(self, support: Support, left_out: Array) -> Array:
        """Take nothing from a class of one sample: its scores for other classes spread much less than new ones do."""
        return np.where(can_be_left_out(support, len(self.classes_))[:, None], left_out, np.nan)

    def _check_alphas(self) -> Array:
        values = DEFAULT_ALPHAS if self.alphas is None else self.alphas
        alphas = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if alphas.ndim != 1 or not len(alphas) or not (np.isfinite(alphas) & (alphas > 0)).all():
            raise ValueError(
                "The 'alphas' parameter of RidgeProbeClassifier must be a positive float or a list of them. "
                f"Got {self.alphas!r}."
            )
        return alphas

    def _decompose(self, support: Support) -> RidgePath:
        part = support.weighted().augmented()
        return decompose(part.features, self._targets(part), part.weights)

    def _targets(self, support: Support) -> Array:
        targets = 2.0 * np.eye(len(self.classes_))[support.codes] - 1
        return targets[:, 1:] if len(self.classes_) == 2 else targets

    def _held_out(self, support: Support, path: RidgePath) -> Callable[[float], "_HeldOut"]:
        """Return what predicts samples, for a penalty, by paths that did not see them."""
        if self.cv is None:
            part, used = support.weighted(), np.flatnonzero(support.weights)
            targets = self._targets(part)
            return lambda alpha: _HeldOut(path.leave_one_out(targets, alpha, part.group_size), targets, part, used)
        splits = list(check_cv(self.cv, support.codes, classifier=True).split(support.features, support.codes))
        folds = [(self._decompose(support.rows(train)), support.rows(valid).features) for train, valid in splits]
        # Left-out samples fold by fold, in the order in which `predict` stacks their scores.
        held_out = np.concatenate([valid for _, valid in splits])
        part = support.rows(held_out)
        targets = self._targets(part)

        def predict(path: RidgePath, features: Array, alpha: float) -> Array:
            coef, intercept = path.solve(alpha)
            return features @ coef + intercept

        return lambda alpha: _HeldOut(np.vstack([predict(*fold, alpha) for fold in folds]), targets, part, held_out)


class _HeldOut(NamedTuple):
    """Scores (n, n_targets) of samples by models that did not see them, with the positions (n,) of these."""

    scores: Array
    targets: Array
    support: Support
    rows: Indices

    def error(self) -> float:
        """Mean squared error."""
        return float(np.average(((self.scores - self.targets) ** 2).mean(1), weights=self.support.weights))

    def of_samples(self, n: int) -> Array:
        """Scores (n, n_targets) sample by sample, the mean where one was held out several times; NaN where never."""
        total, times = np.zeros((n, self.scores.shape[1])), np.bincount(self.rows, minlength=n)[:, None]
        np.add.at(total, self.rows, self.scores)
        found: Array = np.where(times > 0, total / np.maximum(times, 1), np.nan)
        return found
