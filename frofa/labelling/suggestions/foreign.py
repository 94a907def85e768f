"""Query strategies of other libraries, asked in scikit-activeml's convention."""

from inspect import Parameter, signature
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from frofa.labelling.suggestions.choosing import Choice, Question
from frofa.utils.optional import require

Array = npt.NDArray[Any]
OURS = ("X", "y", "clf", "candidates", "batch_size", "return_utilities")
"""Arguments of a query that are given."""


class Encoded(NamedTuple):
    """Labels (n,) of all samples, the strategy's mark where there is none, and the classes (K,) in the same terms."""

    y: Array
    classes: Array
    missing: Any


def ask(strategy: Any, classifier: Any, question: Question, y: Array) -> Choice:
    """Ask a strategy which rows of the pool it would label, the labels (m,) of labelled samples known.

    It sees features as arrays: blocks side by side, averaged over views and tokens, first those of the pool. A
    TypeError says that its query needs more than that, a ValueError that it needs labels of two classes.
    """
    parameters = signature(strategy.query).parameters
    needed = [
        name
        for name, parameter in parameters.items()
        if name not in OURS and parameter.default is Parameter.empty and parameter.kind is not Parameter.VAR_KEYWORD
    ]
    if needed or "batch_size" not in parameters:
        raise TypeError(
            f"expected a strategy with query(X, y, clf, candidates, batch_size, return_utilities). Got "
            f"{type(strategy).__name__}.query{signature(strategy.query)}."
        )
    pool, labelled = question.pool, question.labelled
    features = pool.plain(slice(None))
    candidates = _candidates(question, features)
    if labelled is not None:
        features = np.concatenate([features, labelled.plain(slice(None))])
    encoded = _encoded(y, len(pool), getattr(strategy, "missing_label", np.nan))
    arguments: dict[str, Any] = {"candidates": candidates, "batch_size": min(question.batch_size, len(candidates))}
    if "clf" in parameters:
        arguments["clf"] = _wrapped(classifier, encoded, pool.X, type(strategy).__name__)
    if question.return_utilities:
        rows, utilities = strategy.query(features, encoded.y, return_utilities=True, **arguments)
        return Choice(np.asarray(rows, np.intp), np.asarray(utilities, np.float64)[:, : len(pool)])
    return Choice(np.asarray(strategy.query(features, encoded.y, **arguments), np.intp), None)


def _candidates(question: Question, features: Array) -> npt.NDArray[np.intp]:
    """Rows that may be chosen, the first of equal ones, without those that are labelled already."""
    allowed = np.flatnonzero(question.allowed)
    first = np.sort(np.unique(features[allowed], axis=0, return_index=True)[1])
    rows = allowed[first]
    return rows[~question.known(rows)]


def _encoded(y: Array, n_pool: int, missing: Any) -> Encoded:
    """Number the classes, past a mark that is a number itself."""
    classes, codes = np.unique(y, return_inverse=True)
    if isinstance(missing, str):
        names = np.array([f"{missing}{code}" for code in range(len(classes))], dtype=str)
        marks: Array = np.full(n_pool, missing)
    elif missing is None:
        names, marks = np.arange(len(classes)).astype(object), np.full(n_pool, None, dtype=object)
    else:
        names = np.arange(len(classes)) + (0 if np.isnan(missing) else max(0, int(missing) + 1))
        marks = np.full(n_pool, missing)
    return Encoded(np.concatenate([marks, names[codes]]), names, missing)


def _wrapped(classifier: Any, encoded: Encoded, X: Any, name: str) -> Any:
    """Make a classifier one of scikit-activeml, which knows of missing labels."""
    if len(encoded.classes) < 2:
        raise ValueError(
            f"{name} needs samples of at least 2 classes. Got {len(encoded.classes)}: begin with strategy='auto'."
        )
    head = clone(getattr(classifier, "estimator", classifier) if hasattr(classifier, "missing_label") else classifier)
    # Plain arrays have lost their blocks: a head that can be told of them is.
    widths = getattr(X, "widths", {})
    if len(widths) > 1 and "block_sizes" in head.get_params():
        head.set_params(block_sizes=list(widths.values()))
    wrappers = require("skactiveml.classifier", "dev")
    return wrappers.SklearnClassifier(head, classes=encoded.classes, missing_label=encoded.missing)
