"""frofa.decoding.views: which views there are, how crops are drawn, and the pixels that decoding makes of them."""

import hashlib
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data import create_transform

from frofa.backbones.loading import load_backbone
from frofa.backbones.navit.backbone import native_backbone
from frofa.backbones.preprocessing import Preprocessing, of_config, split
from frofa.decoding.decoders import Decoders
from frofa.decoding.geometry import CenterCrop, Geometry, Resize
from frofa.decoding.task import DecodeTask, upright
from frofa.decoding.views import MIRROR, PLAIN, make_views, preprocessing_with
from frofa.exceptions import ImageReadError

DIGEST = "0123456789abcdef0123456789abcdef01234567"
SIZES = [(64, 64), (500, 375), (375, 500), (33, 97), (1, 1), (1, 40), (2, 2), (3, 1), (60_000, 1), (1, 60_000)]
CROPS = [((2, 3, 424, 355), False), ((4, 6, 358, 370), True), ((50, 3, 489, 361), False), ((63, 6, 471, 345), False)]
"""The first crops of an image of 500 x 375 pixels with that digest, and whether they are mirrored."""
CROPS_OF_A_LONG_IMAGE = [(25, 0, 158, 100), (28, 0, 161, 100)]
GEOMETRY = Geometry((Resize(40, Image.Resampling.BICUBIC), CenterCrop((32, 32))))


def digest(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=20).hexdigest()


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def pixels(image: Image.Image) -> Any:
    return np.asarray(image)


@pytest.mark.parametrize("mirror", [True, False])
def test_fewer_views_are_the_first_of_more(mirror: bool) -> None:
    many = make_views(16, mirror=mirror)
    assert len(set(many)) == 16
    for n in range(1, 16):
        assert make_views(n, mirror=mirror) == many[:n]
    assert many[0] == PLAIN
    assert (many[1] == MIRROR) == mirror
    assert (MIRROR in many) == mirror
    assert {view.flips for view in many if view.kind == "crop"} == {mirror}


@pytest.mark.parametrize("n_views", [0, -1, 1.0, True, "2", None])
def test_a_wrong_number_of_views_is_refused(n_views: Any) -> None:
    with pytest.raises(ValueError, match=r"expected one view or more\. Got"):
        make_views(n_views)


@pytest.mark.parametrize(
    "area", [(0, 1), (0.5, 1.1), (0.9, 0.5), (0.5,), 0.5, "ab", (float("nan"), 1), (True, 1), None]
)
def test_a_wrong_range_of_areas_is_refused(area: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a range of areas.* such as \(0.5, 1.0\). Got"):
        make_views(4, area=area)


def test_crops_are_what_they_always_were() -> None:
    """Stores keep features of crops under these rules: boxes may change with `RULES` alone."""
    crops = [view.draw(DIGEST, 500, 375) for view in make_views(6)[2:]]
    assert crops == CROPS
    wide = [view.draw(DIGEST, 1000, 100)[0] for view in make_views(4)[2:]]
    assert wide == CROPS_OF_A_LONG_IMAGE


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("area", [(0.5, 1.0), (0.01, 0.1), (1, 1)])
def test_boxes_lie_in_the_image_and_have_the_area_and_aspect(size: tuple[int, int], area: tuple[float, float]) -> None:
    width, height = size
    for view in make_views(40, area=area)[2:]:
        (left, upper, right, lower), _ = view.draw(DIGEST, width, height)
        assert 0 <= left < right <= width
        assert 0 <= upper < lower <= height
        if min(size) < 64:
            continue  # whole pixels are too coarse to say more
        box = right - left, lower - upper
        assert 3 / 4 - 0.1 < box[0] / box[1] < 4 / 3 + 0.1
        if area[0] < 1:
            assert 0.9 * area[0] < box[0] * box[1] / (width * height) < 1.1 * area[1]


def test_crops_differ_by_image_and_number_and_cover_the_range() -> None:
    views = make_views(10)[2:]
    drawn = [[view.draw(digest(i), 400, 400) for view in views] for i in range(300)]
    boxes = np.array([[box for box, _ in crops] for crops in drawn], float)
    flips = np.array([[flipped for _, flipped in crops] for crops in drawn])
    assert len({tuple(box) for box in boxes.reshape(-1, 4)}) > 2300
    sides = boxes[..., 2:] - boxes[..., :2]
    areas, aspects = sides.prod(-1) / 160_000, np.log(sides[..., 0] / sides[..., 1])
    # 2,400 draws: uniform areas, of which the largest fit more rarely; places, aspects and flips without a side.
    assert areas.min() < 0.51
    assert areas.max() > 0.98
    assert abs(aspects.mean()) < 0.02
    assert abs(flips.mean() - 0.5) < 0.04
    np.testing.assert_allclose((boxes[..., :2] + boxes[..., 2:]).mean((0, 1)) / 2, 200, atol=4)
    for other in range(1, 8):  # the numbers of a crop say nothing about the next one's
        assert abs(np.corrcoef(areas[:, 0], areas[:, other])[0, 1]) < 0.2


def test_crops_without_flips_are_the_same_crops() -> None:
    for with_flips, without in zip(make_views(10)[2:], make_views(9, mirror=False)[1:], strict=True):
        assert with_flips.draw(DIGEST, 300, 200)[0] == without.draw(DIGEST, 300, 200)[0]
        assert not without.draw(DIGEST, 300, 200)[1]
        assert with_flips != without


def test_crops_of_long_images_differ() -> None:
    """No box of half the area fits: they have the largest one that does, at several places."""
    boxes = {view.draw(DIGEST, 1000, 100)[0] for view in make_views(10)[2:]}
    assert len(boxes) == 8
    assert {(right - left, lower - upper) for left, upper, right, lower in boxes} == {(133, 100)}


def test_views_other_than_the_plain_one_are_in_the_spec() -> None:
    plain = json.dumps({"b": 1, "a": [1, 2]})
    assert preprocessing_with(plain, PLAIN) is plain
    views = (*make_views(4), *make_views(4, mirror=False)[1:], *make_views(4, area=(0.3, 1))[2:])
    texts = [preprocessing_with(plain, view) for view in views]
    assert len(set(texts)) == len(views)
    assert all(json.loads(text).items() >= {"b": 1, "a": [1, 2]}.items() for text in texts)
    assert json.loads(texts[2])["view"] == {"kind": "crop", "number": 0, "area": [0.5, 1.0], "flips": True, "rules": 1}
    assert preprocessing_with(plain, make_views(3, area=(1, 1))[2]) == preprocessing_with(
        plain, make_views(3, area=(1.0, 1.0))[2]
    )


@pytest.mark.parametrize("size", [*SIZES, (5000, 3000)], ids=str)
def test_views_are_those_of_pillow(size: tuple[int, int]) -> None:
    image = picture(*size)
    views = make_views(8)
    made = GEOMETRY.views(image, DIGEST, views)
    assert pixels(made[0]).tobytes() == pixels(GEOMETRY(image)).tobytes()
    assert pixels(made[1]).tobytes() == pixels(ImageOps.mirror(GEOMETRY(image))).tobytes()
    for view, found in zip(views[2:], made[2:], strict=True):
        box, flipped = view.draw(DIGEST, *size)
        expected = image.resize((32, 32), Image.Resampling.BICUBIC, box=box)
        assert found.tobytes() == (ImageOps.mirror(expected) if flipped else expected).tobytes()
    # Any order, and any of them, give the same images.
    for one in GEOMETRY.views(image, DIGEST, views[::-1]), [GEOMETRY.views(image, DIGEST, [v])[0] for v in views[::-1]]:
        assert [part.tobytes() for part in one] == [part.tobytes() for part in made[::-1]]


@pytest.mark.parametrize("size", [(64, 64), (500, 400), (80, 120), (32, 32), (1, 1)], ids=str)
def test_the_mirror_image_is_that_of_the_mirrored_image(size: tuple[int, int]) -> None:
    image = picture(*size)
    _, mirrored = GEOMETRY.views(image, DIGEST, make_views(2))
    difference = pixels(mirrored).astype(int) - pixels(GEOMETRY(ImageOps.mirror(image)))
    assert np.abs(difference).max() <= 1  # Pillow rounds its filters from the left


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_crops_have_the_size_and_filter_of_the_checkpoint(mode: str, interpolation: str) -> None:
    transform = create_transform((3, 48, 96), interpolation=interpolation, crop_pct=0.875, crop_mode=mode)
    geometry = split(transform).geometry
    assert geometry is not None
    image, view = picture(200, 150), make_views(3)[2]
    box, flipped = view.draw(DIGEST, 200, 150)
    expected = image.resize((96, 48), Image.Resampling[interpolation.upper()], box=box)
    [found] = geometry.views(image, DIGEST, [view])
    assert found.tobytes() == (ImageOps.mirror(expected) if flipped else expected).tobytes()


def test_plain_and_mirror_image_cost_one_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    resize = Image.Image.resize

    def counted(self: Image.Image, size: Any, *arguments: Any, **options: Any) -> Image.Image:
        sizes.append(size)
        return resize(self, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", counted)
    image = picture(100, 100)
    GEOMETRY.views(image, DIGEST, make_views(2))
    assert sizes == [(40, 40)]
    sizes.clear()
    GEOMETRY.views(image, DIGEST, make_views(6)[2:])  # no plain one, where it is not asked for
    assert sizes == [(32, 32)] * 4


@pytest.mark.parametrize("enlarge", [True, False])
@pytest.mark.parametrize("size", [(64, 64), (300, 100), (20, 50), (1, 1)], ids=str)
def test_native_crops_are_images_of_their_own(size: tuple[int, int], enlarge: bool) -> None:
    native: Any = native_backbone(
        load_backbone("frofa/vit_tiny_tin200", None, "cpu"), 49, enlarge
    ).preprocessing.geometry
    image, views = picture(*size), make_views(6)
    rows = [native.row(part) for part in native.views(image, DIGEST, views)]
    assert rows[0] == native(image).tobytes()
    grids = np.array([np.frombuffer(row[:8], "<i4") for row in rows])
    assert (grids[1] == grids[0]).all()
    for view, row in zip(views[2:], rows[2:], strict=True):
        box, flipped = view.draw(DIGEST, *size)
        part = image.crop(box)
        resized = native.views(part, DIGEST, [PLAIN])[0]
        assert row == native.row(ImageOps.mirror(resized) if flipped else resized)
        if not flipped:
            assert row == native(part).tobytes()
    mirrored = native(ImageOps.mirror(image)).reshape(-1).astype(int)
    assert np.abs(mirrored - np.frombuffer(rows[1], np.uint8)).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_transforms_that_run_whole_have_views(channels: int) -> None:
    config: dict[str, Any] = {"input_size": (channels, 40, 56), "interpolation": "bicubic", "crop_pct": 0.9}
    config |= {"mean": (0.4,) * channels, "std": (0.2,) * channels}
    preprocessing = of_config(config)
    if channels == 3:  # what is known of the transform, to compare with
        known = preprocessing
        preprocessing = of_config_unknown(config)
        assert known.geometry is not None
    assert preprocessing.geometry is None
    assert preprocessing.has_views
    image, views = picture(90, 70), make_views(7)
    made = preprocessing.views(image, DIGEST, views)
    assert {tuple(values.shape) for values in made} == {(channels, 40, 56)}
    assert torch.equal(made[0], preprocessing.whole(image))
    assert torch.equal(made[1], preprocessing.whole(image).flip(2))
    if channels == 3:
        assert known.geometry is not None
        there = np.stack([pixels(part) for part in known.geometry.views(image, DIGEST, views)])
        assert torch.equal(torch.stack(made), known.normalise(torch.from_numpy(there)))
    else:
        box, flipped = views[2].draw(DIGEST, 90, 70)
        part = image.convert("L").resize((56, 40), Image.Resampling.BICUBIC, box=box)
        expected = (torch.from_numpy(pixels(part).copy())[None] / 255 - 0.4) / 0.2
        torch.testing.assert_close(made[2], expected.flip(2) if flipped else expected)


def of_config_unknown(config: dict[str, Any]) -> Preprocessing:
    """The preprocessing of a transform with a step that frofa does not know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frofa.backbones.preprocessing._known", lambda _: None)
        return of_config(config)


def test_a_transform_of_another_kind_has_the_plain_view_alone() -> None:
    assert not Preprocessing(lambda image: torch.from_numpy(pixels(image).copy())).has_views
    with pytest.raises(TypeError, match="makes the plain view alone"):
        Preprocessing(lambda image: torch.from_numpy(pixels(image).copy())).views(picture(4, 4), DIGEST, make_views(3))


@pytest.mark.parametrize("processes", [False, True])
def test_an_image_is_decoded_once_for_all_rows(processes: bool, image_paths: list[str]) -> None:
    views = make_views(5)
    Path(image_paths[2]).write_text("no image")
    # Each image to rows of its own, which need not follow each other.
    tasks = [
        DecodeTask(i, path, rows=tuple(range(i, 5 * len(image_paths), len(image_paths))), views=views)
        for i, path in enumerate(image_paths)
    ]
    with closing(Decoders(2, processes=processes)) as decoders:
        rows = decoders.allocate(60, GEOMETRY)
        rows[:] = 0
        failed = decoders.decode(tasks).result()
        found = rows.copy()
    assert [isinstance(result, ImageReadError) for result in failed] == [i == 2 for i in range(12)]
    for task in tasks:
        if task.position != 2:
            image, key = upright(task)
            expected = np.stack([pixels(part) for part in GEOMETRY.views(image, key, views)])
            assert (found[list(task.rows)] == expected).all()
    assert not found[list(tasks[2].rows)].any()


def test_a_decoding_process_needs_no_numpy_for_crops(image_paths: list[str]) -> None:
    script = (
        "import sys; from frofa.decoding.task import *; from frofa.decoding.views import *; "
        "from frofa.decoding.geometry import *; geometry = Geometry((Resize(40, 3), CenterCrop((32, 32)))); "
        f"task = DecodeTask(0, {image_paths[0]!r}, None, tuple(range(6)), views=make_views(6)); "
        "rows = memoryview(bytearray(6 * 32 * 32 * 3)); assert decode_into(rows, geometry, [task]) == [None]; "
        "assert any(rows); assert 'numpy' not in sys.modules and 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {script}"], check=True)
