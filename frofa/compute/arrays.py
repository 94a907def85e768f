"""Features, labels and weights that heads are given: any kind becomes arrays, and bad values are refused."""

from collections.abc import Iterator
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import issparse
from torch import Tensor

Array = npt.NDArray[Any]
LEAST_WEIGHT, MOST_WEIGHT = 1e-100, 1e100
"""Bounds of weights that are not zero: sums, products and quotients of these are far from the ends of float64."""


def largest(dtype: npt.DTypeLike) -> float:
    """Give the largest magnitude of features that a head computes with in a floating-point format.

    Its square, and the square of that, of which norms of gradients are made, are finite: 4.3e9 in float32, 1.2e77 in
    float64.
    """
    bound: float = float(np.finfo(np.dtype(dtype)).max) ** 0.25
    return bound


def check_magnitude(values: Array, dtype: npt.DTypeLike, name: str) -> None:
    """Raise a ValueError in the name of an estimator if finite features are too large to compute with in a dtype."""
    bound = largest(dtype)
    if not values.size or float(np.finfo(values.dtype).max) <= bound:
        return
    worst = max(float(values.max()), -float(values.min()))
    if worst > bound:
        raise ValueError(
            f"{name} computes in {np.dtype(dtype)}: features must be between -{bound:.1e} and {bound:.1e}. Got a "
            f"magnitude of {worst:.3g}: scale them first."
        )


def check_not_empty(shape: tuple[int, ...], name: str) -> None:
    """Raise a ValueError in the name of an estimator if tokens of a shape (n, N, C) are none, or have no features."""
    if shape[0] and not all(shape[1:]):
        raise ValueError(f"{name} needs one token or more of one feature or more. Got tokens of shape {shape}.")


def check_weights(weights: npt.NDArray[np.float64]) -> None:
    """Raise a ValueError if weights of samples, class weights included, are none that can be computed with."""
    positive = weights[weights != 0]
    if not positive.size:
        raise ValueError("expected at least one positive sample weight. Got none.")
    wrong = positive[~((positive >= LEAST_WEIGHT) & (positive <= MOST_WEIGHT))]
    if wrong.size:
        raise ValueError(
            f"weights of samples, times those of their classes, must be zero or between {LEAST_WEIGHT:g} and "
            f"{MOST_WEIGHT:g}. Got {wrong[0]:g}."
        )


def as_features(X: Any) -> Any:
    """Make an array of a tensor or a list of samples; other features stay as they are.

    A TypeError says that a tensor is sparse, or X cannot be features; a ValueError, that samples differ in shape.
    """
    if isinstance(X, Tensor):
        return _values_of_tensor(X)
    if issparse(X):  # one kind of which is a dictionary
        return X
    if X is None or isinstance(X, (str, bytes, dict, set, Iterator)):
        raise TypeError(
            "expected features of shape (n, C) or tokens of shape (n, N, C): an array, a tensor, a data frame, a list "
            f"of samples, RaggedTokens or FeatureBlocks. Got {type(X).__name__}."
        )
    if hasattr(X, "to_numpy") and not hasattr(X, "columns"):  # a column of a data frame, which may hold arrays
        X = list(X)
    if not isinstance(X, (list, tuple)):
        return X
    try:
        return np.asarray(_plain(X))
    except ValueError as error:
        raise ValueError(
            "expected samples of one shape. Got a list of arrays of different shapes: tokens of images of different "
            f"sizes are given as frofa.RaggedTokens. ({error})"
        ) from error


def as_labels(y: Any) -> Any:
    """Make an array of labels that NumPy can sort; scikit-learn refuses what has none, such as a data frame.

    A ValueError says that a label is missing, or labels are of several kinds.
    """
    labels = _array_of(_plain(y))
    if labels.dtype.kind == "T":  # NumPy's StringDType, of which other libraries know nothing
        return _one_kind(labels.astype(object)).astype(str)
    if labels.dtype.kind == "M" and np.isnat(labels).any():
        _refuse_missing(labels, int(np.flatnonzero(np.isnat(labels).ravel())[0]))
    if labels.dtype.kind == "O":
        return _one_kind(labels)
    return labels


def plain_labels(y: Any) -> Array:
    """Make an array of labels as they are, some of which may be missing.

    Strings and others in a list stay apart, as do whole numbers and gaps in a column of a data frame.
    """
    values = _plain(y)
    if getattr(getattr(values, "dtype", None), "kind", "") in "iu" and getattr(values, "hasnans", False):
        return np.asarray(values, dtype=object)  # NumPy would make floats of pandas' integers
    if isinstance(values, (list, tuple)) and len({isinstance(value, str) for value in values}) == 2:
        # NumPy would make strings of the numbers and the gaps among them.
        labels: Array = np.empty(len(values), object)
        labels[:] = values
        return labels
    return _array_of(values)


def present_labels(y: Any, rows: Any) -> Array:
    """Choose the labels of rows that have one, as an array.

    Where others are missing and all that are there are whole numbers, they become integers: NumPy and pandas have no
    gaps among integers, and made floats of them.
    """
    labels = plain_labels(y)
    chosen: Array = labels[rows]
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        with np.errstate(invalid="ignore"):
            whole = chosen.astype(np.int64)
        return whole if np.array_equal(whole, chosen) else chosen
    return chosen


def check_no_strings(X: Any, name: str) -> None:
    """Raise a ValueError in the name of a head if an array or a data frame has strings or paths for features."""
    frame = hasattr(X, "columns")
    if not (frame or isinstance(X, np.ndarray)) or not len(X.shape) or not X.shape[0]:
        return
    # Of objects, the first sample says enough.
    values = np.asarray(X[:1]) if frame or X.dtype.kind == "O" else X
    if values.dtype.kind not in "OUST":
        return
    texts = [value for value in values[:1].ravel() if isinstance(value, (str, bytes, PathLike))]
    if texts:
        raise ValueError(
            f"{name} takes features, numbers of shape (n, C) or (n, N, C). Got strings, such as {str(texts[0])!r}. "
            f"Paths of images are for make_pipeline(FrozenFeatureExtractor(), {name}()), or for ImageClassifier."
        )


def check_embedded(values: Any, name: str) -> None:
    """Raise a TypeError for texts or paths where their vectors are expected."""
    first = values
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    if isinstance(first, np.ndarray) and first.dtype.kind in "OUST" and first.size:
        first = first.flat[0]
    if isinstance(first, (str, bytes, PathLike)):
        raise TypeError(
            f"expected {name} as vectors, shape (n, D). Got {str(first)!r}: texts are embedded by FrozenTextExtractor, "
            "images by FrozenFeatureExtractor, by their transform([...])."
        )


def _array_of(labels: Any) -> Array:
    """Make labels an array, unless they are lists of several labels of each sample."""
    try:
        array = np.asarray(labels)
    except ValueError as error:
        raise ValueError(_SEVERAL) from error
    if array.dtype.kind == "O" and array.ndim == 1 and any(isinstance(one, (list, tuple, set)) for one in array):
        raise ValueError(_SEVERAL)
    return array


_SEVERAL = (
    "expected one label of each sample. Got lists of labels: MultiLabelProbeClassifier takes several of each, as an "
    "indicator."
)


def missing(labels: Array) -> npt.NDArray[np.bool_]:
    """Tell which labels (n,) are missing: None, NaN and the like, and times that are none."""
    if labels.dtype.kind == "M":
        return np.isnat(labels)
    if labels.dtype.kind == "f":  # such as pandas makes of whole numbers with gaps
        return np.isnan(labels)
    if labels.dtype.kind not in "OT":
        return np.zeros(labels.shape, bool)
    return np.array([_is_missing(label) for label in labels.astype(object)], bool)


def _one_kind(labels: Array) -> Array:
    """Check that objects are all strings, or all numbers, which become an array of numbers."""
    for i, label in enumerate(labels.ravel()):
        if _is_missing(label):
            _refuse_missing(labels, i)
    kinds = {type(label) for label in labels.ravel()}
    if all(issubclass(kind, str) for kind in kinds):
        return labels
    if all(issubclass(kind, (Real, np.bool_)) for kind in kinds):
        return np.array(labels.tolist())
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise ValueError(
        f"expected labels of one kind: strings, whole numbers, booleans or NumPy's datetime64. Got objects: {names}."
    )


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)  # NaN and NaT
    except (TypeError, ValueError):  # pandas' NA is neither equal nor not
        return type(label).__name__ == "NAType"


def _refuse_missing(labels: Array, position: int) -> None:
    raise ValueError(f"expected a label of every sample. Got {labels.ravel()[position]!r} at position {position} of y.")


def _plain(values: Any) -> Any:
    """Replace the tensors in lists, which NumPy cannot read if they need gradients, are on a GPU or in bfloat16."""
    if isinstance(values, Tensor):
        return _values_of_tensor(values)
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], (Tensor, list, tuple)):
        return [_plain(value) for value in values]
    return values


def _values_of_tensor(tensor: Tensor) -> Array:
    """Copy a dense tensor to an array; half precision becomes float32, as NumPy has no bfloat16."""
    plain = tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_quantized
    if not plain or tensor.is_meta:
        kind = "quantised" if tensor.is_quantized else "nested" if tensor.is_nested else "meta" if plain else "sparse"
        raise TypeError(f"expected a dense tensor of numbers. Got a {kind} one.")
    tensor = tensor.detach().cpu()
    # Two bytes or fewer: float16, bfloat16 and float8 become float32, exactly.
    narrow = tensor.is_floating_point() and tensor.element_size() <= 2
    values: Array = (tensor.float() if narrow else tensor).resolve_conj().resolve_neg().numpy()
    return values
