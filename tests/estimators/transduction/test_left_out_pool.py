"""Scores of left-out samples and the average over weights of the pool, against fits without the sample."""

import numpy as np
import pytest
import torch

from frofa.estimators import ShrinkageProbeClassifier, TransductiveClassifier
from frofa.estimators.solvers.shrinkage.fitting import Problems, rate_members
from frofa.estimators.solvers.shrinkage.fitting import fit as fit_probe
from frofa.estimators.solvers.shrinkage.spaces import spaces_of
from frofa.estimators.solvers.transduction import fitting
from frofa.estimators.solvers.transduction.means import Sample, learn, pool_probabilities
from frofa.estimators.solvers.transduction.metric import Metric, Products

RNG = np.random.default_rng(0)
N, M, D, K = 12, 20, 30, 3
EVERY = torch.ones(N, dtype=torch.bool)
CODES = np.arange(N) % K
ROWS = RNG.normal(size=(N + M, D)) + np.eye(K, D)[np.r_[CODES, RNG.integers(0, K, M)]] * 3


def problem(rows: np.ndarray, codes: np.ndarray, pool: np.ndarray, width: int = D) -> Problems:
    return Problems(
        [[torch.from_numpy(rows[None, :, :width])]],
        torch.ones(1, 1, dtype=torch.float64),
        torch.from_numpy(codes)[None],
        torch.ones(1, len(codes), dtype=torch.float64),
        K,
        torch.full((1, K), -np.log(K), dtype=torch.float64),
        [[torch.from_numpy(pool[None, :, :width])]],
    )


def products_of(problems: Problems, width: int = D) -> tuple[Products, Metric, Sample]:
    members = rate_members(problems)
    metric = Metric.of(members)
    rows = spaces_of([[torch.from_numpy(ROWS[None, :, :width])]], problems.shares, members.stages)
    known = members.lefts[0].path.statistics
    weights = torch.ones(M, dtype=torch.float64)
    sample = Sample(problems.codes[0], known.weights[0], weights, members.log_priors[0], N / K)
    return Products.of(metric, [each[0] for each in rows]), metric, sample


def test_products_are_those_of_the_probe_for_rows_of_any_kind() -> None:
    for width in (D, 5):  # fewer samples than channels, and more
        problems = problem(ROWS[:N], CODES, ROWS[N:], width)
        products, metric, sample = products_of(problems, width)
        inner, rest = products.scores(*learn(products, sample, sample.membership()[None], 0.0, 5))
        solution = fit_probe(problems)
        rows = spaces_of([[torch.from_numpy(ROWS[None, :, :width])]], problems.shares, solution.stages)
        expected = sum(each[0] @ coef[0].T for each, coef in zip(rows, solution.coefs, strict=True))
        torch.testing.assert_close(inner[0] + rest[0] - np.log(K), expected + solution.intercept[0])
        # Left out one by one, without a pool, samples have the probe's own exact scores.
        folds = torch.eye(N, dtype=torch.float64)
        member = sample.membership() * (1 - folds).unsqueeze(2)
        means = learn(products, sample, member, 0.0, 5)
        left_out = products.left_out(means.shares, means.uncertainty, torch.arange(N))
        torch.testing.assert_close(left_out, metric.left_out)
        torch.testing.assert_close(left_out - np.log(K), solution.left_out[0])


def test_folds_are_alone_where_samples_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    products, metric, sample = products_of(problem(ROWS[:N], CODES, ROWS[N:]))
    alone = fitting._left_out(products, sample, metric.left_out, 4, EVERY)
    torch.testing.assert_close(alone[0], metric.left_out)
    # By hand: expectation and maximisation without the sample.
    for row in (0, 7):
        member = sample.membership()[None].clone()
        member[0, row] = 0
        means = learn(products, sample, member, 2.0, 4)
        expected = products.left_out(means.shares, means.uncertainty, torch.tensor([row]))
        torch.testing.assert_close(alone[3][[row]], expected)
    # In chunks it is the same; in groups, close to it.
    monkeypatch.setattr(fitting, "ELEMENTS", 100)
    for one, other in zip(alone, fitting._left_out(products, sample, metric.left_out, 4, EVERY), strict=True):
        torch.testing.assert_close(one, other)
    monkeypatch.setattr(fitting, "MOST_FOLDS", 6)
    grouped = fitting._left_out(products, sample, metric.left_out, 4, EVERY)
    torch.testing.assert_close(grouped[0], metric.left_out)
    assert float((grouped[3] - alone[3]).abs().max()) > 0


def test_the_pool_counts_by_what_left_out_samples_say() -> None:
    good = TransductiveClassifier(unlabeled=-1).fit(ROWS, np.r_[CODES, np.full(M, -1)])
    assert good.pool_weights_.sum() == 1 or abs(good.pool_weights_.sum() - 1) < 1e-12
    assert (np.diff(good.pool_losses_[:3]) < 0).all()
    probe = ShrinkageProbeClassifier(unlabeled=-1).fit(ROWS, np.r_[CODES, np.full(M, -1)])
    assert good.loo_log_loss_ < probe.loo_log_loss_


def test_proportions_by_hand() -> None:
    logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    priors = torch.log(torch.tensor([0.5, 0.5], dtype=torch.float64))
    weights = torch.ones(4, dtype=torch.float64)
    # It is where expectation, held to the prior, and proportions agree: by 0.7 where labels are many, more where few.
    found = {}
    for shots, strength in ((100.0, 0.7), (1.0, 2.0)):
        probabilities, proportions = pool_probabilities(logits, weights, priors, shots)
        expected = (probabilities.mean(0) + strength * torch.exp(priors)) / (1 + strength)
        torch.testing.assert_close(expected, proportions, atol=1e-8, rtol=0)
        found[shots] = float(proportions[0])
    assert 0.5 < found[1.0] < found[100.0] < 0.75
    never = torch.tensor([0.0, -1e30], dtype=torch.float64)
    none, _ = pool_probabilities(logits + never, weights, never, 1.0)
    assert (none[:, 1] == 0).all()
