"""frofa.images.pixels.formats: one list of formats and endings, used wherever images are listed or opened."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frofa import list_images, load_image_folder, load_images
from frofa.cli import main
from frofa.images.pixels.formats import EXTENSIONS, FORMATS
from frofa.images.reading import content, decode

LEFT_OUT = {"BUFR", "EPS", "FITS", "FPX", "GRIB", "HDF5", "IM", "IPTC", "MIC", "MPEG", "WMF"}
SAVED = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "PPM": (".ppm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "ICO": (".ico",),
    "ICNS": (".icns",),
    "TGA": (".tga",),
    "DDS": (".dds",),
    "PCX": (".pcx",),
    "SGI": (".sgi", ".rgb"),
}
"""What Pillow can write, with endings."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One class with a picture of every ending, and one more file."""
    Image.init()
    root = tmp_path / "images"
    (root / "class").mkdir(parents=True)
    known = [(kind, ending) for kind, endings in SAVED.items() if kind in Image.SAVE for ending in endings]
    for number, (kind, ending) in enumerate(known):
        Image.new("RGB", (64, 64), (8 * number, 0, 0)).save(root / "class" / f"{number}{ending}", kind)
    (root / "class" / "photo.heic").touch()
    return root


def test_every_format_of_pillows_is_read_or_left_out() -> None:
    Image.init()
    assert set(Image.OPEN) <= {*FORMATS, *LEFT_OUT}
    assert not LEFT_OUT & set(FORMATS)
    of_pillow = {ending for ending, name in Image.EXTENSION.items() if name in {*FORMATS, "MPO"}}
    assert of_pillow <= set(EXTENSIONS)
    assert len(set(EXTENSIONS)) == len(EXTENSIONS)


def test_every_source_lists_the_same_endings(folder: Path, tmp_path: Path) -> None:
    expected = sorted(str(path) for path in (folder / "class").iterdir() if path.suffix != ".heic")
    assert {Path(path).suffix for path in expected} <= set(EXTENSIONS)
    assert list_images(folder) == load_image_folder(folder)[0] == list(load_images(folder).items) == expected
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in (folder / "class").iterdir():
            archive.write(path, path.relative_to(folder))
    packed = load_images(tmp_path / "images.zip")
    assert [Path(name).name for name in packed.names] == [Path(path).name for path in expected]
    for images in (packed, load_images(folder)):
        assert images.notes == ["1 file of other kinds ignored: .heic (1)"]


def test_all_of_them_are_read(folder: Path) -> None:
    for path in list_images(folder):
        shown = np.asarray(decode(content(path)[0]).resize((64, 64)))  # icons of Apple's have a larger size too
        assert np.abs(shown[32, 32].astype(int) - (8 * int(Path(path).stem), 0, 0)).max() <= 8, path


def test_a_file_that_is_named_is_taken_by_its_content(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "photo.unknown"
    file.write_bytes((folder / "class" / "0.jpg").read_bytes())
    assert list_images(file) == list(load_images(file).items) == [str(file)]
    file.write_text("no image")
    with pytest.raises(ValueError, match=r"cannot read images from .*photo\.unknown"):
        load_images(file)


def test_the_error_without_images_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(tmp_path), "--out", str(tmp_path / "f.npz")]) == 1
    assert f"Known endings: {', '.join(EXTENSIONS)}." in capsys.readouterr().err
