"""``frofa fit --head``: one head on one kind of features, in a pipeline."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frofa.cli.console import note, say
from frofa.cli.features import extract, make_extractor
from frofa.utils.text import shorten

if TYPE_CHECKING:
    from frofa.cli.sources import LabelledImages
    from frofa.exceptions import ImageReadError
    from frofa.extraction.extractor import FrozenFeatureExtractor

HEADS = ("ridge", "logistic", "prototype", "soft-moe", "map", "map+frofa")
"""Names of the heads, as `frofa.selection.head_choices` has them; that module is slow to import."""


def fit_one_head(args: argparse.Namespace, images: "LabelledImages") -> "Sequence[ImageReadError]":
    """Fit and save the head that the options name, say how good it is, and return the images that were skipped."""
    from frofa.image_classifier.support import distinct_images
    from frofa.images.listing import count
    from frofa.selection import head_choices

    choice = head_choices(args.seed, verbose=True)[args.head]
    extractor = make_extractor(args, choice.output).fit()
    found = extract({args.head: extractor}, images.items, images.labels, fail_fast=args.fail_fast)[args.head]
    y = images.labels[found.kept]
    if lost := set(images.labels.tolist()) - set(y.tolist()):
        raise ValueError(f"no image could be read of: {shorten(lost)}.")
    distinct = distinct_images(found.keys or [], y)
    distinct.warn_of_disputed()
    if distinct.n_copies:
        note(f"left out, as they repeat others: {count(distinct.n_copies, 'image')}")
    y = y[distinct.rows]
    estimator = _fit(args, choice, found.features[distinct.rows], y)
    _save(args.out, extractor, estimator)
    say(f"{args.out}: {args.head} on {args.model}, {len(y)} images, {len(set(y))} classes: {shorten(set(y.tolist()))}")
    return found.skipped


def _fit(args: argparse.Namespace, choice: Any, features: Any, y: Any) -> Any:
    """Fit the head, and say how good it is."""
    from frofa.selection import fit_head, n_fits, n_folds

    folds = n_folds(y, args.cv)
    if folds < 2:
        note(no_estimate(y))
    note(f"training {args.head}, fits: {n_fits(choice, folds)}")
    fitted = fit_head(choice, features, y, cv=args.cv, seed=args.seed)
    found = [f"{key.split('__')[-1]}={value}" for key, value in fitted.params.items()]
    known = "not cross-validated" if folds < 2 else f"accuracy {100 * fitted.score:.1f} % over {folds} folds"
    say(f"{args.head:<10} {'; '.join([known, ', '.join(found)] if found else [known])}")
    return fitted.estimator


def no_estimate(y: Any) -> str:
    """Say why nothing is known of the accuracy."""
    rarest = min(Counter(y.tolist()).items(), key=lambda item: (item[1], item[0]))[0]
    return f"no estimate of accuracy: it takes 2 images of every class, and {rarest} has one"


def _save(path: Path, extractor: "FrozenFeatureExtractor", head: Any) -> None:
    from sklearn.pipeline import Pipeline

    from frofa.persistence.saving import save

    # Progress bars are for this run: a saved model shows none unless it is asked to.
    model = Pipeline([("extract", extractor), ("head", head)])
    model.set_params(**{name: False for name in model.get_params() if name.endswith("__verbose")})
    save(model, path)
