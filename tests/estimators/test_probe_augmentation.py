"""Probes that train on augmented copies, and augmented views at prediction."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from features import gaussian
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import frofa
from frofa.augmentations import (
    Augmentation,
    Brightness,
    Contrast,
    Crop,
    GaussianNoise,
    Invert,
    MixUp,
    PatchDropout,
    Posterize,
    RandAugment,
    RandomApply,
    RandomChoice,
    Rotate,
    Sequential,
    TokenBatch,
    TrivialAugment,
)
from frofa.estimators import (
    LogisticProbeClassifier,
    MAPClassifier,
    RidgeProbeClassifier,
)
from frofa.estimators.solvers.ridge import decompose
from frofa.estimators.tokens import views
from frofa.estimators.tokens.views import mean_of_seen, with_copies

Array = npt.NDArray[Any]
PROBES = [RidgeProbeClassifier, LogisticProbeClassifier]
every_probe = pytest.mark.parametrize("probe", PROBES)
AUGMENT = Brightness(0.3, "c")


def tokens(n: int = 24, n_tokens: int = 9, channels: int = 8, seed: int = 0) -> tuple[Array, Array]:
    """Tokens of three classes, in float32 as the extractor gives them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = (rng.normal(size=(n, n_tokens, channels)) + np.eye(channels)[y][:, None]).astype(np.float32)
    X.flags.writeable = False
    return X, y


def pooled(n: int = 24, channels: int = 8) -> tuple[Array, Array]:
    X, y = tokens(n, channels=channels)
    return X.mean(1), y


def copies_of(head: Any, X: Array, **where: Any) -> Array:
    """What a fitted head was trained on, (n, 1 + n_augmented, C)."""
    where = {"n_prefix": 0, "grid": None, **where}
    features = X.mean(1, dtype=np.float64) if X.ndim == 3 else X.astype(np.float64)
    rows = np.arange(len(X))
    return with_copies(X, features, rows, head.augment, head.n_augmented, head.augment_seed_, **where)


def assert_same_fit(one: Any, other: Any, tolerance: float) -> None:
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=0, atol=tolerance)
    np.testing.assert_allclose(one.intercept_, other.intercept_, rtol=0, atol=tolerance)


def differ(one: Any, other: Any) -> bool:
    return float(np.abs(one.coef_ - other.coef_).max()) > 1e-4


@pytest.mark.parametrize("data", [tokens, pooled])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("channels", [8, 60])
@every_probe
def test_copies_that_are_equal_change_nothing(probe: Any, channels: int, weighted: bool, data: Any) -> None:
    X, y = data(channels=channels)
    weights = np.random.default_rng(1).uniform(0, 2, len(y)) if weighted else None
    plain = probe().fit(X, y, weights)
    head = probe(augment=AUGMENT.at_level(0), n_augmented=3, random_state=0).fit(X, y, weights)
    assert_same_fit(head, plain, 1e-8)
    if probe is RidgeProbeClassifier:
        assert head.alpha_ == plain.alpha_
        np.testing.assert_allclose(head.errors_, plain.errors_, rtol=1e-6)
        assert head.temperature_ == pytest.approx(plain.temperature_, rel=1e-4)


@every_probe
def test_no_copies_are_the_plain_fit(probe: Any) -> None:
    X, y = tokens()
    head, plain = probe(augment=AUGMENT, n_augmented=0, random_state=0).fit(X, y), probe().fit(X, y)
    np.testing.assert_array_equal(head.coef_, plain.coef_)
    assert not hasattr(plain, "augment_seed_")
    assert not hasattr(head.set_params(augment=None).fit(X, y), "augment_seed_")


@pytest.mark.parametrize("data", [tokens, pooled])
@pytest.mark.parametrize("probe", [RidgeProbeClassifier(0.7), LogisticProbeClassifier()])
def test_sample_and_copies_share_its_weight(probe: Any, data: Any) -> None:
    X, y = data()
    weights = np.random.default_rng(1).uniform(0.5, 2, len(y))
    head = clone(probe).set_params(augment=AUGMENT, n_augmented=4, random_state=0).fit(X, y, weights)
    rows = copies_of(head, X).reshape(-1, X.shape[-1])
    by_hand = clone(probe).fit(rows, y.repeat(5), weights.repeat(5) / 5)
    assert_same_fit(head, by_hand, 1e-7)
    assert differ(head, clone(probe).fit(X, y, weights))


@every_probe
def test_weights_and_labels_are_as_without_augmentation(probe: Any) -> None:
    X, y = tokens()
    params: dict[str, Any] = {"augment": AUGMENT, "n_augmented": 3, "random_state": 0}
    names = np.array(["cat", "ant", "bee"])[y]
    weights = np.where(y == 0, 3.0, 1.0)
    head = probe(**params).fit(X, y, weights)
    by_class = probe(**params, class_weight={"cat": 3.0}).fit(X, names)
    assert by_class.classes_.tolist() == ["ant", "bee", "cat"]
    np.testing.assert_allclose(by_class.coef_[[2, 0, 1]], head.coef_, atol=1e-9)
    assert set(by_class.predict(X)) <= set(names)
    assert differ(head, probe(**params).fit(X, y))
    left_out = np.arange(len(y)) % 5 != 0
    without = probe(**params).fit(X[left_out], y[left_out])
    assert_same_fit(probe(**params).fit(X, y, left_out), without, 1e-9)


@every_probe
def test_two_classes(probe: Any) -> None:
    X, y = tokens()
    X, y = X[y < 2], y[y < 2]
    head = probe(augment=AUGMENT, random_state=0, n_views=2).fit(X, y)
    assert head.coef_.shape == (1, 8)
    scores = head.decision_function(X)
    np.testing.assert_array_equal(head.predict(X), (scores > 0).astype(int))
    np.testing.assert_array_equal(head.predict_proba(X).argmax(1), head.predict(X))


def test_tokens_are_augmented_before_they_are_averaged() -> None:
    X, _ = tokens(n_tokens=10)
    patches = torch.tensor(X[:, 1:])
    inverted = patches.amin(1, keepdim=True) + patches.amax(1, keepdim=True) - patches
    expected = np.concatenate([X[:, :1], inverted.numpy()], 1).mean(1)
    copies = with_copies(
        X, X.mean(1, dtype=np.float64), np.arange(24), Invert(1.0, "c2"), 2, 0, n_prefix=1, grid=(3, 3)
    )
    np.testing.assert_allclose(copies, np.stack([X.mean(1), expected, expected], 1), atol=1e-5)


def test_hidden_tokens_are_not_averaged() -> None:
    X, y = tokens(n_tokens=10)
    X = X.copy()
    X[:, 1:, 0] = np.arange(9)  # tells which tokens are seen
    X[:, 0, 0] = 100
    head = RidgeProbeClassifier(augment=PatchDropout(2 / 3), n_augmented=20, n_prefix=1, random_state=0).fit(X, y)
    seen = copies_of(head, X, n_prefix=1)[:, 1:, 0] * 4 - 100  # the sum over three of nine
    np.testing.assert_allclose(seen, seen.round(), atol=1e-9)
    assert 3 <= seen.min() <= 6
    assert 18 <= seen.max() <= 21
    assert abs(seen.mean() - 12) < 0.5


def test_mean_of_seen_counts_prefix_and_seen_patches() -> None:
    x = torch.arange(8, dtype=torch.float32).view(1, 4, 2)
    mask = torch.tensor([[True, False, True]])
    batch = TokenBatch.from_tokens(x, n_prefix=1, mask=mask)
    assert mean_of_seen(batch).tolist() == [[8 / 3, 11 / 3]]
    assert mean_of_seen(TokenBatch.from_tokens(x)).tolist() == [[3, 4]]


@every_probe
def test_pooled_features_have_one_position(probe: Any) -> None:
    X, y = pooled()
    plain = probe().fit(X, y)
    for augment in (Brightness(0.5, "c2"), Contrast()):
        assert_same_fit(probe(augment=augment, n_augmented=2, random_state=0).fit(X, y), plain, 1e-5)
    assert differ(probe(augment=Brightness(0.5, "c"), n_augmented=2, random_state=0).fit(X, y), plain)
    with pytest.raises(ValueError, match=r"Rotate needs tokens on a grid.*pooled features have no positions"):
        probe(augment=Rotate(), random_state=0).fit(X, y)


@every_probe
def test_random_state_decides(probe: Any) -> None:
    X, y = tokens()

    def fit(random_state: Any) -> Any:
        return probe(augment=AUGMENT, n_augmented=2, n_views=2, random_state=random_state).fit(X, y)

    one, same, other = fit(3), fit(3), fit(4)
    np.testing.assert_array_equal(one.coef_, same.coef_)
    np.testing.assert_array_equal(one.predict_proba(X), same.predict_proba(X))
    assert differ(one, other)
    assert one.augment_seed_ != other.augment_seed_
    generator = np.random.RandomState(3)
    np.testing.assert_array_equal(fit(generator).predict_proba(X), one.predict_proba(X))
    assert differ(fit(generator), one)


def test_views_of_a_head_that_draws_its_own_leave_its_training_as_it_is() -> None:
    X, y = tokens()
    params: dict[str, Any] = {"n_steps": 3, "num_heads": 2, "device": "cpu"}
    state = np.random.RandomState(0)
    head, same = MAPClassifier(AUGMENT, **params, random_state=0), MAPClassifier(AUGMENT, **params, random_state=state)
    for other in (head.fit(X, y), same.fit(X, y)):
        other.n_views = 2
    np.testing.assert_array_equal(same.predict_proba(X), head.predict_proba(X))
    assert same.fit(X, y).augment_seed_ != head.augment_seed_


def test_seed_of_copies_is_not_that_of_views() -> None:
    X, _ = tokens(n=1)
    features = X.mean(1, dtype=np.float64)
    copies = with_copies(X, features, np.arange(1), AUGMENT, 1, 5, n_prefix=0, grid=None)
    view = views.sum_over_views(lambda x: x.mean(1), X, AUGMENT, 1, 5, n_prefix=0, grid=None)
    assert np.abs(copies[:, 1] - view).max() > 1e-2


def test_copies_differ_from_each_other_and_between_samples() -> None:
    X = np.repeat(tokens(1)[0], 40, axis=0)
    for augment in (Brightness(0.3), PatchDropout(), Rotate(), RandomChoice([Brightness(0.3), Posterize(1.0)])):
        copies = with_copies(X, X.mean(1, dtype=np.float64), np.arange(40), augment, 2, 0, n_prefix=0, grid=None)
        changes = (copies[:, 1:] - copies[:, :1]).reshape(-1, 8)
        assert len(np.unique(changes.round(9), axis=0)) > 20


@pytest.mark.parametrize("cv", [None, 4])
def test_held_out_errors_of_ridge_are_those_of_samples_whose_copies_were_not_seen(cv: int | None) -> None:
    X, y = tokens(30, channels=20)
    alphas = [0.01, 1.0, 100.0]
    augment = Brightness(0.03, "c")
    head = RidgeProbeClassifier(alphas, augment=augment, n_augmented=3, random_state=0, cv=cv).fit(X, y)
    copies, features = copies_of(head, X), X.mean(1, dtype=np.float64)
    targets = 2.0 * np.eye(3)[y] - 1
    splits = StratifiedKFold(cv).split(X, y) if cv else [(np.delete(np.arange(30), i), [i]) for i in range(30)]
    errors = np.zeros((3, 30, 3))
    for train, valid in splits:
        for a, alpha in enumerate(alphas):
            weights = np.full(len(train) * 4, 1 / 4)
            rest = RidgeProbeClassifier(alpha, calibrate=False).fit(
                copies[train].reshape(-1, 20), y[train].repeat(4), weights
            )
            errors[a, valid] = (rest.decision_function(features[valid]) - targets[valid]) ** 2
    # Leave-one-out keeps the mean and deviation of all, refits do not: close, where a leak of copies would be far off.
    np.testing.assert_allclose(head.errors_, errors.mean((1, 2)), rtol=1e-9 if cv else 0.15)
    rows = decompose(copies.reshape(-1, 20), targets.repeat(4, axis=0), np.full(120, 1 / 4))
    leaky = rows.leave_one_out(targets.repeat(4, axis=0), alphas[0])[::4] - targets
    assert (leaky**2).mean() < 0.6 * errors[0].mean()
    assert 0.1 < head.temperature_ < 3


def test_noise_on_pooled_features_is_a_penalty() -> None:
    X, y = gaussian(60, 5)
    weights = np.random.default_rng(0).uniform(0.5, 1.5, 60)
    std, alpha, m = 0.2, 60.0, 400
    variance = (std * (X.max(1) - X.min(1))) ** 2 * m / (m + 1)
    mean = np.average(X, axis=0, weights=weights)
    sigma = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights) + np.average(variance, weights=weights))
    Z = (X - mean) / sigma
    targets = 2.0 * np.eye(3)[y] - 1
    penalties = np.diag(alpha + (weights * variance).sum() / sigma**2)
    expected = np.linalg.solve(Z.T * weights @ Z + penalties, Z.T * weights @ targets) / sigma[:, None]
    head = RidgeProbeClassifier(alpha, augment=GaussianNoise(std), n_augmented=m, random_state=0)
    noisy, plain = head.fit(X, y, weights).coef_.T, RidgeProbeClassifier(alpha).fit(X, y, weights).coef_.T
    # Without the noise's part in sigma, it would be off by a third; the rest is chance, which falls with 1 / sqrt(m).
    assert np.abs(noisy - expected).max() < 0.08 * np.abs(expected - plain).max()


VIEWS: list[Augmentation] = [
    AUGMENT,
    GaussianNoise(0.2),
    PatchDropout(0.5),
    Crop(0.3),
    Rotate(90),
    Sequential([Brightness(), PatchDropout(0.2)]),
    RandomApply([Invert(1.0)]),
    RandAugment(level=0.8),
    TrivialAugment(),
]


def heads(**params: Any) -> list[Any]:
    token_head = MAPClassifier(params["augment"], n_steps=3, num_heads=2, random_state=0, device="cpu")
    probes: list[Any] = [probe(n_augmented=1, random_state=0, **params) for probe in PROBES]
    return [*probes, token_head]


@pytest.mark.parametrize("augment", VIEWS, ids=repr)
def test_views_do_not_depend_on_other_samples(augment: Augmentation, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = tokens()
    for head in heads(augment=augment):
        head.fit(X, y)
        plain = head.decision_function(X)
        head.n_views = 3
        together = head.decision_function(X)
        assert np.abs(together - plain).max() > 1e-4
        alone = np.vstack([head.decision_function(X[i : i + 1]) for i in (0, 7, 23)])
        np.testing.assert_allclose(alone, together[[0, 7, 23]], atol=1e-5)
        with monkeypatch.context() as patch:
            patch.setattr(views, "CHUNK_ELEMENTS", 5 * X[0].size)
            np.testing.assert_allclose(head.decision_function(X), together, atol=1e-5)


@every_probe
def test_scores_are_the_mean_over_the_features_and_their_views(probe: Any) -> None:
    X, y = tokens(n_tokens=7)
    augment = Sequential([Brightness(0.5, "c"), PatchDropout(0.5), Crop(0.5)])
    head = probe(augment=augment, n_augmented=1, n_views=3, n_prefix=1, grid=[2, 3], random_state=0).fit(X, y)
    seen: list[Array] = []

    def record(x: Array) -> Array:
        seen.append(x)
        return np.zeros((len(x), 3))

    views.sum_over_views(record, X, augment, 3, head.augment_seed_, n_prefix=1, grid=(2, 3))
    assert len(seen) == 3
    assert all(x.shape[1] < 5 for x in seen), "hidden tokens are seen"
    for view in seen:
        np.testing.assert_array_equal(view[:, 0], X[:, 0])  # the prefix stays
    features = [x.mean(1, dtype=np.float64) for x in (X, *seen)]
    expected = np.mean([x @ head.coef_.T + head.intercept_ for x in features], axis=0)
    np.testing.assert_allclose(head.decision_function(X), expected, atol=1e-6)
    np.testing.assert_array_equal(head.predict(X), expected.argmax(1))
    odds = expected / getattr(head, "temperature_", 1.0)
    np.testing.assert_allclose(head.predict_proba(X), np.exp(odds) / np.exp(odds).sum(1, keepdims=True), atol=1e-6)


class DropLargest(Augmentation):
    """Hides the token of the largest first channel: another one in each image."""

    def make_params(self, batch: TokenBatch, /, generator: torch.Generator) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def transform(self, batch: TokenBatch, /, params: Any) -> TokenBatch:  # noqa: ARG002
        first = batch.patches[:, :, 0]
        return batch.replace(mask=first < first.amax(1, keepdim=True))


def test_views_may_hide_other_tokens_of_each_image() -> None:
    X, y = tokens()
    head = RidgeProbeClassifier(1.0, augment=DropLargest(), n_augmented=1, n_views=1, random_state=0).fit(X, y)
    largest = X[:, :, 0].argmax(1)
    rest = np.stack([np.delete(x, i, axis=0).mean(0, dtype=np.float64) for x, i in zip(X, largest, strict=True)])
    both = (X.mean(1, dtype=np.float64) + rest) / 2
    np.testing.assert_allclose(head.decision_function(X), both @ head.coef_.T + head.intercept_, atol=1e-6)


def test_views_may_be_asked_for_after_fit() -> None:
    X, y = tokens()
    head = RidgeProbeClassifier(augment=AUGMENT, random_state=0).fit(X, y)
    asked = clone(head).set_params(n_views=4).fit(X, y)
    np.testing.assert_array_equal(head.set_params(n_views=4).predict_proba(X), asked.predict_proba(X))


@pytest.mark.parametrize("probe", PROBES)
def test_a_search_reaches_the_augmentation(probe: Any) -> None:
    X, y = pooled(36)
    name = probe.__name__.lower()
    pipeline = make_pipeline(StandardScaler(), probe(augment=Brightness(0.1, "default"), random_state=0))
    levels = {f"{name}__augment__level": [0.0, 0.2], f"{name}__n_augmented": [2]}
    other = {f"{name}__augment": [None, GaussianNoise(0.1)]}
    search = GridSearchCV(pipeline, [levels, other], cv=3, error_score="raise").fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 4
    assert scores[0] == scores[2], "level 0 is no augmentation"


@every_probe
def test_copies_of_the_head_predict_the_same(probe: Any, tmp_path: Path) -> None:
    X, y = tokens()
    augment = Sequential([Brightness(0.3), PatchDropout(0.3)])
    head = probe(augment=augment, n_augmented=2, n_views=3, n_prefix=0, grid=(3, 3), random_state=7).fit(X, y)
    frofa.save(head, tmp_path / "head.frofa")
    for copy in (frofa.load(tmp_path / "head.frofa"), pickle.loads(pickle.dumps(head))):  # noqa: S301
        assert repr(copy) == repr(head)
        np.testing.assert_array_equal(copy.predict_proba(X), head.predict_proba(X))
    assert repr(clone(head)) == repr(head)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"augment": MixUp()}, "Probe.* needs an augmentation that leaves labels as they are; .* Got MixUp"),
        ({"augment": Sequential([Brightness(), MixUp()])}, "leaves labels as they are"),
        ({"augment": Brightness(level=2)}, "'level' parameter of Brightness .* Got 2"),
        ({"augment": "brightness"}, "'augment' parameter of .*Probe.* Got 'brightness'"),
        ({"n_views": 2}, "n_views=2 needs an augmentation. Got augment=None"),
        ({"n_views": -1}, "'n_views' parameter"),
        ({"n_augmented": -1}, "'n_augmented' parameter"),
        ({"augment": AUGMENT, "n_prefix": 9}, "n_prefix must leave at least one of the 9 tokens. Got 9"),
        ({"augment": AUGMENT, "grid": (2, 4)}, r"height \* width = 9 tokens. Got \(2, 4\)"),
        ({"augment": AUGMENT, "grid": (9,)}, r"'grid' parameter of .*Probe.* Got \(9,\)"),
        ({"augment": AUGMENT, "grid": ("3", 3)}, r"'grid' parameter of .*Probe.* Got \('3', 3\)"),
        ({"augment": AUGMENT, "grid": 3}, "'grid' parameter of .*Probe.* Got 3"),
    ],
)
@every_probe
def test_errors_name_what_is_wrong(probe: Any, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probe(random_state=0, **params).fit(*tokens())


def test_views_of_mixed_images_are_refused() -> None:
    head = MAPClassifier(MixUp())
    head.n_views = 1
    with pytest.raises(
        ValueError, match=r"n_views=1 needs an augmentation of single images, and this one mixes them: MixUp"
    ):
        head.fit(*tokens())


def test_views_need_a_fit_with_augmentation() -> None:
    X, y = tokens()
    head = RidgeProbeClassifier().fit(X, y).set_params(n_views=1)
    with pytest.raises(ValueError, match=r"n_views=1 needs an augmentation\. Got augment=None"):
        head.predict(X)
    with pytest.raises(NotFittedError, match="This RidgeProbeClassifier was fitted without augment, and has no views"):
        head.set_params(augment=AUGMENT).predict(X)
