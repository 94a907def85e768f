"""Labels and names of classes: one value an image, one spelling a class."""

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from enum import Enum
from numbers import Integral, Number, Real
from reprlib import Repr
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.images.frames import is_frame, only_column, values_of
from frofa.utils.text import class_name

_INT64 = range(-(2**63), 2**63)
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SCALARS = (str, bytes, Number, np.generic, dt.date, dt.time, dt.timedelta, Enum)


def image_labels(values: Iterable[object], names: Sequence[str] | None = None) -> npt.NDArray[Any] | None:
    """Make an array of labels, one an image: of int if all are whole numbers, else of str, ``""`` where there is none.

    Values are strings, numbers, booleans, dates, or arrays and tensors of one of these; or a frame of one column. None,
    NaN and ``""`` count as no label; the result is None if there is no other value. Names of classes are in Unicode's
    composed form. A ValueError says that a label is a list, a dictionary, an array of several values or another object;
    `names` of the images, where given, are in its message.

    Examples
    --------
    >>> image_labels(["cat", None, "dog"])
    array(['cat', '', 'dog'], dtype='<U3')
    >>> image_labels([3.0, 1.0])
    array([3, 1])
    """
    given = [_scalar(value, position, names) for position, value in enumerate(_sequence(values))]
    present = [value for value in given if value is not None]
    if not present and given:
        return None
    # With one gap or one string, all become strings: integers have no value for a label that is missing.
    if len(present) == len(given) and all(_is_whole(value) for value in given):
        return np.array([int(value) for value in given], dtype=np.int64)
    return np.array(["" if value is None else _text(value) for value in given], dtype=np.str_)


def _sequence(values: Iterable[object]) -> Sequence[object]:
    if is_frame(values):
        return only_column(values, "labels")
    is_scalar = not hasattr(values, "__iter__") or getattr(values, "shape", None) == ()
    if is_scalar or isinstance(values, (str, bytes, Mapping, Set)):
        raise ValueError(f"expected a list, an array or a column of labels. Got {_shorten(values)}.")
    return values_of(values)


def _scalar(value: object, position: int, names: Sequence[str] | None) -> Any:
    """Take a label out of its wrapping; None where there is none."""
    found = unwrapped(value)
    if found is None or type(found).__name__ in ("NAType", "NaTType"):
        return None
    if not _is_label(found):
        name = f" ({names[position]})" if names is not None and position < len(names) else ""
        raise ValueError(
            "expected one label an image: a string, a number, a boolean or a date. "
            f"Got {_shorten(value)} at position {position}{name}."
        )
    # NaN is the one value that differs from itself.
    return None if found == "" or found != found else found


def unwrapped(value: Any) -> Any:
    """Take the Python object out of a scalar of NumPy or pyarrow, or an array of one value; leave others alone."""
    if hasattr(value, "as_py"):
        return value.as_py()
    if hasattr(value, "shape") and hasattr(value, "item") and math.prod(value.shape) == 1:
        is_time = getattr(value.dtype, "kind", "") in ("m", "M")  # of nanoseconds, it would become a number
        return value.reshape(-1)[0] if is_time else value.item()
    return value


def _is_label(value: object) -> bool:
    if type(value).__module__.partition(".")[0] == "pandas":  # a period, an interval
        return not hasattr(value, "__iter__")
    if not isinstance(value, _SCALARS) or (isinstance(value, np.generic) and value.dtype.kind in "cV"):
        return False
    if isinstance(value, Integral):
        return True
    return not isinstance(value, complex) and not (isinstance(value, Real) and math.isinf(value))


def _is_whole(value: Any) -> bool:
    if isinstance(value, Integral):
        return not isinstance(value, bool) and int(value) in _INT64
    return isinstance(value, (float, np.floating)) and float(value).is_integer() and int(value) in _INT64


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    elif isinstance(value, np.datetime64):
        value = np.datetime_as_string(value, unit="auto")
    elif isinstance(value, dt.datetime) and value.time() == dt.time.min and value.tzinfo is None:
        value = value.date()  # a column of dates is one of times in pandas
    elif _is_whole(value):
        value = int(value)  # a column of whole numbers with a gap is one of floats in pandas
    return class_name(str(value))


def _shorten(value: object) -> str:
    return f"{type(value).__name__} {' '.join(_SHORT.repr(value).split())}"
