"""The user's own encoders: the protocol, ready-made wrappers, registered names.

Names are loaded at first use: which encoders are registered is found out without the seconds that PyTorch takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frofa.encoders.onnx import OnnxEncoder
    from frofa.encoders.protocol import Encoder, canonical
    from frofa.encoders.ready import FunctionEncoder, ReadyEncoder, TorchEncoder

_HOME = {
    "Encoder": "protocol",
    "FunctionEncoder": "ready",
    "OnnxEncoder": "onnx",
    "ReadyEncoder": "ready",
    "TorchEncoder": "ready",
    "canonical": "protocol",
}
__all__ = ["Encoder", "FunctionEncoder", "OnnxEncoder", "ReadyEncoder", "TorchEncoder", "canonical"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"frofa.encoders.{_HOME[name]}"), name)
    raise AttributeError(f"module 'frofa.encoders' has no attribute {name!r}")
