"""What every source of images becomes."""

from collections.abc import Iterable, Sequence

from frofa.images.image_set import ImageSet
from frofa.images.labels import as_labels
from frofa.images.reading import ImageItem, describe


def image_set(
    items: Sequence[ImageItem], labels: Iterable[object] | None = None, notes: Sequence[str] = ()
) -> ImageSet:
    """Name the items and check that there is one label for each."""
    names = [describe(item) for item in items]
    gathered = None if labels is None else as_labels(labels, names)
    if gathered is not None and len(gathered) != len(items):
        raise ValueError(f"expected one label an image. Got {len(items)} images and {len(gathered)} labels.")
    return ImageSet(items, gathered, names, list(notes))


def join(sets: Sequence[ImageSet]) -> ImageSet:
    """Several sets, one after the other; labels become strings if some set has none or others have strings."""
    if len(sets) == 1:
        return sets[0]
    labels: list[object] = []
    for part in sets:
        labels += [None] * len(part.items) if part.labels is None else part.labels.tolist()
    items = [item for part in sets for item in part.items]
    return ImageSet(
        items,
        as_labels(labels) if any(part.labels is not None for part in sets) else None,
        [name for part in sets for name in part.names],
        [note for part in sets for note in part.notes],
    )
