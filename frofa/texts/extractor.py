"""Texts to frozen features, as a scikit-learn transformer."""

import os
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions

from frofa.backbones.backbone import Backbone
from frofa.backbones.outputs import Request
from frofa.backbones.text.loading import load_text_tower
from frofa.backbones.text.tower import TextTower
from frofa.encoders.protocol import Encoder, check_encoder, describe
from frofa.encoders.registered import registered_encoder
from frofa.encoders.sharing import SharesModel
from frofa.exceptions import EncoderError, WeightsChangedError
from frofa.extraction.request import ExtractionRequest, Settings, Target
from frofa.extraction.run import Extraction, extract_together
from frofa.images.pixels.colour import SILVER
from frofa.store import FeatureSpec, FeatureStore
from frofa.texts.backbone import OUTPUT, TextEncoderBackbone, TowerBackbone
from frofa.texts.sample import as_texts
from frofa.utils.callbacks import CallbackSupportMixin, TaskCounter, fit_task, task_of, with_callbacks

MOST_JOBS = 8
"""Threads at most that tokenize: more would wait for each other."""


class FrozenTextExtractor(
    CallbackSupportMixin, SharesModel, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Frozen features of texts, in the space of an image-text model.

    The text tower is loaded at first use, once a process, in eval mode, with the tokenizer of its own files. `clone`
    and pickle carry the parameters, never the weights.

    Parameters
    ----------
    model : str or Encoder
        What computes features: a name as `FrozenFeatureExtractor` takes it, of a model with a text tower. That is
        ``"hf-dir:PATH"`` or ``"hf-hub:OWNER/NAME"`` of SigLIP, SigLIP 2 or CLIP, ``"local-dir:PATH"`` with open_clip's
        files or a ``text.json``, or timm's name of an image tower that was published with a text tower, such as
        ``"vit_base_patch16_siglip_224.webli"``. Or an encoder of your own (`frofa.Encoder`), which is called with lists
        of str, or, if it has a `preprocess`, with batches of what that makes of each text; `device` and `precision`
        stay at their defaults then. `clone` shares it, and pickles hold it.
    batch_size : int, default=64
        Texts of a forward pass, that are moved and written together.
    device : str, default="auto"
        Torch device of the tower, such as ``"cuda:1"``; ``"auto"`` takes the GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Number format of the forward pass: ``"auto"`` is float32 on a CPU, bfloat16 autocast on a GPU, as of images.
    dtype : {"float32", "float16", "bfloat16", "float64"}, default="float32"
        Number format of stored and returned features; NumPy gets bfloat16 as float32.
    store : path or FeatureStore, default=None
        Directory that keeps features, so that no text is computed twice; it may be that of images. None keeps nothing.
    verbose : bool, default=False
        Show a progress bar: texts a second and the time left, and how many came from the store or repeat others.

    Attributes
    ----------
    weights_digest_ : str
        Digest of the weights that `fit` met; other weights under the same name are refused afterwards.

    See Also
    --------
    FrozenFeatureExtractor : The images of the same model; ``output="projected"`` is the vector that texts compare with.
    frofa.ZeroShotClassifier : Classes by their words.

    Notes
    -----
    Features are as the tower gives them, not of length one. A text is kept under the digest of its UTF-8 bytes: another
    case, or another space, is another text.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import FrozenTextExtractor, FunctionEncoder
    >>> lengths = FunctionEncoder(lambda texts: [[len(text), text.count(" ")] for text in texts], spec="lengths v1")
    >>> FrozenTextExtractor(lengths).transform(["a cat", "two brown oxen"])
    array([[ 5.,  1.],
           [14.,  2.]], dtype=float32)

    >>> extractor = FrozenTextExtractor("vit_base_patch16_siglip_224.webli")  # doctest: +SKIP
    >>> extractor.transform(["a photo of a cat"]).shape, extractor.logit_scale  # doctest: +SKIP
    ((1, 768), 117.33)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, callable],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "dtype": [StrOptions({"float32", "float16", "bfloat16", "float64"})],
        "store": [str, os.PathLike, FeatureStore, None],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        model: str | Encoder,
        *,
        batch_size: int = 64,
        device: str = "auto",
        precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        dtype: Literal["float32", "float16", "bfloat16", "float64"] = "float32",
        store: str | os.PathLike[str] | FeatureStore | None = None,
        verbose: bool = False,
    ):
        self.model = model
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.dtype = dtype
        self.store = store
        self.verbose = verbose

    @property
    def logit_scale(self) -> float | None:
        """Factor of the cosine of an image and a text; None where a custom encoder does not say."""
        scale = getattr(self._source(), "logit_scale", None)
        return None if scale is None else float(scale)

    @property
    def logit_bias(self) -> float | None:
        """Term that is added to it, 0 where the model has none; None where a custom encoder does not say."""
        bias = getattr(self._source(), "logit_bias", None)
        return None if bias is None else float(bias)

    @property
    def templates(self) -> tuple[str, ...] | None:
        """Captions with one ``{}`` that the model was published with for names of classes; None if there are none."""
        found = getattr(self._source(), "templates", None)
        return None if found is None else tuple(found)

    @with_callbacks
    def fit(self, X: Any = None, y: object = None) -> "FrozenTextExtractor":
        """Check the parameters, load the tower and note its weights; nothing is learnt.

        Raises
        ------
        ModelNotFoundError
            If the model has no text tower, or its files are not to be had.
        ValueError
            If a parameter is wrong.
        """
        with fit_task(self, X, y):
            return self._learn()

    @with_callbacks
    def fit_transform(self, X: Any, y: object = None) -> Any:
        """Do what `fit` and then `transform` do; callbacks of scikit-learn are told of each batch of texts."""
        with fit_task(self, X, y, name="fit-transform", n_tasks=1):
            return self._learn().transform(X)

    def transform(self, X: Any) -> npt.NDArray[Any]:
        """Embed texts.

        Parameters
        ----------
        X : list of str, array of shape (n,) or (n, 1), column or data frame of one column

        Returns
        -------
        ndarray of shape (n, D)
            Of `dtype`, not normalised.

        Raises
        ------
        TypeError, ValueError
            If there is no text, or something else among them.
        """
        # What a store gives is a map of files, which cannot be written to, as those who transform in place would.
        return np.array(self.extract(X).features)

    def extract(self, X: Any, y: Any = None) -> Extraction:
        """Embed texts, and tell what was computed, and what came from the store.

        Parameters
        ----------
        X : texts
            As in `transform`.
        y : array-like of shape (n,), default=None
            Labels, which are returned as they are.

        Returns
        -------
        Extraction
            With a store, the features are a lazy array: memory does not grow with them until they are used.
        """
        self._validate_params()
        samples = as_texts(X)
        labels = None if y is None else np.asarray(y)
        if labels is not None and labels.shape != (len(samples),):
            raise ValueError(
                f"expected one label a text. Got {len(samples)} texts, and labels of shape {labels.shape}."
            )
        source = self._checked_source()
        backbone: Backbone = (
            TowerBackbone(source) if isinstance(source, TextTower) else TextEncoderBackbone(source, samples)
        )
        store = FeatureStore(self.store) if isinstance(self.store, (str, os.PathLike)) else self.store
        n_batches = -(-len(samples) // self.batch_size)
        with task_of(self).part("extract-features", n_batches) as task:
            count = TaskCounter(task, "batch", n_batches, len(samples))
            # A text has one vector, whatever a run calls it; the spec says that it is of a text.
            target = Target(Request("pooled", None, True), self._spec(backbone))
            request = ExtractionRequest(samples, labels, backbone, [target], self._settings(backbone), store, count)
            [extraction] = extract_together(request)
            count.up_to(len(samples))
        self._width = int(extraction.features.shape[1])
        return extraction

    def feature_spec(self) -> FeatureSpec:
        """Everything but the text that determines a feature of this extractor: what a store keeps it under."""
        self._validate_params()
        source = self._checked_source()
        return self._spec(TowerBackbone(source) if isinstance(source, TextTower) else TextEncoderBackbone(source))

    def _spec(self, backbone: Backbone) -> FeatureSpec:
        return FeatureSpec(
            weights=backbone.weights_digest,
            architecture=backbone.architecture_digest,
            preprocessing=backbone.preprocessing_key,
            decoder=backbone.decoder,
            output=OUTPUT,
            layer=None,
            norm=True,
            precision=backbone.precision_key(self.precision, compiled=False),
            dtype=self.dtype,
        )

    def _settings(self, backbone: Backbone) -> Settings:
        return Settings(
            precision=backbone.resolve_precision(self.precision),
            batch_size=backbone.most_at_once(self.batch_size),
            compiled=False,
            n_jobs=min(effective_n_jobs(-1), MOST_JOBS),
            processes=False,
            skip=False,
            progress=self.verbose,
            rehash=False,
            background=SILVER,
        )

    def _learn(self) -> "FrozenTextExtractor":
        self._validate_params()
        self.weights_digest_ = self._digest_of(self._source())
        return self

    def _source(self) -> Any:
        """Give the tower, loaded once a process, or the custom encoder."""
        encoder = registered_encoder(self.model) if isinstance(self.model, str) else self.model
        if encoder is None:
            return load_text_tower(str(self.model), self.device)
        check_encoder(encoder)
        other = [name for name in ("device", "precision") if getattr(self, name) != "auto"]
        if other:
            raise EncoderError(
                f"{describe(encoder)} is a custom encoder, which decides by itself where and how it computes: leave "
                f"device and precision at their defaults. Got {', '.join(other)}."
            )
        return encoder

    def _checked_source(self) -> Any:
        source, fitted = self._source(), getattr(self, "weights_digest_", None)
        if fitted is not None and fitted != (found := self._digest_of(source)):
            raise WeightsChangedError(
                f"{describe(self.model)} has other weights (digest {found}) than this extractor was fitted with "
                f"(digest {fitted}), and what was made of its features would be wrong. Restore them, or fit again (so "
                "too if set_params changed the model)."
            )
        return source

    def _digest_of(self, source: Any) -> str:
        return source.weights_digest if isinstance(source, TextTower) else TextEncoderBackbone(source).weights_digest

    @property
    def _n_features_out(self) -> int:  # read by get_feature_names_out
        source = self._source()
        if isinstance(source, TextTower):
            return source.width
        if not hasattr(self, "_width"):
            raise ValueError("a custom encoder has feature names once transform has returned features (n, D).")
        return self._width

    def __sklearn_is_fitted__(self) -> bool:
        return True  # transform needs no fit

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = False
        tags.no_validation = True
        return tags
