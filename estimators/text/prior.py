"""Words as a prior of heads on images: embeddings of the classes, and how much these count."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn.utils._param_validation import StrOptions

from frofa.blocks import FeatureBlocks
from frofa.estimators.core.confident.novelty import rows_of
from frofa.estimators.core.support import Array
from frofa.estimators.solvers.text.fitting import Images, join
from frofa.estimators.solvers.text.samples import Samples
from frofa.estimators.text.block import PREFERRED, refuse_tokens, text_block_of
from frofa.estimators.text.embeddings import class_texts
from frofa.exceptions import UnusedWordsWarning

TextPrior = Literal["text"] | None
WORDS_ONLY = PREFERRED[0]
"""Name of a block that words are compared with, and nothing else, where there are others."""
TEXT_PRIOR: dict[str, list[Any]] = {
    "prior": [StrOptions({"text"}), None],
    "class_names": [Mapping, "array-like", None],
    "text": [object],
    "templates": [object],
    "text_block": [str, None],
}
"""Constraints of the parameters of heads that may know the words for their classes."""

OF_PRIOR = ("class_names", "text", "templates", "text_block", "text_model")
"""Parameters that have no effect without a prior; without them, they are None or "auto"."""


def warn_unused_words(classifier: Any, stacklevel: int) -> None:
    """Warn of parameters that have no effect, as there is no prior that takes them."""
    if classifier.prior is not None:
        return
    given = [name for name in OF_PRIOR if not _is_none(getattr(classifier, name, None))]
    if given:
        warnings.warn(
            f"{' and '.join(given)} {'has' if len(given) == 1 else 'have'} no effect without prior='text'.",
            UnusedWordsWarning,
            stacklevel=stacklevel,
        )


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value == "auto")


def image_blocks(names: Iterable[str], prior: TextPrior) -> list[str]:
    """Choose the blocks that images are described by: all but one that is for words alone."""
    listed = list(names)
    chosen = [name for name in listed if name != WORDS_ONLY] if prior is not None else listed
    return chosen or listed


class KnowsWords:
    """Mixin of heads with the parameters of `TEXT_PRIOR`: what they fit and keep of words."""

    prior: TextPrior
    class_names: Any
    text: Any
    templates: str | Iterable[str]
    text_block: str | None
    classes_: Array
    text_features_: npt.NDArray[np.float64]
    text_block_: str
    text_scales_: npt.NDArray[np.float64]
    text_doubts_: npt.NDArray[np.float64]
    text_weights_: dict[str, float]
    _fitted_to_words: ClassVar[tuple[str, ...]] = (
        *("text_features_", "text_block_", "text_scales_"),
        *("text_doubts_", "text_weights_"),
    )

    def _forget_words(self) -> None:
        for name in self._fitted_to_words:
            self.__dict__.pop(name, None)

    def _known_words(self) -> dict[Any, Array]:
        """Embeddings by label that a head was fitted with: one that was loaded has no text tower any more."""
        if self.prior is None or self.text is not None or not hasattr(self, "text_features_"):
            return {}
        return dict(zip(self.classes_.tolist(), self.text_features_, strict=True))

    def _learn_words(self, known: Mapping[Any, Array]) -> None:
        """Embed the words for the classes, (K, D), or take embeddings that are known."""
        self._forget_words()
        warn_unused_words(self, stacklevel=7)  # who called fit
        if self.prior is not None:
            given, names = (known, None) if known else (self.text, self.class_names)
            self.text_features_ = class_texts(self.classes_, names, given, self.templates).embeddings

    def _check_has_vectors(self, X: Any) -> None:
        """Refuse tokens, of which none is in the space of words, before they are averaged."""
        if self.prior is not None:
            refuse_tokens(X, self.text_block, type(self).__name__)

    def _cosines(self, blocks: FeatureBlocks) -> npt.NDArray[np.float64]:
        """Cosines (n, K) of images, averaged over their views, and words."""
        rows = rows_of(blocks.select([self.text_block_]))
        found: npt.NDArray[np.float64] = rows @ self.text_features_.T
        return found

    def _join_words(
        self, images: Images, blocks: FeatureBlocks, codes: Any, weights: Array, log_priors: Array | None
    ) -> Images:
        """Join what was learnt from images with words, and say how much these count."""
        self.text_block_ = text_block_of(blocks, self.text_block, self.text_features_.shape[1])
        cosines = self._cosines(blocks)
        used = np.flatnonzero(weights > 0)
        samples = Samples.of(codes[used], weights[used], log_priors, cosines.shape[1])
        part = images._replace(left_out=images.left_out[used], rows=images.rows[used])
        joined = join(part, cosines[used], samples)
        left_out = np.full(images.left_out.shape, np.nan)
        left_out[used] = joined.left_out
        self.text_scales_ = joined.words
        # A name says something if words do as a whole, and it does among these.
        self.text_doubts_ = 1 - joined.weighed.helps * (1 - joined.doubts)
        self.text_weights_ = {
            "helps": joined.weighed.helps,
            "words": joined.weighed.words,
            "images": joined.weighed.images,
            "residual": joined.residual,
        }
        return Images(joined.coef, joined.intercept, left_out, images.rows)
