"""From an extractor's parameters to what a run is asked for."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import effective_n_jobs

from frofa.backbones.backbone import Backbone
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.backbones.outputs import Request
from frofa.backbones.wanted import requests_of
from frofa.decoding.process import can_start
from frofa.decoding.views import PLAIN, View, make_views, preprocessing_with
from frofa.encoders.protocol import Encoder, check_encoder, describe
from frofa.encoders.registered import registered_encoder
from frofa.encoders.samples import as_samples
from frofa.exceptions import EncoderError
from frofa.images.image_set import as_image_list
from frofa.images.items import ImageItem, Images
from frofa.images.pixels.colour import Colour, parse_colour
from frofa.store import FeatureSpec, FeatureStore

MOST_JOBS = 32
"""Threads or processes at most where the user does not say how many: a process takes some 40 MB, and 16 of them decode
2,300 photographs a second (``benchmarks/results/extraction_h100.json``)."""
FEW_IMAGES = 256
"""Fewer images than that are decoded by threads in the time that processes take to start, see the runs over few files
of ``benchmarks/extraction.py``."""
OF_BACKBONES = (
    *("output", "layer", "norm", "n_views", "view_area", "mirror", "image_size", "max_tokens", "background"),
    *("device", "precision", "sparsity", "compile"),
)
"""Parameters that say what to do with images and timm's models: a custom encoder decides by itself."""


def ignore(n: int) -> None:
    """Take a count that nobody asked for."""


@dataclass(frozen=True)
class Target:
    """One of the features that a run computes: what the backbone is asked for, and under which spec it is kept.

    It is ragged where it is tokens of images that keep their aspect ratio. The spec's preprocessing names the view.
    """

    request: Request
    spec: FeatureSpec
    is_ragged: bool = False
    view: View = PLAIN


@dataclass(frozen=True)
class Settings:
    """Settings of a run: parameters of `FrozenFeatureExtractor`, resolved for one backbone and so many images.

    `n_jobs` is a number here, and `precision` never ``"auto"``; `processes` and `skip` are what `decode` and `on_error`
    come to.
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
    """One call of an extractor: checked images, and all that is to be done with them.

    There is at least one item, an image or what a custom encoder takes; labels (n,) are of the items, where there are
    some. All targets come from the same forward passes. `count` is called with the number of views, of all that targets
    are of, that are done since the last call.
    """

    items: Sequence[ImageItem]
    labels: npt.NDArray[Any] | None
    backbone: Backbone
    targets: Sequence[Target]
    settings: Settings
    store: FeatureStore | None
    count: Callable[[int], object] = ignore


def targets_of(parameters: Mapping[str, Any], backbone: Backbone) -> dict[str, list[Target]]:
    """Say what a run computes for an extractor: by block, a target for each view, the plain image first.

    A ValueError says which output or layer the model does not have.
    """
    requests = requests_of(backbone, parameters["output"], parameters["layer"], bool(parameters["norm"]))
    decoder = backbone.decoder
    if not backbone.is_custom:  # what shows through transparent images is part of a store's key
        decoder += ", on #{:02x}{:02x}{:02x}".format(*parse_colour(parameters["background"]))
    precision = backbone.precision_key(parameters["precision"], compiled=parameters["compile"])

    def target(request: Request, view: View) -> Target:
        spec = FeatureSpec(
            weights=backbone.weights_digest,
            architecture=backbone.architecture_digest,
            preprocessing=preprocessing_with(backbone.preprocessing_key, view),
            decoder=decoder,
            output=request.output,
            layer=request.layer,
            norm=request.norm,
            precision=precision,
            dtype=parameters["dtype"],
        )
        return Target(request, spec, request.output == "tokens" and isinstance(backbone, NativeBackbone), view)

    views = make_views(parameters["n_views"], area=parameters["view_area"], mirror=bool(parameters["mirror"]))
    return {name: [target(request, view) for view in views] for name, request in requests.items()}


def encoder_of(parameters: Mapping[str, Any], signature: inspect.Signature) -> Encoder | None:
    """Find the custom encoder that an extractor's parameters give or name; None for a backbone.

    The signature of the extractor has their defaults. An EncoderError says that `model` is no encoder, or which
    parameters such a one does not take; a ModelNotFoundError, that a registered encoder cannot be loaded.
    """
    model = parameters["model"]
    encoder: Encoder | None = registered_encoder(model) if isinstance(model, str) else model
    if encoder is None:
        return None
    check_encoder(encoder)
    other = [name for name in OF_BACKBONES if parameters[name] != signature.parameters[name].default]
    if other:
        given = ", ".join(f"{name}={parameters[name]!r}" for name in other)
        raise EncoderError(
            f"{describe(encoder)} is a custom encoder, which decides by itself what it returns, and where and how it "
            f"computes: leave {', '.join(OF_BACKBONES)} at their defaults. Got {given}."
        )
    return encoder


def checked_input(X: Images, y: Any, encoder: Encoder | None) -> "tuple[Sequence[ImageItem], npt.NDArray[Any] | None]":
    """List images, or items of an encoder, and their labels, where there are some."""
    items = as_image_list(X) if encoder is None else as_samples(X, getattr(encoder, "load", None))
    noun = "image" if encoder is None else "item"
    labels = None if y is None else np.asarray(y)
    if labels is not None and labels.shape != (len(items),):
        raise ValueError(f"expected one label an {noun}. Got {len(items)} {noun}s, and labels of shape {labels.shape}.")
    if not items:
        raise ValueError(f"expected at least one {noun}. Got none.")
    return items, labels


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
    # Only the known geometric steps run without timm, and so in processes.
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
