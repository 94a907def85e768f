"""The soft-MoE head: a few experts over the tokens, then their mean, with frozen-feature augmentation."""

from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.utils._param_validation import Interval

from frofa.augmentations import Augmentation
from frofa.estimators.core.confident.parameters import Calibrate, ClassPrior, Novelty
from frofa.estimators.models.attending import Attending
from frofa.estimators.models.soft_moe_head import SoftMoEModel
from frofa.estimators.token_classifier import TokenClassifier


class SoftMoEClassifier(Attending, TokenClassifier):
    """A soft mixture of a few experts over frozen tokens, their mean, and a linear classifier, trained from scratch.

    Each expert is an MLP that sees a few slots, weighted means of an image's normalised tokens; each token then takes a
    weighted mean of what the experts make of the slots, and keeps what it was (Soft MoE, Puigcerver et al., 2024).
    Where a MAP head looks at the tokens with one query of several attention heads, this one looks with as many queries
    as there are slots, and falls back on the mean of the tokens. Training, augmentation and validation are those of
    `MAPClassifier`, and so is the meaning of all parameters that both have.

    Parameters
    ----------
    augment : Augmentation, "auto" or None, default="auto"
        An augmentation of `frofa.augmentations`, applied to the tokens of each training step. ``"auto"`` is what it is
        for `MAPClassifier`, and was chosen for that head; None is no augmentation.
    num_experts : int, default=4
        Experts, each an MLP.
    slots_per_expert : int, default=4
        Weighted means of the tokens that each expert sees.
    router_scale : float, default=10.0
        Initial factor of the cosines of tokens and slot parameters, which is learned. The larger, the sharper the
        weights. With 1, as in the reference, every slot starts as nearly the mean of all tokens, and a few
        hundred steps do not lead far from there; pretraining is longer.
    mlp_ratio : float, default=1.0
        Width of each expert's MLP in units of the channels.
    lr : float, default=0.03
        Peak learning rate. This and all that follow are as in `MAPClassifier`, which says more about them.
    n_steps : int, default=300
        Training steps.
    batch_size : int, default=64
        Samples a step.
    weight_decay : float, default=0.02
        Weight decay of the kernels; biases, slot parameters and the router's scale are not decayed.
    momentum : float, default=0.9
        Momentum of SGD.
    warmup_fraction : float, default=0.1
        Part of the steps over which the learning rate rises linearly.
    schedule : {"cosine", "constant"}, default="cosine"
        Course of the learning rate after the warm-up.
    clip_norm : float, default=1.0
        Largest norm of the gradient; None does not clip.
    n_tokens : int, default=None
        Number of tokens that each row of 2-D input is cut into; None is one.
    n_prefix : int, default=0
        Class and register tokens, which come first and are not augmented.
    grid : (int, int), default=None
        Height and width of the grid of the other tokens; None takes it to be a square.
    validation_fraction : float, default=None
        Part of the training data that is held out for early stopping; None trains on everything, to the end.
    patience : int, default=10
        Evaluations without improvement after which training stops.
    n_views : int, default=0
        Augmented views that predictions average over, besides the features as they are.
    class_weight : dict or "balanced", default=None
        Weights of the classes, as in scikit-learn.
    device : str, default="auto"
        ``"auto"`` takes the GPU where there is one; or a torch device.
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
        Trained weights: slot parameters ``mu`` (C, num_experts, slots_per_expert), the router's ``scale`` (1,), the
        experts' ``fc1`` and ``fc2``, and the classifier's ``head``.
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

    References
    ----------
    Puigcerver et al., "From Sparse to Soft Mixtures of Experts", ICLR 2024; google-research/vmoe,
    ``projects/soft_moe/router.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from frofa.estimators import SoftMoEClassifier
    >>> rng = np.random.default_rng(0)
    >>> tokens = rng.normal(size=(20, 16, 64)) + np.repeat([0, 1], 10)[:, None, None]
    >>> head = SoftMoEClassifier(augment=None, n_steps=50, random_state=0)
    >>> head.fit(tokens, np.repeat(["cat", "dog"], 10)).predict(tokens[[0, 19]]).tolist()
    ['cat', 'dog']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TokenClassifier._parameter_constraints,
        "mlp_ratio": [Interval(Real, 0, None, closed="neither")],
        "num_experts": [Interval(Integral, 1, None, closed="left")],
        "slots_per_expert": [Interval(Integral, 1, None, closed="left")],
        "router_scale": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        augment: Augmentation | Literal["auto"] | None = "auto",
        *,
        num_experts: int = 4,
        slots_per_expert: int = 4,
        router_scale: float = 10.0,
        mlp_ratio: float = 1.0,
        lr: float = 0.03,
        n_steps: int = 300,
        batch_size: int = 64,
        weight_decay: float = 0.02,
        momentum: float = 0.9,
        warmup_fraction: float = 0.1,
        schedule: Literal["cosine", "constant"] = "cosine",
        clip_norm: float | None = 1.0,
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
        self.num_experts = num_experts
        self.slots_per_expert = slots_per_expert
        self.router_scale = router_scale
        self.mlp_ratio = mlp_ratio

    def _model(self, channels: int) -> SoftMoEModel:  # noqa: ARG002 (of whatever tokens)
        return SoftMoEModel(self.num_experts, self.slots_per_expert, self.mlp_ratio, self.router_scale)
