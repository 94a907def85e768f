"""``frofa search``: the images of a store that are nearest to words or to an image, or words for an image."""

import argparse
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frofa.cli.console import emit, note, say, warn
from frofa.cli.features import model_path
from frofa.cli.options import EPILOG, Commands, add_shared, check_in, check_out, finish, positive
from frofa.cli.sources import csv_bytes
from frofa.utils.files import expand_home, write_atomically

if TYPE_CHECKING:
    from frofa.retrieval.search.asking import Asked
    from frofa.retrieval.search.searching import Answer, Hit, Names
    from frofa.store import FeatureStore

SUFFIXES = (".png", ".html", ".csv")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm")
"""Endings by which a query is taken for the path of an image that is not there, and not for words."""


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "search",
        help="find the images of a store by words or by an image, or words for an image",
        description="Find the images whose features are in STORE that are nearest to each QUERY, words or the path of "
        "an image, and print rank, similarity (the cosine), path and label. Words need the features of an image-text "
        "model: extract with --model of SigLIP or CLIP and --output projected. 'frofa extract' remembers where images "
        "lie, and their labels.",
        epilog=EPILOG,
    )
    parser.add_argument("store", type=Path, metavar="STORE", help="feature store")
    parser.add_argument(
        "queries", nargs="+", metavar="QUERY", help='words in quotes, such as "a red car", or the path of an image'
    )
    parser.add_argument(
        "--model", metavar="MODEL", help="backbone of the features (default: the one that the store was filled by)"
    )
    parser.add_argument("--spec", metavar="DIGEST", help="which features, as 'frofa store info' lists them")
    parser.add_argument("--top", type=positive, default=20, metavar="N", help="images a query (default: %(default)s)")
    parser.add_argument("--where", nargs="+", default=[], metavar="LABEL", help="only images with one of these labels")
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="where the images lie now, as 'frofa extract' takes them (default: where they were when extracted)",
    )
    parser.add_argument(
        "--among", type=Path, metavar="FILE.txt", help="find words for images instead, among these, one text a line"
    )
    parser.add_argument("--exact", action="store_true", help="search exactly also among more than a million images")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write a contact sheet (.png), a page (.html) or a table (.csv), too"
    )
    add_shared(parser, "--device")
    finish(parser, _run)


def _run(args: argparse.Namespace) -> int:
    if not args.store.is_dir():  # known without PyTorch, which the store imports
        raise FileNotFoundError(f"there is no feature store {args.store}.")
    check_out(args.out)
    suffixes = SUFFIXES if args.among is None else (".csv",)
    if args.out is not None and args.out.suffix not in suffixes:
        raise ValueError(f"--out must end in {', '.join(suffixes)}. Got {args.out}.")
    is_image = [_is_image(query) for query in args.queries]
    texts = _texts(args.among, args.queries, is_image) if args.among is not None else []
    from frofa.store import FeatureStore

    store = FeatureStore(args.store)
    answers = _words(args, store, texts) if texts else _images(args, store, is_image)
    for answer in answers:
        _print(answer, titled=len(answers) > 1)
    _write(args, answers)
    return 0


def _is_image(query: str) -> bool:
    """Tell a path from words: an image that is not there is an error, and not taken for words."""
    if not query.strip():
        raise ValueError("expected words, or the path of an image, as QUERY. Got an empty one.")
    path = Path(expand_home(query))
    if path.is_dir():
        raise ValueError(f"expected words, or the path of one image, as QUERY. Got the directory {query}.")
    if path.exists():
        return True
    if path.suffix.lower() in ENDINGS and " " not in path.suffix:
        raise FileNotFoundError(f"there is no image {query}.")
    return False


def _texts(file: Path, queries: Sequence[str], is_image: Sequence[bool]) -> list[str]:
    from frofa.utils.text import in_utf8

    if not all(is_image):
        raise ValueError(f"--among finds words for images. Got {queries[is_image.index(False)]!r}, which is no file.")
    check_in(file)
    lines = (line.strip() for line in in_utf8(file.read_bytes()).decode("utf-8").splitlines())
    texts = list(dict.fromkeys(line for line in lines if line))
    if not texts:
        raise ValueError(f"expected a text a line in {file}. Got none.")
    return texts


def _images(args: argparse.Namespace, store: "FeatureStore", is_image: Sequence[bool]) -> "list[Answer]":
    """Search for all queries: those that are images, and those that are words, each kind at once."""
    from frofa.retrieval.search.asking import choose, image_vectors, text_vectors
    from frofa.retrieval.search.searching import Answer, find_images

    names = _names(args, store)
    found: dict[int, list[Hit]] = {}
    # Words and images are compared with the same features where there are both.
    asked = choose(store, spec=args.spec, model=_model(args), words=not all(is_image))
    for kind, vectors_of in ((True, image_vectors), (False, text_vectors)):
        rows = [i for i, image in enumerate(is_image) if image == kind]
        if not rows:
            continue
        given = [expand_home(args.queries[i]) if kind else args.queries[i] for i in rows]
        vectors = vectors_of(asked, given, args.device)
        options = {"top": args.top, "where": args.where, "exact": args.exact, "device": args.device}
        found |= dict(zip(rows, find_images(asked, vectors, names, **options), strict=True))
    _say_features(asked)
    return [
        Answer(query, [_nearby(hit) for hit in found[i]], expand_home(query) if is_image[i] else None)
        for i, query in enumerate(args.queries)
    ]


def _words(args: argparse.Namespace, store: "FeatureStore", texts: Sequence[str]) -> "list[Answer]":
    from frofa.retrieval.search.asking import choose, image_vectors, text_vectors
    from frofa.retrieval.search.searching import Answer, find_words

    asked = choose(store, spec=args.spec, model=_model(args), words=True)
    paths = [expand_home(query) for query in args.queries]
    of_texts = text_vectors(asked, texts, args.device)
    found = find_words(image_vectors(asked, paths, args.device), texts, of_texts, top=args.top)
    _say_features(asked)
    return [Answer(query, hits, path) for query, hits, path in zip(args.queries, found, paths, strict=True)]


def _model(args: argparse.Namespace) -> str | None:
    return None if args.model is None else model_path(args.model)


def _names(args: argparse.Namespace, store: "FeatureStore") -> "Names":
    from frofa.retrieval.search.places import StoreNames, list_names

    if not args.images:
        return StoreNames(store)
    from frofa.images.image_set import join
    from frofa.images.sources import load_images

    return list_names(store, join([load_images(source) for source in args.images]))


def _say_features(asked: "Asked") -> None:
    n = len(asked.store.features(asked.spec))
    of = f" of {asked.model}" if asked.model else ""
    note(f"{n} images, {asked.spec.output} features{of} ({asked.spec.digest[:12]})")


def _nearby(hit: "Hit") -> "Hit":
    """Name an image below the working directory from there, as the user does."""
    return hit._replace(name=_relative(hit.name), others=tuple(_relative(other) for other in hit.others))


def _relative(name: str) -> str:
    below = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118 (names may be of members of archives, too)
    return name.removeprefix(below) if os.path.isabs(name) else name  # noqa: PTH117


def _print(answer: "Answer", *, titled: bool) -> None:
    if titled:
        emit(f"{answer.query}:")
    for hit in answer.hits:
        label = f"\t{hit.label}" if hit.label else ""
        copies = f"\t(and {len(hit.others)} with the same content)" if hit.others else ""
        emit(f"{hit.rank:>4}  {hit.similarity:7.4f}  {hit.name}{label}{copies}")


def _write(args: argparse.Namespace, answers: "Sequence[Answer]") -> None:
    hits = [hit for answer in answers for hit in answer.hits]
    if args.among is None and (n_gone := sum(hit.item is None for hit in hits)):
        warn(f"{n_gone} of {len(hits)} images are not where they were extracted: --images SOURCE says where they lie")
    if args.out is None:
        return
    data = _data(args.out.suffix, answers)
    write_atomically(args.out, lambda file: file.write(data))
    say(f"{args.out}: {len(hits)} found for {len(answers)} queries" if len(answers) > 1 else f"{args.out}: {len(hits)}")


def _data(suffix: str, answers: "Sequence[Answer]") -> bytes:
    if suffix == ".csv":
        rows = [
            [answer.query, hit.rank, f"{hit.similarity:.6f}", hit.name, hit.label]
            for answer in answers
            for hit in answer.hits
        ]
        return csv_bytes([["query", "rank", "similarity", "path", "label"], *rows])
    if suffix == ".html":
        from frofa.retrieval.search.page import search_page

        return search_page(answers, "Search: " + ", ".join(answer.query for answer in answers)).encode()
    from frofa.retrieval.search.sheet import contact_sheet

    buffer = io.BytesIO()
    contact_sheet(answers).save(buffer, "PNG")
    return buffer.getvalue()
