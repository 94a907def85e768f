"""The probe of several labels an image: exact without each sample, calibrated, and in scikit-learn's conventions."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from refitting import refit
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, f1_score, log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler

import frofa
from frofa import FeatureBlocks
from frofa.estimators import MultiLabelProbeClassifier
from frofa.estimators.solvers.outputs.calibration import calibrate, discriminant_lines, log_odds, smoothed
from frofa.estimators.solvers.outputs.thresholds import f1_thresholds

Array = npt.NDArray[Any]
SHARES = np.array([0.5, 0.2, 0.1, 0.03])


def images(n: int, seed: int = 0) -> tuple[Array, Array]:
    """Features (n, 20) that tell of four labels of these shares, with noise."""
    rng = np.random.default_rng(seed)
    y = (rng.uniform(size=(n, 4)) < SHARES).astype(int)
    directions = np.random.default_rng(99).normal(size=(4, 20))
    return (y - SHARES) @ directions + 1.5 * rng.normal(size=(n, 20)), y


X, Y = images(150)
NEW_X, NEW_Y = images(2000, seed=1)
NAMES = ["dog", "cat", "sky", "sea"]


def test_left_out_probabilities_are_those_of_fits_without_the_sample() -> None:
    x, y = X[:12], (X[:12, :2] > 0).astype(float)
    rng = np.random.default_rng(0)
    blocks = FeatureBlocks({"a": [x + 0.2 * rng.normal(size=x.shape) for _ in range(2)]})
    w = rng.uniform(0.5, 2, 12)
    head = MultiLabelProbeClassifier().fit(blocks, y, w)
    fits = [refit(blocks, y[:, label], blocks, w) for label in range(2)]
    left_out, scores = (np.stack(part, 1) for part in list(zip(*fits, strict=True))[:2])
    lines, base = calibrate(left_out, y, w / w.mean())
    np.testing.assert_allclose(head.loo_proba_, expit(left_out * lines.slope + lines.offset + base), atol=1e-8)
    np.testing.assert_allclose(head.predict_proba(blocks), expit(scores * lines.slope + lines.offset + base), atol=1e-8)


def test_probabilities_are_calibrated_and_left_out_ones_say_how_good_they_are() -> None:
    head = MultiLabelProbeClassifier().fit(X, Y)
    p = head.predict_proba(NEW_X)
    assert p.shape == NEW_Y.shape
    for label in range(4):
        losses = [log_loss(NEW_Y[:, label], expit(f * logit(p[:, label]) + s)) for f, s in ((1, 0), (0.5, 0), (2, 0))]
        assert losses[0] < min(losses) + 0.02
        assert p[:, label].mean() == pytest.approx(NEW_Y[:, label].mean(), abs=0.06)
        precision = average_precision_score(NEW_Y[:, label], p[:, label])
        if label < 2:
            assert head.loo_average_precision_[label] == pytest.approx(precision, abs=0.2)
            assert head.loo_average_precision_[label] == average_precision_score(Y[:, label], head.loo_proba_[:, label])
    assert average_precision_score(NEW_Y, p) > 2 * NEW_Y.mean()


def test_lines_are_those_that_minimise_what_they_say() -> None:
    rng = np.random.default_rng(0)
    scores, w = Y + rng.normal(size=Y.shape), rng.uniform(0.5, 1.5, len(Y))
    w /= w.mean()
    lines, base = calibrate(scores, Y.astype(float), w)
    plain, targets = discriminant_lines(scores, Y.astype(float), w), smoothed(Y.astype(float), w)
    logits = scores * plain.slope + plain.offset

    def loss(log: Any, offset: Any = 0.0) -> Any:
        z = np.exp(log) * logits + base + offset
        return w @ (np.logaddexp(0, z) - targets * z)

    common = minimize(lambda v: loss(v[0]).sum() + 2 * v[0] ** 2, [0.0]).x[0]
    for label in range(4):

        def own_loss(v: Any, label: int = label) -> Any:
            return loss(v[0], v[1])[label] + 2 * ((v[0] - common) ** 2 + v[1] ** 2)

        own = minimize(own_loss, [common, 0.0]).x
        assert lines.slope[label] == pytest.approx(np.exp(own[0]) * plain.slope[label], rel=1e-3)
        assert lines.offset[label] == pytest.approx(np.exp(own[0]) * plain.offset[label] + own[1], rel=1e-3, abs=1e-3)


def test_thresholds_are_best_in_expected_f1() -> None:
    p, w = np.random.default_rng(0).beta(0.5, 2, size=(60, 3)), np.random.default_rng(1).uniform(size=60)
    found = f1_thresholds(p, w)

    def expected(cut: float, label: int) -> float:
        chosen = p[:, label] > cut
        return float(2 * w[chosen] @ p[chosen, label] / (w[chosen].sum() + w @ p[:, label]))

    for label in range(3):
        grid = [expected(cut, label) for cut in np.linspace(0.01, 0.99, 400)]
        assert expected(found[label], label) >= max(grid) - 1e-9
    chosen, plain = (MultiLabelProbeClassifier(threshold=t).fit(X, Y) for t in ("auto", 0.5))
    assert chosen.thresholds_[3] < chosen.thresholds_[0]
    f1 = [f1_score(NEW_Y, head.predict(NEW_X), average="macro") for head in (chosen, plain)]
    assert f1[0] > f1[1] + 0.05
    np.testing.assert_array_equal(chosen.predict(NEW_X), chosen.predict_proba(NEW_X) > chosen.thresholds_)
    np.testing.assert_array_equal(chosen.predict(NEW_X), chosen.decision_function(NEW_X) > 0)
    each = MultiLabelProbeClassifier(threshold=[0.1, 0.2, 0.3, 0.4]).fit(X, Y)
    np.testing.assert_array_equal(each.predict(NEW_X), each.predict_proba(NEW_X) > [0.1, 0.2, 0.3, 0.4])


def test_labels_without_samples_and_of_one_sample_are_finite() -> None:
    y = np.stack([np.zeros(150), np.ones(150), np.arange(150) == 7, Y[:, 0]], 1)
    for prior in ("empirical", "uniform"):
        head = MultiLabelProbeClassifier(class_prior=prior, threshold="auto").fit(X, y)
        p = head.predict_proba(NEW_X)
        np.testing.assert_allclose(p[:, 0], 0.5 / 151)
        np.testing.assert_allclose(p[:, 1], 150.5 / 151)
        assert np.isnan(head.loo_average_precision_[:2]).all()
        assert np.isfinite(head.loo_proba_).all()
    assert MultiLabelProbeClassifier().fit(X, y).predict_proba(NEW_X)[:, 2].max() < 0.5
    alone = MultiLabelProbeClassifier().fit(X, Y[:, :1])
    np.testing.assert_allclose(
        alone.predict_proba(NEW_X)[:, 0] > 0.5, MultiLabelProbeClassifier().fit(X, Y).predict(NEW_X)[:, 0], atol=1
    )
    assert alone.predict(NEW_X).shape == (2000, 1)


def test_priors_move_probabilities_and_nothing_else() -> None:
    plain = MultiLabelProbeClassifier().fit(X, Y)
    for prior, wanted in (
        ([0.9, 0.2, 0.1, 0.5], [0.9, 0.2, 0.1, 0.5]),
        (0.25, [0.25] * 4),
        ("uniform", [0.5] * 4),
    ):
        moved = MultiLabelProbeClassifier(class_prior=prior).fit(X, Y)
        shift = logit(moved.predict_proba(NEW_X)) - logit(plain.predict_proba(NEW_X))
        expected = logit(np.array(wanted)) - log_odds(Y.astype(float), np.ones(len(Y)))
        np.testing.assert_allclose(shift, np.broadcast_to(expected, shift.shape), atol=1e-6)
    named = MultiLabelProbeClassifier(class_prior={"sea": 0.5}).fit(X, pd.DataFrame(Y, columns=NAMES))
    np.testing.assert_allclose(named.predict_proba(X)[:, :3], plain.predict_proba(X)[:, :3])
    assert (named.predict_proba(X)[:, 3] > plain.predict_proba(X)[:, 3]).all()


@pytest.mark.parametrize("one", [np.array(["b", "a", "c"])[np.arange(150) % 3], np.arange(150) % 2 == 0])
def test_one_label_an_image_is_told_from_the_rest(one: Array) -> None:
    x = X + 3 * np.equal.outer(one, np.unique(one)) @ np.eye(3, 20)[: len(np.unique(one))]
    head = MultiLabelProbeClassifier().fit(x, one)
    assert head.score(x, one) > 0.85
    np.testing.assert_allclose(head.predict_proba(x).sum(1), 1)
    np.testing.assert_allclose(head.loo_proba_.sum(1), 1)
    np.testing.assert_array_equal(head.classes_[head.predict_proba(x).argmax(1)], head.predict(x))


def test_indicators_of_every_kind_are_taken() -> None:
    expected = MultiLabelProbeClassifier().fit(X, Y).predict_proba(X)
    frame = pd.DataFrame(Y, columns=NAMES)
    for y in (Y.tolist(), Y.astype(bool), Y.astype(float), torch.from_numpy(Y), csr_array(Y), frame):
        np.testing.assert_array_equal(MultiLabelProbeClassifier().fit(X, y).predict_proba(X), expected)
    assert MultiLabelProbeClassifier().fit(X, frame).classes_.tolist() == NAMES
    sets = [{name for name, has in zip(NAMES, row, strict=True) if has} for row in Y]
    made = MultiLabelProbeClassifier().fit(X, MultiLabelBinarizer(classes=NAMES).fit_transform(sets))
    np.testing.assert_array_equal(made.predict_proba(X), expected)


@pytest.mark.parametrize(
    ("y", "parameters", "message"),
    [
        ([["dog"], ["cat", "sky"]] * 75, {}, "MultiLabelBinarizer"),
        ([{"dog"}, {"cat"}] * 75, {}, "MultiLabelBinarizer"),
        (Y * 2.5, {}, r"Unknown label type.*Got the value 2.5"),
        (np.where(Y == 1, np.nan, 0), {}, "Input y contains NaN"),
        (np.random.default_rng(0).normal(size=150), {}, "Unknown label type"),
        (None, {}, "requires y to be passed"),
        (np.ones(150), {}, "at least 2 classes"),
        (Y, {"threshold": 1.5}, "threshold must be between 0 and 1"),
        (Y, {"threshold": "best"}, "threshold must be 'auto'"),
        (Y, {"class_prior": [0.5, 0.5]}, "class_prior must be between 0 and 1, for all labels or each of 4"),
        (Y, {"class_prior": {"cow": 0.5}}, "'cow', which is none of the labels"),
    ],
)
def test_what_is_no_indicator_is_an_error(y: Any, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiLabelProbeClassifier(**parameters).fit(X, y)


def test_it_works_with_the_tools_of_scikit_learn() -> None:
    proba = cross_val_predict(MultiLabelProbeClassifier(), X, Y, method="predict_proba", cv=3)
    assert proba.shape == (150, 4)
    grid = {"threshold": [0.5, "auto"], "block_sizes": [None, [10, 10]]}
    search = GridSearchCV(MultiLabelProbeClassifier(), grid, scoring="average_precision", cv=3, error_score="raise")
    assert 0.4 < search.fit(X, Y[:, :3]).best_score_ < 1
    macro = cross_val_score(MultiLabelProbeClassifier(threshold="auto"), X, Y[:, :3], scoring="f1_macro", cv=3)
    assert macro.mean() > 0.3


@pytest.mark.parametrize("y", [Y, Y[:, :1], pd.DataFrame(Y, columns=NAMES), Y[:, 0], np.arange(150) % 3])
def test_it_is_saved(y: Any, tmp_path: Path) -> None:
    pipeline = make_pipeline(StandardScaler(), MultiLabelProbeClassifier(threshold="auto")).fit(X, y)
    frofa.save(pipeline, tmp_path / "labels.frofa")
    loaded = frofa.load(tmp_path / "labels.frofa")
    np.testing.assert_array_equal(loaded.predict_proba(X), pipeline.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), pipeline.predict(X))
    assert loaded[-1].classes_.tolist() == pipeline[-1].classes_.tolist()
