"""Facts of a report that no model was needed for: packaged images, which a small classifier of pixels tells apart."""

import math
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from frofa.evaluation import Interval, rejection_curve
from frofa.image_classifier.report import evaluation_report
from frofa.learning_curves import LabelsNeeded, how_many_labels
from frofa.reporting.facts.contents import (
    AttentionExample,
    AugmentationFacts,
    Copy,
    Facts,
    Leak,
    MemberFacts,
    RejectionFacts,
    WrongLabel,
)

Array = npt.NDArray[Any]
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "javascript:alert(1)",
    "\"'`&amp;{{7*7}}${7*7}",
    "<!--",
    "שלום-\u202egpj.exe",
    "🦊👩‍👩‍👧.png",
    "undecodable-\udcff\udc80.jpg",
    "line\u2028end\u2029\n\x00\x1b[31m.png",
    "a" * 3000,
)
"""Names of files and classes that a page may show as text, and no more than that."""


def made_up(n: int = 600, **changes: Any) -> Facts:
    """Facts of the packaged Fashion-MNIST images, of which `n` are looked at; `changes` are other fields."""
    facts = _fashion(n)
    return replace(facts, **changes) if changes else facts


def hostile() -> Facts:
    """Facts whose names, classes, notes and reasons try to be markup."""
    facts = made_up(120)
    labels = list(HOSTILE)
    names = [f"{HOSTILE[i % len(HOSTILE)]}/{i}" for i in range(120)]
    bad = HOSTILE[1]
    return replace(
        facts,
        title=HOSTILE[0],
        labels=labels,
        names=names,
        evaluation=replace(facts.evaluation, unknown_labels=dict.fromkeys(HOSTILE, 2)),
        wrong=[replace(one, given=HOSTILE[0], suggested=bad, name=HOSTILE[4]) for one in facts.wrong],
        leaks=[
            Leak(tuple(replace(one, name=bad, label=HOSTILE[0]) for one in leak.copies), leak.exact)
            for leak in facts.leaks
        ],
        attention=[replace(one, head=bad, maps=HOSTILE[0]) for one in facts.attention],
        members=[replace(one, name=bad, reason=HOSTILE[0]) for one in facts.members],
        augmentation=[replace(one, name=bad, about=HOSTILE[0]) for one in facts.augmentation],
        identity={name: name for name in HOSTILE},
        skipped=[(name, HOSTILE[0]) for name in HOSTILE],
        notes={"summary": bad, "learning": HOSTILE[0], "map": HOSTILE[3]},
    )


def crowd(n: int = 10_000, n_classes: int = 200, pixels: int = 96, seed: int = 0) -> Facts:
    """Facts of many images and classes, of which groups of ten are taken for each other."""
    rng = np.random.default_rng(seed)
    truth = np.sort(rng.integers(0, n_classes, n))
    scores = rng.normal(size=(n, n_classes))
    scores[np.arange(n), truth] += 4
    alike = (truth // 10 * 10 + rng.integers(0, 10, n)) % n_classes
    scores[np.arange(n), alike] += 3
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    labels = [f"class {i:04d}" for i in range(n_classes)]
    noise = rng.integers(0, 256, (64, pixels, pixels, 3), np.uint8)
    pictures = [noise[i % 64] for i in range(n)]
    centres = rng.normal(size=(n_classes, 2)) * 4
    return Facts(
        **_scored(
            "A crowd", labels, truth, probabilities, pictures, [f"{labels[t]}/{i:05d}.png" for i, t in enumerate(truth)]
        ),
        coordinates=(centres[truth] + rng.normal(size=(n, 2))).astype(np.float32),
        identity={"frofa": "0"},
    )


@lru_cache
def _fashion(n: int) -> Facts:
    with (files("frofa") / "data" / "fashion_mnist_sample.npz").open("rb") as file, np.load(file) as sample:
        labels = [str(name) for name in sample["classes"]]
        train, test = sample["train"], sample["test"]
    X, y = _small(train.reshape(-1, 28, 28)), np.repeat(np.arange(10), 40)
    truth = np.repeat(np.arange(10), 60)[:: 600 // n][:n]
    pixels = test.reshape(-1, 28, 28)[:: 600 // n][:n]
    head = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(X, y)
    probabilities = head.predict_proba(_small(pixels)) ** 0.5
    probabilities /= probabilities.sum(1, keepdims=True)
    pictures: list[Any] = [np.repeat(one[..., None], 3, 2) for one in pixels]
    names = [f"test/{labels[t]}/{i:03d}.png" for i, t in enumerate(truth)]
    pca = PCA(2, random_state=0).fit(X)
    scored = _scored("Fashion-MNIST, a classifier of pixels", labels, truth, probabilities, pictures, names)
    return Facts(
        **scored,
        needed=_needed(X, y),
        wrong=_wrong(labels, truth, names, pictures, train),
        leaks=_leaks(labels, truth, names, pictures),
        coordinates=pca.transform(_small(pixels)).astype(np.float32),
        explained_variance=(float(pca.explained_variance_ratio_[0]), float(pca.explained_variance_ratio_[1])),
        attention=_attention(pictures),
        members=_members(),
        augmentation=_augmentation(n),
        identity={"frofa": "0.0", "command": "frofa report model.frofa test --out report.html", "weights": "ab" * 32},
        skipped=[("test/bag/broken.png", "the file is cut off"), ("test/notes.txt", "it is not an image")],
        n_unlabelled=3,
    )


def _scored(
    title: str, labels: list[str], truth: Array, p: Array, pictures: list[Any], names: list[str]
) -> dict[str, Any]:
    """Fields that follow from the probabilities."""
    n, rng = len(truth), np.random.default_rng(1)
    order = np.argsort(-p, axis=1)
    sorted_p = np.take_along_axis(p, order, 1)
    within = np.cumsum(sorted_p, 1) - sorted_p < 0.9
    sets = np.zeros(p.shape, bool)
    np.put_along_axis(sets, order, within, 1)
    evaluation = evaluation_report(np.array(labels)[truth], p, np.array(labels))
    novelty = rng.uniform(size=n)
    right = p.argmax(1) == truth
    return {
        "title": title,
        "names": names,
        "pictures": pictures,
        "labels": labels,
        "truth": truth,
        "predicted": p.argmax(1),
        "probabilities": p,
        "evaluation": replace(evaluation, unknown_labels={"umbrella": 2}),
        "sets": sets,
        "novelty": novelty,
        "rejection": RejectionFacts(rejection_curve(right, p.max(1)), rejection_curve(right, novelty)),
    }


def _small(pixels: Array) -> Array:
    small: Array = pixels.reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49) / 255
    return small


@lru_cache
def _cached_needed(data: bytes) -> LabelsNeeded:
    X = np.frombuffer(data).reshape(-1, 49)
    head = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)
    return how_many_labels(head, X, np.repeat(np.arange(10), 40), target=0.9, n_orders=2)


def _needed(X: Array, _: Array) -> LabelsNeeded:
    return _cached_needed(X.tobytes())


def _wrong(labels: list[str], truth: Array, names: list[str], pictures: list[Any], train: Array) -> list[WrongLabel]:
    tested = [
        WrongLabel(
            "test", i, names[i], labels[truth[i]], labels[(truth[i] + 3) % 10], 0.97 - i / 500, pictures[i], (0.03, 0.8)
        )
        for i in (5, 17, 44)
    ]
    picture = np.repeat(train[2, 3][..., None], 3, 2)
    return [*tested, WrongLabel("training", 83, "train/coat/003.png", "coat", "pullover", 0.81, picture, (0.004, 0.6))]


def _leaks(labels: list[str], truth: Array, names: list[str], pictures: list[Any]) -> list[Leak]:
    def copy(where: Any, index: int, prefix: str = "") -> Copy:
        return Copy(where, index, prefix + names[index], labels[truth[index]], pictures[index])

    disputed = replace(copy("training", 31, "copy of "), label=labels[(truth[31] + 1) % 10])
    return [Leak((copy("training", 30, "copy of "), copy("test", 30)), True), Leak((disputed, copy("test", 31)), False)]


def _attention(pictures: list[Any]) -> list[AttentionExample]:
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[:14, :14] / 13
    found = []
    for index in range(0, 60, 10):
        centres = rng.uniform(0.2, 0.8, (4, 2, 1, 1))
        bumps = np.exp(-((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2) / 0.03)
        weights = (0.95 * bumps / bumps.sum((1, 2), keepdims=True)).astype(np.float32)
        picture = Image.fromarray(pictures[index]).resize((224, 224), Image.Resampling.BICUBIC)
        found.append(AttentionExample(index, picture, weights, "MAP head"))
    return found


def _members() -> list[MemberFacts]:
    def near(mean: float, half: float = 0.02) -> Interval:
        return Interval(mean, mean - half, mean + half)

    return [
        MemberFacts("probe", 0.7, 0.81, near(0.8), near(0.76), near(0.03, 0.01)),
        MemberFacts("MAP + brightness", 0.3, 0.77, near(0.76), near(0.8), near(-0.002, 0.01)),
        MemberFacts("soft MoE", 0.0, math.nan, reason="it was no better than chance on left-out images"),
    ]


def _augmentation(n: int) -> list[AugmentationFacts]:
    about = "The plain image alone, against the average over all views, with the same fitted model."
    plain, augmented = Interval(0.78, 0.75, 0.81), Interval(0.8, 0.77, 0.83)
    return [AugmentationFacts("6 views of each image", about, plain, augmented, Interval(0.02, 0.005, 0.035), n)]
