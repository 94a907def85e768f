"""SciFIBench's files: the documented columns and names, several shards, and rows that are wrong."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from draw_figures import Pair, draw_pairs, write_questions
from PIL import Image

from frofa.scifibench import Question, find_splits
from frofa.scifibench.questions import caption_of

ROW: dict[str, Any] = {
    "ID": 40,
    "Question": "Which caption best matches the image?",
    "Options": ["A)  ber vs snr for fft size=2048 .", "B) ber\nfor fft size=1024 .", "C) c", "D) d", "E) (E) e"],
    "Answer": "D",
    "Category": "other cs",
    "Images": [{"bytes": b"png", "path": None}],
}
FIGURES = [{"bytes": bytes([65 + place]), "path": f"{place}.png"} for place in range(5)]
OTHER: dict[str, Any] = {
    **ROW,
    "Question": "Caption: ber vs snr . Which image best matches the caption?",
    "Options": ["A) image0", "B) image1", "C) image2", "D) image3", "E) image4"],
    "Images": FIGURES,
}
"""Rows as the data set's card and repository show them, one of each task."""


@pytest.fixture(scope="module")
def pairs() -> Sequence[Pair]:
    return draw_pairs(48)[:12]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: Any, name: str = "data/CS_Figure2Caption-00000-of-00001.parquet") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows)), file)
        return tmp_path

    return write


def read(path: Path) -> list[Question]:
    return [question for split in find_splits(path)[0] for question in split.read()]


def test_documented_rows(write: Callable[..., Path]) -> None:
    write(ROW)
    first, second = read(write(OTHER, name="data/General_Caption2Figure-00000-of-00001.parquet"))
    assert (first.split, first.task, first.id, first.category) == (
        "CS_Figure2Caption",
        "Figure2Caption",
        40,
        "other cs",
    )
    assert first.captions[:2] == ("ber vs snr for fft size=2048 .", "ber\nfor fft size=1024 .")
    assert (first.captions[4], first.answer) == ("(E) e", 3)
    assert [figure.read() for figure in first.figures] == [b"png"]
    assert first.figures[0].describe() == "CS_Figure2Caption-00000-of-00001.parquet, row 0"
    assert (second.task, second.captions, second.answer) == ("Caption2Figure", ("ber vs snr .",), 3)
    assert [figure.read() for figure in second.figures] == [b"A", b"B", b"C", b"D", b"E"]
    assert second.figures[4].describe().endswith("row 0, image 4")


def test_drawn_questions_come_back(pairs: Sequence[Pair], tmp_path: Path) -> None:
    negatives = (np.arange(12)[:, None] + [1, 3, 5, 7]) % 12
    for task in ("Figure2Caption", "Caption2Figure"):
        write_questions(tmp_path / f"CS_{task}-00000-of-00001.parquet", task, pairs, range(12), negatives)
    questions = read(tmp_path)
    assert [question.task for question in questions] == ["Figure2Caption"] * 12 + ["Caption2Figure"] * 12
    assert len({question.answer for question in questions}) == 5
    for pair, one, other in zip(pairs, questions[:12], questions[12:], strict=True):
        assert (one.category, one.captions[one.answer], one.figures[0].read()) == pair
        assert (other.category, other.captions[0], other.figures[other.answer].read()) == pair
        assert len({*one.captions}) == len({figure.data for figure in other.figures}) == 5
    assert Image.open(io.BytesIO(questions[0].figures[0].read())).size == (160, 160)


def test_shards_come_in_their_order_and_all_of_them(write: Callable[..., Path]) -> None:
    for number in (1, 0, 2):
        rows = [{**ROW, "ID": 10 * number + place} for place in range(3)]
        path = write(*rows, name=f"data/General_Figure2Caption-0000{number}-of-00003.parquet")
    assert [question.id for question in read(path)] == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    [split] = find_splits(path)[0]
    assert (split.name, split.task, split.subset) == ("General_Figure2Caption", "Figure2Caption", "General")
    (path / "data/General_Figure2Caption-00001-of-00003.parquet").unlink()
    with pytest.raises(ValueError, match=r"expected 3 shards of General_Figure2Caption.*shard 1 is missing"):
        find_splits(path)
    assert len(read(path / "data/General_Figure2Caption-00000-of-00003.parquet")) == 3


def test_files_of_the_server_that_converts_them(write: Callable[..., Path]) -> None:
    write(ROW, name="default/CS_Figure2Caption/0000.parquet")
    write({**ROW, "ID": 41}, name="default/CS_Figure2Caption/0001.parquet")
    splits, _ = find_splits(write(OTHER, name="default/CS_Caption2Figure/0000.parquet"))
    assert [(split.name, len(split.read())) for split in splits] == [("CS_Figure2Caption", 2), ("CS_Caption2Figure", 1)]


def test_the_first_release_is_cs_and_is_not_counted_twice(write: Callable[..., Path]) -> None:
    path = write(ROW, name="data/Figure2Caption-00000-of-00001-cbaff1898767fb41.parquet")
    [split], notes = find_splits(path)
    assert (split.name, split.subset, split.task, notes) == ("Figure2Caption", "CS", "Figure2Caption", [])
    splits, notes = find_splits(write(ROW))
    assert [split.name for split in splits] == ["CS_Figure2Caption"]
    assert notes == ["Figure2Caption left out: CS_Figure2Caption has the same questions"]


def test_two_copies_of_a_split_are_refused(write: Callable[..., Path]) -> None:
    write(ROW)
    path = write(ROW, name="default/CS_Figure2Caption/0000.parquet")
    with pytest.raises(ValueError, match="the shards of CS_Figure2Caption in one folder"):
        find_splits(path)


def test_a_file_of_another_name_has_the_tasks_of_its_rows(write: Callable[..., Path]) -> None:
    questions = read(write(ROW, OTHER, name="mine.parquet"))
    assert [question.task for question in questions] == ["Figure2Caption", "Caption2Figure"]


@pytest.mark.parametrize("options", [["A)", "B)", "C)", "D)", "E)"], ["image0"] * 5, [], None])
def test_options_of_figures_may_say_anything(write: Callable[..., Path], options: list[str] | None) -> None:
    [question] = read(write({**OTHER, "Options": options}, name="CS_Caption2Figure-00000-of-00001.parquet"))
    assert (len(question.figures), question.answer) == (5, 3)


def test_images_may_lie_beside_the_table(write: Callable[..., Path]) -> None:
    path = write({**ROW, "Images": [{"bytes": None, "path": "figure.png"}]})
    with pytest.raises(ValueError, match=r"row 0 \(ID 40\): Images has no bytes, and .* figure.png cannot be read"):
        read(path)
    (path / "data/figure.png").write_bytes(b"beside")
    assert read(path)[0].figures[0].read() == b"beside"


@pytest.mark.parametrize(
    ("question", "caption"),
    [
        ("Caption: a . Which image best matches the caption?", "a ."),
        ("caption:\n a\nb. Which figure best matches the caption ?\n", "a\nb."),
        ("a", "a"),
        ("a, with the caption: b", "a, with the caption: b"),
        ("Caption: a? Which figure matches the above caption?", "a?"),
        ("Caption: a. Which image is it, by the caption or not?", "a."),
        ("Caption: which image best matches the caption? is asked", "which image best matches the caption? is asked"),
    ],
)
def test_captions_of_questions(question: str, caption: str) -> None:
    assert caption_of(question) == caption


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Answer": "F"}, "Answer must be a letter from A to E. Got 'F'"),
        ({"Answer": None}, "Answer must be a text that is not empty. Got None"),
        ({"Answer": "AB"}, "Answer must be a letter from A to E. Got 'AB'"),
        ({"Options": ["A) a", "C) b"]}, r"Options must begin with B\) in this place. Got 'C\) b'"),
        ({"Options": ["a", "b"]}, r"Options must begin with A\) in this place. Got 'a'"),
        ({"Options": ["A) a", "B)  "]}, r"Options has no caption behind B\)"),
        ({"Options": ["A) a"], "Answer": "A"}, "two choices at least. Got 1"),
        ({"Options": None}, "Options must be a list of texts. Got None"),
        ({"Category": " "}, "Category must be a text that is not empty"),
        ({"ID": None}, "ID must be a whole number. Got None"),
        ({"Images": FIGURES}, "Images must have 1 figure to describe in this task. Got 5"),
        ({"Images": []}, r"Images must be a list of images, one at least. Got \[\]"),
        ({"Images": [{"bytes": None, "path": None}]}, "the bytes or the path of each image"),
        (
            {"Options": ["A) a", "C) b", "B) c", "D) d", "E) e"], "task": "c"},
            r"Options must begin with B\) in this place",
        ),
        ({"Question": "Caption:  Which image best matches the caption?", "task": "c"}, "Question has no caption"),
        (
            {"Images": FIGURES[:3], "task": "c"},
            "Images must have 5 figures, one .* in this task. Got 3",
        ),
    ],
)
def test_wrong_rows_are_named(write: Callable[..., Path], change: dict[str, Any], message: str) -> None:
    task = change.get("task")
    good = OTHER if task else ROW
    bad = {**good, "ID": 7, **{name: value for name, value in change.items() if name != "task"}}
    name = f"CS_{'Caption2Figure' if task else 'Figure2Caption'}-00000-of-00001.parquet"
    number = "" if bad["ID"] is None else r" \(ID 7\)"
    with pytest.raises(ValueError, match=f"{name}, row 70{number}: .*{message}"):
        read(write(*[good] * 70, bad, name=name))


def test_wrong_files_are_named(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        find_splits(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"expected parquet files of SciFIBench. Got none"):
        find_splits(tmp_path)
    path = write({key: value for key, value in ROW.items() if key != "Answer"})
    with pytest.raises(ValueError, match=r"must have the columns ID, .*Images. Got ID, Question, Options, Category"):
        read(path)
    file = path / "data/CS_Figure2Caption-00000-of-00001.parquet"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="run 'git lfs pull'"):
        read(path)
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"CS_Figure2Caption-00000-of-00001.parquet is damaged, or not a parquet file"):
        read(path)
