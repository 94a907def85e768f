"""Multiple choice by embeddings: zero-shot with drawn and with mined wrong answers, and drawn figures end to end.

Named images: each test image of DIRECTORY/test/CLASS/IMAGE is a question, and so is each of their names; wrong answers
are other classes (images of other classes), drawn at random or mined. Figures: plots with captions
(``draw_figures.py``) are written as SciFIBench's files are, read, and answered by cosine and by the adapter that never
sees the tested category. Mined negatives are always the neighbours by the towers of MODEL. Shuffled embeddings say what
chance is. Printed, and written as JSON: accuracies with Wilson's 95 % intervals.

Usage: python benchmarks/multiple_choice.py DIRECTORY --model MODEL [--other BACKBONE] [--figures 720] [--out FILE.json]
MODEL has an image and a text tower; BACKBONE is one without texts, whose figures the adapter takes. The numbers of
docs/results/multiple_choice.md are in results/multiple_choice.json.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from draw_figures import Pair, draw_pairs, write_questions
from sklearn.feature_extraction.text import HashingVectorizer

from frofa import FrozenFeatureExtractor, FrozenTextExtractor, load_image_folder, mine_hard_negatives
from frofa.estimators.text.embeddings import class_texts
from frofa.evaluation import MultipleChoiceReport, multiple_choice
from frofa.scifibench import find_splits
from frofa.scifibench.adapter import adapted_scores
from frofa.scifibench.embedding import EmbeddedQuestions, cosine_scores, embed_splits
from frofa.scifibench.table import Cell, make_cells

Array = npt.NDArray[Any]
TASKS = ("Figure2Caption", "Caption2Figure")
SPLITS = {"drawn": "Drawn", "mined": "Mined", "mined in the category": "MinedInCategory"}
"""Kinds of wrong answers, and what their files are called."""


class Words:
    """Counts of the words of captions, hashed: an encoder of no knowledge at all."""

    def transform(self, items: list[str]) -> Array:
        """Return counts of shape (n, 256)."""
        hashed = HashingVectorizer(n_features=256, alternate_sign=False, token_pattern=r"[a-zA-Z0-9]+")
        return np.asarray(hashed.transform(items).toarray())


def draw_negatives(same: Array, n_negatives: int, rng: np.random.Generator) -> Array:
    """Draw other rows at random, (n, n_negatives), of which no two are the same by labels `same` (n,)."""
    found = np.empty((len(same), n_negatives), np.int64)
    for row, chosen in enumerate(found):
        order = rng.permutation(len(same))
        order = order[same[order] != same[row]]
        # The first of each label in a random order.
        chosen[:] = order[np.sort(np.unique(same[order], return_index=True)[1])[:n_negatives]]
    return found


def accuracy_of(report: MultipleChoiceReport) -> dict[str, Any]:
    """Accuracy with its interval, in percent."""
    return {"n": report.n, **{name: round(100 * value, 2) for name, value in report.accuracy._asdict().items()}}


def named_images(directory: Path, model: str, store: Path) -> list[dict[str, Any]]:
    """Answer questions about images and their names."""
    paths, labels = load_image_folder(directory / "test")
    images = np.asarray(FrozenFeatureExtractor(model, output="projected", store=store).transform(paths))
    names, rows = np.unique(labels, return_inverse=True)
    texts = class_texts(names, None, FrozenTextExtractor(model, store=store), "auto").embeddings[rows]
    rng = np.random.default_rng(0)
    kinds = {"drawn": draw_negatives(rows, 4, rng), "mined": mine_hard_negatives(images, texts, 4)}
    shuffled = rng.permutation(images)
    found = []
    for kind, negatives in kinds.items():
        choices, answer = np.hstack([np.arange(len(rows))[:, None], negatives]), np.zeros(len(rows), np.intp)
        for task, report in {
            "image to name": multiple_choice(images, texts[choices], answer),
            "name to image": multiple_choice(images[choices], texts, answer),
            "image to name, images shuffled": multiple_choice(shuffled, texts[choices], answer),
        }.items():
            found.append({"set": directory.name, "negatives": kind, "task": task, **accuracy_of(report)})
            print(json.dumps(found[-1]), flush=True)
    return found


def write_sets(folder: Path, pairs: tuple[Pair, ...], images: Array, texts: Array) -> None:
    """Write the same questions with each kind of wrong answers, the first half of the pairs of one task each."""
    categories = np.array([pair.category for pair in pairs])
    kinds = {
        "drawn": draw_negatives(np.arange(len(pairs)), 4, np.random.default_rng(0)),
        "mined": mine_hard_negatives(images, texts, 4),
        "mined in the category": mine_hard_negatives(images, texts, 4, groups=categories),
    }
    for kind, negatives in kinds.items():
        for first, task in enumerate(TASKS):
            file = folder / f"{SPLITS[kind]}_{task}-00000-of-00001.parquet"
            write_questions(file, task, pairs, range(first, len(pairs), 2), negatives)


def answer_figures(folder: Path, encoders: Mapping[str, tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Read the files, embed figures and captions, and answer, a kind of wrong answers at a time."""
    splits, _ = find_splits(folder)
    found = []
    for kind, subset in SPLITS.items():
        for name, (images, text) in encoders.items():
            embedded = embed_splits([split for split in splits if split.subset == subset], images, text)
            permuted = np.random.default_rng(0).permutation(embedded.captions)
            shuffled = EmbeddedQuestions(embedded.questions, embedded.figures, permuted)
            scores = {"adapter": adapted_scores(embedded)[0]}
            if kind == "drawn":
                scores["adapter, captions shuffled"] = adapted_scores(shuffled)[0]
            if embedded.figures.shape[1] == embedded.captions.shape[1]:
                scores["cosine"] = cosine_scores(embedded)
            for cell in make_cells(embedded, scores):
                if cell.category == "all":
                    found.append({"set": "drawn figures", "negatives": kind, "encoders": name, **_cell(cell)})
                    print(json.dumps(found[-1]), flush=True)
    return found


def _cell(cell: Cell) -> dict[str, Any]:
    shares = {name: round(100 * value, 2) for name, value in cell.accuracy._asdict().items()}
    return {"task": cell.task, "method": cell.method, "n": cell.n, **shares}


def figures(model: str, other: str | None, n: int, work: Path) -> list[dict[str, Any]]:
    """Draw figures, write questions, and answer them."""
    pairs, store = draw_pairs(n), work / "store"
    text = FrozenTextExtractor(model, store=store)
    images = FrozenFeatureExtractor(model, output="projected", store=store)
    encoders: dict[str, tuple[Any, Any]] = {
        "image and text tower": (images, text),
        "image tower, counts of words": (images, Words()),
    }
    if other is not None:
        plain = FrozenFeatureExtractor(other, output="pooled", store=store)
        encoders["other backbone, text tower"] = (plain, text)
        encoders["other backbone, counts of words"] = (plain, Words())
    drawn = [_written(work, pair, number) for number, pair in enumerate(pairs)]
    towers = np.asarray(images.transform(drawn)), np.asarray(text.transform([pair.caption for pair in pairs]))
    folder = work / "data"
    folder.mkdir()
    write_sets(folder, pairs, *towers)
    return answer_figures(folder, encoders)


def _written(work: Path, pair: Pair, number: int) -> str:
    file = work / f"{number}.png"
    file.write_bytes(pair.png)
    return str(file)


def main() -> None:
    """Answer all questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--other", help="backbone without texts")
    parser.add_argument("--figures", type=int, default=720, help="figures to draw (720)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = named_images(args.directory, args.model, Path(work) / "store")
        found += figures(args.model, args.other, args.figures, Path(work))
    if args.out:
        models = {"model": Path(args.model).name, "other": args.other and Path(args.other).name}
        args.out.write_text(json.dumps({**models, "figures": args.figures, "answers": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
