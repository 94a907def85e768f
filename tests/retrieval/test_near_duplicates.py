"""Copies, and nearly copies, are found among all rows."""

from typing import Any

import numpy as np
import pytest

from frofa import FeatureIndex


@pytest.fixture
def copied() -> tuple[Any, list[list[int]]]:
    """Rows of which some are others with little noise, and the groups of these."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((200, 12))
    groups = [[3, 50, 120], [7, 8], *([[i, i + 40] for i in range(150, 155)])]
    for first, *others in groups:
        values[others] = values[first] + 0.005 * rng.standard_normal((len(others), 12))
    return values.astype(np.float32), groups


@pytest.mark.parametrize("threshold", [1e-3, None])
def test_groups_of_near_copies(copied: tuple[Any, list[list[int]]], threshold: float | None) -> None:
    values, groups = copied
    found = FeatureIndex(values).near_duplicates(threshold)
    assert sorted(group.tolist() for group in found.groups) == sorted(groups)
    assert found.groups[0].tolist() == [3, 50, 120]
    assert (np.diff(found.distances) >= 0).all()
    expected = sorted((a, b) for group in groups for a in group for b in group if a < b)
    assert sorted(map(tuple, found.pairs.tolist())) == expected
    units = values / np.linalg.norm(values, axis=1, keepdims=True)
    cosines = (units[found.pairs[:, 0]] * units[found.pairs[:, 1]]).sum(1)
    np.testing.assert_allclose(found.distances, 1 - cosines, atol=1e-6)


def test_many_copies_of_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((300, 8))
    values[:150] = values[0]
    found = FeatureIndex(values).near_duplicates(1e-9)
    assert [group.tolist() for group in found.groups] == [list(range(150))]
    assert len(found.pairs) == 150 * 149 // 2


def test_where_there_are_none() -> None:
    values = np.random.default_rng(0).standard_normal((100, 12))
    index = FeatureIndex(values)
    assert index.near_duplicates().groups == index.near_duplicates(0.001).groups == ()
    assert FeatureIndex(values[:1]).near_duplicates(0.1).pairs.shape == (0, 2)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -1, -1e-9])
def test_what_is_no_distance_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="finite distance, zero or more"):
        FeatureIndex(np.eye(3)).near_duplicates(threshold)


def test_what_is_no_number_is_refused() -> None:
    for threshold in ("near", True, [0.1]):
        with pytest.raises(TypeError, match="a number as 'threshold'"):
            FeatureIndex(np.eye(3)).near_duplicates(threshold)  # type: ignore[arg-type]


def test_inner_products_are_asked_for_by_what_they_are() -> None:
    values = np.array([[3.0, 0], [2, 0], [0, 1]])
    index = FeatureIndex(values, metric="inner_product")
    assert index.near_duplicates(-5).pairs.tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="'threshold' with metric='inner_product'"):
        index.near_duplicates()
