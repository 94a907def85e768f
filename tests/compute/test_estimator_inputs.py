"""What heads take for features, labels and weights, and how they refuse the rest."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier

from frofa.augmentations import Brightness
from frofa.compute.arrays import as_features, as_labels, largest
from frofa.estimators import (
    BatchedSearchCV,
    LogisticProbeClassifier,
    MAPClassifier,
    NoveltyDetector,
    PrototypeClassifier,
    RaggedTokens,
    RidgeProbeClassifier,
    ShrinkageRegressor,
    SoftMoEClassifier,
)

Array = npt.NDArray[Any]
TOKENS = np.random.default_rng(0).normal(size=(24, 4, 6)).astype(np.float32)
LABELS = np.array(["a", "b", "c"] * 8)
QUICK: dict[str, Any] = {"n_steps": 3, "random_state": 0, "device": "cpu"}
PROBES = [RidgeProbeClassifier(), LogisticProbeClassifier(), PrototypeClassifier()]
TRAINED = [MAPClassifier(**QUICK), SoftMoEClassifier(**QUICK)]
HEADS = [*PROBES, *TRAINED]
heads = pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)


def ragged(tokens: Array) -> RaggedTokens:
    return RaggedTokens(tokens.reshape(-1, tokens.shape[2]), np.full((len(tokens), 2), 2))


@pytest.mark.parametrize(
    "give",
    [
        lambda x: list(x.bfloat16()),
        lambda x: x.bfloat16(),
        lambda x: list(x.clone().requires_grad_()),
        lambda x: x.clone().requires_grad_(),
        lambda x: [list(image) for image in x.half()],
        lambda x: [image.numpy().astype(np.float16) for image in x],
        lambda x: tuple(x.double()),
        lambda x: [x[0], *x[1:].numpy()],
    ],
)
def test_tensors_and_lists_of_them_are_their_values(give: Callable[[torch.Tensor], Any]) -> None:
    found = as_features(give(torch.from_numpy(TOKENS)))
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, TOKENS, rtol=1e-2, atol=1e-3)
    assert RidgeProbeClassifier().fit(give(torch.from_numpy(TOKENS)), LABELS).n_features_in_ == 6


def test_tensors_keep_their_precision() -> None:
    x = torch.tensor([[1 + 1e-12, 2.0]], dtype=torch.float64)
    assert as_features(x)[0, 0] == 1 + 1e-12


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        (torch.from_numpy(TOKENS[:, 0]).to_sparse(), "sparse"),
        (torch.empty(24, 6, device="meta"), "meta"),
        ({"a": 1}, "dict"),
        (iter(TOKENS), "Got .*iterator"),
        (None, "NoneType"),
    ],
)
def test_what_cannot_be_features_is_named(X: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=kind):
        RidgeProbeClassifier().fit(X, LABELS)


@pytest.mark.parametrize("search", [GridSearchCV, BatchedSearchCV])
def test_searches_take_lists_of_tensors(search: Any) -> None:
    X = list(torch.from_numpy(TOKENS).bfloat16())
    found = search(RidgeProbeClassifier(), {"alphas": [1.0, 10.0]}, cv=2).fit(X, LABELS)
    expected = search(RidgeProbeClassifier(), {"alphas": [1.0, 10.0]}, cv=2).fit(as_features(X), LABELS)
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])


@pytest.mark.parametrize("head", TRAINED, ids=lambda head: type(head).__name__)
@pytest.mark.parametrize("give", [lambda x: x, lambda x: x[:, 0], ragged])
def test_features_too_large_for_float32_are_refused_by_heads_that_are_trained(head: Any, give: Any) -> None:
    message = "computes in float32: features must be between -4.3e\\+09 and 4.3e\\+09. Got a magnitude of"
    huge = TOKENS * np.float32(1e20)
    with pytest.raises(ValueError, match=message):
        clone(head).fit(give(huge), LABELS)
    fitted = clone(head).fit(give(TOKENS), LABELS)
    for ask in (fitted.predict, fitted.predict_proba, fitted.decision_function):
        with pytest.raises(ValueError, match=message):
            ask(give(huge))


@heads
@pytest.mark.parametrize("scale", [1e-30, 1e4, 1e9])
def test_probabilities_are_finite_up_to_the_bound(head: Any, scale: float) -> None:
    X = TOKENS * np.float32(scale)
    assert np.isfinite(clone(head).fit(X, LABELS).predict_proba(X)).all()


@pytest.mark.parametrize("head", PROBES, ids=lambda head: type(head).__name__)
def test_probes_take_features_up_to_the_bound_of_float64(head: Any) -> None:
    X = TOKENS[:, 0].astype(np.float64)
    assert np.isfinite(clone(head).fit(X * 1e76, LABELS).predict_proba(X * 1e76)).all()
    with pytest.raises(ValueError, match="computes in float64"):
        clone(head).fit(X * 1e78, LABELS)
    assert largest(np.float64) < 1e78


@heads
def test_tokens_without_features_or_without_tokens_are_refused(head: Any) -> None:
    for empty in (TOKENS[..., :0], TOKENS[:, :0]):
        with pytest.raises(ValueError, match="one token or more of one feature or more"):
            clone(head).fit(empty, LABELS)
    fitted = clone(head).fit(TOKENS, LABELS)
    with pytest.raises(ValueError, match=r"Got tokens of shape \(24, 0, 6\)"):
        fitted.predict(TOKENS[:, :0])


@heads
@pytest.mark.parametrize("weight", [1e300, 1e-300, 5e-324, 0.0, -1.0, np.nan, np.inf])
def test_weights_that_cannot_be_computed_with_are_refused(head: Any, weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        clone(head).fit(TOKENS, LABELS, np.full(24, weight))


@heads
@pytest.mark.parametrize("weight", [1e-90, 1e90])
def test_weights_of_any_other_size_are_not(head: Any, weight: float) -> None:
    assert np.isfinite(clone(head).fit(TOKENS, LABELS, np.full(24, weight)).predict_proba(TOKENS)).all()


@pytest.mark.parametrize("class_weight", [{"a": -1.0}, {"a": np.nan}, {"a": 1e300}])
def test_class_weights_are_refused_alike(class_weight: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="times those of their classes, must be zero or between 1e-100 and 1e"):
        LogisticProbeClassifier(class_weight=class_weight).fit(TOKENS, LABELS)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (torch.arange(24) % 3, [0, 1, 2]),
        (list(torch.arange(24) % 3), [0, 1, 2]),
        ((torch.arange(24) % 3).float().requires_grad_(), [0.0, 1.0, 2.0]),
        (np.arange(24) % 2 == 0, [False, True]),
        (np.array([True, False] * 12, dtype=object), [False, True]),
        (np.array([3, 1, 2] * 8, dtype=object), [1, 2, 3]),
        (LABELS.astype(object), ["a", "b", "c"]),
        (np.array(["2020-01-01", "2021-01-01"] * 12, "M8[D]"), [dt.date(2020, 1, 1), dt.date(2021, 1, 1)]),
    ],
)
def test_labels_of_all_kinds(labels: Any, classes: list[Any]) -> None:
    head = RidgeProbeClassifier().fit(TOKENS, labels)
    assert head.classes_.tolist() == classes
    assert head.score(TOKENS, labels) == np.mean(head.predict(TOKENS) == as_labels(labels))


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy before 2 has no StringDType")
def test_labels_of_numpys_string_type() -> None:
    labels = LABELS.astype(np.dtypes.StringDType())
    head = RidgeProbeClassifier().fit(TOKENS, labels)
    assert head.classes_.tolist() == ["a", "b", "c"]
    assert head.score(TOKENS, labels) == head.score(TOKENS, LABELS)
    with pytest.raises(ValueError, match="Got None at position 1 of y"):
        as_labels(np.array(["a", None], np.dtypes.StringDType(na_object=None)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([1, "a", "b"] * 8, dtype=object), "labels of one kind.*Got objects: int, str"),
        (np.array([None, "a", "b"] * 8, dtype=object), "Got None at position 0 of y"),
        (["a", "b", None] * 8, "Got None at position 2 of y"),
        (np.array(["a", np.nan, "b"] * 8, dtype=object), "Got nan at position 1 of y"),
        (np.array(["NaT", "2020", "2021"] * 8, "M8[Y]"), "NaT"),
        (np.array([dt.date(2020, 1, 1 + i % 3) for i in range(24)]), "datetime64. Got objects: date"),
    ],
)
def test_labels_that_are_none_are_named(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RidgeProbeClassifier().fit(TOKENS, labels)


@heads
def test_ensembles_and_a_class_without_weight(head: Any) -> None:
    X, y = TOKENS[:, 0], np.array(["a"] * 11 + ["b"] * 12 + ["c"])
    assert clone(head).fit(X, y, (y != "c").astype(float)).classes_.tolist() == ["a", "b", "c"]
    two = [("head", clone(head)), ("ridge", RidgeProbeClassifier())]
    bagging = BaggingClassifier(clone(head), n_estimators=5, random_state=0).fit(X, y)
    voting = VotingClassifier(two, voting="soft").fit(X, y, sample_weight=(y != "c").astype(float))
    others = [
        AdaBoostClassifier(clone(head), n_estimators=2, random_state=0),
        StackingClassifier(two, cv=2),
        OneVsRestClassifier(clone(head)),
        CalibratedClassifierCV(clone(head), cv=2),
    ]
    for model in (bagging, voting, *(other.fit(X, LABELS) for other in others)):
        probabilities = model.predict_proba(X)
        assert probabilities.shape == (24, 3)
        assert np.isfinite(probabilities).all()


@heads
def test_attributes_named_like_parameters_are_parameters(head: Any) -> None:
    known = {name for one in HEADS for name in one.get_params(deep=False)}
    fresh = clone(head)
    assert {name for name in known if hasattr(fresh, name)} == set(fresh.get_params(deep=False))


@pytest.mark.parametrize("search", [GridSearchCV, BatchedSearchCV])
def test_grid_with_and_without_augmentation(search: Any) -> None:
    grid = {"augment": [None, Brightness(0.1, "c")], "augment__level": [0.1, 0.3]}
    with pytest.raises(ValueError, match=r"needs an augmentation\. Got augment=None\. A search .* has a list of grids"):
        search(RidgeProbeClassifier(), grid, cv=2).fit(TOKENS, LABELS)
    separate = [{"augment": [None]}, grid | {"augment": [Brightness(0.1, "c")]}]
    found = search(RidgeProbeClassifier(n_augmented=1, random_state=0), separate, cv=2).fit(TOKENS, LABELS)
    assert len(found.cv_results_["params"]) == 3


def test_level_of_the_default_augmentation_is_set_with_it_or_after_it() -> None:
    both = MAPClassifier(augment=None).set_params(augment="auto", augment__level=0.7)
    assert both.augment.level == MAPClassifier().set_params(augment__level=0.7).augment.level == 0.7
    with pytest.raises(ValueError, match="Invalid parameter 'augment'"):
        PrototypeClassifier().set_params(augment__level=0.1)


@pytest.mark.parametrize("alphas", [1e-300, [1e-300, 1e300], 1e300])
def test_ridge_penalties_near_zero_and_infinity(alphas: Any) -> None:
    X = np.random.default_rng(0).normal(size=(24, 60))
    X[:, 1] = X[:, 0]
    head = RidgeProbeClassifier(alphas, augment=Brightness(0.0, "c"), n_augmented=1, random_state=0)
    for probe in (RidgeProbeClassifier(alphas), head):
        assert np.isfinite(probe.fit(X, LABELS).predict_proba(X)).all()
        assert probe.errors_ is None or np.isfinite(probe.errors_).all()


@pytest.mark.parametrize(
    "head", [*HEADS, NoveltyDetector(), ShrinkageRegressor()], ids=lambda head: type(head).__name__
)
@pytest.mark.parametrize(
    "paths",
    [
        ["a/b.JPEG"] * 24,
        np.array(["a/b.JPEG"] * 24),
        np.array(["a/b.JPEG"] * 24, object),
        np.array(["a/b.JPEG"] * 24, bytes),
        [Path("a/b.JPEG")] * 24,
        pd.Series(["a/b.JPEG"] * 24),
        pd.DataFrame({"size": 1.5, "path": ["a/b.JPEG"] * 24}),
    ],
    ids=["list", "array", "objects", "bytes", "paths", "series", "frame"],
)
def test_paths_are_no_features(head: Any, paths: Any) -> None:
    name = type(head).__name__
    match = (
        rf"{name} takes features.*a/b\.JPEG.*make_pipeline\(FrozenFeatureExtractor\(\), {name}\(\)\).*ImageClassifier"
    )
    with pytest.raises(ValueError, match=match):
        clone(head).fit(paths, np.arange(24) % 3)


def test_numbers_among_objects_are_features() -> None:
    X = TOKENS[:, 0].astype(object)
    expected = RidgeProbeClassifier().fit(TOKENS[:, 0], LABELS).predict(TOKENS[:, 0])
    assert RidgeProbeClassifier().fit(X, LABELS).predict(pd.DataFrame(X)).tolist() == expected.tolist()
