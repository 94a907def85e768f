"""The user's own encoders: the protocol, ready-made wrappers, registered names."""

from frofa.encoders.onnx import OnnxEncoder
from frofa.encoders.ready import Encoder, FunctionEncoder, TorchEncoder

__all__ = ["Encoder", "FunctionEncoder", "OnnxEncoder", "TorchEncoder"]
