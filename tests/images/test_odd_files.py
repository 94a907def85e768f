"""Odd files: the valid ones are extracted as they should be, the others are named, and none ends the run."""

import csv
import os
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from odd_files import UNREADABLE, VALID, first_frame, write_odd_files
from PIL import Image

from frofa import load_images
from frofa.cli import main
from frofa.images.reading import content, decode


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_odd_files(tmp_path / "odd")
    monkeypatch.chdir(tmp_path)
    return Path("odd")


def run(*arguments: object) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of these tests
        return main([str(argument) for argument in arguments])


def test_extract_names_each_and_takes_the_rest(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("extract", odd, "--no-labels", "--out", "f.npz", "--skipped", "skipped.csv") == 3
    captured = capsys.readouterr()
    with np.load("f.npz") as arrays:
        assert arrays["paths"].tolist() == [str(odd / name) for name in VALID]
        assert arrays["features"].shape == (len(VALID), 192)
        assert np.isfinite(arrays["features"]).all()
        features = dict(zip(VALID, arrays["features"], strict=True))
    np.testing.assert_array_equal(features["deep16.png"], features["link to a valid one.png"])
    with Path("skipped.csv").open(newline="") as file:
        reasons = {os.path.relpath(row["path"], odd): row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == set(UNREADABLE)
    for name, reason in UNREADABLE.items():
        assert re.search(reason, reasons[name]), name
        assert f"  {odd / name}: {reasons[name]}" in captured.err.splitlines()
    assert f"skipped {len(UNREADABLE)} of {len(UNREADABLE) + len(VALID)} images" in captured.err
    assert f"6 images computed now, 0 from the store, 1 duplicates, {len(UNREADABLE)} skipped" in captured.out
    assert "directory.jpg is a directory, not an image" in captured.err
    assert "loop of directories is a link to a directory that it lies in" in captured.err
    assert "3 files of other kinds ignored: .heic (1), .txt (1), pipe or device (1)" in captured.err
    assert "DOS attack" not in captured.err.replace(reasons["bomb.png"], "")  # Pillow's warning is an error here


def test_extract_can_stop_at_the_first(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("extract", odd, "--no-labels", "--out", "f.npz", "--fail-fast") == 1
    assert re.search(r"^frofa: error: could not read the image at position \d+ \(odd/", capsys.readouterr().err, re.M)
    assert not Path("f.npz").exists()


def test_it_is_an_error_if_none_can_be_read(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("extract", odd / "empty.jpg", odd / "dangling.jpg", "--out", "f.npz") == 1
    assert "none of the 2 images could be read; the first: " in capsys.readouterr().err


def test_valid_ones_become_what_they_show(odd: Path) -> None:
    pixels = {name: np.asarray(decode(content(odd / name)[0])) for name in VALID}
    assert pixels["1x1.png"].tolist() == [[[9, 8, 7]]]
    assert pixels["20000x20.png"].shape == (20, 20_000, 3)
    np.testing.assert_array_equal(pixels["animated.gif"], first_frame(odd / "animated.gif"))
    with Image.open(odd / "deep16.png") as deep:
        np.testing.assert_array_equal(pixels["deep16.png"][..., 0], np.asarray(deep) >> 8)
    with Image.open(odd / "cmyk.jpg") as cmyk:
        assert cmyk.mode == "CMYK"
        np.testing.assert_array_equal(pixels["cmyk.jpg"], np.asarray(cmyk.convert("RGB")))


def test_the_same_in_an_archive(odd: Path) -> None:
    with zipfile.ZipFile("odd.zip", "w") as archive:
        for path in load_images(odd, labels=False).items:
            if os.path.exists(path):  # type: ignore[arg-type]  # noqa: PTH110
                archive.write(path)  # type: ignore[arg-type]
    readable, reasons = set(), {}
    images = load_images("odd.zip", labels=False)
    for name, item in zip(images.names, images.items, strict=True):
        try:
            decode(content(item)[0])
            readable.add(name.partition("!/odd/")[2])
        except OSError as error:
            reasons[name.partition("!/odd/")[2]] = str(error)
    assert readable == set(VALID)
    assert set(reasons) == set(UNREADABLE) - {"dangling.jpg", "loop.jpg"}
    for name, reason in reasons.items():
        assert re.search(UNREADABLE[name], reason), name


def test_a_file_without_permission_is_skipped(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (odd / "cmyk.jpg").chmod(0)
    if os.access(odd / "cmyk.jpg", os.R_OK):
        pytest.skip("this user may read everything")
    assert run("extract", odd, "--no-labels") == 3
    assert f"{odd / 'cmyk.jpg'}: Permission denied" in capsys.readouterr().err
