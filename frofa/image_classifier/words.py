"""Words for the classes of images: what reads them, and extractors of features that are compared with them."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from frofa.backbones.outputs import Output
from frofa.backbones.wanted import automatic_outputs
from frofa.blocks import FeatureBlocks
from frofa.encoders.registered import registered_encoder
from frofa.estimators import ZeroShotClassifier
from frofa.estimators.core.blocks import PLAIN
from frofa.estimators.text.names import names_of
from frofa.estimators.text.templates import templates_of
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.extraction.run import Extraction
from frofa.texts.extractor import FrozenTextExtractor

TEXT = "text"
"""Name of the block of another backbone that is compared with words."""
PROJECTED: Output = "projected"
"""The output that is compared with words, and the name of its block where it is of the images' own backbone."""
SHARED = (
    *("n_views", "view_area", "mirror", "background", "batch_size", "device", "precision", "n_jobs"),
    *("store", "rehash", "on_error", "verbose"),
)
"""Parameters that both extractors have alike; the size of images is each backbone's own."""


@dataclass(frozen=True)
class Words:
    """Words for classes, and the backbone that reads them."""

    model: str
    class_names: Any
    templates: Any
    store: Any
    device: str
    verbose: bool

    def text(self) -> FrozenTextExtractor:
        """Make what turns words into vectors."""
        return FrozenTextExtractor(self.model, device=self.device, store=self.store, verbose=self.verbose)

    def of_head(self) -> dict[str, Any]:
        """Give the parameters of a head that starts from words."""
        names, text = self.class_names, self.text()
        return {"prior": "text", "class_names": names, "templates": self.templates, "text": text}

    def zero_shot(self) -> ZeroShotClassifier:
        """Make the head that has words alone."""
        return ZeroShotClassifier(self.class_names, text=self.text(), templates=self.templates)

    def check(self, labels: Any) -> None:
        """Load the text tower, and check that each label (n,), of which None is none, has words."""
        names_of(np.unique([label for label in labels.tolist() if label is not None]), self.class_names)
        templates_of(self.templates, self.text().fit())


class PairedExtractor(FrozenFeatureExtractor):
    """Extractor of blocks of one backbone, and of the vector that another compares with words: the block ``"text"``.

    Both see the same views of the same images. It is made by `paired`, as `partner` is no parameter.
    """

    partner: FrozenFeatureExtractor

    def _learn(self) -> "PairedExtractor":
        super()._learn()
        self.partner._learn()
        return self

    def extract(self, X: Any, y: Any = None) -> Extraction:
        """Extract the features of both backbones, of images that both can read."""
        own, words = super().extract(X, y), self.partner.extract(X)
        kept = np.intersect1d(own.kept, words.kept)
        own, words = _at(own, kept), _at(words, kept)
        known = {one.position for one in own.skipped}
        return replace(
            own,
            features=FeatureBlocks({**_views(own.features, PLAIN), TEXT: _views(words.features, TEXT).popitem()[1]}),
            skipped=own.skipped + [one for one in words.skipped if one.position not in known],
            n_computed=max(own.n_computed, words.n_computed),
            n_from_store=min(own.n_from_store, words.n_from_store),
            n_not_kept=max(own.n_not_kept, words.n_not_kept),
        )

    def set_params(self, **params: Any) -> "PairedExtractor":
        """Set parameters, of both extractors where both have them alike."""
        super().set_params(**params)
        shared = {name: value for name, value in params.items() if name in SHARED}
        # A copy of this extractor, which has the same partner, keeps its own settings.
        self.partner = copy(self.partner).set_params(**shared)
        return self

    def __sklearn_clone__(self) -> "PairedExtractor":
        cloned: PairedExtractor = super().__sklearn_clone__()
        cloned.partner = self.partner.__sklearn_clone__()
        return cloned

    def _gives_blocks(self) -> bool:
        return True

    def _widths(self) -> dict[str, int]:
        return {**super()._widths(), TEXT: sum(self.partner._widths().values())}


def paired(extractor: FrozenFeatureExtractor, text_model: str) -> PairedExtractor:
    """Make an extractor that also has the vectors of `text_model` in the space of words."""
    parameters = extractor.get_params(deep=False)
    made = PairedExtractor(**parameters)
    made.partner = words_extractor({name: parameters[name] for name in SHARED}, text_model)
    return made


def words_extractor(parameters: Mapping[str, Any], text_model: str) -> FrozenFeatureExtractor:
    """Make an extractor of the vectors that are compared with words alone; images have another backbone's own size.

    A ValueError says that the backbone has none.
    """
    shared = {name: parameters[name] for name in SHARED}
    size = {"image_size": parameters["image_size"]} if parameters.get("model") == text_model else {}
    extractor = FrozenFeatureExtractor(text_model, output=PROJECTED, **shared, **size)
    # By the name that it has among the outputs of images, so that a store keeps it once.
    return extractor if extractor._backbone().layout.is_projection_own else extractor.set_params(output="pooled")


def with_words(extractor: FrozenFeatureExtractor, text_model: str) -> FrozenFeatureExtractor:
    """Let an extractor of blocks also give the one that is compared with words, if it does not do so already.

    Raises
    ------
    ValueError
        If the backbone has no vector in the space of words.
    """
    if text_model != extractor.model:
        return paired(extractor, text_model)
    backbone = extractor._backbone()
    chosen = automatic_outputs(backbone).outputs if extractor.output == "auto" else tuple(extractor.output)
    backbone.resolve_layer(PROJECTED, None, True)  # refuses a backbone that has none
    if backbone.layout.is_projection_own or "pooled" not in chosen:
        extractor.set_params(output=[*chosen, PROJECTED])
    return extractor


def text_model_of(model: Any, text_model: str | None) -> str:
    """Name the backbone that compares images with words; a ValueError says that a custom encoder is none."""
    if text_model is not None:
        return text_model
    if isinstance(model, str) and registered_encoder(model) is None:
        return model
    raise ValueError(
        "prior='text' needs a backbone with a text tower: beside a custom encoder, text_model must name one. Got None."
    )


def _at(found: Extraction, kept: Any) -> Extraction:
    """Choose the images at these positions of the input, which are among those that were kept."""
    if len(kept) == len(found.kept):
        return found
    rows = np.flatnonzero(np.isin(found.kept, kept))
    return replace(
        found,
        features=found.features[rows],
        y=None if found.y is None else found.y[rows],
        kept=found.kept[rows],
        keys=None if found.keys is None else [found.keys[row] for row in rows],
    )


def _views(features: Any, name: str) -> dict[str, Any]:
    """Give the views of each block; an array is one block of one view."""
    if isinstance(features, FeatureBlocks):
        return {block: features.views(block) for block in features.names}
    return {name: (features,)}
