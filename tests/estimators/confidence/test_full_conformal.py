"""Fits with a new sample of each label, and without each sample, are those that refitting gives."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import softmax

from frofa.augmentations import Brightness
from frofa.estimators import ConformalClassifier, PrototypeClassifier, RidgeProbeClassifier, ShrinkageProbeClassifier
from frofa.estimators.solvers.conformal.full import PENALTY, Discriminant, NearestMean, Refits, Ridge, probabilities
from frofa.estimators.solvers.ridge import decompose
from frofa.estimators.solvers.shrinkage.averaging import BIAS_SHOTS
from frofa.estimators.solvers.shrinkage.temperature import Targets, calibrate

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
N_CLASSES = 3
SHAPES = {"few": (14, 30), "many": (26, 6)}


def samples(shape: str) -> tuple[Array, Codes, Array]:
    """Features, classes, and three new samples, of which the second lies along the first."""
    n, width = SHAPES[shape]
    rng = np.random.default_rng(n)
    codes = np.concatenate([np.repeat(np.arange(N_CLASSES), 2), rng.integers(0, N_CLASSES, n - 2 * N_CLASSES)])
    new = rng.normal(size=(3, width)) + 2
    new[1] = 3 * new[0]
    return rng.normal(size=(n, width)) + 0.7 * codes[:, None] + 1, codes, new


def by_refitting(features: Array, codes: Codes) -> Array:
    """Scores of all samples without themselves, by the definition of the discriminant: (N, K)."""
    n, width = features.shape
    rows = features - features.mean(0)
    penalty, shots = PENALTY * (rows**2).sum() / (n - 1), n / N_CLASSES
    bias, found, counts, distances = shots / (shots + BIAS_SHOTS), np.empty((n, N_CLASSES)), [], []
    for i in range(n):
        others = np.arange(n) != i
        means = np.stack([rows[others & (codes == c)].mean(0) for c in range(N_CLASSES)])
        residuals = rows[others] - means[codes[others]]
        metric = penalty * np.linalg.inv(residuals.T @ residuals + penalty * np.eye(width))
        found[i] = rows[i] @ metric @ means.T - bias / 2 * np.einsum("cd,de,ce->c", means, metric, means)
        counts.append(np.bincount(codes[others], minlength=N_CLASSES))
        off = rows[i] - means[codes[i]]
        distances.append(off @ metric @ off / (1 + 1 / counts[-1][codes[i]]))
    return np.asarray(found + bias / 2 * np.mean(distances) / np.array(counts))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_discriminant_is_refitted_for_every_label_and_without_every_sample(shape: str) -> None:
    features, codes, new = samples(shape)
    fits = Discriminant.of(features, codes)
    for x in new:
        for label, found in enumerate(fits.scores(x)):
            expected = by_refitting(np.vstack([features, x]), np.append(codes, label))
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_ridge_is_refitted_and_chooses_its_penalty_anew(shape: str) -> None:
    features, codes, new = samples(shape)
    alphas: Array = 2.0 ** np.arange(-6.0, 8)
    chosen = set()
    for label, found in enumerate(Ridge(features, codes, N_CLASSES, alphas).scores(new[0])):
        rows, labels = np.vstack([features, new[0]]), np.append(codes, label)
        head = RidgeProbeClassifier(alphas).fit(rows, labels)
        targets = 2.0 * np.eye(N_CLASSES)[labels] - 1
        left_out = decompose(rows, targets, np.ones(len(rows))).leave_one_out(targets, head.alpha_)
        np.testing.assert_allclose(found, left_out, rtol=1e-8, atol=1e-8)
        chosen.add(head.alpha_)
    assert len(chosen) > 1 or shape == "many"


@pytest.mark.parametrize("shape", SHAPES)
def test_class_means_are_refitted(shape: str) -> None:
    features, codes, new = samples(shape)
    for label, found in enumerate(NearestMean(features, codes, N_CLASSES, True, True).scores(new[0])):
        rows, labels = np.vstack([features, new[0]]), np.append(codes, label)
        rows = rows - rows.mean(0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        for i in range(len(rows)):
            others = np.arange(len(rows)) != i
            means = np.stack([rows[others & (labels == c)].mean(0) for c in range(N_CLASSES)])
            np.testing.assert_allclose(found[i], rows[i] @ means.T - (means**2).sum(1) / 2, rtol=1e-8, atol=1e-8)


def test_p_values_of_the_probe_are_those_of_refitting_for_every_label() -> None:
    features, codes, new = samples("few")
    model = ConformalClassifier(ShrinkageProbeClassifier(), 0.6, method="full").fit(features, codes)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.empty((len(new), N_CLASSES))
    for j, x in enumerate(new):
        for label in range(N_CLASSES):
            rows, labels = np.vstack([unit, x / np.linalg.norm(x)]), np.append(codes, label)
            scores, ones = by_refitting(rows, labels), np.ones(len(rows))
            parts = np.zeros((1, *scores.shape)), labels[None], ones[None], np.array([ones.sum()])
            scale, _ = calibrate(torch.from_numpy(scores)[None, None], Targets(*map(torch.from_numpy, parts)))
            own = 1 - softmax(scores * float(scale), axis=1)[np.arange(len(rows)), labels]
            expected[j, label] = (own >= own[-1]).mean()
    np.testing.assert_allclose(model.p_values(new), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["discriminant", "ridge", "means"])
def test_all_samples_count_in_the_same_way_whichever_is_the_new_one(kind: str) -> None:
    features, codes, _ = samples("many")

    def probabilities_of(last: int) -> Array:
        """Probabilities of the labels of all samples, of which this one is taken for new."""
        others = np.delete(np.arange(len(codes)), last)
        rows, labels, alphas = features[others], codes[others], np.array([0.1, 1.0, 10.0])
        fits: Refits = Discriminant.of(rows, labels)
        if kind != "discriminant":
            ridge, means = Ridge(rows, labels, N_CLASSES, alphas), NearestMean(rows, labels, N_CLASSES, True, True)
            fits = ridge if kind == "ridge" else means
        order = np.append(others, last)
        found = probabilities(fits, features[[last]], None)[0, codes[last]]
        own: Array = found[order.argsort(), codes]
        return own

    np.testing.assert_allclose(probabilities_of(3), probabilities_of(len(codes) - 1), rtol=1e-7)


def test_a_sample_that_is_the_only_one_of_its_class_conforms_least() -> None:
    features, codes, new = samples("many")
    codes[codes == 2] = 1
    codes[5] = 2
    found = probabilities(Discriminant.of(features, codes), new[:1], np.zeros(3))[0]
    assert found[0, 5, 2] == found[1, 5, 2] == 0
    assert found[2, 5, 2] > 0
    np.testing.assert_allclose(found.sum(2), 1)


def test_other_heads_are_refused_by_name() -> None:
    features, codes, _ = samples("many")
    head = PrototypeClassifier()
    weights = np.linspace(1, 2, len(codes))
    augmented = RidgeProbeClassifier(augment=Brightness(0.1), random_state=0)
    with pytest.raises(ValueError, match="samples that count the same"):
        ConformalClassifier(head, 0.6, method="full").fit(features, codes, sample_weight=weights)
    with pytest.raises(ValueError, match=r"closed form: .*Got RidgeProbeClassifier\(augment"):
        ConformalClassifier(augmented, 0.6, method="full").fit(features, codes)
