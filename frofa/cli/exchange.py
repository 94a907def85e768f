"""``frofa labels export`` and ``import``: labels for other tools, and from them."""

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from frofa.cli.console import note, say
from frofa.cli.model import check_model, load_model, predict
from frofa.cli.options import (
    EPILOG,
    EXIT_SKIPPED,
    SPEED,
    Commands,
    add_shared,
    check_in,
    check_out,
    finish,
    list_some_images,
)
from frofa.cli.sources import report_skipped
from frofa.utils.files import make_directories, write_atomically, write_together

if TYPE_CHECKING:
    from frofa.annotation.exchange.places import Places
    from frofa.annotation.exchange.samples import Found, Sample

TOOLS = ("label-studio", "fiftyone")


def add(actions: Commands) -> None:
    """Add the two commands to those of ``frofa labels``."""
    _add_export(actions)
    _add_import(actions)


def _add_export(actions: Commands) -> None:
    parser = actions.add_parser(
        "export",
        help="labels of 'frofa label' for Label Studio or FiftyOne",
        description="Write labels that 'frofa label' has collected for another tool. Images stay where they are. For "
        "Label Studio it is a file of tasks, whose images it finds if its local storage begins at --root; for FiftyOne "
        "it is a directory, which it loads as a FiftyOneDataset or a FiftyOneImageClassificationDataset.",
        epilog=EPILOG,
    )
    parser.add_argument("labels", type=Path, metavar="FILE.csv", help="labels, as 'frofa label' writes them")
    parser.add_argument("--to", choices=TOOLS, required=True, help="the tool")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PLACE", help="file of tasks, in .json, or directory of the dataset"
    )
    parser.add_argument(
        "--images", nargs="+", type=Path, default=[], metavar="PLACE", help="add these, which may be without a label"
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIRECTORY",
        help="Label Studio's LOCAL_FILES_DOCUMENT_ROOT (default: the directory of FILE.csv)",
    )
    parser.add_argument(
        "--interface", type=Path, metavar="FILE.xml", help="write Label Studio's labelling interface for these classes"
    )
    parser.add_argument(
        "--model", type=Path, metavar="MODEL", help="add what this model, of 'frofa fit', takes each image for"
    )
    parser.add_argument("--store", type=Path, help="feature store to use (default: none, features are not kept)")
    add_shared(parser, *SPEED)
    finish(parser, _export)


def _add_import(actions: Commands) -> None:
    parser = actions.add_parser(
        "import",
        help="labels of Label Studio or FiftyOne for 'frofa label' and 'frofa fit'",
        description="Read labels of another tool, and append those that are new or different to a file of labels, "
        "which 'frofa label' goes on with and 'frofa fit' reads. From Label Studio it is an export as JSON or "
        "JSON-MIN; from FiftyOne an exported FiftyOneDataset or FiftyOneImageClassificationDataset, the directory or "
        "its samples.json or labels.json. Images must lie in one directory; none is opened.",
        epilog=EPILOG,
    )
    parser.add_argument("file", type=Path, metavar="PLACE", help="what the other tool exported")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv", help="file of labels, appended to")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIRECTORY",
        help="directory of all images, from which paths of Label Studio count (default: that of FILE.csv)",
    )
    parser.add_argument("--field", metavar="NAME", help="which labels to take, where there are several kinds")
    finish(parser, _import)


def _export(args: argparse.Namespace) -> int:
    check_in(args.labels)
    if args.model is not None:
        check_model(args.model)
    check_out(args.interface, "--interface", suffix=".xml")
    if args.to == "label-studio":
        check_out(args.out, suffix=".json")
    elif args.out.exists() and not args.out.is_dir():
        raise ValueError(f"--out must be a directory. Got the file {args.out}.")
    base = Path(os.path.abspath(args.labels)).parent  # noqa: PTH100 (links stay what they are)
    samples, n_skipped = _samples(args, base), 0
    if args.model is not None:
        samples, n_skipped = _with_guesses(samples, base, args)
    _write(samples, base, args)
    if args.interface is not None:
        _write_interface(samples, args.interface)
    n_labelled = sum(bool(sample.label) for sample in samples)
    say(f"{args.out}: {len(samples)} images, {n_labelled} with a label")
    return EXIT_SKIPPED if n_skipped else 0


def _samples(args: argparse.Namespace, base: Path) -> "list[Sample]":
    """Read the record, and add further images."""
    from frofa.annotation.exchange.samples import Sample, read_record

    samples = read_record(args.labels)
    known = {sample.path for sample in samples}
    listed = list_some_images(args.images) if args.images else []
    added = dict.fromkeys(Path(os.path.relpath(path, base)).as_posix() for path in listed)
    samples += [Sample(path) for path in added if path not in known]
    if not samples:
        raise ValueError(f"found no decision in {args.labels}: --images adds images without one.")
    return samples


def _with_guesses(samples: "list[Sample]", base: Path, args: argparse.Namespace) -> "tuple[list[Sample], int]":
    """Add what a model takes each image for; return how many could not be read, too."""
    from frofa.annotation.exchange.samples import Guess

    model = load_model(args)
    if not model.has_probabilities:
        raise ValueError(f"the head of {args.model}, a {model.name}, has no probabilities.")
    found = predict(model, [str(base / sample.path) for sample in samples], fail_fast=args.fail_fast)
    report_skipped(found.skipped, len(samples), all_of_them="these have no prediction either")
    if not found.kept:
        raise ValueError(f"none of the {len(samples)} images could be read.")
    guesses = {
        position: Guess(str(model.classes[row.argmax()]), float(row.max()))
        for position, row in zip(found.kept, found.table(), strict=True)
    }
    return [sample._replace(guess=guesses.get(i)) for i, sample in enumerate(samples)], len(found.skipped)


def _write(samples: "list[Sample]", base: Path, args: argparse.Namespace) -> None:
    if args.to == "label-studio":
        from frofa.annotation.exchange.label_studio import tasks

        name = "frofa" if args.model is None else f"frofa {args.model.name}"
        data = _json(tasks(samples, base, args.root or base, name))
        write_atomically(args.out, lambda file: file.write(data))
        return
    from frofa.annotation.exchange.fiftyone import files

    contents = {name: _json(content) for name, content in files(samples, base, args.out, base.name).items()}
    make_directories(args.out)
    write_together({args.out / name: partial(_put, data) for name, data in contents.items()})


def _put(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _write_interface(samples: "list[Sample]", path: Path) -> None:
    from frofa.annotation.exchange.label_studio import interface

    names = {sample.label for sample in samples} | {sample.guess.label for sample in samples if sample.guess}
    data = f"{interface(sorted(names - {''}))}\n".encode("utf-8", "surrogateescape")
    write_atomically(path, lambda file: file.write(data))


def _import(args: argparse.Namespace) -> int:
    from frofa.annotation.exchange.places import Places
    from frofa.annotation.exchange.samples import merge

    check_in(args.file)
    check_out(args.out, suffix=".csv")
    base = Path(os.path.abspath(args.out)).parent  # noqa: PTH100 (links stay what they are)
    root = args.root or base
    check_in(root, "directory")
    tool, found = _read(args, Places(root, base))
    for left_out in found.notes:
        note(left_out)
    if not found.samples:
        raise ValueError(f"found no label in {args.file} of an image in {root}.")
    merged = merge(args.out, found.samples, tool)
    say(f"{args.out}: {merged.n_new} new, {merged.n_changed} changed, {merged.n_same} as they were")
    return 0


def _read(args: argparse.Namespace, places: "Places") -> "tuple[str, Found]":
    """Read a file of either tool, by what is in it; return the tool's name, too."""
    from frofa.annotation.exchange import fiftyone, label_studio
    from frofa.utils.json import read_json

    file = args.file
    if file.is_dir():
        names = [name for name in ("samples.json", "labels.json") if (file / name).is_file()]
        if not names:
            raise ValueError(f"expected a file, or a directory with samples.json or labels.json. Got {file}.")
        file = file / names[0]
    content = read_json(file, lambda why: ValueError(f"{file} is no file of labels: {why}."))
    try:
        if fiftyone.is_dataset(content):
            folder = Path(os.path.abspath(file)).parent  # noqa: PTH100 (links stay what they are)
            return fiftyone.TOOL, fiftyone.samples_of(content, folder, places, args.field)
        if label_studio.is_tasks(content):
            return label_studio.TOOL, label_studio.samples_of(content, places, args.field)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    raise ValueError(f"expected tasks of Label Studio, or a dataset of FiftyOne. Got something else in {file}.")


def _json(content: Any) -> bytes:
    # In ASCII, in which bytes of names that are no text stay what they are.
    return json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"
