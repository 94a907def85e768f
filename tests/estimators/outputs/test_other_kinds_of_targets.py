"""Classifiers that are given several labels of each sample, or numbers, name what takes these."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frofa import ImageClassifier
from frofa.estimators import (
    FewShotClassifier,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
    SoftMoEClassifier,
)

X = np.random.default_rng(0).normal(size=(12, 6))
SEVERAL = np.arange(36).reshape(12, 3) % 2
NUMBERS = np.linspace(0.1, 0.9, 12)
SETS = [["dog"], ["dog", "cat"], []] * 4
HEADS = [
    FewShotClassifier(),
    LogisticProbeClassifier(),
    MAPClassifier(),
    PrototypeClassifier(),
    RidgeProbeClassifier(),
    ShrinkageProbeClassifier(),
    SoftMoEClassifier(),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_heads_name_the_estimator_of_other_targets(head: Any) -> None:
    name = type(head).__name__
    with pytest.raises(
        ValueError, match=rf"{name} takes one label.*\(12, 3\): MultiLabelProbeClassifier takes several"
    ):
        head.fit(X, SEVERAL)
    with pytest.raises(ValueError, match="lists of labels: MultiLabelProbeClassifier"):
        head.fit(X, SETS)
    with pytest.raises(ValueError, match=r"Unknown label type: continuous.*ShrinkageRegressor predicts numbers"):
        head.fit(X, NUMBERS)


def test_samples_that_are_added_are_checked_likewise() -> None:
    with pytest.raises(ValueError, match="MultiLabelProbeClassifier takes several"):
        ShrinkageProbeClassifier().partial_fit(X, SEVERAL)
    with pytest.raises(ValueError, match="ShrinkageRegressor predicts numbers"):
        ShrinkageProbeClassifier().partial_fit(X, NUMBERS)


def test_images_are_not_read_for_targets_of_another_kind(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.jpg") for i in range(12)]
    with pytest.raises(ValueError, match=r"ImageClassifier takes one label.*MultiLabelProbeClassifier takes several"):
        ImageClassifier().fit(paths, SEVERAL)
    with pytest.raises(ValueError, match="ShrinkageRegressor predicts numbers"):
        ImageClassifier().fit(paths, NUMBERS)
