"""A GPU suggests what a CPU suggests."""

from typing import Any

import numpy as np
import pytest
import torch

from frofa import suggest
from frofa.estimators import ShrinkageProbeClassifier

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.parametrize("options", [{}, {"max_exact": 500}, {"strategy": "coverage"}])
def test_suggestions_are_those_of_a_cpu(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 20, 3000)
    pool = (rng.normal(size=(3000, 64)) + 3 * rng.normal(size=(20, 64))[classes]).astype(np.float16)
    known = rng.choice(3000, 100, replace=False)
    for given in ((), (pool[known], classes[known] % 5)):
        on_gpu, on_cpu = (
            suggest(ShrinkageProbeClassifier(device="cpu"), pool, *given, device=device, random_state=0, **options)
            for device in ("cuda", "cpu")
        )
        assert on_gpu.tolist() == on_cpu.tolist()
