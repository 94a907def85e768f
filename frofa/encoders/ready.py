"""Ready-made encoders around functions and PyTorch modules."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from frofa.compute.devices import resolve_device
from frofa.compute.digests import weights_digest
from frofa.encoders.identity import architecture, state_of
from frofa.encoders.protocol import Array, Spec, canonical
from frofa.exceptions import EncoderError


class ReadyEncoder:
    """Base of the encoders of frofa: `spec`, `preprocess`, `load` and `batch_size`.

    `clone` hands the same object on, since nothing in it changes.
    """

    def __init__(
        self,
        spec: Spec | None,
        preprocess: Callable[[Any], Any] | None,
        load: Callable[[str], Any] | None,
        batch_size: int | None,
    ):
        name = type(self).__name__
        # Two functions of one name and code may differ in what they close over: only the user can tell.
        for parameter, function in (("preprocess", preprocess), ("load", load)):
            if function is not None and not callable(function):
                raise TypeError(f"{name}: {parameter} must be a function or None. Got {function!r}.")
            if function is not None and spec is None:
                raise EncoderError(
                    f"{name}: features depend on {parameter}, which no digest can tell from another function: give "
                    "spec a name and version for it, such as spec='centre crop v1'."
                )
        if spec is not None:
            canonical(spec, name)
        self._own_spec, self.preprocess, self.load = spec, preprocess, load
        self._batch_size = batch_size

    @property
    def batch_size(self) -> int | None:
        """The most items of a batch; None for any number."""
        return self._batch_size

    def __sklearn_clone__(self) -> "ReadyEncoder":
        return self


class FunctionEncoder(ReadyEncoder):
    """A function as an encoder: for any modality.

    Parameters
    ----------
    function : callable
        From a batch, an array (n, ...), to features (n, C) or (n, N, C); in `frofa.FrozenTextExtractor`, from a list of
        str to features (n, D). The features of each item come from that item alone, and the batch is not changed. To be
        pickled, it must be defined at the top of a module.
    spec : str or dict
        Name and version of what it computes. Change it whenever the function's results change: nothing else tells a
        store that they did.
    preprocess : callable, default=None
        From one item to an array; items of equal shape are stacked.
    load : callable, default=None
        From a path to an item.
    batch_size : int, default=None
        The most items of a batch; None for any number.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import FrozenFeatureExtractor, FunctionEncoder
    >>> def spectrum(signals):
    ...     return np.log1p(np.abs(np.fft.rfft(signals)))
    >>> encoder = FunctionEncoder(spectrum, spec="log spectrum v1")
    >>> FrozenFeatureExtractor(encoder).transform(np.ones((3, 64))).shape
    (3, 33)
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        spec: Spec,
        *,
        preprocess: Callable[[Any], Any] | None = None,
        load: Callable[[str], Any] | None = None,
        batch_size: int | None = None,
    ):
        if not callable(function):
            raise TypeError(f"FunctionEncoder: expected a function. Got {type(function).__name__}.")
        canonical(spec, "FunctionEncoder")
        super().__init__(spec, preprocess, load, batch_size)
        self.function = function

    @property
    def spec(self) -> Spec:
        """The spec that was given."""
        assert self._own_spec is not None
        return self._own_spec

    def __call__(self, batch: Array) -> Any:
        """Compute the features of a batch."""
        return self.function(batch)

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"FunctionEncoder({name}, spec={self._own_spec!r})"


class TorchEncoder(ReadyEncoder):
    """A PyTorch module as an encoder. It is moved to the device and put into eval mode, and stays there.

    Parameters
    ----------
    module : nn.Module
        From a batch (n, ...) to features (n, C) or (n, N, C). Batches of floating-point numbers come in the type of its
        parameters.
    preprocess : callable, default=None
        From one item to an array or a tensor; items of equal shape are stacked. Needs `spec`.
    load : callable, default=None
        From a path to an item. Needs `spec`.
    spec : str or dict, default=None
        Name and version of `preprocess` and `load`. The module's weights, buffers, settings and the code of its own
        classes are always part of the encoder's identity: after training it further, features are computed anew.
    device : str, default="auto"
        ``"auto"`` takes the GPU where there is one; or a torch device.
    batch_size : int, default=None
        The most items of a batch; None for any number.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from frofa import FrozenFeatureExtractor, TorchEncoder
    >>> with torch.random.fork_rng():
    ...     module = nn.Conv1d(1, 8, 16, stride=16)
    >>> encoder = TorchEncoder(nn.Sequential(module, nn.Flatten(2)), device="cpu")
    >>> FrozenFeatureExtractor(encoder).transform(np.ones((3, 1, 64), np.float32)).shape
    (3, 8, 4)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        preprocess: Callable[[Any], Any] | None = None,
        load: Callable[[str], Any] | None = None,
        spec: Spec | None = None,
        device: str = "auto",
        batch_size: int | None = None,
    ):
        if not isinstance(module, nn.Module):
            raise TypeError(f"TorchEncoder: expected a torch.nn.Module. Got {type(module).__name__}.")
        super().__init__(spec, preprocess, load, batch_size)
        self.module, self._device = module, device
        self._known: tuple[object, str] | None = None

    @property
    def device(self) -> torch.device:
        """The device that the module computes on."""
        return resolve_device(self._device)

    @property
    def spec(self) -> dict[str, Any]:
        """Digests of weights and architecture, and the user's own spec."""
        # A glance at the tensors tells whether they changed; to digest them again takes longer.
        state = state_of(self.module)
        if self._known is None or self._known[0] != state:
            self._known = state, weights_digest(self.module)
        return {"weights": self._known[1], "architecture": architecture(self.module), "spec": self._own_spec}

    def __call__(self, batch: Tensor | Array) -> Any:
        """Compute the features of a batch, on the device."""
        module = self.module.to(self.device)
        if any(part.training for part in module.modules()):
            module.eval()
        values = torch.as_tensor(batch, device=self.device)
        first = next((p for p in module.parameters() if p.is_floating_point()), None)
        if first is not None and values.is_floating_point():
            values = values.to(first.dtype)
        return module(values)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": None}  # addresses of this process

    def __repr__(self) -> str:
        return f"TorchEncoder({type(self.module).__name__}, spec={self._own_spec!r})"
