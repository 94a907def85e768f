"""Packed passes on a GPU: the kernel for segments in bfloat16, and float32 without it."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from navit_cases import GRIDS, alone, coordinates, model, patches_of
from PIL import Image

from frofa import FrozenFeatureExtractor
from frofa.backbones.navit.attention import attend, segments_of
from frofa.backbones.navit.model import PackedModel
from frofa.backbones.navit.pooling import reduce
from frofa.backbones.outputs import Request

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
ALL = [Request(output, 2, True) for output in ("tokens", "mean", "pooled")]
WIDE: dict[str, Any] = {"embed_dim": 288, "num_heads": 4}  # heads of 72 channels, as So400m has


def error(found: Any, expected: Any) -> float:
    return float((found.double().cpu() - expected).norm() / expected.norm())


def exact(name: str) -> list[torch.Tensor]:
    """Tokens, means and pooled vectors in float64, each image alone through timm's model."""
    module = model(name, **WIDE).double()
    tokens, pooled = [], []
    for patches, grid in zip(patches_of(GRIDS), GRIDS, strict=True):
        found, vector = alone(module, patches.double(), grid)
        tokens.append(found[module.num_prefix_tokens :])
        pooled.append(vector)
    return [torch.cat(tokens), torch.stack([part.mean(0) for part in tokens]), torch.stack(pooled)]


def recent(*wanted: Any) -> Any:
    """A case that earlier versions of timm cannot compute, or do not have."""
    version = tuple(int(part) for part in timm.__version__.split(".")[:3] if part.isdigit())
    return pytest.param(*wanted, marks=pytest.mark.skipif(version < (1, 0, 30), reason="needs timm 1.0.30"))


@pytest.mark.parametrize(
    "name", ["siglip2", "parfac_gap", "cls", recent("rope_mixed"), "rope_half", recent("grouped"), "map_reg"]
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_error_against_float64(name: str, precision: str) -> None:
    module, patches = model(name, **WIDE).cuda(), torch.cat(patches_of(GRIDS)).cuda()
    with torch.inference_mode(), torch.autocast("cuda", getattr(torch, precision), enabled=precision != "float32"):
        found = PackedModel(module, 64)(patches, GRIDS, ALL)
    bound = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 5e-3}[precision]
    for ours, expected in zip(found, exact(name), strict=True):
        assert error(ours, expected) < bound


def test_bfloat16_is_no_worse_than_padded_by_timm() -> None:
    module, patches, longest = model("siglip2", **WIDE).cuda(), patches_of(GRIDS), 64
    filled = torch.zeros(len(GRIDS), longest, patches[0].shape[1])
    places = torch.zeros(len(GRIDS), longest, 2, dtype=torch.long)
    valid = torch.zeros(len(GRIDS), longest, dtype=torch.bool)
    for row, (part, grid) in enumerate(zip(patches, GRIDS, strict=True)):
        filled[row, : len(part)], places[row, : len(part)], valid[row, : len(part)] = part, coordinates(grid), True
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        [tokens, _, pooled] = PackedModel(module)(torch.cat(patches).cuda(), GRIDS, ALL)
        padded = module.forward_features(filled.cuda(), places.cuda(), valid.cuda())
        padded_pooled = module.forward_head(**padded, pre_logits=True)
    expected, _, expected_pooled = exact("siglip2")
    assert error(tokens, expected) <= 1.05 * error(padded["patches"][valid.cuda()], expected)
    assert error(pooled, expected_pooled) <= 1.05 * error(padded_pooled, expected_pooled)


def test_kernel_for_segments_leaks_nothing() -> None:
    pytest.importorskip("torch.nn.attention.varlen")
    lengths = [5, 5, 1, 64, 3]
    generator = torch.Generator().manual_seed(0)
    queries, keys, values = torch.randn(3, sum(lengths), 2, 72, generator=generator).cuda().bfloat16()
    segments = segments_of(lengths, queries.device, 100)
    before = attend(queries, keys, values, segments, segments)
    keys[11:75], values[11:75] = keys[11:75] * 2, values[11:75] * 2
    after = attend(queries, keys, values, segments, segments)
    changed = (before != after).flatten(1).any(1)
    assert changed[11:75].all()
    assert not changed[:11].any()
    assert not changed[75:].any()


def test_reductions_on_the_device() -> None:
    lengths = [4, 1, 9]
    x = torch.randn(14, 6, generator=torch.Generator().manual_seed(0))
    for how in ("mean", "max"):
        on_cpu = reduce(x, segments_of(lengths, x.device), how)
        torch.testing.assert_close(reduce(x.cuda(), segments_of(lengths, torch.device("cuda")), how).cpu(), on_cpu)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch.compile uses what torch deprecates
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")  # advice
@pytest.mark.parametrize("compiled", [False, True])
def test_extraction_agrees_with_a_cpu(compiled: bool) -> None:
    rng = np.random.default_rng(0)
    sizes = [(64, 64), (40, 90), (200, 30), (8, 512), (90, 40), (3, 3)] * 3
    images = [Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]
    for output in ("tokens", "mean", "pooled", "cls"):
        shared: Any = {"output": output, "max_tokens": 64, "batch_size": 4}
        on_cpu: Any = FrozenFeatureExtractor(**shared, device="cpu").transform(images)
        on_gpu: Any = FrozenFeatureExtractor(**shared, device="cuda", compile=compiled).transform(images)
        in_float32: Any = FrozenFeatureExtractor(**shared, device="cuda", precision="float32").transform(images)
        if output == "tokens":
            assert on_gpu.grids.tolist() == on_cpu.grids.tolist()
            on_cpu, on_gpu, in_float32 = on_cpu.values, on_gpu.values, in_float32.values
        np.testing.assert_allclose(in_float32, on_cpu, atol=1e-4)
        assert 1e-4 < np.linalg.norm(on_gpu - on_cpu) / np.linalg.norm(on_cpu) < 3e-2
