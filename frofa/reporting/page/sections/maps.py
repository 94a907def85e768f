"""Maps: of all images by their features, and of attention over single images."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.displays.attention import layer, said
from frofa.reporting.facts.contents import AttentionExample, Facts
from frofa.reporting.page.markup import MINUS, Html, join, name, path, percent, tag
from frofa.web.thumbnails import data_uri, encode

Array = npt.NDArray[Any]
SIZE, QUALITY, SHARE = 224, 72, 0.08
"""Pixels and quality of pictures under attention, and their part of the bound at most."""
KEYS = (
    ("drag", "moves the map"),
    (f"wheel, + and {MINUS}", "zoom"),
    ("arrow keys", "go to the next image"),
    ("Enter", "opens it"),
    ("0", "shows the whole map"),
)


def image_map(facts: Facts) -> Html | None:
    """Show all images by the two coordinates of their features; the page's script draws them."""
    if facts.coordinates is None:
        return None
    about = f"Images with similar features lie near each other ({facts.map_method} of the features"
    if facts.explained_variance is not None:
        about += f"; the axes hold {' and '.join(percent(one) for one in facts.explained_variance)} of the variance"
    without = tag("noscript", tag("p", "The map is drawn by JavaScript, which is off here.", class_="note"))
    keys = [part for key, what in KEYS for part in (", ", tag("kbd", key), f" {what}")][1:]
    help_text = tag("p", *keys, class_="small muted script-only", id="map-help")
    return join(
        [
            tag("p", f"{about})."),
            without,
            _controls(facts),
            _canvas(facts),
            tag("ul", id="map-legend", class_="legend"),
            help_text,
        ]
    )


def _controls(facts: Facts) -> Html:
    colours = [("class", "class"), ("right", "right or wrong"), ("sure", "probability")]
    classes = [tag("option", "all classes", value=""), *_options(facts)]
    fields = [
        tag(
            "label",
            "Colour ",
            tag("select", [tag("option", text, value=value) for value, text in colours], id="map-colour"),
        ),
        tag("label", "Highlight ", tag("select", classes, id="map-class")),
        tag("label", tag("input", type="checkbox", id="map-pictures", checked=facts.pictures is not None), " pictures"),
        tag(
            "span",
            tag("button", "+", type="button", id="map-in", aria_label="Zoom in"),
            tag("button", MINUS, type="button", id="map-out", aria_label="Zoom out"),
            tag("button", "Whole map", type="button", id="map-whole"),
            class_="together",
        ),
    ]
    return tag("div", fields, class_="finder script-only", role="group", aria_label="How the map is drawn")


def _options(facts: Facts) -> list[Html]:
    return [tag("option", name(label, 60), value=i) for i, label in enumerate(facts.labels)]


def _canvas(facts: Facts) -> Html:
    label = f"Map of {len(facts.truth):,} images. Arrow keys go from image to image, Enter opens one."
    canvas = tag(
        "canvas", id="map-canvas", tabindex=0, role="application", aria_label=label, aria_describedby="map-help"
    )
    card = tag("div", id="map-card", class_="map-card", hidden=True)
    aloud = tag("p", id="map-said", class_="hidden-visually", aria_live="polite")
    return tag("div", canvas, card, aloud, class_="map script-only")


def attention(facts: Facts, shown: Sequence[tuple[AttentionExample, str]]) -> Html | None:
    """Show pictures as the backbone saw them, and beside each the same under the mean of its maps."""
    if not shown:
        return None
    intro = (
        "Where token heads look: each picture as the backbone saw it, and beside it the same under the attention of "
        "the head, averaged over its maps. Each map is scaled from its least to its largest weight; below it stands "
        "how far these are from an even look. Attention says what a head reads, not why it decides."
    )
    parts: list[Html | None] = [tag("p", intro)]
    for head in dict.fromkeys(one.head for one, _ in shown):
        own = [(i, *pair) for i, pair in enumerate(shown) if pair[0].head == head]
        figures = [tag("li", _example(facts, i, one, uri)) for i, one, uri in own]
        parts += [tag("h3", name(head)), _choice(own[0][1]), tag("ul", figures, class_="attention")]
    return join(parts)


def within_budget(examples: Sequence[AttentionExample], max_bytes: int) -> list[tuple[AttentionExample, str]]:
    """Encode pictures under attention while they fit into their part of the bound."""
    found, left = [], SHARE * max_bytes
    for one in examples:
        picture = one.picture.convert("RGB")
        uri = data_uri(encode(picture, SIZE, QUALITY), "webp")
        # The picture stands twice, and its maps once more in the data.
        left -= 2 * len(uri) + sum(len(heat) for heat, _ in heats(one))
        if left < 0:
            break
        found.append((one, uri))
    return found


def heats(one: AttentionExample) -> list[tuple[str, str]]:
    """Draw the mean of the maps, then each map, a pixel a patch, as data URIs, and say how uneven each is."""
    return [(heat_uri(weights), said(weights)) for weights in (one.weights.mean(0), *one.weights)]


def heat_uri(weights: Array) -> str:
    """Draw a map of attention as the Display does."""
    buffer = io.BytesIO()
    layer(weights).save(buffer, "png")
    return data_uri(buffer.getvalue(), "png")


def _choice(one: AttentionExample) -> Html | None:
    n = len(one.weights)
    if n < 2:
        return None
    options = [tag("option", f"mean of {n}", value=0)]
    options += [tag("option", f"{name_of(one)} {i + 1}", value=i + 1) for i in range(n)]
    field = tag("label", "Show ", tag("select", options, class_="attention-choice"))
    return tag("div", field, class_="finder script-only", role="group", aria_label="Which map of attention is shown")


def name_of(one: AttentionExample) -> str:
    """Say what one of the maps is, as text."""
    return one.maps[:40]


def _example(facts: Facts, i: int, one: AttentionExample, uri: str) -> Html:
    true, predicted = facts.truth[one.index], facts.predicted[one.index]
    mean = one.weights.mean(0)
    row, column = np.unravel_index(mean.argmax(), mean.shape)
    alt = f"Attention is largest in row {row + 1} of {mean.shape[0]}, column {column + 1} of {mean.shape[1]}"
    heat = tag("img", src=heat_uri(mean), alt=alt, class_="heat", data_attention=i)
    stack = tag("span", tag("img", src=uri, alt=""), heat, class_="stack")
    pair = tag("div", tag("img", src=uri, alt=""), stack, class_="pair")
    kind, outcome = ("good", "✓ ") if true == predicted else ("bad", "✗ ")
    shown: list[Any] = [tag("span", outcome, class_=kind), name(facts.labels[predicted], 40)]
    if true != predicted:
        shown += [", truth: ", name(facts.labels[true], 40)]
    about = tag("div", said(mean), class_="small muted said")
    opening = tag("button", path(facts.names[one.index]), type="button", class_="link small", data_image=one.index)
    return tag("figure", pair, tag("figcaption", tag("div", shown), about, opening))
