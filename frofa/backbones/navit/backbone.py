"""A backbone over images at their own aspect ratio, several in one sequence."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from frofa.backbones.backbone import Backbone
from frofa.backbones.layout import patch_size
from frofa.backbones.navit.model import PackedModel, check_pooling, check_supported
from frofa.backbones.navit.packing import first_fit_decreasing
from frofa.backbones.outputs import WITHOUT_TOKENS, Output, Request
from frofa.backbones.pooling import Pooling
from frofa.backbones.preprocessing import Preprocessing
from frofa.decoding.patches import NativeGeometry, grids_of

Grids = npt.NDArray[np.int64]


class NativeBackbone(Backbone):
    """A `Backbone` whose images keep their aspect ratio, under so many patches each.

    The `backbone` is the same model at a fixed image size. An image gets `max_tokens` patches at most, and with
    `enlarge` about as many, however small it is.
    """

    def __init__(self, backbone: Backbone, max_tokens: int, enlarge: bool = True):
        from timm.data.transforms import str_to_interp_mode

        module, fixed = backbone.module, backbone.data_config
        patch = patch_size(module)
        assert patch is not None  # what `check_supported` lets through has one
        interpolation = Image.Resampling[str_to_interp_mode(fixed["interpolation"]).value.upper()]
        geometry = NativeGeometry(patch, max_tokens, int(interpolation), enlarge)
        mean, std = (torch.tensor(fixed[name], dtype=torch.float32) for name in ("mean", "std"))
        super().__init__(
            backbone.name,
            module,
            {
                "max_tokens": max_tokens,
                "enlarge": enlarge,
                "patch_size": list(patch),
                **{name: fixed[name] for name in ("interpolation", "mean", "std")},
            },
            backbone.weights_digest,
            backbone.architecture_digest,
            backbone.device,
            # It stands where the geometry of a fixed size does: both have a shape and turn an image into pixels.
            Preprocessing(self._whole, cast(Any, geometry), mean.view(-1, 1, 1), std.view(-1, 1, 1)),
            layout=backbone.layout,
        )
        self.max_tokens, self.enlarge, self._fixed = max_tokens, enlarge, backbone
        self._model = PackedModel(module, max_tokens)
        # Of a patch's values, channels last: (P * P * 3,).
        self._scaling = [part.repeat(geometry.shape[1] // 3).to(self.device) for part in (mean, std)]

    def resolve_layer(self, output: Output, layer: int | None, norm: bool) -> int | None:
        """Resolve a layer as `Backbone` does; refuse pooling that `PackedModel` does not have."""
        if output in WITHOUT_TOKENS:
            check_pooling(self.module)
        return super().resolve_layer(output, layer, norm)

    @property
    def pooling(self) -> Pooling:
        """The kind of the pooled vector, which is that at the model's own image size."""
        return self._fixed.pooling

    def _check_block(self, output: Output, index: int, norm: bool) -> None:
        """Accept every block: `PackedModel` runs them one by one."""

    def extract(
        self, images: Tensor, requests: Sequence[Request], precision: str, compiled: bool = False
    ) -> list[Tensor]:
        """Run rows of patches, as `preprocessing.geometry` makes them: uint8 (n, 1 + max_tokens, bytes of a patch).

        The first row of each image holds its grid. Tokens come out as (T, C), one image after another.
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
        """Run rows of patches as `extract` does, with known grids (n, 2), in sequences of up to `capacity` patches.

        On a CPU, each image is a sequence of its own, so that no bit of its features depends on the images beside it:
        products of matrices are rounded differently where they have more rows.
        """
        sizes = grids.prod(1)
        packs = first_fit_decreasing(sizes.tolist(), capacity)
        if self.device.type == "cpu":
            packs = [[image] for image in range(len(sizes))]
        with torch.inference_mode(), self._autocast(precision):
            passes = [self._pass(rows, grids, pack, requests, compiled) for pack in packs]
        found = [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*passes, strict=True)]
        # Back from the order of packing to that of the images.
        order = np.concatenate([np.asarray(pack) for pack in packs])
        if (order == np.arange(len(order))).all():
            return found
        # By image, its place in the order of packing; of tokens, each image has as many rows as its grid has patches.
        images = np.argsort(order)
        tokens = places_in_order(sizes[order], images)
        return [
            values[torch.from_numpy(tokens if request.output == "tokens" else images).to(self.device)]
            for request, values in zip(requests, found, strict=True)
        ]

    def _pass(
        self, rows: Tensor, grids: Grids, pack: Sequence[int], requests: Sequence[Request], compiled: bool
    ) -> list[Tensor]:
        """Run one sequence: the features of each request, of the images in `pack` one after another."""
        # Which rows of the flattened (n * (1 + max_tokens), bytes) are patches of these images, in their order.
        n_rows = rows.shape[1]
        used = np.concatenate([image * n_rows + 1 + np.arange(grids[image].prod()) for image in pack])
        patches = self.normalise(rows.flatten(0, 1)[torch.from_numpy(used).to(rows.device, non_blocking=True)])
        chosen = [(int(grids[image, 0]), int(grids[image, 1])) for image in pack]
        return [values.float() for values in self._model(patches, chosen, requests, compiled=compiled)]

    def normalise(self, patches: Tensor) -> Tensor:
        """Normalise patches uint8 (T, P * P * 3) to float32, with the bits of timm's transform."""
        mean, std = self._scaling
        most = torch.full((), 255.0, device=patches.device)  # as in `Preprocessing.normalise`
        return patches.float().div_(most).sub_(mean).div_(std)

    def _whole(self, image: Image.Image) -> Tensor:
        """Turn an RGB image into normalised patches (N, P * P * 3), float32."""
        row = torch.from_numpy(np.asarray(self.preprocessing.geometry(image)))  # type: ignore[misc]
        n = int(grids_of(row[None].numpy())[0].prod())
        return self.normalise(row[1 : 1 + n].to(self.device))


def places_in_order(sizes: npt.NDArray[np.int64], images: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Say where the tokens of `images`, one after another, lie among those of all images, which have these sizes."""
    # An image's tokens move by the difference of its two beginnings: among all images, and among those taken.
    starts = np.cumsum(sizes) - sizes
    taken = sizes[images]
    ends = np.cumsum(taken)
    shifts: npt.NDArray[np.int64] = np.repeat(starts[images] - (ends - taken), taken)
    return shifts + np.arange(ends[-1])


@lru_cache(maxsize=4)
def native_backbone(backbone: Backbone, max_tokens: int, enlarge: bool = True) -> NativeBackbone:
    """Make a backbone at native aspect ratio, once for each backbone; a model that cannot run so is a ValueError."""
    try:
        check_supported(backbone.module)
    except ValueError as error:
        raise ValueError(f"{backbone.name}: {error}") from None
    return NativeBackbone(backbone, max_tokens, enlarge)
