"""A probe whose class means learn from images without labels."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from torch import Tensor

from frofa.compute.devices import resolve_device, threads_for
from frofa.estimators.batched.shrinkage_jobs import views_of
from frofa.estimators.core.confident.parameters import CONFIDENCE, Calibrate, ClassPrior, Novelty
from frofa.estimators.core.support import Array, CheckedData, Support
from frofa.estimators.core.unlabelled import CONSTRAINT
from frofa.estimators.shrinkage_probe import ShrinkageProbeClassifier
from frofa.estimators.solvers.shrinkage.fitting import Problems
from frofa.estimators.solvers.shrinkage.selection import choose_shares, shares_of
from frofa.estimators.solvers.shrinkage.sets import Fitted, unstack, used_samples
from frofa.estimators.solvers.shrinkage.temperature import NEVER
from frofa.estimators.solvers.transduction.fitting import PARTS, fit
from frofa.estimators.solvers.transduction.means import pool_probabilities

MOST_POOL = 2000
"""Images without labels that class means learn from; of more, as many are drawn. Together they weigh at most four times
what images with labels do, so that further ones change next to nothing."""


class TransductiveClassifier(ShrinkageProbeClassifier):
    """The shrinkage probe with class means that learn from images without labels, as far as that pays.

    Samples whose label is -1 or missing are the pool: by expectation and maximisation, each counts in the mean of each
    class by its probability. How much all of the pool counts is decided by samples with labels that were left out, and
    where these are not predicted better by it, the classifier is a `ShrinkageProbeClassifier`.

    `transduction_` has labels for the pool itself, by how frequent classes seem to be in it. Predictions are inductive:
    they are of a fitted linear head with `class_prior`, and never depend on what else is predicted.

    Parameters
    ----------
    class_prior : "uniform", "empirical", array-like of shape (n_classes,), dict or None, default="uniform"
        How frequent classes are where images are predicted, as in `ShrinkageProbeClassifier`. Of the pool it is what is
        expected before it is looked at: the estimate, `proportions_`, is held towards it, the more the fewer labels
        there are.
    class_weight : dict or "balanced", default=None
        Weights of the classes, times those of the samples with labels.
    block_sizes, block_weights, keep_support, device
        As in `ShrinkageProbeClassifier`. `partial_fit` adds samples, and samples without a label to the pool.
    n_steps : int, default=10
        Steps of expectation and maximisation.
    random_state : int, RandomState or None, default=0
        Seed that images are drawn by from a pool of more than 2,000, for class means to learn from. All of them are
        labelled.
    calibrate, reject, reject_label, novelty
        As in `ShrinkageProbeClassifier`. Probabilities are calibrated on samples with labels that neither class means
        nor the pool's probabilities have seen.
    unlabeled : "auto", None or label, default="auto"
        What stands for no label in y, as in `ShrinkageProbeClassifier`.

    Attributes
    ----------
    transduction_ : ndarray of shape (n_samples,)
        Label of each sample of `fit`: those given, and for the pool the most likely ones. After `partial_fit` and the
        like, samples with labels come first.
    label_distributions_ : ndarray of shape (n_samples, n_classes)
        Probabilities of these; those of labels that were given are 1.
    proportions_ : ndarray of shape (n_classes,)
        How frequent classes are estimated to be in the pool; `class_prior` where there is none.
    pool_weights_ : ndarray of shape (n_parts,)
        What each weight of the pool counts in the average: of 0, 1/2, 1, 2 and 4 times the weight of the samples with
        labels. Where the first is 1, the pool did not help.
    pool_losses_ : ndarray of shape (n_parts,)
        Mean negative log-likelihoods of left-out samples by each; NaN where none can be left out.
    classes_, coef_, intercept_, loo_proba_, n_features_in_
        And all others as in `ShrinkageProbeClassifier`.

    See Also
    --------
    ShrinkageProbeClassifier : Takes images without labels for centring and scaling alone.
    sklearn.semi_supervised.LabelSpreading : Propagates labels over a graph of neighbours.

    Notes
    -----
    An image of the pool counts by how clear it is, its largest probability above ``1 / n_classes``, so that images of
    other classes, or of classes that the pool lacks, do little harm. docs/method.md has the formulas, and
    docs/results/confidence.md what it brings: with one image a class, where none can be left out, it may lose.

    References
    ----------
    Nigam et al., "Text classification from labeled and unlabeled documents using EM", Machine Learning 2000 (the weight
    of the pool); Veilleux et al., "Realistic evaluation of transductive few-shot learning", NeurIPS 2021 (unequal
    classes); Saerens et al., "Adjusting the outputs of a classifier to new a priori probabilities", 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import TransductiveClassifier
    >>> features = np.random.default_rng(0).normal(size=(40, 8)) + np.repeat([[0], [2]], 20, axis=0)
    >>> labels = np.full(40, -1)
    >>> labels[[0, 1, 20, 21]] = [0, 0, 1, 1]
    >>> head = TransductiveClassifier(unlabeled=-1).fit(features, labels)
    >>> head.transduction_[[0, 5, 25]].tolist(), head.predict(features[[5, 25]]).tolist()
    ([0, 0, 1], [0, 1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: ShrinkageProbeClassifier._parameter_constraints[name]
            for name in ("class_weight", "block_sizes", "block_weights", "keep_support", "device")
        },
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "unlabeled": CONSTRAINT,
        **CONFIDENCE,
        "class_prior": [str, dict, "array-like", None],
    }
    _partly_unknown = ("loo_proba_", "pool_losses_")
    _unsaved = ()
    # What the probe has beside: the pool is the background, and nothing is augmented.
    background = None
    augment = None
    n_augmented = 0
    prior = None

    def __init__(
        self,
        *,
        class_prior: ClassPrior = "uniform",
        class_weight: dict[Any, float] | str | None = None,
        block_sizes: Sequence[int] | None = None,
        block_weights: str | npt.ArrayLike | Mapping[str, float] = "equal",
        keep_support: bool = True,
        device: str = "auto",
        n_steps: int = 10,
        random_state: int | np.random.RandomState | None = 0,
        calibrate: Calibrate = True,
        unlabeled: Any = "auto",
        reject: float | None = None,
        reject_label: Any = None,
        novelty: Novelty = "auto",
    ):
        self.class_prior = class_prior
        self.class_weight = class_weight
        self.block_sizes = block_sizes
        self.block_weights = block_weights
        self.keep_support = keep_support
        self.device = device
        self.n_steps = n_steps
        self.random_state = random_state
        self.calibrate = calibrate
        self.unlabeled = unlabeled
        self.reject = reject
        self.reject_label = reject_label
        self.novelty = novelty

    def _fit(self, support: Support) -> Array:
        pool = support.weighted_pool()
        if pool is None:
            self.pool_weights_, self.pool_losses_ = np.eye(len(PARTS))[0], np.full(len(PARTS), np.nan)
            return super()._fit(support)
        features, weights = pool
        weights = weights / weights.mean()
        blocks: Any = support.features
        samples = self._support_set(np.arange(len(blocks)), support.codes, support.weights)
        used, device = used_samples(samples), resolve_device(self.device)
        given = shares_of(self.block_weights, blocks.names)
        every = _views(features, np.arange(len(features)), device)
        shares = np.full(len(blocks.names), 1 / len(blocks.names)) if given is None else given
        problems = Problems(
            _views(blocks, used.rows, device),
            torch.from_numpy(shares).to(device)[None],
            torch.from_numpy(used.codes).to(device)[None],
            torch.from_numpy(used.weights).to(device)[None],
            used.n_classes,
            None if used.log_priors is None else torch.from_numpy(used.log_priors).to(device)[None],
            every,
        )
        if given is None:
            problems = problems._replace(shares=choose_shares(problems))
        chosen = np.arange(len(features))
        if len(chosen) > MOST_POOL:
            random_state = check_random_state(self.random_state)
            chosen = np.sort(random_state.choice(chosen, MOST_POOL, replace=False))
        learnt_from = [[view[:, chosen] for view in views] for views in every]
        with threads_for(len(used.rows) * sum(blocks.widths.values())):
            learnt = fit(problems, learnt_from, torch.from_numpy(weights[chosen]).to(device), self.n_steps)
        self.pool_weights_ = learnt.weights.cpu().numpy()
        self.pool_losses_ = learnt.losses.cpu().numpy()
        fitted: Fitted = unstack(learnt.solution, [used], [samples])[0]
        return self._take(fitted, blocks, samples)

    def _spread(self, data: CheckedData) -> None:
        """Label the pool, now that the head and its calibration are fitted."""
        super()._spread(data)
        known, n_classes = data.known, len(self.classes_)
        if known is None:  # samples with labels first
            n_pool = 0 if data.pool is None else len(data.pool)
            known = np.arange(len(data.labels.codes) + n_pool) < len(data.labels.codes)
        distributions = np.empty((len(known), n_classes))
        distributions[known] = np.eye(n_classes)[data.labels.codes]
        prior = np.exp(self._log_prior(data))
        self.proportions_ = prior / prior.sum()
        if data.pool is not None:
            distributions[~known] = self._of_pool(data)
        self.label_distributions_ = distributions
        self.transduction_ = self.classes_[distributions.argmax(1)]
        self.transduction_[known] = data.labels.y

    def _of_pool(self, data: CheckedData) -> Array:
        """Estimate how frequent classes are in the pool; give the probabilities (m, n_classes) there."""
        with np.errstate(divide="ignore"):
            logits = np.log(self.predict_proba(data.pool))
        weights = np.ones(len(data.pool)) if data.pool_weights is None else data.pool_weights
        weights = weights if weights.any() else np.ones(len(weights))
        counts = np.bincount(data.labels.codes, data.labels.weights > 0)
        shots = float(counts.sum() / max(1, (counts > 0).sum()))
        # What is never predicted has finite logits, too.
        scores, logs = np.maximum(logits, NEVER), np.maximum(self._log_prior(data), NEVER)
        found, proportions = pool_probabilities(
            torch.from_numpy(scores), torch.from_numpy(weights), torch.from_numpy(logs), shots
        )
        self.proportions_ = proportions.numpy()
        probabilities: Array = found.numpy()
        return probabilities

    def _log_prior(self, data: CheckedData) -> Array:
        """Logarithms (n_classes,) of class priors, those of the weighted samples where they are empirical."""
        found = self._support_set(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)).log_priors
        if found is not None:
            return found
        with np.errstate(divide="ignore"):
            totals: Array = np.log(np.bincount(data.labels.codes, data.labels.weights, len(self.classes_)))
        return totals


def _views(blocks: Any, rows: Array, device: torch.device) -> list[list[Tensor]]:
    """Move rows of all views of all blocks, (1, n, C) each, to a device, in float64."""
    return [
        [torch.as_tensor(np.require(view[rows], np.float64, "W"), device=device)[None] for view in views]
        for views in views_of(blocks)
    ]
