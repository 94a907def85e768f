from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from frofa import FeatureBlocks, suggest
from frofa.estimators import FewShotClassifier, ShrinkageProbeClassifier
from frofa.labelling.suggestions import pool as module
from frofa.labelling.suggestions.covering import Space
from frofa.labelling.suggestions.herding import Herd, Population
from frofa.labelling.suggestions.pool import Pool
from frofa.labelling.suggestions.sampling import weighted_sample
from frofa.labelling.suggestions.uncertainty import _probe_of, probabilities_on_device

Array = npt.NDArray[Any]
CPU = torch.device("cpu")
HEAD = ShrinkageProbeClassifier()


class Lazy:
    """Features of which it is known how many rows were read at once."""

    def __init__(self, values: Array, reads: list[int]):
        self.values, self.reads = values, reads
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> "Lazy":
        return Lazy(self.values[rows], self.reads)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        self.reads.append(len(self))
        return np.array(self.values, dtype)

    def tensor(self) -> Tensor:
        return torch.from_numpy(np.asarray(self))

    def to_device(self, device: torch.device) -> Tensor:
        return self.tensor().to(device)


@pytest.fixture(scope="module")
def classes() -> Array:
    """Of eight classes, the last are rare."""
    return np.repeat(np.arange(8), [1000, 600, 300, 200, 100, 60, 40, 20])


@pytest.fixture(scope="module")
def features(classes: Array) -> Array:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(len(classes), 16)) + 6 * np.eye(8, 16)[classes]).astype(np.float32)


def coverage(features: Array, rows: Array) -> float:
    pool = Pool(features, CPU)
    space = Space(pool)
    vectors = space.read(pool, slice(None))
    population = Population(vectors, torch.full((len(vectors),), 1 / len(vectors)), space.width)
    return population.coverage(population.covered(vectors[torch.as_tensor(rows)]))


def test_a_sample_covers_nearly_as_much_as_all_pairs(features: Array) -> None:
    exact = coverage(features, suggest(HEAD, features))
    found = [coverage(features, suggest(HEAD, features, max_exact=200, random_state=seed)) for seed in range(5)]
    at_random = [coverage(features, suggest(HEAD, features, strategy="random", random_state=seed)) for seed in range(5)]
    assert min(found) > 0.95 * exact
    assert np.mean(at_random) < np.mean(found) - 2 * np.std(at_random) / 5**0.5


def test_the_second_reading_finds_images_that_no_sample_had(features: Array) -> None:
    drawn = weighted_sample(np.ones(len(features)), 100, np.random.RandomState(0)).rows
    rows = suggest(HEAD, features, max_exact=100, random_state=0)
    assert len(set(rows) - set(drawn)) > 1


def test_a_sample_of_all_is_all(features: Array) -> None:
    some = features[::20]
    assert suggest(HEAD, some, max_exact=len(some)).tolist() == suggest(HEAD, some).tolist()


def test_unsure_images_are_found_in_a_large_pool(features: Array, classes: Array) -> None:
    known = np.flatnonzero(np.isin(classes, [0, 1]))[::40]
    between = (features[0] + features[1200]) / 2
    pool = np.concatenate([features[classes < 2], between[None] + 0.1 * np.random.default_rng(0).normal(size=(3, 16))])
    pool = pool.astype(np.float32)
    rows = suggest(HEAD, pool, features[known], classes[known], 10, max_exact=300, random_state=0)
    proba = HEAD.fit(features[known], classes[known]).predict_proba(pool)
    top = np.sort(proba, 1)
    unsure = 1 - (top[:, -1] - top[:, -2])
    assert unsure[rows].mean() > 3 * unsure.mean()


def test_utilities_are_known_of_what_was_looked_at(features: Array) -> None:
    rows, utilities = suggest(HEAD, features, batch_size=4, max_exact=100, return_utilities=True, random_state=0)
    assert utilities.shape == (4, len(features))
    assert np.nanargmax(utilities, 1).tolist() == rows.tolist()
    assert 4 < np.isfinite(utilities[0]).sum() < len(features)


@pytest.mark.parametrize("strategy", ["auto", "margin"])
def test_lazy_features_are_read_in_parts(
    strategy: str, features: Array, classes: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_ELEMENTS", 16 * 250)
    reads: list[int] = []
    labelled = np.array([0, 1, 1200, 1700])
    known = (features[labelled], classes[labelled])
    rows = suggest(HEAD, Lazy(features, reads), *known, strategy=strategy, max_exact=200, random_state=0)
    assert max(reads) <= 250
    assert rows.tolist() == suggest(HEAD, features, *known, strategy=strategy, max_exact=200, random_state=0).tolist()
    views = FeatureBlocks({"a": [Lazy(features, reads), Lazy(features, reads)], "b": [Lazy(features, reads)] * 2})
    assert len(suggest(HEAD, views, strategy="coverage", max_exact=200, random_state=0)) == 10
    assert max(reads) <= 250


def test_a_weighted_sample_estimates_the_mean_without_bias() -> None:
    rng = np.random.RandomState(0)
    weights, values = rng.exponential(size=1000) ** 3, rng.uniform(size=1000)
    truth = np.average(values, weights=weights)
    estimates = []
    for _ in range(300):
        drawn = weighted_sample(weights, 100, rng)
        assert len(drawn.rows) == 100
        estimates.append(values[drawn.rows] @ drawn.weights)
    error = np.mean(estimates) - truth
    assert abs(error) < 4 * np.std(estimates) / 300**0.5
    # The largest weights are nearly all there: uniform samples would vary more.
    assert np.std(estimates) < np.std(values) / 100**0.5


def test_rows_of_no_weight_are_not_drawn() -> None:
    weights = np.repeat([0.0, 1.0], [990, 10])
    assert set(weighted_sample(weights, 100, np.random.RandomState(0)).rows) == set(range(990, 1000))
    assert len(weighted_sample(np.zeros(1000), 100, np.random.RandomState(0)).rows) == 100


@pytest.mark.parametrize("repeats", [1, 50])
def test_lazy_greedy_is_greedy(repeats: int) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(400, 6, generator=generator), dim=1)
    vectors = vectors[::repeats].repeat_interleave(repeats, 0)  # with ties
    weights = torch.rand(400, generator=generator)
    population = Population(vectors, weights / weights.sum(), 0.3)
    herd = Herd(population, vectors, torch.zeros(400), torch.ones(400, dtype=torch.bool))
    kernels = population.kernels(vectors)
    covered = torch.zeros(400)
    for _ in range(8):
        gains = (kernels - covered).clamp(min=0) @ population.weights
        position = herd.best()
        assert float(gains[position]) == pytest.approx(float(gains.max()), rel=1e-5)
        herd.take(position)
        covered = torch.maximum(covered, kernels[position])
        torch.testing.assert_close(herd.covered, covered)


@pytest.mark.parametrize("head", [ShrinkageProbeClassifier(), FewShotClassifier()])
@pytest.mark.parametrize("views", [1, 2])
def test_probabilities_on_a_device_are_those_of_the_classifier(
    head: Any, views: int, features: Array, classes: Array
) -> None:
    blocks = FeatureBlocks({"b": [features[:, :6]] * views, "a": [features[:, 6:], features[:, 6:] + 1][:views]})
    known = np.arange(0, len(classes), 60)
    for X in (features, blocks, blocks.select(["a", "b"])):
        fitted = clone(head).fit(X[known], classes[known])
        probe = _probe_of(fitted)
        assert probe is not None
        found = probabilities_on_device(fitted, probe, Pool(X, CPU))
        np.testing.assert_allclose(found, fitted.predict_proba(X), atol=1e-4)
    assert _probe_of(LogisticRegression()) is None
