"""Saving and loading fitted estimators: one safetensors file with a JSON description, no pickle."""

import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import safetensors
import sklearn
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from frofa._files import write_atomically
from frofa._saved_encoder import AbsentEncoder, saved_model, with_encoder
from frofa._version import __version__
from frofa.estimators._device import resolve_device
from frofa.exceptions import SavedFileError

if TYPE_CHECKING:
    from frofa.encoders import Encoder

FORMAT = 1
Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Save an estimator, or a pipeline that starts with the extractor.

    The file holds parameters, fitted state and frofa's version; of an extractor, its model's name and the digest of its
    weights, but neither the weights nor the store. Of a custom encoder it holds the spec, and `load`
    takes the encoder. The estimator is not changed.

    Parameters
    ----------
    estimator : estimator
        A head, an augmentation, an extractor, or a pipeline of these and scikit-learn's `StandardScaler` and
        `Normalizer`. Of a search, save its ``best_estimator_``.
    path : path
        A file, by custom ``*.frofa``; an existing one is replaced, at once or not at all.

    Raises
    ------
    SavedFileError
        If the estimator, or something in it, is of another type; the message names it.

    Examples
    --------
    >>> import frofa
    >>> from frofa.estimators import PrototypeClassifier
    >>> head = PrototypeClassifier().fit([[0.0, 1.0], [1.0, 0.0]], ["cat", "dog"])
    >>> frofa.save(head, "head.frofa")
    >>> frofa.load("head.frofa").predict([[0.1, 0.9]]).tolist()
    ['cat']
    """
    arrays: Arrays = {}
    root = _encode(estimator, arrays, "estimator")
    if "type" not in (root or {}):
        raise SavedFileError(f"expected an estimator. Got {type(estimator).__name__}.")
    description = json.dumps(
        {"format": FORMAT, "frofa": __version__, "scikit-learn": sklearn.__version__, "root": root}, sort_keys=True
    )
    metadata = {"frofa": description, "digest": _digest(description, arrays)}
    data = to_safetensors(arrays, metadata=metadata)
    write_atomically(Path(path), lambda file: file.write(data))


def load(path: str | os.PathLike[str], *, device: str | None = None, encoder: "Encoder | None" = None) -> Any:
    """Load what `save` wrote. Nothing in the file is executed: types are taken from a fixed list.

    Parameters
    ----------
    path : path
        The file.
    device : str, default=None
        Where the estimators compute from now on. None keeps what was saved, and turns a device that this machine does
        not have into ``"auto"``.
    encoder : Encoder, default=None
        The custom encoder of the extractor that was saved; its spec must be the one in the file. Not needed where the
        extractor names an encoder that a package registers.

    Returns
    -------
    estimator

    Raises
    ------
    SavedFileError
        If the file is damaged or was changed, is of another format version, or names an unknown type; or if it needs a
        custom encoder, and `encoder` is not given or has another spec, or is given and not needed.
    FileNotFoundError
        If there is no such file.
    """
    data = Path(path).read_bytes()
    try:
        arrays = from_safetensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        description, digest = header["__metadata__"]["frofa"], header["__metadata__"]["digest"]
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise SavedFileError(f"{path} is not a file that frofa.save wrote, or it is damaged: {error}") from error
    if _digest(description, arrays) != digest:
        raise SavedFileError(f"{path} was changed after it was saved, or is damaged: its digest differs.")
    try:
        content = json.loads(description)
        if content["format"] != FORMAT:
            raise SavedFileError(
                f"{path} has format {content['format']}, written by frofa {content['frofa']}; this version reads "
                f"format {FORMAT}."
            )
        loaded = _decode(content["root"], arrays, device)
        return with_encoder(loaded, encoder, str(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, SavedFileError):
            raise
        raise SavedFileError(f"{path} describes no estimator that this version can build: {error}") from error


@cache
def _types() -> Mapping[str, Callable[..., Any]]:
    """What may be saved and loaded, by the name it has in files."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    from frofa import augmentations, estimators
    from frofa.extractor import FrozenFeatureExtractor
    from frofa.pretrained import PretrainedHead

    abstract = {"Augmentation", "FeatureImage", "TokenBatch", "Variant"}
    other = {"BatchFallbackWarning", "BatchedSearchCV", "CheckpointError", "RecordingWarning"}
    types: dict[str, Callable[..., Any]] = {
        "frofa.FrozenFeatureExtractor": FrozenFeatureExtractor,
        "frofa.PretrainedHead": PretrainedHead,
    }
    types |= {f"frofa.estimators.{name}": getattr(estimators, name) for name in estimators.__all__ if name not in other}
    types |= {
        f"frofa.augmentations.{name}": getattr(augmentations, name)
        for name in augmentations.__all__
        if name[0].isupper() and name not in abstract
    }
    return types | {f"sklearn.{kind.__name__}": kind for kind in (Pipeline, StandardScaler, Normalizer)}


def _encode(value: Any, arrays: Arrays, where: str) -> Any:
    """Turn a value into JSON; arrays go to `arrays`, under the name of their place."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, AbsentEncoder):
        return {"encoder": value.spec}
    if isinstance(value, np.generic):
        return _encode(value.item(), arrays, where)
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_encode(item, arrays, f"{where}.{i}") for i, item in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": [[_encode(k, arrays, where), _encode(v, arrays, f"{where}.{k}")] for k, v in value.items()]}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "biuf":
            arrays[where] = np.ascontiguousarray(value)
            return {"array": where}
        if value.dtype.kind in "UO" and value.ndim == 1:
            return {"labels": [_encode(item, arrays, where) for item in value.tolist()], "dtype": value.dtype.str}
    for name, kind in _types().items():
        if type(value) is kind:
            params = value.get_params(deep=False)
            if "store" in params:
                params["store"] = None  # a directory of this machine, not of the file's next reader
                params["model"] = saved_model(params["model"])
            state = {key: item for key, item in vars(value).items() if _is_fitted_attribute(key)}
            return {
                "type": name,
                "params": {key: _encode(item, arrays, f"{where}.{key}") for key, item in params.items()},
                "state": {key: _encode(item, arrays, f"{where}.{key}") for key, item in state.items()},
            }
    hint = ": save its best_estimator_" if hasattr(value, "best_estimator_") else ""
    raise SavedFileError(f"cannot save {where}, a {type(value).__name__}{hint}. Known types: {', '.join(_types())}.")


def _decode(value: Any, arrays: Arrays, device: str | None) -> Any:
    if not isinstance(value, dict):
        return value
    if "type" in value:
        return _build(value, arrays, device)
    kind, content = next(iter(value.items()))
    if kind in ("list", "tuple"):
        items = [_decode(item, arrays, device) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {_decode(k, arrays, device): _decode(v, arrays, device) for k, v in content}
    if kind == "array":
        return arrays[content]
    if kind == "encoder":
        return AbsentEncoder(content)
    labels = np.empty(len(value["labels"]), value["dtype"])
    labels[:] = value["labels"]
    return labels


def _build(value: dict[str, Any], arrays: Arrays, device: str | None) -> Any:
    kind = _types().get(value["type"])
    if kind is None:
        raise SavedFileError(f"the file names an unknown type, {value['type']!r}. Known: {', '.join(_types())}.")
    params = {key: _decode(item, arrays, device) for key, item in value["params"].items()}
    if "device" in params and not isinstance(params.get("model"), AbsentEncoder):
        params["device"] = device or _available(params["device"])
    estimator = kind(**params)
    for key, item in value["state"].items():
        if not _is_fitted_attribute(key):
            raise SavedFileError(f"the file sets {key!r}, which is no fitted attribute of {value['type']}.")
        setattr(estimator, key, _decode(item, arrays, device))
    return estimator


def _is_fitted_attribute(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


def _available(device: str) -> str:
    try:
        resolve_device(device)
    except ValueError:
        return "auto"
    return device


def _digest(description: str, arrays: Arrays) -> str:
    digest = blake2b(description.encode(), digest_size=20, person=b"frofa-saved")
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
