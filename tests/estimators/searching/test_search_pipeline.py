"""Searches over pipelines that end in a head: the same results, each leading step fitted as rarely as possible."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from search_helpers import FEATURES, LABELS, TOKENS, assert_same_results
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler

import frofa
from frofa import FrozenFeatureExtractor, load_image_folder
from frofa.augmentations import Brightness
from frofa.backbones.backbone import Backbone
from frofa.estimators import (
    BatchedSearchCV,
    BatchFallbackWarning,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
)
from frofa.estimators.batched.jobs import fit_many

MAP = MAPClassifier(None, n_steps=4, batch_size=16, random_state=0, device="cpu")


class Counted(TransformerMixin, BaseEstimator):
    """Scales; counts its fits and the samples it has transformed."""

    log: list[tuple[str, int]] = []

    def __init__(self, factor: float = 1.0, stateless: bool = False, broken: bool = False):
        self.factor = factor
        self.stateless = stateless
        self.broken = broken

    def fit(self, X: Any, y: Any = None) -> "Counted":  # noqa: ARG002
        self.log.append(("fit", len(X)))
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        if self.broken and 17 in np.asarray(X)[:, 0]:
            raise ValueError("cannot transform a 17")
        self.log.append(("transform", len(X)))
        return X * self.factor

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = not self.stateless
        return tags


@pytest.fixture
def log() -> list[tuple[str, int]]:
    Counted.log.clear()
    return Counted.log


@pytest.mark.parametrize("train_scores", [False, True])
@pytest.mark.parametrize(
    "grid",
    [
        {"head__C": [0.1, 1.0], "pca__n_components": [2, 5]},
        [{"head__C": [1e-3], "pca": ["passthrough", PCA(3)]}, {"normalizer__norm": ["l1"]}],
        {"head": [RidgeProbeClassifier(alphas=1.0), PrototypeClassifier(), MAP], "pca__n_components": [4]},
    ],
    ids=["parameters", "steps", "heads"],
)
def test_results_are_those_of_grid_search(grid: Any, train_scores: bool) -> None:
    pipeline = Pipeline([("normalizer", Normalizer()), ("pca", PCA(2)), ("head", LogisticProbeClassifier())])
    arguments: dict[str, Any] = {
        "scoring": ["accuracy", "neg_log_loss"],
        "refit": "accuracy",
        "return_train_score": train_scores,
        "cv": 3,
    }
    ours = BatchedSearchCV(pipeline, grid, **arguments).fit(FEATURES, LABELS)
    theirs = GridSearchCV(pipeline, grid, **arguments).fit(FEATURES, LABELS)
    assert_same_results(ours, theirs, atol=1e-4)
    np.testing.assert_array_equal(ours.predict(FEATURES), theirs.predict(FEATURES))


def test_tokens_between_steps() -> None:
    flat = TOKENS.reshape(36, -1)
    cut = FunctionTransformer(np.reshape, kw_args={"shape": (-1, 4, 8)}) if np.__version__ >= "2.1" else None
    if cut is None:
        pytest.skip("np.reshape has no argument shape")
    pipeline = make_pipeline(StandardScaler(), cut, MAP)
    grid: Any = [{"mapclassifier__lr": [0.01, 0.1]}, {"mapclassifier": [RidgeProbeClassifier(alphas=1.0)]}]
    ours = BatchedSearchCV(pipeline, grid, scoring="neg_log_loss", cv=3).fit(flat, LABELS)
    assert_same_results(ours, GridSearchCV(pipeline, grid, scoring="neg_log_loss", cv=3).fit(flat, LABELS), atol=1e-4)


def test_steps_are_fitted_once_a_fold_and_setting(log: list[tuple[str, int]]) -> None:
    pipeline = Pipeline([("first", Counted()), ("head", LogisticProbeClassifier())])
    grid: Any = {"head__C": [0.1, 1.0, 10.0], "first__factor": [1.0, 2.0]}
    BatchedSearchCV(pipeline, grid, cv=3, refit=False).fit(FEATURES, LABELS)
    assert sorted(log) == [("fit", 24)] * 6 + [("transform", 12)] * 6 + [("transform", 24)] * 6
    log.clear()
    grid = {"head": [PrototypeClassifier(), RidgeProbeClassifier(alphas=1.0)]}
    BatchedSearchCV(pipeline, grid, cv=3, refit=False, return_train_score=True).fit(FEATURES, LABELS)
    assert sorted(log) == [("fit", 24)] * 3 + [("transform", 12)] * 3 + [("transform", 24)] * 6


def test_memory_holds_as_many_folds_as_it_can(log: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    import frofa.estimators.searching.chunks as chunks

    fits: list[int] = []

    def counted(X: Any, y: Any, jobs: Any, **options: Any) -> Any:
        fits.append(len(jobs))
        return fit_many(X, y, jobs, **options)

    monkeypatch.setattr(chunks, "fit_many", counted)
    monkeypatch.setattr(chunks, "FEATURE_BYTES", 1)
    pipeline = Pipeline([("first", Counted()), ("head", LogisticProbeClassifier())])
    grid: Any = {"head__C": [0.1, 1.0, 10.0], "first__factor": [1.0, 2.0]}
    ours = BatchedSearchCV(pipeline, grid, cv=3, refit=False).fit(FEATURES, LABELS)
    assert fits == [3] * 6
    assert log.count(("fit", 24)) == 6
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1)
    small = BatchedSearchCV(pipeline, grid, cv=3, refit=False).fit(FEATURES, LABELS)
    assert fits == [3] * 6 + [1] * 18
    assert_same_results(small, ours)


def test_steps_that_learn_nothing_are_applied_once(log: list[tuple[str, int]], tmp_path: Path) -> None:
    pipeline = Pipeline([("first", Counted(stateless=True)), ("scale", StandardScaler()), ("head", MAP)])
    grid: Any = [
        {"head__lr": [0.1, 0.01], "scale": ["passthrough", StandardScaler()]},
        {"head": [PrototypeClassifier()]},
    ]
    BatchedSearchCV(pipeline, grid, cv=3, refit=False, return_train_score=True).fit(FEATURES, LABELS)
    assert log == [("fit", 36), ("transform", 36)]
    log.clear()
    halving: dict[str, Any] = {"halving": True, "resource": "head__n_steps", "max_resources": 4, "factor": 2}
    search = BatchedSearchCV(pipeline, {"head__lr": [1.0, 0.1, 0.01]}, cv=2, refit=False, **halving)
    search.set_params(checkpoint=tmp_path / "search.jsonl").fit(FEATURES, LABELS)
    assert search.n_iterations_ == 2
    assert log == [("fit", 36), ("transform", 36)]


def test_a_function_of_all_samples_is_applied_to_each_fold() -> None:
    pipeline = make_pipeline(FunctionTransformer(lambda X: X - X.mean(0)), LogisticProbeClassifier())
    arguments: dict[str, Any] = {
        "param_grid": {"logisticprobeclassifier__C": [0.1, 1.0]},
        "scoring": "neg_log_loss",
        "cv": 3,
    }
    ours = BatchedSearchCV(pipeline, **arguments).fit(FEATURES, LABELS)
    assert_same_results(ours, GridSearchCV(pipeline, **arguments).fit(FEATURES, LABELS), atol=1e-4)


@pytest.mark.parametrize("stateless", [False, True])
@pytest.mark.filterwarnings(
    "ignore:One or more of the t:UserWarning", "ignore:Scoring failed", "ignore:(?s).*fits failed"
)
def test_a_sample_that_a_step_cannot_take(stateless: bool) -> None:
    X = FEATURES.copy()
    X[20, 0] = 17
    pipeline = Pipeline([("first", Counted(stateless=stateless, broken=True)), ("head", PrototypeClassifier())])
    arguments: dict[str, Any] = {"param_grid": {"head__center": [True, False]}, "cv": 3, "error_score": -1.0}
    ours = BatchedSearchCV(pipeline, refit=False, **arguments).fit(X, LABELS)
    assert_same_results(ours, GridSearchCV(pipeline, refit=False, **arguments).fit(X, LABELS))
    assert (ours.cv_results_["mean_test_score"] == -1).all()


def test_weights_reach_the_head() -> None:
    weights = np.linspace(0.1, 3, 36)
    pipeline = Pipeline([("scale", StandardScaler()), ("head", PrototypeClassifier())])
    arguments: dict[str, Any] = {"param_grid": {"head__center": [True, False]}, "scoring": "neg_log_loss"}
    given: dict[str, Any] = {"head__sample_weight": weights}
    assert_same_results(
        BatchedSearchCV(pipeline, **arguments).fit(FEATURES, LABELS, **given),
        GridSearchCV(pipeline, **arguments).fit(FEATURES, LABELS, **given),
    )
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline.set_params(
            head=PrototypeClassifier().set_fit_request(sample_weight=True),
            scale=StandardScaler().set_fit_request(sample_weight=False),
        )
        arguments["scoring"] = get_scorer("accuracy").set_score_request(sample_weight=True)
        assert_same_results(
            BatchedSearchCV(pipeline, **arguments).fit(FEATURES, LABELS, sample_weight=weights),
            GridSearchCV(pipeline, **arguments).fit(FEATURES, LABELS, sample_weight=weights),
        )
    given = {"scale__sample_weight": weights}
    with pytest.warns(BatchFallbackWarning, match="Pipeline: its leading steps get fit parameters"):
        ours = BatchedSearchCV(
            Pipeline([("scale", StandardScaler()), ("head", PrototypeClassifier())]), **arguments
        ).fit(FEATURES, LABELS, **given)
    theirs = GridSearchCV(Pipeline([("scale", StandardScaler()), ("head", PrototypeClassifier())]), **arguments)
    assert_same_results(ours, theirs.fit(FEATURES, LABELS, **given))


def test_a_scorer_of_ones_own_gets_the_pipeline_and_the_samples() -> None:
    table = pd.DataFrame(FEATURES, columns=list("abcdefgh"))

    def scorer(pipeline: Any, X: Any, y: Any) -> float:
        assert list(X.columns) == list("abcdefgh")
        assert list(pipeline["head"].feature_names_in_) == list("abcdefgh")
        assert list(pipeline.named_steps) == ["off", "scale", "head"]
        return float(pipeline.score(X, y) + pipeline["scale"].mean_[0])

    pipeline = Pipeline([("off", None), ("scale", StandardScaler()), ("head", PrototypeClassifier())])
    pipeline.set_output(transform="pandas")
    arguments: dict[str, Any] = {"param_grid": {"head__center": [True, False]}, "scoring": scorer}
    ours = BatchedSearchCV(pipeline, **arguments).fit(table, LABELS)
    assert_same_results(ours, GridSearchCV(pipeline, **arguments).fit(table, LABELS))


def test_only_candidates_that_need_it_are_fitted_one_by_one() -> None:
    pipeline = Pipeline([("scale", StandardScaler()), ("head", PrototypeClassifier())])
    grid: Any = [{"head": [LogisticRegression(), PrototypeClassifier()]}, {"head__center": [False]}]
    with pytest.warns(BatchFallbackWarning) as caught:
        ours = BatchedSearchCV(pipeline, grid, cv=3).fit(FEATURES, LABELS)
    (warning,) = (one for one in caught if one.category is BatchFallbackWarning)
    assert "Pipeline: its last step, LogisticRegression, is none of frofa's heads (3 fits)." in str(warning.message)
    assert_same_results(ours, GridSearchCV(pipeline, grid, cv=3).fit(FEATURES, LABELS))


def test_features_of_images_are_computed_once(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    extract = Backbone.extract

    def counted(self: Backbone, images: Any, *arguments: Any) -> Any:
        computed.append(len(images))
        return extract(self, images, *arguments)

    monkeypatch.setattr(Backbone, "extract", counted)
    paths, labels = load_image_folder(image_folder)
    pipeline = make_pipeline(FrozenFeatureExtractor(), MAP)
    grid: Any = [
        {"mapclassifier__augment": [Brightness(0.2)], "mapclassifier__augment__level": [0.1, 0.3]},
        {"mapclassifier": [RidgeProbeClassifier(alphas=1.0), PrototypeClassifier()]},
    ]
    search = BatchedSearchCV(pipeline, grid, cv=2, scoring="neg_log_loss", refit=False).fit(paths, labels)
    assert sum(computed) == len(paths)
    theirs = GridSearchCV(
        pipeline.set_params(frozenfeatureextractor__store=tmp_path / "store"), grid, cv=2, scoring="neg_log_loss"
    ).fit(paths, labels)
    assert_same_results(search, theirs.set_params(refit=False).fit(paths, labels), atol=1e-4)


def test_a_search_is_saved_by_its_best_estimator(tmp_path: Path) -> None:
    search = BatchedSearchCV(PrototypeClassifier(), {"center": [True, False]}).fit(FEATURES, LABELS)
    frofa.save(search, tmp_path / "search.frofa")
    loaded = frofa.load(tmp_path / "search.frofa")
    assert loaded.get_params() == search.best_estimator_.get_params()
    assert loaded.predict(FEATURES).tolist() == search.predict(FEATURES).tolist()
