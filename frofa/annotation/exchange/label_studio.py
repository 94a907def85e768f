"""Label Studio's JSON: tasks with an image each, annotations of people and predictions of models.

Formats are those of https://labelstud.io/guide/task_format ("JSON" and "JSON-MIN"). An image that somebody is not sure
about is a task that was skipped, ``was_cancelled``; one of none of the classes, an annotation without a result.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from frofa.annotation.exchange.places import Places
from frofa.annotation.exchange.samples import NONE, UNSURE, Found, Sample, label_of
from frofa.images.listing import count, is_image_name
from frofa.utils.text import one_line, shorten

TOOL = "label-studio"
LOCAL = "/data/local-files/"
UPLOADED = "/data/upload/"
PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""Beginning of the names that Label Studio has for files that were uploaded."""
OF_A_ROW = frozenset(
    ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "comments", "image")
)
"""Fields of a task in JSON-MIN that are no label."""
NAME, IMAGE = "label", "image"
"""Names of the choices and of the image in the labelling interface."""


def interface(classes: Iterable[str]) -> str:
    """Write the labelling interface of a project, in Label Studio's XML, for one of these classes an image.

    Examples
    --------
    >>> from frofa.annotation.exchange.label_studio import interface
    >>> print(interface(["cat", "dog & co"]))
    <View>
      <Image name="image" value="$image"/>
      <Choices name="label" toName="image" choice="single-radio" showInline="true">
        <Choice value="cat"/>
        <Choice value="dog &amp; co"/>
      </Choices>
    </View>
    """
    choices = "".join(f'    <Choice value="{escape(name)}"/>\n' for name in classes)
    return (
        f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}"/>\n'
        f'  <Choices name="{NAME}" toName="{IMAGE}" choice="single-radio" showInline="true">\n{choices}'
        "  </Choices>\n</View>"
    )


def tasks(samples: Sequence[Sample], base: Path, root: Path, model: str = "frofa") -> list[dict[str, Any]]:
    """Make tasks of samples, whose paths are from `base`; a guess is a prediction of a model of this name.

    Images are those of a local storage whose document root is `root`; a ValueError says that one is not in it.
    """
    top = os.path.abspath(root)  # noqa: PTH100 (links stay what they are)
    return [_task(sample, _url(sample.path, base, top), model) for sample in samples]


def _url(path: str, base: Path, root: str) -> str:
    inside = os.path.relpath(os.path.abspath(base / path), root)  # noqa: PTH100
    if Path(inside).parts[0] == os.pardir:
        raise ValueError(f"expected images in {root}, Label Studio's document root. Got {path!r}: say by --root where.")
    return f"{LOCAL}?d={quote(os.fsencode(Path(inside).as_posix()))}"


def _task(sample: Sample, url: str, model: str) -> dict[str, Any]:
    task: dict[str, Any] = {"data": {IMAGE: url}}
    if sample.label or sample.how:
        task["annotations"] = [
            {"result": _result(sample.label), "was_cancelled": sample.how == UNSURE, "ground_truth": False}
        ]
    if sample.guess is not None:
        label, probability = sample.guess
        task["predictions"] = [{"model_version": model, "score": float(probability), "result": _result(label)}]
    return task


def _result(label: str) -> list[dict[str, Any]]:
    if not label:
        return []
    return [{"id": NAME, "from_name": NAME, "to_name": IMAGE, "type": "choices", "value": {"choices": [label]}}]


def is_tasks(content: Any) -> bool:
    """Tell whether JSON looks like tasks."""
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, Mapping) and ("data" in first or IMAGE in first or "annotator" in first)


def samples_of(content: Any, places: Places, field: str | None = None) -> Found:
    """Read tasks, each the last annotation of it; `field` names the choices where there are several kinds.

    A ValueError says what is wrong.
    """
    listed = content if isinstance(content, list) else [content]
    for number, task in enumerate(listed):
        if not isinstance(task, dict):
            raise ValueError(f"expected a task, an object. Got {type(task).__name__} as number {number + 1}.")
    read = [_decision(task, _field_of(listed, field)) for task in listed]
    found, n_several, n_bare, n_far = list[Sample](), 0, 0, 0
    for task, decision in zip(listed, read, strict=True):
        if decision is None:
            n_bare += 1
            continue
        labels, how = decision
        if len(labels) > 1:
            n_several += 1
            continue
        path = _place(task, places)
        if path is None:
            n_far += _is_far(task)
        else:
            found.append(Sample(path, label_of(labels[0]) if labels else "", "" if labels else how))
    notes = places.notes()
    for n, why in (
        (n_bare, "without an annotation"),
        (n_several, "with several labels"),
        (n_far, "at an address on the web, and no file here"),
    ):
        if n:
            notes.append(f"left out: {count(n, 'task')} {why}")
    return Found(found, notes)


def _decision(task: Mapping[str, Any], field: str | None) -> tuple[list[Any], str] | None:
    """Give the labels of a task, and what no label means; None where nobody has decided."""
    if not _is_whole(task):
        value = task.get(field or "")
        return None if value is None else (_choices(value), NONE)
    annotations = [one for one in task.get("annotations") or task.get("completions") or [] if isinstance(one, dict)]
    if not annotations:
        return None
    last = annotations[-1]
    if last.get("was_cancelled"):
        return [], UNSURE
    chosen = [one for one in _results(last) if field is None or one.get("from_name") == field]
    return [label for one in chosen for label in _choices(one.get("value"))], NONE


def _results(annotation: Mapping[str, Any]) -> list[dict[str, Any]]:
    results = annotation.get("result")
    listed = results if isinstance(results, list) else []
    return [one for one in listed if isinstance(one, dict) and one.get("type") == "choices"]


def _choices(value: Any) -> list[Any]:
    """List what was chosen; equal choices are one."""
    if isinstance(value, dict):
        value = value.get("choices")
    if value is None:
        return []
    listed = value if isinstance(value, list) else [value]
    return [one for i, one in enumerate(listed) if one not in listed[:i]]


def _is_whole(task: Mapping[str, Any]) -> bool:
    """Tell a task from a row of JSON-MIN."""
    return isinstance(task.get("data"), dict)


def _field_of(listed: Sequence[Mapping[str, Any]], field: str | None) -> str | None:
    """Name the choices that are the label; a ValueError says that there are several."""
    if field is not None:
        return field
    names = dict.fromkeys(
        str(result.get("from_name"))
        for task in listed
        for annotation in (task.get("annotations") or task.get("completions") or ())
        if isinstance(annotation, dict)
        for result in _results(annotation)
    )
    for task in listed:
        if not _is_whole(task):
            names |= dict.fromkeys(name for name in task if name not in OF_A_ROW)
    if len(names) > 1:
        raise ValueError(f"expected one kind of choices. Got {shorten(names)}: name one by --field.")
    return next(iter(names), None)


def _address(task: Mapping[str, Any]) -> str:
    """Give the image of a task: what is called so, or the only text of its data that could be one."""
    data = task["data"] if _is_whole(task) else task
    if isinstance(data.get(IMAGE), str):
        return str(data[IMAGE])
    texts = [value for value in data.values() if isinstance(value, str) and is_image_name(_split(value)[0])]
    if len(texts) != 1:
        raise ValueError(f"expected a task with an image as {IMAGE!r}. Got {one_line(json.dumps(data), 120)}.")
    return texts[0]


def _split(address: str) -> tuple[str, str, str]:
    """Split an address into path, query and scheme; text that is no address is a path."""
    with suppress(ValueError):
        split = urlsplit(address)
        # A letter for a scheme is a drive.
        if len(split.scheme) > 1 or split.path.startswith("/data/"):
            return split.path, split.query, split.scheme
    return address, "", ""


def _is_far(task: Mapping[str, Any]) -> bool:
    path, _, scheme = _split(_address(task))
    return scheme not in ("", "file") and not path.startswith("/data/")


def _place(task: Mapping[str, Any], places: Places) -> str | None:
    """Find the file of a task's image."""
    path, query, scheme = _split(_address(task))
    if path.rstrip("/").endswith(LOCAL.rstrip("/")):
        names = parse_qs(query, errors="surrogateescape").get("d", [""])
        return places.find(names[0])
    if UPLOADED in path:
        name = unquote(path.rsplit("/", 1)[1], errors="surrogateescape")
        return places.find_by_name(PREFIX.sub("", name), name)
    if scheme not in ("", "file"):
        return None
    return places.find(unquote(path, errors="surrogateescape") if scheme else path)
