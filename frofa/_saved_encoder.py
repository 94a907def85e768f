"""A custom encoder in a saved file: its spec alone, since no code is stored."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sklearn.pipeline import Pipeline

from frofa.exceptions import SavedFileError

if TYPE_CHECKING:
    from frofa.encoders import Encoder


@dataclass(frozen=True)
class AbsentEncoder:
    """In the place of an encoder while a file is written or read.

    Attributes
    ----------
    spec : str
        As JSON.
    """

    spec: str


def saved_model(model: Any) -> Any:
    """What a file holds of an extractor's model: its name, or the spec of a custom encoder."""
    if isinstance(model, str):
        return model
    from frofa._custom import check_encoder, describe
    from frofa.encoders import canonical

    check_encoder(model)
    return AbsentEncoder(canonical(model.spec, describe(model)))


def with_encoder(loaded: Any, encoder: "Encoder | None", path: str) -> Any:
    """Put the encoder where a file has its spec.

    Raises
    ------
    SavedFileError
        If it is not given, has another spec, or has no place there.
    """
    waiting = [part for part in _parts(loaded) if isinstance(getattr(part, "model", None), AbsentEncoder)]
    if not waiting:
        if encoder is not None:
            raise SavedFileError(f"{path} has no custom encoder in it: leave encoder=None.")
        return loaded
    for extractor in waiting:
        _check(extractor.model, encoder, path)
        extractor.model = encoder
    return loaded


def _parts(loaded: Any) -> Iterator[Any]:
    yield loaded
    if isinstance(loaded, Pipeline):
        for _, step in loaded.steps:
            yield from _parts(step)


def _check(absent: AbsentEncoder, encoder: "Encoder | None", path: str) -> None:
    from frofa._custom import check_encoder, describe
    from frofa.encoders import canonical

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
