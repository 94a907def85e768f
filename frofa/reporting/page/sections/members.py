"""Gains by members of a blend, and by augmentation, on the images of the report."""

import math

from frofa.evaluation import Interval
from frofa.reporting.facts.contents import Facts
from frofa.reporting.page.markup import DASH, Html, join, name, percent, points, table, tag, with_interval


def members(facts: Facts) -> Html | None:
    """Show the weight of each member, how good it is alone, and what the blend would be without it."""
    if not facts.members:
        return None
    text = (
        "The classifier blends several heads. “Adds” is the accuracy of the blend less that of the blend without the "
        "member, on the images of this report, in percentage points with 95 % intervals: where the interval holds "
        "zero, these images do not tell whether the member helps."
    )
    rows = [
        (
            name(one.name),
            percent(one.weight, 0),
            DASH if math.isnan(one.out_of_fold_accuracy) else percent(one.out_of_fold_accuracy),
            _share(one.alone),
            _share(one.without),
            points(one.difference) if one.difference is not None else DASH,
        )
        for one in facts.members
    ]
    head = ["Member", "Weight", "On training images, left out", "Alone", "Blend without it", "Adds, points"]
    reasons = [tag("li", name(one.name), ": ", name(one.reason, 300)) for one in facts.members if one.reason]
    why = join([tag("p", "Left out of the blend:"), tag("ul", reasons)]) if reasons else None
    return join([tag("p", text), table(head, rows, "Members of the blend"), why])


def augmentation(facts: Facts) -> Html | None:
    """Show accuracies with and without augmentation."""
    if not facts.augmentation:
        return None
    rows = [
        (name(one.name), f"{one.n:,}", with_interval(one.plain), with_interval(one.augmented), points(one.difference))
        for one in facts.augmentation
    ]
    head = ["Augmentation", "Images", "Plain", "Augmented", "Difference, points"]
    about = [tag("li", name(one.name), ": ", name(one.about, 400)) for one in facts.augmentation]
    intro = "What was compared, image by image, with 95 % intervals:"
    return join([tag("p", intro), tag("ul", about), table(head, rows, "Accuracy with and without augmentation")])


def _share(share: Interval | None) -> str:
    return DASH if share is None else with_interval(share)
