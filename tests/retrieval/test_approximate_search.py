"""The approximate index finds what the exact search does, whatever the rows and the queries are like."""

from typing import Any

import numpy as np
import pytest

from frofa import FeatureIndex
from frofa.retrieval.approximate import building, searching
from frofa.retrieval.approximate.codes import Scanner

pytest.importorskip("faiss")
N, WIDTH = 3000, 24


def made(kind: str, n: int, seed: int) -> Any:
    """Rows (n, 24) in which there is much to find, or nothing."""
    centres = np.random.default_rng(0).standard_normal((60, WIDTH))
    rng = np.random.default_rng([seed, 1])
    noise, which = rng.standard_normal((n, WIDTH)), rng.integers(0, 60, n)
    scales = 10 ** np.linspace(-3, 0, 60)[which, None]
    return {
        "isotropic": noise,
        "clustered": centres[which] + 0.3 * noise,
        "clusters of all sizes": centres[which] + scales * noise,
        "lengths": noise * np.exp(rng.standard_normal((n, 1))),
        "copies": centres[which],
    }[kind].astype(np.float16)


@pytest.fixture(autouse=True)
def few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "TRIALS", 128)
    monkeypatch.setattr(building, "ROUNDS", 3)


def recall(index: FeatureIndex, queries: Any, k: int, **options: Any) -> float:
    """Part of the exact neighbours, or of others as near, that are found."""
    found, exact = index.kneighbors(queries, k, **options), index.kneighbors(queries, k, exact=True, **options)
    return float((found[0] <= exact[0][:, -1:] + 1e-9).mean())


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("isotropic", "cosine"),
        ("clustered", "cosine"),
        ("clusters of all sizes", "cosine"),
        ("copies", "cosine"),
        ("clustered", "euclidean"),
        ("lengths", "inner_product"),
    ],
)
def test_nearly_all_neighbours_are_found(kind: str, metric: Any) -> None:
    index = FeatureIndex(made(kind, N, 0), metric=metric, method="approximate")
    unlike = np.random.default_rng(2).standard_normal((300, WIDTH))
    for queries in (made(kind, 300, 1), unlike):
        for k in (1, 10):
            assert recall(index, queries, k) > 0.99
    assert index.recall_ is not None
    assert set(index.recall_) == {"rows", "noised", "directions"}
    assert min(part for of_kind in index.recall_.values() for part in of_kind.values()) > 0.99


def test_few_lists_are_scanned_where_there_are_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[float] = []
    scan = Scanner.scan

    def seen(self: Any, queries: Any, lists: Any, coarse: Any, counts: Any, n: int) -> Any:
        looked.append(float(counts.float().mean()))
        return scan(self, queries, lists, coarse, counts, n)

    per_kind = {}
    for kind in ("clustered", "isotropic"):
        index = FeatureIndex(made(kind, N, 0), method="approximate").build()
        monkeypatch.setattr(Scanner, "scan", seen)
        looked.clear()
        index.kneighbors(made(kind, 100, 1), 10)
        per_kind[kind] = sum(looked)
        monkeypatch.setattr(Scanner, "scan", scan)
    assert per_kind["clustered"] < 0.4 * per_kind["isotropic"]


def test_distances_are_exact_and_rows_are_not_their_own_neighbours() -> None:
    rows = made("clustered", N, 0)
    index = FeatureIndex(rows, method="approximate")
    distances, indices = index.kneighbors(rows[:40], 5)
    np.testing.assert_array_equal(indices[:, 0], np.arange(40))
    units = rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    expected = 1 - (units[:40, None] * units[indices]).sum(2)
    np.testing.assert_allclose(distances, expected, atol=1e-12)
    assert not (index.kneighbors(n_neighbors=3, return_distance=False) == np.arange(N)[:, None]).any()


def test_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.retrieval.base.FEW", 100)
    rows = made("clustered", N, 0)
    index = FeatureIndex(rows, method="approximate", labels=np.arange(N) % 10)
    for where in ([3], np.arange(N) < 150, np.arange(N) < 50):
        assert recall(index, made("clustered", 30, 1), 5, where=where) > 0.99
    found = index.kneighbors(made("clustered", 30, 1), 5, where=[3], return_distance=False)
    assert (found % 10 == 3).all()


def test_queries_with_too_many_candidates_are_searched_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MOST_CANDIDATES", 1)
    rows = np.repeat(made("clustered", 20, 0), 200, axis=0)
    index = FeatureIndex(rows, method="approximate").build()
    index._approximate.candidates = 8  # type: ignore[union-attr]
    assert recall(index, rows[::400], 50) == 1


def test_the_index_is_smaller_than_half_of_the_features() -> None:
    rows = np.random.default_rng(0).standard_normal((12_000, 48)).astype(np.float16)
    index = FeatureIndex(rows, method="approximate").build()
    assert index.nbytes < rows.nbytes / 2


def test_few_rows_need_no_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    rows = made("clustered", 1500, 0)
    assert FeatureIndex(rows[:500], method="approximate").kneighbors(rows[:3], 2)[1].shape == (3, 2)
    with pytest.raises(ImportError, match=r"frofa\[faiss\]"):
        FeatureIndex(rows, method="approximate").build()


def test_the_default_is_exact_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.retrieval.base.MOST_EXACT", 100)
    rows = made("clustered", 101, 0)
    assert FeatureIndex(rows[:100]).method_ == "exact"
    assert FeatureIndex(rows).method_ == "approximate"
