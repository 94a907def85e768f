"""Heads on frozen features: scikit-learn classifiers that take pooled features (n, C) or tokens (n, N, C)."""

from frofa.estimators._capture import RecordingWarning
from frofa.estimators._search_errors import BatchFallbackWarning, CheckpointError
from frofa.estimators.logistic import LogisticProbeClassifier
from frofa.estimators.map import MAPClassifier
from frofa.estimators.prototype import PrototypeClassifier
from frofa.estimators.ragged import RaggedTokens
from frofa.estimators.ridge import RidgeProbeClassifier
from frofa.estimators.search import BatchedSearchCV
from frofa.estimators.soft_moe import SoftMoEClassifier

__all__ = [
    "BatchFallbackWarning",
    "BatchedSearchCV",
    "CheckpointError",
    "LogisticProbeClassifier",
    "MAPClassifier",
    "PrototypeClassifier",
    "RaggedTokens",
    "RecordingWarning",
    "RidgeProbeClassifier",
    "SoftMoEClassifier",
]
