import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from features import CLASSES, SHOTS, real_features
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from frofa.estimators import LogisticProbeClassifier
from frofa.estimators.solvers.preconditioner import DENSE, preconditioner_of
from frofa.estimators.solvers.problems import Problems

Array = npt.NDArray[Any]
CASES = {
    "multinomial n < d": (5, ()),
    "multinomial, pooled n > d": (20, ()),
    "binary n < d": (15, CLASSES[:2]),
    "binary, pooled n > d": (SHOTS, CLASSES[:2]),
}


def case(name: str) -> tuple[Array, Array]:
    shots, classes = CASES[name]
    X, y = real_features("mean").shots(shots, *classes)
    if "pooled" in name:
        X = X.reshape(len(X), -1, 4).mean(2)
    return X.astype(np.float64), y


def objective(head: Any, X: Array, y: Array, weights: Array | float = 1.0) -> float:
    """C * summed cross-entropy + half the squared norm, from fitted coefficients."""
    scores = X @ head.coef_.T + head.intercept_
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    own = log_softmax(scores, axis=1)[np.arange(len(y)), np.searchsorted(head.classes_, y)]
    return float(-head.C * (weights * own).sum() + 0.5 * (head.coef_**2).sum())


def scikit_learn(X: Array, y: Array, sample_weight: Array | None = None, **params: Any) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its line search cannot always reach this tolerance
        return LogisticRegression(tol=1e-8, max_iter=3000, **params).fit(X, y, sample_weight)


def assert_same_fit(ours: LogisticProbeClassifier, theirs: LogisticRegression, X: Array, held_out: Array) -> None:
    scale = np.abs(theirs.coef_).max()
    assert ours.coef_.shape == theirs.coef_.shape
    assert ours.intercept_.shape == theirs.intercept_.shape
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=0, atol=1e-3 * scale)
    np.testing.assert_allclose(
        ours.intercept_ - ours.intercept_.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=1e-2
    )
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(held_out), theirs.predict_proba(held_out), atol=1e-3)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("name", CASES)
def test_minimum_is_that_of_scikit_learn(name: str, C: float) -> None:
    X, y = case(name)
    ours, theirs = LogisticProbeClassifier(C).fit(X, y), scikit_learn(X, y, C=C)
    assert objective(ours, X, y) <= objective(theirs, X, y) * (1 + 1e-5)
    held_out = real_features("mean").held_out
    assert_same_fit(ours, theirs, X, held_out.reshape(len(held_out), X.shape[1], -1).mean(2))


@pytest.mark.parametrize("name", ["multinomial n < d", "binary, pooled n > d"])
def test_weights_are_those_of_scikit_learn(name: str) -> None:
    X, y = case(name)
    weights = np.random.default_rng(0).uniform(0.2, 3, len(y))
    ours, theirs = LogisticProbeClassifier(0.1).fit(X, y, weights), scikit_learn(X, y, weights, C=0.1)
    assert objective(ours, X, y, weights) <= objective(theirs, X, y, weights) * (1 + 1e-5)
    assert_same_fit(ours, theirs, X, X)
    assert np.abs(ours.coef_ - LogisticProbeClassifier(0.1).fit(X, y).coef_).max() > 1e-3


@pytest.mark.parametrize("class_weight", ["balanced", {CLASSES[0]: 5.0}])
def test_class_weights_are_those_of_scikit_learn(class_weight: Any) -> None:
    X, y = case("binary, pooled n > d")
    X, y = X[25:], y[25:]  # 15 and 40 samples
    ours = LogisticProbeClassifier(0.1, class_weight=class_weight).fit(X, y)
    assert_same_fit(ours, scikit_learn(X, y, C=0.1, class_weight=class_weight), X, X)
    assert np.abs(ours.coef_ - LogisticProbeClassifier(0.1).fit(X, y).coef_).max() > 1e-3


def test_samples_without_weight_do_not_count() -> None:
    X, y = case("multinomial n < d")
    weights = np.arange(len(y)) % 5 != 0
    with_zeros, left_out = (
        LogisticProbeClassifier().fit(X, y, weights),
        LogisticProbeClassifier().fit(X[weights], y[weights]),
    )
    np.testing.assert_allclose(with_zeros.coef_, left_out.coef_, atol=1e-10)


def test_two_classes_have_one_row() -> None:
    X, y = case("binary n < d")
    head = LogisticProbeClassifier().fit(X, y)
    assert head.coef_.shape == (1, X.shape[1])
    assert head.intercept_.shape == (1,)
    scores = head.decision_function(X)
    np.testing.assert_allclose(scores, X @ head.coef_[0] + head.intercept_[0])
    np.testing.assert_allclose(head.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)))
    assert set(head.predict(X[scores > 0])) == {CLASSES[1]}


def test_fit_warns_where_it_has_not_converged() -> None:
    X, y = case("multinomial n < d")
    with pytest.warns(ConvergenceWarning, match="did not reach tol=1e-06 in 1 steps"):
        head = LogisticProbeClassifier(max_iter=1).fit(X, y)
    assert head.n_iter_ == 1
    assert LogisticProbeClassifier().fit(X, y).n_iter_ > 1


def test_tolerance_bounds_the_gradient() -> None:
    X, y = case("multinomial n < d")
    for tol in (1e-2, 1e-9):
        head = LogisticProbeClassifier(tol=tol).fit(X, y)
        targets = head.classes_ == y[:, None]
        error = head.predict_proba(X) - targets
        gradient = error.T @ X / len(y) + head.coef_ / len(y)
        # The penalty is on the span of the samples, whose basis is a rotation of the channels.
        assert np.linalg.norm(gradient) <= tol * np.sqrt(gradient.size)
        assert np.abs(error.mean(0)).max() <= tol


def test_tokens_are_averaged() -> None:
    tokens, y = real_features("tokens").shots(3)
    head = LogisticProbeClassifier().fit(tokens, y)
    pooled = tokens.mean(1, dtype=np.float64)
    np.testing.assert_array_equal(head.coef_, LogisticProbeClassifier().fit(pooled, y).coef_)
    np.testing.assert_array_equal(head.predict_proba(tokens), head.predict_proba(pooled))


def problem(n_classes: int) -> tuple[Problems, torch.Tensor, torch.Tensor]:
    """Two problems with weights, products in float64; weights of the scores; penalty."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 12, 6, generator=generator, dtype=torch.float64)
    features[:, :, -1] = 1
    weights = torch.rand(2, 12, generator=generator, dtype=torch.float64)
    weights[0, 3] = 0
    problems = Problems(features, torch.arange(12).repeat(2, 1) % n_classes, weights, n_classes)
    problems.use_float64()
    return problems, torch.randn(problems.shape, generator=generator, dtype=torch.float64), problems.penalty(0.7)


def mean_loss(problems: Problems, coef: torch.Tensor) -> torch.Tensor:
    """Of all problems, in sum; by PyTorch."""
    scores = problems.exact @ coef.transpose(1, 2)
    logits = torch.cat([torch.zeros_like(scores), scores], 2) if problems.n_scores == 1 else scores
    n_classes = logits.shape[2]
    losses = F.cross_entropy(logits.transpose(1, 2), torch.arange(12).repeat(2, 1) % n_classes, reduction="none")
    return (losses * problems.share[:, :, 0]).sum()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_gradient_is_that_of_the_loss(n_classes: int) -> None:
    problems, coef, _ = problem(n_classes)
    scores = problems.scores(coef)
    errors = problems.errors(scores, problems.probabilities(scores))
    assert float(problems.losses(scores).sum()) == pytest.approx(float(mean_loss(problems, coef)), rel=1e-12)
    expected = torch.autograd.functional.jacobian(lambda w: mean_loss(problems, w), coef)
    torch.testing.assert_close(problems.gradient(errors), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_small_errors_do_not_cancel(n_classes: int) -> None:
    problems, _, _ = problem(n_classes)
    scores = (20.0 * problems.targets - 10.0 * (n_classes == 2)).float()  # sure of all targets
    exact = problems.errors(scores.double(), problems.probabilities(scores.double()))
    errors = problems.errors(scores, problems.probabilities(scores))
    assert 0 < exact.abs().max() < 1e-4
    torch.testing.assert_close(errors.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_gain_of_the_gradient_is_pulled_back(n_classes: int) -> None:
    problems, coef, _ = problem(n_classes)
    before, after = (
        problems.errors(s, problems.probabilities(s)) for s in (problems.scores(coef), problems.scores(1.1 * coef))
    )
    gain = problems.pull_back(problems.weighted(after - before))
    torch.testing.assert_close(gain, problems.gradient(after) - problems.gradient(before), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_curvature_is_that_of_the_loss(n_classes: int) -> None:
    problems, coef, _ = problem(n_classes)
    direction = torch.randn(coef.shape, generator=torch.Generator().manual_seed(1), dtype=coef.dtype)
    found = problems.curvature(problems.probabilities(problems.scores(coef)), problems.scores(direction))
    bent = torch.autograd.functional.hvp(lambda w: mean_loss(problems, w), coef, direction)[1]
    torch.testing.assert_close(found, (bent * direction).sum((1, 2), keepdim=True), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("dense", [True, False])
def test_preconditioner_is_near_the_inverse_hessian(
    n_classes: int, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frofa.estimators.solvers.preconditioner.DENSE", DENSE if dense else 0)
    problems, coef, penalty = problem(n_classes)
    apply = preconditioner_of(problems)
    apply.update(problems.probabilities(problems.scores(coef)), penalty)
    size = coef[0].numel()
    units = torch.eye(size, dtype=coef.dtype).view(size, *coef.shape[1:])
    if n_classes > 2:  # gradients have no part in a constant that is added to all intercepts
        units[:, :, -1] -= units[:, :, -1].mean(1, keepdim=True)
    inverse = torch.stack([apply(unit.expand_as(coef)).flatten(1) for unit in units], 2)
    torch.testing.assert_close(inverse, inverse.transpose(1, 2), rtol=0, atol=1e-6)
    hessian = torch.autograd.functional.hessian(lambda w: mean_loss(problems, w), coef)
    for b in range(2):
        exact = hessian[b, :, :, b].reshape(size, size) + torch.diag(penalty[b].expand(coef.shape[1:]).flatten())
        spectrum = torch.linalg.eigvals(inverse[b] @ exact).real
        spectrum = spectrum.sort().values[0 if n_classes == 2 else 1 :]
        assert spectrum.max() < (1.001 if dense else 5)
        assert spectrum.min() > (0.999 if dense else 0.1)


def test_few_samples_are_solved_in_their_span() -> None:
    X, y = case("multinomial n < d")
    head = LogisticProbeClassifier(tol=1e-10).fit(X, y)
    centred = (X - X.mean(0)).T
    within = np.linalg.lstsq(centred, head.coef_.T)[0]
    np.testing.assert_allclose(centred @ within, head.coef_.T, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["C", "tol", "max_iter", "device"])
def test_bad_parameters_are_named(name: str) -> None:
    X, y = case("binary n < d")
    head = LogisticProbeClassifier().set_params(**{name: 0})
    with pytest.raises(ValueError, match=rf"The '{name}' parameter of LogisticProbeClassifier .* Got 0"):
        head.fit(X, y)
