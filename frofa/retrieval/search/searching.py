"""Searches of a store for images, and of words for an image: hits with their places."""

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from frofa.exceptions import StoreError
from frofa.images.items import ImageItem
from frofa.retrieval.index import FeatureIndex
from frofa.retrieval.remembered import is_among
from frofa.retrieval.search.asking import Asked, Vectors
from frofa.retrieval.search.places import Place
from frofa.store.keys import KeyArray, to_hex


class Names(Protocol):
    """Names of images: their places, and which of them have a label."""

    def places(self, keys: KeyArray) -> list[list[Place]]:
        """Find the places of each image by its key, those that are there first."""
        ...

    def with_labels(self, labels: Sequence[str]) -> KeyArray:
        """List the keys of images with one of these labels."""
        ...


class Hit(NamedTuple):
    """An image, or a text, that was found: rank from 1, cosine, name, label, and the image if it is still there.

    `others` are the names of copies of the image.
    """

    rank: int
    similarity: float
    name: str
    label: str = ""
    item: "ImageItem | None" = None
    others: tuple[str, ...] = ()


class Answer(NamedTuple):
    """A query, as it was given, with what was found; `image` is the query itself where it is one."""

    query: str
    hits: list[Hit]
    image: "ImageItem | None" = None


def find_images(
    asked: Asked,
    vectors: Vectors,
    names: Names,
    *,
    top: int = 20,
    where: Sequence[str] = (),
    exact: bool = False,
    device: str = "auto",
) -> list[list[Hit]]:
    """Find the images of a store that are nearest to each vector (q, D), the nearest first.

    Parameters
    ----------
    asked : Asked
    vectors : ndarray of shape (q, D)
    names : StoreNames or ListedNames
    top : int, default=20
        Images at most; fewer where the store has no more.
    where : sequence of str, default=()
        Labels that images must have one of; none is no condition.
    exact : bool, default=False
        Search exactly also where there are more than a million images.
    device : str, default="auto"

    Raises
    ------
    ValueError
        If no image has such a label.
    """
    index = _index(asked, exact, device)
    keys = index.keys
    assert keys is not None  # of a store
    mask = is_among(keys, names.with_labels(where)) if where else None
    n = len(index) if mask is None else int(mask.sum())
    if not n:
        raise ValueError(f"none of the images in {asked.store.path} has the label {where[0]!r}.")
    distances, rows = index.kneighbors(vectors, min(top, n), where=mask, exact=exact or None)
    return [
        [_hit(rank, 1 - float(distance), key, places) for rank, (distance, key, places) in enumerate(found, start=1)]
        for found in (
            list(zip(one, to_hex(keys[at]), names.places(keys[at]), strict=True))
            for one, at in zip(distances, rows, strict=True)
        )
    ]


def find_words(vectors: Vectors, texts: Sequence[str], of_texts: Vectors, *, top: int = 20) -> list[list[Hit]]:
    """Find the texts, with vectors (m, D), that are nearest to each image's vector (q, D), the nearest first."""
    distances, rows = FeatureIndex(of_texts, device="cpu").kneighbors(vectors, min(top, len(texts)))
    return [
        [Hit(rank, 1 - float(distance), texts[row]) for rank, (distance, row) in enumerate(found, start=1)]
        for found in (zip(one, at.tolist(), strict=True) for one, at in zip(distances, rows, strict=True))
    ]


def _index(asked: Asked, exact: bool, device: str) -> FeatureIndex:
    """Index the features; where that takes long, as of millions, the index is kept beside them."""
    index = FeatureIndex(asked.store, spec=asked.spec, device=device)
    if exact or index.method_ == "exact":
        return index
    try:
        kept = FeatureIndex.load(asked.store, spec=asked.spec, device=device)
        is_new = kept.update() > 0
    except StoreError:  # there is none, it is damaged, or images are gone
        kept, is_new = index.build(), True
    if is_new:
        with suppress(OSError):  # it is built again the next time
            kept.save()
    return kept


def _hit(rank: int, similarity: float, key: str, places: Sequence[Place]) -> Hit:
    if not places:
        return Hit(rank, similarity, key)
    first, *others = places
    return Hit(rank, similarity, first.name, first.label, first.item, tuple(other.name for other in others))
