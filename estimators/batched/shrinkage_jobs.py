"""The jobs of `fit_many` for shrinkage probes: checked one by one, fitted side by side."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone

from frofa.blocks import FeatureBlocks
from frofa.compute.devices import resolve_device
from frofa.estimators.batched.jobs import Fitted, Job, fit_each
from frofa.estimators.batched.sharing import Shared, once
from frofa.estimators.core.support import Labels, Support
from frofa.estimators.core.validation import check_labels, choose_labels, require_labels
from frofa.estimators.solvers.shrinkage.selection import shares_of
from frofa.estimators.solvers.shrinkage.sets import SupportSet, fit_sets

SEEN = ("n_features_in_", "feature_names_in_", "blocks_")
"""Fitted attributes that tell of X, which all heads get."""


class Source(NamedTuple):
    """Checked features, and what a head knows of them."""

    blocks: FeatureBlocks
    seen: dict[str, Any]


class Planned(NamedTuple):
    """A job that can be fitted: its place, its head, its features and samples, and sample weights as given."""

    place: int
    head: Any
    source: Source
    labels: Labels
    rows: SupportSet


def views_of(blocks: FeatureBlocks) -> list[list[Any]]:
    """Read all views (n, C) of all blocks."""
    return [[np.asarray(view) for view in blocks.views(name)] for name in blocks.names]


def fit_shrinkage_jobs(
    X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any, on_done: Callable[[int], object]
) -> list[Fitted]:
    """Fit the heads of all jobs; features are checked, and moved to a device, once for all of them."""
    results: list[Fitted] = [RuntimeError("not fitted")] * len(jobs)
    shared: Shared = {}
    name = type(jobs[0].estimator).__name__
    try:
        require_labels(y, name)
        whole = check_labels(X, y, sample_weight, name)
        # Features are the same for all, but for the blocks that they are cut into.
        for job in jobs:
            once(shared, _sizes(job.estimator), partial(_source, job.estimator, X))
    except Exception:
        return fit_each(X, y, jobs, sample_weight, on_done)
    groups: dict[tuple[torch.device, Any, int, Any], list[Planned]] = {}
    for place, job in enumerate(jobs):
        if job.estimator.augment is not None:
            # Augmented copies are each job's own.
            results[place] = fit_each(X, y, [job], sample_weight, on_done)[0]
            continue
        try:
            planned = _plan(place, job, whole, shared)
            names = planned.head._seen(planned.source.blocks).names
            shares = shares_of(planned.head.block_weights, names)
            shares_key = names, None if shares is None else shares.tobytes()
            key = resolve_device(planned.head.device), _sizes(job.estimator), id(planned.head.background), shares_key
            planned.head._check_background()
        except Exception as error:
            results[place] = error
            on_done(1)
        else:
            groups.setdefault(key, []).append(planned)
    for (device, *_), group in groups.items():
        first = group[0].head
        background, seen = first._check_background(), first._seen(group[0].source.blocks)
        others = () if background is None else views_of(first._seen(background))
        shares = shares_of(first.block_weights, seen.names)
        found = fit_sets(views_of(seen), [one.rows for one in group], device, on_done, others, shares)
        for one, fitted in zip(group, found, strict=True):
            blocks = one.source.blocks[one.rows.rows]
            left_out = one.head._take(fitted, blocks, one.rows)
            if one.head.keep_support:
                one.head._keep(blocks, one.labels)
            one.head._finish(Support(blocks, one.rows.codes, one.rows.weights), left_out)
            results[one.place] = one.head
    return results


def _sizes(head: Any) -> Any:
    return None if head.block_sizes is None else np.asarray(head.block_sizes).tobytes()


def _copied(estimator: Any) -> Any:
    """Clone an estimator, which is to share its background, and what knows words, with its clones."""
    head = clone(type(estimator)(**{**estimator.get_params(deep=False), "background": None, "text": None}))
    head.background, head.text = estimator.background, estimator.text
    return head


def _source(estimator: Any, X: Any) -> Source:
    head = _copied(estimator)
    blocks = head._check_features(X, reset=True)
    return Source(blocks, {name: value for name, value in vars(head).items() if name in SEEN})


def _plan(place: int, job: Job, whole: Labels, shared: Shared) -> Planned:
    head: Any = _copied(job.estimator)
    rows = np.asarray(job.rows)
    # Folds share one estimator: its parameters are checked once.
    once(shared, ("valid", id(job.estimator)), head._check_parameters)
    source = shared[_sizes(head)]
    vars(head).update(source.seen)
    labels = once(shared, rows.tobytes(), lambda: choose_labels(whole, rows, type(head).__name__))
    return Planned(place, head, source, labels, head._support_set(rows, labels.codes, head._adopt_labels(labels)))
