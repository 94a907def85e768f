"""Samples of an archive in webdataset layout: one image and its label, under one name."""

import json
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from frofa.images.archives.members import ArchiveMember, Members
from frofa.images.image_set import ImageSet, image_set
from frofa.images.listing import count, describe_ignored, is_image_name

LABEL_FILES = ("cls", "json", "txt")
"""Endings of a sample's files that may hold its label; the first that does counts."""
LARGEST_LABEL = 1 << 23
"""Bytes of the largest file of a label that is read: some of JSON also have the outlines of what is in the image."""
LONGEST_NUMBER = 1000
"""Most digits of a number in JSON: to read more takes time that grows with their square."""


@dataclass
class SampleFiles:
    """Members of an archive with one name up to its first dot: images by what follows it, labels by `LABEL_FILES`."""

    images: dict[str, ArchiveMember] = field(default_factory=dict)
    labels: dict[str, ArchiveMember] = field(default_factory=dict)

    def image(self) -> ArchiveMember | None:
        """Pick the plain image, ``0.jpg`` and not ``0.mask.jpg``; of several formats, the first.

        Without a plain one, the only one; None if there are several, and so none is known to be the sample's.
        """
        plain = [member for kind, member in self.images.items() if "." not in kind]
        found = plain or list(self.images.values())
        return found[0] if plain or len(found) == 1 else None


def find_samples(members: Members) -> dict[str, SampleFiles]:
    """Group the members of an archive by directory, and name up to its first dot."""
    samples: dict[str, SampleFiles] = {}
    for name, member in members.items():
        directory, base = posixpath.split(name)
        start, _, kind = base.partition(".")
        # Of 0001.mask.PNG, the sample is 0001, and the kind mask.png.
        kind = kind.lower()
        sample = samples.setdefault(posixpath.join(directory, start), SampleFiles())
        if kind in LABEL_FILES:
            sample.labels[kind] = member
        elif is_image_name(name):
            sample.images[kind] = member
    return samples


def load_samples(samples: Iterable[SampleFiles], label_field: str) -> ImageSet:
    """Take one image a sample with its label, in their order; those without an image are left out.

    A label that cannot be read is noted, and its image has none. Other images of a sample, such as masks, are counted.
    """
    images, labels = [], []
    others: list[ArchiveMember] = []
    undecided: list[ArchiveMember] = []
    failures: list[str] = []
    for sample in samples:
        image = sample.image()
        # Images that were not chosen are left out; where none was, all are, and the note says another reason.
        left_out = undecided if image is None else others
        left_out += [member for member in sample.images.values() if member is not image]
        if image is not None:
            images.append(image)
            labels.append(_read_label(sample, label_field, failures))
    notes = [
        *describe_ignored("image", others, "beside the plain one of a sample"),
        *describe_ignored("image", undecided, "of samples that have several, and none that is plain,"),
    ]
    if failures:
        notes.append(f"{count(len(failures), 'label file')} cannot be read and left out, such as {failures[0]}")
    found = image_set(images, labels, notes)
    # Numbers of .json files become strings, as those of .cls and .txt files are.
    return found if found.labels is None else replace(found, labels=found.labels.astype(str))


def _read_label(sample: SampleFiles, label_field: str, failures: list[str]) -> object:
    """Read the label of a sample, or None; files that cannot be read are added to `failures`."""
    for kind in LABEL_FILES:
        if kind in sample.labels:
            member = sample.labels[kind]
            try:
                label = _label_in(member, kind, label_field)
            except (OSError, ValueError, RecursionError, MemoryError) as error:
                failures.append(f"{member.describe()}: {str(error) or type(error).__name__}")
                continue
            if label is not None:
                return label
    return None


def _label_in(member: ArchiveMember, kind: str, label_field: str) -> object:
    if member.n_bytes > LARGEST_LABEL:
        raise OSError(f"it has {member.n_bytes} bytes; of a label, more than {LARGEST_LABEL} are not read")
    text = member.read().decode("utf-8-sig")
    if kind != "json":
        return text.strip()
    found = json.loads(text, parse_int=_whole_number)
    return found.get(label_field, found.get("cls")) if isinstance(found, dict) else found


def _whole_number(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
