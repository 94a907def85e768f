"""Decisions by costs: expected costs by hand, sets, rejection, classifiers of others, saving."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import frofa
from frofa.estimators import AbstentionClassifier, LogisticProbeClassifier, PrototypeClassifier

CENTRES = 2 * np.random.default_rng(0).normal(size=(4, 12))


def draw(seed: int, shots: int, classes: Any = (0, 1, 2)) -> tuple[Any, Any]:
    codes = np.repeat(classes, shots)
    return CENTRES[codes] + np.random.default_rng(seed).normal(size=(len(codes), 12)), codes


X, CODES = draw(1, 20)
Y = np.array(["ant", "bee", "cow"])[CODES]
NEW, NEW_CODES = draw(2, 60, (0, 1, 2, 3))


def test_what_costs_least_is_said() -> None:
    model = AbstentionClassifier(
        PrototypeClassifier(), cost_error=2, cost_label=0.3, cost_reject=0.7, cost_unknown=3, unknown_share=0.2
    ).fit(X, Y)
    proba = -np.sort(-model.predict_proba(NEW), axis=1)
    odds = 0.2 / 0.8 * 0.5 / np.sqrt(model.novelty_p_value(NEW))
    unknown = odds / (1 + odds)
    costs = [np.full(240, 0.7)]
    for k in (1, 2, 3):
        costs.append((1 - unknown) * 2 * (1 - proba[:, :k].sum(1)) + unknown * 3 + 0.3 * (k - 1))
    np.testing.assert_allclose(model.expected_cost(NEW), np.stack(costs, 1), atol=1e-12)
    labels, sets = model.predict_set(NEW)
    assert sets.shape == (240, 3, 1)
    least = np.argmin(costs, axis=0)
    assert set(least) >= {0, 1}
    np.testing.assert_array_equal(sets.sum((1, 2)), least)
    np.testing.assert_array_equal(labels == "none of these", least == 0)
    np.testing.assert_array_equal(labels, model.predict(NEW))
    # What is said holds the likeliest labels, and the label is the first of them.
    said = least > 0
    assert sets[said, model.predict_proba(NEW)[said].argmax(1), 0].all()
    assert (labels[said] == model.classifier_.predict(NEW)[said]).all()


def test_costs_decide() -> None:
    def decided(**costs: float) -> Any:
        return AbstentionClassifier(LogisticProbeClassifier(), **costs).fit(X, Y).predict_set(NEW)[1][:, :, 0].sum(1)

    assert (decided(cost_reject=0) == 0).all()
    assert (decided(cost_reject=9, cost_label=9) == 1).all()
    assert (decided(cost_reject=9, cost_label=0) == 3).all()
    # Others are rejected more often than the known, and nobody because of novelty where none are expected.
    rejected = decided(cost_unknown=2, unknown_share=0.2) == 0
    assert rejected[NEW_CODES == 3].mean() > rejected[NEW_CODES < 3].mean() + 0.2
    sure = AbstentionClassifier(PrototypeClassifier(), unknown_share=0, cost_reject=0.5).fit(X, Y)
    least = sure.predict_proba(NEW).max(1)
    assert (sure.predict(NEW)[least > 0.5] != "none of these").all()


def test_it_pays() -> None:
    model = AbstentionClassifier(PrototypeClassifier(), cost_reject=0.3, unknown_share=0.25).fit(X, CODES)
    labels, sets = model.predict_set(NEW)
    rejected, known = labels == -1, NEW_CODES < 3
    missed = ~sets[np.arange(240), np.where(known, NEW_CODES, 0), 0]
    cost = np.where(rejected, 0.3, np.where(known, missed, 1.0) + 0.1 * (sets.sum((1, 2)) - 1))
    plain = np.where(known, model.classifier_.predict(NEW) != NEW_CODES, 1.0)
    assert cost.mean() < plain.mean() - 0.05


def test_classifiers_of_others_get_a_detector(tmp_path: Path) -> None:
    model = AbstentionClassifier(LogisticRegression()).fit(X, Y)
    np.testing.assert_array_equal(model.novelty_p_value(NEW), model.detector_.p_value(NEW))
    again = AbstentionClassifier(PrototypeClassifier()).fit(X, Y)
    assert not hasattr(again, "detector_")
    for each in (model, again):
        frofa.save(each, tmp_path / "m.frofa")
        assert frofa.load(tmp_path / "m.frofa").predict(NEW).tolist() == each.predict(NEW).tolist()


def test_the_label_of_what_is_rejected_is_none_of_the_classes() -> None:
    assert AbstentionClassifier(PrototypeClassifier()).fit(X, CODES - 1).reject_label_ == -2
    with pytest.raises(ValueError, match="which is one"):
        AbstentionClassifier(PrototypeClassifier(), reject_label="ant").fit(X, Y)
    with pytest.raises(ValueError, match="'cost_error' parameter"):
        AbstentionClassifier(PrototypeClassifier(), cost_error=-1).fit(X, Y)
