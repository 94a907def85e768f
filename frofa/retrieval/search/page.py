"""Pages of what a search found, each of one file, which needs nothing else and loads nothing."""

from collections.abc import Sequence

from PIL import Image

from frofa.images.items import ImageItem
from frofa.retrieval.search.searching import Answer, Hit
from frofa.retrieval.search.sheet import picture
from frofa.web.page import document, escape, name, theme_switch
from frofa.web.thumbnails import data_uri, encode

SIDE = 224
"""Pixels of the longer side of a picture."""
QUALITY = 75
STYLE = """
h2 { font-size: 1.1rem; overflow-wrap: anywhere; }
main { max-width: 84rem; margin: 0 auto; padding: 1rem; }
header { display: flex; justify-content: space-between; align-items: start; gap: 1rem; }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 1rem; }
ol { margin: 0.5rem 0 2rem; padding: 0; }
li { list-style: none; min-width: 0; }
figure { margin: 0; }
.frame { display: grid; place-items: center; aspect-ratio: 1; background: var(--surface); border-radius: 6px; }
.frame img { max-width: 100%; max-height: 100%; }
.query .frame { outline: 3px solid var(--accent); }
figcaption { overflow-wrap: anywhere; font-size: 0.85rem; color: var(--muted); }
figcaption b { color: var(--text); }
"""


def search_page(answers: Sequence[Answer], title: str) -> str:
    """Write a page of the images that were found, query by query; thumbnails are in it.

    Parameters
    ----------
    answers : sequence of Answer
    title : str
        Text; it is escaped here.

    Returns
    -------
    str
        HTML, to be written as UTF-8.
    """
    parts = [f"<main><header><h1>{escape(title)}</h1>{theme_switch()}</header>"]
    for answer in answers:
        tiles = [_tile(answer.image, "<b>query</b>", answer.query, "query")] if answer.image is not None else []
        tiles += [_tile(hit.item, _caption(hit), hit.name, "hit") for hit in answer.hits]
        parts.append(f"<section><h2>{name(answer.query)}</h2><ol>{''.join(tiles)}</ol></section>")
    return document(title, "\n".join([*parts, "</main>"]), styles=[STYLE])


def _caption(hit: Hit) -> str:
    label = f"<br>{name(hit.label)}" if hit.label else ""
    copies = "".join(f"<br>copy: {name(other)}" for other in hit.others)
    return f"<b>{hit.rank}</b> &nbsp; {hit.similarity:.3f}{label}<br>{name(hit.name)}{copies}"


def _tile(item: "ImageItem | None", text: str, alternative: str, kind: str) -> str:
    found = picture(item, SIDE)
    shown = "not there" if found is None else f'<img src="{_uri(found)}" alt="{escape(alternative)}" loading="lazy">'
    return f'<li class="{kind}"><figure><div class="frame">{shown}</div><figcaption>{text}</figcaption></figure></li>'


def _uri(found: Image.Image) -> str:
    return data_uri(encode(found, SIDE, QUALITY), "webp")
