"""One extraction: which images go through the backbone, in which batches, and what comes out."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.decoding.decoders import Decoders
from frofa.decoding.task import DecodeTask
from frofa.decoding.views import PLAIN, ImageView
from frofa.exceptions import EncoderError, ImageReadError, SkippedImagesWarning, StoreError, StoreNotWrittenWarning
from frofa.extraction.engine import ForwardEngine
from frofa.extraction.lookup import Contents, KnownFiles, StoredTarget, lacking_views, look_up, remember_names, stored
from frofa.extraction.pipeline import run_pipeline
from frofa.extraction.request import ExtractionRequest
from frofa.extraction.sinks import Lack, MemorySink, MemoryWriter, Sink, StoreSink, Writer, gather, shared
from frofa.images.items import describe
from frofa.store import MANIFEST, FeatureStore
from frofa.utils.progress import progress_bar

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Extraction:
    """Features with what belongs to them.

    Attributes
    ----------
    features : ndarray or FeatureArray of shape (n_kept, ...), RaggedTokens or FeatureBlocks
        One row for each image that could be read; with a store, a lazy array of what lies there. RaggedTokens are
        tokens of images of different sizes, in memory; FeatureBlocks hold several outputs or views.
    y : ndarray of shape (n_kept,) or None
        The labels of these rows, where labels were given.
    kept : ndarray of int, shape (n_kept,)
        The position in the input of each row.
    skipped : list of ImageReadError
        The images left out, with position, name and reason.
    n_computed : int
        How many images went through the backbone, in the view that these are features of; the others came from the
        store, or repeat one that did.
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


class Failures:
    """The images that could not be read, by position; the first one is raised unless they are to be skipped."""

    def __init__(self, *, skip: bool):
        self._skip = skip
        self.by_position: dict[int, ImageReadError] = {}

    def __call__(self, failure: ImageReadError) -> None:
        """Note an image that could not be read, or raise its error."""
        if not self._skip:
            raise failure
        failure.__cause__ = None  # its frames hold the image
        self.by_position[failure.position] = failure

    def kept(self, positions: Iterable[int]) -> Positions:
        """Select the positions of images that could be read; raise an `ImageReadError` if there are none."""
        kept = np.array([position for position in positions if position not in self.by_position], np.intp)
        if not kept.size:
            raise next(iter(self.by_position.values()))
        return kept


def extract_together(request: ExtractionRequest) -> list[Extraction]:
    """Extract the features of each target, of an output and a view, all from the same forward passes.

    Each image is read and decoded once, and each view that any target needs is one row of these passes, for all of its
    targets. An EncoderError or a ValueError says that other views than the plain one cannot be made.
    """
    _check_views(request)
    failures = Failures(skip=request.settings.skip)
    store = request.store
    found = _in_memory(request, failures) if store is None else _through_store(request, store, failures)
    skipped = [failures.by_position[position] for position in sorted(failures.by_position)]
    if skipped:
        _warn_of_skipped(skipped, request)
    labels = request.labels
    return [
        replace(extraction, y=None if labels is None else labels[extraction.kept], skipped=skipped)
        for extraction in found
    ]


def _in_memory(request: ExtractionRequest, failures: Failures) -> list[Extraction]:
    """Compute the features of all images, and return them in memory."""
    background, views = request.settings.background, tuple(dict.fromkeys(target.view for target in request.targets))
    tasks = [
        DecodeTask(position, item, background=background, views=views) for position, item in enumerate(request.items)
    ]
    # Without a store, images are digested as they are decoded, and copies are computed like all others.
    computed, shares = shared(request.targets)
    sink = MemorySink(len(tasks), shares)
    with closing(_decoders(request)) as decoders:
        _compute(replace(request, targets=computed), tasks, decoders, sink, failures, {})
    kept = failures.kept(range(len(tasks)))
    return [Extraction(features, None, kept, [], len(kept)) for features in sink.features(kept)]


def _through_store(request: ExtractionRequest, store: FeatureStore, failures: Failures) -> list[Extraction]:
    """Compute what the store does not have, batch by batch into the store; return all from it, not read yet.

    What is computed stays in memory if the store cannot be written: a `StoreNotWrittenWarning` says so before.
    """
    rehash = request.settings.rehash
    with closing(_decoders(request)) as decoders:
        if rehash or not (store.path / MANIFEST).exists():  # all will be read
            decoders.start(len(request.items))
        # The content of each image, and which features of it the store lacks.
        known = None if rehash else KnownFiles(store, request.items)
        contents = look_up(request, decoders, known.digests if known else {}, failures)
        parts = [stored(target, store, list(contents.first)) for target in request.targets]
        _fill(request, store, parts, contents, decoders, failures)
    # Files that were decoded, too, are known by the next run.
    digests = contents.digests
    if known is not None:
        known.remember({i: key for i, key in digests.items() if i not in failures.by_position}, contents.samples)
    _fail_copies(request, contents, failures)
    remember_names(request, store, {i: key for i, key in digests.items() if i not in failures.by_position})
    # A feature for each image that could be read, copies included, in the order of the input.
    kept = failures.kept(digests)
    keys = [digests[position] for position in kept]
    try:
        found = [gather(part.store, part.target.spec, keys, part.not_kept) for part in parts]
    except KeyError as error:
        raise StoreError(f"features were removed from {store.path} while this run wrote to it: run again.") from error
    return [
        Extraction(
            features,
            None,
            kept,
            [],
            n_computed=part.n_computed,
            n_from_store=len(contents.first) - len(part.lacking),
            n_duplicates=contents.n_duplicates,
            n_not_kept=len(part.not_kept),
            keys=keys,
        )
        for features, part in zip(found, parts, strict=True)
    ]


def _fill(
    request: ExtractionRequest,
    store: FeatureStore,
    parts: Sequence[StoredTarget],
    contents: Contents,
    decoders: Decoders,
    failures: Failures,
) -> None:
    """Compute what the store lacks of each target, and write it there."""
    # Targets differ in what they lack; the bar shows the best of them.
    n_from_store = max(len(contents.first) - len(part.lacking) for part in parts)
    counts = {"from store": n_from_store, "duplicates": contents.n_duplicates}
    parts = [part for part in parts if part.lacking]
    if not parts:
        return
    # One image of each content that some target lacks; its file must not have changed since it was looked up.
    background = request.settings.background
    tasks = [
        DecodeTask(contents.first[digest], request.items[contents.first[digest]], digest, (), background, views)
        for digest, views in lacking_views(contents.first, parts)
    ]
    computed, shares = shared([part.target for part in parts])
    with ExitStack() as stack:
        writers = _writers(store, parts, len(tasks))
        for writer in writers:
            stack.enter_context(writer)
        lacking = [part.lacking for part in parts]
        sink = StoreSink(contents.digests, list(map(Lack, shares, lacking, writers)))
        _compute(replace(request, targets=computed), tasks, decoders, sink, failures, counts)
    for part, n_added in zip(parts, sink.n_added, strict=True):
        part.n_computed = n_added


def _check_views(request: ExtractionRequest) -> None:
    """Refuse views of what is no image, or what nothing but the plain view can be made of."""
    views = {target.view for target in request.targets} - {PLAIN}
    if views and request.backbone.is_custom:
        raise EncoderError(
            f"{request.backbone.name} is a custom encoder, whose items need not be images, and so have one view. Got "
            f"{len(views)} more: choose n_views=1."
        )
    if views and not request.backbone.preprocessing.has_views:
        raise ValueError(
            f"{request.backbone.name} has a preprocessing that is not one of timm's, of which only the plain view can "
            f"be made. Got {len(views)} more: choose n_views=1."
        )


def _writers(store: FeatureStore, parts: Sequence[StoredTarget], n_images: int) -> list[Writer]:
    """Make what takes the features of each target: memory, with a warning, where the store cannot be written."""
    if store.is_writable():
        return [part.store.writer(part.target.spec, automatic=False) for part in parts]
    warnings.warn(
        f"{store.path} cannot be written: the features of {n_images} images that it does not have are computed and "
        "returned, but not kept.",
        StoreNotWrittenWarning,
        stacklevel=2,
    )
    return [MemoryWriter(part.not_kept) for part in parts]


def _compute(
    request: ExtractionRequest,
    tasks: Sequence[DecodeTask],
    decoders: Decoders,
    sink: Sink,
    failures: Failures,
    counts: Mapping[str, int],
) -> None:
    """Run images through the backbone into a sink, and show how far it is; `counts` are shown beside the bar."""
    decoders.start(len(tasks))
    # No bar flashes up where there is nothing to compute. It counts what takes the time: of several views, each.
    shown, n_rows = request.settings.progress and bool(tasks), sum(len(task.views) for task in tasks)
    unit = request.backbone.unit if n_rows == len(tasks) else "view"
    with progress_bar(total=n_rows, unit=unit, desc="extract", shown=shown) as bar:

        def show_counts() -> None:
            shown_counts = {**counts, "skipped": len(failures.by_position)}
            bar.set_postfix_str(", ".join(f"{n} {name}" for name, n in shown_counts.items() if n), refresh=False)

        def take(views: list[ImageView], features: list[Any]) -> None:
            n_done = sink(views, features)
            show_counts()
            request.count(n_done)
            bar.update(n_done)  # what is in the store counts as done

        engine = ForwardEngine(request.backbone, request.targets, request.settings)
        run_pipeline(tasks, decoders, engine, take, failures)
        sink.commit()
        show_counts()
        bar.update(n_rows - bar.n)


def _decoders(request: ExtractionRequest) -> Decoders:
    return Decoders(request.settings.n_jobs, processes=request.settings.processes)


def _fail_copies(request: ExtractionRequest, contents: Contents, failures: Failures) -> None:
    """Skip the copies of images that could not be decoded, too."""
    for position, digest in contents.digests.items():
        failed = failures.by_position.get(contents.first[digest])
        if failed is not None and position != failed.position:
            failures(type(failed)(position, describe(request.items[position]), failed.reason))


def _warn_of_skipped(skipped: Sequence[ImageReadError], request: ExtractionRequest) -> None:
    n, noun = len(request.items), "item" if request.backbone.is_custom else "image"
    listed = "; ".join(f"{e.name} (position {e.position}): {e.reason}" for e in skipped[:5])
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    hint = "" if request.labels is not None else ". To drop their labels too, use extract(X, y)"
    warnings.warn(f"skipped {len(skipped)} of {n} {noun}s: {listed}{more}{hint}", SkippedImagesWarning, stacklevel=5)
