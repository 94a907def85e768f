"""Shortcuts: work that is done for many heads at once, in the place of methods of each.

Training many heads together, scoring them by one product, averaging tokens before heads see them: each of these stands
for some methods. Base classes declare which (`FeatureClassifier._fit_steps` and the others); a subclass that overrides
one of them has another way of doing it, and the shortcut is not for it.
"""

from collections.abc import Callable, Iterable
from typing import Any


def follows(kind: type, base: type, steps: Iterable[Callable[..., Any]]) -> bool:
    """Tell whether a class is a subclass of `base` that inherits these methods from it."""
    names = [step.__name__ for step in steps]
    return issubclass(kind, base) and all(getattr(kind, name) is getattr(base, name) for name in names)
