"""Specs of what a store keeps in parts: the tokens of images of different sizes, as pages and grids."""

from collections.abc import Collection
from dataclasses import replace

from frofa.store.spec import FeatureSpec

PAGE = 16
"""Tokens of a page. Of photographs at 64 to 1024 tokens each, the zeros after the last token are 1 to 4 % of all."""
PAGES = f", pages of {PAGE}"
GRIDS = f", grids of pages of {PAGE}"


def page_spec(spec: FeatureSpec) -> FeatureSpec:
    """What pages of such tokens are kept under."""
    return replace(spec, output=f"{spec.output}{PAGES}")


def grid_spec(spec: FeatureSpec) -> FeatureSpec:
    """What the grids of such tokens are kept under: height and width, which float32 holds exactly."""
    return replace(spec, output=f"{spec.output}{GRIDS}", dtype="float32")


def is_grids(spec: FeatureSpec) -> bool:
    """Whether grids are kept under it."""
    return spec.output.endswith(GRIDS)


def is_pages(spec: FeatureSpec) -> bool:
    """Whether pages are kept under it."""
    return spec.output.endswith(PAGES) and not is_grids(spec)


def whole_spec(spec: FeatureSpec) -> FeatureSpec:
    """The spec of the tokens whose pages are kept under this one; any other one as it is."""
    return replace(spec, output=spec.output.removesuffix(PAGES)) if is_pages(spec) else spec


def with_other_parts(digests: Collection[str], specs: Collection[FeatureSpec]) -> set[str]:
    """The digests, and those of the pages or grids without which what is under them is of no use."""
    found = set(digests)
    for spec in specs:
        if is_pages(spec):
            parts = {spec.digest, grid_spec(whole_spec(spec)).digest}
            found |= parts if parts & set(digests) else set()
    return found
