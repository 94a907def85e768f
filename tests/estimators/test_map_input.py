"""What `MAPClassifier` takes, and what it says of what it cannot take."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from map_helpers import head, same, small_tokens

from frofa.augmentations import Brightness


def test_rows_are_cut_into_tokens() -> None:
    X, y = small_tokens()
    flat = X.reshape(len(X), -1)
    fitted, cut = head().fit(X, y), head(n_tokens=4).fit(flat, y)
    assert same(fitted, cut)
    np.testing.assert_array_equal(fitted.predict_proba(X), cut.predict_proba(flat))
    assert (fitted.n_features_in_, cut.n_features_in_) == (16, 64)
    assert same(head().fit(flat, y), head().fit(X.reshape(len(X), 1, -1), y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_are_taken(dtype: torch.dtype) -> None:
    X, y = small_tokens()
    tensor = torch.tensor(X, dtype=dtype, requires_grad=True)
    rounded = tensor.detach().float().numpy()
    fitted, expected = head().fit(tensor, torch.tensor(y)), head().fit(rounded, y)
    assert same(fitted, expected)
    np.testing.assert_array_equal(fitted.predict_proba(tensor), expected.predict_proba(rounded))


def test_labels_may_be_strings_in_a_pandas_series() -> None:
    X, y = small_tokens()
    names = np.array(["cat", "ant", "bee"])[y]
    fitted = head(n_steps=100).fit(X, pd.Series(names, index=range(7, 37)))
    assert fitted.classes_.tolist() == ["ant", "bee", "cat"]
    np.testing.assert_array_equal(fitted.predict(X), names)
    assert fitted.decision_function(X).shape == (30, 3)


def test_two_classes_have_one_score_that_of_the_second() -> None:
    X, y = small_tokens(n_classes=2)
    fitted = head().fit(X, y)
    scores = fitted.decision_function(X)
    assert scores.shape == (30,)
    np.testing.assert_array_equal(fitted.predict(X), scores > 0)
    np.testing.assert_allclose(fitted.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)), atol=1e-6)


def test_read_only_arrays_are_taken_without_a_warning_and_not_modified() -> None:
    X, y = small_tokens()
    before = X.copy()
    assert not X.flags.writeable
    torch.set_warn_always(True)  # else once a process
    try:
        head(augment=Brightness()).fit(X, y).predict(X)
        head(n_tokens=4).fit(X.reshape(30, 64), y).predict(X.reshape(30, 64))
    finally:
        torch.set_warn_always(False)
    np.testing.assert_array_equal(X, before)


def test_arrays_are_not_modified() -> None:
    X = small_tokens()[0].copy()
    before, y = X.copy(), small_tokens()[1]
    head(augment=Brightness()).fit(X, y).predict(X)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"num_heads": 3}, r"num_heads must divide the 16 channels of a token\. Got 3"),
        ({"augment": 0.5}, r"The 'augment' parameter of MAPClassifier must be .*Augmentation.* Got 0\.5"),
        ({"augment": Brightness(2)}, r"The 'level' parameter of Brightness must be .* Got 2"),
        ({"device": "cuda:99"}, r"device must be 'auto' or a device of this machine\. Got 'cuda:99'"),
        ({"device": "no such"}, r"device must be 'auto' or a device of this machine\. Got 'no such'"),
        ({"lr": 1e6, "clip_norm": None}, r"training diverged .*: lower lr\. Got lr=1000000\.0"),
        ({"lr": 1e6}, r"training diverged .*: lower lr\. Got lr=1000000\.0"),
    ],
)
def test_errors_say_what_was_got(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head(**params).fit(*small_tokens())


def test_shapes_that_do_not_fit_are_named() -> None:
    X, y = small_tokens()
    flat = X.reshape(len(X), -1)
    with pytest.raises(ValueError, match=r"n_tokens must divide the 64 columns of X\. Got 5"):
        head(n_tokens=5).fit(flat, y)
    with pytest.raises(ValueError, match="X has 12 features a token, but MAPClassifier is expecting 16"):
        head().fit(X, y).predict(X[:, :, :12])
    with pytest.raises(ValueError, match="X has 60 features, but MAPClassifier is expecting 64"):
        head(n_tokens=4).fit(flat, y).predict(flat[:, :60])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        head().fit(X, y[:-1])
