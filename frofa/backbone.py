"""Pretrained backbones, loaded once a process: the one place that decides device, precision and mode."""

import contextlib
import difflib
import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from PIL import Image
from torch import Tensor, nn

from frofa._embedded import PREFIX, embedded_models
from frofa.estimators._device import resolve_device
from frofa.exceptions import ModelNotFoundError

Output: TypeAlias = Literal["tokens", "cls", "mean", "pooled"]
ImageSize: TypeAlias = "int | tuple[int, int] | None"
AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


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
    """

    name: str
    module: nn.Module
    data_config: dict[str, Any]
    weights_digest: str
    architecture_digest: str
    device: torch.device

    def __post_init__(self) -> None:
        from timm.data import create_transform

        object.__setattr__(self, "_transform", create_transform(**self.data_config, is_training=False))

    def preprocess(self, image: Image.Image) -> Tensor:
        """RGB image to a float32 tensor (3, H, W), by the checkpoint's own transform."""
        pixels: Tensor = self._transform(image)  # type: ignore[attr-defined]
        return pixels

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

    def extract(self, images: Tensor, output: Output, layer: int | None, norm: bool, precision: str) -> Tensor:
        """Run a batch (n, 3, H, W).

        `layer` is as `resolve_layer` returned it. Returns float32 on the CPU: tokens (n, N, C), or one vector (n, C).
        """
        with torch.inference_mode(), self._precision(precision):
            features = self._forward(images.to(self.device, non_blocking=True), output, layer, norm)
        return features.float().cpu()

    def _precision(self, precision: str) -> contextlib.AbstractContextManager[Any]:
        if precision in AUTOCAST:
            return torch.autocast(self.device.type, dtype=AUTOCAST[precision])
        # cuDNN runs float32 convolutions (the patch embedding) in TF32 by default: not what float32 says.
        return torch.backends.cudnn.flags(allow_tf32=False)

    def _forward(self, images: Tensor, output: Output, layer: int | None, norm: bool) -> Tensor:
        model: Any = self.module
        depth = self.n_layers
        if depth is None or (layer == depth - 1 and norm):
            features: Tensor = model.forward_features(images)
            if output == "pooled":
                pooled: Tensor = model.forward_head(features, pre_logits=True)
                return pooled
            if features.ndim == 4:  # a grid: convolutional and windowed models
                channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
                tokens = features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
                prefix = tokens[:, :0]
            else:
                prefix = features[:, : getattr(model, "num_prefix_tokens", 0)]
                tokens = features[:, prefix.shape[1] :]
        else:
            [intermediate] = model.forward_intermediates(
                images,
                indices=[layer],
                norm=norm,
                return_prefix_tokens=True,
                stop_early=True,
                output_fmt="NLC",
                intermediates_only=True,
            )
            tokens, prefix = intermediate if isinstance(intermediate, tuple) else (intermediate, intermediate[:, :0])
        return {"tokens": tokens, "cls": prefix[:, 0] if prefix.shape[1] else tokens[:, 0], "mean": tokens.mean(1)}[
            output
        ]


def load_backbone(model: str, image_size: ImageSize, device: str) -> Backbone:
    """Load a backbone, or return the one this process has loaded already.

    Parameters
    ----------
    model : str
        As in `FrozenFeatureExtractor`.
    image_size : int, (int, int) or None
        Height and width in pixels; None for the checkpoint's own.
    device : str
        ``"auto"`` or a torch device.

    Raises
    ------
    ModelNotFoundError
        If the weights are not to be had.
    ValueError
        If the model cannot take this image size, or this machine does not have the device.
    """
    name = _timm_name(model)
    return _load(model, name, _fingerprint(name), _height_width(image_size), str(resolve_device(device)))


@lru_cache(maxsize=4)
def _load(model: str, name: str, fingerprint: tuple[int, ...], size: tuple[int, int] | None, device: str) -> Backbone:
    del fingerprint  # only part of the key: a folder whose files changed is loaded again
    import timm
    from timm.data import resolve_data_config

    try:
        with torch.random.fork_rng(devices=[]):  # timm draws initial weights before it loads the pretrained ones
            module: Any = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm, the hub's client and safetensors raise a dozen types
        raise ModelNotFoundError(_not_found(model, error)) from error
    weights = weights_digest(module)  # before position embeddings are resized: the checkpoint's, at every image size
    if size is not None and hasattr(module, "set_input_size"):
        try:
            module.set_input_size(img_size=size)
        except Exception as error:  # torch's and timm's own, from deep inside
            raise ValueError(f"{model} cannot take images of size {size[0]}x{size[1]}: {error}") from error
    arguments = {} if size is None else {"input_size": (3, *size)}
    config: dict[str, Any] = resolve_data_config(arguments, model=module)
    module = module.eval().requires_grad_(False)
    device_ = torch.device(device)
    return Backbone(model, module.to(device_), config, weights, architecture_digest(module), device_)


def weights_digest(module: nn.Module) -> str:
    """Digest of a module's parameters and buffers: the same on every machine and with every version of timm."""
    digest = blake2b(digest_size=20, person=b"frofa-weights")
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def architecture_digest(module: nn.Module) -> str:
    """Digest of what computes with the weights: a module's parts and their plain settings (heads, eps, ...).

    Another version of timm or torch may give another digest for the same computation: then features are extracted
    again, which is safe.
    """
    digest = blake2b(digest_size=20, person=b"frofa-module")
    digest.update(re.sub(r" at 0x[0-9a-f]+", "", repr(module)).encode())
    for name, part in module.named_modules():
        for key, value in sorted(vars(part).items()):
            if isinstance(value, (int, float, str)) and key not in ("training", "fused_attn"):
                digest.update(f"{name}.{key}={value!r};".encode())
    return digest.hexdigest()


def _height_width(image_size: ImageSize) -> tuple[int, int] | None:
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, Integral) else tuple(image_size)  # type: ignore[arg-type]
    if len(pair) != 2 or not all(isinstance(side, Integral) and side >= 1 for side in pair):
        raise ValueError(f"image_size must be a positive int, a pair of them, (height, width), or None. Got {pair!r}.")
    return int(pair[0]), int(pair[1])


def _timm_name(model: str) -> str:
    if not isinstance(model, str):
        raise TypeError(f"model must be a name, 'hf-hub:NAME' or 'local-dir:PATH'. Got {type(model).__name__}.")
    if model.startswith(PREFIX):
        for embedded in embedded_models():
            if embedded.name == model:
                return f"local-dir:{embedded.folder}"
        raise ModelNotFoundError(_not_found(model, f"no embedded model is called {model!r}"))
    if model.startswith("local-dir:"):
        folder = Path(model.removeprefix("local-dir:")).expanduser()
        missing = [file for file in ("config.json",) if not (folder / file).is_file()]
        if missing:
            raise ModelNotFoundError(_not_found(model, f"{folder} has no {' and no '.join(missing)}"))
        return f"local-dir:{folder}"
    if os.sep in model and Path(model).expanduser().is_dir():
        raise ModelNotFoundError(f"the backbone {model!r} is a folder: write 'local-dir:{model}'.")
    return model


def _fingerprint(name: str) -> tuple[int, ...]:
    if not name.startswith("local-dir:"):
        return ()
    files = sorted(Path(name.removeprefix("local-dir:")).iterdir())
    return tuple(number for file in files for number in (file.stat().st_mtime_ns, file.stat().st_size))


def _not_found(model: str, reason: object) -> str:
    import timm

    what = " ".join(str(reason).split()).rstrip(".")
    lines = [f"the backbone {model!r} could not be loaded: {what}."]
    bare = model.removeprefix("hf-hub:").removeprefix("timm/")
    close = difflib.get_close_matches(bare, timm.list_models(pretrained=True), n=3)
    if ":" not in model and close and bare not in close:
        lines.append(f"Close timm names: {', '.join(close)}.")
    lines.append(
        f"These work without a network: {', '.join(m.name for m in embedded_models())} (shipped with frofa), and "
        "'local-dir:PATH' for a folder with config.json and model.safetensors, as timm.models.save_for_hf writes it."
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
