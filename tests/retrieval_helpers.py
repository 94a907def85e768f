"""Features with a spec, in a store, to be searched."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from store_helpers import keys

from frofa.store import FeatureSpec, FeatureStore

POOLED = FeatureSpec("weights", "architecture", "{}", "decoder", "pooled", None, True, "float32", "float16")


def rows(n: int, width: int, seed: int = 0, dtype: str = "float16") -> npt.NDArray[Any]:
    """Rows (n, width) around a dozen centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, width))
    return (centres[rng.integers(0, 12, n)] + 0.7 * rng.standard_normal((n, width))).astype(dtype)


def stored(path: Path, values: npt.NDArray[Any], n_shards: int = 3, spec: FeatureSpec = POOLED) -> FeatureStore:
    """A store that has these rows, with the keys of their positions, in some shards."""
    store = FeatureStore(path)
    for part in np.array_split(np.arange(len(values)), n_shards):
        store.put(spec, keys(part.tolist()), values[part])
    return store
