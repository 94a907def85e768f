"""Extractors as the options describe them, and one pass of the images through them."""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frofa.exceptions import ImageReadError, SkippedImagesWarning
from frofa.utils.files import expand_home

if TYPE_CHECKING:
    from frofa.extraction.extractor import FrozenFeatureExtractor
    from frofa.extraction.run import Extraction
    from frofa.images.items import ImageItem


def extract(
    extractors: "Mapping[str, FrozenFeatureExtractor]", items: "Sequence[ImageItem]", labels: Any, *, fail_fast: bool
) -> "dict[str, Extraction]":
    """Extract the features of all extractors; that no image can be read is an error."""
    from frofa.extraction.many import extract_many

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SkippedImagesWarning)  # the summary says more
            return extract_many(extractors, items, labels)
    except ImageReadError as error:
        if fail_fast:
            raise
        raise ValueError(f"none of the {len(items)} images could be read; the first: {error}") from error


def make_extractor(args: argparse.Namespace, output: Any, **options: Any) -> "FrozenFeatureExtractor":
    """The extractor that the options ask for; a model that cannot be had is an error before anything is imported."""
    parameters = extraction_parameters(args)
    from frofa.extraction.extractor import FrozenFeatureExtractor

    return FrozenFeatureExtractor(**parameters, output=output, **options)


def extraction_parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Parameters of an extractor, or of a classifier with one, that the options of `EXTRACTION` give."""
    from frofa.encoders.registered import refuse_unavailable

    refuse_unavailable(args.model)
    return {
        "model": model_path(args.model),
        "image_size": args.image_size,
        "background": args.background,
        "batch_size": args.batch_size,
        "device": args.device,
        "n_jobs": args.n_jobs,
        "store": args.store,
        "rehash": args.rehash,
        "on_error": "raise" if args.fail_fast else "skip",
        "verbose": True,
    }


def model_path(model: str) -> str:
    """Make the path of a model's folder absolute: a saved model is used from other directories, too."""
    kind, _, path = model.partition(":")
    return f"{kind}:{Path(expand_home(path)).absolute()}" if kind in ("local-dir", "hf-dir") else model
