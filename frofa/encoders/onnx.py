"""An ONNX model as an encoder."""

import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frofa.encoders.protocol import Array, Spec
from frofa.encoders.ready import ReadyEncoder
from frofa.exceptions import EncoderError, ModelNotFoundError
from frofa.utils.files import expand_home
from frofa.utils.optional import require

FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
EXTERNAL = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")
"""Found in a model's bytes before the length and name of a file of weights that lies beside the model."""
CPU = ("CPUExecutionProvider",)


class OnnxEncoder(ReadyEncoder):
    """An ONNX model as an encoder, run by ONNX Runtime; needs the extra ``onnx``.

    Pickles carry the path, not the model.

    Parameters
    ----------
    path : path
        The model, with one input (n, ...). A model for exactly k items is given k at a time, the last ones filled up.
    output : str, default=None
        Name of the output that is the features, (n, C) or (n, N, C); None for the first.
    preprocess : callable, default=None
        From one item to an array; items of equal shape are stacked. Needs `spec`.
    load : callable, default=None
        From a path to an item. Needs `spec`.
    spec : str or dict, default=None
        Name and version of `preprocess` and `load`. The digest of the model's files is always part of the encoder's
        identity.
    providers : sequence of str, default=("CPUExecutionProvider",)
        ONNX Runtime's execution providers, in order of preference; part of the identity, since their results differ.
    batch_size : int, default=None
        The most items of a batch; None for any number.

    Raises
    ------
    ImportError
        At first use, if ONNX Runtime is not installed.
    ModelNotFoundError
        If the file cannot be read, or ONNX Runtime cannot run it.
    EncoderError
        If the model has several inputs, or no such output.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        output: str | None = None,
        preprocess: Callable[[Any], Any] | None = None,
        load: Callable[[str], Any] | None = None,
        spec: Spec | None = None,
        providers: Sequence[str] = CPU,
        batch_size: int | None = None,
    ):
        super().__init__(spec, preprocess, load, batch_size)
        self.path, self.output, self.providers = expand_home(path), output, tuple(providers)

    @property
    def spec(self) -> dict[str, Any]:
        """Digest of the model's files, output and providers, and the user's own spec."""
        return {"onnx": self._digest, "output": self.output, "providers": list(self.providers), "spec": self._own_spec}

    @property
    def batch_size(self) -> int | None:
        """The most items that the model or the user allows at a time."""
        return min((most for most in (self._fixed, self._batch_size) if most is not None), default=None)

    def __call__(self, batch: Array) -> Array:
        """Compute the features of a batch."""
        session = self._session
        [needed] = session.get_inputs()
        n, fixed, dtype = len(batch), self._fixed, FLOATS.get(needed.type)
        # Floating-point batches take the type of the model's input; integers are left to ONNX Runtime to refuse.
        if dtype is not None and batch.dtype.kind == "f":
            batch = batch.astype(dtype, copy=False)
        # The last item again, up to the number that the model takes; these rows are cut off below.
        if fixed is not None and n < fixed:
            batch = np.concatenate([batch, np.repeat(batch[-1:], fixed - n, axis=0)])
        try:
            [features] = session.run([self.output or session.get_outputs()[0].name], {needed.name: batch})
        except Exception as error:
            if "allocate memory" in str(error) or "bad allocation" in str(error):
                raise MemoryError(str(error)) from error
            raise
        result: Array = features
        return result[:n] if fixed is not None else result

    @cached_property
    def _digest(self) -> str:
        hasher = blake2b(digest_size=20, person=b"frofa-onnx")
        try:
            model = Path(self.path).read_bytes()
            # Large models keep weights in files beside them: names and sizes separate their bytes.
            hasher.update(model)
            for name in sorted(set(_external_files(model))):
                beside = Path(self.path).parent / name
                if beside.is_file():  # else ONNX Runtime says so, if it is one
                    hasher.update(f";{name};{beside.stat().st_size};".encode())
                    _update(hasher, beside)
        except OSError as error:
            raise ModelNotFoundError(
                f"the ONNX model {self.path} cannot be read: {error.strerror or error}."
            ) from error
        return hasher.hexdigest()

    @cached_property
    def _session(self) -> Any:
        runtime = require("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        absent = sorted(set(self.providers) - set(runtime.get_available_providers()))
        if absent:
            available = ", ".join(runtime.get_available_providers())
            raise EncoderError(f"this ONNX Runtime has no {', '.join(absent)}. Available: {available}.")
        self._digest  # noqa: B018 (of the file before it is run)
        try:
            session = runtime.InferenceSession(self.path, options, providers=list(self.providers))
        except Exception as error:  # ONNX Runtime's own, of a dozen types
            raise ModelNotFoundError(f"ONNX Runtime cannot run {self.path}: {error}") from error
        inputs, outputs = ([value.name for value in values] for values in (session.get_inputs(), session.get_outputs()))
        if len(inputs) != 1:
            raise EncoderError(f"expected an ONNX model with one input. {self.path} has {len(inputs)}: {inputs}.")
        if self.output is not None and self.output not in outputs:
            raise EncoderError(f"{self.path} has the outputs {outputs}. Got output={self.output!r}.")
        return session

    @property
    def _fixed(self) -> int | None:
        """The number of items that the model takes; None for any."""
        shape = self._session.get_inputs()[0].shape
        return shape[0] if shape and isinstance(shape[0], int) else None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_session", "_digest")}

    def __repr__(self) -> str:
        return f"OnnxEncoder({self.path!r}, spec={self._own_spec!r})"


def _external_files(model: bytes) -> list[str]:
    """List names of files that hold weights of a model; possibly others, which then do not exist."""
    return [
        model[match.end() : match.end() + match[1][0]].decode(errors="replace") for match in EXTERNAL.finditer(model)
    ]


def _update(hasher: "blake2b", path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            hasher.update(chunk)
