"""Fields in which a checkpoint describes its preprocessing: read, and checked before anything is computed with it."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from frofa.utils.json import check_fields, read_json

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
CROP_MODES = ("center", "squash", "border")
MOST_CROP = 2
"""Largest `crop_pct`: some of timm's models have 1.15, a border around the image."""
LONGEST_SIDE = 8192
"""Largest side of an image, and number of its channels."""
_LARGEST = 2**16
"""Largest number that says how a model is built: one of a thousand million blocks would be built for ever."""


def read_object(file: Path) -> dict[str, Any]:
    """Read the object in a JSON file; a ValueError names the file if it holds anything else."""

    def fail(why: str) -> ValueError:
        return ValueError(f"{file} is no JSON object: {why}")

    return check_fields(read_json(file, fail), {}, fail)


def check_model_config(config: Mapping[str, Any], where: str) -> None:
    """Check a folder's ``config.json`` as timm writes it, with the preprocessing beside the architecture or within.

    Another architecture than timm's, and a value that timm could not use, are a ValueError.
    """
    import timm

    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise ValueError(f"{where}: architecture must be a model of timm's. Got {shown(architecture)}")
    for name in ("model_args", "pretrained_cfg"):
        if not isinstance(config.get(name, {}), dict):
            raise ValueError(f"{where}: {name} must be an object. Got {shown(config[name])}")
    if large := [value for value in _numbers(config.get("model_args", {})) if abs(value) > _LARGEST]:
        raise ValueError(f"{where}: numbers of model_args must be {_LARGEST} at most. Got {shown(large[0])}")
    check_preprocessing(config.get("pretrained_cfg", config), where)


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in a JSON value, however deep."""
    if isinstance(value, (int, float)):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)


def check_preprocessing(config: Mapping[str, Any], where: str, names: Mapping[str, str] | None = None) -> None:
    """Check the fields of a `pretrained_cfg` that say how images are prepared; those that are None or absent are well.

    A ValueError says `where` (the file or the model) which field is wrong; `names` has what fields are called there,
    where it is not timm's name.

    Examples
    --------
    >>> from frofa.backbones.checkpoints.config import check_preprocessing
    >>> check_preprocessing({"mean": [0.5, 0.5, 0.5], "crop_pct": 0.9}, "config.json")
    >>> check_preprocessing({"std": [0.5, 0.0, 0.5]}, "config.json")
    Traceback (most recent call last):
    ValueError: config.json: std must be 1 or 3 positive numbers. Got [0.5, 0.0, 0.5]
    """
    for name, (is_valid, expected) in _FIELDS.items():
        value = config.get(name)
        if value is not None and not is_valid(value):
            raise ValueError(f"{where}: {(names or {}).get(name, name)} must be {expected}. Got {shown(value)}")


def per_channel(values: Any, channels: int, where: str) -> Any:
    """Return the mean or deviation of each channel; for a model of grey images, the one that all colours have.

    Any other number of them than the model has channels is a ValueError.
    """
    if len(values) in (1, channels):
        return values
    if channels == 1 and len(set(values)) == 1:
        return values[:1]
    raise ValueError(f"{where} must be one number, as the model takes grey images. Got {shown(values)}")


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    try:
        text = repr(value)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:80]}..."


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) in (1, 3) and all(map(_is_number, value))


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LONGEST_SIDE


def _is_size(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(map(_is_side, value))


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "input_size": (_is_size, f"three ints from 1 to {LONGEST_SIDE} (channels, height, width)"),
    "mean": (
        lambda value: _are_numbers(value) and max(map(abs, value)) <= 1,
        "1 or 3 numbers from -1 to 1, of pixels from 0 to 1",
    ),
    "std": (lambda value: _are_numbers(value) and min(value) > 0, "1 or 3 positive numbers"),
    "crop_pct": (lambda value: _is_number(value) and 0 < value <= MOST_CROP, f"above 0 and at most {MOST_CROP}"),
    "crop_mode": (lambda value: value in CROP_MODES, f"one of {', '.join(CROP_MODES)}"),
    "interpolation": (lambda value: value in INTERPOLATIONS, f"one of {', '.join(INTERPOLATIONS)}"),
}
