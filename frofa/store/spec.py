"""Specs: everything but the image that makes two features different.

A store finds a feature by two things. The *key* says which image it is of (`frofa.store.keys`). The *spec* says how it
was computed: weights, architecture, preprocessing, decoder, output, layer, norm, precision and dtype. Each spec has a
directory of its own, named by a digest of these fields. So two features are different ones if their keys or any field
of their specs differ, and the same one otherwise: names and places of files, time, batch size, device and number of
processes play no part. `FeatureStore.explain` names the fields in which what is asked for and what is stored differ.
"""

import json
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.store.disk.format import damaged
from frofa.utils.json import Fail, check_fields, read_json

FORMAT = 2
STORED: dict[str, str] = {"float32": "<f4", "float16": "<f2", "float64": "<f8", "bfloat16": "<u2"}
"""The NumPy type of each stored dtype; NumPy has no bfloat16, whose bits are kept as integers."""
FIELD_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(
        ("weights", "architecture", "preprocessing", "decoder", "output", "precision", "dtype"), (str, "text")
    ),
    "layer": ((int, type(None)), "a whole number or None"),
    "norm": (bool, "True or False"),
}
"""The types that each field of a spec may have, and what an error calls them."""


@dataclass(frozen=True)
class FeatureSpec:
    """Everything but the image that determines a feature.

    Attributes
    ----------
    weights, architecture : str
        Digests of the backbone's weights, after pruning by `sparsity`, and of what computes with them.
    preprocessing : str
        The preprocessing as JSON: size (the checkpoint's, `image_size`, or `max_tokens` and `enlarge`), interpolation,
        crop, mean and standard deviation; of other views of an image than the plain one, the view.
    decoder : str
        Name and version of the library that decodes images, number of the rules by which they become RGB, and the
        background of transparent ones.
    output : str
        What is taken of the backbone, as in `FrozenFeatureExtractor`.
    layer : int or None
        The layer it is taken from, as a non-negative index; None for a backbone without such layers.
    norm : bool
        Whether the final norm is applied.
    precision : str
        What the forward pass computes in, and what else changes its last bits: channels last, `compile`.
    dtype : str
        What features are stored in.
    """

    weights: str
    architecture: str
    preprocessing: str
    decoder: str
    output: str
    layer: int | None
    norm: bool
    precision: str
    dtype: str

    def __post_init__(self) -> None:
        """Raise a ValueError for what has no place in ``spec.json``."""
        for name, (kinds, called) in FIELD_TYPES.items():
            if not isinstance(value := getattr(self, name), kinds):
                raise ValueError(f"expected {called} as {name}. Got {value!r}.")
        if self.dtype not in STORED:
            raise ValueError(f"expected one of {', '.join(STORED)} as dtype. Got {self.dtype!r}.")

    @property
    def digest(self) -> str:
        """The name of this spec's directory: 40 hexadecimal digits."""
        # Sorted by name, so that the order of the fields in this class does not matter.
        canonical = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)
        return blake2b(canonical.encode(), digest_size=20, person=b"frofa-spec").hexdigest()

    @property
    def stored_dtype(self) -> npt.DTypeLike:
        """The NumPy type of the files."""
        return np.dtype(STORED[self.dtype])

    def to_json(self) -> bytes:
        """The content of ``spec.json``."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, path: Path) -> "FeatureSpec":
        """Read ``spec.json``; DamagedStoreError if its digest is not the directory's name."""
        fail = damaged(path)
        spec = cls.from_fields(read_json(path, fail), fail)
        if spec.digest != path.parent.name:
            raise fail(f"its digest is {spec.digest}")
        return spec

    @classmethod
    def from_fields(cls, content: object, fail: Fail) -> "FeatureSpec":
        """Make a spec of parsed JSON; raise what `fail` makes if it has not all fields of a spec, and only these."""
        fields = check_fields(content, {}, fail)
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise fail(str(error)) from error

    def differences(self, other: "FeatureSpec") -> dict[str, tuple[Any, Any]]:
        """The fields that differ, each with its value here and in the other."""
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
