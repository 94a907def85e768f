"""Augmented copies of samples widen the prior scatter of the shrinkage probe, and nothing else."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from features import gaussian
from sklearn.model_selection import GridSearchCV

import frofa
from frofa import FeatureBlocks
from frofa.augmentations import Brightness, GaussianNoise, MixUp, PatchDropout, Rotate
from frofa.estimators import BatchedSearchCV, ShrinkageProbeClassifier
from frofa.estimators.solvers.shrinkage import fitting
from frofa.estimators.solvers.shrinkage.leave_one_out import leave_one_out
from frofa.estimators.solvers.shrinkage.path import Path as DiscriminantPath
from frofa.estimators.solvers.shrinkage.path import decompose
from frofa.estimators.solvers.shrinkage.statistics import Statistics
from frofa.estimators.tokens.block_copies import copies_of_blocks

Array = npt.NDArray[Any]
X, Y = gaussian(60, 20)
NAMES = np.array(["cat", "ant", "bee"])[Y]
RNG = np.random.default_rng(0)
BLOCKS = FeatureBlocks(
    {
        "pooled": [(X[:, :12] + 0.1 * RNG.normal(size=(60, 12))).astype(np.float32) for _ in range(2)],
        "mean": [X[:, 12:] + 0.1 * RNG.normal(size=(60, 8)) for _ in range(2)],
    }
)
TOKENS = (X[:, None] + RNG.normal(size=(60, 9, 20))).astype(np.float32)
AUGMENT = Brightness(0.2, "c")
every_kind = pytest.mark.parametrize("features", [X, BLOCKS, TOKENS], ids=["array", "blocks", "tokens"])


def head(augment: Any = AUGMENT, **params: Any) -> ShrinkageProbeClassifier:
    return ShrinkageProbeClassifier(augment=augment, **{"n_augmented": 3, "random_state": 0, **params})


def assert_same(one: Any, other: Any, rtol: float = 0.0, atol: float = 0.0) -> None:
    for name in ("coef_", "intercept_", "loo_proba_", "weights_", "temperatures_"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=rtol, atol=atol)


def differ(one: Any, other: Any, features: Any) -> bool:
    return float(np.abs(one.predict_proba(features) - other.predict_proba(features)).max()) > 1e-4


@every_kind
def test_copies_that_are_equal_change_nothing(features: Any) -> None:
    plain = ShrinkageProbeClassifier().fit(features, Y)
    assert_same(head(AUGMENT.at_level(0)).fit(features, Y), plain, rtol=1e-4, atol=1e-4)
    assert_same(head(n_augmented=0).fit(features, Y), plain)
    assert differ(head().fit(features, Y), plain, features)
    assert not hasattr(plain, "augment_seed_")


@pytest.mark.parametrize("shots", [1, 2])
@every_kind
def test_few_shots_have_a_prior(features: Any, shots: int) -> None:
    rows = np.concatenate([np.flatnonzero(c == Y)[:shots] for c in range(3)])
    one = head(AUGMENT).fit(features[rows], Y[rows])
    assert differ(one, ShrinkageProbeClassifier().fit(features[rows], Y[rows]), features)
    assert np.isfinite(one.predict_proba(features)).all()


def paths_of(probe: Any, features: Any, y: Array, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any, Any]]:
    """What is decomposed in each space: statistics, a basis and a prior scatter."""
    seen: list[tuple[Any, Any, Any]] = []

    def record(known: Statistics, basis: Any, prior: Any) -> DiscriminantPath:
        seen.append((known, basis, prior))
        return decompose(known, basis, prior)

    monkeypatch.setattr(fitting, "decompose", record)
    probe.fit(features, y)
    return seen


def test_prior_is_twenty_times_the_mean_scatter_of_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    # So small that lengths and stages, taken to first order, are exact enough.
    augment = GaussianNoise(1e-5)
    probe = head(augment, n_augmented=4)
    seen = paths_of(probe, X, Y, monkeypatch)
    copies = copies_of_blocks([[X]], np.arange(60), augment, 4, probe.augment_seed_, n_prefix=0, grid=None)
    # Copies (60, 4, D), normalised as the samples are; what changes their length is no part of a first-order residual.
    rows = {"sample": np.repeat(X, 4, axis=0), "copy": copies.reshape(-1, 20)}
    unit = {name: each / np.linalg.norm(each, axis=1, keepdims=True) for name, each in rows.items()}
    moved = unit["sample"] - probe.shifts_[0]
    residuals = (unit["copy"] - unit["sample"]) / np.linalg.norm(moved, axis=1, keepdims=True)
    expected = 20 * residuals.T @ residuals / (60 * 4)
    prior = seen[0][2][0].numpy()
    np.testing.assert_allclose(prior, expected, rtol=1e-3, atol=1e-3 * expected.max())
    assert np.trace(prior) > 0


def test_scatters_of_views_and_copies_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    both, views = paths_of(head(), BLOCKS, Y, monkeypatch), paths_of(head(None), BLOCKS, Y, monkeypatch)
    none = paths_of(head(AUGMENT.at_level(0)), BLOCKS, Y, monkeypatch)
    for (_, _, added), (_, _, alone), (_, _, same) in zip(both, views, none, strict=True):
        torch.testing.assert_close(same, alone, rtol=1e-5, atol=1e-8)
        assert torch.linalg.eigvalsh(added - alone).min() > -1e-9
        assert (added - alone).diagonal(dim1=1, dim2=2).sum() > 1e-3


def test_left_out_samples_are_those_of_fits_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for known, basis, prior in paths_of(head(), X, Y, monkeypatch):
        path = decompose(known, basis, prior)
        inner, outer = leave_one_out(path)
        for i in (0, 17, 59):
            weights = known.weights.clone()
            weights[:, i] = 0
            rest = decompose(Statistics.of(known.features, known.codes, weights, 3), basis, prior)
            # Penalties are those of all samples.
            rest = rest._replace(inverse=path.inverse)
            products = torch.einsum("br,blr,bkr->blk", rest.samples[:, i], rest.shrinkage(), rest.means)
            torch.testing.assert_close(inner[:, :, i], products, rtol=1e-8, atol=1e-8)
            squares = torch.einsum("bkr,blr,bkr->blk", rest.means, rest.shrinkage(), rest.means)
            torch.testing.assert_close(outer[:, :, i], squares, rtol=1e-8, atol=1e-8)


@every_kind
def test_random_state_decides(features: Any) -> None:
    one, same, other = (head(random_state=seed).fit(features, Y) for seed in (3, 3, 4))
    assert_same(one, same)
    assert differ(one, other, features)
    generator = np.random.RandomState(3)
    assert_same(head(random_state=generator).fit(features, Y), one)
    assert differ(head(random_state=generator).fit(features, Y), one, features)


@every_kind
def test_samples_without_weight_are_as_good_as_absent(features: Any) -> None:
    weights = (np.arange(60) % 4 > 0).astype(float)
    used = np.flatnonzero(weights)
    one, other = head().fit(features, Y, weights), head().fit(features[used], Y[used])
    np.testing.assert_allclose(one.predict_proba(features), other.predict_proba(features), rtol=1e-6, atol=1e-9)


def test_level_is_set_by_name() -> None:
    probe = head(Brightness(0.5, "c")).set_params(augment__level=0.2).fit(X, Y)
    assert_same(probe, head().fit(X, Y))
    with pytest.raises(ValueError, match="needs an augmentation"):
        ShrinkageProbeClassifier().set_params(augment__level=0.2)


@every_kind
def test_it_is_searched(features: Any) -> None:
    grid = [{"augment": [None]}, {"augment": [AUGMENT], "augment__level": [0.05, 0.4]}]
    args: Any = (head(), grid)
    one, many = (
        search(*args, cv=3, scoring="neg_log_loss").fit(features, Y) for search in (GridSearchCV, BatchedSearchCV)
    )
    scores = many.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, one.cv_results_["mean_test_score"], rtol=1e-8)
    assert len(np.unique(scores)) == 3


def test_tokens_are_augmented_as_tokens() -> None:
    plain = ShrinkageProbeClassifier().fit(TOKENS, Y)
    for augment in (PatchDropout(0.5), Rotate(90)):
        same = head(augment, grid=(3, 3)).fit(TOKENS, Y)
        assert differ(same, plain, TOKENS) == isinstance(augment, PatchDropout)  # turned tokens have nearly one mean
    of_blocks = head(PatchDropout(0.5)).fit(FeatureBlocks({"tokens": [TOKENS]}), Y)
    assert_same(of_blocks, head(PatchDropout(0.5)).fit(TOKENS, Y), rtol=1e-5, atol=1e-6)
    prefix = head(PatchDropout(0.5), n_prefix=5, grid=(2, 2)).fit(TOKENS, Y)
    assert differ(prefix, of_blocks, TOKENS)


def test_what_cannot_be_is_an_error() -> None:
    with pytest.raises(ValueError, match="leaves labels as they are"):
        head(MixUp()).fit(X, Y)
    with pytest.raises(ValueError, match="pooled features have no positions"):
        head(Rotate()).fit(X, Y)
    with pytest.raises(ValueError, match="n_augmented"):
        head(n_augmented=-1).fit(X, Y)


@pytest.mark.parametrize("features", [X, BLOCKS], ids=["array", "blocks"])
def test_more_samples_and_classes_draw_copies_anew(features: Any) -> None:
    whole = head().fit(features, NAMES)
    old, new = np.arange(40), np.arange(40, 60)
    grown = head().fit(features[old], NAMES[old]).partial_fit(features[new], NAMES[new])
    assert_same(grown, whole)
    assert_same(head().partial_fit(features, NAMES), whole)
    added = head().fit(features[old], NAMES[old]).add_class(features[new], "dog")
    labels = np.concatenate([NAMES[old], np.full(20, "dog")])
    assert_same(added, head().fit(features, labels))
    assert_same(added.drop_class("dog"), head().fit(features[old], NAMES[old]))


def test_tokens_are_not_kept_to_draw_copies_from() -> None:
    probe = head().fit(TOKENS, NAMES)
    with pytest.raises(ValueError, match="keeps means of tokens"):
        probe.partial_fit(TOKENS, NAMES)
    with pytest.raises(ValueError, match="keeps means of tokens"):
        probe.add_class(TOKENS, "dog")
    with pytest.raises(ValueError, match="was fitted to tokens with augment"):
        probe.partial_fit(X, NAMES)
    with pytest.raises(ValueError, match="was fitted to tokens with augment"):
        probe.drop_class("ant")
    assert len(head(None).fit(TOKENS, NAMES).drop_class("ant").classes_) == 2


@every_kind
def test_it_is_saved_and_pickled(features: Any, tmp_path: Path) -> None:
    probe = head().fit(features, NAMES)
    frofa.save(probe, tmp_path / "head.frofa")
    for other in (frofa.load(tmp_path / "head.frofa"), pickle.loads(pickle.dumps(probe))):  # noqa: S301
        np.testing.assert_array_equal(other.predict_proba(features), probe.predict_proba(features))
        assert_same(other.fit(features, NAMES), probe)
