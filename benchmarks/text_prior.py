"""What words add to a few images: the text prior beside zero-shot, images alone, and published heads with words.

All heads see the same support samples and the same vectors, and have their papers' default hyperparameters
(`benchmarks/baselines/text/`); other images score them, and nothing is chosen on these. Published heads take the mean
of all views of an image; "each view a sample" is how GDA, ProKeR, CLAP and the cross-modal probe were published. With
``--images``, features of further backbones join the words of the first, as a user would blend them; published heads
live in the space of words, and are not measured there.

Support samples are of the train split, and the test split scores them. Where a class has fewer than twice as many train
images as there are shots, so that samples would hardly differ, both splits are one pool: a sample is drawn from it, and
all its other images score. Images of which there are near-copies are left out before.

    python benchmarks/text_prior.py SETS... --backbone TOWER [--images NAME:VIEWS...] --store DIR --results FILE
    python benchmarks/text_prior.py --read FILE    # the tables
"""

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Callable, Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import baselines.text
import numpy as np
import numpy.typing as npt
import sklearn
import torch
from image_cells import load
from scipy.special import softmax
from threadpoolctl import threadpool_limits

import frofa
from frofa import FeatureBlocks, FrozenTextExtractor, mean_interval, sample_shots
from frofa.estimators import ShrinkageProbeClassifier
from frofa.estimators.text.embeddings import ClassTexts, class_texts
from frofa.evaluation import log_loss
from frofa.labelling.wrong.duplicates import near_pairs

Array = npt.NDArray[Any]
WORDS, ALONE, BOTH = "zero-shot", "ShrinkageProbe, images alone", 'ShrinkageProbe(prior="text")'
SAMPLES = ", each view a sample"
PUBLISHED: dict[str, Callable[[ClassTexts, int], baselines.text.TextHead]] = {
    WORDS: lambda words, _: baselines.text.ZeroShot(words.embeddings, words.scale),
    "Tip-Adapter": lambda words, _: baselines.text.TipAdapter(words.embeddings, words.scale),
    "Tip-Adapter-F": lambda words, _: baselines.text.TrainedTipAdapter(words.embeddings, words.scale),
    "LP++": lambda words, _: baselines.text.BlendedProbe(words.embeddings, words.scale),
    "SS-Text": lambda words, _: baselines.text.TextCentredMean(words.embeddings, words.scale),
    "ZS-LP": lambda words, views: baselines.text.TextStartedProbe(words.embeddings, words.scale, views),
    "CLAP": lambda words, views: baselines.text.ConstrainedProbe(words.embeddings, words.scale, views),
    "cross-modal probe": lambda words, views: baselines.text.CrossModalProbe(words.embeddings, words.scale, views),
    "ProKeR": lambda words, _: baselines.text.ProximalKernelRidge(words.embeddings, words.scale),
    "GDA + zero-shot": lambda words, _: baselines.text.ZeroShotDiscriminant(words.embeddings, words.scale),
}
OF_VIEWS = ("ZS-LP", "CLAP", "cross-modal probe", "ProKeR", "GDA + zero-shot")


class Cell(NamedTuple):
    """Features (n, ...) and numbers of classes (n,) of images of both splits, and the words for the classes.

    The block ``"text"``, or else ``"pooled"``, lies in the space of words; `in_train` (n,) tells the splits apart.
    """

    data: str
    images: str
    features: FeatureBlocks
    codes: Array
    in_train: Array
    words: ClassTexts
    of_words: bool
    """Whether images and words are of the same backbone, so that published heads are measured, too."""


class Score(NamedTuple):
    """Share of test images that were right, in percent, and the log-loss in nats; NaN for scores that are no logits."""

    accuracy: float
    log_loss: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", type=Path, metavar="SET", help="directory with train/CLASS and test/CLASS")
    parser.add_argument("--backbone", help="backbone with a text tower")
    parser.add_argument("--images", nargs="*", default=[], metavar="NAME:VIEWS", help="other backbones, for images")
    parser.add_argument("--views", type=int, default=6, help="views of each image (6)")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 2, 5, 10, 25], help="images a class")
    parser.add_argument("--samples", type=int, default=20, help="support samples (20)")
    parser.add_argument("--store", type=Path, help="directory that keeps features")
    parser.add_argument("--results", type=Path, help="JSON file to add the figures to")
    parser.add_argument(
        "--ours", action="store_true", help="measure our heads and words alone, beside what the file has"
    )
    parser.add_argument("--read", type=Path, help="JSON file whose tables to print, instead of measuring")
    args = parser.parse_args()
    if args.read is not None:
        print(tables(json.loads(args.read.read_text(encoding="utf-8"))["rows"]))
        return
    for directory in args.sets:
        for cell in cells(directory, args):
            draw = drawing(cell, max(args.shots))
            found = [
                row(
                    cell,
                    shots,
                    [measure(cell, *draw(shots, seed), published=not args.ours) for seed in range(args.samples)],
                )
                for shots in args.shots
            ]
            if not args.ours:
                print(tables(found), flush=True)
            if args.results is not None:
                add(args.results, found)


def cells(directory: Path, args: argparse.Namespace) -> list[Cell]:
    """Extract features of both splits by all backbones, and of the names of classes."""
    own = load(directory, args.backbone, args.views, args.store)
    labels = np.concatenate([own.train_labels, own.test_labels])
    in_train = np.arange(len(labels)) < len(own.train_labels)
    classes, codes = np.unique(labels, return_inverse=True)
    words = class_texts(classes, None, FrozenTextExtractor(args.backbone, device="cpu", store=args.store))
    features = joined(own.train, own.test)
    kept = apart(features)
    found = [
        Cell(directory.name, own.backbone, features[kept], codes[kept], in_train[kept], words, of_words=True),
    ]
    for name, views in ((name, int(views)) for name, _, views in (each.rpartition(":") for each in args.images)):
        other = load(directory, name, views, args.store)
        text = {"text": features.views("pooled")[:views]}
        both = FeatureBlocks({**own_views(joined(other.train, other.test)), **text})
        found.append(
            Cell(directory.name, other.backbone, both[kept], codes[kept], in_train[kept], words, of_words=False)
        )
    return found


def joined(train: FeatureBlocks, test: FeatureBlocks) -> FeatureBlocks:
    """Put the images of both splits one after another."""
    return FeatureBlocks(
        {
            name: [np.concatenate(pair) for pair in zip(train.views(name), test.views(name), strict=True)]
            for name in train.names
        }
    )


def own_views(blocks: FeatureBlocks) -> dict[str, Any]:
    return {name: blocks.views(name) for name in blocks.names}


def apart(features: FeatureBlocks) -> Array:
    """Choose images (m,) of which no other one is a near-copy, by all views and by the first two alone."""
    lost: set[int] = set()
    for views in (features, features.select(n_views=2)):
        rows = np.asarray(views, np.float64)
        pairs = near_pairs(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        lost |= {*pairs.second.tolist()}
    return np.setdiff1d(np.arange(len(features)), sorted(lost))


def drawing(cell: Cell, most: int) -> Callable[[int, int], tuple[Array, Array]]:
    """Make what draws the rows of a support sample of so many shots, and those of the images that score it."""
    few = np.bincount(cell.codes[cell.in_train]).min() < 2 * most
    pool = np.arange(len(cell.codes)) if few else np.flatnonzero(cell.in_train)

    def draw(shots: int, seed: int) -> tuple[Array, Array]:
        support = pool[sample_shots(cell.codes[pool], shots, seed)]
        test = np.setdiff1d(pool, support) if few else np.flatnonzero(~cell.in_train)
        return support, test

    return draw


def measure(cell: Cell, chosen: Array, others: Array, *, published: bool = True) -> dict[str, Score]:
    """Fit all heads to a support sample, and score them on other images."""
    support, test, codes, truth = cell.features[chosen], cell.features[others], cell.codes[chosen], cell.codes[others]
    block = "text" if "text" in test.names else "pooled"
    views, queries = support.block(block), test.block(block).mean(1)
    found = {}
    with threadpool_limits(1):
        torch.set_num_threads(1)
        for name, make in PUBLISHED.items():
            if name == WORDS or (cell.of_words and published):
                head = make(cell.words, 1).fit(views.mean(1), codes)
                found[name] = score(head.decision_function(queries), truth, logits=name == WORDS)
        for name in OF_VIEWS if cell.of_words and published else ():
            n = views.shape[1]
            head = PUBLISHED[name](cell.words, n).fit(views.reshape(-1, views.shape[2]), np.repeat(codes, n))
            found[name + SAMPLES] = score(head.decision_function(queries), truth, logits=False)
        for name, probe in probes(cell).items():
            # Of images alone, the block of words is none of theirs where it is another backbone's.
            names = None if name == BOTH or cell.of_words else [each for each in support.names if each != "text"]
            fitted = probe.fit(support.select(names), codes)
            found[name] = score(fitted.decision_function(test.select(names)), truth, logits=True)
    return found


def probes(cell: Cell) -> dict[str, ShrinkageProbeClassifier]:
    """Make our heads, as `frofa.ImageClassifier` has them."""
    return {
        ALONE: ShrinkageProbeClassifier(device="cpu"),
        BOTH: ShrinkageProbeClassifier(prior="text", text=cell.words, device="cpu"),
    }


def score(scores: Array, codes: Array, *, logits: bool) -> Score:
    """Compare scores (n, K) with classes (n,)."""
    probabilities = softmax(scores, axis=1)
    loss = log_loss(codes, probabilities, np.arange(scores.shape[1])) if logits else np.nan
    return Score(100 * float(np.mean(scores.argmax(1) == codes)), float(loss))


def row(cell: Cell, shots: int, found: list[dict[str, Score]]) -> dict[str, Any]:
    """Sum up support samples: accuracies in percent, and the log-loss."""
    heads: dict[str, dict[str, Any]] = {}
    for name in found[0]:
        heads[name] = {"accuracies": [round(each[name].accuracy, 3) for each in found]}
        if np.isfinite(found[0][name].log_loss):
            heads[name]["log_loss"] = round(float(np.mean([each[name].log_loss for each in found])), 4)
    return {"set": cell.data, "images": cell.images, "shots": shots, "samples": len(found), "heads": heads}


def tables(rows: list[dict[str, Any]]) -> str:
    """Write a table of accuracies for each set and backbone, and the differences of the prior to each head."""
    lines = []
    for data, images in dict.fromkeys((each["set"], each["images"]) for each in rows):
        part = [each for each in rows if (each["set"], each["images"]) == (data, images)]
        shots = " | ".join(str(each["shots"]) for each in part)
        for title, cut in (("accuracy, %", accuracy), (f"{BOTH} minus it, points", gain)):
            lines += ["", f"| {data}, {images}: {title} | {shots} |", "| --- |" + " --- |" * len(part)]
            for name in part[0]["heads"]:
                lines += [f"| {name} | {' | '.join(cut(each['heads'], name) for each in part)} |"]
        every = [name for name in part[0]["heads"] if name != BOTH]
        for title, others in (("zero-shot and images alone", [WORDS, ALONE]), ("all others", every)):
            best = " | ".join(f"{over_best(each['heads'], others):+.1f}" for each in part)
            lines += [f"| the best of {title} | {best} |"]
    return "\n".join(lines)


def accuracy(heads: dict[str, Any], name: str) -> str:
    return f"{mean_interval(heads[name]['accuracies']):.1f}"


def gain(heads: dict[str, Any], name: str) -> str:
    """What the prior gains over a head, in pairs of the same support sample."""
    return f"{mean_interval(np.subtract(heads[BOTH]['accuracies'], heads[name]['accuracies'])):+.1f}"


def over_best(heads: dict[str, Any], others: Iterable[str]) -> float:
    """What the prior gains over the best of others, by their means over all samples, in points."""
    return float(np.mean(heads[BOTH]["accuracies"]) - max(np.mean(heads[name]["accuracies"]) for name in others))


def add(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows to a JSON file, with versions and the command; heads of rows that are there already join these."""
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    command = shlex.join(["python", *(Path(each).name if "/" in each else each for each in sys.argv)])
    versions = {
        "python": platform.python_version(),
        "frofa": frofa.__version__,
        "numpy": np.__version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
    }
    commands = list(dict.fromkeys([*known.get("commands", []), command]))
    key = itemgetter("set", "images", "shots", "samples")
    by_key = {key(each): each for each in known["rows"]}
    for each in rows:
        heads = by_key.get(key(each), {}).get("heads", {}) | each["heads"]
        by_key[key(each)] = {**each, "heads": heads}
    found = {"commands": commands, "versions": versions, "rows": list(by_key.values())}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
