"""Which members of an archive are images, and where their labels are."""

import json
import posixpath
from collections import Counter
from itertools import takewhile
from pathlib import Path

from frofa._listing import describe_others, ending, is_hidden, is_image_name
from frofa.inputs._image_set import ImageSet, image_set
from frofa.inputs.archives import ArchiveMember, Members, MissingMember, list_archive
from frofa.inputs.folders import by_class
from frofa.inputs.tables import LABEL, label_members

LABEL_FILES = ("cls", "json", "txt")
"""Of a sample in webdataset layout; the first that holds a label counts."""


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
    has the same name up to its first dot and the ending ``.cls``, ``.json`` or ``.txt``, the order is the archive's.
    Otherwise the archive is taken for a directory in ImageFolder layout, or a flat one, and sorted as one. If it is not
    `labelled`, it is taken for a flat one.
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
    samples = _samples(members) if labelled else {}
    if any(_key(image.name) in samples for image in images):
        labels = [_read_label(samples.get(_key(image.name), {}), label_column or LABEL) for image in images]
        return image_set(images, labels)
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


def _key(name: str) -> str:
    """What the files of one sample have in common: directory and name up to the first dot of the name."""
    directory, base = posixpath.split(name)
    return posixpath.join(directory, base.partition(".")[0])


def _samples(members: Members) -> dict[str, dict[str, ArchiveMember]]:
    """The label files of each sample, by their ending."""
    samples: dict[str, dict[str, ArchiveMember]] = {}
    for name, member in members.items():
        kind = posixpath.basename(name).partition(".")[2].lower()
        if kind in LABEL_FILES:
            samples.setdefault(_key(name), {})[kind] = member
    return samples


def _read_label(files: dict[str, ArchiveMember], field: str) -> str | None:
    for kind in LABEL_FILES:
        if kind in files:
            label = _label_in(files[kind], kind, field)
            if label is not None:
                return label
    return None


def _label_in(member: ArchiveMember, kind: str, field: str) -> str | None:
    try:
        text = member.read().decode()
        if kind != "json":
            return text.strip()
        found = json.loads(text)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the label {member.describe()}: {error}") from error
    if isinstance(found, dict):
        found = found.get(field, found.get("cls"))
    return None if found is None else str(found)
