"""Seconds that the head which needs no tuning takes to fit."""

import time

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from frofa.estimators import FewShotClassifier

CLASSES, SHOTS, CHANNELS, THREADS = 10, 25, 768, 2
TIMED = f"{CLASSES} classes x {SHOTS} shots x {CHANNELS} channels on {THREADS} cores"
"""The fit that is timed, in words."""


def seconds_of_fit(repeats: int = 5) -> float:
    """Median seconds of a fit to random features."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(CLASSES), SHOTS)
    features = rng.normal(size=(len(codes), CHANNELS)) + rng.normal(size=(CLASSES, CHANNELS))[codes]
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(THREADS)
    try:
        # NumPy's threads and PyTorch's are limited each in its own way.
        with threadpool_limits(THREADS):
            for _ in range(repeats):
                started = time.perf_counter()
                FewShotClassifier(effort="fast", random_state=0, device="cpu").fit(features, codes)
                found.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return float(np.median(found))
