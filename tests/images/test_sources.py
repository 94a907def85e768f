"""frofa.images.sources: which images a source has, in which order, with which labels."""

import io
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import frofa
from frofa import load_image_folder, load_images
from frofa.images.image_set import ImageSet, as_image_list, join
from frofa.images.reading import content


def below(images: ImageSet, root: Path) -> list[str]:
    return [Path(name).relative_to(root).as_posix() for name in images.names]


def test_a_class_folder_is_as_load_image_folder_has_it(image_folder: Path) -> None:
    (image_folder / "a b").mkdir()  # sorts before "a/" as a path, but after "a" as a class
    (image_folder / "a").mkdir()
    for name in ("a b", "a"):
        (image_folder / name / "0.png").write_bytes((image_folder / "red" / "1.png").read_bytes())
    images = load_images(image_folder)
    paths, labels = load_image_folder(image_folder)
    assert images.items == images.names == paths
    assert images.labels is not None
    assert images.labels.tolist() == labels.tolist()
    assert images.notes == []
    assert load_images(str(image_folder)).items == paths


def test_a_flat_folder_has_no_labels(image_folder: Path) -> None:
    (image_folder / "red" / "empty").mkdir()
    images = load_images(image_folder / "red")
    assert below(images, image_folder / "red") == ["0.jpg", "1.png", "2.jpg", "3.png"]
    assert images.labels is None


def test_what_is_left_out_of_a_folder_is_said(image_folder: Path) -> None:
    for index in range(3):
        Image.new("RGB", (4, 4)).save(image_folder / f"{index}.png")
    for name in ("a.HEIC", "b.heic", "c.txt", "noending", ".hidden.txt", "red/deep.txt"):
        (image_folder / name).touch()
    (image_folder / "violet").mkdir()
    with pytest.warns(UserWarning, match="class directory .*violet has no image"):
        images = load_images(image_folder)
    assert len(images.items) == 12
    beside, others = images.notes
    assert beside.startswith(f"3 files beside the class folders are ignored, such as {image_folder / '0.png'}")
    assert others == "5 files of other kinds ignored: .heic (2), .txt (2), no ending (1)"


def test_labels_false_takes_all_images(image_folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(image_folder / "loose.png")
    images = load_images(image_folder, labels=False)
    assert images.labels is None
    assert below(images, image_folder) == sorted(below(images, image_folder))
    assert len(images.items) == 13


def test_labels_may_be_an_array(image_folder: Path) -> None:
    images = load_images(image_folder / "red", labels=[3, 1, 2, 1])
    assert images.labels is not None
    assert images.labels.tolist() == [3, 1, 2, 1]
    with pytest.raises(ValueError, match="Got 4 images and 2 labels"):
        load_images(image_folder / "red", labels=["a", "b"])
    given = load_images([np.zeros((4, 4, 3), np.uint8)] * 2, labels=pd.Series(["x", None]))
    assert given.labels is not None
    assert given.labels.tolist() == ["x", ""]


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_paths_on_standard_input(separator: str, image_paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given = [*image_paths[:2], "größe und Raum.jpg"]
    stream = SimpleNamespace(buffer=io.BytesIO((separator.join(given) + 2 * separator).encode()))
    monkeypatch.setattr(sys, "stdin", stream)
    assert load_images("-").items == given


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_a_byte_order_mark_is_no_part_of_a_path(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    data = f"{mark}größe.jpg\r\nb.png\r\n".encode(encoding)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert load_images("-").items == ["größe.jpg", "b.png"]


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bytes(tmp_path) + b"/b\xe4r.png"
    image = io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, "PNG")
    with open(raw, "wb") as file:  # noqa: PTH123 (of bytes)
        file.write(image.getvalue())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    [listed], [found] = load_images("-").items, load_images(tmp_path).items
    assert listed == found
    assert content(found)[0] == image.getvalue()


def test_single_images_lists_and_series(image_paths: list[str]) -> None:
    assert load_images(image_paths[0]).items == [image_paths[0]]
    assert load_images(image_paths).items == image_paths
    assert load_images(pd.Series(image_paths)).names == image_paths
    assert load_images(np.zeros((2, 4, 5, 3), np.uint8)).names == ["array, shape (4, 5, 3)"] * 2


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("absent", {}, FileNotFoundError, "absent"),
        ("notes.txt", {}, ValueError, r"cannot read images from notes.txt: expected a directory.*\.jpg.*\.csv.*\.mp4"),
        ("images", {"every": 2}, ValueError, "1 for all but videos. Got every=2 for 'images'"),
        ("images", {"every": 0}, ValueError, "every must be 1 or more"),
        (["a.png"], {"labels": "labels.csv"}, ValueError, "goes with a directory or an archive"),
        ("one.png", {"labels": "labels.csv"}, ValueError, "goes with a directory or an archive"),
        (7, {}, TypeError, "Got int"),
    ],
)
def test_wrong_sources_are_named(
    source: Any, options: Any, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Path("notes.txt").touch()
    Path("one.png").touch()
    with pytest.raises(error, match=message):
        load_images(source, **options)


def test_sources_are_joined_in_order(image_folder: Path) -> None:
    parts = [load_images(image_folder / "red"), load_images(image_folder), load_images([Image.new("L", (2, 2))])]
    joined = join(parts)
    assert joined.items == [item for part in parts for item in part.items]
    assert joined.names[-1] == "PIL image, mode L, size (2, 2)"
    assert joined.labels is not None
    assert joined.labels.tolist() == [""] * 4 + ["blue"] * 4 + ["green"] * 4 + ["red"] * 4 + [""]
    assert join(parts[:1] * 2).labels is None
    numbers = [load_images(image_folder / "red", labels=[1, 2, 3, 4]), parts[1]]
    labels = join(numbers).labels
    assert labels is not None
    assert labels.tolist() == ["1", "2", "3", "4", *["blue"] * 4, *["green"] * 4, *["red"] * 4]


def test_items_are_what_an_extractor_takes(image_folder: Path) -> None:
    images = load_images(image_folder)
    assert as_image_list(images.items) == images.items
    assert pickle.loads(pickle.dumps(images)).names == images.names  # noqa: S301 (our own)
    extraction = frofa.FrozenFeatureExtractor(output="cls").extract(images.items, images.labels)
    assert extraction.features.shape == (12, 192)
    assert extraction.y is not None
    assert extraction.y.tolist()[-1] == "red"
