"""Saving and loading fitted estimators: one safetensors file with a JSON description, no pickle."""

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from frofa._version import __version__
from frofa.encoders.protocol import Encoder
from frofa.exceptions import SavedFileError
from frofa.persistence.encoders import put_encoder
from frofa.persistence.values import Arrays, Reader, encode
from frofa.utils.files import expand_home, write_atomically
from frofa.utils.json import Fail, check_fields, parse_json

SAVED_FORMAT = 2
READABLE = (1, 2)
"""Formats that can be read; format 1, of frofa 0.1.0, has fewer kinds of values."""


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Save an estimator, or a pipeline that starts with the extractor.

    The file holds parameters, fitted state and the versions of frofa and scikit-learn; of an extractor, its model's
    name, the digest of its weights and the path of its store, but neither the weights nor the store. Of a custom
    encoder it holds the spec, and `load` takes the encoder. The estimator is not changed.

    What can be saved are frofa's own estimators and augmentations, and of scikit-learn: linear models, discriminant
    analysis, naive Bayes and neighbours; scalers, `PCA` and selections of features; calibration, voting, stacking and
    one-versus-rest; `Pipeline`, `FeatureUnion` and `ColumnTransformer`. Of a search, at the top or inside, its
    ``best_estimator_`` is saved, and `load` returns that. Labels may be text, numbers, truth values and dates.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.
    path : path
        A file, by custom ``*.frofa``; an existing one is replaced, at once or not at all.

    Raises
    ------
    SavedFileError
        If the estimator, or something in it, is of another type; the message names it and lists what can be saved.

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
    try:
        root = encode(estimator, arrays, "estimator")
        if not isinstance(root, dict) or "type" not in root:
            raise SavedFileError(f"expected an estimator. Got {type(estimator).__name__}.")
        content = {"format": SAVED_FORMAT, "frofa": __version__, "scikit-learn": sklearn.__version__, "root": root}
        description = json.dumps(content, sort_keys=True)
        # Read back what is about to be written, so that a file that cannot be loaded is never made.
        Reader(arrays, None).read(parse_json(description, SavedFileError)["root"])
        data = to_safetensors(arrays, metadata={"frofa": description, "digest": _digest(description, arrays)})
    except SavedFileError:
        raise
    except Exception as error:
        raise SavedFileError(f"cannot save {type(estimator).__name__}: {_one_line(error)}") from error
    write_atomically(Path(expand_home(path)), lambda file: file.write(data))


def load(path: str | os.PathLike[str], *, device: str | None = None, encoder: Encoder | None = None) -> Any:
    """Load what `save` wrote. Nothing in the file is executed: types are taken from a fixed list.

    Files of frofa 0.1.0 are read, too. The store of an extractor comes back if its directory is on this machine or can
    be made there; otherwise the extractor has none. Every fitted part is tried on one row of numbers.

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
        If the file is damaged or was changed, is of another format version, names an unknown type or does not fit
        together, as what another scikit-learn wrote may not; or if it needs a custom encoder, and `encoder` is not
        given or has another spec, or is given and not needed.
    FileNotFoundError
        If there is no such file.
    """
    fail: Fail = lambda why: SavedFileError(f"{path} {why}")  # noqa: E731
    content, arrays = _read(Path(expand_home(path)).read_bytes(), fail)
    if content["format"] not in READABLE:
        raise fail(
            f"has format {content['format']}, written by frofa {content['frofa']}; this version "
            f"reads format {SAVED_FORMAT}."
        )
    reader = Reader(arrays, device)
    try:
        loaded = reader.read(content["root"])
    except Exception as error:  # constructors and NumPy raise a dozen types of what makes no sense
        raise fail(
            f"describes no estimator that this version can build: {_one_line(error)}{_versions(content)}"
        ) from error
    put_encoder(reader.encoders, encoder, str(path))
    return loaded


def _read(data: bytes, fail: Fail) -> tuple[dict[str, Any], Arrays]:
    """Description and arrays of a file, if it is as it was written."""
    try:
        arrays = from_safetensors(data)
    except Exception as error:  # Rust's, and KeyError for types that NumPy does not have
        raise fail(f"is not a file that frofa.save wrote, or it is damaged: {error}") from error
    foreign: Fail = lambda why: fail(f"is not a file that frofa.save wrote, or it is damaged: {why}")  # noqa: E731
    # A safetensors file begins with the length of its header, 8 bytes, and the header in JSON.
    header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")], foreign)
    metadata = check_fields(header.get("__metadata__"), {"frofa": str, "digest": str}, foreign)
    if _digest(metadata["frofa"], arrays) != metadata["digest"]:
        raise fail("was changed after it was saved, or is damaged: its digest differs.")
    content = parse_json(metadata["frofa"], foreign)
    return check_fields(content, {"format": int, "frofa": str, "root": dict}, foreign), arrays


def _digest(description: str, arrays: Arrays) -> str:
    digest = blake2b(description.encode(), digest_size=20, person=b"frofa-saved")
    # Sorted, as the library may read them in another order than they were written in.
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__:.500}"


def _versions(content: dict[str, Any]) -> str:
    """A hint that another scikit-learn wrote the file; empty if this one did."""
    version = content.get("scikit-learn")
    if version == sklearn.__version__:
        return ""
    return f" (saved with scikit-learn {version!s:.20}, read with {sklearn.__version__})"
