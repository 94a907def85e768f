"""Sets of labels of images: by what fit kept, as ConformalClassifier has them, and after saving."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from sklearn.pipeline import make_pipeline

import frofa
from frofa import FrozenFeatureExtractor, ImageClassifier
from frofa.cli import main
from frofa.estimators import ConformalClassifier, FewShotClassifier, PrototypeClassifier

Image = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(scope="module")
def images() -> tuple[Image, list[str]]:
    """Thirty images of three shades that overlap, and their labels."""
    rng = np.random.default_rng(0)
    codes = np.arange(30) % 3
    pixels = rng.normal(60 + 40 * codes[:, None, None, None], 50, (30, 32, 32, 3)) + rng.normal(0, 25, (30, 1, 1, 3))
    return pixels.clip(0, 255).astype(np.uint8), np.array(["dark", "grey", "light"])[codes].tolist()


@pytest.mark.parametrize("copies", [False, True])
def test_sets_are_those_of_conformal_classifier(
    small_vit: str, images: tuple[Image, list[str]], copies: bool, tmp_path: Path
) -> None:
    pixels, labels = images
    pixels, labels = (np.concatenate([pixels, pixels[:4]]), labels + labels[:4]) if copies else (pixels, labels)
    model = ImageClassifier(small_vit, n_views=2, device="cpu")
    sets = model.fit(pixels, labels).predict_set(pixels, [0.6, 0.9])
    around = ConformalClassifier(ImageClassifier(small_vit, n_views=2, device="cpu"), [0.6, 0.9]).fit(pixels, labels)
    assert len(around.codes_) == 30  # copies are one image
    np.testing.assert_array_equal(sets[0], around.predict_set(pixels)[0])
    np.testing.assert_array_equal(sets[1], around.predict_set(pixels)[1])
    assert sets[1].shape == (len(pixels), 3, 2)
    for saved in (model, around):
        frofa.save(saved, tmp_path / "model.frofa")
        loaded = frofa.load(tmp_path / "model.frofa")
        np.testing.assert_array_equal(loaded.predict_set(pixels, [0.6, 0.9])[1], sets[1])


@pytest.mark.parametrize("method", ["full", "split", "cv+"])
def test_all_methods_take_images(small_vit: str, images: tuple[Image, list[str]], method: Any) -> None:
    pixels, labels = images
    model = ConformalClassifier(ImageClassifier(small_vit, n_views=1, device="cpu"), 0.8, method=method, random_state=0)
    found, sets = model.fit(pixels, labels).predict_set(pixels)
    assert set(found) <= {"dark", "grey", "light"}
    assert sets.shape == (30, 3, 1)
    assert 0.5 < sets.any(1).mean() <= 1
    assert len(model.codes_) == (15 if method == "split" else 30)


def test_heads_without_closed_forms_are_ranked_out_of_fold(small_vit: str, images: tuple[Image, list[str]]) -> None:
    pixels, labels = images
    model = ImageClassifier(small_vit, n_views=1, device="cpu").fit(pixels, labels)
    del model.sets_["support"]  # as of more than a thousand images, or of effort="high"
    own = 1 - model.head_.out_of_fold_proba_[np.arange(30), model.sets_["codes"]]
    new = 1 - model.predict_proba(pixels)
    expected = (1 + (own >= new[:, :, None] - 1e-10).sum(2)) / 31 > 0.1 + 1e-9
    np.testing.assert_array_equal(model.predict_set(pixels)[1][:, :, 0], expected)


def test_what_cannot_be_said_is_an_error(small_vit: str, images: tuple[Image, list[str]]) -> None:
    pixels, labels = images
    model = ImageClassifier(small_vit, n_views=1, device="cpu").fit(pixels[:9], labels[:9])
    model.predict_set(pixels, 0.9)
    with pytest.raises(ValueError, match=r"0\.95 needs at least 19 labels\. Got 9"):
        model.predict_set(pixels, 0.95)
    with pytest.raises(ValueError, match="confidence_level between 0 and 1"):
        model.predict_set(pixels, 90)
    del model.sets_
    with pytest.raises(ValueError, match=r"fitted by a version of frofa without prediction sets.*fit it again"):
        model.predict_set(pixels)


@pytest.mark.parametrize("kind", ["images", "around images", "pipeline"])
def test_the_command_line_writes_sets(
    small_vit: str, images: tuple[Image, list[str]], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, labels = images
    for number, (each, label) in enumerate(zip(pixels, labels, strict=True)):
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(each).save(tmp_path / "set" / label / f"{number}.png")
    paths, found = frofa.load_image_folder(tmp_path / "set")
    names = [f'{label}, "so"' for label in found]
    model: Any = ImageClassifier(small_vit, n_views=1, device="cpu")
    if kind == "around images":
        model = ConformalClassifier(model)
    elif kind == "pipeline":
        model = make_pipeline(
            FrozenFeatureExtractor(small_vit, device="cpu"), ConformalClassifier(PrototypeClassifier())
        )
    frofa.save(model.fit(paths, names), tmp_path / "m.frofa")
    arguments = ["predict", str(tmp_path / "m.frofa"), str(tmp_path / "set"), "--sets"]
    assert main([*arguments, "0.9", "--out", str(tmp_path / "p.csv")]) == 0
    said = capsys.readouterr().err
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    if kind == "pipeline":
        sets = model[-1].predict_set(model[0].transform([row["path"] for row in rows]))[1][:, :, 0]
    else:
        sets = model.predict_set([row["path"] for row in rows], 0.9)[1][:, :, 0]
    classes = model[-1].classes_ if kind == "pipeline" else model.classes_
    assert [json.loads(row["set"]) for row in rows] == [classes[one].tolist() for one in sets]
    assert f"sets of 90 % have {sets.sum(1).mean():.1f} labels on average" in said
    assert main([*arguments, "0.99"]) == 1
    assert "0.99 needs at least 99 labels. Got 30" in capsys.readouterr().err


def test_the_command_line_refuses_models_without_sets(
    small_vit: str, images: tuple[Image, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, labels = images
    model = make_pipeline(FrozenFeatureExtractor(small_vit, device="cpu"), FewShotClassifier()).fit(pixels, labels)
    frofa.save(model, tmp_path / "m.frofa")
    Pillow.fromarray(pixels[0]).save(tmp_path / "0.png")
    assert main(["predict", str(tmp_path / "m.frofa"), str(tmp_path), "--sets", "0.9"]) == 1
    said = capsys.readouterr().err
    assert "--sets needs a model that keeps its images" in said
    assert "'frofa fit' without --head makes a model that has" in said
    older = ImageClassifier(small_vit, n_views=1, device="cpu").fit(pixels, labels)
    del older.sets_
    older.save(tmp_path / "m.frofa")
    assert main(["predict", str(tmp_path / "m.frofa"), str(tmp_path), "--sets", "0.9"]) == 1
    assert "ImageClassifier of an earlier version" in capsys.readouterr().err
