"""Labels: how many are enough, which may be wrong, and images that are there more than once."""

import math
from collections.abc import Sequence
from typing import Any

from frofa.evaluation import Interval
from frofa.learning_curves import LabelsNeeded
from frofa.reporting.facts.contents import Copy, Facts, Leak, WrongLabel
from frofa.reporting.page.markup import (
    DASH,
    Html,
    counted,
    details,
    join,
    likely,
    name,
    path,
    percent,
    prose,
    table,
    tag,
    visible,
    with_interval,
)
from frofa.reporting.page.pictures import N_COPIES, N_LEAKS, N_WRONG, Pictures, gallery

WHERE = {"test": "image of this report", "training": "training image"}


def learning(facts: Facts, figure: Html | None) -> Html | None:
    """Show the learning curve, and say how many labels the target takes."""
    needed = facts.needed
    if needed is None:
        return None
    first = prose(str(needed).splitlines()[0])
    return join(
        [tag("p", tag("strong", first)), _now(needed), figure, details("The numbers", _points(needed), _laws(needed))]
    )


def wrong_and_copies(facts: Facts, pictures: Pictures) -> Html:
    """Show labels that the other images speak against, then copies: leaks first."""
    return join(
        [
            tag("h3", "Labels to look at"),
            _wrong(facts.wrong, pictures),
            tag("h3", "Copies"),
            _copies(facts.leaks, pictures),
        ]
    )


def _now(needed: LabelsNeeded) -> Html:
    now = with_interval(Interval(needed.accuracy_now, *needed.accuracy_now_interval))
    each = f"{needed.n_labelled / needed.n_classes:.3g} a class"
    level = percent(needed.confidence_level, 0)
    said = f"With the {counted(needed.n_labelled, 'label')} there are, {each}, the learning curve is at {now}, the "
    said += f"interval being one of {level}."
    return tag("p", said, [f" {prose(note[:1].upper() + note[1:]).rstrip('.')}." for note in needed.notes])


def _points(needed: LabelsNeeded) -> Html:
    rows: list[Sequence[Any]] = []
    for point in needed.curve:
        measured = with_interval(Interval(point.accuracy, point.low, point.high))
        law = with_interval(needed.predict(point.shots))
        rows.append((f"{point.n_labels:,}", f"{point.shots:.3g}", point.left_out, measured, law))
    for factor in (2, 4):
        shots = factor * needed.n_labelled / needed.n_classes
        rows.append((f"{factor * needed.n_labelled:,}", f"{shots:.3g}", "", DASH, with_interval(needed.predict(shots))))
    head = ["Labels", "A class", "Left out", "Measured", "By the laws"]
    return table(
        head, rows, "Accuracy by the number of labels; “measured” is on the images that were left out", text=(2,)
    )


def _laws(needed: LabelsNeeded) -> Html:
    weights = ", ".join(f"{law} {percent(weight, 0)}" for law, weight in needed.law_weights.items())
    low, high = needed.n_labels_interval
    ends = [f"{one:,.0f}" if math.isfinite(one) else "more than a hundred times as many" for one in (low, high)]
    level = percent(needed.confidence_level, 0)
    said = (
        f"Labels for {percent(needed.target, 0)}: {level} interval {ends[0]} to {ends[1]}. Laws by weight: {weights}."
    )
    return tag("p", said, class_="small muted")


def _wrong(suspects: Sequence[WrongLabel], pictures: Pictures) -> Html:
    if not suspects:
        return tag("p", "The other images speak clearly against no label.")
    here = sum(one.where == "test" for one in suspects)
    whose = [(here, "of this report's images"), (len(suspects) - here, "of training images")]
    parts = [f"{n:,} {of}" if n < len(suspects) else of for n, of in whose if n]
    said = f"{counted(len(suspects), 'label')}, {', '.join(parts)}"
    rest = f"; the first {N_WRONG} are shown" if len(suspects) > N_WRONG else ""
    about = (
        " A linear probe that is fitted to all other images, training images and those of this report together, finds "
        "another label far more probable than the given one; so the list changes with the images that are there. Many "
        "of these labels are right, and the images unusual: even without a wrong label, a few in a hundred come up."
    )
    text = tag("p", f"{said}{rest}.{about}")
    return join([text, gallery((_suspect(one, pictures) for one in suspects[:N_WRONG]), "Labels to look at")])


def _suspect(one: WrongLabel, pictures: Pictures) -> list[Any]:
    lines = [
        tag("div", name(one.given, 40), " → ", tag("strong", name(one.suggested, 40)), "?"),
        _by_others(one),
        tag("div", path(one.name), class_="small muted"),
        None if one.where == "test" else tag("div", tag("span", "training image", class_="tag")),
    ]
    return [_picture(one, pictures), tag("div", lines, class_="lines")]


def _by_others(one: WrongLabel) -> Html | None:
    """Say what the probe makes of the image, label by label."""
    if one.by_others is None:
        return None
    given, suggested = (likely(share) for share in one.by_others)
    labels = name(one.given, 40), name(one.suggested, 40)
    return tag("div", "by the others: ", labels[0], f" {given}, ", labels[1], f" {suggested}", class_="muted")


def _copies(leaks: Sequence[Leak], pictures: Pictures) -> Html:
    if not leaks:
        return tag("p", "No image was found twice.")
    n = sum(leak.is_leak for leak in leaks)
    disputed = sum(len(leak.labels) > 1 for leak in leaks)
    said = f"{counted(len(leaks), 'group')} of copies"
    if n:
        both = " has" if n == 1 else " have"
        said += f"; {'this one' if n == len(leaks) == 1 else f'{n:,} of them'}{both} images on both sides, among the "
        said += "training images and in this report"
    more = f"; {disputed:,} with several labels" if disputed else ""
    rest = f" The first {N_LEAKS} are shown." if len(leaks) > N_LEAKS else ""
    text = tag("p", f"{said}{more}.{rest}", class_="note bad" if n else None)
    return join([text, tag("ul", [tag("li", _group(leak, pictures)) for leak in leaks[:N_LEAKS]], class_="groups")])


def _group(leak: Leak, pictures: Pictures) -> Html:
    kind = "The same image" if leak.exact else "Nearly the same image"
    where = ", in training and in this report" if leak.is_leak else ""
    disputed = [tag("span", "several labels", class_="tag")] if len(leak.labels) > 1 else []
    title = tag("p", tag("strong", f"{kind}{where}"), " ", disputed)
    cards = gallery((_copy(copy, pictures) for copy in leak.copies[:N_COPIES]), f"{kind}{where}")
    more = len(leak.copies) - N_COPIES
    return join([title, cards, tag("p", f"and {more:,} more", class_="muted") if more > 0 else None])


def _copy(copy: Copy, pictures: Pictures) -> list[Any]:
    label = tag("span", "no label", class_="muted") if copy.label is None else name(copy.label, 40)
    lines = [
        tag("div", label),
        tag("div", WHERE[copy.where], class_="muted"),
        tag("div", path(copy.name), class_="small muted"),
    ]
    return [_picture(copy, pictures), tag("div", lines, class_="lines")]


def _picture(one: WrongLabel | Copy, pictures: Pictures) -> Html | None:
    if one.where == "test":
        return pictures.button(one.index, one.name)
    shown = pictures.image((one.where, one.index), visible(one.name))
    return (
        tag("div", shown, class_="picture") if shown is not None else tag("div", "no picture", class_="picture blank")
    )
