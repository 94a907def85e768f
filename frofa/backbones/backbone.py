"""Pretrained backbones, loaded once a process: the one place that decides device, precision and mode."""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from PIL import Image
from torch import Tensor, nn

from frofa.backbones.checkpoints.config import per_channel
from frofa.backbones.checkpoints.names import FOLDERS, timm_name
from frofa.backbones.layout import (
    UNCHECKED,
    Layout,
    check_block,
    has_cls_token,
    patch_size,
    probing_images,
    read_layout,
)
from frofa.backbones.loading import create_module
from frofa.backbones.precision import low_precision, low_precision_key, prune_2_4, rest_precision
from frofa.backbones.preprocessing import Preprocessing, of_channels, split
from frofa.compute.devices import resolve_device
from frofa.compute.digests import architecture_digest, weights_digest
from frofa.images.reading import DECODER
from frofa.utils.text import one_line

Output: TypeAlias = Literal["tokens", "cls", "mean", "pooled"]
ImageSize: TypeAlias = "int | tuple[int, int] | None"
AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Request(NamedTuple):
    """One of the outputs of a forward pass: `output` and `norm` as the user gave them, `layer` as resolved."""

    output: Output
    layer: int | None
    norm: bool


@dataclass(frozen=True, eq=False)
class Backbone:
    """A timm model in eval mode on one device, with its own preprocessing.

    Attributes
    ----------
    name : str
        As the user gave it.
    module : nn.Module
    data_config : dict
        The checkpoint's own preprocessing, of timm's `resolve_data_config`.
    weights_digest : str
        Of the checkpoint's parameters and buffers.
    architecture_digest : str
        Of what computes with them.
    device : torch.device
    weights : {"dense", "2:4"}
        ``"2:4"`` where the linear layers of the blocks were pruned.
    layout : Layout
        How what the model returns is to be read, as found when it was loaded.
    """

    name: str
    module: nn.Module
    data_config: dict[str, Any]
    weights_digest: str
    architecture_digest: str
    device: torch.device
    weights: str = "dense"
    layout: Layout = UNCHECKED

    is_custom = False  # the user's own encoder: frofa.encoders.backbone
    unit = "img"  # what a progress bar counts
    decoder = DECODER  # part of a store's key

    def __post_init__(self) -> None:
        from timm.data import create_transform

        transform = create_transform(**self.data_config, is_training=False)
        preprocessing = of_channels(split(transform), self.data_config["input_size"][0])
        object.__setattr__(self, "_preprocessing", preprocessing)
        object.__setattr__(self, "_compiled", {})
        object.__setattr__(self, "_variants", {})
        object.__setattr__(self, "_checked_blocks", {})

    @property
    def preprocessing(self) -> Preprocessing:
        """The checkpoint's own, in the parts that run at different places."""
        return self._preprocessing  # type: ignore[attr-defined,no-any-return]

    def preprocess(self, image: Image.Image) -> Tensor:
        """RGB image to a float32 tensor (3, H, W), by the checkpoint's own transform."""
        return self.preprocessing.whole(image)

    def most_at_once(self, batch_size: "int | str") -> "int | str":
        """The batch size that a run gets where the user asks for this one."""
        return batch_size

    def faults(self, features: Any) -> dict[int, str]:
        """What is wrong with features of a batch, by row: looked for in those of custom encoders."""
        del features
        return {}

    @property
    def n_layers(self) -> int | None:
        """Number of transformer blocks; None where the model is not a transformer with one sequence of blocks."""
        if not hasattr(self.module, "num_prefix_tokens") or not hasattr(self.module, "blocks"):
            return None
        return len(self.module.blocks)  # type: ignore[arg-type]

    @property
    def has_cls_token(self) -> bool:
        """Whether the model has a class token, and returns it."""
        return self.layout.n_prefix > 0 and has_cls_token(self.module)

    def width(self, output: Output) -> int:
        """Channels of an output."""
        return self.layout.widths["pooled" if output == "pooled" else "tokens"]

    def resolve_layer(self, output: Output, layer: int | None, norm: bool) -> int | None:
        """Check that the model has this output; return the layer's index, or None for the end of any other model.

        Raises
        ------
        ValueError
            If the model has no such layer or output.
        """
        depth = self.n_layers
        if depth is None:
            if not norm or layer is not None:
                raise ValueError(
                    f"layer={layer!r}, norm={norm!r} need a vision transformer with blocks; {self.name} is a "
                    f"{type(self.module).__name__}, which has layer=None, norm=True only."
                )
        elif layer is not None and not -depth <= layer < depth:
            raise ValueError(f"{self.name} has layers {-depth} to {depth - 1}. Got layer={layer}.")
        index = None if depth is None else depth - 1 if layer is None else int(layer) % depth
        self._check_output(output)
        if output == "pooled" and not (norm and (depth is None or index == depth - 1)):
            raise ValueError(
                "output='pooled' is the model's own pooling, which needs the last layer and norm=True. "
                f"Got layer={layer}, norm={norm}: choose output='mean' or 'cls'."
            )
        if index is not None and not (norm and index == depth - 1):  # type: ignore[operator]
            self._check_block(output, index, norm)
        return index

    def _check_output(self, output: Output) -> None:
        """Raise a ValueError if the model does not return this output."""
        lacking = self.layout.lacking.get("pooled" if output == "pooled" else "tokens")
        others = [other for other in self.layout.widths if other != output]
        if lacking is not None:
            raise ValueError(
                f"output={output!r} of {self.name}, a {type(self.module).__name__}, cannot be had: {lacking}. Choose "
                f"output={' or '.join(repr(other) for other in others)}."
            )
        if output == "cls" and not self.has_cls_token:
            raise ValueError(f"{self.name} has no class token: choose output='tokens', 'mean' or 'pooled'.")

    def _check_block(self, output: Output, index: int, norm: bool) -> None:
        """Raise a ValueError if the model does not return this output of a block; found by one more pass over images.

        It is made once for each block and `norm`.
        """
        checked: dict[tuple[int, bool], str | None] = self._checked_blocks  # type: ignore[attr-defined]
        if (index, norm) not in checked:
            checked[index, norm] = self._fault_of_block(index, norm)
        fault = checked[index, norm]
        if fault is not None:
            raise ValueError(
                f"layer={index}, norm={norm} of {self.name}, a {type(self.module).__name__}, cannot be had: {fault}. "
                "Choose layer=None, norm=True."
            )
        if output == "cls" and not self.layout.prefix_in_blocks:
            raise ValueError(
                f"{self.name}, a {type(self.module).__name__}, gives the class token of its last layer only. Choose "
                "layer=None, norm=True, or output='tokens' or 'mean'."
            )

    def _fault_of_block(self, index: int, norm: bool) -> str | None:
        images = probing_images(*self.data_config["input_size"]).to(self.device)
        request = Request("tokens", index, norm)
        try:
            with torch.inference_mode():
                _, parts = self._blocks(images, [request], with_final=False)
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # of any model's own code
            return f"forward_intermediates fails: {one_line(error)}"
        return check_block(self.layout, *parts[index, norm])

    def extract(
        self, images: Tensor, requests: Sequence[Request], precision: str, compiled: bool = False
    ) -> list[Tensor]:
        """Run a batch once, for one or several outputs.

        Parameters
        ----------
        images : Tensor
            Pixels uint8 (n, H, W, 3), or what `preprocess` returns, float32 (n, 3, H, W).
        requests : sequence of Request
        precision : {"float32", "bfloat16", "float16", "int8"}
        compiled : bool
            Run it by `torch.compile`, which compiles once for each number of images.

        Returns
        -------
        list of Tensor
            On the backbone's device, float32: tokens (n, N, C), or one vector an image (n, C). What a request gets
            does not depend on the others.
        """
        if (variant := low_precision(self, precision)) is not self:
            return variant.extract(images, requests, rest_precision(self, precision), compiled)
        forward = self._compile(tuple(requests)) if compiled else self._forward
        with torch.inference_mode():
            images = images.to(self.device, non_blocking=True)
            if images.dtype == torch.uint8:
                images = self.preprocessing.normalise(images)
            with self._precision(precision):
                return [features.float() for features in forward(images, tuple(requests))]

    def _compile(self, requests: tuple[Request, ...]) -> Callable[..., list[Tensor]]:
        compiled: dict[tuple[Request, ...], Any] = self._compiled  # type: ignore[attr-defined]
        if requests not in compiled:
            compiled[requests] = torch.compile(self._forward, dynamic=False)
        return compiled[requests]  # type: ignore[no-any-return]

    def resolve_precision(self, precision: str) -> str:
        """What ``"auto"`` is on this device."""
        auto = "bfloat16" if self.device.type == "cuda" else "float32"
        return auto if precision == "auto" else precision

    def precision_key(self, precision: str, *, compiled: bool) -> str:
        """What of the forward pass changes the last bits, for a store's key."""
        precision = low_precision_key(self, self.resolve_precision(precision))
        return " ".join([precision, *["channels_last"] * is_convolutional(self.module), *["compiled"] * compiled])

    def _precision(self, precision: str) -> contextlib.AbstractContextManager[Any]:
        if precision in AUTOCAST:
            return torch.autocast(self.device.type, dtype=AUTOCAST[precision])
        # cuDNN runs float32 convolutions (the patch embedding) in TF32 by default: not what float32 says.
        return torch.backends.cudnn.flags(allow_tf32=False)

    def _forward(self, images: Tensor, requests: Sequence[Request]) -> list[Tensor]:
        model: Any = self.module
        blocks: dict[Any, tuple[Tensor, Tensor]] = {}
        inner = [request for request in requests if not self._is_final(request)]
        if not inner:
            final = model.forward_features(images)
        else:
            final, blocks = self._blocks(images, inner, with_final=len(inner) < len(requests))
        features = []
        for request in requests:
            if self._is_final(request):
                if request.output == "pooled":
                    features.append(model.forward_head(final, pre_logits=True))
                    continue
                prefix, tokens = self.layout.split(final)
            else:
                prefix, tokens = blocks[request.layer, request.norm]
            features.append(_output(request.output, prefix, tokens))
        return features

    def _is_final(self, request: Request) -> bool:
        """Whether it is of what `forward_features` returns."""
        return self.n_layers is None or (request.layer == self.n_layers - 1 and request.norm)

    def _blocks(self, images: Tensor, requests: Sequence[Request], *, with_final: bool) -> tuple[Any, dict[Any, Any]]:
        """What timm's `forward_features` returns, if wanted, and prefix and patch tokens by layer and norm."""
        model: Any = self.module
        layers = sorted({request.layer for request in requests if request.layer is not None})
        normed = all(request.norm for request in requests)
        result = model.forward_intermediates(
            images,
            indices=layers,
            norm=normed,
            stop_early=not with_final,
            output_fmt="NLC",
            intermediates_only=not with_final,
            **({"return_prefix_tokens": True} if self.layout.n_prefix and self.layout.prefix_in_blocks else {}),
        )
        final, found = result if with_final else (None, result)
        parts = {}
        for layer, block in zip(layers, found, strict=True):
            tokens, prefix = block if isinstance(block, tuple) else (block, block[:, :0])
            parts[layer, normed] = prefix, tokens
            if not normed and (layer, True) in {request[1:] for request in requests}:
                whole = model.norm(torch.cat([prefix, tokens], 1))
                parts[layer, True] = whole[:, : prefix.shape[1]], whole[:, prefix.shape[1] :]
        return final, parts


def _output(output: Output, prefix: Tensor, tokens: Tensor) -> Tensor:
    if output == "cls":
        return prefix[:, 0]
    return tokens.mean(1) if output == "mean" else tokens


def load_backbone(model: str, image_size: ImageSize, device: str, weights: str = "dense") -> Backbone:
    """Load a backbone, or return the one this process has loaded already.

    Parameters
    ----------
    model : str
        As in `FrozenFeatureExtractor`.
    image_size : int, (int, int) or None
        Height and width in pixels; None for the checkpoint's own.
    device : str
        ``"auto"`` or a torch device.
    weights : {"dense", "2:4"}, default="dense"

    Raises
    ------
    ModelNotFoundError
        If the weights are not to be had.
    ValueError
        If the model cannot take this image size, or this machine does not have the device.
    """
    name = timm_name(model)
    return _load(model, name, _fingerprint(name), _height_width(image_size), str(resolve_device(device)), weights)


@lru_cache(maxsize=4)
def _load(
    model: str, name: str, fingerprint: tuple[int, ...], size: tuple[int, int] | None, device: str, weights: str
) -> Backbone:
    del fingerprint  # only part of the key: a folder whose files changed is loaded again
    module: Any = create_module(model, name)
    from timm.data import resolve_data_config  # whose import takes seconds, which an unknown name need not wait for

    if weights == "2:4":
        prune_2_4(model, module)
    digest = weights_digest(module)  # before position embeddings are resized: the checkpoint's, at every image size
    if size is not None and hasattr(module, "set_input_size"):
        try:
            module.set_input_size(img_size=size)
        except Exception as error:  # torch's and timm's own, from deep inside
            raise ValueError(f"{model} cannot take images of size {size[0]}x{size[1]}: {one_line(error)}.") from error
    own: dict[str, Any] = resolve_data_config({}, model=module)
    _check_size(model, module, size, own["input_size"][1:])
    config: dict[str, Any] = own if size is None else own | {"input_size": (own["input_size"][0], *size)}
    _check_channels(model, config)
    module = module.eval().requires_grad_(False)
    architecture = architecture_digest(module)
    if is_convolutional(module):  # about twice as fast on a CPU, and what tensor cores take
        module = module.to(memory_format=torch.channels_last)
    device_ = torch.device(device)
    module = module.to(device_)
    layout = read_layout(model, module, tuple(config["input_size"]), device_)
    return Backbone(model, module, config, digest, architecture, device_, weights, layout)


def _check_size(model: str, module: nn.Module, size: tuple[int, int] | None, own: Sequence[int]) -> None:
    """Raise a ValueError if an image size that is not the checkpoint's own would cut patches through."""
    patch = patch_size(module)
    if size is None or patch is None or size == tuple(own):
        return
    if any(side % step for side, step in zip(size, patch, strict=True)):
        fitting = [max(side // step, 1) * step for side, step in zip(size, patch, strict=True)]
        raise ValueError(
            f"{model} has patches of {patch[0]}x{patch[1]} pixels: image_size must be a multiple, such as "
            f"{fitting[0]}x{fitting[1]}. Got {size[0]}x{size[1]}."
        )


def _check_channels(model: str, config: dict[str, Any]) -> None:
    """Raise a ValueError if images of this configuration are neither RGB nor grey; of grey ones, mean and std are one.

    Parameters
    ----------
    config : dict
        Changed in place.
    """
    channels = config["input_size"][0]
    if channels not in (1, 3):
        raise ValueError(
            f"{model} takes images of {channels} channels: images are RGB, or grey for a model of 1 channel. Choose a "
            "model of 1 or 3 channels."
        )
    for name in ("mean", "std"):
        config[name] = per_channel(config[name], channels, f"{model}: {name}")


def is_convolutional(module: nn.Module) -> bool:
    """Whether a model is convolutional in the main, and so runs with its channels last in memory."""
    return any(isinstance(part, nn.BatchNorm2d) for part in module.modules()) and not hasattr(
        module, "num_prefix_tokens"
    )


def _height_width(image_size: ImageSize) -> tuple[int, int] | None:
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, Integral) else tuple(image_size)  # type: ignore[arg-type]
    if len(pair) != 2 or not all(isinstance(side, Integral) and side >= 1 for side in pair):
        raise ValueError(f"image_size must be a positive int, a pair of them, (height, width), or None. Got {pair!r}.")
    return int(pair[0]), int(pair[1])


def _fingerprint(name: str) -> tuple[int, ...]:
    if not name.startswith(FOLDERS):
        return ()
    files = sorted(Path(name.partition(":")[2]).iterdir())
    return tuple(number for file in files for number in (file.stat().st_mtime_ns, file.stat().st_size))


def config_json(backbone: Backbone) -> str:
    """Preprocessing as canonical JSON, for a store's key."""
    return json.dumps(backbone.data_config, sort_keys=True)
