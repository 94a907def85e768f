"""frofa extract: sources, outputs, layers, and what it says at the end."""

import csv
import io
import sys
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from frofa import FrozenFeatureExtractor, load_image_folder
from frofa.cli import main


@pytest.fixture
def images(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`image_folder`, beside which tests run."""
    monkeypatch.chdir(image_folder.parent)
    return Path(image_folder.name)


@pytest.fixture
def model(small_vit: str) -> list[str]:
    return ["--model", small_vit]


def run(*arguments: object) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of these tests
        return main([str(argument) for argument in arguments])


def test_a_table_names_images_and_labels(images: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.csv").write_text("file,kind\nred/0.jpg,warm\nblue/0.jpg,cold\ngreen/1.png,\n")
    columns = ["--path-column", "file", "--label-column", "kind"]
    assert run("extract", images, "--labels", "labels.csv", *columns, "--out", "f.npz", *model) == 0
    out = capsys.readouterr().out
    assert "f.npz: features 3 x 16 float32" in out
    assert "2 classes: cold, warm; 1 without a label" in out
    assert "3 in all: 3 images computed now, 0 from the store, 0 duplicates, 0 skipped" in out
    with np.load("f.npz") as arrays:
        assert arrays["paths"].tolist() == ["images/red/0.jpg", "images/blue/0.jpg", "images/green/1.png"]
        assert arrays["labels"].tolist() == ["warm", "cold", ""]


def test_an_archive_gives_the_features_of_the_folder(
    images: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile("images.zip", "w") as archive:
        for path in images.rglob("*.*"):
            archive.write(path)
    assert run("extract", images, "--out", "folder.npz", *model) == 0
    assert run("extract", "images.zip", "--out", "archive.npz", *model) == 0
    assert "0 images computed now, 12 from the store" in capsys.readouterr().out
    with np.load("folder.npz") as folder, np.load("archive.npz") as zipped:
        np.testing.assert_array_equal(zipped["features"], folder["features"])
        assert zipped["labels"].tolist() == folder["labels"].tolist()
        assert zipped["paths"].tolist() == [f"images.zip!/{path}" for path in folder["paths"]]


def test_several_sources_one_after_the_other(images: Path, model: list[str]) -> None:
    assert run("extract", images / "red", images, images / "blue" / "0.jpg", "--out", "f.npz", *model) == 0
    with np.load("f.npz") as arrays:
        assert arrays["labels"].tolist() == [""] * 4 + ["blue"] * 4 + ["green"] * 4 + ["red"] * 4 + [""]
        np.testing.assert_array_equal(arrays["features"][:4], arrays["features"][12:16])


@pytest.mark.usefixtures("images")
def test_a_list_on_standard_input(
    model: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = b"images/red/1.png\0images/absent.png\0images/blue/0.jpg\0"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(given)))
    assert run("extract", "-", "--out", "f.npz", *model) == 3
    assert "skipped 1 of 3 images: images/absent.png: No such file or directory" in capsys.readouterr().err
    with np.load("f.npz") as arrays:
        assert arrays["paths"].tolist() == ["images/red/1.png", "images/blue/0.jpg"]


def test_a_video(model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    with av.open("film.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for shade in range(0, 250, 10):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert run("extract", "film.mp4", "--every", 10, "--out", "f.npz", *model) == 0
    with np.load("f.npz") as arrays:
        assert arrays["paths"].tolist() == ["film.mp4#0@0.000s", "film.mp4#10@1.000s", "film.mp4#20@2.000s"]
        assert len(np.unique(arrays["features"], axis=0)) == 3


def test_several_outputs_and_layers(images: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--output", "tokens", "cls", "--layer", "0", "-1", "--no-norm", "--dtype", "float16"]
    assert run("extract", images, *options, "--out", "f.npz", *model) == 0
    assert "12 in all: 12 images computed now, 0 from the store" in capsys.readouterr().out
    paths, _ = load_image_folder(images)
    with np.load("f.npz") as arrays:
        features = {name for name in arrays if name.startswith("features")}
        assert features == {
            "features_tokens_layer0",
            "features_tokens_layer-1",
            "features_cls_layer0",
            "features_cls_layer-1",
        }
        one = FrozenFeatureExtractor(model[1], output="cls", layer=0, norm=False, dtype="float16").transform(paths)
        np.testing.assert_array_equal(arrays["features_cls_layer0"], one)
        assert arrays["features_tokens_layer-1"].shape == (12, 16, 16)
    assert run("extract", images, "--output", "mean", "pooled", "--out", "f.npz", *model) == 0
    with np.load("f.npz") as arrays:
        assert set(arrays) == {"features_mean", "features_pooled", "paths", "labels"}


def test_outputs_that_auto_stands_for(images: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("extract", images, "--output", "auto", "tokens", "--out", "f.npz", *model) == 0
    assert "f.npz: features_mean 12 x 16 float32" in capsys.readouterr().out
    paths, _ = load_image_folder(images)
    with np.load("f.npz") as arrays:
        assert set(arrays) == {"features_pooled", "features_mean", "features_tokens", "paths", "labels"}
        for output in ("pooled", "mean", "tokens"):
            one = FrozenFeatureExtractor(model[1], output=output, device="cpu").transform(paths)
            np.testing.assert_array_equal(arrays[f"features_{output}"], one)


def test_views_are_an_axis(images: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--views", 3, "--view-area", 0.25, 0.5, "--no-mirror", "--output", "mean"]
    assert run("extract", images, *options, "--out", "f.npz", *model) == 0
    out = capsys.readouterr().out
    assert "f.npz: features 12 x 3 x 16 float32" in out
    assert "12 in all: 12 images computed now" in out
    paths, _ = load_image_folder(images)
    settings = {"n_views": 3, "view_area": (0.25, 0.5), "mirror": False}
    blocks = FrozenFeatureExtractor(model[1], output="mean", device="cpu", **settings).transform(paths)  # type: ignore[arg-type]
    with np.load("f.npz") as arrays:
        np.testing.assert_array_equal(arrays["features"], blocks.block("mean"))
    assert run("extract", images, *options, "cls", "--out", "f.npz", *model) == 0
    assert "12 images computed now, 0 from the store" in capsys.readouterr().out
    with np.load("f.npz") as arrays:
        assert arrays["features_cls"].shape == arrays["features_mean"].shape == (12, 3, 16)


def test_without_a_file_the_store_is_filled(images: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("extract", images, "--store", "kept", *model) == 0
    out = capsys.readouterr().out
    assert "kept: features 12 x 16 float32" in out
    assert "3 classes: blue, green, red" in out
    assert sorted(path.name for path in Path().iterdir()) == ["images", "kept"]
    assert run("extract", images, "--store", "kept", *model) == 0
    assert "0 images computed now, 12 from the store" in capsys.readouterr().out


def test_duplicates_are_computed_once(images: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("images/red/copy.jpg").write_bytes(Path("images/red/0.jpg").read_bytes())
    assert run("extract", images, *model) == 0
    assert "13 in all: 12 images computed now, 0 from the store, 1 duplicates" in capsys.readouterr().out


def test_twenty_skipped_images_are_listed_and_a_file_has_all(
    images: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(23):
        (images / "red" / f"bad, {index:02}.png").touch()
    assert run("extract", images, "--skipped", "skipped.csv", *model) == 3
    error = capsys.readouterr().err
    assert "frofa: warning: skipped 23 of 35 images:\n  images/red/bad, 00.png: the file is empty\n" in error
    assert error.count("the file is empty") == 20
    assert error.endswith("\n  and 3 more; --skipped FILE.csv writes them all\n")
    with Path("skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[22] == {"path": "images/red/bad, 22.png", "reason": "the file is empty"}
    assert run("extract", images / "blue", "--skipped", "skipped.csv", *model) == 0
    assert Path("skipped.csv").read_text() == "path,reason\n"


def test_what_is_left_out_is_said(images: Path, model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(3):
        Image.new("RGB", (4, 4)).save(images / f"{index}.png")
    (images / "empty").mkdir()
    assert run("extract", images, *model) == 0
    error = capsys.readouterr().err
    assert "frofa: 3 files beside the class folders are ignored" in error
    assert "frofa: warning: the class directory images/empty has no image" in error
    assert run("extract", images, "--no-labels", *model) == 0
    assert "15 in all: 1 images computed now, 12 from the store, 2 duplicates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["images", "--labels", "labels.csv", "--path-column", "y"], "labels.csv has no column 'y'"),
        (["images", "images", "--labels", "labels.csv"], "--labels goes with one SOURCE. Got 2"),
        (["images", "--every", "2"], "1 for all but videos"),
        (["images", "--skipped", "skipped.txt"], "--skipped must end in .csv"),
        (["images", "--skipped", "absent/skipped.csv"], "there is no directory absent"),
        (["images", "--output", "pooled", "--layer", "0"], "output='pooled' is the model's own pooling"),
        (["images", "--output", "cls", "--layer", "7"], "Got layer=7"),
        (["images", "--output", "auto", "--layer", "0"], "output='auto' chooses among outputs of the last layer"),
        (["images", "--views", "3", "--view-area", "0.5", "2"], "range of areas, above 0 and up to 1"),
        (["labels.txt"], "cannot read images from labels.txt"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], message: str, images: Path, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("labels.csv").write_text("path\nred/0.jpg\n")
    Path("labels.txt").touch()
    assert images.is_dir()
    assert run("extract", *arguments, *model) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("frofa: error: ")
    assert message in line
    assert not Path("frofa-store").exists()


def test_help_has_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["extract", "--help"])
    assert "3 done, but some images" in " ".join(capsys.readouterr().out.split())
