"""Members of a blend: built-in token heads, and what each came to."""

from typing import Any, Literal, NamedTuple

from sklearn.utils import Bunch

from frofa.augmentations import Brightness
from frofa.blocks import FeatureBlocks
from frofa.estimators.map import MAPClassifier
from frofa.estimators.soft_moe import SoftMoEClassifier
from frofa.estimators.token_classifier import TokenClassifier
from frofa.estimators.tokens.image_views import token_views

Effort = Literal["fast", "high"]
PROBE = "probe"
SHORT = 0.3
"""Steps of the head without augmentation in units of the others', which go on to gain (docs/results/token_heads.md)."""


class Settings(NamedTuple):
    """Parameters that all token heads have in common."""

    n_steps: int
    n_prefix: int
    grid: tuple[int, int] | None
    device: str
    random_state: int


def token_heads(settings: Settings, init: Any = "random") -> dict[str, TokenClassifier]:
    """Make the token heads that a blend may have, by name; they see the same batches, as they have one seed.

    MAP heads start at `init`, as in `MAPClassifier`.
    """
    shared: dict[str, Any] = settings._asdict()
    short = {**shared, "n_steps": max(1, round(SHORT * settings.n_steps))}
    return {
        "map": MAPClassifier(None, init=init, **short),
        "map brightness 0.1": MAPClassifier(Brightness(0.1, "c2"), init=init, **shared),
        "map brightness 0.3": MAPClassifier(Brightness(0.3, "c2"), init=init, **shared),
        "soft_moe brightness 0.3": SoftMoEClassifier(Brightness(0.3, "c2"), **shared),
    }


def tokens_of(X: Any, name: str) -> Any:
    """Give what token heads train on, in the name of an estimator: the tokens of features of any kind, if there are."""
    if isinstance(X, FeatureBlocks):
        if not X.tokens:
            return None
        token_views(X, name)  # an error says that there are several blocks of them
        return X.select(X.tokens)
    return X if X.ndim == 3 else None


def member(
    estimator: Any = None,
    *,
    weight: float = 0.0,
    scale: float = 1.0,
    accuracy: float = float("nan"),
    log_loss: float = float("nan"),
    reason: str = "",
) -> Bunch:
    """Describe a member, fitted or not, as `FewShotClassifier` documents it."""
    return Bunch(
        estimator=estimator,
        weight=float(weight),
        scale=float(scale),
        out_of_fold_accuracy=float(accuracy),
        out_of_fold_log_loss=float(log_loss),
        reason=reason,
    )
