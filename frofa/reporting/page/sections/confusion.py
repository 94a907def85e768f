"""The table of confusions, whose cells open their images, and a list of the most common ones."""

from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.reporting.facts.contents import Facts
from frofa.reporting.page.markup import Html, counted, details, join, name, scrolling, tag, visible

Array = npt.NDArray[Any]
WHOLE, PART = 24, 20
"""Classes of the largest table that is shown whole, and classes of the part of larger ones."""
N_FIRST, N_PAIRS = 12, 60
"""Confusions that are listed, and those of them and the ones behind a click."""
STEPS = 6
"""Shades of cells."""


def confusion(facts: Facts) -> Html:
    """Show who is taken for whom: the table, or its most confused part, and the most common confusions."""
    table = facts.evaluation.confusion_matrix
    n_classes = len(facts.labels)
    shown = list(range(n_classes)) if n_classes <= WHOLE else most_confused(table)
    how = "A row for each true class, a column for each predicted one."
    if len(shown) < n_classes:
        how = f"The {len(shown)} classes of the most common confusions, out of {n_classes:,}. {how}"
    intro = tag("p", f"{how} ", tag("span", "Each number opens its images.", class_="script-only"))
    finder = _finder(facts) if len(shown) < n_classes else None
    return join([intro, scrolling(_table(facts, table, shown), "Confusion table"), finder, _pairs(facts, table)])


def most_confused(table: Array, n: int = PART) -> list[int]:
    """Choose classes (of so many) that are most often taken for each other, confused ones next to each other."""
    chosen: dict[int, None] = {}
    for true, other in pairs_of(table):
        chosen.update(dict.fromkeys((true, other)))
        if len(chosen) >= n:
            break
    # Where hardly any are confused, the first classes fill up.
    chosen.update(dict.fromkeys(range(min(n, len(table)))))
    return list(chosen)[:n]


def pairs_of(table: Array) -> list[tuple[int, int]]:
    """List confusions as (true, predicted), the most common first; among equals, in the order of the classes."""
    true, other = np.nonzero(table)
    apart = true != other
    true, other = true[apart], other[apart]
    order = np.lexsort((other, true, -table[true, other]))
    return list(zip(true[order].tolist(), other[order].tolist(), strict=True))


def _table(facts: Facts, table: Array, shown: list[int]) -> Html:
    part = len(shown) < len(table)
    titles = [
        tag("th", tag("span", name(facts.labels[i], 26), title=visible(facts.labels[i])), scope="col") for i in shown
    ]
    rest = tag("th", tag("span", "other classes"), scope="col") if part else None
    corner = tag("td", tag("span", "true ↓  predicted →", class_="small muted"))
    rows = [_row(facts, table, i, shown) for i in shown]
    return tag("table", tag("thead", tag("tr", corner, titles, rest)), tag("tbody", rows), class_="confusion")


def _row(facts: Facts, table: Array, true: int, shown: list[int]) -> Html:
    label, total = facts.labels[true], max(int(table[true].sum()), 1)
    cells = [_cell(facts, int(table[true, other]), total, true, other) for other in shown]
    if len(shown) < len(table):
        n = int(table[true].sum() - table[true, shown].sum())
        said = f"{counted(n, 'image')} of {visible(label)} taken for other classes"
        cells.append(tag("td", _button(n, said, data_true=true, data_not=" ".join(map(str, shown))) if n else "·"))
    return tag("tr", tag("th", name(label, 40), scope="row", title=visible(label)), cells)


def _cell(facts: Facts, n: int, total: int, true: int, other: int) -> Html:
    if not n:
        return tag("td", "·", class_="none")
    shade = min(STEPS, max(1, int(np.ceil(STEPS * n / total))))
    kind = f"{'hit' if true == other else 'miss'} shade-{shade}"
    return tag("td", _button(n, saying(facts, n, true, other), data_true=true, data_predicted=other), class_=kind)


def saying(facts: Facts, n: int, true: int, other: int) -> str:
    """Say what a cell holds: ``"12 images of ankle boot taken for sneaker"``."""
    images, label = counted(n, "image"), visible(facts.labels[true])
    return f"{images} of {label} {'recognised' if true == other else f'taken for {visible(facts.labels[other])}'}"


def _button(n: int, said: str, **data: Any) -> Html:
    return tag("button", f"{n:,}", type="button", aria_label=said, title=said, **data)


def _pairs(facts: Facts, table: Array) -> Html:
    pairs = pairs_of(table)
    if not pairs:
        return tag("p", "There are no confusions.")
    items = [_pair(facts, int(table[pair]), *pair) for pair in pairs[:N_PAIRS]]
    listed = [tag("h3", "The most common confusions"), tag("ol", items[:N_FIRST], class_="pairs")]
    if rest := items[N_FIRST:]:
        title = f"{len(rest)} more" + (f", of {len(pairs) - N_FIRST:,}" if len(pairs) > N_PAIRS else "")
        listed.append(details(title, tag("ol", rest, class_="pairs", start=N_FIRST + 1)))
    return join(listed)


def _pair(facts: Facts, n: int, true: int, other: int) -> Html:
    """Write a confusion as a button, with room for some pictures, which the page's script shows."""
    said = [f"{counted(n, 'image')} of ", name(facts.labels[true], 60), " taken for ", name(facts.labels[other], 60)]
    button = tag("button", *said, type="button", class_="link", data_true=true, data_predicted=other)
    return tag("li", button, tag("span", class_="strip", data_strip=f"{true} {other}", aria_hidden="true"))


def _finder(facts: Facts) -> Html:
    """Write a form that opens any cell of a table that is too large to be shown whole."""
    options = [tag("option", visible(label, 60), value=i) for i, label in enumerate(facts.labels)]
    every = tag("option", "any class", value="")
    fields = [
        tag("label", "True class ", tag("select", every, options, id="find-true")),
        tag("label", "Predicted class ", tag("select", every, options, id="find-predicted")),
        tag("button", "Show images", type="button", id="find"),
    ]
    return tag("div", fields, class_="finder script-only", role="group", aria_label="Open any confusion")
