"""A GPU gives what a CPU gives, and what was trained there is used here."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import frofa
from frofa import FrozenFeatureExtractor
from frofa.augmentations import Augmentation, Brightness, Contrast, Posterize
from frofa.estimators import MAPClassifier

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(scope="module")
def images() -> Any:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (70, 48, 48, 3)).astype(np.uint8)


@pytest.mark.parametrize("output", ["tokens", "cls", "mean", "pooled"])
def test_features_agree(output: Any, images: Any) -> None:
    on_cpu = FrozenFeatureExtractor(output=output, device="cpu").transform(images)
    in_float32 = FrozenFeatureExtractor(output=output, device="cuda", precision="float32").transform(images)
    np.testing.assert_allclose(in_float32, on_cpu, atol=1e-4)
    in_bfloat16 = FrozenFeatureExtractor(output=output).transform(images)  # "auto" takes the GPU and bfloat16
    error = np.linalg.norm(in_bfloat16 - on_cpu) / np.linalg.norm(on_cpu)
    assert 1e-4 < error < 3e-2


def test_precisions_have_features_of_their_own(images: Any, tmp_path: Path) -> None:
    extractor = FrozenFeatureExtractor(output="mean", store=tmp_path)
    assert extractor.extract(images).n_computed == 70
    assert extractor.extract(images).n_computed == 0
    assert extractor.set_params(precision="float32").extract(images).n_computed == 70
    assert extractor.set_params(device="cpu").extract(images).n_computed == 0


@pytest.mark.parametrize("variant", ["default", "c", "c2"])
@pytest.mark.parametrize("kind", [Brightness, Contrast, Posterize])
def test_augmentations_agree(kind: Any, variant: Any) -> None:
    augment: Augmentation = kind(0.5, variant)
    tokens = torch.randn(6, 16, 32, generator=torch.Generator().manual_seed(0))
    params = augment.make_params(tokens, torch.Generator().manual_seed(1))
    on_gpu = augment.transform(tokens.cuda(), {name: value.cuda() for name, value in params.items()})
    torch.testing.assert_close(on_gpu.cpu(), augment.transform(tokens, params), rtol=1e-5, atol=1e-5)
    drawn = augment(tokens.cuda(), torch.Generator("cuda").manual_seed(2))
    assert drawn.is_cuda
    assert not torch.equal(drawn.cpu(), tokens)


def test_trained_on_a_gpu_used_without_one(images: Any, tmp_path: Path) -> None:
    tokens = FrozenFeatureExtractor(precision="float32").transform(images)
    y = np.arange(70) % 7
    tokens += 0.3 * np.eye(192, dtype=np.float32)[y][:, None] * 20
    head = MAPClassifier(Brightness(0.3), device="cuda", n_steps=100, random_state=0).fit(tokens, y)
    assert head.score(tokens, y) > 0.95
    again = MAPClassifier(Brightness(0.3), device="cuda", n_steps=100, random_state=0).fit(tokens, y)
    np.testing.assert_allclose(again.predict_proba(tokens), head.predict_proba(tokens), atol=1e-3)
    frofa.save(head, tmp_path / "head.frofa")
    np.save(tmp_path / "tokens.npy", tokens)
    np.save(tmp_path / "expected.npy", head.predict_proba(tokens))
    code = """if True:
        import frofa, numpy as np, torch
        assert not torch.cuda.is_available()
        head = frofa.load("head.frofa")
        np.testing.assert_allclose(head.predict_proba(np.load("tokens.npy")), np.load("expected.npy"), atol=1e-4)
    """
    environment = {"PATH": "", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(frofa.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
