"""Augmented copies of training samples, and augmented views at prediction: pure functions of arrays and a seed."""

from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils._param_validation import Interval
from torch import Generator, Tensor

from frofa.augmentations import Augmentation, TokenBatch
from frofa.compute.devices import as_tensor, threads_for
from frofa.compute.memory import row_chunks
from frofa.estimators.tokens.padding import CHUNK_ELEMENTS, by_grid, refuse_prefix
from frofa.ragged import RaggedTokens

Array = npt.NDArray[Any]
COPIES, VIEWS = 0, 1
"""Numbers of the two random streams of a seed."""
CONSTRAINTS: dict[str, list[Any]] = {
    "augment": [Augmentation, None],
    "n_augmented": [Interval(Integral, 0, None, closed="left")],
    "n_views": [Interval(Integral, 0, None, closed="left")],
    "n_prefix": [Interval(Integral, 0, None, closed="left")],
    "grid": [tuple, list, None],
    "random_state": ["random_state"],
}
"""Constraints of the parameters that heads which train on augmented copies have in common."""


def with_copies(
    tokens: Array,
    features: Array,
    rows: npt.NDArray[np.intp],
    augment: Augmentation,
    n_copies: int,
    seed: int,
    *,
    n_prefix: int,
    grid: tuple[int, int] | None,
) -> Array:
    """Put augmented copies beside each sample: float64, (n, 1 + n_copies, C), averaged over the tokens that are seen.

    Tokens (n, P + N, C), of which the first `n_prefix` = P are not augmented and the others lie on `grid`, are
    augmented in float32; pooled features (n, C) as a single token without positions, and RaggedTokens with those of the
    same grid. `features` (n, C) are the averaged samples, which the copies of samples other than `rows` are equal to.
    The seed determines the copies, together with the shape of `tokens` and the number of `rows`.
    """
    # Copies (n, 1 + n_copies, C) start as the samples themselves, which they stay where rows are not augmented.
    copies = np.repeat(features[:, None], 1 + n_copies, axis=1)
    generator = _generator(seed, COPIES)
    for chunk, batch in _batches(rows, tokens, n_prefix, grid):
        with threads_for(batch.patches.numel()):
            for k in range(1, 1 + n_copies):
                copies[chunk, k] = mean_of_seen(augment.apply(batch, generator)).numpy()
    return check_augmented(copies, augment)


def sum_over_views(
    score: Callable[[Array], Array],
    tokens: Array,
    augment: Augmentation,
    n_views: int,
    seed: int,
    *,
    n_prefix: int,
    grid: tuple[int, int] | None,
) -> Array:
    """Add up the scores (n, n_classes) of augmented views; parameters as in `with_copies`.

    A view is drawn once and treats all images alike, so that an image's scores do not depend on the others. `score` is
    called with tokens (n, any number, C).
    """

    def of_chunk(batch: TokenBatch) -> Array:
        generator = _generator(seed, VIEWS)  # anew for each chunk: all get the same views
        with threads_for(batch.patches.numel()):
            drawn = [augment.make_view(batch, generator) for _ in range(n_views)]
            scores = [_score_seen(score, augment.transform(batch, params)) for params in drawn]
        total: Array = np.sum(scores, axis=0)
        return total

    # Sums (m, n_classes) of each chunk, which come grid by grid where images differ in size.
    batches = _batches(np.arange(len(tokens)), tokens, n_prefix, grid)
    rows, sums = zip(*((chunk, of_chunk(batch)) for chunk, batch in batches), strict=True)
    return check_augmented(_in_order(rows, sums), augment)


def check_augmented(values: Array, augment: Augmentation) -> Array:
    """Return what comes of augmented features, and raise a ValueError if features were too large to be augmented."""
    if not np.isfinite(values).all():
        raise ValueError(f"features are augmented in float32, in which they are too large for {augment!r}.")
    return values


def check_grid(grid: Any, name: str) -> None:
    """Raise a ValueError in the name of an estimator if its `grid` is no height and width."""
    if grid is not None and (len(grid) != 2 or not all(isinstance(side, Integral) and int(side) > 0 for side in grid)):
        raise ValueError(f"The 'grid' parameter of {name} must be (height, width) in tokens, or None. Got {grid!r}.")


def mean_of_seen(batch: TokenBatch) -> Tensor:
    """Average the tokens that the mask shows, prefix included, in float64; shape (n, C)."""
    tokens, mask = batch.tokens, batch.token_mask
    if mask is None:
        return tokens.mean(1, dtype=torch.float64)
    # Sums over the tokens that are shown, divided by their number: (n, C).
    shown = mask.unsqueeze(2)
    return tokens.masked_fill(~shown, 0).sum(1, dtype=torch.float64) / shown.sum(1)


def _score_seen(score: Callable[[Array], Array], view: TokenBatch) -> Array:
    """Score tokens without those that are hidden: so a head need not know of masks."""
    tokens, mask = view.tokens.numpy(), view.token_mask
    if mask is None:
        return score(tokens)
    # Images with the same tokens hidden are scored together, without these tokens.
    patterns, pattern_of = mask.unique(dim=0, return_inverse=True)  # one, unless tokens are chosen by their values
    rows = [np.flatnonzero(pattern_of.numpy() == i) for i in range(len(patterns))]
    parts = [score(tokens[part][:, seen]) for part, seen in zip(rows, patterns.numpy(), strict=True)]
    return _in_order(rows, parts)


def _in_order(rows: Sequence[npt.NDArray[np.intp]], parts: Sequence[Array]) -> Array:
    """Put parts together, each of which is of some rows."""
    scores = np.concatenate(parts)
    ordered = np.empty_like(scores)
    ordered[np.concatenate(rows)] = scores
    return ordered


def _batches(
    rows: npt.NDArray[np.intp], tokens: Array | RaggedTokens, n_prefix: int, grid: tuple[int, int] | None
) -> Iterator[tuple[npt.NDArray[np.intp], TokenBatch]]:
    """Rows in runs of limited memory, of one grid each; how many depends on the shape of a sample alone."""
    if isinstance(tokens, RaggedTokens):
        refuse_prefix(n_prefix, grid)
        for chunk, alike, own in by_grid(tokens, rows):
            yield chunk, _batch(alike, 0, own)
        return
    for part in row_chunks(len(rows), CHUNK_ELEMENTS, tokens[0].size):
        yield rows[part], _batch(tokens[rows[part]], n_prefix, grid)


def _batch(tokens: Array, n_prefix: int, grid: tuple[int, int] | None) -> TokenBatch:
    return TokenBatch.from_tokens(as_tensor(tokens, torch.device("cpu")), n_prefix=n_prefix, grid=grid)


def _generator(seed: int, stream: int) -> Generator:
    return Generator().manual_seed(int(np.random.SeedSequence([seed, stream]).generate_state(1)[0]))
