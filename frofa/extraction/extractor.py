"""Images to frozen features, as a scikit-learn transformer."""

import inspect
import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions

from frofa.backbones.backbone import Backbone
from frofa.backbones.loading import ImageSize, load_backbone
from frofa.backbones.navit.backbone import native_backbone
from frofa.backbones.outputs import OUTPUTS
from frofa.backbones.precision import Sparsity
from frofa.backbones.wanted import Wanted, listed, requests_of, widths_of
from frofa.blocks import FeatureBlocks
from frofa.decoding.views import AREA, checked_area
from frofa.encoders.backbone import CustomBackbone
from frofa.encoders.protocol import Encoder
from frofa.encoders.sharing import SharesModel
from frofa.exceptions import WeightsChangedError
from frofa.extraction.joining import joined
from frofa.extraction.request import ExtractionRequest, checked_input, encoder_of, settings_of, targets_of
from frofa.extraction.run import Extraction, extract_together
from frofa.images.items import Images
from frofa.images.pixels.colour import parse_colour
from frofa.store import FeatureArray, FeatureStore
from frofa.utils.callbacks import CallbackSupportMixin, TaskCounter, fit_task, task_of, with_callbacks

AUTO_BATCH = 64
"""Images of a task that callbacks are told of, where ``batch_size="auto"`` finds their number later."""


class FrozenFeatureExtractor(
    CallbackSupportMixin, SharesModel, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Frozen features of a pretrained backbone.

    The model is loaded at first use, once a process, in eval mode; preprocessing is the checkpoint's own. `clone` and
    pickle carry the parameters, never the weights.

    Parameters
    ----------
    model : str or Encoder, default="frofa/vit_tiny_tin200"
        What computes features. A timm name (``"vit_base_patch16_siglip_224.webli"``), ``"hf-hub:OWNER/NAME"``,
        ``"local-dir:PATH"`` (a folder with ``config.json`` and ``model.safetensors``), ``"hf-dir:PATH"`` (a Hugging
        Face folder of SigLIP, SigLIP 2, CLIP or PaliGemma, whose vision tower is taken), or an embedded model, such as
        the default, which needs no download (``frofa models`` lists them). Or an encoder of your own, for images or
        anything else (`frofa.Encoder`), which decides by itself what it returns and where it computes: `output`,
        `layer`, `norm`, `image_size`, `device`, `precision` and `compile` stay at their defaults then, and it is called
        with up to `batch_size` items of equal shape, also on a CPU. `clone` shares it, and pickles hold it.
    output : {"tokens", "cls", "mean", "pooled", "projected", "auto"} or list, default="tokens"
        What is taken of the model: ``"tokens"``, all N patch tokens of C channels, without class and register tokens,
        shape (n, N, C); ``"cls"``, the class token, (n, C); ``"mean"``, the mean of the patch tokens, (n, C);
        ``"pooled"``, the model's own pooling (SigLIP's attention-pooling head where it has one), (n, C);
        ``"projected"``, the vector that an image-text model compares with texts, (n, D): of SigLIP ``"pooled"``, of
        CLIP its projection. A convolutional model's grid counts as tokens. A list takes several from one forward pass,
        as `FeatureBlocks`; ``("mean", 9)`` in it is that of layer 9, a block called ``"mean@9"``. ``"auto"`` is the
        vector that the pre-training loss was applied to, and the mean of the patch tokens, unless the former is such a
        mean already; ``frofa doctor MODEL`` says what it takes and why.
    layer : int, default=None
        Index of the transformer block whose output is taken, from 0, or from -1 for the last; None is the last. Of
        several outputs, it is that of all that have none of their own.
    norm : bool, default=True
        Apply the model's final normalisation, also to an earlier layer (the paper does not say; big_vision does).
    n_views : int, default=1
        Views of each image: itself, its mirror image, and from the third on random crops of it, always the same ones of
        the same image. Features are FeatureBlocks then. Each view takes a forward pass, and has its own place in the
        store; more of them add to those that are there.
    view_area : (float, float), default=(0.5, 1.0)
        Least and largest part of the image's area that a crop shows.
    mirror : bool, default=True
        Mirror the second view, and every other crop by chance; without, they are all crops as the image is, which
        suits pictures in which left and right have a meaning, such as letters.
    image_size : int or (int, int), default=None
        Side, or height and width, in pixels that images are resized to, with interpolated position embeddings; None is
        the checkpoint's own size.
    max_tokens : int, default=None
        Patches an image at most: each image keeps its aspect ratio, without a crop, resized to as many as fit, as
        timm's NaFlex models are evaluated; several go through the model in one sequence, and attend to themselves only
        (NaViT). More patches cost time, and usually gain accuracy. ``"tokens"`` are then `RaggedTokens`, each image
        with its own grid. It needs a `naflexvit_*` model or a plain `vit_*`, whose position embeddings are
        interpolated. None resizes all images to one `image_size`.
    enlarge : bool, default=True
        With `max_tokens`: enlarge smaller images up to the budget, as timm does; otherwise they keep their size,
        rounded up to whole patches, and cost less.
    background : str or (int, int, int), default="silver"
        The colour that shows where an image is transparent: a name, an HTML code (``"#808080"``), or red, green and
        blue from 0 to 255. The default is a light grey because drawings in black and in white can be seen on it: on
        white, a probe classifies drawings in white by chance alone (10% of 10 classes, 75% on silver), and those in
        black no better (76%, 78%). Take ``"white"`` where opaque images have white backgrounds too.
    batch_size : int or "auto", default=64
        Images that are decoded, moved and written together. On a GPU, it is also the images of a forward pass; on a
        CPU, passes are of 8 at most, which its caches hold. ``"auto"`` measures on a GPU what a pass takes, and chooses
        the largest power of two up to 256 that fits into half of the free memory; it is 64 on a CPU. Where memory runs
        out, passes are halved instead, with a warning; their features may then differ in their last bits.
    device : str, default="auto"
        Torch device of the model, such as ``"cuda:1"``; ``"auto"`` takes the GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16", "int8"}, default="auto"
        Number format of the forward pass: ``"auto"`` is float32 on a CPU, bfloat16 autocast on a GPU, where it is
        faster; in low precision, features differ slightly with the batch they are computed in. ``"int8"``, on a CPU,
        rounds weights and inputs of the linear layers in a vision transformer's blocks to 8 bits; the rest is float32.
    sparsity : "2:4" or float, default=None
        Which weights of these layers are set to zero, those of the smallest magnitude: ``"2:4"`` takes two of every
        four, a share between 0 and 1 that part of each layer; None leaves all. It costs accuracy, which ``frofa
        bench-backbone`` shows, and gives no speed: products are dense, since PyTorch's kernels for 2:4 weights run at
        0.4 to 0.6 times their speed on an H100 (``benchmarks/low_precision.py``).
    dtype : {"float32", "float16", "bfloat16", "float64"}, default="float32"
        Number format of stored and returned features; halves take half the space. NumPy gets bfloat16 as float32.
    n_jobs : int, default=None
        Threads or processes that decode images: None is one a core, 32 at most, and -1 is one a core. Decoding that is
        faster than the forward pass waits, so that more of them than needed cost little.
    decode : {"auto", "thread", "process"}, default="auto"
        Where images are decoded. ``"process"`` keeps up with a GPU, as Python's threads do not; it takes a moment to
        start and some 40 MB a process. ``"auto"`` takes processes for a GPU and 256 images or more. Images that are in
        memory already are always decoded in threads.
    compile : bool, default=False
        Compile the forward pass by `torch.compile`. It takes from some seconds to a minute once a process, which pays
        on a GPU from some ten thousand images on. Compiled features differ in their last bits, and the store keeps
        them apart.
    store : path or FeatureStore, default=None
        Directory that keeps features, so that no image is computed twice; None keeps nothing.
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
    >>> FrozenFeatureExtractor(output="auto").fit_transform(images)
    FeatureBlocks(2 images, 1 view, pooled: 192 channels, mean: 192 channels)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, callable],
        "output": [StrOptions({*OUTPUTS, "auto"}), list, tuple],
        "layer": [Integral, None],
        "norm": ["boolean"],
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "view_area": [tuple, list],
        "mirror": ["boolean"],
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "max_tokens": [Interval(Integral, 1, None, closed="left"), None],
        "enlarge": ["boolean"],
        "background": [str, tuple, list],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float16", "int8"})],
        "sparsity": [StrOptions({"2:4"}), Interval(Real, 0, 1, closed="neither"), None],
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
        output: Wanted = "tokens",
        layer: int | None = None,
        norm: bool = True,
        n_views: int = 1,
        view_area: tuple[float, float] = AREA,
        mirror: bool = True,
        image_size: ImageSize = None,
        max_tokens: int | None = None,
        enlarge: bool = True,
        background: str | tuple[int, int, int] = "silver",
        batch_size: int | Literal["auto"] = 64,
        device: str = "auto",
        precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto",
        sparsity: Sparsity = None,
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
        self.n_views = n_views
        self.view_area = view_area
        self.mirror = mirror
        self.image_size = image_size
        self.max_tokens = max_tokens
        self.enlarge = enlarge
        self.background = background
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.sparsity = sparsity
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.decode = decode
        self.compile = compile
        self.store = store
        self.rehash = rehash
        self.on_error = on_error
        self.verbose = verbose

    @with_callbacks
    def fit(self, X: Images = None, y: object = None) -> "FrozenFeatureExtractor":
        """Check the parameters, load the model and note its weights; nothing is learnt.

        Raises
        ------
        ModelNotFoundError
            If the weights are not to be had.
        ValueError
            If a parameter is wrong, or the model has no such layer or output.
        """
        with fit_task(self, X, y):
            return self._learn()

    def _learn(self) -> "FrozenFeatureExtractor":
        """Note the weights of the model, which is loaded."""
        self._validate_params()
        self.weights_digest_ = self._backbone(check_weights=False).weights_digest
        return self

    @with_callbacks
    def fit_transform(self, X: Images, y: object = None) -> Any:
        """Do what `fit` and then `transform` do; callbacks of scikit-learn are told of each batch of images."""
        with fit_task(self, X, y, name="fit-transform", n_tasks=1):
            return self._learn().transform(X)

    @with_callbacks
    def fit_extract(self, X: Images, y: Any = None) -> Extraction:
        """Do what `fit` and then `extract` do; callbacks of scikit-learn are told of each batch of images."""
        with fit_task(self, X, y, name="fit-extract", n_tasks=1):
            return self._learn().extract(X, y)

    def transform(self, X: Images) -> Any:
        """Extract features.

        Parameters
        ----------
        X : list or column of paths, list of PIL images, uint8 array (n, H, W, 3), or ImageSet
            Files and PIL images are turned upright by their EXIF orientation; every mode becomes RGB, by the rules of
            `frofa.images.to_rgb`. For a custom encoder: an array (n, ...), a list of arrays, or of paths where the
            encoder has a `load`.

        Returns
        -------
        ndarray of shape (n, N, C) or (n, C), RaggedTokens or FeatureBlocks
            Of `dtype`; ragged for ``output="tokens"`` with `max_tokens`; blocks for ``output="auto"``, a list of
            outputs, or several views, lazy ones with a store. With ``on_error="skip"``, without the rows of images that
            could not be read. As a data frame (`set_output`), blocks of vectors side by side.

        Raises
        ------
        ImageReadError
            If an image cannot be read and ``on_error="raise"``.
        """
        extraction = self.extract(X)
        features: Any = extraction.features
        if isinstance(features, FeatureBlocks):
            if self._container() == "default":
                return features
            features = np.asarray(features)
        if extraction.skipped and hasattr(X, "iloc") and self._container() == "pandas":
            import pandas as pd  # scikit-learn would give these rows the index of all of X

            return pd.DataFrame(np.asarray(features), index=X.index[extraction.kept])
        if features.ndim == 3:
            self._refuse_tokens_in_frames()
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
            array, or FeatureBlocks of these: memory does not grow with them until they are used.

        Examples
        --------
        >>> from frofa import FrozenFeatureExtractor, load_image_folder
        >>> paths, labels = load_image_folder("flowers/train")  # doctest: +SKIP
        >>> extraction = FrozenFeatureExtractor(on_error="skip").extract(paths, labels)  # doctest: +SKIP
        >>> head.fit(extraction.features, extraction.y)  # doctest: +SKIP
        """
        [extraction] = extract_all([self], X, y)
        if self._encoder() is not None:
            self._feature_shape = tuple(extraction.features.shape[1:])
        return extraction

    def feature_spec(self) -> Any:
        """Everything but the image that determines a feature of this extractor: what a store keeps it under.

        Returns
        -------
        FeatureSpec, or dict of str to list of FeatureSpec
            Where `transform` returns FeatureBlocks, by the name of each block, a spec for each of its views.
        """
        self._validate_params()
        targets = targets_of(self.get_params(deep=False), self._backbone())
        specs = {name: [target.spec for target in views] for name, views in targets.items()}
        return specs if self._gives_blocks() else next(iter(specs.values()))[0]

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Names of the columns of features (n, C), and of blocks of vectors side by side (``"mean_0"``, ...)."""
        if not self._gives_blocks():
            names: npt.NDArray[np.object_] = super().get_feature_names_out(input_features)
            return names
        widths = self._widths()
        return np.array([f"{name}_{channel}" for name, width in widths.items() for channel in range(width)], object)

    @property
    def _n_features_out(self) -> int:  # read by get_feature_names_out
        if self._encoder() is not None:
            if len(getattr(self, "_feature_shape", ())) == 1:
                return int(self._feature_shape[0])
            raise ValueError("a custom encoder has feature names once transform has returned features (n, C).")
        return sum(self._widths().values())

    def _gives_blocks(self) -> bool:
        """Whether features are FeatureBlocks: for all but one output of one view."""
        return not isinstance(self.output, str) or self.output == "auto" or self.n_views > 1

    def _widths(self) -> dict[str, int]:
        """Channels of each block of vectors; a ValueError says that there is none."""
        self._validate_params()
        backbone = self._backbone()
        widths = widths_of(backbone, requests_of(backbone, self.output, self.layer, bool(self.norm)))
        if not widths:
            raise ValueError(
                "output='tokens' has three dimensions and no feature names: choose 'cls', 'mean', 'pooled'."
            )
        return widths

    def _backbone(self, *, check_weights: bool = True) -> Backbone:
        size = tuple(self.image_size) if isinstance(self.image_size, list) else self.image_size
        # Combinations that no backbone takes come first, since loading one takes seconds.
        if self.max_tokens is not None and (self.sparsity is not None or self.precision == "int8"):
            raise ValueError(
                f"max_tokens takes sparsity=None and other precisions than 'int8'. Got sparsity={self.sparsity!r}, "
                f"precision={self.precision!r}."
            )
        if self.max_tokens is not None and size is not None:
            raise ValueError(
                f"image_size and max_tokens exclude each other. Got image_size={size!r}, max_tokens={self.max_tokens}."
            )
        encoder = self._encoder()
        backbone = (
            CustomBackbone(encoder) if encoder else load_backbone(str(self.model), size, self.device, self.sparsity)
        )
        if self.max_tokens is not None and encoder is None:
            backbone = native_backbone(backbone, int(self.max_tokens), bool(self.enlarge))
        requests_of(backbone, self.output, self.layer, bool(self.norm))  # refuses what the model does not have
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
        return encoder_of(self.get_params(deep=False), inspect.signature(type(self)))

    def _validate_params(self) -> None:
        super()._validate_params()
        listed(self.output)
        checked_area(self.view_area)
        parse_colour(self.background)

    def _container(self) -> str:
        own = getattr(self, "_sklearn_output_config", {}).get("transform")
        return str(own or get_config()["transform_output"])

    def _refuse_tokens_in_frames(self) -> None:
        container = self._container()
        if container != "default":
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


def extract_all(extractors: Sequence[FrozenFeatureExtractor], X: Images, y: Any) -> list[Extraction]:
    """Extract the features of several extractors, which differ in what they ask of one forward pass alone."""
    for extractor in extractors:
        extractor._validate_params()
        if extractor._encoder() is None and any(entry.output == "tokens" for entry in listed(extractor.output)):
            extractor._refuse_tokens_in_frames()
    # They share images, model and settings of the run, for which the first one speaks.
    first = extractors[0]
    items, labels = checked_input(X, y, first._encoder())
    backbone = first._backbone()
    wanted = [targets_of(extractor.get_params(deep=False), extractor._backbone()) for extractor in extractors]
    settings = settings_of(first.get_params(deep=False), backbone, len(items))
    store = FeatureStore(first.store) if isinstance(first.store, (str, os.PathLike)) else first.store
    # All outputs and views of all extractors are targets of one run; what it finds is dealt out in the same order.
    targets = [target for blocks in wanted for views in blocks.values() for target in views]
    n_rows = len(items) * len({target.view for target in targets})
    n_batches = -(-n_rows // (settings.batch_size if isinstance(settings.batch_size, int) else AUTO_BATCH))
    with task_of(first).part("extract-features", n_batches) as task:
        count = TaskCounter(task, "batch", n_batches, n_rows)
        found = iter(extract_together(ExtractionRequest(items, labels, backbone, targets, settings, store, count)))
        count.up_to(n_rows)  # what came from the store, or could not be read
    parts = [{name: [next(found) for _ in views] for name, views in blocks.items()} for blocks in wanted]
    return [
        joined(blocks) if extractor._gives_blocks() else next(iter(blocks.values()))[0]
        for extractor, blocks in zip(extractors, parts, strict=True)
    ]
