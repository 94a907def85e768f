"""frofa.images.reading: what counts as images, and how they become upright RGB."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from frofa.images.folders import list_images, load_image_folder
from frofa.images.image_set import as_image_list
from frofa.images.items import describe
from frofa.images.pixels.colour import to_rgb
from frofa.images.reading import content, decode


def one_pixel(mode: str, value: Any, extra: Any = None) -> Image.Image:
    image = Image.new(mode, (3, 2), value)
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
        if extra is not None:
            image.info["transparency"] = extra
    return image


MODES = {
    "L": (one_pixel("L", 100), (100, 100, 100), ".png"),
    "LA": (one_pixel("LA", (100, 255)), (100, 100, 100), ".png"),
    "P": (one_pixel("P", 1), (10, 20, 30), ".png"),
    "P, bytes transparency": (one_pixel("P", 1, b"\x00\xff"), (10, 20, 30), ".png"),
    "RGB": (one_pixel("RGB", (1, 2, 3)), (1, 2, 3), ".png"),
    "RGBA": (one_pixel("RGBA", (10, 20, 30, 255)), (10, 20, 30), ".png"),
    "CMYK": (one_pixel("CMYK", (255, 0, 0, 0)), (0, 255, 255), ".tif"),
    "1": (one_pixel("1", 1), (255, 255, 255), ".png"),
    "I;16": (one_pixel("I;16", 0x80FF), (128, 128, 128), ".png"),
    "I": (one_pixel("I", 0x4001), (64, 64, 64), ".tif"),
}


@pytest.mark.parametrize(("image", "rgb", "suffix"), MODES.values(), ids=MODES.keys())
def test_every_mode_becomes_rgb(image: Image.Image, rgb: tuple[int, ...], suffix: str, tmp_path: Path) -> None:
    before = (image.mode, image.tobytes())
    expected = np.broadcast_to(np.array(rgb, np.uint8), (2, 3, 3))
    assert to_rgb(image).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), expected)
    assert (image.mode, image.tobytes()) == before
    file = tmp_path / f"image{suffix}"
    image.save(file)
    np.testing.assert_array_equal(np.asarray(decode(content(file)[0])), expected)


def stored(upright: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """What a camera stores: the EXIF standard says where row 0 and column 0 are in the scene."""
    turned = upright.transpose(1, 0, 2)
    return {
        1: upright,  # row 0 at the top, column 0 at the left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: turned,  # left, top
        6: turned[::-1],  # right, top
        7: turned[::-1, ::-1],  # right, bottom
        8: turned[:, ::-1],  # left, bottom
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    upright = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "photo.png"
    Image.fromarray(np.ascontiguousarray(stored(upright, orientation))).save(file, exif=exif)
    np.testing.assert_array_equal(np.asarray(decode(content(file)[0])), upright)
    with Image.open(file) as image:
        np.testing.assert_array_equal(np.asarray(to_rgb(image)), upright)


def test_real_photographs_become_rgb(shared_data: Path) -> None:
    files = list_images(shared_data / "photos")[:20]
    assert len(files) == 20
    for file in files:
        image = decode(content(file)[0])
        assert image.mode == "RGB"
        assert np.asarray(image).std() > 5


def test_digest_tells_pixels_and_shapes_apart(image_paths: list[str], tmp_path: Path) -> None:
    pixels = np.arange(36, dtype=np.uint8).reshape(2, 6, 3)
    digests = [content(pixels)[1], content(pixels.reshape(6, 2, 3))[1], content(pixels + 1)[1]]
    assert len({*digests, *(content(path)[1] for path in image_paths)}) == 15
    assert content(Image.fromarray(pixels))[1] == digests[0]
    copy = tmp_path / "copy.bin"
    copy.write_bytes(Path(image_paths[0]).read_bytes())
    assert content(copy)[1] == content(image_paths[0])[1]


def test_digest_of_transparent_pixels_is_of_them_all() -> None:
    clear, other, white = (Image.new("RGBA", (3, 2), (c, 0, 0, a)) for c, a in ((9, 0), (8, 0), (255, 255)))
    images = [clear, other, white, white.convert("RGB"), clear.convert("RGB")]
    digests = [content(image)[1] for image in images]
    assert len(set(digests)) == 4
    assert digests[2] == digests[3] == content(np.asarray(images[3]))[1]
    shown = [decode(content(image)[0], (0, 0, 7)).getpixel((0, 0)) for image in images]
    assert shown == [(0, 0, 7), (0, 0, 7), (255, 0, 0), (255, 0, 0), (9, 0, 0)]


def test_a_heic_photograph_is_called_one(tmp_path: Path) -> None:
    file = tmp_path / "IMG_0001.jpg"
    file.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(OSError, match="a HEIC image, which Pillow cannot read: convert it"):
        decode(content(file)[0])


def test_folder_gives_sorted_paths_and_labels(image_folder: Path) -> None:
    (image_folder / "green" / "nested").mkdir()
    (image_folder / "green" / "0.jpg").rename(image_folder / "green" / "nested" / "0.JPEG")
    (image_folder / "green" / "notes.txt").write_text("not an image")
    for hidden in (".hidden.jpg", ".cache/0.jpg"):
        (image_folder / "green" / hidden).parent.mkdir(exist_ok=True)
        (image_folder / "green" / hidden).write_bytes(b"")
    (image_folder / ".git").mkdir()
    paths, labels = load_image_folder(image_folder)
    assert labels.tolist() == ["blue"] * 4 + ["green"] * 4 + ["red"] * 4
    relative = [Path(path).relative_to(image_folder).as_posix() for path in paths]
    assert relative[4:8] == ["green/1.png", "green/2.jpg", "green/3.png", "green/nested/0.JPEG"]
    assert load_image_folder(str(image_folder))[0] == paths


def test_folder_errors_say_what_is_wrong(image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="absent"):
        load_image_folder(tmp_path / "absent")
    with pytest.raises(ValueError, match="which has no sub-directory"):
        load_image_folder(image_folder / "red")
    (image_folder / "violet").mkdir()
    with pytest.raises(ValueError, match=r"violet has no image.*\.jpg"):
        load_image_folder(image_folder)


def test_list_images_takes_a_file_or_a_directory(image_folder: Path) -> None:
    assert list_images(image_folder / "red" / "1.png") == [str(image_folder / "red" / "1.png")]
    assert list_images(image_folder) == sorted(list_images(image_folder))
    assert len(list_images(image_folder)) == 12
    with pytest.raises(FileNotFoundError, match="absent"):
        list_images(image_folder / "absent")


PATHS = ["a.png", "b.png"]


@pytest.mark.parametrize(
    "given",
    [
        PATHS,
        tuple(PATHS),
        pd.Series(PATHS, index=[7, 3]),
        pd.DataFrame({"path": PATHS}),
        np.array(PATHS),
        np.array(PATHS, object),
        np.array(PATHS, object)[:, None],
        iter(PATHS),
    ],
    ids=["list", "tuple", "Series", "DataFrame", "str array", "object array", "column", "iterator"],
)
def test_paths_in_every_container(given: Any) -> None:
    assert list(as_image_list(given)) == PATHS


def test_pil_images_arrays_and_mixtures() -> None:
    array = np.zeros((2, 4, 5, 3), np.uint8)
    assert [item.shape for item in as_image_list(array)] == [(4, 5, 3)] * 2  # type: ignore[union-attr]
    image = Image.new("L", (5, 4))
    mixture = [image, array[0], "a.png", Path("b.png")]
    assert all(got is item for got, item in zip(as_image_list(mixture), mixture, strict=True))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("a.png", TypeError, r"several images. Got 'a.png'.*load_image_folder"),
        (Path("a.png"), TypeError, "several images"),
        (Image.new("RGB", (2, 2)), TypeError, "several images"),
        (7, TypeError, "Got int"),
        (
            np.zeros((2, 4, 5, 3)),
            ValueError,
            r"array of shape \(n, H, W, 3\), or PIL .*Got float64, shape \(2, 4, 5, 3\), values from 0.0 to 0.0",
        ),
        (np.zeros((4, 5, 3), np.uint8), ValueError, r"Got uint8, shape \(4, 5, 3\)"),
        (np.zeros((2, 3, 4, 5), np.uint8), ValueError, r"Got uint8, shape \(2, 3, 4, 5\)"),
        (
            pd.DataFrame({"path": PATHS, "label": PATHS}),
            ValueError,
            "one column of images. Got 2 columns, 'path', 'label'",
        ),
        (["a.png", 3], TypeError, "Got int .* at position 1"),
        (["a.png", None], TypeError, "Got NoneType .* at position 1"),
        (["a.png", "b.png", np.zeros((4, 5, 3))], ValueError, "float64.* at position 2"),
        ([np.zeros((4, 5), np.uint8)], ValueError, r"shape \(4, 5\), values from 0 to 0, at position 0"),
    ],
)
def test_wrong_input_is_named(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_image_list(given)


def test_describe_names_files_and_says_what_others_are(image_paths: list[str]) -> None:
    assert describe(Path(image_paths[0])) == image_paths[0]
    with Image.open(image_paths[0]) as image:
        assert describe(image) == image_paths[0]
    assert describe(Image.new("L", (5, 4))) == "PIL image, mode L, size (5, 4)"
    assert describe(np.zeros((4, 5, 3), np.uint8)) == "array, shape (4, 5, 3)"
