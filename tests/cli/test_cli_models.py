"""frofa fit, predict and evaluate: sources, labels, rows, and numbers."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import frofa
from frofa.cli import main
from frofa.evaluation import proportion_interval

RED = "images/red/1.png"


@pytest.fixture
def images(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`image_folder`, beside which tests run."""
    monkeypatch.chdir(image_folder.parent)
    return Path(image_folder.name)


def run(*arguments: object) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of these tests
        return main([str(argument) for argument in arguments])


def fit(*arguments: object, model: str) -> int:
    return run("fit", *arguments, "--head", "ridge", "--out", "m.frofa", "--model", model)


@pytest.fixture
def model(images: Path, small_vit: str, capsys: pytest.CaptureFixture[str]) -> str:
    """A ridge probe of the three classes of `images`."""
    assert fit(images, model=small_vit) == 0
    capsys.readouterr()
    return "m.frofa"


@pytest.fixture(params=[["--head", "ridge"], ["--views", 2]], ids=["ridge", "default"])
def either(images: Path, small_vit: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> str:
    """A ridge probe, or what is fitted by default, of the three classes of `images`."""
    assert run("fit", images, *request.param, "--out", "m.frofa", "--model", small_vit) == 0
    capsys.readouterr()
    return "m.frofa"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def write_archive(folder: Path) -> str:
    with zipfile.ZipFile("images.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path)
    return "images.zip"


def write_table(folder: Path) -> str:
    lines = [f"{path},{path.parent.name}" for path in sorted(folder.rglob("*.*"))]
    Path("labels.csv").write_text("\n".join(["path,label", *lines, ""]))
    return "labels.csv"


@pytest.mark.parametrize("source", [write_archive, write_table])
def test_all_commands_take_archives_and_tables(
    source: Any, images: Path, model: str, small_vit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = source(images)
    assert run("predict", model, images, "--out", "folder.csv") == 0
    assert fit(given, model=small_vit) == 0
    assert "12 images, 3 classes: blue, green, red" in capsys.readouterr().out
    assert run("predict", "m.frofa", given, "--out", "other.csv") == 0
    of_folder, of_source = (rows(Path(name).read_text()) for name in ("folder.csv", "other.csv"))
    for row in (*of_folder, *of_source):
        row["path"] = row["path"].removeprefix("images.zip!/").removeprefix("./")
    assert of_source == of_folder
    assert run("evaluate", "m.frofa", given) == 0
    assert "12 images, 3 classes" in capsys.readouterr().out


def test_lists_on_standard_input(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"images/red/1.png\nimages/absent.png\n")))
    assert run("predict", model, "-") == 3
    captured = capsys.readouterr()
    first, second = rows(captured.out)
    assert (first["path"], first["label"], first["error"]) == (RED, "red", "")
    assert second == {
        "path": "images/absent.png",
        "label": "",
        "probability": "",
        "error": "No such file or directory",
    }
    assert "skipped 1 of 2 images: images/absent.png: No such file or directory" in captured.err


def test_a_table_for_a_directory_with_gaps(images: Path, small_vit: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["red/0.jpg,warm", "red/1.png,warm", "blue/0.jpg,cold", "blue/1.png,cold", "green/0.jpg,"]
    Path("kinds.csv").write_text("\n".join(["file,kind", *lines]))
    options = ["--labels", "kinds.csv", "--path-column", "file", "--label-column", "kind"]
    assert fit(images, *options, model=small_vit) == 0
    captured = capsys.readouterr()
    assert "1 of 5 images have no label and are left out" in captured.err
    assert "4 images, 2 classes: cold, warm" in captured.out
    assert run("evaluate", "m.frofa", images, *options, "--out", "e.json") == 0
    assert json.loads(Path("e.json").read_text())["n_unlabelled"] == 1
    capsys.readouterr()
    assert run("predict", "m.frofa", images, *options) == 0
    captured = capsys.readouterr()
    assert [row["true_label"] for row in rows(captured.out)] == ["warm", "warm", "cold", "cold", ""]
    assert "of 4 images; 1 image without a label that the model knows" in captured.err


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_images_without_labels_are_refused(
    command: str, images: Path, model: str, small_vit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ["--out", "n.frofa", "--model", small_vit] if command == "fit" else []
    given = [images / "red"] if command == "fit" else [model, images / "red"]
    assert run(command, *given, *rest) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "found no labels in images/red: expected DIRECTORY/CLASS/IMAGE" in line
    assert not Path("n.frofa").exists()


def test_all_probabilities(images: Path, either: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("predict", either, images / "red", RED, "--probabilities") == 0
    captured = capsys.readouterr()
    loaded = frofa.load(either)
    paths = [str(path) for path in sorted((images / "red").iterdir())]
    expected = loaded.predict_proba([*paths, RED])
    assert captured.err == ""
    for row, values in zip(rows(captured.out), expected, strict=True):
        found = [float(row[f"probability_{label}"]) for label in loaded.classes_]
        np.testing.assert_allclose(found, values, atol=1e-6)
        assert row["label"] == loaded.classes_[values.argmax()]
        assert float(row["probability"]) == pytest.approx(values.max(), abs=1e-4)
        assert set(row) == {"path", "label", "probability", "error", *(f"probability_{c}" for c in loaded.classes_)}


def test_labelled_images_are_compared(images: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "red" / "2.jpg").write_text("no image")
    shutil.copytree(images / "red", images / "purple")
    assert run("predict", model, images) == 3
    captured = capsys.readouterr()
    found = rows(captured.out)
    assert len(found) == 16
    readable = [row for row in found if not row["error"] and row["true_label"] != "purple"]
    right = sum(row["label"] == row["true_label"] for row in readable)
    accuracy = f"accuracy {100 * right / 11:.1f} % of 11 images; 3 images without a label that the model knows"
    assert captured.err.splitlines()[-1] == f"frofa: {accuracy}"
    assert {row["error"] for row in found} == {"", "not an image, or of a format that Pillow cannot read"}


def test_where_no_image_can_be_read_each_has_a_row(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        Path(name).write_text("no image")
    assert run("predict", model, "a.png", "b.png", "--out", "p.csv") == 1
    assert "none of the 2 images could be read" in capsys.readouterr().err.splitlines()[-1]
    assert [bool(row["error"]) for row in rows(Path("p.csv").read_text())] == [True, True]
    assert run("evaluate", model, "images", "--fail-fast") == 0
    assert run("predict", model, "a.png", "--out", "q.csv", "--fail-fast") == 1
    assert not Path("q.csv").exists()


def test_evaluation(images: Path, either: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(images / "red", images / "purple")
    (images / "red" / "2.jpg").write_text("no image")
    shutil.rmtree(images / "green")
    assert run("evaluate", either, images, "--out", "e.json", "--skipped", "s.csv") == 3
    captured = capsys.readouterr()
    assert "skipped 1 of 12 images: images/red/2.jpg: not an image" in captured.err
    assert "frofa: warning: 4 images of 1 label that the model does not know left out: purple" in captured.err
    assert "no image of 1 class that the model knows: green" in captured.err
    found = json.loads(Path("e.json").read_text())
    assert (found["n_images"], found["n_skipped"], found["unknown_labels"]) == (7, 1, {"purple": 4})
    assert found["labels"] == ["blue", "green", "red"]
    assert [sum(row) for row in found["confusion_matrix"]] == [4, 0, 3]
    n_correct = sum(found["confusion_matrix"][i][i] for i in range(3))
    share = found["accuracy"]
    assert share["n_correct"] == n_correct
    assert [share["accuracy"], share["low"], share["high"]] == list(proportion_interval(n_correct, 7))
    assert found["classes"][1] == {
        "label": "green",
        "n": 0,
        "n_correct": 0,
        "accuracy": None,
        "low": None,
        "high": None,
    }
    loaded = frofa.load(either)
    extractor = loaded if isinstance(loaded, frofa.ImageClassifier) else loaded[0]
    assert found["model"]["weights_digest"] == extractor.weights_digest_
    assert found["versions"]["frofa"] == frofa.__version__
    assert f"accuracy           {100 * n_correct / 7:.1f} % (" in captured.out
    assert f"log-loss           {found['log_loss']:.4f}" in captured.out
    assert "green  no image" in captured.out
    assert Path("s.csv").read_text().startswith('path,reason\nimages/red/2.jpg,"not an image')


def test_evaluation_of_one_class_and_of_none(images: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("blue", "green"):
        shutil.rmtree(images / name)
    assert run("evaluate", model, images) == 0
    assert "4 images, 3 classes" in capsys.readouterr().out
    (images / "red").rename(images / "rouge")
    assert run("evaluate", model, images, "--out", "e.json") == 1
    message = "no image has a label that the model knows. It knows blue, green, red. Got rouge."
    assert message in capsys.readouterr().err
    assert not Path("e.json").exists()


@pytest.mark.parametrize("command", ["folder", "table"])
def test_parts_of_a_data_set_are_no_classes(
    command: str, images: Path, small_vit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, part in (("red", "train"), ("blue", "test")):
        (images / name).rename(images / part)
    shutil.rmtree(images / "green")
    given = images if command == "folder" else write_table(images)
    assert fit(given, model=small_vit) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert f"the classes of {given} are test, train, which look like the parts of a data set" in line
    assert not Path("m.frofa").exists()
    assert fit(given, "--allow-part-names", model=small_vit) == 0
    assert "2 classes: test, train" in capsys.readouterr().out


def test_fixed_heads_have_an_estimate_of_accuracy(
    images: Path, small_vit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(images, model=small_vit) == 0
    assert "% over 4 folds" in capsys.readouterr().out.splitlines()[0]
    for index in (1, 2, 3):
        next((images / "red").glob(f"{index}.*")).unlink()
    assert fit(images, model=small_vit) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "ridge      not cross-validated"
    assert "no estimate of accuracy: it takes 2 images of every class, and red has one" in captured.err


def test_quiet_leaves_results_warnings_and_errors(images: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "notes.txt").touch()
    (images / "empty").mkdir()
    assert run("evaluate", model, images) == 0
    loud = capsys.readouterr()
    assert run("evaluate", model, images, "--quiet") == 0
    quiet = capsys.readouterr()
    assert quiet.out == loud.out
    assert set(loud.err.splitlines()) - set(quiet.err.splitlines()) == {
        "frofa: 1 file of other kinds ignored: .txt (1)"
    }
    assert "the class directory images/empty has no image" in quiet.err
    assert run("evaluate", "absent.frofa", images, "--quiet") == 1
    assert "there is no model absent.frofa" in capsys.readouterr().err


def start(*arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "frofa", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1"])
def test_names_of_any_bytes_keep_their_rows(encoding: str, images: Path, small_vit: str) -> None:
    name = b"caf\xe9 \xc3\xa9.png"
    try:
        Path(os.fsdecode(b"images/" + name[:4])).mkdir()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    for number in (1, 2):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(os.fsdecode(b"images/caf\xe9/%d" % number + name))
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    fitted = start("fit", images, "--head", "ridge", "--out", "m.frofa", "--model", small_vit, env=environment)
    out, error = fitted.communicate()
    assert (fitted.returncode, b"caf\xe9" in out) == (0, True), error
    predicted = start("predict", "m.frofa", images, env=environment)
    out, error = predicted.communicate()
    assert predicted.returncode == 0, error
    found = out.splitlines()
    assert len(found) == 15
    assert any(line.startswith(b"images/caf\xe9/1" + name + b",") for line in found)
    assert run("predict", "m.frofa", images, "--out", "p.csv") == 0
    assert Path("p.csv").read_bytes() == out


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_what_is_written_outlives_closed_standard_output(images: Path, model: str) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "frofa", "predict", model, str(images)]
    to_file = subprocess.run([*command, "--out", "p.csv"], stdout=write, stderr=subprocess.PIPE)
    to_pipe = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert to_file.returncode == 0, to_file.stderr
    assert len(Path("p.csv").read_text().splitlines()) == 13
    assert to_pipe.returncode == 1
    assert to_pipe.stderr.splitlines() == [b"frofa: error: cannot write to standard output: Broken pipe"]


@pytest.mark.parametrize(
    ("options", "said_of_copies"),
    [
        (["--head", "ridge"], "left out, as they repeat others: 1 image"),
        (["--views", 2], "taken together with what they repeat: 1 image"),
    ],
)
def test_copies_are_no_support_of_their_own(
    options: list[object], said_of_copies: str, images: Path, small_vit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copies would be on both sides of a split; of an image with two labels, nobody knows which is right."""
    shutil.copy(images / "red/0.jpg", images / "red/again.jpg")
    shutil.copy(images / "blue/0.jpg", images / "red/blue.jpg")
    assert run("fit", images, *options, "--out", "m.frofa", "--model", small_vit) == 0
    said = capsys.readouterr()
    assert f"frofa: {said_of_copies}\n" in said.err
    assert "warning: left out, as they have several labels: 1 image, such as one of blue, red\n" in said.err
    assert "11 images, 3 classes" in said.out
