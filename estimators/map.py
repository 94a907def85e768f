"""The attention-pooling (MAP) head with frozen-feature augmentation."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from torch import Tensor

from frofa.augmentations import Augmentation, Brightness
from frofa.compute.devices import resolve_device
from frofa.estimators.batched.engine import Trained, fit_plans
from frofa.estimators.batched.token_jobs import fit_map_jobs
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.support import Array, Support
from frofa.estimators.models.map_head import map_logits
from frofa.estimators.models.map_start import HeadSource, resolve_start
from frofa.estimators.tokens.lazy import batch_on, tokens_on
from frofa.estimators.tokens.padding import PaddedTokens, refuse_prefix
from frofa.estimators.training.parameters import Params
from frofa.estimators.training.schedule import Schedule
from frofa.estimators.training.streams import HeadPlan, Part, Rows
from frofa.ragged import RaggedTokens
from frofa.utils.progress import progress_bar

if TYPE_CHECKING:
    from frofa.estimators.batched.jobs import Job

PREDICT_BATCH = 1024
AUTO = Brightness(0.3, "c2")
MAX_CHANNELS = 8192
"""Of a token: a head of so many has 872 million weights."""


class MAPClassifier(FeatureClassifier):
    """Multi-head attention pooling and a linear classifier, trained on frozen tokens.

    The head of the FroFA paper: a learned query attends to the tokens, an MLP with a residual follows, then a linear
    layer. Each training step draws fresh augmentations; what is validated or predicted is never augmented. Training is
    SGD with momentum, warm-up, a cosine schedule and gradient clipping (the paper does not state its optimiser; this is
    the house style of its group).

    Parameters
    ----------
    augment : Augmentation, "auto" or None, default="auto"
        Of `frofa.augmentations`, reachable in a search as ``augment`` and ``augment__level``. ``"auto"`` is
        ``Brightness(level=0.3, variant="c2")``, chosen on held-out training images of several sets and two backbones
        (``docs/results/README.md``). It does not change features of a single token. None is no augmentation.
    lr : float, default=0.03
        Peak learning rate.
    n_steps : int, default=300
        Training steps. More, at the same learning rate, is not better: once the loss without augmentation is zero, the
        head goes on to recognise single samples by sharper attention, which brightness does not disturb.
    batch_size : int, default=64
        Samples a step; with no more samples than that, every step sees them all.
    weight_decay : float, default=0.02
        Of the kernels: biases, the query and the LayerNorm are not decayed.
    momentum : float, default=0.9
    warmup_fraction : float, default=0.1
        Part of the steps over which the learning rate rises linearly.
    schedule : {"cosine", "constant"}, default="cosine"
        Of the learning rate after the warm-up.
    clip_norm : float, default=1.0
        Largest norm of the gradient; None does not clip.
    num_heads : int, default=None
        Attention heads, a divisor of the channels; None is one for each 64 channels.
    mlp_ratio : float, default=4.0
        Width of the MLP in units of the channels.
    init : "random" or PretrainedHead, default="random"
        Where training starts: at fresh weights; or at a backbone's own pooling head,
        ``frofa.PretrainedHead("vit_base_patch16_siglip_224.webli")``, on the tokens of that backbone. The head then has
        the backbone's attention heads and MLP; `num_heads` must agree or be None, and `mlp_ratio` has no effect. The
        classifier starts at zero in either case.
    n_tokens : int, default=None
        For 2-D input: into how many tokens each row (n_tokens * C values, token by token) is cut; None is one. Images
        that are predicted may have more or fewer tokens than those of the training data.
    n_prefix : int, default=0
        Class and register tokens, which come first: the head sees them, and augmentation leaves them as they are.
    grid : (int, int), default=None
        Height and width of the grid that the other tokens lie on, row by row; None takes it to be a square.
        `RaggedTokens` have the grid of each image, and no tokens before it.
    validation_fraction : float, default=None
        Part of the training data, stratified, that is held out for early stopping: the weights of the best of about 50
        evaluations are kept (accuracy, then cross-entropy). None trains on everything, to the end.
    patience : int, default=10
        Evaluations without improvement after which training stops.
    n_views : int, default=0
        Augmented views that predictions average over, besides the features as they are. 0 is prediction without
        augmentation, as in the paper. A view is drawn once and is the same for all images, so that a prediction does
        not depend on the others: a few views of an augmentation that shifts channels, such as brightness, lean all
        predictions to the same classes. Take many of those, or patch dropout and crops, of which a few do.
    class_weight : dict or "balanced", default=None
        As in scikit-learn.
    device : str, default="auto"
        ``"auto"`` takes the GPU where there is one; or a torch device. Fitted weights are kept on the CPU.
    random_state : int, RandomState or None, default=None
        Of initial weights, batches, augmentation and the validation split.
    verbose : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    augment_ : Augmentation or None
        What `augment` stands for.
    weights_ : dict of str to ndarray of float32
        Trained weights, named as in timm's `AttentionPoolLatent`, with ``head.weight`` and ``head.bias``.
    num_heads_ : int
    n_iter_ : int
        Step at which the kept weights were reached.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
        Channels of a token; columns of 2-D input.

    Notes
    -----
    A process that was forked after PyTorch has used several threads hangs when it uses them, too, a limit of PyTorch's:
    start processes by ``spawn``, or call ``torch.set_num_threads(1)`` in the child first.

    References
    ----------
    big_vision, ``models/vit.py: MAPHead``; Bär et al., CVPR 2024, sections 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.augmentations import Brightness
    >>> from frofa.estimators import MAPClassifier
    >>> rng = np.random.default_rng(0)
    >>> tokens = rng.normal(size=(20, 16, 64)) + np.repeat([0, 1], 10)[:, None, None]
    >>> head = MAPClassifier(augment=Brightness(0.3), n_steps=50, random_state=0)
    >>> head.fit(tokens, np.repeat(["cat", "dog"], 10)).predict(tokens[[0, 19]]).tolist()
    ['cat', 'dog']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "augment": [Augmentation, StrOptions({"auto"}), None],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "warmup_fraction": [Interval(Real, 0, 1, closed="left")],
        "schedule": [StrOptions({"cosine", "constant"})],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "num_heads": [Interval(Integral, 1, None, closed="left"), None],
        "mlp_ratio": [Interval(Real, 0, None, closed="neither")],
        "init": [StrOptions({"random"}), HasMethods("load")],
        "n_tokens": [Interval(Integral, 1, None, closed="left"), None],
        "n_prefix": [Interval(Integral, 0, None, closed="left")],
        "grid": [tuple, list, None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "n_views": [Interval(Integral, 0, None, closed="left")],
        "class_weight": [dict, str, None],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["boolean"],
    }
    _dtype = np.float32

    def __init__(
        self,
        augment: Augmentation | Literal["auto"] | None = "auto",
        *,
        lr: float = 0.03,
        n_steps: int = 300,
        batch_size: int = 64,
        weight_decay: float = 0.02,
        momentum: float = 0.9,
        warmup_fraction: float = 0.1,
        schedule: Literal["cosine", "constant"] = "cosine",
        clip_norm: float | None = 1.0,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        init: "Literal['random'] | HeadSource" = "random",
        n_tokens: int | None = None,
        n_prefix: int = 0,
        grid: tuple[int, int] | None = None,
        validation_fraction: float | None = None,
        patience: int = 10,
        n_views: int = 0,
        class_weight: dict[Any, float] | str | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ):
        self.augment = augment
        self.lr = lr
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.warmup_fraction = warmup_fraction
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.init = init
        self.n_tokens = n_tokens
        self.n_prefix = n_prefix
        self.grid = grid
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.n_views = n_views
        self.class_weight = class_weight
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self) -> None:
        if self._given("init") == "pretrained":
            raise ValueError("init='pretrained' does not say whose head it is: init=frofa.PretrainedHead('NAME') does.")
        super()._check_parameters()

    def _fit(self, support: Support) -> None:
        device = resolve_device(self.device)
        tokens = tokens_on(support.features, device)
        plan = self._plan(np.arange(len(tokens)), support.codes, support.weights, tokens.shape[2])
        with progress_bar(total=self.n_steps, unit="step", desc="train", leave=False, shown=self.verbose) as bar:
            [outcome] = fit_plans(tokens, [plan], on_step=bar.update)
        if isinstance(outcome, Exception):
            raise outcome
        self._take(plan, outcome)

    @classmethod
    def _fit_many(
        cls, X: Any, y: Any, jobs: "Sequence[Job]", sample_weight: Any, on_done: Callable[[int], object]
    ) -> list[FeatureClassifier | Exception]:
        """Fit the heads of all jobs at once, as `fit_many` asks."""
        return fit_map_jobs(X, y, jobs, sample_weight, on_done)

    def _take(self, plan: HeadPlan, trained: Trained) -> "MAPClassifier":
        """Become a trained head."""
        self.augment_, self.num_heads_ = plan.augment, plan.num_heads
        self.weights_, self.n_iter_ = trained
        return self

    def _plan(self, rows: Rows, codes: Rows, weights: Array, channels: int) -> HeadPlan:
        """Draw all that training depends on.

        Parameters
        ----------
        rows : ndarray of int, shape (n,)
            Of the tokens.
        codes : ndarray of int, shape (n,)
        weights : ndarray of float64, shape (n,)
            Samples without weight are left out.
        channels : int
        """
        start = resolve_start(self._given("init", "random"), channels, self._given("num_heads"), self.mlp_ratio)
        random_state = check_random_state(self.random_state)
        first, second, third = (int(seed) for seed in random_state.randint(2**31 - 1, size=3))
        used, held_out = np.flatnonzero(weights), None
        if self.validation_fraction is not None:
            used, held_out = train_test_split(
                used, test_size=self.validation_fraction, stratify=codes[used], random_state=random_state
            )

        def part(chosen: Rows) -> Part:
            relative = weights[chosen] / weights[chosen].mean()
            return Part(rows[chosen], codes[chosen], relative.astype(np.float32))

        return HeadPlan(
            part(used),
            len(self.classes_),
            (first, second, third),
            self._schedule(),
            self._augmentation(),
            start.num_heads,
            start.mlp_ratio,
            validation=None if held_out is None else part(held_out),
            n_prefix=self.n_prefix,
            grid=self.grid,
            patience=self.patience,
            initial=start.initial,
        )

    def _augmentation(self) -> Augmentation | None:
        """The augmentation, ``"auto"`` resolved."""
        return AUTO if isinstance(self.augment, str) else self.augment

    def _default_of(self, augment: Any) -> Any:
        return clone(AUTO) if isinstance(augment, str) and augment == "auto" else augment

    def _schedule(self) -> Schedule:
        return Schedule(
            lr=self.lr,
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            warmup_steps=int(self.warmup_fraction * self.n_steps),
            schedule=self.schedule,
            clip_norm=self.clip_norm,
        )

    def _prepare(self, features: Array) -> Array:
        """Tokens are what the head works on."""
        return features

    def _tokens(self, features: Array) -> Array:
        """Cut rows into tokens."""
        if isinstance(features, RaggedTokens):
            refuse_prefix(self.n_prefix, self.grid)
        if features.ndim == 3:
            return features
        if self.n_tokens is None and features.shape[1] > MAX_CHANNELS:
            raise ValueError(
                f"X has {features.shape[1]} columns, too many for a single token of as many channels: say n_tokens, "
                "into how many tokens each row is to be cut."
            )
        n_tokens = self.n_tokens or 1
        if features.shape[1] % n_tokens:
            raise ValueError(f"n_tokens must divide the {features.shape[1]} columns of X. Got {n_tokens}.")
        return features.reshape(len(features), n_tokens, -1)

    @torch.inference_mode()
    def _scores(self, features: Array) -> Array:
        device = resolve_device(self.device)
        weights = {name: torch.as_tensor(value, device=device).unsqueeze(0) for name, value in self.weights_.items()}
        order: Any = slice(None)
        if isinstance(features, RaggedTokens):  # images of about the same size next to each other: less padding
            order = np.argsort(features.sizes, kind="stable")
            features = features[order]
        batches = [
            self._logits(weights, *_seen(features[start : start + PREDICT_BATCH], device))[0]
            for start in range(0, len(features), PREDICT_BATCH)
        ]
        scores: Array = torch.cat(batches).cpu().numpy()
        scores[order] = scores.copy()
        return scores

    def _logits(self, weights: Params, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Class logits (1, n, n_classes) of tokens (n, N, C), of which a mask (n, N) shows some."""
        return map_logits(weights, tokens, mask, num_heads=self.num_heads_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _seen(features: Array | RaggedTokens, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """A few images on a device, in float32, and the mask of their tokens."""
    if not isinstance(features, RaggedTokens):
        return batch_on(features, device), None
    batch = PaddedTokens(features, device).all()
    return batch.patches, batch.mask
