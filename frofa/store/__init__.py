"""The feature store: nothing is computed twice, nothing reported done is lost, and nothing wrong is ever served."""

from frofa.store.directory import MANIFEST
from frofa.store.exchange import export_npy, export_parquet, export_safetensors, import_npy
from frofa.store.lazy.array import FeatureArray
from frofa.store.maintenance.compact import Compaction
from frofa.store.maintenance.contents import Explanation, SpecInfo
from frofa.store.maintenance.verify import Damage
from frofa.store.spec import FeatureSpec
from frofa.store.store import FeatureStore
from frofa.store.writer import ShardWriter

__all__ = [
    "MANIFEST",
    "Compaction",
    "Damage",
    "Explanation",
    "FeatureArray",
    "FeatureSpec",
    "FeatureStore",
    "ShardWriter",
    "SpecInfo",
    "export_npy",
    "export_parquet",
    "export_safetensors",
    "import_npy",
]
