"""An approximate index as arrays and numbers, to be saved, and back."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from frofa.retrieval.approximate.codes import LEVELS, Quantiser, Scanner
from frofa.retrieval.approximate.lists import Lists, Space
from frofa.retrieval.approximate.searching import Approximate

NUMBERS = {"offset": float, "z": float, "margin": float, "first": int, "candidates": int, "n_built": int}
Arrays = dict[str, npt.NDArray[Any]]


def to_state(index: Approximate) -> tuple[dict[str, Any], Arrays]:
    """Numbers and arrays of an index, codes in the order of the rows."""
    codes, own = index.scanner.contents()
    numbers = {"offset": index.space.offset, **{name: getattr(index, name) for name in NUMBERS if name != "offset"}}
    arrays = {
        "rotation": index.space.rotation.numpy(),
        "centres": index.lists.centres.numpy(),
        "root": index.lists.root.numpy(),
        "spread": index.lists.spread.numpy(),
        "books": index.scanner.quantiser.books,
        "codes": codes,
        "own": own.astype(np.uint16),
    }
    return numbers, arrays


def from_state(
    numbers: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], metric: str, n: int, fail: Callable[[str], Any]
) -> Approximate:
    """Make an index of n rows again; the error that `fail` makes says what does not fit together."""
    for name, kind in NUMBERS.items():
        if type(numbers.get(name)) not in (kind, int):
            raise fail(f"its number {name!r} is missing")
    try:
        rotation, centres, books = arrays["rotation"], arrays["centres"], arrays["books"]
        width, n_lists, n_books = len(rotation), len(centres), len(books)
        expected = {
            "rotation": (width, width),
            "centres": (n_lists, width),
            "root": (width, width),
            "spread": (n_lists,),
            "books": (n_books, LEVELS, width // max(n_books, 1)),
            "codes": (n, n_books // 2),
            "own": (n,),
        }
        wrong = [name for name, shape in expected.items() if arrays[name].shape != shape]
    except KeyError as error:
        raise fail(f"it has no array {error}") from error
    if wrong or (arrays["own"] >= n_lists).any():
        raise fail(f"its arrays do not fit together: {', '.join(wrong) or 'own'}")
    space = Space(metric, float(numbers["offset"]), torch.from_numpy(rotation))
    lists = Lists(*(torch.from_numpy(arrays[name]) for name in Lists._fields))
    scanner = Scanner(Quantiser(books), lists.centres)
    scanner.add(np.arange(n), arrays["codes"], arrays["own"].astype(np.int32))
    numbers_of_search = {name: numbers[name] for name in NUMBERS if name != "offset"}
    return Approximate(space, lists, scanner, **numbers_of_search)
