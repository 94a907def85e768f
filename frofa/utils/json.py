"""JSON that anybody may have changed: one error for all that can be wrong with it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Fail: TypeAlias = Callable[[str], Exception]
"""A function that makes the error to raise out of a sentence about what is wrong."""
MAX_BYTES = 2**28
MAX_DEPTH = 100
"""Lists and objects inside each other; none of our files has more than some ten, and what walks deeper ones fails."""


def read_json(path: Path, fail: Fail) -> Any:
    """Read a file of JSON, of at most 256 MiB; what is wrong with its content is the error that `fail` makes.

    An OSError says that it is not there or cannot be read.
    """
    try:
        with path.open("rb") as file:
            # One byte more than is allowed tells that there are more.
            data = file.read(MAX_BYTES + 1)
    except (IsADirectoryError, NotADirectoryError) as error:
        raise fail("it is not a file") from error
    if len(data) > MAX_BYTES:
        raise fail(f"it has more than {MAX_BYTES} bytes")
    return parse_json(data, fail)


def parse_json(data: str | bytes, fail: Fail) -> Any:
    """Parse JSON, of at most 100 lists and objects inside each other.

    The error that `fail` makes says that it is no JSON or deeper, has a number of thousands of digits, or does not fit
    in memory.

    Examples
    --------
    >>> from frofa.utils.json import parse_json
    >>> parse_json('{"a": 1}', ValueError)
    {'a': 1}
    >>> parse_json(1000 * "[", ValueError)
    Traceback (most recent call last):
    ValueError: more than 100 lists and objects inside each other
    """
    try:
        content = json.loads(data)
        if _is_deep(content):
            raise RecursionError
    except RecursionError as error:
        raise fail(f"more than {MAX_DEPTH} lists and objects inside each other") from error
    except (ValueError, MemoryError) as error:  # of text, numbers and encoding, too
        what = "it is no JSON" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise fail(f"{what}: {error}") from error
    return content


def check_fields(content: object, kinds: Mapping[str, type | tuple[type, ...]], fail: Fail) -> dict[str, Any]:
    """Check that parsed JSON is an object that has these fields, each of exactly one of these types.

    True and False are no numbers. If the check fails, the error that `fail` makes is raised.
    """
    if not isinstance(content, dict):
        raise fail(f"expected an object. Got {type(content).__name__}")
    for name, kind in kinds.items():
        allowed = kind if isinstance(kind, tuple) else (kind,)
        if name not in content:
            raise fail(f"it has no {name!r}")
        if type(content[name]) not in allowed:
            expected = " or ".join(one.__name__ for one in allowed)
            raise fail(f"expected {expected} as {name!r}. Got {type(content[name]).__name__}")
    return content


def _is_deep(content: object) -> bool:
    # Level by level, without recursion: the depth is what is not to be trusted.
    level: list[Any] = [[content]]
    for _ in range(MAX_DEPTH + 1):
        inside = (inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer))
        level = [inner for inner in inside if isinstance(inner, (dict, list))]
        if not level:
            return False
    return True
