"""Pictures of a page: the few that stand in its text, and the many that open, within a bound on their bytes."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from frofa.images.items import ImageItem
from frofa.reporting.facts.contents import Facts, Where
from frofa.reporting.page.markup import Html, tag, visible
from frofa.web.thumbnails import Thumbnails, data_uri, thumbnails

Key = tuple[Where, int]
"""Names of pictures: whether of the report or of the training images, and the position there."""
N_CARDS = 24
"""Images of a gallery."""
N_WRONG, N_LEAKS, N_COPIES = 24, 20, 6
"""Suspected labels, groups of copies, and copies of a group that are shown."""
LARGE, SMALL, INLINE_SHARE = 256, 192, 0.25
"""Pixels of the longer side of pictures in the text, and of others at most; the former's part of the bound."""
TINY = 64
"""Images of fewer pixels are enlarged pixel by pixel."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """Positions of the images that galleries show, and suspects and copies that lists show."""

    mistakes: list[int]
    unsure: list[int]
    keys: dict[Key, ImageItem]


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures in the text, as data URIs by key, and those that are enlarged pixel by pixel."""

    uris: dict[Key, str]
    tiny: frozenset[Key]

    def image(self, key: Key, alt: str = "") -> Html | None:
        """Write a picture as an element, or None where there is none."""
        uri = self.uris.get(key)
        return None if uri is None else tag("img", src=uri, alt=alt, class_="pixels" if key in self.tiny else None)

    def button(self, index: int, name: str, note: str = "") -> Html:
        """Write a picture that opens with all that is known of the image; its name stands in where there is none."""
        shown = self.image(("test", index)) or tag("span", "no picture", class_="blank")
        label = f"Open {visible(name)}{note}"
        return tag("button", shown, type="button", class_="picture", data_image=index, aria_label=label)


def choose(facts: Facts) -> Chosen:
    """Choose the images that galleries show: mistakes in which the true class is least likely, and least sure ones."""
    mistakes, unsure = worst_mistakes(facts)[:N_CARDS], least_certain(facts)[:N_CARDS]
    keys: dict[Key, Any] = {}
    if facts.pictures is not None:
        keys.update({("test", i): facts.pictures[i] for i in (*mistakes, *unsure)})
    for one in facts.wrong[:N_WRONG]:
        keys[one.where, one.index] = one.picture
    for leak in facts.leaks[:N_LEAKS]:
        keys.update({(copy.where, copy.index): copy.picture for copy in leak.copies[:N_COPIES]})
    return Chosen(mistakes, unsure, {key: item for key, item in keys.items() if item is not None})


def worst_mistakes(facts: Facts) -> list[int]:
    """Order the images that are mistaken, those whose true class got the least probability first."""
    given = facts.probabilities[np.arange(len(facts.truth)), facts.truth]
    return _ordered(given, np.flatnonzero(facts.predicted != facts.truth))


def least_certain(facts: Facts) -> list[int]:
    """Order all images, those whose predicted class got the least probability first."""
    return _ordered(facts.probabilities.max(1, initial=0), np.arange(len(facts.truth)))


def in_the_text(chosen: Chosen, budget: int) -> Pictures:
    """Encode the pictures that galleries and lists show, within so many bytes."""
    if not chosen.keys:
        return Pictures({}, frozenset())
    made = thumbnails(list(chosen.keys.values()), budget, largest=LARGE)
    found = {key: data for key, data in zip(chosen.keys, made.data, strict=True) if data is not None}
    uris = {key: data_uri(data, made.kind) for key, data in found.items()}
    small = (key for key, data in found.items() if _longer_side(data) < min(TINY, made.setting.size))
    return Pictures(uris, frozenset(small))


def all_others(facts: Facts, pictures: Pictures, budget: int) -> Thumbnails | None:
    """Encode the pictures that are not in the text, within so many bytes, mistakes first; None where there are none."""
    if facts.pictures is None or budget <= 0:
        return None
    firsts = [*worst_mistakes(facts), *least_certain(facts)]
    order = [i for i in dict.fromkeys(firsts) if ("test", i) not in pictures.uris]
    return thumbnails(facts.pictures, budget, order, largest=SMALL) if order else None


def are_tiny(made: Thumbnails | None, sample: int = 20) -> bool:
    """Whether the images themselves have so few pixels that they are enlarged pixel by pixel."""
    found = [data for data in made.data if data is not None][:sample] if made is not None else []
    return bool(found) and max(map(_longer_side, found)) < min(TINY, made.setting.size if made is not None else 0)


def _ordered(values: npt.NDArray[Any], positions: npt.NDArray[np.intp]) -> list[int]:
    """Sort positions by their value; among equals, they stay in their order."""
    found: list[int] = positions[np.argsort(values[positions], kind="stable")].tolist()
    return found


def _longer_side(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        return max(image.size)


def gallery(cards: Iterable[Sequence[Any]], label: str) -> Html:
    """Write cards, each a picture with lines of text below."""
    items = [tag("li", *card, class_="card") for card in cards]
    return tag("ul", items, class_="gallery", aria_label=label)
