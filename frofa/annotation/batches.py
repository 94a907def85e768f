"""Batches of images for people to look at, and why these."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from frofa.annotation.learning.knowledge import Mistake
from frofa.annotation.session import LabellingSession
from frofa.images.listing import count


class Batch(NamedTuple):
    """Positions of images to show, a sentence why these, and the label that is suggested for a group."""

    kind: str
    title: str
    positions: list[int]
    label: str | None = None


def useful(session: LabellingSession, n: int, skip: set[int]) -> Batch:
    """The images from which most is learnt; before anything is known of them, some at random."""
    known = session.knowledge
    order = () if known is None else known.order.tolist()
    found = _first(session, order, n, skip)
    if found:
        title = "The most useful images to label next"
    elif known is None:
        title = "Images at random, until the first features are there"
    else:
        title = "Images at random, until others are chosen"
    rest = _first(session, session.random_order.tolist(), n - len(found), skip.union(found))
    return Batch("useful", title, [*found, *rest])


def group(session: LabellingSession, n: int, skip: set[int]) -> Batch:
    """Images that lie together, to be given one label at once."""
    for one in () if session.knowledge is None else session.knowledge.groups:
        found = _first(session, one.positions, n, skip)
        if len(found) > 1:
            alike = f"{count(len(found), 'image')} that look alike"
            title = f"{alike}: all {one.label}?" if one.label is not None else f"{alike}, of no class that is known yet"
            return Batch("group", title, found, one.label)
    return Batch("group", "There are no groups of images to accept at once yet", [])


def mistakes(session: LabellingSession, n: int, skip: set[int]) -> Batch:
    """Labels that may be wrong, the worst first."""
    found = [position for position in standing_mistakes(session) if position not in skip][:n]
    return Batch("mistakes", "Labels that may be wrong" if found else "No label looks wrong", found)


def of_class(session: LabellingSession, name: str, n: int, skip: set[int]) -> Batch:
    """Images that have a label, the last ones first."""
    rows = reversed(session.history.rows)
    found: dict[int, None] = {}
    for row in rows:
        position = session.position.get(row.path)
        if position is not None and position not in skip and session.decision(position).label == name:
            found.setdefault(position)
        if len(found) == n:
            break
    return Batch("class", f"Images labelled {name}, the last ones first", list(found))


def standing_mistakes(session: LabellingSession) -> dict[int, Mistake]:
    """Suspected mistakes by position, of images whose label has neither changed since nor been confirmed."""
    found = () if session.knowledge is None else session.knowledge.mistakes
    return {
        one.position: one
        for one in found
        if session.decision(one.position).label == one.given
        and not session.history.is_confirmed(session.paths[one.position])
    }


def items(session: LabellingSession, batch: Batch) -> list[dict[str, Any]]:
    """Describe the images of a batch."""
    suspects = standing_mistakes(session)
    return [_item(session, position, suspects.get(position)) for position in batch.positions]


def _item(session: LabellingSession, position: int, mistake: Mistake | None) -> dict[str, Any]:
    decision = session.decision(position)
    guess = None if session.knowledge is None else session.knowledge.guess(position)
    return {
        "index": position,
        "path": session.paths[position],
        "label": decision.label or None,
        "how": decision.how,
        "guess": None if guess is None else guess._asdict(),
        "suspect": None if mistake is None else {"suggested": mistake.suggested, "probability": mistake.probability},
    }


def _first(session: LabellingSession, order: Iterable[int], n: int, skip: set[int]) -> list[int]:
    def waiting() -> Iterator[int]:
        return (position for position in order if position not in skip and session.is_open(position))

    return list(islice(waiting(), max(n, 0)))
