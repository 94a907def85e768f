"""Data for tests of searches, and what it means that two searches are the same."""

from typing import Any

import numpy as np

RNG = np.random.default_rng(0)
LABELS = np.repeat(["ant", "bee", "cow"], 12)
TOKENS = (RNG.normal(size=(36, 4, 8)) + np.repeat(np.eye(3, 8), 12, axis=0)[:, None]).astype(np.float32)
FEATURES = TOKENS.mean(1)
for _array in (TOKENS, FEATURES):
    _array.flags.writeable = False


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in results.items() if not key.endswith("_time")}


def assert_same_results(ours: Any, theirs: Any, atol: float = 1e-12) -> None:
    """Compare two fitted searches: the same keys in the same order, types, candidates, scores and choice."""
    one, other = ours.cv_results_, theirs.cv_results_
    assert list(one) == list(other)
    for key, value in without_times(one).items():
        assert type(value) is type(other[key]), key
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not key.startswith("param_"):
            assert value.dtype == other[key].dtype
            np.testing.assert_allclose(value, other[key], atol=atol, rtol=0, err_msg=key)
        elif key.startswith("rank_"):
            scores, order = other[f"mean_{key.removeprefix('rank_')}"], np.argsort(value, kind="stable")
            ranked = scores[order][np.isfinite(scores[order])]
            assert (np.diff(ranked) <= 2 * atol).all(), key  # the better first, but for what is equal
        elif isinstance(value, np.ndarray):
            assert value.dtype == other[key].dtype, key
            assert str(value) == str(other[key]), key  # masked, or of estimators, which are equal if they look so
        else:
            assert str(value) == str(other[key]), key
    assert ours.n_splits_ == theirs.n_splits_
    assert ours.multimetric_ == theirs.multimetric_
    for name in ("best_index_", "best_params_", "best_score_"):
        assert hasattr(ours, name) == hasattr(theirs, name), name
    if hasattr(theirs, "best_index_"):
        assert ours.best_index_ == theirs.best_index_
        assert str(ours.best_params_) == str(theirs.best_params_)
