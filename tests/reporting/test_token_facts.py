"""Facts of token heads: examples of attention, members of a blend, and what augmentation adds."""

from copy import copy
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import log_softmax
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from frofa.augmentations import Brightness, GaussianNoise
from frofa.blocks import FeatureBlocks
from frofa.displays.parts import parts_of
from frofa.estimators import FewShotClassifier, LogisticProbeClassifier, MAPClassifier, RidgeProbeClassifier
from frofa.estimators.blending import joining
from frofa.estimators.blending.weights import Blend
from frofa.evaluation import paired_interval, proportion_interval
from frofa.reporting.facts.attention import WHOLE, attention_examples, examples_of
from frofa.reporting.facts.augmentation import augmentation_facts
from frofa.reporting.facts.inputs import Inputs, Training, inputs_of
from frofa.reporting.facts.members import member_facts

RNG = np.random.default_rng(0)
CLASSES = np.array(["ant", "bee", "cat"])
N = 36
CODES = np.arange(N) % 3
TOKENS = (RNG.normal(size=(N, 4, 16)) + 0.7 * np.eye(16)[CODES][:, None]).astype(np.float32)
OTHER = (RNG.normal(size=(N, 4, 16)) + 0.7 * np.eye(16)[CODES][:, None]).astype(np.float32)
IMAGES = [Image.fromarray(RNG.integers(0, 256, (16, 24, 3), np.uint8)) for _ in range(N)]
SETTINGS: dict[str, Any] = {"n_steps": 20, "random_state": 0, "device": "cpu", "novelty": None}


def blocks(first: Any, second: Any) -> FeatureBlocks:
    return FeatureBlocks({"mean": [first.mean(1), second.mean(1)], "tokens": [first, second]})


SUPPORT, TEST = blocks(TOKENS, TOKENS[:, [1, 0, 3, 2]]), blocks(OTHER, RNG.normal(size=OTHER.shape).astype(np.float32))


@pytest.fixture(scope="module")
def blend() -> FewShotClassifier:
    """A blend of the probe, and of attention heads without augmentation and with it."""
    weights = np.array([0.3, 0.2, 0.0, 0.5, 0.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joining, "choose_weights", lambda *_: Blend(weights, 1.5, np.zeros(5), np.zeros(5)))
        head = FewShotClassifier(effort="high", n_folds=2, **SETTINGS)
        return head.fit(SUPPORT, CLASSES[CODES])


def asked(head: Any, X: Any, images: Any = IMAGES) -> Inputs:
    return inputs_of(parts_of(head), X, CLASSES[CODES], images, 0)


def test_members_are_scored_alone_and_taken_out(blend: FewShotClassifier) -> None:
    found, note = member_facts(asked(blend, TEST))
    assert note is None
    assert [(one.name, one.weight) for one in found] == [(name, one.weight) for name, one in blend.members_.items()]
    right = blend.predict(TEST) == CLASSES[CODES]
    logs = {
        "probe": log_softmax(blend.members_["probe"].estimator.decision_function(TEST), axis=1),
        **{
            name: log_softmax(
                blend.members_[name].scale * blend.members_[name].estimator.decision_function(TEST) + blend.offsets_, 1
            )
            for name in ("map", "map brightness 0.3")
        },
    }
    for one in found:
        if not one.weight:
            assert (one.alone, one.without, one.difference) == (None, None, None)
            assert one.reason
            continue
        alone = logs[one.name].argmax(1) == CODES
        assert one.alone == proportion_interval(alone.sum(), N)
        rest = sum(blend.members_[name].weight * log for name, log in logs.items() if name != one.name)
        without = rest.argmax(1) == CODES
        assert one.without == proportion_interval(without.sum(), N)
        assert one.difference == paired_interval(without, right)
        assert one.out_of_fold_accuracy == blend.members_[one.name].out_of_fold_accuracy


def test_augmentation_of_a_blend(blend: FewShotClassifier) -> None:
    views, frofa = augmentation_facts(asked(blend, TEST))[0]
    right, plain = (blend.predict(X) == CLASSES[CODES] for X in (TEST, TEST.select(n_views=1)))
    assert (views.name, views.n) == ("2 views of each image", N)
    assert (views.augmented.mean, views.plain.mean) == (right.mean(), plain.mean())
    assert views.difference == paired_interval(plain, right)
    assert plain.mean() != right.mean(), "the second view is noise"
    heads = [blend.members_[name].estimator.predict(TEST) == CLASSES[CODES] for name in ("map", "map brightness 0.3")]
    assert frofa.name == "brightness 0.3"
    assert frofa.difference == paired_interval(*heads)


def test_heads_that_do_not_count_are_told_of(blend: FewShotClassifier) -> None:
    one_view = TEST.select(n_views=1)
    members = {name: Bunch(**one) for name, one in blend.members_.items()}
    members["map"].weight, members["probe"].weight = 0.0, 0.5
    changed = copy(blend)
    changed.members_ = members
    found, note = augmentation_facts(asked(changed, one_view))
    assert found == []
    assert note is not None
    assert f"map brightness 0.3 {100 * blend.members_['map brightness 0.3'].out_of_fold_accuracy:.1f} %" in note


def test_a_head_is_trained_again_without_augmentation() -> None:
    head = MAPClassifier(Brightness(0.5), n_views=3, **SETTINGS).fit(TOKENS, CLASSES[CODES])
    inputs = asked(head, OTHER)
    copies, *rest = augmentation_facts(inputs)[0]
    assert rest == []
    assert copies.name == "3 augmented copies of features"
    single = MAPClassifier(Brightness(0.5), **SETTINGS).fit(TOKENS, CLASSES[CODES]).predict(OTHER) == CLASSES[CODES]
    assert copies.difference == paired_interval(single, head.predict(OTHER) == CLASSES[CODES])
    assert "give train=" in str(augmentation_facts(inputs)[1])
    names = [str(i) for i in range(N)]
    train = Training(TOKENS, None, CODES, names, None, None, np.arange(N), skipped=[])
    _, trained = augmentation_facts(Inputs(**{**vars(inputs), "train": train}))[0]
    plain = MAPClassifier(None, **SETTINGS).fit(TOKENS, CLASSES[CODES]).predict(OTHER) == CLASSES[CODES]
    assert trained.difference == paired_interval(plain, head.predict(OTHER) == CLASSES[CODES])
    assert "Brightness" in trained.name


def test_a_search_over_a_probe_is_trained_again_without_augmentation() -> None:
    y, X, other = CLASSES[CODES], TOKENS.mean(1), OTHER.mean(1)
    probe = RidgeProbeClassifier(augment=GaussianNoise(1.0), random_state=0, novelty=None)
    search = GridSearchCV(probe, {"n_augmented": [3]}, cv=2).fit(X, y)
    pipeline = make_pipeline(StandardScaler(), search).fit(X, y)
    scaled, scaled_other = (pipeline[0].transform(part) for part in (X, other))
    train = Training(X, None, CODES, [""] * N, None, None, np.arange(N), skipped=[])
    inputs = asked(pipeline, other)
    [found], note = augmentation_facts(Inputs(**{**vars(inputs), "train": train}))
    assert note is None
    plain = RidgeProbeClassifier(n_augmented=3, random_state=0, novelty=None).fit(scaled, y).predict(scaled_other) == y
    assert found.difference == paired_interval(plain, pipeline.predict(other) == y)


def test_attention_over_mistakes_and_right_ones(blend: FewShotClassifier) -> None:
    inputs = asked(blend, TEST)
    found, note = attention_examples(inputs, limit=6)
    assert note == WHOLE
    right = inputs.predicted == inputs.truth
    assert [bool(right[one.index]) for one in found] == [False] * 3 + [True] * 3
    expected = blend.members_["map brightness 0.3"].estimator.attention(OTHER)
    for one in found:
        np.testing.assert_allclose(one.weights.reshape(-1, 4), expected[one.index], atol=1e-6)
        np.testing.assert_array_equal(np.asarray(one.picture), np.asarray(IMAGES[one.index]))
        assert (one.head, one.maps) == ("map brightness 0.3", "attention head")


def test_examples_are_of_many_classes() -> None:
    truth, predicted = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 2, 1, 0, 2])
    certainty = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    assert examples_of(truth, predicted, certainty, 5).tolist() == [2, 5, 0, 4, 6]
    assert examples_of(truth, predicted, certainty, 100).tolist() == [2, 5, 3, 0, 4, 6, 1]
    assert examples_of(truth, truth, certainty, 3).tolist() == [0, 4, 6]
    assert examples_of(truth, (truth + 1) % 3, certainty, 3).tolist() == [0, 4, 6]


def test_classifiers_without_such_parts_say_so() -> None:
    y = CLASSES[CODES]
    probe = LogisticProbeClassifier().fit(TOKENS.mean(1), y)
    inputs = asked(probe, OTHER.mean(1))
    for facts, text in (
        (attention_examples, "effort='high'"),
        (member_facts, "no blend"),
        (augmentation_facts, "neither several views"),
    ):
        found, note = facts(inputs)
        assert found == []
        assert text in str(note)
    fast = FewShotClassifier().fit(SUPPORT, y)
    assert "effort='fast'" in str(member_facts(asked(fast, TEST))[1])
    assert attention_examples(asked(fast, TEST))[1] == (
        "No token head counts in this blend, and there is no attention to show: effort is fast."
    )
    assert "of which there are none" in str(attention_examples(asked(fast, TEST, None))[1])
    assert [one.name for one in augmentation_facts(asked(fast, TEST))[0]] == ["2 views of each image"]
