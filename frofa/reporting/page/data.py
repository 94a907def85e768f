"""Data of the page's script: columns of all images."""

import base64
from typing import Any

import numpy as np

from frofa.reporting.facts.contents import Facts
from frofa.reporting.page.markup import visible
from frofa.reporting.page.pictures import are_tiny
from frofa.web.thumbnails import Thumbnails, data_uri

N_TOP = 5
"""Most probable classes of which probabilities are told."""
N_SET = 20
"""Classes of a prediction set that are told."""
PARTS = 10_000
"""Probabilities are told in parts of so many."""


def page_data(facts: Facts, attention: list[list[tuple[str, str]]]) -> dict[str, Any]:
    """Gather columns of n images each; their pictures come by `pictures_data`."""
    n_top = min(N_TOP, len(facts.labels))
    top = np.argsort(-facts.probabilities, axis=1, kind="stable")[:, :n_top]
    shares = np.take_along_axis(facts.probabilities, top, 1)
    given = facts.probabilities[np.arange(len(facts.truth)), facts.truth]
    return {
        "labels": [visible(label) for label in facts.labels],
        "names": [visible(name) for name in facts.names],
        "truth": facts.truth,
        "predicted": facts.predicted,
        "nTop": n_top,
        "top": top.ravel(),
        "shares": _parts(shares.ravel()),
        "trueShare": _parts(given),
        "sets": _sets(facts),
        "level": facts.level,
        "novelty": None if facts.novelty is None else _parts(facts.novelty),
        "map": _places(facts),
        "attention": attention,
    }


def pictures_data(facts: Facts, others: Thumbnails | None) -> dict[str, Any]:
    """Gather the pictures that are not in the text, in base64 and without what all data URIs begin with."""
    start = "" if others is None else data_uri(b"", others.kind)
    encoded: list[str | None] = (
        [None] * len(facts.truth) if others is None else [_encoded(data) for data in others.data]
    )
    return {
        "prefix": start,
        "pictures": encoded,
        "hasPictures": facts.pictures is not None,
        "tiny": are_tiny(others),
    }


def _parts(shares: Any) -> list[int]:
    found: list[int] = np.rint(np.nan_to_num(shares) * PARTS).astype(int).tolist()
    return found


def _sets(facts: Facts) -> list[list[int]] | None:
    """List of each image how many classes its set has, then these, the most probable first."""
    if facts.sets is None:
        return None
    found = []
    for row, probabilities in zip(facts.sets, facts.probabilities, strict=True):
        members = np.flatnonzero(row)
        order = np.argsort(-probabilities[members], kind="stable")[:N_SET]
        found.append([len(members), *members[order].tolist()])
    return found


def _encoded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _places(facts: Facts) -> list[list[int]] | None:
    """Scale coordinates to whole numbers up to 10,000, alike along both axes, y upwards as in plots."""
    if facts.coordinates is None:
        return None
    places = np.nan_to_num(np.asarray(facts.coordinates, np.float64))
    places = places - places.min(0, initial=0 if not len(places) else np.inf)
    places /= max(float(places.max(initial=0)), 1e-12)
    scaled = np.rint(places * PARTS).astype(int)
    return [scaled[:, 0].tolist(), (PARTS - scaled[:, 1]).tolist()]
