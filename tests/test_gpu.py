"""A GPU gives what a CPU gives, and what was trained there is used here."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import frofa
from frofa import FrozenFeatureExtractor
from frofa import augmentations as A
from frofa.augmentations import Augmentation, Brightness, RandAugment, RandomChoice, Rotate, TokenBatch, TrivialAugment
from frofa.estimators import MAPClassifier
from frofa.estimators._schedule import Rule
from frofa.estimators._sgd import update
from frofa.store import FeatureSpec, FeatureStore, transfer

VARIED: tuple[Any, ...] = (
    A.Brightness, A.Contrast, A.Posterize, A.Solarize, A.Invert, A.Sharpness, A.Equalize, A.JPEG
)  # fmt: skip
EVERY: list[Augmentation] = [kind(variant=variant) for kind in VARIED for variant in ("default", "c", "c2")]
EVERY += [A.GaussianNoise(variant="default"), A.GaussianNoise(variant="c2")]
EVERY += [kind() for kind in (A.Rotate, A.ShearX, A.ShearY, A.TranslateX, A.TranslateY, A.Crop, A.ResizedCrop)]
EVERY += [A.Rotate(fill="edge"), A.Rotate(fill="zero"), A.InceptionCrop(), A.PatchDropout(), A.MixUp()]
EVERY += [A.ChannelDropout(), A.RandomApply([A.Crop()]), A.RandomChoice([A.Crop(), A.Brightness()])]
EVERY += [
    RandAugment(operations=[Brightness(), Rotate()]),
    A.TrivialAugment(),
    A.Sequential([A.Brightness(), A.Posterize()]),
]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def on_gpu(params: Any) -> Any:
    """Drawn parameters, moved."""
    if isinstance(params, torch.Tensor):
        return params.cuda()
    if isinstance(params, dict):
        return {name: on_gpu(value) for name, value in params.items()}
    return type(params)(map(on_gpu, params)) if isinstance(params, (list, tuple)) else params


def moved(batch: TokenBatch, device: str) -> TokenBatch:
    parts = {name: getattr(batch, name) for name in ("patches", "mask", "targets")}
    return batch.replace(**{name: part if part is None else part.to(device) for name, part in parts.items()})


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


@pytest.mark.parametrize("grid", [(4, 4), (3, 17), None], ids=str)
@pytest.mark.parametrize("augment", EVERY, ids=repr)
def test_augmentations_agree(augment: Augmentation, grid: Any) -> None:
    """Drawn on the CPU, applied on both: square and other grids, and a mask with images of several sizes."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(6, 51 if grid is None else grid[0] * grid[1], 33, generator=generator)
    sizes = torch.tensor([[3, 17], [5, 10], [1, 1], [2, 2], [7, 7], [1, 51]]) if grid is None else grid
    mask = None if grid else torch.arange(51) < sizes.prod(1, keepdim=True)
    batch = TokenBatch.from_tokens(tokens, grid=sizes, mask=mask, targets=torch.eye(6))
    params = augment.make_params(batch, generator)
    here = augment.transform(batch, params)
    there = augment.transform(moved(batch, "cuda"), on_gpu(params))
    seen = torch.ones(tokens.shape[:2], dtype=torch.bool) if here.mask is None else here.mask
    close = torch.isclose(there.patches.cpu()[seen], here.patches[seen], rtol=1e-4, atol=1e-4)
    # Where a value lies on the edge between two steps of a quantisation, the last bit of a sum decides.
    assert close.float().mean() > (0.99 if "JPEG" in repr(augment) else 0.9999)
    back = moved(there, "cpu")
    assert (back.mask is None) == (here.mask is None)
    assert back.mask is None or here.mask is None or torch.equal(back.mask, here.mask)
    torch.testing.assert_close(back.targets, here.targets)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("augment", [a for a in EVERY if not isinstance(a, (A.Sequential, RandAugment))], ids=repr)
def test_half_precision_is_rounded_once(augment: Augmentation, dtype: torch.dtype) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    tokens = torch.randn((5, 49, 40), generator=generator, device="cuda").to(dtype)
    batch = TokenBatch.from_tokens(tokens, targets=torch.eye(5, device="cuda"))
    params = augment.make_params(batch, generator)
    out = augment.transform(batch, params).patches
    precise = augment.transform(batch.replace(patches=tokens.float()), params).patches
    assert out.dtype == dtype
    torch.testing.assert_close(out, precise.to(dtype), rtol=0.02, atol=0.02)
    share = (out == precise.to(dtype)).float().mean()
    assert share > 0.98, "differs by more than rare ties"


@pytest.mark.parametrize("augment", EVERY, ids=repr)
def test_the_host_does_not_wait(augment: Augmentation) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    batch = TokenBatch.from_tokens(
        torch.randn((32, 49, 40), generator=generator, device="cuda"), targets=torch.eye(32, device="cuda")
    )
    augment.apply(batch, generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        augment.apply(batch, generator)
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("augment", [RandomChoice([Brightness(), Rotate()]), RandAugment(), TrivialAugment()], ids=repr)
def test_choices_on_a_gpu_are_drawn_anew(augment: Augmentation) -> None:
    tokens = torch.randn(6, 49, 8, generator=torch.Generator().manual_seed(0)).cuda()
    generator = torch.Generator("cuda").manual_seed(2)
    first, second = augment(tokens, generator), augment(tokens, generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, augment(tokens, torch.Generator("cuda").manual_seed(2)))


@pytest.mark.parametrize(
    "augment",
    [None, Brightness(0.3), A.MixUp(), A.PatchDropout(), RandAugment(), A.Sequential([A.Crop(), Rotate()])],
    ids=repr,
)
def test_recorded_steps_are_the_steps(augment: Augmentation | None, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, y = torch.randn(90, 49, 64, generator=generator), np.arange(90) % 3
    recorded = MAPClassifier(augment, device="cuda", n_steps=30, random_state=0).fit(tokens, y)
    monkeypatch.setattr("frofa.estimators._training.Recorded", lambda step, _: step)
    plain = MAPClassifier(augment, device="cuda", n_steps=30, random_state=0).fit(tokens, y)
    for name, value in plain.weights_.items():
        np.testing.assert_allclose(recorded.weights_[name], value, rtol=1e-2, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("clip", [1.0, float("inf")])
def test_fused_update_is_the_update(clip: float) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    draws = [torch.randn((3, 4000), generator=generator, device="cuda") for _ in range(3)]
    rule = Rule(*torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.1, 0.2], [0.9, 0.0, 0.5], [clip] * 3], device="cuda"))
    results = []
    for device in ("cuda", "cpu"):
        values, velocity, gradient = (draw.to(device, copy=True) for draw in draws)
        update(values, velocity, gradient, 2500, Rule(*(numbers.to(device) for numbers in rule)))
        results.append([values.cpu(), velocity.cpu()])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_stored_features_are_put_there_once(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "CHUNK", 3000)  # several, the last one shorter
    rng, kind = np.random.default_rng(0), getattr(torch, dtype)
    features = torch.tensor(rng.normal(size=(60, 9, 64)) + np.arange(60)[:, None, None] % 2).to(kind)
    spec = FeatureSpec("weights", "architecture", "{}", "decoder", "tokens", 1, True, "float32", dtype)
    store = FeatureStore(tmp_path / "store")
    for start in range(0, 60, 25):
        part = features[start : start + 25]
        store.put(spec, rng.integers(0, 256, (len(part), 20), np.uint8), part)
    array, y = store.features(spec), np.arange(60) % 2
    converted = array[::-1].to_device("cuda", torch.float64)
    assert torch.equal(converted.cpu(), features.flip(0).double())
    whole = array.to_device("cuda")
    assert whole.dtype == kind
    assert torch.equal(whole.cpu(), features)
    assert array[10:20].to_device("cuda").data_ptr() == whole[10:].data_ptr()
    assert torch.equal(array[[5, 3]].to_device("cuda").cpu(), features[[5, 3]])
    with pytest.raises(MemoryError, match=r"on cuda:0, where .* are free; the budget is 0.0 MiB"):
        array.to_device("cuda", torch.float64, budget=1000)
    head = MAPClassifier(n_steps=20, batch_size=16, random_state=0, device="cuda")
    expected = head.fit(features.float().numpy(), y).predict_proba(features.float().numpy())
    monkeypatch.setattr("frofa.store.array.transfer", None)  # nothing is read again
    np.testing.assert_allclose(head.fit(array, y).predict_proba(array), expected, atol=1e-3)


def test_what_does_not_fit_there_is_read_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    features, y = (rng.normal(size=(60, 9, 64))).astype(np.float16), np.arange(60) % 2
    spec = FeatureSpec("weights", "architecture", "{}", "decoder", "tokens", 1, True, "float32", "float16")
    store = FeatureStore(tmp_path / "store")
    store.put(spec, rng.integers(0, 256, (60, 20), np.uint8), features)
    head = MAPClassifier(n_steps=20, batch_size=16, random_state=0, device="cuda")
    expected = head.fit(features.astype(np.float32), y).weights_["head.weight"]
    monkeypatch.setattr(transfer, "FREE_FRACTION", 0)
    np.testing.assert_allclose(head.fit(store.features(spec), y).weights_["head.weight"], expected, atol=1e-4)
