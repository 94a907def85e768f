"""Packing: images of different lengths into sequences of one length, with little left over."""

from collections.abc import Sequence

import numpy as np


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put items into as few sequences as first-fit decreasing finds.

    Items go from the longest to the shortest, each into the first sequence that has room for it; items of one length
    keep their order. It needs at most 11/9 of the fewest sequences possible, plus one.

    Lengths are 1 or more; an item longer than a sequence, the `capacity`, is a ValueError. The items of each sequence
    come out longest first.

    References
    ----------
    Dehghani et al., Patch n' Pack: NaViT, a Vision Transformer for any Aspect Ratio and Resolution (2023),
    arXiv 2307.06304, section 2.1 and appendix A.3 (greedy packing).

    Examples
    --------
    >>> first_fit_decreasing([3, 6, 4, 1], capacity=7)
    [[1, 3], [2, 0]]
    """
    sizes = np.asarray(lengths, np.int64)
    if sizes.size and (sizes.min() < 1 or sizes.max() > capacity):
        raise ValueError(
            f"expected lengths from 1 to {capacity}, the capacity of a sequence. Got {sizes.min()} to {sizes.max()}."
        )
    room = np.full(len(sizes), capacity, np.int64)  # of each sequence; there are never more of them than items
    packs: list[list[int]] = []
    # Sequences that are not begun have all their room, so that there is always a first that fits.
    for item in np.argsort(-sizes, kind="stable").tolist():
        first = int(np.argmax(room >= sizes[item]))
        if first == len(packs):
            packs.append([])
        packs[first].append(item)
        room[first] -= sizes[item]
    return packs
