"""Labels to Label Studio and FiftyOne and back, and files of theirs that are not what they should be."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

import frofa
from frofa import ImageClassifier
from frofa.annotation.exchange import fiftyone, label_studio
from frofa.annotation.exchange.places import Places
from frofa.annotation.exchange.samples import Guess, Sample, merge, read_record
from frofa.annotation.records.file import LabelFile
from frofa.cli import main

HOSTILE = ["plain.jpg", "a b/ü&<img src=x>.jpg", "100%25+x.jpg", "semi;colon#1?.png", "quote\"'.jpg", "back\\slash.jpg"]
LABELS = ["cat", "</script>", "日本 & co", "javascript:alert(1)", 'it\'s "quoted"', "= 1+1"]


BARE = {"_cls": "Classification"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images with surprising names."""
    root = tmp_path / "photos"
    for name in [*HOSTILE, "unsure.jpg", "none.jpg", "new.jpg"]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image: nobody is to open it")
    return root


@pytest.fixture
def record(folder: Path) -> Path:
    """A record of labels in that folder."""
    file = LabelFile(folder / "labels.csv")
    file.open()
    file.append([("plain.jpg", "dog", "key")])
    file.append([(name, label, "key") for name, label in zip(HOSTILE, LABELS, strict=True)])
    file.append([("unsure.jpg", "", "unsure"), ("none.jpg", "", "none"), ("new.jpg", "cat", "key")])
    file.append([("new.jpg", "", "undo")])
    return file.file


def decisions(file: Path) -> dict[str, tuple[str, str]]:
    """What a record comes to: label, or how there is none, by path."""
    return {sample.path: (sample.label, sample.how) for sample in read_record(file)}


EXPECTED = {
    **{name: (label, "") for name, label in zip(HOSTILE, LABELS, strict=True)},
    "unsure.jpg": ("", "unsure"),
    "none.jpg": ("", "none"),
}


def export(record: Path, to: str) -> Path:
    out = record.parent / ("tasks.json" if to == "label-studio" else "dataset")
    assert main(["labels", "export", str(record), "--to", to, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("to", ["label-studio", "fiftyone"])
def test_labels_come_back_as_they_went(record: Path, to: str) -> None:
    assert decisions(record) == EXPECTED
    out, again = export(record, to), record.with_name("again.csv")
    for n_rows in (8, 8):  # a second time, nothing is new
        assert main(["labels", "import", str(out), "--out", str(again)]) == 0
        assert decisions(again) == EXPECTED
        assert len(again.read_text().splitlines()) == 1 + n_rows
    assert f"import:{to}" in again.read_text()


@pytest.mark.parametrize("to", ["label-studio", "fiftyone"])
def test_names_that_are_no_text_keep_their_bytes(folder: Path, to: str) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        (folder / name).write_bytes(b"")
    except OSError:
        pytest.skip("the file system has names in UTF-8 alone")
    record = folder / "labels.csv"
    merge(record, [Sample(name, "cat")], "label-studio")
    again = folder / "again.csv"
    assert main(["labels", "import", str(export(record, to)), "--out", str(again)]) == 0
    assert decisions(again) == {name: ("cat", "")}
    assert b"caf\xe9.jpg,cat," in again.read_bytes()


def test_tasks_are_those_of_label_studio(record: Path) -> None:
    tasks = json.loads(export(record, "label-studio").read_text("ascii"))
    by_image = {task["data"]["image"]: task for task in tasks}
    task = by_image["/data/local-files/?d=100%2525%2Bx.jpg"]
    [annotation] = task["annotations"]
    [result] = annotation["result"]
    assert {key: result[key] for key in ("from_name", "to_name", "type", "value")} == {
        "from_name": "label",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": ["日本 & co"]},
    }
    assert annotation["was_cancelled"] is False
    unsure, none = (by_image[f"/data/local-files/?d={name}.jpg"]["annotations"][0] for name in ("unsure", "none"))
    assert (unsure["was_cancelled"], unsure["result"], none["was_cancelled"], none["result"]) == (True, [], False, [])


def test_the_interface_has_all_classes(record: Path, tmp_path: Path) -> None:
    out, xml = tmp_path / "tasks.json", tmp_path / "interface.xml"
    arguments = ["labels", "export", str(record), "--to", "label-studio", "--out", str(out), "--interface", str(xml)]
    assert main(arguments) == 0
    tree = ET.fromstring(xml.read_text("utf-8"))
    assert [choice.get("value") for choice in tree.iter("Choice")] == sorted(LABELS)
    assert tree[1].get("toName") == tree[0].get("name")


def test_the_document_root_may_lie_above(record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tasks.json"
    arguments = ["labels", "export", str(record), "--to", "label-studio", "--out", str(out), "--root"]
    assert main([*arguments, str(tmp_path)]) == 0
    assert json.loads(out.read_text())[0]["data"]["image"] == "/data/local-files/?d=photos/plain.jpg"
    again = ["labels", "import", str(out), "--out", str(record.with_name("again.csv"))]
    assert main([*again, "--root", str(tmp_path)]) == 0
    assert decisions(record.with_name("again.csv")) == EXPECTED
    (tmp_path / "empty").mkdir()
    assert main([*arguments, str(tmp_path / "empty")]) == 1
    assert "say by --root" in capsys.readouterr().err


def test_datasets_are_those_of_fiftyone(record: Path) -> None:
    folder = export(record, "fiftyone")
    files = {
        name: json.loads((folder / f"{name}.json").read_text()) for name in ("samples", "metadata", "labels", "data")
    }
    sample = files["samples"]["samples"][0]
    assert sample["filepath"] == "../plain.jpg"
    assert sample["ground_truth"]["_cls"] == "Classification"
    assert sample["ground_truth"]["label"] == "cat"
    assert "version" not in files["metadata"]
    keys = list(files["labels"]["labels"])
    assert keys == list(files["data"])
    assert not any("." in key for key in keys)
    assert files["data"][keys[0]] == str(record.parent / "plain.jpg")
    assert files["labels"]["classes"][files["labels"]["labels"][keys[0]]] == "cat"
    # Unsure images have no label there.
    (folder / "samples.json").unlink()
    again = record.with_name("again.csv")
    assert main(["labels", "import", str(folder), "--out", str(again)]) == 0
    assert decisions(again) == {name: (label, how) for name, (label, how) in EXPECTED.items() if label}


def test_a_model_adds_its_guesses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    shades = [30, 35, 40, 200, 205, 210]
    images = [rng.integers(shade, shade + 40, (32, 32, 3)).astype(np.uint8) for shade in shades]
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    ImageClassifier(n_views=1).fit(images, ["night"] * 3 + ["day"] * 3).save(tmp_path / "model.frofa")
    merge(tmp_path / "labels.csv", [Sample("0.png", "day")], "label-studio")
    for to, out in (("label-studio", "tasks.json"), ("fiftyone", "dataset")):
        arguments = ["labels", "export", str(tmp_path / "labels.csv"), "--to", to, "--out", str(tmp_path / out)]
        assert main([*arguments, "--images", str(tmp_path), "--model", str(tmp_path / "model.frofa")]) == 0
        assert "6 images, 1 with a label" in capsys.readouterr().out
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    guesses = [task["predictions"][0] for task in tasks]
    assert [one["result"][0]["value"]["choices"] for one in guesses] == [["night"]] * 3 + [["day"]] * 3
    assert all(0.5 < one["score"] <= 1 for one in guesses)
    assert guesses[0]["model_version"] == "frofa model.frofa"
    samples = json.loads((tmp_path / "dataset" / "samples.json").read_text())["samples"]
    assert [sample["predictions"]["label"] for sample in samples] == ["night"] * 3 + ["day"] * 3
    assert samples[1]["ground_truth"] is None
    # What a model says is no label that somebody gave.
    again = tmp_path / "again.csv"
    for out in ("tasks.json", "dataset"):
        assert main(["labels", "import", str(tmp_path / out), "--out", str(again)]) == 0
        assert decisions(again) == {"0.png": ("day", "")}


def test_fit_reads_what_was_imported(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    tasks = [{"data": {"image": f"/data/local-files/?d={name}.png"}, "annotations": [annotated(name)]} for name in "ab"]
    file, out = tmp_path / "tasks.json", tmp_path / "labels.csv"
    file.write_text(json.dumps(tasks))
    assert main(["labels", "import", str(file), "--out", str(out)]) == 0
    images = frofa.load_images(out)
    assert images.labels is not None
    assert images.labels.tolist() == ["a", "b"]


def annotated(*labels: str, **more: Any) -> dict[str, Any]:
    """An annotation of Label Studio."""
    value = {"choices": list(labels)}
    return {"result": [{"type": "choices", "from_name": "kind", "to_name": "img", "value": value}], **more}


def read(content: Any, folder: Path, field: str | None = None) -> Any:
    """Read a file of either tool."""
    places = Places(folder, folder)
    if fiftyone.is_dataset(content):
        return fiftyone.samples_of(content, folder, places, field)
    return label_studio.samples_of(content, places, field)


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("/data/local-files/?d=plain.jpg", "plain.jpg"),
        ("http://localhost:8080/data/local-files/?d=a%20b/%C3%BC%26%3Cimg%20src%3Dx%3E.jpg", HOSTILE[1]),
        ("/data/local-files?d=semi%3Bcolon%231%3F.png", HOSTILE[3]),
        ("/data/upload/12/0123abcd-plain.jpg", "plain.jpg"),
        ("https://studio.example.org/data/upload/12/plain.jpg", "plain.jpg"),
        ("plain.jpg", "plain.jpg"),
        ("semi;colon#1?.png", "semi;colon#1?.png"),
        ("file://{folder}/plain.jpg", "plain.jpg"),
        ("{folder}/plain.jpg", "plain.jpg"),
    ],
)
def test_images_of_tasks_are_found(folder: Path, image: str, path: str) -> None:
    found = read([{"data": {"image": image.format(folder=folder)}, "annotations": [annotated("cat")]}], folder)
    assert found.samples == [Sample(path, "cat")]
    assert found.notes == []


OUTSIDE: list[Callable[[Path], str]] = [
    lambda _: "../secret.jpg",
    lambda _: "a b/../../secret.jpg",
    lambda folder: str(folder.parent / "secret.jpg"),
    lambda _: "/etc/passwd",
    lambda _: "link.jpg",
    lambda _: "linked/secret.jpg",
    lambda folder: f"{folder}-beside/secret.jpg",
    lambda _: "plain.jpg\0",
]


@pytest.mark.parametrize("make", OUTSIDE)
def test_files_outside_the_folder_are_refused(folder: Path, make: Callable[[Path], str]) -> None:
    (folder.parent / "secret.jpg").write_bytes(b"")
    (folder / "link.jpg").symlink_to(folder.parent / "secret.jpg")
    (folder / "linked").symlink_to(folder.parent)
    beside = folder.with_name("photos-beside")
    beside.mkdir()
    (beside / "secret.jpg").write_bytes(b"")
    name = make(folder)
    contents: list[Any] = [
        [{"data": {"image": name}, "annotations": [annotated("cat")]}],
        [{"data": {"image": f"/data/local-files/?d={name}"}, "annotations": [annotated("cat")]}],
        {"samples": [{"filepath": name, "ground_truth": {"_cls": "Classification", "label": "cat"}}]},
    ]
    (folder / "data.json").write_text(json.dumps({"1": name}))
    contents.append({"classes": ["cat"], "labels": {"1": 0}})
    for content in contents:
        with pytest.raises(ValueError, match=r"Got 1 name of files elsewhere, such as .* say by --root"):
            read(content, folder)


@pytest.mark.parametrize(
    ("tasks", "labels", "note"),
    [
        ([{"data": {"image": "plain.jpg"}}], [], "1 task without an annotation"),
        ([{"data": {"image": "plain.jpg"}, "annotations": [annotated("a", "b")]}], [], "1 task with several labels"),
        ([{"data": {"image": "plain.jpg"}, "annotations": [annotated("a", "a")]}], ["a"], None),
        ([{"data": {"image": "plain.jpg"}, "annotations": [annotated("a"), annotated("b")]}], ["b"], None),
        ([{"data": {"image": "plain.jpg"}, "completions": [annotated(" a ")]}], ["a"], None),
        ([{"data": {"image": "gone.jpg"}, "annotations": [annotated("a")]}], [], "no such file in .*'gone.jpg'"),
        ([{"data": {"image": "https://x.org/1.jpg"}, "annotations": [annotated("a")]}], [], "on the web"),
        ([{"data": {"photo": "plain.jpg", "n": 3}, "annotations": [annotated("a")]}], ["a"], None),
        ([{"id": 3, "image": "plain.jpg", "kind": "a", "annotator": 1}], ["a"], None),
        ([{"id": 3, "image": "plain.jpg", "kind": {"choices": ["a"]}, "annotator": 1}], ["a"], None),
        ({"data": {"image": "plain.jpg"}, "annotations": [annotated("a")]}, ["a"], None),
    ],
)
def test_tasks_of_all_kinds(folder: Path, tasks: Any, labels: list[str], note: str | None) -> None:
    assert label_studio.is_tasks(tasks)
    found = read(tasks, folder)
    assert [sample.label for sample in found.samples] == labels
    assert len(found.notes) == (note is not None)
    assert re.search(note or "", " ".join(found.notes))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"data": {"image": "plain.jpg"}}, 3], r"expected a task, an object\. Got int as number 2"),
        ([{"data": {"text": "no"}, "annotations": [annotated("a")]}], "expected a task with an image"),
        ([{"data": {"image": "plain.jpg"}, "annotations": [annotated("")]}], "expected the name of a class"),
        ([{"data": {"image": "plain.jpg"}, "annotations": [annotated("a\nb")]}], "expected the name of a class"),
        ([{"data": {"image": "plain.jpg"}, "annotations": [annotated("x" * 201)]}], "1 to 200 characters"),
        ([{"data": {"image": "plain.jpg"}, "annotations": [annotated(3)]}], "expected the name of a class"),  # type: ignore[arg-type]
        ([{"image": "plain.jpg", "kind": "a", "other": "b"}], "Got kind, other: name one by --field"),
        ({"samples": [{"filepath": 3}]}, "sample 1: expected str as 'filepath'. Got int"),
        ({"samples": ["x"]}, "sample 1: expected an object"),
        (
            {"samples": [{"filepath": "plain.jpg", "a": KIND, "b": KIND} for KIND in [{"_cls": "Classification"}]]},
            "a, b",
        ),
        ({"samples": [{"filepath": "plain.jpg", "predictions": BARE}]}, "labels of people"),
        ({"classes": ["a"], "labels": {"plain": 1}}, "the number of one of 1 class"),
        ({"classes": ["a"], "labels": {"plain": -1}}, "the number of one of 1 class"),
        ({"classes": "a", "labels": {"plain": 0}}, "expected a list as 'classes'"),
        ({"classes": [None], "labels": {"plain": 0}}, "expected the name of a class"),
        ({"classes": None, "labels": {"plain": True}}, "expected the name of a class"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, content: Any, message: str) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "plain.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        read(content, folder)


def test_fields_are_chosen(folder: Path) -> None:
    two = {"result": [annotated("cat")["result"][0], {**annotated("red")["result"][0], "from_name": "colour"}]}
    tasks = [{"data": {"image": "plain.jpg"}, "annotations": [two]}]
    assert read(tasks, folder, "colour").samples == [Sample("plain.jpg", "red")]
    with pytest.raises(ValueError, match="Got colour, kind: name one by --field"):
        read(tasks, folder)
    kinds = {name: {"_cls": "Classification", "label": name} for name in ("ground_truth", "predictions", "other")}
    samples = {"samples": [{"filepath": "plain.jpg", **kinds}]}
    assert read(samples, folder).samples == [Sample("plain.jpg", "ground_truth")]
    assert read(samples, folder, "other").samples == [Sample("plain.jpg", "other")]
    with pytest.raises(ValueError, match="expected one of the fields"):
        read(samples, folder, "colour")


def test_classified_images_of_fiftyone(folder: Path) -> None:
    """With a folder of data, without one, and with targets of all kinds."""
    (folder / "data" / "deep").mkdir(parents=True)
    for name in ("one.jpg", "deep/two.png", "three.jpg", "four.jpg"):
        (folder / "data" / name).write_bytes(b"")
    labels = {"one": 1, "deep/two": "b", "three": None, "four": {"label": "a", "confidence": 0.5}, "five": 0}
    found = read({"classes": ["a", "b"], "labels": labels}, folder)
    assert [(one.path, one.label) for one in found.samples] == [
        *(("data/one.jpg", "b"), ("data/deep/two.png", "b"), ("data/four.jpg", "a"))
    ]
    assert len(found.notes) == 2


def test_two_images_of_one_name_are_not_told_apart(folder: Path) -> None:
    (folder / "a b" / "plain.jpg").write_bytes(b"")
    tasks = [{"data": {"image": "/data/upload/1/0123abcd-plain.jpg"}, "annotations": [annotated("a")]}]
    assert read(tasks, folder).samples == []


def test_decisions_are_appended_and_not_repeated(
    folder: Path, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = record.read_bytes()
    tasks = [
        {"data": {"image": f"/data/local-files/?d={name}"}, "annotations": [annotated(label)]}
        for name, label in (("plain.jpg", "cat"), ("unsure.jpg", "owl"), ("new.jpg", "cat"))
    ]
    (folder / "tasks.json").write_text(json.dumps(tasks))
    assert main(["labels", "import", str(folder / "tasks.json"), "--out", str(record)]) == 0
    assert "1 new, 1 changed, 1 as they were" in capsys.readouterr().out
    assert record.read_bytes().startswith(before)
    assert decisions(record) == {**EXPECTED, "unsure.jpg": ("owl", ""), "new.jpg": ("cat", "")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no file of labels"),
        ("[" * 1000, "more than 100 lists"),
        ("[]", "expected tasks of Label Studio"),
        ('{"a": 1}', "expected tasks of Label Studio"),
        ('[{"data": {"image": "gone.jpg"}}]', "found no label in"),
    ],
)
def test_nothing_is_written_where_something_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    file, out = tmp_path / "file.json", tmp_path / "labels.csv"
    file.write_text(text)
    assert main(["labels", "import", str(file), "--out", str(out)]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,label\na.jpg,cat\n")
    assert main(["labels", "export", str(table), "--to", "fiftyone", "--out", str(tmp_path / "out")]) == 1
    assert "is no record of labels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["labels", "import", str(tmp_path), "--out", str(table)]) == 1
    assert "a directory with samples.json or labels.json" in capsys.readouterr().err


def test_guesses_without_labels_are_tasks_to_do() -> None:
    [task] = label_studio.tasks([Sample("a.jpg", guess=Guess("cat", 0.75))], Path("/x"), Path("/x"))
    assert "annotations" not in task
    assert task["predictions"][0]["score"] == 0.75
