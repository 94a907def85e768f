"""From an extractor's parameters to the settings of one run."""

import inspect
import warnings
from typing import TYPE_CHECKING, Any

from joblib import effective_n_jobs

from frofa.backbones.backbone import Backbone
from frofa.decoding.process import can_start
from frofa.encoders.protocol import Encoder, check_encoder, describe
from frofa.encoders.registered import registered_encoder
from frofa.exceptions import EncoderError
from frofa.extraction.run import Settings
from frofa.images.pixels.colour import parse_colour

if TYPE_CHECKING:
    from frofa.extraction.extractor import FrozenFeatureExtractor

MOST_JOBS = 32
"""Without a word from the user: more processes than that outrun any GPU, and take memory."""
FEW_IMAGES = 256
"""So many images are decoded by threads in the time that processes take to start."""
OF_BACKBONES = (
    *("output", "layer", "norm", "image_size", "max_tokens", "background"),
    *("device", "precision", "weights", "compile"),
)
"""Parameters that say what to do with images and timm's models: a custom encoder decides by itself."""


def encoder_of(extractor: "FrozenFeatureExtractor") -> Encoder | None:
    """The custom encoder of an extractor, given or registered; None for a backbone.

    Raises
    ------
    EncoderError
        If `model` is no encoder, or the extractor has parameters that such a one does not take.
    ModelNotFoundError
        If a registered encoder cannot be loaded.
    """
    model: Any = extractor.model
    encoder: Encoder | None = registered_encoder(model) if isinstance(model, str) else model
    if encoder is None:
        return None
    check_encoder(encoder)
    defaults = inspect.signature(type(extractor)).parameters
    other = [name for name in OF_BACKBONES if getattr(extractor, name) != defaults[name].default]
    if other:
        given = ", ".join(f"{name}={getattr(extractor, name)!r}" for name in other)
        raise EncoderError(
            f"{describe(encoder)} is a custom encoder, which decides by itself what it returns, and where and how it "
            f"computes: leave {', '.join(OF_BACKBONES)} at their defaults. Got {given}."
        )
    return encoder


def settings_of(extractor: "FrozenFeatureExtractor", backbone: Backbone, n_images: int) -> Settings:
    """The settings of a run over so many images."""
    all_cores: int = effective_n_jobs(-1)
    n_jobs = min(all_cores, MOST_JOBS) if extractor.n_jobs is None else effective_n_jobs(extractor.n_jobs)
    return Settings(
        precision=backbone.resolve_precision(extractor.precision),
        batch_size=backbone.most_at_once(extractor.batch_size),
        compiled=extractor.compile,
        n_jobs=n_jobs,
        processes=use_processes(extractor.decode, backbone, n_images),
        skip=extractor.on_error == "skip",
        progress=extractor.verbose,
        rehash=extractor.rehash,
        background=parse_colour(extractor.background),
    )


def use_processes(decode: str, backbone: Backbone, n_images: int) -> bool:
    """Whether images are decoded in processes; warns where they were asked for and cannot be had."""
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
