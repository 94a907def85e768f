"""Logistic regression with scikit-learn's objective, solved where the samples are few and the channels many."""

import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval

from frofa.augmentations import Augmentation
from frofa.compute.devices import resolve_device
from frofa.estimators.batched.jobs import Fitted, Job, fit_each
from frofa.estimators.batched.sharing import check_jobs
from frofa.estimators.core.confident.calibrating import calibration_folds
from frofa.estimators.core.confident.parameters import CONFIDENCE, Calibrate, ClassPrior, Novelty
from frofa.estimators.core.linear import LinearClassifier
from frofa.estimators.core.support import Array, Support
from frofa.estimators.solvers.logistic import Chain, Fit, solve_chains
from frofa.estimators.solvers.stages import Stage
from frofa.estimators.tokens.views import CONSTRAINTS


class LogisticProbeClassifier(LinearClassifier):
    """L2-regularised logistic regression, multinomial for more than two classes.

    The objective and its minimum are those of `sklearn.linear_model.LogisticRegression`: ``C`` times the summed
    cross-entropy plus half the squared norm of the weights, the intercept not penalised. It is found by preconditioned
    L-BFGS, along a path of growing `C` (of which those of a search on the same samples are one), and in the span of the
    samples where they are fewer than the channels.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the penalty; ``np.inf`` is none.
    tol : float, default=1e-6
        Bound of the largest element of the gradient of the mean objective, features centred (and divided by a power of
        two near the root mean square of the largest channel, where that is beyond 1024). The objective's distance from
        its minimum, as estimated and relative to it, is at most a hundredth of that: 1e-8 by default, at any `C`. Steps
        are in float32 where that suffices and in float64 where it does not, and every fit is checked from its weights
        in float64. Some 1e-10 can be asked for.
    max_iter : int, default=1000
        Most steps; a fit that takes them all without reaching `tol` warns.
    class_weight : dict or "balanced", default=None
        Weight of each class, by label, or inversely proportional to its number of samples, as in scikit-learn; None is
        1 for all.
    device : str, default="auto"
        Device that fits: a torch device, or ``"auto"``, which is the GPU where there is one. Fitted weights are on the
        CPU.
    augment : Augmentation, default=None
        Augmentation whose copies of the samples the probe is fitted to, beside the samples. This and all that follow
        are as in `RidgeProbeClassifier`.
    n_augmented : int, default=10
        Number of copies of each sample, which share its weight.
    n_views : int, default=0
        Number of augmented views that scores are averaged over at prediction, beside the features as they are.
    n_prefix : int, default=0
        Number of tokens at the front that are not augmented.
    grid : (int, int), default=None
        Height and width of the grid of tokens; None is a square.
    random_state : int, RandomState or None, default=None
        Seed that copies and views are drawn from; None draws others at each fit.
    calibrate : bool, "temperature" or "vector", default=False
        Fit probabilities to samples that heads of 5 folds did not see, which are trained beside this one: by a
        temperature, or a scale and an offset of each class where these are worth more on samples that they were not
        fitted to. A name forces the one or the other; False leaves scores as they are.
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
    intercept_ : ndarray of shape (n_classes,) or (1,)
    n_iter_ : int
        Steps taken, without those at smaller `C` on the way.
    temperature_ : float
        What scores are divided by for `predict_proba`: fitted to samples by heads of other folds; 1 without
        `calibrate`, and where all samples are the only one of their class.
    class_scales_, class_offsets_ : ndarray of shape (n_classes,) or None
        What log-probabilities by the temperature are multiplied by, and what is added: by vector scaling, and for
        `class_prior`. Where there are any, `decision_function` is the logits.
    augment_seed_ : int
        The seed that copies and views were drawn from, with `augment` only.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int

    Examples
    --------
    Features of different scales are best standardised first, ``make_pipeline(StandardScaler(),
    LogisticProbeClassifier(C=0.01))``.

    >>> import numpy as np
    >>> from frofa.estimators import LogisticProbeClassifier
    >>> features = np.random.default_rng(0).normal(size=(20, 8)) + np.repeat([[0], [3]], 10, axis=0)
    >>> LogisticProbeClassifier(C=0.1).fit(features, np.repeat(["cat", "dog"], 10)).predict(features[[0, 19]]).tolist()
    ['cat', 'dog']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="right")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, str, None],
        "device": [str],
        **CONSTRAINTS,
        **CONFIDENCE,
    }

    def __init__(
        self,
        C: float = 1.0,
        *,
        tol: float = 1e-6,
        max_iter: int = 1000,
        class_weight: dict[Any, float] | str | None = None,
        device: str = "auto",
        augment: Augmentation | None = None,
        n_augmented: int = 10,
        n_views: int = 0,
        n_prefix: int = 0,
        grid: tuple[int, int] | None = None,
        random_state: int | np.random.RandomState | None = None,
        calibrate: Calibrate = False,
        class_prior: ClassPrior = None,
        reject: float | None = None,
        reject_label: Any = None,
        novelty: Novelty = "auto",
    ):
        self.C = C
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.device = device
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

    def _fit(self, support: Support) -> None:
        chain = self._chain(support, [self._stage()])
        self._take(solve_chains([chain], resolve_device(self.device))[0][0])

    def _out_of_fold(self, support: Support) -> Array:
        """Fit all folds side by side."""
        folds, path = calibration_folds(support.codes, support.weights), [self._stage()]
        scores = np.full((len(folds), len(self.classes_)), np.nan)
        chains = [self._chain(support.rows(folds != fold), path) for fold in range(folds.max() + 1)]
        for fold, [fit] in enumerate(solve_chains(chains, resolve_device(self.device)) if chains else []):
            head = clone(self)
            head.classes_ = self.classes_
            head._take(fit)
            scores[folds == fold] = head._scores(support.features[folds == fold])
        return scores

    @classmethod
    def _fit_many(
        cls, X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any, on_done: Callable[[int], object]
    ) -> list[Fitted]:
        """Engine of `fit_many`: jobs on the same samples, of whatever C, are one path; augmented ones go alone."""
        alone = [i for i, job in enumerate(jobs) if job.estimator.augment is not None]
        results = dict(zip(alone, fit_each(X, y, [jobs[i] for i in alone], sample_weight, on_done), strict=True))
        others = [i for i in range(len(jobs)) if i not in results]
        # Heads on the same features with equal weights are one path, whatever their C.
        paths: dict[Any, tuple[Support, dict[int, LogisticProbeClassifier]]] = {}
        for i, found in zip(others, check_jobs(X, y, [jobs[k] for k in others], sample_weight), strict=True):
            if isinstance(found, Exception):
                results[i] = found
                continue
            head, support = found
            key = head.device, id(support.features), support.weights.tobytes()
            paths.setdefault(key, (support, {}))[1][i] = head
        on_done(len(results) - len(alone))
        for device in sorted({key[0] for key in paths}):
            results |= _fit_paths([path for key, path in paths.items() if key[0] == device], device, on_done)
        return [results[i] for i in range(len(jobs))]

    def _stage(self) -> Stage:
        return Stage(float(self.C), float(self.tol), int(self.max_iter))

    def _chain(self, support: Support, stages: Sequence[Stage]) -> Chain:
        part = support.weighted().augmented()
        features = np.asarray(part.features, dtype=np.float64)
        return Chain(features, part.codes, part.weights, len(self.classes_), tuple(stages))

    def _take(self, fit: Fit) -> None:
        """Set what was fitted, and warn where it has not converged."""
        self.coef_, self.intercept_, self.n_iter_ = fit.coef, fit.intercept, fit.n_iter
        if not fit.converged:
            warnings.warn(
                f"L-BFGS did not reach tol={self.tol} in {fit.n_iter} steps: scale the features, or raise max_iter.",
                ConvergenceWarning,
                stacklevel=2,
            )


def _fit_paths(
    paths: Sequence[tuple[Support, dict[int, LogisticProbeClassifier]]], device: str, on_done: Callable[[int], object]
) -> dict[int, Fitted]:
    """Fit heads, given by number, path by path: those of a path are on the same samples."""
    numbered = {i: head for _, heads in paths for i, head in heads.items()}
    try:
        where = resolve_device(device)
    except ValueError as error:
        return dict.fromkeys(numbered, error)
    # Stages in ascending C, as a path goes; heads of equal parameters share one.
    stages = [sorted({head._stage() for head in heads.values()}) for _, heads in paths]
    chains = [
        next(iter(heads.values()))._chain(support, path) for (support, heads), path in zip(paths, stages, strict=True)
    ]
    results: dict[int, Fitted] = dict(numbered)
    for (support, heads), path, fits in zip(paths, stages, solve_chains(chains, where, on_done), strict=True):
        for i, head in heads.items():
            try:
                # Where warnings are errors, one that has not converged is a failed fit, and no more.
                head._take(fits[path.index(head._stage())])
                head._finish(support)
            except (ConvergenceWarning, ValueError) as warning:
                results[i] = warning
    return results
