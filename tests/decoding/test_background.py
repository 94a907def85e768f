"""FrozenFeatureExtractor(background=...): what shows where an image is transparent, the same on every path."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

import frofa
from frofa import FeatureStore, FrozenFeatureExtractor, FunctionEncoder, extract_many
from frofa.cli import main
from frofa.doctor.subject import Subject
from frofa.estimators import PrototypeClassifier
from frofa.exceptions import EncoderError
from frofa.images.pixels.colour import parse_colour, to_rgb
from frofa.store.maintenance.contents import explain

BLUE = (0, 0, 255)


@pytest.fixture
def drawings() -> list[Image.Image]:
    """Noise under a disc of opaque pixels with a soft edge, of which the last image has none that is transparent."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :48]
    alpha = np.clip(40 * (18 - np.hypot(y - 20, x - 24)), 0, 255).astype(np.uint8)
    pixels = rng.integers(0, 256, (4, 40, 48, 4), np.uint8)
    pixels[:3, ..., 3], pixels[3, ..., 3] = alpha, 255
    return [Image.fromarray(one) for one in pixels]


@pytest.fixture
def files(drawings: list[Image.Image], tmp_path: Path) -> list[str]:
    (tmp_path / "drawings").mkdir()
    paths = [str(tmp_path / "drawings" / f"{index}.png") for index in range(len(drawings))]
    for path, drawing in zip(paths, drawings, strict=True):
        drawing.save(path)
    return paths


def laid_on(images: list[Image.Image], colour: Any) -> list[Image.Image]:
    """The images, laid on a colour by Pillow itself."""
    found = []
    for image in images:
        ground = Image.new("RGB", image.size, colour)
        ground.paste(image, mask=image.getchannel("A"))
        found.append(ground)
    return found


def extractor(model: str, **options: Any) -> FrozenFeatureExtractor:
    return FrozenFeatureExtractor(model, output="mean", device="cpu", batch_size=5, n_jobs=2, **options)


def assert_close(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> None:
    """Equal up to the last bit of pixels, in which Pillow's two ways to mix colours differ."""
    assert np.abs(one - other).max() < 0.01 * np.ptp(other)


@pytest.mark.parametrize("colour", ["white", "black", "#0000ff", BLUE])
@pytest.mark.parametrize("options", [{}, {"decode": "process"}, {"max_tokens": 16}], ids=str)
def test_files_and_images_in_memory_are_laid_on_it(
    options: dict[str, Any], colour: Any, small_vit: str, drawings: list[Image.Image], files: list[str]
) -> None:
    make = extractor(small_vit, background=colour, **options)
    found = make.transform(files)
    np.testing.assert_array_equal(make.transform(drawings), found)
    assert_close(found, extractor(small_vit, **options).transform(laid_on(drawings, colour)))


def test_opaque_images_are_the_same_on_every_background(small_vit: str, image_paths: list[str]) -> None:
    expected = extractor(small_vit).transform(image_paths)
    np.testing.assert_array_equal(extractor(small_vit, background="black").transform(image_paths), expected)


@pytest.mark.parametrize("ink", ["black", "white"])
def test_by_default_drawings_in_black_and_in_white_can_be_seen(ink: str) -> None:
    drawing = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    drawing.paste(ink, (10, 10, 30, 30))
    shown = np.asarray(to_rgb(drawing))
    assert np.ptp(shown) > 50
    assert tuple(shown[0, 0]) == parse_colour(FrozenFeatureExtractor().background)


def test_a_store_keeps_backgrounds_apart(
    small_vit: str, drawings: list[Image.Image], files: list[str], tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path / "store")
    for colour in ("black", "white", BLUE):
        make = extractor(small_vit, background=colour, store=store)
        assert make.extract(files).n_computed == make.extract(drawings).n_computed == 4
        np.testing.assert_array_equal(make.transform(files), extractor(small_vit, background=colour).transform(files))
        for image in (files[0], drawings[0]):
            assert explain(store, image, make.feature_spec()).hit
    same = extractor(small_vit, background="#0000ff", store=store)
    assert same.feature_spec() == extractor(small_vit, background=BLUE).feature_spec()
    assert same.extract(files).n_computed == 0
    difference = same.feature_spec().differences(extractor(small_vit, background="black").feature_spec())
    assert list(difference) == ["decoder"]
    assert [decoder.rpartition(", on ")[2] for decoder in difference["decoder"]] == ["#0000ff", "#000000"]


def test_several_outputs_share_it(small_vit: str, files: list[str]) -> None:
    outputs = {name: extractor(small_vit, background="black").set_params(output=name) for name in ("mean", "cls")}
    found = extract_many(outputs, files)
    np.testing.assert_array_equal(found["mean"].features, outputs["mean"].transform(files))
    outputs["cls"].set_params(background="white")
    with pytest.raises(ValueError, match="Got background='white' for 'cls', and 'black' for 'mean'"):
        extract_many(outputs, files)


def test_the_doctor_examines_images_on_it(small_vit: str, drawings: list[Image.Image]) -> None:
    make = extractor(small_vit, background="black")
    backbone = make._backbone()
    found = Subject(make, backbone, drawings).pixels
    expected = Subject(make, backbone, laid_on(drawings, "black")).pixels
    assert (found - expected).abs().max() < 0.02


def test_saved_pipelines_and_clones_keep_it(small_vit: str, files: list[str], tmp_path: Path) -> None:
    for colour in ("black", BLUE):
        make = extractor(small_vit, background=colour)
        assert clone(make).background == colour
        model = make_pipeline(make, PrototypeClassifier()).fit(files, [0, 1, 0, 1])
        frofa.save(model, tmp_path / "model.frofa")
        loaded = frofa.load(tmp_path / "model.frofa")
        assert loaded[0].background == colour
        np.testing.assert_array_equal(loaded.predict_proba(files), model.predict_proba(files))


def test_the_command_line_has_it(
    small_vit: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", small_vit, "--store", str(tmp_path / "store"), "--device", "cpu", "--output", "mean"]
    out = tmp_path / "features.npz"
    for colour in ("white", "#0000ff"):
        assert main(["extract", *files, "--out", str(out), *options, "--background", colour]) == 0
        with np.load(out) as arrays:
            expected = extractor(small_vit, background=colour).transform(files)
            np.testing.assert_allclose(arrays["features"], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(SystemExit, match="2"):
        main(["extract", *files, *options, "--background", "whit"])
    assert "argument --background: The 'background' parameter must be" in capsys.readouterr().err


def test_what_is_no_colour_is_refused_before_any_work(files: list[str]) -> None:
    make = extractor("no-such-model", background="whit")
    calls: list[Callable[[], object]] = [make.fit, make.feature_spec, lambda: make.transform(files)]
    for call in calls:
        with pytest.raises(ValueError, match=r"'background' parameter must be the name of a colour.* Got 'whit'"):
            call()


def test_custom_encoders_have_none() -> None:
    encoder = FunctionEncoder(lambda batch: batch, spec="identity, v1")
    with pytest.raises(EncoderError, match="Got background='black'"):
        FrozenFeatureExtractor(encoder, background="black").transform([[1.0]])
