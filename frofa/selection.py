"""Choosing a head, its augmentation and its hyperparameters by cross-validation on the support samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frofa.augmentations import Augmentation, Brightness
from frofa.backbones.outputs import Output
from frofa.estimators import (
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    SoftMoEClassifier,
)

AUGMENTATIONS: tuple[Augmentation, ...] = (
    Brightness(0.3, "c2"),
    Brightness(0.1, "c2"),
    Brightness(0.5, "c2"),
    Brightness(0.05, "c"),
    Brightness(0.1, "c"),
    Brightness(0.2, "c"),
)
"""The paper's strongest augmentation over the levels that were best on one of our image sets."""


@dataclass(frozen=True)
class HeadChoice:
    """A head with what may be searched for it.

    Attributes
    ----------
    output : str
        The features it works on, as in `FrozenFeatureExtractor`.
    estimator : classifier
    grid : dict
        Of `GridSearchCV`; empty where nothing is searched.
    """

    output: Output
    estimator: Any
    grid: Mapping[str, list[Any]] = field(default_factory=dict)


def head_choices(
    seed: int = 0,
    *,
    n_steps: int = 300,
    augmentations: Sequence[Augmentation] = AUGMENTATIONS,
    verbose: bool = False,
) -> dict[str, HeadChoice]:
    """The heads that ``frofa fit`` chooses among; ``frofa demo`` compares some of them.

    Parameters
    ----------
    seed : int, default=0
        ``random_state`` of the heads on tokens.
    n_steps : int, default=300
        Their training steps.
    augmentations : sequence of Augmentation
        Candidates of ``"map+frofa"``; the first where nothing can be cross-validated.
    verbose : bool, default=False
        Show a progress bar for each training of a head on tokens.
    """
    logistic = make_pipeline(StandardScaler(), LogisticProbeClassifier(C=0.01))
    attention = MAPClassifier(augment=None, n_steps=n_steps, random_state=seed, verbose=verbose)
    experts = SoftMoEClassifier(augment=None, n_steps=n_steps, random_state=seed, verbose=verbose)
    augmented = clone(attention).set_params(augment=augmentations[0])
    return {
        "ridge": HeadChoice("pooled", RidgeProbeClassifier()),
        "logistic": HeadChoice("pooled", logistic, {"logisticprobeclassifier__C": [0.001, 0.01, 0.1, 1.0]}),
        "prototype": HeadChoice("pooled", PrototypeClassifier()),
        "soft-moe": HeadChoice("tokens", experts),
        "map": HeadChoice("tokens", attention),
        "map+frofa": HeadChoice("tokens", augmented, {"augment": list(augmentations)}),
    }


@dataclass(frozen=True)
class Chosen:
    """A fitted head and how it was chosen.

    Attributes
    ----------
    estimator : classifier
        Fitted on all the samples it was given.
    params : dict
        What was searched, with the values found best.
    score : float
        Mean accuracy over the folds, 0 to 1; NaN where nothing was cross-validated.
    """

    estimator: Any
    params: dict[str, Any]
    score: float


def fit_head(choice: HeadChoice, features: Any, y: Any, *, cv: int = 5, seed: int = 0, always: bool = False) -> Chosen:
    """Cross-validate what is searched, and fit the best on all samples.

    Parameters
    ----------
    choice : HeadChoice
    features : ndarray of shape (n, C) or (n, N, C)
    y : array-like of shape (n,)
    cv : int, default=5
        Folds at most; never more than the samples of the rarest class. With a single sample of some class nothing can
        be cross-validated, and the head is fitted as it is.
    seed : int, default=0
        Of the folds.
    always : bool, default=False
        Cross-validate where nothing is searched too, for the score.
    """
    folds = n_folds(y, cv)
    if n_fits(choice, folds, always=always) == 1:
        return Chosen(clone(choice.estimator).fit(features, y), {}, float("nan"))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    search = GridSearchCV(choice.estimator, dict(choice.grid), cv=splitter, error_score="raise").fit(features, y)
    return Chosen(search.best_estimator_, search.best_params_, float(search.best_score_))


def n_fits(choice: HeadChoice, folds: int, *, always: bool = False) -> int:
    """How many times `fit_head` trains: once, or for each candidate and fold and once more."""
    searched = folds > 1 and (choice.grid or always)
    return 1 + folds * len(ParameterGrid(dict(choice.grid))) if searched else 1


def n_folds(y: npt.ArrayLike, most: int) -> int:
    """As many folds as the rarest class has samples, `most` at most."""
    return min(most, int(np.unique(np.asarray(y), return_counts=True)[1].min()))
