"""Values of saved estimators as JSON and arrays, and back."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.model_selection._search import BaseSearchCV

from frofa.compute.devices import resolve_device
from frofa.exceptions import SavedFileError
from frofa.persistence.encoders import AbsentEncoder, saved_model
from frofa.persistence.trying import try_out
from frofa.persistence.types import SavedType, name_of, saved_functions, saved_type, sklearn_names
from frofa.store import FeatureStore
from frofa.utils.files import expand_home

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
TIME = re.compile(r"<[mM]8\[\d*[a-zA-Z]+\]")
"""NumPy's names of types of dates and durations, which are kept as whole numbers."""
LABEL_TYPES = re.compile(r"\|O|T|[<>|][US]\d{1,9}")
LARGEST = 2**28
"""Most bytes that an array of labels may take: a forged file could name a type of any width."""


def encode(value: Any, arrays: Arrays, where: str) -> Any:
    """Turn a value into JSON; arrays go to `arrays` under the name of their place. Unknown types are an error."""
    if isinstance(value, np.generic) and value.dtype.kind in "biufmM":
        return {"scalar": _encode_array(np.asarray(value), arrays, where)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [encode(item, arrays, f"{where}.{i}") for i, item in enumerate(value)]}
    if isinstance(value, dict):
        pairs = enumerate(value.items())
        return {
            "dict": [[encode(k, arrays, f"{where}.{i}"), encode(v, arrays, f"{where}.{i}.")] for i, (k, v) in pairs]
        }
    if isinstance(value, np.ndarray):
        return _encode_array(value, arrays, where)
    # Before objects, as stores, paths and functions are some, too.
    if (plain := _encode_plain(value)) is not None:
        return plain
    if isinstance(value, BaseSearchCV) and hasattr(value, "best_estimator_"):
        return encode(value.best_estimator_, arrays, where)
    # What is left is an object, of a type in the table of those that may be saved.
    name = name_of(type(value))
    row = None if name is None else saved_type(name)
    if name is None or row is None:
        raise _unknown(value, where)
    return _encode_object(name, row, value, arrays, where)


def _encode_plain(value: Any) -> Any:
    """JSON of a value that has neither parts nor arrays; None for other values."""
    if isinstance(value, AbsentEncoder):
        return {"encoder": value.spec}
    if isinstance(value, FeatureStore):
        return {"store": _absolute(value.path)}
    if isinstance(value, os.PathLike):
        return {"path": os.fspath(value)}
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, date):
        kind = "timestamp" if type(value).__module__.startswith("pandas") else type(value).__name__
        return {kind: value.isoformat()}
    if isinstance(value, FunctionType):
        for name, function in saved_functions().items():
            if value is function:
                return {"function": name}
    return None


def _encode_array(value: npt.NDArray[Any], arrays: Arrays, where: str) -> Any:
    kind = value.dtype.kind
    if kind in "mM":
        values = value.astype(value.dtype.newbyteorder("<")).astype(np.int64)
        return {**_encode_array(values, arrays, where), "as": value.dtype.newbyteorder("<").str}
    if kind in "biuf" and value.dtype.itemsize <= 8:
        # An array in Fortran order stays so: the products of another order may differ in their last bits.
        by_columns = value.ndim == 2 and not value.flags.c_contiguous and value.strides[0] < value.strides[1]
        kept = value.T if by_columns else value
        arrays[where] = np.ascontiguousarray(kept, value.dtype.newbyteorder("=")).reshape(kept.shape)
        return {"array": where, "order": "F"} if by_columns else {"array": where}
    if kind in "UOST" and value.ndim == 1:
        items = [encode(item, arrays, f"{where}.{i}") for i, item in enumerate(value.tolist())]
        return {"labels": items, "dtype": "T" if kind == "T" else value.dtype.str}
    raise SavedFileError(f"cannot save {where}, an array of {value.dtype} with {value.ndim} dimensions.")


def _encode_object(name: str, row: SavedType, value: Any, arrays: Arrays, where: str) -> Any:
    params = row.params_of(value)
    if "store" in params:
        store = params["store"]
        params["store"] = _absolute(store) if isinstance(store, str) else store
        if isinstance(store, os.PathLike):
            params["store"] = Path(_absolute(store))
        params["model"] = saved_model(params["model"])
    return {
        "type": name,
        "params": {key: encode(item, arrays, f"{where}.{key}") for key, item in params.items()},
        "state": {key: encode(item, arrays, f"{where}.{key}") for key, item in row.state_of(value).items()},
    }


def _absolute(path: str | os.PathLike[str]) -> str:
    return str(Path(expand_home(path)).absolute())


def _unknown(value: Any, where: str) -> SavedFileError:
    name = type(value).__name__
    if isinstance(value, BaseSearchCV):
        return SavedFileError(f"cannot save {where}, a {name} without a best_estimator_: fit it, with refit=True.")
    listed = ", ".join(sklearn_names())
    return SavedFileError(
        f"cannot save {where}, a {name}: expected frofa's own estimators and augmentations, or scikit-learn's {listed}."
    )


@dataclass
class Reader:
    """Reader of values in JSON, with all arrays of the file; the device is that of `frofa.load`.

    Afterwards, `encoders` has the extractors that wait for their custom encoder.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    device: str | None
    encoders: list[Any] = field(default_factory=list)

    def read(self, value: Any) -> Any:
        """Build the value that `encode` made this of; what makes no sense raises errors of any type."""
        if not isinstance(value, dict):
            if isinstance(value, list):
                raise ValueError("expected a value. Got a list.")
            return value
        for kind, read in self._kinds().items():
            if kind in value:
                return read(value)
        raise ValueError(f"expected a value. Got an object with {', '.join(map(repr, value)) or 'nothing'}.")

    def _kinds(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        return {
            "type": self._object,
            "labels": self._labels,
            "array": self._array,
            "scalar": lambda value: self.read(value["scalar"])[()],
            "list": lambda value: [self.read(item) for item in value["list"]],
            "tuple": lambda value: tuple(self.read(item) for item in value["tuple"]),
            "dict": lambda value: {self.read(key): self.read(item) for key, item in value["dict"]},
            "encoder": lambda value: AbsentEncoder(value["encoder"]),
            "store": lambda value: FeatureStore(value["store"]),
            "path": lambda value: Path(value["path"]),
            "bytes": lambda value: value["bytes"].encode("latin-1"),
            "slice": lambda value: slice(*value["slice"]),
            "date": lambda value: date.fromisoformat(value["date"]),
            "datetime": lambda value: datetime.fromisoformat(value["datetime"]),
            "timestamp": lambda value: _timestamp(value["timestamp"]),
            "function": lambda value: saved_functions()[value["function"]],
        }

    def _array(self, value: dict[str, Any]) -> npt.NDArray[Any]:
        found = self.arrays[value["array"]]
        if "as" in value:
            if not TIME.fullmatch(value["as"]):
                raise ValueError(f"expected dates or durations. Got {value['as']!r:.80}.")
            found = found.astype(np.int64).view(value["as"])
        return found.T if value.get("order") == "F" else found

    def _labels(self, value: dict[str, Any]) -> npt.NDArray[Any]:
        items, dtype = [self.read(item) for item in value["labels"]], value["dtype"]
        if not LABEL_TYPES.fullmatch(dtype):
            raise ValueError(f"expected a type of labels. Got {dtype!r:.80}.")
        kind: Any = np.dtypes.StringDType() if dtype == "T" else np.dtype(dtype)
        if kind.itemsize * len(items) > LARGEST:
            raise ValueError(f"{len(items)} labels of {kind.itemsize} bytes.")
        # Filled, not converted: of objects, `np.array` would guess another type.
        labels = np.empty(len(items), kind)
        labels[:] = items
        return labels

    def _object(self, value: dict[str, Any]) -> Any:
        name = value["type"]
        row = saved_type(name) if isinstance(name, str) else None
        if row is None:
            raise SavedFileError(f"the file names an unknown type, {name!r:.80}")
        params = {key: self.read(item) for key, item in value["params"].items()}
        state = {key: self.read(item) for key, item in value["state"].items()}
        if stray := [key for key in state if not row.is_state(key)]:
            raise SavedFileError(f"the file sets {stray[0]!r:.80}, which is no fitted attribute of {name}")
        # Parameters go through the constructor; fitted attributes are set, and those of another version left out.
        made = row.kind(**self._at_home(_with_new_names(name, params), row))
        vars(made).update({key: item for key, item in state.items() if not row.is_computed(key)})
        if isinstance(params.get("model"), AbsentEncoder):
            self.encoders.append(made)
        if row.finish is not None:
            row.finish(made)
        if row.numeric:
            try_out(made, self.arrays)
        return made

    def _at_home(self, params: dict[str, Any], row: SavedType) -> dict[str, Any]:
        """Parameters with what this machine has: its devices and its stores."""
        params = {**params, **dict.fromkeys(row.local)}
        # A custom encoder says by itself where it computes; for other models, this machine must have the device.
        if "device" in params and not isinstance(params.get("model"), AbsentEncoder):
            params["device"] = self.device or _available(params["device"])
        if params.get("store") is not None and not _can_be_used(params["store"]):
            params["store"] = None
        return params


def _with_new_names(name: str, params: dict[str, Any]) -> dict[str, Any]:
    """Parameters as this version calls them: the sparsity of an extractor was its `weights` in 0.1.0."""
    if name == "frofa.FrozenFeatureExtractor" and "weights" in params:
        weights = params["weights"]
        renamed = {"sparsity": None if weights == "dense" else weights}
        return {key: value for key, value in params.items() if key != "weights"} | renamed
    return params


def _available(device: str) -> str:
    try:
        resolve_device(device)
    except ValueError:
        return "auto"
    return device


def _can_be_used(store: Any) -> bool:
    """Whether a store is there, or can be made where it was."""
    path = store.path if isinstance(store, FeatureStore) else Path(store)
    return path.is_dir() or (not path.exists() and path.parent.is_dir() and os.access(path.parent, os.W_OK))


def _timestamp(text: str) -> Any:
    import pandas as pd

    return pd.Timestamp(text)
