"""Sets of labels that hold the right one as often as was asked for."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _num_samples, check_is_fitted

from frofa.compute.arrays import as_labels
from frofa.estimators.confidence.closed_form import added, checked, closed_form_of, left_out
from frofa.estimators.confidence.counting import Ranking
from frofa.estimators.confidence.learners import Samples, as_rows, features_of, forget, proba_in_order, show_features_of
from frofa.estimators.confidence.leaving_out import by_folds, by_full, by_jackknife, by_split
from frofa.estimators.confidence.parameters import MethodAndParameter
from frofa.estimators.confidence.promises import check_enough, check_levels
from frofa.estimators.confidence.splitting import hold_out
from frofa.estimators.core.unlabelled import labelled_rows
from frofa.estimators.core.validation import check_labels, require_labels
from frofa.estimators.solvers.conformal.ranks import Counts, accepted
from frofa.estimators.solvers.conformal.scores import Score
from frofa.utils.callbacks import CallbackSupportMixin, tells_callbacks

Array = npt.NDArray[Any]
OF_A_METHOD = ("folds_", "fold_heads_", "left_out_proba_", "support_")
"""Fitted attributes that not all methods have."""


class ConformalClassifier(CallbackSupportMixin, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Sets of labels that hold the right one as often as was asked for, around any classifier.

    At a confidence level of 0.9, nine sets of ten have the right label: on average over samples and new images that
    come from the same source, however good or bad the classifier is. A bad one has large sets.

    Parameters
    ----------
    head : classifier
        With ``predict_proba``: a head of frofa, an `frofa.ImageClassifier`, any classifier or pipeline of scikit-learn.
    confidence_level : float or list of float, default=0.9
        Share of the sets that are to have the right label; of several, `predict_set` gives all.
    method : {"jackknife+", "full", "split", "cv+"}, default="jackknife+"
        How samples are ranked that the head has not seen.

        - ``"jackknife+"``: each by the fit without it, as are new samples beside it. All labels are fitted to, and all
          are ranked, which is why it is the default where labels are a handful. What is proven is ``1 - 2 * (1 -
          level)``, 80 % for 0.9; what is measured is the level. In closed form of the ridge, prototype and shrinkage
          probes and of ``FewShotClassifier(effort="fast")``; of other heads it takes as many fits as there are samples.
        - ``"full"``: the level is proven. Each new sample is added with each label, and all samples are ranked by the
          fits to all others of these; in closed form of the same heads, and refused of others.
        - ``"split"``: the level is proven. One fit, to a part of the samples; the others are ranked. It costs accuracy,
          and so size of the sets, where labels are few.
        - ``"cv+"``: as ``"jackknife+"``, by `n_folds` fits, with the same proof, less some terms in their number.

    score : {"lac", "aps", "raps"}, default="lac"
        How little a label conforms: one minus its probability, which makes the smallest sets; the sum of the
        probabilities of all labels down to it, whose sets are larger for images that are hard and seldom empty; the
        same, plus `penalty` for each label beyond the likeliest `n_free`.
    per_class : bool, default=False
        Rank each label among the samples of its own class, so that the level holds for each class; each class needs as
        many samples as the whole does otherwise: 9 for a level of 0.9, 19 for 0.95.
    n_folds : int, default=5
        Folds of ``"cv+"``, stratified.
    calibration_size : float, default=0.5
        Share of the samples of each class that ``"split"`` does not fit to.
    penalty, n_free : float, int, default=0.01, 1
        Of ``"raps"``; fixed in advance, as choosing them takes labels of its own.
    allow_empty : bool, default=True
        Whether a set may be empty: with ``"lac"`` where no label is as likely as usual, with the others where the
        likeliest is likelier than right labels usually are. If not, it gets the likeliest label, and more sets than
        asked for have the right one.
    randomized : bool, default=False
        Break ties at random, among samples and among the labels that ``"aps"`` adds up, so that the coverage is the
        level itself: without, it is up to ``1 / (n + 1)`` more, and with ``"aps"`` more than that.
    random_state : int, RandomState or None, default=None
        Seed of the parts of ``"split"`` and ``"cv+"``, and of what is drawn with `randomized`; nothing else is random.

    Attributes
    ----------
    head_ : classifier
        Fitted to all samples, with ``"split"`` to those that are not ranked. `predict` and `predict_proba` are its own.
    classes_ : ndarray of shape (n_classes,)
    codes_ : ndarray of int, shape (n,)
        Class of each sample that new ones are ranked among, as a position in ``classes_``.
    left_out_proba_ : ndarray of shape (n, n_classes)
        Probabilities of these samples by fits without them; NaN for the only one of a class. Not of ``"full"``.
    support_ : dict
        The samples, where closed forms need them.
    fold_heads_, folds_ : list of classifier, ndarray of int, shape (n,)
        Fits without a fold, and the fold of each sample, where there are any.
    seed_ : int
        Seed of what is drawn at prediction.
    n_features_in_ : int
        Where the head has it.

    See Also
    --------
    frofa.ImageClassifier.predict_set : The same for images, without another fit.

    Notes
    -----
    The p-value of a label is ``(1 + #{i: s_i >= s}) / (n + 1)``, with the scores s_i of n samples and s of the new one
    with that label; it is in the set where that is above one minus the level. That needs ``n >= level / (1 - level)``.

    With ``"full"``, all samples have to count alike, the new one included. Of the ridge probe, it is the probe itself,
    with mean, deviations, penalty and temperature of all n + 1 samples; of the prototype probe as well. The shrinkage
    probe learns normalisation and weights of its members from labels, which would be to be learnt anew for every label
    of every image: in its place stands one discriminant, of the penalty and the bias that are usual by the number of
    samples, on features centred on the mean of all. On training images, it is as accurate as the probe.
    With ``"jackknife+"``, normalisation, weights and temperature are those of all n samples, as in every leave-one-out
    of these probes, where the proof asks for models that know nothing of a sample.

    References
    ----------
    Vovk et al., "Algorithmic learning in a random world", 2005 (full, split, per class); Barber et al., "Predictive
    inference with the jackknife+", 2021; Romano et al., "Classification with valid and adaptive coverage", 2020 (aps,
    jackknife+ of classifiers); Sadinle et al., "Least ambiguous set-valued classifiers", 2019 (lac); Angelopoulos et
    al., "Uncertainty sets for image classifiers using conformal prediction", 2021 (raps). Names are MAPIE's.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import ConformalClassifier, ShrinkageProbeClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["cat", "dog", "owl"], 10)
    >>> features = rng.normal(size=(30, 8)) + 2 * np.eye(3, 8)[np.repeat([0, 1, 2], 10)]
    >>> model = ConformalClassifier(ShrinkageProbeClassifier(), [0.8, 0.9]).fit(features, y)
    >>> between = np.eye(3, 8)[[0]] + np.eye(3, 8)[[1]]
    >>> labels, sets = model.predict_set(between)
    >>> sets.shape, model.classes_[sets[0, :, 1]].tolist()
    ((1, 3, 2), ['cat', 'dog'])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "head": [HasMethods(["fit", "predict_proba"])],
        "confidence_level": [Interval(Real, 0, 1, closed="neither"), "array-like"],
        "method": [StrOptions({"jackknife+", "full", "split", "cv+"})],
        "score": [StrOptions({"lac", "aps", "raps"})],
        "per_class": ["boolean"],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "calibration_size": [Interval(Real, 0, 1, closed="neither")],
        "penalty": [Interval(Real, 0, None, closed="left")],
        "n_free": [Interval(Integral, 0, None, closed="left")],
        "allow_empty": ["boolean"],
        "randomized": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        head: Any,
        confidence_level: float | Sequence[float] = 0.9,
        *,
        method: Literal["jackknife+", "full", "split", "cv+"] = "jackknife+",
        score: Literal["lac", "aps", "raps"] = "lac",
        per_class: bool = False,
        n_folds: int = 5,
        calibration_size: float = 0.5,
        penalty: float = 0.01,
        n_free: int = 1,
        allow_empty: bool = True,
        randomized: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.head = head
        self.confidence_level = confidence_level
        self.method = method
        self.score = score
        self.per_class = per_class
        self.n_folds = n_folds
        self.calibration_size = calibration_size
        self.penalty = penalty
        self.n_free = n_free
        self.allow_empty = allow_empty
        self.randomized = randomized
        self.random_state = random_state

    head_: Any
    left_out_proba_: Array
    support_: dict[str, Any]
    folds_: npt.NDArray[np.intp]
    fold_heads_: list[Any]

    @tells_callbacks
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "ConformalClassifier":
        """Fit the head, and find out what it makes of samples that it has not seen.

        Parameters
        ----------
        X : array-like, or whatever the head takes
            Features of n samples; images, where the head is an `frofa.ImageClassifier`.
        y : array-like of shape (n,)
            Labels, of two classes at least.
        sample_weight : array-like of shape (n,), default=None
            Weights that the head is fitted with. Samples of weight zero are left out; the others are counted once each,
            whatever their weight, as a guarantee is about samples as they come. With ``method="full"``, weights must be
            equal.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there are too few labels for the confidence level, with the numbers; or ``method="full"`` and a head
            without closed form.
        """
        self._validate_params()
        levels, name = check_levels(self.confidence_level), type(self).__name__
        y = getattr(X, "labels", None) if y is None else y  # of an ImageSet
        require_labels(y, name)
        known = labelled_rows(y, getattr(self.head, "unlabeled", None), warn=False)
        if known is not None:
            raise ValueError(
                f"{name} ranks samples by their labels, and needs one of each. Got {int((~known).sum())} without: "
                "leave them out."
            )
        X = as_rows(X, name)
        labels = check_labels(X, y, sample_weight, name)
        samples = Samples.read(self.head, X, labels.y, None if sample_weight is None else labels.weights)
        self.classes_, codes = np.unique(samples.y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"{name} needs samples with weight of at least 2 classes. Got one class only.")
        # Only what is random draws from a generator.
        random = self.randomized or self.method in ("split", "cv+")
        random_state = check_random_state(self.random_state if random else 0)
        self.seed_ = int(random_state.randint(2**31 - 1))
        forget(self, *OF_A_METHOD)
        split = self.method == "split"
        held = hold_out(codes, self.calibration_size, random_state) if split else np.ones(len(codes), bool)
        self.codes_ = codes[held]
        self._check_enough(levels)
        if split:
            found = by_split(samples, held, self.classes_)
        elif self.method == "full":
            found = by_full(samples, codes, weighted=sample_weight is not None)
        elif self.method == "jackknife+":
            found = by_jackknife(samples, codes, self.classes_)
        else:
            found = by_folds(samples, codes, self.classes_, self.n_folds, random_state)
        for attribute, value in found.items():
            setattr(self, attribute, value)
        show_features_of(self, self.head_)
        return self

    def p_values(self, X: Any) -> npt.NDArray[np.float64]:
        """Give the conformal p-value of each label: the share of samples that conform no better than with it.

        Parameters
        ----------
        X : array-like, or whatever the head takes
            Features of m samples, or images.

        Returns
        -------
        ndarray of shape (m, n_classes)
            A label is in the set of a confidence level c where its p-value is above ``1 - c``.
        """
        check_is_fitted(self)
        return self._p_values(*features_of(self.head_, X))

    def _p_values(self, head: Any, features: Any) -> Array:
        """Rank new samples by a fitted classifier of their features."""
        m = _num_samples(features)
        # The same draws in every call: those of the samples first, then those of new ones, and of ties.
        generator = np.random.RandomState(self.seed_)
        draws = [generator.random_sample(n) for n in (len(self.codes_), m, m)] if self.randomized else [None] * 3
        score = Score(vars(self)["score"], float(self.penalty), int(self.n_free))
        ranking = Ranking(score, self.codes_, len(self.classes_), self.per_class, draws[0], draws[1])
        ties = draws[2]
        return self._counts(ranking, head, features).p_values(None if ties is None else ties[:, None])

    def _counts(self, ranking: Ranking, head: Any, X: Any) -> Counts:
        if hasattr(self, "support_"):
            new = checked(closed_form_of(head), X)
            if not hasattr(self, "left_out_proba_"):
                fits = added(head, self.support_)
                return ranking.within(fits, fits.rows(new))
            return ranking.among_left_out(self.left_out_proba_, left_out(head, self.support_), new)
        if hasattr(self, "folds_"):
            return ranking.among_folds(self.left_out_proba_, self.folds_, self.fold_heads_, X, self.classes_)
        return ranking.among(self.left_out_proba_, proba_in_order(head, X, self.classes_))

    def predict_set(self, X: Any, confidence_level: Any = None) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Predict sets of labels.

        Parameters
        ----------
        X : array-like, or whatever the head takes
            Features of m samples, or images.
        confidence_level : float or list of float, default=None
            Confidence levels; None takes those of the constructor. No other fit is needed.

        Returns
        -------
        labels : ndarray of shape (m,)
            As `predict` has them.
        sets : ndarray of bool, shape (m, n_classes, n_levels)
            Whether a label, in the order of ``classes_``, is in the set of each confidence level. Sets of a higher
            level hold those of a lower one.

        Raises
        ------
        ValueError
            If there were too few labels for a confidence level, with the numbers.
        """
        check_is_fitted(self)
        levels = check_levels(self.confidence_level if confidence_level is None else confidence_level)
        self._check_enough(levels)
        head, features = features_of(self.head_, X)
        labels: Array = head.predict(features)
        return labels, self._sets_of(head, features, levels)

    def _check_enough(self, levels: Array) -> None:
        """Raise a ValueError where there are too few labels for a level."""
        split = self.method == "split"
        check_enough(self.codes_, levels, self.classes_, per_class=self.per_class, split=split)

    def _sets_of(self, head: Any, features: Any, levels: Array) -> npt.NDArray[np.bool_]:
        """Predict sets by a fitted classifier of features."""
        sets = accepted(self._p_values(head, features), levels)
        if not self.allow_empty:
            rows, numbers = np.nonzero(~sets.any(1))
            sets[rows, proba_in_order(head, features, self.classes_).argmax(1)[rows], numbers] = True
        return sets

    def predict(self, X: Any) -> Array:
        """Predict labels by the head; shape (m,)."""
        check_is_fitted(self)
        labels: Array = self.head_.predict(X)
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Predict probabilities by the head, in the order of ``classes_``; shape (m, n_classes)."""
        check_is_fitted(self)
        return proba_in_order(self.head_, X, self.classes_)

    @MethodAndParameter
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of `predict` on samples and their labels (n,), which may be weighted.

        The parameter of the same name is the conformity score.
        """
        return float(accuracy_score(as_labels(y), self.predict(X), sample_weight=sample_weight))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name, with `deep` those of the head as ``head__NAME``, too."""
        params: dict[str, Any] = super().get_params(deep)
        return {**params, "score": vars(self)["score"]}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.head).input_tags
        return tags
