"""The candidates of a study: baselines, every augmentation in its variants at several levels, sequences, and probes."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frofa import augmentations as A
from frofa.augmentations import Augmentation
from frofa.estimators import LogisticProbeClassifier, PrototypeClassifier, RidgeProbeClassifier
from frofa.study.results import VARIANTS, WITH_CLS, Candidate

LR, WEIGHT_DECAY, N_STEPS = 0.03, 0.02, 300
"""The defaults of `MAPClassifier`, which all augmented heads use."""
WITH_CLS_LEVELS: dict[A.Variant, tuple[float, ...]] = {"c2": (0.1, 0.3, 0.5), "c": (0.05, 0.1, 0.2)}
PROBE_VARIANTS: tuple[A.Variant, ...] = ("default", "c")
NOISE_VARIANTS: tuple[Literal["default", "c2"], ...] = ("default", "c2")

VARIED: dict[str, type[Any]] = {
    "contrast": A.Contrast,
    "posterize": A.Posterize,
    "solarize": A.Solarize,
    "invert": A.Invert,
    "sharpness": A.Sharpness,
    "equalize": A.Equalize,
    "jpeg": A.JPEG,
}
PLAIN: dict[str, Augmentation] = {
    "rotate": A.Rotate(),
    "shear x": A.ShearX(),
    "shear y": A.ShearY(),
    "translate x": A.TranslateX(),
    "translate y": A.TranslateY(),
    "crop": A.Crop(),
    "resized crop": A.ResizedCrop(),
    "inception crop": A.InceptionCrop(),
    "patch dropout": A.PatchDropout(),
    "mixup": A.MixUp(),
    "channel dropout": A.ChannelDropout(),
    "randaugment": A.RandAugment(),
}
SEQUENCES: dict[str, Augmentation] = {
    "brightness c2 > posterize c": A.Sequential([A.Brightness(variant="c2"), A.Posterize(variant="c")]),
    "posterize c > brightness c2": A.Sequential([A.Posterize(variant="c"), A.Brightness(variant="c2")]),
    "brightness c2 > contrast": A.Sequential([A.Brightness(variant="c2"), A.Contrast()]),
    "contrast > brightness c2": A.Sequential([A.Contrast(), A.Brightness(variant="c2")]),
    "brightness c > posterize c": A.Sequential([A.Brightness(variant="c"), A.Posterize(variant="c")]),
}
NAMES = ("brightness", *VARIED, "gaussian noise", *PLAIN, *SEQUENCES, "trivialaugment")


@dataclass(frozen=True)
class StudyGrid:
    """Settings, levels and variants that a study compares: a fine grid, or a coarse one.

    The head without augmentation chooses among all learning rates and weight decays. Levels are those of brightness,
    and of all others. Brightness and posterize have all variants, other stylistic augmentations those of `variants`.
    """

    rates: Sequence[float]
    decays: Sequence[float]
    brightness: Sequence[float]
    others: Sequence[float]
    variants: Sequence[A.Variant]


FINE = StudyGrid(
    rates=(0.01, 0.03),
    decays=(0.0, 1e-4, 1e-3, 1e-2, 2e-2, 3e-2),
    brightness=(0.05, *(k / 10 for k in range(1, 11))),
    others=(0.25, 0.5, 1.0),
    variants=VARIANTS,
)
COARSE = StudyGrid(
    rates=(0.03,),
    decays=(0.0, 1e-3, 1e-2, 2e-2, 3e-2),
    brightness=(0.1, 0.3, 1.0),
    others=(0.3,),
    variants=("default",),
)


@dataclass(frozen=True)
class MapPlan:
    """A candidate and how its MAP head is trained."""

    candidate: Candidate
    augment: Augmentation | None = None
    lr: float = LR
    weight_decay: float = WEIGHT_DECAY


def map_plans(grid: StudyGrid, *, with_cls: bool, augmentations: Sequence[str] | None = None) -> list[MapPlan]:
    """The MAP heads: without augmentation in all settings, then with each augmentation, or with those named."""
    # Baselines first: the choice among them is what every augmentation is compared with.
    settings = list(itertools.product(grid.rates, grid.decays))
    heads = ["MAP", WITH_CLS] if with_cls else ["MAP"]
    plans = [MapPlan(Candidate(head, setting=_setting(*at)), None, *at) for head in heads for at in settings]
    plans += [MapPlan(Candidate("MAP", name, variant, level), augment) for name, variant, level, augment in _all(grid)]
    if with_cls:
        plans += [
            MapPlan(Candidate(WITH_CLS, "brightness", variant, level), A.Brightness(level, variant))
            for variant, levels in WITH_CLS_LEVELS.items()
            for level in levels
        ]
    return [plan for plan in plans if plan.augment is None or plan.candidate.augmentation in (augmentations or NAMES)]


def probe_plans(seed: int) -> Iterator[tuple[Candidate, Any]]:
    """The probes on pooled features, and what they fit."""
    yield Candidate("ridge"), RidgeProbeClassifier()
    yield Candidate("prototype"), PrototypeClassifier()
    for strength in (0.001, 0.01, 0.1, 1.0):
        yield Candidate("logistic", setting=f"C={strength:g}"), _logistic(strength, None, seed)
    for variant, level in itertools.product(PROBE_VARIANTS, (0.05, 0.1, 0.2)):
        augment = A.Brightness(level, variant)
        ridge = RidgeProbeClassifier(augment=augment, n_augmented=4, random_state=seed)
        yield Candidate("ridge", "brightness", variant, level), ridge
        yield Candidate("logistic", "brightness", variant, level, "C=0.01"), _logistic(0.01, augment, seed)


def _all(grid: StudyGrid) -> Iterator[tuple[str, str, float, Augmentation]]:
    for variant, level in itertools.product(VARIANTS, grid.brightness):
        yield "brightness", variant, level, A.Brightness(level, variant)
    for name, kind in VARIED.items():
        variants = VARIANTS if name == "posterize" else grid.variants
        for variant, level in itertools.product(variants, grid.others):
            yield name, variant, level, kind(variant=variant).at_level(level)
    for noise, level in itertools.product(NOISE_VARIANTS, grid.others):
        yield "gaussian noise", noise, level, A.GaussianNoise(variant=noise).at_level(level)
    for (name, augment), level in itertools.product({**PLAIN, **SEQUENCES}.items(), grid.others):
        yield name, "", level, augment.at_level(level)
    yield "trivialaugment", "", 1.0, A.TrivialAugment()


def _setting(lr: float, weight_decay: float) -> str:
    return "" if (lr, weight_decay) == (LR, WEIGHT_DECAY) else f"weight_decay={weight_decay:g} lr={lr:g}"


def _logistic(strength: float, augment: Augmentation | None, seed: int) -> Any:
    head = LogisticProbeClassifier(strength, augment=augment, n_augmented=4, random_state=seed)
    return make_pipeline(StandardScaler(), head)
