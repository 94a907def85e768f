"""Averaged shrinkage discriminants: a linear probe that needs no tuning."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import log_softmax
from torch import Tensor

from frofa.augmentations import Augmentation
from frofa.blocks import FeatureBlocks
from frofa.compute.arrays import as_features
from frofa.compute.devices import resolve_device
from frofa.estimators.batched.shrinkage_jobs import fit_shrinkage_jobs, views_of
from frofa.estimators.core.blocks import check_blocks, check_sizes, cut
from frofa.estimators.core.confident.parameters import CONFIDENCE, Calibrate, ClassPrior, Novelty
from frofa.estimators.core.kept import GrowingClassifier, blocks_of, joined
from frofa.estimators.core.support import Array, CheckedData, Indices, Labels, Support
from frofa.estimators.core.unlabelled import CONSTRAINT
from frofa.estimators.core.validation import refuse_mixing
from frofa.estimators.solvers.left_out import rates
from frofa.estimators.solvers.shrinkage.averaging import member_names
from frofa.estimators.solvers.shrinkage.priors import log_priors
from frofa.estimators.solvers.shrinkage.selection import shares_of
from frofa.estimators.solvers.shrinkage.sets import Fitted, SupportSet, fit_sets
from frofa.estimators.solvers.shrinkage.spaces import Stage, spaces_of
from frofa.estimators.solvers.text.fitting import Images
from frofa.estimators.text.prior import TEXT_PRIOR, KnowsWords, TextPrior, image_blocks
from frofa.estimators.tokens.block_copies import copies_of_blocks, token_blocks
from frofa.estimators.tokens.views import CONSTRAINTS


class ShrinkageProbeClassifier(KnowsWords, GrowingClassifier):
    """Linear discriminants from nearest class mean to little shrinkage, averaged by leave-one-out likelihood.

    There is nothing to tune: every shrinkage is tried on the training samples, each left out in turn, in closed form,
    and each counts by what it makes of them. Probabilities are calibrated on the same samples. Blocks of features are
    given equal parts, whatever their scales, and the scatter of views within images is a prior of that within classes.

    Parameters
    ----------
    class_prior : "uniform", "empirical", array-like of shape (n_classes,), dict or None, default="uniform"
        Probability of each class before an image is seen: equal; that of the training samples, weighted; or as given,
        in the order of ``classes_`` or by label. None is equal ones, as what the probe has learnt.
    class_weight : dict or "balanced", default=None
        Weight of each class, by label, or inversely proportional to its number of samples, as in scikit-learn; None is
        1 for all. Weights by label multiply the priors, too; balanced ones make empirical priors equal.
    block_sizes : sequence of int, default=None
        Widths of the blocks that plain features (n, C) are cut into, in order, which add up to C; None is one block.
        `frofa.FeatureBlocks` bring their own.
    background : FeatureBlocks or array-like of shape (m, C) or (m, N, C), default=None
        Images without labels of the same kind, such as those that are to be predicted: features are centred, and
        channels divided by their deviations, as these and the samples have them together. That is worth half a point
        at one and two samples a class, and nothing from ten on. Saved heads have it in ``support_`` alone.
    keep_support : bool, default=True
        Keep the samples in ``support_``, as `partial_fit`, `add_class` and `drop_class` need them: n times views times
        channels, in the dtype that they have. A saved head has them, too.
    block_weights : "equal", "auto", array-like of shape (n_blocks,) or dict, default="equal"
        Share of each block in the square of what they are side by side: equal; chosen by leave-one-out; or as given, in
        the order of the blocks or by name. ``"auto"`` is for layers that may be of use or not: from five samples a
        class on it loses nothing to the last layer, and gains up to a point; at two, layers cost one or two.
    device : str, default="auto"
        Device that fits: a torch device, or ``"auto"``, which is the GPU where there is one. What is fitted is on the
        CPU, and predictions are computed there.
    augment : Augmentation, default=None
        Augmentation of `frofa.augmentations`, as ``augment`` and ``augment__level`` in a search: the scatter of
        augmented copies about their sample is added to that of views, so that one shot and one view have a prior, too.
        It gained nothing in accuracy on the images where it was measured (docs/method.md). Class means and predictions
        are of features as they are. Tokens are augmented as tokens and averaged, vectors block by block, as single
        tokens without positions. Augmentations that mix labels are refused. `partial_fit` and the like draw copies
        anew, and are `fit` where `random_state` is an int; tokens are refused there.
    n_augmented : int, default=10
        Number of copies of each view of each sample, which a fit holds in float64, with `augment` only.
    n_prefix : int, default=0
        Number of class and register tokens, which come first and are not augmented; of use with tokens only.
    grid : (int, int), default=None
        Height and width of the grid that the other tokens lie on, row by row; None takes it to be a square.
    random_state : int, RandomState or None, default=None
        Seed that copies are drawn from; None draws others at each fit.
    calibrate : bool, "temperature" or "vector", default=True
        True adds a scale and an offset of each class to the temperatures of the members, which are there in any case,
        where these are worth more on left-out samples that they were not fitted to; ``"vector"`` adds them anyhow.
        ``"temperature"`` and False do not.
    unlabeled : "auto", None or label, default="auto"
        What stands for no label in y; such samples are a background, as with `background`, and those without weight are
        left out. A label that is missing (None or NaN) is always none, but an error with None. ``"auto"`` also takes -1
        for none, as scikit-learn's semi-supervised estimators do: beside strings, and beside two other numbers, of
        which an `UnlabelledWarning` tells that ``unlabeled=-1`` silences; beside a single number, -1 is a class. With
        None, -1 is a class like any other.
    reject : float, default=None
        Share, between 0 and 1, of known images that `predict` may reject as none of the classes; None rejects none.
    reject_label : object, default=None
        What `predict` calls rejected images; None is -1 for classes that are numbers, and "none of these" otherwise.
    novelty : {"auto", "mahalanobis", "relative", "knn", "energy"} or None, default="auto"
        How `novelty_score` tells images of other classes, as in `NoveltyDetector`, or by the energy of logits, which
        costs heads without leave-one-out five more fits. None keeps nothing of the training images.
    prior : "text", default=None
        ``"text"`` starts from the words for the classes, and learns from images what these leave. How much words count
        is decided by the samples, none of which they have seen: nothing where the tower does not know them.
    class_names : mapping of label to str or list of str, or sequence of str, default=None
        Words for each class, with `prior`, as in `ZeroShotClassifier`; None takes the labels.
    text : object with `transform`, array-like of shape (n_classes, D) or mapping of label to array, default=None
        What turns words into vectors, such as `frofa.FrozenTextExtractor`, or vectors of the classes, by label or in
        the order of `class_names`, as in `ZeroShotClassifier`. Predictions do not need it, and files do not keep it.
    templates : "auto", str or list of str, default="auto"
        Captions that words are put into, as in `ZeroShotClassifier`.
    text_block : str, default=None
        The block that is in the space of words; None takes ``"text"``, ``"projected"``, ``"pooled"`` or the only one. A
        block ``"text"`` beside others is compared with words alone, so that features may be another backbone's.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    members_ : tuple of str
        Discriminants that were averaged: their space, shrinkage relative to what is usual, and the part of the squares
        of class means that is taken off.
    weights_ : ndarray of shape (n_members,)
        Weights of the members in the average, of sum 1.
    temperatures_ : ndarray of shape (n_members,)
        Divisor of each member's scores.
    coef_ : ndarray of shape (2, n_classes, C)
        Weights of the average for the features of each space; calibrated, so that scores are logits.
    intercept_ : ndarray of shape (n_classes,)
    shifts_, scales_ : ndarray of shape (2, C)
        What features are shifted and divided by on the way to each space.
    class_scales_, class_offsets_ : ndarray of shape (n_classes,) or None
        What log-probabilities of the average are multiplied by, and what is added, by vector scaling. Where there are
        any, `decision_function` is the logits. ``temperature_`` is 1.
    loo_proba_ : ndarray of shape (n_samples, n_classes)
        Probabilities of each training sample without it; NaN where its class has no other sample, or it has no weight
        or no label. After `partial_fit` and the like, of the samples with labels alone.
    loo_accuracy_, loo_log_loss_ : float
        Weighted accuracy and mean negative log-likelihood of these; NaN where there are none.
    support_ : dict
        The samples, with `keep_support`: ``"features"``, block by block (n, n_views, C), ``"labels"`` and
        ``"weights"``, and the features of the ``"background"`` and of samples without a label, ``"unlabelled"`` with
        ``"unlabelled_weights"``, where there are some; none of tokens with `augment`.
    text_features_ : ndarray of shape (n_classes, D)
        Embeddings of the words for the classes, of length one; these and what follows with `prior` only.
    text_block_ : str
        The block that is compared with them.
    text_scales_ : ndarray of shape (n_classes,)
        What cosines of images and words are multiplied by in logits.
    text_doubts_ : ndarray of shape (n_classes,)
        How likely it is that the name of a class says nothing: as likely as that words as a whole do, and more where
        others say something, by two samples of the class or more.
    text_weights_ : dict of str to float
        ``"helps"``, the probability that words say something; the factors of ``"words"``, relative to scores of
        deviation one, and of ``"images"``; and the part of the ``"residual"``, the proximal ridge, in the average.
    augment_seed_ : int
        The seed that copies were drawn from, with `augment` only.
    blocks_ : dict of str to int
        Name and width of each block.
    block_weights_ : dict of str to float
        Share of each block, of sum 1.
    n_features_in_ : int
        Sum of the widths.

    Notes
    -----
    With class means ``mu_c``, scatter ``S`` within classes and views, and ``P = penalty * (S + penalty * I)^-1``, the
    scores of a member are ``x' P mu_c - bias / 2 * (mu_c' P mu_c - noise / n_c)``. Without a sample of residual d,
    ``P`` is ``P + k (P d)(P d)'``: leave-one-out is exact for all penalties from one eigendecomposition. Means, scatter
    and counts of classes are refitted without the sample; normalisation, penalties, temperatures and weights are those
    of all samples. docs/method.md has all formulas, and how the constants were chosen.

    Weights of samples are relative: multiplied by a number they are the same.

    With ``prior="text"``, `coef_`, `intercept_` and `loo_proba_` are those of images and words together; `members_`,
    `weights_` and `temperatures_` are those of images alone.

    References
    ----------
    Wang et al., "A hard-to-beat baseline for training-free CLIP-based adaptation", ICLR 2024; Wang et al.,
    "SimpleShot", 2019; Yao et al., "Using stacking to average Bayesian predictive distributions", 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import ShrinkageProbeClassifier
    >>> features = np.random.default_rng(0).normal(size=(20, 8)) + np.repeat([[0], [3]], 10, axis=0)
    >>> head = ShrinkageProbeClassifier().fit(features, np.repeat(["cat", "dog"], 10))
    >>> head.predict(features[[0, 19]]).tolist(), round(head.loo_accuracy_, 2)
    (['cat', 'dog'], 1.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "class_weight": [dict, str, None],
        "block_sizes": ["array-like", None],
        "block_weights": [str, dict, "array-like"],
        "keep_support": ["boolean"],
        "device": [str],
        **{name: CONSTRAINTS[name] for name in ("augment", "n_augmented", "n_prefix", "grid", "random_state")},
        "unlabeled": CONSTRAINT,
        **CONFIDENCE,
        "class_prior": [str, dict, "array-like", None],
        **TEXT_PRIOR,
    }
    _partly_unknown: ClassVar[tuple[str, ...]] = ("loo_proba_",)
    _unsaved: ClassVar[tuple[str, ...]] = ("background", "text")

    _scores_are_logits = True

    @property
    def _left_out_in(self) -> str | None:
        return "loo_proba_"

    def __init__(
        self,
        *,
        class_prior: ClassPrior = "uniform",
        class_weight: dict[Any, float] | str | None = None,
        block_sizes: Sequence[int] | None = None,
        block_weights: str | npt.ArrayLike | Mapping[str, float] = "equal",
        background: Any = None,
        keep_support: bool = True,
        device: str = "auto",
        augment: Augmentation | None = None,
        n_augmented: int = 10,
        n_prefix: int = 0,
        grid: tuple[int, int] | None = None,
        random_state: int | np.random.RandomState | None = None,
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
        self.class_prior = class_prior
        self.class_weight = class_weight
        self.block_sizes = block_sizes
        self.block_weights = block_weights
        self.background = background
        self.keep_support = keep_support
        self.device = device
        self.augment = augment
        self.n_augmented = n_augmented
        self.n_prefix = n_prefix
        self.grid = grid
        self.random_state = random_state
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

    def _check_augment(self) -> Augmentation:
        augment = super()._check_augment()
        refuse_mixing(augment, type(self).__name__)
        return augment

    def _draw_seed(self, random_state: np.random.RandomState) -> int:
        """Draw the seed of copies, which is all that is drawn."""
        return int(random_state.randint(2**31 - 1))

    def _check_features(self, X: Any, *, reset: bool) -> FeatureBlocks:  # type: ignore[override]
        X = as_features(X)
        self._check_has_vectors(X)
        if not reset:
            return check_blocks(self, X, widths=self.blocks_, reset=False)
        blocks = check_blocks(self, X, widths=None, reset=True)
        if not isinstance(X, FeatureBlocks) and self.block_sizes is not None:
            sizes = check_sizes(self.block_sizes, self.n_features_in_, type(self).__name__)
            blocks = cut(np.asarray(blocks), sizes)
        self.blocks_ = blocks.widths
        return blocks

    def _check_data(self, X: Any, y: Any, sample_weight: Any) -> CheckedData:
        data = super()._check_data(X, y, sample_weight)
        tokens: Any = token_blocks(as_features(X)) if self.augment is not None and self.n_augmented else None
        if tokens is None:
            return data
        return data._replace(tokens=tokens if data.known is None else tokens[np.flatnonzero(data.known)])

    def _copies(self, tokens: Any, features: Any, weights: Array) -> Array | None:
        if self.augment is None or not self.n_augmented:
            return None
        blocks, rows = views_of(tokens) if tokens is features else tokens, np.flatnonzero(weights)
        return copies_of_blocks(
            blocks, rows, self.augment, self.n_augmented, self.augment_seed_, n_prefix=self.n_prefix, grid=self.grid
        )

    def _check_can_grow(self, X: Any) -> None:
        if self.augment is not None and self.n_augmented and token_blocks(as_features(X)) is not None:
            raise ValueError(
                f"{type(self).__name__} keeps means of tokens, of which copies cannot be drawn anew: with augment, fit "
                "to all tokens at once, or give features (n, C). Got tokens."
            )

    def _kept(self) -> tuple[FeatureBlocks, Array, Array]:
        if self.augment is not None and self.keep_support and not hasattr(self, "support_"):
            raise ValueError(
                f"{type(self).__name__} was fitted to tokens with augment, and keeps no samples: copies cannot be "
                "drawn anew from means of tokens. Fit to all samples at once."
            )
        return super()._kept()

    def _adopt_labels(self, labels: Labels) -> Array:
        known = self._known_words()
        weights = super()._adopt_labels(labels)
        self._learn_words(known)
        return weights

    def _prepare(self, tokens: Any) -> Any:
        """Blocks are averaged where they are normalised."""
        return tokens

    def _fit(self, support: Support) -> Array:
        blocks: Any = support.features
        seen = self._seen(blocks)
        samples = self._support_set(np.arange(len(blocks)), support.codes, support.weights)
        pool = support.weighted_pool()
        background = joined(self._check_background(), None if pool is None else pool[0])
        views = () if background is None else views_of(self._seen(background))
        shares = shares_of(self.block_weights, seen.names)
        device = resolve_device(self.device)
        fitted = fit_sets(views_of(seen), [samples], device, background=views, shares=shares, copies=support.copies)
        return self._take(fitted[0], blocks, samples)

    def _compared(self, features: Any) -> Any:
        return self._seen(features)

    def _seen(self, blocks: FeatureBlocks) -> FeatureBlocks:
        """Choose the blocks that images are described by."""
        return blocks.select(image_blocks(blocks.names, self._given("prior")))

    def _check_background(self) -> FeatureBlocks | None:
        """Check images without labels: those given, or those that a loaded head was fitted with."""
        if self.background is not None:
            return check_blocks(self, as_features(self.background), widths=self.blocks_, reset=False)
        kept = getattr(self, "support_", {}).get("background")
        if kept is None:
            return None
        return blocks_of(kept)

    def _also_kept(self) -> dict[str, Any]:
        background = self._check_background()
        return {} if background is None else {"background": {n: background.block(n) for n in background.names}}

    _fit_many = staticmethod(fit_shrinkage_jobs)
    """Engine of `fit_many`: heads on the same features are fitted side by side."""

    def _support_set(self, rows: Indices, codes: Indices, weights: Array) -> SupportSet:
        priors = log_priors(self.class_prior, self.class_weight, self.classes_)
        return SupportSet(rows, codes, weights, len(self.classes_), priors)

    def _take(self, fitted: Fitted, blocks: FeatureBlocks, samples: SupportSet) -> Array:
        """Set what was fitted; return the logits (n, n_classes) of left-out samples, NaN where they cannot be had.

        Samples are all that the blocks have.
        """
        seen = self._seen(blocks)
        self.shifts_, self.scales_ = fitted.shifts, fitted.scales
        self.block_weights_ = dict(zip(seen.names, fitted.shares.tolist(), strict=True))
        self.members_, self.weights_ = member_names(), fitted.weights.ravel()
        self.temperatures_ = 1 / fitted.temperatures.ravel()
        images = Images(fitted.coef, fitted.intercept, fitted.left_out, np.empty(0))
        if self._given("prior") is not None:
            images = images._replace(rows=self._spaces(seen)[0])
            images = self._join_words(images, blocks, samples.codes, samples.weights, samples.log_priors)
        self.coef_, self.intercept_ = images.coef, images.intercept
        return images.left_out

    def _calibrate(self, support: Support, left_out: Array | None) -> None:
        super()._calibrate(support, left_out)
        log_probs = log_softmax(self._logits_of(np.asarray(left_out)), axis=1)
        self.loo_accuracy_, self.loo_log_loss_ = rates(log_probs, support.codes, support.weights)

    def _changed_prior(self, support: Support) -> tuple[Array | None, Array | None]:  # noqa: ARG002
        """Scores have the priors in them."""
        return None, None

    def _scores(self, features: Any) -> Array:
        spaces = self._spaces(features.select(list(self.block_weights_)))
        scores: Array = np.sum([rows @ coef.T for rows, coef in zip(spaces, self.coef_, strict=True)], axis=0)
        scores = scores + self.intercept_
        if self._given("prior") is not None:
            scores = scores + self.text_scales_ * self._cosines(features)
        return scores

    def _spaces(self, blocks: FeatureBlocks) -> list[Array]:
        """Features (n, C) of images in each space."""
        stages = [
            Stage(_tensor(shift), _tensor(scale)) for shift, scale in zip(self.shifts_, self.scales_, strict=True)
        ]
        views = [[_tensor(view) for view in each] for each in views_of(blocks)]
        shares = _tensor(np.array([self.block_weights_[name] for name in blocks.names]))
        return [rows[0].numpy() for rows in spaces_of(views, shares, stages)]


def _tensor(array: Array) -> Tensor:
    """Make an array one problem of a batch of one, in float64."""
    return torch.as_tensor(np.require(array, np.float64, "W"))[None]
