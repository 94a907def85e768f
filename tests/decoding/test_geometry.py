"""frofa.decoding.geometry and frofa.backbones.preprocessing: timm's preprocessing in two parts, with the same bits."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import transforms

import frofa
from frofa.backbones.loading import load_backbone
from frofa.backbones.preprocessing import Preprocessing, split
from frofa.decoding.geometry import CenterCrop, Geometry, Resize, ResizeKeepRatio
from frofa.images.folders import list_images
from frofa.images.reading import content, decode

SIZES = [(64, 64), (500, 375), (375, 500), (33, 97), (224, 225), (1, 40), (31, 7), (257, 63)]
INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
MODES: list[dict[str, Any]] = [
    {"crop_mode": "center"},
    {"crop_mode": "squash"},
    {"crop_mode": "border"},
    {"crop_mode": "center", "crop_border_pixels": 3},
]


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def in_two_parts(preprocessing: Preprocessing, image: Image.Image) -> torch.Tensor:
    assert preprocessing.geometry is not None
    pixels = np.asarray(preprocessing.geometry(image))
    assert pixels.shape == preprocessing.geometry.shape
    return preprocessing.normalise(torch.tensor(pixels)[None])[0]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("input_size", [(3, 64, 64), (3, 48, 96)], ids=str)
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.9, 0.3])
def test_two_parts_are_timms_transform(interpolation: str, mode: Any, input_size: Any, crop_pct: float) -> None:
    options = {"mean": (0.48, 0.456, 0.4), "std": (0.229, 0.22, 0.3), **mode}
    transform = create_transform(input_size, interpolation=interpolation, crop_pct=crop_pct, **options)
    preprocessing = split(transform)
    for size in SIZES:
        if mode.get("crop_border_pixels") and min(size) <= 6:
            continue  # nothing of it is left
        image = picture(*size)
        assert torch.equal(in_two_parts(preprocessing, image), transform(image)), size


@pytest.mark.parametrize("size", [(64, 64), (10, 90), (91, 11), (3, 4), (65, 63), (200, 1)])
@pytest.mark.parametrize("crop", [64, (63, 65), (1, 2)])
def test_a_crop_larger_than_the_image_is_padded(size: Any, crop: Any) -> None:
    image = picture(*size)
    expected = transforms.CenterCrop(crop)(image)
    ours = CenterCrop(crop if isinstance(crop, tuple) else (crop, crop))(image)
    assert ours.size == expected.size
    assert ours.tobytes() == expected.tobytes()


@pytest.mark.parametrize("model", ["tf_efficientnet_lite0.in1k", "vit_tiny_patch8_64.sup_tin200"])
def test_two_parts_are_the_checkpoints_transform_on_photographs(
    model: str, shared_data: Path, shared_backbones: Path
) -> None:
    preprocessing = load_backbone(f"local-dir:{shared_backbones / model}", None, "cpu").preprocessing
    images = [decode(content(path)[0]) for path in list_images(shared_data / "photos")[::4]]
    whole = torch.stack([preprocessing.whole(image) for image in images])
    assert preprocessing.geometry is not None
    pixels = torch.from_numpy(np.stack([np.asarray(preprocessing.geometry(image)) for image in images]))
    assert torch.equal(preprocessing.normalise(pixels), whole)
    assert preprocessing.normalise(pixels).is_contiguous()


def test_every_value_of_a_pixel_is_normalised_as_timm_does() -> None:
    every = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2))
    for mean in (0.5, 0.1307, 0.48145466, 1 / 3):
        transform = create_transform((3, 16, 16), crop_pct=1.0, mean=(mean, 0.456, 0.406), std=(0.229, mean, math.pi))
        assert torch.equal(in_two_parts(split(transform), every), transform(every))


@pytest.mark.parametrize(
    "transform",
    [
        transforms.ToTensor(),
        transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]),
        transforms.Compose([transforms.Resize(32), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]),
        transforms.Compose([transforms.Grayscale(3), transforms.CenterCrop(8), transforms.ToTensor()]),
        transforms.Compose(
            [transforms.RandomRotation(3), transforms.CenterCrop(8), transforms.ToTensor(), transforms.Normalize(0, 1)]
        ),
        transforms.Compose([transforms.CenterCrop(8), transforms.ToTensor(), transforms.Lambda(lambda x: x)]),
        create_transform(64, is_training=True),
    ],
    ids=str,
)
def test_other_transforms_stay_whole(transform: Any) -> None:
    preprocessing = split(transform)
    assert preprocessing.geometry is None
    assert preprocessing.whole is transform


def test_a_geometry_ends_in_a_crop() -> None:
    with pytest.raises(TypeError, match="expected a crop as the last step"):
        _ = Geometry((Resize(8, 2),)).shape


def test_a_decoding_process_imports_neither_numpy_nor_torch() -> None:
    heavy = {"numpy", "torch", "timm", "torchvision", "sklearn"}
    code = f"import sys, frofa.decoding.worker; print(sorted({heavy} & set(sys.modules)))"
    root = Path(frofa.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("size", [(3000, 20), (20, 3000), (2999, 7), (11, 2500), (400, 300)], ids=str)
@pytest.mark.parametrize("resize", [Resize(64, 3), ResizeKeepRatio((64, 48), 0.0, 3), Resize(64, 2)], ids=str)
def test_what_is_cut_off_a_long_strip_is_not_computed(
    size: tuple[int, int], resize: Resize | ResizeKeepRatio, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    geometry, image = Geometry((resize, CenterCrop((64, 48)))), Image.fromarray(pixels)
    expected = np.asarray(geometry(image)).astype(int)
    monkeypatch.setattr("frofa.decoding.geometry.HUGE", 0)
    difference = np.abs(np.asarray(geometry(image)) - expected)
    assert difference.max() <= 1  # Pillow has the place to cut from in float32
    assert (difference > 0).mean() < 0.01


def test_a_strip_of_one_pixel_takes_no_memory() -> None:
    geometry = Geometry((Resize(224, 3), CenterCrop((224, 224))))
    assert geometry(Image.new("RGB", (60_000, 1), (9, 8, 7))).getpixel((100, 100)) == (9, 8, 7)  # not 3 billion pixels
