"""Queries of a store: which features are asked, by which model, and the vectors of images and words to ask with."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from frofa.backbones.loading import load_backbone
from frofa.backbones.text.finding import find_tower
from frofa.backbones.text.loading import load_text_tower
from frofa.exceptions import ModelNotFoundError, WeightsChangedError
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.images.items import ImageItem
from frofa.images.reading import content, read_error
from frofa.retrieval.source import describe
from frofa.store import FeatureSpec, FeatureStore

Vectors = npt.NDArray[np.float64]
EMBEDDED = "frofa/vit_tiny_tin200"
IN_WORDS = ("projected", "pooled")
"""Outputs that may lie in the space of words, the likelier first."""
OUTPUTS = ("pooled", "projected", "cls", "mean")
"""Outputs in the order in which images are compared by them."""
TEXTS = 64
"""Texts of a forward pass."""


class Asked(NamedTuple):
    """Features of a store that are searched, and the name of the model that they are of; None where it is not known."""

    store: FeatureStore
    spec: FeatureSpec
    model: str | None


def choose(store: FeatureStore, *, spec: str | None = None, model: str | None = None, words: bool = False) -> Asked:
    """Choose the features that are searched.

    Parameters
    ----------
    store : FeatureStore
    spec : str, default=None
        First digits of a spec's digest.
    model : str, default=None
        Name of the backbone; None is the one whose name the store has, or the embedded one.
    words : bool, default=False
        Whether queries are words: features must lie in their space, and the model have a text tower.

    Raises
    ------
    ValueError
        If there are no such features, or of several models; the message lists them.
    """
    found = {digest: one for digest, one in store.specs().items() if _is_searchable(store, one)}
    if spec is not None:
        found = {digest: one for digest, one in found.items() if digest.startswith(spec)}
    if not found:
        of = f" whose spec begins with {spec}" if spec is not None else ""
        raise ValueError(f"expected vectors of images{of} in {store.path}. There are: {_listed(store)}.")
    models = {digest: name_of_model(store, one) for digest, one in found.items()}
    if model is not None:
        chosen = {digest: one for digest, one in found.items() if models[digest] == model}
        chosen = chosen or _of_weights(found, model)
        if not chosen:
            raise ValueError(f"expected features of {model} in {store.path}. There are: {_listed(store)}.")
        found, models = chosen, dict.fromkeys(chosen, model)
    if words:
        found = {digest: one for digest, one in found.items() if _knows_words(one, models[digest])}
        if not found:
            raise ValueError(
                f"words need features in their space, and the model that has its text tower: extract with --model of "
                f"SigLIP or CLIP and --output projected, and name it by --model where the store does not know it. "
                f"{store.path} has: {_listed(store)}."
            )
    weights = {one.weights: digest for digest, one in found.items()}
    if len(weights) > 1:
        listed = "; ".join(f"{models[digest] or 'unknown model'}: {describe(store, found[digest])}" for digest in found)
        raise ValueError(f"expected --model or --spec, as {store.path} has features of several models: {listed}.")
    order = IN_WORDS if words else OUTPUTS
    best = min(found, key=lambda digest: _rank(store, found[digest], order))
    return Asked(store, found[best], models[best])


def name_of_model(store: FeatureStore, spec: FeatureSpec) -> str | None:
    """Name the model of a spec, as the store knows it, or the embedded one; None where it is another."""
    name = store.image_names().model(spec.digest)
    if name is None and load_backbone(EMBEDDED, None, "auto").weights_digest == spec.weights:
        return EMBEDDED
    return name


def image_vectors(asked: Asked, items: Sequence[ImageItem], device: str = "auto") -> Vectors:
    """Look images up in the store, or compute their features as those in it were computed, shape (n, D).

    An ImageReadError says which image cannot be read; a WeightsChangedError, that the model is not that of the
    features; a ValueError, that they were computed in a way that is not to be had here.
    """
    keys = [_key(position, item) for position, item in enumerate(items)]
    lacking = set(asked.store.missing(asked.spec, keys))
    rows: list[Any] = [None] * len(items)
    for i, key in enumerate(keys):
        if key not in lacking:
            rows[i] = np.asarray(asked.store.features(asked.spec, [key]), np.float64)[0]
    others = [i for i, row in enumerate(rows) if row is None]
    if others:
        computed = np.asarray(_extractor(asked, device).transform([items[i] for i in others]), np.float64)
        for i, row in zip(others, computed, strict=True):
            rows[i] = row
    return np.stack(rows)


def text_vectors(asked: Asked, texts: Sequence[str], device: str = "auto") -> Vectors:
    """Embed texts in the space of the features, shape (n, D); errors as of `image_vectors`."""
    model = _named(asked)
    _check_weights(asked, load_backbone(model, image_size_of(asked.spec), device))
    tower = load_text_tower(model, device)
    parts = []
    for start in range(0, len(texts), TEXTS):
        ids, mask = tower.tokenizer(texts[start : start + TEXTS])
        parts.append(tower.encode(torch.from_numpy(ids), torch.from_numpy(mask)).double().cpu().numpy())
    embedded: Vectors = np.concatenate(parts)
    width = asked.store.features(asked.spec).shape[1]
    if embedded.shape[1] != width:
        raise ValueError(f"{model} embeds texts in {embedded.shape[1]} dimensions, and the features have {width}.")
    return embedded


def image_size_of(spec: FeatureSpec) -> tuple[int, int] | None:
    """Height and width that images had for features, by their preprocessing; None where it does not say."""
    try:
        size = json.loads(spec.preprocessing).get("input_size")
    except ValueError:  # of a custom encoder
        return None
    return (int(size[-2]), int(size[-1])) if isinstance(size, list) and len(size) == 3 else None


def _is_searchable(store: FeatureStore, spec: FeatureSpec) -> bool:
    """Tell vectors of plain images from tokens, other views, texts and specs without images."""
    if spec.output == "text":
        return False
    with suppress(ValueError):
        if "view" in json.loads(spec.preprocessing):
            return False
    return len(store.table(spec).feature_shape() or ()) == 1


def _rank(store: FeatureStore, spec: FeatureSpec, order: Sequence[str]) -> tuple[Any, ...]:
    """Sort by output; then the last layers, and the most images, first."""
    place = order.index(spec.output) if spec.output in order else len(order)
    return place, -(spec.layer or 0), not spec.norm, -len(store.features(spec)), spec.digest


def _of_weights(found: dict[str, FeatureSpec], model: str) -> dict[str, FeatureSpec]:
    digest = load_backbone(model, None, "auto").weights_digest
    return {name: one for name, one in found.items() if one.weights == digest}


def _knows_words(spec: FeatureSpec, model: str | None) -> bool:
    """Tell whether features lie in the space of a model's text tower."""
    if model is None or spec.output not in IN_WORDS:
        return False
    try:
        find_tower(model)
    except ModelNotFoundError:
        return False
    if spec.output == "projected":
        return True
    layout = load_backbone(model, image_size_of(spec), "auto").layout
    return "projected" in layout.widths and not layout.is_projection_own


def _named(asked: Asked) -> str:
    if asked.model is None:
        raise ValueError(
            f"the features {asked.spec.digest[:12]} are of a model whose name the store does not know: name it by "
            "--model."
        )
    return asked.model


def _check_weights(asked: Asked, backbone: Any) -> None:
    if backbone.weights_digest != asked.spec.weights:
        raise WeightsChangedError(
            f"{backbone.name} has other weights (digest {backbone.weights_digest}) than the features in the store "
            f"(digest {asked.spec.weights}): name the model that they were extracted by."
        )


def _extractor(asked: Asked, device: str) -> FrozenFeatureExtractor:
    """Make the extractor that computes features as those in the store were; the precision may be another."""
    spec = asked.spec
    background = spec.decoder.rpartition(", on ")[2]
    settings: dict[str, Any] = {"output": spec.output, "layer": spec.layer, "norm": spec.norm, "device": device}
    if background.startswith("#"):
        settings["background"] = background
    extractor = FrozenFeatureExtractor(_named(asked), **settings)
    _check_weights(asked, extractor._backbone())
    if "preprocessing" in spec.differences(extractor.feature_spec()) and (size := image_size_of(spec)):
        extractor.set_params(image_size=size)
    differing = set(spec.differences(extractor.feature_spec())) - {"precision", "dtype", "decoder"}
    if differing:
        raise ValueError(
            f"the features {spec.digest[:12]} were computed in a way that is not known here (other "
            f"{', '.join(sorted(differing))}): ask with an image that is in the store."
        )
    return extractor


def _key(position: int, item: ImageItem) -> str:
    try:
        return content(item)[1]
    except Exception as error:  # decoders raise a dozen types
        raise read_error(position, item, error) from error


def _listed(store: FeatureStore) -> str:
    return "; ".join(describe(store, one) for one in store.specs().values()) or "nothing"
