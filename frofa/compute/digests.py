"""Digests: the same in every process, another one as soon as the value, or the model, differs."""

import os
import pickle
import re
from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import blake2b
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

from frofa.exceptions import CheckpointError

# A digest names classes by their modules, and attributes by their names. Checkpoints outlive both: what has moved or
# was renamed since the first ones were written is digested under its former name.
FORMER_MODULES = {
    "frofa._onnx": ("OnnxEncoder",),
    "frofa.augmentations.pointwise": ("Brightness", "Contrast", "Invert", "Posterize", "Solarize"),
    "frofa.augmentations.sharpness": ("Equalize",),
    "frofa.encoders": ("FunctionEncoder", "TorchEncoder"),
    "frofa.estimators.ragged": ("RaggedTokens",),
    "frofa.extractor": ("FrozenFeatureExtractor",),
    "frofa.inputs.archives": ("MissingMember", "TarMember", "ZipMember"),
    "frofa.inputs.datasets": ("DatasetRow",),
    "frofa.inputs.video": ("VideoFrame",),
    "frofa.store.array": ("FeatureArray",),
    "frofa.store.index": ("Index",),
    "frofa.store.reading": ("ShardRows",),
    "frofa.store.shard": ("Shard",),
    "frofa.store.source": ("FeatureSource",),
    "frofa.store.table": ("SpecTable", "_View"),
}
FORMER_CLASSES = {"FeatureSource": "Source"}
FORMER_ATTRIBUTES = {
    ("FeatureArray", "_inner"): "_steps",
    ("FeatureSource", "inner"): "steps",
    ("FrozenFeatureExtractor", "sparsity"): "weights",
}
LATER_PARAMETERS = {
    ("PrototypeClassifier", "calibrate"): True,
    ("RidgeProbeClassifier", "calibrate"): True,
    ("LogisticProbeClassifier", "calibrate"): False,
    ("TokenClassifier", "calibrate"): False,
    ("FewShotClassifier", "calibrate"): True,
    ("ShrinkageProbeClassifier", "calibrate"): True,
    **{
        (f"{kind}Classifier", name): value
        for kind in ("ShrinkageProbe", "FewShot")
        for name, value in {
            **dict.fromkeys(("prior", "class_names", "text", "text_block")),
            "templates": "auto",
        }.items()
    },
    ("FeatureClassifier", "class_prior"): None,
    ("FeatureClassifier", "reject"): None,
    ("FeatureClassifier", "reject_label"): None,
    ("FeatureClassifier", "novelty"): "auto",
    ("FrozenFeatureExtractor", "n_views"): 1,
    ("FrozenFeatureExtractor", "view_area"): (0.5, 1.0),
    ("FrozenFeatureExtractor", "mirror"): True,
    ("PretrainedHead", "query"): None,
}
"""Parameters that classes of frofa's did not have when the first checkpoints were written, with values that change
nothing: with these, a digest leaves them out."""
_FORMER_MODULE = {name: module for module, names in FORMER_MODULES.items() for name in names}


def digest(*values: Any) -> str:
    """Digest of parameters, estimators, functions, arrays and collections of these, in 32 characters.

    A CheckpointError says that a value is of a type that cannot be told from another.
    """
    try:
        return _digest(values).hex()
    except RecursionError as error:
        raise CheckpointError("a search with a checkpoint cannot take values that contain themselves.") from error


def digest_data(X: Any) -> str:
    """Digest of the samples of a search; of images that are given as paths, that of the files' content.

    Features of a store have one that does not depend on what was read of them, and where they lie.
    """
    if hasattr(X, "_digested"):
        return digest(X._digested())
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUT":
        return digest(X)
    items = X.to_numpy().ravel().tolist() if hasattr(X, "iloc") else X
    items = items.ravel().tolist() if isinstance(items, np.ndarray) else items
    if not isinstance(items, list) or not all(isinstance(item, (str, os.PathLike)) for item in items):
        return digest(X)
    return digest(X, [_file(item) for item in items])


def former_digest_of_data(X: Any) -> str | None:
    """Digest that samples have in checkpoints of earlier versions; None where it is that of today."""
    return digest(X) if hasattr(X, "_digested") else None


def is_encoder(value: object) -> bool:
    """Tell whether a value is an encoder of the user's, which says by its `spec` what it is (``frofa.Encoder``)."""
    return callable(value) and isinstance(getattr(value, "spec", None), (str, Mapping))


def weights_digest(module: nn.Module) -> str:
    """Digest of a module's parameters and buffers: the same on every machine and with every version of timm."""
    hasher = blake2b(digest_size=20, person=b"frofa-weights")
    for name, tensor in sorted(module.state_dict().items()):
        hasher.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def architecture_digest(module: nn.Module) -> str:
    """Digest of all but the weights of a module: its parts and their plain settings (heads, eps, ...).

    Another version of timm or torch may give another digest for the same computation: then features are extracted
    again, which is safe.
    """
    hasher = blake2b(digest_size=20, person=b"frofa-module")
    # Functions and objects in a repr have addresses, which differ from process to process.
    hasher.update(re.sub(r" at 0x[0-9a-f]+", "", repr(module)).encode())
    for name, part in module.named_modules():
        for key, value in sorted(vars(part).items()):
            if isinstance(value, (int, float, str)) and key not in ("training", "fused_attn"):
                hasher.update(f"{name}.{key}={value!r};".encode())
    return hasher.hexdigest()


def _file(path: str | os.PathLike[str]) -> bytes | None:
    try:
        return blake2b(Path(path).read_bytes(), digest_size=16).digest()
    except OSError:
        return None


def _digest(value: Any) -> bytes:
    hasher = blake2b(digest_size=16, person=b"frofa-search")
    for part in _parts(value):
        if isinstance(part, np.ndarray):
            hasher.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        else:
            data = part if isinstance(part, bytes) else str(part).encode(errors="surrogatepass")
            # With its length before it, no two sequences of parts are the same bytes.
            hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.digest()


def _parts(value: Any) -> Iterable[str | bytes | np.ndarray[Any, Any]]:
    """Take a value apart: into a name for its kind, then bytes and arrays."""
    if isinstance(value, np.generic) and value.dtype.kind != "V":
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return type(value).__name__, repr(value)
    if isinstance(value, bytes):
        return "bytes", value
    if isinstance(value, os.PathLike):
        return "path", os.fspath(value)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().float().numpy()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject or value.dtype.kind == "T":
            return "objects", str(value.shape), *map(_digest, value.ravel().tolist())
        return "array", value.dtype.str, str(value.shape), value
    if isinstance(value, (list, tuple, range)):
        return type(value).__name__, *map(_digest, value)
    if isinstance(value, (set, frozenset)):
        return "set", *sorted(map(_digest, value))
    if isinstance(value, Mapping):
        return "dict", *sorted(_digest(key) + _digest(item) for key, item in value.items())
    return _parts_of_object(value)


def _parts_of_object(value: Any) -> Iterable[str | bytes | np.ndarray[Any, Any]]:
    if isinstance(value, type):
        return "name", _module_of(value), value.__qualname__
    if isinstance(value, (BuiltinFunctionType, np.ufunc)):
        return "name", getattr(value, "__module__", None) or "", getattr(value, "__qualname__", value.__name__)
    if isinstance(value, FunctionType):
        # Functions of one name may differ in code, in defaults, and in what they have closed over.
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        rest = (value.__defaults__, value.__kwdefaults__, cells)
        return "function", value.__module__, value.__qualname__, _digest(value.__code__), _digest(rest)
    if isinstance(value, CodeType):
        return "code", value.co_code, _digest(value.co_names), _digest(value.co_consts)
    if isinstance(value, MethodType):
        return "method", _digest(value.__func__), _digest(value.__self__)
    if isinstance(value, partial):
        return "partial", _digest((value.func, value.args, value.keywords))
    name = type(value).__qualname__
    kind = f"{_module_of(type(value))}.{FORMER_CLASSES.get(name, name)}"
    if is_encoder(value):
        return kind, _digest(value.spec)
    if hasattr(value, "feature_names") and hasattr(value, "_digested"):  # FeatureBlocks
        return kind, _digest(value._digested())
    if isinstance(value, np.random.RandomState):
        return kind, _digest(value.get_state(legacy=False))
    if isinstance(value, np.random.Generator):
        return kind, _digest(value.bit_generator.state)
    if hasattr(value, "get_params"):
        params = value.get_params(deep=False)
        params.pop("store", None)  # where features are kept, not what they are
        return kind, _digest(_with_former_names(value, params))
    if hasattr(value, "iloc"):  # pandas
        columns = [value[name] for name in value] if value.ndim == 2 else [value]
        return kind, _digest([(column.name, column.to_numpy()) for column in columns])
    if hasattr(value, "tocsr"):  # scipy.sparse
        rows = value.tocsr()
        return kind, _digest((rows.shape, rows.data, rows.indices, rows.indptr))
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # PIL
        return kind, value.mode, str(value.size), value.tobytes()
    if isinstance(value, (slice, type(Ellipsis))):
        return kind, repr(value)
    if getattr(value, "__dict__", None):
        return kind, _digest(_with_former_names(value, vars(value)))
    try:
        return kind, _pickled(value)
    except Exception as error:
        raise CheckpointError(
            f"a search with a checkpoint cannot tell whether {value!r} is the same: {error}"
        ) from error


def _module_of(kind: type) -> str:
    """The module of a class; of one of frofa's that has moved, the former one."""
    now = str(kind.__module__)
    return _FORMER_MODULE.get(kind.__qualname__, now) if now.startswith("frofa.") else now


def _with_former_names(value: object, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Name attributes, or parameters, as they were named when the first checkpoints were written, and no later ones."""
    kinds = [kind.__qualname__ for kind in type(value).__mro__ if kind.__module__.startswith("frofa.")]
    former = {new: old for (kind, new), old in FORMER_ATTRIBUTES.items() if kind in kinds}
    added = {name: default for (kind, name), default in LATER_PARAMETERS.items() if kind in kinds}
    renamed = {
        former.get(name, name): item
        for name, item in attributes.items()
        if name not in added or isinstance(item, np.ndarray) or item != added[name]
    }
    if "sparsity" in former and renamed["weights"] is None:
        renamed["weights"] = "dense"
    return renamed


def _pickled(value: Any) -> bytes:
    """The pickle of an object, as it was before its class moved."""
    data, now, former = pickle.dumps(value, protocol=4), type(value).__module__, _module_of(type(value))
    if now == former:
        return data
    # Two bytes of the version, one and eight of the length of what follows, then the name of the class.
    data = data[11:].replace(_in_pickle(now), _in_pickle(former), 1)
    return b"\x80\x04\x95" + len(data).to_bytes(8, "little") + data


def _in_pickle(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()
