"""The numbers of ``frofa evaluate``, for JSON and as lines of text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

N_BINS = 15
WIDEST_TABLE = 20
"""Classes of the largest confusion table that is printed; of larger ones, the most common confusions are."""


def evaluation_of(y: "npt.NDArray[Any]", probabilities: "npt.NDArray[Any]", classes: "npt.NDArray[Any]") -> Any:
    """Accuracy, of each class too, log-loss, calibration error and confusion table, as a dict that JSON can hold.

    The model knows all of the true labels `y` (n,); probabilities are (n, n_classes), in the order of `classes`. Shares
    are from 0 to 1, and None for classes without an image.
    """
    from frofa.evaluation import calibration_error, confusion_matrix, log_loss

    # The table (n_classes, n_classes) has a row for each true class: hits on its diagonal, class sizes as sums of rows.
    table = confusion_matrix(y, classes[probabilities.argmax(1)], classes)
    hits, sizes = table.diagonal().tolist(), table.sum(1).tolist()
    names = classes.tolist()
    return {
        "n_images": len(y),
        "labels": names,
        "accuracy": _share(sum(hits), len(y)),
        "interval": {"kind": "Wilson", "confidence": 0.95},
        "classes": [{"label": name, **_share(n_hits, n)} for name, n_hits, n in zip(names, hits, sizes, strict=True)],
        "log_loss": log_loss(y, probabilities, classes),
        "calibration_error": {"value": calibration_error(y, probabilities, classes, N_BINS), "n_bins": N_BINS},
        "confusion_matrix": table.tolist(),
    }


def _share(n_hits: int, n: int) -> dict[str, Any]:
    from frofa.evaluation import proportion_interval

    mean, low, high = proportion_interval(n_hits, n) if n else (None, None, None)
    return {"n": n, "n_correct": n_hits, "accuracy": mean, "low": low, "high": high}


def evaluation_lines(evaluation: dict[str, Any]) -> list[str]:
    """The numbers of `evaluation_of` as lines of text."""
    from frofa.images.listing import count

    names = [str(label) for label in evaluation["labels"]]
    table = evaluation["confusion_matrix"]
    error = evaluation["calibration_error"]
    return [
        f"{count(evaluation['n_images'], 'image')}, {count(len(names), 'class')}",
        f"accuracy           {_percent(evaluation['accuracy'])}: the 95 % interval is Wilson's",
        f"log-loss           {evaluation['log_loss']:.4f}",
        f"calibration error  {error['value']:.4f} (expected, over {error['n_bins']} bins)",
        "",
        *_class_lines(names, evaluation["classes"]),
        "",
        *(_table_lines(names, table) if len(names) <= WIDEST_TABLE else _confusion_lines(names, table)),
    ]


def _percent(share: dict[str, Any]) -> str:
    return f"{100 * share['accuracy']:.1f} % ({100 * share['low']:.1f} to {100 * share['high']:.1f})"


def _class_lines(names: Sequence[str], shares: Sequence[dict[str, Any]]) -> list[str]:
    width = max(map(len, names))
    found = [f"{_percent(one)}, {one['n_correct']} of {one['n']}" if one["n"] else "no image" for one in shares]
    return ["of each class:", *(f"{name:<{width}}  {text}" for name, text in zip(names, found, strict=True))]


def _table_lines(names: Sequence[str], table: Sequence[Sequence[int]]) -> list[str]:
    """A row for each true class; columns have the order of the rows."""
    # A column is as wide as its class's name, or as the largest count of the whole table.
    width, cell = max(map(len, names)), max(len(str(n)) for row in table for n in row)
    columns = [max(cell, len(name)) for name in names]
    rows = [[name, *map(str, row)] for name, row in zip(names, table, strict=True)]
    return ["confusion table, a row for each true class, a column for each predicted one:"] + [
        "  ".join([f"{first:<{width}}", *(text.rjust(size) for text, size in zip(rest, columns, strict=True))]).rstrip()
        for first, *rest in [["", *names], *rows]
    ]


def _confusion_lines(names: Sequence[str], table: Sequence[Sequence[int]]) -> list[str]:
    found = [(n, true, other) for true, row in enumerate(table) for other, n in enumerate(row) if n and true != other]
    # The most common first; among equals, in the order of the classes.
    found.sort(key=lambda one: (-one[0], one[1:]))
    if not found:
        return ["no confusions"]
    return ["most common confusions (--out writes the whole table):"] + [
        f"{n} x {names[true]} taken for {names[other]}" for n, true, other in found[:WIDEST_TABLE]
    ]
