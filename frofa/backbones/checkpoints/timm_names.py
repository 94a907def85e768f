"""The names of timm's models, without the seconds that it takes to import it."""

import re
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_DEFINED = re.compile(r"@register_model\s+def (\w+)\(")
_TAGGED = re.compile(r"^\s*['\"](\w+\.\w+)['\"]\s*:", re.MULTILINE)


@lru_cache(maxsize=1)
def _sources() -> str:
    """The text of timm's models and ours."""
    timm = find_spec("timm")
    assert timm is not None
    assert timm.origin is not None
    files = [*sorted((Path(timm.origin).parent / "models").glob("*.py")), Path(__file__).parents[1] / "soft_moe.py"]
    return "\n".join(file.read_text("utf-8") for file in files)


def pretrained_names() -> list[str]:
    """Architectures, and with their tags those that have weights."""
    if "timm" in sys.modules:
        import timm

        return list(timm.list_models(pretrained=True))
    return sorted({*_DEFINED.findall(_sources()), *_TAGGED.findall(_sources())})


def may_be_known(name: str) -> bool:
    """False if timm certainly has no model of this name, with or without a tag.

    True for names that only look like one, too: whether timm has them is for it to say.
    """
    if "timm" in sys.modules:  # somebody may have registered models of their own
        import timm

        import frofa.backbones.soft_moe  # noqa: F401 (registers ours)

        return bool(timm.is_model(name.partition(".")[0]))
    return any(text in _sources() for text in (f"def {name.partition('.')[0]}(", f"'{name}'", f'"{name}"'))
