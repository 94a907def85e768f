"""``frofa bench``: published image-text benchmarks, from their files to a table."""

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frofa.cli.console import emit, note, say
from frofa.cli.options import Commands, add_shared, check_in, check_out, finish, level

if TYPE_CHECKING:
    from frofa.scifibench.embedding import EmbeddedQuestions

COSINE, ADAPTER = "cosine", "adapter"
"""Names of the methods in tables."""


def add(commands: Commands) -> None:
    """Add the sub-command with its own sub-commands."""
    parser = commands.add_parser("bench", help="published image-text benchmarks, from their files to a table")
    benchmarks = parser.add_subparsers(title="benchmarks", required=True, metavar="BENCHMARK")
    _add_scifibench(benchmarks)


def _add_scifibench(benchmarks: Commands) -> None:
    parser = benchmarks.add_parser(
        "scifibench",
        help="multiple choice of figures and captions, by embeddings",
        description="Answer SciFIBench's questions by the cosine of figures and captions, and print accuracies by task "
        "and category, with Wilson's intervals. PATH is the folder of the published parquet files, as downloaded from "
        "Hugging Face (jonathan-roberts1/SciFIBench), or one of them.",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="folder of parquet files, or one file")
    parser.add_argument("--model", required=True, metavar="MODEL", help="backbone of figures, see 'frofa models'")
    parser.add_argument(
        "--text-model", metavar="MODEL", help="backbone whose text tower reads captions (default: MODEL)"
    )
    parser.add_argument(
        "--adapter",
        action="store_true",
        help="also answer by an adapter in closed form that is trained on the questions of the other categories",
    )
    parser.add_argument(
        "--task", choices=("Figure2Caption", "Caption2Figure"), help="the questions of one task alone (default: both)"
    )
    parser.add_argument("--level", type=level, default=0.95, help="level of the intervals (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="TABLE.csv", help="write the table, shares from 0 to 1")
    parser.add_argument(
        "--answers", type=Path, metavar="ANSWERS.csv", help="write each question's right letter, and the ones given"
    )
    add_shared(parser, "--store", "--image-size", "--background", "--batch-size", "--device", "--n-jobs")
    finish(parser, _scifibench)


def _scifibench(args: argparse.Namespace) -> int:
    # Files are looked at before PyTorch is imported, and a model is loaded.
    check_out(args.out, suffix=".csv")
    check_out(args.answers, "--answers", suffix=".csv")
    check_in(args.path, "file or folder")
    from frofa.scifibench.reading import find_splits

    splits, notes = find_splits(args.path)
    for text in notes:
        note(text)
    splits = [split for split in splits if args.task in (None, split.task)]
    if not splits:
        raise ValueError(f"expected questions of {args.task}. Got none in {args.path}.")
    from frofa.scifibench.embedding import embed_splits
    from frofa.scifibench.table import difference, make_cells, table_lines, write_answers, write_csv

    embedded = embed_splits(splits, *_extractors(args))
    scores = _scores(embedded, adapter=args.adapter)
    cells = make_cells(embedded, scores, args.level)
    emit("\n".join(table_lines(cells)))
    if len(scores) == 2:
        mean, low, high = (100 * value for value in difference(embedded, scores[COSINE], scores[ADAPTER], args.level))
        say(f"\n{ADAPTER} less {COSINE}, all questions: {mean:+.1f} ({low:+.1f} to {high:+.1f})")
    _write(args.out, lambda stream: write_csv(cells, stream))
    _write(args.answers, lambda stream: write_answers(embedded, scores, stream))
    return 0


def _write(path: Path | None, write: Callable[[io.StringIO], None]) -> None:
    """Write a file that was asked for, whole or not at all."""
    if path is None:
        return
    from frofa.utils.files import write_atomically

    text = io.StringIO()
    write(text)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
    say(f"wrote {path}")


def _extractors(args: argparse.Namespace) -> tuple[Any, Any]:
    """Extractors of figures, in the space of words where the backbone has one, and of captions."""
    from frofa.cli.features import extraction_parameters

    args.rehash, args.fail_fast = False, True
    parameters = extraction_parameters(args)
    from frofa.extraction.extractor import FrozenFeatureExtractor
    from frofa.texts.extractor import FrozenTextExtractor

    shared = {name: parameters[name] for name in ("batch_size", "device", "store", "verbose")}
    text = FrozenTextExtractor(args.text_model or parameters["model"], **shared)
    text.fit()  # a model without a text tower is an error before figures are embedded
    images = FrozenFeatureExtractor(**parameters, output="projected")
    if args.text_model is not None:
        try:
            images.fit()
        except ValueError:  # it was trained without texts: the adapter takes its pooled vector
            images.set_params(output="pooled")
    return images, text


def _scores(embedded: "EmbeddedQuestions", *, adapter: bool) -> dict[str, Any]:
    """Scores by each method; towers whose vectors have other widths share no space, and need the adapter."""
    from frofa.scifibench.adapter import adapted_scores
    from frofa.scifibench.embedding import cosine_scores

    found: dict[str, Any] = {}
    widths = embedded.figures.shape[1], embedded.captions.shape[1]
    if widths[0] == widths[1]:
        found[COSINE] = cosine_scores(embedded)
    elif not adapter:
        raise ValueError(
            f"expected figures and captions in one space. Got {widths[0]} and {widths[1]} channels: --adapter maps "
            "them into one."
        )
    if adapter:
        found[ADAPTER], _ = adapted_scores(embedded)
    return found
