"""Labels and predictions, by class."""

from unicodedata import normalize

import numpy as np
import numpy.typing as npt


def label_positions(labels: npt.ArrayLike, classes: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Position of each label among the classes, whether both are strings or numbers.

    Parameters
    ----------
    labels : array-like of shape (n,)
    classes : array-like of shape (n_classes,)
        Labels that a model knows, in its order.

    Returns
    -------
    ndarray of int, shape (n,)
        Positions in `classes`; -1 for labels that are not there. ``3`` and ``"3"`` are the same label, and so are
        spellings of one name in different Unicode normalisations, unless both are classes.

    Examples
    --------
    >>> from frofa.evaluation import label_positions
    >>> label_positions(["rose", "tulip", "daisy"], ["daisy", "rose"])
    array([ 1, -1,  0])
    """
    names = [str(label) for label in np.asarray(classes).tolist()]
    known = {normalize("NFC", name): position for position, name in enumerate(names)}
    # A class that is spelled exactly so goes before one that is equal only when normalised.
    known |= {name: position for position, name in enumerate(names)}
    given = [str(label) for label in np.asarray(labels).tolist()]
    return np.array([known.get(name, known.get(normalize("NFC", name), -1)) for name in given], np.intp)


def confusion_matrix(y: npt.ArrayLike, predicted: npt.ArrayLike, classes: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Count how often each class was taken for each.

    Parameters
    ----------
    y, predicted : array-like of shape (n,)
        True and predicted labels, all among the classes.
    classes : array-like of shape (n_classes,)

    Returns
    -------
    ndarray of int, shape (n_classes, n_classes)
        A row for each true class, a column for each predicted one.

    Raises
    ------
    ValueError
        If a label is not among the classes, or the numbers of labels differ.

    Examples
    --------
    >>> from frofa.evaluation import confusion_matrix
    >>> confusion_matrix(["a", "a", "b"], ["a", "b", "b"], ["a", "b"])
    array([[1, 1],
           [0, 1]])
    """
    rows, columns = known_positions(y, classes), known_positions(predicted, classes)
    if len(rows) != len(columns):
        raise ValueError(f"expected one prediction a label. Got {len(rows)} labels and {len(columns)} predictions.")
    matrix = np.zeros((len(np.asarray(classes)),) * 2, np.intp)
    # A pair (true, predicted) counts as often as it comes: `matrix[rows, columns] += 1` would count it once.
    np.add.at(matrix, (rows, columns), 1)
    return matrix


def known_positions(labels: npt.ArrayLike, classes: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Position of each label among the classes; ValueError for one that is not there."""
    positions = label_positions(labels, classes)
    if (positions < 0).any():
        unknown = np.asarray(labels)[positions < 0][0]
        raise ValueError(f"expected labels among the classes. Got {unknown}.")
    return positions
