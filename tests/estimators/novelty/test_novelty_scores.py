"""Scores of novelty: formulas by hand and by another library, samples left out, and ranks."""

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_ood.detector import KNN, Mahalanobis

from frofa.estimators.solvers.novelty import distances
from frofa.estimators.solvers.novelty.distances import Known
from frofa.estimators.solvers.novelty.ranks import least_samples, p_values, threshold
from frofa.estimators.solvers.novelty.scores import BY_ROWS, _combined, left_out_scores_of, scores_of

RNG = np.random.default_rng(0)


def rows(n: int, channels: int) -> Any:
    found = RNG.normal(size=(n, channels)) + 1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _refitted(known: Any, codes: Any, queries: Any, method: str, n: int) -> Any:
    """Scores by other samples, with the number that distances are scaled by."""
    if method == "knn":
        return scores_of(known, codes, queries, method)[0]
    return _combined(Known.of(known, codes)._replace(n=n).distances(queries), codes, method)[0]


def _tensor(array: Any) -> torch.Tensor:
    return torch.tensor(array, dtype=torch.float32)


@pytest.mark.parametrize("method", BY_ROWS)
@pytest.mark.parametrize(("n", "channels", "n_classes"), [(20, 40, 4), (60, 10, 5), (9, 4, 3), (8, 30, 1), (9, 20, 9)])
def test_scores_of_left_out_samples_are_those_of_fits_without_them(
    n: int, channels: int, n_classes: int, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Samples a class, which "auto" depends on, are those of all in both.
    monkeypatch.setattr("frofa.estimators.solvers.novelty.scores.RELATIVE_SHOTS", 0.0)
    known, codes = rows(n, channels), np.arange(n) % n_classes
    refitted = [
        _refitted(known[others], codes[others], known[i : i + 1], method, n)
        for i in range(n)
        for others in [np.arange(n) != i]
    ]
    np.testing.assert_allclose(left_out_scores_of(known, codes, method), refitted, rtol=1e-9, atol=1e-9)


def test_a_class_of_one_is_gone_without_its_sample() -> None:
    known, codes = rows(12, 20), np.array([0] * 6 + [1] * 5 + [2])
    without = _refitted(known[:11], codes[:11], known[11:], "mahalanobis", 12)
    np.testing.assert_allclose(left_out_scores_of(known, codes, "mahalanobis")[11:], without, rtol=1e-9)


def test_distances_are_those_of_the_formula() -> None:
    known, codes, queries = rows(30, 6), np.arange(30) % 3, rows(7, 6)
    means = np.stack([known[codes == c].mean(0) for c in range(3)])
    residuals, around = known - means[codes], known - known.mean(0)
    spread = ((residuals**2).sum() / 27 + ((means - means.mean(0)) ** 2).sum() / 3) / 6
    found = Known.of(known, codes).distances(queries)

    def squares(scattered: Any, centres: Any) -> Any:
        inverse = np.linalg.inv(scattered.T @ scattered / 30 + spread * np.eye(6))
        offs = queries[:, None] - centres
        return np.einsum("qcd,de,qce->qc", offs, inverse, offs)

    np.testing.assert_allclose(found.nearest, squares(residuals, means).min(1) / (1 + 1 / 10))
    np.testing.assert_allclose(found.central, squares(residuals, means.mean(0)[None])[:, 0])
    np.testing.assert_allclose(found.overall, squares(around, known.mean(0)[None])[:, 0])


def test_without_shrinkage_distances_are_those_of_pytorch_ood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "SHRINKAGE", 1e-9)
    known, codes, queries = rows(200, 5), np.arange(200) % 4, rows(50, 5)
    theirs = Mahalanobis(lambda x: x).fit_features(_tensor(known), torch.tensor(codes))
    expected = theirs.predict_features(_tensor(queries)).numpy()
    found = scores_of(known, codes, queries, "mahalanobis")
    assert np.corrcoef(found, expected)[0, 1] > 0.99999


def test_the_nearest_neighbours_are_those_of_pytorch_ood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.estimators.solvers.novelty.scores.NEIGHBOURS", 1)
    known, queries = rows(40, 8), rows(20, 8)
    theirs = KNN(lambda x: x, k=1).fit_features(_tensor(known), torch.zeros(40, dtype=torch.long))
    expected = theirs.predict_features(_tensor(queries)).numpy()
    found = scores_of(known, np.zeros(40, int), queries, "knn")
    # Of length one, a squared distance is twice one minus the cosine.
    np.testing.assert_array_equal(found.argsort(), expected.argsort())


def test_p_values_are_ranks_and_interpolated_between() -> None:
    known = np.array([3.0, 1.0, 2.0, 4.0])
    assert p_values(known, np.array([9.0, 4.0, 3.0, 2.5, 1.0, 0.0])).tolist() == pytest.approx(
        [0.2, 0.2, 0.4, 0.5, 0.8, 1.0]
    )
    assert threshold(known, 0.4) == 3
    assert threshold(known, 0.5) == 2.5
    # Equal scores: none of three largest is less usual than another.
    assert p_values(np.array([1.0, 2.0, 2.0, 2.0]), np.array([2.0])).tolist() == [0.6]


@pytest.mark.parametrize(("share", "least"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.5, 1), (0.3, 3)])
def test_a_share_needs_so_many_samples(share: float, least: int) -> None:
    assert least_samples(share) == least
    assert 1 / (least + 1) <= share < 1 / least


@pytest.mark.parametrize("share", [0.05, 0.08, 0.1, 0.25])
def test_the_share_is_that_of_samples_like_the_known(share: float) -> None:
    found = [(RNG.normal(size=200) > threshold(RNG.normal(size=30), share)).mean() for _ in range(400)]
    assert np.mean(found) == pytest.approx(share, abs=0.012)
