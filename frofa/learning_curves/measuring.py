"""Accuracy by shots on a few labelled images: fits side by side, each scored on the images that it left out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils import _safe_indexing

from frofa.estimators import FewShotClassifier
from frofa.estimators.batched.jobs import Job, fit_each, fit_many
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.learning_curves.points import MANY, Points, points_of
from frofa.learning_curves.supports import NestedSupports
from frofa.utils.text import one_line

Array = npt.NDArray[Any]


class Tally(NamedTuple):
    """Hits and times left out, (n,) each, of the images at a size; in how many orders, to how many labels and shots."""

    hits: Array
    counts: Array
    n_orders: int
    n_labels: int
    shots: float


def measure(
    head: Any, features: Any, y: Array, codes: npt.NDArray[np.intp], supports: NestedSupports
) -> tuple[Points, list[str]]:
    """Fit the head to all supports, and score it; returns points, and notes on sizes that could not be fitted.

    Raises
    ------
    ValueError
        If no fit came off at any size; the message has the first one's error.
    """
    n_sizes, n_orders = len(supports.counts), len(supports.orders)
    places = [(order, size) for order in range(n_orders) for size in range(n_sizes)]
    everything = np.arange(len(y))
    parts = [*(supports.rows(*place) for place in places), everything]
    *fitted, whole = _fits(head, features, y, parts)
    hits, counts = np.zeros((n_sizes, len(y))), np.zeros((n_sizes, len(y)))
    done = np.zeros(n_sizes, int)
    failures: dict[int, Exception] = {}
    for (_, size), one, rows in zip(places, fitted, parts[:-1], strict=True):
        rest = np.setdiff1d(everything, rows)
        found = _predicted(one, _safe_indexing(features, rest))
        if isinstance(found, Exception):
            failures.setdefault(size, found)
            continue
        hits[size, rest] += found == y[rest]
        counts[size, rest] += 1
        done[size] += 1
    labels = supports.counts.sum(1)
    tallies = [
        Tally(hits[size], counts[size], int(done[size]), int(labels[size]), float(supports.shots[size]))
        for size in range(n_sizes)
        if done[size]
    ]
    tallies += _left_out_one_by_one(whole, y, codes)
    if not tallies:
        error = next(iter(failures.values()))
        raise ValueError(f"the classifier could not be fitted to any part of the images: {one_line(error)}.") from error
    return _points(tallies, codes), _notes(failures, supports)


def _fits(head: Any, features: Any, y: Array, parts: Sequence[Array]) -> list[Any]:
    jobs = [Job(head, rows) for rows in parts]
    if isinstance(head, FeatureClassifier):
        return fit_many(features, y, jobs)
    return fit_each(features, y, jobs, None, lambda _: None)


def _predicted(fitted: Any, features: Any) -> Array | Exception:
    """Predict, or say why not: nearest neighbours, for one, find out at prediction that they are too few."""
    if isinstance(fitted, Exception):
        return fitted
    try:
        return np.asarray(fitted.predict(features))
    except ValueError as error:
        return error


def _left_out_one_by_one(head: Any, y: Array, codes: npt.NDArray[np.intp]) -> list[Tally]:
    """Score leave-one-out predictions, where the fit to all images has them in closed form."""
    proba = getattr(head, "loo_proba_", None)
    if isinstance(head, FewShotClassifier) and not head.weights_[1:].any():
        # A blend of the probe alone: what it calls out of fold is left out one by one.
        proba = head.out_of_fold_proba_
    if proba is None or np.shape(proba) != (len(y), len(head.classes_)):
        return []
    known = np.isfinite(proba).all(1)
    hits = np.zeros(len(y))
    hits[known] = head.classes_[np.asarray(proba)[known].argmax(1)] == y[known]
    # Whose class has lost an image has lost a shot, which counts more than that the other classes have not.
    shots = max(len(y) / (codes.max() + 1) - 1, 0.5)
    return [Tally(hits, known.astype(float), MANY, len(y), shots)] if known.any() else []


def _points(tallies: Sequence[Tally], codes: npt.NDArray[np.intp]) -> Points:
    hits, counts, n_orders, n_labels, shots = (np.array(column) for column in zip(*tallies, strict=True))
    return points_of(shots, hits, counts, codes, n_orders, n_labels)


def _notes(failures: dict[int, Exception], supports: NestedSupports) -> list[str]:
    if not failures:
        return []
    shots = ", ".join(f"{supports.shots[size]:.3g}" for size in sorted(failures))
    return [f"some fits failed at {shots} shots: {one_line(failures[min(failures)])}"]
