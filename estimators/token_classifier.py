"""Heads that are trained on tokens by gradient descent, hundreds at a time: all but the model that each of them is."""

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from frofa.augmentations import Augmentation, Brightness
from frofa.blocks import FeatureBlocks
from frofa.compute.devices import resolve_device
from frofa.compute.memory import row_chunks
from frofa.estimators.batched.engine import Outcome, fit_plans
from frofa.estimators.batched.token_jobs import fit_token_jobs
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.confident.calibrating import calibration_folds
from frofa.estimators.core.confident.parameters import CONFIDENCE, Calibrate, ClassPrior, Novelty
from frofa.estimators.core.support import Array, Indices, Support
from frofa.estimators.tokens.batches import seen_on
from frofa.estimators.tokens.image_views import ImageViews, token_views, views_in, views_on
from frofa.estimators.tokens.padding import refuse_prefix
from frofa.estimators.training.plan import HeadPlan, LabelledRows, TokenModel, Trained
from frofa.estimators.training.schedule import Schedule
from frofa.estimators.training.telling import StepTeller
from frofa.ragged import RaggedTokens
from frofa.utils.callbacks import task_of
from frofa.utils.progress import progress_bar

PREDICT_BATCH = 1024
"""Images that are scored at once."""
AUTO = Brightness(0.1, "c2")
"""The augmentation of ``augment="auto"`` where images have one view (docs/method.md, "Which augmentation is safe")."""
MAX_CHANNELS = 8192
"""Channels of a token, up to which rows are one token each unless told otherwise: a MAP head of so many has 872 million
weights."""


class TokenClassifier(FeatureClassifier):
    """Base of the heads on tokens: fitting, alone or with others, early stopping, augmentation and prediction.

    A subclass makes its `TokenModel` in `_model`, and is listed in ``frofa.estimators``, where files look for it.
    Parameters are as in `MAPClassifier`.
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
        **CONFIDENCE,
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
        self.augment = augment
        self.lr = lr
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.warmup_fraction = warmup_fraction
        self.schedule = schedule
        self.clip_norm = clip_norm
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
        self.calibrate = calibrate
        self.class_prior = class_prior
        self.reject = reject
        self.reject_label = reject_label
        self.novelty = novelty

    @abstractmethod
    def _model(self, channels: int) -> TokenModel:
        """Make the model that is trained on tokens of so many channels."""

    def _fitted_model(self, channels: int) -> TokenModel:
        """Make the model that was trained, for prediction."""
        return self._model(channels)

    def _fit(self, support: Support) -> Array | None:
        device = resolve_device(self.device)
        tokens, rows = views_on(support.features, device), np.arange(len(support.codes))
        plans = self._plans(rows, support.codes, support.weights, support.features)
        if (task := task_of(self)).is_heard:
            plans[0] = replace(plans[0], watch=StepTeller(task, partial(self._attributes_of, plans[0], support)))
        n_steps = self.n_steps * len(plans)
        with progress_bar(total=n_steps, unit="step", desc="train", leave=False, shown=self.verbose) as bar:
            outcomes = fit_plans(tokens, plans, on_step=bar.update)
        return self._become(plans, outcomes, support)

    def _n_fit_tasks(self) -> int:
        return int(self.n_steps)

    def _attributes_of(self, plan: HeadPlan, support: Support, trained: Trained) -> dict[str, Any]:
        """Make the attributes of a head that was trained so far: not calibrated yet, and without rejection."""
        head = copy(self)
        head.calibrate, head.reject = False, None
        head._take(plan, trained)._calibrate(support, None)
        return dict(vars(head))

    _fit_many = staticmethod(fit_token_jobs)
    """Engine of `fit_many`: the heads of all jobs are trained together."""

    def _plans(self, rows: Indices, codes: Indices, weights: Array, tokens: Any) -> list[HeadPlan]:
        """Plan the head, and those that calibrate it: parameters are as of `_plan`."""
        plans = [self._plan(rows, codes, weights, tokens)]
        if not self.calibrate:
            return plans
        folds = calibration_folds(codes, weights)
        parts = [np.flatnonzero(folds != fold) for fold in range(folds.max() + 1)]
        return plans + [self._plan(rows[part], codes[part], weights[part], tokens) for part in parts]

    def _become(self, plans: Sequence[HeadPlan], outcomes: Sequence[Outcome], support: Support) -> Array | None:
        """Become the first head that was trained; return the scores (n, n_classes) of samples by those of folds."""
        heads = [copy(self) for _ in plans]
        for head, plan, outcome in zip([self, *heads[1:]], plans, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            head._take(plan, outcome)
        if not self.calibrate:
            return None
        folds = calibration_folds(support.codes, support.weights)
        scores = np.full((len(folds), len(self.classes_)), np.nan)
        for fold, head in enumerate(heads[1:]):
            rows = np.flatnonzero(folds == fold)
            if len(rows):
                scores[rows] = head._scores(support.features[rows])
        return scores

    def _take(self, plan: HeadPlan, trained: Trained) -> FeatureClassifier:
        """Become the head that was trained; returns self."""
        self.augment_, (self.weights_, self.n_iter_) = plan.augment, trained
        return self

    def _plan(self, rows: Indices, codes: Indices, weights: Array, tokens: Any) -> HeadPlan:
        """Draw all that training depends on.

        `rows` (n,) are the images' positions in the tokens, which are of any kind, `codes` (n,) the classes of these
        samples; those without weight are left out.
        """
        model = self._model(tokens.shape[2])
        # Seeds are drawn before the split: a head starts at the same weights with early stopping and without.
        random_state = check_random_state(self.random_state)
        first, second, third = (int(seed) for seed in random_state.randint(2**31 - 1, size=3))
        # Samples without weight are in neither part, so that the split is the same as without them.
        used, held_out = np.flatnonzero(weights), None
        if self.validation_fraction is not None:
            used, held_out = train_test_split(
                used, test_size=self.validation_fraction, stratify=codes[used], random_state=random_state
            )

        def part(chosen: Indices) -> LabelledRows:
            # Of mean one in each part, so that the learning rate means the same whatever the weights' scale.
            relative = weights[chosen] / weights[chosen].mean()
            return LabelledRows(rows[chosen], codes[chosen], relative.astype(np.float32))

        return HeadPlan(
            model,
            part(used),
            len(self.classes_),
            (first, second, third),
            self._schedule(),
            self._augmentation_for(len(views_in(tokens))),
            validation=None if held_out is None else part(held_out),
            n_prefix=self.n_prefix,
            grid=self.grid,
            patience=self.patience,
            n_views=len(views_in(tokens)),
        )

    def _augmentation(self) -> Augmentation | None:
        """Return the augmentation, ``"auto"`` resolved."""
        return AUTO if isinstance(self.augment, str) else self.augment

    def _augmentation_for(self, n_views: int) -> Augmentation | None:
        """Return the augmentation for images of so many views: ``"auto"`` adds none to several."""
        return None if isinstance(self.augment, str) and n_views > 1 else self._augmentation()

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
        """Leave tokens as they are, which is what the head works on."""
        return features

    def _check_features(self, X: Any, *, reset: bool) -> Array:
        """Check features, and all views of the tokens among blocks; blocks of vectors alone are rows, side by side."""
        if not isinstance(X, FeatureBlocks) or not X.tokens:
            plain: Array = super()._check_features(X, reset=reset)
            return plain
        views_of = token_views(X, type(self).__name__)
        views = [super(TokenClassifier, self)._check_features(view, reset=reset) for view in views_of]
        return cast(Array, views[0] if len(views) == 1 else ImageViews(views))

    def _tokens(self, features: Array) -> Array:
        """Cut rows into tokens (n, N, C)."""
        if any(isinstance(view, RaggedTokens) for view in views_in(features)):
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

    def _scores(self, features: Array) -> Array:
        """Score images, by the mean over their views, which is that of the log-probabilities up to a constant."""
        device = resolve_device(self.device)
        weights = self._weights_on(device)
        scores: Array = np.mean([self._scores_of_view(view, weights, device) for view in views_in(features)], axis=0)
        return scores

    def _weights_on(self, device: torch.device) -> dict[str, Tensor]:
        """Move fitted weights to a device, with a leading dimension of one head."""
        return {name: torch.as_tensor(value, device=device).unsqueeze(0) for name, value in self.weights_.items()}

    def _sum_over_views(self, tokens: Array, n_views: int) -> Array:
        if isinstance(self.augment, str) and self.augment_ is None:
            raise ValueError(
                f"augment='auto' is no augmentation where images have several views, and n_views={n_views} needs one: "
                "give it."
            )
        views = [super(TokenClassifier, self)._sum_over_views(view, n_views) for view in views_in(tokens)]
        sums: Array = np.mean(views, axis=0)
        return sums

    @torch.inference_mode()
    def _scores_of_view(self, features: Array, weights: dict[str, Tensor], device: torch.device) -> Array:
        model = self._fitted_model(features.shape[2])
        # Images of about the same size next to each other, which takes less padding.
        order: Any = slice(None)
        if isinstance(features, RaggedTokens):
            order = np.argsort(features.sizes, kind="stable")
            features = features[order]
        batches = [
            model.logits(weights, *seen_on(features[rows], device))[0]
            for rows in row_chunks(len(features), PREDICT_BATCH, row_size=1)
        ]
        # Scores (n, n_classes), back in the order of the samples.
        scores: Array = torch.cat(batches).cpu().numpy()
        scores[order] = scores.copy()
        return scores

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
