"""frofa.images.archives.webdataset: one image a sample, with the label that a file beside it holds."""

import json
import tarfile
from pathlib import Path

import pytest
from archive_helpers import PNG, add_bytes, members_of

from frofa import load_images
from frofa.images.archives.webdataset import LARGEST_LABEL


def test_webdataset_layout(image_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "shard-000.tar"
    data = (image_folder / "red" / "1.png").read_bytes()
    with tarfile.open(path, "w") as opened:
        add_bytes(opened, "b/002.png", data)
        add_bytes(opened, "b/002.cls", b"7\n")
        add_bytes(opened, "b/002.txt", b"a caption")
        add_bytes(opened, "a/001.json", json.dumps({"label": "cat", "colour": "red"}).encode())
        add_bytes(opened, "a/001.seg.png", data)
        add_bytes(opened, "a/001.png", data)
        add_bytes(opened, "a/003.json", json.dumps({"width": 3}).encode())
        add_bytes(opened, "a/003.txt", b"dog")
        add_bytes(opened, "a/003.png", data)
        add_bytes(opened, "a/004.png", data)
    images = load_images(path)
    assert [name.partition("!/")[2] for name in images.names] == [
        "b/002.png",
        "a/001.png",
        "a/003.png",
        "a/004.png",
    ]
    assert images.labels is not None
    assert images.labels.tolist() == ["7", "cat", "dog", ""]
    coloured = load_images(path, label_column="colour").labels
    assert coloured is not None
    assert coloured.tolist() == ["7", "red", "dog", ""]
    assert images.notes == [f"1 image beside the plain one of a sample is ignored, such as {path}!/a/001.seg.png"]


def write_samples(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as opened:
        for name, data in files.items():
            add_bytes(opened, name, data)
    return path


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["0.seg.png", "0.mask.jpg", "0.jpg", "0.depth.png"], ["0.jpg", "1.png"]),
        (["0.SEG.PNG", "0.JPG"], ["0.JPG", "1.png"]),
        (["0.jpg", "0.png"], ["0.jpg", "1.png"]),
        (["0.rgb.png"], ["0.rgb.png", "1.png"]),
        (["0.left.png", "0.right.png"], ["1.png"]),
    ],
)
def test_a_sample_has_one_image(names: list[str], taken: list[str], tmp_path: Path) -> None:
    files = dict.fromkeys([*names, "1.png"], PNG) | {"0.cls": b"a", "1.cls": b"b"}
    images = load_images(write_samples(tmp_path / "shard.tar", files))
    assert members_of(images) == taken
    assert images.labels is not None
    assert images.labels.tolist() == ["a", "b"][-len(taken) :]
    left_out = len(names) + 1 - len(taken)
    assert [note.partition(" ")[0] for note in images.notes] == ([str(left_out)] if left_out else [])


def test_names_with_dots_are_images_of_their_own_in_class_folders(tmp_path: Path) -> None:
    names = ["cat/cat.1.jpg", "cat/cat.2.jpg", "dog/photo.2024.png"]
    images = load_images(write_samples(tmp_path / "folders.tar", dict.fromkeys(names, PNG)))
    assert members_of(images) == names
    assert images.notes == []


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("0.json", b"{", "Expecting property name"),
        ("0.json", b"[" * 100_000, "recursion"),
        ("0.json", b'{"n": ' + b"9" * 5000 + b"}", "a number of 5000 digits"),
        ("0.cls", b"\xff", "can't decode byte 0xff"),
        ("0.txt", bytes(LARGEST_LABEL + 1), "of a label, more than 8388608 are not read"),
    ],
)
def test_a_damaged_label_costs_itself(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    path = write_samples(tmp_path / "shard.tar", {"0.png": PNG, name: data, "1.png": PNG, "1.cls": b"b"})
    images = load_images(path)
    assert images.labels is not None
    assert images.labels.tolist() == ["", "b"]
    [note] = images.notes
    assert note.startswith(f"1 label file cannot be read and left out, such as {path}!/{name}: ")
    assert reason in note


def test_labels_of_json_are_single_values(tmp_path: Path) -> None:
    values = ["true", "3.0", "7", "null", '"cafe\\u0301"']
    files = {f"{row}.json": f'{{"label": {value}}}'.encode() for row, value in enumerate(values)}
    images = load_images(write_samples(tmp_path / "a.tar", files | {f"{row}.png": PNG for row in range(5)}))
    assert images.labels is not None
    assert images.labels.tolist() == ["True", "3", "7", "", "caf\u00e9"]
    path = write_samples(tmp_path / "b.tar", {"0.png": PNG, "0.json": b'{"label": ["a", "b"]}'})
    with pytest.raises(ValueError, match=r"Got list \['a', 'b'\] at position 0 \(.*b.tar!/0.png\)"):
        load_images(path)


def test_byte_order_marks_are_no_part_of_labels(tmp_path: Path) -> None:
    files = {"0.png": PNG, "0.cls": "\ufeffcat".encode(), "1.png": PNG, "1.json": '\ufeff{"label": "dog"}'.encode()}
    labels = load_images(write_samples(tmp_path / "marked.tar", files)).labels
    assert labels is not None
    assert labels.tolist() == ["cat", "dog"]
