"""A few-shot classifier that needs no tuning: a probe, and token heads where they pay."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any, ClassVar, Literal, cast

import numpy as np
from scipy.special import log_softmax
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from frofa.blocks import FeatureBlocks
from frofa.compute.arrays import as_features
from frofa.estimators.blending.folds import fit_heads, scores_in_order
from frofa.estimators.blending.joining import Data, Fits, Joined, Steps, Wanted, joining
from frofa.estimators.blending.members import PROBE, Effort, Settings, member, token_heads, tokens_of
from frofa.estimators.blending.together import drive, fit_together
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.confident.parameters import CONFIDENCE, Calibrate, ClassPrior, Novelty
from frofa.estimators.core.support import Array, Labels, Support
from frofa.estimators.core.unlabelled import CONSTRAINT
from frofa.estimators.models.map_model import HeadSource
from frofa.estimators.shrinkage_probe import ShrinkageProbeClassifier
from frofa.estimators.solvers.left_out import LEAST, rates
from frofa.estimators.solvers.shrinkage.priors import log_priors
from frofa.estimators.text.prior import TEXT_PRIOR, KnowsWords, TextPrior
from frofa.estimators.token_classifier import TokenClassifier
from frofa.utils.callbacks import TaskCounter, task_of
from frofa.utils.progress import progress_bar


class FewShotClassifier(KnowsWords, FeatureClassifier):
    """The classifier to start with: an averaged probe, blended with augmented token heads where these pay.

    With ``effort="fast"`` it is a `ShrinkageProbeClassifier` on the vector blocks, averaged over their views: no
    iterations, and calibrated probabilities. With ``effort="high"`` it also trains a few heads on the tokens of all
    views, MAP and soft-MoE, with and without feature augmentation, on folds of the images. What they make of images
    that they have not seen decides what they count in the blend, often nothing. Nothing is to be tuned.

    Parameters
    ----------
    effort : {"fast", "high"}, default="fast"
        ``"high"`` takes token heads into account, which is seconds on a GPU and minutes on a CPU. Features without
        tokens, and samples of which no two are of the same class, are left to the probe.
    n_folds : int, default=5
        Folds of the images, stratified: as many heads of each kind are trained, and one more of those that are kept.
        Views of an image are never in different folds.
    n_steps : int, default=1000
        Training steps of token heads with augmentation: with the tokens of six views, 300 are too few. The head
        without takes 3/10 of them, and loses by more (``docs/results/token_heads.md``).
    init : "random" or PretrainedHead, default="random"
        Where the MAP heads among the token heads start: at fresh weights; or at those of the backbone that made the
        tokens, ``frofa.PretrainedHead(NAME)``, which is better where the backbone has an attention pool or a class
        token.
    n_prefix : int, default=0
        Class and register tokens, which come first among the tokens: heads see them, and they are not augmented.
    grid : (int, int), default=None
        Height and width of the grid that the other tokens lie on; None takes it to be a square.
    class_prior : "uniform", "empirical", array-like of shape (n_classes,), dict or None, default="uniform"
        Probability of each class before an image is seen, as in `ShrinkageProbeClassifier`; None is equal ones.
    class_weight : dict or "balanced", default=None
        Weights of the classes, as in scikit-learn; they multiply sample weights.
    device : str, default="auto"
        Where token heads are trained: ``"auto"`` takes the GPU where there is one; or a torch device.
    random_state : int, RandomState or None, default=None
        Seed of the folds and of the token heads.
    verbose : bool, default=False
        Show a progress bar.
    calibrate : bool, "temperature" or "vector", default=True
        True adds a scale and an offset of each class to the temperatures of members and blend, which are there in any
        case, where these are worth more on left-out samples that they were not fitted to; ``"vector"`` adds them
        anyhow. ``"temperature"`` and False do not.
    unlabeled : "auto", None or label, default="auto"
        What stands for no label in y, as in `ShrinkageProbeClassifier`: by such samples, too, the probe is centred and
        scaled, and token heads do not see them.
    reject : float, default=None
        Share, between 0 and 1, of known images that `predict` may reject as none of the classes; None rejects none.
    reject_label : object, default=None
        What `predict` calls rejected images; None is -1 for classes that are numbers, and "none of these" otherwise.
    novelty : {"auto", "mahalanobis", "relative", "knn", "energy"} or None, default="auto"
        How `novelty_score` tells images of other classes, as in `NoveltyDetector`, or by the energy of logits, which
        costs heads without leave-one-out five more fits. None keeps nothing of the training images.
    prior : "text", default=None
        ``"text"`` lets the probe start from the words for the classes, as in `ShrinkageProbeClassifier`: they count as
        much as is worth it on the samples.
    class_names : mapping of label to str or list of str, or sequence of str, default=None
        Words for each class, with `prior`; None takes the labels.
    text : object with `transform`, array-like of shape (n_classes, D) or mapping of label to array, default=None
        What turns words into vectors, such as `frofa.FrozenTextExtractor`, or vectors of the classes, by label or in
        the order of `class_names`, as in `ZeroShotClassifier`. Predictions do not need it, and files do not keep it.
    templates : "auto", str or list of str, default="auto"
        Captions that words are put into, as in `ZeroShotClassifier`.
    text_block : str, default=None
        The block that is in the space of words, as in `ShrinkageProbeClassifier`.

    Attributes
    ----------
    members_ : dict of str to Bunch
        What was tried, by name, the probe first: ``estimator`` (None where it is not kept), ``weight``, ``scale`` (the
        inverse temperature of its scores), ``out_of_fold_accuracy``, ``out_of_fold_log_loss``, and ``reason``: why it
        was left out, empty where it was not.
    weights_ : ndarray of shape (n_members,)
        What each member counts in the blend, of sum 1.
    out_of_fold_proba_ : ndarray of shape (n_samples, n_classes)
        Probabilities of each training sample by members that were fitted without it; NaN where its class has no other
        sample, or it has no label. The weights of the blend are chosen on them.
    out_of_fold_accuracy_, out_of_fold_log_loss_ : float
        Weighted accuracy and mean negative log-likelihood of these; NaN where there are none.
    scale_ : float
        Inverse temperature of the blend.
    text_features_ : ndarray of shape (n_classes, D)
        Embeddings of the words for the classes, of length one, with `prior` only; how much they count is in
        ``members_["probe"].estimator.text_weights_``.
    offsets_ : ndarray of shape (n_classes,)
        What is added to the calibrated scores of token heads, which learn how frequent classes are, for `class_prior`.
    class_scales_, class_offsets_ : ndarray of shape (n_classes,) or None
        What log-probabilities of the blend are multiplied by, and what is added, by vector scaling. Where there are
        any, `decision_function` is the logits. ``temperature_`` is 1.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        Channels of the vector blocks together, or of a token.

    See Also
    --------
    ShrinkageProbeClassifier : The probe by itself.
    MAPClassifier : A single token head.

    Notes
    -----
    Logits of the blend are the weighted mean of its members' log-probabilities, each calibrated by a temperature. Of
    the probe, these are leave-one-out; of the heads, out-of-fold, so that heads, whose folds have fewer samples, are
    rather under- than overrated. Weights maximise the likelihood less a price, for each unit of weight of a head, of
    its standard error (``docs/method.md``).

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import FeatureBlocks
    >>> from frofa.estimators import FewShotClassifier
    >>> rng = np.random.default_rng(0)
    >>> tokens = rng.normal(size=(20, 16, 64)) + np.repeat([0, 1], 10)[:, None, None]
    >>> blocks = FeatureBlocks({"mean": [tokens.mean(1)], "tokens": [tokens]})
    >>> head = FewShotClassifier(effort="high", n_steps=20, random_state=0).fit(blocks, np.repeat(["cat", "dog"], 10))
    >>> head.predict(blocks[[0, 19]]).tolist()
    ['cat', 'dog']
    >>> list(head.members_)
    ['probe', 'map', 'map brightness 0.1', 'map brightness 0.3', 'soft_moe brightness 0.3']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "effort": [StrOptions({"fast", "high"})],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"random"}), HasMethods("load")],
        "n_prefix": [Interval(Integral, 0, None, closed="left")],
        "grid": [tuple, list, None],
        "class_weight": [dict, str, None],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["boolean"],
        "unlabeled": CONSTRAINT,
        **CONFIDENCE,
        "class_prior": [str, dict, "array-like", None],
        **TEXT_PRIOR,
    }
    _scores_are_logits = True
    _partly_unknown = ("out_of_fold_proba_",)
    _unsaved = ("text",)

    @property
    def _left_out_in(self) -> str | None:
        return "out_of_fold_proba_"

    def __init__(
        self,
        effort: Effort = "fast",
        *,
        n_folds: int = 5,
        n_steps: int = 1000,
        init: "Literal['random'] | HeadSource" = "random",
        n_prefix: int = 0,
        grid: tuple[int, int] | None = None,
        class_prior: ClassPrior = "uniform",
        class_weight: dict[Any, float] | str | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
        calibrate: Calibrate = True,
        unlabeled: Any = "auto",
        reject: float | None = None,
        reject_label: Any = None,
        novelty: Novelty = "auto",
        prior: TextPrior = None,
        class_names: Any = None,
        text: Any = None,
        templates: str | Iterable[str] = "auto",
        text_block: str | None = None,
    ):
        self.effort = effort
        self.n_folds = n_folds
        self.n_steps = n_steps
        self.init = init
        self.n_prefix = n_prefix
        self.grid = grid
        self.class_prior = class_prior
        self.class_weight = class_weight
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.calibrate = calibrate
        self.unlabeled = unlabeled
        self.reject = reject
        self.reject_label = reject_label
        self.novelty = novelty
        self.prior = prior
        self.class_names = class_names
        self.text = text
        self.templates = templates
        self.text_block = text_block

    def _adopt_labels(self, labels: Labels) -> Array:
        known = self._known_words()
        weights = super()._adopt_labels(labels)
        self._learn_words(known)
        return weights

    def _check_features(self, X: Any, *, reset: bool) -> Array:
        """Check plain features; members check blocks, each those that it takes."""
        X = as_features(X)
        self._check_has_vectors(X)
        if not isinstance(X, FeatureBlocks):
            plain: Array = super()._check_features(X, reset=reset)
            return plain
        if reset:
            self.n_features_in_ = X.shape[-1]
            if hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
        return cast(Array, X)

    def _prepare(self, tokens: Array) -> Array:
        """Members average tokens, or do not."""
        return tokens

    def _fit(self, support: Support) -> Array:
        y, weights = self.classes_[support.codes], support.weights
        tokens = tokens_of(support.features, type(self).__name__) if self.effort == "high" else None
        n_fits = 0 if tokens is None else len(self._token_heads(0)) * (self.n_folds + 1)
        parts = iter(("token-heads-on-folds", "token-heads-on-all-samples"))

        def train(wanted: Wanted) -> Fits:
            n = len(wanted.heads) * len(wanted.parts)
            with task_of(self).part(next(parts), n) as task:
                count = TaskCounter(task, "token-head", n, n)

                def on_done(n: int) -> None:
                    bar.update(n)
                    count(n)

                return fit_heads(tokens, y, wanted.heads, wanted.parts, weights, on_done)

        with progress_bar(total=n_fits, unit="fit", desc="token heads", leave=False, shown=self.verbose) as bar:
            return drive(self._fitting(support), train)

    def _n_fit_tasks(self) -> int:
        """Count the probe, and token heads on folds and on all samples."""
        return 1 if self.effort == "fast" else 3

    _fit_many = staticmethod(fit_together)
    """Engine of `fit_many`: token heads of all jobs are trained together."""

    def _fitting(self, support: Support) -> Steps[Array]:
        """Fit to checked data, with token heads that others train; return log-probabilities of left-out samples."""
        prior = log_priors(self.class_prior, self.class_weight, self.classes_)
        probe = self._fit_probe(support, prior)
        joined = yield from self._joining(support, probe, prior)
        self.members_ = joined.members
        self.members_[PROBE].update(
            estimator=probe, out_of_fold_accuracy=probe.loo_accuracy_, out_of_fold_log_loss=probe.loo_log_loss_
        )
        self.weights_ = np.array([one.weight for one in self.members_.values()])
        self.scale_, self.offsets_ = joined.scale, joined.offsets
        return joined.log_probs

    def _calibrate(self, support: Support, left_out: Array | None) -> None:
        super()._calibrate(support, left_out)
        log_probs = log_softmax(self._logits_of(np.asarray(left_out)), axis=1)
        self.out_of_fold_proba_ = np.exp(log_probs)
        self.out_of_fold_accuracy_, self.out_of_fold_log_loss_ = rates(log_probs, support.codes, support.weights)

    def _changed_prior(self, support: Support) -> tuple[Array | None, Array | None]:  # noqa: ARG002
        """Scores have the priors in them."""
        return None, None

    def _fit_probe(self, support: Support, prior: Array | None) -> ShrinkageProbeClassifier:
        # Weights of samples have those of classes in them already, and so does the prior.
        given = "empirical" if prior is None else np.exp(prior - prior.max())
        pool = support.weighted_pool()
        probe = ShrinkageProbeClassifier(
            class_prior=given,
            keep_support=False,
            calibrate=False,
            device=self.device,
            background=None if pool is None else pool[0],
            unlabeled=None,
            # Scores of the blend are log-probabilities, which have no energy: those of the probe have.
            novelty="energy" if self.novelty == "energy" else None,
            prior=self.prior,
            text=None if self.prior is None else dict(zip(self.classes_.tolist(), self.text_features_, strict=True)),
            text_block=self.text_block,
        )
        with task_of(self).hand_to(probe, "probe"):
            probe.fit(support.features, self.classes_[support.codes], sample_weight=support.weights)
        # What was learnt from samples without labels is fitted: the classifier is not to hold them. Words are, too.
        probe.background = probe.text = None
        return probe

    def _joining(self, support: Support, probe: ShrinkageProbeClassifier, prior: Array | None) -> Steps[Joined]:
        """Let token heads join the probe, if they are asked for and there are tokens."""
        log_probs = np.log(np.maximum(probe.loo_proba_, LEAST))
        tokens = tokens_of(support.features, type(self).__name__) if self.effort == "high" else None
        # Without token heads, nothing is random.
        random_state = check_random_state(self.random_state if tokens is not None else 0)
        seed = int(random_state.randint(2**31 - 1))
        heads = self._token_heads(seed)
        if tokens is None:
            reason = "X has no tokens" if self.effort == "high" else "effort is fast"
            members = {PROBE: member(weight=1), **{name: member(reason=reason) for name in heads}}
            return Joined(members, log_probs, 1.0, np.zeros(len(self.classes_)))
        data = Data(tokens, support, self.classes_, prior)
        return (yield from joining(data, heads, log_probs, self.n_folds, random_state))

    def _compared(self, features: Any) -> Any:
        """Choose the blocks that the probe reads."""
        probe = self.members_[PROBE].estimator
        return features.select(list(probe.blocks_)) if isinstance(features, FeatureBlocks) else features

    def _left_out_energies(self, support: Support) -> Array:  # noqa: ARG002
        energies: Array = self.members_[PROBE].estimator.novelty_["scores"]
        return energies

    def _energies(self, X: Any) -> Array:
        probe: ShrinkageProbeClassifier = self.members_[PROBE].estimator
        return probe.novelty_score(X)

    def _token_heads(self, seed: int) -> dict[str, TokenClassifier]:
        return token_heads(Settings(self.n_steps, self.n_prefix, self.grid, self.device, seed), self.init)

    def _scores(self, features: Array) -> Array:
        """Blend the log-probabilities (n, n_classes) of the members that count."""
        total = sum(self.members_[name].weight * found for name, found in self._of_members(features).items())
        blended: Array = log_softmax(self.scale_ * total, axis=1)
        return blended

    def _of_members(self, features: Array) -> dict[str, Array]:
        """Compute the log-probabilities (n, n_classes) of each member that counts."""
        kept = {name: one for name, one in self.members_.items() if one.weight > 0}
        tokens = tokens_of(features, type(self).__name__) if set(kept) - {PROBE} else None
        if tokens is None and set(kept) - {PROBE}:
            raise ValueError(
                f"{type(self).__name__} was fitted with token heads, and needs features with tokens. Got "
                f"{_kind(features)}."
            )
        found = {}
        for name, one in kept.items():
            if name == PROBE:
                scores = scores_in_order(one.estimator, features, self.classes_)
            else:
                scores = one.scale * scores_in_order(one.estimator, tokens, self.classes_) + self.offsets_
            found[name] = log_softmax(scores, axis=1)
        return found


def _kind(features: Any) -> str:
    return repr(features) if isinstance(features, FeatureBlocks) else f"an array of shape {tuple(features.shape)}"
