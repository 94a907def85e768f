"""The images of a study: splits, frozen features, and support samples."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from frofa.backbones.loading import load_backbone
from frofa.backbones.outputs import Output
from frofa.backbones.wanted import automatic_outputs
from frofa.blocks import FeatureBlocks
from frofa.compute.devices import resolve_device
from frofa.evaluation import disjoint_shots, sample_shots
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.extraction.many import extract_many
from frofa.extraction.run import Extraction
from frofa.images.folders import load_image_folder
from frofa.pretrained import PretrainedHead, start_of

VALIDATION = 1 / 6
"""Share of the training images of each class that choices are made by; they are in no support sample."""


@dataclass(frozen=True)
class StudyData:
    """Frozen features of one image set and backbone, and how its images are split.

    Features are ``"tokens"`` (n, N, C), ``"pooled"`` (n, C), and ``"cls"`` (n, C) where there is a class token; `y` is
    (n,). Support samples are drawn from the rows of `pool`, choices made by those of `validation`, accuracies reported
    on those of `test`. All results depend on the fingerprint: that of the files, the split and the backbone's weights.

    For a comparison of heads, `blocks` has several views of ``"pooled"``, ``"tokens"`` and the blocks that
    ``output="auto"`` takes, which `automatic` names; heads on tokens may start at `start`.
    """

    dataset: str
    backbone: str
    features: dict[str, npt.NDArray[Any]]
    y: npt.NDArray[Any]
    pool: npt.NDArray[np.intp]
    validation: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]
    n_skipped: int
    fingerprint: str
    blocks: FeatureBlocks | None = None
    automatic: tuple[str, ...] = ()
    start: PretrainedHead | Literal["random"] = "random"

    def support(self, shots: int, n_seeds: int) -> tuple[list[npt.NDArray[np.intp]], bool]:
        """Rows of each support sample, and whether they are disjoint, which takes enough images."""
        labels = self.y[self.pool]
        if np.unique(labels, return_counts=True)[1].min() >= shots * n_seeds:
            return [self.pool[rows] for rows in disjoint_shots(labels, shots, n_seeds, random_state=0)], True
        return [self.pool[sample_shots(labels, shots, seed)] for seed in range(n_seeds)], False


def split_images(directory: Path) -> tuple[list[str], npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Paths, labels and which are test images, of DIRECTORY/train and DIRECTORY/test, or a third of DIRECTORY."""
    if (directory / "train").is_dir() and (directory / "test").is_dir():
        train, y_train = load_image_folder(directory / "train")
        test, y_test = load_image_folder(directory / "test")
        if extra := set(y_test.tolist()) - set(y_train.tolist()):
            raise ValueError(
                f"{directory}/test has classes that {directory}/train has not: {', '.join(sorted(extra))}."
            )
        is_test = np.arange(len(train) + len(test)) >= len(train)
        return [*train, *test], np.concatenate([y_train, y_test]), is_test
    if lone := [name for name in ("train", "test") if (directory / name).is_dir()]:
        raise ValueError(f"{directory} has {lone[0]}/ but not both train/ and test/.")
    paths, labels = load_image_folder(directory)
    _, test_rows = train_test_split(np.arange(len(paths)), test_size=1 / 3, stratify=labels, random_state=0)
    return paths, labels, np.isin(np.arange(len(paths)), test_rows)


def load_study_data(
    directory: Path,
    backbone: str,
    store: Path,
    shots: int,
    *,
    device: str,
    n_jobs: int,
    outputs: Sequence[Output] | None = None,
    n_views: int = 0,
) -> StudyData:
    """Extract the features that a study needs, or some of them; `shots` is the largest number that has to be there.

    With `n_views`, these are blocks of so many views, for a comparison of heads. A class with too few images is a
    ValueError, which comes before anything is extracted if all images can be read.
    """
    # Split by labels alone, before anything is read, so that images that cannot be read move no other image.
    paths, labels, is_test = split_images(directory)
    training = np.flatnonzero(~is_test)
    # A sixth, but one image of each class at least. Checked before the split, which fails in scikit-learn's words on
    # classes that are too small for it, and after it, as it may take more of one class than of another.
    n_validation = max(math.ceil(VALIDATION * len(training)), len(np.unique(labels)))
    _check_shots(labels[training], 1 + math.ceil(n_validation / len(np.unique(labels))), directory)
    pool, validation = train_test_split(training, test_size=n_validation, stratify=labels[training], random_state=0)
    _check_shots(labels[pool], shots, directory)
    model = load_backbone(backbone, None, str(resolve_device(device)))
    automatic = automatic_outputs(model).outputs
    options: dict[str, Any] = {"store": store, "device": device, "n_jobs": n_jobs, "on_error": "skip", "verbose": True}
    features, blocks = dict[str, Any](), None
    if n_views:
        vectors = list(dict.fromkeys([*automatic, "pooled"]))
        # Tokens of all views are most of the memory, and as good for heads in half of it.
        wanted: dict[str, dict[str, Any]] = {
            "vectors": {"output": vectors},
            "tokens": {"output": ["tokens"], "dtype": "float16"},
        }
        extractions = _extract(backbone, wanted, paths, labels, {**options, "n_views": n_views})
        found = {name: part.views(name) for part in _features(extractions).values() for name in part.names}
        blocks = FeatureBlocks({name: [np.asarray(view) for view in views] for name, views in found.items()})
    else:
        if outputs is None:
            outputs = ["tokens", "pooled", "cls"] if model.has_cls_token else ["tokens", "pooled"]
        extractions = _extract(backbone, {name: {"output": name} for name in outputs}, paths, labels, options)
        features = {name: np.array(found) for name, found in _features(extractions).items()}
    kept = next(iter(extractions.values())).kept
    _check_shots(labels[np.intersect1d(pool, kept)], shots, directory)
    # Positions in the input become rows of the features, which lack the images that were skipped.
    places = [np.flatnonzero(np.isin(kept, rows)) for rows in (pool, validation, np.flatnonzero(is_test))]
    # Names and sizes stand for the files' content: they are known without reading, and tell almost all changes.
    content = [(str(Path(path).relative_to(directory)), Path(path).stat().st_size) for path in paths]
    identity = json.dumps([content, kept.tolist(), model.weights_digest])
    return StudyData(
        printable(directory.resolve().name),
        short_name(backbone),
        features,
        labels[kept],
        pool=places[0],
        validation=places[1],
        test=places[2],
        n_skipped=len(paths) - len(kept),
        fingerprint=blake2b(identity.encode(), digest_size=12).hexdigest(),
        blocks=blocks,
        automatic=tuple(automatic),
        start=start_of(backbone) if n_views else "random",
    )


def _extract(
    backbone: str, wanted: Mapping[str, dict[str, Any]], paths: Any, labels: Any, options: dict[str, Any]
) -> dict[str, Extraction]:
    """Extract what extractors of some names want, each by parameters of its own, from one pass over the images."""
    extractors = {name: FrozenFeatureExtractor(backbone, **own, **options).fit() for name, own in wanted.items()}
    return extract_many(extractors, paths, labels)


def _features(extractions: Mapping[str, Extraction]) -> dict[str, Any]:
    return {name: extraction.features for name, extraction in extractions.items()}


def _check_shots(labels: npt.NDArray[Any], shots: int, directory: Path) -> None:
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < shots:
        raise ValueError(
            f"{shots} shots take as many training images a class besides the validation part. {directory} leaves "
            f"{counts.min()} of {classes[counts.argmin()]}."
        )


def short_name(backbone: str) -> str:
    """The last part of a backbone's name: no directory of this machine."""
    return printable(re.sub("^(local-dir|hf-dir|hf-hub):", "", backbone.rstrip("/").rsplit("/", 1)[-1]))


def printable(name: str) -> str:
    r"""A name of the file system as text that every file can hold: bytes that are not UTF-8 become escapes.

    Examples
    --------
    >>> printable("caf\udce9")
    'caf\\xe9'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
