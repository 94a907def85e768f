"""Heads that start from the words for their classes."""

import pickle
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict

import frofa
from frofa import FeatureBlocks
from frofa.estimators import ConformalClassifier, FewShotClassifier, ShrinkageProbeClassifier
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.exceptions import UnusedWordsWarning

NAMES = np.array(["cat", "dog", "eel", "fox"])
WIDTH = 16
Array: TypeAlias = npt.NDArray[Any]
Few: TypeAlias = tuple[FeatureBlocks, Array, dict[str, Array]]


class Words:
    """A tower of which each name has its vector."""

    logit_scale = 20.0
    templates = ("{}", "a {}")

    def __init__(self, vectors: dict[str, Array]):
        self.vectors, self.n_calls = vectors, 0

    def transform(self, texts: list[str]) -> Array:
        self.n_calls += 1
        return np.stack([self.vectors[text.split()[-1]] for text in texts])


def images(shots: int, seed: int = 0, n_views: int = 2, noise: float = 1.0) -> Few:
    """Blocks of images near the vector of their class, labels, and the vectors."""
    vectors = np.random.default_rng(42).normal(size=(len(NAMES), WIDTH))
    rng = np.random.default_rng(seed)
    y = np.repeat(NAMES, shots)
    centre = vectors[np.searchsorted(NAMES, y)]
    base = centre + noise * rng.normal(size=centre.shape)
    views = [(base + 0.1 * rng.normal(size=base.shape)).astype(np.float32) for _ in range(n_views)]
    other = [np.tanh(view @ np.random.default_rng(1).normal(size=(WIDTH, 10))) for view in views]
    return FeatureBlocks({"pooled": views, "mean": other}), y, dict(zip(NAMES.tolist(), vectors, strict=True))


@pytest.fixture
def few() -> Few:
    return images(2)


@pytest.mark.parametrize("kind", [ShrinkageProbeClassifier, FewShotClassifier])
@pytest.mark.parametrize("shots", [1, 3])
def test_words_help(kind: Any, shots: int) -> None:
    X, y, vectors = images(shots, noise=2.0)
    new, truth, _ = images(100, seed=1, noise=2.0)
    alone = kind(device="cpu").fit(X, y).score(new, truth)
    head = kind(prior="text", text=Words(vectors), device="cpu").fit(X, y)
    by_words = (np.asarray(new.views("pooled")[0]) @ np.stack(list(vectors.values())).T).argmax(1)
    assert head.score(new, truth) > alone + 0.05
    # Four images do not tell how much words are worth.
    assert head.score(new, truth) > (NAMES[by_words] == truth).mean() - (0.08 if shots == 1 else 0.03)
    np.testing.assert_allclose(head.predict_proba(new).sum(1), 1)


def test_words_that_say_nothing_leave_the_labels_as_they_are() -> None:
    X, y, vectors = images(8)
    new, _, _ = images(50, seed=1)
    wrong = dict(zip(vectors, np.random.default_rng(3).normal(size=(4, WIDTH)), strict=True))
    head = ShrinkageProbeClassifier(prior="text", text=wrong).fit(X, y)
    assert not head.text_scales_.any()
    assert head.text_weights_["helps"] < 0.3
    assert (head.text_doubts_ > 0.7).all()
    right = ShrinkageProbeClassifier(prior="text", text=vectors).fit(X, y)
    assert (right.text_doubts_ < 0.1).all()
    assert head.predict(new).tolist() == ShrinkageProbeClassifier().fit(X, y).predict(new).tolist()


def test_left_out_samples_are_scored_without_themselves(few: Few) -> None:
    X, y, vectors = few
    head = ShrinkageProbeClassifier(prior="text", text=vectors).fit(X, y)
    assert np.isfinite(head.loo_proba_).all()
    assert head.loo_accuracy_ == (NAMES[head.loo_proba_.argmax(1)] == y).mean()
    one, labels, _ = images(1)
    head.fit(one, labels)
    assert np.isnan(head.loo_proba_).all()
    assert head.score(*images(50, seed=1)[:2]) > 0.8


@pytest.mark.parametrize("kind", [ShrinkageProbeClassifier, FewShotClassifier])
def test_files_need_no_tower(kind: Any, few: Few, tmp_path: Path) -> None:
    X, y, vectors = few
    head = kind(prior="text", text=Words(vectors), class_names={name: [name] for name in NAMES}).fit(X, y)
    expected = head.predict_proba(X)
    frofa.save(head, tmp_path / "head.frofa")
    loaded = frofa.load(tmp_path / "head.frofa")
    assert loaded.text is None
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(head)).predict_proba(X), expected)  # noqa: S301
    np.testing.assert_array_equal(head.text_features_, loaded.text_features_)


def test_samples_and_classes_come_and_go(few: Few, tmp_path: Path) -> None:
    X, y, vectors = few
    whole = ShrinkageProbeClassifier(prior="text", text=vectors).fit(X, y)
    grown = ShrinkageProbeClassifier(prior="text", text=vectors).partial_fit(X[::2], y[::2], classes=NAMES)
    grown.partial_fit(X[1::2], y[1::2])
    np.testing.assert_allclose(grown.predict_proba(X), whole.predict_proba(X), atol=1e-9)
    known = y != "fox"
    three = clone(whole).fit(X[known], y[known])
    np.testing.assert_allclose(three.add_class(X[~known], "fox").predict_proba(X), whole.predict_proba(X), atol=1e-9)
    with pytest.raises(TypeError, match=r"features of samples first, and then their label\. Got X='fox'"):
        three.add_class("fox", X[~known])
    frofa.save(whole, tmp_path / "head.frofa")
    loaded = frofa.load(tmp_path / "head.frofa").drop_class("fox")  # its words are in the file
    expected = clone(whole).fit(X[known], y[known])
    np.testing.assert_allclose(loaded.predict_proba(X), expected.predict_proba(X), atol=1e-9)


def test_many_fits_are_those_one_by_one(few: Few) -> None:
    X, y, vectors = few
    words = Words(vectors)
    head = ShrinkageProbeClassifier(prior="text", text=words)
    rows = [np.arange(len(y)), np.arange(0, len(y), 2), np.arange(1, len(y), 2)]
    jobs = [Job(head, part) for part in rows] + [Job(ShrinkageProbeClassifier(), rows[0])]
    found: list[Any] = fit_many(X, y, jobs)
    for one, part in zip(found, rows, strict=False):
        expected = clone(head).fit(X[part], y[part]).predict_proba(X)
        np.testing.assert_allclose(one.predict_proba(X), expected, atol=1e-9)
    np.testing.assert_allclose(found[-1].predict_proba(X), ShrinkageProbeClassifier().fit(X, y).predict_proba(X))
    assert found[0].text is words


def test_a_block_of_words_describes_no_image(few: Few) -> None:
    X, y, vectors = few
    apart = FeatureBlocks({"mean": X.views("mean"), "text": X.views("pooled")})
    head = ShrinkageProbeClassifier(prior="text", text=vectors).fit(apart, y)
    assert head.text_block_ == "text"
    assert list(head.block_weights_) == ["mean"]
    assert head.coef_.shape[2] == 10
    probe = ShrinkageProbeClassifier().fit(X.select(["mean"]), y)
    assert head.members_ == probe.members_
    np.testing.assert_allclose(head.weights_, probe.weights_)
    assert head.novelty_score(apart).shape == y.shape
    blend = FewShotClassifier(prior="text", text=vectors).fit(apart, y)
    np.testing.assert_allclose(blend.predict_proba(apart), head.predict_proba(apart), atol=1e-3)


def test_weights_and_priors(few: Few) -> None:
    X, y, vectors = few
    head = ShrinkageProbeClassifier(prior="text", text=vectors, class_prior={"cat": 0, "dog": 1, "eel": 1, "fox": 1})
    assert (head.fit(X, y).predict_proba(X)[:, 0] < 1e-6).all()
    weights = np.ones(len(y))
    weights[-1] = 0
    some = ShrinkageProbeClassifier(prior="text", text=vectors).fit(X[:-1], y[:-1])
    weighted = ShrinkageProbeClassifier(prior="text", text=vectors).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(weighted.predict_proba(X), some.predict_proba(X), atol=1e-9)
    empirical = ShrinkageProbeClassifier(prior="text", text=vectors, class_prior="empirical").fit(X, y)
    assert np.isfinite(empirical.predict_proba(X)).all()


def test_prediction_sets() -> None:
    X, y, vectors = images(6)
    head = ShrinkageProbeClassifier(prior="text", text=vectors)
    with pytest.raises(ValueError, match="closed form"):
        ConformalClassifier(head, 0.8, method="full").fit(X, y)
    model = ConformalClassifier(head, 0.8, method="cv+", random_state=0).fit(X, y)
    new, truth, _ = images(50, seed=1)
    _, sets = model.predict_set(new)
    assert sets[np.arange(len(truth)), np.searchsorted(NAMES, truth)].mean() > 0.7


def test_folds_have_their_words(few: Few) -> None:
    X, y, vectors = few
    by_position = np.stack([vectors[name] for name in NAMES])  # scikit-learn numbers the labels
    head = ShrinkageProbeClassifier(prior="text", text=by_position)
    found = cross_val_predict(head, X, y, cv=2, method="predict_proba")
    assert found.shape == (len(y), len(NAMES))
    head = ShrinkageProbeClassifier(prior="text", text=vectors, novelty="energy").fit(X, y)
    assert np.isfinite(head.novelty_score(X)).all()


def test_a_head_forgets_words(few: Few) -> None:
    X, y, vectors = few
    head = ShrinkageProbeClassifier(prior="text", text=vectors).fit(X, y)
    with pytest.warns(UnusedWordsWarning, match=r"^text has no effect without prior='text'\.$") as warned:
        head.set_params(prior=None).fit(X, y)
    assert warned[0].filename == __file__
    with pytest.warns(UnusedWordsWarning, match="^class_names and templates have no effect"):
        FewShotClassifier(class_names=dict(vectors), templates="a {}").fit(X, y)
    assert not hasattr(head, "text_features_")
    np.testing.assert_array_equal(head.predict_proba(X), ShrinkageProbeClassifier().fit(X, y).predict_proba(X))


def test_mistakes_are_named(few: Few) -> None:
    X, y, vectors = few
    with pytest.raises(TypeError, match="text must turn words into vectors"):
        ShrinkageProbeClassifier(prior="text").fit(X, y)
    with pytest.raises(ValueError, match="'prior' parameter"):
        ShrinkageProbeClassifier(prior=cast(Any, "words")).fit(X, y)
    with pytest.raises(ValueError, match="same space"):
        ShrinkageProbeClassifier(prior="text", text=vectors, text_block="mean").fit(X, y)
    with pytest.raises(ValueError, match="Got none for 'fox'"):
        ShrinkageProbeClassifier(prior="text", text={k: v for k, v in vectors.items() if k != "fox"}).fit(X, y)
    tokens = np.stack([view[:, :10] for view in X.views("mean")], 1)
    with pytest.raises(ValueError, match=r"in the same space.*Got tokens of shape"):
        ShrinkageProbeClassifier(prior="text", text=vectors).fit(tokens, y)
    with pytest.raises(ValueError, match=r"FewShotClassifier compares.*Got no other block than mean"):
        FewShotClassifier(prior="text", text=vectors).fit(X.select(["mean"]), y)
    with pytest.raises(ValueError, match="class_names"):
        FewShotClassifier(prior="text", text=Words(vectors)).fit(X, np.searchsorted(NAMES, y))
