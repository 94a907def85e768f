"""Identity of a report: what it takes to make it again."""

import platform
from collections.abc import Iterable, Mapping
from copy import copy
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from sklearn.base import BaseEstimator

from frofa.compute.devices import resolve_device
from frofa.encoders.protocol import describe
from frofa.image_classifier import ImageClassifier
from frofa.reporting.facts.copies import digests_of
from frofa.reporting.facts.inputs import Inputs
from frofa.store.spec import FeatureSpec
from frofa.utils.versions import versions

LONGEST = 10_000
"""Characters of a classifier's parameters that are written at most."""


def identity_of(inputs: Inputs, more: Mapping[str, Any]) -> dict[str, str]:
    """Gather versions, digests and parameters, by what they are called.

    Parameters
    ----------
    inputs : Inputs
    more : mapping of str to object
        What the caller knows of the report, such as the command; it goes first.
    """
    found = {"made on": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), **more}
    found |= _of_classifier(inputs) | _of_images(inputs)
    found |= {"random state": inputs.random_state, "Python": platform.python_version(), **versions()}
    return {name: str(value) for name, value in found.items() if value is not None}


def of_file(path: Path) -> dict[str, str]:
    """Identify a file of a model."""
    return {"model file": str(path), "SHA-256 of the model file": sha256(path.read_bytes()).hexdigest()}


def _of_classifier(inputs: Inputs) -> dict[str, Any]:
    found: dict[str, Any] = {"classifier": _described(inputs.classifier)}
    extractor = inputs.extractor
    if extractor is None:
        return found
    found["device"] = _device(extractor.device)
    model = extractor.model
    found["backbone"] = model if isinstance(model, str) else describe(model)
    found["digest of its weights"] = getattr(extractor, "weights_digest_", None)
    found["digests of the features"] = ", ".join(_spec_digests(extractor.feature_spec()))
    return found


def _described(classifier: Any) -> str:
    """Write a classifier with its parameters, but for those of an `ImageClassifier` that change no number."""
    if isinstance(classifier, ImageClassifier):
        classifier = copy(classifier).set_params(store=None, n_jobs=None, verbose=False, rehash=False)
    text = classifier.__repr__(N_CHAR_MAX=LONGEST) if isinstance(classifier, BaseEstimator) else repr(classifier)
    return " ".join(text.split())


def _device(name: str) -> str:
    device = resolve_device(name)
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def _spec_digests(specs: Any) -> Iterable[str]:
    """Digests of all that features depend on but the image, by block; that of the first view stands for all."""
    if isinstance(specs, FeatureSpec):
        return [specs.digest]
    return [f"{name} {views[0].digest}" for name, views in specs.items()]


def _of_images(inputs: Inputs) -> dict[str, Any]:
    samples, train = inputs.samples, inputs.train
    labels = [str(inputs.classes[code]) for code in inputs.truth.tolist()]
    found: dict[str, Any] = {"images": len(labels), "SHA-256 of the labels": _digest(labels)}
    keys = digests_of(samples.pictures, samples.keys)
    found["SHA-256 of the images"] = None if keys is None else _digest(keys)
    if train is not None:
        found["training images"] = f"{len(train.codes)}, {'given' if train.given else 'kept by the classifier'}"
    return found


def _digest(texts: Iterable[str]) -> str:
    """Digest of texts in their order."""
    digest = sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
