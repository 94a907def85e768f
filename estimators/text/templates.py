"""Templates, which make captions of the words for a class."""

from collections.abc import Iterable
from typing import Any

AUTO = "auto"
SLOT = "{}"
TEMPLATES = (
    "a photo of a {}.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""Captions that suit most images: CLIP's seven, and the one that its paper starts from (Radford et al., 2021; the seven
were chosen from eighty on ImageNet, in the notebook of its prompts)."""


def templates_of(templates: Any, text: Any) -> tuple[str, ...]:
    """Give the templates that a parameter stands for.

    Parameters
    ----------
    templates : "auto", str or iterable of str
        ``"auto"`` takes those of the text tower, where it was published with some, and `TEMPLATES` otherwise.
    text : object
        Its attribute `templates`, if it is there and not None, is those of the tower.

    Returns
    -------
    tuple of str
        Each has one ``{}``.

    Raises
    ------
    TypeError, ValueError
        If a template is no string, or has no ``{}`` or several.
    """
    if isinstance(templates, str) and templates == AUTO:
        own = getattr(text, "templates", None)
        templates = TEMPLATES if own is None else own
    listed = (templates,) if isinstance(templates, str) else templates
    if not isinstance(listed, Iterable) or isinstance(listed, bytes):
        raise TypeError(f"templates must be 'auto', a string with one {SLOT}, or a list of these. Got {templates!r}.")
    found = tuple(listed)
    for template in found:
        if not isinstance(template, str):
            raise TypeError(f"templates must be strings with one {SLOT} each. Got {template!r}.")
        if template.count(SLOT) != 1:
            raise ValueError(f"templates must have one {SLOT} each, for the name of a class. Got {template!r}.")
    if not found:
        raise ValueError(f"templates must be one or more; '{SLOT}' takes names as they are. Got none.")
    return found


def captions_of(word: str, templates: Iterable[str]) -> list[str]:
    """Put a word for a class into templates; other braces stay as they are."""
    return [template.replace(SLOT, word) for template in templates]
