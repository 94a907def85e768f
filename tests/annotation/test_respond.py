"""Requests to a labelling session, and what its answers and its file say."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frofa.annotation.features import NoFeatures
from frofa.annotation.records.file import LabelFile
from frofa.annotation.respond import respond
from frofa.annotation.session import LabellingSession
from frofa.exceptions import RequestError

NAMES = [f"image {number}.jpg" for number in range(30)]


def session_in(folder: Path, names: list[str] = NAMES) -> LabellingSession:
    return LabellingSession(folder, names, LabelFile(folder / "labels.csv"), NoFeatures(len(names)))


@pytest.fixture
def session(tmp_path: Path) -> LabellingSession:
    return session_in(tmp_path)


class Client:
    """Requests of one window, numbered."""

    names = itertools.count()

    def __init__(self, session: LabellingSession, name: str | None = None):
        self.session, self.name, self.number = session, name or f"window {next(self.names)}", 0

    def label(self, labels: dict[str, str | None], how: str = "key", **more: Any) -> dict[str, Any]:
        self.number += 1
        given = [{"path": path, "label": label, "how": how} for path, label in labels.items()]
        request = {"op": "label", "client": self.name, "number": self.number, "labels": given, **more}
        return respond(self.session, request)

    def undo(self) -> dict[str, Any]:
        self.number += 1
        return respond(self.session, {"op": "undo", "client": self.name, "number": self.number})


def state(session: LabellingSession, since: int | None = None) -> dict[str, Any]:
    return respond(session, {"op": "state", "since": since})


def labels_of(answer: dict[str, Any]) -> dict[str, str]:
    return {change["path"]: change["label"] for change in answer["changes"]}


def rows(folder: Path) -> list[list[str]]:
    return [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()]


def test_labels_are_in_the_state_and_in_the_file(session: LabellingSession, tmp_path: Path) -> None:
    answer = Client(session).label({NAMES[3]: " cat ", NAMES[1]: "dog"}, since=0)
    assert labels_of(answer) == {NAMES[3]: "cat", NAMES[1]: "dog"}
    assert (answer["version"], answer["n_labelled"], answer["undo"]) == (2, 2, 1)
    assert answer["classes"] == [{"name": "cat", "key": "1", "n": 1}, {"name": "dog", "key": "2", "n": 1}]
    assert [(row[0], row[1], row[3]) for row in rows(tmp_path)] == [
        ("path", "label", "how"),
        (NAMES[3], "cat", "key"),
        (NAMES[1], "dog", "key"),
    ]


def test_changes_are_those_since_a_version(session: LabellingSession) -> None:
    client = Client(session)
    version = client.label({NAMES[0]: "cat"})["version"]
    client.label({NAMES[1]: "dog"})
    assert labels_of(state(session, version)) == {NAMES[1]: "dog"}
    assert labels_of(state(session)) == {NAMES[0]: "cat", NAMES[1]: "dog"}
    assert labels_of(state(session, 2)) == {}


def test_a_request_that_is_sent_again_is_done_once(session: LabellingSession, tmp_path: Path) -> None:
    client = Client(session)
    client.label({NAMES[0]: "cat"})
    Client(session, "other").label({NAMES[0]: "dog"})
    client.number = 0
    assert labels_of(client.label({NAMES[0]: "cat"})) == {NAMES[0]: "dog"}
    assert len(rows(tmp_path)) == 3


def test_undo_restores_what_was_before(session: LabellingSession) -> None:
    client = Client(session)
    client.label({NAMES[0]: None}, "unsure")
    client.label({NAMES[0]: "cat", NAMES[1]: "cat"})
    answer = client.undo()
    assert [(one["path"], one["label"], one["how"]) for one in answer["restored"]] == [
        (NAMES[0], None, "unsure"),
        (NAMES[1], None, "undo"),
    ]
    assert (answer["n_unsure"], answer["n_labelled"], answer["undo"]) == (1, 0, 1)
    assert client.undo()["n_unsure"] == 0
    assert client.undo()["restored"] == []


def test_undo_is_of_the_own_window_first_and_leaves_later_labels_of_others_alone(session: LabellingSession) -> None:
    one, other = Client(session, "one"), Client(session, "other")
    one.label({NAMES[0]: "cat", NAMES[1]: "cat"})
    other.label({NAMES[1]: "dog"})
    one.undo()
    assert labels_of(state(session)) == {NAMES[1]: "dog"}
    assert [change["path"] for change in Client(session, "third").undo()["restored"]] == [NAMES[1]]
    assert labels_of(state(session)) == {NAMES[1]: "cat"}


def test_undo_sent_again_takes_back_one(session: LabellingSession) -> None:
    client = Client(session)
    for name in NAMES[:3]:
        client.label({name: "cat"})
    client.undo()
    client.number -= 1
    assert len(client.undo()["restored"]) == 1
    assert state(session)["n_labelled"] == 2


def test_a_session_begins_where_the_last_one_ended(session: LabellingSession, tmp_path: Path) -> None:
    client = Client(session)
    client.label({NAMES[0]: None}, "none")
    client.label({NAMES[0]: "cat", NAMES[2]: "dog"})
    client.label({NAMES[3]: None}, "unsure")
    again = session_in(tmp_path)
    assert state(again) == state(session)
    assert Client(again).undo()["n_unsure"] == 0
    assert Client(again).undo()["n_none"] == 1


def test_requests_sent_again_after_a_restart_are_done_once(session: LabellingSession, tmp_path: Path) -> None:
    client = Client(session)
    client.label({NAMES[0]: "cat"})
    client.label({NAMES[0]: "dog", NAMES[1]: "dog"})
    client.undo()
    again = Client(session_in(tmp_path), client.name)
    answers = [again.label({NAMES[0]: "cat"}), again.label({NAMES[0]: "dog"}), again.undo()]
    assert [labels_of(answer) for answer in answers] == 3 * [{NAMES[0]: "cat"}]
    assert len(rows(tmp_path)) == 6
    assert again.undo()["n_labelled"] == 0


def test_a_request_of_which_not_all_rows_were_written_is_done_when_it_is_sent_again(
    session: LabellingSession, tmp_path: Path
) -> None:
    client = Client(session)
    client.label({NAMES[0]: "cat", NAMES[1]: "dog"})
    file = tmp_path / "labels.csv"
    file.write_bytes(file.read_bytes()[:-20])
    again = session_in(tmp_path)
    assert labels_of(state(again)) == {NAMES[0]: "cat"}
    assert "cut off" in state(again)["message"]
    answer = Client(again, client.name).label({NAMES[0]: "cat", NAMES[1]: "dog"})
    assert labels_of(answer) == {NAMES[0]: "cat", NAMES[1]: "dog"}


def test_classes_keep_their_keys_after_a_restart(session: LabellingSession, tmp_path: Path) -> None:
    client = Client(session)
    client.label({NAMES[0]: "caat", NAMES[1]: "dog"})
    respond(session, {"op": "add_class", "name": "bird"})
    respond(session, {"op": "rename_class", "from": "caat", "to": "cat"})
    client.label({NAMES[2]: "eel"})
    client.undo()
    names = [one["name"] for one in state(session)["classes"]]
    assert names == ["cat", "dog", "bird", "eel"]
    assert state(session_in(tmp_path))["classes"] == state(session)["classes"]
    Client(session).label({NAMES[3]: "caat"})
    assert state(session_in(tmp_path))["classes"][-1] == {"name": "caat", "key": "5", "n": 1}


@pytest.mark.parametrize("damage", [b"", b"[]\n{}\n\xff\n", b'{"client": "a', b"[" * 10_000])
def test_a_damaged_list_of_requests_costs_no_label(session: LabellingSession, tmp_path: Path, damage: bytes) -> None:
    Client(session).label({NAMES[0]: "cat"})
    (tmp_path / ".labels.csv.requests").write_bytes(damage)
    again = session_in(tmp_path)
    assert labels_of(state(again)) == {NAMES[0]: "cat"}
    client = Client(again)
    client.label({NAMES[1]: "dog"})
    client.session, client.number = session_in(tmp_path), client.number - 1
    assert labels_of(client.label({NAMES[1]: "cat"})) == {NAMES[0]: "cat", NAMES[1]: "dog"}


def test_two_sessions_see_each_other(session: LabellingSession, tmp_path: Path) -> None:
    other = session_in(tmp_path)
    Client(session).label({NAMES[0]: "cat"})
    Client(other).label({NAMES[1]: "dog"})
    Client(session).label({NAMES[2]: "cat"})
    assert state(other) == state(session)
    assert state(other)["n_labelled"] == 3


def test_a_file_that_was_edited_is_read_anew(session: LabellingSession, tmp_path: Path) -> None:
    Client(session).label({NAMES[0]: "cat", NAMES[1]: "cat"})
    before = state(session)["session"]
    file = tmp_path / "labels.csv"
    file.write_text(file.read_text().replace("cat", "lynx", 1))
    answer = state(session)
    assert labels_of(answer) == {NAMES[0]: "lynx", NAMES[1]: "cat"}
    assert answer["session"] != before
    Client(session).label({NAMES[2]: "cat"})
    assert len(rows(tmp_path)) == 4


def test_batches_have_only_what_waits(session: LabellingSession) -> None:
    client = Client(session)
    client.label({NAMES[0]: "cat"})
    client.label({NAMES[1]: None}, "unsure")
    client.label({NAMES[2]: None}, "none")
    answer = respond(session, {"op": "batch", "n": 100, "kind": "useful", "skip": [NAMES[3]]})
    assert sorted(item["path"] for item in answer["items"]) == sorted(NAMES[4:])
    assert [item["index"] for item in answer["items"]] != sorted(item["index"] for item in answer["items"])
    assert all(NAMES[item["index"]] == item["path"] for item in answer["items"])
    assert len(respond(session, {"op": "batch"})["items"]) == 12


def test_a_batch_of_a_class_shows_what_has_its_label(session: LabellingSession) -> None:
    client = Client(session)
    client.label({NAMES[0]: "cat", NAMES[1]: "dog", NAMES[2]: "cat"})
    client.label({NAMES[0]: "dog"})
    answer = respond(session, {"op": "batch", "kind": "class", "class": "dog"})
    assert [item["path"] for item in answer["items"]] == [NAMES[0], NAMES[1]]


def test_classes_are_added_renamed_and_joined(session: LabellingSession) -> None:
    client = Client(session)
    respond(session, {"op": "add_class", "name": "bird"})
    client.label({NAMES[0]: "caat", NAMES[1]: "dog", NAMES[2]: "caat"})
    answer = respond(session, {"op": "rename_class", "from": "caat", "to": "cat"})
    assert [(one["name"], one["key"], one["n"]) for one in answer["classes"]] == [
        ("bird", "1", 0),
        ("cat", "2", 2),
        ("dog", "3", 1),
    ]
    answer = respond(session, {"op": "rename_class", "from": "dog", "to": "cat"})
    assert [(one["name"], one["n"]) for one in answer["classes"]] == [("bird", 0), ("cat", 3)]
    again = respond(session, {"op": "rename_class", "from": "dog", "to": "cat"})
    assert again["version"] == answer["version"]


def test_images_have_one_name_whatever_happens_to_the_record(session: LabellingSession, tmp_path: Path) -> None:
    before = state(session)
    Client(session).label({NAMES[0]: "cat"})
    file = tmp_path / "labels.csv"
    file.write_text(file.read_text().replace("cat", "lynx"))
    assert state(session)["images"] == state(session_in(tmp_path))["images"] == before["images"]
    assert state(session)["session"] != before["session"]
    assert state(session_in(tmp_path, NAMES[1:]))["images"] != before["images"]


def test_keys_end_after_thirty_five_classes(session: LabellingSession) -> None:
    for number in range(36):
        answer = respond(session, {"op": "add_class", "name": f"class {number}"})
    keys = [one["key"] for one in answer["classes"]]
    assert keys[8:10] == ["9", "a"]
    assert keys[34:] == ["z", None]


HOSTILE = ['<img src=x onerror="alert(1)">.jpg', "a, b.jpg", "line\nbreak.jpg", "cr\rin.jpg", " blanks .jpg", '"q".jpg']


def test_hostile_names_come_back_as_they_were(tmp_path: Path) -> None:
    names = [*HOSTILE, b"\xff\xfe.jpg".decode("utf-8", "surrogateescape"), "\u202egpj.exe.jpg", "=1+1.jpg"]
    client = Client(session_in(tmp_path, names))
    client.label(dict.fromkeys(names, "</script>"))
    assert labels_of(state(session_in(tmp_path, names))) == dict.fromkeys(names, "</script>")


@pytest.mark.parametrize(
    "request_",
    [
        None,
        [],
        {},
        {"op": "delete"},
        {"op": ["state"]},
        {"op": "state", "since": -1},
        {"op": "state", "since": "0"},
        {"op": "batch", "n": 0},
        {"op": "batch", "n": True},
        {"op": "batch", "kind": "all"},
        {"op": "batch", "kind": {}},
        {"op": "batch", "skip": ["../secret.jpg"]},
        {"op": "batch", "kind": "class"},
        {"op": "label", "client": "a", "number": 1},
        {"op": "label", "number": 1, "labels": []},
        {"op": "label", "client": "a", "number": 1.5, "labels": []},
        {"op": "label", "client": "a", "number": 1, "labels": ["x"]},
        {"op": "undo"},
        {"op": "add_class", "name": " "},
        {"op": "add_class", "name": "a\nb"},
        {"op": "add_class", "name": "\ud800"},
        {"op": "add_class", "name": 201 * "x"},
        {"op": "rename_class", "from": "nothing", "to": "x"},
    ],
)
def test_requests_that_cannot_be_understood_are_refused(session: LabellingSession, request_: Any) -> None:
    with pytest.raises(RequestError):
        respond(session, request_)


@pytest.mark.parametrize(
    "label",
    [
        {"path": "../x.jpg", "label": "cat", "how": "key"},
        {"path": NAMES[1], "label": "", "how": "key"},
        {"path": NAMES[1], "label": None, "how": "key"},
        {"path": NAMES[1], "label": "cat", "how": "unsure"},
        {"path": NAMES[1], "label": 3, "how": "key"},
        {"path": NAMES[1], "label": "cat", "how": "folder"},
        {"path": NAMES[0], "label": "dog", "how": "key"},
    ],
)
def test_one_wrong_label_refuses_all(session: LabellingSession, label: Any, tmp_path: Path) -> None:
    right = {"path": NAMES[0], "label": "cat", "how": "key"}
    with pytest.raises(RequestError):
        respond(session, {"op": "label", "client": "a", "number": 1, "labels": [right, label]})
    assert len(rows(tmp_path)) == 1
    assert state(session)["n_labelled"] == 0


def test_paths_are_those_seen_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    file = LabelFile(tmp_path / "out" / "labels.csv")
    session = LabellingSession(tmp_path / "images", ["a.jpg"], file, NoFeatures(1))
    assert session.paths == ["../images/a.jpg"]


def test_images_without_features_are_shown_in_an_order_that_the_seed_makes(tmp_path: Path) -> None:
    orders = [
        LabellingSession(
            tmp_path, NAMES, LabelFile(tmp_path / "labels.csv"), NoFeatures(len(NAMES)), random_state=seed
        ).random_order
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
