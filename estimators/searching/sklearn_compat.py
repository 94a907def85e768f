"""All that the search takes from the private parts of scikit-learn, of the versions from 1.6 on.

A search is scikit-learn's own ``BaseSearchCV.fit`` up to where it hands its fits, calls of ``_fit_and_score``, to
``Parallel``: there stands `frofa.estimators.searching.run.SearchRun`. Splits, error messages, ``cv_results_``, refit
and callbacks are scikit-learn's. No other module of the search imports a private name of scikit-learn's, and
``tests/estimators/searching/test_sklearn_compat.py`` has a test for each thing that is relied on here, which names it
if another version of scikit-learn changes it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.metrics import accuracy_score
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer, _Scorer
from sklearn.model_selection import GridSearchCV, ParameterGrid, ParameterSampler, RandomizedSearchCV, check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import BaseSuccessiveHalving
from sklearn.model_selection._validation import _score
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils.validation import _check_feature_names, _check_method_params, _num_samples

Call: TypeAlias = tuple[Callable[..., Any], Sequence[Any], dict[str, Any]]
"""Call that ``Parallel`` is to make: function, positional and keyword arguments."""
FitResult: TypeAlias = dict[str, Any]
"""Result of a fit as ``_fit_and_score`` returns it: ``fit_error`` (None or text), ``test_scores`` and, where asked for,
``train_scores`` (a number, or numbers by name), ``n_test_samples``, ``fit_time`` and ``score_time`` in seconds."""
RowIndices: TypeAlias = npt.NDArray[np.intp]

HALVING_CONSTRAINTS = {
    name: BaseSuccessiveHalving._parameter_constraints[name]
    for name in ("factor", "resource", "min_resources", "max_resources", "aggressive_elimination")
}
take_rows = _safe_indexing
count_samples = _num_samples
score = _score


@dataclass(frozen=True, eq=False)
class SearchTask:
    """One fit of a search, with its scores: a call of ``_fit_and_score``, and what it says by scikit-learn's names.

    `X` and `y` are all samples of the search, of which `train` and `test` are rows; `fit_params` and `score_params` are
    for all samples, too. `split_progress` and `candidate_progress` are the number of the split and of the candidate,
    from 0, and how many there are. `callback_ctx` and `caller` are scikit-learn's context of callbacks (from 1.9 on)
    and the search that it tells them of.
    """

    call: Call
    estimator: Any
    X: Any
    y: Any
    train: RowIndices
    test: RowIndices
    parameters: dict[str, Any]
    fit_params: dict[str, Any]
    score_params: dict[str, Any]
    scorer: Any
    return_train_score: bool
    error_score: float | str
    verbose: int
    split_progress: tuple[int, int]
    candidate_progress: tuple[int, int]
    callback_ctx: Any = None
    caller: Any = None

    @classmethod
    def of(cls, call: Call) -> "SearchTask":
        """Read a call, which may also be made as it stands, to do the fit in the ordinary way."""
        _, data, options = call
        # Options that are not used here, or that a later version adds, stay in the call.
        known = {name: value for name, value in options.items() if name in cls.__dataclass_fields__}
        try:
            known |= {name: _row_indices(known[name]) for name in ("train", "test")}
            return cls(call, *data, **known)
        except (KeyError, TypeError) as error:
            raise _unknown_version(f"_fit_and_score is called in another way ({error})") from error

    @property
    def split(self) -> int:
        """Number of the split, from 0."""
        return self.split_progress[0]

    @property
    def candidate(self) -> int:
        """Number of the candidate, from 0."""
        return self.candidate_progress[0]

    def with_parameters(self) -> Any:
        """Return the estimator with this candidate's parameters."""
        return clone(self.estimator).set_params(**clone(self.parameters, safe=False))

    def score_params_of(self, rows: RowIndices) -> dict[str, Any]:
        """Return the parameters of the scorer for some samples."""
        params: dict[str, Any] = _check_method_params(self.X, params=self.score_params, indices=rows)
        return params

    def tell_callbacks(self) -> None:
        """Tell scikit-learn's callbacks of this fit, which scikit-learn did not do itself."""
        if self.callback_ctx is not None:
            weight = self.fit_params.get("sample_weight")
            # Made if a callback asks for them: of hundreds of fits, copies of all training samples are slow.
            data: dict[str, Any] = {name: partial(take_rows, getattr(self, name), self.train) for name in ("X", "y")}
            if weight is not None:
                data["metadata"] = lambda: {"sample_weight": take_rows(weight, self.train)}
            self.callback_ctx.call_on_fit_task_begin(estimator=self.caller, **data)
            self.callback_ctx.call_on_fit_task_end(estimator=self.caller, **data)


def search_fit(
    search: BaseSearchCV,
    X: Any,
    y: Any,
    params: dict[str, Any],
    parallel: Callable[..., Any],
    known: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Run ``BaseSearchCV.fit`` of the installed version on a search, with `parallel` in the place of ``Parallel``.

    `parallel` is called with `n_jobs` and `pre_dispatch`; what it returns is a context, which is called with an
    iterable of `Call` and returns a list of `FitResult` in their order. With `known` (n,), splits are those of the
    samples that it is true of, and the others are in every training part, and in no test part.
    """
    body: FunctionType = BaseSearchCV.fit.__wrapped__
    if "Parallel" not in body.__code__.co_names:
        raise _unknown_version("BaseSearchCV.fit does not use Parallel")
    # The function as scikit-learn compiled it, with one global replaced: nobody else's ``Parallel`` changes.
    names = {**body.__globals__, "Parallel": parallel}
    if known is not None:
        names["check_cv"] = partial(LabelledSplits.of, known)
    FunctionType(body.__code__, names, body.__name__, body.__defaults__, body.__closure__)(search, X, y, **params)


@dataclass(frozen=True, eq=False)
class LabelledSplits:
    """Splits of the samples with labels; those without, of which `known` (n,) is false, are always trained on."""

    known: npt.NDArray[np.bool_]
    splitter: Any

    @classmethod
    def of(cls, known: npt.NDArray[np.bool_], cv: Any, y: Any = None, *, classifier: bool = False) -> "LabelledSplits":
        """Do what ``check_cv`` does, with the labels that there are."""
        return cls(known, check_cv(cv, _safe_indexing(y, np.flatnonzero(known)), classifier=classifier))

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[RowIndices, RowIndices]]:
        """Yield rows to train and to test on."""
        rows, others = np.flatnonzero(self.known), np.flatnonzero(~self.known)
        parts = [None if each is None else _safe_indexing(each, rows) for each in (X, y, groups)]
        for train, test in self.splitter.split(*parts):
            yield np.concatenate([rows[train], others]), rows[test]

    def get_n_splits(self, X: Any, y: Any = None, groups: Any = None) -> int:
        """Give the number of splits."""
        rows = np.flatnonzero(self.known)
        parts = [None if each is None else _safe_indexing(each, rows) for each in (X, y, groups)]
        return int(self.splitter.get_n_splits(*parts))


class AnySearch(BaseSearchCV):
    """scikit-learn's grid, random and halving searches in one class, by the parameters `n_iter` and `halving`.

    The methods below are the places at which ``BaseSearchCV.fit`` asks a search what kind it is.
    """

    def _prepare_halving(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        """Do what ``BaseSuccessiveHalving.fit`` does before it calls ``BaseSearchCV.fit``."""
        if isinstance(self.scoring, (list, tuple, dict)):
            raise ValueError(f"halving needs a single metric. Got scoring={self.scoring!r}.")
        self._n_samples_orig = _num_samples(X)
        if not hasattr(BaseSearchCV, "_check_input_parameters"):  # before 1.9, whose fit calls it
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
        """Return the candidates that halving starts with."""
        candidates: Iterable[dict[str, Any]] = (
            ParameterGrid(self.param_grid)
            if self.n_iter is None
            else ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)
        )
        return candidates

    @property
    def param_distributions(self) -> Any:
        """`param_grid`, by the name that `RandomizedSearchCV` has for it."""
        return self.param_grid

    @staticmethod
    def _select_best_index(refit: Any, refit_metric: str, results: dict[str, Any]) -> Any:
        kind = BaseSuccessiveHalving if "n_resources" in results else BaseSearchCV
        return kind._select_best_index(refit, refit_metric, results)


def asks_for_predictions(scorer: Any) -> bool:
    """Tell whether a scorer wants predictions and nothing else, so that it may be given a head and the head's features.

    Any other function gets the whole estimator and the samples as they came.
    """
    if isinstance(scorer, _MultimetricScorer):
        return all(map(asks_for_predictions, scorer._scorers.values()))
    return isinstance(scorer, (_BaseScorer, _PassthroughScorer))


def asks_for_accuracy(scorer: Any) -> bool:
    """Tell whether a scorer is the default one, `score` of a classifier, or ``"accuracy"``."""
    if isinstance(scorer, _PassthroughScorer):
        return True
    plain = isinstance(scorer, _Scorer) and scorer._sign == 1 and not scorer._kwargs
    return plain and scorer._score_func is accuracy_score


def metric_names(scorer: Any) -> list[str] | None:
    """List the scores that a scorer returns by name; None if it returns one number, or says only when called."""
    return list(scorer._scorers) if isinstance(scorer, _MultimetricScorer) else None


def fit_params_by_step(pipeline: Pipeline, fit_params: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the parameters that ``Pipeline.fit`` passes on, by step and method; raise what it would raise."""
    routed: dict[str, dict[str, dict[str, Any]]] = pipeline._check_method_params(method="fit", props=fit_params)
    return routed


def remember_feature_names(fitted: Any, X: Any) -> None:
    """Set ``feature_names_in_`` of an estimator that was fitted on the values of a data frame."""
    _check_feature_names(fitted, X, reset=True)


def _row_indices(indices: Any) -> RowIndices:
    rows = np.asarray(indices)
    return np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.intp, copy=False)


def _unknown_version(what: str) -> RuntimeError:
    return RuntimeError(f"scikit-learn {sklearn.__version__} has another search than frofa knows: {what}.")
