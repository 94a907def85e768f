"""A query strategy in scikit-activeml's convention, which it can be used beside."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_consistent_length, check_random_state

from frofa.compute.arrays import as_labels
from frofa.compute.devices import resolve_device
from frofa.labelling.suggestions.answering import answer
from frofa.labelling.suggestions.choosing import Question
from frofa.labelling.suggestions.pool import Pool
from frofa.labelling.suggestions.suggesting import MAX_EXACT
from frofa.ragged import image_positions

Array = npt.NDArray[Any]


class UncertaintyHerding(BaseEstimator):
    """Query strategy of a pool: coverage without labels, and coverage weighted by uncertainty with them.

    It is `frofa.suggest` as scikit-activeml asks its strategies, and needs nothing of that library: samples with and
    without labels are in one array, and labels that are missing are marked.

    Parameters
    ----------
    max_exact : int, default=20_000
        Samples that are compared with one another, all pairs; a sample of so many stands for larger pools.
    missing_label : scalar, str or None, default=nan
        Mark of samples without a label in y.
    device : str, default="auto"
        Where coverage is computed: a torch device, or ``"auto"``, which is the GPU where there is one.
    random_state : int, RandomState or None, default=None
        Seed of the samples of large pools. Smaller ones have one answer.

    References
    ----------
    Bae et al., "Uncertainty Herding: One Active Learning Method for All Label Budgets", ICLR 2025, arXiv 2412.20644.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import ShrinkageProbeClassifier
    >>> from frofa.labelling import UncertaintyHerding
    >>> classes = np.repeat([0.0, 1.0, 2.0], 20)
    >>> X = np.random.default_rng(0).normal(size=(60, 8)) + 6 * np.eye(3, 8)[classes.astype(int)]
    >>> y = np.full(60, np.nan)
    >>> for _ in range(2):
    ...     rows = UncertaintyHerding().query(X, y, clf=ShrinkageProbeClassifier(), batch_size=3)
    ...     y[rows] = classes[rows]
    >>> int(np.isfinite(y).sum()), np.unique(y[np.isfinite(y)]).tolist()
    (6, [0.0, 1.0, 2.0])
    """

    def __init__(
        self,
        *,
        max_exact: int = MAX_EXACT,
        missing_label: Any = np.nan,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.max_exact = max_exact
        self.missing_label = missing_label
        self.device = device
        self.random_state = random_state

    def query(
        self,
        X: Any,
        y: Any,
        clf: Any = None,
        *,
        fit_clf: bool = True,
        candidates: npt.ArrayLike | None = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Any:
        """Choose samples to be labelled.

        Parameters
        ----------
        X : array-like of shape (n, C)
            All samples, with and without labels.
        y : array-like of shape (n,)
            Labels, `missing_label` where there is none.
        clf : classifier, default=None
            Says how sure it is of samples, by ``predict_proba``; None is coverage alone.
        fit_clf : bool, default=True
            Fit a copy of `clf` to the samples with labels; otherwise, it is fitted already.
        candidates : array-like of shape (n_candidates,) or (n_candidates, C), default=None
            Positions in X that may be chosen, or other samples to choose from; None is all of X without a label.
        batch_size : int, default=1
            Number of samples to choose.
        return_utilities : bool, default=False
            Return the utilities, too.

        Returns
        -------
        query_indices : ndarray of int, shape (batch_size,)
            Positions in X, or among the candidates where these are samples; fewer where there are fewer.
        utilities : ndarray of shape (batch_size, n) or (batch_size, n_candidates)
            With `return_utilities`: what each was worth at each choice; NaN of those that could not be chosen.

        Raises
        ------
        ValueError
            If X and y differ in length, or candidates are samples of other features than X.
        IndexError
            If a candidate is no position in X.
        """
        X, y = check_array(X), np.asarray(y)
        check_consistent_length(X, y)
        has_label = ~_is_missing(y, self.missing_label)
        samples, allowed = _with_candidates(X, has_label, candidates)
        asked = clf is not None and (has_label.any() or not fit_clf)
        question = Question(
            pool=Pool(samples, resolve_device(self.device)),
            labelled=Pool(X[has_label], resolve_device(self.device)) if has_label.any() else None,
            allowed=allowed,
            batch_size=int(batch_size),
            random_state=check_random_state(self.random_state),
            max_exact=self.max_exact,
            return_utilities=return_utilities,
        )
        labels = as_labels(y[has_label]) if has_label.any() else None
        choice = answer(question, clf, "auto" if asked else "coverage", labels, fit=fit_clf)
        # Candidates that are samples stand behind those of X.
        first = len(X) if len(samples) > len(X) else 0
        if return_utilities and choice.utilities is not None:
            return choice.rows - first, choice.utilities[:, first:]
        return choice.rows - first


def _is_missing(y: Array, missing: Any) -> npt.NDArray[np.bool_]:
    """Tell which labels (n,) are the mark of missing ones, of which NaN and None are equal to themselves here."""
    if missing is None:
        return np.array([label is None for label in y.tolist()], bool)
    if isinstance(missing, float) and np.isnan(missing):
        return np.array([isinstance(label, float) and label != label for label in y.tolist()], bool)
    return np.array([label == missing for label in y.tolist()], bool)


def _with_candidates(X: Array, has_label: Array, candidates: Any) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Give all samples, those of X first, and a mask of those that may be chosen."""
    if candidates is None:
        return X, ~has_label
    given = np.asarray(candidates)
    if given.ndim == 1:
        allowed = np.zeros(len(X), bool)
        allowed[image_positions(given, len(X))] = True
        return X, allowed & ~has_label
    others = check_array(given)
    if others.shape[1] != X.shape[1]:
        raise ValueError(f"expected candidates of {X.shape[1]} features, as X has. Got {others.shape[1]}.")
    return np.concatenate([X, others]), np.arange(len(X) + len(others)) >= len(X)
