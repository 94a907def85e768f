"""Heads on frozen features: scikit-learn classifiers that take pooled features (n, C) or tokens (n, N, C)."""

from frofa.compute.cuda_graphs import RecordingWarning
from frofa.estimators.confidence.abstention import AbstentionClassifier
from frofa.estimators.confidence.conformal import ConformalClassifier
from frofa.estimators.confidence.novelty import NoveltyDetector
from frofa.estimators.confidence.novelty_display import NoveltyDisplay
from frofa.estimators.few_shot import FewShotClassifier
from frofa.estimators.logistic import LogisticProbeClassifier
from frofa.estimators.map import MAPClassifier
from frofa.estimators.multilabel import MultiLabelProbeClassifier
from frofa.estimators.prototype import PrototypeClassifier
from frofa.estimators.regression import ShrinkageRegressor
from frofa.estimators.ridge import RidgeProbeClassifier
from frofa.estimators.search import BatchedSearchCV
from frofa.estimators.shrinkage_probe import ShrinkageProbeClassifier
from frofa.estimators.soft_moe import SoftMoEClassifier
from frofa.estimators.text.zero_shot import ZeroShotClassifier
from frofa.estimators.transductive import TransductiveClassifier
from frofa.exceptions import BatchFallbackWarning, CheckpointError
from frofa.ragged import RaggedTokens

__all__ = [
    "AbstentionClassifier",
    "BatchFallbackWarning",
    "BatchedSearchCV",
    "CheckpointError",
    "ConformalClassifier",
    "FewShotClassifier",
    "LogisticProbeClassifier",
    "MAPClassifier",
    "MultiLabelProbeClassifier",
    "NoveltyDetector",
    "NoveltyDisplay",
    "PrototypeClassifier",
    "RaggedTokens",
    "RecordingWarning",
    "RidgeProbeClassifier",
    "ShrinkageProbeClassifier",
    "ShrinkageRegressor",
    "SoftMoEClassifier",
    "TransductiveClassifier",
    "ZeroShotClassifier",
]
