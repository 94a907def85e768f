"""Words for classes: what users call each label."""

from collections.abc import Iterator, Mapping, Sequence, Set
from numbers import Number
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.compute.arrays import as_labels
from frofa.estimators.text.matching import listed, match_words, positions_of


def labels_named(class_names: Any) -> dict[Any, list[str]]:
    """Give the labels that class names are of, in sorted order, and the words for each.

    Parameters
    ----------
    class_names : mapping of label to str or list of str, or sequence of str or list of str
        In a sequence, names are labels themselves; of several words for a class, the first is.

    Raises
    ------
    TypeError, ValueError
        If it is neither, if there are fewer than two labels, one twice, or labels that cannot be sorted.
    """
    if isinstance(class_names, Mapping):
        labels, names = list(class_names), list(class_names.values())
    else:
        names = _listed(class_names)
        labels = [_words(words, None)[0] for words in names]
    if len(labels) < 2:
        raise ValueError(f"class_names must name at least 2 classes. Got {len(labels)}: {class_names!r}.")
    if len({isinstance(label, str) for label in labels}) > 1:
        raise ValueError(f"class_names must name labels of one kind, strings or numbers. Got {listed(labels)}.")
    classes, first, counts = np.unique(as_labels(labels), return_index=True, return_counts=True)
    if counts.max() > 1:
        raise ValueError(f"class_names must name each class once. Got {classes.tolist()[counts.argmax()]!r} twice.")
    return {label: _words(names[i], label) for label, i in zip(classes.tolist(), first, strict=True)}


def names_of(classes: Any, class_names: Any) -> list[list[str]]:
    """Give one or more words for each class.

    Parameters
    ----------
    classes : array-like of shape (K,)
        Sorted labels.
    class_names : None, mapping of label to str or list of str, or sequence of str or list of str
        None takes the labels themselves, which must be strings, with ``_`` read as a space. A mapping may name other
        labels, too. A sequence has the labels themselves in any order, written as they are or with other case, ``_``,
        ``-`` and blanks, and may then have others, too; or it has other words, in the order of the sorted labels.

    Returns
    -------
    list of K lists of str

    Raises
    ------
    TypeError, ValueError
        If a label has no name, a name is blank or no string, or a sequence has some of the labels, out of place, and
        other words.

    Examples
    --------
    >>> from frofa.estimators.text.names import names_of
    >>> names_of(["guinea_pig", "ox"], None)
    [['guinea pig'], ['ox']]
    >>> names_of([0, 1], {0: "guinea pig", 1: ["ox", "bull"]})
    [['guinea pig'], ['ox', 'bull']]
    >>> names_of(["guinea_pig", "ox"], ["Ox", "guinea pig"])
    [['guinea pig'], ['Ox']]
    """
    labels = np.asarray(classes).tolist()
    if class_names is None:
        return [_words(_read(label), label) for label in labels]
    if isinstance(class_names, Mapping):
        return [_words(looked_up(class_names, label, "class_names"), label) for label in labels]
    given, rows = _rows(labels, class_names)
    return [given[row] for row in rows]


def labels_in_order(classes: Any, class_names: Any) -> list[Any]:
    """Give the labels that class names are of, in the order in which they were given; without names, sorted."""
    labels: list[Any] = np.asarray(classes).tolist()
    if class_names is None:
        return labels
    if isinstance(class_names, Mapping):
        return list(class_names)
    given, rows = _rows(labels, class_names)
    order: list[Any] = [words[0] for words in given]
    for label, row in zip(labels, rows, strict=True):
        order[row] = label
    return order


def classes_named(class_names: Any, labels: Any, name: str) -> npt.NDArray[Any]:
    """Say which classes there are, sorted, in the name of a classifier: those with names, or those of labels (n,).

    Names in a sequence are labels themselves where there are no others, or these are among them; they are then written
    as they were found.
    """
    if class_names is None and labels is None:
        raise ValueError(f"{name} needs class_names, or labels to name its classes by. Got neither.")
    if class_names is not None and (labels is None or isinstance(class_names, Mapping)):
        return np.asarray(list(labels_named(class_names)))
    classes: npt.NDArray[Any] = np.unique(labels)
    if class_names is not None:
        names, own = [_words(words, None) for words in _listed(class_names)], classes.tolist()
        places = positions_of(names, own)
        if sorted(place for place in places if place is not None) == list(range(len(own))):
            written = [words[0] if place is None else own[place] for words, place in zip(names, places, strict=True)]
            return np.asarray(list(labels_named(written)))
    if len(classes) < 2:
        raise ValueError(f"{name} needs at least 2 classes. Got one class only: {classes[0]}.")
    return classes


def _rows(labels: list[Any], class_names: Any) -> tuple[list[list[str]], list[int]]:
    """Give the words in a sequence, and the position among them of those of each label (K,)."""
    given = [_words(words, None) for words in _listed(class_names)]
    rows = match_words(given, labels)
    if rows is None and len(given) != len(labels):
        raise ValueError(
            f"class_names in a sequence must be one for each of the {len(labels)} classes, in sorted order, which are "
            f"{listed(labels)}. Got {len(given)}: {listed(class_names)}."
        )
    return given, list(range(len(labels))) if rows is None else rows


def looked_up(by_label: Mapping[Any, Any], label: Any, name: str) -> Any:
    """Look a label up; a ValueError, in the name of the parameter, says that it is not there, or of another kind."""
    if label in by_label:
        return by_label[label]
    kinds = sorted({_kind(other) for other in by_label})
    if by_label and _kind(label) not in kinds:
        raise ValueError(
            f"{name} by label must have labels of the same kind as those of the samples, which are {_kind(label)}, "
            f"such as {label!r}. Got {' and '.join(kinds)}: {listed(by_label)}."
        )
    raise ValueError(f"{name} must name every class. Got none for {label!r}; named are {listed(by_label)}.")


def _kind(label: Any) -> str:
    """Say of which kind a label is; a number and a string are never equal."""
    if isinstance(label, str):
        return "strings"
    return "numbers" if isinstance(label, (Number, np.bool_)) else f"of type {type(label).__name__}"


def _read(label: Any) -> str:
    if not isinstance(label, str):
        raise ValueError(
            f"class_names is needed where labels are no words, such as {{{label!r}: 'golden retriever', ...}}. Got "
            f"class_names=None, and the label {label!r}."
        )
    return label.replace("_", " ")


def _listed(class_names: Any) -> list[Any]:
    if hasattr(class_names, "tolist"):  # an array, or a column of a data frame
        class_names = class_names.tolist()
    if isinstance(class_names, (str, bytes)) or not isinstance(class_names, Sequence):
        raise TypeError(
            "class_names must be a mapping of labels to words, or a sequence of words in the order of the sorted "
            f"labels. Got {_shown(class_names)}."
        )
    for words in class_names:
        _words(words, None)
    return list(class_names)


def _words(given: Any, label: Any) -> list[str]:
    words = [given] if isinstance(given, str) else given
    whose = "" if label is None else f" for {label!r}"
    if not isinstance(words, (list, tuple, np.ndarray)) or not len(words):
        raise TypeError(f"expected a name, or a list of names,{whose or ' for each class'}. Got {given!r}.")
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"expected names that are strings{whose}. Got {word!r}.")
        if not word.strip():
            raise ValueError(f"expected names that are not blank{whose}. Got {str(word)!r}.")
    return [str(word) for word in words]


def _shown(value: Any) -> str:
    """Show what is no sequence, and what is in it as plain text."""
    return f"{type(value).__name__} of {listed(value)}" if isinstance(value, (Set, Iterator)) else repr(value)
