"""Learning while labels are given: what is shown next, guessed, and suspected."""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from frofa import FeatureBlocks
from frofa.annotation.features import ArrayFeatures
from frofa.annotation.learning.situation import Situation
from frofa.annotation.learning.standing import effective_number, like_all
from frofa.annotation.records.file import LabelFile
from frofa.annotation.respond import respond
from frofa.annotation.session import Labelling, LabellingSession

N, K = 120, 3
Y = np.arange(N) % K
CLASSES = np.array(["cat", "dog", "newt"])
NAMES = [f"{number}.jpg" for number in range(N)]


def made_up(seed: int = 0, n: int = N) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, 16)) + 5 * np.eye(K, 16)[np.arange(n) % K]).astype(np.float32)


class Arriving(ArrayFeatures):
    """Features that come when they are told to, in an order of their own; some images cannot be read."""

    def __init__(self, X: Any, failed: Iterable[int] = ()):
        super().__init__(X)
        self.failed = dict.fromkeys(failed, "no image")
        self.order = np.random.default_rng(1).permutation([p for p in range(len(X)) if p not in self.failed])
        self.n_ready = self.done = 0
        self.running = True

    def come(self, n: int) -> None:
        self.n_ready = min(n, len(self.order))
        self.done = self.n_ready + len(self.failed)
        self.running = self.n_ready < len(self.order)

    def ready(self) -> tuple[npt.NDArray[np.intp], Any]:
        rows = self.order[: self.n_ready]
        return rows, self.X[rows] if len(rows) else None


def session_of(folder: Path, features: Any) -> LabellingSession:
    return LabellingSession(folder, NAMES, LabelFile(folder / "labels.csv"), features)


def give(session: LabellingSession, positions: Iterable[int], how: str = "key", **labels: str) -> None:
    given = [Labelling(NAMES[p], labels.get(f"at{p}", str(CLASSES[Y[p]])), how) for p in positions]
    session.decide(given)


def batch(session: LabellingSession, kind: str = "useful", **more: Any) -> dict[str, Any]:
    return respond(session, {"op": "batch", "kind": kind, **more})


def indices(answer: dict[str, Any]) -> list[int]:
    return [item["index"] for item in answer["items"]]


def model(session: LabellingSession) -> Any:
    return respond(session, {"op": "state"})["model"]


def test_without_labels_the_first_images_are_of_all_classes(tmp_path: Path) -> None:
    session = session_of(tmp_path, ArrayFeatures(made_up()))
    session.learn()
    assert set(Y[indices(batch(session, n=K))]) == set(range(K))
    assert model(session) is None
    group = batch(session, "group")
    assert group["label"] is None
    assert len({Y[index] for index in indices(group)}) == 1


def test_labels_teach_guesses_accuracy_and_groups(tmp_path: Path) -> None:
    session = session_of(tmp_path, ArrayFeatures(made_up()))
    give(session, range(12))
    session.learn()
    known = model(session)
    assert (known["version"], known["stale"], known["n"]) == (12, False, 12)
    assert 0 <= known["low"] <= known["accuracy"] <= known["high"] <= 1
    assert known["accuracy"] > 0.8
    assert known["needed"]["text"]
    answer = batch(session)
    assert not set(indices(answer)) & set(range(12))
    guessed = np.array([item["guess"]["label"] for item in answer["items"]])
    assert (guessed == CLASSES[Y[indices(answer)]]).mean() > 0.8
    group = batch(session, "group")
    assert len(group["items"]) == 12
    assert {CLASSES[Y[index]] for index in indices(group)} == {group["label"]}
    give(session, [12])
    assert model(session)["stale"]


def test_useful_images_are_not_those_at_random(tmp_path: Path) -> None:
    session = session_of(tmp_path, ArrayFeatures(made_up()))
    before = indices(batch(session))
    session.learn(("order",))
    assert indices(batch(session)) != before


def test_what_was_set_aside_cannot_be_read_or_is_on_the_screen_is_not_suggested(tmp_path: Path) -> None:
    features = Arriving(made_up(), failed=[5, 6])
    features.come(N)
    session = session_of(tmp_path, features)
    give(session, range(4))
    session.decide([Labelling(NAMES[10], "", "unsure"), Labelling(NAMES[11], "", "none")])
    session.learn()
    shown = indices(batch(session, n=500, skip=[NAMES[20]]))
    assert sorted(shown) == sorted(set(range(N)) - {0, 1, 2, 3, 5, 6, 10, 11, 20})
    for _ in range(8):
        positions = indices(batch(session, "group", n=500, skip=[NAMES[20]]))
        assert not set(positions) & {0, 1, 2, 3, 5, 6, 10, 11, 20}
        give(session, positions)


def test_a_wrong_label_is_suspected_until_it_is_changed_or_confirmed(tmp_path: Path) -> None:
    session = session_of(tmp_path, ArrayFeatures(made_up()))
    give(session, range(60), at9="dog", at31="newt")
    session.learn()
    answer = batch(session, "mistakes")
    assert sorted(indices(answer)) == [9, 31]
    item = next(one for one in answer["items"] if one["index"] == 9)
    assert (item["label"], item["suspect"]["suggested"]) == ("dog", "cat")
    assert item["suspect"]["probability"] > 0.5
    give(session, [9])
    assert indices(batch(session, "mistakes")) == [31]
    session.decide([Labelling(NAMES[31], "newt", "key")])
    assert model(session)["n_mistakes"] == 0


def test_features_that_come_late_are_learnt_from_as_they_come(tmp_path: Path) -> None:
    features = Arriving(made_up())
    session = session_of(tmp_path, features)
    session.learn()
    assert session.knowledge is None
    give(session, range(6))
    assert len(batch(session)["items"]) == 12
    features.come(30)
    session.learn(("order",))
    assert session.knowledge is not None
    assert set(session.knowledge.order) <= set(features.order[:30])
    features.come(N)
    session.learn()
    assert session.knowledge.guesses is not None
    assert (session.knowledge.guesses[6:] >= 0).all()
    assert respond(session, {"op": "state"})["extraction"] == {"done": N, "total": N, "failed": 0, "running": False}


def test_features_that_fail_say_why_and_what_there_is_is_learnt_from(tmp_path: Path) -> None:
    features = Arriving(made_up())
    features.come(36)
    session = session_of(tmp_path, features)
    give(session, features.order[:12])
    session.learn()
    features.come(40)
    features.running, features.error = False, "there is no such model"
    session.learn()
    assert session.knowledge is not None
    state = respond(session, {"op": "state"})
    assert (state["message"], state["extraction"]["running"]) == ("there is no such model", False)
    assert set(session.knowledge.order) | set(features.order[:12]) == set(features.order[:40])


def test_undo_down_to_one_class_takes_the_model_back(tmp_path: Path) -> None:
    session = session_of(tmp_path, ArrayFeatures(made_up()))
    give(session, [0])
    give(session, [1])
    session.learn()
    assert model(session)["accuracy"] is None
    session.undo()
    session.learn()
    assert model(session) is None
    assert all(item["guess"] is None for item in batch(session)["items"])


def test_blocks_of_features_do(tmp_path: Path) -> None:
    X = made_up()
    session = session_of(tmp_path, ArrayFeatures(FeatureBlocks({"pooled": [X, X + 1], "mean": [X, -X]})))
    give(session, range(12))
    session.learn()
    assert model(session)["accuracy"] > 0.8


def test_the_thread_learns_while_labels_are_given(tmp_path: Path) -> None:
    session = session_of(tmp_path, ArrayFeatures(made_up()))
    session.start()
    session.start()
    for start in range(0, 48, 12):
        give(session, range(start, start + 12))
        batch(session)
    wait_until(lambda: not (model(session) or {"stale": True})["stale"])
    session.close()
    assert model(session)["n"] == 48
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("frofa-labelling")]


def test_new_labels_are_learnt_while_a_part_of_learning_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(*_: Any) -> Any:
        begun.set()
        assert may_end.wait(60)
        return np.arange(N)

    session = session_of(tmp_path, ArrayFeatures(made_up()))
    give(session, [0, 1, 3, 4])  # cats and dogs
    with monkeypatch.context() as patched:
        patched.setattr("frofa.annotation.learning.suggesting.pool_rows", slow)
        session.start()
        wait_until(begun.is_set)
        give(session, [2, 5])  # newts
        wait_until(lambda: not (model(session) or {"stale": True})["stale"])
        assert session.knowledge is not None
        assert session.knowledge.classes == tuple(CLASSES)
        may_end.set()
    wait_until(lambda: session.knowledge is not None and bool(session.knowledge.groups))
    session.close()
    # Guesses of the fit that knew no newts did not replace those of the one that did.
    guessed = [session.knowledge.guess(position) for position in range(6, N)]
    right = [guess is not None and guess.label == CLASSES[Y[p]] for p, guess in enumerate(guessed, start=6)]
    assert np.mean(right) > 0.8


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_an_error_of_learning_is_told_and_labels_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail(situation: Any) -> None:
        calls.append(situation.version)
        raise ValueError("expected finite features")

    session = session_of(tmp_path, ArrayFeatures(made_up()))
    with monkeypatch.context() as patched:
        patched.setattr("frofa.annotation.learning.learner.fit", fail)
        session.start()
        wait_until(lambda: session.trouble is not None)
        assert respond(session, {"op": "state"})["message"].endswith(
            "learnt from these labels: expected finite features"
        )
        give(session, range(6))
        wait_until(lambda: 6 in calls)
        assert respond(session, {"op": "state"})["n_labelled"] == 6
    give(session, [6])
    wait_until(lambda: session.trouble is None and session.knowledge is not None)
    session.close()
    # What fails is not tried again and again.
    assert len(calls) == len(set(calls))


def test_accuracy_is_that_of_all_images_though_hard_ones_are_labelled(tmp_path: Path) -> None:
    # Of 120 images, 30 lie between two classes, and have one of their labels by chance; most labels are of these.
    rng = np.random.default_rng(3)
    X = (rng.normal(size=(N, 16)) + 15 * np.eye(K, 16)[Y]).astype(np.float32)
    hard = np.flatnonzero(np.arange(N) % 4 == 0)
    X[hard] = rng.normal(size=(30, 16)) + 10 * np.array([1, 1, *(14 * [0])])
    session = session_of(tmp_path, ArrayFeatures(X))
    give(session, [*hard[Y[hard] < 2], *np.flatnonzero(np.arange(N) % 4 == 1)[:18]])
    session.learn(("order",))
    assert session.knowledge is not None
    measured = session.knowledge.measured
    assert measured is not None
    fitted = session._trainer._learner._fit  # type: ignore[union-attr]
    assert fitted is not None
    rows, y = fitted.situation.labelled
    plain = (fitted.head.classes_[fitted.head.out_of_fold_proba_.argmax(1)] == y).mean()
    others = np.setdiff1d(np.arange(N), rows)
    truth = (fitted.head.predict(X[others]) == CLASSES[Y[others]]).mean()
    assert plain + 0.05 < measured.accuracy
    assert abs(measured.accuracy - truth) < abs(plain - truth)
    assert measured.low < measured.accuracy <= measured.high


def test_samples_that_are_like_all_are_drawn_by_weight_with_two_of_each_class() -> None:
    y = np.repeat(["a", "b", "c"], [50, 48, 2])
    weights = np.where(np.arange(100) < 25, 10.0, 0.1)
    rows = like_all(weights, y, 30, 0)
    assert len(rows) == 30
    assert (rows < 25).sum() > 20
    assert {label: int((y[rows] == label).sum() >= 2) for label in "abc"} == {"a": 1, "b": 1, "c": 1}
    assert effective_number(np.ones(7)) == 7


def test_very_many_labels_are_learnt_from_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.annotation.learning.situation.MOST_LABELLED", 50)
    labels = {position: str(CLASSES[Y[position]]) if position > 5 else "rare" for position in range(100)}
    situation = Situation(1, N, labels, [], np.arange(N)[::-1], made_up())
    rows, y = situation.labelled
    assert len(rows) == len(set(rows.tolist())) == 50
    assert (y == [labels[N - 1 - row] for row in rows.tolist()]).all()
    assert set(y) == {*CLASSES, "rare"}
    assert situation.open.sum() == N - 100


def test_all_features_are_read_without_a_copy() -> None:
    X = made_up()
    situation = Situation(0, N, {}, [], np.arange(N), X)
    assert situation.features(np.arange(N)) is X
    assert np.array_equal(situation.features(np.arange(3)), X[:3])
    assert np.array_equal(situation.features(np.arange(N)[::-1]), X[::-1])


def test_a_part_that_fails_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("array must not contain infs or NaNs")

    monkeypatch.setattr("frofa.annotation.learning.judging.needed", fail)
    monkeypatch.setattr("frofa.annotation.learning.suggesting.of_guesses", fail)
    session = session_of(tmp_path, ArrayFeatures(made_up()))
    give(session, range(60), at9="dog")
    session.start()
    wait_until(lambda: (model(session) or {"n_mistakes": 0})["n_mistakes"] == 1)
    wait_until(lambda: "labels that are needed" in (session.trouble or ""))
    state = respond(session, {"op": "state"})
    session.close()
    assert "Groups of images are not looked for: array must not contain infs or NaNs" in state["message"]
    assert "Nothing is learnt" not in state["message"]
    assert state["model"]["accuracy"] > 0.8
    assert state["model"]["needed"] is None
