"""The user's own encoders: the protocol, ready-made wrappers, registered names.

Names are loaded at first use: which encoders are registered is found out without the seconds that PyTorch takes.
"""

from typing import TYPE_CHECKING, Any

import frofa

if TYPE_CHECKING:
    from frofa.encoders.onnx import OnnxEncoder
    from frofa.encoders.protocol import Encoder
    from frofa.encoders.ready import FunctionEncoder, TorchEncoder

__all__ = ["Encoder", "FunctionEncoder", "OnnxEncoder", "TorchEncoder"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(frofa, name)
    raise AttributeError(f"module 'frofa.encoders' has no attribute {name!r}")
