import numpy as np
import pytest
import torch
from baselines import ShrunkDiscriminant
from baselines import text as heads
from baselines.text.clap import TextStartedProbe
from scipy.special import softmax
from sklearn.gaussian_process.kernels import RBF
from torch.nn.functional import cross_entropy, normalize

ALL = [getattr(heads, name) for name in heads.__all__ if name != "TextHead"]
SCALE = 20.0


def unit(X: np.ndarray) -> np.ndarray:
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def clouds(shots: int, seed: int, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words of three classes, vectors about them, class by class, and labels that are not in the order of classes."""
    rng = np.random.default_rng(seed)
    texts = np.random.default_rng(7).normal(size=(3, 10))
    codes = np.repeat([2, 0, 1], shots)
    return texts, texts[codes] + noise * rng.normal(size=(3 * shots, 10)), np.array(["ant", "bee", "cat"])[codes]


TEXTS, X, y = clouds(4, seed=0)
_, QUERIES, LABELS = clouds(30, seed=1)
F, Q, T = unit(X), unit(QUERIES), unit(TEXTS)
Y = (y[:, None] == np.array(["ant", "bee", "cat"])).astype(float)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("shots", [1, 5])
def test_heads_with_words_learn_labels_as_given(make: type[heads.TextHead], shots: int) -> None:
    texts, X, y = clouds(shots, seed=2, noise=0.3)
    _, queries, labels = clouds(20, seed=3, noise=0.3)
    head = make(5 * texts, SCALE).fit(X, y)
    assert head.decision_function(queries).shape == (60, 3)
    assert np.mean(head.predict(queries) == labels) > 0.95


def test_zero_shot_is_scaled_cosines() -> None:
    head = heads.ZeroShot(TEXTS, SCALE).fit(X, y)
    np.testing.assert_allclose(head.decision_function(QUERIES), SCALE * Q @ T.T, rtol=1e-10)


def test_tip_adapter_adds_votes_of_a_cache_one_by_one() -> None:
    found = heads.TipAdapter(TEXTS, SCALE).fit(X, y).decision_function(QUERIES)
    for query, scores in zip(Q, found, strict=True):
        expected = SCALE * T @ query
        for key, vote in zip(F, Y, strict=True):
            expected = expected + np.exp(-(1 - query @ key)) * vote
        np.testing.assert_allclose(scores, expected, rtol=1e-10)


def test_trained_cache_fits_the_samples_better_than_the_cache_does() -> None:
    losses = []
    for make in (heads.TipAdapter, heads.TrainedTipAdapter):
        scores = torch.tensor(make(TEXTS, 2.0).fit(X, y).decision_function(X))
        losses.append(float(cross_entropy(scores, torch.tensor(Y.argmax(1)))))
    assert losses[1] < losses[0]


def test_discriminant_is_added_to_zero_shot_scores() -> None:
    expected = SCALE * Q @ T.T + ShrunkDiscriminant().fit(X, y).decision_function(QUERIES)
    found = heads.ZeroShotDiscriminant(TEXTS, SCALE).fit(X, y).decision_function(QUERIES)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_kernel_ridge_is_that_of_what_zero_shot_leaves() -> None:
    # exp(-beta (1 - x.x')) of vectors of length one is a Gaussian of their distance: beta / 2 |x - x'|^2.
    kernel = RBF(length_scale=1.5**-0.5)
    dual = np.linalg.inv(kernel(F) / 0.05 + np.eye(12)) @ (Y - F @ T.T)
    found = heads.ProximalKernelRidge(TEXTS, SCALE).fit(X, y).decision_function(QUERIES)
    np.testing.assert_allclose(found, Q @ T.T + kernel(Q, F) @ dual, rtol=1e-8)


@pytest.mark.parametrize(("shots", "beta"), [(1, 3.0), (2, 2.6), (5, 1.5), (10, 1.66), (25, 1.7)])
def test_kernel_ridge_takes_what_was_published_for_the_nearest_number_of_shots(shots: int, beta: float) -> None:
    texts, X, y = clouds(shots, seed=4)
    head = heads.ProximalKernelRidge(texts).fit(X, y)
    assert head.beta_ == beta


def test_ss_text_adds_weighted_sums_to_words() -> None:
    # Of four samples of each of three classes, lambda is 1/4, and a class's mean counts 4 scale / 3.
    means = np.stack([F[Y[:, k] == 1].mean(0) for k in range(3)])
    expected = SCALE * Q @ unit(T + 4 * 4 * SCALE / 12 * means).T
    found = heads.TextCentredMean(TEXTS, SCALE).fit(X, y).decision_function(QUERIES)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_blended_probe_takes_the_published_steps() -> None:
    features, words, labels = torch.tensor(F), torch.tensor(T), torch.tensor(Y.argmax(1))
    weights = torch.stack([features[labels == k].mean(0) for k in range(3)]).requires_grad_()
    own = torch.stack([(features[labels == k] @ words[k]).mean() for k in range(3)])
    alphas = torch.full((3,), 250 * float(own.mean()), dtype=torch.float64).requires_grad_()
    rate = 4 * 12 / float(torch.linalg.eigvalsh(features.T @ features).max())
    optimizer = torch.optim.SGD([weights], rate, momentum=0.9)
    for step in range(1, 301):
        loss = cross_entropy(features @ weights.T + alphas * (features @ words.T), labels)
        weights.grad = alphas.grad = None
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            assert alphas.grad is not None
            alphas.data -= 12 / (4 * float((features @ words.T).square().sum(0).max())) * alphas.grad
    found = heads.BlendedProbe(TEXTS, SCALE).fit(X, y).decision_function(QUERIES)
    expected = Q @ weights.detach().numpy().T + alphas.detach().numpy() * (Q @ T.T)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", [heads.ConstrainedProbe, heads.TextStartedProbe])
def test_loss_of_cosine_probes_is_the_papers_with_its_gradient(make: type[TextStartedProbe]) -> None:
    head = make(TEXTS, SCALE).fit(X, y)
    weights = np.random.default_rng(5).normal(size=(3, 10))
    found, slopes = head.loss(weights, F, Y.argmax(1))
    moving = torch.tensor(weights).requires_grad_()
    logits = SCALE * torch.tensor(F) @ normalize(moving, dim=1).T
    own = [softmax(SCALE * F @ T.T, axis=1)[Y[:, k] == 1, k].mean() for k in range(3)]
    penalties = torch.tensor(own if make is heads.ConstrainedProbe else [0.0, 0.0, 0.0])
    loss = (
        cross_entropy(logits, torch.tensor(Y.argmax(1)))
        + (penalties * (moving - torch.tensor(T)).square().sum(1)).mean()
    )
    loss.backward()
    assert moving.grad is not None
    assert found == pytest.approx(loss.item())
    np.testing.assert_allclose(slopes, moving.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_constraint_holds_weights_near_words_and_words_are_samples() -> None:
    def distance(make: type[TextStartedProbe]) -> float:
        return float(np.linalg.norm(make(TEXTS, SCALE).fit(X, y).weights_ - T))

    assert distance(heads.ConstrainedProbe) < distance(heads.TextStartedProbe)
    assert distance(heads.CrossModalProbe) < distance(heads.TextStartedProbe)
