"""Saved estimators of scikit-learn: the same predictions to the last bit, labels of every kind, and what is refused."""

import datetime as dt
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_selection import SelectKBest, SelectPercentile, VarianceThreshold, chi2
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelBinarizer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVC

import frofa
from frofa import FeatureStore, FrozenFeatureExtractor
from frofa.augmentations import Brightness, Rotate, Sequential
from frofa.estimators import BatchedSearchCV, MAPClassifier, PrototypeClassifier, RaggedTokens, RidgeProbeClassifier
from frofa.exceptions import SavedFileError

RNG = np.random.default_rng(0)
LABELS = np.repeat(["ant", "bee", "cow"], 12)
X = np.abs(RNG.normal(size=(36, 6)) + np.repeat(np.eye(3, 6), 12, axis=0)).astype(np.float32)
CLASSIFIERS = [
    LogisticRegression(),
    LogisticRegression(class_weight={"ant": 2.0, "bee": 1.0, "cow": 1.0}),
    LogisticRegressionCV(Cs=[0.1, 1.0], cv=StratifiedKFold(3, shuffle=True, random_state=0)),
    RidgeClassifier(),
    RidgeClassifierCV(alphas=np.logspace(-1, 1, 3)),
    LinearSVC(random_state=0),
    SGDClassifier(random_state=0),
    SGDClassifier("log_loss", average=True, random_state=0),
    Perceptron(random_state=0),
    LinearDiscriminantAnalysis(),
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    QuadraticDiscriminantAnalysis(reg_param=0.1),
    GaussianNB(),
    BernoulliNB(),
    ComplementNB(),
    MultinomialNB(),
    NearestCentroid(),
    KNeighborsClassifier(3),
    KNeighborsClassifier(algorithm="ball_tree", weights="distance"),
    CalibratedClassifierCV(LinearSVC(random_state=0), cv=3),
    CalibratedClassifierCV(PrototypeClassifier(), method="isotonic", cv=3, ensemble=False),
    CalibratedClassifierCV(LogisticRegression(), method="temperature", cv=3),
    CalibratedClassifierCV(FrozenEstimator(GaussianNB().fit(X, LABELS))),
    VotingClassifier([("nb", GaussianNB()), ("ridge", RidgeProbeClassifier()), ("none", "drop")], voting="soft"),
    StackingClassifier([("nb", GaussianNB()), ("svc", LinearSVC(random_state=0))], cv=3, passthrough=True),
    OneVsRestClassifier(LogisticRegression()),
    OneVsOneClassifier(LinearSVC(random_state=0)),
    make_pipeline(
        make_union(PCA(2), make_pipeline(MaxAbsScaler(), SelectKBest(chi2, k=2))),
        StandardScaler(),
        LogisticRegression(),
    ),
    make_pipeline(
        ColumnTransformer(
            [("pca", PCA(2), [0, 1, 3]), ("same", "passthrough", slice(4, 6))], remainder=StandardScaler()
        ),
        GaussianNB(),
    ),
]
TRANSFORMERS = [
    StandardScaler(),
    MinMaxScaler(),
    MaxAbsScaler(),
    RobustScaler(),
    Normalizer(),
    PowerTransformer(),
    PowerTransformer("box-cox", standardize=False),
    QuantileTransformer(n_quantiles=9),
    PCA(3),
    PCA(0.9, whiten=True, svd_solver="full"),
    IncrementalPCA(2),
    TruncatedSVD(2, random_state=0),
    SelectKBest(k=2),
    SelectPercentile(percentile=50),
    VarianceThreshold(),
    FeatureUnion([("pca", PCA(2)), ("same", "passthrough")]),
]


def again(estimator: Any, path: Path) -> Any:
    frofa.save(estimator, path / "saved.frofa")
    return frofa.load(path / "saved.frofa")


def name(estimator: Any) -> str:
    return type(estimator).__name__


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what scikit-learn's own defaults will be
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=name)
def test_classifiers_predict_the_same_bits(estimator: Any, tmp_path: Path) -> None:
    loaded = again(estimator.fit(X, LABELS), tmp_path)
    assert repr(loaded) == repr(estimator)
    for method in ("predict", "predict_proba", "decision_function"):
        if hasattr(estimator, method):
            np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(estimator, method)(X))
    assert loaded.classes_.dtype == estimator.classes_.dtype
    np.testing.assert_array_equal(loaded.fit(X, LABELS).predict(X), estimator.predict(X))


@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=name)
def test_transformers_return_the_same_bits(estimator: Any, tmp_path: Path) -> None:
    loaded = again(estimator.fit(X, LABELS), tmp_path)
    found, expected = loaded.transform(X), estimator.transform(X)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize("encoder", [LabelEncoder(), LabelBinarizer()], ids=name)
def test_encoders_of_labels(encoder: Any, tmp_path: Path) -> None:
    loaded = again(encoder.fit(LABELS), tmp_path)
    np.testing.assert_array_equal(loaded.transform(LABELS), encoder.transform(LABELS))
    np.testing.assert_array_equal(loaded.inverse_transform(encoder.transform(LABELS)), LABELS)


UTC = dt.timezone.utc
PAIRS = {
    "text": np.array(["größe", "你好"]),
    "StringDType": np.array(["a", "b"], np.dtypes.StringDType()),
    "bytes": np.array([b"a", b"\xff"]),
    "whole": np.array([-(2**63), 2**63 - 1]),
    "unsigned": np.array([0, 2**64 - 1], np.uint64),
    "bool": np.array([False, True]),
    "real": np.array([0.0, 1.0], np.float32),
    "days": np.array(["2024-01-01", "2025-01-01"], "datetime64[D]"),
    "nanoseconds": np.array(["2024-01-01T00:00:00.000000001", "2025-01-01"], "datetime64[ns]"),
    "durations": np.array([1, 2], "timedelta64[25s]"),
    "dates": np.array([dt.date(2024, 1, 1), dt.date(2025, 1, 1)], object),
    "times": np.array([dt.datetime(2024, 1, 1, 1, tzinfo=UTC), dt.datetime(2025, 1, 1, tzinfo=UTC)], object),
    "timestamps": np.array([pd.Timestamp("2024-01-01 00:00:00.000000001"), pd.Timestamp("2025-01-01")], object),
    "objects": np.array(["a", "b"], object),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_labels_of_every_kind(pair: Any, tmp_path: Path) -> None:
    encoder = LabelEncoder()
    encoder.classes_ = pair
    loaded = again(encoder, tmp_path)
    assert loaded.classes_.dtype == pair.dtype
    assert loaded.classes_.tolist() == pair.tolist()
    assert [type(label) for label in loaded.classes_] == [type(label) for label in pair]


@pytest.mark.parametrize("kind", ["text", "whole", "bool", "days", "nanoseconds", "objects"])
@pytest.mark.parametrize("estimator", [PrototypeClassifier(), GaussianNB()], ids=name)
def test_predicted_labels_are_as_before(kind: str, estimator: Any, tmp_path: Path) -> None:
    y = PAIRS[kind][np.arange(36) % 2]
    loaded = again(estimator.fit(X, y), tmp_path)
    assert loaded.predict(X).dtype == estimator.predict(X).dtype
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_categories_and_named_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=list("abcdef"))
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), LogisticRegression())
    pipeline.fit(frame, pd.Series(LABELS).astype("category"))
    loaded = again(pipeline, tmp_path)
    assert loaded[0].transform(frame).equals(pipeline[0].transform(frame))
    np.testing.assert_array_equal(loaded.predict_proba(frame), pipeline.predict_proba(frame))
    assert loaded.feature_names_in_.tolist() == list("abcdef")
    columns = ColumnTransformer([("pca", PCA(2), ["b", "d"])], remainder="passthrough")
    calibrated = CalibratedClassifierCV(make_pipeline(columns, GaussianNB()), cv=3).fit(frame, LABELS)
    np.testing.assert_array_equal(again(calibrated, tmp_path).predict_proba(frame), calibrated.predict_proba(frame))


@pytest.mark.parametrize("kind", [GridSearchCV, BatchedSearchCV])
def test_of_a_search_the_best_estimator_is_saved(kind: Any, tmp_path: Path) -> None:
    search = kind(PrototypeClassifier(), {"center": [True, False]}, cv=3).fit(X, LABELS)
    loaded = again(search, tmp_path)
    assert repr(loaded) == repr(search.best_estimator_)
    np.testing.assert_array_equal(loaded.predict_proba(X), search.predict_proba(X))
    inside = again(make_pipeline(StandardScaler(), search).fit(X, LABELS), tmp_path)
    assert isinstance(inside[-1], PrototypeClassifier)


def test_heads_on_tokens_are_saved_with_all_that_they_do_to_views(tmp_path: Path) -> None:
    tokens = RNG.normal(size=(36, 5, 6)).astype(np.float32)
    augment = Sequential([Rotate(), Brightness(0.2)])
    options: dict[str, Any] = {
        "n_steps": 2,
        "n_prefix": 1,
        "grid": (2, 2),
        "n_views": 2,
        "random_state": 0,
        "device": "cpu",
        "num_heads": 2,
    }
    head = MAPClassifier(augment, **options).fit(tokens, LABELS)
    np.testing.assert_array_equal(again(head, tmp_path).predict_proba(tokens), head.predict_proba(tokens))
    ragged = RaggedTokens(tokens.reshape(-1, 6), np.tile([[5, 1]], (36, 1)))
    for kind in (PrototypeClassifier(), MAPClassifier(n_steps=2, random_state=0, device="cpu", num_heads=2)):
        kind.fit(ragged, LABELS)
        np.testing.assert_array_equal(again(kind, tmp_path).predict_proba(ragged), kind.predict_proba(ragged))


def test_arrays_keep_the_order_of_their_values(tmp_path: Path) -> None:
    scaler = StandardScaler().fit(X)
    scaler.by_columns_, scaler.half_ = np.asfortranarray(X), np.float16(0.1)  # as a version to come may have them
    loaded = again(scaler, tmp_path)
    assert loaded.by_columns_.flags.f_contiguous
    assert not loaded.by_columns_.flags.c_contiguous
    np.testing.assert_array_equal(loaded.by_columns_, X)
    assert type(loaded.half_) is np.float16
    assert loaded.half_ == np.float16(0.1)


def test_keys_that_look_alike_keep_their_values(tmp_path: Path) -> None:
    head = LogisticRegression().fit(X, LABELS)
    head.paths_ = {1: np.zeros(2), "1": np.ones(3)}
    loaded = again(head, tmp_path)
    assert {key: value.tolist() for key, value in loaded.paths_.items()} == {1: [0, 0], "1": [1, 1, 1]}


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (RandomForestClassifier(2, random_state=0), "a RandomForestClassifier: expected .*LogisticRegression"),
        (make_pipeline(FunctionTransformer(np.log1p), GaussianNB()), r"steps\.0\.1\.func, a ufunc: expected"),
        (make_pipeline(PCA(2), RandomForestClassifier(2, random_state=0)), r"steps\.1\.1, a RandomForestClassifier"),
        (KNeighborsClassifier(metric=lambda a, b: abs(a - b).sum()), "metric, a function"),
        (GridSearchCV(GaussianNB(), {}, cv=2, refit=False), "GridSearchCV without a best_estimator_: .*refit=True"),
        (SGDClassifier(random_state=np.random.RandomState(0)), "random_state, a RandomState"),
        (LogisticRegression(C=np.longdouble(1.5)), "C, an array of (float|long)"),
    ],
    ids=lambda value: name(value) if not isinstance(value, str) else "",
)
def test_what_is_not_known_is_refused_in_one_line(estimator: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(SavedFileError, match=message) as refused:
        frofa.save(estimator.fit(X, LABELS), tmp_path / "x")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_the_store_and_the_number_of_jobs_come_back(
    image_paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stores: list[Any] = ["features", tmp_path / "features", FeatureStore("features")]
    for store in stores:
        extractor = FrozenFeatureExtractor(output="pooled", store=store, n_jobs=2, batch_size=5)
        frofa.save(make_pipeline(extractor, PCA(2)).fit(image_paths), "model.frofa")
        monkeypatch.chdir(tmp_path.parent)
        loaded = frofa.load(tmp_path / "model.frofa")[0]
        assert type(loaded.store) is type(store)
        assert Path(getattr(loaded.store, "path", loaded.store)) == tmp_path / "features"
        assert (loaded.n_jobs, loaded.batch_size) == (2, 5)
        monkeypatch.chdir(tmp_path)


def test_a_store_of_another_machine_is_left_out(image_paths: list[str], tmp_path: Path) -> None:
    extractor = FrozenFeatureExtractor(output="pooled", store=tmp_path / "absent" / "features")
    frofa.save(extractor, tmp_path / "model.frofa")
    loaded = frofa.load(tmp_path / "model.frofa")
    assert loaded.store is None
    assert loaded.transform(image_paths[:1]).shape == (1, 192)


def test_a_cache_of_pickles_is_not_saved(tmp_path: Path) -> None:
    pipeline = make_pipeline(PCA(2), GaussianNB(), memory=str(tmp_path / "cache"))
    assert again(pipeline, tmp_path).memory is None


def test_predictions_of_a_calibrated_pipeline_from_images(image_paths: list[str], tmp_path: Path) -> None:
    labels = [Path(path).parent.name for path in image_paths]
    pipeline = make_pipeline(
        FrozenFeatureExtractor(output="pooled"), CalibratedClassifierCV(LinearSVC(random_state=0), cv=2)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.fit(image_paths, labels)
    loaded = again(pipeline, tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(image_paths), pipeline.predict_proba(image_paths))
