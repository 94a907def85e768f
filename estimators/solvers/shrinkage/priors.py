"""Class priors as users give them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def log_priors(given: Any, class_weight: Any, classes: Array) -> Array | None:
    """Return logarithms (K,) of class priors, -inf of zero; None where they are those of the weighted samples.

    They are given as ``"uniform"``, ``"empirical"``, an array in the order of classes, or by label; None is as uniform.
    Weights of classes by label multiply priors; balanced ones make classes as likely as given.
    """
    logs = _given(given, classes)
    if logs is None or not isinstance(class_weight, Mapping):
        return logs
    with np.errstate(divide="ignore"):
        weighted: Array = logs + np.log([float(class_weight.get(label, 1)) for label in classes.tolist()])
    return weighted


def _given(given: Any, classes: Array) -> Array | None:
    given = "uniform" if given is None else given
    if isinstance(given, str):
        if given not in ("uniform", "empirical"):
            raise ValueError(_expected(given, classes))
        return None if given == "empirical" else np.full(len(classes), -np.log(len(classes)))
    if isinstance(given, Mapping):
        missing = [label for label in classes.tolist() if label not in given]
        if missing:
            raise ValueError(f"class_prior needs every class. Got none of {missing[0]!r}: {given!r}.")
        given = [given[label] for label in classes.tolist()]
    try:
        priors = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(_expected(given, classes)) from error
    valid = priors.shape == classes.shape and np.isfinite(priors).all() and (priors >= 0).all() and priors.any()
    if not valid:
        raise ValueError(_expected(given, classes))
    with np.errstate(divide="ignore"):
        logs: Array = np.log(priors / priors.sum())
    return logs


def _expected(given: Any, classes: Array) -> str:
    return (
        f"class_prior must be 'uniform', 'empirical', None or {len(classes)} probabilities, not negative and not all "
        f"zero, in an array or by label. Got {given!r}."
    )
