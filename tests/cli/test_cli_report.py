"""``frofa report``: a page of a saved model on labelled images."""

import csv
import re
from pathlib import Path

import pytest
from reporting_helpers import write_photos

from frofa.cli import main
from frofa.reporting.facts import learning


def run(*arguments: object) -> int:
    return main(["report", *(str(argument) for argument in arguments)])


@pytest.fixture(autouse=True)
def few_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "N_ORDERS", 1)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a store of their features, and a model."""
    root = tmp_path_factory.mktemp("work")
    write_photos(root / "train", 5, seed=0)
    write_photos(root / "test", 3, seed=1)
    (root / "test" / "oak" / "broken.png").write_bytes(b"no image")
    (root / "test" / "birch").mkdir()
    (root / "test" / "birch" / "0.png").write_bytes((root / "test" / "oak" / "00.png").read_bytes())
    options = ["--views", "1", "--store", str(root / "store"), "--quiet"]
    assert main(["fit", str(root / "train"), "--out", str(root / "trees.frofa"), *options]) == 0
    return root


def test_a_report_is_one_file(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    out, skipped = tmp_path / "report.html", tmp_path / "skipped.csv"
    command = [work / "trees.frofa", work / "test", "--out", out, "--train", work / "train", "--store", work / "store"]
    assert run(*command, "--skipped", skipped, "--title", "Leaves <b>", "--level", "0.8", "--target", "0.7") == 3
    said = capsys.readouterr()
    assert re.match(rf"{out}: accuracy \d+.\d % \(.*\) of 9 images", said.out)
    assert "1 image of 1 label that the model does not know left out: birch" in said.err
    assert "skipped 1 of 11 images" in said.err
    [_, [name, _]] = csv.reader(skipped.read_text("utf-8").splitlines())
    assert name.endswith("broken.png")
    page = out.read_text("utf-8")
    assert "Leaves &lt;b&gt;" in page
    assert "Leaves <b>" not in page
    for text in ("broken.png", "birch", "SHA-256 of the model file", "frofa report"):
        assert text in page


def test_without_training_images_it_takes_what_the_model_keeps(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert run(work / "trees.frofa", work / "test" / "oak" / "..", "--out", out, "--store", work / "store") == 3
    assert "15 training images" in out.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.frofa", "{}/test", "--out", "r.html"], "there is no model none.frofa"),
        (["{}/trees.frofa", "{}/test", "--out", "r.pdf"], "--out must end in .html"),
        (["{}/trees.frofa", "{}/test", "--out", "nowhere/r.html"], "there is no directory nowhere"),
        (["{}/trees.frofa", "{}/test/oak", "--out", "r.html"], "found no labels in"),
        (["{}/trees.frofa", "{}/test", "--train", "{}/test/oak", "--out", "r.html"], "found no labels in"),
        (["{}/trees.frofa", "{}/test", "--fail-fast", "--out", "r.html"], "could not read the image"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str, work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    capsys.readouterr()
    assert run(*(argument.format(work) for argument in arguments)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("frofa: error: ")
    assert message in last
    assert not (work / "r.html").exists()


def test_where_no_image_can_be_read_it_says_so(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("oak", "moss"):
        (tmp_path / "bad" / label).mkdir(parents=True)
        (tmp_path / "bad" / label / "0.png").write_bytes(b"no image")
    assert run(work / "trees.frofa", tmp_path / "bad", "--out", tmp_path / "r.html") == 1
    assert "none of the images could be read; the first: could not read" in capsys.readouterr().err
