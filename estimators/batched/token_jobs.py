"""The jobs of `fit_many` for heads on tokens: checked one by one, trained together."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from torch import Tensor

from frofa.compute.devices import as_tensor, resolve_device
from frofa.estimators.batched.engine import fit_plans
from frofa.estimators.batched.jobs import Fitted, Job, fit_each
from frofa.estimators.core.support import Array
from frofa.estimators.core.validation import check_labels, require_labels
from frofa.estimators.tokens.lazy import LazyFeatures, Tokens, tokens_on
from frofa.estimators.training.plan import HeadPlan
from frofa.ragged import RaggedTokens


class Planned(NamedTuple):
    """A job that can be trained: its place, its head, the tokens that the head cuts X into, and its plan."""

    place: int
    head: Any
    tokens: Array
    plan: HeadPlan


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
    seen = {name: value for name, value in vars(first).items() if name in ("n_features_in_", "feature_names_in_")}
    groups: dict[tuple[torch.device, int], list[Planned]] = {}
    for place, job in enumerate(jobs):
        try:
            planned = _plan(place, job, features, seen, y, sample_weight)
            key = resolve_device(planned.head.device), planned.tokens.shape[1]
        except Exception as error:
            results[place] = error
            on_done(1)
        else:
            groups.setdefault(key, []).append(planned)
    for (device, _), group in groups.items():
        tokens = _on_device(group[0].tokens, X, device)
        for one, outcome in zip(group, fit_plans(tokens, [one.plan for one in group], on_done=on_done), strict=True):
            results[one.place] = outcome if isinstance(outcome, Exception) else one.head._take(one.plan, outcome)
    return results


def _plan(place: int, job: Job, features: Array, seen: dict[str, Any], y: Any, sample_weight: Any) -> Planned:
    head: Any = clone(job.estimator)
    head._check_parameters()
    require_labels(y, type(head).__name__)
    vars(head).update(seen)
    rows = np.asarray(job.rows)
    labels = check_labels(rows, _safe_indexing(y, rows), _weights(sample_weight, rows), type(head).__name__)
    codes, weights = labels.codes, head._adopt_labels(labels)
    tokens = head._tokens(features)
    return Planned(place, head, tokens, head._plan(rows, codes, weights, tokens.shape[2]))


def _weights(sample_weight: Any, rows: Array) -> Any:
    return None if sample_weight is None else _safe_indexing(sample_weight, rows)


def _on_device(tokens: Array | LazyFeatures | RaggedTokens, X: Any, device: torch.device) -> Tokens:
    """Tokens in float32, or on a GPU in the half precision that X has."""
    if isinstance(tokens, (LazyFeatures, RaggedTokens)):
        return tokens_on(tokens, device)
    dtype = X.dtype if isinstance(X, Tensor) else torch.float16 if getattr(X, "dtype", None) == np.float16 else None
    if device.type == "cpu" or dtype not in (torch.float16, torch.bfloat16):
        return as_tensor(tokens, device)
    return as_tensor(tokens, torch.device("cpu")).to(dtype).to(device)
