"""The jobs of `fit_many` for heads on tokens: checked one by one, trained together."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from torch import Tensor

from frofa.blocks import FeatureBlocks
from frofa.compute.devices import as_tensor, resolve_device
from frofa.estimators.batched.engine import Outcome, fit_plans
from frofa.estimators.batched.jobs import Fitted, Job, fit_each
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.support import Array, Indices, Support
from frofa.estimators.core.validation import check_labels, require_labels
from frofa.estimators.tokens.image_views import views_in, views_on
from frofa.estimators.tokens.lazy import LazyFeatures, Tokens
from frofa.estimators.training.plan import HeadPlan
from frofa.ragged import RaggedTokens


class Planned(NamedTuple):
    """A job that can be trained: its place, its head, the tokens that the head cuts X into, and its samples.

    Plans are the head's, then those of heads that calibrate it.
    """

    place: int
    head: Any
    tokens: Array
    plans: list[HeadPlan]
    rows: Indices
    codes: Indices
    weights: Array

    def fitted(self, outcomes: list[Outcome]) -> Fitted:
        """Let the head become what was trained."""
        # All rows as they are: a copy of the tokens would be large.
        every = np.array_equal(self.rows, np.arange(len(self.tokens)))
        support = Support(self.tokens if every else self.tokens[self.rows], self.codes, self.weights)
        head: FeatureClassifier = self.head
        try:
            head._finish(support, self.head._become(self.plans, outcomes, support))
        except Exception as error:
            return error
        return head


def fit_token_jobs(
    X: Any, y: Any, jobs: Sequence[Job], sample_weight: Any, on_done: Callable[[int], object]
) -> list[Fitted]:
    """Fit the heads of all jobs; features are checked, and moved to a device, once for all of them."""
    results: list[Fitted] = [RuntimeError("not fitted")] * len(jobs)
    first = clone(jobs[0].estimator)
    try:
        features = first._check_features(X, reset=True)
    except Exception:
        return fit_each(X, y, jobs, sample_weight, on_done)
    # Fitted attributes that tell of X, which all heads get.
    seen = {name: value for name, value in vars(first).items() if name in ("n_features_in_", "feature_names_in_")}
    # Heads are trained together on one device, on X cut into the same number of tokens.
    groups: dict[tuple[torch.device, int], list[Planned]] = {}
    for place, job in enumerate(jobs):
        try:
            planned = _plan_job(place, job, features, seen, y, sample_weight)
            key = resolve_device(planned.head.device), planned.tokens.shape[1]
        except Exception as error:
            results[place] = error
            on_done(1)
        else:
            groups.setdefault(key, []).append(planned)
    for (device, _), group in groups.items():
        tokens = _on_device(group[0].tokens, X, device)
        # All heads of all jobs at a time; those of a job count as one.
        plans = [plan for one in group for plan in one.plans]
        outcomes = iter(fit_plans(tokens, plans, on_done=_by_job(len(plans), len(group), on_done)))
        for one in group:
            results[one.place] = one.fitted([next(outcomes) for _ in one.plans])
    return results


def _by_job(n_heads: int, n_jobs: int, on_done: Callable[[int], object]) -> Callable[[int], None]:
    """Count jobs by the heads that are trained, of which each job has as many."""
    trained = 0

    def count(n: int) -> None:
        nonlocal trained
        before, trained = trained, trained + n
        on_done(trained * n_jobs // n_heads - before * n_jobs // n_heads)

    return count


def _plan_job(place: int, job: Job, features: Array, seen: dict[str, Any], y: Any, sample_weight: Any) -> Planned:
    head: Any = clone(job.estimator)
    head._check_parameters()
    require_labels(y, type(head).__name__)
    vars(head).update(seen)
    rows = np.asarray(job.rows)
    sample_weight = None if sample_weight is None else _safe_indexing(sample_weight, rows)
    labels = check_labels(rows, _safe_indexing(y, rows), sample_weight, type(head).__name__)
    codes, weights = labels.codes, head._adopt_labels(labels)
    tokens = head._tokens(features)
    return Planned(place, head, tokens, head._plans(rows, codes, weights, tokens), rows, codes, weights)


def _on_device(tokens: Any, X: Any, device: torch.device) -> Tokens:
    """Move tokens to a device in float32, or to a GPU in the half precision that X has."""
    views, half = views_in(tokens), _half_of(X)
    if device.type == "cpu" or half is None or isinstance(views[0], (LazyFeatures, RaggedTokens)):
        return views_on(tokens, device)
    # View by view, (V * n, N, C).
    return torch.cat([as_tensor(view, torch.device("cpu")).to(half).to(device) for view in views])


def _half_of(X: Any) -> torch.dtype | None:
    """Give the half precision that features are in, if they are."""
    if isinstance(X, FeatureBlocks) and X.tokens:
        X = X.views(X.tokens[0])[0]
    if isinstance(X, Tensor):
        return X.dtype if X.dtype in (torch.float16, torch.bfloat16) else None
    return torch.float16 if getattr(X, "dtype", None) == np.float16 else None
