"""Copies, near-copies and outliers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from frofa import FeatureBlocks, label_issues
from frofa.estimators import ShrinkageProbeClassifier
from frofa.labelling.wrong import duplicates
from frofa.labelling.wrong.duplicates import duplicate_groups, near_pairs
from frofa.labelling.wrong.inputs import vectors_of
from frofa.labelling.wrong.outliers import far_out, outlier_scores

Array = npt.NDArray[Any]


def make_rows(n: int = 200, channels: int = 32, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, channels)) + 3 * rng.normal(size=(4, channels))[rng.integers(0, 4, n)]
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def near(rows: Array, positions: list[int], scale: float = 0.02, seed: int = 1) -> Array:
    copies = rows[positions] + scale * np.random.default_rng(seed).normal(size=(len(positions), rows.shape[1]))
    return np.asarray(copies / np.linalg.norm(copies, axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(3))
def test_near_copies_are_found_and_nothing_else(seed: int) -> None:
    rows = make_rows(seed=seed)
    found = near_pairs(np.concatenate([rows, near(rows, [5, 50, 150])]))
    pairs = {tuple(sorted(pair)) for pair in zip(found.first.tolist(), found.second.tolist(), strict=True)}
    assert pairs == {(5, 200), (50, 201), (150, 202)}


def test_images_that_are_merely_alike_are_no_copies_among_few(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(120)
    alike = np.concatenate([rows, near(rows, [5], 0.04)])
    assert not len(near_pairs(alike).first)
    monkeypatch.setattr(duplicates, "FEW_SAMPLES", 0)
    assert set(near_pairs(alike).first.tolist()) == {5, 120}


def test_many_copies_of_one_are_found_though_they_are_their_own_neighbours() -> None:
    rows = make_rows()
    groups = duplicate_groups([np.concatenate([rows, near(rows, [7] * 30, scale=0.005)])], None, [None] * 230, 230)
    assert [set(group.train) for group in groups] == [{7, *range(200, 230)}]
    assert not groups[0].exact


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows()
    whole = near_pairs(np.concatenate([rows, near(rows, [5, 50])]))
    monkeypatch.setattr(duplicates, "CHUNK", 202 * 7)
    parts = near_pairs(np.concatenate([rows, near(rows, [5, 50])]))
    np.testing.assert_array_equal(whole.first, parts.first)
    np.testing.assert_allclose(whole.ratio, parts.ratio, rtol=1e-4)


def test_exact_copies_are_found_among_few() -> None:
    rows = make_rows(4)
    groups = duplicate_groups([rows[[0, 1, 2, 0]]], None, ["a", "b", "c", "a"], 3)
    assert len(groups) == 1
    only = groups[0]
    assert (only.train, only.test, only.exact, only.ratio, only.labels) == ((0,), (0,), True, 0.0, ("a",))
    assert only.is_leak
    assert not only.is_disputed


def test_keys_tell_copies_whatever_the_features() -> None:
    groups = duplicate_groups([make_rows(5)], list("abcbd"), list("xxyzx"), 5)
    assert [group.train for group in groups] == [(1, 3)]
    assert groups[0].exact
    assert groups[0].is_disputed


def test_leaks_and_disputes_come_first() -> None:
    rows = make_rows(100)
    every = np.concatenate([rows, rows[[1]], near(rows, [2, 3])])
    labels = ["a"] * 100 + ["a", "b", None]
    # Position 101 is a training sample of another label, 102 a test sample.
    groups = duplicate_groups([every], None, labels, 102)
    assert {group.train + group.test for group in groups[:2]} == {(2, 101), (3, 0)}
    assert (groups[2].train, groups[2].exact) == ((1, 100), True)
    assert [group.is_leak for group in groups] == [group.test == (0,) for group in groups]


def test_copies_are_near_in_all_views_or_in_the_first_two() -> None:
    """Mirrored images have the same first views, and cropped ones about the same views altogether."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(80, 4, 32))
    mirrored = np.concatenate([images[[3], 1::-1], rng.normal(size=(1, 2, 32))], axis=1)
    cropped = images[[9]] + np.array([2.0, 0.0, -2.0, 0.0])[:, None] * rng.normal(size=(1, 1, 32))
    views = np.concatenate([images, mirrored, cropped])
    blocks = FeatureBlocks({"pooled": list(views.swapaxes(0, 1))})
    groups = duplicate_groups(vectors_of(blocks), None, [None] * 82, 82)
    assert {group.train for group in groups} == {(3, 80), (9, 81)}
    for space, found in zip(vectors_of(blocks), ((9, 81), (3, 80)), strict=True):
        assert [group.train for group in duplicate_groups([space], None, [None] * 82, 82)] == [found]


def test_copies_in_training_and_test_data_are_reported_by_their_positions() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 16)) + 4 * np.eye(2, 16)[np.repeat([0, 1], 30)], np.repeat(["cat", "dog"], 30)
    X_test = rng.normal(size=(20, 16))
    X_test[4] = X[11]
    X[40] = X[8]
    found = label_issues(ShrinkageProbeClassifier(device="cpu"), X, y, X_test=X_test, y_test=["dog"] * 20)
    assert [(group.train, group.test, group.labels) for group in found.leaks] == [((11,), (4,), ("cat", "dog"))]
    assert [group.train for group in found.duplicates if not group.is_leak] == [(8, 40)]
    assert "a leak, labelled cat, dog: sample 11, test sample 4" in str(found)
    assert not label_issues(ShrinkageProbeClassifier(device="cpu"), X, y, duplicates=False).duplicates


def test_outliers_are_those_unlike_all_others() -> None:
    rows = make_rows(100)
    rng = np.random.default_rng(3)
    odd = rng.normal(size=(2, 32)) * np.array([10.0, 1.0] * 16)
    odd -= odd @ rows.T @ np.linalg.pinv(rows.T)  # nothing of what the others have
    every = np.concatenate([rows, -rows[:2].mean(0, keepdims=True) * 1.0, odd / np.linalg.norm(odd, axis=1)[:, None]])
    scores = outlier_scores(every, np.zeros(len(every), int))
    assert scores[:100].max() < scores[100:].max()


def test_the_fence_is_for_long_tails_alone() -> None:
    scores = np.random.default_rng(0).normal(size=500)
    assert not len(far_out(scores))
    scores[[4, 9]] = 30, 40
    assert far_out(scores).tolist() == [9, 4]
