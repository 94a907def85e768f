"""Several features from one pass over the images."""

from collections.abc import Mapping
from typing import Any

from frofa.extraction.extractor import FrozenFeatureExtractor, extract_all
from frofa.extraction.run import Extraction
from frofa.images.items import Images

OWN = ("output", "layer", "norm", "n_views", "view_area", "mirror", "dtype")
"""Parameters in which the extractors may differ."""


def extract_many(extractors: Mapping[str, FrozenFeatureExtractor], X: Images, y: Any = None) -> dict[str, Extraction]:
    """Extract several outputs of one backbone, with one forward pass for all of them, of each image and view.

    Parameters
    ----------
    extractors : mapping of str to FrozenFeatureExtractor
        They share everything but `output`, `layer`, `norm`, `dtype`, and the views (`n_views`, `view_area`, `mirror`).
        One extractor with a list of outputs does the same where they share `norm` and `dtype`.
    X : images
        As in `FrozenFeatureExtractor.transform`.
    y : array-like of shape (n,), default=None
        Labels; those of skipped images are dropped.

    Returns
    -------
    dict of str to Extraction
        What each extractor's own `extract` would return, bit for bit on a CPU. In the store, each feature has the key
        that it would have had alone: an image goes through the backbone where one of them is missing.

    Raises
    ------
    TypeError
        If these are no extractors by name.
    ValueError
        If there are no extractors, or they differ in anything else.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import FrozenFeatureExtractor, extract_many
    >>> images = np.zeros((2, 48, 48, 3), np.uint8)
    >>> outputs = {name: FrozenFeatureExtractor(output=name) for name in ("tokens", "cls")}
    >>> {name: extraction.features.shape for name, extraction in extract_many(outputs, images).items()}
    {'tokens': (2, 64, 192), 'cls': (2, 192)}
    """
    if not isinstance(extractors, Mapping):
        raise TypeError(
            f"expected extractors by name, such as {{'cls': FrozenFeatureExtractor(output='cls')}}. "
            f"Got {type(extractors).__name__}."
        )
    if not extractors:
        raise ValueError("expected at least one extractor. Got none.")
    for name, extractor in extractors.items():
        if not isinstance(extractor, FrozenFeatureExtractor):
            raise TypeError(f"expected a FrozenFeatureExtractor for {name!r}. Got {type(extractor).__name__}.")
    # What is shared is compared by value, a store by its path.
    [(name, first), *others] = extractors.items()
    shared = _shared(first)
    for other, extractor in others:
        for parameter, value in _shared(extractor).items():
            if value != shared[parameter]:
                raise ValueError(
                    f"extractors of one pass may differ in {', '.join(OWN)} only. Got {parameter}={value!r} for "
                    f"{other!r}, and {shared[parameter]!r} for {name!r}."
                )
    found = extract_all(list(extractors.values()), X, y)
    return dict(zip(extractors, found, strict=True))


def _shared(extractor: FrozenFeatureExtractor) -> dict[str, Any]:
    parameters = {name: value for name, value in extractor.get_params().items() if name not in OWN}
    store = parameters["store"]
    return {**parameters, "store": None if store is None else str(getattr(store, "path", store))}
