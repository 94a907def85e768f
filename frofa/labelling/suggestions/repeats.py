"""Samples that repeat others: nobody gains by labelling them again."""

import numpy as np
import numpy.typing as npt
import torch

from frofa.compute.memory import row_chunks
from frofa.labelling.suggestions.herding import CHUNK_ELEMENTS, squared_distances
from frofa.labelling.suggestions.pool import Pool

Indices = npt.NDArray[np.intp]
NEAR = 1e-5
"""Squared distance of vectors of length one below which rows are compared as they are: that of rounding in float32."""
SAME = 1e-3
"""Distance of rows, relative to their length, up to which they are the same but for rounding in half precision."""


def repeated(pool: Pool, rows: Indices, known: Pool, known_rows: Indices) -> npt.NDArray[np.bool_]:
    """Tell which of some rows (m,) of a pool repeat one of the known rows (k,) of another, or of the same."""
    found = np.zeros(len(rows), bool)
    if not len(rows) or not len(known_rows):
        return found
    return repeats(pool, rows, pool.vectors(rows), known, known_rows, known.vectors(known_rows))


def repeats(
    pool: Pool, rows: Indices, vectors: torch.Tensor, known: Pool, known_rows: Indices, known_vectors: torch.Tensor
) -> npt.NDArray[np.bool_]:
    """Tell the same with vectors (m, D) and (k, D) of these rows, which were read before."""
    found = np.zeros(len(rows), bool)
    if not len(rows) or not len(known_rows):
        return found
    pairs = [
        (squared_distances(vectors[part], known_vectors) < NEAR).nonzero()
        + torch.tensor([part.start, 0]).to(vectors.device)
        for part in row_chunks(len(rows), CHUNK_ELEMENTS, len(known_rows))
    ]
    # Pairs (p, 2) of positions among the rows and among the known ones; there are few, unless much is repeated.
    for left, right in _chunks(torch.cat(pairs).cpu().numpy()):
        ours, theirs = pool.plain(rows[left]), known.plain(known_rows[right])
        length = np.linalg.norm(theirs, axis=1)
        found[left[np.linalg.norm(ours - theirs, axis=1) <= SAME * length]] = True
    return found


def _chunks(pairs: npt.NDArray[np.int64]) -> list[tuple[Indices, Indices]]:
    return [(part[:, 0], part[:, 1]) for part in np.array_split(pairs, max(1, len(pairs) // 4096)) if len(part)]
