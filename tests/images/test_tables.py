"""frofa.images.tables: CSV files and DataFrames of paths and labels."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from frofa import load_images
from frofa.images.reading import content


def test_paths_are_relative_to_the_table_or_absolute(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = image_folder / "labels.csv"
    table.write_text(f'label,path,more\nwarm,red/1.png,1\ncold,{image_folder}/blue/0.jpg,2\nwarm,"red/0.jpg",3\n')
    monkeypatch.chdir(image_folder.parent)
    for source in (table, Path("images/labels.csv")):
        images = load_images(source)
        assert images.labels is not None
        assert images.labels.tolist() == ["warm", "cold", "warm"]
        assert [os.path.realpath(name) for name in images.names] == [
            str(image_folder / name) for name in ("red/1.png", "blue/0.jpg", "red/0.jpg")
        ]


def test_a_base_directory_comes_before_the_tables_own(image_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nred/0.jpg,a\nimages/blue/0.jpg,b\nabsent.jpg,c\n")
    assert load_images(image_folder, labels=table).names == [
        str(image_folder / "red/0.jpg"),
        str(image_folder / "blue/0.jpg"),
        str(image_folder / "absent.jpg"),
    ]
    shutil.copytree(image_folder / "red", tmp_path / "red")
    assert load_images(image_folder, labels=str(table)).names[0] == str(image_folder / "red/0.jpg")


def test_columns_gaps_and_tabs(image_folder: Path) -> None:
    table = image_folder / "labels.tsv"
    table.write_bytes("\ufefffile\tart, fein\r\nred/0.jpg\tschön\r\nred/1.png\t\r\nred/2.jpg\r\n\r\n".encode())
    images = load_images(table, path_column="file", label_column="art, fein")
    assert images.labels is not None
    assert images.labels.tolist() == ["schön", "", ""]
    assert load_images(table, path_column="file").labels is None


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("photo,label\na.png,x\n", {}, r"no column 'path'. Got columns 'photo', 'label': choose one by path_column"),
        ("a.png,x,3\n", {}, r"no column 'path'. Got columns 'a.png', 'x', '3'"),
        ("file,image,label\na,b,x\n", {}, r"several columns that may be the path_column: 'file', 'image'. Got columns"),
        ("path,class,category\na,b,x\n", {}, r"several columns .* label_column: 'class', 'category'.* by label_column"),
        ("path,label,label\na,b,x\n", {}, "two columns of one name: 'label', 'label'"),
        ("path,label\na.png,x,y\n", {}, r"labels.csv, line 2, has 3 fields for 2 columns"),
        ("path\na.png\n", {"label_column": "y"}, r"no column 'y'. Got columns 'path'"),
        ("path,label\na.png,x\n,y\n", {}, r"labels.csv, line 3, has nothing in the column 'path'"),
        ("path,label\n", {}, "labels.csv has no rows"),
        ("", {}, "Got columns none"),
    ],
)
def test_wrong_tables_are_named(text: str, options: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_images(tmp_path / "labels.csv", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("path, label\na.png, x\nb.png,y \n", ["x", "y"]),
        ("Path,Label\na.png,x\nb.png,y\n", ["x", "y"]),
        ("File Name,class\na.png,x\nb.png,y\n", ["x", "y"]),
        ("label,class,image\nx,1,a.png\ny,2,b.png\n", ["x", "y"]),
        ("path;label\na.png;x, y\nb.png;z\n", ["x, y", "z"]),
        ("path\tlabel\na.png\tx\nb.png\ty\n", ["x", "y"]),
        ("a.png,x\nb.png,y\n", ["x", "y"]),
        ("x;a.png\ny;b.png\n", ["x", "y"]),
        ("a.png\nb.png\n", None),
        ("path,label\n\na.png,x,,\n,,\nb.png\n", ["x", ""]),
        ('path,label\na.png,"two\nlines"\nb.png,y\n', ["two\nlines", "y"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_people_write_them(text: str, labels: list[str] | None, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    images = load_images(tmp_path / "labels.csv")
    assert [Path(name).name for name in images.names] == ["a.png", "b.png"]
    assert (images.labels if images.labels is None else images.labels.tolist()) == labels
    assert images.notes == []


def test_columns_that_are_no_labels_are_noted(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,species,width\na.png,x,3\n")
    images = load_images(tmp_path / "labels.csv")
    assert images.labels is None
    [note] = images.notes
    assert note.startswith(
        f"{tmp_path / 'labels.csv'} gives no labels: none of its other columns, 'species', 'width', is"
    )
    assert load_images(tmp_path / "labels.csv", labels=False).notes == []
    labels = load_images(tmp_path / "labels.csv", label_column="Species").labels
    assert labels is not None
    assert labels.tolist() == ["x"]


def test_paths_of_tables_keep_their_bytes_and_blanks(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"label,path\nx,b\xe4r.png\ny, b.png\n")
    assert [os.fsencode(Path(name).name) for name in load_images(tmp_path / "labels.csv").names] == [
        b"b\xe4r.png",
        b" b.png",
    ]


def test_two_columns_of_one_name_are_an_error(image_paths: list[str]) -> None:
    frame = pd.DataFrame({"path": image_paths, "label": "a"})
    with pytest.raises(ValueError, match="the DataFrame has two columns of one name: 'label', 'label'"):
        load_images(pd.concat([frame, frame[["label"]]], axis=1))


def test_data_frames(image_paths: list[str]) -> None:
    frame = pd.DataFrame(
        {"path": image_paths, "label": [1] * 11 + [None], "name": "abcdabcdabcd"}, index=range(12, 0, -1)
    )
    images = load_images(frame)
    assert images.items == image_paths
    assert images.labels is not None
    assert images.labels.tolist() == ["1"] * 11 + [""]
    named = load_images(frame, label_column="name").labels
    assert named is not None
    assert named.tolist() == ["a" if name == "a" else name for name in frame["name"]]
    whole = load_images(frame.iloc[:11].astype({"label": int})).labels
    assert whole is not None
    assert whole.tolist() == [1] * 11
    assert load_images(frame[["path"]].rename(columns={"path": "anything"})).items == image_paths
    with pytest.raises(ValueError, match="the DataFrame has no column 'file'"):
        load_images(frame, path_column="file")


def test_a_data_frame_may_hold_images() -> None:
    frame = pd.DataFrame({"path": [Image.new("L", (2, 3), 7)], "label": ["grey"]})
    [item] = load_images(frame).items
    assert content(item)[1] == content(Image.new("RGB", (2, 3), (7, 7, 7)))[1]


def test_paths_in_the_working_directory_stay_as_they_are(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(image_folder)
    Path("labels.csv").write_text("path,label\nred/0.jpg,a\nblue/0.jpg,b\n")
    assert load_images("labels.csv").names == ["red/0.jpg", "blue/0.jpg"]


def test_images_outside_the_directory_are_noted(image_folder: Path) -> None:
    table = image_folder / "labels.csv"
    table.write_text("path,label\n0.jpg,a\n../blue/0.jpg,b\nblue/0.jpg,b\n")
    assert load_images(image_folder / "red", labels=table).notes == [f"2 images of {table} outside {image_folder}/red"]
