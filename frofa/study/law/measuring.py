"""Features of backbones at several sparsities, and accuracies of the head that needs no tuning."""

import json
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from frofa.backbones.loading import load_backbone
from frofa.estimators import ShrinkageProbeClassifier
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.evaluation import disjoint_shots, sample_shots
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.study.data import printable, short_name, split_images
from frofa.study.law.results import LawResult, read_law_results, write_law_results
from frofa.study.study import Study
from frofa.utils.text import one_line

VIEWS = 2
"""The image and its mirror image: every sparsity is another pass over all images."""


class Weights(NamedTuple):
    """Numbers of a backbone's weights, and of those that are not zero; and a digest of them."""

    n_weights: int
    n_kept: int
    digest: str


def run_law(study: Study, say: Callable[[str], None] = print) -> list[LawResult]:
    """Measure what is not measured yet, and return all that the file holds.

    A backbone whose layers cannot be pruned takes part as it is, which is said; images under a name that the file has
    other images of are a ValueError.
    """
    study.out.mkdir(parents=True, exist_ok=True)
    results = read_law_results(study.law_file)
    for directory in study.directories:
        for backbone in study.backbones:
            for sparsity in sorted(set(study.sparsities)):
                results += _measured(study, directory, backbone, float(sparsity), results, say)
                write_law_results(study.law_file, results)
    return results


def _measured(
    study: Study,
    directory: Path,
    backbone: str,
    sparsity: float,
    known: Sequence[LawResult],
    say: Callable[[str], None],
) -> list[LawResult]:
    place = printable(directory.resolve().name), short_name(backbone), sparsity
    try:
        weights = weights_of(backbone, sparsity, study.device)
    except ValueError as error:
        if not sparsity:
            raise
        say(f"{place[1]} takes part as it is only: {one_line(error)}")
        return []
    paths, labels, is_test = split_images(directory)
    fingerprint = _fingerprint(directory, paths, weights)
    done = [one for one in known if one.place == place]
    if any(one.fingerprint != fingerprint for one in done):
        raise ValueError(
            f"{study.law_file} holds results of {place[0]}, {place[1]} with other images or other weights: choose "
            "another directory for the results."
        )
    fits = [(k, seed) for k in study.shots for seed in range(study.n_seeds)]
    lacking = [fit for fit in fits if fit not in {(one.shots, one.seed) for one in done}]
    if not lacking:
        return []
    features, y, is_test = _features(study, backbone, sparsity, paths, labels, is_test)
    found = list(_accuracies(features, y, is_test, lacking, study))
    mean = 100 * np.mean([accuracy for *_, accuracy in found])
    say(f"{place[0]}, {place[1]}, sparsity {sparsity:g}: {weights.n_kept:,} weights, {mean:.1f} % on average")
    n_classes, n_test = len(np.unique(y)), int(is_test.sum())
    return [
        LawResult(*place, weights.n_weights, weights.n_kept, k, seed, n_classes, n_test, accuracy, fingerprint)
        for k, seed, accuracy in found
    ]


def weights_of(backbone: str, sparsity: float, device: str) -> Weights:
    """Count the weights of a backbone; one that cannot be pruned is a ValueError where it is to be."""
    loaded = load_backbone(backbone, None, device, sparsity or None)
    parameters = list(loaded.module.parameters())
    kept = sum(int(torch.count_nonzero(one)) for one in parameters)
    return Weights(sum(one.numel() for one in parameters), kept, loaded.weights_digest)


def _features(
    study: Study, backbone: str, sparsity: float, paths: Sequence[str], labels: Any, is_test: npt.NDArray[np.bool_]
) -> tuple[Any, npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Extract features of the images that can be read, with their labels and which are for the test."""
    extractor = FrozenFeatureExtractor(
        backbone,
        output="auto",
        n_views=VIEWS,
        sparsity=sparsity or None,
        device=study.device,
        n_jobs=study.n_jobs,
        store=study.out / "features",
        on_error="skip",
        verbose=True,
    )
    extraction = extractor.fit().extract(paths, labels)
    features = extraction.features
    # Many fits on them: in memory once, block by block.
    whole = features[np.arange(len(extraction.kept))]
    return whole, labels[extraction.kept], is_test[extraction.kept]


def _accuracies(
    features: Any,
    y: npt.NDArray[Any],
    is_test: npt.NDArray[np.bool_],
    fits: Sequence[tuple[int, int]],
    study: Study,
) -> Iterator[tuple[int, int, float]]:
    """Yield shots, seed and accuracy of the probe for each support sample of the training images."""
    training, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    samples = {k: _samples(y[training], k, study.n_seeds) for k in {k for k, _ in fits}}
    head = ShrinkageProbeClassifier(keep_support=False, device=study.device)
    jobs = [Job(head, training[samples[k][seed]]) for k, seed in fits]
    unseen, truth = features[test], y[test]
    for (k, seed), fitted in zip(fits, fit_many(features, y, jobs), strict=True):
        if isinstance(fitted, Exception):
            raise fitted
        yield k, seed, float((fitted.predict(unseen) == truth).mean())


def _samples(y: npt.NDArray[Any], shots: int, n_seeds: int) -> list[npt.NDArray[np.intp]]:
    """Support samples, disjoint where there are images enough; a ValueError says that a class has too few."""
    if np.unique(y, return_counts=True)[1].min() >= shots * n_seeds:
        return list(disjoint_shots(y, shots, n_seeds, random_state=0))
    return [sample_shots(y, shots, seed) for seed in range(n_seeds)]


def _fingerprint(directory: Path, paths: Sequence[str], weights: Weights) -> str:
    content = [(str(Path(path).relative_to(directory)), Path(path).stat().st_size) for path in paths]
    return blake2b(json.dumps([content, weights.digest]).encode(), digest_size=12).hexdigest()
