"""Words for classes, as the options of ``frofa fit`` give them."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frofa.utils.files import expand_home
from frofa.utils.json import Fail, read_json

JSON = ".json"


def add_word_options(parser: argparse.ArgumentParser) -> None:
    """Add the prior, the words for the classes, and what reads them."""
    group = parser.add_argument_group("words")
    group.add_argument(
        "--prior",
        choices=["text"],
        help="text: start from the words for the classes, which few images, or none, then refine; the backbone, or "
        "--text-model, must have a text tower",
    )
    group.add_argument(
        "--class-names",
        metavar="NAMES",
        help="words for the classes: a .json file with an object of labels and their words, or LABEL=WORDS,...; with "
        "several words for a class as LABEL=WORDS|WORDS (default: the labels, with _ as a space). Without a SOURCE, "
        "they say which classes there are",
    )
    group.add_argument(
        "--templates",
        action="append",
        metavar="CAPTION",
        help='caption with {} for the words, such as "an X-ray of a {}"; may be given several times (default: those of '
        "the text tower, or eight that suit most images)",
    )
    group.add_argument(
        "--text-model",
        metavar="NAME",
        help="backbone that compares images with words, beside that of --model (default: that of --model)",
    )


def word_parameters(args: argparse.Namespace, labels: Any = None) -> dict[str, Any]:
    """Parameters of an `ImageClassifier` that the options give, for labels (n,) of images or none.

    Raises
    ------
    ValueError
        If an option has no use without ``--prior text``, or names are none.
    """
    if args.prior is None:
        given = [name for name in ("class_names", "templates", "text_model") if getattr(args, name) is not None]
        if given:
            raise ValueError(f"--{given[0].replace('_', '-')} goes with --prior text.")
        return {}
    names = None if args.class_names is None else class_names_of(args.class_names)
    if isinstance(names, Mapping) and labels is not None and labels.dtype.kind in "iu":
        names = _numbered(names)
    return {
        "prior": args.prior,
        "class_names": names,
        "templates": args.templates or "auto",
        "text_model": args.text_model,
    }


def class_names_of(given: str) -> Any:
    """Read words for classes: of a JSON file, an object or a list; of ``cat=a cat,dog=puppy|hound``, by label.

    Examples
    --------
    >>> from frofa.cli.words import class_names_of
    >>> class_names_of("cat, sea_dog=seal|sea lion")
    {'cat': 'cat', 'sea_dog': ['seal', 'sea lion']}
    """
    if given.lower().endswith(JSON):
        path = Path(expand_home(given))
        fail: Fail = lambda why: ValueError(f"--class-names {path}: {why}")  # noqa: E731
        if not path.exists():
            raise FileNotFoundError(f"--class-names: there is no file {path}.")
        found = read_json(path, fail)
        if not isinstance(found, (dict, list)):
            raise fail(f"expected an object of labels and their words, or a list of words. Got {found!r:.80}")
        return found
    names: dict[str, Any] = {}
    for part in given.split(","):
        label, _, words = part.partition("=")
        label, listed = label.strip(), [word.strip() for word in words.split("|")] if "=" in part else []
        if not label or label in names or ("=" in part and not all(listed)):
            raise ValueError(
                f"--class-names needs LABEL=WORDS, or LABEL, for each class once, with commas between. Got {part!r} in "
                f"{given!r}."
            )
        # A label without words is read as they are everywhere: "sea_dog" is "sea dog".
        names[label] = (listed if len(listed) > 1 else listed[0]) if listed else label.replace("_", " ")
    return names


def _numbered(names: Mapping[str, Any]) -> dict[Any, Any]:
    """Give labels that are numbers, as those of the images are."""
    try:
        return {int(label): words for label, words in names.items()}
    except ValueError:
        raise ValueError(
            f"--class-names must name the labels of the images, which are numbers. Got {list(names)[:5]}."
        ) from None
