"""Nearest features: exact, and approximate where there are millions."""

from frofa.retrieval.copies import NearDuplicates
from frofa.retrieval.index import FeatureIndex

__all__ = ["FeatureIndex", "NearDuplicates"]
