"""Pruned weights and int8: the right layers, close features, keys of their own, and errors where they cannot be had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from frofa import FrozenFeatureExtractor
from frofa.backbones.loading import load_backbone
from frofa.backbones.precision import Int8Linear, mask_2_4, mask_of_largest, quantise


@pytest.fixture(scope="module")
def vit(save_backbone: Callable[..., str]) -> str:
    """Of 32 channels, in which int8's errors average out."""
    return save_backbone("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2)


def features(model: str, images: list[str], **options: Any) -> np.ndarray[Any, np.dtype[Any]]:
    found: np.ndarray[Any, np.dtype[Any]] = FrozenFeatureExtractor(model, device="cpu", **options).transform(images)
    return found


def test_the_mask_keeps_the_two_largest_of_four_and_the_first_of_equal_ones() -> None:
    weight = torch.tensor([[1.0, -4.0, 2.0, 3.0, 1.0, 1.0, -1.0, 1.0]])
    assert mask_2_4(weight).tolist() == [[False, True, False, True, True, True, False, False]]


def test_2_4_prunes_the_linear_layers_of_the_blocks_alone(vit: str) -> None:
    dense, sparse = (load_backbone(vit, None, "cpu", sparsity) for sparsity in (None, "2:4"))
    pruned = set()
    for (name, before), after in zip(dense.module.named_parameters(), sparse.module.parameters(), strict=True):
        if torch.equal(before, after):
            continue
        groups = after.view(-1, 4)
        assert bool(((groups != 0).sum(1) == 2).all())
        kept = after != 0
        assert torch.equal(after[kept], before[kept])
        pruned.add(name)
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert pruned == {f"blocks.{block}.{layer}.weight" for block in range(2) for layer in layers}


def test_quantising_is_exact_to_half_a_step() -> None:
    rows = torch.randn((5, 64), generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-6, 1, 0, 30, 1e4]]).T
    values, scales = quantise(rows)
    assert values.dtype == torch.int8
    assert bool(((values * scales - rows).abs() <= scales * 0.501).all())
    assert int(values.min()) >= -127


@pytest.mark.parametrize("shape", [(3, 32), (2, 5, 32), (40, 32)])
def test_int8_layers_compute_what_their_rounded_parts_say(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        linear = nn.Linear(32, 16)
    x = torch.randn(shape, generator=generator)
    (values, scales), (weights, steps) = quantise(x.view(-1, 32)), quantise(linear.weight.detach())
    expected = (values.double() * scales) @ (weights.double() * steps).T + linear.bias.double()
    with torch.inference_mode():
        found = Int8Linear(linear)(x)
        assert found.shape == (*shape[:-1], 16)
        torch.testing.assert_close(found.view(-1, 16).double(), expected, rtol=1e-5, atol=1e-6)
        assert float((found - linear(x)).norm() / linear(x).norm()) < 0.02


def test_int8_features_are_close_and_do_not_depend_on_the_batch(vit: str, image_paths: list[str]) -> None:
    exact, rounded = (features(vit, image_paths, precision=precision) for precision in ("float32", "int8"))
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-4 < error < 0.05
    alone = features(vit, image_paths, precision="int8", batch_size=1)
    np.testing.assert_allclose(alone, rounded, rtol=0, atol=0.02 * float(np.abs(exact).max()))


def test_int8_of_2_4_weights_is_close_to_them(vit: str, image_paths: list[str]) -> None:
    pruned = features(vit, image_paths, sparsity="2:4")
    rounded = features(vit, image_paths, sparsity="2:4", precision="int8")
    assert 1e-4 < np.linalg.norm(rounded - pruned) / np.linalg.norm(pruned) < 0.05
    assert not np.allclose(pruned, features(vit, image_paths), rtol=0.01)


def test_each_has_a_key_of_its_own_in_a_store(vit: str, image_paths: list[str], tmp_path: Path) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"precision": "int8"},
        {"sparsity": "2:4"},
        {"sparsity": "2:4", "precision": "int8"},
    ]
    extractors = [FrozenFeatureExtractor(vit, device="cpu", store=tmp_path / "store", **given) for given in options]
    specs = [extractor.feature_spec() for extractor in extractors]
    assert [spec.precision for spec in specs] == ["float32", "int8 float32", "float32", "int8 float32"]
    assert specs[0].weights == specs[1].weights != specs[2].weights == specs[3].weights
    assert len({spec.digest for spec in specs}) == 4
    for extractor in extractors:
        assert extractor.extract(image_paths).n_computed == len(image_paths)
        assert extractor.extract(image_paths).n_computed == 0


def test_the_backbone_itself_stays_as_it_was(vit: str, image_paths: list[str]) -> None:
    before = features(vit, image_paths, precision="float32")
    features(vit, image_paths, precision="int8")
    np.testing.assert_array_equal(features(vit, image_paths, precision="float32"), before)
    assert not any(isinstance(part, Int8Linear) for part in load_backbone(vit, None, "cpu").module.modules())


@pytest.mark.parametrize("options", [{"precision": "int8"}, {"sparsity": "2:4"}, {"sparsity": 0.5}])
def test_convolutional_models_are_refused(options: dict[str, Any], save_backbone: Callable[..., str]) -> None:
    [(name, value)] = options.items()
    model = save_backbone("resnet10t")
    with pytest.raises(ValueError, match=rf"^{name}={value!r} is for the linear layers of a vision .* a ResNet\.$"):
        FrozenFeatureExtractor(model, device="cpu", **options).fit()


def test_a_share_prunes_the_smallest_weights_of_each_layer(vit: str) -> None:
    dense, sparse = (load_backbone(vit, None, "cpu", sparsity) for sparsity in (None, 0.7))
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    pruned = {f"blocks.{block}.{layer}.weight" for block in range(2) for layer in layers}
    for (name, before), after in zip(dense.module.named_parameters(), sparse.module.parameters(), strict=True):
        kept = after != 0 if name in pruned else torch.ones_like(after, dtype=torch.bool)
        assert torch.equal(after[kept], before[kept])
        if name in pruned:
            assert int((~kept).sum()) == round(0.7 * before.numel())
            assert float(before[~kept].abs().max()) <= float(before[kept].abs().min())


def test_of_equal_weights_the_first_are_kept() -> None:
    weight = torch.tensor([[1.0, -1.0, 1.0, 2.0], [0.5, 1.0, -1.0, 1.0]])
    assert mask_of_largest(weight, 0.5).tolist() == [[True, True, True, True], [False, False, False, False]]


def test_features_with_2_4_weights_are_kept_under_the_key_of_the_first_version() -> None:
    digest = FrozenFeatureExtractor(device="cpu", sparsity="2:4").feature_spec().weights
    assert digest == "d10ee8a3c8bc220b707212710a53f33e237ce593"


@pytest.mark.parametrize("sparsity", ["1:4", 0.0, 1.0, 2, True])
def test_other_sparsities_are_refused(sparsity: Any) -> None:
    expected = r"The 'sparsity' parameter of FrozenFeatureExtractor must be a str among \{'2:4'\}, a float in the range"
    with pytest.raises(ValueError, match=expected):
        FrozenFeatureExtractor(sparsity=sparsity).fit()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_int8_on_a_gpu_is_refused(vit: str) -> None:
    with pytest.raises(ValueError, match=r"^precision='int8' is for CPUs: GPUs are faster in bfloat16\. Got it on"):
        FrozenFeatureExtractor(vit, device="cuda", precision="int8").fit()


def test_devices_other_than_a_cpu_have_no_int8(vit: str) -> None:
    elsewhere = load_backbone(vit, None, "cpu").with_linear_layers("a test", lambda linear: linear)
    elsewhere.device = torch.device("meta")
    refused = pytest.raises(ValueError, match=r"^precision='int8' is for CPUs: .* Got it on device 'meta'\.$")
    with refused:
        elsewhere.precision_key("int8", compiled=False)
    with refused:
        elsewhere.extract(torch.zeros(1, 3, 32, 32), [], "int8")
