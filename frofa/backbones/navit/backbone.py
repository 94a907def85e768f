"""A backbone over images at their own aspect ratio, several in one sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from frofa.backbones.backbone import Backbone
from frofa.backbones.navit.model import PackedModel, check_pooling, check_supported
from frofa.backbones.navit.packing import first_fit_decreasing
from frofa.backbones.navit.positions import patch_size
from frofa.backbones.outputs import Output, Request
from frofa.backbones.preprocessing import Preprocessing
from frofa.decoding.patches import NativeGeometry, grids_of

Grids = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NativeBackbone(Backbone):
    """A `Backbone` whose images keep their aspect ratio, under so many patches each.

    Attributes
    ----------
    max_tokens : int
    enlarge : bool
    """

    max_tokens: int = 0
    enlarge: bool = True

    def __post_init__(self) -> None:
        from timm.data.transforms import str_to_interp_mode

        model = PackedModel(self.module, self.max_tokens)
        interpolation = Image.Resampling[str_to_interp_mode(self.data_config["interpolation"]).value.upper()]
        geometry = NativeGeometry(patch_size(self.module), self.max_tokens, int(interpolation), self.enlarge)
        parts = [torch.tensor(self.data_config[name], dtype=torch.float32) for name in ("mean", "std")]
        # It stands where the geometry of a fixed size does: both have a shape and turn an image into pixels.
        found = Preprocessing(self._whole, cast(Any, geometry), *(part.view(-1, 1, 1) for part in parts))
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_preprocessing", found)
        places = geometry.shape[1] // 3
        object.__setattr__(self, "_scaling", [part.repeat(places).to(self.device) for part in parts])

    def resolve_layer(self, output: Output, layer: int | None, norm: bool) -> int | None:
        """As `Backbone.resolve_layer`."""
        if output == "pooled":
            check_pooling(self.module)
        return super().resolve_layer(output, layer, norm)

    def _check_block(self, output: Output, index: int, norm: bool) -> None:
        """There is nothing to check: blocks are run one by one, by `PackedModel`."""

    def extract(
        self, images: Tensor, requests: Sequence[Request], precision: str, compiled: bool = False
    ) -> list[Tensor]:
        """Run rows of patches, as `preprocessing.geometry` makes them: uint8 (n, 1 + max_tokens, bytes of a patch).

        Returns
        -------
        list of Tensor
            On the backbone's device, float32: tokens (T, C), one image after another, or one vector an image (n, C).
        """
        grids = grids_of(images[:, :1].cpu().numpy())
        capacity = len(images) * self.max_tokens
        return self.extract_packed(images.to(self.device), grids, capacity, requests, precision, compiled)

    def extract_packed(
        self,
        rows: Tensor,
        grids: Grids,
        capacity: int,
        requests: Sequence[Request],
        precision: str,
        compiled: bool = False,
    ) -> list[Tensor]:
        """As `extract`, in sequences of up to `capacity` patches.

        On a CPU, each image is a sequence of its own, so that no bit of its features depends on the images beside it:
        products of matrices are rounded differently where they have more rows.
        """
        sizes = grids.prod(1)
        packs = first_fit_decreasing(sizes.tolist(), capacity)
        if self.device.type == "cpu":
            packs = [[image] for image in range(len(sizes))]
        with torch.inference_mode(), self._precision(precision):
            passes = [self._pass(rows, grids, pack, requests, compiled) for pack in packs]
        found = [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*passes, strict=True)]
        order = np.concatenate([np.asarray(pack) for pack in packs])
        if (order == np.arange(len(order))).all():
            return found
        images = np.argsort(order)
        tokens = places_in_order(sizes[order], images)
        return [
            values[torch.from_numpy(tokens if request.output == "tokens" else images).to(self.device)]
            for request, values in zip(requests, found, strict=True)
        ]

    def _pass(
        self, rows: Tensor, grids: Grids, pack: Sequence[int], requests: Sequence[Request], compiled: bool
    ) -> list[Tensor]:
        n_places = rows.shape[1]
        places = np.concatenate([image * n_places + 1 + np.arange(grids[image].prod()) for image in pack])
        patches = self.normalise(rows.flatten(0, 1)[torch.from_numpy(places).to(rows.device, non_blocking=True)])
        model: PackedModel = self._model  # type: ignore[attr-defined]
        chosen = [(int(grids[image, 0]), int(grids[image, 1])) for image in pack]
        return [values.float() for values in model(patches, chosen, requests, compiled=compiled)]

    def normalise(self, patches: Tensor) -> Tensor:
        """Patches uint8 (T, P * P * 3) to float32, with the bits of timm's transform."""
        mean, std = self._scaling  # type: ignore[attr-defined]
        most = torch.full((), 255.0, device=patches.device)  # as in `Preprocessing.normalise`
        return patches.float().div_(most).sub_(mean).div_(std)

    def _whole(self, image: Image.Image) -> Tensor:
        """RGB image to normalised patches (N, P * P * 3), float32."""
        row = torch.from_numpy(np.asarray(self.preprocessing.geometry(image)))  # type: ignore[misc]
        n = int(grids_of(row[None].numpy())[0].prod())
        return self.normalise(row[1 : 1 + n].to(self.device))


def places_in_order(sizes: npt.NDArray[np.int64], images: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Where tokens of `images`, one after another, lie among those of images of these sizes."""
    starts = np.cumsum(sizes) - sizes
    taken = sizes[images]
    ends = np.cumsum(taken)
    shifts: npt.NDArray[np.int64] = np.repeat(starts[images] - (ends - taken), taken)
    return shifts + np.arange(ends[-1])


@lru_cache(maxsize=4)
def native_backbone(backbone: Backbone, max_tokens: int, enlarge: bool = True) -> NativeBackbone:
    """A backbone at native aspect ratio, with its tables of positions; the same one for the same backbone.

    Raises
    ------
    ValueError
        If its model cannot be run so.
    """
    try:
        check_supported(backbone.module)
    except ValueError as error:
        raise ValueError(f"{backbone.name}: {error}") from None
    config = {
        "max_tokens": max_tokens,
        "enlarge": enlarge,
        "patch_size": list(patch_size(backbone.module)),
        **{name: backbone.data_config[name] for name in ("interpolation", "mean", "std")},
    }
    return NativeBackbone(
        backbone.name,
        backbone.module,
        config,
        backbone.weights_digest,
        backbone.architecture_digest,
        backbone.device,
        layout=backbone.layout,
        max_tokens=max_tokens,
        enlarge=enlarge,
    )
