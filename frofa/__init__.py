"""Few-shot transfer with frozen vision transformers: features, augmentation in feature space, light heads.

Names are loaded at first use, so that ``import frofa`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from frofa._version import __version__
from frofa.utils.threads import prepare_threads

if TYPE_CHECKING:
    from frofa import augmentations, estimators
    from frofa.annotation.widget import LabelWidget
    from frofa.blocks import FeatureBlocks
    from frofa.displays import (
        AttentionDisplay,
        ConfusionDisplay,
        EmbeddingDisplay,
        MistakesDisplay,
        RejectionDisplay,
        ReliabilityDisplay,
        WordsDisplay,
    )
    from frofa.doctor import check_extractor
    from frofa.encoders.onnx import OnnxEncoder
    from frofa.encoders.protocol import Encoder
    from frofa.encoders.ready import FunctionEncoder, TorchEncoder
    from frofa.estimators import RaggedTokens, ZeroShotClassifier
    from frofa.evaluation import disjoint_shots, mean_interval, sample_shots
    from frofa.extraction.extractor import FrozenFeatureExtractor
    from frofa.extraction.many import extract_many
    from frofa.image_classifier import ImageClassifier
    from frofa.images.folders import list_images, load_image_folder
    from frofa.images.sources import load_images
    from frofa.labelling import label_issues, suggest
    from frofa.learning_curves import LearningCurveDisplay, how_many_labels
    from frofa.persistence.saving import load, save
    from frofa.pretrained import PretrainedHead
    from frofa.reporting import Report, report
    from frofa.retrieval import FeatureIndex
    from frofa.scifibench.mining import mine_hard_negatives
    from frofa.store import FeatureStore
    from frofa.texts.extractor import FrozenTextExtractor

prepare_threads()

_HOME = {
    "AttentionDisplay": "frofa.displays",
    "ConfusionDisplay": "frofa.displays",
    "EmbeddingDisplay": "frofa.displays",
    "Encoder": "frofa.encoders.protocol",
    "FeatureBlocks": "frofa.blocks",
    "FeatureIndex": "frofa.retrieval",
    "FeatureStore": "frofa.store",
    "FrozenFeatureExtractor": "frofa.extraction.extractor",
    "FrozenTextExtractor": "frofa.texts.extractor",
    "FunctionEncoder": "frofa.encoders.ready",
    "ImageClassifier": "frofa.image_classifier",
    "LabelWidget": "frofa.annotation.widget",
    "LearningCurveDisplay": "frofa.learning_curves",
    "MistakesDisplay": "frofa.displays",
    "OnnxEncoder": "frofa.encoders.onnx",
    "PretrainedHead": "frofa.pretrained",
    "RaggedTokens": "frofa.estimators",
    "RejectionDisplay": "frofa.displays",
    "ReliabilityDisplay": "frofa.displays",
    "Report": "frofa.reporting",
    "TorchEncoder": "frofa.encoders.ready",
    "WordsDisplay": "frofa.displays",
    "ZeroShotClassifier": "frofa.estimators",
    "check_extractor": "frofa.doctor",
    "disjoint_shots": "frofa.evaluation",
    "extract_many": "frofa.extraction.many",
    "label_issues": "frofa.labelling",
    "how_many_labels": "frofa.learning_curves",
    "list_images": "frofa.images.folders",
    "load": "frofa.persistence.saving",
    "load_image_folder": "frofa.images.folders",
    "load_images": "frofa.images.sources",
    "mean_interval": "frofa.evaluation",
    "mine_hard_negatives": "frofa.scifibench.mining",
    "report": "frofa.reporting",
    "sample_shots": "frofa.evaluation",
    "save": "frofa.persistence.saving",
    "suggest": "frofa.labelling",
}

__all__ = [
    "AttentionDisplay",
    "ConfusionDisplay",
    "EmbeddingDisplay",
    "Encoder",
    "FeatureBlocks",
    "FeatureIndex",
    "FeatureStore",
    "FrozenFeatureExtractor",
    "FrozenTextExtractor",
    "FunctionEncoder",
    "ImageClassifier",
    "LabelWidget",
    "LearningCurveDisplay",
    "MistakesDisplay",
    "OnnxEncoder",
    "PretrainedHead",
    "RaggedTokens",
    "RejectionDisplay",
    "ReliabilityDisplay",
    "Report",
    "TorchEncoder",
    "WordsDisplay",
    "ZeroShotClassifier",
    "__version__",
    "augmentations",
    "check_extractor",
    "disjoint_shots",
    "estimators",
    "extract_many",
    "how_many_labels",
    "label_issues",
    "list_images",
    "load",
    "load_image_folder",
    "load_images",
    "mean_interval",
    "mine_hard_negatives",
    "report",
    "sample_shots",
    "save",
    "suggest",
]


def __getattr__(name: str) -> Any:
    if name in ("augmentations", "estimators"):
        return import_module(f"frofa.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'frofa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
