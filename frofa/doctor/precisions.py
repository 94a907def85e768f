"""Precisions and sparsity of a backbone side by side: how fast they are, and what they cost in accuracy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import clone

from frofa.backbones.precision import Sparsity
from frofa.doctor.checks.cost import forward_rate
from frofa.doctor.subject import pixels_of, some
from frofa.estimators import RidgeProbeClassifier
from frofa.evaluation import mean_interval, sample_shots
from frofa.extraction.extractor import FrozenFeatureExtractor

Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "float16", "int8"]
SIDES: dict[str, tuple[Precision, Sparsity]] = {
    "float32": ("float32", None),
    "bfloat16": ("bfloat16", None),
    "2:4": ("auto", "2:4"),
    "int8": ("int8", None),
}
"""Precision and sparsity of each side."""


def sides_for(device: torch.device) -> list[str]:
    """The sides that can be had on a device."""
    return [name for name in SIDES if name != "int8" or device.type == "cpu"]


@dataclass(frozen=True)
class Side:
    """Speed of the forward pass alone, and top-1 accuracy of the probe in percent, one a seed, of a key of `SIDES`.

    Where the side could not be measured, `error` says why.
    """

    name: str
    images_per_second: float = float("nan")
    accuracies: tuple[float, ...] = ()
    error: str | None = None


def compare_sides(
    extractor: FrozenFeatureExtractor,
    paths: Sequence[Any],
    labels: npt.NDArray[Any],
    *,
    shots: int,
    n_seeds: int,
    sides: Sequence[str] = tuple(SIDES),
) -> Iterator[Side]:
    """Measure each side; one that fails says why, and the others go on.

    Each side has its own precision and sparsity, and pooled features; the extractor is not changed. A probe for each
    seed is trained on so many shots a class, the same ones for all sides, and tested on all other images. ValueError
    if a class has no more images than `shots`, or a side is not known.
    """
    if unknown := [name for name in sides if name not in SIDES]:
        raise ValueError(f"sides must be of {', '.join(SIDES)}. Got {', '.join(unknown)}.")
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() <= shots:
        rarest = classes[counts.argmin()]
        raise ValueError(f"{shots} shots and a test take {shots + 1} images a class. Got {counts.min()} of {rarest}.")
    # The same support samples for all sides make their accuracies pairs, whose difference has a narrow interval.
    supports = [sample_shots(labels, shots, seed) for seed in range(n_seeds)]
    for name in sides:
        try:
            yield _measure(extractor, name, paths, labels, supports)
        except Exception as error:  # of kernels, compilers, devices
            yield Side(name, error=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _measure(
    extractor: FrozenFeatureExtractor,
    name: str,
    paths: Sequence[Any],
    labels: npt.NDArray[Any],
    supports: Sequence[npt.NDArray[np.intp]],
) -> Side:
    precision, sparsity = SIDES[name]
    extractor = clone(extractor).set_params(precision=precision, sparsity=sparsity, output="pooled", n_views=1)
    backbone = extractor._backbone()
    pixels = pixels_of(backbone, some(paths))
    rate = forward_rate(backbone, pixels, backbone.resolve_precision(precision), compiled=extractor.compile)
    features = np.asarray(extractor.transform(paths))
    return Side(name, rate, tuple(_accuracy(features, labels, support) for support in supports))


def _accuracy(features: npt.NDArray[Any], labels: npt.NDArray[Any], support: npt.NDArray[np.intp]) -> float:
    unseen = np.ones(len(labels), bool)
    unseen[support] = False
    probe = RidgeProbeClassifier().fit(features[support], labels[support])
    return 100 * float((probe.predict(features[unseen]) == labels[unseen]).mean())


def side_lines(sides: Sequence[Side]) -> list[str]:
    """Lines of text: speed and accuracy of each side, with the paired difference to the first that was measured."""
    lines = [f"{'':<10}{'images/s':>10}{'speed':>8}{'accuracy, %':>16}{'paired, points':>18}"]
    first = next((side for side in sides if side.error is None), None)
    for side in sides:
        if side.error is not None or first is None:
            lines.append(f"{side.name:<10}failed: {side.error}")
            continue
        accuracy = f"{mean_interval(side.accuracies):.1f}"
        change = "" if side is first else f"{mean_interval(np.subtract(side.accuracies, first.accuracies)):+.1f}"
        speed = side.images_per_second / first.images_per_second
        lines.append(f"{side.name:<10}{side.images_per_second:>10.4g}{speed:>8.2f}{accuracy:>16}{change:>18}")
    return lines
