"""A search of ours against scikit-learn's own: the same candidates, splits, results and choice."""

import pickle
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.stats import loguniform
from search_helpers import FEATURES, LABELS, TOKENS, assert_same_results
from sklearn.base import clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, RandomizedSearchCV, ShuffleSplit, StratifiedKFold
from sklearn.utils import get_tags
from tqdm import tqdm

from frofa.augmentations import Brightness, ChannelDropout
from frofa.estimators import (
    BatchedSearchCV,
    BatchFallbackWarning,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
)
from frofa.estimators.core.classifier import FeatureClassifier

MAP = MAPClassifier(None, n_steps=8, batch_size=16, random_state=0, device="cpu")
GRIDS: list[tuple[Any, Any]] = [
    (RidgeProbeClassifier(), {"alphas": [0.1, 1.0, [1.0, 100.0]], "class_weight": [None, "balanced"]}),
    (RidgeProbeClassifier(), {}),
    (
        RidgeProbeClassifier(random_state=0, n_augmented=2),
        [{"augment": [Brightness(0.1), None], "n_views": [0]}, {"augment": [Brightness(0.1)], "n_views": [2]}],
    ),
    (LogisticProbeClassifier(), {"C": np.logspace(-3, 1, 5)}),
    (LogisticProbeClassifier(), [{"C": [0.1], "class_weight": [{"ant": 2.0}]}, {"C": [0.3, 3.0], "tol": [1e-6]}]),
    (PrototypeClassifier(), {"center": [True, False], "normalize": [True, False], "temperature": [0.1, 1.0]}),
    (MAP, {"lr": [0.01, 0.1], "weight_decay": [0.0, 1e-2]}),
    (MAP, {"augment": [None, Brightness(0.2), ChannelDropout(0.1)], "n_steps": [4, 8]}),
    (MAP, [{"augment": [Brightness(0.2)], "augment__level": [0.1, 0.9]}, {"random_state": [1, 2], "batch_size": [8]}]),
]


@pytest.mark.parametrize("X", [FEATURES, TOKENS], ids=["features", "tokens"])
@pytest.mark.parametrize(("head", "grid"), GRIDS, ids=lambda value: type(value).__name__)
def test_results_are_those_of_grid_search(head: Any, grid: Any, X: Any) -> None:
    arguments: dict[str, Any] = {
        "scoring": ["accuracy", "neg_log_loss"],
        "refit": "neg_log_loss",
        "cv": 3,
        "return_train_score": True,
    }
    ours = BatchedSearchCV(head, grid, **arguments).fit(X, LABELS)
    theirs = GridSearchCV(head, grid, **arguments).fit(X, LABELS)
    assert_same_results(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    assert ours.score(X, LABELS) == pytest.approx(theirs.score(X, LABELS), abs=1e-4)
    assert ours.classes_.tolist() == ["ant", "bee", "cow"]
    assert ours.n_features_in_ == 8
    assert ours.refit_time_ > 0


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"refit": False},
        {"scoring": "roc_auc_ovr"},
        {"scoring": make_scorer(accuracy_score)},
        {"scoring": {"a": "accuracy", "b": "balanced_accuracy"}, "refit": "b"},
        {"scoring": ("accuracy", "f1_macro"), "refit": False},
        {"refit": lambda results: int(results["mean_test_score"].argmin())},
        {"scoring": lambda head, X, y: float((head.predict(X) != y).mean())},
        {"scoring": lambda head, X, y: {"right": head.score(X, y), "n": len(X)}, "refit": "right"},
        {"cv": StratifiedKFold(4, shuffle=True, random_state=3)},
        {"cv": ShuffleSplit(3, random_state=np.random.RandomState(0))},
        {"cv": [(np.arange(0, 36, 2), np.arange(1, 36, 2)), (np.arange(36) % 3 > 0, np.arange(36) % 3 == 0)]},
    ],
)
def test_arguments_mean_what_they_mean_in_grid_search(arguments: dict[str, Any]) -> None:
    grid: Any = {"temperature": [0.1, 1.0], "center": [False, True]}
    ours = BatchedSearchCV(PrototypeClassifier(), grid, **clone(arguments, safe=False)).fit(FEATURES, LABELS)
    theirs = GridSearchCV(PrototypeClassifier(), grid, **clone(arguments, safe=False)).fit(FEATURES, LABELS)
    assert_same_results(ours, theirs)


def test_random_search_draws_what_scikit_learn_draws() -> None:
    distributions = {"C": loguniform(1e-3, 1e2), "class_weight": [None, "balanced"]}
    ours = BatchedSearchCV(LogisticProbeClassifier(), distributions, n_iter=6, cv=3, random_state=5)
    theirs = RandomizedSearchCV(LogisticProbeClassifier(), distributions, n_iter=6, cv=3, random_state=5)
    assert_same_results(ours.fit(FEATURES, LABELS), theirs.fit(FEATURES, LABELS), atol=1e-4)


@pytest.mark.parametrize(
    "head", [RidgeProbeClassifier(alphas=1.0), LogisticProbeClassifier(), PrototypeClassifier(), MAP]
)
def test_weights_and_groups(head: Any) -> None:
    weights, groups = np.linspace(0.5, 2, 36), np.arange(36) % 4
    grid: Any = (
        {"temperature": [0.1]} if isinstance(head, PrototypeClassifier) else {"class_weight": [None, "balanced"]}
    )
    grid = (
        grid
        if isinstance(head, (PrototypeClassifier, RidgeProbeClassifier, LogisticProbeClassifier))
        else {"lr": [0.1]}
    )
    arguments: dict[str, Any] = {"cv": GroupKFold(4), "scoring": "neg_log_loss"}
    ours = BatchedSearchCV(head, grid, **arguments).fit(FEATURES, LABELS, sample_weight=weights, groups=groups)
    theirs = GridSearchCV(head, grid, **arguments).fit(FEATURES, LABELS, sample_weight=weights.tolist(), groups=groups)
    assert_same_results(ours, theirs, atol=1e-4)
    unweighted = BatchedSearchCV(head, grid, **arguments).fit(FEATURES, LABELS, groups=groups)
    assert not np.allclose(
        unweighted.cv_results_["split0_test_score"], ours.cv_results_["split0_test_score"], atol=1e-3
    )


def test_metadata_is_routed() -> None:
    weights = np.linspace(0.1, 3, 36)
    with sklearn.config_context(enable_metadata_routing=True):
        head = PrototypeClassifier().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        ours = BatchedSearchCV(head, {"center": [True, False]}, cv=GroupKFold(3))
        theirs = GridSearchCV(head, {"center": [True, False]}, cv=GroupKFold(3))
        given: dict[str, Any] = {"sample_weight": weights, "groups": np.arange(36) % 3}
        assert_same_results(ours.fit(FEATURES, LABELS, **given), theirs.fit(FEATURES, LABELS, **given))
        assert ours.score(FEATURES, LABELS, sample_weight=weights) == theirs.score(
            FEATURES, LABELS, sample_weight=weights
        )
        with pytest.raises(TypeError, match="unexpected"):
            ours.fit(FEATURES, LABELS, unknown=weights)


def test_data_frames_keep_their_names() -> None:
    table = pd.DataFrame(FEATURES, columns=[f"f{i}" for i in range(8)], index=np.arange(36)[::-1])
    labels = pd.Series(LABELS, index=table.index)

    def with_names(head: Any, X: Any, y: Any) -> float:
        assert list(X.columns) == head.feature_names_in_.tolist()
        return float(head.score(X, y))

    for scoring in ("accuracy", with_names):
        ours = BatchedSearchCV(LogisticProbeClassifier(), {"C": [0.1, 1.0]}, scoring=scoring).fit(table, labels)
        theirs = GridSearchCV(LogisticProbeClassifier(), {"C": [0.1, 1.0]}, scoring=scoring).fit(table, labels)
        assert_same_results(ours, theirs)
    assert ours.feature_names_in_.tolist() == list(table.columns)
    lists = BatchedSearchCV(LogisticProbeClassifier(), {"C": [0.1, 1.0]}).fit(FEATURES.tolist(), LABELS.tolist())
    assert_same_results(lists, theirs, atol=1e-6)


@pytest.mark.parametrize("head", [LogisticProbeClassifier(), MAP])
def test_tensors(head: Any) -> None:
    grid = {"C": [0.1, 1.0]} if isinstance(head, LogisticProbeClassifier) else {"lr": [0.01, 0.1]}
    search = BatchedSearchCV(head, grid, scoring="neg_log_loss")
    tensors = clone(search).fit(torch.as_tensor(np.array(TOKENS)), LABELS)
    assert_same_results(tensors, clone(search).fit(TOKENS, LABELS), atol=1e-6)
    half = clone(search).fit(torch.as_tensor(np.array(TOKENS)).bfloat16(), LABELS)
    assert_same_results(
        half, clone(search).fit(torch.as_tensor(np.array(TOKENS)).bfloat16().float(), LABELS), atol=1e-6
    )


def test_a_failed_candidate_is_named_and_harms_no_other() -> None:
    grid: Any = {"C": [0.1, -1.0, 1.0]}
    theirs = GridSearchCV(LogisticProbeClassifier(), grid, error_score=-7.0)
    ours = BatchedSearchCV(LogisticProbeClassifier(), grid, error_score=-7.0, return_train_score=True)
    with pytest.warns(FitFailedWarning, match=r"(?s)5 fits failed.*\{'C': -1\.0\}"):
        ours.fit(FEATURES, LABELS)
    with pytest.warns(FitFailedWarning):
        theirs.set_params(return_train_score=True).fit(FEATURES, LABELS)
    assert_same_results(ours, theirs, atol=1e-4)
    assert ours.cv_results_["split3_test_score"][1] == ours.cv_results_["mean_train_score"][1] == -7.0
    with pytest.raises(ValueError, match="'C' parameter of LogisticProbeClassifier"):
        ours.set_params(error_score="raise").fit(FEATURES, LABELS)
    with pytest.raises(ValueError, match="All the 5 fits failed"):
        ours.set_params(error_score=np.nan, param_grid={"C": [-1.0]}).fit(FEATURES, LABELS)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_diverged_candidate_gets_the_error_score() -> None:
    search = BatchedSearchCV(clone(MAP).set_params(clip_norm=None), {"lr": [0.01, 1e30]}, cv=2)
    with pytest.warns(FitFailedWarning, match=r"(?s)2 fits failed.*1e\+30"):
        search.fit(FEATURES, LABELS)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]
    assert search.best_params_ == {"lr": 0.01}


def test_labels_that_a_fold_does_not_have() -> None:
    folds = [(np.arange(24), np.arange(24, 36)), (np.arange(12), np.arange(12, 36)), (np.arange(36), np.arange(36))]
    ours = BatchedSearchCV(PrototypeClassifier(), {"center": [True, False]}, cv=folds, error_score=0.0)
    with pytest.warns(FitFailedWarning, match=r"(?s)2 fits failed.*one class only: ant"):
        ours.fit(FEATURES, LABELS)
    assert ours.cv_results_["split0_test_score"].tolist() == [0, 0]
    assert (ours.cv_results_["split2_test_score"] > 0.5).all()


def test_what_cannot_be_trained_together_is_fitted_as_ever() -> None:
    grid: Any = {"C": [0.01, 1.0]}
    ours = BatchedSearchCV(LogisticRegression(), grid, return_train_score=True, progress=True)
    with pytest.warns(BatchFallbackWarning, match="LogisticRegression: it is none of frofa's heads") as caught:
        ours.fit(FEATURES, LABELS)
    assert [one.category for one in caught].count(BatchFallbackWarning) == 1
    assert_same_results(ours, GridSearchCV(LogisticRegression(), grid, return_train_score=True).fit(FEATURES, LABELS))


class Halves(PrototypeClassifier):
    """Another way of fitting, which the engine of its base class does not know."""

    def _fit(self, support: Any) -> Any:
        super()._fit(support.rows(slice(0, None, 2)))


class Scaled(PrototypeClassifier):
    """The same way of fitting."""

    def _fixed_temperature(self) -> float:
        return 3.0


def test_a_subclass_with_another_fit_does_not_get_its_base_class_engine() -> None:
    ours = BatchedSearchCV(Halves(), {"center": [True, False]})
    with pytest.warns(BatchFallbackWarning, match="Halves: it has no batched training"):
        ours.fit(FEATURES, LABELS)
    assert_same_results(ours, GridSearchCV(Halves(), {"center": [True, False]}).fit(FEATURES, LABELS))
    arguments: dict[str, Any] = {"param_grid": {"center": [True, False]}, "scoring": "neg_log_loss"}
    assert_same_results(
        BatchedSearchCV(Scaled(calibrate=False), **arguments).fit(FEATURES, LABELS),
        GridSearchCV(Scaled(calibrate=False), **arguments).fit(FEATURES, LABELS),
    )


class Shifted(LogisticProbeClassifier):
    """Other predictions than those of its scores."""

    def predict(self, X: Any) -> Any:
        return np.roll(super().predict(X), 1)


class Inverted(LogisticProbeClassifier):
    """Other scores than a product of weights and features."""

    def _scores(self, features: Any) -> Any:
        return -super()._scores(features)


class Strict(LogisticProbeClassifier):
    """Another accuracy."""

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return super().score(X, y, sample_weight) - 0.5


@pytest.mark.parametrize("scoring", [None, "accuracy", ["accuracy", "neg_log_loss"]], ids=str)
@pytest.mark.parametrize("head", [Shifted(), Inverted(), Strict()], ids=lambda head: type(head).__name__)
def test_a_subclass_with_other_predictions_is_scored_by_these(head: Any, scoring: Any) -> None:
    arguments: dict[str, Any] = {"param_grid": {"C": [0.01, 1.0]}, "scoring": scoring, "cv": 3, "refit": False}
    ours = BatchedSearchCV(head, **arguments).fit(TOKENS, LABELS)
    assert_same_results(ours, GridSearchCV(head, **arguments).fit(TOKENS, LABELS), atol=1e-4)


def test_an_engine_that_fails_is_replaced_by_single_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> list[FeatureClassifier]:
        raise RuntimeError("no memory")

    monkeypatch.setattr(PrototypeClassifier, "_fit_many", broken)
    ours = BatchedSearchCV(PrototypeClassifier(), {"center": [True, False]})
    with pytest.warns(BatchFallbackWarning, match="PrototypeClassifier failed.*RuntimeError: no memory"):
        ours.fit(FEATURES, LABELS)
    assert_same_results(ours, GridSearchCV(PrototypeClassifier(), {"center": [True, False]}).fit(FEATURES, LABELS))


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_results_do_not_depend_on_the_chunks(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grid: Any = {"C": np.logspace(-3, 1, 5)}
    whole = BatchedSearchCV(LogisticProbeClassifier(), grid, scoring="neg_log_loss").fit(FEATURES, LABELS)
    monkeypatch.setattr("frofa.estimators.searching.run.FIRST_CHUNK", size)
    parts = BatchedSearchCV(LogisticProbeClassifier(), grid, scoring="neg_log_loss").fit(FEATURES, LABELS)
    assert_same_results(parts, whole, atol=1e-4)


def test_scikit_learns_own_messages(capsys: pytest.CaptureFixture[str]) -> None:
    head = PrototypeClassifier()
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense' for estimator PrototypeClassifier"):
        BatchedSearchCV(head, {"nonsense": [1]}).fit(FEATURES, LABELS)
    with pytest.raises(ValueError, match="Parameter grid for parameter 'center' need"):
        BatchedSearchCV(head, {"center": []}).fit(FEATURES, LABELS)
    with pytest.raises(ValueError, match="The 'n_iter' parameter of BatchedSearchCV must be"):
        BatchedSearchCV(head, {}, n_iter=0).fit(FEATURES, LABELS)
    with pytest.raises(ValueError, match="refit must be set to a scorer key"):
        BatchedSearchCV(head, {}, scoring=["accuracy", "f1_macro"]).fit(FEATURES, LABELS)
    BatchedSearchCV(head, {"center": [True]}, verbose=3, cv=2).fit(FEATURES, LABELS)
    printed = capsys.readouterr().out
    assert "Fitting 2 folds for each of 1 candidates, totalling 2 fits" in printed
    GridSearchCV(head, {"center": [True]}, verbose=3, cv=2).fit(FEATURES, LABELS)
    assert capsys.readouterr().out == printed


def test_several_metrics_take_one_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted: list[int] = []
    scores = PrototypeClassifier._scores

    def counted(self: PrototypeClassifier, features: Any) -> Any:
        predicted.append(len(features))
        return scores(self, features)

    monkeypatch.setattr(PrototypeClassifier, "_scores", counted)
    search = BatchedSearchCV(PrototypeClassifier(), {"center": [True, False]}, cv=3, refit=False)
    search.set_params(scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"]).fit(FEATURES, LABELS)
    assert predicted == [12] * 6


def test_callbacks_hear_of_every_fit() -> None:
    if not hasattr(BatchedSearchCV, "set_callbacks"):
        pytest.skip("scikit-learn before 1.9 has no callbacks")

    class Heard:
        def __init__(self) -> None:
            self.events: list[tuple[str, str]] = []

        def setup(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
            self.events.append(("setup", context.task_name))

        def on_fit_task_begin(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
            self.events.append(("begin", context.task_name))

        def on_fit_task_end(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
            self.events.append(("end", context.task_name))

        def teardown(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
            self.events.append(("teardown", context.task_name))

    ours, theirs = Heard(), Heard()
    for kind, heard in ((BatchedSearchCV, ours), (GridSearchCV, theirs)):
        kind(PrototypeClassifier(), {"center": [True, False]}, cv=3).set_callbacks(heard).fit(FEATURES, LABELS)
    assert ("end", "candidate-split-evaluation") in ours.events
    assert sorted(ours.events) == sorted(theirs.events)


def test_clone_pickle_and_repr() -> None:
    search = BatchedSearchCV(LogisticProbeClassifier(), {"C": [0.1, 1.0]}, cv=2, random_state=0)
    assert repr(clone(search)) == repr(search)
    assert clone(search).set_params(estimator__tol=1e-3, n_iter=1).estimator.tol == 1e-3
    assert "LogisticProbeClassifier" in search._repr_html_()
    assert get_tags(BatchedSearchCV(MAP, {})).input_tags.three_d_array
    assert is_classifier(search)
    loaded = pickle.loads(pickle.dumps(search.fit(FEATURES, LABELS)))  # noqa: S301 (our own)
    np.testing.assert_array_equal(loaded.predict(FEATURES), search.predict(FEATURES))
    assert_same_results(loaded, search)
    assert "best_estimator_" in loaded._repr_html_()


def test_progress_is_shown_over_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.utils.progress._is_watched", lambda: True)
    monkeypatch.setattr("tqdm.auto.tqdm", partial(tqdm, mininterval=0))
    BatchedSearchCV(PrototypeClassifier(), {"center": [True, False]}, cv=3, progress=True).fit(FEATURES, LABELS)
    shown = capsys.readouterr().err
    assert "search: 100%" in shown
    assert "6/6" in shown
