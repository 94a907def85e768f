"""The user's own encoders: the protocol, ready-made wrappers, registered names.

Names are loaded at first use: who asks for registered names only does not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frofa.encoders.onnx import OnnxEncoder
    from frofa.encoders.ready import Encoder, FunctionEncoder, ReadyEncoder, TorchEncoder, canonical

__all__ = ["Encoder", "FunctionEncoder", "OnnxEncoder", "ReadyEncoder", "TorchEncoder", "canonical"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("frofa.encoders.onnx" if name == "OnnxEncoder" else "frofa.encoders.ready"), name)
    raise AttributeError(f"module 'frofa.encoders' has no attribute {name!r}")
