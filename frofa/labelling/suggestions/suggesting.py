"""Suggestions of images to label next, for any classifier and any kind of pool."""

from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import is_classifier
from sklearn.utils import check_random_state

from frofa.compute.arrays import as_labels
from frofa.compute.devices import resolve_device
from frofa.image_classifier import ImageClassifier
from frofa.labelling.suggestions.answering import STRATEGIES, answer
from frofa.labelling.suggestions.choosing import Choice, Question
from frofa.labelling.suggestions.images import image_features
from frofa.labelling.suggestions.pool import Pool
from frofa.ragged import image_positions

Indices = npt.NDArray[np.intp]
MAX_EXACT = 20_000


def suggest(
    classifier: Any,
    X_pool: Any,
    X: Any = None,
    y: Any = None,
    batch_size: int = 10,
    *,
    strategy: Any = "auto",
    candidates: npt.ArrayLike | None = None,
    return_utilities: bool = False,
    max_exact: int = MAX_EXACT,
    device: str = "auto",
    random_state: int | np.random.RandomState | None = None,
) -> Any:
    """Suggest which images of a pool to label next: those from which a classifier learns most.

    With ``strategy="auto"`` there is one method from the first label on. The images chosen are those that together lie
    nearest to the others of the pool (MaxHerding). The more labels there are of each class, the more count those others
    that the classifier is not sure of (Uncertainty Herding), in full from 30 a class on. A batch is diverse, as each
    choice counts what those before it cover. Nothing is assumed of the classes: the pool may have any that are not
    known yet.

    Parameters
    ----------
    classifier : classifier or ImageClassifier
        A classifier of `frofa.estimators` or any other of scikit-learn, with ``predict_proba``. A copy of it is fitted
        to X and y, where there are some. Without, a fitted one says what it is sure of, and one that is not fitted is
        not asked. For an `ImageClassifier`, X_pool and X are images, of which its extractor makes the features, by the
        store where it has one.
    X_pool : array-like of shape (n, C) or (n, N, C), RaggedTokens, FeatureBlocks, lazy features, or images
        What can be labelled; read in parts, if it is lazy.
    X : same kind of shape (m, ...), default=None
        What is labelled. Images of the pool that repeat one of these are not suggested.
    y : array-like of shape (m,), default=None
        The labels of X, of one class or more.
    batch_size : int, default=10
        Number of images to suggest.
    strategy : str or query strategy, default="auto"
        - ``"auto"``: coverage, weighted by uncertainty to the power of ``min(1, m / (30 * n_classes)) ** 2``;
        - ``"coverage"``: coverage alone, whatever is known of classes;
        - ``"uncertainty"``, ``"margin"``, ``"entropy"``: the least sure images, one by one: by the probability of the
          likeliest class, by how far the second one is from it, and by the entropy;
        - ``"random"``;
        - or an object with ``query``, as scikit-activeml has them. It is given features as arrays, side by side and
          averaged over views, and, if it asks for one, the classifier, wrapped as scikit-activeml needs it.
    candidates : array-like of int or of bool, default=None
        Positions in the pool, or a mask of it, of what may be suggested; None is all. The others count as part of what
        is to be covered.
    return_utilities : bool, default=False
        Return the utilities, too.
    max_exact : int, default=20_000
        Images that are compared with one another, all pairs. Of a larger pool, a sample of so many stands for all,
        drawn by uncertainty, and as many are chosen from; the pool is then read once more, for images near those chosen
        that would be better. docs/confidence.md says what that costs.
    device : str, default="auto"
        Where coverage is computed: a torch device, or ``"auto"``, which is the GPU where there is one.
    random_state : int, RandomState or None, default=None
        Seed of ``"random"``, and of the samples of large pools. Smaller ones have one answer.

    Returns
    -------
    ndarray of int, shape (batch_size,)
        Positions in the pool, the best first. Of images that repeat one another, only one is suggested, and there are
        fewer than `batch_size` where the pool has fewer different images without a label.
    utilities : ndarray of shape (batch_size, n)
        With `return_utilities`: what each image of the pool was worth at each choice; NaN of what was chosen before, is
        no candidate, is labelled, or, in a large pool, was not looked at.

    Raises
    ------
    ValueError
        If a parameter is wrong; if features are not finite, or those of X and the pool differ in kind; or if there is
        no label of a second class, and the strategy needs one.
    IndexError
        If a candidate is no position in the pool.
    TypeError
        If the classifier is none, or has no ``predict_proba`` where the strategy needs one.

    References
    ----------
    Bae et al., "Generalized Coverage for More Robust Low-Budget Active Learning", ECCV 2024, arXiv 2407.12212; Bae et
    al., "Uncertainty Herding: One Active Learning Method for All Label Budgets", ICLR 2025, arXiv 2412.20644.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import suggest
    >>> from frofa.estimators import ShrinkageProbeClassifier
    >>> classes = np.repeat([0, 1, 2], 20)
    >>> pool = np.random.default_rng(0).normal(size=(60, 8)) + 6 * np.eye(3, 8)[classes]
    >>> first = suggest(ShrinkageProbeClassifier(), pool, batch_size=3)
    >>> sorted(classes[first].tolist())
    [0, 1, 2]
    >>> suggest(ShrinkageProbeClassifier(), pool, pool[first], classes[first], batch_size=2).shape
    (2,)
    """
    _check(classifier, batch_size, strategy, max_exact)
    labels = None if y is None else as_labels(y)
    n = kept = None
    if isinstance(classifier, ImageClassifier):
        images = image_features(classifier, X_pool, X, labels)
        classifier, X_pool, X, labels = images.classifier, images.pool, images.X, images.y
        n, kept = images.n, images.kept
    if (X is None) != (labels is None):
        raise ValueError(f"expected X and y, or neither. Got X {_kind(X)} and y {_kind(labels)}.")
    on = resolve_device(device)
    pool = Pool(X_pool, on)
    question = Question(
        pool=pool,
        labelled=None if X is None else Pool(X, on),
        allowed=_allowed(candidates, len(pool), n, kept),
        batch_size=int(batch_size),
        random_state=check_random_state(random_state),
        max_exact=int(max_exact),
        return_utilities=return_utilities,
    )
    choice = answer(question, classifier, strategy, labels)
    if kept is not None and n is not None:
        choice = _of_all(choice, n, kept)
    return (choice.rows, choice.utilities) if return_utilities else choice.rows


def _check(classifier: Any, batch_size: Any, strategy: Any, max_exact: Any) -> None:
    """Check what has nothing to do with the data."""
    if not hasattr(classifier, "fit") or not is_classifier(classifier):
        raise TypeError(f"expected a classifier, such as ShrinkageProbeClassifier(). Got {classifier!r}.")
    for name, value in (("batch_size", batch_size), ("max_exact", max_exact)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"expected {name} of 1 or more. Got {value!r}.")
    if not (isinstance(strategy, str) and strategy in STRATEGIES) and not hasattr(strategy, "query"):
        raise ValueError(
            f"expected a strategy of {', '.join(map(repr, STRATEGIES))}, or an object with query. Got {strategy!r}."
        )


def _kind(given: Any) -> str:
    return "None" if given is None else f"of type {type(given).__name__}"


def _allowed(candidates: Any, n_kept: int, n: int | None, kept: Indices | None) -> npt.NDArray[np.bool_]:
    """Make a mask (n_kept,) of what may be suggested; positions are among n images, of which those `kept` are there."""
    if candidates is None:
        return np.ones(n_kept, bool)
    mask = np.zeros(n_kept if n is None else n, bool)
    mask[image_positions(candidates, len(mask))] = True
    return mask if kept is None else mask[kept]


def _of_all(choice: Choice, n: int, kept: Indices) -> Choice:
    """Count positions, and utilities, among all n images, of which those `kept` could be read."""
    if choice.utilities is None:
        return Choice(kept[choice.rows], None)
    utilities = np.full((len(choice.rows), n), np.nan)
    utilities[:, kept] = choice.utilities
    return Choice(kept[choice.rows], utilities)
