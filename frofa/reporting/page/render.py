"""Facts as one page: all sections in their order, the contents list, and pictures within the bound."""

from typing import Any

from frofa.reporting.facts.contents import SECTIONS, Facts
from frofa.reporting.page.data import page_data, pictures_data
from frofa.reporting.page.figures import learning_figure, rejection_figure, reliability_figure
from frofa.reporting.page.markup import Html, counted, join, name, tag, visible
from frofa.reporting.page.pictures import INLINE_SHARE, all_others, choose, in_the_text
from frofa.reporting.page.sections import confusion, endings, galleries, labels, maps, members, summary, trust
from frofa.reporting.page.stated import images_of_classes
from frofa.web.page import asset, document, json_block, theme_switch
from frofa.web.thumbnails import Thumbnails

PACKAGE = "frofa.reporting.page"
SCRIPTS = ("images.js", "viewer.js", "tables.js", "map_view.js", "map.js", "contents.js")
"""Parts of one script, in their order."""
TITLES = {
    "summary": "Summary",
    "classes": "Classes",
    "confusion": "Confusions",
    "mistakes": "Worst mistakes",
    "unsure": "Least certain images",
    "calibration": "Calibration",
    "rejection": "Rejection",
    "learning": "Learning curve",
    "labels": "Labels and copies",
    "map": "Map of the images",
    "attention": "Attention",
    "members": "Members of the blend",
    "augmentation": "Augmentation",
    "skipped": "Images left out",
    "reproduce": "How to reproduce it",
}
RESERVE = 2_000
"""Bytes that are kept free: what encodes pictures into JSON takes a little more than they have."""


def render(facts: Facts, max_bytes: int = 20_000_000) -> str:
    """Write the facts as one page, which needs nothing else.

    Parameters
    ----------
    facts : Facts
    max_bytes : int, default=20_000_000
        Bound on the size of the page in UTF-8. Pictures become smaller until they fit; where even the smallest do not,
        those of the images that are right and certain are left out.

    Returns
    -------
    str
        HTML. The same facts make the same page.

    Raises
    ------
    ValueError
        If the page has more than `max_bytes` without any picture.
    """
    chosen = choose(facts)
    pictures = in_the_text(chosen, int(INLINE_SHARE * max_bytes))
    attention = maps.within_budget(facts.attention, max_bytes)
    sections = {
        "summary": summary.summary(facts),
        "classes": summary.classes(facts),
        "confusion": confusion.confusion(facts),
        "mistakes": galleries.mistakes(facts, chosen, pictures),
        "unsure": galleries.unsure(facts, chosen, pictures),
        "calibration": trust.calibration(facts, reliability_figure(facts)),
        "rejection": trust.rejection(facts, rejection_figure(facts)),
        "learning": labels.learning(facts, learning_figure(facts)),
        "labels": labels.wrong_and_copies(facts, pictures),
        "map": maps.image_map(facts),
        "attention": maps.attention(facts, attention),
        "members": members.members(facts),
        "augmentation": members.augmentation(facts),
        "skipped": endings.skipped(facts),
        "reproduce": endings.reproduce(facts),
    }
    body = _body(facts, {key: sections[key] for key in SECTIONS})
    data = page_data(facts, [maps.heats(one) for one, _ in attention])

    def page(others: Thumbnails | None) -> str:
        return _page(facts, body, data | pictures_data(facts, others))

    least = len(page(None).encode())
    whole = page(all_others(facts, pictures, max_bytes - least - RESERVE))
    if len(whole.encode()) > max_bytes:
        n = counted(len(facts.truth), "image")
        raise ValueError(f"a report of {n} takes {least:,} bytes without most pictures. Got max_bytes={max_bytes:,}.")
    return whole


def _page(facts: Facts, body: str, data: dict[str, Any]) -> str:
    script = "\n".join(asset(PACKAGE, one) for one in SCRIPTS)
    return document(
        visible(facts.title),
        body,
        styles=[asset(PACKAGE, "report.css")],
        scripts=[script],
        data=[json_block("report-data", data)],
    )


def _body(facts: Facts, sections: dict[str, Html | None]) -> Html:
    shown = [key for key in sections if sections[key] is not None or key in facts.notes]
    links = [tag("li", tag("a", TITLES[key], href=f"#{key}")) for key in shown]
    toggle = tag(
        "button",
        "Contents",
        type="button",
        id="contents-toggle",
        class_="script-only",
        aria_expanded="false",
        aria_controls="contents",
    )
    nav = tag("nav", tag("ul", links), id="contents", aria_label="Contents")
    top = tag("header", tag("span", "frofa report", class_="mark"), toggle, Html(theme_switch()), class_="top")
    main = tag("main", _title(facts), [_section(key, sections[key], facts) for key in shown], id="main", tabindex="-1")
    skip = tag("a", "Skip to the content", class_="skip", href="#main")
    return join([skip, top, tag("div", nav, main, class_="layout"), _dialogs()])


def _title(facts: Facts) -> Html:
    without = "Pictures do not open, as JavaScript is off; all numbers, tables and lists are here."
    return join(
        [
            tag("h1", name(facts.title)),
            tag(
                "p",
                images_of_classes(facts),
                [f", {facts.identity['made on']}"] if "made on" in facts.identity else None,
                class_="muted",
            ),
            tag("noscript", tag("p", without, class_="note")),
        ]
    )


def _section(key: str, content: Html | None, facts: Facts) -> Html:
    note = facts.notes.get(key)
    said = None if note is None else tag("p", "" if content else "Not shown: ", name(note, 1000), class_="note")
    return tag(
        "section", tag("h2", TITLES[key], id=f"{key}-title"), content, said, id=key, aria_labelledby=f"{key}-title"
    )


def _dialogs() -> Html:
    """Write the two dialogs that the page's script fills: many images, and one."""
    close = {"type": "button", "class_": "quiet close", "data_close": True}
    group = [
        tag("div", tag("h2", id="group-title"), tag("button", "Close", **close), class_="dialog-head"),
        tag("p", id="group-about", class_="muted"),
        tag("ul", id="group-images", class_="thumbs"),
        tag("button", "Show more", type="button", id="group-more"),
    ]
    one = [
        tag("div", tag("h2", id="image-title"), tag("button", "Close", **close), class_="dialog-head"),
        tag("div", id="image-content", class_="image-content"),
        tag(
            "div",
            tag("button", "← Previous", type="button", id="image-previous"),
            tag("span", id="image-position", class_="muted", aria_live="polite"),
            tag("button", "Next →", type="button", id="image-next"),
            class_="dialog-foot",
        ),
    ]
    return join(
        [
            tag("dialog", group, id="group", aria_labelledby="group-title"),
            tag("dialog", one, id="image", aria_labelledby="image-title"),
        ]
    )
