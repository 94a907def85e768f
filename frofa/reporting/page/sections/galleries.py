"""Galleries: the worst mistakes, and the images of which the classifier is least certain."""

from typing import Any

import numpy as np

from frofa.evaluation import proportion_interval
from frofa.reporting.facts.contents import Facts
from frofa.reporting.page.markup import Html, counted, join, likely, name, percent, table, tag, with_interval
from frofa.reporting.page.pictures import Chosen, Pictures, gallery

N_IN_SET = 5
"""Classes of a prediction set that a card lists."""


def mistakes(facts: Facts, chosen: Chosen, pictures: Pictures) -> Html:
    """Show the mistakes in which the true class got the least probability."""
    n = int((facts.truth != facts.predicted).sum())
    if not n:
        return tag("p", "No image is mistaken.")
    shown = f"the {len(chosen.mistakes)} worst of {n:,}" if n > len(chosen.mistakes) else f"all {n:,}"
    text = f"The mistakes in which the true class was thought least likely, {shown}."
    return join([tag("p", text, _opens()), _cards(facts, chosen.mistakes, pictures, "Worst mistakes")])


def unsure(facts: Facts, chosen: Chosen, pictures: Pictures) -> Html:
    """Show the images whose most probable class is least probable, and how large prediction sets are."""
    right = facts.truth[chosen.unsure] == facts.predicted[chosen.unsure]
    text = (
        f"The images whose most probable class is least probable; {int(right.sum())} of these {len(right)} are right."
    )
    return join(
        [_set_sizes(facts), tag("p", text, _opens()), _cards(facts, chosen.unsure, pictures, "Least certain images")]
    )


def _opens() -> Html:
    return tag("span", " A picture opens with all probabilities.", class_="script-only")


def _cards(facts: Facts, positions: list[int], pictures: Pictures, label: str) -> Html:
    return gallery((card(facts, i, pictures) for i in positions), label)


def card(facts: Facts, i: int, pictures: Pictures) -> list[Any]:
    """Write what stands on the card of an image."""
    true, predicted = int(facts.truth[i]), int(facts.predicted[i])
    if true == predicted:
        said = [tag("span", "✓ ", class_="good"), name(facts.labels[true], 40)]
    else:
        said = [tag("span", "✗ ", class_="bad"), name(facts.labels[predicted], 40)]
    probability = facts.probabilities[i]
    lines = [tag("div", said, " ", tag("span", likely(probability[predicted]), class_="muted"))]
    if true != predicted:
        given = tag("span", likely(probability[true]), class_="muted")
        lines.append(tag("div", "truth: ", name(facts.labels[true], 40), " ", given))
    if facts.sets is not None:
        lines.append(tag("div", "set: ", set_of(facts, i), class_="small muted"))
    if facts.novelty is not None and facts.novelty[i] < 0.05:
        lines.append(tag("div", f"unlike the training images (p = {facts.novelty[i]:.3f})", class_="small warn"))
    return [pictures.button(i, facts.names[i]), tag("div", lines, class_="lines")]


def set_of(facts: Facts, i: int) -> Html:
    """List the classes of a prediction set, the most probable first."""
    if facts.sets is None:
        return Html("")
    members = np.flatnonzero(facts.sets[i])
    members = members[np.argsort(-facts.probabilities[i, members], kind="stable")]
    if not len(members):
        return tag("span", "empty")
    shown = [part for k in members[:N_IN_SET] for part in (", ", name(facts.labels[k], 40))][1:]
    more = f", and {len(members) - N_IN_SET:,} more" if len(members) > N_IN_SET else None
    return join([*shown, more])


def _set_sizes(facts: Facts) -> Html | None:
    """Tell how many classes prediction sets hold, and how often the true one is among them."""
    if facts.sets is None:
        return None
    inside, sizes = facts.sets[np.arange(len(facts.truth)), facts.truth], facts.sets.sum(1)
    covered = proportion_interval(int(inside.sum()), len(inside))
    text = (
        f"A prediction set holds the classes that an image may well be of, so that the true one is among them for "
        f"{percent(facts.level, 0)} of new images. Here it is for {with_interval(covered)}."
    )
    groups = [(str(k), sizes == k) for k in range(6)] + [("6 or more", sizes > 5)]
    rows = [
        (size, f"{int(rows.sum()):,}", percent(rows.mean()), percent(inside[rows].mean()))
        for size, rows in groups
        if rows.any()
    ]
    head = ["Classes in the set", "Images", "Share", "True class inside"]
    caption = f"Sizes of prediction sets; {counted(len(sizes), 'image')}"
    return join([tag("p", text), table(head, rows, caption)])
