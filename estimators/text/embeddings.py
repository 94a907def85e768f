"""Embeddings of classes from their words: one unit vector a class."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from frofa.compute.arrays import as_features
from frofa.estimators.text.names import labels_in_order, looked_up, names_of
from frofa.estimators.text.templates import captions_of, templates_of

SCALE, BIAS = 100.0, 0.0
"""Logit scale and bias of embeddings that come without: those of CLIP's published weights."""
Array = npt.NDArray[np.float64]


class ClassTexts(NamedTuple):
    """Embeddings of classes from their words, with the scale of scores by them.

    `embeddings` (K, D) are unit rows, in float64, in the order of the classes. An image's score for a class is
    ``scale * cosine + bias``.
    """

    embeddings: Array
    scale: float = SCALE
    bias: float = BIAS

    def scores(self, unit_rows: Array) -> Array:
        """Score images of unit rows (n, D) for each class, (n, K)."""
        found: Array = self.scale * (unit_rows @ self.embeddings.T) + self.bias
        return found


def class_texts(classes: Any, class_names: Any, text: Any, templates: Any = "auto") -> ClassTexts:
    """Embed the words for classes: unit vectors of all captions of a class are averaged, and brought to length one.

    Parameters
    ----------
    classes : array-like of shape (K,)
        Sorted labels.
    class_names : None, mapping or sequence
        Words for the classes, as `frofa.estimators.text.names.names_of` takes them. Of ready embeddings in an array,
        they say the order.
    text : object with `transform`, array-like of shape (K, D) or (K, m, D), mapping or ClassTexts
        An object turns a list of strings into (n, D), as `frofa.FrozenTextExtractor` does, and may have `logit_scale`,
        `logit_bias` and `templates`. Ready embeddings have one row for each of `class_names`, in the order in which
        these are given, or else of the K classes in sorted order; or are by label (D,) or (m, D), of m captions of a
        class. Their scale is 100 and their bias 0, unless they are ClassTexts.
    templates : "auto", str or iterable of str, default="auto"
        As `frofa.estimators.text.templates.templates_of` takes them; not used for ready embeddings.

    Returns
    -------
    ClassTexts

    Raises
    ------
    TypeError, ValueError
        If names, templates or embeddings are not what is expected, or an embedding is zero or not finite.

    References
    ----------
    Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021, section 3.1.4:
    ensembles are averages in the space of embeddings.

    Examples
    --------
    >>> from frofa.estimators.text.embeddings import class_texts
    >>> class_texts(["cat", "dog"], None, [[3.0, 4.0], [0.0, 2.0]]).embeddings.tolist()
    [[0.6, 0.8], [0.0, 1.0]]
    """
    labels = np.asarray(classes).tolist()
    if text is None or isinstance(text, (str, bytes)):
        raise TypeError(
            "text must turn words into vectors: FrozenTextExtractor(model), another object with transform, or "
            f"embeddings of the classes; files keep none. Got {text!r}."
        )
    if hasattr(text, "transform") and hasattr(text, "n_views"):
        raise TypeError(
            f"text needs what turns words into vectors: FrozenTextExtractor(model). Got {type(text).__name__}, which "
            "is for images."
        )
    if hasattr(text, "transform"):
        scale, bias = getattr(text, "logit_scale", None), getattr(text, "logit_bias", None)
        rows = _embedded(names_of(classes, class_names), text, templates)
    else:
        rows, scale, bias = _ready(labels, class_names, text)
    scale, bias = SCALE if scale is None else float(scale), BIAS if bias is None else float(bias)
    if not (0 < scale < np.inf and abs(bias) < np.inf):
        raise ValueError(f"expected a positive, finite logit scale and a finite bias. Got {scale:g} and {bias:g}.")
    return ClassTexts(
        np.stack([_ensemble(vectors, label) for vectors, label in zip(rows, labels, strict=True)]), scale, bias
    )


def _embedded(names: list[list[str]], text: Any, templates: Any) -> list[Array]:
    """Embed all captions at once, and give those of each class, (m, D)."""
    chosen = templates_of(templates, text)
    captions = [[caption for word in words for caption in captions_of(word, chosen)] for words in names]
    flat = [caption for one in captions for caption in one]
    vectors = _array(text.transform(flat), "the embeddings of texts")
    if vectors.ndim != 2 or len(vectors) != len(flat):
        raise ValueError(
            f"expected {type(text).__name__}.transform to give one vector for each of {len(flat)} texts. Got shape "
            f"{vectors.shape}."
        )
    ends = np.cumsum([len(one) for one in captions])
    return np.split(vectors, ends[:-1])


def _ready(labels: list[Any], class_names: Any, text: Any) -> tuple[list[Array], float | None, float | None]:
    scale = bias = None
    if isinstance(text, ClassTexts):
        text, scale, bias = text
    if not isinstance(text, Mapping):
        text = _by_label(labels, class_names, _array(text, "text"))
    rows = [np.atleast_2d(_array(looked_up(text, label, "text"), f"the embedding of {label!r}")) for label in labels]
    shapes = {one.shape[1:] for one in rows}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"expected embeddings of one width, (D,) or (m, D) each. Got {[one.shape for one in rows]}.")
    return rows, scale, bias


def _by_label(labels: list[Any], class_names: Any, array: Array) -> dict[Any, Array]:
    """Tell of which label each row is: in the order of `class_names`, or that of sorted labels."""
    order = labels_in_order(labels, class_names)
    if array.ndim not in (2, 3) or len(array) != len(order):
        whose = f"{len(order)} classes" if class_names is None else f"the {len(order)} of class_names in their order"
        raise ValueError(
            f"text as an array must be of shape (n_classes, D), with {whose}. Got {len(array) if array.ndim else 0} "
            f"rows, of shape {array.shape}."
        )
    for label in labels:
        looked_up(dict.fromkeys(order), label, "class_names")
    return dict(zip(order, array, strict=True))


def _array(values: Any, name: str) -> Array:
    try:
        return np.asarray(as_features(values), np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"expected numbers for {name}. Got {type(values).__name__}: {error}") from error


def _ensemble(vectors: Array, label: Any) -> Array:
    """Average the unit vectors of (m, D), and bring the mean to length one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (vectors.size and np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError(f"expected finite embeddings of a length above zero for {label!r}. Got {vectors.tolist()}.")
    mean: Array = (vectors / lengths).mean(0)
    length = np.linalg.norm(mean)
    if not length:
        raise ValueError(f"expected embeddings for {label!r} whose mean is not zero. Got opposite ones.")
    unit: Array = mean / length
    return unit
