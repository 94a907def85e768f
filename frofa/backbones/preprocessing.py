"""A checkpoint's preprocessing in two parts: geometry where images are decoded, arithmetic where the model is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from frofa.decoding.geometry import CenterCrop, Geometry, GeometryStep, Resize, ResizeKeepRatio, Trim
from frofa.decoding.views import Box, Making


@dataclass(frozen=True)
class Preprocessing:
    """From an upright RGB image to what the model takes.

    `whole` is timm's own transform, image to float32 (3, H, W). Where its form is known, `geometry` is its geometric
    part, and `normalise` the rest, by `mean` and `std` (3, 1, 1) of pixels between 0 and 1. `crop` is for forms that
    are not known: from a box of the image to what the model takes.
    """

    whole: Callable[[Image.Image], Tensor]
    geometry: Geometry | None = None
    mean: Tensor | None = None
    std: Tensor | None = None
    crop: Callable[[Image.Image, Box], Tensor] | None = None

    @property
    def has_views(self) -> bool:
        """Whether other views of an image can be made than the plain one."""
        return self.geometry is not None or self.crop is not None

    @property
    def views(self) -> Making:
        """Steps from an upright RGB image to what the model takes, float32 (3, H, W), for each of its views."""
        return Making(self.whole, self.crop or _no_crop, lambda values: values.flip(-1))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalise uint8 (n, H, W, 3) to float32 (n, 3, H, W), on its device and with the bits of timm's transform."""
        assert self.mean is not None and self.std is not None  # noqa: PT018 (both are there or none)
        mean, std = (part.to(pixels.device, non_blocking=True) for part in (self.mean, self.std))
        # On a GPU, division by a number is multiplication by its inverse; by a tensor, it is division as on a CPU.
        most = torch.full((), 255.0, device=pixels.device)
        values = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return values.div_(most).sub_(mean).div_(std)


def of_config(data_config: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing of a checkpoint, given what timm's `resolve_data_config` found."""
    from timm.data import create_transform

    transform = create_transform(**data_config, is_training=False)
    if data_config["input_size"][0] == 1:  # grey, by Pillow's mode L before all else, as in timm
        found = Preprocessing(lambda image: transform(image.convert("L")))
    else:
        found = split(transform)
    return found if found.geometry is not None else replace(found, crop=_crop_of(transform, data_config))


def _crop_of(transform: Any, data_config: Mapping[str, Any]) -> Callable[[Image.Image, Box], Tensor] | None:
    """Make the step from a box of an image to what the model takes; None where the transform's end is not known."""
    from timm.data.transforms import MaybeToTensor, str_to_interp_mode
    from torchvision import transforms

    # What comes after the geometric steps: to a tensor, and normalisation.
    steps: Sequence[Any] = getattr(transform, "transforms", ())
    begins = [i for i, step in enumerate(steps) if type(step) in (MaybeToTensor, transforms.ToTensor)]
    if not begins:
        return None
    arithmetic = transforms.Compose(list(steps[begins[0] :]))
    n_channels, height, width = data_config["input_size"]
    interpolation = Image.Resampling(_of_pillow(str_to_interp_mode(data_config["interpolation"])))

    def crop(image: Image.Image, box: Box) -> Tensor:
        image = image.convert("L") if n_channels == 1 else image
        values: Tensor = arithmetic(image.resize((width, height), interpolation, box))
        return values

    return crop


def _no_crop(*_: object) -> Tensor:
    raise TypeError("this preprocessing makes the plain view alone")


def split(transform: Any) -> Preprocessing:
    """Find the parts of a transform of timm's `create_transform`; keep any other whole."""
    from timm.data.transforms import MaybeToTensor
    from torchvision import transforms

    # The known form: geometric steps that end in a centre crop, then to a tensor, then normalisation.
    steps = list(getattr(transform, "transforms", ()))
    tail = steps[-2:]
    if len(steps) < 3 or type(tail[0]) not in (MaybeToTensor, transforms.ToTensor):
        return Preprocessing(transform)
    # One unknown step, and the whole transform runs as timm has it, slower but surely right.
    known = [_known(step) for step in steps[:-2]]
    geometric = tuple(step for step in known if step is not None)
    if type(tail[1]) is not transforms.Normalize or len(geometric) < len(known):
        return Preprocessing(transform)
    if not isinstance(geometric[-1], CenterCrop):
        return Preprocessing(transform)
    mean, std = (torch.as_tensor(part, dtype=torch.float32).view(-1, 1, 1) for part in (tail[1].mean, tail[1].std))
    return Preprocessing(transform, Geometry(geometric), mean, std)


def _known(step: Any) -> GeometryStep | None:
    """Return the same step in Pillow alone; None where it is not one of timm's for evaluation."""
    from timm.data import transforms as timm_transforms
    from torchvision import transforms

    if type(step) is timm_transforms.TrimBorder:
        return Trim(step.border_size)
    if type(step) is transforms.Resize and step.max_size is None:
        # torchvision takes an int, or a sequence of one, for the shorter side.
        size = step.size if isinstance(step.size, int) else tuple(step.size)
        return Resize(size[0] if isinstance(size, tuple) and len(size) == 1 else size, _of_pillow(step.interpolation))
    random = ("random_scale_prob", "random_aspect_prob")
    if type(step) is timm_transforms.ResizeKeepRatio and not any(getattr(step, name, 0) for name in random):
        if isinstance(step.interpolation, (tuple, list)):  # drawn anew for each image
            return None
        return ResizeKeepRatio(tuple(step.size), step.longest, _of_pillow(step.interpolation))
    if type(step) is transforms.CenterCrop:
        return CenterCrop(tuple(step.size))
    if type(step) is timm_transforms.CenterCropOrPad and step.padding_mode == "constant":
        fill = step.fill if isinstance(step.fill, (tuple, list)) else [step.fill] * 3
        return CenterCrop(tuple(step.size), tuple(fill))
    return None


def _of_pillow(interpolation: Any) -> int:
    """The name that torchvision gives an interpolation, as Pillow's number."""
    return int(Image.Resampling[interpolation.value.upper()])
