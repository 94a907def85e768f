"""What the search relies on in scikit-learn's private parts: each test says what changed if it fails."""

import ast
from functools import partial
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from search_helpers import FEATURES, LABELS, without_times
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import accuracy_score, check_scoring, get_scorer, make_scorer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._search_successive_halving import BaseSuccessiveHalving
from sklearn.model_selection._validation import _fit_and_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.parallel import Parallel

import frofa.estimators
from frofa.estimators import BatchedSearchCV, LogisticProbeClassifier, PrototypeClassifier
from frofa.estimators.searching import sklearn_compat
from frofa.estimators.searching.sklearn_compat import (
    FitResult,
    SearchTask,
    asks_for_accuracy,
    asks_for_predictions,
    fit_params_by_step,
    metric_names,
    remember_feature_names,
    score,
    search_fit,
)


class Recorded:
    """Stands for ``Parallel``, and remembers its calls."""

    def __init__(self, calls: list[Any], **options: Any):
        self.calls, self.parallel = calls, Parallel(**options)

    def __enter__(self) -> "Recorded":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, calls: Any) -> list[FitResult]:
        calls = list(calls)
        self.calls.extend(calls)
        results: list[FitResult] = self.parallel(calls)
        return results


def calls_of(**arguments: Any) -> tuple[GridSearchCV, list[Any]]:
    """A search that is done through `search_fit`, and the calls that it made."""
    calls: list[Any] = []
    search = GridSearchCV(RidgeClassifier(), {"alpha": [1.0, 2.0]}, cv=KFold(3), **arguments)
    search_fit(search, FEATURES, LABELS, {}, partial(Recorded, calls))
    return search, calls


def test_base_search_cv_fit_hands_its_fits_to_parallel() -> None:
    search, calls = calls_of()
    assert len(calls) == 6, "BaseSearchCV.fit does not hand every fit to Parallel"
    theirs = GridSearchCV(RidgeClassifier(), {"alpha": [1.0, 2.0]}, cv=KFold(3)).fit(FEATURES, LABELS)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
    assert search.best_estimator_.alpha == theirs.best_estimator_.alpha


def test_a_search_without_parallel_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(self: Any, X: Any, y: Any) -> None:
        """Another version's."""

    fit.__wrapped__ = fit  # type: ignore[attr-defined]
    monkeypatch.setattr(BaseSearchCV, "fit", fit)
    with pytest.raises(RuntimeError, match=r"another search than frofa knows: BaseSearchCV\.fit does not use Parallel"):
        BatchedSearchCV(PrototypeClassifier(), {}).fit(FEATURES, LABELS)


def test_the_calls_are_of_fit_and_score_with_these_arguments() -> None:
    _, calls = calls_of(return_train_score=True, error_score=-1.0, verbose=0)
    function, (estimator, X, y), options = calls[4]
    assert function.function is _fit_and_score, "delayed() wraps functions in another way"
    assert isinstance(estimator, RidgeClassifier)
    assert X is FEATURES
    assert y is LABELS
    unknown = {"return_n_test_samples", "return_times", "return_parameters"}
    assert set(options) - set(SearchTask.__dataclass_fields__) == unknown, "_fit_and_score gets other arguments"
    task = SearchTask.of(calls[4])
    assert (task.candidate, task.split) == (1, 1)
    assert (task.candidate_progress[1], task.split_progress[1]) == (2, 3)
    assert task.parameters == {"alpha": 2.0}
    assert task.with_parameters().alpha == 2.0
    assert (task.return_train_score, task.error_score, task.verbose) == (True, -1.0, 0)
    assert (task.fit_params, task.score_params) == ({}, {}), "parameters of fit and score are no longer dicts"
    np.testing.assert_array_equal(task.test, np.arange(12, 24))
    np.testing.assert_array_equal(np.sort(np.append(task.train, task.test)), np.arange(36))


@pytest.mark.parametrize("gone", ["train", "split_progress", "scorer"])
def test_a_call_with_other_arguments_is_an_error(gone: str) -> None:
    _, calls = calls_of()
    function, data, options = calls[0]
    options = {name: value for name, value in options.items() if name != gone}
    with pytest.raises(RuntimeError, match=f"(?s){sklearn.__version__} has another search.*{gone}"):
        SearchTask.of((function, data, options))


@pytest.mark.filterwarnings("ignore:(?s).*fits failed", "ignore:One or more of the t")
@pytest.mark.parametrize("scoring", ["accuracy", ["accuracy", "neg_log_loss"]])
@pytest.mark.parametrize("train_scores", [False, True])
def test_results_have_the_fields_of_fit_and_score(scoring: Any, train_scores: bool) -> None:
    """Those of fits and of failures, trained together and in the ordinary way."""
    found: dict[str, list[FitResult]] = {}
    for name, run in {"ours": None, "theirs": partial(Recorded, [])}.items():
        search = BatchedSearchCV(LogisticProbeClassifier(), {"C": [1.0, -1.0]}, cv=2, scoring=scoring, refit=False)
        search.set_params(return_train_score=train_scores, error_score=-1.0)
        results = found.setdefault(name, [])

        def keep(out: Any, error_score: Any, results: list[FitResult] = results) -> None:  # noqa: ARG001
            results.extend(out)

        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(BaseSearchCV.fit.__wrapped__.__globals__, "_warn_or_raise_about_fit_failures", keep)
            if run is None:
                search.fit(FEATURES, LABELS)
            else:
                search_fit(search, FEATURES, LABELS, {}, run)
    assert len(found["ours"]) == len(found["theirs"]) == 4
    for one, other in zip(found["ours"], found["theirs"], strict=True):
        assert {key: type(value) for key, value in one.items()} == {key: type(value) for key, value in other.items()}
        assert (one["fit_error"] is None) == (other["fit_error"] is None)
        for key in set(without_times(one)) - {"fit_error"}:
            assert one[key] == pytest.approx(other[key], abs=1e-4)


def own(estimator: Any, X: Any, y: Any) -> float:
    """A scorer of a user's."""
    return float(estimator.score(X, y))


@pytest.mark.parametrize(
    ("scoring", "predictions", "accuracy", "names"),
    [
        (None, True, True, None),
        ("accuracy", True, True, None),
        (make_scorer(accuracy_score), True, True, None),
        (make_scorer(accuracy_score, normalize=False), True, False, None),
        (make_scorer(accuracy_score, greater_is_better=False), True, False, None),
        ("balanced_accuracy", True, False, None),
        ("neg_log_loss", True, False, None),
        (["accuracy", "roc_auc_ovr"], True, False, ["accuracy", "roc_auc_ovr"]),
        (own, False, False, None),
        ({"own": own, "accuracy": "accuracy"}, False, False, ["own", "accuracy"]),
    ],
)
def test_scorers_are_told_apart(scoring: Any, predictions: bool, accuracy: bool, names: list[str] | None) -> None:
    scorer = check_scoring(PrototypeClassifier(), scoring=scoring)
    assert asks_for_predictions(scorer) == predictions, "scorers are of other classes"
    assert asks_for_accuracy(scorer) == accuracy, "scorers keep function, sign or arguments under other names"
    assert metric_names(scorer) == names, "_MultimetricScorer keeps its scorers under another name"


@pytest.mark.parametrize("scoring", ["accuracy", "roc_auc", "neg_log_loss", None])
def test_scorers_ask_nothing_of_a_classifier_but_its_predictions(scoring: Any) -> None:
    """Whatever the samples are, which it passes on."""
    samples = object()

    class Known(ClassifierMixin, BaseEstimator):
        classes_ = np.array(["ant", "bee"])

        def predict(self, X: Any) -> Any:
            assert X is samples
            return np.array(["ant", "bee", "ant"])

        def predict_proba(self, X: Any) -> Any:
            assert X is samples
            return np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])

        def decision_function(self, X: Any) -> Any:
            return self.predict_proba(X)[:, 1]

    scorer, y = check_scoring(PrototypeClassifier(), scoring=scoring), np.array(["ant", "bee", "ant"])
    assert score(Known(), samples, y, scorer, {}, "raise") == pytest.approx(0 if scoring == "neg_log_loss" else 1)


def test_a_score_that_cannot_be_had_is_the_error_score() -> None:
    head = PrototypeClassifier().fit(FEATURES, LABELS)
    with pytest.warns(UserWarning, match="Scoring failed"):
        assert score(head, FEATURES[:, :3], LABELS, get_scorer("accuracy"), {}, -3.0) == -3.0
    with pytest.raises(ValueError, match="features"):
        score(head, FEATURES[:, :3], LABELS, get_scorer("accuracy"), {}, "raise")


def test_a_pipeline_says_what_its_steps_get() -> None:
    pipeline = make_pipeline(StandardScaler(), PrototypeClassifier())
    routed = fit_params_by_step(pipeline, {"prototypeclassifier__sample_weight": [1.0]})
    assert routed["prototypeclassifier"]["fit"] == {"sample_weight": [1.0]}, "Pipeline._check_method_params differs"
    assert not any(routed["standardscaler"].values())
    with pytest.raises(ValueError, match="does not accept the sample_weight parameter"):
        fit_params_by_step(pipeline, {"sample_weight": [1.0]})


def test_parameters_of_scorers_are_cut_to_the_samples() -> None:
    _, [call, *_] = calls_of()
    task = SearchTask.of((call[0], call[1], {**call[2], "score_params": {"sample_weight": np.arange(36), "deep": 3}}))
    params = task.score_params_of(np.array([2, 5]))
    assert params["sample_weight"].tolist() == [2, 5]
    assert params["deep"] == 3


def test_names_of_features_are_set() -> None:
    head: Any = PrototypeClassifier().fit(FEATURES, LABELS)
    remember_feature_names(head, pd.DataFrame(FEATURES[:1], columns=list("abcdefgh")))
    assert head.feature_names_in_.tolist() == list("abcdefgh")


def test_callbacks_have_these_methods() -> None:
    told: list[tuple[str, Any]] = []
    context = SimpleNamespace(
        call_on_fit_task_begin=lambda estimator, **_: told.append(("begin", estimator)),
        call_on_fit_task_end=lambda estimator, **_: told.append(("end", estimator)),
    )
    _, [call, *_] = calls_of()
    SearchTask.of((call[0], call[1], {**call[2], "callback_ctx": context, "caller": "search"})).tell_callbacks()
    assert told == [("begin", "search"), ("end", "search")]
    if hasattr(BaseSearchCV, "set_callbacks"):
        from sklearn.callback import CallbackContext

        for name in vars(context):
            parameters = signature(getattr(CallbackContext, name)).parameters.values()
            needed = {one.name for one in parameters if one.default is one.empty and one.kind is one.KEYWORD_ONLY}
            assert needed <= {"estimator"}, f"CallbackContext.{name} needs more than the estimator"


@pytest.mark.parametrize(
    "name", ["_check_input_parameters", "_run_search", "_select_best_index", "fit", "_generate_candidate_params"]
)
def test_halving_still_asks_what_kind_of_search_it_is(name: str) -> None:
    source = Path(sklearn.__file__).with_name("model_selection") / "_search_successive_halving.py"
    assert hasattr(BatchedSearchCV, name)
    assert name in source.read_text(), f"BaseSuccessiveHalving has no {name} any more"
    if name not in ("fit", "_generate_candidate_params"):
        assert name in vars(BaseSuccessiveHalving), f"BaseSuccessiveHalving has no {name} of its own any more"


def test_no_other_module_of_the_search_imports_a_private_name() -> None:
    """Except for what scikit-learn keeps for all estimators: `_fit_context` and constraints of parameters."""
    folder, private = Path(frofa.estimators.__file__).parent, set[str]()
    files = {*folder.joinpath("searching").glob("*.py"), folder / "search.py"} - {Path(sklearn_compat.__file__)}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "sklearn":
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                private |= {name for name in names if "._" in name}
    assert len(files) > 8
    assert private == {"sklearn.base._fit_context", "sklearn.utils._param_validation.Interval"}
