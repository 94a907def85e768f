from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from frofa import ImageClassifier, load_images, suggest
from frofa.exceptions import SkippedImagesWarning

Array = npt.NDArray[Any]
COLOURS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [220, 220, 40]])
NAMES = np.array(["red", "green", "blue", "yellow"])


@pytest.fixture(scope="module")
def images() -> Array:
    """Of four colours, six of each, with noise."""
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=20, size=(24, 32, 32, 3))
    return np.clip(np.repeat(COLOURS, 6, axis=0)[:, None, None] + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def labels() -> Array:
    return np.repeat(NAMES, 6)


def test_images_are_suggested_and_then_others(images: Array, labels: Array, tmp_path: Path) -> None:
    classifier = ImageClassifier(n_views=2, store=tmp_path)
    first = suggest(classifier, images, batch_size=4)
    assert sorted(labels[first]) == sorted(NAMES)
    second, utilities = suggest(classifier, images, images[first], labels[first], 4, return_utilities=True)
    assert not set(first) & set(second)
    assert np.isnan(utilities[:, first]).all()
    # Features of the store, read in parts, are those that are computed.
    assert suggest(ImageClassifier(n_views=2), images, images[first], labels[first], 4).tolist() == second.tolist()


def test_a_fitted_classifier_says_what_it_is_unsure_of(images: Array, labels: Array) -> None:
    known = np.flatnonzero(np.isin(labels, ["red", "green"]))[::2]
    fitted = ImageClassifier(n_views=2).fit(images[known], labels[known])
    proba = np.sort(fitted.predict_proba(images), 1)
    rows = suggest(fitted, images, batch_size=3, strategy="margin")
    assert rows.tolist() == np.argsort(proba[:, -1] - proba[:, -2], kind="stable")[:3].tolist()
    assert suggest(fitted, images, batch_size=3).shape == (3,)


def test_positions_count_images_that_cannot_be_read(images: Array, labels: Array, tmp_path: Path) -> None:
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number:02}.png")
    (tmp_path / "00.png").write_bytes(b"no image")
    pool = load_images(tmp_path)
    classifier = ImageClassifier(n_views=1, on_error="skip")
    with pytest.warns(SkippedImagesWarning):
        rows, utilities = suggest(classifier, pool, batch_size=4, return_utilities=True)
    assert sorted(labels[rows]) == sorted(NAMES)
    assert utilities.shape == (4, 24)
    assert np.isnan(utilities[:, 0]).all()
    with pytest.warns(SkippedImagesWarning):
        assert suggest(classifier, pool, batch_size=4, candidates=[0, 7, 9]).tolist() in ([7, 9], [9, 7])
