"""Sets of labels hold the right one as often as they say, and say so where they cannot."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from mapie.classification import CrossConformalClassifier, SplitConformalClassifier
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import frofa
from frofa import FeatureBlocks
from frofa.estimators import (
    ConformalClassifier,
    FewShotClassifier,
    LogisticProbeClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
)
from frofa.estimators.confidence.splitting import hold_out, one_by_one
from frofa.estimators.solvers.conformal.ranks import accepted, count_among, expected_coverage, labels_needed
from frofa.estimators.solvers.conformal.scores import Score

Array = npt.NDArray[Any]
METHODS = ["jackknife+", "full", "split", "cv+"]
NAMES = np.array(["ant", "bee", "cat"])


def draw(seed: int, n: int = 60, width: int = 4) -> tuple[Array, Array]:
    """Samples of three classes that overlap, as they come."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % 3)
    return rng.normal(size=(n, width)) + 0.8 * np.eye(3, width)[codes], NAMES[codes]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_ranks_are_those_of_the_sorted_scores(level: float) -> None:
    rng = np.random.default_rng(0)
    needed = labels_needed(level)
    assert np.ceil((needed + 1) * level - 1e-9) <= needed
    assert needed == 1 or np.ceil(needed * level - 1e-9) > needed - 1
    for n in (needed, needed + 3, 40):
        scores, new = rng.permutation(n).astype(float), np.arange(-1, n + 1, 0.5)[:, None]
        found = accepted(count_among(scores, np.zeros(n, int), new, per_class=False).p_values(), np.array([level]))
        rank = round(np.ceil((n + 1) * level - 1e-9))
        assert found[:, 0, 0].tolist() == (new[:, 0] <= np.sort(scores)[rank - 1]).tolist()
        assert expected_coverage(level, n) == pytest.approx(rank / (n + 1))


def test_numbers_of_labels_that_are_needed() -> None:
    assert [labels_needed(level) for level in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]


@pytest.mark.parametrize("method", METHODS)
def test_sets_of_sums_may_be_empty_unless_that_is_not_allowed(method: Any) -> None:
    X, y = draw(0, 60)
    model = ConformalClassifier(PrototypeClassifier(), 0.4, method=method, score="aps", random_state=0).fit(X, y)
    new = draw(1, 200)[0]
    sets = model.predict_set(new)[1][:, :, 0]
    filled = model.set_params(allow_empty=False).predict_set(new)[1][:, :, 0]
    empty = ~sets.any(1)
    assert empty.any()
    # Empty sets get the likeliest label, and the others stay as they are.
    np.testing.assert_array_equal(filled[~empty], sets[~empty])
    assert (filled[empty].sum(1) == 1).all()
    np.testing.assert_array_equal(filled[empty].argmax(1), model.predict_proba(new)[empty].argmax(1))


def test_scores_by_hand() -> None:
    proba = np.array([[0.5, 0.2, 0.3]])
    assert Score("lac", 0, 0).of_labels(proba)[0] == pytest.approx([0.5, 0.8, 0.7])
    assert Score("aps", 0, 0).of_labels(proba)[0] == pytest.approx([0.5, 1.0, 0.8])
    assert Score("aps", 0, 0).of_labels(proba, np.array([[0.5]]))[0] == pytest.approx([0.25, 0.9, 0.65])
    assert Score("raps", 0.1, 1).of_labels(proba)[0] == pytest.approx([0.5, 1.2, 0.9])
    assert Score("aps", 0, 0).of_own(proba, np.array([2])) == pytest.approx([0.8])


@pytest.mark.parametrize("method", METHODS)
def test_coverage_is_what_the_ranks_say(method: Any) -> None:
    # 19 samples, or 19 held out: sets of 80 % have the label in 16 of 20 cases, exactly so by full and split.
    hits, n_draws = [], 120
    n = 38 if method == "split" else 19
    for seed in range(n_draws):
        X, y = draw(seed, n + 10)
        model = ConformalClassifier(PrototypeClassifier(), 0.8, method=method, random_state=seed)
        _, sets = model.fit(X[:n], y[:n]).predict_set(X[n:])
        hits.append(sets[np.arange(10), np.searchsorted(model.classes_, y[n:]), 0].mean())
    deviation = np.std(hits) / np.sqrt(n_draws)
    assert abs(np.mean(hits) - 0.8) < 3.5 * deviation + (0 if method in ("full", "split") else 0.02)


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_randomized_sets_cover_as_much_as_was_asked_for(score: Any) -> None:
    # 17 samples held out, and 75 %: sets that include ties cover 14 / 18, 78 %, and more with ties.
    hits: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(200):
        X, y = draw(seed, 134)
        for randomized, found in hits.items():
            model = ConformalClassifier(
                PrototypeClassifier(), 0.75, method="split", score=score, randomized=randomized, random_state=seed
            )
            _, sets = model.fit(X[:34], y[:34]).predict_set(X[34:])
            assert len(model.codes_) == 17
            found.append(float(sets[np.arange(100), np.searchsorted(model.classes_, y[34:]), 0].mean()))
    deviation = np.std(hits[True]) / np.sqrt(200)
    assert abs(np.mean(hits[True]) - 0.75) < 3.5 * deviation
    assert np.mean(hits[False]) > 14 / 18 - 3.5 * deviation
    if score == "lac":
        assert abs(np.mean(hits[False]) - 14 / 18) < 3.5 * deviation


@pytest.mark.parametrize("method", ["jackknife+", "full", "cv+"])
@pytest.mark.parametrize("score", ["lac", "aps"])
def test_randomized_sets_are_parts_of_the_others_on_average_and_always_the_same(method: Any, score: Any) -> None:
    X, y = draw(0, 60)
    new = draw(1, 40)[0]
    settings: Any = {"method": method, "score": score, "random_state": 0}
    model = ConformalClassifier(PrototypeClassifier(), 0.8, randomized=True, **settings).fit(X, y)
    p_values = model.p_values(new)
    assert np.array_equal(model.p_values(new), p_values)
    plain = ConformalClassifier(PrototypeClassifier(), 0.8, **settings).fit(X, y).p_values(new)
    assert (p_values < plain).mean() > 0.5
    if score == "lac":
        assert (p_values <= plain).all()
        assert (plain - p_values).max() <= 1 / 61 + 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_each_class_is_compared_with_its_own_samples(method: Any) -> None:
    X, y = draw(0, 90)
    settings: Any = {"method": method, "random_state": 0}
    together = ConformalClassifier(PrototypeClassifier(), 0.8, **settings).fit(X, y)
    apart = ConformalClassifier(PrototypeClassifier(), 0.8, per_class=True, **settings).fit(X, y)
    new, labels = draw(1, 60)
    p_values = apart.p_values(new)
    n = 15 if method == "split" else 30
    # P-values are shares of the samples of a class and the new one, not of all samples.
    np.testing.assert_allclose(p_values * (n + 1), np.round(p_values * (n + 1)), atol=1e-9)
    assert np.abs(p_values - together.p_values(new)).max() > 0.02
    _, sets = apart.predict_set(new)
    for code, label in enumerate(NAMES):
        assert sets[labels == label, code, 0].mean() > 0.6


def test_too_few_labels_are_refused_in_numbers() -> None:
    X, y = draw(0, 60)
    with pytest.raises(ValueError, match=r"0\.9 needs at least 9 labels\. Got 7: .* ask for 0\.875 at most"):
        ConformalClassifier(PrototypeClassifier()).fit(X[:7], y[:7])
    with pytest.raises(ValueError, match=r"at least 9 labels to calibrate with, which are not fitted to\. Got 7"):
        ConformalClassifier(PrototypeClassifier(), method="split", random_state=0).fit(X[:14], y[:14])
    rows = np.concatenate([np.flatnonzero(y == label)[:n] for label, n in zip(NAMES, (9, 12, 5), strict=True)])
    with pytest.raises(ValueError, match=r"classes of at least 9 labels: 'cat' has 5\."):
        ConformalClassifier(PrototypeClassifier(), per_class=True).fit(X[rows], y[rows])
    with pytest.raises(ValueError, match=r"needs one of each\. Got 2 without"):
        ConformalClassifier(ShrinkageProbeClassifier()).fit(X[:20], np.array([-1, -1, *range(3), *range(15)]))
    model = ConformalClassifier(PrototypeClassifier(), 0.8).fit(X[:12], y[:12])
    with pytest.raises(ValueError, match=r"0\.95 needs at least 19 labels\. Got 12"):
        model.predict_set(X, confidence_level=[0.8, 0.95])
    for wrong in (1.0, [0.5, 0.0], "high", []):
        with pytest.raises(ValueError, match="confidence_level between 0 and 1"):
            model.predict_set(X, confidence_level=wrong)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
def test_sets_of_several_levels_are_nested(method: Any, score: Any) -> None:
    X, y = draw(0, 60)
    model = ConformalClassifier(RidgeProbeClassifier(alphas=[1.0]), method=method, score=score, random_state=0).fit(
        X, y
    )
    new = draw(1, 30)[0]
    labels, sets = model.predict_set(new, confidence_level=[0.5, 0.8, 0.9])
    assert labels.tolist() == model.predict(new).tolist()
    assert sets.shape == (30, 3, 3)
    assert sets.dtype == bool
    assert (sets[:, :, 0] <= sets[:, :, 1]).all()
    assert (sets[:, :, 1] <= sets[:, :, 2]).all()
    assert sets[:, :, 0].sum() < sets[:, :, 2].sum()
    assert np.array_equal(model.predict_set(new, 0.8)[1][:, :, 0], sets[:, :, 1])


def test_empty_sets_get_the_likeliest_label_where_they_are_not_allowed() -> None:
    X, y = draw(0, 60)
    X += 3 * np.eye(3, 4)[np.searchsorted(NAMES, y)]
    new = np.vstack([X, np.zeros((5, 4))])
    model = ConformalClassifier(PrototypeClassifier(), 0.5).fit(X, y)
    labels, sets = model.predict_set(new)
    _, filled = model.set_params(allow_empty=False).predict_set(new)
    empty = ~sets[:, :, 0].any(1)
    assert 0 < empty.sum() < len(new)
    assert np.array_equal(filled[~empty], sets[~empty])
    assert (filled[empty, :, 0].sum(1) == 1).all()
    assert (NAMES[filled[empty, :, 0].argmax(1)] == labels[empty]).all()


def test_split_sets_are_mapies() -> None:
    X, y = draw(0, 60)
    codes, new = np.searchsorted(NAMES, y), draw(1, 200)[0]
    ours = ConformalClassifier(LogisticRegression(), [0.7, 0.9], method="split", random_state=0).fit(X, codes)
    # As `fit` draws: first the seed of what is drawn at prediction.
    generator = np.random.RandomState(0)
    generator.randint(2**31 - 1)
    held = hold_out(codes, 0.5, generator)
    theirs = SplitConformalClassifier(ours.head_, [0.7, 0.9], prefit=True, random_state=0)
    theirs.conformalize(X[held], codes[held])
    np.testing.assert_array_equal(ours.predict_set(new)[1], theirs.predict_set(new)[1])


def test_left_out_sets_are_mapies() -> None:
    X, y = draw(0, 24)
    codes, new = np.searchsorted(NAMES, y), draw(1, 100)[0]
    # Levels at which MAPIE's rank, of a (n - 1), is that of the paper, of a (n + 1) - 1.
    ours = ConformalClassifier(LogisticRegression(), [0.7, 0.8]).fit(X, codes)
    assert len(ours.fold_heads_) == 24
    theirs = CrossConformalClassifier(LogisticRegression(), [0.7, 0.8], cv=LeaveOneOut(), random_state=0)
    theirs.fit_conformalize(X, codes)
    np.testing.assert_array_equal(ours.predict_set(new)[1], theirs.predict_set(new, agg_scores="crossval")[1])


def test_left_out_models_by_formula_agree_with_refitting() -> None:
    X, y = draw(0, 60)
    new = draw(1, 100)[0]
    head = PrototypeClassifier(center=False, normalize=False, calibrate=False)
    by_formula = ConformalClassifier(head, 0.8).fit(X, y)
    refitted = clone(by_formula).set_params(head=make_pipeline(head)).fit(X, y)
    assert hasattr(by_formula, "support_")
    assert len(refitted.fold_heads_) == 60
    np.testing.assert_allclose(by_formula.left_out_proba_, refitted.left_out_proba_, rtol=1e-9)
    np.testing.assert_array_equal(by_formula.p_values(new), refitted.p_values(new))


@pytest.mark.parametrize(
    "head",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        CalibratedClassifierCV(RidgeProbeClassifier(alphas=[1.0]), cv=2),
        LogisticProbeClassifier(),
        FewShotClassifier(),
    ],
    ids=lambda head: type(head).__name__,
)
def test_heads_of_all_kinds_in_folds(head: Any, tmp_path: Path) -> None:
    X, y = draw(0, 45)
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = ConformalClassifier(head, [0.7, 0.9], method="cv+", n_folds=3, score="raps", random_state=0).fit(frame, y)
    new = pd.DataFrame(draw(1, 30)[0], columns=list("abcd"))
    labels, sets = model.predict_set(new)
    assert set(labels) <= set(NAMES)
    assert sets[np.arange(30), np.searchsorted(NAMES, draw(1, 30)[1]), 1].mean() > 0.5
    np.testing.assert_array_equal(model.predict_proba(new).argmax(1), np.searchsorted(NAMES, labels))
    frofa.save(model, tmp_path / "sets.frofa")
    np.testing.assert_array_equal(frofa.load(tmp_path / "sets.frofa").predict_set(new)[1], sets)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_and_views_are_taken_and_saved(method: Any, tmp_path: Path) -> None:
    X, y = draw(0, 45)
    new = draw(1, 30)[0]
    rng = np.random.default_rng(0)

    def blocks(rows: Array) -> FeatureBlocks:
        return FeatureBlocks({"a": [rows, rows + 0.1 * rng.normal(size=rows.shape)], "b": [rows[:, 1:], rows[:, :3]]})

    model = ConformalClassifier(ShrinkageProbeClassifier(), 0.8, method=method, random_state=0).fit(blocks(X), y)
    features = blocks(new)
    _, sets = model.predict_set(features)
    assert sets[np.arange(30), np.searchsorted(NAMES, draw(1, 30)[1]), 0].mean() > 0.5
    frofa.save(model, tmp_path / "sets.frofa")
    loaded = frofa.load(tmp_path / "sets.frofa")
    np.testing.assert_array_equal(loaded.p_values(features), model.p_values(features))


def test_samples_without_weight_are_left_out() -> None:
    X, y = draw(0, 60)
    weights = (np.arange(60) < 40).astype(float)
    method: Any
    for method in METHODS:
        settings: Any = {"method": method, "random_state": 0}
        weighted = ConformalClassifier(RidgeProbeClassifier(), 0.8, **settings).fit(X, y, sample_weight=weights)
        fewer = ConformalClassifier(RidgeProbeClassifier(), 0.8, **settings).fit(X[:40], y[:40])
        np.testing.assert_allclose(weighted.p_values(X), fewer.p_values(X))
    with pytest.raises(ValueError, match="no sample_weight, as KNeighborsClassifier takes none"):
        ConformalClassifier(KNeighborsClassifier(), 0.8).fit(X, y, sample_weight=weights)


def test_classes_of_one_sample_are_never_fitted_without() -> None:
    X, y = draw(0, 30)
    y[y == "cat"] = "bee"
    y[0] = "cat"
    new = draw(1, 40)[0]
    for head in (RidgeProbeClassifier(), ShrinkageProbeClassifier(), PrototypeClassifier(), LogisticRegression()):
        method: Any
        for method in METHODS if head.__class__.__module__.startswith("frofa") else ("split", "cv+"):
            model = ConformalClassifier(head, 0.8, method=method, random_state=0).fit(X, y)
            p_values = model.p_values(new)
            assert p_values.shape == (40, 3)
            assert ((p_values > 0) & (p_values <= 1)).all()


def test_parts_of_the_samples() -> None:
    codes = np.repeat(np.arange(4), [10, 7, 2, 1])
    draws = np.stack([hold_out(codes, 0.4, np.random.RandomState(seed)) for seed in range(400)])
    assert set(draws.sum(1)) == {8}
    assert np.ptp(draws[:, codes == 1].sum(1)) == 1
    # Each sample is as likely as any other to be held out, the only one of a class included.
    assert np.abs(draws.mean(0) - 0.4).max() < 4 * np.sqrt(0.24 / 400)
    assert one_by_one(np.array([0, 1, 0, 2, 1])).tolist() == [0, 1, 2, -1, 3]
