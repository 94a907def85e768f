"""The fits of a study: MAP heads, as many at once as memory holds, and probes; results are appended to a file."""

import itertools
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from frofa.compute.devices import resolve_device
from frofa.estimators.batched.trials import Samples, Trial, fit_heads, predict_heads, trials_at_once
from frofa.estimators.training.schedule import Schedule
from frofa.study.data import StudyData
from frofa.study.plan import COARSE, FINE, N_STEPS, NAMES, MapPlan, map_plans, probe_plans
from frofa.study.results import NONE, WITH_CLS, Append, Candidate, StudyResult, appending
from frofa.study.study import Study
from frofa.utils.progress import progress_bar

BATCH_SIZE = 64
"""Samples a training step, as by default in `MAPClassifier`."""


def fit_maps(study: Study, data: StudyData, say: Callable[[str], None]) -> None:
    """Fit the MAP heads that have no result yet."""
    grid = COARSE if study.quick else FINE
    plans = map_plans(grid, with_cls="cls" in data.features, augmentations=study.augmentations)
    with appending(study.results_file) as (done, append):
        # A plan is fitted to all seeds together, so that one lacking seed repeats the others.
        left: dict[int, list[MapPlan]] = {}
        for shots in study.shots:
            keys = {(data.dataset, data.backbone, shots, seed) for seed in range(study.n_seeds)}
            left[shots] = [plan for plan in plans if any((*key, plan.candidate) not in done for key in keys)]
        n_fits = study.n_seeds * sum(map(len, left.values()))
        if not n_fits:
            return
        with progress_bar(
            total=n_fits * N_STEPS, unit="head-step", unit_scale=True, desc="MAP heads", smoothing=0.05
        ) as bar:
            timer = _Timer(n_fits, bar, say)
            for shots in study.shots:
                for group in sorted({_group(plan) for plan in left[shots]}):
                    chosen = [plan for plan in left[shots] if _group(plan) == group]
                    _fit_map_group(study, data, shots, chosen, append, timer)


def _group(plan: MapPlan) -> tuple[bool, bool]:
    """Group key of a plan: heads of a group see the same tokens, and all of their steps can be recorded, or none."""
    return plan.candidate.head == WITH_CLS, plan.augment is not None and not plan.augment.recordable


def _fit_map_group(
    study: Study, data: StudyData, shots: int, plans: list[MapPlan], append: Append, timer: "_Timer"
) -> None:
    """Fit the heads of one shot setting, as many at once as memory holds."""
    device = resolve_device(study.device)
    # Tokens (n, P + N, C) of all images stay on the device: support samples, validation and test images are rows.
    tokens, n_prefix = _tokens(data, plans[0].candidate.head)
    on_device = torch.as_tensor(tokens, device=device)
    samples = _samples(data, on_device, shots, study.n_seeds, n_prefix)
    schedule = Schedule(0.0, N_STEPS, BATCH_SIZE, 0.0, 0.9, N_STEPS // 10, "cosine", 1.0)
    size = trials_at_once(samples, BATCH_SIZE)
    for start in range(0, len(plans), size):
        chunk = plans[start : start + size]
        trials = [Trial(plan.augment, plan.lr, plan.weight_decay) for plan in chunk]
        params = fit_heads(samples, trials, schedule, on_step=timer)
        # Predictions are (heads, rows), heads by trial, then seed, as `fits` below lists them.
        accuracies = [
            _accuracies(predict_heads(params, on_device[torch.as_tensor(rows, device=device)]), data, rows)
            for rows in (data.validation, data.test)
        ]
        fits = [(plan.candidate, seed) for plan in chunk for seed in range(study.n_seeds)]
        append(
            _result(data, shots, seed, candidate, *pair)
            for (candidate, seed), *pair in zip(fits, *accuracies, strict=True)
        )


class _Timer:
    """Advances the progress bar, and says after the first few steps how long all will take."""

    WARM_UP, TIMED = 6, 4  # a GPU's first steps allocate, compile and record

    def __init__(self, n_fits: int, bar: Any, say: Callable[[str], None]):
        self.n_fits, self.bar, self.say = n_fits, bar, say
        self.calls, self.untold, self.started, self.n_before = 0, 0, 0.0, 0

    def __call__(self, n_heads: int) -> None:
        """Count a step of so many heads."""
        self.calls += 1
        self.untold += n_heads
        # A GPU computes after the call returns: only behind a synchronisation is the clock that of the steps.
        if self.calls in (self.WARM_UP, self.WARM_UP + self.TIMED) and torch.cuda.is_available():
            torch.cuda.synchronize()
        if self.calls == self.WARM_UP:
            self.started, self.n_before = time.perf_counter(), self.untold
        if self.calls == self.WARM_UP + self.TIMED:
            seconds = (time.perf_counter() - self.started) / (self.untold - self.n_before) * self.n_fits * N_STEPS
            self.say(f"{self.n_fits} MAP heads of {N_STEPS} steps: about {_duration(seconds)}")
        if self.calls >= self.WARM_UP + self.TIMED:
            self.bar.update(self.untold)
            self.untold = 0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _tokens(data: StudyData, head: str) -> tuple[Any, int]:
    """Tokens (n, P + N, C) that a head sees, and P."""
    tokens = data.features["tokens"]
    if head != WITH_CLS:
        return tokens, 0
    return np.concatenate([data.features["cls"][:, None], tokens], 1), 1


def _samples(data: StudyData, tokens: torch.Tensor, shots: int, n_seeds: int, n_prefix: int) -> Samples:
    rows, _ = data.support(shots, n_seeds)
    classes, codes = np.unique(data.y, return_inverse=True)
    # Rows (seeds, n) of the support samples, their targets (seeds, n, classes) and tokens (seeds, n, P + N, C).
    chosen = np.stack(rows)
    targets = torch.eye(len(classes), device=tokens.device)[torch.as_tensor(codes[chosen], device=tokens.device)]
    return Samples(tokens[torch.as_tensor(chosen, device=tokens.device)], targets, list(range(n_seeds)), n_prefix)


def _accuracies(predicted: torch.Tensor, data: StudyData, rows: Any) -> list[float]:
    """Top-1 percent of each head."""
    codes = np.unique(data.y, return_inverse=True)[1][rows]
    hits = predicted == torch.as_tensor(codes, device=predicted.device)
    accuracies: list[float] = (100 * hits.float().mean(1)).tolist()
    return accuracies


def _result(
    data: StudyData, shots: int, seed: int, candidate: Candidate, validation: float, test: float
) -> StudyResult:
    where: dict[str, Any] = {"dataset": data.dataset, "backbone": data.backbone, "shots": shots, "seed": seed}
    return StudyResult(**asdict(candidate), **where, validation=validation, test=test)


def fit_probes(study: Study, data: StudyData, say: Callable[[str], None]) -> None:
    """Fit the probes that have no result yet."""
    names = {NONE, *(study.augmentations or NAMES)}
    with appending(study.results_file) as (done, append):
        # Estimators hold no features, so that making them all costs nothing.
        todo = [
            (shots, seed, candidate, estimator)
            for shots, seed in itertools.product(study.shots, range(study.n_seeds))
            for candidate, estimator in probe_plans(seed)
            if (data.dataset, data.backbone, shots, seed, candidate) not in done and candidate.augmentation in names
        ]
        if not todo:
            return
        say(f"{len(todo)} probes")
        pooled = data.features["pooled"]
        samples = {shots: data.support(shots, study.n_seeds)[0] for shots in study.shots}
        for shots, seed, candidate, estimator in progress_bar(todo, unit="fit", desc="probes"):
            rows = samples[shots][seed]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of C that are too large to converge: validation leaves them out
                estimator.fit(pooled[rows], data.y[rows])
            accuracies = [
                100 * float((estimator.predict(pooled[part]) == data.y[part]).mean())
                for part in (data.validation, data.test)
            ]
            append([_result(data, shots, seed, candidate, *accuracies)])
