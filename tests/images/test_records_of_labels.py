"""Records of labels as tables: what the last row of an image says is what it is."""

from pathlib import Path

from frofa.annotation.features import NoFeatures
from frofa.annotation.records.file import LabelFile
from frofa.annotation.respond import respond
from frofa.annotation.session import LabellingSession
from frofa.images.columns import ColumnsAsked
from frofa.images.tables import read_table


def test_an_image_whose_label_was_taken_back_is_not_in_the_record(tmp_path: Path) -> None:
    names, file = ["a.jpg", "b.jpg", "c.jpg"], tmp_path / "labels.csv"
    session = LabellingSession(tmp_path, names, LabelFile(file), NoFeatures(3))
    ask = {"client": "c", "number": 1}
    labels = [{"path": "a.jpg", "label": "cat", "how": "key"}, {"path": "b.jpg", "label": None, "how": "unsure"}]
    respond(session, {**ask, "op": "label", "labels": labels})
    respond(session, {**ask, "op": "label", "number": 2, "labels": [{"path": "c.jpg", "label": "dog", "how": "key"}]})
    # Another window, after a restart: it takes back the last step of anybody.
    again = LabellingSession(tmp_path, names, LabelFile(file), NoFeatures(3))
    answer = respond(again, {"op": "undo", "client": "other", "number": 1})
    assert [one["path"] for one in answer["restored"]] == ["c.jpg"]
    table = read_table(file, ColumnsAsked())
    assert dict(zip(table.paths, table.labels or [], strict=True)) == {"a.jpg": "cat", "b.jpg": ""}
