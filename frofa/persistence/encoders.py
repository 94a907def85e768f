"""A custom encoder in a saved file: its spec alone, since no code is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from frofa.encoders.protocol import Encoder, canonical, check_encoder, describe
from frofa.exceptions import SavedFileError
from frofa.extraction.extractor import FrozenFeatureExtractor


@dataclass(frozen=True)
class AbsentEncoder:
    """A stand-in for an encoder while a file is written or read; its spec is JSON."""

    spec: str


def saved_model(model: Any) -> Any:
    """The part of an extractor's model that a file holds: a name, or the spec of a custom encoder."""
    if isinstance(model, str):
        return model
    check_encoder(model)
    return AbsentEncoder(canonical(model.spec, describe(model)))


def put_encoder(extractors: Sequence[FrozenFeatureExtractor], encoder: Encoder | None, path: str) -> None:
    """Put the encoder into the extractors that wait for one; SavedFileError if there is none, or it does not fit."""
    if not extractors and encoder is not None:
        raise SavedFileError(f"{path} has no custom encoder in it: leave encoder=None.")
    for extractor in extractors:
        absent: Any = extractor.model
        extractor.model = _check(absent, encoder, path)


def _check(absent: AbsentEncoder, encoder: Encoder | None, path: str) -> Encoder:
    if encoder is None:
        raise SavedFileError(
            f"{path} has an extractor with a custom encoder, whose code is not saved: pass it, "
            f"frofa.load(path, encoder=...). Its spec is {absent.spec:.500}."
        )
    check_encoder(encoder)
    spec = canonical(encoder.spec, describe(encoder))
    if spec != absent.spec:
        raise SavedFileError(
            f"{path} was saved with another encoder: expected the spec {absent.spec:.500}. Got {spec:.500}, of "
            f"{describe(encoder)}."
        )
    return encoder
