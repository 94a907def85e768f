"""Pretrained backbones: the one place that decides device, precision and mode."""

import contextlib
import json
from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from frofa.backbones.layout import UNCHECKED, Layout, check_block, has_cls_token, probing_images
from frofa.backbones.outputs import WITHOUT_TOKENS, Output, Request, number_of_blocks, run_blocks, run_requests
from frofa.backbones.pooling import Pooling, read_pooling
from frofa.backbones.precision import Int8Linear, Sparsity, linear_layers, with_linear_layers
from frofa.backbones.preprocessing import Preprocessing
from frofa.images.reading import DECODER
from frofa.utils.text import one_line

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Backbone:
    """A timm model in eval mode on one device, with its own preprocessing.

    `name` is as the user gave it. `data_config` is what timm's `resolve_data_config` found for the checkpoint, and
    `preprocessing` the same in the parts that run at different places. The digests are of parameters and buffers, and
    of what computes with them. `sparsity` says how linear layers were pruned, `layout` how to read what the model
    returns.
    """

    is_custom = False  # whether it is the user's own encoder: frofa.encoders.backbone
    unit = "img"  # what a progress bar counts
    decoder = DECODER  # part of a store's key

    def __init__(
        self,
        name: str,
        module: nn.Module,
        data_config: dict[str, Any],
        weights_digest: str,
        architecture_digest: str,
        device: torch.device,
        preprocessing: Preprocessing,
        *,
        sparsity: Sparsity = None,
        layout: Layout = UNCHECKED,
    ):
        self.name, self.module, self.device = name, module, device
        self.weights_digest, self.architecture_digest = weights_digest, architecture_digest
        self.data_config, self.preprocessing = data_config, preprocessing
        self.sparsity, self.layout = sparsity, layout
        self._compiled: dict[tuple[Request, ...], Callable[..., list[Tensor]]] = {}
        self._block_faults: dict[tuple[int, bool], str | None] = {}
        self._in_int8: Backbone | None = None

    @property
    def preprocessing_key(self) -> str:
        """Preprocessing as canonical JSON, for a store's key."""
        return json.dumps(self.data_config, sort_keys=True)

    def preprocess(self, image: Image.Image) -> Tensor:
        """Turn an RGB image into a float32 tensor (3, H, W), by the checkpoint's own transform."""
        return self.preprocessing.whole(image)

    def most_at_once(self, batch_size: int | str) -> int | str:
        """Return the batch size that a run gets where the user asks for this one."""
        return batch_size

    def faults(self, features: Any) -> dict[int, str]:
        """Say by row what is wrong with the features of a batch; only those of custom encoders are looked through."""
        del features
        return {}

    @property
    def has_cls_token(self) -> bool:
        """Whether the model has a class token, and returns it."""
        return self.layout.n_prefix > 0 and has_cls_token(self.module)

    @cached_property
    def pooling(self) -> Pooling:
        """The kind of the pooled vector; a pass over two images finds it out when it is first asked for."""
        return read_pooling(self.module, self.layout, self._probing_images())

    def width(self, output: Output) -> int:
        """Channels of an output."""
        return self.layout.widths[output if output in WITHOUT_TOKENS else "tokens"]

    def resolve_layer(self, output: Output, layer: int | None, norm: bool) -> int | None:
        """Check that the model has this output; return the layer's index, or None for the end of any other model.

        A ValueError says which layers and outputs there are.
        """
        # The depth is None for models without one sequence of blocks: these have one output, at their end.
        depth = number_of_blocks(self.module)
        if depth is None and (not norm or layer is not None):
            raise ValueError(
                f"layer={layer!r}, norm={norm!r} need a vision transformer with blocks; {self.name} is a "
                f"{type(self.module).__name__}, which has layer=None, norm=True only."
            )
        if depth is not None and layer is not None and not -depth <= layer < depth:
            raise ValueError(f"{self.name} has layers {-depth} to {depth - 1}. Got layer={layer}.")
        # Negative layers count from the last; the index in a store's key does not.
        index = None if depth is None else depth - 1 if layer is None else int(layer) % depth
        self._check_output(output)
        # Inner layers are not pooled: a model's own pooling was trained on what its last norm gives.
        is_final = depth is None or (norm and index == depth - 1)
        if output in WITHOUT_TOKENS and not is_final:
            raise ValueError(
                f"output={output!r} is the model's own pooling, which needs the last layer and norm=True. "
                f"Got layer={layer}, norm={norm}: choose output='mean' or 'cls'."
            )
        if index is not None and not is_final:
            self._check_block(output, index, norm)
        return index

    def _check_output(self, output: Output) -> None:
        """Raise a ValueError if the model does not return this output."""
        # All outputs but these are made of tokens: the layout may name a fault of each kind.
        lacking = self.layout.lacking.get(output if output in WITHOUT_TOKENS else "tokens")
        if lacking is not None:
            others = " or ".join(repr(other) for other in self.layout.widths if other != output)
            raise ValueError(
                f"output={output!r} of {self.name}, a {type(self.module).__name__}, cannot be had: {lacking}. Choose "
                f"output={others}."
            )
        if output == "cls" and not self.has_cls_token:
            raise ValueError(f"{self.name} has no class token: choose output='tokens', 'mean' or 'pooled'.")

    def _check_block(self, output: Output, index: int, norm: bool) -> None:
        """Raise a ValueError if the model does not return this output of a block; found by one pass for each block."""
        # The norm alone may be at fault: with it and without it are tried apart.
        if (index, norm) not in self._block_faults:
            self._block_faults[index, norm] = self._fault_of_block(index, norm)
        fault = self._block_faults[index, norm]
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
        images = self._probing_images()
        request = Request("tokens", index, norm)
        try:
            with torch.inference_mode():
                _, tokens = run_blocks(self.module, self.layout, images, [request], with_final=False)
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # of any model's own code
            return f"forward_intermediates fails: {one_line(error)}"
        return check_block(self.layout, *tokens[index, norm])

    def _probing_images(self) -> Tensor:
        return probing_images(*self.data_config["input_size"]).to(self.device)

    def extract(
        self, images: Tensor, requests: Sequence[Request], precision: str, compiled: bool = False
    ) -> list[Tensor]:
        """Run a batch once, for one or several outputs.

        `images` are pixels uint8 (n, H, W, 3), or what `preprocess` returns, float32 (n, 3, H, W). What a request gets
        does not depend on the others: float32 on the backbone's device, tokens (n, N, C) or one vector an image (n, C).
        With `compiled`, it runs by `torch.compile`, which compiles once for each number of images.
        """
        if precision == "int8":
            return self._int8_variant().extract(images, requests, self.resolve_precision("auto"), compiled)
        # A compiled pass is kept for each set of requests, since these decide what is traced.
        forward = self._compile(tuple(requests)) if compiled else self._forward
        with torch.inference_mode():
            images = images.to(self.device, non_blocking=True)
            # Bytes (n, H, W, 3) are a quarter to copy of what floats are; they become float32 (n, 3, H, W) here.
            if images.dtype == torch.uint8:
                images = self.preprocessing.normalise(images)
            # Outputs are float32 whatever the pass ran in; only a user's `dtype` makes them smaller.
            with self._autocast(precision):
                return [features.float() for features in forward(images, tuple(requests))]

    def _forward(self, images: Tensor, requests: Sequence[Request]) -> list[Tensor]:
        return run_requests(self.module, self.layout, images, requests)

    def _compile(self, requests: tuple[Request, ...]) -> Callable[..., list[Tensor]]:
        if requests not in self._compiled:
            self._compiled[requests] = torch.compile(self._forward, dynamic=False)
        return self._compiled[requests]

    def resolve_precision(self, precision: str) -> str:
        """Return what ``"auto"`` is on this device; other precisions are themselves."""
        auto = "bfloat16" if self.device.type == "cuda" else "float32"
        return auto if precision == "auto" else precision

    def precision_key(self, precision: str, *, compiled: bool) -> str:
        """Say what of the forward pass changes the last bits, for a store's key.

        Int8 is a ValueError if the model has no layers that could run in it, or is on a GPU.
        """
        precision = self.resolve_precision(precision)
        if precision == "int8":
            self._check_int8()
            precision = f"int8 {self.resolve_precision('auto')}"  # and that of the other layers
        return " ".join([precision, *["channels_last"] * is_convolutional(self.module), *["compiled"] * compiled])

    def _autocast(self, precision: str) -> contextlib.AbstractContextManager[Any]:
        if precision in HALVES:
            return torch.autocast(self.device.type, dtype=HALVES[precision])
        # cuDNN runs float32 convolutions (the patch embedding) in TF32 by default: not what float32 says.
        return torch.backends.cudnn.flags(allow_tf32=False)

    def _check_int8(self) -> None:
        if self.device.type != "cpu":
            raise ValueError(
                f"precision='int8' is for CPUs: GPUs are faster in bfloat16. Got it on device {str(self.device)!r}."
            )
        linear_layers(self.name, self.module, "precision='int8'")

    def _int8_variant(self) -> "Backbone":
        """Make, once, this backbone with linear layers in int8; its other layers run in what ``"auto"`` is."""
        if self._in_int8 is None:
            self._check_int8()
            self._in_int8 = self.with_linear_layers("precision='int8'", Int8Linear)
        return self._in_int8

    def with_linear_layers(self, what: str, make: Callable[[nn.Linear], nn.Module]) -> "Backbone":
        """Return a backbone with other linear layers in its blocks, which shares all other parameters with this one.

        An error of a model without such layers begins with `what`.
        """
        changed = copy(self)
        changed.module = with_linear_layers(self.name, self.module, what, make)
        # What was learnt of this one does not hold for other layers.
        changed._compiled, changed._block_faults, changed._in_int8 = {}, {}, None
        return changed


def is_convolutional(module: nn.Module) -> bool:
    """Whether a model is convolutional in the main, and so runs with its channels last in memory."""
    return any(isinstance(part, nn.BatchNorm2d) for part in module.modules()) and not hasattr(
        module, "num_prefix_tokens"
    )
