"""A map of figures and captions into one space, in closed form, for towers that do not know such figures.

Canonical correlation analysis with a ridge, its directions weighted by their correlations, compared by cosine (Gong et
al., A multi-view embedding space for modeling internet images, tags, and their semantics, IJCV 2014, equation 6, with
power 1), and blended with the cosine of the towers themselves.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from frofa.scifibench.embedding import Array, EmbeddedQuestions, Places, cosine_scores, pair_scores, units
from frofa.utils.text import shorten

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Ridges to choose from, in units of the mean variance of a channel (``benchmarks/multiple_choice.py``)."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the towers' own cosine to choose from."""
INVERSE_TEMPERATURES = 2.0 ** np.arange(-2, 5)
N_GROUPS = 6
"""Groups of whole categories, which choose ridge and share by adapters without two of them."""
N_PARTS = 3
"""Parts of single questions that choose, where there are two groups alone."""
LEAST_PAIRS = 10


class Chosen(NamedTuple):
    """Ridge, share of the towers' own cosine, and number of pairs of the adapter that leaves a category out."""

    category: str
    ridge: float
    share: float
    n_pairs: int


class _Fitted(NamedTuple):
    """Scores (n, m) by maps of all ridges, NaN but for the questions that were left out, and the pairs of the fit."""

    tables: list[Array]
    n_pairs: int


def adapted_scores(embedded: EmbeddedQuestions) -> tuple[Array, list[Chosen]]:
    """Scores (n, m) of the choices by adapters that have seen neither their category nor their figures and captions.

    For each category, pairs of figure and caption that belong together are taken from the right answers to questions of
    the other ones. A pair of which a tested question has figure or caption, be it as a wrong choice, is left out. Ridge
    and share are those under which the questions of other categories, six groups at most, each by adapters that leave
    its group out, too, have the largest likelihood.

    A ValueError says that there is one category alone, or that too few pairs are left.
    """
    groups = _groups(embedded.categories)
    if len(groups) < 2:
        raise ValueError(f"the adapter needs two categories at least. Got {embedded.categories[0]} alone.")
    own = cosine_scores(embedded) if embedded.figures.shape[1] == embedded.captions.shape[1] else None
    fits = dict[bytes, _Fitted]()

    def without(*parts: Places) -> _Fitted:
        # A fit without two groups serves both of them.
        rows = np.sort(np.concatenate(parts))
        if rows.tobytes() not in fits:
            fits[rows.tobytes()] = _fit(embedded, rows, rows, strict=False)
        return fits[rows.tobytes()]

    found, chosen = np.full(embedded.figure_at.shape, np.nan), []
    for group in groups:
        others = np.setdiff1d(np.arange(len(found)), group)
        parts = [part for part in groups if part is not group]
        if len(parts) < 2:
            parts = [others[place::N_PARTS] for place in range(N_PARTS)]
        left_out = [np.full(found.shape, np.nan) for _ in RIDGES]
        for part in parts:
            for table, scores in zip(left_out, without(group, part).tables, strict=True):
                table[part] = scores[part]
        place, share = _choose(left_out, own, others, embedded.answer)
        for name in sorted(set(embedded.categories[group].tolist())):
            tested = np.flatnonzero(embedded.categories == name)
            fitted = _fit(embedded, tested, tested, strict=True)
            found[tested] = _blend(fitted.tables[place], left_out[place], own, share, others)[tested]
            chosen.append(Chosen(name, RIDGES[place], share, fitted.n_pairs))
    return found, sorted(chosen)


def _groups(categories: Any) -> list[Places]:
    """Put whole categories into groups, the largest first, each into the group that has the fewest questions."""
    names, counts = np.unique(categories, return_counts=True)
    n_groups = min(N_GROUPS, len(names))
    sizes, of = np.zeros(n_groups, np.intp), dict[str, int]()
    for place in np.argsort(-counts, kind="stable"):
        of[str(names[place])] = int(sizes.argmin())
        sizes[sizes.argmin()] += counts[place]
    group_of = np.array([of[str(name)] for name in categories])
    return [np.flatnonzero(group_of == group) for group in range(n_groups)]


def _fit(embedded: EmbeddedQuestions, left_out: Places, tested: Places, *, strict: bool) -> _Fitted:
    """Score the tested questions by maps of all ridges, fitted to pairs of what is not left out.

    Pairs with a part in a tested question are not taken. Where fewer than half would remain, questions are tested a few
    at a time, each time by maps of their own, if it is `strict`; else these pairs are taken all the same.
    """
    figure_at, caption_at = embedded.figure_at[tested], embedded.caption_at[tested]
    every = np.unique(np.delete(embedded.pairs, left_out, 0), axis=0)
    pairs = every[~np.isin(every[:, 0], figure_at) & ~np.isin(every[:, 1], caption_at)]
    if len(pairs) < len(every) / 2 and not strict:
        pairs = every
    elif len(pairs) < len(every) / 2 and len(tested) > 1:
        halves = [_fit(embedded, left_out, half, strict=True) for half in np.array_split(tested, 2)]
        tables = [np.fmax(*two) for two in zip(halves[0].tables, halves[1].tables, strict=True)]
        return _Fitted(tables, min(half.n_pairs for half in halves))
    if len(pairs) < LEAST_PAIRS:
        names = shorten(set(embedded.categories[tested].tolist()))
        raise ValueError(
            f"the adapter needs {LEAST_PAIRS} figures with captions that have no part in the questions of {names}. "
            f"Got {len(pairs)}."
        )
    figures, captions = units(embedded.figures), units(embedded.captions)
    # Only what the questions have is mapped; all may be thousands.
    (shown, figure_places), (said, caption_places) = _needed(figure_at), _needed(caption_at)
    tables = []
    for one in canonical_maps(figures[pairs[:, 0]], captions[pairs[:, 1]], RIDGES):
        table = np.full(embedded.figure_at.shape, np.nan)
        sides = units(one.figures(figures[shown])), units(one.captions(captions[said]))
        table[tested] = pair_scores(*sides, figure_places, caption_places)
        tables.append(table)
    return _Fitted(tables, len(pairs))


def _needed(rows: Places) -> tuple[Places, Places]:
    """Rows that occur in a table (n, m), and the table in places among them; -1 stays what it is."""
    needed = np.unique(rows[rows >= 0])
    return needed, np.where(rows < 0, -1, np.searchsorted(needed, rows))


class CanonicalMap(NamedTuple):
    """Means of both sides, and the maps (D, r) and (E, r) of centred rows to canonical directions, weighted."""

    means: tuple[Array, Array]
    weights: tuple[Array, Array]

    def figures(self, rows: Array) -> Array:
        """Map figures (k, D) to (k, r)."""
        return np.asarray((rows - self.means[0]) @ self.weights[0])

    def captions(self, rows: Array) -> Array:
        """Map captions (k, E) to (k, r)."""
        return np.asarray((rows - self.means[1]) @ self.weights[1])


def canonical_maps(first: Array, second: Array, ridges: Sequence[float]) -> list[CanonicalMap]:
    """Canonical correlation analysis of pairs (n, D) and (n, E) with each ridge, from one decomposition of each side.

    Whitened by ``V / sqrt(s^2 + ridge * sum(s^2) / D)`` on each side, where V are the principal directions and s^2 the
    variances, the cross-covariance is M. Its singular vectors are the canonical directions, and its singular values the
    correlations that weight them.
    """
    means = (first.mean(0), second.mean(0))
    sides = (first - means[0], second - means[1])
    if min(sides[0].shape) < min(sides[1].shape):
        # The side of fewer directions comes second, whose correlations are solved for.
        swapped = canonical_maps(second, first, ridges)
        return [CanonicalMap(one.means[::-1], one.weights[::-1]) for one in swapped]
    variances, directions = zip(*map(_principal, sides), strict=True)
    cross = (sides[0] @ directions[0]).T @ (sides[1] @ directions[1])
    found = []
    for ridge in ridges:
        damped = [
            np.sqrt(variance + ridge * max(variance.sum(), 1e-300) / side.shape[1])
            for variance, side in zip(variances, sides, strict=True)
        ]
        whitened = cross / damped[0][:, None] / damped[1]
        squares, right = np.linalg.eigh(whitened.T @ whitened)
        squares, right = np.maximum(squares[::-1], 0), right[:, ::-1]
        # Left singular vectors times correlations are M times the right ones.
        weights = (
            (directions[0] / damped[0]) @ (whitened @ right),
            (directions[1] / damped[1]) @ (right * np.sqrt(squares)),
        )
        found.append(CanonicalMap(means, weights))
    return found


def _principal(rows: Array) -> tuple[Array, Array]:
    """Variances times n (r,) and principal directions (D, r) of centred rows (n, D), from the smaller Gram matrix."""
    if rows.shape[1] <= len(rows):
        values, vectors = np.linalg.eigh(rows.T @ rows)
        return np.maximum(values, 0), vectors
    values, vectors = np.linalg.eigh(rows @ rows.T)
    kept = values > 1e-12 * max(values[-1], 1e-300)
    return values[kept], rows.T @ vectors[:, kept] / np.sqrt(values[kept])


def _choose(left_out: list[Array], own: Array | None, rows: Places, answer: Places) -> tuple[int, float]:
    """Choose place of the ridge and share under which the questions `rows` have the largest likelihood."""
    options = [(place, share) for place in range(len(RIDGES)) for share in (SHARES if own is not None else (0.0,))]
    likelihoods = [
        _likelihood(_blend(left_out[place], left_out[place], own, share, rows)[rows], answer[rows])
        for place, share in options
    ]
    return options[int(np.argmax(likelihoods))]


def _blend(mapped: Array, scale: Array, own: Array | None, share: float, rows: Places) -> Array:
    """Blend scores, each in units of how much it differs between the choices of the questions `rows`."""
    scaled: Array = mapped / _spread(scale[rows])
    if own is None:
        return scaled
    blended: Array = (1 - share) * scaled + share * own / _spread(own[rows])
    return blended


def _spread(scores: Array) -> float:
    return max(float(np.sqrt(np.nanmean(np.nanvar(scores, 1)))), 1e-12)


def _likelihood(scores: Array, answer: Places) -> float:
    """Mean log-likelihood of the right choices at the best temperature."""
    centred = scores - np.nanmax(scores, 1, keepdims=True)
    right = centred[np.arange(len(centred)), answer]
    values: list[Any] = [
        (beta * right - np.log(np.nansum(np.exp(beta * centred), 1))).mean() for beta in INVERSE_TEMPERATURES
    ]
    return float(max(values))
