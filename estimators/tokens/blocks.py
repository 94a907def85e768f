"""Features of several outputs and views, as heads take them that know of neither."""

from typing import Any

import numpy as np

from frofa.blocks import FeatureBlocks


def plain_features(X: Any) -> Any:
    """Make features (n, C) of FeatureBlocks: vectors side by side, averaged over views; leave all else as it is.

    Blocks of tokens alone become the tokens (n, N, C) of the plain images, of the first block, lazy ones not read.
    """
    if not isinstance(X, FeatureBlocks):
        return X
    return np.asarray(X) if X.vectors else X.views(X.names[0])[0]
