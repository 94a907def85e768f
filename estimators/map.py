"""The attention-pooling (MAP) head with frozen-feature augmentation."""

from numbers import Integral, Real
from typing import Any, ClassVar, Literal, cast

import numpy as np
from sklearn.utils._param_validation import HasMethods, Hidden, Interval, StrOptions

from frofa.augmentations import Augmentation
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.confident.parameters import Calibrate, ClassPrior, Novelty
from frofa.estimators.models.attending import Attending
from frofa.estimators.models.map_model import HeadSource, MapModel, map_model
from frofa.estimators.token_classifier import TokenClassifier
from frofa.estimators.training.plan import HeadPlan, Trained


class MAPClassifier(Attending, TokenClassifier):
    """Multi-head attention pooling and a linear classifier, trained on frozen tokens.

    The head of the FroFA paper: a learned query attends to the tokens, an MLP with a residual follows, then a linear
    layer. Each training step draws fresh augmentations; what is validated or predicted is never augmented. Training is
    SGD with momentum, warm-up, a cosine schedule and gradient clipping (the paper does not state its optimiser; this is
    the house style of its group).

    Parameters
    ----------
    augment : Augmentation, "auto" or None, default="auto"
        An augmentation of `frofa.augmentations`, applied to the tokens of each training step and reachable in a search
        as ``augment`` and ``augment__level``. ``"auto"`` is ``Brightness(level=0.1, variant="c2")`` where there is
        one view of each image, and nothing where there are several: what gains most depends on the images, and this
        loses on none that we know (``docs/method.md``). A search, or ``FewShotClassifier(effort="high")``, chooses by
        the images. Brightness does not change features of a single token. None is no augmentation.
    lr : float, default=0.03
        Peak learning rate.
    n_steps : int, default=300
        Training steps. More, at the same learning rate, is not better: once the loss without augmentation is zero, the
        head goes on to recognise single samples by sharper attention, which brightness does not disturb.
    batch_size : int, default=64
        Samples a step; with no more samples than that, every step sees them all.
    weight_decay : float, default=0.02
        Weight decay of the kernels; biases, the query and the LayerNorm are not decayed.
    momentum : float, default=0.9
        Momentum of SGD.
    warmup_fraction : float, default=0.1
        Part of the steps over which the learning rate rises linearly.
    schedule : {"cosine", "constant"}, default="cosine"
        Course of the learning rate after the warm-up.
    clip_norm : float, default=1.0
        Largest norm of the gradient; None does not clip.
    num_heads : int, default=None
        Attention heads, a divisor of the channels; None is one for each 64 channels, as in the backbones.
    mlp_ratio : float, default=4.0
        Width of the MLP in units of the channels.
    init : "random" or PretrainedHead, default="random"
        Where training starts: at fresh weights; or at a backbone's own attention pool or last block,
        ``frofa.PretrainedHead("vit_base_patch16_siglip_224.webli")``, on the tokens of that backbone. The head then has
        the backbone's attention heads and MLP; `num_heads` must agree or be None, and `mlp_ratio` has no effect. The
        classifier starts at zero in either case.
    n_tokens : int, default=None
        Number of tokens that each row of 2-D input (n_tokens * C values, token by token) is cut into; None is one.
        Images that are predicted may have more or fewer tokens than those of the training data.
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
        Weights of the classes, as in scikit-learn; they multiply sample weights.
    device : str, default="auto"
        ``"auto"`` takes the GPU where there is one; or a torch device. Fitted weights are kept on the CPU.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, batches, augmentation and the validation split.
    verbose : bool, default=False
        Show a progress bar.
    calibrate : bool, "temperature" or "vector", default=False
        Fit probabilities to samples that heads of 5 folds did not see, which are trained beside this one: by a
        temperature, or a scale and an offset of each class where these are worth more on samples that they were not
        fitted to. A name forces the one or the other; False leaves scores as they are.
    class_prior : "uniform", "empirical", array-like of shape (n_classes,) or dict, default=None
        Probability of each class before an image is seen, as in `ShrinkageProbeClassifier`; None is what the head has
        learnt, the frequencies of the weighted samples.
    reject : float, default=None
        Share, between 0 and 1, of known images that `predict` may reject as none of the classes; None rejects none.
    reject_label : object, default=None
        What `predict` calls rejected images; None is -1 for classes that are numbers, and "none of these" otherwise.
    novelty : {"auto", "mahalanobis", "relative", "knn", "energy"} or None, default="auto"
        How `novelty_score` tells images of other classes, as in `NoveltyDetector`, or by the energy of logits, which
        costs heads without leave-one-out five more fits. None keeps nothing of the training images.

    Attributes
    ----------
    augment_ : Augmentation or None
        The augmentation that was trained with, ``"auto"`` resolved.
    weights_ : dict of str to ndarray of float32
        Trained weights, named as in timm's `AttentionPoolLatent`, with ``head.weight`` and ``head.bias``.
    num_heads_ : int
        Attention heads.
    n_iter_ : int
        Step at which the kept weights were reached.
    temperature_ : float
        What scores are divided by for `predict_proba`: fitted to samples by heads of other folds; 1 without
        `calibrate`, and where all samples are the only one of their class.
    class_scales_, class_offsets_ : ndarray of shape (n_classes,) or None
        What log-probabilities by the temperature are multiplied by, and what is added: by vector scaling, and for
        `class_prior`. Where there are any, `decision_function` is the logits.
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
        **TokenClassifier._parameter_constraints,
        "num_heads": [Interval(Integral, 1, None, closed="left"), None],
        "mlp_ratio": [Interval(Real, 0, None, closed="neither")],
        "init": [StrOptions({"random"}), HasMethods("load"), Hidden(StrOptions({"pretrained"}))],
    }

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
        calibrate: Calibrate = False,
        class_prior: ClassPrior = None,
        reject: float | None = None,
        reject_label: Any = None,
        novelty: Novelty = "auto",
    ):
        super().__init__(
            augment,
            lr=lr,
            n_steps=n_steps,
            batch_size=batch_size,
            weight_decay=weight_decay,
            momentum=momentum,
            warmup_fraction=warmup_fraction,
            schedule=schedule,
            clip_norm=clip_norm,
            n_tokens=n_tokens,
            n_prefix=n_prefix,
            grid=grid,
            validation_fraction=validation_fraction,
            patience=patience,
            n_views=n_views,
            class_weight=class_weight,
            device=device,
            random_state=random_state,
            verbose=verbose,
            calibrate=calibrate,
            class_prior=class_prior,
            reject=reject,
            reject_label=reject_label,
            novelty=novelty,
        )
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.init = init

    def _model(self, channels: int) -> MapModel:
        return map_model(self.init, channels, self.num_heads, self.mlp_ratio)

    def _take(self, plan: HeadPlan, trained: Trained) -> FeatureClassifier:
        self.num_heads_ = cast(MapModel, plan.model).num_heads
        return super()._take(plan, trained)

    def _fitted_model(self, channels: int) -> MapModel:  # noqa: ARG002 (the weights have the channels)
        return MapModel(self.num_heads_)
