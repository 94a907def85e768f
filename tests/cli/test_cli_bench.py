"""frofa bench scifibench: from published files to a table, and what is wrong before anything is computed."""

import csv
import io
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_tower_helpers import byte_folder
from draw_figures import draw_pairs, write_questions

from frofa.cli import main

TASKS = ("Figure2Caption", "Caption2Figure")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty-eight questions of both tasks about forty-eight figures, as files."""
    folder = tmp_path_factory.mktemp("scifibench")
    pairs = draw_pairs(48)
    negatives = (np.arange(48)[:, None] + [12, 24, 36, 5]) % 48
    for first, task in enumerate(TASKS):
        write_questions(folder / f"CS_{task}-00000-of-00001.parquet", task, pairs, range(first, 48, 2), negatives)
    return folder


@pytest.fixture
def model(save_backbone: Callable[..., str]) -> str:
    """A SigLIP of random weights, with a text tower over bytes, 16 channels both."""
    name = save_backbone("vit_base_patch16_siglip_224", img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2)
    return byte_folder(Path(name.removeprefix("local-dir:")))


def options(tmp_path: Path) -> list[str]:
    return ["--store", str(tmp_path / "store"), "--device", "cpu", "--n-jobs", "1"]


def test_from_files_to_a_table(capsys: pytest.CaptureFixture[str], questions: Path, model: str, tmp_path: Path) -> None:
    out, answers = tmp_path / "table.csv", tmp_path / "answers.csv"
    command = ["bench", "scifibench", str(questions), "--model", model, *options(tmp_path), "--adapter"]
    assert main([*command, "--out", str(out), "--answers", str(answers)]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == "CS Figure2Caption: accuracy in % with interval; chance 20.0"
    assert lines[1].split() == ["n", "cosine", "adapter"]
    assert lines[2].split()[:2] == ["all", "24"]
    assert "adapter less cosine, all questions: " in printed
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    # Two tasks, two methods, all and the categories that the task has.
    assert {(row["task"], row["method"]) for row in rows} == {*product(TASKS, ("cosine", "adapter"))}
    for row in rows:
        assert float(row["low"]) <= float(row["accuracy"]) <= float(row["high"])
        assert float(row["chance"]) == pytest.approx(0.2)
    assert sum(int(row["n"]) for row in rows if row["category"] == "all") == 2 * 48
    given = list(csv.DictReader(io.StringIO(answers.read_text())))
    assert len(given) == 48
    for row in rows:
        if row["category"] == "all":
            asked = [one for one in given if one["split"] == f"CS_{row['task']}"]
            right = [one[row["method"]] == one["answer"] for one in asked]
            assert np.mean(right) == pytest.approx(float(row["accuracy"]), abs=1e-6)
            assert right == [float(one[f"{row['method']}_margin"]) > 0 for one in asked]
    assert main(command) == 0  # again, from the store
    assert capsys.readouterr().out == printed.replace(f"wrote {out}\nwrote {answers}\n", "")


def test_one_task_alone_at_another_level(
    capsys: pytest.CaptureFixture[str], questions: Path, model: str, tmp_path: Path
) -> None:
    command = ["bench", "scifibench", str(questions), "--model", model, *options(tmp_path), "--task", TASKS[1]]
    assert main(command) == 0
    wide = capsys.readouterr().out
    assert wide.startswith("CS Caption2Figure")
    assert TASKS[0] not in wide
    assert main([*command, "--level", "0.5"]) == 0
    assert capsys.readouterr().out != wide


def test_figures_of_a_backbone_without_texts_take_the_adapter(
    capsys: pytest.CaptureFixture[str],
    questions: Path,
    model: str,
    save_backbone: Callable[..., str],
    tmp_path: Path,
) -> None:
    other = save_backbone("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=12, depth=1, num_heads=2)
    command = ["bench", "scifibench", str(questions), "--model", other, *options(tmp_path)]
    assert main(command) == 1
    assert "text tower" in capsys.readouterr().err
    assert main([*command, "--text-model", model]) == 1
    assert "Got 12 and 16 channels: --adapter maps them into one" in capsys.readouterr().err
    assert main([*command, "--text-model", model, "--adapter"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["n", "adapter"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "nowhere"}, "there is no file or folder nowhere"),
        ({"--out": "table.txt"}, "--out must end in .csv"),
        ({"--model": "hf-dir:nowhere"}, "nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str],
    questions: Path,
    model: str,
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    given = {"path": str(questions), "--model": model, **change}
    named = [part for name, value in given.items() if name != "path" for part in (name, value)]
    assert main(["bench", "scifibench", given["path"], *named, *options(tmp_path)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_figure_that_cannot_be_read_is_named(capsys: pytest.CaptureFixture[str], model: str, tmp_path: Path) -> None:
    pairs = [pair._replace(png=b"no image") if place == 3 else pair for place, pair in enumerate(draw_pairs(48)[:6])]
    negatives = (np.arange(6)[:, None] + [1, 2, 4, 5]) % 6
    write_questions(tmp_path / "CS_Figure2Caption-00000-of-00001.parquet", TASKS[0], pairs, range(6), negatives)
    assert main(["bench", "scifibench", str(tmp_path), "--model", model, *options(tmp_path)]) == 1
    assert "CS_Figure2Caption-00000-of-00001.parquet, row 3" in capsys.readouterr().err
