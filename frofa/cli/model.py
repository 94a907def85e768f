"""A saved model and its predictions, for ``frofa predict`` and ``frofa evaluate``."""

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from frofa.cli.options import SPEED, add_shared, finish
from frofa.cli.sources import add_source_options
from frofa.exceptions import ImageReadError, SkippedImagesWarning

if TYPE_CHECKING:
    import numpy.typing as npt

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

    @property
    def classes(self) -> "npt.NDArray[Any]":
        """The labels that it knows."""
        labels: npt.NDArray[Any] = self.head.classes_
        return labels

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


def load_model(args: argparse.Namespace) -> SavedModel:
    """The saved model, with the options of this run."""
    from sklearn.pipeline import Pipeline

    from frofa.extraction.extractor import FrozenFeatureExtractor
    from frofa.image_classifier import ImageClassifier
    from frofa.persistence.saving import load

    model = load(args.model, device=args.device)
    options = {
        "on_error": "raise" if args.fail_fast else "skip",
        "store": args.store,
        "batch_size": args.batch_size,
        "n_jobs": args.n_jobs,
        "verbose": True,
    }
    if isinstance(model, ImageClassifier):
        if not hasattr(model, "head_"):
            raise ValueError(f"{args.model} is not fitted, so that it has no classes to tell.")
        model.set_params(**options)
        return SavedModel(model.extract, model.head_, type(model).__name__, model.model, model.weights_digest_)
    if not isinstance(model, Pipeline) or not isinstance(model[0], FrozenFeatureExtractor):
        raise ValueError(f"{args.model} does not start with an extractor, so that it cannot classify images.")
    if not hasattr(model, "classes_"):
        raise ValueError(f"{args.model} does not end in a classifier, so that it has no classes to tell.")
    model[0].set_params(**options)
    digest = getattr(model[0], "weights_digest_", None)
    return SavedModel(model[0].extract, model[1:], type(model[-1]).__name__, model[0].model, digest)


def predict(model: SavedModel, items: "Sequence[ImageItem]", *, fail_fast: bool) -> Predictions:
    """Classify images; where none can be read, there are no predictions."""
    import numpy as np

    from frofa.images.reading import check_readable

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
    return Predictions(extraction.kept.tolist(), np.asarray(labels), probabilities, extraction.skipped)
