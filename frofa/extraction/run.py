"""One extraction: which images go through the backbone, in which batches, and what comes out."""

import warnings
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.backbones.backbone import Backbone, Request
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.decoding.decoders import Decoders
from frofa.decoding.task import Digest, Task
from frofa.exceptions import ImageReadError, StoreError, StoreNotWrittenWarning
from frofa.extraction.engine import CPU_PASS, Computed, CudaTransfers, Engine, NoTransfers, automatic_batch_size
from frofa.extraction.lookup import KnownFiles
from frofa.extraction.native_engine import NativeEngine, NativeSink, images_of_a_pass
from frofa.extraction.pipeline import run_pipeline
from frofa.extraction.sinks import ArraySink, MemoryWriter, Sink, StoreSink, Writer, gather
from frofa.images.items import ImageItem, describe
from frofa.images.pixels.colour import Colour
from frofa.store import MANIFEST, FeatureSpec, FeatureStore
from frofa.store.ragged import RaggedStore
from frofa.utils.progress import progress_bar

Positions = npt.NDArray[np.intp]
DIGEST_CHUNK = 64
FEW = 2000
"""So many files are read and digested sooner than processes have started."""


@dataclass(frozen=True)
class Extraction:
    """Features with what belongs to them.

    Attributes
    ----------
    features : ndarray or FeatureArray of shape (n_kept, ...), or RaggedTokens
        One row for each image that could be read; with a store, a lazy array of what lies there. RaggedTokens are
        tokens of images of different sizes, in memory.
    y : ndarray of shape (n_kept,) or None
        The labels of these rows, where labels were given.
    kept : ndarray of int, shape (n_kept,)
        The position in the input of each row.
    skipped : list of ImageReadError
        The images left out, with position, name and reason.
    n_computed : int
        How many images went through the backbone; the others came from the store, or repeat one that did.
    n_from_store : int
        How many different images the store had already.
    n_duplicates : int
        How many images repeat an earlier one; known where there is a store.
    n_not_kept : int
        How many of the computed images the store could not keep, as it cannot be written; their features are in
        `features` only.
    keys : list of str or None
        The digest of each row's image, the same for copies; known where there is a store.
    """

    features: Any
    y: npt.NDArray[Any] | None
    kept: Positions
    skipped: list[ImageReadError]
    n_computed: int
    n_from_store: int = 0
    n_duplicates: int = 0
    n_not_kept: int = 0
    keys: list[str] | None = None


@dataclass(frozen=True)
class Target:
    """One of the features that a run computes: what the backbone is asked for, and under which spec it is kept."""

    request: Request
    spec: FeatureSpec


@dataclass(frozen=True)
class Settings:
    """Of a run; as in `FrozenFeatureExtractor`, but for `n_jobs`, which is a number, and `processes`."""

    precision: str
    batch_size: int | str
    compiled: bool
    n_jobs: int
    processes: bool
    skip: bool
    progress: bool
    rehash: bool
    background: Colour


@dataclass
class Run:
    """What one call of an extractor does with its images.

    Attributes
    ----------
    items : sequence
        The images.
    backbone : Backbone
    targets : sequence of Target
        All come from the same forward passes.
    settings : Settings
    skipped : dict of int to ImageReadError
        By position.
    n_computed, n_from_store : list of int
        For each target.
    n_duplicates : int
    not_kept : list of dict of str to ndarray
        For each target, features that the store could not be given, by key.
    """

    items: Sequence[ImageItem]
    backbone: Backbone
    targets: Sequence[Target]
    settings: Settings
    skipped: dict[int, ImageReadError] = field(default_factory=dict)
    n_computed: list[int] = field(default_factory=list)
    n_from_store: list[int] = field(default_factory=list)
    n_duplicates: int = 0
    not_kept: list[dict[str, npt.NDArray[Any]]] = field(default_factory=list)
    keys: list[str] | None = None

    def without_store(self) -> tuple[list[npt.NDArray[Any]], Positions]:
        """Compute everything; return features of each target, and the positions they belong to."""
        background = self.settings.background
        tasks = [Task(position, item, None, background=background) for position, item in enumerate(self.items)]
        sink = NativeSink(len(self.items)) if isinstance(self.backbone, NativeBackbone) else ArraySink(len(self.items))
        with closing(self._decoders()) as decoders:
            self._compute(tasks, self.targets, decoders, sink)
        kept = self._kept(range(len(self.items)))
        self.n_computed, self.n_from_store = [len(kept)] * len(self.targets), [0] * len(self.targets)
        self.not_kept = [{} for _ in self.targets]
        return [array if len(kept) == len(array) else array[kept] for array in sink.arrays], kept

    def with_store(self, store: FeatureStore) -> tuple[list[Any], Positions]:
        """Compute what the store does not have, batch by batch into the store; return all from it, not read yet.

        What is computed stays in memory if the store cannot be written: a `StoreNotWrittenWarning` says so before.
        """
        with closing(self._decoders()) as decoders:
            if self.settings.rehash or not (store.path / MANIFEST).exists():  # all will be read
                decoders.start(len(self.items))
            known = None if self.settings.rehash else KnownFiles(store, self.items)
            samples: dict[int, bytes] = {}
            digests = self._digests(decoders, known.digests if known else {}, samples)
            first: dict[str, int] = {}
            for position, digest in digests.items():
                first.setdefault(digest, position)
            self.n_duplicates = len(digests) - len(first)
            self._fill(store, digests, first, decoders)
        if known is not None:
            known.remember({i: key for i, key in digests.items() if i not in self.skipped}, samples)
        for position, digest in digests.items():  # copies of an image that could not be decoded
            failed = self.skipped.get(first[digest])
            if failed is not None and position != failed.position:
                self.skipped[position] = type(failed)(position, describe(self.items[position]), failed.reason)
        kept = self._kept(digests)
        self.keys = keys = [digests[position] for position in kept]
        try:
            found = [
                gather(self._where(store, target), target.spec, keys, rows)
                for target, rows in zip(self.targets, self.not_kept, strict=True)
            ]
        except KeyError as error:
            raise StoreError(
                f"features were removed from {store.path} while this run wrote to it: run again."
            ) from error
        return found, kept

    def _where(self, store: FeatureStore, target: Target) -> FeatureStore | RaggedStore:
        """What keeps the features of a target."""
        ragged = isinstance(self.backbone, NativeBackbone) and target.request.output == "tokens"
        return RaggedStore(store) if ragged else store

    def _fill(self, store: FeatureStore, digests: dict[int, str], first: dict[str, int], decoders: Decoders) -> None:
        where = [self._where(store, target) for target in self.targets]
        lacking = [
            dict.fromkeys(one.missing(target.spec, list(first)))
            for one, target in zip(where, self.targets, strict=True)
        ]
        self.n_from_store = [len(first) - len(missing) for missing in lacking]
        self.n_computed = [0] * len(self.targets)
        self.not_kept = [{} for _ in self.targets]
        wanted = [index for index, missing in enumerate(lacking) if missing]
        if not wanted:
            return
        tasks = [
            Task(position, self.items[position], digest, background=self.settings.background)
            for digest, position in first.items()
            if any(digest in lacking[index] for index in wanted)
        ]
        with ExitStack() as stack:
            writers = self._writers(store, wanted, len(tasks))
            for writer in writers:
                stack.enter_context(writer)
            sink = StoreSink(digests, [(lacking[index], writer) for index, writer in zip(wanted, writers, strict=True)])
            try:
                self._compute(tasks, [self.targets[index] for index in wanted], decoders, sink)
            finally:
                for index, n in zip(wanted, sink.n_added, strict=True):
                    self.n_computed[index] = n

    def _writers(self, store: FeatureStore, wanted: Sequence[int], n_images: int) -> list[Writer]:
        """What takes the features of these targets."""
        targets = [self.targets[index] for index in wanted]
        if store.is_writable():
            return [self._where(store, target).writer(target.spec, automatic=False) for target in targets]
        warnings.warn(
            f"{store.path} cannot be written: the features of {n_images} images that it does not have are computed and "
            "returned, but not kept.",
            StoreNotWrittenWarning,
            stacklevel=2,
        )
        writers = [MemoryWriter() for _ in targets]
        for index, writer in zip(wanted, writers, strict=True):
            self.not_kept[index] = writer.rows
        return [*writers]

    def _digests(self, decoders: Decoders, known: Mapping[int, str], samples: dict[int, bytes]) -> dict[int, str]:
        """The digest of each image that could be read, by position; to `samples` go those of files that were read."""
        unknown = [position for position in range(len(self.items)) if position not in known]
        few = len(unknown) < FEW
        decoders.start(len(unknown))
        starts = iter(range(0, len(unknown), DIGEST_CHUNK))
        waiting: deque[tuple[list[int], Future[list[Digest | ImageReadError]]]] = deque()
        digests = dict(known)
        with progress_bar(
            total=len(unknown),
            unit=self.backbone.unit,
            desc="look up",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {remaining} left",
            delay=2,
            shown=self.settings.progress,
        ) as bar:
            while True:
                for start in islice(starts, 4 * decoders.n_jobs - len(waiting)):
                    chunk = unknown[start : start + DIGEST_CHUNK]
                    tasks = [Task(position, self.items[position], None) for position in chunk]
                    waiting.append((chunk, decoders.digests(tasks, here=few)))
                if not waiting:
                    return dict(sorted(digests.items()))
                chunk, future = waiting.popleft()
                for position, found in zip(chunk, future.result(), strict=True):
                    if isinstance(found, ImageReadError):
                        self._fail(found)
                    else:
                        digests[position] = found.key
                        if found.sample is not None:
                            samples[position] = found.sample
                bar.update(len(chunk))

    def _compute(self, tasks: Sequence[Task], targets: Sequence[Target], decoders: Decoders, sink: Sink) -> None:
        decoders.start(len(tasks))
        shown = self.settings.progress and bool(tasks)
        with progress_bar(total=len(tasks), unit=self.backbone.unit, desc="extract", shown=shown) as bar:

            def count(positions: list[int], features: list[Computed]) -> None:
                n_done = sink(positions, features)
                bar.set_postfix_str(self._counts(), refresh=False)
                bar.update(n_done)  # what is in the store counts as done

            run_pipeline(tasks, decoders, self._engine(targets), count, self._fail)
            sink.commit()
            bar.set_postfix_str(self._counts(), refresh=False)
            bar.update(len(tasks) - bar.n)

    def _counts(self) -> str:
        counts = {
            "from store": max(self.n_from_store, default=0),
            "duplicates": self.n_duplicates,
            "skipped": len(self.skipped),
        }
        return ", ".join(f"{n} {name}" for name, n in counts.items() if n)

    def _engine(self, targets: Sequence[Target]) -> Engine:
        backbone, settings = self.backbone, self.settings
        requests = [target.request for target in targets]
        size, native = settings.batch_size, isinstance(backbone, NativeBackbone)
        if isinstance(backbone, NativeBackbone):
            size = images_of_a_pass(size, backbone.max_tokens)
        elif size == "auto":
            size = automatic_batch_size(backbone, requests, settings.precision)
        size = int(size)
        return (NativeEngine if native else Engine)(
            backbone,
            requests,
            [target.spec.dtype for target in targets],
            settings.precision,
            min(size, CPU_PASS) if backbone.device.type == "cpu" and not backbone.is_custom else size,
            size,
            settings.compiled,
            CudaTransfers(backbone.device) if backbone.device.type == "cuda" else NoTransfers(),
        )

    def _decoders(self) -> Decoders:
        return Decoders(self.settings.n_jobs, processes=self.settings.processes)

    def _fail(self, failure: ImageReadError) -> None:
        if not self.settings.skip:
            raise failure
        failure.__cause__ = None  # its frames hold the image
        self.skipped[failure.position] = failure

    def _kept(self, positions: Iterable[int]) -> Positions:
        kept = np.array([position for position in positions if position not in self.skipped], np.intp)
        if not kept.size:
            raise next(iter(self.skipped.values()))
        return kept
