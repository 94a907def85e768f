"""What the files in ``data/before_packages`` hold: the same models, features and searches of each version.

`make_fixtures` there runs this with the version that writes, the tests with the one that reads: public names only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import Dataset

from frofa import (
    FeatureStore,
    FrozenFeatureExtractor,
    FunctionEncoder,
    OnnxEncoder,
    PretrainedHead,
    load_images,
)
from frofa import augmentations as aug
from frofa.estimators import (
    BatchedSearchCV,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RaggedTokens,
    RidgeProbeClassifier,
    SoftMoEClassifier,
)

FOLDER = Path(__file__).parent / "data" / "before_packages"
SHARED = ("images.zip", "images.tar", "film.mp4", "abs.onnx")
"""Files that all versions read, too."""
INPUTS = np.load(FOLDER / "inputs.npz")
TOKENS, IMAGES = INPUTS["tokens"], INPUTS["images"]
"""Shapes (24, 16, 8) and (6, 48, 48, 3)."""
LABELS, IMAGE_LABELS = np.repeat(["ant", "bee", "cow"], 8), np.tile(["ant", "bee"], 3)
TRAINED: dict[str, Any] = {"n_steps": 3, "batch_size": 8, "random_state": 0, "device": "cpu"}
AUGMENTATIONS: list[aug.Augmentation] = [
    aug.Brightness(0.3),
    aug.ChannelDropout(),
    aug.Contrast(),
    aug.Crop(),
    aug.Equalize(),
    aug.GaussianNoise(),
    aug.InceptionCrop(),
    aug.Invert(),
    aug.JPEG(),
    aug.MixUp(),
    aug.PatchDropout(),
    aug.Posterize(),
    aug.RandAugment(),
    aug.RandomApply([aug.Brightness(0.2), aug.Equalize()]),
    aug.RandomChoice([aug.Solarize(), aug.Sharpness()]),
    aug.ResizedCrop(),
    aug.Rotate(),
    aug.Sequential([aug.Posterize(), aug.TranslateX(), aug.MixUp()]),
    aug.Sharpness(),
    aug.ShearX(),
    aug.ShearY(),
    aug.Solarize(),
    aug.TranslateX(),
    aug.TranslateY(),
    aug.TrivialAugment(operations=[aug.Brightness(), aug.Equalize(), aug.Rotate()]),
]


def means(images: Any) -> Any:
    """Function of an encoder: the mean colour of each quarter, (n, 12)."""
    quarters = np.asarray(images, np.float32).reshape(len(images), 2, 24, 2, 24, 3)
    return quarters.mean((2, 4)).reshape(len(images), 12)


def extractor(output: str, function: Callable[[Any], Any] = means, **more: Any) -> FrozenFeatureExtractor:
    """Extractor by the name of its part of the store."""
    if output == "encoder":
        return FrozenFeatureExtractor(FunctionEncoder(function, spec="means of quarters, v1"), **more)
    given: dict[str, dict[str, Any]] = {
        "mean": {"output": "mean"},
        "tokens": {"image_size": 24, "dtype": "float16"},
        "ragged": {"max_tokens": 12, "dtype": "float16"},
    }
    return FrozenFeatureExtractor(device="cpu", precision="float32", **given[output], **more)


def images_of(output: str) -> Any:
    """Images of a part of the store; for ragged tokens, of several sizes."""
    if output in ("tokens", "ragged"):
        sides = (48, 24, 32) if output == "ragged" else (48, 48, 48)
        return [Image.fromarray(image[:side]) for image, side in zip(IMAGES, sides, strict=False)]
    return IMAGES


def models() -> dict[str, Any]:
    """Estimators that are fitted and saved, but for the last one, which is not fitted."""
    augment = aug.Sequential(
        [
            aug.RandomApply([aug.Brightness(0.2), aug.Equalize()]),
            aug.RandomChoice([aug.Rotate(), aug.JPEG()]),
            aug.MixUp(),
        ]
    )
    return {
        "ridge": RidgeProbeClassifier(augment=aug.Posterize(), n_augmented=2, random_state=0),
        "logistic": LogisticProbeClassifier(device="cpu"),
        "prototype": PrototypeClassifier(),
        "map": MAPClassifier(augment, num_heads=2, **TRAINED),
        "soft_moe": SoftMoEClassifier(aug.RandAugment(), **TRAINED),
        "scaled": make_pipeline(StandardScaler(), PrototypeClassifier()),
        "pipeline": make_pipeline(extractor("mean"), RidgeProbeClassifier()),
        "search": BatchedSearchCV(PrototypeClassifier(), {"temperature": [0.1, 1.0]}, cv=2),
        "not_fitted": MAPClassifier(init=PretrainedHead("vit_base_patch16_siglip_224.webli")),
    }


def inputs_of(model: str) -> tuple[Any, Any]:
    """Samples and labels that a model is fitted on."""
    if model == "pipeline":
        return IMAGES, IMAGE_LABELS
    return (TOKENS.mean(1) if model in ("scaled", "search") else TOKENS), LABELS


class Anything(ClassifierMixin, BaseEstimator):
    """Estimator that takes any value as a parameter; counts its fits."""

    n_fits = 0

    def __init__(self, value: object = None):
        self.value = value

    def fit(self, X: Any, y: Any) -> "Anything":  # noqa: ARG002
        Anything.n_fits += 1
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        return np.repeat(self.classes_[:1], len(X))


class Pairs(Dataset[Any]):
    """Data set of two pairs."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return Image.fromarray(IMAGES[i]), int(i % 2)


@dataclass(frozen=True)
class Case:
    """A search with a checkpoint; `other` makes it another search."""

    estimator: Any
    grid: dict[str, list[Any]]
    X: Any
    y: Any
    other: Any

    def search(self, path: Path | None, *, changed: bool = False) -> BatchedSearchCV:
        """Search with this checkpoint, or none."""
        grid = {name: [*values[:-1], self.other] if changed else values for name, values in self.grid.items()}
        return BatchedSearchCV(self.estimator, grid, cv=2, refit=False, checkpoint=path)


def cases() -> dict[str, Case]:
    """Searches by the names of their checkpoints. Paths in them are relative, to a folder with the other files."""
    trained = MAPClassifier(None, num_heads=2, **TRAINED)
    ragged = RaggedTokens(TOKENS.reshape(-1, 8)[: 12 * 20], np.array([[2, 3], [2, 7]] * 12))
    store = FeatureStore("store")
    spec = next(spec for spec in store.specs().values() if spec.decoder == "none")
    archived = load_images("images.zip").items
    of_colours = make_pipeline(extractor("encoder", store="colours"), PrototypeClassifier())
    items = [load_images(source).items[0] for source in (Pairs(), "film.mp4", "images.zip", "images.tar")]
    values = [
        *items,
        PretrainedHead("vit"),
        FeatureStore("nowhere"),
        OnnxEncoder("abs.onnx", providers=["CPUExecutionProvider"]),
    ]
    pooled, temperatures = TOKENS.mean(1), {"temperature": [0.1, 0.3, 1.0]}
    return {
        "augmentations": Case(trained, {"augment": AUGMENTATIONS}, TOKENS, LABELS, aug.Brightness(0.4)),
        "ridge": Case(RidgeProbeClassifier(), {"alphas": [0.1, 1.0, 10.0]}, pooled, LABELS, 2.0),
        "logistic": Case(LogisticProbeClassifier(device="cpu"), {"C": [0.1, 1.0, 10.0]}, pooled, LABELS, 2.0),
        "prototype": Case(PrototypeClassifier(), temperatures, TOKENS, LABELS, 2.0),
        "soft_moe": Case(SoftMoEClassifier(None, **TRAINED), {"lr": [0.01, 0.1]}, TOKENS, LABELS, 0.2),
        "ragged": Case(trained, {"lr": [0.01, 0.1]}, ragged, LABELS, 0.2),
        "stored": Case(PrototypeClassifier(), temperatures, store.features(spec), IMAGE_LABELS, 2.0),
        "pipeline": Case(
            make_pipeline(extractor("mean"), RidgeProbeClassifier()),
            {"ridgeprobeclassifier__alphas": [0.1, 1.0]},
            *(IMAGES, IMAGE_LABELS, 2.0),
        ),
        "encoder": Case(of_colours, {"prototypeclassifier__temperature": [0.1, 1.0]}, IMAGES, IMAGE_LABELS, 2.0),
        "archive": Case(
            make_pipeline(extractor("mean"), PrototypeClassifier()),
            {"prototypeclassifier__temperature": [0.1, 1.0]},
            *(archived, IMAGE_LABELS, 2.0),
        ),
        "values": Case(Anything(), {"value": values}, pooled, LABELS, PretrainedHead("other")),
    }
