"""Versions of what results depend on."""

from importlib.metadata import PackageNotFoundError, version

from frofa._version import __version__

PACKAGES = ("scikit-learn", "numpy", "torch", "timm", "pillow")


def versions() -> dict[str, str]:
    """Give the versions of this library and of those that numbers depend on, by name."""
    return {"frofa": __version__, **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # built from source, or bundled
        return "unknown"
