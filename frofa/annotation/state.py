"""The state of a labelling session, in plain values."""

import string
from typing import Any

from frofa.annotation.batches import standing_mistakes
from frofa.annotation.learning.targets import standing_needed
from frofa.annotation.session import LabellingSession

KEYS = "123456789" + string.ascii_lowercase
"""Keys of classes, in the order in which these appear; others are chosen by name."""


def state_of(session: LabellingSession, since: int | None) -> dict[str, Any]:
    """Describe a session, with the decisions since a version, or all of them."""
    version, history = session.version, session.history
    return {
        "session": session.id,
        "images": session.images_id,
        "version": version,
        "n_images": len(session.paths),
        "n_labelled": sum(session.classes.values()),
        "n_unsure": history.set_aside["unsure"],
        "n_none": history.set_aside["none"],
        "classes": [
            {"name": name, "key": KEYS[place] if place < len(KEYS) else None, "n": n}
            for place, (name, n) in enumerate(session.classes.items())
        ],
        "changes": _changes(session, since),
        "extraction": _extraction(session),
        "model": _model(session),
        "undo": history.n_undoable,
        "message": ". ".join(filter(None, [session.message, session.features.error, session.trouble])) or None,
    }


def _changes(session: LabellingSession, since: int | None) -> list[dict[str, Any]]:
    history = session.history
    # A version that is not there yet is one of another record, or of this one before it was edited.
    if since is None or since > session.version:
        decided = history.decided()
    else:
        decided = {path: history.decision(path) for path in history.changed(since)}
    return [
        {"path": path, "index": session.position[path], "label": one.label or None, "how": one.how}
        for path, one in decided.items()
        if path in session.position
    ]


def _extraction(session: LabellingSession) -> dict[str, Any]:
    features = session.features
    return {
        "done": features.done,
        "total": features.total,
        "failed": len(features.failed),
        "running": features.running,
    }


def _model(session: LabellingSession) -> dict[str, Any] | None:
    known = session.knowledge
    if known is None or known.guesses is None:
        return None
    measured = known.measured
    return {
        "version": known.version,
        "accuracy": None if measured is None else measured.accuracy,
        "low": None if measured is None else measured.low,
        "high": None if measured is None else measured.high,
        "n": 0 if measured is None else measured.n,
        "needed": standing_needed(known, session.version),
        "n_mistakes": len(standing_mistakes(session)),
        "stale": known.version != session.version,
        "seconds": known.seconds,
    }
