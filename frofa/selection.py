"""Choosing a head, its augmentation and its hyperparameters by cross-validation on the support samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frofa.augmentations import Brightness, Posterize, Sequential
from frofa.backbone import Output
from frofa.estimators import LogisticProbeClassifier, MAPClassifier, PrototypeClassifier, RidgeProbeClassifier


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


def head_choices(seed: int = 0) -> dict[str, HeadChoice]:
    """The heads that ``frofa demo`` and ``frofa fit`` choose among."""
    logistic = make_pipeline(StandardScaler(), LogisticProbeClassifier(C=0.01))
    augmentations = [
        Brightness(0.5, "c2"),
        Brightness(0.2, "c"),
        Sequential([Brightness(0.5, "c2"), Posterize(0.5, "c")]),
    ]
    return {
        "ridge": HeadChoice("pooled", RidgeProbeClassifier()),
        "logistic": HeadChoice("pooled", logistic, {"logisticprobeclassifier__C": [0.001, 0.01, 0.1, 1.0]}),
        "prototype": HeadChoice("pooled", PrototypeClassifier()),
        "map": HeadChoice("tokens", MAPClassifier(random_state=seed)),
        "map+frofa": HeadChoice(
            "tokens", MAPClassifier(augmentations[0], random_state=seed), {"augment": augmentations}
        ),
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
    if folds < 2 or not (choice.grid or always):
        return Chosen(clone(choice.estimator).fit(features, y), {}, float("nan"))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    search = GridSearchCV(choice.estimator, dict(choice.grid), cv=splitter, error_score="raise").fit(features, y)
    return Chosen(search.best_estimator_, search.best_params_, float(search.best_score_))


def n_folds(y: npt.ArrayLike, most: int) -> int:
    """As many folds as the rarest class has samples, `most` at most."""
    return min(most, int(np.unique(np.asarray(y), return_counts=True)[1].min()))
