"""NumPy's rules of indexing, and its errors, for an array of which only rows are to be read: pure functions."""

import operator
from typing import Any

import numpy as np

INVALID = (
    "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean arrays are valid "
    "indices"
)


def split_index(item: Any, ndim: int) -> tuple[Any, tuple[Any, ...]]:
    """Split an index into that of the rows and those of further axes; an ellipsis is written out."""
    if not isinstance(item, tuple):
        item = (item,)
    items = tuple(one if isinstance(one, slice) or one is None or one is Ellipsis else _as_index(one) for one in item)
    axes = sum(_axes_of(one) for one in items)
    if axes > ndim:
        raise IndexError(f"too many indices for array: array is {ndim}-dimensional, but {axes} were indexed")
    ellipses = [i for i, one in enumerate(items) if one is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if ellipses:
        # The ellipsis stands for all axes that no other index takes.
        at = ellipses[0]
        items = (*items[:at], *(slice(None),) * (ndim - axes), *items[at + 1 :])
    if not items:
        return slice(None), ()
    return items[0], items[1:]


def _as_index(one: Any) -> Any:
    """Make an integer, or an array of integers or booleans, of one of several indices."""
    if isinstance(one, (bool, np.bool_)):
        return np.asarray(one)
    try:
        return operator.index(one)
    except TypeError:
        pass
    array = np.asarray(one)
    # An empty list is of floats in NumPy, but a valid index all the same.
    if array.size == 0 and not isinstance(one, np.ndarray):
        array = array.astype(np.intp)
    if array.dtype.kind not in "iub" or isinstance(one, (str, bytes)):
        raise IndexError(INVALID)
    return array


def is_basic(inner: tuple[Any, ...]) -> bool:
    """Tell whether all are integers and forward slices, so that NumPy and torch give a view."""
    return all(isinstance(one, int) or (isinstance(one, slice) and (one.step or 1) > 0) for one in inner)


def row_positions(rows: Any, n: int) -> Any:
    """Turn a one-dimensional array of integers or booleans into positions from 0 to n - 1."""
    if rows.dtype == bool:
        if len(rows) != n:
            raise IndexError(
                f"boolean index did not match indexed array along axis 0; size of axis is {n} but size of "
                f"corresponding boolean axis is {len(rows)}"
            )
        return np.flatnonzero(rows)
    rows = rows.astype(np.int64)  # a copy: the caller's may change
    wrong = rows[(rows < -n) | (rows >= n)]
    if len(wrong):
        raise out_of_bounds(int(wrong[0]), n)
    return np.where(rows < 0, rows + n, rows) if (rows < 0).any() else rows


def out_of_bounds(i: int, n: int) -> IndexError:
    """Make the error that NumPy raises for such an index."""
    return IndexError(f"index {i} is out of bounds for axis 0 with size {n}")


def _axes_of(one: Any) -> int:
    if one is None or one is Ellipsis:
        return 0
    if isinstance(one, np.ndarray) and one.dtype == bool:
        return one.ndim
    return 1
