"""Reports of classifiers: one call, and a file that opens in any browser."""

import html
import os
from dataclasses import replace
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints

from frofa.displays.embedding import METHODS, Method
from frofa.displays.parts import parts_of
from frofa.reporting.assembly import Options, gather
from frofa.reporting.facts.contents import Facts
from frofa.reporting.facts.inputs import inputs_of
from frofa.reporting.facts.training import given_training, kept_training
from frofa.reporting.page.render import render
from frofa.reporting.plain import to_plain
from frofa.utils.files import write_atomically

MAX_BYTES = 20_000_000
DEFAULTS = Options()
CONSTRAINTS: dict[str, list[Any]] = {
    "confidence_level": [Interval(Real, 0, 1, closed="neither")],
    "target": [Interval(Real, 0, 1, closed="neither"), None],
    "embedding": [StrOptions(set(METHODS))],
    "title": [str, None],
    "max_bytes": [Interval(Integral, 200_000, None, closed="left")],
    "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
}


class Report:
    """A report of a classifier: its facts, and the page that shows them.

    Attributes
    ----------
    facts : Facts
        Numbers, names and images, as `frofa.reporting.Facts` documents them.
    max_bytes : int
        Bytes of the page at most.
    """

    def __init__(self, facts: Facts, max_bytes: int = MAX_BYTES):
        self.facts = facts
        self.max_bytes = max_bytes

    @cached_property
    def _page(self) -> str:
        return render(self.facts, self.max_bytes)

    def html(self) -> str:
        """Return the page, a whole document that loads nothing from elsewhere."""
        return self._page

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file in UTF-8, whole or not at all."""
        data = self.html().encode("utf-8", "replace")
        write_atomically(Path(path), lambda file: file.write(data))

    def to_dict(self) -> dict[str, Any]:
        """Give all facts but the images as JSON can hold them; numbers that are not known are None."""
        return to_plain(self.facts)

    def _repr_html_(self) -> str:
        # A frame of its own: the page's styles and scripts are for it alone, and the notebook's stay outside.
        page = html.escape(self.html(), quote=True)
        return (
            f'<iframe title="{html.escape(self.facts.title)}" srcdoc="{page}" sandbox="allow-scripts" '
            'style="width: 100%; height: 80vh; border: 1px solid #8888"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Report({self.facts.title!r}, {self.facts.evaluation!r})"


def report(
    classifier: Any,
    X: Any,
    y: Any = None,
    *,
    images: Any = None,
    train: Any = None,
    train_images: Any = None,
    out: str | os.PathLike[str] | None = None,
    title: str | None = None,
    confidence_level: float = 0.9,
    target: float | None = None,
    embedding: Method = "pca",
    max_bytes: int = MAX_BYTES,
    random_state: int = 0,
    verbose: bool = False,
) -> Report:
    """Tell all about a fitted classifier on labelled images, in one page that needs nothing else.

    The page has the accuracy with its interval, of each class too, the confusion matrix with the images behind each
    cell, the worst and the least certain predictions with their prediction sets, reliability and rejection curves, the
    learning curve with how many labels are enough, labels that may be wrong, copies in training and test images, a map,
    for attention heads what they look at, what members of a blend and augmentation add, and what it takes to make the
    report again.

    Parameters
    ----------
    classifier : classifier
        A fitted ImageClassifier, a pipeline that begins with a FrozenFeatureExtractor, a head of frofa, or any
        classifier of scikit-learn with ``predict_proba``; or a search over such ones. It is not changed.
    X : images or features of n samples
        What `classifier` takes: images (paths, PIL images, an array, an ImageSet or a directory) or features. They
        should be none that it was fitted to: copies of these are looked for, and listed.
    y : array-like of shape (n,), default=None
        Labels; not needed of an ImageSet, or a directory, that has them. Images without a label, or with one that the
        classifier does not know, are counted, and nothing else is said of them.
    images : images of n samples, default=None
        The images behind the features X, for a classifier of features.
    train : (X, y), ImageSet or directory, default=None
        What `classifier` was fitted to, for the learning curve, wrong labels and leaks. None takes what it keeps of it:
        features of up to a thousand images with ``effort="fast"``. The report says what it could not look at.
    train_images : images, default=None
        The images behind the features of `train`.
    out : path, default=None
        File to write the page to.
    title : str, default=None
        Title of the page; None describes the classifier.
    confidence_level : float, default=0.9
        Of prediction sets, and of the learning curve.
    target : float, default=None
        Accuracy for which labels are counted, between 0 and 1; None is 0.9, or halfway from the present accuracy to 1
        where it is above 0.9.
    embedding : {"pca", "umap"}, default="pca"
        What lays out the map; UMAP shows groups better, and takes longer and ``pip install 'frofa[umap]'``.
    max_bytes : int, default=20_000_000
        Size of the page at most, 200,000 or more: images are as small as it takes.
    random_state : int, default=0
        Seed of whatever is drawn: the same inputs make the same page, but for its date.
    verbose : bool, default=False
        Show progress.

    Returns
    -------
    Report
        Shows itself in a notebook; `save` writes it, `html` is the page, `facts` and `to_dict` are the numbers.

    Raises
    ------
    TypeError, ValueError
        If `classifier` is none, is not fitted or has no probabilities, no image has a label that it knows, or a
        parameter is out of range.
    ImageReadError
        If none of the images can be read; single ones are listed in the report.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import ImageClassifier, report
    >>> rng = np.random.default_rng(0)
    >>> dark, light = rng.integers(0, 100, (8, 32, 32, 3)), rng.integers(150, 250, (8, 32, 32, 3))
    >>> images, y = np.concatenate([dark, light]).astype(np.uint8), np.repeat(["night", "day"], 8)
    >>> model = ImageClassifier(n_views=1).fit(images[::2], y[::2])
    >>> found = report(model, images[1::2], y[1::2], out="daylight.html")
    >>> found
    Report('ImageClassifier, 2 classes, 8 images', EvaluationReport(accuracy 100.0 % (67.6 to 100.0) of 8 images))
    """
    given = {
        "confidence_level": confidence_level,
        "target": target,
        "embedding": embedding,
        "title": title,
        "max_bytes": max_bytes,
        "random_state": random_state,
    }
    validate_parameter_constraints(CONSTRAINTS, given, "report")
    options = Options(title, confidence_level, target, embedding, verbose=verbose)
    facts = facts_of(
        classifier,
        X,
        y,
        images=images,
        train=train,
        train_images=train_images,
        options=options,
        random_state=random_state,
    )
    found = Report(facts, max_bytes)
    if out is not None:
        found.save(out)
    return found


def facts_of(
    classifier: Any,
    X: Any,
    y: Any = None,
    *,
    images: Any = None,
    train: Any = None,
    train_images: Any = None,
    options: Options = DEFAULTS,
    random_state: int = 0,
    fail_fast: bool = False,
) -> Facts:
    """Compute the facts of a report, as `report` does; with `fail_fast`, an image that cannot be read is an error."""
    inputs = inputs_of(parts_of(classifier, fail_fast=fail_fast), X, y, images, random_state)
    training = kept_training(inputs) if train is None else given_training(inputs, train, train_images)
    return gather(replace(inputs, train=training), options)
