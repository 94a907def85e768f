"""The feature store: nothing is computed twice, nothing reported done is lost, and nothing wrong is ever served."""

from frofa.store.array import FeatureArray
from frofa.store.spec import FeatureSpec
from frofa.store.store import MANIFEST, FeatureStore

__all__ = ["MANIFEST", "FeatureArray", "FeatureSpec", "FeatureStore"]
