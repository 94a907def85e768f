"""Checks of what happens to an image before the model."""

import io
import json
from typing import Any

import numpy as np
import torch
from PIL import Image

from frofa.backbones.navit.backbone import NativeBackbone
from frofa.decoding.patches import grids_of
from frofa.doctor.checks.weights import model_folder
from frofa.doctor.finding import Outcome, failed, note, ok, skipped
from frofa.doctor.subject import Subject, pixels_of, reference_images
from frofa.images.reading import decode, open_image

FIELDS = ("mean", "std", "interpolation", "crop_pct", "crop_mode", "input_size")
NATIVE_FIELDS = ("mean", "std", "interpolation")
"""Fields to check where images keep their aspect ratio."""
ORIENTATION = 0x0112
TRANSPOSED = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 6: "ROTATE_90", 8: "ROTATE_270"}
"""Transpositions of an upright image that the EXIF orientation of that number undoes."""
COLOUR = (200, 120, 40)
ANY_SIZE = (64, 64)
"""Height and width of the test image where the model asks for none."""


def check_config(subject: Subject) -> Outcome:
    """Size, crop, interpolation, mean and standard deviation are the checkpoint's own."""
    from timm.data import resolve_data_config

    backbone = subject.backbone
    published = getattr(backbone.module, "pretrained_cfg", None)
    if not published:
        return skipped("the model has no pretrained_cfg")
    expected = resolve_data_config({}, pretrained_cfg=published)
    shown = NATIVE_FIELDS if isinstance(backbone, NativeBackbone) else FIELDS
    # A size that the user chose is not the checkpoint's, and is not meant to be.
    fields = [name for name in shown if name != "input_size" or subject.extractor.image_size is None]
    # timm's defaults fill what config.json leaves out: what the file states is compared by itself, and gaps are noted.
    wrong = different(backbone.data_config, {name: expected[name] for name in fields})
    if wrong:
        return failed(f"not the checkpoint's own: {wrong}")
    stated = _stated(subject)
    wrong = different(backbone.data_config, {name: stated[name] for name in fields if name in stated})
    if wrong:
        return failed(f"not what config.json says: {wrong}")
    needed = [name for name in ("mean", "std", "input_size") if name in fields]
    lacking = [name for name in needed if model_folder(backbone.name) and name not in stated]
    if lacking:
        return note(f"config.json does not say {', '.join(lacking)}; timm's defaults are taken")
    return ok(", ".join(f"{name} {_comparable(backbone.data_config[name])}" for name in shown))


def check_pixels(subject: Subject) -> Outcome:
    """A plain colour becomes (colour / 255 - mean) / std, channel by channel."""
    config = subject.backbone.data_config
    height, width = config.get("input_size", ANY_SIZE)[-2:]
    flat = Image.new("RGB", (2 * width, 2 * height), COLOUR)
    colour = np.array(COLOUR) / 255
    mean, std = (np.array(config[name], np.float64) for name in ("mean", "std"))
    # A plain colour stays what it is under resizing and cropping: each channel must be one known number.
    for name, pixels in _both_ways(subject, flat):
        found = pixels.double().numpy().mean(1)
        if np.allclose(found, (colour - mean) / std, atol=1e-3):
            continue
        if np.allclose(found, (colour[::-1] - mean) / std, atol=1e-3):
            return failed(f"the colour channels are swapped (blue first) in {name}")
        given = _comparable(((colour - mean) / std).round(3))
        said = f"mean {_comparable(mean)} and std {_comparable(std)} would give {given}"
        return failed(f"wrong mean or std in {name}: the colour {COLOUR} becomes {_comparable(found.round(3))}; {said}")
    return ok("red, green, blue in this order, normalised by the checkpoint's mean and std")


def check_exif(subject: Subject) -> Outcome:
    """A photograph that its EXIF orientation turns gives the pixels of the same one stored upright."""
    # PNG loses nothing, so that pixels stored otherwise come out equal to the last bit.
    upright = Image.fromarray(reference_images()[0])
    expected = pixels_of(subject.backbone, [upright])
    for orientation, transposition in TRANSPOSED.items():
        stored, exif = io.BytesIO(), Image.Exif()
        exif[ORIENTATION] = orientation
        upright.transpose(getattr(Image.Transpose, transposition)).save(stored, "PNG", exif=exif)
        for found in (open_image(stored.getvalue()), decode(stored.getvalue())):  # in memory, and as a file
            if not torch.equal(pixels_of(subject.backbone, [found]), expected):
                return failed(f"an image with EXIF orientation {orientation} does not come out upright")
    return ok(f"orientations {', '.join(map(str, TRANSPOSED))} come out upright")


def different(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """The fields that differ, for a message."""
    pairs = [(name, _comparable(found.get(name)), _comparable(value)) for name, value in expected.items()]
    return "; ".join(f"{name} is {one}, expected {other}" for name, one, other in pairs if one != other)


def _stated(subject: Subject) -> dict[str, Any]:
    folder = model_folder(subject.backbone.name)
    if folder is None:
        return {}
    stated = json.loads((folder / "config.json").read_text()).get("pretrained_cfg") or {}
    return {name: stated[name] for name in FIELDS if stated.get(name) is not None}


def _both_ways(subject: Subject, image: Image.Image) -> list[tuple[str, torch.Tensor]]:
    """The pixels (3, n) of the whole transform, and of its parts as an extraction runs them."""
    backbone, parts = subject.backbone, subject.backbone.preprocessing
    found = {"the transform": parts.whole(image).cpu()}
    if parts.geometry is not None:
        geometric = torch.from_numpy(np.array(parts.geometry(image)))
        if isinstance(backbone, NativeBackbone):
            # The first row says how many patches the grid has; the rows behind them are padding.
            n = int(grids_of(geometric[None].numpy())[0].prod())
            found["what an extraction runs"] = backbone.normalise(geometric[1 : 1 + n].to(backbone.device)).cpu()
        else:
            found["what an extraction runs"] = parts.normalise(geometric[None])[0]
    by_patch = isinstance(backbone, NativeBackbone)
    return [(name, each.reshape(-1, 3).T if by_patch else each.flatten(1)) for name, each in found.items()]


def _comparable(value: Any) -> Any:
    """Numbers and lists of them, of whatever type, in one form."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_comparable(part) for part in value]
    return round(float(value), 6) if isinstance(value, (float, np.floating)) else value
