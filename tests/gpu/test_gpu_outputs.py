"""Numbers and several labels fitted on a GPU are those fitted on a CPU."""

import numpy as np
import pytest
import torch

from frofa import FeatureBlocks
from frofa.estimators import MultiLabelProbeClassifier, ShrinkageRegressor

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.parametrize(("n", "width"), [(30, 200), (400, 64)])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_a_gpu_fits_what_a_cpu_does(n: int, width: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(n, width))
    features = FeatureBlocks({"a": [(plain + 0.3 * rng.normal(size=plain.shape)).astype(dtype) for _ in range(3)]})
    y = plain[:, :5] + rng.normal(size=(n, 5))
    y[:, 4] = 1
    here, there = (ShrinkageRegressor(device=device).fit(features, y) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(there.loo_predictions_, here.loo_predictions_, atol=1e-8)
    for found, expected in zip(there.predict(features, True), here.predict(features, True), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-7)
    found, expected = (regressor.predict_interval(features)[1] for regressor in (there, here))
    np.testing.assert_allclose(found, expected, atol=1e-7)
    labels = (y > 1).astype(int)
    proba = [
        MultiLabelProbeClassifier(device=device).fit(features, labels).predict_proba(features)
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(proba[1], proba[0], atol=1e-7)
