"""Names of models that are encoders of other packages: entry points of the group ``frofa.encoders``."""

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from frofa.backbones.checkpoints.embedded import PREFIX
from frofa.backbones.checkpoints.names import FOLDERS, ask_hub, timm_name
from frofa.exceptions import ModelNotFoundError

GROUP = "frofa.encoders"


def registered() -> list[EntryPoint]:
    """List all entry points of the group, by name; nothing is imported."""
    return sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))


def refuse_unavailable(model: str) -> None:
    """Raise for a model that certainly cannot be had here and now, which loading would find out seconds later.

    Neither PyTorch nor an encoder is imported for it. A ModelNotFoundError says that the name is
    unknown, its folder is not there, or its weights are neither on this machine nor to be fetched.
    """
    name = timm_name(model)
    if not name.startswith(FOLDERS) and all(point.name != name for point in registered()):
        ask_hub(model, name)


def registered_encoder(name: str) -> Any:
    """Load the encoder that a package registers under a name; None where there is none.

    A ModelNotFoundError says that two packages register the name, or that what is registered cannot be loaded or is no
    encoder.
    """
    if "/" not in name or ":" in name or name.startswith(PREFIX):
        return None
    found = [point for point in registered() if point.name == name]
    if not found:
        return None
    if len({point.value for point in found}) > 1:
        listed = "; ".join(origin(point) for point in found)
        raise ModelNotFoundError(f"several packages register the encoder {name!r}: {listed}. Uninstall all but one.")
    return _load(found[0])


def origin(point: EntryPoint) -> str:
    """Say where an entry point comes from: ``mypkg 1.0 (mypkg.audio:encoder)``."""
    distribution = point.dist
    package = f"{distribution.name} {distribution.version}" if distribution is not None else "an unknown package"
    return f"{package} ({point.value})"


def naming_fault(point: EntryPoint) -> str | None:
    """Say why nobody can name this encoder; None if one can."""
    if "/" in point.name and ":" not in point.name and not point.name.startswith(PREFIX):
        return None
    return f"its name must be of the form PACKAGE/NAME, without a colon, and not begin with {PREFIX!r}"


@lru_cache(maxsize=64)
def _load(point: EntryPoint) -> Any:
    from frofa.encoders.protocol import canonical, check_encoder  # with PyTorch, which listing names need not wait for

    try:
        found = point.load()
        encoder = found if not isinstance(found, type) and hasattr(found, "spec") else found()
        check_encoder(encoder)
        canonical(encoder.spec, point.name)
    except Exception as error:  # whatever another package raises
        raise ModelNotFoundError(
            f"the encoder {point.name!r}, registered by {origin(point)}, cannot be loaded: {type(error).__name__}: "
            f"{error}. Expected an object as frofa.Encoder describes it, or a class or function that gives one when "
            "called without arguments."
        ) from error
    return encoder
