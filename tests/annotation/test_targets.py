"""Targets of accuracy are above the accuracy shown, and sentences about them belong to it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from frofa.annotation.features import NoFeatures
from frofa.annotation.learning.knowledge import Knowledge, Measured
from frofa.annotation.learning.targets import above_all, in_words, next_target, standing_needed
from frofa.annotation.records.file import LabelFile
from frofa.annotation.respond import respond
from frofa.annotation.session import LabellingSession
from frofa.estimators import RidgeProbeClassifier
from frofa.learning_curves import LabelsNeeded, how_many_labels

AT_47 = Measured(0.47, 0.19, 0.81, 11)


@pytest.fixture(scope="module")
def answer() -> LabelsNeeded:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 12)
    X = rng.normal(size=(36, 20)) + 1.2 * np.eye(3)[y] @ rng.normal(size=(3, 20))
    return how_many_labels(RidgeProbeClassifier(), X, y, target=0.7, n_orders=2, random_state=0)


@pytest.mark.parametrize(
    ("accuracy", "target"),
    [(0.0, 0.5), (0.47, 0.5), (0.5, 0.7), (0.794, 0.8), (0.796, 0.9), (0.98, 0.99), (0.99, None), (1, None)],
)
def test_the_next_target_is_above_the_accuracy_as_it_is_shown(accuracy: float, target: float | None) -> None:
    assert next_target(accuracy) == target


def test_no_target_above_the_accuracy_is_said_to_be_reached(answer: LabelsNeeded) -> None:
    reached = replace(answer, answer="reached", n_labels=20)
    unsure = in_words(reached, AT_47, 12)
    assert unsure.text == "Next target, 70 %: the accuracy may be that high already, and a few more labels will tell"
    assert (unsure.n_more, unsure.target, unsure.version, unsure.n) == (None, 0.7, 12, 11)
    # The interval of the accuracy rules the target out: two estimates contradict each other.
    low = in_words(reached, Measured(0.47, 0.4, 0.6, 200), 200)
    assert low.text == "Next target, 70 %: how many labels it takes cannot be said yet"


def test_answers_in_words(answer: LabelsNeeded) -> None:
    enough = replace(answer, answer="enough", n_labels=1236.0, n_labelled=36)
    assert in_words(enough, AT_47, 12)[:2] == ("Next target, 70 %: about 1,200 more labels", 1200)
    soon = replace(enough, n_labels=36.0)
    assert in_words(soon, AT_47, 12)[:2] == ("Next target, 70 %: about 1 more label", 1)
    assert "out of reach" in in_words(replace(answer, answer="out of reach"), AT_47, 12).text
    assert "cannot be said" in in_words(replace(answer, answer="cannot be said"), AT_47, 12).text
    assert above_all(Measured(1.0, 0.7, 1.0, 9), 9).text.endswith("more certain")
    assert above_all(Measured(1.0, 0.995, 1.0, 900), 9).text == "No target is left above this accuracy"


def test_a_sentence_belongs_to_the_accuracy_beside_it(answer: LabelsNeeded, tmp_path: Path) -> None:
    session = LabellingSession(tmp_path, ["a", "b"], LabelFile(tmp_path / "labels.csv"), NoFeatures(2))
    some = replace(answer, answer="enough", n_labels=76.0, n_labelled=36)
    needed = in_words(some, AT_47, 0)
    known = Knowledge(0, ("x", "y"), np.zeros(2, np.intp), np.ones(2, np.float32), AT_47)

    def told(accuracy: float, version: int) -> dict[str, object] | None:
        measured = AT_47._replace(accuracy=accuracy)
        return standing_needed(replace(known, measured=measured, needed=needed), version)

    now = told(0.6, 0)
    assert now is not None
    assert (now["text"], now["n_more"], now["stale"]) == ("Next target, 70 %: about 40 more labels", 40, False)
    assert now["reason"] == "Targets are 50, 70, 80, 90, 95 and 99 %; the next is the first above the accuracy."
    # A label later the sentence is an older one, and says so.
    later = told(0.62, 1)
    assert later is not None
    assert (later["text"], later["stale"]) == ("Next target, 70 %: about 40 more labels (as of 11 labels)", True)
    # The accuracy went past the target, or fell below an earlier one: it is not the next one any more.
    for accuracy, target in ((0.82, 90), (0.47, 50)):
        other = told(accuracy, 1)
        assert other is not None
        assert other["text"] == f"Next target, {target} %: not estimated yet"
        assert (other["n_more"], other["stale"]) == (None, True)
    assert standing_needed(known, 0) is None
    session.knowledge = replace(known, measured=AT_47._replace(accuracy=0.6), needed=needed)
    assert respond(session, {"op": "state"})["model"]["needed"] == now
