"""Studies whose truth is known."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from math import log2

import numpy as np

from frofa.study.reporting.summary import FAMILIES, is_sequence
from frofa.study.results import NONE, Candidate, StudyResult

LEVELS = [round(0.1 * i, 1) for i in range(1, 11)]
BASELINES = [
    Candidate("MAP"),
    *(Candidate("MAP", setting=f"weight_decay={wd} lr={lr}") for wd in ("0", "0.01") for lr in ("0.01", "0.03")),
    Candidate("ridge", setting="alpha=1"),
    Candidate("ridge", setting="alpha=10"),
    Candidate("logistic", setting="C=0.01"),
    Candidate("prototype"),
]
BRIGHTNESS = [Candidate("MAP", "brightness", v, level) for v in ("default", "c", "c2") for level in LEVELS]
SINGLES = [
    Candidate("MAP", name, "default" if family == "stylistic" else "", level)
    for family, names in FAMILIES.items()
    for name in names
    if name != "brightness"
    for level in (0.5, 1.0)
]
SEQUENCES = [
    Candidate("MAP", name, "", level)
    for name in ("brightness c2 > posterize c", "posterize c > brightness c2")
    for level in (0.5, 1.0)
]
PROBES_WITH_FROFA = [Candidate(head, "brightness", "c2", 0.5, "alpha=1") for head in ("ridge", "logistic")]
EVERYTHING = [*BASELINES, *BRIGHTNESS, *SINGLES, *SEQUENCES, *PROBES_WITH_FROFA]

HUMP = dict(zip([0.0, *LEVELS], [0, 5.2, 6.1, 5, 2.9, 0.3, -2, -2.4, -3.6, -6.2, -9.1], strict=True))
PLATEAU = dict(zip([0.0, *LEVELS], [0, 0.4, 1.3, 2.5, 3.7, 4.8, 5.3, 5.7, 6.1, 6.1, 6.1], strict=True))

Effect = Callable[[Candidate, int], float]
"""Points above the MAP head, by candidate and shots."""


def like_the_paper(candidate: Candidate, shots: int) -> float:
    """Hump of c, plateau of c2, gains that shrink, geometric operations that hurt, a probe that leads at 1 shot."""
    if candidate.augmentation == NONE:
        return {"ridge": 9.0 - 4 * log2(shots), "logistic": 1.0, "prototype": 0.0}.get(candidate.head, 0.0)
    if is_sequence(candidate.augmentation):
        effect = 7.7 if candidate.augmentation.startswith("brightness") else 4.0
    elif candidate.augmentation == "brightness":
        effect = {"c": HUMP, "c2": PLATEAU}.get(candidate.variant, PLATEAU)[candidate.level]
    else:
        stylistic = candidate.augmentation in FAMILIES["stylistic"]
        effect = 2.0 if stylistic else -1.0 if candidate.augmentation in FAMILIES["geometric"] else 0.0
    return effect / (1 + log2(shots))


def study(
    candidates: Iterable[Candidate] = EVERYTHING,
    effect: Effect = like_the_paper,
    *,
    datasets: Sequence[str] = ("birds", "cars"),
    backbones: Sequence[str] = ("tiny",),
    shots: Sequence[int] = (1, 5, 10, 25),
    seeds: int = 5,
    noise: float = 0.3,
) -> list[StudyResult]:
    """Rows of accuracies: that of a support sample, plus an effect, plus noise."""
    rng = np.random.default_rng(0)
    places = [(d, b, k, s, rng.normal(50, 3)) for d in datasets for b in backbones for k in shots for s in range(seeds)]
    return [
        StudyResult(
            **asdict(c),
            dataset=dataset,
            backbone=backbone,
            shots=k,
            seed=seed,
            validation=base + 10 + effect(c, k) + noise * rng.normal(),
            test=base + effect(c, k) + noise * rng.normal(),
        )
        for c in candidates
        for dataset, backbone, k, seed, base in places
    ]
