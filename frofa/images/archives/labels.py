"""Images of an archive with their labels, from a table, the names of directories, or files beside them."""

from collections import Counter
from itertools import takewhile
from pathlib import Path

from frofa.images.archives.members import ArchiveMember, MissingMember, list_archive
from frofa.images.archives.webdataset import find_samples, load_samples
from frofa.images.columns import LABEL, ColumnsAsked
from frofa.images.folders import by_class
from frofa.images.image_set import ImageSet, image_set
from frofa.images.listing import describe_others, ending, is_hidden, is_image_name
from frofa.images.tables import read_table


def load_archive(archive: Path, file: Path | None, asked: ColumnsAsked) -> ImageSet:
    """Find the images of a zip or tar archive.

    With a CSV file, they are the members that it lists, in its order. In webdataset layout, where a file beside an
    image has the same name up to its first dot and the ending ``.cls``, ``.json`` or ``.txt``, one image a sample, in
    the archive's order. Otherwise the archive is taken for a directory in ImageFolder layout, or a flat one, and sorted
    as one. If no labels are wanted, it is taken for a flat one.
    """
    members = {name: member for name, member in list_archive(archive).items() if not any(map(is_hidden, _parts(name)))}
    if file is not None:
        table = read_table(file, asked)
        found = [members.get(path) or MissingMember(str(archive), path, f"not in {archive}") for path in table.paths]
        return image_set(found, table.labels, table.notes)
    images = [member for name, member in members.items() if is_image_name(name)]
    samples = find_samples(members) if asked.labelled else {}
    # A label file beside any image makes it webdataset layout, for all of the archive.
    if any(sample.images and sample.labels for sample in samples.values()):
        return load_samples(samples.values(), asked.label or LABEL)
    others = Counter(ending(name) for name in members if not is_image_name(name))
    images.sort(key=lambda image: image.name)
    notes = describe_others(others)
    return by_class(images, _classes_of(images), notes) if asked.labelled else image_set(images, notes=notes)


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]


def _classes_of(images: list[ArchiveMember]) -> list[str]:
    """List each member's directory below the deepest one that holds all; ``""`` for those in that one itself."""
    parts = [_parts(image.name) for image in images]
    directories = [found[:-1] for found in parts]
    # What the first and the last in order begin with, all of them do.
    pairs = zip(min(directories, default=[]), max(directories, default=[]), strict=False)
    depth = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return [found[depth] if len(found) > depth + 1 else "" for found in parts]
