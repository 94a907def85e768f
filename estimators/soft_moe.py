"""The soft-MoE head: a few experts over the tokens, then their mean, with frozen-feature augmentation."""

from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.utils._param_validation import Interval

from frofa.augmentations import Augmentation
from frofa.estimators.models.soft_moe_head import SoftMoEModel
from frofa.estimators.token_classifier import TokenClassifier


class SoftMoEClassifier(TokenClassifier):
    """A soft mixture of a few experts over frozen tokens, their mean, and a linear classifier, trained from scratch.

    Each expert is an MLP that sees a few slots, weighted means of an image's normalised tokens; each token then takes a
    weighted mean of what the experts make of the slots, and keeps what it was (Soft MoE, Puigcerver et al., 2024).
    Where a MAP head looks at the tokens with one query of several attention heads, this one looks with as many queries
    as there are slots, and falls back on the mean of the tokens. Training, augmentation and validation are those of
    `MAPClassifier`, and so is the meaning of all parameters that both have.

    Parameters
    ----------
    augment : Augmentation, "auto" or None, default="auto"
        Of `frofa.augmentations`. ``"auto"`` is what it is for `MAPClassifier`; it was chosen for that head.
    num_experts : int, default=4
    slots_per_expert : int, default=4
        Weighted means of the tokens that each expert sees.
    router_scale : float, default=10.0
        What cosines of tokens and slot parameters are multiplied with at the start; it is learned. The larger, the
        sharper the weights. With 1, as in the reference, every slot starts as nearly the mean of all tokens, and a few
        hundred steps do not lead far from there; pretraining is longer.
    mlp_ratio : float, default=1.0
        Width of each expert's MLP in units of the channels.
    lr : float, default=0.03
    n_steps : int, default=300
    batch_size : int, default=64
    weight_decay : float, default=0.02
        Of the kernels: biases, slot parameters and the router's scale are not decayed.
    momentum : float, default=0.9
    warmup_fraction : float, default=0.1
    schedule : {"cosine", "constant"}, default="cosine"
    clip_norm : float, default=1.0
    n_tokens : int, default=None
    n_prefix : int, default=0
    grid : (int, int), default=None
    validation_fraction : float, default=None
    patience : int, default=10
    n_views : int, default=0
    class_weight : dict or "balanced", default=None
    device : str, default="auto"
    random_state : int, RandomState or None, default=None
    verbose : bool, default=False
        All of these as in `MAPClassifier`.

    Attributes
    ----------
    augment_ : Augmentation or None
        What `augment` stands for.
    weights_ : dict of str to ndarray of float32
        Trained weights: slot parameters ``mu`` (C, num_experts, slots_per_expert), the router's ``scale`` (1,), the
        experts' ``fc1`` and ``fc2``, and the classifier's ``head``.
    n_iter_ : int
        Step at which the kept weights were reached.
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
        )
        self.num_experts = num_experts
        self.slots_per_expert = slots_per_expert
        self.router_scale = router_scale
        self.mlp_ratio = mlp_ratio

    def _model(self, channels: int) -> SoftMoEModel:  # noqa: ARG002 (of whatever tokens)
        return SoftMoEModel(self.num_experts, self.slots_per_expert, self.mlp_ratio, self.router_scale)
