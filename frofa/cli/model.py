"""A saved model and its predictions, for ``frofa predict`` and ``frofa evaluate``."""

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from frofa.cli.options import SPEED, add_shared, finish
from frofa.cli.sources import add_source_options
from frofa.exceptions import ImageReadError, SkippedImagesWarning

if TYPE_CHECKING:
    import numpy.typing as npt

    from frofa.images.items import ImageItem


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


def load_model(args: argparse.Namespace) -> Any:
    """The pipeline of an extractor and a head, with the options of this run."""
    from sklearn.pipeline import Pipeline

    from frofa.extraction.extractor import FrozenFeatureExtractor
    from frofa.persistence.saving import load

    model = load(args.model, device=args.device)
    if not isinstance(model, Pipeline) or not isinstance(model[0], FrozenFeatureExtractor):
        raise ValueError(f"{args.model} does not start with an extractor, so that it cannot classify images.")
    if not hasattr(model, "classes_"):
        raise ValueError(f"{args.model} does not end in a classifier, so that it has no classes to tell.")
    model[0].set_params(
        on_error="raise" if args.fail_fast else "skip",
        store=args.store,
        batch_size=args.batch_size,
        n_jobs=args.n_jobs,
        verbose=True,
    )
    return model


def predict(model: Any, items: "Sequence[ImageItem]", *, fail_fast: bool) -> Predictions:
    """Classify images; where none can be read, there are no predictions."""
    import numpy as np

    from frofa.images.reading import check_readable

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SkippedImagesWarning)  # who calls this says more
            extraction = model[0].extract(items)
    except ImageReadError:
        if fail_fast:
            raise
        # No image was read: the error is that of one, so that all are tried once more for theirs.
        failures = [check_readable(position, item) for position, item in enumerate(items)]
        return Predictions([], np.array([]), None, [error for error in failures if error])
    # Steps behind the extractor, as features are there already. Labels are taken from the probabilities where there are
    # any, so that both agree, and the head runs once.
    head = model[1:]
    has_probabilities = hasattr(head, "predict_proba")
    probabilities = np.asarray(head.predict_proba(extraction.features)) if has_probabilities else None
    labels = head.predict(extraction.features) if probabilities is None else model.classes_[probabilities.argmax(1)]
    return Predictions(extraction.kept.tolist(), np.asarray(labels), probabilities, extraction.skipped)
