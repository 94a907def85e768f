"""Maps of features in two dimensions, on which similar images are near each other."""

import warnings
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from frofa.utils.optional import require

Array = npt.NDArray[np.float64]
Method = Literal["pca", "umap"]
METHODS = ("pca", "umap")
COMPONENTS = 50
"""UMAP starts from so many principal components, which hold nearly all of the variance and cost less."""
MOST_AT_ONCE = 500
"""Rows or channels up to which all components are computed."""
NEIGHBOURS = 15  # UMAP's own default


def embed(
    rows: npt.ArrayLike, method: Method = "pca", random_state: int = 0
) -> tuple[npt.NDArray[np.float32], tuple[float, float] | None]:
    """Project features to two dimensions.

    Parameters
    ----------
    rows : array-like of shape (n, D)
        One row an image, at least one.
    method : {"pca", "umap"}, default="pca"
        Principal components, at once; or UMAP, which shows groups better and distances worse, and takes a minute for
        thousands of images and ``pip install 'frofa[umap]'``.
    random_state : int, default=0
        Seed of UMAP. The same rows and seed give the same map.

    Returns
    -------
    coordinates : ndarray of float32, shape (n, 2)
    explained : (float, float) or None
        Shares, from 0 to 1, of the variance along either axis of PCA; None of UMAP.

    Raises
    ------
    ImportError
        If UMAP is asked for and not installed.
    ValueError
        If rows are not finite numbers of that shape, or there is no such method.

    References
    ----------
    McInnes, Healy and Melville, UMAP: Uniform manifold approximation and projection, arXiv:1802.03426.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.displays.embedding import embed
    >>> coordinates, explained = embed([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [2.0, 1.0, 0.0]])
    >>> coordinates.shape, round(sum(explained), 3)
    ((3, 2), 1.0)
    """
    if method not in METHODS:
        raise ValueError(f"expected one of the methods {', '.join(METHODS)}. Got {method!r}.")
    table = np.asarray(rows, np.float64)
    if table.ndim != 2 or not len(table) or not table.shape[1]:
        raise ValueError(f"expected features of shape (n, D). Got shape {table.shape}.")
    if not np.isfinite(table).all():
        raise ValueError("expected finite features. Got NaN or infinity.")
    if method == "pca":
        coordinates, explained = _components(table, 2)
        return coordinates.astype(np.float32), (float(explained[0]), float(explained[1]))
    return _umap(table, random_state), None


def _components(table: Array, n: int) -> tuple[Array, Array]:
    """Give the first n principal components (rows, n), zero where there are fewer, and their shares of the variance."""
    centred = table - table.mean(0)
    axes = _axes(centred, n)
    # A component's sign is arbitrary; with its largest weight positive, maps are the same on every machine.
    largest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    scores = centred @ (axes * np.where(largest < 0, -1, 1))
    shares = (scores**2).sum(0) / max(float((centred**2).sum()), np.finfo(np.float64).tiny)
    missing = n - scores.shape[1]
    return np.pad(scores, ((0, 0), (0, missing))), np.pad(shares, (0, missing))


def _axes(centred: Array, n: int) -> Array:
    """Find the directions (D, n at most) of largest variance."""
    n_rows, width = centred.shape
    if min(n_rows, width) > MOST_AT_ONCE:
        # Products with vectors alone: all eigenvalues of thousands of channels would take many seconds.
        operator = LinearOperator((width, width), matvec=lambda v: centred.T @ (centred @ v), dtype=np.float64)
        start = np.random.default_rng(0).normal(size=width)
        with suppress(ArpackNoConvergence):
            values, axes = eigsh(operator, k=min(n, width - 1), v0=start)
            return np.asarray(axes[:, np.argsort(-values)])
    if n_rows < width:
        return np.asarray(np.linalg.svd(centred, full_matrices=False)[2][:n].T)
    return np.asarray(np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :n])


def _umap(table: Array, random_state: int) -> npt.NDArray[np.float32]:
    with warnings.catch_warnings():
        # It says that a part of it, which nobody asked for, would need Tensorflow.
        warnings.simplefilter("ignore", ImportWarning)
        umap: Any = require("umap", "umap")
    n_neighbours = min(NEIGHBOURS, len(table) - 1)
    if n_neighbours < 2:
        # So few have no neighbours to speak of.
        return _components(table, 2)[0].astype(np.float32)
    reduced = _components(table, min(COMPONENTS, *table.shape))[0]
    # One thread: with several, the map is another one each time. A random start, as the spectral one fails for few.
    start = "random" if len(table) < 3 * NEIGHBOURS else "spectral"
    model = umap.UMAP(n_neighbors=n_neighbours, random_state=random_state, n_jobs=1, init=start)
    return np.asarray(model.fit_transform(reduced), np.float32)
