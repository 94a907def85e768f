"""The question itself: how many labels a classifier needs."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval as Range
from sklearn.utils._param_validation import validate_parameter_constraints

from frofa.learning_curves.answer import CurvePoint, LabelsNeeded, accuracy_interval, answer_to
from frofa.learning_curves.averaging import average_laws
from frofa.learning_curves.inputs import NAME, inputs_of
from frofa.learning_curves.measuring import measure
from frofa.learning_curves.points import Points
from frofa.learning_curves.supports import nested_supports
from frofa.utils.text import shorten

CONSTRAINTS = {
    "target": [Range(Real, 0, 1, closed="neither")],
    "confidence_level": [Range(Real, 0, 1, closed="neither")],
    "n_orders": [Range(Integral, 1, None, closed="left")],
    "random_state": ["random_state"],
}


def how_many_labels(
    classifier: Any,
    X: Any,
    y: Any = None,
    *,
    target: float = 0.9,
    confidence_level: float = 0.9,
    n_orders: int = 10,
    random_state: Any = 0,
) -> LabelsNeeded:
    """Estimate how many labels a classifier takes to reach an accuracy, from a few labelled images.

    The classifier is fitted to nested parts of the images, in several orders, and scored on those left out; heads that
    leave samples out in closed form are scored that way on all of them, too. Several laws of learning curves are fitted
    to these points, and averaged by what the points say for each.

    Parameters
    ----------
    classifier : ImageClassifier, or any classifier of scikit-learn
        Not changed. Heads of this library are fitted side by side; of an `ImageClassifier`, features are extracted
        once.
    X, y
        What the classifier is fitted to: images (paths, an ImageSet with labels, ...) for `ImageClassifier`, features
        (n, C), tokens or FeatureBlocks for a head; labels (n,). There must be two classes, one of them with two images.
    target : float, default=0.9
        Accuracy to be reached, between 0 and 1, on new images whose classes are as frequent as in `y`.
    confidence_level : float, default=0.9
        Level of all intervals.
    n_orders : int, default=10
        Orders of the images, each of which takes six fits.
    random_state : int, RandomState or None, default=0
        Seed of orders and of the posterior's draws.

    Returns
    -------
    LabelsNeeded
        Number of labels with its interval, accuracy now and at any number of labels; or that it cannot be said.

    Raises
    ------
    TypeError, ValueError
        If `classifier` is none, a parameter is out of range, all labels are of one class, no class has two images, or
        no fit comes off.

    Notes
    -----
    Laws of the error e of n shots: power law with an asymptote, c + a n^-b; piecewise power law, log e quadratic in
    log n up to a break and straight after it [1]_; exponential, c + a exp(-n / t). Their parameters have priors; the
    likelihood is normal with binomial variances, and with the covariance of points that were measured on the same
    images. Each law counts by its evidence. One law alone asks for several times too many or too few labels [1]_, [2]_.

    Classes grow in proportion, so that unequal classes stay as unequal as they are: the answer is for labels of this
    mix. Images that are alike (frames of a video) make accuracies, and so the answer, too good.

    References
    ----------
    .. [1] A. Jain et al., A Meta-Learning Approach to Predicting Performance and Data Requirements, arXiv 2303.01598
    .. [2] R. Mahmood et al., How Much More Data Do I Need?, arXiv 2207.01725

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import how_many_labels
    >>> from frofa.estimators import ShrinkageProbeClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(np.arange(5), 10)
    >>> X = 0.4 * np.eye(5)[y] @ rng.normal(size=(5, 64)) + rng.normal(size=(50, 64))
    >>> needed = how_many_labels(ShrinkageProbeClassifier(), X, y, target=0.95)
    >>> needed.answer, needed.n_labels
    ('cannot be said', None)
    >>> 0.75 < needed.accuracy_now < 0.95
    True
    """
    given = {"target": target, "confidence_level": confidence_level, "n_orders": n_orders, "random_state": random_state}
    validate_parameter_constraints(CONSTRAINTS, given, NAME)
    head, features, labels, notes = inputs_of(classifier, X, y)
    classes, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"{NAME} needs labels of at least 2 classes. Got one class only: {shorten(classes.tolist())}.")
    if sizes.max() < 2:
        raise ValueError(
            f"{NAME} leaves images out, and needs 2 of one class at least. Got {len(labels)} images of as many classes."
        )
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
    supports = nested_supports(codes, n_orders, rng)
    points, failures = measure(head, features, labels, codes, supports)
    laws = average_laws(points, len(classes), rng)
    n, n_classes = len(labels), len(classes)
    now = accuracy_interval(laws, n / n_classes, n_classes, confidence_level)
    return LabelsNeeded(
        target=target,
        confidence_level=confidence_level,
        **answer_to(laws, target, confidence_level, n, n_classes),
        n_labelled=n,
        n_classes=n_classes,
        accuracy_now=now.mean,
        accuracy_now_interval=(now.low, now.high),
        curve=_curve(points, n_classes, confidence_level),
        law_weights=dict(laws.weights),
        notes=(*notes, *_lone(classes[sizes < 2], n_classes), *failures),
        laws=laws,
    )


def _curve(points: Points, n_classes: int, confidence_level: float) -> tuple[CurvePoint, ...]:
    wide = norm.ppf((1 + confidence_level) / 2) * points.spread
    rows = zip(points.shots, points.accuracy, wide, points.one_by_one, strict=True)
    return tuple(
        CurvePoint(
            round(shots * n_classes),
            float(shots),
            float(a),
            float(max(a - w, 0)),
            float(min(a + w, 1)),
            "one by one" if alone else "the rest",
        )
        for shots, a, w, alone in rows
    )


def _lone(classes: Any, n_classes: int) -> list[str]:
    if not len(classes):
        return []
    some = f"{len(classes)} of {n_classes} classes have one image, which is never left out: {shorten(classes.tolist())}"
    return [f"{some}. Accuracies are those on the other {n_classes - len(classes)}"]
