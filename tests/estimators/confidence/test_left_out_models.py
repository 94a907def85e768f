"""Models without a sample score others as models that were fitted without it do."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.utils.class_weight import compute_sample_weight

from frofa.estimators import FewShotClassifier, PrototypeClassifier, RidgeProbeClassifier, ShrinkageProbeClassifier
from frofa.estimators.confidence.closed_form import checked, closed_form_of, kept_of, left_out
from frofa.estimators.solvers.conformal.left_out import AveragedLeftOut, RidgeLeftOut
from frofa.estimators.solvers.ridge import BIAS, decompose
from frofa.estimators.solvers.shrinkage.averaging import BIASES
from frofa.estimators.solvers.shrinkage.fitting import Problems
from frofa.estimators.solvers.shrinkage.path import DECADES

Array = npt.NDArray[np.float64]
N_CLASSES = 3


def samples(n: int = 20, width: int = 6) -> tuple[Array, npt.NDArray[np.intp], Array, Array]:
    """Features, classes, weights, and new samples."""
    rng = np.random.default_rng(1)
    codes = rng.permutation(np.arange(n) % N_CLASSES)
    return rng.normal(size=(n, width)) + codes[:, None], codes, rng.uniform(0.5, 2, n), rng.normal(size=(4, width))


def test_ridge_is_refitted_without_each_sample() -> None:
    features, codes, weights, new = samples()
    targets, alpha = 2.0 * np.eye(N_CLASSES)[codes] - 1, 3.0
    path = decompose(features, targets, weights)
    found = RidgeLeftOut.of(path, alpha, targets).scores(new)
    # The constant feature comes last.
    z, z_new = ((rows - path.mean) / path.scale for rows in (features, new))
    z, z_new = (np.column_stack([rows, np.full(len(rows), BIAS)]) for rows in (z, z_new))
    for i in range(len(codes)):
        w = np.where(np.arange(len(codes)) == i, 0, weights)[:, None]
        coef = np.linalg.solve(z.T @ (w * z) + alpha * np.eye(z.shape[1]), z.T @ (w * targets))
        np.testing.assert_allclose(found[:, i], z_new @ coef, rtol=1e-8, atol=1e-8)


def test_class_means_are_moved() -> None:
    features, codes, weights, new = samples()
    head = PrototypeClassifier(normalize=False, center=False, calibrate=False).fit(features, codes, weights)
    models = left_out(head, kept_of(head, features, codes, weights))
    for i in range(len(codes)):
        others = np.delete(np.arange(len(codes)), i)
        refitted = PrototypeClassifier(normalize=False, center=False, calibrate=False).fit(
            features[others], codes[others], weights[others]
        )
        np.testing.assert_allclose(models.of_new(new)[:, i], refitted.predict_proba(new), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(models.own[i], refitted.predict_proba(features[[i]])[0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("width", [6, 30])
def test_averaged_discriminants_are_refitted_without_each_sample(width: int) -> None:
    features, codes, weights, new = samples(width=width)
    problems = Problems(
        [[torch.from_numpy(features)[None]]],
        torch.ones(1, 1, dtype=torch.float64),
        torch.from_numpy(codes)[None],
        torch.from_numpy(weights)[None],
        N_CLASSES,
        torch.zeros(1, 3),
    )
    models = AveragedLeftOut.of(problems)
    found = models.scores_of([[torch.from_numpy(new)[None]]])
    expected = np.zeros_like(found)
    scaled = weights * len(weights) / weights.sum()
    for stage, left, factors in zip(_rows(models, features, new), models.lefts, models.factors, strict=True):
        rows, rows_new = stage
        noise, uncertainty = left.noise[0].numpy(), left.uncertainty[0].numpy()
        for i in range(len(codes)):
            w = np.where(np.arange(len(codes)) == i, 0, scaled)
            means = np.stack([np.average(rows[codes == c], axis=0, weights=w[codes == c]) for c in range(N_CLASSES)])
            residuals = rows - means[codes]
            scatter = (residuals.T * w) @ residuals
            for number in range(len(DECADES)):
                metric = np.linalg.inv(np.eye(len(scatter)) + float(left.path.inverse[0, number]) * scatter)
                squares = np.einsum("cd,de,ce->c", means, metric, means) - noise[number] * uncertainty[i]
                for bias, factor in zip(BIASES, factors[0, number].tolist(), strict=True):
                    expected[:, i] += factor * (rows_new @ metric @ means.T - bias / 2 * squares)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)


def _rows(models: AveragedLeftOut, *sets: Array) -> list[list[Array]]:
    from frofa.estimators.solvers.shrinkage.spaces import spaces_of

    spaces = [spaces_of([[torch.from_numpy(rows)[None]]], models.shares, models.stages) for rows in sets]
    return [[each[0].numpy() for each in space] for space in zip(*spaces, strict=True)]


@pytest.mark.parametrize("head", [ShrinkageProbeClassifier(class_weight="balanced"), FewShotClassifier()], ids=repr)
def test_the_probe_knows_its_own_left_out_probabilities(head: ShrinkageProbeClassifier | FewShotClassifier) -> None:
    features, codes, weights, _ = samples(26)
    fitted = head.fit(features, codes, weights)
    inner = closed_form_of(fitted)
    models = left_out(fitted, kept_of(inner, features, codes, weights))
    known = fitted.loo_proba_ if fitted is inner else fitted.out_of_fold_proba_
    np.testing.assert_allclose(models.own, known, rtol=1e-7, atol=1e-12)
    # A training sample that comes again is scored by the model without it as when it was left out.
    again = models.of_new(checked(inner, features))
    np.testing.assert_allclose(again[np.arange(26), np.arange(26)], known, rtol=1e-7, atol=1e-10)


def test_ridge_models_have_weights_of_classes() -> None:
    features, codes, _, new = samples()
    codes[codes == 2] = 1
    head = RidgeProbeClassifier(class_weight="balanced", calibrate=False).fit(features, codes)
    weighted = RidgeProbeClassifier(calibrate=False).fit(features, codes, compute_sample_weight("balanced", codes))
    found, expected = (
        left_out(one, kept_of(one, features, codes, w)).of_new(new)
        for one, w in ((head, None), (weighted, compute_sample_weight("balanced", codes)))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.shape == (4, 20, 2)
