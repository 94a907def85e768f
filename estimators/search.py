"""Search for hyperparameters of many heads at once, behind scikit-learn's search interface."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import get_tags
from sklearn.utils._param_validation import Interval

from frofa.estimators.core.unlabelled import labelled_rows
from frofa.estimators.searching.checkpoint import Checkpoint
from frofa.estimators.searching.run import SearchRun
from frofa.estimators.searching.sklearn_compat import HALVING_CONSTRAINTS, AnySearch, search_fit


class BatchedSearchCV(AnySearch):
    """Grid, randomised or halving search that trains all candidates on all folds together.

    A drop-in for `sklearn.model_selection.GridSearchCV` and, with `n_iter`, `RandomizedSearchCV` and, with `halving`,
    `HalvingGridSearchCV` and `HalvingRandomSearchCV`: the same candidates, splits, ``cv_results_`` and attributes, in
    less time where the estimator is one of frofa's heads or a pipeline that ends in one. Leading steps of a pipeline
    are fitted once for each fold and setting of theirs; steps that learn nothing, such as `FrozenFeatureExtractor`, are
    applied once for all folds. Everything else is fitted in the ordinary way, of which a `BatchFallbackWarning` tells.

    Parameters
    ----------
    estimator : estimator
        A head, a pipeline whose last step is a head, or any other estimator, which is fitted as `GridSearchCV` does.
    param_grid : dict, or list of dict
        Values to try by parameter name; with `n_iter`, values or distributions with a method ``rvs``.
    n_iter : int, default=None
        Candidates that are drawn from `param_grid`; None is all of its combinations.
    halving : bool, default=False
        Whether to halve successively: start all candidates with few resources, go on with the best of them and more.
    factor : float, default=3
        With `halving`, as are the next four: the share of candidates that go on is ``1 / factor``, with `factor` times
        the resources.
    resource : str, default="n_samples"
        What halving gives more of: training samples, or a parameter of the estimator such as ``"n_steps"`` or
        ``"mapclassifier__n_steps"``.
    min_resources : int, "exhaust" or "smallest", default="exhaust"
        Resources at the first iteration, as in `HalvingGridSearchCV`.
    max_resources : int or "auto", default="auto"
        Resources at the last iteration; "auto" is the number of samples, and other resources need a number.
    aggressive_elimination : bool, default=False
        Whether to repeat the first iteration as long as there are too many candidates for the last.
    scoring, refit, cv, error_score, return_train_score
        As in `GridSearchCV`. With `halving`, a single metric.
    n_jobs, pre_dispatch
        Processes, and how many fits they are given ahead, as in `GridSearchCV`: for fits that are not trained together.
    verbose : int, default=0
        How much to print, as in `GridSearchCV`: from 2 on, a line for each fit.
    random_state : int, RandomState or None, default=None
        Seed of the candidates that are drawn, and of the samples that halving draws.
    checkpoint : path, default=None
        A file that keeps every finished fit, written chunk by chunk as the search goes. Fitting again with the same
        path goes on where a killed search stopped, with the same result, times excepted. It is not removed at the end;
        the checkpoint of another search (other data, splits, candidates, scorers) is refused.
    progress : bool, default=False
        Whether to show a progress bar over the fits.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray
        As `GridSearchCV`'s. A fit's time is the time of the fits it was trained with, divided by their number.
    best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, multimetric_
        As `GridSearchCV`'s.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    n_resources_, n_candidates_, n_remaining_candidates_, max_resources_, min_resources_, n_iterations_, \
n_possible_iterations_, n_required_iterations_
        As `HalvingGridSearchCV`'s; with `halving` only.

    Raises
    ------
    CheckpointError
        By `fit`: if the checkpoint is of another search, damaged, in use, or no checkpoint.

    Notes
    -----
    A candidate that diverges or raises gets `error_score` and is named in scikit-learn's ``FitFailedWarning``; it harms
    no other. Probabilities differ from those of the same fit on its own by rounding, less than 1e-4.

    Samples without a label, where the head has a parameter `unlabeled` that says which these are, are in every training
    part and in no test part; with `halving`, they count as a class.

    References
    ----------
    Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", 2016 (halving).

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import BatchedSearchCV, LogisticProbeClassifier
    >>> features = np.random.default_rng(0).normal(size=(20, 8)) + np.repeat([[0], [3]], 10, axis=0)
    >>> labels = np.repeat(["cat", "dog"], 10)
    >>> search = BatchedSearchCV(LogisticProbeClassifier(), {"C": np.logspace(-4, 0, 5)}, cv=2).fit(features, labels)
    >>> len(search.cv_results_["params"]), search.predict(features[[0, 19]]).tolist()
    (5, ['cat', 'dog'])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **AnySearch._parameter_constraints,
        **HALVING_CONSTRAINTS,
        "param_grid": [dict, list],
        "n_iter": [Interval(Integral, 1, None, closed="left"), None],
        "halving": ["boolean"],
        "random_state": ["random_state"],
        "checkpoint": [str, os.PathLike, None],
        "progress": ["boolean"],
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        n_iter: int | None = None,
        halving: bool = False,
        factor: float = 3,
        resource: str = "n_samples",
        min_resources: int | str = "exhaust",
        max_resources: int | str = "auto",
        aggressive_elimination: bool = False,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[[dict[str, Any]], int] = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        error_score: float | str = np.nan,
        return_train_score: bool = False,
        random_state: int | np.random.RandomState | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: bool = False,
    ):
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_grid = param_grid
        self.n_iter = n_iter
        self.halving = halving
        self.factor = factor
        self.resource = resource
        self.min_resources = min_resources
        self.max_resources = max_resources
        self.aggressive_elimination = aggressive_elimination
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.progress = progress

    @_fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]  # the estimator is checked in its own fits
    def fit(self, X: Any, y: Any = None, **params: Any) -> "BatchedSearchCV":
        """Fit and score all candidates on all folds, then fit the best one on all samples.

        Parameters
        ----------
        X : array-like of shape (n, C) or (n, N, C), or whatever the first step of the pipeline takes
        y : array-like of shape (n,)
        **params : dict of str to object
            For `fit` of the estimator, the scorers and the splitter, as in `GridSearchCV`: ``sample_weight``,
            ``groups``.

        Returns
        -------
        self
        """
        if self.halving:
            self._prepare_halving(X, y, params)
        # The file stays open and locked for the whole of the search, and is closed whatever happens.
        kept = nullcontext() if self.checkpoint is None else Checkpoint(self.checkpoint)
        with kept as checkpoint:
            run = partial(SearchRun, checkpoint, self.progress)
            search_fit(self, X, y, params, run, None if self.halving else self._labelled(y))
        if self.halving:
            self.best_score_ = self.cv_results_["mean_test_score"][self.best_index_]
        return self

    def _labelled(self, y: Any) -> Any:
        """Tell which samples have a label, by what the head says of it; None where all have one."""
        steps = getattr(self.estimator, "steps", None)
        head = steps[-1][1] if steps else self.estimator
        return labelled_rows(y, getattr(head, "unlabeled", None), warn=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = deepcopy(get_tags(self.estimator).input_tags)
        return tags
