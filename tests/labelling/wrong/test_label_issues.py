"""Wrong labels: found, counted, and told as cleanlab tells them."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from cleanlab.filter import find_label_issues
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frofa import FeatureBlocks, label_issues
from frofa.estimators import FewShotClassifier, PrototypeClassifier, RidgeProbeClassifier, ShrinkageProbeClassifier
from frofa.estimators.batched.left_out import left_out_proba
from frofa.labelling.wrong.noise import bounded, label_noise, wrong_probability

Array = npt.NDArray[Any]

CLASSES = np.array(["ant", "bee", "cat", "dog", "elk"])


def make_samples(n: int = 25, distance: float = 4.0, channels: int = 20, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(5), n)
    return (rng.normal(size=(len(codes), channels)) + distance * np.eye(5, channels)[codes]).astype(np.float32), codes


def flip(codes: Array, n_wrong: int, seed: int = 0, to: Array | None = None) -> tuple[Array, Array]:
    """Give other labels to some: any, or those that `to` has for each class."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(codes), n_wrong, replace=False)
    given = codes.copy()
    given[wrong] = (codes[wrong] + rng.integers(1, 5, n_wrong)) % 5 if to is None else to[codes[wrong]]
    mask = np.zeros(len(codes), bool)
    mask[wrong] = True
    return given, mask


@pytest.mark.parametrize(
    "classifier",
    [
        ShrinkageProbeClassifier(device="cpu"),
        FewShotClassifier(device="cpu"),
        RidgeProbeClassifier(),
        PrototypeClassifier(),
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),  # takes no weights
        KNeighborsClassifier(),
    ],
    ids=lambda one: type(one).__name__,
)
def test_the_flipped_labels_are_found_and_the_right_ones_suggested(classifier: Any) -> None:
    X, codes = make_samples(distance=6.0)
    given, wrong = flip(codes, 12)
    found = label_issues(classifier, X, CLASSES[given])
    assert set(found.ranking[:12]) == set(np.flatnonzero(wrong))
    assert (found.suggested[wrong] == CLASSES[codes[wrong]]).all()
    assert found.mask[wrong].sum() >= 11
    assert found.mask.sum() <= 14
    assert abs(found.n_estimated - 12) < 4
    assert (found.margin[wrong] < 0).all()
    assert np.median(found.margin[~wrong]) > 0
    assert found.given.tolist() == CLASSES[given].tolist()


def test_no_label_is_suspected_where_all_are_right_and_classes_are_apart() -> None:
    X, codes = make_samples(distance=8.0)
    found = label_issues(ShrinkageProbeClassifier(device="cpu"), X, codes)
    assert not len(found.indices)
    assert found.n_estimated < 2


def test_rounds_find_more_of_labels_that_go_to_one_class() -> None:
    """Wrong labels that agree with each other are believed, until they count little."""
    results: dict[int, list[float]] = {rounds: [] for rounds in (0, 2)}
    for seed in range(4):
        X, codes = make_samples(distance=2.5, seed=seed)
        given, wrong = flip(codes, 25, seed, to=np.array([1, 2, 3, 4, 0]))
        for rounds, values in results.items():
            found = label_issues(ShrinkageProbeClassifier(device="cpu"), X, given, n_rounds=rounds, duplicates=False)
            values.append(average_precision_score(wrong, found.wrong))
    assert np.mean(results[2]) > np.mean(results[0]) + 0.01


def test_doubt_is_not_taken_for_wrong_labels() -> None:
    """Classes that cannot be told apart have labels that the others contradict, and are right."""
    X, codes = make_samples(distance=1.0)
    found = label_issues(ShrinkageProbeClassifier(device="cpu"), X, codes)
    n_contradicted = int((found.margin < 0).sum())
    assert n_contradicted > 40
    assert found.n_estimated < n_contradicted / 3


def test_noise_is_estimated_from_calibrated_probabilities() -> None:
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([0.2] * 3, size=20_000)
    true = (proba.cumsum(1) > rng.random((len(proba), 1))).argmax(1)
    matrix = np.array([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.15, 0.05, 0.8]])
    given = (matrix[true].cumsum(1) > rng.random((len(proba), 1))).argmax(1)
    noise = label_noise(proba, given, np.ones(len(given)))
    np.testing.assert_allclose(noise.matrix, matrix, atol=0.02)
    wrong = wrong_probability(noise, given)
    assert abs(wrong.sum() / (given != true).sum() - 1) < 0.1
    # Among those that are wrong with a probability of about 3/4, 3/4 are.
    about = (wrong > 0.65) & (wrong < 0.85)
    assert about.sum() > 100
    assert abs((given != true)[about].mean() - wrong[about].mean()) < 0.06


def test_no_more_is_claimed_than_so_many_samples_tell() -> None:
    """One wrong label among classes far apart, where the model alone is as sure as can be."""
    X, codes = make_samples(n=8, distance=12.0)
    codes = codes.copy()
    codes[3] = 1
    found = label_issues(ShrinkageProbeClassifier(device="cpu"), X, codes, n_rounds=0, duplicates=False)
    unbounded = wrong_probability(label_noise(found.pred_probs, codes, np.ones(40)), codes)
    assert unbounded[3] > 0.999
    assert found.indices.tolist() == [3]
    assert 0.9 < found.wrong[3] <= 1 - 1 / 41
    assert f"(wrong: {100 * found.wrong[3]:.0f} %)" in str(found)


def test_the_bound_changes_neither_ranking_nor_suspects() -> None:
    rng = np.random.default_rng(0)
    wrong = np.concatenate([rng.random(50), 1 - 10.0 ** -rng.uniform(1, 13, 50), [0, 0.5, 1, np.nan]])
    found = bounded(wrong)
    np.testing.assert_array_equal(np.argsort(-found, kind="stable"), np.argsort(-wrong, kind="stable"))
    np.testing.assert_array_equal(found > 1 / 2, wrong > 1 / 2)
    np.testing.assert_array_equal(found[wrong <= 1 / 2], wrong[wrong <= 1 / 2])
    assert np.nanmax(found) == pytest.approx(1 - 1 / 104)
    assert np.isnan(found[-1])


def test_cleanlab_is_fed_and_says_it_in_the_same_form() -> None:
    X, codes = make_samples()
    given, wrong = flip(codes, 12)
    found = label_issues(ShrinkageProbeClassifier(device="cpu"), X, CLASSES[given])
    mask = find_label_issues(**found.for_cleanlab())
    assert mask.dtype == found.mask.dtype
    assert mask.shape == found.mask.shape
    assert (mask & found.mask)[wrong].sum() >= 10
    ranked = find_label_issues(**found.for_cleanlab(), return_indices_ranked_by="self_confidence")
    assert set(ranked[:10]) <= set(np.flatnonzero(wrong))
    assert set(found.indices[:10]) <= set(np.flatnonzero(wrong))
    assert ranked.ndim == found.indices.ndim == 1
    assert found.indices.dtype.kind == "i"
    assert found.label_quality.min() >= 0
    assert found.label_quality.max() <= 1
    assert found.indices.tolist() == np.argsort(found.label_quality, kind="stable")[: found.mask.sum()].tolist()


def test_without_rounds_probabilities_are_those_of_left_out_samples() -> None:
    X, codes = make_samples()
    found = label_issues(RidgeProbeClassifier(), X, codes, n_rounds=0)
    np.testing.assert_array_equal(found.pred_probs, left_out_proba(RidgeProbeClassifier(), X, codes)[1])


def test_of_the_only_sample_of_a_class_nothing_is_said() -> None:
    X, codes = make_samples()
    codes = codes.copy()
    codes[[7, 60]] = [5, 6]
    found = label_issues(ShrinkageProbeClassifier(device="cpu"), X, codes)
    assert found.n_alone == 2
    assert np.isnan(found.wrong[[7, 60]]).all()
    assert np.isfinite(np.delete(found.wrong, [7, 60])).all()
    assert not found.mask[[7, 60]].any()
    assert found.suggested[[7, 60]].tolist() == [5, 6]
    assert not {7, 60} & set(found.ranking)
    assert len(found.ranking) == len(codes) - 2
    assert "2, the only ones of their class" in str(found)
    assert found.to_frame()["index"].tolist()[-2:] == [7, 60]
    assert len(found.for_cleanlab()["labels"]) == len(codes) - 2


def test_samples_without_weight_are_judged_and_say_nothing() -> None:
    X, codes = make_samples(distance=6.0)
    given = codes.copy()
    given[:10] = 1
    weights = np.ones(len(codes))
    weights[:10] = 0
    found = label_issues(ShrinkageProbeClassifier(device="cpu"), X, given, sample_weight=weights)
    assert found.mask[:10].all()
    assert found.mask.sum() == 10
    # However many of them there are, the other samples of the class are as they were.
    alone = label_issues(ShrinkageProbeClassifier(device="cpu"), X[10:], given[10:])
    np.testing.assert_allclose(found.pred_probs[10:], alone.pred_probs, atol=1e-6)


def test_of_samples_without_a_label_nothing_is_said() -> None:
    X, codes = make_samples(distance=6.0)
    given, wrong = flip(codes, 12)
    given[[2, 30]], wrong[[2, 30]] = -1, False
    found = label_issues(ShrinkageProbeClassifier(device="cpu"), X, given)
    assert np.isnan(found.wrong[[2, 30]]).all()
    assert found.classes.tolist() == [0, 1, 2, 3, 4]
    assert set(found.ranking[: wrong.sum()]) == set(np.flatnonzero(wrong))
    json.dumps(found.rows())


def test_blocks_frames_and_tokens_are_taken() -> None:
    X, codes = make_samples(distance=6.0)
    given, wrong = flip(codes, 12)
    blocks = FeatureBlocks({"pooled": [X, X + 0.1], "mean": [X, X]})
    tokens = np.stack([X, X + 0.1], axis=1)
    for samples in (blocks, tokens, pd.DataFrame(X)):
        found = label_issues(ShrinkageProbeClassifier(device="cpu"), samples, pd.Series(given))
        assert set(found.ranking[:12]) == set(np.flatnonzero(wrong))
        assert np.isfinite(found.outlier_score).all()


def test_results_are_written_and_shown() -> None:
    X, codes = make_samples(distance=6.0)
    given, _wrong = flip(codes, 12)
    X[3] = X[90]
    found = label_issues(ShrinkageProbeClassifier(device="cpu"), X, CLASSES[given])
    written = json.loads(json.dumps(found.to_dict()))
    assert written["n"] == len(codes)
    assert len(written["suspects"]) == len(found.indices)
    first = written["suspects"][0]
    assert first["given"] == found.given[first["index"]]
    assert first["suggested"] == found.suggested[first["index"]]
    frame = found.to_frame()
    assert len(frame) == len(codes)
    assert frame["wrong"].is_monotonic_decreasing
    assert frame["is_issue"].sum() == len(found.indices)
    assert set(frame.loc[frame["group"] == 0, "index"]) == {3, 90}
    text = str(found)
    assert f"sample {found.indices[0]}: {found.given[found.indices[0]]}" in text
    assert "labelled" in text
    assert "12 suspects" in repr(found) or f"{len(found.indices)} suspects" in repr(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "requires y"),
        ({"y": [1] * 20}, "at least 2 classes"),
        ({"y": list(range(20))}, "two samples of a class"),
        ({"n_rounds": -1}, "n_rounds must be 0 or more"),
        ({"y_test": [1]}, "X_test=None"),
        ({"y": [0, 1]}, "inconsistent numbers of samples"),
    ],
)
def test_wrong_input_is_an_error(change: dict[str, Any], message: str) -> None:
    X = np.random.default_rng(0).normal(size=(20, 4))
    given = {"y": [0, 1] * 10, **change}
    with pytest.raises(ValueError, match=message):
        label_issues(ShrinkageProbeClassifier(device="cpu"), X, **given)


def test_nothing_that_is_given_is_changed() -> None:
    X, codes = make_samples()
    X.setflags(write=False)
    codes.setflags(write=False)
    head = RidgeProbeClassifier()
    label_issues(head, X, codes, X_test=X, y_test=codes)
    assert not hasattr(head, "coef_")
