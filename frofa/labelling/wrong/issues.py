"""Labels that may be wrong, copies and outliers among labelled samples."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import _check_sample_weight

from frofa.labelling.wrong.duplicates import DuplicateGroup, duplicate_groups
from frofa.labelling.wrong.inputs import Prepared, Samples, prepare, vectors_of
from frofa.labelling.wrong.noise import LEAST
from frofa.labelling.wrong.outliers import far_out, outlier_scores
from frofa.labelling.wrong.report import LabelIssues
from frofa.labelling.wrong.rounds import Judged, judge

Array = npt.NDArray[Any]


def label_issues(
    classifier: Any,
    X: Any,
    y: Any = None,
    *,
    X_test: Any = None,
    y_test: Any = None,
    sample_weight: Any = None,
    n_rounds: int = 2,
    n_folds: int = 5,
    duplicates: bool = True,
    outliers: bool = True,
    random_state: Any = 0,
) -> LabelIssues:
    """Find labels that may be wrong, copies with several labels or in training and test data, and outliers.

    Each sample is left out, and the others say what it is. How often each class is labelled as each other is estimated
    from what they say, and so is the probability that a label is wrong. Suspects then count little, and all is done
    again: a wrong label speaks for others like it.

    Parameters
    ----------
    classifier : estimator
        A head of frofa, whose leave-one-out probabilities cost one fit; an `ImageClassifier`; a pipeline of an
        extractor and a head; or any classifier with ``predict_proba``. It is not changed, and need not be fitted.
    X : features or images of any kind that the classifier takes, of n samples
    y : array-like of shape (n,), default=None
        Labels, of two classes at least; not needed where X is an ImageSet that has them. Of samples that a head takes
        for unlabelled, which are those of -1, nothing is said.
    X_test, y_test : as `X` and `y`, default=None
        Test samples, among which copies of training samples are looked for, and copies of each other. Their labels are
        only compared among copies, and may be missing.
    sample_weight : array-like of shape (n,), default=None
        Non-negative; samples without weight are judged by the others, and say nothing of them.
    n_rounds : int, default=2
        How often suspects are down-weighted. Of 0 to 3, 2 found what 3 did; 0 is one fit.
    n_folds : int, default=5
        Folds, for classifiers that have no leave-one-out.
    duplicates : bool, default=True
        Look for copies: a hundred thousand samples take minutes.
    outliers : bool, default=True
        Look for samples that are like no others.
    random_state : int, RandomState or None, default=0
        Seed of the folds.

    Returns
    -------
    LabelIssues
        ``print`` shows the worst.

    Raises
    ------
    ValueError
        If the classifier has no ``predict_proba``, labels are of one class, or no class has two samples; or if
        `sample_weight` is given, and the classifier takes none.
    ImageReadError
        If an image cannot be read, and the classifier is to raise it.

    Notes
    -----
    What is estimated is how often labels disagree with what the others make of the image, in a way that is not just
    doubt. Where classes cannot be told apart by the features, right labels are taken for wrong ones and the reverse:
    how many, by share of wrong labels and number of samples, is in ``docs/results/confidence.md``. Nothing is changed
    or removed.

    Near-copies are pairs that are out of the ordinary among the distances to nearest neighbours, each relative to what
    is usual at its place, so that nothing is to be tuned.

    References
    ----------
    Dawid and Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm", 1979; Northcutt et
    al., "Confident learning: estimating uncertainty in dataset labels", JAIR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import label_issues
    >>> from frofa.estimators import ShrinkageProbeClassifier
    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(40, 8)) + np.repeat([[0], [3]], 20, axis=0)
    >>> labels = np.repeat(["cat", "dog"], 20)
    >>> labels[3] = "dog"
    >>> found = label_issues(ShrinkageProbeClassifier(), features, labels)
    >>> found.indices.tolist(), found.suggested[3]
    ([3], np.str_('cat'))
    """
    if n_rounds < 0:
        raise ValueError(f"n_rounds must be 0 or more. Got {n_rounds}.")
    prepared = prepare(classifier, X, y, X_test, y_test)
    train, y = prepared.train, _labels_of(prepared.train)
    weights = None
    if sample_weight is not None:
        whole = _check_sample_weight(sample_weight, np.empty(train.n), dtype=np.float64, ensure_non_negative=True)
        weights = whole[train.kept]
    judged = judge(
        prepared.head,
        train.features,
        y,
        weights,
        n_rounds=n_rounds,
        n_folds=n_folds,
        random_state=random_state,
    )
    spaces = vectors_of(train.features) if duplicates or outliers else []
    score = np.full(len(y), np.nan)
    if outliers and spaces:
        score = outlier_scores(spaces[0], np.searchsorted(judged.classes, y))
    groups = _groups(prepared, spaces) if duplicates and spaces else ()
    return _report(prepared, judged, groups, score)


def _labels_of(train: Samples) -> Array:
    if train.y is None:
        raise ValueError("label_issues requires y to be passed, but the target y is None.")
    y: Array = train.y[train.kept]
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(f"expected labels of at least 2 classes. Got one class only: {classes.tolist()}.")
    return y


def _groups(prepared: Prepared, spaces: list[Array]) -> tuple[DuplicateGroup, ...]:
    """Group copies by positions in what was given."""
    train, test = prepared.train, prepared.test
    parts = [train] if test is None else [train, test]
    if test is not None:
        spaces = [np.concatenate(both) for both in zip(spaces, vectors_of(test.features), strict=True)]
    labels = [None if part.y is None else part.y[part.kept].tolist() for part in parts]
    y = [label for part, known in zip(parts, labels, strict=True) for label in known or [None] * len(part.kept)]
    keys: list[str] | None = []
    for part in parts:
        keys = None if keys is None or part.keys is None else [*keys, *part.keys]
    groups = duplicate_groups(spaces, keys, y, len(train.kept))
    return tuple(
        DuplicateGroup(
            tuple(train.kept[list(group.train)].tolist()),
            () if test is None else tuple(test.kept[list(group.test)].tolist()),
            group.exact,
            group.ratio,
            group.labels,
        )
        for group in groups
    )


def _report(prepared: Prepared, judged: Judged, groups: tuple[DuplicateGroup, ...], score: Array) -> LabelIssues:
    train, test = prepared.train, prepared.test
    assert train.y is not None
    classes, kept = judged.classes, train.kept
    y = train.y[kept]
    codes, own = np.searchsorted(classes, y), np.arange(len(y))
    # The best of the other classes: by posterior of the true one, where something is known.
    others = np.full((len(y), len(classes)), -1.0)
    others[judged.known] = judged.noise.posterior
    others[own, codes] = -1.0
    suggested = train.y.copy()
    suggested[kept[judged.known]] = classes[others.argmax(1)][judged.known]
    logs = np.log(np.maximum(judged.proba, LEAST))
    rest = logs.copy()
    rest[own, codes] = -np.inf
    counts = np.bincount(codes, minlength=len(classes))
    return LabelIssues(
        classes=classes,
        given=train.y,
        suggested=suggested,
        wrong=_of_all(judged.wrong, train),
        margin=_of_all(logs[own, codes] - rest.max(1), train),
        pred_probs=_of_all(judged.proba, train),
        noise_matrix=judged.noise.matrix,
        duplicates=groups,
        outlier_score=_of_all(score, train),
        outliers=kept[far_out(score)] if np.isfinite(score).all() else np.empty(0, np.intp),
        names=train.names,
        test_names=None if test is None else test.names,
        n_alone=int((counts == 1).sum()),
        skipped=train.skipped + ([] if test is None else test.skipped),
    )


def _of_all(values: Array, train: Samples) -> Array:
    """Spread values of the samples that were read over all n; NaN for the others."""
    whole = np.full((train.n, *values.shape[1:]), np.nan)
    whole[train.kept] = values
    return whole
