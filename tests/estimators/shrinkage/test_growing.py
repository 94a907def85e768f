"""Samples and classes come and go as if the probe had been fitted to what is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import gaussian

import frofa
from frofa import FeatureBlocks
from frofa.estimators import ShrinkageProbeClassifier

X, CODES = gaussian(60, 20)
Y = np.array(["bee", "cat", "dog"])[CODES]
RNG = np.random.default_rng(0)
WEIGHTS = RNG.uniform(0.5, 2, 60)
BLOCKS = FeatureBlocks(
    {"pooled": [X[:, :12], X[:, :12] + 0.1], "mean": [X[:, 12:].astype(np.float16), X[:, 12:] * 1.1]}
)
OLD, NEW = slice(0, 40), slice(40, 60)


def assert_same(one: Any, other: Any) -> None:
    """All that was fitted is equal, to the last bit."""
    mine, theirs = ({k: v for k, v in vars(each).items() if k.endswith("_")} for each in (one, other))
    assert mine.keys() == theirs.keys()
    for name, known in mine["novelty_"].items():
        np.testing.assert_array_equal(known, theirs["novelty_"][name])
    for name in mine.keys() - {"support_", "novelty_"}:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
    for block, views in mine["support_"]["features"].items():
        np.testing.assert_array_equal(views, theirs["support_"]["features"][block])


@pytest.mark.parametrize(
    "params", [{}, {"background": X[:9]}, {"class_prior": "empirical", "class_weight": "balanced"}], ids=str
)
@pytest.mark.parametrize("features", [X, BLOCKS], ids=["array", "blocks"])
def test_partial_fit_is_fit(features: Any, params: dict[str, Any]) -> None:
    whole = ShrinkageProbeClassifier(**params).fit(features, Y, WEIGHTS)
    first = ShrinkageProbeClassifier(**params).partial_fit(features[OLD], Y[OLD], np.unique(Y), WEIGHTS[OLD])
    assert_same(first.partial_fit(features[NEW], Y[NEW], sample_weight=WEIGHTS[NEW]), whole)
    later = ShrinkageProbeClassifier(**params).fit(features[OLD], Y[OLD], WEIGHTS[OLD])
    assert_same(later.partial_fit(features[NEW], Y[NEW], np.unique(Y), WEIGHTS[NEW]), whole)


@pytest.mark.parametrize("label", ["ant", "cow", "eel"])
@pytest.mark.parametrize("features", [X, BLOCKS], ids=["array", "blocks"])
def test_a_class_that_is_added_and_dropped_leaves_nothing(features: Any, label: str) -> None:
    before = ShrinkageProbeClassifier().fit(features[OLD], Y[OLD])
    head = ShrinkageProbeClassifier().fit(features[OLD], Y[OLD])
    head.add_class(features[NEW], label)
    assert label in head.classes_
    assert_same(
        head, ShrinkageProbeClassifier().fit(features, np.concatenate([Y[OLD], np.full(20, label)]).astype(Y.dtype))
    )
    assert_same(head.drop_class(label), before)


def test_dropping_a_class_is_fitting_without_it() -> None:
    head = ShrinkageProbeClassifier().fit(BLOCKS, Y, WEIGHTS).drop_class("cat")
    rest = Y != "cat"
    assert_same(head, ShrinkageProbeClassifier().fit(BLOCKS[rest], Y[rest], WEIGHTS[rest]))


def test_a_long_label_is_not_cut() -> None:
    head = ShrinkageProbeClassifier().fit(X[OLD], Y[OLD]).add_class(X[NEW], "hippopotamus")
    assert head.classes_.tolist() == ["bee", "cat", "dog", "hippopotamus"]
    assert "hippopotamus" in head.predict(X[NEW])


def test_a_class_may_wait_for_its_samples() -> None:
    head = ShrinkageProbeClassifier().partial_fit(X[OLD], Y[OLD], ["bee", "cat", "dog", "emu"])
    assert head.predict_proba(X)[:, 3].max() == 0
    others = ShrinkageProbeClassifier().fit(X[OLD], Y[OLD])
    np.testing.assert_allclose(head.predict_proba(X)[:, :3], others.predict_proba(X), rtol=1e-9)
    head.partial_fit(X[NEW], np.full(20, "emu"))
    assert (head.predict(X[NEW]) == "emu").mean() > 0.3


@pytest.mark.parametrize("background", [None, BLOCKS[::7], X[:9]], ids=["none", "blocks", "array"])
def test_a_saved_head_goes_on(background: Any, tmp_path: Path) -> None:
    frofa.save(ShrinkageProbeClassifier(background=background).fit(BLOCKS[OLD], Y[OLD]), tmp_path / "head.frofa")
    loaded = frofa.load(tmp_path / "head.frofa").partial_fit(BLOCKS[NEW], Y[NEW])
    assert loaded.background is None
    assert_same(loaded, ShrinkageProbeClassifier(background=background).fit(BLOCKS, Y))
    assert_same(loaded.set_params(background=None).fit(BLOCKS, Y), ShrinkageProbeClassifier().fit(BLOCKS, Y))


def test_without_its_samples_nothing_is_added() -> None:
    head = ShrinkageProbeClassifier(keep_support=False).fit(X, Y)
    assert not hasattr(head, "support_")
    grows: list[Callable[[], Any]] = [
        lambda: head.partial_fit(X, Y),
        lambda: head.add_class(X, "emu"),
        lambda: head.drop_class("cat"),
    ]
    for grow in grows:
        with pytest.raises(ValueError, match="keep_support=False"):
            grow()


def test_what_makes_no_sense_is_an_error() -> None:
    head = ShrinkageProbeClassifier().fit(BLOCKS, Y)
    mistakes: dict[str, Callable[[], Any]] = {
        "add_class adds one. Got 'emu'": lambda: head.partial_fit(BLOCKS[NEW], np.full(20, "emu")),
        "a new class; .* Got 'cat'": lambda: head.add_class(BLOCKS[NEW], "cat"),
        "of the kind of 'bee'. Got 3": lambda: head.add_class(BLOCKS[NEW], 3),
        "3 classes, .* Got 'emu'": lambda: head.drop_class("emu"),
        "expected 2 views": lambda: head.add_class(BLOCKS[NEW].select(n_views=1), "emu"),
        "those of the first call": lambda: head.partial_fit(BLOCKS[NEW], Y[NEW], ["cat", "dog"]),
        "at least 2 classes": lambda: ShrinkageProbeClassifier().partial_fit(X, np.full(60, "cat")),
        "3 classes, ": lambda: ShrinkageProbeClassifier().fit(X[Y != "cat"], Y[Y != "cat"]).drop_class("dog"),
    }
    for message, grow in mistakes.items():
        with pytest.raises(ValueError, match=message):
            grow()
