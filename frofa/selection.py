"""Single heads whose augmentation and hyperparameters are chosen by cross-validation, for ``frofa fit --head``."""

from collections.abc import Mapping
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
"""The paper's strongest augmentation, at levels that were best on one image set (docs/results/augmentations)."""


@dataclass(frozen=True)
class HeadChoice:
    """A head, the features that it reads, and the parameters that are searched for it.

    Attributes
    ----------
    output : str
        Kind of features, as in `FrozenFeatureExtractor`.
    estimator : classifier
        The head with its other parameters.
    grid : dict
        Parameters to search, as in `GridSearchCV`; empty where nothing is searched.
    """

    output: Output
    estimator: Any
    grid: Mapping[str, list[Any]] = field(default_factory=dict)


def head_choices(seed: int = 0, *, verbose: bool = False) -> dict[str, HeadChoice]:
    """The heads that ``frofa fit --head`` offers.

    Parameters
    ----------
    seed : int, default=0
        ``random_state`` of the heads on tokens.
    verbose : bool, default=False
        Show a progress bar for each training of a head on tokens.
    """
    logistic = make_pipeline(StandardScaler(), LogisticProbeClassifier(C=0.01))
    attention = MAPClassifier(augment=None, random_state=seed, verbose=verbose)
    experts = SoftMoEClassifier(augment=None, random_state=seed, verbose=verbose)
    augmented = clone(attention).set_params(augment=AUGMENTATIONS[0])
    return {
        "ridge": HeadChoice("pooled", RidgeProbeClassifier()),
        "logistic": HeadChoice("pooled", logistic, {"logisticprobeclassifier__C": [0.001, 0.01, 0.1, 1.0]}),
        "prototype": HeadChoice("pooled", PrototypeClassifier()),
        "soft-moe": HeadChoice("tokens", experts),
        "map": HeadChoice("tokens", attention),
        "map+frofa": HeadChoice("tokens", augmented, {"augment": list(AUGMENTATIONS)}),
    }


@dataclass(frozen=True)
class Chosen:
    """A head that is fitted on all samples, and how it was chosen.

    Attributes
    ----------
    estimator : classifier
        The fitted head.
    params : dict
        The parameters that were searched, with the values found best.
    score : float
        Mean accuracy over the folds, 0 to 1; NaN where nothing was cross-validated.
    """

    estimator: Any
    params: dict[str, Any]
    score: float


def fit_head(choice: HeadChoice, features: Any, y: Any, *, cv: int = 5, seed: int = 0) -> Chosen:
    """Cross-validate the searched parameters, also where there are none, and fit the best on all samples.

    Parameters
    ----------
    choice : HeadChoice
    features : ndarray of shape (n, C) or (n, N, C)
    y : array-like of shape (n,)
    cv : int, default=5
        Folds at most; never more than the samples of the rarest class. With a single sample of some class nothing can
        be cross-validated, and the head is fitted as it is.
    seed : int, default=0
        Seed of the folds.
    """
    folds = n_folds(y, cv)
    if folds < 2:
        return Chosen(clone(choice.estimator).fit(features, y), {}, float("nan"))
    # A candidate that fails is an error: scored as NaN, it would be left out in silence.
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    search = GridSearchCV(choice.estimator, dict(choice.grid), cv=splitter, error_score="raise").fit(features, y)
    return Chosen(search.best_estimator_, search.best_params_, float(search.best_score_))


def n_fits(choice: HeadChoice, folds: int) -> int:
    """Number of fits in `fit_head`: one, or one for each candidate and fold and one more."""
    return 1 + folds * len(ParameterGrid(dict(choice.grid))) if folds > 1 else 1


def n_folds(y: npt.ArrayLike, most: int) -> int:
    """Number of folds: the samples of the rarest class, `most` at most."""
    return min(most, int(np.unique(np.asarray(y), return_counts=True)[1].min()))
