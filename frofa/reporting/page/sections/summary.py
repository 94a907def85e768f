"""Headline numbers, what stands out in them, and the table of classes."""

import math

import numpy as np

from frofa.evaluation import Interval, proportion_interval
from frofa.reporting.facts.contents import Facts
from frofa.reporting.page.markup import (
    DASH,
    Html,
    counted,
    interval_bar,
    join,
    name,
    percent,
    scrolling,
    tag,
    visible,
    with_interval,
)
from frofa.reporting.page.stated import (
    calibration_stated,
    images_of_classes,
    n_without_images,
    weakest,
    without_leaks,
)


def summary(facts: Facts) -> Html:
    """Show accuracy with its interval, the other scores, and what stands out."""
    accuracy = facts.evaluation.accuracy
    headline = tag(
        "div",
        tag("p", percent(accuracy.mean), class_="figure"),
        tag(
            "p",
            tag("strong", "accuracy"),
            f" on {images_of_classes(facts)}. The 95\N{NO-BREAK SPACE}% interval (Wilson's) is "
            f"{100 * accuracy.low:.1f} to {percent(accuracy.high)}.",
        ),
        class_="headline",
    )
    found = findings(facts)
    standing_out = join([tag("h3", "What stands out"), tag("ul", [tag("li", one) for one in found])]) if found else None
    return join([headline, tag("dl", [tag("div", *one) for one in _scores(facts)], class_="tiles"), standing_out])


def findings(facts: Facts) -> list[Html]:
    """Say in sentences what a reader should look at first, each with a link to its section."""
    said = [
        _empty(facts),
        _weakest(facts),
        _confused(facts),
        _calibration(facts),
        _sets(facts),
        _leaks(facts),
        _wrong(facts),
    ]
    return [one for one in said if one is not None]


def classes(facts: Facts) -> Html:
    """Show each class in a table that can be sorted: how often it is recognised, and how often its name is right."""
    table = facts.evaluation.confusion_matrix
    head = ["Class", "Images", "Recognised", "Predicted", "Right when predicted", "Mostly taken for"]
    numbers = (1, 2, 3, 4)
    titles = [
        tag(
            "th",
            tag("button", title, type="button", class_="sort"),
            scope="col",
            class_="number" if i in numbers else None,
        )
        for i, title in enumerate(head)
    ]
    rows = [_class_row(facts, table, i) for i in range(len(facts.labels))]
    whole = tag("table", tag("thead", tag("tr", titles)), tag("tbody", rows), class_="sortable", id="class-table")
    explained = tag(
        "p",
        "“Recognised” is the share of a class's images that are predicted as that class (recall), with its 95 % "
        "interval; “right when predicted” is the share of the predictions of a class that are right (precision).",
    )
    box = tag("label", "Find a class ", tag("input", type="search", id="class-filter"), class_="script-only")
    return join([explained, box if len(facts.labels) > 20 else None, scrolling(whole, "Classes")])


def _scores(facts: Facts) -> list[tuple[Html, Html]]:
    """List scores as terms with their values."""
    one = facts.evaluation
    n_wrong = int((facts.truth != facts.predicted).sum())
    scores = [
        ("mistakes", f"{n_wrong:,}", f"of {counted(len(facts.truth), 'image')}"),
        ("log-loss", f"{one.log_loss:.3f}", _ends(one.intervals.get("log_loss"), "nats")),
        ("Brier score", f"{one.brier_score:.3f}", _ends(one.intervals.get("brier_score"), "0 is best, 2 worst")),
        ("calibration error", f"{one.calibration_error:.3f}", f"{one.calibration_floor:.3f} by chance alone"),
    ]
    if facts.sets is not None:
        size = facts.sets.sum(1).mean()
        scores.append(("prediction sets", f"{size:.2f}", f"classes on average, {percent(facts.level, 0)} asked for"))
    if facts.needed is not None and math.isfinite(facts.needed.n_labels or math.inf):
        more = f"labels for {percent(facts.needed.target, 0)}, {facts.needed.n_labelled:,} there are"
        scores.append(("labels needed", f"{facts.needed.n_labels:,}", more))
    return [
        (tag("dt", term), tag("dd", tag("span", value, class_="value"), " ", tag("span", note, class_="small muted")))
        for term, value, note in scores
    ]


def _ends(interval: Interval | None, otherwise: str) -> str:
    return otherwise if interval is None else f"95 % interval {interval.low:.3f} to {interval.high:.3f}"


def _weakest(facts: Facts) -> Html | None:
    if (facts.truth == facts.predicted).all():
        return tag("span", "No image is mistaken.")
    found = weakest(facts)
    if found is None:
        return None
    worst, share, surely = found
    first = "The weakest class is " if surely else "The class that is recognised least is "
    chance = "" if surely else ", which may be chance, as it has few images"
    return join(
        [first, name(facts.labels[worst]), f": {with_interval(share)} are recognised{chance}. ", _link("classes")]
    )


def _empty(facts: Facts) -> Html | None:
    n = n_without_images(facts)
    if not n:
        return None
    have = "class has" if n == 1 else "classes have"
    return join(
        [tag("strong", f"{n:,} {have} no image here"), ": of these, this report says nothing. ", _link("classes")]
    )


def _confused(facts: Facts) -> Html | None:
    table = facts.evaluation.confusion_matrix.copy()
    np.fill_diagonal(table, 0)
    true, other = np.unravel_index(table.argmax(), table.shape)
    n = int(table[true, other])
    if not n:
        return None
    part = percent(n / table.sum(), 0 if n > 0.01 * table.sum() else 1)
    pair = [name(facts.labels[true]), f" {'is' if n == 1 else 'are'} taken for ", name(facts.labels[other])]
    return join(
        [
            f"The most common confusion: {counted(n, 'image')} of ",
            *pair,
            f", {part} of all mistakes. ",
            _link("confusion"),
        ]
    )


def _calibration(facts: Facts) -> Html:
    return join([f"{calibration_stated(facts)} ", _link("calibration")])


def _sets(facts: Facts) -> Html | None:
    if facts.sets is None:
        return None
    hits = int(facts.sets[np.arange(len(facts.truth)), facts.truth].sum())
    covered = proportion_interval(hits, len(facts.truth))
    verdict = ". "
    if covered.low > facts.level:
        verdict = ", so they are larger than they need to be. "
    elif covered.high < facts.level:
        verdict = ", so they are too small. "
    said = f"Prediction sets hold the true class of {with_interval(covered)} of the images; "
    return join([said, f"{percent(facts.level, 0)} was asked for", verdict, _link("unsure")])


def _leaks(facts: Facts) -> Html | None:
    n, accuracy = without_leaks(facts)
    if not n:
        return None
    leaks = [leak.exact for leak in facts.leaks if leak.is_leak]
    be, look = ("is", "looks") if n == 1 else ("are", "look")
    if all(leaks):
        said = f"{be} among the training images too"
    else:
        said = f"{f'{be}, or ' if any(leaks) else ''}{look} the same as{',' if any(leaks) else ''} a training image"
    strong = tag("strong", f"{counted(n, 'image')} of this report {said}")
    if accuracy is None:
        return join([strong, ", so there is no honest accuracy. ", _link("labels")])
    than = f"so the accuracy {'is' if any(leaks) else 'may be'} too good"
    rest = f"Without {'it' if n == 1 else 'them'}, it is {with_interval(accuracy)}. "
    return join([strong, f", {than}. {rest}", _link("labels")])


def _wrong(facts: Facts) -> Html | None:
    n = len(facts.wrong)
    if not n:
        return None
    here = sum(one.where == "test" for one in facts.wrong)
    whose = {0: "of training images", n: "of images of this report"}.get(
        here, f"{here:,} of them of this report's images"
    )
    return join([f"{counted(n, 'label')} to look at, {whose}. ", _link("labels")])


def _link(section: str) -> Html:
    texts = {
        "classes": "all classes",
        "confusion": "all confusions",
        "calibration": "calibration",
        "unsure": "sets and uncertain images",
        "labels": "labels and copies",
    }
    return tag("a", f"See {texts[section]}", href=f"#{section}", class_="small")


def _class_row(facts: Facts, table: np.ndarray, i: int) -> Html:
    label, hits, n, said = facts.labels[i], int(table[i, i]), int(table[i].sum()), int(table[:, i].sum())
    others = table[i].copy()
    others[i] = 0
    worst = int(others.argmax())
    recognised = proportion_interval(hits, n) if n else None
    right = proportion_interval(hits, said) if said else None
    opening = tag(
        "button",
        name(label),
        type="button",
        class_="link",
        data_true=i,
        aria_label=f"Open {counted(n, 'image')} of {visible(label)}",
    )
    taken = [name(facts.labels[worst]), f" ({int(others[worst]):,})"] if others[worst] else DASH
    cells = [
        (f"{n:,}", n, "number"),
        (_recognised(recognised), recognised.mean if recognised else -1, "number"),
        (f"{said:,}", said, "number"),
        (with_interval(right) if right else "never predicted", right.mean if right else -1, "number"),
        (taken, int(others[worst]), None),
    ]
    return tag(
        "tr",
        tag("th", opening if n else name(label), scope="row"),
        [tag("td", cell, class_=kind, data_value=None if value is None else str(value)) for cell, value, kind in cells],
    )


def _recognised(share: Interval | None) -> Html:
    return join(["no image"] if share is None else [with_interval(share), interval_bar(share)])
