"""frofa.images.labels and frofa.images.frames: labels and columns of any origin."""

import datetime as dt
import os
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from frofa import FrozenFeatureExtractor, load_image_folder, load_images
from frofa.images.image_set import as_image_list
from frofa.images.labels import image_labels

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["b", "a"], ["b", "a"]),
        ([2, np.int64(1)], [2, 1]),
        ([2.0, 1.0], [2, 1]),
        ([2.0, float("nan")], ["2", ""]),
        ([2.5, None], ["2.5", ""]),
        ([2**70, 1], [str(2**70), "1"]),
        ([True, False], ["True", "False"]),
        ([1, "a"], ["1", "a"]),
        (["a", pd.NA, None, ""], ["a", "", "", ""]),
        ([b"a", np.bytes_("ä".encode())], ["a", "ä"]),
        ([dt.date(2024, 1, 2), pd.NaT], ["2024-01-02", ""]),
        (
            pd.Series(pd.to_datetime(["2024-01-02", "2024-01-02 03:04"], format="mixed")),
            ["2024-01-02", "2024-01-02 03:04:00"],
        ),
        (np.array(["2024-01-02"], "M8[ns]"), ["2024-01-02"]),
        (pd.Categorical(["a", None]), ["a", ""]),
        (pd.cut(pd.Series([1, 5]), [0, 2, 6]), ["(0, 2]", "(2, 6]"]),
        (np.array([["a"], ["b"]]), ["a", "b"]),
        (torch.tensor([3, 1]), [3, 1]),
        ([torch.tensor(3), np.array([1])], [3, 1]),
        (pd.DataFrame({"y": ["a", "b"]}), ["a", "b"]),
        ([DECOMPOSED, COMPOSED], [COMPOSED, COMPOSED]),
    ],
)
def test_labels_become_one_array(values: Any, labels: list[Any]) -> None:
    found = image_labels(values)
    assert found is not None
    assert found.tolist() == labels


def test_no_label_at_all_is_none() -> None:
    assert image_labels([None, "", float("nan")]) is None


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (["a", "b"], r"list \['a', 'b'\]"),
        (("a",), r"tuple \('a',\)"),
        ({"x": 1}, r"dict \{'x': 1\}"),
        ({1}, r"set \{1\}"),
        (list(range(1000)), r"list \[0, 1, 2, 3, 4, 5, \.\.\.\]"),
        (np.array([1, 0, 1]), "ndarray array"),
        (torch.tensor([1, 0, 1]), r"Tensor tensor\(\[1, 0, 1\]\)"),
        (Image.new("L", (2, 2)), "Image <PIL"),
        (object(), "object <object"),
        (1j, "complex 1j"),
        (float("inf"), "float inf"),
    ],
)
def test_a_label_is_one_value(value: object, got: str) -> None:
    with pytest.raises(ValueError, match=rf"expected one label an image.*Got {got}.* at position 1 \(b.png\)"):
        image_labels(["a", value], ["a.png", "b.png"])


@pytest.mark.parametrize("values", [{"a": 1}, {"a"}, "a", b"a", 7, np.array("a")])
def test_labels_are_in_an_order(values: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a list, an array or a column of labels\. Got"):
        image_labels(values)


def test_a_frame_of_labels_has_one_column() -> None:
    with pytest.raises(ValueError, match=r"one column of labels\. Got 2 columns, 'y', 'z'"):
        image_labels(pd.DataFrame({"y": [1], "z": [2]}))


def test_enumerations_are_labels() -> None:
    assert image_labels([Colour.RED, "x"]).tolist() == ["Colour.RED", "x"]  # type: ignore[union-attr]


def test_a_class_has_one_spelling(tmp_path: Path) -> None:
    for root, name in (("one", COMPOSED), ("two", DECOMPOSED)):
        for label in (name, "dog"):
            (tmp_path / root / label).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / root / label / "0.png")
    for load in (load_image_folder, load_images):
        for root, name in (("one", COMPOSED), ("two", DECOMPOSED)):
            paths, labels = load(tmp_path / root)
            assert labels.tolist() == [COMPOSED, "dog"]
            assert Path(paths[0]).parent.name == name  # paths are as the file system has them
    other = tmp_path / "one" / DECOMPOSED
    if not other.exists():  # some file systems take both for one
        other.mkdir()
        Image.new("RGB", (8, 8)).save(other / "1.png")
        assert load_image_folder(tmp_path / "one")[1].tolist() == [COMPOSED, COMPOSED, "dog"]
        assert load_images(tmp_path / "one").labels.tolist() == [COMPOSED, COMPOSED, "dog"]  # type: ignore[union-attr]
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\none/dog/0.png,{DECOMPOSED}\n")
    assert load_images(table).labels.tolist() == [COMPOSED]  # type: ignore[union-attr]
    frame = pd.DataFrame({"path": ["a.png"], "label": [DECOMPOSED]})
    assert load_images(frame).labels.tolist() == [COMPOSED]  # type: ignore[union-attr]


PATHS = ["a.png", "b.png"]


def _frames() -> list[Any]:
    rows = {"path": PATHS, "label": ["x", None]}
    return [pd.DataFrame(rows), *(make(rows) for make in _makers())]


def _makers() -> list[Any]:
    makers: list[Any] = []
    for module, name in (("polars", "DataFrame"), ("pyarrow", "table")):
        try:
            makers.append(getattr(__import__(module), name))
        except ImportError:
            continue
    return makers


@pytest.mark.parametrize("frame", _frames(), ids=lambda frame: type(frame).__module__.partition(".")[0])
def test_frames_of_any_library(frame: Any) -> None:
    images = load_images(frame)
    assert images.items == PATHS
    assert images.labels is not None
    assert images.labels.tolist() == ["x", ""]
    assert load_images(frame, labels=False).labels is None
    assert (
        as_image_list(frame["path"])
        == as_image_list(frame[["path"]] if hasattr(frame, "iloc") else frame["path"])
        == PATHS
    )
    assert load_images(PATHS, labels=frame["label"]).labels.tolist() == ["x", ""]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"one column of images\. Got 2 columns, 'path', 'label'"):
        as_image_list(frame)


@pytest.mark.parametrize(
    "paths",
    [
        pd.Series(PATHS, dtype="string"),
        pd.Index(PATHS),
        np.array(PATHS),
        np.array(PATHS, object)[:, None],
        list(np.array(PATHS)),
        [Path(path) for path in PATHS],
    ],
)
def test_columns_of_paths(paths: Any) -> None:
    assert [os.fspath(item) for item in as_image_list(paths)] == PATHS  # type: ignore[arg-type]


@pytest.mark.parametrize("paths", [[b"a.png"], np.array([b"a.png"])])
def test_bytes_are_not_taken_for_paths(paths: Any) -> None:
    with pytest.raises(TypeError, match=r"Got bytes \(b'a.png'\) at position 0: os.fsdecode makes a path of bytes"):
        as_image_list(paths)


def test_an_extractor_takes_an_image_set(image_folder: Path) -> None:
    images = load_images(image_folder)
    extractor = FrozenFeatureExtractor(output="cls")
    features = extractor.transform(images)
    assert np.array_equal(features, extractor.transform(images.items))
    assert np.array_equal(extractor.extract(*images).y, images.labels)  # type: ignore[arg-type]
    assert repr(images) == "ImageSet of 12 images, 3 classes"
    with pytest.raises(
        TypeError, match=r"Got an ImageSet of 12 images, 3 classes: pass images.items and images.labels"
    ):
        np.asarray(images)
