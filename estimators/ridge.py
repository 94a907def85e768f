"""The linear probe of the FroFA and big_vision papers: closed-form ridge regression to one-hot targets."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.model_selection import check_cv
from sklearn.utils._param_validation import HasMethods, Interval

from frofa.augmentations import Augmentation
from frofa.estimators.batched.sharing import Shared, fit_sharing, once
from frofa.estimators.core.linear import LinearClassifier
from frofa.estimators.core.support import Array, Support
from frofa.estimators.solvers.ridge import RidgePath, decompose
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
        `cv`); 1 at one shot a class.
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
    }
    _opposite = -1.0

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

    def _fit(self, support: Support) -> None:
        self._fit_sharing(support, {})

    def _fit_sharing(self, support: Support, shared: Shared) -> None:
        """Choose a penalty and a temperature, and solve; decompositions are shared by fits on the same samples."""
        # Fits that share have the same samples: one decomposition serves all penalties of equal weights.
        alphas, weights = self._check_alphas(), support.weights.tobytes()
        path = once(shared, weights, lambda: self._decompose(support))
        splits = self.cv if self.cv is None or isinstance(self.cv, Integral) else object()  # which may split at random
        held_out = once(shared, (weights, splits), lambda: self._held_out(support, path))
        self.errors_ = None
        if len(alphas) > 1:
            self.errors_ = np.array([held_out(alpha).error() for alpha in alphas])
        self.alpha_ = float(alphas[0] if self.errors_ is None else alphas[self.errors_.argmin()])
        self.temperature_ = 1.0
        if np.bincount(support.codes).max() > 1:
            self.temperature_ = held_out(self.alpha_).best_temperature()
        coef, intercept = path.solve(self.alpha_)
        self.coef_, self.intercept_ = np.ascontiguousarray(coef.T), intercept

    _fit_many = staticmethod(fit_sharing)
    """Engine of `fit_many`: one eigendecomposition for all penalties on the same samples."""

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
            part = support.weighted()
            targets = self._targets(part)
            return lambda alpha: _HeldOut(path.leave_one_out(targets, alpha, part.group_size), targets, part)
        splits = list(check_cv(self.cv, support.codes, classifier=True).split(support.features, support.codes))
        folds = [(self._decompose(support.rows(train)), support.rows(valid).features) for train, valid in splits]
        # Left-out samples fold by fold, in the order in which `predict` stacks their scores.
        part = support.rows(np.concatenate([valid for _, valid in splits]))
        targets = self._targets(part)

        def predict(path: RidgePath, features: Array, alpha: float) -> Array:
            coef, intercept = path.solve(alpha)
            return features @ coef + intercept

        return lambda alpha: _HeldOut(np.vstack([predict(*fold, alpha) for fold in folds]), targets, part)

    def _probability_scale(self) -> float:
        return 1 / self.temperature_


class _HeldOut(NamedTuple):
    """Scores (n, n_targets) of samples by models that did not see them."""

    scores: Array
    targets: Array
    support: Support

    def error(self) -> float:
        """Mean squared error."""
        return float(np.average(((self.scores - self.targets) ** 2).mean(1), weights=self.support.weights))

    def best_temperature(self) -> float:
        """Minimise the cross-entropy over what scores are divided by.

        Labels are smoothed by one count a class (Laplace's rule), without which the minimum is at zero where every
        prediction is right.
        """
        # Two classes: (n, 1) to (n, 2), as targets are -1 and +1.
        scores = np.hstack([-self.scores, self.scores]) if self.scores.shape[1] == 1 else self.scores
        total = self.support.weights.sum()
        own = scores[np.arange(len(scores)), self.support.codes]
        # Scores (n,) of smoothed labels: `total` counts of a sample's own label, and one of each class.
        own = (total * own + scores.sum(1)) / (total + scores.shape[1])

        def cross_entropy(log_temperature: float) -> float:
            t = np.exp(log_temperature)
            return float(np.average(logsumexp(scores / t, axis=1) - own / t, weights=self.support.weights))

        return float(np.exp(minimize_scalar(cross_entropy, bounds=(-5, 5), method="bounded").x))
