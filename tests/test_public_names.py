"""Names that users import: each stays where it is, whatever moves behind it."""

import re
from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = {
    "frofa": [
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
    ],
    "frofa.augmentations": [
        "Augmentation",
        "Brightness",
        "ChannelDropout",
        "Contrast",
        "Crop",
        "Equalize",
        "FeatureImage",
        "GaussianNoise",
        "InceptionCrop",
        "Invert",
        "JPEG",
        "MixUp",
        "PatchDropout",
        "Posterize",
        "RandAugment",
        "RandomApply",
        "RandomChoice",
        "ResizedCrop",
        "Rotate",
        "Sequential",
        "Sharpness",
        "ShearX",
        "ShearY",
        "Solarize",
        "TokenBatch",
        "TranslateX",
        "TranslateY",
        "TrivialAugment",
        "Variant",
        "from_image",
        "to_image",
    ],
    "frofa.doctor": [
        "Finding",
        "Outcome",
        "check_extractor",
        "examine",
        "extractor_for",
        "write_golden",
    ],
    "frofa.estimators": [
        "AbstentionClassifier",
        "BatchFallbackWarning",
        "BatchedSearchCV",
        "CheckpointError",
        "ConformalClassifier",
        "FewShotClassifier",
        "LogisticProbeClassifier",
        "MAPClassifier",
        "NoveltyDetector",
        "NoveltyDisplay",
        "MultiLabelProbeClassifier",
        "PrototypeClassifier",
        "RaggedTokens",
        "RecordingWarning",
        "RidgeProbeClassifier",
        "ShrinkageProbeClassifier",
        "ShrinkageRegressor",
        "SoftMoEClassifier",
        "TransductiveClassifier",
        "ZeroShotClassifier",
    ],
    "frofa.labelling": [
        "DuplicateGroup",
        "LabelIssues",
        "UncertaintyHerding",
        "label_issues",
        "suggest",
    ],
    "frofa.learning_curves": [
        "CurvePoint",
        "LabelsNeeded",
        "LearningCurveDisplay",
        "how_many_labels",
    ],
    "frofa.retrieval": ["FeatureIndex", "NearDuplicates"],
    "frofa.store": [
        "Compaction",
        "Damage",
        "Explanation",
        "FeatureArray",
        "FeatureSpec",
        "FeatureStore",
        "MANIFEST",
        "ShardWriter",
        "SpecInfo",
        "export_npy",
        "export_parquet",
        "export_safetensors",
        "import_npy",
    ],
    "frofa.study": [
        "Study",
        "n_skipped",
        "report_law",
        "report_study",
        "run_law",
        "run_study",
    ],
}
"""Everything that these have in `__all__`."""
MODULES = {
    "frofa.augmentation_display": [
        "AugmentationDisplay",
    ],
    "frofa.demo": [
        "run_demo",
        "write_sample",
    ],
    "frofa.display": [
        "FewShotDisplay",
    ],
    "frofa.encoders": [
        "Encoder",
        "FunctionEncoder",
        "ReadyEncoder",
        "TorchEncoder",
        "canonical",
    ],
    "frofa.evaluation": [
        "GroupAccuracy",
        "Interval",
        "MultipleChoiceReport",
        "RejectionCurve",
        "Reliability",
        "brier_score",
        "calibration_error",
        "calibration_floor",
        "confusion_matrix",
        "disjoint_shots",
        "label_positions",
        "log_loss",
        "mean_interval",
        "multiple_choice",
        "proportion_interval",
        "rejection_curve",
        "reliability",
        "sample_shots",
        "score_choices",
    ],
    "frofa.exceptions": [
        "DamagedStoreError",
        "DecodingProcessError",
        "EncoderCallError",
        "EncoderError",
        "ExtractorCheckError",
        "FrofaError",
        "ImageReadError",
        "ItemError",
        "ModelNotFoundError",
        "RequestError",
        "SavedFileError",
        "SkippedImagesWarning",
        "StoreError",
        "StoreNotWrittenWarning",
        "UnlabelledWarning",
        "UnusedWordsWarning",
        "WeightsChangedError",
    ],
    "frofa.image_classifier": [
        "EvaluationReport",
        "ImageClassifier",
    ],
    "frofa.images": [
        "LazyImage",
        "as_image_list",
        "decode",
        "describe",
        "is_image_file",
        "list_images",
        "load_image_folder",
        "open_image",
        "read_file",
        "to_rgb",
    ],
    "frofa.persistence": [
        "load",
        "save",
    ],
    "frofa.pretrained": [
        "PretrainedHead",
    ],
    "frofa.selection": [
        "Chosen",
        "HeadChoice",
        "fit_head",
        "head_choices",
    ],
    "frofa.soft_moe": [
        "ExpertLinear",
        "SoftMoE",
        "SoftMoEVisionTransformer",
        "soft_moe_vit_base_patch16",
        "soft_moe_vit_huge_patch14",
        "soft_moe_vit_large_patch16",
        "soft_moe_vit_small_patch14",
        "soft_moe_vit_small_patch16",
        "soft_moe_vit_tiny_patch16",
    ],
    "frofa.cli": [
        "main",
    ],
}
"""What else is documented, or of use by itself."""


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_export_what_they_did(name: str) -> None:
    module = import_module(name)
    assert sorted(module.__all__) == sorted(PACKAGES[name])
    assert [each for each in PACKAGES[name] if getattr(module, each, None) is None] == []


@pytest.mark.parametrize("name", MODULES)
def test_modules_have_what_they_had(name: str) -> None:
    module = import_module(name)
    assert [each for each in MODULES[name] if getattr(module, each, None) is None] == []


def test_what_the_documentation_imports_is_listed() -> None:
    root = Path(__file__).parents[1]
    text = "\n".join(file.read_text() for file in [root / "README.md", *sorted((root / "docs").glob("*.md"))])
    imports = re.findall(r"^(?:>>> )?from (frofa[\w.]*) import (?:\(([^)]*)\)|(.*))", text, re.MULTILINE)
    found = {(module, name) for module, *names in imports for name in re.findall(r"\w+", " ".join(names))}
    listed = {(module, name) for module, names in {**PACKAGES, **MODULES}.items() for name in names}
    assert len(found) > 10
    assert found - listed == set()
    mentioned = set(re.findall(r"`(?:import )?(frofa(?:\.[a-z]\w*)+)`", text)) - {"frofa.load", "frofa.save"}
    assert mentioned - {f"{module}.{name}" for module, name in listed} - {*PACKAGES, *MODULES} == set()
