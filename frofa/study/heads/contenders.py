"""The heads that are compared: today's defaults, what needs no tuning, and heads on tokens with FroFA and without."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from frofa.augmentations import Brightness
from frofa.estimators import (
    FewShotClassifier,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
)
from frofa.study.heads.inputs import AUTO, AUTO_VIEWS, EVERYTHING, POOLED, TOKENS, Inputs
from frofa.study.results import NONE, Candidate

TUNED_ON = (POOLED, AUTO, AUTO_VIEWS)
"""Features on which probes are tuned."""
FAST, HIGH, SHRINKAGE = "FewShot fast", "FewShot high", "shrinkage"
AUTOMATIC, BRIGHTNESS = "auto", "brightness"


@dataclass(frozen=True)
class Contender:
    """A head that is fitted as it is, without a choice: what it takes, and how it is made for a seed."""

    head: str
    inputs: Inputs
    make: Callable[[int], Any]
    augmentation: str = NONE
    variant: str = ""
    level: float = 0.0
    setting: str = ""

    @property
    def candidate(self) -> Candidate:
        """The candidate that its results are of."""
        named = self.head, self.augmentation, self.variant, self.level, self.setting
        return Candidate(*named, features=self.inputs.features, views=self.inputs.views)


def probe_contenders() -> list[Contender]:
    """Heads on vectors: on a CPU, which has them in fractions of a second."""
    return [
        Contender("ridge", POOLED, lambda _: RidgeProbeClassifier(), setting="default"),
        Contender("logistic", POOLED, lambda _: LogisticProbeClassifier(device="cpu"), setting="default"),
        Contender("prototype", POOLED, lambda _: PrototypeClassifier(), setting="default"),
        # Prototypes have nothing to tune: they stand beside the grid on the same features.
        *(Contender("prototype", inputs, lambda _: PrototypeClassifier(), setting="unit") for inputs in TUNED_ON),
        Contender(SHRINKAGE, POOLED, lambda _: ShrinkageProbeClassifier(device="cpu")),
        Contender(SHRINKAGE, AUTO, lambda _: ShrinkageProbeClassifier(device="cpu")),
        # With several views, it is the probe by itself: what it gains by blocks and by views is the difference.
        Contender(FAST, AUTO_VIEWS, lambda seed: FewShotClassifier(effort="fast", random_state=seed, device="cpu")),
    ]


def map_contenders(device: str) -> list[Contender]:
    """MAP heads on tokens of the plain image."""

    def made(augment: Any) -> Callable[[int], MAPClassifier]:
        return lambda seed: MAPClassifier(augment, random_state=seed, device=device)

    return [
        Contender("MAP", TOKENS, made(None)),
        Contender("MAP", TOKENS, made("auto"), AUTOMATIC),
        Contender("MAP", TOKENS, made(Brightness(0.3, "c2")), BRIGHTNESS, "c2", 0.3),
    ]


def high_contender(device: str, start: Any = "random") -> Contender:
    """The best head, with heads on tokens that start there, as those of `frofa.ImageClassifier` do."""

    def make(seed: int) -> FewShotClassifier:
        return FewShotClassifier(effort="high", init=start, random_state=seed, device=device)

    return Contender(HIGH, EVERYTHING, make)
