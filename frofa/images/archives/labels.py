"""Which members of an archive are images, and where their labels are."""

from collections import Counter
from itertools import takewhile
from pathlib import Path

from frofa.images.archives.members import ArchiveMember, MissingMember, list_archive
from frofa.images.archives.webdataset import find_samples, load_samples
from frofa.images.columns import LABEL
from frofa.images.folders import by_class
from frofa.images.image_set import ImageSet, image_set
from frofa.images.listing import describe_others, ending, is_hidden, is_image_name
from frofa.images.tables import label_members


def load_archive(
    archive: Path,
    table: Path | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    *,
    labelled: bool = True,
) -> ImageSet:
    """The images of a zip or tar archive.

    With a CSV file `table`, the members that it lists, in its order. In webdataset layout, where a file beside an image
    has the same name up to its first dot and the ending ``.cls``, ``.json`` or ``.txt``, one image a sample, in the
    archive's order. Otherwise the archive is taken for a directory in ImageFolder layout, or a flat one, and sorted as
    one. If it is not `labelled`, it is taken for a flat one.
    """
    members = {name: member for name, member in list_archive(archive).items() if not any(map(is_hidden, _parts(name)))}
    if table is not None:
        absent = f"not in {archive}"
        return label_members(
            table,
            lambda name: members.get(name) or MissingMember(str(archive), name, absent),
            path_column,
            label_column,
        )
    images = [member for name, member in members.items() if is_image_name(name)]
    samples = find_samples(members) if labelled else {}
    if any(sample.images and sample.labels for sample in samples.values()):
        return load_samples(samples.values(), label_column or LABEL)
    others = Counter(ending(name) for name in members if not is_image_name(name))
    images.sort(key=lambda image: image.name)
    notes = describe_others(others)
    return by_class(images, _classes_of(images), notes) if labelled else image_set(images, notes=notes)


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _classes_of(images: list[ArchiveMember]) -> list[str]:
    """Each member's directory below the deepest one that holds all of them; ``""`` if it lies in that one itself."""
    parts = [_parts(image.name) for image in images]
    depth = len(_common_start([found[:-1] for found in parts]))
    return [found[depth] if len(found) > depth + 1 else "" for found in parts]


def _common_start(lists: list[list[str]]) -> list[str]:
    """What all lists begin with: that is, what the first and the last of them in order do."""
    if not lists:
        return []
    pairs = zip(min(lists), max(lists), strict=False)
    return [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
