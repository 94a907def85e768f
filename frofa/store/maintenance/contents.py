"""Looking into a store: what it holds, why it has a feature or not, and deleting what is not wanted."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frofa.exceptions import DamagedStoreError
from frofa.images.items import ImageItem
from frofa.images.reading import content
from frofa.store.directory import INDICES, StoreDirectory, check_store, spec_directories, stored_spec
from frofa.store.disk.table import SpecTable
from frofa.store.ragged import RaggedStore, is_grids, is_pages, whole_spec, with_other_parts
from frofa.store.spec import FeatureSpec
from frofa.utils.files import disk_usage, remove_directory, remove_stale


@dataclass(frozen=True)
class SpecInfo:
    """The features that a store holds of one spec.

    Attributes
    ----------
    digest : str
    spec : FeatureSpec or None
        None if its description is damaged.
    n_images, n_shards, n_bytes : int
        `n_images` counts the `unit`.
    """

    digest: str
    spec: FeatureSpec | None
    n_images: int
    n_shards: int
    n_bytes: int

    @property
    def unit(self) -> str:
        """The noun for `n_images`: images, or the pages or grids as which tokens of images of all sizes are kept."""
        if self.spec is None or not (is_pages(self.spec) or is_grids(self.spec)):
            return "images"
        return "pages of images" if is_pages(self.spec) else "grids of images"


@dataclass(frozen=True)
class Explanation:
    """The reason why a store has a feature or not.

    Attributes
    ----------
    key : str
        Digest of the image.
    hit : bool
        Whether it is there.
    differences : dict of str to dict
        For each other spec that has this image, by digest: the fields that differ, each with the value asked for and
        the value stored.
    """

    key: str
    hit: bool
    differences: dict[str, dict[str, tuple[Any, Any]]]

    def __str__(self) -> str:
        if self.hit:
            return f"hit: the store has the feature of image {self.key}"
        if not self.differences:
            return f"miss: the store has no feature of image {self.key}, under any spec"
        lines = [f"miss: the store has image {self.key} under other specs only"]
        for digest, fields in self.differences.items():
            lines.append(f"  {digest}:")
            lines += [f"    {name}: asked for {asked!r}, stored {stored!r}" for name, (asked, stored) in fields.items()]
        return "\n".join(lines)


def explain(store: StoreDirectory, image: ImageItem, spec: FeatureSpec) -> Explanation:
    """Say whether a store has the feature of an image, or else which part of the key differs from what is there."""
    key, spec = content(image)[1], whole_spec(spec)
    if _has(store, spec, key):
        return Explanation(key, True, {})
    # Pages stand for the tokens that they are of; grids are no features.
    known = {digest: whole_spec(other) for digest, other in store.specs().items() if not is_grids(other)}
    others = {digest: other for digest, other in known.items() if _has(store, other, key)}
    nearest = sorted(others.items(), key=lambda item: len(spec.differences(item[1])))
    return Explanation(key, False, {digest: spec.differences(other) for digest, other in nearest})


def _has(store: StoreDirectory, spec: FeatureSpec, key: str) -> bool:
    """Whether the features of an image are there, as one row or as pages."""
    return not store.missing(spec, [key]) or not RaggedStore(store).missing(spec, [key])


def info(store: StoreDirectory) -> list[SpecInfo]:
    """List the specs of a store with the number of their images, shards and bytes."""
    check_store(store.path)
    found = []
    for directory in spec_directories(store.path):
        # Damaged, a spec is listed without its fields; removed or in the making, it is not.
        try:
            spec = stored_spec(directory)
        except DamagedStoreError:
            spec = None
        else:
            if spec is None:
                continue
        table = SpecTable(directory)
        found.append(SpecInfo(directory.name, spec, table.n_keys(), len(table.shards()), disk_usage(directory)))
    return found


def gc(store: StoreDirectory, keep: Sequence[str], *, dry_run: bool = False) -> int:
    """Delete the features of all specs but those to keep, or with `dry_run` nothing; return the bytes that this frees.

    Indices for searches of these features go with them. Specs are given by their digests, or the first digits of these;
    pages and grids are kept together. A ValueError says that one is not there or is ambiguous, or none is given.
    """
    check_store(store.path)
    directories = {directory.name: directory for directory in spec_directories(store.path)}
    kept = {_resolve(prefix, list(directories)) for prefix in keep}
    if not kept:
        raise ValueError("expected the digest of at least one spec to keep: delete the directory to delete all of it.")
    # Pages without their grids, or the other way round, would be of no use.
    kept = with_other_parts(kept, _readable_specs(directories.values()))
    with store.lock():
        # Indices that were saved of their features go, too, also those that were left behind.
        indices = (path for path in (store.path / INDICES).glob("*") if path.is_dir())
        going = [path for path in (*directories.values(), *indices) if path.name not in kept]
        freed = sum(disk_usage(directory) for directory in going)
        for directory in going if not dry_run else ():
            remove_directory(directory)
        if not dry_run:
            freed += remove_stale(store.path)
    return freed


def _readable_specs(directories: Iterable[Path]) -> list[FeatureSpec]:
    found = []
    for directory in directories:
        with suppress(DamagedStoreError):
            found.append(stored_spec(directory))
    return [spec for spec in found if spec is not None]


def _resolve(prefix: str, digests: Sequence[str]) -> str:
    matching = [digest for digest in digests if prefix and digest.startswith(prefix)]
    if len(matching) != 1:
        raise ValueError(f"expected the digest of one spec. Got {prefix!r}; there are: {', '.join(digests) or 'none'}.")
    return matching[0]
