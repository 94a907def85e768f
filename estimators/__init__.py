"""Heads on frozen features: scikit-learn classifiers that take pooled features (n, C) or tokens (n, N, C)."""

from frofa.compute.cuda_graphs import RecordingWarning
from frofa.estimators.few_shot import FewShotClassifier
from frofa.estimators.logistic import LogisticProbeClassifier
from frofa.estimators.map import MAPClassifier
from frofa.estimators.prototype import PrototypeClassifier
from frofa.estimators.ridge import RidgeProbeClassifier
from frofa.estimators.search import BatchedSearchCV
from frofa.estimators.shrinkage_probe import ShrinkageProbeClassifier
from frofa.estimators.soft_moe import SoftMoEClassifier
from frofa.exceptions import BatchFallbackWarning, CheckpointError
from frofa.ragged import RaggedTokens

__all__ = [
    "BatchFallbackWarning",
    "BatchedSearchCV",
    "CheckpointError",
    "FewShotClassifier",
    "LogisticProbeClassifier",
    "MAPClassifier",
    "PrototypeClassifier",
    "RaggedTokens",
    "RecordingWarning",
    "RidgeProbeClassifier",
    "ShrinkageProbeClassifier",
    "SoftMoEClassifier",
]
