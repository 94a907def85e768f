"""Heads on RaggedTokens: what dense arrays give where grids are equal, and no trace of padding where they are not."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from frofa.augmentations import (
    JPEG,
    Augmentation,
    Brightness,
    Crop,
    MixUp,
    PatchDropout,
    RandomChoice,
    Rotate,
    Sequential,
    TokenBatch,
)
from frofa.estimators import (
    BatchedSearchCV,
    CheckpointError,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RaggedTokens,
    RidgeProbeClassifier,
)
from frofa.estimators.tokens.batches import PaddedBatches
from frofa.estimators.tokens.padding import PaddedTokens

N, CHANNELS = 24, 16
LABELS = np.array(["cat", "dog", "fish"] * (N // 3))
WEIGHTS = np.linspace(0, 2, N)


def ragged(dtype: Any = np.float32) -> RaggedTokens:
    """Images of three classes, of 1 to 20 tokens; some have the same grid."""
    rng = np.random.default_rng(0)
    grids = rng.integers(1, 6, (N, 2)) - [0, 1] * (rng.random((N, 1)) < 0.3)
    grids = np.maximum(grids, 1)
    grids[:2] = [[1, 1], [5, 4]]
    sizes = grids.prod(1)
    means = rng.normal(size=(3, CHANNELS))[np.arange(N) % 3]
    values = rng.normal(size=(sizes.sum(), CHANNELS)) + means.repeat(sizes, axis=0)
    return RaggedTokens(values.astype(dtype), grids)


def dense(dtype: Any = np.float32) -> npt.NDArray[Any]:
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(N, 12, CHANNELS)) + rng.normal(size=(3, CHANNELS))[np.arange(N) % 3, None]
    return tokens.astype(dtype)


def as_ragged(tokens: npt.NDArray[Any], height: int, width: int) -> RaggedTokens:
    return RaggedTokens(tokens.reshape(-1, tokens.shape[2]), np.tile([height, width], (len(tokens), 1)))


def quick(augment: Augmentation | None = None, **params: Any) -> MAPClassifier:
    return MAPClassifier(augment, n_steps=15, batch_size=8, random_state=0, device="cpu", **params)


HEADS = [
    quick(Sequential([Rotate(20), PatchDropout(0.3), Brightness(0.3, "c2")]), n_views=2),
    quick(MixUp(), validation_fraction=0.25),
    quick(RandomChoice([Crop(0.5), JPEG(20)])),
    RidgeProbeClassifier(augment=Rotate(20), n_augmented=2, n_views=1, random_state=0),
    LogisticProbeClassifier(augment=PatchDropout(0.3), n_augmented=2, n_views=2, random_state=0),
    PrototypeClassifier(),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_equal_grids_give_exactly_what_an_array_gives(head: Any, dtype: Any) -> None:
    tokens = dense(dtype)
    params = {"grid": (3, 4)} if head.get_params().get("augment") is not None else {}
    expected = clone(head).set_params(**params).fit(tokens, LABELS, WEIGHTS)
    found = clone(head).fit(as_ragged(tokens, 3, 4), LABELS, WEIGHTS)
    assert np.array_equal(found.predict_proba(as_ragged(tokens, 3, 4)), expected.predict_proba(tokens))


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_heads_learn_from_images_of_different_sizes(head: Any) -> None:
    tokens = ragged()
    fitted = clone(head).fit(tokens, LABELS)
    assert fitted.n_features_in_ == CHANNELS
    assert fitted.score(tokens, LABELS) > 0.6
    order = np.random.default_rng(2).permutation(N)
    np.testing.assert_allclose(fitted.predict_proba(tokens)[order], fitted.predict_proba(tokens[order]), atol=1e-6)
    alone = np.concatenate([fitted.predict_proba(tokens[[i]]) for i in range(N)])
    np.testing.assert_allclose(alone, fitted.predict_proba(tokens), atol=1e-6)


def test_probes_average_each_image_s_own_tokens() -> None:
    tokens = ragged()
    averages = np.stack([image.mean((0, 1), dtype=np.float64) for image in tokens])
    expected = RidgeProbeClassifier().fit(averages, LABELS)
    np.testing.assert_allclose(RidgeProbeClassifier().fit(tokens, LABELS).coef_, expected.coef_, rtol=1e-6)


@pytest.mark.parametrize("augment", [None, Sequential([Rotate(20), Brightness(0.3)]), Crop(0.5)], ids=str)
def test_padding_changes_nothing(augment: Augmentation | None, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = ragged()
    head = quick(augment, validation_fraction=0.25)
    expected = clone(head).fit(tokens, LABELS).predict_proba(tokens)
    shape_of = PaddedTokens.shape_of

    def longer(self: PaddedTokens, rows: Any) -> Any:
        return shape_of(self, rows)._replace(length=37, padded=True)

    monkeypatch.setattr(PaddedTokens, "shape_of", longer)
    np.testing.assert_allclose(clone(head).fit(tokens, LABELS).predict_proba(tokens), expected, atol=1e-5)


def test_the_content_of_padding_is_never_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, head = ragged(), quick(Sequential([Rotate(20), Brightness(0.3), MixUp()]))
    expected = clone(head).fit(tokens, LABELS).predict_proba(tokens)
    batch = PaddedTokens.batch

    def with_rubbish(self: PaddedTokens, *args: Any) -> TokenBatch:
        found = batch(self, *args)
        return found if found.mask is None else found.replace(patches=found.patches.where(found.mask[..., None], 1e3))

    monkeypatch.setattr(PaddedTokens, "batch", with_rubbish)
    np.testing.assert_allclose(clone(head).fit(tokens, LABELS).predict_proba(tokens), expected, atol=1e-6)


def test_batches_carry_each_image_s_grid() -> None:
    tokens = ragged()
    rows = torch.tensor([3, 0, 1])
    batches = PaddedBatches(PaddedTokens(tokens, torch.device("cpu")), np.arange(N))
    for chosen in (rows, rows.flip(0)):  # the second overwrites the memory of the first
        batch = batches.take(chosen, torch.ones(3, 3))
        assert isinstance(batch.grid, torch.Tensor)
        assert batch.grid.tolist() == tokens.grids[chosen].tolist()
        assert batch.mask is not None
        assert batch.mask.sum(1).tolist() == tokens.sizes[chosen].tolist()
        assert np.array_equal(batch.patches.numpy(), tokens.padded()[0][chosen])


class Straight(Augmentation):
    """Refuses tokens that do not lie on the grids of the images they are of."""

    def make_params(self, batch: TokenBatch, /, generator: torch.Generator) -> dict[str, Any]:
        del generator
        return {"sizes": batch.patches.shape[1] if batch.mask is None else batch.mask.sum(1)}

    def transform(self, batch: TokenBatch, /, params: Any) -> TokenBatch:
        assert isinstance(batch.grid, torch.Tensor)
        assert batch.grid.prod(1).equal(params["sizes"])
        self.seen.append(batch.grid)
        return batch

    seen: ClassVar[list[torch.Tensor]] = []


def test_augmentations_get_each_image_s_grid() -> None:
    quick(Straight()).fit(ragged(), LABELS)
    assert len(Straight.seen) == 15
    assert {tuple(one) for grid in Straight.seen for one in grid.tolist()} <= set(map(tuple, ragged().grids.tolist()))


def test_a_pipeline_and_scikit_learn_s_own_search_take_them() -> None:
    tokens = ragged()
    pipeline = make_pipeline(FunctionTransformer(), quick())
    assert cross_val_score(pipeline, tokens, LABELS, cv=3).mean() > 0.5
    assert cross_val_predict(quick(), tokens, LABELS, cv=3).shape == (N,)
    search = GridSearchCV(pipeline, {"mapclassifier__lr": [0.001, 0.03]}, cv=2).fit(tokens, LABELS)
    assert search.predict(tokens).shape == (N,)


@pytest.mark.parametrize(
    ("head", "grid"),
    [
        (quick(Sequential([Rotate(20), PatchDropout(0.3)])), {"lr": [0.001, 0.03], "validation_fraction": [None, 0.3]}),
        (LogisticProbeClassifier(), {"C": [0.1, 1.0]}),
        (RidgeProbeClassifier(augment=Rotate(20), n_augmented=1, random_state=0), {"n_augmented": [0, 1]}),
        (PrototypeClassifier(), {"temperature": [0.1, 1.0]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_batched_search_gives_what_an_ordinary_one_gives(head: Any, grid: dict[str, Any]) -> None:
    tokens = ragged()
    arguments: dict[str, Any] = {"cv": 3, "scoring": "neg_log_loss", "return_train_score": True}
    ours = BatchedSearchCV(head, grid, **arguments).fit(tokens, LABELS, sample_weight=1 + WEIGHTS)
    theirs = GridSearchCV(head, grid, **arguments).fit(tokens, LABELS, sample_weight=1 + WEIGHTS)
    for name in ("split0_test_score", "split2_test_score", "mean_train_score"):
        np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], atol=1e-4)
    assert ours.best_params_ == theirs.best_params_


def test_a_checkpoint_tells_tokens_apart(tmp_path: Path) -> None:
    search = BatchedSearchCV(PrototypeClassifier(), {"center": [True, False]}, cv=2, checkpoint=tmp_path / "search")
    search.fit(ragged(), LABELS)
    search.fit(ragged(), LABELS)
    other = RaggedTokens(ragged().values, ragged().grids[:, ::-1])
    with pytest.raises(CheckpointError):
        search.fit(other, LABELS)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_prefix": 1}, r"n_prefix must be 0\. Got 1"),
        ({"grid": (3, 4)}, r"grid must be None\. Got \(3, 4\)"),
    ],
)
def test_parameters_that_the_tokens_contradict_are_refused(params: dict[str, Any], message: str) -> None:
    for head in (
        quick(**params),
        RidgeProbeClassifier(augment=Brightness(0.1), n_augmented=1, random_state=0, **params),
    ):
        with pytest.raises(ValueError, match=message):
            head.fit(ragged(), LABELS)
    assert len(BatchedSearchCV(RidgeProbeClassifier(**params), {"alphas": [1.0]}).fit(ragged(), LABELS).classes_) == 3


def test_bad_tokens_are_refused() -> None:
    tokens = ragged()
    head = quick().fit(tokens, LABELS)
    with pytest.raises(ValueError, match=r"X has 8 features a token.*expecting 16"):
        head.predict(RaggedTokens(tokens.values[:, :8], tokens.grids))
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        head.predict(tokens[:0])
    broken = tokens.values.copy()
    broken[-1, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        head.predict(RaggedTokens(broken, tokens.grids))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick().fit(tokens, LABELS[:-1])


def test_a_list_of_images_of_different_sizes_is_an_error_that_says_what_to_give() -> None:
    images = [np.zeros((h, 4, 3), np.float32) for h in (2, 3, 2, 3)]
    for head in (MAPClassifier(), RidgeProbeClassifier()):
        with pytest.raises(ValueError, match="different shapes: tokens of images of different sizes are given as"):
            head.fit(images, [0, 0, 1, 1])
