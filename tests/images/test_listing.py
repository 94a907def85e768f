"""frofa.images.listing: which files below a directory are images."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from frofa.images.folders import list_images, load_image_folder
from frofa.images.listing import describe_others, scan
from frofa.images.sources import load_images


def found(root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in scan(root).images]


def test_links_to_directories_are_followed_but_never_for_ever(image_folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0.jpg").touch()
    (image_folder / "linked").symlink_to(outside)
    (image_folder / "red" / "up").symlink_to(image_folder)
    (image_folder / "red" / "here").symlink_to(".")
    (outside / "round").symlink_to(image_folder)
    listing = scan(image_folder)
    names = [os.path.relpath(path, image_folder) for path in listing.images]
    assert "linked/0.jpg" in names
    assert len(names) == 13
    assert [note.split(" is a link to a directory that it lies in")[0] for note in listing.notes] == [
        str(image_folder / name) for name in ("linked/round", "red/here", "red/up")
    ]


def test_links_that_lead_nowhere_are_listed(tmp_path: Path) -> None:
    (tmp_path / "dangling.jpg").symlink_to("absent.jpg")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "dangling.txt").symlink_to("absent.txt")
    assert found(tmp_path) == ["dangling.jpg", "loop.png"]
    assert list_images(tmp_path) == [str(tmp_path / name) for name in ("dangling.jpg", "loop.png")]


def test_what_is_no_regular_file_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "directory.jpg").mkdir()
    (tmp_path / "directory.jpg" / "0.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    listing = scan(tmp_path)
    assert found(tmp_path) == ["directory.jpg/0.jpg"]
    assert listing.others == {"pipe or device": 2}
    assert listing.notes == [f"{tmp_path / 'directory.jpg'} is a directory, not an image"]


def test_a_directory_that_cannot_be_listed_is_a_warning(image_folder: Path) -> None:
    (image_folder / "red").chmod(0)
    if os.access(image_folder / "red", os.R_OK):
        pytest.skip("this user may read everything")
    try:
        with pytest.warns(UserWarning, match=r"cannot list the directory .*red: Permission denied"):
            assert len(scan(image_folder).images) == 8
    finally:
        (image_folder / "red").chmod(0o755)


def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "absent")


def test_other_files_are_counted_by_ending() -> None:
    others = {".a": 1, ".b": 3, "": 2, ".c": 1, ".d": 1, ".e": 1, ".f": 1}
    [sentence] = describe_others(others)
    assert sentence == (
        "10 files of other kinds ignored: .b (3), no ending (2), .a (1), .c (1), .d (1), and 2 more endings"
    )
    assert describe_others({}) == []


@pytest.mark.parametrize("load", [load_image_folder, load_images])
def test_parts_of_a_data_set_are_not_taken_for_classes_in_silence(load: Callable[[Path], Any], tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / part / name / "a.png")
    with pytest.warns(UserWarning, match="the classes are test, train, which look like the parts of a data set"):
        load(tmp_path)
    load(tmp_path / "train")  # without a warning
