"""Golden vectors: features that a backbone gave when it was known to be right."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from frofa.backbones.backbone import Backbone
from frofa.backbones.checkpoints.embedded import embedded_models
from frofa.backbones.loading import load_backbone
from frofa.doctor.checks.preprocessing import FIELDS, different
from frofa.doctor.checks.weights import model_folder
from frofa.doctor.finding import Outcome, failed, ok, skipped
from frofa.doctor.subject import Subject, features_of, pixels_of, reference_images, relative_difference
from frofa.utils.files import expand_home, write_atomically

FILE = "golden.npz"
GOLDEN_TOLERANCE = 1e-2
"""Largest relative difference: versions of Pillow and torch differ by less; a wrong mean or order of channels by far
more."""


@dataclass(frozen=True)
class Golden:
    """Pooled features (4, C) of `reference_images`, and the digest of the weights that gave them.

    With them are size, crop, interpolation, mean and standard deviation that the images were prepared with.
    """

    features: npt.NDArray[np.float32]
    weights: str
    preprocessing: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Golden":
        """Read a file of `write_golden`; ValueError if it is another one."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(file["features"], str(file["weights"]), json.loads(str(file["preprocessing"])))
        except FileNotFoundError:
            raise
        except Exception as error:  # NumPy's, zipfile's and json's
            raise ValueError(f"expected golden vectors, as write_golden writes them. Got {path}: {error}") from error


def write_golden(model: str, path: str | os.PathLike[str]) -> None:
    """Write golden vectors of a model that is known to be right.

    A file called ``golden.npz`` in the model's folder is found by `check_extractor` and ``frofa doctor``.

    Parameters
    ----------
    model : str
        As in `FrozenFeatureExtractor`.
    path : path
        File to write, ``.npz``.

    Examples
    --------
    >>> from frofa.doctor import write_golden
    >>> write_golden("local-dir:my-vit", "my-vit/golden.npz")  # doctest: +SKIP
    """
    # On the CPU in float32, which differs least from machine to machine.
    backbone = load_backbone(model, None, "cpu")
    features = features_of(backbone, pixels_of(backbone, list(reference_images())), "pooled").numpy()
    config = json.dumps({name: backbone.data_config[name] for name in FIELDS})
    digest = np.array(backbone.weights_digest)
    write_atomically(
        Path(expand_home(path)),
        lambda file: np.savez(file, features=features, weights=digest, preprocessing=np.array(config)),
    )


def find_golden(subject: Subject) -> Golden | None:
    """Golden vectors that the caller named, that lie in the model's folder, or that we ship for these weights."""
    if subject.golden is not None:
        return Golden.read(subject.golden)
    # Those in a folder are read whatever weights they name: that these are other ones is a finding.
    folder = model_folder(subject.backbone.name)
    if folder is not None and (folder / FILE).is_file():
        return Golden.read(folder / FILE)
    shipped = [Golden.read(path) for path in (model.folder / FILE for model in embedded_models()) if path.is_file()]
    return next((golden for golden in shipped if golden.weights == subject.backbone.weights_digest), None)


def check_golden(subject: Subject) -> Outcome:
    """Features are those that the model gave when it was known to be right."""
    backbone, golden = subject.backbone, find_golden(subject)
    if golden is None:
        return skipped("none is known for these weights; frofa.doctor.write_golden writes one")
    if subject.extractor.image_size is not None or backbone.sparsity is not None:
        return skipped("they are of the model's own image size and weights")
    difference = _difference(backbone, golden)
    if difference <= GOLDEN_TOLERANCE:
        return ok(f"max relative difference {difference:.1e}")
    # They differ: name the likeliest reason, from the surest to the vaguest.
    found = f"features differ from the golden vectors by {difference:.2g}"
    if config := different(backbone.data_config, golden.preprocessing):
        return failed(f"{found}: {config}")
    if _difference(backbone, golden, swapped=True) <= GOLDEN_TOLERANCE:
        return failed(f"{found}, and agree with swapped colour channels: blue and red are interchanged")
    if golden.weights != backbone.weights_digest:
        return failed(f"{found}: they are of other weights, digest {golden.weights}")
    return failed(f"{found}, with the same weights and configuration of the preprocessing")


def _difference(backbone: Backbone, golden: Golden, *, swapped: bool = False) -> float:
    images = reference_images()
    pixels = pixels_of(backbone, list(np.ascontiguousarray(images[..., ::-1]) if swapped else images))
    found, expected = features_of(backbone, pixels, "pooled"), torch.from_numpy(golden.features)
    return relative_difference(found, expected) if found.shape == expected.shape else float("inf")
