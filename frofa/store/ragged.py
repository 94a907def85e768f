"""Tokens of images of different sizes in a feature store: pages of equal shape, and the grid of each image."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from frofa.compute.memory import row_chunks
from frofa.exceptions import StoreError
from frofa.ragged import RaggedTokens
from frofa.store.directory import StoreDirectory
from frofa.store.keys import KEY_BYTES, KeyArray, Keys, as_keys, first_of_each, to_hex
from frofa.store.lazy.array import FeatureArray
from frofa.store.spec import FeatureSpec
from frofa.store.writer import ShardWriter

PAGE = 16
"""Tokens of a page. Of photographs at 64 to 1024 tokens each, the zeros after the last token are 1 to 4 % of all."""
PAGES = f", pages of {PAGE}"
GRIDS = f", grids of pages of {PAGE}"
"""Endings of the outputs in the specs of pages and of grids."""
PAGES_BYTES = 2**26
"""Bytes of pages that are read before the zeros are left out of them."""
Counts = npt.NDArray[np.int64]


def page_spec(spec: FeatureSpec) -> FeatureSpec:
    """The spec that the pages of such tokens are kept under."""
    return replace(spec, output=f"{spec.output}{PAGES}")


def grid_spec(spec: FeatureSpec) -> FeatureSpec:
    """The spec that the grids of such tokens are kept under: height and width, which float32 holds exactly."""
    return replace(spec, output=f"{spec.output}{GRIDS}", dtype="float32")


def is_grids(spec: FeatureSpec) -> bool:
    """Whether grids are kept under this spec."""
    return spec.output.endswith(GRIDS)


def is_pages(spec: FeatureSpec) -> bool:
    """Whether pages are kept under this spec."""
    return spec.output.endswith(PAGES) and not is_grids(spec)


def whole_spec(spec: FeatureSpec) -> FeatureSpec:
    """The spec of the tokens whose pages are kept under this one; any other one as it is."""
    return replace(spec, output=spec.output.removesuffix(PAGES)) if is_pages(spec) else spec


def with_other_parts(digests: Collection[str], specs: Collection[FeatureSpec]) -> set[str]:
    """Add to the digests those of the pages or grids without which what is under them is of no use."""
    found = set(digests)
    for spec in specs:
        if is_pages(spec):
            parts = {spec.digest, grid_spec(whole_spec(spec)).digest}
            found |= parts if parts & set(digests) else set()
    return found


class RaggedStore:
    """RaggedTokens in a `FeatureStore`, with the methods that an extraction asks a store for.

    Shards hold rows of one shape. So an image's tokens are cut into pages of 16, the last one filled up with zeros, of
    which each is a row of its own, under a key that the image's key and the number of the page determine. The image's
    grid is a row of another spec. It is written once all of its pages are on disk, so that an image that is there is
    whole, whenever a writer was killed. The files are those of any other features: the store checks, compacts, repairs
    and exports them as it does these.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import FeatureStore, RaggedTokens
    >>> from frofa.store import FeatureSpec
    >>> from frofa.store.ragged import RaggedStore
    >>> spec = FeatureSpec("weights", "architecture", "{}", "Pillow", "tokens", 11, True, "float32", "float32")
    >>> tokens = RaggedTokens(np.zeros((10, 4), np.float32), np.array([[2, 3], [1, 4]]))
    >>> keys = [20 * "a0", 20 * "b1"]
    >>> store = RaggedStore(FeatureStore("features"))
    >>> with store.writer(spec) as writer:  # doctest: +SKIP
    ...     writer.add(keys, tokens)
    >>> store.features(spec, keys)  # doctest: +SKIP
    RaggedTokens(2 images, 10 tokens of 4 channels, float32, grids 2x3, 1x4)
    """

    def __init__(self, store: StoreDirectory):
        self.store = store

    def missing(self, spec: FeatureSpec, keys: Sequence[str]) -> list[str]:
        """List the images that the store does not have whole, once each, in order; errors as in `FeatureStore`."""
        wanted = as_keys(keys)
        wanted = wanted[first_of_each(wanted)]
        # An image is there if its grid is, and all pages that the grid says it has.
        found = self.store.table(grid_spec(spec)).locate(wanted).shard >= 0
        there = np.flatnonzero(found)
        if len(there):
            n_pages = pages_of(self._grids(spec, wanted[there]).prod(1))
            lost = self._lacks(spec, page_keys(wanted[there], n_pages))
            found[there[np.repeat(np.arange(len(there)), n_pages)[lost]]] = False  # a repair has put some aside
        return to_hex(wanted[~found])

    def features(self, spec: FeatureSpec, keys: Keys | None = None) -> RaggedTokens:
        """Read tokens into memory, in the order of the keys, or of all images; bfloat16 as float32.

        A KeyError says that an image is not there; a StoreError, that some of its pages are not, or a file is damaged.
        """
        wanted = self.store.features(grid_spec(spec)).keys if keys is None else as_keys(keys)
        grids = self._grids(spec, wanted)
        sizes = grids.prod(1)
        n_pages = pages_of(sizes)
        names = page_keys(wanted, n_pages)
        # A grid without its pages: a repair has put some of them aside.
        absent = self._lacks(spec, names)
        if absent.any():
            images = np.unique(np.repeat(np.arange(len(wanted)), n_pages)[absent])
            raise StoreError(
                f"{self.store.path} lacks {absent.sum()} pages of the tokens of {len(images)} images that it has the "
                f"grids of, such as {to_hex(wanted[images[:1]])[0]}: extract these images again."
            )
        pages = self.store.features(page_spec(spec), names)
        return RaggedTokens(_read_tokens(pages, sizes, n_pages), grids)

    def writer(
        self, spec: FeatureSpec, on_commit: Callable[[int], object] | None = None, *, automatic: bool = True
    ) -> "RaggedWriter":
        """Write many batches: a context manager whose ``add(keys, tokens)`` takes one."""
        return RaggedWriter(self.store, spec, on_commit, automatic=automatic)

    def _grids(self, spec: FeatureSpec, keys: KeyArray) -> Counts:
        return np.asarray(self.store.features(grid_spec(spec), keys)).astype(np.int64)

    def _lacks(self, spec: FeatureSpec, pages: KeyArray) -> npt.NDArray[np.bool_]:
        return self.store.table(page_spec(spec)).locate(pages).shard < 0


class RaggedWriter:
    """A `ShardWriter` of RaggedTokens, with the same parameters: pages are on disk before any grid is."""

    def __init__(
        self,
        store: StoreDirectory,
        spec: FeatureSpec,
        on_commit: Callable[[int], object] | None = None,
        *,
        automatic: bool = True,
    ):
        self._spec, self._automatic = spec, automatic
        self._pages = ShardWriter(store, page_spec(spec), automatic=False)
        self._grids = ShardWriter(store, grid_spec(spec), on_commit, automatic=False)
        self._waiting: list[tuple[KeyArray, Counts]] = []

    def add(self, keys: Keys, features: RaggedTokens) -> None:
        """Take a batch; errors as in `ShardWriter.add`."""
        batch = as_keys(keys)
        if len(batch) != len(features):
            raise ValueError(f"expected one image of tokens a key. Got {len(batch)} keys, {len(features)} images.")
        n_pages = pages_of(features.sizes)
        # Pages (pages, PAGE, C), those of an image one after another, the last one with zeros after its tokens.
        pages: Any = np.zeros((int(n_pages.sum()), PAGE, features.shape[2]), features.dtype)
        pages[_is_token(features.sizes, n_pages)] = features.values
        if self._spec.dtype == "bfloat16":  # which NumPy does not have
            pages = torch.from_numpy(pages).to(torch.bfloat16)
        self._pages.add(page_keys(batch, n_pages), pages)
        self._waiting.append((batch, features.grids))
        if self._automatic and self.is_due:
            self.commit()

    @property
    def is_due(self) -> bool:
        """Whether enough waits, or waits for so long, that it should be committed."""
        return self._pages.is_due

    def commit(self) -> None:
        """Put on disk what was added: pages, then grids. Images whose pages could not be written are not there."""
        # Let go first: grids of pages that could not be written must not be written by a later commit.
        waiting, self._waiting = self._waiting, []
        self._pages.commit()
        for keys, grids in waiting:
            self._grids.add(keys, grids.astype(np.float32))
        self._grids.commit()

    def __enter__(self) -> "RaggedWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.commit()
        self._pages.__exit__(kind)
        self._grids.__exit__(kind)


def pages_of(sizes: Counts) -> Counts:
    """Count the pages of images of so many tokens."""
    return -(-sizes // PAGE)


def page_keys(keys: KeyArray, n_pages: Counts) -> KeyArray:
    """Keys of pages, image by image: the image's key, of which each bit may be turned by a digest of the page's number.

    Keys are digests, so that two pages have the same key as rarely as two images have.
    """
    # One digest a page number, up to the image that has most pages: shape (most pages, 20).
    digests = b"".join(
        blake2b(i.to_bytes(8, "little"), digest_size=KEY_BYTES, person=b"frofa-page").digest()
        for i in range(int(n_pages.max(initial=0)))
    )
    turned: KeyArray = np.frombuffer(digests, np.uint8).reshape(-1, KEY_BYTES)[_numbers(n_pages)]
    return turned ^ np.repeat(keys, n_pages, axis=0)


def _numbers(n_pages: Counts) -> Counts:
    """The number of each page in its image."""
    # The position among all pages, less that of the first page of its image.
    numbers: Counts = np.arange(n_pages.sum()) - np.repeat(np.cumsum(n_pages) - n_pages, n_pages)
    return numbers


def _is_token(sizes: Counts, n_pages: Counts) -> npt.NDArray[np.bool_]:
    """Mark the rows of pages that are a token, not filling: shape (pages, PAGE)."""
    # Tokens from the beginning of each page to the end of its image: shape (pages,).
    left = np.repeat(sizes, n_pages) - PAGE * _numbers(n_pages)
    shown: npt.NDArray[np.bool_] = np.arange(PAGE) < left[:, None]
    return shown


def _read_tokens(pages: FeatureArray, sizes: Counts, n_pages: Counts) -> npt.NDArray[Any]:
    """Tokens (T, C) of all images, one after another."""
    shown = _is_token(sizes, n_pages)
    ends = np.cumsum(shown.sum(1))  # of the tokens of each page among all
    values = np.empty((int(shown.sum()), pages.shape[2]), pages.dtype)
    start = 0
    # Some pages at a time; their tokens go behind those of the pages before.
    for part in row_chunks(len(pages), PAGES_BYTES, PAGE * values.itemsize * pages.shape[2]):
        stop = int(ends[part.stop - 1])
        values[start:stop] = np.asarray(pages[part])[shown[part]]
        start = stop
    return values
