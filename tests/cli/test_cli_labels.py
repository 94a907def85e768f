"""``frofa labels``: suspects, leaks, suggestions, and how many are enough, from folders."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frofa.cli import main


def run(*arguments: object) -> int:
    return main(["labels", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and light images, one of them in the wrong folder and one there twice; test images with a leak."""
    directory = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)

    def write(name: str, level: int) -> None:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(level + rng.normal(0, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)

    for i in range(8):
        write(f"train/dark/{i}.png", 40)
        write(f"train/light/{i}.png", 210)
        write(f"new/{i}.png", 40 if i % 2 else 210)
    write("train/light/wrong.png", 40)
    write("test/dark/new.png", 40)
    for copy, of in (("train/dark/twice.png", "train/dark/3.png"), ("test/dark/leak.png", "train/light/5.png")):
        (directory / copy).write_bytes((directory / of).read_bytes())
    return directory


@pytest.fixture(autouse=True)
def elsewhere(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty directory, with one store for all tests."""
    (tmp_path / "frofa-store").symlink_to(photos.parent / "store", target_is_directory=True)
    (photos.parent / "store").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)


def names(paths: list[str]) -> list[str]:
    return ["/".join(Path(path).parts[-2:]) for path in paths]


def test_wrong_labels_copies_and_leaks_are_listed(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["wrong", photos / "train", "--test", photos / "test", "--views", 2]
    assert run(*command, "--out", "all.csv") == 0
    text = capsys.readouterr().out
    assert "1 of 18 labels are more likely wrong than right" in text
    assert "light/wrong.png: light, rather dark" in text
    assert "the same, a leak, labelled dark, light:" in text
    assert "all of it: all.csv" in text
    with Path("all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    assert (names([rows[0]["path"]]), rows[0]["given"], rows[0]["suggested"]) == (["light/wrong.png"], "light", "dark")
    assert [row["is_issue"] for row in rows] == ["True"] + ["False"] * 17
    wrong = [float(row["wrong"]) for row in rows]
    assert wrong == sorted(wrong, reverse=True)
    assert sorted(names([row["path"] for row in rows if row["group"]])) == [
        "dark/3.png",
        "dark/twice.png",
        "light/5.png",
    ]
    assert run(*command, "--out", "all.json", "--quiet") == 0
    found = json.loads(Path("all.json").read_text())
    leak, twice = found["duplicates"]
    assert names([one["path"] for one in leak["test"]]) == ["dark/leak.png"]
    assert leak["labels"] == ["dark", "light"]
    assert names([one["path"] for one in twice["train"]]) == ["dark/3.png", "dark/twice.png"]


def test_unreadable_images_are_skipped(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = [["path", "label"], *([str(p), p.parent.name] for p in sorted((photos / "train").rglob("*.png")))]
    Path("broken.png").write_bytes(b"not an image")
    with Path("table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*table, ["broken.png", "dark"]])
    command = ["wrong", "table.csv", "--views", 2, "--skipped", "skipped.csv"]
    assert run(*command, "--out", "all.csv") == 3
    output = capsys.readouterr()
    assert "skipped 1 of 19 images" in output.err
    assert "light/wrong.png: light, rather dark" in output.out
    assert "broken.png" in Path("skipped.csv").read_text()
    with Path("all.csv").open(newline="") as file:
        assert list(csv.DictReader(file))[-1]["wrong"] == ""
    assert run(*command, "--fail-fast") == 1
    assert "broken.png" in capsys.readouterr().err


def test_images_to_label_next_come_from_a_pool(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("next", photos / "train", "--pool", photos / "new", "-n", 3, "--views", 1) == 0
    output = capsys.readouterr()
    assert "18 images have labels, 8 can be labelled" in output.err
    chosen = output.out.splitlines()
    assert len(set(chosen)) == 3
    assert all(Path(path).parent == photos / "new" for path in chosen)
    assert run("next", photos / "train", "--pool", photos / "new", "-n", 3, "--views", 1, "--out", "next.csv") == 0
    with Path("next.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == chosen
    assert [row["rank"] for row in rows] == ["1", "2", "3"]


def test_images_to_label_next_lie_beside_the_classes_or_have_none(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without any label, the two kinds of images are both among the first two.
    assert run("next", photos / "new", "-n", 2, "--views", 1) == 0
    output = capsys.readouterr()
    assert "0 images have labels, 8 can be labelled" in output.err
    assert sorted(int(Path(path).stem) % 2 for path in output.out.splitlines()) == [0, 1]
    mixed = tmp_path / "mixed"
    for name in ("dark/1.png", "dark/2.png"):
        (mixed / name).parent.mkdir(parents=True, exist_ok=True)
        (mixed / name).write_bytes((photos / "train" / name).read_bytes())
    for i in range(8):
        (mixed / f"{i}.png").write_bytes((photos / "new" / f"{i}.png").read_bytes())
    assert run("next", mixed, "-n", 20, "--views", 1) == 0
    output = capsys.readouterr()
    assert "2 images have labels, 8 can be labelled" in output.err
    assert "ignored" not in output.err
    assert "suggested 8 of 20" in output.err
    chosen = output.out.splitlines()
    assert sorted(chosen) == sorted(str(mixed / f"{i}.png") for i in range(8))
    # Dark images are known already.
    assert int(Path(chosen[0]).stem) % 2 == 0


def test_enough_labels_are_counted(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("enough", photos / "train", "--target", 0.6, "--views", 1, "--out", "enough.json") == 0
    output = capsys.readouterr().out
    found = json.loads(Path("enough.json").read_text())
    assert found["target"] == 0.6
    assert found["n_labelled"] == 17  # one is a copy
    assert "60 %" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wrong", "train", "--out", "all.txt"], "--out must end in .csv or .json. Got all.txt."),
        (["next", "train"], "found no image without a label in"),
        (["wrong", "new"], "found no labels in"),
        (["wrong", "train", "--test", "absent"], "absent"),
        (["enough", "new"], "found no labels in"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    placed = [photos / one if one in ("train", "new") else one for one in arguments]
    assert run(*placed) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("target", ["0", "1", "much", "nan"])
def test_a_target_is_a_share(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("enough", "photos", "--target", target)
    assert stop.value.code == 2
    assert "between 0 and 1" in capsys.readouterr().err
