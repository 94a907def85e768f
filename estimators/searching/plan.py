"""The fits that a search asks for, and which of them can be trained together."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import joblib
import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.validation import _check_method_params

from frofa.compute.digests import digest, is_encoder
from frofa.estimators.batched.jobs import engine_of
from frofa.estimators.core.classifier import FeatureClassifier

Rows: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Task:
    """One fit and its scores.

    Attributes
    ----------
    call : tuple
        Function, positional and keyword arguments: scikit-learn's own call of ``_fit_and_score``, as it stands.
    """

    call: Any

    @property
    def estimator(self) -> Any:
        return self.call[1][0]

    @property
    def X(self) -> Any:  # noqa: N802 (as everywhere)
        return self.call[1][1]

    @property
    def y(self) -> Any:
        return self.call[1][2]

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments."""
        options: dict[str, Any] = self.call[2]
        return options

    @property
    def split(self) -> int:
        return int(self.options["split_progress"][0])

    @property
    def candidate(self) -> int:
        return int(self.options["candidate_progress"][0])

    @cached_property
    def train(self) -> Rows:
        return _rows(self.options["train"])

    @cached_property
    def test(self) -> Rows:
        return _rows(self.options["test"])

    def with_parameters(self) -> Any:
        """The estimator with this candidate's parameters."""
        return clone(self.estimator).set_params(**clone(self.options["parameters"] or {}, safe=False))

    def score_params(self, rows: Rows) -> dict[str, Any]:
        params: dict[str, Any] = _check_method_params(self.X, params=self.options["score_params"] or {}, indices=rows)
        return params


@dataclass(frozen=True, eq=False)
class Plan:
    """How to train a candidate with others: a head, and what its features go through before.

    Attributes
    ----------
    estimator : estimator
        The whole of it: the head, or a pipeline that ends in it.
    head : FeatureClassifier
    shared : list of (str, transformer)
        Leading steps that learn nothing and treat each sample alone: applied to all samples at once.
    fitted : list of (str, transformer)
        The steps after these, fitted on each fold.
    sample_weight : array-like or None
        What `fit` of the head is given, for all samples.
    """

    estimator: Any
    head: FeatureClassifier
    shared: list[tuple[str, Any]]
    fitted: list[tuple[str, Any]]
    sample_weight: Any

    @cached_property
    def shared_key(self) -> str:
        """Equal for candidates that share features of all samples."""
        return _key([step for _, step in self.shared])

    @cached_property
    def fitted_key(self) -> str:
        """Equal for candidates that share features on each fold, if `shared_key` is, too."""
        return _key([step for _, step in self.fitted]) if self.fitted else ""


def plan(task: Task) -> Plan | str:
    """How to train a task's candidate with others, or why that cannot be."""
    estimator = task.with_parameters()
    steps: Sequence[tuple[str, Any]] = []
    head = estimator
    if isinstance(estimator, Pipeline):
        *steps, (_, head) = estimator.steps
        if getattr(estimator, "transform_input", None) is not None:
            return "Pipeline: it has transform_input"
    if not isinstance(head, FeatureClassifier):
        what = f"Pipeline: its last step, {_name(head)}," if isinstance(estimator, Pipeline) else f"{_name(head)}: it"
        return f"{what} is none of frofa's heads"
    if engine_of(type(head)) is None:
        return f"{_name(head)}: it has no batched training"
    if task.y is None:
        return f"{_name(head)}: there are no labels"
    weight = _weight_of_head(estimator, task.options["fit_params"] or {})
    if isinstance(weight, str):
        return f"{_name(estimator)}: {weight}"
    steps = [(name, step) for name, step in steps if step is not None and step != "passthrough"]
    n_shared = next((i for i, (_, step) in enumerate(steps) if not _learns_nothing(step)), len(steps))
    return Plan(estimator, head, list(steps[:n_shared]), list(steps[n_shared:]), weight.get("sample_weight"))


def _weight_of_head(estimator: Any, fit_params: dict[str, Any]) -> dict[str, Any] | str:
    """What `fit` of the head is given, or why a batch cannot have it."""
    own = dict(fit_params)
    if isinstance(estimator, Pipeline):
        try:
            routed = estimator._check_method_params(method="fit", props=fit_params)
        except Exception as error:
            return f"fit would raise {type(error).__name__}: {error}"
        name = estimator.steps[-1][0]
        if any(any(given.values()) for step, given in routed.items() if step != name):
            return "its leading steps get fit parameters"
        own = dict(routed[name]["fit"]) if name in routed else {}
    if extra := sorted(set(own) - {"sample_weight"}):
        return f"its head gets fit parameters other than sample_weight: {', '.join(extra)}"
    return own


def _learns_nothing(step: Any) -> bool:
    """Whether a step's output for a sample depends on that sample alone.

    That is what scikit-learn's tag says of stateless transformers, except for those that apply any function, which may
    look at all samples of a call.
    """
    if isinstance(step, FunctionTransformer):
        return step.func is None or isinstance(step.func, np.ufunc)
    return not get_tags(step).requires_fit


def _key(steps: list[Any]) -> str:
    try:
        if any(is_encoder(getattr(step, "model", None)) for step in steps):
            # By their specs: weights may be large, and a function is not to be pickled.
            return digest([(type(step).__qualname__, vars(step)) for step in steps])
        return str(joblib.hash(steps))
    except Exception:  # cannot be pickled: shared by nothing else
        return f"object {id(steps)}"


def _rows(indices: Any) -> Rows:
    rows = np.asarray(indices)
    return np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.intp, copy=False)


def _name(estimator: Any) -> str:
    return repr(estimator) if isinstance(estimator, str) else type(estimator).__name__
