"""Words and images joined: exact leave-one-out, and weights that follow what each is worth."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import log_softmax, softmax

from frofa.estimators.solvers.outputs.path import make_path, span_of
from frofa.estimators.solvers.shrinkage.temperature import NEVER
from frofa.estimators.solvers.text.doubting import doubt_names
from frofa.estimators.solvers.text.fitting import Images, join
from frofa.estimators.solvers.text.ridge import _targets, best_scale, fit_residual, left_out_errors
from frofa.estimators.solvers.text.samples import Samples
from frofa.estimators.solvers.text.weighing import (
    IMAGES,
    LEAST_SILENT,
    SILENT,
    WORDS,
    silence,
    usual_images,
    weigh_words,
)

CLASSES = 4
Array: TypeAlias = npt.NDArray[Any]


def problem(
    shots: int = 5, seed: int = 0, width: int = 12, helps: float = 2.0, sees: float = 1.0
) -> tuple[Array, Array, Array, Array]:
    """Samples whose words and images tell classes apart by as much as is said."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(CLASSES), shots)
    labels = np.eye(CLASSES)[codes]
    words = helps * labels + rng.normal(size=labels.shape)
    images = sees * labels + rng.normal(size=labels.shape)
    rows = rng.normal(size=(len(codes), width)) + sees * labels @ rng.normal(size=(CLASSES, width))
    return codes, words, images, rows


def samples_of(codes: Array, weights: Array | None = None, priors: str | None = "uniform") -> Samples:
    weights = np.ones(len(codes)) if weights is None else weights
    given = None if priors is None else np.full(CLASSES, -np.log(CLASSES))
    return Samples.of(codes, weights, given, CLASSES)


def images_of(images: Array, samples: Samples, rows: Array) -> Images:
    coef = np.zeros((2, CLASSES, rows.shape[1]))
    coef[1, :, :CLASSES] = np.eye(CLASSES)
    left_out = np.where(samples.known[:, None], images + samples.offsets, np.nan)
    return Images(coef, samples.log_priors.copy(), left_out, rows)


def direct(rows: Array, targets: Array, weights: Array, penalty: float) -> Callable[[Array], Array]:
    """Ridge regression with an intercept, solved as it stands."""
    share = weights / weights.sum()
    centre, mean = share @ rows, share @ targets
    centred = rows - centre
    scatter = centred.T @ (centred * weights[:, None])
    coef = np.linalg.solve(scatter + penalty * np.eye(len(scatter)), centred.T @ ((targets - mean) * weights[:, None]))
    return lambda new: (new - centre) @ coef + mean


@pytest.mark.parametrize("width", [6, 40])
def test_left_out_errors_are_those_of_refits(width: int) -> None:
    codes, words, _, rows = problem(width=width)
    weights = np.random.default_rng(1).uniform(0.5, 2, len(codes))
    samples = samples_of(codes, weights)
    counted = torch.from_numpy(samples.balanced / samples.balanced.mean())
    space = torch.from_numpy(rows)[None]
    path = make_path(space, counted, None, span_of(space, counted))
    targets = _targets(words, samples, counted)
    for number in (0, 6, 12):
        penalty = float(1 / path.inverse[0, number])
        of_labels, of_words = left_out_errors(path, targets, number)
        for i in range(0, len(codes), 3):
            others = np.arange(len(codes)) != i
            for errors, y in ((of_labels, targets.labels), (of_words, targets.words)):
                fit = direct(rows[others], y.numpy()[others], counted.numpy()[others], penalty)
                np.testing.assert_allclose(errors[i], y.numpy()[i] - fit(rows[i]), atol=1e-8)


def test_scale_of_words_is_the_best() -> None:
    codes, words, _, rows = problem()
    samples = samples_of(codes)
    weights = torch.ones(len(codes), dtype=torch.float64)
    space = torch.from_numpy(rows)[None]
    path = make_path(space, weights, None, span_of(space, weights))
    of_labels, of_words = left_out_errors(path, _targets(words, samples, weights), 8)
    scale = best_scale(of_labels, of_words, samples)
    losses = [float(((of_labels - s * of_words) ** 2).sum()) for s in (0.9 * scale, scale, 1.1 * scale)]
    assert scale > 0
    assert losses[1] < min(losses[0], losses[2])
    assert best_scale(-of_labels, of_words, samples) == 0


def test_residual_scores_of_samples_are_its_function() -> None:
    codes, words, _, rows = problem(shots=30)
    found = fit_residual(rows, words, samples_of(codes))
    centred = words - words.mean(1, keepdims=True)
    scores = found.words * centred + rows @ found.coef.T + found.intercept
    assert (scores.argmax(1) == codes).mean() >= (found.left_out.argmax(1) == codes).mean()
    assert np.corrcoef(scores.ravel(), found.left_out.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("shots", [1, 2, 5])
def test_words_that_say_nothing_change_nothing(shots: int) -> None:
    silent, changed = 0, 0
    for seed in range(8):
        codes, words, images, rows = problem(shots, seed, helps=0.0, sees=2.0)
        words = np.random.default_rng(seed).normal(size=words.shape)
        samples = samples_of(codes)
        found = join(images_of(images, samples, rows), words, samples)
        silent += not found.words.any()
        if not found.words.any():
            changed += bool(found.coef[0].any())
            factor = found.coef[1, 0, 0] - found.coef[1, 1, 0]
            expected = log_softmax(factor * images, axis=1)
            if shots > 1:
                np.testing.assert_allclose(log_softmax(found.left_out, axis=1), expected, atol=1e-9)
    assert silent >= 6 - 2 * (shots == 1)
    assert not changed


@pytest.mark.parametrize("shots", [1, 2, 5])
def test_words_that_say_all_are_followed(shots: int) -> None:
    for seed in range(3):
        codes, words, images, rows = problem(shots, seed, helps=8.0, sees=0.0)
        samples = samples_of(codes)
        found = join(images_of(images, samples, rows), words, samples)
        assert found.weighed.helps > 0.8
        assert found.words.min() * words.std() > 2 * found.coef[1].max()


def test_the_unit_of_words_does_not_matter() -> None:
    codes, words, images, rows = problem()
    samples = samples_of(codes)
    one, ten = (join(images_of(images, samples, rows), factor * words, samples) for factor in (1, 10))
    np.testing.assert_allclose(one.left_out, ten.left_out, atol=1e-8)
    np.testing.assert_allclose(one.words, 10 * ten.words)


def test_weights_are_relative() -> None:
    codes, words, images, rows = problem()
    weights = np.random.default_rng(2).uniform(0.5, 2, len(codes))
    found = []
    for factor in (1, 7):
        samples = samples_of(codes, factor * weights)
        found.append(join(images_of(images, samples, rows), words, samples).left_out)
    np.testing.assert_allclose(found[0], found[1], atol=1e-9)


def test_samples_that_cannot_be_left_out_have_no_logits() -> None:
    codes, words, images, rows = problem(shots=3)
    part = np.r_[0, 3:12]
    samples = samples_of(codes[part])
    found = join(images_of(images[part], samples, rows[part]), words[part], samples)
    assert np.isnan(found.left_out[0]).all()
    assert np.isfinite(found.left_out[1:]).all()


def test_a_class_that_has_no_sample_is_not_predicted() -> None:
    codes, words, images, rows = problem()
    part = codes < CLASSES - 1
    samples = samples_of(codes[part])
    assert samples.log_priors[-1] == NEVER
    found = join(images_of(images[part], samples, rows[part]), words[part], samples)
    assert (softmax(found.left_out, axis=1)[:, -1] == 0).all()
    assert found.intercept[-1] <= NEVER / 2


def test_empirical_priors_are_those_without_the_sample() -> None:
    codes = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3])
    samples = samples_of(codes, priors=None)
    assert np.exp(samples.offsets[0, 0] - samples.offsets[0, 1]) == pytest.approx(1)
    assert np.exp(samples.offsets[3, 0] - samples.offsets[3, 1]) == pytest.approx(3)


def test_images_usually_count_less_the_more_words_say_and_more_with_shots() -> None:
    factors = usual_images(WORDS, 1.0)
    assert factors[0] == 1
    assert (np.diff(factors) < 0).all()
    assert (usual_images(WORDS[1:], 5.0) > factors[1:]).all()


def test_words_are_asked_alone_whether_they_say_anything() -> None:
    codes, words, _, _ = problem(shots=2, helps=6.0)
    samples = samples_of(codes)
    # Images that are right on every sample leave nothing for words to add; words count none the less.
    weighed = weigh_words(words / words.std(1).mean(), 8 * np.eye(CLASSES)[codes], samples)
    assert weighed.helps > 0.8
    assert weighed.words > 0
    assert LEAST_SILENT <= silence(words, samples) < 0.2
    noise = np.random.default_rng(0).normal(size=words.shape)
    assert silence(noise, samples) > SILENT
    assert silence(-words, samples) == 1 - LEAST_SILENT
    assert silence(words[:0], samples.rows(slice(0, 0))) == pytest.approx(SILENT)


def test_likelihood_says_how_much_images_count() -> None:
    codes, words, images, _ = problem(shots=20, sees=3.0)
    much = weigh_words(words, images, samples_of(codes))
    noise = weigh_words(words, np.random.default_rng(0).normal(size=images.shape), samples_of(codes))
    assert IMAGES[0] <= noise.images < 0.3 < much.images


@pytest.mark.parametrize("shots", [2, 5])
def test_names_that_say_nothing_are_doubted(shots: int) -> None:
    n_classes = 12
    codes = np.repeat(np.arange(n_classes), shots)
    rng = np.random.default_rng(0)
    words = 3 * np.eye(n_classes)[codes] + 0.5 * rng.normal(size=(len(codes), n_classes))
    wrong = [1, 7]
    words[:, wrong] = words[:, wrong[::-1]]  # two names are the wrong way round
    samples = Samples.of(codes, np.ones(len(codes)), np.full(n_classes, -np.log(n_classes)), n_classes)
    found = doubt_names(words, samples)
    assert found is not None
    assert np.flatnonzero(found.classes).tolist() == wrong
    changed = found.apply(words)
    assert (changed[:, wrong].std(0) < 0.5 * words[:, wrong].std(0)).all()
    rest = np.delete(np.arange(n_classes), wrong)
    np.testing.assert_array_equal(changed[:, rest], words[:, rest])
    assert doubt_names(words[:, rest][np.isin(codes, rest)], _without(samples, rest)) is None


def _without(samples: Samples, rest: Array) -> Samples:
    """Samples of the other classes."""
    kept = np.searchsorted(rest, samples.codes[np.isin(samples.codes, rest)])
    return Samples.of(kept, np.ones(len(kept)), np.full(len(rest), -np.log(len(rest))), len(rest))


def test_one_sample_doubts_no_name() -> None:
    codes, words, _, _ = problem(shots=1, helps=-3.0)
    assert doubt_names(words, samples_of(codes)) is None


def test_where_most_names_say_nothing_none_is_doubted_by_itself() -> None:
    codes, words, _, _ = problem(shots=6, helps=-3.0)
    assert doubt_names(words, samples_of(codes)) is None


def test_images_tell_classes_whose_names_say_nothing() -> None:
    n_classes, shots = 12, 4
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(n_classes), shots)
    labels = np.eye(n_classes)[codes]
    words = 4 * labels + rng.normal(size=labels.shape)
    words[:, [1, 7]] = words[:, [7, 1]]
    images = 2 * labels + rng.normal(size=labels.shape)
    samples = Samples.of(codes, np.ones(len(codes)), np.full(n_classes, -np.log(n_classes)), n_classes)
    coef = np.zeros((2, n_classes, 16))
    coef[1, :, :n_classes] = np.eye(n_classes)
    rows = np.hstack([labels, rng.normal(size=(len(codes), 4))])
    known = Images(coef, samples.log_priors.copy(), images + samples.offsets, rows)
    found = join(known, words, samples)
    assert np.flatnonzero(found.doubts > 0.3).tolist() == [1, 7]
    of_doubted = np.isin(codes, [1, 7])
    right = found.left_out.argmax(1) == codes
    assert right[of_doubted].mean() > 0.6
    assert right[~of_doubted].mean() > 0.9
    # The left-out logits are those that the factors give, but for the proximal ridge.
    assert found.words[1] < 0.7 * found.words[0]
