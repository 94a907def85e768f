"""Requests to a labelling session and its answers, as a page or a widget sends them: plain values of JSON."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from frofa.annotation import batches
from frofa.annotation.batches import Batch
from frofa.annotation.records.rows import LABELLING, LONGEST_LABEL, SET_ASIDE, UNDO
from frofa.annotation.session import Labelling, LabellingSession
from frofa.annotation.state import state_of
from frofa.exceptions import RequestError
from frofa.utils.text import class_name

MOST_SHOWN, MOST_LABELS = 500, 10_000
"""Images of a batch, and labels of a request, at most."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def respond(session: LabellingSession, request: Any) -> dict[str, Any]:
    """Do what a request asks of a session, and answer it.

    Parameters
    ----------
    session : LabellingSession
    request : dict
        ``{"op": NAME, ...}``, where NAME is ``state``, ``batch``, ``label``, ``undo``, ``add_class`` or
        ``rename_class``.

    Returns
    -------
    dict
        Plain values, for JSON. All but ``batch`` answer with the state; with ``since``, which is a version that an
        earlier answer had, the changes are those after it.

    Raises
    ------
    RequestError
        If the request cannot be understood, or names an image that is not there; nothing has changed then.
    OSError
        If a decision cannot be written; nothing has changed then.
    """
    if not isinstance(request, Mapping):
        raise RequestError(f"expected an object with 'op'. Got {type(request).__name__}.")
    op = request.get("op")
    if not isinstance(op, str) or op not in OPERATIONS:
        raise RequestError(f"expected 'op' to be one of {', '.join(OPERATIONS)}. Got {op!r:.100}.")
    with session.lock:
        return OPERATIONS[op](session, request)


def _state(session: LabellingSession, request: Mapping[str, Any]) -> dict[str, Any]:
    session.refresh()
    return state_of(session, _since(request))


def _batch(session: LabellingSession, request: Mapping[str, Any]) -> dict[str, Any]:
    n = _integer(request, "n", session.batch_size, 1, MOST_SHOWN)
    kind = request.get("kind", "useful")
    skip = {_position(session, path) for path in _list(request, "skip", [])}
    if kind == "class":
        batch = batches.of_class(session, _name(request, "class"), n, skip)
    elif isinstance(kind, str) and kind in KINDS:
        batch = KINDS[kind](session, n, skip)
    else:
        raise RequestError(f"expected 'kind' to be one of {', '.join([*KINDS, 'class'])}. Got {kind!r:.100}.")
    session.features.want(batch.positions)
    return {"kind": batch.kind, "title": batch.title, "label": batch.label, "items": batches.items(session, batch)}


def _label(session: LabellingSession, request: Mapping[str, Any]) -> dict[str, Any]:
    client, number = _sender(request)
    given = _list(request, "labels")
    if len(given) > MOST_LABELS:
        raise RequestError(f"expected at most {MOST_LABELS} labels at once. Got {len(given)}.")
    labellings = [_labelling(session, one) for one in given]
    if len({one.path for one in labellings}) < len(labellings):
        raise RequestError("expected one label an image. Got some images twice.")
    session.decide(labellings, client, number)
    return state_of(session, _since(request))


def _undo(session: LabellingSession, request: Mapping[str, Any]) -> dict[str, Any]:
    client, number = _sender(request)
    paths = session.undo(client, number)
    known = [path for path in paths if path in session.position]
    return {**state_of(session, _since(request)), "restored": [_restored(session, path) for path in known]}


def _restored(session: LabellingSession, path: str) -> dict[str, Any]:
    decision = session.history.decision(path)
    return {"path": path, "index": session.position[path], "label": decision.label or None, "how": decision.how}


def _add_class(session: LabellingSession, request: Mapping[str, Any]) -> dict[str, Any]:
    session.add_class(_name(request, "name"))
    return state_of(session, _since(request))


def _rename_class(session: LabellingSession, request: Mapping[str, Any]) -> dict[str, Any]:
    old, new = _name(request, "from"), _name(request, "to")
    if old in session.classes:
        client = request.get("client")
        session.rename_class(old, new, client if isinstance(client, str) else None)
    elif new not in session.classes:  # else it is done already, and the answer was lost
        raise RequestError(f"there is no class {old!r}.")
    return state_of(session, _since(request))


OPERATIONS: Mapping[str, Callable[[LabellingSession, Mapping[str, Any]], dict[str, Any]]] = {
    "state": _state,
    "batch": _batch,
    "label": _label,
    "undo": _undo,
    "add_class": _add_class,
    "rename_class": _rename_class,
}
KINDS: Mapping[str, Callable[[LabellingSession, int, set[int]], Batch]] = {
    "useful": batches.useful,
    "group": batches.group,
    "mistakes": batches.mistakes,
}


def clean_label(text: Any) -> str:
    """Check the name of a class that somebody typed, without blanks around it, in Unicode's composed form."""
    if not isinstance(text, str):
        raise RequestError(f"expected the name of a class. Got {type(text).__name__}.")
    name = class_name(text.strip())
    if not name or len(name) > LONGEST_LABEL:
        raise RequestError(f"expected a name of 1 to {LONGEST_LABEL} characters. Got {len(name)}.")
    if _CONTROL.search(name):
        raise RequestError(f"expected a name of one line, without control characters. Got {name!r}.")
    return name


def _labelling(session: LabellingSession, given: Any) -> Labelling:
    if not isinstance(given, Mapping):
        raise RequestError(f"expected labels to be objects. Got {type(given).__name__}.")
    path, label, how = given.get("path"), given.get("label"), given.get("how")
    _position(session, path)
    allowed = (*SET_ASIDE, UNDO) if label is None else LABELLING
    if how not in allowed:
        what = "no label" if label is None else "a label"
        raise RequestError(f"expected 'how' of {what} to be one of {', '.join(allowed)}. Got {how!r:.100}.")
    return Labelling(str(path), "" if label is None else clean_label(label), str(how))


def _position(session: LabellingSession, path: Any) -> int:
    position = session.position.get(path) if isinstance(path, str) else None
    if position is None:
        raise RequestError(f"expected the path of an image of this session. Got {path!r:.300}.")
    return position


def _sender(request: Mapping[str, Any]) -> tuple[str, int]:
    client = request.get("client")
    if not isinstance(client, str) or not 0 < len(client) <= 100:
        raise RequestError(f"expected 'client' to be a text of 1 to 100 characters. Got {client!r:.200}.")
    return client, _integer(request, "number", None, 0, 2**53)


def _since(request: Mapping[str, Any]) -> int | None:
    return None if request.get("since") is None else _integer(request, "since", None, 0, 2**53)


def _integer(request: Mapping[str, Any], name: str, default: int | None, low: int, high: int) -> int:
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(f"expected {name!r} to be a whole number from {low} to {high}. Got {value!r:.100}.")
    return value


def _list(request: Mapping[str, Any], name: str, default: list[Any] | None = None) -> list[Any]:
    value = request.get(name, default)
    if not isinstance(value, list):
        raise RequestError(f"expected {name!r} to be a list. Got {type(value).__name__}.")
    return value


def _name(request: Mapping[str, Any], name: str) -> str:
    return clean_label(request.get(name))
