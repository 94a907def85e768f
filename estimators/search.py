"""Search for hyperparameters of many heads at once, behind scikit-learn's search interface."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import _fit_context, is_classifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, ParameterSampler, RandomizedSearchCV, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import BaseSuccessiveHalving
from sklearn.utils import get_tags, indexable
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import _check_method_params, _num_samples

from frofa.estimators.searching.checkpoint import Checkpoint
from frofa.estimators.searching.run import SearchRun, sklearn_fit

HALVING = ("factor", "resource", "min_resources", "max_resources", "aggressive_elimination")


class BatchedSearchCV(BaseSearchCV):
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
        Successive halving: start all candidates with few resources, go on with the best of them and more.
    factor : float, default=3
        With `halving`, as are the next four: the share of candidates that go on is ``1 / factor``, with `factor` times
        the resources.
    resource : str, default="n_samples"
        What becomes more: training samples, or a parameter of the estimator such as ``"n_steps"`` or
        ``"mapclassifier__n_steps"``.
    min_resources : int, "exhaust" or "smallest", default="exhaust"
        At the first iteration, as in `HalvingGridSearchCV`.
    max_resources : int or "auto", default="auto"
        At the last; "auto" is the number of samples, and other resources need a number.
    aggressive_elimination : bool, default=False
        Repeat the first iteration as long as there are too many candidates for the last.
    scoring, refit, cv, error_score, return_train_score
        As in `GridSearchCV`. With `halving`, a single metric.
    n_jobs, pre_dispatch
        As in `GridSearchCV`, for what cannot be trained together.
    verbose : int, default=0
        As in `GridSearchCV`.
    random_state : int, RandomState or None, default=None
        Of drawn candidates and samples.
    checkpoint : path, default=None
        A file that keeps every finished fit, written chunk by chunk as the search goes. Fitting again with the same
        path goes on where a killed search stopped, with the same result, times excepted. It is not removed at the end;
        the checkpoint of another search (other data, splits, candidates, scorers) is refused.
    progress : bool, default=False
        Show a progress bar over the fits.

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
        **BaseSearchCV._parameter_constraints,
        **{name: BaseSuccessiveHalving._parameter_constraints[name] for name in HALVING},
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
            self._check_halving(X, y, params)
        kept = nullcontext() if self.checkpoint is None else Checkpoint(self.checkpoint)
        with kept as checkpoint:
            sklearn_fit(partial(SearchRun, checkpoint, self.progress))(self, X, y, **params)
        if self.halving:
            self.best_score_ = self.cv_results_["mean_test_score"][self.best_index_]
        return self

    def _check_halving(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        if isinstance(self.scoring, (list, tuple, dict)):
            raise ValueError(f"halving needs a single metric. Got scoring={self.scoring!r}.")
        self._n_samples_orig = _num_samples(X)
        if not hasattr(BaseSearchCV, "_check_input_parameters"):  # scikit-learn before 1.9
            X, y = indexable(X, y)
            routed = self._get_routed_params_for_fit(_check_method_params(X, params=params))
            self._checked_cv_orig = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
            self._check_input_parameters(X, y, routed.splitter.split)

    def _check_input_parameters(self, X: Any, y: Any, split_params: dict[str, Any]) -> None:
        if self.halving:
            BaseSuccessiveHalving._check_input_parameters(self, X, y, split_params)

    def _run_search(self, evaluate_candidates: Callable[..., Any], *, callback_ctx: Any = None) -> None:
        kind = RandomizedSearchCV if self.n_iter is not None else GridSearchCV
        if self.halving:
            kind = BaseSuccessiveHalving
        context = {} if callback_ctx is None else {"callback_ctx": callback_ctx}
        kind._run_search(self, evaluate_candidates, **context)

    def _generate_candidate_params(self) -> Iterable[dict[str, Any]]:
        """The candidates that halving starts with."""
        candidates: Iterable[dict[str, Any]] = (
            ParameterGrid(self.param_grid)
            if self.n_iter is None
            else ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)
        )
        return candidates

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = deepcopy(get_tags(self.estimator).input_tags)
        return tags

    @property
    def param_distributions(self) -> Any:
        """`param_grid`, by the name that `RandomizedSearchCV` has for it."""
        return self.param_grid

    @staticmethod
    def _select_best_index(refit: Any, refit_metric: str, results: dict[str, Any]) -> Any:
        kind = BaseSuccessiveHalving if "n_resources" in results else BaseSearchCV
        return kind._select_best_index(refit, refit_metric, results)
