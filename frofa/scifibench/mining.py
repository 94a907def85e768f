"""Hard negatives of image-text pairs: their neighbours, without those that are the same."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from frofa.compute.arrays import check_embedded
from frofa.compute.devices import resolve_device

SAME = 1e-6
"""Cosine distance of copies in float32."""
CHUNK, MOST_ROWS = 2**24, 512
"""Similarities that are held at once, and rows, whose neighbours are compared with each other."""
NEIGHBOURS = 16
"""Neighbours, for each negative, that are looked at before all pairs are."""


def mine_hard_negatives(
    images: npt.ArrayLike,
    texts: npt.ArrayLike,
    n_negatives: int = 4,
    *,
    min_distance: float = 0.01,
    groups: npt.ArrayLike | None = None,
    device: str = "auto",
) -> npt.NDArray[np.int64]:
    """Choose the wrong answers of multiple-choice questions among the pairs that are most alike.

    Parameters
    ----------
    images, texts : array-like of shape (n, D) and (n, E)
        Embeddings of n images, and of the text that belongs to each, of any length.
    n_negatives : int, default=4
        Wrong answers a question.
    min_distance : float, default=0.01
        Near-copies, which are nearer than this to the pair, or to one of its other negatives, are left out. Distances
        are ``1 - cosine`` of the joint embedding, from 0 to 2.
    groups : array-like of shape (n,), default=None
        A label for each pair, such as its category; negatives are then of the same group.
    device : str, default="auto"
        Torch device of the search, which is exact; ``"auto"`` takes the GPU where there is one.

    Returns
    -------
    ndarray of int64, shape (n, n_negatives)
        Positions of the negatives of each pair, the nearest first, of equal ones the first.

    Raises
    ------
    ValueError
        If the numbers of images and texts differ, an embedding is zero, NaN or infinite, or a pair has too few others
        that are no near-copies, or its group too few members.
    TypeError
        If images or texts are paths or words, and not their vectors.

    Notes
    -----
    The joint embedding is image and text, each of length one, side by side, so that its cosine is the mean of both. A
    pair with the same image or the same text is never a negative, however far its other half is: it would be right.

    References
    ----------
    Roberts et al., SciFIBench: benchmarking large multimodal models for scientific figure interpretation, NeurIPS 2024,
    whose questions are made so.

    Examples
    --------
    >>> import frofa
    >>> images = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.0]]
    >>> texts = [[1.0, 0.0], [0.8, 0.3], [0.1, 1.0], [0.0, 1.0]]
    >>> frofa.mine_hard_negatives(images, texts, 1).ravel().tolist()
    [1, 0, 3, 1]

    The last pair has the image of the first, and is none of its negatives.
    """
    where = resolve_device(device)
    halves = [_units(values, name, where) for values, name in ((images, "images"), (texts, "texts"))]
    n = len(halves[0])
    if len(halves[1]) != n:
        raise ValueError(f"expected one text an image. Got {n} images and {len(halves[1])} texts.")
    if n_negatives < 1 or not 0 <= min_distance <= 2:
        raise ValueError(
            f"expected n_negatives of at least 1, and min_distance from 0 to 2. Got {n_negatives} and {min_distance}."
        )
    members = _members(groups, n, n_negatives, where)
    found = torch.empty((n, n_negatives), dtype=torch.int64, device=where)
    step = min(max(CHUNK // n, 1), MOST_ROWS)
    for start in range(0, n, step):
        rows = torch.arange(start, min(start + step, n), device=where)
        found[rows] = _nearest(halves, rows, members, n_negatives, min_distance)
    return np.asarray(found.cpu().numpy())


def _nearest(halves: list[Any], rows: Any, members: Any, n_negatives: int, min_distance: float) -> Any:
    """Negatives (r, n_negatives) of some rows: their next neighbours, or any pairs where these do not suffice."""
    likeness, barred = _compare(halves, rows, min_distance)
    if members is not None:
        barred |= members[rows, None] != members
    likeness.masked_fill_(barred, -torch.inf)
    chosen, settled = _among_neighbours(halves, likeness, n_negatives, min_distance)
    open_rows = torch.nonzero(~settled).ravel()
    if len(open_rows):
        chosen[open_rows] = _among_all(halves, likeness[open_rows], rows[open_rows], n_negatives, min_distance)
    return chosen


def _among_neighbours(halves: list[Any], likeness: Any, n_negatives: int, min_distance: float) -> tuple[Any, Any]:
    """Negatives (r, n_negatives) among the next neighbours, and whether no other pair could be one of them (r,)."""
    width = min(NEIGHBOURS * n_negatives, likeness.shape[1])
    places = likeness.topk(width, 1).indices.sort(1).values
    # Nearest first, and equal ones in the order of their places.
    places = places.gather(1, likeness.gather(1, places).argsort(dim=1, descending=True, stable=True))
    values = likeness.gather(1, places)
    cosines = [torch.einsum("rkd,rld->rkl", half[places], half[places]) for half in halves]
    same = _are_same(cosines, min_distance)
    left, every = torch.isfinite(values), torch.arange(len(values), device=values.device)
    settled, chosen = torch.ones(len(values), dtype=torch.bool, device=values.device), []
    for _ in range(n_negatives):
        first = left.to(torch.int8).argmax(1)  # of equal numbers the first
        # Where it is as near as the last neighbour, pairs beyond may be equal to it.
        settled &= left[every, first] & ((values[every, first] > values[:, -1]) | (width == likeness.shape[1]))
        chosen.append(places[every, first])
        left &= ~same[every, first]
        left[every, first] = False
    return torch.stack(chosen, 1), settled


def _among_all(halves: list[Any], likeness: Any, rows: Any, n_negatives: int, min_distance: float) -> Any:
    """Negatives (r, n_negatives) among all pairs, by what is left of their likeness (r, n)."""
    chosen = list[Any]()
    for place in range(n_negatives):
        best, at = likeness.max(1)
        if not torch.isfinite(best).all():
            row = int(rows[~torch.isfinite(best)][0])
            smaller = "n_negatives or min_distance" if n_negatives > 1 else "min_distance"
            raise ValueError(
                f"expected {n_negatives} other pairs that are no near-copies. Got {place} of pair {row}: choose a "
                f"smaller {smaller}."
            )
        chosen.append(at)
        # Near-copies of what was chosen would be the same wrong answer twice.
        likeness.masked_fill_(_compare(halves, at, min_distance)[1], -torch.inf)
    return torch.stack(chosen, 1)


def _compare(halves: list[Any], rows: Any, min_distance: float) -> tuple[Any, Any]:
    """Joint cosines (r, n) of rows to all pairs, and which of these are the same, or nearly."""
    cosines = [half[rows] @ half.T for half in halves]
    same = _are_same(cosines, min_distance)
    same[torch.arange(len(rows), device=rows.device), rows] = True
    return (cosines[0] + cosines[1]) / 2, same


def _are_same(cosines: list[Any], min_distance: float) -> Any:
    """Tell by the cosines of both halves which pairs share one of them, or are near-copies."""
    one, other = cosines
    return (one > 1 - SAME) | (other > 1 - SAME) | (1 - (one + other) / 2 < max(min_distance, SAME))


def _members(groups: npt.ArrayLike | None, n: int, n_negatives: int, device: torch.device) -> Any:
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise ValueError(f"expected a group for each of {n} pairs. Got shape {labels.shape}.")
    names, members, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() <= n_negatives:
        smallest = int(counts.argmin())
        raise ValueError(
            f"expected groups of more than {n_negatives} pairs, for {n_negatives} negatives of each. Got "
            f"{counts[smallest]} of group {str(names[smallest])!r}."
        )
    return torch.from_numpy(members.astype(np.int64)).to(device)


def _units(values: npt.ArrayLike, name: str, device: torch.device) -> Any:
    check_embedded(values, name)
    rows = np.asarray(values, np.float64)
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"expected {name} of shape (n, D), one at least. Got shape {rows.shape}.")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError(f"expected embeddings of {name} that are finite, and not zero. Got others.")
    return torch.from_numpy((rows / lengths).astype(np.float32)).to(device)
