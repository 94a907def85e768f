"""Facts as JSON can hold them."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from frofa.image_classifier.report import EvaluationReport
from frofa.learning_curves import LabelsNeeded
from frofa.reporting.facts.contents import Facts

IMAGES = {"picture", "pictures"}
"""Fields that hold images, which JSON does not."""


def to_plain(facts: Facts) -> dict[str, Any]:
    """Turn facts into lists, numbers and strings, without the images; numbers that are not finite become None."""
    found: dict[str, Any] = _plain(facts)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, (EvaluationReport, LabelsNeeded)):
        return _plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value) if one.name not in IMAGES}
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
