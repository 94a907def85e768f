"""Wrong labels and copies among images, as classifiers of images and pipelines see them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.pipeline import make_pipeline

from frofa import FrozenFeatureExtractor, ImageClassifier, label_issues, load_images
from frofa.estimators import ShrinkageProbeClassifier
from frofa.exceptions import ImageReadError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright images in folders, one of them in the wrong folder, one there twice, and a leak."""
    directory = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)

    def write(path: Path, level: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(level + rng.normal(0, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)

    for i in range(12):
        write(directory / "train" / "dark" / f"{i:02}.png", 40)
        write(directory / "train" / "light" / f"{i:02}.png", 210)
    write(directory / "train" / "light" / "wrong.png", 40)
    write(directory / "test" / "dark" / "new.png", 40)
    train = directory / "train"
    (train / "dark" / "twice.png").write_bytes((train / "dark" / "03.png").read_bytes())
    (directory / "test" / "light").mkdir()
    (directory / "test" / "light" / "leak.png").write_bytes((train / "dark" / "05.png").read_bytes())
    return directory


def names(of: list[str] | None, positions: Iterable[int]) -> list[str]:
    """File names of some images."""
    assert of is not None
    return [Path(of[i]).name for i in positions]


@pytest.mark.parametrize("kind", ["classifier", "pipeline"])
def test_images_are_judged_by_their_features(folder: Path, kind: str) -> None:
    extraction: dict[str, Any] = {"model": "frofa/vit_tiny_tin200", "device": "cpu", "n_jobs": 1}
    classifier: Any = ImageClassifier(**extraction, n_views=2)
    if kind == "pipeline":
        classifier = make_pipeline(FrozenFeatureExtractor(**extraction), ShrinkageProbeClassifier(device="cpu"))
    train, test = load_images(folder / "train"), load_images(folder / "test")
    found = label_issues(classifier, train, X_test=test)
    assert names(found.names, found.indices) == ["wrong.png"]
    assert found.suggested[found.indices].tolist() == ["dark"]
    leak, twice = found.duplicates
    assert names(found.test_names, leak.test) == ["leak.png"]
    assert names(found.names, leak.train) == ["05.png"]
    assert leak.labels == ("dark", "light")
    assert names(found.names, twice.train) == ["03.png", "twice.png"]
    assert leak.exact
    assert twice.exact
    assert not twice.test
    assert found.to_dict()["duplicates"][0]["test"][0]["path"] == str(folder / "test" / "light" / "leak.png")


def test_images_that_cannot_be_read_keep_their_positions(folder: Path, tmp_path: Path) -> None:
    images = load_images(folder / "train")
    assert images.labels is not None
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    paths, labels = [str(broken), *images.items], ["dark", *images.labels.tolist()]
    classifier = ImageClassifier(device="cpu", n_views=1, n_jobs=1)
    with pytest.raises(ImageReadError):
        label_issues(classifier, paths, labels)
    with pytest.warns(UserWarning, match="skipped 1"):
        found = label_issues(classifier.set_params(on_error="skip"), paths, labels)
    assert np.isnan(found.wrong[0])
    assert np.isfinite(found.wrong[1:]).all()
    assert len(found.skipped) == 1
    assert names(found.names, found.indices) == ["wrong.png"]
    assert set(names(found.names, found.duplicates[0].train)) == {"03.png", "twice.png"}
