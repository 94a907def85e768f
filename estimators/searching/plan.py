"""The choice of what a search trains together: see `batch_plan`, which decides for one candidate.

The fits of a candidate are trained with those of others if all of this holds:

1. its estimator is one of frofa's heads, or a pipeline that ends in one (and has no ``transform_input``);
2. the class of the head has a batched engine, the function ``_fit_many``; a subclass that overrides one of the
   methods that the engine stands for, ``_fit_steps``, does not inherit it (`frofa.estimators.batched.jobs.engine_of`);
3. there are labels;
4. ``fit`` is given nothing but sample weights, and these for the head alone;
5. neither it nor a step of it has callbacks of its own, which hear of each fit by itself.

Any other candidate is fitted by scikit-learn, and a `BatchFallbackWarning` tells which of these it was. There is no
condition on parameters: an engine takes heads of its class whatever their parameters are, and finds out itself what
they have in common. What heads share before they reach an engine, the features, is told by the keys of `BatchPlan`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import joblib
import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from frofa.compute.digests import digest, is_encoder
from frofa.estimators.batched.jobs import engine_of
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.searching.sklearn_compat import SearchTask, fit_params_by_step
from frofa.utils.callbacks import has_callbacks


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """How to train a candidate with others: its head, and what samples go through before they reach it.

    The whole estimator is the head, or a pipeline that ends in it. The `shared` steps, which lead it, learn nothing and
    treat each sample alone: they are applied to all samples at once; `fitted` are the steps after these, fitted on each
    fold. `sample_weight` is what `fit` of the head is given, for all samples.
    """

    estimator: Any
    head: FeatureClassifier
    shared: Sequence[tuple[str, Any]]
    fitted: Sequence[tuple[str, Any]]
    sample_weight: Any

    @cached_property
    def shared_key(self) -> str:
        """Key of the features of all samples: candidates with the same key share them."""
        return _key([step for _, step in self.shared])

    @cached_property
    def fitted_key(self) -> str:
        """Key of the features of a fold: candidates with this key and `shared_key` in common share them."""
        return _key([step for _, step in self.fitted]) if self.fitted else ""


def batch_plan(task: SearchTask) -> BatchPlan | str:
    """Return how to train a task's candidate with others, or the reason why it is fitted on its own."""
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
    if any(has_callbacks(part) for part in (estimator, head, *(step for _, step in steps))):
        return f"{_name(estimator)}: it has callbacks of its own"
    given = _fit_params_of_head(estimator, task.fit_params)
    if isinstance(given, str):
        return f"{_name(estimator)}: {given}"
    steps = [(name, step) for name, step in steps if step is not None and step != "passthrough"]
    # Steps before the first that learns can be applied to all samples at once; the others, fold by fold.
    n_shared = next((i for i, (_, step) in enumerate(steps) if not _learns_nothing(step)), len(steps))
    return BatchPlan(estimator, head, steps[:n_shared], steps[n_shared:], given.get("sample_weight"))


def _fit_params_of_head(estimator: Any, fit_params: dict[str, Any]) -> dict[str, Any] | str:
    """Return what `fit` of the head is given, or the reason why that keeps it from being trained with others."""
    own = fit_params
    if isinstance(estimator, Pipeline):
        try:
            routed = fit_params_by_step(estimator, fit_params)
        except Exception as error:
            return f"fit would raise {type(error).__name__}: {error}"
        name = estimator.steps[-1][0]
        # Parameters of leading steps would have to be part of the features' key: such candidates are fitted alone.
        if any(any(given.values()) for step, given in routed.items() if step != name):
            return "its leading steps get fit parameters"
        own = routed[name]["fit"] if name in routed else {}
    if extra := sorted(set(own) - {"sample_weight"}):
        return f"its head gets fit parameters other than sample_weight: {', '.join(extra)}"
    return own


def _learns_nothing(step: Any) -> bool:
    """Tell whether a step's output for a sample depends on that sample alone.

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


def _name(estimator: Any) -> str:
    return repr(estimator) if isinstance(estimator, str) else type(estimator).__name__
