"""Digests of the images of a run, of files that a store has seen before without reading, and features that it lacks."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from frofa.decoding.decoders import Decoders, run_ahead
from frofa.decoding.task import DecodeTask
from frofa.decoding.views import View
from frofa.exceptions import ImageReadError
from frofa.extraction.request import ExtractionRequest, Target
from frofa.images.archives.members import ArchiveMember
from frofa.images.items import ImageItem
from frofa.store import MANIFEST, FeatureStore
from frofa.store.file_digests import SeenFile
from frofa.store.names import Named
from frofa.store.ragged import RaggedStore
from frofa.utils.files import expand_home, warn_not_written
from frofa.utils.progress import progress_bar

CHUNK = 64
"""Images that a thread or process digests at a time: more than are decoded at a time, since each takes less."""
FEW = 2000
"""Fewer files than that are read and digested here sooner than processes have started."""


class KnownFiles:
    """The files among the images of a run, and the digests that a store remembers of them, by position."""

    def __init__(self, store: FeatureStore, items: Sequence[ImageItem]):
        self._store, self._read_at = store, time.time()
        # Looked at before any is read: a change in between shows at the next look.
        seen = {i: SeenFile.look(item) for i, item in enumerate(items) if isinstance(item, (str, os.PathLike))}
        self._files = {position: file for position, file in seen.items() if file is not None}
        found = store.file_digests().find(list(self._files.values()))
        self.digests = {position: key for position, key in zip(self._files, found, strict=True) if key is not None}

    def remember(self, digests: Mapping[int, str], samples: Mapping[int, bytes]) -> None:
        """Keep the digests of files that were read, by position, unless there is no store yet.

        With the digest goes a sample of what was read, see `frofa.utils.blocks`. A store that cannot be written gives a
        `StoreNotWrittenWarning`: the files are read again then.
        """
        read = [position for position in self._files if position in digests and position in samples]
        if not read or not (self._store.path / MANIFEST).exists():
            return
        files, keys = [self._files[position] for position in read], [digests[position] for position in read]
        try:
            self._store.file_digests().remember(files, keys, [samples[row] for row in read], self._read_at)
        except OSError as error:
            consequence = f"no feature is lost, but the next run will read {len(read)} files again, too."
            warn_not_written(self._store.path, error, consequence)


@dataclass(frozen=True)
class Contents:
    """The digests of the images that could be read, by position and in its order, and samples of files that were read.

    Images of one digest are copies; `first` has the position of the first of them.
    """

    digests: dict[int, str]
    samples: dict[int, bytes]
    first: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for position, digest in self.digests.items():
            self.first.setdefault(digest, position)

    @property
    def n_duplicates(self) -> int:
        """Count the images that repeat an earlier one."""
        return len(self.digests) - len(self.first)


@dataclass
class StoredTarget:
    """A target of a run with a store: where its features are kept, and the keys that were lacking when the run began.

    Where the store cannot be written, `not_kept` takes the computed features, by key.
    """

    target: Target
    store: FeatureStore | RaggedStore
    lacking: dict[str, None]
    n_computed: int = 0
    not_kept: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def look_up(
    request: ExtractionRequest, decoders: Decoders, known: Mapping[int, str], fail: Callable[[ImageReadError], None]
) -> Contents:
    """Digest the images that have no known digest, by position; hand those that cannot be read to `fail`, in order."""
    unknown = [position for position in range(len(request.items)) if position not in known]
    few = len(unknown) < FEW
    decoders.start(len(unknown))
    # Chunks of tasks are made as they are begun: a million images are no million tasks at once.
    chunks = (
        [DecodeTask(position, request.items[position]) for position in unknown[start : start + CHUNK]]
        for start in range(0, len(unknown), CHUNK)
    )
    digests, samples = dict(known), dict[int, bytes]()
    with progress_bar(
        total=len(unknown),
        unit=request.backbone.unit,
        desc="look up",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {remaining} left",
        delay=2,
        shown=request.settings.progress,
    ) as bar:
        for tasks, found in run_ahead(lambda chunk: decoders.digests(chunk, here=few), chunks, 4 * decoders.n_jobs):
            for task, digest in zip(tasks, found, strict=True):
                if isinstance(digest, ImageReadError):
                    fail(digest)
                    continue
                digests[task.position] = digest.key
                if digest.sample is not None:
                    samples[task.position] = digest.sample
            bar.update(len(tasks))
    return Contents(dict(sorted(digests.items())), samples)


def stored(target: Target, store: FeatureStore, keys: Sequence[str]) -> StoredTarget:
    """Look up which of these images a store has the target's features of."""
    where = RaggedStore(store) if target.is_ragged else store
    return StoredTarget(target, where, dict.fromkeys(where.missing(target.spec, keys)))


def lacking_views(digests: Iterable[str], parts: Sequence[StoredTarget]) -> Iterator[tuple[str, tuple[View, ...]]]:
    """Yield each digest that some target lacks, with the views that are to be computed, in the order of the targets."""
    lacking: dict[View, list[dict[str, None]]] = {}
    for part in parts:
        lacking.setdefault(part.target.view, []).append(part.lacking)
    # One tuple for all images that lack the same views: there are few of them, and many images.
    known: dict[tuple[View, ...], tuple[View, ...]] = {}
    for digest in digests:
        views = tuple(view for view, keys in lacking.items() if any(digest in those for those in keys))
        if views:
            yield digest, known.setdefault(views, views)


def remember_names(request: ExtractionRequest, store: FeatureStore, digests: Mapping[int, str]) -> None:
    """Keep where the images of a run lie, by position, with their labels there, and the name of the model.

    Images in memory, frames of videos and rows of data sets have no place that is there later. A store that cannot be
    written gives a `StoreNotWrittenWarning`.
    """
    if not (store.path / MANIFEST).exists() or not store.is_writable():
        return
    places = {i: place for i in digests if (place := place_of(request.items[i])) is not None}
    labels = request.labels
    named = [Named(place, "" if labels is None else label_text(labels[i])) for i, place in places.items()]
    names = store.image_names()
    try:
        for target in request.targets:
            names.remember_model(target.spec.digest, request.backbone.name)
        names.remember([digests[i] for i in places], named)
    except OSError as error:
        warn_not_written(store.path, error, "all features are there, but searches will not know the images' names.")


def place_of(item: ImageItem) -> str | None:
    """Say where an image lies: an absolute path, or ``ARCHIVE!/MEMBER``; None of one that has no lasting place."""
    if isinstance(item, (str, os.PathLike)):
        return os.path.abspath(expand_home(item))  # noqa: PTH100 (links stay as they are, and so do bytes)
    if isinstance(item, ArchiveMember):
        return f"{os.path.abspath(item.archive)}!/{item.name}"  # noqa: PTH100
    return None


def label_text(label: object) -> str:
    """Write a label as text; one that is missing is none."""
    text = str(label)
    return "" if label is None or text in ("nan", "None", "<NA>") else text
