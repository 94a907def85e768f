"""Digests of what a user's PyTorch module computes."""

from types import FunctionType
from typing import Any

import torch
from torch import nn

from frofa.compute.digests import architecture_digest, digest
from frofa.exceptions import CheckpointError

INTERNAL = frozenset(vars(nn.Module())) | {"training"}


def architecture(module: nn.Module) -> str:
    """Digest of a module's structure and settings, of tensors that are no part of its state, and of its classes' code.

    The code of torch itself is left out. Another version of Python may give another digest for the same code: then
    features are computed again, which is safe.
    """
    # The state itself is digested as weights; here is what else changes the features.
    saved = set(module.state_dict())
    buffers = [(name, tensor) for name, tensor in module.named_buffers() if name not in saved]
    parts = [(name, _settings(part), _code(part)) for name, part in module.named_modules()]
    return digest(architecture_digest(module), buffers, parts)


def state_of(module: nn.Module) -> object:
    """Return what changes when weights do: cheaper than a digest, and enough to see that one is out of date."""
    return [(name, *_glance(tensor)) for name, tensor in module.state_dict(keep_vars=True).items()]


def _glance(tensor: Any) -> tuple[int, ...]:
    """Identity, address, version and a sum of a tensor."""
    version = -1 if tensor.is_inference() else tensor._version
    plain = tensor.detach().reshape(-1)
    # Version and address miss what is changed through `data` or NumPy.
    words = plain.view(torch.int32) if plain.element_size() % 4 == 0 else plain.view(torch.uint8)
    return id(tensor), tensor.data_ptr(), version, int(words.sum(dtype=torch.int64))


def _settings(part: nn.Module) -> list[tuple[str, str]]:
    """Digests of a module's own attributes."""
    found = []
    for name, value in sorted(vars(part).items()):
        if name in INTERNAL:
            continue
        try:
            found.append((name, digest(value)))
        except CheckpointError:  # a lock, a file, ...: its kind is all that can be said
            found.append((name, type(value).__qualname__))
    return found


def _code(part: nn.Module) -> list[Any]:
    """Functions of its classes but torch's own; of a traced or scripted module, its code as text."""
    text = getattr(part, "code", None)
    own = [kind for kind in type(part).__mro__ if kind is not object and kind.__module__.split(".")[0] != "torch"]
    functions = [value for kind in own for _, value in sorted(vars(kind).items()) if isinstance(value, FunctionType)]
    return [text if isinstance(text, str) else None, *functions]
