"""A saved model and its predictions, for ``frofa predict`` and ``frofa evaluate``."""

import argparse
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from frofa.cli.options import SPEED, add_shared, finish
from frofa.cli.sources import add_source_options
from frofa.exceptions import ImageReadError, SkippedImagesWarning

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from frofa.estimators import ConformalClassifier
    from frofa.extraction.run import Extraction
    from frofa.images.items import ImageItem


@dataclass(frozen=True)
class SavedModel:
    """A saved classifier of images: an `ImageClassifier`, or a pipeline that begins with an extractor.

    `extract` makes features of images, and `head` classifies those; `backbone` and `weights_digest` identify what makes
    the features, and `name` says which head it is.
    """

    extract: "Callable[[Sequence[ImageItem]], Extraction]"
    head: Any
    name: str
    backbone: Any
    weights_digest: str | None
    sets: "ConformalClassifier | None" = None
    """The classifier that predicts sets of labels; its head is `head`, or the last step of it."""

    @property
    def classes(self) -> "npt.NDArray[Any]":
        """The labels that it knows."""
        labels: npt.NDArray[Any] = self.head.classes_
        return labels

    @property
    def share(self) -> float | None:
        """The share of known images that it rejects by itself."""
        found: float | None = getattr(self._last, "reject", None)
        return found

    @property
    def _last(self) -> Any:
        """The head without steps before it."""
        return self.head[-1] if hasattr(self.head, "steps") else self.head

    @property
    def has_probabilities(self) -> bool:
        """Whether the head gives the probabilities of classes."""
        return hasattr(self.head, "predict_proba")


class Predictions(NamedTuple):
    """Predictions for the images that could be read, and an error for each that could not.

    `kept` are positions in the input; labels are (n_kept,), and probabilities, if the head has any, (n_kept,
    n_classes).
    """

    kept: list[int]
    labels: "npt.NDArray[Any]"
    probabilities: "npt.NDArray[Any] | None"
    skipped: list[ImageReadError]
    novelty: "npt.NDArray[Any] | None" = None
    """P-values (n_kept,) of novelty, where images were to be rejected by them."""
    sets: "npt.NDArray[np.bool_] | None" = None
    """Sets of labels of each image, (n_kept, n_classes), where there were to be some."""

    def table(self) -> "npt.NDArray[Any]":
        """The probabilities (n_kept, n_classes); ValueError if the head has none."""
        if self.probabilities is None:
            raise ValueError("the head has no probabilities.")
        return self.probabilities


def add_model_options(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    """Add the model, the images and how to read them, and the function that runs the sub-command."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="what 'frofa fit' wrote")
    add_source_options(parser)
    parser.add_argument("--store", type=Path, help="feature store to use (default: none, features are not kept)")
    add_shared(parser, *SPEED)
    finish(parser, run)


def check_model(path: Path) -> None:
    """Refuse what cannot be a saved model, before anything heavy is imported."""
    if path.is_dir():
        raise ValueError(f"MODEL must be a file that 'frofa fit' wrote. Got the directory {path}.")
    if not path.exists():
        raise FileNotFoundError(f"there is no model {path}: 'frofa fit' writes one.")


def load_classifier(args: argparse.Namespace) -> Any:
    """The saved classifier of images, with the options of this run.

    It is an `ImageClassifier`, which may be in a `ConformalClassifier`, or a pipeline that begins with an extractor.
    """
    from sklearn.pipeline import Pipeline

    from frofa.extraction.extractor import FrozenFeatureExtractor
    from frofa.image_classifier import ImageClassifier
    from frofa.persistence.saving import load

    model = load(args.model, device=args.device)
    inner = _inner(model)
    options = {
        "on_error": "raise" if args.fail_fast else "skip",
        "store": args.store,
        "batch_size": args.batch_size,
        "n_jobs": args.n_jobs,
        "verbose": True,
    }
    if isinstance(inner, ImageClassifier):
        if not hasattr(inner, "head_"):
            raise ValueError(f"{args.model} is not fitted, so that it has no classes to tell.")
        inner.set_params(**options)
        return model
    if not isinstance(model, Pipeline) or not isinstance(model[0], FrozenFeatureExtractor):
        raise ValueError(f"{args.model} does not start with an extractor, so that it cannot classify images.")
    if not hasattr(model, "classes_"):
        raise ValueError(f"{args.model} does not end in a classifier, so that it has no classes to tell.")
    model[0].set_params(**options)
    return model


def _inner(model: Any) -> Any:
    """Return the classifier of images that a classifier of sets is around; others are themselves."""
    from frofa.estimators import ConformalClassifier
    from frofa.image_classifier import ImageClassifier

    around = isinstance(model, ConformalClassifier) and isinstance(getattr(model, "head_", None), ImageClassifier)
    return model.head_ if around else model


def load_model(args: argparse.Namespace) -> SavedModel:
    """The saved model, with the options of this run."""
    from frofa.estimators import ConformalClassifier
    from frofa.image_classifier import ImageClassifier

    whole = load_classifier(args)
    # Sets of labels around a classifier of images: it is asked for the rest.
    model = _inner(whole)
    sets = None if model is whole else whole
    if isinstance(model, ImageClassifier):
        sets = model._sets() if sets is None and hasattr(model, "sets_") else sets
        return SavedModel(model.extract, model._head(), type(model).__name__, model.model, model.weights_digest_, sets)
    digest = getattr(model[0], "weights_digest_", None)
    sets = model[-1] if isinstance(model[-1], ConformalClassifier) else None
    return SavedModel(model[0].extract, model[1:], type(model[-1]).__name__, model[0].model, digest, sets)


def predict(
    model: SavedModel,
    items: "Sequence[ImageItem]",
    *,
    fail_fast: bool,
    reject: float | None = None,
    level: float | None = None,
) -> Predictions:
    """Classify images; where none can be read, there are no predictions.

    A share of the known ones may be rejected, and there may be sets of labels of a confidence level.
    """
    import numpy as np

    from frofa.images.reading import check_readable

    if level is not None:
        _check_level(model, level)
    if reject is not None:
        _check_share(model, reject)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SkippedImagesWarning)  # who calls this says more
            extraction = model.extract(items)
    except ImageReadError:
        if fail_fast:
            raise
        # No image was read: the error is that of one, so that all are tried once more for theirs.
        failures = [check_readable(position, item) for position, item in enumerate(items)]
        return Predictions([], np.array([]), None, [error for error in failures if error])
    # Labels are taken from the probabilities where there are any, so that both agree, and the head runs once.
    features = extraction.features
    probabilities = np.asarray(model.head.predict_proba(features)) if model.has_probabilities else None
    labels = model.head.predict(features) if probabilities is None else model.classes[probabilities.argmax(1)]
    labels, novelty = np.asarray(labels), None
    share = reject if reject is not None else model.share
    if share is not None:
        labels, novelty = _reject(model, features, labels, share)
    sets = None if level is None else _sets(model, features, level)
    return Predictions(extraction.kept.tolist(), labels, probabilities, extraction.skipped, novelty, sets)


def _check_level(model: SavedModel, level: float) -> None:
    """Raise a ValueError where a model has no sets of labels of a level, before images are read."""
    import numpy as np

    if model.sets is None:
        _refuse_words(model, "--sets")
        older = model.name == "ImageClassifier"
        raise ValueError(
            f"--sets needs a model that keeps its images, or a ConformalClassifier. Got a {model.name}"
            + (
                " of an earlier version, which kept nothing to rank new images among: fit it again."
                if older
                else ", a single head, which has no sets: 'frofa fit' without --head makes a model that has."
            )
        )
    model.sets._check_enough(np.array([level]))


def _refuse_words(model: SavedModel, option: str) -> None:
    """Raise a ValueError where a model was fitted to words alone."""
    from frofa.estimators import ZeroShotClassifier

    if isinstance(model.head, ZeroShotClassifier) and not hasattr(model.head, "novelty_"):
        raise ValueError(f"{option} compares images with those of 'frofa fit'. This model was fitted to words alone.")


def _check_share(model: SavedModel, share: float) -> None:
    """Raise a ValueError where a model cannot reject a share of the known images, before images are read."""
    from frofa.estimators.solvers.novelty.ranks import least_samples

    head = model._last
    _refuse_words(model, "--reject")
    if not hasattr(head, "_with_rejected"):
        raise ValueError(f"--reject needs one of frofa's heads. Got a {model.name}.")
    head._novelty_method()
    # There is a score or a row for each known image.
    known = head.novelty_.get("scores", head.novelty_.get("rows"))
    n, needed = len(known), least_samples(share)
    if n < needed:
        # Rounded up, as the least share itself may have more digits.
        least = math.ceil(1000 / (n + 1)) / 1000
        raise ValueError(
            f"--reject {share:g} needs a model of {needed} images or more to compare with. This one has {n} of those "
            f"that it was fitted to: --reject {least:g} or more."
        )


def _sets(model: SavedModel, features: Any, level: float) -> "npt.NDArray[np.bool_]":
    import numpy as np

    from frofa.estimators.confidence.learners import inner_of

    assert model.sets is not None
    for step in model.head[:-1] if hasattr(model.head, "steps") else ():
        features = step.transform(features)
    return model.sets._sets_of(inner_of(model.sets.head_), features, np.array([level]))[:, :, 0]


def _reject(model: SavedModel, features: Any, labels: Any, share: float) -> "tuple[Any, npt.NDArray[Any]]":
    """Give the label of rejected images to those that fewer than a share of the known ones are as novel as."""
    from copy import copy

    head = copy(model._last)
    for step in model.head[:-1] if hasattr(model.head, "steps") else ():
        features = step.transform(features)
    head.reject = share
    return head._with_rejected(labels, features), head.novelty_p_value(features)
