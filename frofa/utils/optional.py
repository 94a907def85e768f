"""Optional dependencies, imported when they are needed."""

from importlib import import_module
from typing import Any


def require(module: str, extra: str) -> Any:
    """Import a module of an extra; where it is not installed, the ImportError names the extra."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{module.partition('.')[0]} is not installed: pip install 'frofa[{extra}]'") from error
