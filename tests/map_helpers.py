"""Small tokens and small heads for the tests of `MAPClassifier`."""

from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.estimators import MAPClassifier


def small_tokens(
    n: int = 30, n_classes: int = 3, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Tokens (n, 4, 16) of which only one, at a random place, says the class: the mean says little."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    tokens = rng.normal(size=(n, 4, 16)).astype(np.float32)
    tokens[np.arange(n), rng.integers(4, size=n)] += 5 * np.eye(16, dtype=np.float32)[y]
    tokens.flags.writeable = False
    return tokens, y


def head(**params: Any) -> MAPClassifier:
    return MAPClassifier(**{"augment": None, "n_steps": 20, "random_state": 0, "device": "cpu", **params})


def same(first: MAPClassifier, second: MAPClassifier) -> bool:
    return all(np.array_equal(value, second.weights_[name]) for name, value in first.weights_.items())
