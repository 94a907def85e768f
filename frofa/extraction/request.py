"""From an extractor's parameters to what a run is asked for."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from joblib import effective_n_jobs

from frofa.backbones.backbone import Backbone
from frofa.backbones.outputs import Request
from frofa.decoding.process import can_start
from frofa.encoders.protocol import Encoder, check_encoder, describe
from frofa.encoders.registered import registered_encoder
from frofa.exceptions import EncoderError
from frofa.images.pixels.colour import Colour, parse_colour
from frofa.images.reading import ImageItem
from frofa.store import FeatureSpec, FeatureStore

MOST_JOBS = 32
"""Without a word from the user: more processes than that outrun any GPU (``benchmarks/results/extraction_h100.json``),
and take memory."""
FEW_IMAGES = 256
"""So many images are decoded by threads in the time that processes take to start."""
OF_BACKBONES = (
    *("output", "layer", "norm", "image_size", "max_tokens", "background"),
    *("device", "precision", "weights", "compile"),
)
"""Parameters that say what to do with images and timm's models: a custom encoder decides by itself."""


@dataclass(frozen=True)
class Target:
    """One of the features that a run computes.

    Attributes
    ----------
    request : Request
        What the backbone is asked for.
    spec : FeatureSpec
        Under which a store keeps it.
    is_ragged : bool, default=False
        Whether it is RaggedTokens: tokens of images that keep their aspect ratio.
    """

    request: Request
    spec: FeatureSpec
    is_ragged: bool = False


@dataclass(frozen=True)
class Settings:
    """How a run is to go: parameters of `FrozenFeatureExtractor`, resolved for one backbone and so many images.

    Attributes
    ----------
    precision : str
        No longer ``"auto"``.
    batch_size : int or "auto"
    compiled : bool
    n_jobs : int
        Threads or processes that decode.
    processes : bool
        Whether processes decode.
    skip : bool
        Whether to go on without images that cannot be read.
    progress : bool
    rehash : bool
    background : (int, int, int)
    """

    precision: str
    batch_size: int | str
    compiled: bool
    n_jobs: int
    processes: bool
    skip: bool
    progress: bool
    rehash: bool
    background: Colour


@dataclass(frozen=True)
class ExtractionRequest:
    """What one call of an extractor comes to: checked images, and all that is to be done with them.

    Attributes
    ----------
    items : sequence
        The images, or items of a custom encoder; one at least.
    labels : ndarray of shape (n,) or None
    backbone : Backbone
    targets : sequence of Target
        All come from the same forward passes.
    settings : Settings
    store : FeatureStore or None
    """

    items: Sequence[ImageItem]
    labels: npt.NDArray[Any] | None
    backbone: Backbone
    targets: Sequence[Target]
    settings: Settings
    store: FeatureStore | None


def encoder_of(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> Encoder | None:
    """Find the custom encoder that an extractor's parameters give or name; None for a backbone.

    Raises
    ------
    EncoderError
        If `model` is no encoder, or there are parameters that such a one does not take.
    ModelNotFoundError
        If a registered encoder cannot be loaded.
    """
    model = parameters["model"]
    encoder: Encoder | None = registered_encoder(model) if isinstance(model, str) else model
    if encoder is None:
        return None
    check_encoder(encoder)
    other = [name for name in OF_BACKBONES if parameters[name] != defaults[name]]
    if other:
        given = ", ".join(f"{name}={parameters[name]!r}" for name in other)
        raise EncoderError(
            f"{describe(encoder)} is a custom encoder, which decides by itself what it returns, and where and how it "
            f"computes: leave {', '.join(OF_BACKBONES)} at their defaults. Got {given}."
        )
    return encoder


def settings_of(parameters: Mapping[str, Any], backbone: Backbone, n_images: int) -> Settings:
    """Resolve an extractor's parameters for a run over so many images."""
    all_cores: int = effective_n_jobs(-1)
    n_jobs = parameters["n_jobs"]
    return Settings(
        precision=backbone.resolve_precision(parameters["precision"]),
        batch_size=backbone.most_at_once(parameters["batch_size"]),
        compiled=parameters["compile"],
        n_jobs=min(all_cores, MOST_JOBS) if n_jobs is None else effective_n_jobs(n_jobs),
        processes=use_processes(parameters["decode"], backbone, n_images),
        skip=parameters["on_error"] == "skip",
        progress=parameters["verbose"],
        rehash=parameters["rehash"],
        background=parse_colour(parameters["background"]),
    )


def use_processes(decode: str, backbone: Backbone, n_images: int) -> bool:
    """Decide whether images are decoded in processes; warn where they were asked for and cannot be had."""
    if decode == "thread":
        return False
    reason = None
    if backbone.preprocessing.geometry is None:
        reason = "the preprocessing of this checkpoint is not one of timm's resizing and cropping ones"
    elif not can_start():
        reason = "this program embeds or freezes Python, and cannot start another interpreter"
    if decode == "auto":
        return reason is None and backbone.device.type == "cuda" and n_images >= FEW_IMAGES
    if reason is not None:
        warnings.warn(f"decode='process' is not possible here, and threads decode instead: {reason}.", stacklevel=5)
    return reason is None
