"""Images that the report is not about, and what it takes to make it again."""

from frofa.reporting.facts.contents import Facts
from frofa.reporting.page.markup import Html, counted, details, join, name, table, tag

N_LISTED = 200
"""Images and labels of a list at most."""


def skipped(facts: Facts) -> Html:
    """List images that could not be read, and count those without a label that the classifier knows."""
    unknown = facts.evaluation.unknown_labels
    parts = [_unreadable(facts)]
    if facts.n_unlabelled:
        have = "has" if facts.n_unlabelled == 1 else "have"
        parts.append(tag("p", f"{counted(facts.n_unlabelled, 'image')} {have} no label; no number here is of them."))
    if unknown:
        n = sum(unknown.values())
        have = "has a label" if n == 1 else "have labels"
        parts.append(
            tag("p", f"{counted(n, 'image')} {have} that the classifier does not know; no number here is of them.")
        )
        rows = [(name(label), f"{n:,}") for label, n in list(unknown.items())[:N_LISTED]]
        parts.append(table(["Label", "Images"], rows, "Labels that the classifier does not know"))
    if not any(parts):
        return tag("p", "Nothing: all images could be read, and have labels that the classifier knows.")
    return join(parts)


def reproduce(facts: Facts) -> Html:
    """List versions, digests and parameters."""
    if not facts.identity:
        return tag("p", "Nothing is known of how the report was made.")
    rows = [tag("div", tag("dt", name(key)), tag("dd", _value(key, value))) for key, value in facts.identity.items()]
    return tag("dl", rows, class_="identity")


def _value(key: str, value: str) -> Html:
    if key == "command" or "\n" in value:
        return tag("pre", name_lines(value), tabindex=0)
    return tag("code", name(value, 2000))


def name_lines(text: str) -> Html:
    """Write text of several lines."""
    lines = [name(line, 500) for line in text.split("\n")[:N_LISTED]]
    return join([part for line in lines for part in ("\n", line)][1:])


def _unreadable(facts: Facts) -> Html | None:
    if not facts.skipped:
        return None
    n = len(facts.skipped)
    rows = [(name(one), name(reason, 300)) for one, reason in facts.skipped[:N_LISTED]]
    said = f"{counted(n, 'image')} could not be read{f'; the first {N_LISTED} are listed' if n > N_LISTED else ''}."
    listed = table(["Image", "Why"], rows, "Images that could not be read", text=(0, 1))
    return join([tag("p", said), listed if n <= 10 else details("The list", listed)])
