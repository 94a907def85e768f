"""From images of any size to a head: extraction under a budget of tokens, the store, training and search."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.pipeline import make_pipeline

from frofa import FeatureStore, FrozenFeatureExtractor, RaggedTokens
from frofa.augmentations import Rotate
from frofa.estimators import BatchedSearchCV, MAPClassifier
from frofa.exceptions import SkippedImagesWarning

BUDGET = 36
LABELS = np.array(["grey", "red"] * 5)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Ten images of as many sizes, of two colours; the last repeats the first."""
    rng = np.random.default_rng(0)
    for i in range(9):
        pixels = rng.integers(0, 200, (*rng.integers(16, 200, 2), 3), np.uint8)
        pixels[..., 0] += 55 * (i % 2)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    Image.open(tmp_path / "1.png").save(tmp_path / "9.png")
    return [str(tmp_path / f"{i}.png") for i in range(10)]


@pytest.fixture
def extractor(tmp_path: Path) -> FrozenFeatureExtractor:
    return FrozenFeatureExtractor(max_tokens=BUDGET, store=tmp_path / "store", batch_size=4)


def test_a_second_run_reads_what_the_first_wrote(files: list[str], extractor: FrozenFeatureExtractor) -> None:
    plain: Any = FrozenFeatureExtractor(max_tokens=BUDGET, batch_size=4).transform(files)
    assert isinstance(plain, RaggedTokens)
    assert len(np.unique(plain.sizes)) > 1
    first = extractor.extract(files[:6])
    assert first.n_computed == 6
    second = extractor.extract(files)
    assert (second.n_computed, second.n_from_store, second.n_duplicates) == (3, 6, 1)
    third = extractor.extract(files[::-1])
    assert third.n_computed == 0
    for found, expected in ((first, plain[:6]), (second, plain), (third, plain[::-1])):
        assert np.array_equal(found.features.grids, expected.grids)
        np.testing.assert_allclose(found.features.values, expected.values, atol=1e-4)
    assert third.features[::-1].equals(second.features)


def test_budgets_do_not_meet(files: list[str], extractor: FrozenFeatureExtractor, tmp_path: Path) -> None:
    extractor.extract(files)
    fewer = extractor.set_params(max_tokens=16).extract(files)
    assert fewer.n_computed == 9
    assert fewer.features.sizes.max() <= 16
    extractor.set_params(max_tokens=None).extract(files)
    assert len(FeatureStore(tmp_path / "store").specs()) == 5  # pages and grids of two budgets, and an array


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept(files: list[str], extractor: FrozenFeatureExtractor, dtype: Any) -> None:
    extractor.set_params(dtype=dtype)
    first: Any = extractor.transform(files)
    plain: Any = FrozenFeatureExtractor(max_tokens=BUDGET, dtype=dtype).transform(files)
    assert first.dtype == plain.dtype
    np.testing.assert_allclose(first.values, plain.values, rtol=1e-2, atol=1e-2)


def test_an_image_that_cannot_be_read_is_left_out(files: list[str], extractor: FrozenFeatureExtractor) -> None:
    Path(files[3]).write_bytes(b"no image")
    extractor.set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        extraction = extractor.extract(files, LABELS)
    assert extraction.kept.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert len(extraction.features) == 9


def test_a_search_over_a_pipeline(files: list[str], extractor: FrozenFeatureExtractor) -> None:
    head = MAPClassifier(Rotate(20), n_steps=20, lr=0.01, random_state=0, device="cpu")
    grid = {"mapclassifier__augment__degrees": [0, 20]}
    search = BatchedSearchCV(make_pipeline(extractor, head), grid, cv=2).fit(files, LABELS)
    assert search.predict(files).shape == (10,)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
