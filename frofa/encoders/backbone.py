"""A custom encoder in the place of a backbone."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frofa.backbones.backbone import Backbone
from frofa.backbones.outputs import Output, Request
from frofa.backbones.preprocessing import Preprocessing
from frofa.compute.memory import is_out_of_memory
from frofa.encoders.protocol import Encoder, canonical, describe
from frofa.encoders.samples import is_array
from frofa.exceptions import EncoderCallError, EncoderError

BATCH_SIZE = 64
"""Items of a batch where neither the user nor the encoder says how many: the default of backbones, too."""


class CustomBackbone(Backbone):
    """A checked encoder, as a run sees a backbone."""

    is_custom = True
    unit = "item"
    decoder = "none"

    def __init__(self, encoder: Encoder):
        spec: Any = encoder.spec
        name = describe(encoder)
        module = encoder if isinstance(encoder, nn.Module) else getattr(encoder, "module", None)
        # A digest of the spec takes the place of that of the weights.
        digest = blake2b(canonical(spec, name).encode(), digest_size=20, person=b"frofa-encoder").hexdigest()
        super().__init__(
            name,
            module if isinstance(module, nn.Module) else nn.Identity(),
            {"encoder": spec if isinstance(spec, str) else dict(spec)},
            digest,
            "encoder",
            torch.device(getattr(encoder, "device", "cpu")),
            Preprocessing(self._prepare),  # items are prepared whole, in threads
        )
        self.encoder = encoder

    def _prepare(self, sample: Any) -> Tensor:
        """Read one item, and preprocess it as the encoder does."""
        item = sample.read()
        preprocess = getattr(self.encoder, "preprocess", None)
        value = item if preprocess is None else preprocess(item)
        if isinstance(value, Tensor):
            return value.detach().cpu()
        what = "load returned" if preprocess is None else "preprocess returned"
        if not is_array(value) and not isinstance(value, (list, tuple, float, int)):
            raise EncoderError(f"{what} {type(value).__name__}, expected an array")
        array = np.asarray(value)
        if array.dtype.kind not in "biufc":
            raise EncoderError(f"{what} an array of {array.dtype}, expected numbers")
        # PyTorch takes no foreign byte order, and warns of memory that cannot be written to.
        array = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
        try:
            return torch.from_numpy(array)
        except TypeError as error:
            raise EncoderError(f"arrays of {array.dtype} cannot be encoded: {error}") from error

    def most_at_once(self, batch_size: "int | str") -> "int | str":
        """Take what the user says, and no more than the encoder takes."""
        most = getattr(self.encoder, "batch_size", None)
        wanted = (most or BATCH_SIZE) if batch_size == "auto" else int(batch_size)
        return wanted if most is None else min(wanted, int(most))

    def resolve_layer(self, output: Output, layer: int | None, norm: bool) -> None:
        """Return None: encoders have no layers to choose from."""

    def resolve_precision(self, precision: str) -> str:
        """Leave the precision to the encoder."""
        return precision

    def precision_key(self, precision: str, *, compiled: bool) -> str:
        """Leave the precision to the encoder, whose spec says it."""
        del precision, compiled
        return "encoder"

    def extract(
        self, images: Tensor, requests: Sequence[Request], precision: str, compiled: bool = False
    ) -> list[Tensor]:
        """Run a batch; features are the same for every request.

        What the encoder raises becomes an EncoderCallError, unless memory ran out; an EncoderError says that what it
        returns is no array of features, (n, C) or (n, N, C).
        """
        del precision, compiled
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            # An encoder with a device takes a tensor (n, ...) there, any other an array.
            batch: Any = images if hasattr(self.encoder, "device") else images.numpy()
            try:
                features = self.encoder(batch)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                shape = f"{str(images.dtype).removeprefix('torch.')}, shape {tuple(images.shape)}"
                raise EncoderCallError(
                    f"{self.name} raised {type(error).__name__} for a batch ({shape}): {error}"
                ) from error
            return [self._checked(features, len(images))] * len(requests)

    def _checked(self, found: Any, n: int) -> Tensor:
        """Features of n items as a tensor (n, C) or (n, N, C) of float32 or float64; an error if they are no such."""
        expected = f"{self.name}: expected features of shape ({n}, C) or ({n}, N, C) for a batch of {n}"
        if isinstance(found, Tensor):
            features = found
        elif not is_array(found) and not isinstance(found, (list, tuple)):
            raise EncoderError(f"{expected}. Got {type(found).__name__}.")
        else:
            try:
                array = np.asarray(found)
            except ValueError as error:  # ragged
                raise EncoderError(f"{expected}. Got what is no array: {error}") from error
            if array.dtype.kind not in "biuf":
                raise EncoderError(f"{expected}, of real numbers. Got {array.dtype}, shape {array.shape}.")
            # Integers and Booleans stay exact in float64; halves become float32.
            wide = array.dtype.kind != "f" or array.itemsize > 4
            features = torch.from_numpy(array.astype(np.float64 if wide else np.float32))
        if features.ndim not in (2, 3) or len(features) != n or 0 in features.shape:
            raise EncoderError(f"{expected}. Got shape {tuple(features.shape)}.")
        if features.is_complex():
            raise EncoderError(f"{expected}, of real numbers. Got {features.dtype}.")
        # A copy: encoders may fill the same memory again at the next call.
        return features.to(torch.float64 if features.dtype == torch.float64 else torch.float32, copy=True)

    def faults(self, features: Any) -> dict[int, str]:
        """Find rows with NaN."""
        wrong = torch.isnan(torch.as_tensor(features[0])).flatten(1)
        counts = wrong.sum(1)
        return {
            int(row): f"{int(counts[row])} of its {wrong.shape[1]} features are NaN"
            for row in torch.nonzero(counts).flatten()
        }
