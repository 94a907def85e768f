"""A GPU gives what a CPU gives, and what was trained there is used here."""

import gc
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone

import frofa
from frofa import FrozenFeatureExtractor, extract_many
from frofa import augmentations as A
from frofa.augmentations import Augmentation, Brightness, RandAugment, RandomChoice, Rotate, TokenBatch, TrivialAugment
from frofa.backbones.loading import load_backbone
from frofa.backbones.outputs import Request
from frofa.compute.cuda_graphs import CAPTURES, Pool
from frofa.estimators import (
    LogisticProbeClassifier,
    MAPClassifier,
    RaggedTokens,
    RecordingWarning,
    SoftMoEClassifier,
    TransductiveClassifier,
)
from frofa.estimators.models.map_head import init_map_head
from frofa.estimators.models.map_model import MapModel
from frofa.estimators.training.gradient import Gradient
from frofa.estimators.training.parameters import Heads, ParameterLayout
from frofa.estimators.training.plan import StepBatch
from frofa.estimators.training.schedule import Rule
from frofa.estimators.training.sgd import factor_dtype, update
from frofa.extraction.batch_size import automatic_batch_size
from frofa.extraction.engine import ForwardEngine
from frofa.store import FeatureSpec, FeatureStore
from frofa.store.lazy import transfer

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
    RandAugment(1, level=0.9),
    A.TrivialAugment(),
    A.RandomChoice([A.Sharpness(variant="c2", clip=False), A.Equalize(), A.Rotate(fill="edge"), A.ShearX(fill="zero")]),
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


@pytest.fixture(scope="module")
def image_files(images: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three hundred files, so that processes decode them, of which one is no image."""
    folder = tmp_path_factory.mktemp("files")
    for i in range(300):
        Image.fromarray(np.roll(images[i % 70], i // 70, axis=0)).resize((90, 70)).save(folder / f"{i:03}.png")
    (folder / "100.png").write_text("no image")
    return sorted(map(str, folder.iterdir()))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.filterwarnings("ignore:skipped 1 of 300")
def test_processes_and_pinned_copies_give_what_threads_give(
    precision: Any, image_files: list[str], tmp_path: Path
) -> None:
    """Bit for bit: rows that are used again too early, or copies that are read too early, would show."""
    shared: Any = {"device": "cuda", "precision": precision, "batch_size": 16, "on_error": "skip"}
    in_threads = FrozenFeatureExtractor(decode="thread", n_jobs=1, **shared).transform(image_files)
    assert in_threads.shape == (299, 64, 192)
    for _ in range(3):
        np.testing.assert_array_equal(FrozenFeatureExtractor(n_jobs=4, **shared).transform(image_files), in_threads)
    stored = FrozenFeatureExtractor(n_jobs=4, store=tmp_path / "store", **shared)
    np.testing.assert_array_equal(stored.transform(image_files), in_threads)
    for dtype in ("float16", "float64"):
        features = FrozenFeatureExtractor(n_jobs=4, dtype=dtype, **shared).transform(image_files)
        np.testing.assert_array_equal(features, in_threads.astype(dtype))


def test_pixels_are_normalised_as_on_a_cpu() -> None:
    preprocessing = load_backbone("frofa/vit_tiny_tin200", None, "cuda").preprocessing
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).repeat(1, 1, 1, 3)
    for mean, std in ((0.5, 0.5), (0.48145466, 0.26862954), (1 / 3, 0.1)):
        parts = replace(preprocessing, mean=torch.full((3, 1, 1), mean), std=torch.full((3, 1, 1), std))
        assert torch.equal(parts.normalise(every.cuda()).cpu(), parts.normalise(every))


def test_many_outputs_are_those_of_each_alone(image_files: list[str]) -> None:
    wanted: Any = {"tokens": {}, "cls": {"output": "cls"}, "inner": {"output": "mean", "layer": 3, "norm": False}}
    files = image_files[:99]
    make = {n: FrozenFeatureExtractor(device="cuda", precision="float32", **own) for n, own in wanted.items()}
    for name, extraction in extract_many(make, files).items():
        np.testing.assert_allclose(extraction.features, make[name].transform(files), atol=1e-5)


@pytest.mark.filterwarnings("ignore:skipped 1 of 300")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch.compile uses what torch deprecates
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")  # advice
def test_compiled_features_are_close(image_files: list[str]) -> None:
    shared: Any = {"device": "cuda", "batch_size": 64, "on_error": "skip", "output": "cls"}
    bounds: list[tuple[Any, float]] = [("float32", 1e-4), ("bfloat16", 3e-2)]
    for precision, most in bounds:
        plain, compiled = (
            FrozenFeatureExtractor(compile=c, precision=precision, **shared).transform(image_files)
            for c in (False, True)
        )
        assert np.linalg.norm(compiled - plain) / np.linalg.norm(plain) < most


@pytest.mark.filterwarnings("ignore:skipped 1 of 300")
def test_memory_that_runs_out_halves_batches(image_files: list[str]) -> None:
    shared: Any = {"device": "cuda", "precision": "float32", "output": "mean", "on_error": "skip", "n_jobs": 2}
    expected = FrozenFeatureExtractor(**shared).transform(image_files)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    used = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((used + 40 * 2**20) / total)  # 299 images take more
    try:
        with pytest.warns(UserWarning, match="memory runs out at 299 images a pass: going on with"):
            features = FrozenFeatureExtractor(batch_size=299, **shared).transform(image_files)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_automatic_batches_fit(image_files: list[str]) -> None:
    backbone = load_backbone("frofa/vit_tiny_tin200", None, "cuda")
    size = automatic_batch_size(backbone, [Request("tokens", 11, True)], "bfloat16")
    assert size == 256  # of a small model, on any GPU
    features = FrozenFeatureExtractor(batch_size="auto", output="mean").transform(image_files[:50])
    assert features.shape == (50, 192)


@pytest.mark.filterwarnings("ignore:skipped 1 of 300")
def test_the_host_waits_for_no_forward_pass(image_files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = FrozenFeatureExtractor(output="mean", batch_size=32, n_jobs=2, on_error="skip")
    extractor.transform(image_files)  # libraries are set up
    original = ForwardEngine.launch

    def launch(self: ForwardEngine, pixels: Any) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return original(self, pixels)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(ForwardEngine, "launch", launch)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        assert extractor.transform(image_files).shape == (299, 192)


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
    monkeypatch.setattr("frofa.estimators.training.loop.Recorded", lambda step, _: step)
    plain = MAPClassifier(augment, device="cuda", n_steps=30, random_state=0).fit(tokens, y)
    for name, value in plain.weights_.items():
        np.testing.assert_allclose(recorded.weights_[name], value, rtol=1e-2, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("augment", [None, Brightness(0.3), A.PatchDropout()], ids=repr)
def test_recorded_steps_of_experts_are_the_steps(augment: Augmentation | None, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, y = torch.randn(90, 49, 64, generator=generator), np.arange(90) % 3
    head = SoftMoEClassifier(augment, device="cuda", n_steps=30, batch_size=90, random_state=0)
    recorded = clone(head).fit(tokens, y)
    monkeypatch.setattr("frofa.estimators.training.loop.Recorded", lambda step, _: step)
    plain, on_cpu = clone(head).fit(tokens, y), clone(head).set_params(device="cpu", augment=None).fit(tokens, y)
    for name, value in plain.weights_.items():
        np.testing.assert_allclose(recorded.weights_[name], value, rtol=1e-2, atol=2e-4, err_msg=name)
    if augment is None:
        np.testing.assert_allclose(recorded.predict_proba(tokens), on_cpu.predict_proba(tokens), atol=1e-2)


@pytest.fixture
def collected_often() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(100)
    yield
    gc.set_threshold(*before)


def search(n: int, seed: int = 0) -> None:
    """Fit a probe large enough for its steps to be recorded."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 6
    X = rng.normal(size=(n, 100)) + 3 * rng.normal(size=(6, 100))[y]
    assert LogisticProbeClassifier(1e-2, tol=1e-3, device="cuda").fit(X, y).score(X, y) == 1


@pytest.mark.usefixtures("collected_often")
def test_steps_of_many_shapes_are_recorded() -> None:
    """What is dropped of the shapes before spoils no recording, and memory does not grow with their number."""
    reserved = []
    for i in range(300):
        search(90 + i)
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[-1] <= 1.5 * reserved[99]


@pytest.mark.usefixtures("collected_often")
def test_threads_record_at_once() -> None:
    tokens, y = torch.randn(60, 16, 64, generator=torch.Generator().manual_seed(0)).numpy(), np.arange(60) % 3
    heads = MAPClassifier(device="cuda", n_steps=20), SoftMoEClassifier(device="cuda", n_steps=20, batch_size=30)

    def work(i: int) -> bool:
        search(200 + i % 5, i)
        return hasattr(clone(heads[i % 2]).set_params(random_state=i).fit(tokens, y), "weights_")

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(24)))


def test_a_recording_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the allocator nor the generator takes it for going on, and the next one succeeds."""
    monkeypatch.setattr(CAPTURES, "_told", False)
    device, x = torch.device("cuda"), torch.zeros(1000, device="cuda")
    generator, other = (torch.Generator("cuda").manual_seed(3) for _ in range(2))

    def work() -> None:
        x.uniform_(generator=generator)
        torch.cuda.synchronize()

    with pytest.warns(RecordingWarning, match="CUDA graph"):
        assert CAPTURES.record(work, device, Pool(), [generator]) is None
    assert torch.equal(x.uniform_(generator=generator).clone(), x.uniform_(generator=other))
    before = torch.cuda.memory_reserved()
    for _ in range(30):  # memory that two streams use is free again when both are done, unless something is recorded
        used = torch.empty(2**26, dtype=torch.uint8, device="cuda")
        used.record_stream(torch.cuda.Stream())
        del used
        torch.cuda.synchronize()
    assert torch.cuda.memory_reserved() <= before + 2**27
    pool = Pool()
    recording = CAPTURES.record(lambda: x.uniform_(generator=generator).mul_(2), device, pool, [generator])
    assert recording is not None
    assert pool.nbytes < 2**23
    recording.replay()
    first = x.clone()
    recording.replay()
    assert not torch.equal(first, x)
    assert torch.equal(first, 2 * x.uniform_(generator=other))


@pytest.mark.filterwarnings("ignore::frofa.estimators.RecordingWarning")
def test_heads_train_without_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting(Brightness):
        """Asks the device, although it says that it does not."""

        def apply(self, batch: TokenBatch, generator: torch.Generator) -> TokenBatch:
            assert float(batch.patches.float().sum()) < 1e9
            return super().apply(batch, generator)

    monkeypatch.setattr(CAPTURES, "_failures", 0)
    tokens, y = torch.randn(90, 49, 64, generator=torch.Generator().manual_seed(0)), np.arange(90) % 3
    settings: Any = {"device": "cuda", "n_steps": 30, "random_state": 0}
    waiting = MAPClassifier(Waiting(0.3), **settings).fit(tokens, y)
    plain = MAPClassifier(Brightness(0.3), **settings).fit(tokens, y)
    for name, value in plain.weights_.items():
        np.testing.assert_allclose(waiting.weights_[name], value, rtol=1e-2, atol=2e-4, err_msg=name)


@pytest.mark.parametrize(
    "augment",
    [
        None,
        A.Sequential([Rotate(), A.PatchDropout(), Brightness()]),
        A.RandomChoice([A.ResizedCrop(), A.MixUp()]),
        A.JPEG(),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [16, 256])
def test_images_of_different_sizes(
    augment: Augmentation | None, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded steps see each batch's own grids and masks; where values do not fit on the device, nothing changes."""
    rng = np.random.default_rng(0)
    grids, y = rng.integers(1, 9, (90, 2)), np.arange(90) % 3
    values = rng.normal(size=(grids.prod(1).sum(), 64)) + np.repeat(rng.normal(size=(3, 64))[y], grids.prod(1), axis=0)
    tokens = RaggedTokens(values.astype(np.float16), grids)
    head = MAPClassifier(augment, device="cuda", n_steps=30, batch_size=batch_size, random_state=0)
    recorded = clone(head).fit(tokens, y)
    with monkeypatch.context() as patch:
        patch.setattr("frofa.estimators.tokens.padding._to_device", lambda *_: None)
        from_host = clone(head).fit(tokens, y)
    monkeypatch.setattr("frofa.estimators.training.loop.Recorded", lambda step, _: step)
    plain = clone(head).fit(tokens, y)
    for name, value in plain.weights_.items():
        np.testing.assert_allclose(recorded.weights_[name], value, rtol=1e-2, atol=2e-4, err_msg=name)
        np.testing.assert_allclose(from_host.weights_[name], value, rtol=1e-2, atol=2e-4, err_msg=name)
    on_cpu = clone(head).set_params(device="cpu")
    vars(on_cpu).update({name: value for name, value in vars(plain).items() if name.endswith("_")})
    np.testing.assert_allclose(on_cpu.predict_proba(tokens), plain.predict_proba(tokens), atol=1e-3)
    if augment is None:  # the same batches are drawn by another generator there
        assert clone(head).set_params(device="cpu").fit(tokens, y).score(tokens, y) == plain.score(tokens, y) == 1


@pytest.mark.parametrize("clip", [1.0, float("inf")])
def test_fused_update_is_the_update(clip: float) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    draws = [torch.randn((3, 4000), generator=generator, device="cuda") for _ in range(3)]
    rule = Rule(*torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.1, 0.2], [0.9, 0.0, 0.5], [clip] * 3], device="cuda"))
    results = []
    for device in ("cuda", "cpu"):
        layout = ParameterLayout({"a.weight": (0, (50, 50)), "b": (2500, (1500,))}, 2500, 4000)
        values, velocity = (Heads(layout, draw.to(device, copy=True)) for draw in draws[:2])
        gradient = Gradient(layout, draws[2].to(device, copy=True))
        update(values, velocity, gradient, Rule(*(numbers.to(device) for numbers in rule)))
        velocity.flat[1] = 0  # without momentum it has no meaning, and a CPU leaves it alone
        results.append([values.flat.cpu(), velocity.flat.cpu()])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_classes", [3, 60])
def test_products_formed_in_the_update_are_the_products(n_classes: int) -> None:
    """Against the update by the same factors' products in float64."""
    generator = torch.Generator("cuda").manual_seed(0)
    one = init_map_head(192, n_classes, 4.0, torch.Generator().manual_seed(0))
    params = {name: value.expand(6, *value.shape).cuda() for name, value in one.items()}
    params["head.weight"] = torch.randn(6, n_classes, 192, generator=generator, device="cuda") / 14
    tokens = torch.randn(2, 100, 49, 192, generator=generator, device="cuda")
    targets = torch.randn(2, 100, n_classes, generator=generator, device="cuda").softmax(2)
    step, layout = StepBatch(tokens, None, targets, [(2, 3)]), ParameterLayout.of(params)
    rule = Rule(*torch.tensor([[0.1] * 6, [0.01] * 6, [0.9] * 6, [0.05, 0.1, 1, 1e9, torch.inf, 0.2]], device="cuda"))
    values, velocity, other, expected = (Heads(layout, layout.pack(params)) for _ in range(4))
    assert factor_dtype(values.flat, 100) is None
    torch.set_float32_matmul_precision("medium")
    try:
        assert factor_dtype(values.flat, 1000) is None
        dtype = factor_dtype(values.flat, 100)
        assert dtype == torch.bfloat16
        gradient = Gradient(layout, torch.zeros_like(values.flat), dtype)
        MapModel(3).gradients(values, step, gradient)
        written = Gradient(layout, gradient.flat.clone())
        for name, view, upstream, inputs in gradient.factors:
            view(written.params[name]).copy_(upstream.double().mT @ inputs.double())
        update(values, velocity, gradient, rule)
    finally:
        torch.set_float32_matmul_precision("highest")
    update(other, expected, written, rule)
    start = layout.views(layout.pack(params))
    for name, value in expected.params.items():
        for head in range(6):
            change = value[head] - 0.9 * start[name][head]
            difference = velocity.params[name][head] - value[head]
            assert difference.norm() <= 1e-3 * change.norm() + 1e-6, (name, head)
    torch.testing.assert_close(values.flat, layout.pack(params) - 0.1 * velocity.flat, atol=1e-6, rtol=0)


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
    monkeypatch.setattr(transfer, "PINNED_BYTES", 3000)  # several, the last one shorter
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
    monkeypatch.setattr("frofa.store.lazy.array.transfer", None)  # nothing is read again
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


def test_class_means_learn_from_a_pool_there() -> None:
    rng = np.random.default_rng(0)
    y = np.concatenate([np.repeat(np.arange(5), 4), rng.integers(0, 5, 100)])
    features, labels = rng.normal(size=(120, 48)) + np.eye(5, 48)[y] * 3, np.where(np.arange(120) < 20, y, -1)
    here, there = (
        TransductiveClassifier(unlabeled=-1, device=device).fit(features, labels) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there.label_distributions_, here.label_distributions_, atol=1e-8)
    np.testing.assert_allclose(there.pool_weights_, here.pool_weights_, atol=1e-8)
