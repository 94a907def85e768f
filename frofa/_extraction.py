"""One extraction: which images go through the backbone, in which batches, and what comes out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from frofa.exceptions import ImageReadError
from frofa.images import ImageItem, content, decode, describe, read_error
from frofa.store import FeatureSpec, FeatureStore

Features: TypeAlias = npt.NDArray[Any]
Positions: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Extraction:
    """Features with what belongs to them.

    Attributes
    ----------
    features : ndarray of shape (n_kept, ...)
        One row for each image that could be read.
    y : ndarray of shape (n_kept,) or None
        The labels of these rows, where labels were given.
    kept : ndarray of int, shape (n_kept,)
        The position in the input of each row.
    skipped : list of ImageReadError
        The images left out, with position, name and reason.
    n_computed : int
        How many images went through the backbone; the others came from the store, or repeat one that did.
    """

    features: Features
    y: npt.NDArray[Any] | None
    kept: Positions
    skipped: list[ImageReadError]
    n_computed: int


@dataclass
class Run:
    """What one call of the extractor does with its images.

    Attributes
    ----------
    items : sequence
        The images.
    preprocess, forward : callable
        RGB image to pixels (3, H, W); batch of pixels to float32 features on the CPU.
    batch_size, n_threads, dtype, skip, progress
        As in `FrozenFeatureExtractor`.
    skipped : dict of int to ImageReadError
        By position.
    """

    items: Sequence[ImageItem]
    preprocess: Callable[[Image.Image], Tensor]
    forward: Callable[[Tensor], Tensor]
    batch_size: int
    n_threads: int
    dtype: str
    skip: bool
    progress: bool
    skipped: dict[int, ImageReadError] = field(default_factory=dict)
    n_computed: int = 0

    def without_store(self) -> tuple[Features, Positions]:
        """Compute everything; return features and the positions they belong to."""
        batches = list(self._compute(range(len(self.items)), {}))
        kept = [position for positions, _ in batches for position in positions]
        self._refuse_nothing(kept)
        return np.concatenate([features for _, features in batches]), np.array(kept, np.intp)

    def with_store(self, store: FeatureStore, spec: FeatureSpec) -> tuple[Features, Positions]:
        """Compute what the store does not have, batch by batch into the store; return all from the store."""
        digests: dict[int, str] = {}
        for position, item in enumerate(self.items):
            try:
                digests[position] = content(item)[1]
            except Exception as error:
                self._fail(position, error)
        first: dict[str, int] = {}
        for position, digest in digests.items():
            first.setdefault(digest, position)
        missing = [first[digest] for digest in store.missing(spec, list(first))]
        for positions, features in self._compute(missing, digests):
            store.put(spec, [digests[position] for position in positions], features)
        for position, digest in digests.items():  # copies of an image that could not be decoded
            failed = self.skipped.get(first[digest])
            if failed is not None and position != failed.position:
                self.skipped[position] = ImageReadError(position, describe(self.items[position]), failed.reason)
        kept = [position for position in digests if position not in self.skipped]
        self._refuse_nothing(kept)
        return store.get(spec, [digests[position] for position in kept]), np.array(kept, np.intp)

    def _compute(self, positions: Sequence[int], digests: dict[int, str]) -> Iterator[tuple[tuple[int, ...], Features]]:
        """Yield batches of positions and their features.

        Batches are filled with images that could be decoded, so that a run that goes on after a crash forms the same
        batches as one that was not disturbed, and its features have the same bits.
        """
        good = self._decoded(positions, digests)
        with tqdm(total=len(positions), unit="img", desc="extract", disable=not (self.progress and positions)) as bar:
            while batch := list(islice(good, self.batch_size)):
                features = self.forward(torch.stack([pixels for _, pixels in batch])).numpy()
                self.n_computed += len(batch)
                yield tuple(position for position, _ in batch), features.astype(self.dtype, copy=False)
                bar.update(len(batch))  # the caller has stored it: now it counts as done
            bar.update(len(positions) - bar.n)

    def _decoded(self, positions: Iterable[int], digests: dict[int, str]) -> Iterator[tuple[int, Tensor]]:
        """Decode in threads, at most two batches ahead, in order; leave out what cannot be decoded."""
        with ThreadPoolExecutor(self.n_threads) as pool:
            waiting: deque[tuple[int, Future[Tensor]]] = deque()
            upcoming = iter(positions)
            try:
                while True:
                    for position in islice(upcoming, 2 * self.batch_size - len(waiting)):
                        waiting.append((position, pool.submit(self._pixels, position, digests.get(position))))
                    if not waiting:
                        return
                    position, future = waiting.popleft()
                    try:
                        yield position, future.result()
                    except Exception as error:
                        self._fail(position, error)
            finally:
                pool.shutdown(cancel_futures=True)

    def _pixels(self, position: int, expected: str | None) -> Tensor:
        image, digest = content(self.items[position])
        if expected is not None and digest != expected:
            raise OSError("the file changed while it was being read")
        return self.preprocess(decode(image))

    def _fail(self, position: int, error: Exception) -> None:
        failure = read_error(position, self.items[position], error)
        if not self.skip:
            raise failure from error
        self.skipped[position] = failure

    def _refuse_nothing(self, kept: Sequence[int]) -> None:
        if not kept:
            raise next(iter(self.skipped.values()))
