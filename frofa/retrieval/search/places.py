"""Places of images that were found: from keys to files that are there, by a store's names or a listing of images."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from frofa.images.archives.members import list_archive
from frofa.images.image_set import ImageSet
from frofa.images.items import ImageItem
from frofa.images.reading import content
from frofa.retrieval.remembered import check_known, keys_with
from frofa.store import FeatureStore
from frofa.store.file_digests import SeenFile
from frofa.store.keys import KeyArray, as_keys, to_hex
from frofa.store.names import Named
from frofa.utils.progress import progress_bar


class Place(NamedTuple):
    """A place of an image: its name, its label or ``""``, and the image itself, or None if it is no longer there."""

    name: str
    label: str
    item: "ImageItem | None"


class StoreNames:
    """Places as the store remembers them."""

    def __init__(self, store: FeatureStore):
        self._names = store.image_names()

    def places(self, keys: KeyArray) -> list[list[Place]]:
        """Find the places of each image; where it is not at any of them any more, the last one without an item."""
        return [_still_there(key, found) for key, found in zip(to_hex(keys), self._names.find(keys), strict=True)]

    def with_labels(self, labels: Sequence[str]) -> KeyArray:
        """List the keys of images with one of these labels; a ValueError names a label that no image has."""
        return keys_with(self._names, labels)


class ListedNames:
    """Places of images that were listed, by their keys."""

    def __init__(self, places: Mapping[str, list[Place]]):
        self._places = places

    def places(self, keys: KeyArray) -> list[list[Place]]:
        """Find the places of each image among those that were listed."""
        return [self._places.get(key, []) for key in to_hex(keys)]

    def with_labels(self, labels: Sequence[str]) -> KeyArray:
        """List the keys of images with one of these labels; a ValueError names a label that no image has."""
        wanted, known = set(labels), {place.label for places in self._places.values() for place in places}
        check_known(labels, known - {""})
        return as_keys([key for key, places in self._places.items() if wanted & {place.label for place in places}])


def list_names(store: FeatureStore, images: ImageSet) -> ListedNames:
    """Find the keys of images that were listed, without reading files that the store has seen."""
    seen = {i: file for i, item in enumerate(images.items) if (file := _look(item)) is not None}
    known = dict(zip(seen, store.file_digests().find(list(seen.values())), strict=True))
    places: dict[str, list[Place]] = {}
    options = {"desc": "look up", "unit": "img", "delay": 2, "leave": False}
    for i, item in enumerate(progress_bar(images.items, shown=None, **options)):
        key = known.get(i) or _digest(item)
        if key is not None:
            label = "" if images.labels is None else str(images.labels[i])
            places.setdefault(key, []).append(Place(images.names[i], label, item))
    return ListedNames(places)


def _still_there(key: str, found: Sequence[Named]) -> list[Place]:
    whole = [Place(one.path, one.label, item) for one in found if (item := _at(one.path, key)) is not None]
    return whole or [Place(one.path, one.label, None) for one in found[:1]]


def _at(path: str, key: str) -> "ImageItem | None":
    """The image at a place, if it is the one with this key."""
    archive, separator, member = path.partition("!/")
    item: Any = path
    if separator and not Path(path).exists():
        item = _members(archive).get(member)
    return item if item is not None and _digest(item) == key else None


@cache
def _members(archive: str) -> Mapping[str, Any]:
    try:
        return list_archive(Path(archive))
    except (OSError, ValueError):
        return {}


def _digest(item: ImageItem) -> str | None:
    try:
        return content(item)[1]
    except Exception:  # decoders raise a dozen types
        return None


def _look(item: ImageItem) -> SeenFile | None:
    return SeenFile.look(item) if isinstance(item, (str, Path)) else None
