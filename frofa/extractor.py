"""Images to frozen features, as a scikit-learn transformer."""

import os
import warnings
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
from joblib import effective_n_jobs
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions

from frofa._extraction import Extraction, Features, Run
from frofa.backbone import Backbone, ImageSize, Output, config_json, load_backbone
from frofa.exceptions import SkippedImagesWarning, WeightsChangedError
from frofa.images import DECODER, Images, as_image_list
from frofa.store import FeatureSpec, FeatureStore


class FrozenFeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Frozen features of a pretrained backbone.

    The model is loaded at first use, once a process, in eval mode; preprocessing is the checkpoint's own. `clone` and
    pickle carry the parameters, never the weights.

    Parameters
    ----------
    model : str, default="frofa/vit_tiny_tin200"
        A timm name (``"vit_base_patch16_siglip_224.webli"``), ``"hf-hub:OWNER/NAME"``, ``"local-dir:PATH"`` (a folder
        with ``config.json`` and ``model.safetensors``), or an embedded model (``frofa models`` lists them).
    output : {"tokens", "cls", "mean", "pooled"}, default="tokens"
        ``"tokens"``: all patch tokens, shape (n, N, C), without class and register tokens. ``"cls"``: the class token,
        (n, C). ``"mean"``: the mean of the patch tokens, (n, C). ``"pooled"``: the model's own pooling (SigLIP's
        attention-pooling head where it has one), (n, C). A convolutional model's grid counts as tokens.
    layer : int, default=None
        Index of the transformer block whose output is taken, from 0, or from -1 for the last; None is the last.
    norm : bool, default=True
        Whether the model's final normalisation is applied (the paper does not say; big_vision does).
    image_size : int or (int, int), default=None
        Height and width in pixels, with interpolated position embeddings; None for the checkpoint's own.
    batch_size : int, default=64
        Images a forward pass.
    device : str, default="auto"
        ``"auto"`` takes the GPU where there is one; or a torch device.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the forward pass: ``"auto"`` is float32 on a CPU, bfloat16 autocast on a GPU. In low precision, features
        differ slightly with the batch they are computed in.
    dtype : {"float32", "float16", "float64"}, default="float32"
        Of what is stored and returned.
    n_jobs : int, default=None
        Threads that decode images; None is 1, -1 is one a core.
    store : path or FeatureStore, default=None
        Keep features there, and take from there what is there already.
    on_error : {"raise", "skip"}, default="raise"
        What to do about an image that cannot be read: raise an `ImageReadError` that names it, or leave it out with a
        `SkippedImagesWarning`. To drop the labels of those left out, use `extract`.
    verbose : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    weights_digest_ : str
        Digest of the weights that `fit` met; other weights under the same name are refused afterwards.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import FrozenFeatureExtractor
    >>> images = np.zeros((2, 48, 48, 3), np.uint8)
    >>> FrozenFeatureExtractor(output="tokens").fit_transform(images).shape
    (2, 64, 192)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str],
        "output": [StrOptions({"tokens", "cls", "mean", "pooled"})],
        "layer": [Integral, None],
        "norm": ["boolean"],
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "dtype": [StrOptions({"float32", "float16", "float64"})],
        "n_jobs": [Integral, None],
        "store": [str, os.PathLike, FeatureStore, None],
        "on_error": [StrOptions({"raise", "skip"})],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        model: str = "frofa/vit_tiny_tin200",
        *,
        output: Output = "tokens",
        layer: int | None = None,
        norm: bool = True,
        image_size: ImageSize = None,
        batch_size: int = 64,
        device: str = "auto",
        precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        dtype: Literal["float32", "float16", "float64"] = "float32",
        n_jobs: int | None = None,
        store: str | os.PathLike[str] | FeatureStore | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        verbose: bool = False,
    ):
        self.model = model
        self.output = output
        self.layer = layer
        self.norm = norm
        self.image_size = image_size
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.store = store
        self.on_error = on_error
        self.verbose = verbose

    def fit(self, X: Images = None, y: object = None) -> "FrozenFeatureExtractor":  # noqa: ARG002 (the contract's)
        """Check the parameters, load the model and note its weights; nothing is learnt.

        Raises
        ------
        ModelNotFoundError
            If the weights are not to be had.
        ValueError
            If a parameter is wrong, or the model has no such layer or output.
        """
        self._validate_params()
        self.weights_digest_ = self._backbone(check_weights=False).weights_digest
        return self

    def transform(self, X: Images) -> Features:
        """Extract features.

        Parameters
        ----------
        X : list or pandas column of paths, list of PIL images, or uint8 array (n, H, W, 3)
            Files are turned upright by their EXIF orientation; every colour mode becomes RGB.

        Returns
        -------
        ndarray of shape (n, N, C) or (n, C)
            Of `dtype`. With ``on_error="skip"``, without the rows of images that could not be read.

        Raises
        ------
        ImageReadError
            If an image cannot be read and ``on_error="raise"``.
        """
        extraction = self.extract(X)
        if extraction.skipped and hasattr(X, "iloc") and self._container() == "pandas":
            import pandas as pd  # scikit-learn would give these rows the index of all of X

            frame: Features = pd.DataFrame(extraction.features, index=X.index[extraction.kept])
            return frame
        return extraction.features

    def extract(self, X: Images, y: Any = None) -> Extraction:
        """Extract features, and keep labels aligned with them.

        Parameters
        ----------
        X : images
            As in `transform`.
        y : array-like of shape (n,), default=None
            Labels; those of skipped images are dropped.

        Returns
        -------
        Extraction
            Features, labels, the kept positions, and what was skipped and why.

        Examples
        --------
        >>> from frofa import FrozenFeatureExtractor, load_image_folder
        >>> paths, labels = load_image_folder("flowers/train")  # doctest: +SKIP
        >>> extraction = FrozenFeatureExtractor(on_error="skip").extract(paths, labels)  # doctest: +SKIP
        >>> head.fit(extraction.features, extraction.y)  # doctest: +SKIP
        """
        self._validate_params()
        self._refuse_tokens_in_frames()
        items = as_image_list(X)
        labels = None if y is None else np.asarray(y)
        if labels is not None and labels.shape != (len(items),):
            raise ValueError(
                f"expected one label an image. Got {len(items)} images, and labels of shape {labels.shape}."
            )
        if not items:
            raise ValueError("expected at least one image. Got none.")
        backbone = self._backbone()
        spec = self._spec(backbone)
        run = Run(
            items,
            preprocess=backbone.preprocess,
            forward=lambda pixels: backbone.extract(pixels, self.output, spec.layer, self.norm, spec.precision),
            batch_size=self.batch_size,
            n_threads=effective_n_jobs(self.n_jobs),
            dtype=self.dtype,
            skip=self.on_error == "skip",
            progress=self.verbose,
        )
        if self.store is None:
            features, kept = run.without_store()
        else:
            store = self.store if isinstance(self.store, FeatureStore) else FeatureStore(self.store)
            features, kept = run.with_store(store, spec)
        skipped = [run.skipped[position] for position in sorted(run.skipped)]
        if skipped:
            listed = "; ".join(f"{e.name} (position {e.position}): {e.reason}" for e in skipped[:5])
            more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
            hint = ". To drop their labels too, use extract(X, y)" if y is None else ""
            warnings.warn(
                f"skipped {len(skipped)} of {len(items)} images: {listed}{more}{hint}",
                SkippedImagesWarning,
                stacklevel=2,
            )
        return Extraction(features, None if labels is None else labels[kept], kept, skipped, run.n_computed)

    @property
    def _n_features_out(self) -> int:  # read by get_feature_names_out
        if self.output == "tokens":
            raise ValueError(
                "output='tokens' has three dimensions and no feature names: choose 'cls', 'mean', 'pooled'."
            )
        return self._backbone().width(self.output)

    def _backbone(self, *, check_weights: bool = True) -> Backbone:
        size = tuple(self.image_size) if isinstance(self.image_size, list) else self.image_size
        backbone = load_backbone(self.model, size, self.device)
        backbone.resolve_layer(self.output, self.layer, self.norm)
        fitted = getattr(self, "weights_digest_", None)
        if check_weights and fitted is not None and fitted != backbone.weights_digest:
            raise WeightsChangedError(
                f"{self.model} has other weights (digest {backbone.weights_digest}) than this extractor was fitted "
                f"with (digest {fitted}), and heads trained on its features would be wrong. Restore them, or fit "
                "again (so too if set_params changed the model)."
            )
        return backbone

    def _spec(self, backbone: Backbone) -> FeatureSpec:
        auto = "bfloat16" if backbone.device.type == "cuda" else "float32"
        return FeatureSpec(
            weights=backbone.weights_digest,
            architecture=backbone.architecture_digest,
            preprocessing=config_json(backbone),
            decoder=DECODER,
            output=self.output,
            layer=backbone.resolve_layer(self.output, self.layer, self.norm),
            norm=bool(self.norm),
            precision=auto if self.precision == "auto" else self.precision,
            dtype=self.dtype,
        )

    def _container(self) -> str:
        own = getattr(self, "_sklearn_output_config", {}).get("transform")
        return str(own or get_config()["transform_output"])

    def _refuse_tokens_in_frames(self) -> None:
        container = self._container()
        if self.output == "tokens" and container != "default":
            raise ValueError(
                f"output='tokens' has three dimensions, which set_output(transform={container!r}) cannot hold: choose "
                "output 'cls', 'mean' or 'pooled', or set_output(transform='default')."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return True  # transform needs no fit

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        tags.no_validation = True
        return tags
