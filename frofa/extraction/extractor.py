"""Images to frozen features, as a scikit-learn transformer."""

import os
import warnings
from collections.abc import Sequence
from copy import copy
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions

from frofa.backbones.backbone import Backbone, ImageSize, Output, Request, config_json, load_backbone
from frofa.backbones.navit.backbone import native_backbone
from frofa.encoders.backbone import custom_backbone, encoder_of
from frofa.encoders.ready import Encoder
from frofa.encoders.samples import as_samples
from frofa.exceptions import ImageReadError, SkippedImagesWarning, WeightsChangedError
from frofa.extraction.run import Extraction, Run, Target
from frofa.extraction.settings import settings_of
from frofa.images.image_set import as_image_list
from frofa.images.items import Images
from frofa.images.pixels.colour import parse_colour
from frofa.store import FeatureArray, FeatureSpec, FeatureStore

Features = npt.NDArray[Any]


class FrozenFeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Frozen features of a pretrained backbone.

    The model is loaded at first use, once a process, in eval mode; preprocessing is the checkpoint's own. `clone` and
    pickle carry the parameters, never the weights.

    Parameters
    ----------
    model : str or Encoder, default="frofa/vit_tiny_tin200"
        A timm name (``"vit_base_patch16_siglip_224.webli"``), ``"hf-hub:OWNER/NAME"``, ``"local-dir:PATH"`` (a folder
        with ``config.json`` and ``model.safetensors``), ``"hf-dir:PATH"`` (a Hugging Face folder of SigLIP, SigLIP 2 or
        PaliGemma, whose vision tower is taken), or an embedded model (``frofa models`` lists them). Or an
        encoder of your own, for images or anything else: see `frofa.Encoder`. It decides by itself what it returns and
        where it computes, so that `output`, `layer`, `norm`, `image_size`, `device`, `precision` and `compile` stay at
        their defaults; it is called with up to `batch_size` items of equal shape, also on a CPU. `clone` shares it, and
        pickles hold it.
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
    max_tokens : int, default=None
        Patches an image: each is resized to as many as fit, keeping its aspect ratio, without a crop, as timm's NaFlex
        models are evaluated; several go through the model in one sequence, and attend to themselves only (NaViT). The
        budget trades accuracy for time. ``"tokens"`` are then `RaggedTokens`, each image with its own grid. It needs a
        `naflexvit_*` model or a plain `vit_*`, whose position embeddings are interpolated. None: `image_size`.
    enlarge : bool, default=True
        With `max_tokens`: enlarge images that are smaller than the budget to it, as timm does; otherwise they keep
        their size, rounded up to whole patches, and cost less.
    background : str or (int, int, int), default="silver"
        The colour that shows where an image is transparent: a name, an HTML code (``"#808080"``), or red, green and
        blue from 0 to 255. The default is a light grey because drawings in black and in white can be seen on it: on
        white, a probe classifies drawings in white by chance alone (10% of 10 classes, 75% on silver), and those in
        black no better (76%, 78%). Take ``"white"`` where opaque images have white backgrounds too.
    batch_size : int or "auto", default=64
        Images that are decoded, moved and written together, and on a GPU those of a forward pass; on a CPU, passes are
        of 8 at most, which its caches hold. ``"auto"`` measures on a GPU what a pass takes, and chooses the largest
        power of two up to 256 that fits into half of the free memory; it is 64 on a CPU. Where memory runs out, passes
        are halved instead, with a warning; their features may then differ in their last bits.
    device : str, default="auto"
        ``"auto"`` takes the GPU where there is one; or a torch device.
    precision : {"auto", "float32", "bfloat16", "float16", "int8"}, default="auto"
        Of the forward pass: ``"auto"`` is float32 on a CPU, bfloat16 autocast on a GPU. In low precision, features
        differ slightly with the batch they are computed in. ``"int8"``, on a CPU, rounds weights and inputs of the
        linear layers in a vision transformer's blocks to 8 bits; the rest is in float32.
    weights : {"dense", "2:4"}, default="dense"
        ``"2:4"`` sets the two smallest of every four weights in these layers to zero. It shows what such sparsity costs
        in accuracy (``frofa bench-backbone``), and is no faster: PyTorch's kernels for such weights run at 0.4 to 0.6
        times the speed of dense ones on an H100, and are not used.
    dtype : {"float32", "float16", "bfloat16", "float64"}, default="float32"
        Of what is stored and returned; NumPy, which has no bfloat16, gets that as float32.
    n_jobs : int, default=None
        Threads or processes that decode images. None is one a core, 32 at most, and -1 is one a core; decoding that is
        faster than the forward pass waits, so more of them than needed cost little.
    decode : {"auto", "thread", "process"}, default="auto"
        Where images are decoded. ``"process"`` keeps up with a GPU, as Python's threads do not; it takes a moment to
        start and some 40 MB a process. ``"auto"`` takes processes for a GPU and 256 images or more. Images that are in
        memory already are always decoded in threads.
    compile : bool, default=False
        Compile the forward pass by `torch.compile`. Compiling takes from some seconds to a minute once a process, which
        pays on a GPU from some ten thousand images on. Compiled features differ in their last bits, and the store keeps
        them apart.
    store : path or FeatureStore, default=None
        Keep features there, and take from there what is there already.
    rehash : bool, default=False
        With a store: read every file again. Otherwise a file that was read before counts as the same if its path,
        device, inode, size and times are, and its first, middle and last block; a change in the middle of a large file
        through a memory map that was open before leaves all of these as they are.
    on_error : {"raise", "skip"}, default="raise"
        What to do about an image that cannot be read: raise an `ImageReadError` that names it, or leave it out with a
        `SkippedImagesWarning`. To drop the labels of those left out, use `extract`.
    verbose : bool, default=False
        Show a progress bar: images a second and the time left, and how many came from the store, repeat others or
        were skipped. Where standard error is neither a terminal nor a notebook's, it is a line now and then.

    Attributes
    ----------
    weights_digest_ : str
        Digest of the weights that `fit` met; other weights under the same name are refused afterwards.

    Notes
    -----
    A process that was forked after PyTorch has used several threads hangs when it uses them, too, a limit of PyTorch's:
    start processes by ``spawn``, or call ``torch.set_num_threads(1)`` in the child first.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa import FrozenFeatureExtractor
    >>> images = np.zeros((2, 48, 48, 3), np.uint8)
    >>> FrozenFeatureExtractor(output="tokens").fit_transform(images).shape
    (2, 64, 192)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, callable],
        "output": [StrOptions({"tokens", "cls", "mean", "pooled"})],
        "layer": [Integral, None],
        "norm": ["boolean"],
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "max_tokens": [Interval(Integral, 1, None, closed="left"), None],
        "enlarge": ["boolean"],
        "background": [str, tuple, list],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float16", "int8"})],
        "weights": [StrOptions({"dense", "2:4"})],
        "dtype": [StrOptions({"float32", "float16", "bfloat16", "float64"})],
        "n_jobs": [Integral, None],
        "decode": [StrOptions({"auto", "thread", "process"})],
        "compile": ["boolean"],
        "store": [str, os.PathLike, FeatureStore, None],
        "rehash": ["boolean"],
        "on_error": [StrOptions({"raise", "skip"})],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        model: str | Encoder = "frofa/vit_tiny_tin200",
        *,
        output: Output = "tokens",
        layer: int | None = None,
        norm: bool = True,
        image_size: ImageSize = None,
        max_tokens: int | None = None,
        enlarge: bool = True,
        background: str | tuple[int, int, int] = "silver",
        batch_size: int | Literal["auto"] = 64,
        device: str = "auto",
        precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto",
        weights: Literal["dense", "2:4"] = "dense",
        dtype: Literal["float32", "float16", "bfloat16", "float64"] = "float32",
        n_jobs: int | None = None,
        decode: Literal["auto", "thread", "process"] = "auto",
        compile: bool = False,  # noqa: A002 (the name that PyTorch and its users have for it)
        store: str | os.PathLike[str] | FeatureStore | None = None,
        rehash: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        verbose: bool = False,
    ):
        self.model = model
        self.output = output
        self.layer = layer
        self.norm = norm
        self.image_size = image_size
        self.max_tokens = max_tokens
        self.enlarge = enlarge
        self.background = background
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.weights = weights
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.decode = decode
        self.compile = compile
        self.store = store
        self.rehash = rehash
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
        X : list or column of paths, list of PIL images, uint8 array (n, H, W, 3), or ImageSet
            Files and PIL images are turned upright by their EXIF orientation; every mode becomes RGB, by the rules of
            `frofa.images.to_rgb`. For a custom encoder: an array (n, ...), a list of arrays, or of paths where the
            encoder has a `load`.

        Returns
        -------
        ndarray of shape (n, N, C) or (n, C), or RaggedTokens
            Of `dtype`; ragged for ``output="tokens"`` with `max_tokens`. With ``on_error="skip"``, without the rows of
            images that could not be read.

        Raises
        ------
        ImageReadError
            If an image cannot be read and ``on_error="raise"``.
        """
        extraction = self.extract(X)
        if extraction.skipped and hasattr(X, "iloc") and self._container() == "pandas":
            import pandas as pd  # scikit-learn would give these rows the index of all of X

            frame: Features = pd.DataFrame(np.asarray(extraction.features), index=X.index[extraction.kept])
            return frame
        features = extraction.features
        if features.ndim == 3:
            self._refuse_tokens_in_frames(tokens=True)
        # What a map shows cannot be written to, which those who transform in place would do.
        return np.array(features) if isinstance(features, FeatureArray) else features

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
            Features, labels, the kept positions, and what was skipped and why. With a store, the features are a lazy
            array: memory does not grow with them until they are used.

        Examples
        --------
        >>> from frofa import FrozenFeatureExtractor, load_image_folder
        >>> paths, labels = load_image_folder("flowers/train")  # doctest: +SKIP
        >>> extraction = FrozenFeatureExtractor(on_error="skip").extract(paths, labels)  # doctest: +SKIP
        >>> head.fit(extraction.features, extraction.y)  # doctest: +SKIP
        """
        [extraction] = extract_together([self], X, y)
        if self._encoder() is not None:
            self._feature_shape = tuple(extraction.features.shape[1:])
        return extraction

    def feature_spec(self) -> FeatureSpec:
        """Everything but the image that determines a feature of this extractor: what a store keeps it under."""
        self._validate_params()
        return self._target(self._backbone()).spec

    @property
    def _n_features_out(self) -> int:  # read by get_feature_names_out
        if self._encoder() is not None:
            if len(getattr(self, "_feature_shape", ())) == 1:
                return int(self._feature_shape[0])
            raise ValueError("a custom encoder has feature names once transform has returned features (n, C).")
        if self.output == "tokens":
            raise ValueError(
                "output='tokens' has three dimensions and no feature names: choose 'cls', 'mean', 'pooled'."
            )
        return self._backbone().width(self.output)

    def _backbone(self, *, check_weights: bool = True) -> Backbone:
        size = tuple(self.image_size) if isinstance(self.image_size, list) else self.image_size
        if self.max_tokens is not None and (self.weights != "dense" or self.precision == "int8"):
            raise ValueError(
                f"max_tokens takes weights='dense' and other precisions than 'int8'. Got weights={self.weights!r}, "
                f"precision={self.precision!r}."
            )
        if self.max_tokens is not None and size is not None:
            raise ValueError(
                f"image_size and max_tokens exclude each other. Got image_size={size!r}, max_tokens={self.max_tokens}."
            )
        encoder = self._encoder()
        backbone = (
            custom_backbone(encoder) if encoder else load_backbone(str(self.model), size, self.device, self.weights)
        )
        if self.max_tokens is not None and encoder is None:
            backbone = native_backbone(backbone, int(self.max_tokens), bool(self.enlarge))
        backbone.resolve_layer(self.output, self.layer, self.norm)
        backbone.precision_key(self.precision, compiled=self.compile)  # refuses what the model cannot run in
        fitted = getattr(self, "weights_digest_", None)
        if check_weights and fitted is not None and fitted != backbone.weights_digest:
            raise WeightsChangedError(
                f"{backbone.name} has other weights (digest {backbone.weights_digest}) than this extractor was fitted "
                f"with (digest {fitted}), and heads trained on its features would be wrong. Restore them, or fit "
                "again (so too if set_params changed the model)."
            )
        return backbone

    def _encoder(self) -> Encoder | None:
        return encoder_of(self)

    def _target(self, backbone: Backbone) -> Target:
        layer = backbone.resolve_layer(self.output, self.layer, self.norm)
        spec = FeatureSpec(
            weights=backbone.weights_digest,
            architecture=backbone.architecture_digest,
            preprocessing=config_json(backbone),
            decoder=self._decoder(backbone),
            output=self.output,
            layer=layer,
            norm=bool(self.norm),
            precision=backbone.precision_key(self.precision, compiled=self.compile),
            dtype=self.dtype,
        )
        return Target(Request(self.output, layer, bool(self.norm)), spec)

    def _decoder(self, backbone: Backbone) -> str:
        """What decodes images, and how, for a store's key."""
        if backbone.is_custom:
            return backbone.decoder
        red, green, blue = parse_colour(self.background)
        return f"{backbone.decoder}, on #{red:02x}{green:02x}{blue:02x}"

    def _validate_params(self) -> None:
        super()._validate_params()
        parse_colour(self.background)

    def _container(self) -> str:
        own = getattr(self, "_sklearn_output_config", {}).get("transform")
        return str(own or get_config()["transform_output"])

    def _refuse_tokens_in_frames(self, *, tokens: bool) -> None:
        container = self._container()
        if tokens and container != "default":
            raise ValueError(
                f"output='tokens' has three dimensions, which set_output(transform={container!r}) cannot hold: choose "
                "output 'cls', 'mean' or 'pooled', or set_output(transform='default')."
            )

    def __sklearn_clone__(self) -> "FrozenFeatureExtractor":
        if isinstance(self.model, str) or hasattr(self.model, "get_params"):
            return super().__sklearn_clone__()  # type: ignore[no-any-return]
        rest = copy(self)
        rest.model = ""
        cloned: FrozenFeatureExtractor = super(FrozenFeatureExtractor, rest).__sklearn_clone__()
        cloned.model = self.model  # an encoder does not change, and may be large
        return cloned

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


def extract_together(extractors: Sequence[FrozenFeatureExtractor], X: Images, y: Any) -> list[Extraction]:
    """Extract the features of several extractors, which differ in what they ask of one forward pass alone."""
    for extractor in extractors:
        extractor._validate_params()
        tokens = extractor.output == "tokens" and extractor._encoder() is None
        extractor._refuse_tokens_in_frames(tokens=tokens)
    first = extractors[0]
    encoder = first._encoder()
    items = as_image_list(X) if encoder is None else as_samples(X, getattr(encoder, "load", None))
    labels = None if y is None else np.asarray(y)
    noun = "image" if encoder is None else "item"
    if labels is not None and labels.shape != (len(items),):
        raise ValueError(f"expected one label an {noun}. Got {len(items)} {noun}s, and labels of shape {labels.shape}.")
    if not items:
        raise ValueError(f"expected at least one {noun}. Got none.")
    backbone = first._backbone()
    targets = [extractor._target(extractor._backbone()) for extractor in extractors]
    run = Run(items, backbone, targets, settings_of(first, backbone, len(items)))
    features: Sequence[Any]
    if first.store is None:
        features, kept = run.without_store()
    else:
        store = first.store if isinstance(first.store, FeatureStore) else FeatureStore(first.store)
        features, kept = run.with_store(store)
    skipped = [run.skipped[position] for position in sorted(run.skipped)]
    if skipped:
        _warn(skipped, f"{len(items)} {noun}s", with_labels=y is not None)
    kept_labels = None if labels is None else labels[kept]
    return [
        Extraction(values, kept_labels, kept, skipped, computed, stored, run.n_duplicates, len(rows), run.keys)
        for values, computed, stored, rows in zip(features, run.n_computed, run.n_from_store, run.not_kept, strict=True)
    ]


def _warn(skipped: Sequence[ImageReadError], of: str, *, with_labels: bool) -> None:
    listed = "; ".join(f"{e.name} (position {e.position}): {e.reason}" for e in skipped[:5])
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    hint = "" if with_labels else ". To drop their labels too, use extract(X, y)"
    warnings.warn(f"skipped {len(skipped)} of {of}: {listed}{more}{hint}", SkippedImagesWarning, stacklevel=4)
