"""Pretrained backbones, loaded once a process: the one place that decides device, precision and mode."""

import contextlib
import difflib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from PIL import Image
from torch import Tensor, nn

from frofa._digests import architecture_digest, weights_digest
from frofa._embedded import PREFIX, embedded_models
from frofa._files import expand_home
from frofa._huggingface import HF_PREFIX, load_tower
from frofa._low_precision import low_precision, low_precision_key, prune_2_4, rest_precision
from frofa._preprocessing import Preprocessing, split
from frofa.estimators._device import resolve_device
from frofa.exceptions import ModelNotFoundError
from frofa.images import DECODER

Output: TypeAlias = Literal["tokens", "cls", "mean", "pooled"]
ImageSize: TypeAlias = "int | tuple[int, int] | None"
_FOLDERS = ("local-dir:", HF_PREFIX)
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
    """

    name: str
    module: nn.Module
    data_config: dict[str, Any]
    weights_digest: str
    architecture_digest: str
    device: torch.device
    weights: str = "dense"

    is_custom = False  # the user's own encoder: frofa._custom
    unit = "img"  # what a progress bar counts
    decoder = DECODER  # part of a store's key

    def __post_init__(self) -> None:
        from timm.data import create_transform

        transform = create_transform(**self.data_config, is_training=False)
        object.__setattr__(self, "_preprocessing", split(transform))
        object.__setattr__(self, "_compiled", {})
        object.__setattr__(self, "_variants", {})

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
        """Whether the model has a class token."""
        return getattr(self.module, "cls_token", None) is not None

    def width(self, output: Output) -> int:
        """Channels of an output."""
        channels: int = self.module.num_features  # type: ignore[assignment]
        # Some convolutional models widen features in their head, after pooling.
        return getattr(self.module, "head_hidden_size", channels) if output == "pooled" else channels

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
        if output == "cls" and not self.has_cls_token:
            raise ValueError(f"{self.name} has no class token: choose output='tokens', 'mean' or 'pooled'.")
        if output == "pooled" and not (norm and (depth is None or index == depth - 1)):
            raise ValueError(
                "output='pooled' is the model's own pooling, which needs the last layer and norm=True. "
                f"Got layer={layer}, norm={norm}: choose output='mean' or 'cls'."
            )
        return index

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
                prefix, tokens = self._final_parts(final)
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
            return_prefix_tokens=True,
            stop_early=not with_final,
            output_fmt="NLC",
            intermediates_only=not with_final,
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

    def _final_parts(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Prefix and patch tokens of what `forward_features` returns."""
        if features.ndim == 4:  # a grid: convolutional and windowed models
            channels_last = getattr(self.module, "output_fmt", "NCHW") == "NHWC"
            tokens = features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
            return tokens[:, :0], tokens
        n_prefix: int = getattr(self.module, "num_prefix_tokens", 0)
        return features[:, :n_prefix], features[:, n_prefix:]


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
    name = _timm_name(model)
    return _load(model, name, _fingerprint(name), _height_width(image_size), str(resolve_device(device)), weights)


@lru_cache(maxsize=4)
def _load(
    model: str, name: str, fingerprint: tuple[int, ...], size: tuple[int, int] | None, device: str, weights: str
) -> Backbone:
    del fingerprint  # only part of the key: a folder whose files changed is loaded again
    import timm
    from timm.data import resolve_data_config

    import frofa.soft_moe  # noqa: F401 (registers its models)

    try:
        with torch.random.fork_rng(devices=[]):  # timm draws initial weights before it loads the pretrained ones
            module: Any = (
                load_tower(Path(name.removeprefix(HF_PREFIX)))
                if name.startswith(HF_PREFIX)
                else timm.create_model(name, pretrained=True)
            )
    except Exception as error:  # timm, the hub's client and safetensors raise a dozen types
        raise ModelNotFoundError(_not_found(model, error)) from error
    if weights == "2:4":
        prune_2_4(model, module)
    digest = weights_digest(module)  # before position embeddings are resized: the checkpoint's, at every image size
    if size is not None and hasattr(module, "set_input_size"):
        try:
            module.set_input_size(img_size=size)
        except Exception as error:  # torch's and timm's own, from deep inside
            raise ValueError(f"{model} cannot take images of size {size[0]}x{size[1]}: {error}") from error
    arguments = {} if size is None else {"input_size": (3, *size)}
    config: dict[str, Any] = resolve_data_config(arguments, model=module)
    module = module.eval().requires_grad_(False)
    architecture = architecture_digest(module)
    if is_convolutional(module):  # about twice as fast on a CPU, and what tensor cores take
        module = module.to(memory_format=torch.channels_last)
    device_ = torch.device(device)
    return Backbone(model, module.to(device_), config, digest, architecture, device_, weights)


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


def _timm_name(model: str) -> str:
    if not isinstance(model, str):
        raise TypeError(
            f"model must be a name, 'hf-hub:NAME', 'hf-dir:PATH' or 'local-dir:PATH'. Got {type(model).__name__}."
        )
    if model.startswith(PREFIX):
        for embedded in embedded_models():
            if embedded.name == model:
                return f"local-dir:{embedded.folder}"
        raise ModelNotFoundError(_not_found(model, f"no embedded model is called {model!r}"))
    if model.startswith(_FOLDERS):
        kind, _, path = model.partition(":")
        folder = Path(expand_home(path))
        missing = [file for file in ("config.json",) if not (folder / file).is_file()]
        if missing:
            raise ModelNotFoundError(_not_found(model, f"{folder} has no {' and no '.join(missing)}"))
        return f"{kind}:{folder}"
    if os.sep in model and Path(expand_home(model)).is_dir():
        raise ModelNotFoundError(f"the backbone {model!r} is a folder: write 'local-dir:{model}'.")
    return model


def _fingerprint(name: str) -> tuple[int, ...]:
    if not name.startswith(_FOLDERS):
        return ()
    files = sorted(Path(name.partition(":")[2]).iterdir())
    return tuple(number for file in files for number in (file.stat().st_mtime_ns, file.stat().st_size))


def _not_found(model: str, reason: object) -> str:
    import timm

    what = " ".join(str(reason).split()).rstrip(".")
    lines = [f"the backbone {model!r} could not be loaded: {what}."]
    bare = model.removeprefix("hf-hub:").removeprefix("timm/")
    close = difflib.get_close_matches(bare, timm.list_models(pretrained=True), n=3)
    if ":" not in model and close and bare not in close:
        lines.append(f"Close timm names: {', '.join(close)}.")
    if "/" in model and ":" not in model and not model.startswith(PREFIX):
        lines.append("Also, no installed package registers an encoder of this name ('frofa models' lists those).")
    lines.append(
        f"These work without a network: {', '.join(m.name for m in embedded_models())} (shipped with frofa), and "
        "'local-dir:PATH' for a folder with config.json and model.safetensors, as timm.models.save_for_hf writes it, "
        "and 'hf-dir:PATH' for a Hugging Face folder of SigLIP, SigLIP 2 or PaliGemma."
    )
    offline = "is set" if os.environ.get("HF_HUB_OFFLINE") else "fails at once instead of retrying"
    lines.append(
        "Names of timm ('vit_base_patch16_siglip_224.webli') and 'hf-hub:OWNER/NAME' need the Hugging Face hub once, "
        f"or its cache on this machine (HF_HUB_OFFLINE=1 {offline})."
    )
    return " ".join(lines)


def config_json(backbone: Backbone) -> str:
    """Preprocessing as canonical JSON, for a store's key."""
    return json.dumps(backbone.data_config, sort_keys=True)
