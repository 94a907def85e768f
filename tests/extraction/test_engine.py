"""frofa.extraction: memory that runs out, other shapes, bounds, and what a run reports."""

import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms import MaybeToTensor
from torch import Tensor
from torchvision import transforms

from frofa import FrozenFeatureExtractor
from frofa.backbones.backbone import Backbone
from frofa.backbones.loading import load_backbone
from frofa.backbones.outputs import Request
from frofa.backbones.preprocessing import split
from frofa.compute.memory import is_out_of_memory
from frofa.decoding.views import ImageView
from frofa.extraction.batch_size import automatic_batch_size, largest_power_of_two
from frofa.extraction.engine import ForwardEngine
from frofa.extraction.pipeline import IN_FLIGHT
from frofa.extraction.request import settings_of
from frofa.extraction.sinks import StoreSink
from frofa.store import FeatureArray, FeatureStore

TOKENS = Request("tokens", 1, True)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of forward passes; above 3 images, memory runs out."""
    sizes: list[int] = []
    original = Backbone.extract

    def limited(self: Backbone, images: Tensor, *options: Any) -> Any:
        sizes.append(len(images))
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, images, *options)

    monkeypatch.setattr(Backbone, "extract", limited)
    return sizes


def test_a_batch_that_does_not_fit_is_halved(
    small_vit: str, image_paths: list[str], limit: list[int], tmp_path: Path
) -> None:
    extractor = FrozenFeatureExtractor(small_vit, device="cpu", batch_size=6, store=tmp_path / "store")
    with pytest.warns(UserWarning, match="memory runs out at 6 images a pass: going on with 3") as caught:
        features = extractor.transform(image_paths)
    assert len(caught) == 1
    assert limit == [6, 3, 3, 3, 3]
    expected = FrozenFeatureExtractor(small_vit, device="cpu", batch_size=3).transform(image_paths)
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_passes_on_a_cpu_are_small(small_vit: str, image_paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = Backbone.extract

    def counted(self: Backbone, images: Tensor, *options: Any) -> Any:
        sizes.append(len(images))
        return original(self, images, *options)

    monkeypatch.setattr(Backbone, "extract", counted)
    FrozenFeatureExtractor(small_vit, device="cpu", batch_size=11).transform(image_paths)
    assert sizes == [8, 3, 1]


def test_one_image_that_does_not_fit_is_an_error(
    small_vit: str, image_paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(Backbone, "extract", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        FrozenFeatureExtractor(small_vit, device="cpu").transform(image_paths)


def test_what_says_that_memory_is_used_up() -> None:
    cpu = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ..."
    assert all(map(is_out_of_memory, (torch.OutOfMemoryError("x out of memory"), RuntimeError(cpu), MemoryError())))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_other_errors_of_the_forward_pass_are_raised(
    small_vit: str, image_paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("expected scalar type Half")

    monkeypatch.setattr(Backbone, "extract", broken)
    with pytest.raises(RuntimeError, match="scalar type"):
        FrozenFeatureExtractor(small_vit, device="cpu", batch_size=3).transform(image_paths)


def test_the_last_batch_of_a_compiled_run_is_filled_up(
    small_vit: str, image_paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def compiled(forward: Callable[..., Any], **_: object) -> Callable[..., Any]:
        def counted(images: Tensor, requests: Sequence[Request]) -> Any:
            sizes.append(len(images))
            return forward(images, requests)

        return counted

    monkeypatch.setattr(torch, "compile", compiled)
    load_backbone(small_vit, None, "cpu")._compiled.clear()
    extractor = FrozenFeatureExtractor(small_vit, device="cpu", batch_size=5, compile=True)
    features = extractor.transform(image_paths)
    assert sizes == [5, 5, 5]
    load_backbone(small_vit, None, "cpu")._compiled.clear()
    assert features.shape[0] == 12
    plain = FrozenFeatureExtractor(small_vit, device="cpu", batch_size=5).transform(image_paths)
    np.testing.assert_allclose(features, plain, atol=1e-6)


def test_compiled_features_have_keys_of_their_own(small_vit: str) -> None:
    specs = [FrozenFeatureExtractor(small_vit, device="cpu", compile=c).feature_spec() for c in (False, True)]
    assert [spec.precision for spec in specs] == ["float32", "float32 compiled"]


def test_images_of_other_shapes_make_batches_of_their_own(
    save_backbone: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_backbone("resnet10t", stem_width=8)
    uncropped = transforms.Compose([transforms.Resize(32), MaybeToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    backbone = load_backbone(model, None, "cpu")
    monkeypatch.setattr(backbone, "preprocessing", split(uncropped))
    rng = np.random.default_rng(0)
    sides = [(32, 32), (64, 32), (32, 32), (32, 96), (64, 32), (32, 32), (64, 32)]
    images = [Image.fromarray(rng.integers(0, 256, (*side, 3), np.uint8)) for side in sides]
    sizes: list[tuple[int, ...]] = []
    original = Backbone.extract

    def counted(self: Backbone, pixels: Tensor, *options: Any) -> Any:
        sizes.append(tuple(pixels.shape))
        return original(self, pixels, *options)

    monkeypatch.setattr(Backbone, "extract", counted)
    alone = [
        backbone.extract(backbone.preprocess(image)[None], [Request("mean", None, True)], "float32")[0][0].numpy()
        for image in images
    ]
    for store in (None, tmp_path / "store"):
        sizes.clear()
        extractor = FrozenFeatureExtractor(model, output="mean", device="cpu", batch_size=2, store=store)
        features = extractor.extract(images).features
        assert sorted(sizes) == sorted([(2, 3, 32, 32), (2, 3, 64, 32), (1, 3, 32, 96), (1, 3, 32, 32), (1, 3, 64, 32)])
        np.testing.assert_allclose(features, np.stack(alone), atol=1e-5)
        with pytest.raises(ValueError, match=r"features of different shapes, .*: choose output='mean'"):
            extractor.set_params(output="tokens").transform(images)
    with pytest.warns(UserWarning, match="threads decode instead: the preprocessing of this checkpoint"):
        extractor.set_params(output="mean", decode="process", store=None).extract(images)


def test_many_shapes_are_not_kept_until_the_end(
    save_backbone: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_backbone("resnet10t", stem_width=8)
    uncropped = transforms.Compose([MaybeToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    monkeypatch.setattr(load_backbone(model, None, "cpu"), "preprocessing", split(uncropped))
    images = [Image.new("RGB", (32, 32 + side)) for side in range(30)]
    decoded: list[int] = []
    seen: list[int] = []
    seen_sizes: list[int] = []
    original, convert = Backbone.extract, MaybeToTensor.__call__

    def counted(self: Backbone, pixels: Tensor, *options: Any) -> Any:
        seen.append(len(decoded) - sum(seen_sizes))
        seen_sizes.append(len(pixels))
        return original(self, pixels, *options)

    def noted(self: MaybeToTensor, image: Image.Image) -> Tensor:
        decoded.append(1)
        pixels: Tensor = convert(self, image)
        return pixels

    monkeypatch.setattr(Backbone, "extract", counted)
    monkeypatch.setattr(MaybeToTensor, "__call__", noted)
    features = FrozenFeatureExtractor(model, output="mean", device="cpu", batch_size=2, n_jobs=1).transform(images)
    assert features.shape[0] == sum(seen_sizes) == 30
    assert max(seen) <= 4 * 2 + 2 * 2  # decoded and not yet through the backbone


class Later:
    """Transfers whose features arrive when `IN_FLIGHT` further batches have been launched, or the last of `n` has."""

    def __init__(self, n: int) -> None:
        self.launched = 0
        self.events = [threading.Event() for _ in range(n)]

    def to_device(self, pixels: Tensor) -> Tensor:
        return pixels.clone()

    def to_host(self, features: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        mine = self.events[self.launched]
        self.launched += 1
        last = self.launched == len(self.events)
        for event in self.events if last else self.events[: max(0, self.launched - IN_FLIGHT)]:
            event.set()

        def wait() -> list[Tensor]:
            assert mine.wait(60), "the pipeline waits for a batch, and no further one is launched"
            return list(features)

        return wait


def test_the_host_waits_for_no_batch_but_the_oldest(
    small_vit: str, image_paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = FrozenFeatureExtractor(small_vit, device="cpu", batch_size=2).transform(image_paths)
    later = Later(6)
    monkeypatch.setattr("frofa.extraction.engine.transfers_for", lambda _: later)
    features = FrozenFeatureExtractor(small_vit, device="cpu", batch_size=2).transform(image_paths)
    np.testing.assert_array_equal(features, expected)
    assert later.launched == 6


def test_decoding_and_writing_are_bounded(small_vit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a store that is slow to write, images wait as files and not as features."""
    ahead: list[int] = []
    launched = [0]
    original, add = ForwardEngine.launch, StoreSink.__call__

    def launch(self: ForwardEngine, pixels: Tensor) -> Any:
        launched[0] += 1
        return original(self, pixels)

    def slow(self: StoreSink, views: list[ImageView], features: Any) -> int:
        threading.Event().wait(0.05)
        ahead.append(launched[0] - len(ahead))
        return add(self, views, features)

    monkeypatch.setattr(ForwardEngine, "launch", launch)
    monkeypatch.setattr(StoreSink, "__call__", slow)
    images = [np.full((32, 32, 3), value, np.uint8) for value in range(40)]
    extractor = FrozenFeatureExtractor(small_vit, output="mean", device="cpu", batch_size=2, store=tmp_path / "store")
    assert extractor.extract(images).n_computed == 40
    assert max(ahead) <= IN_FLIGHT + 2


def test_features_of_a_store_are_not_loaded(small_vit: str, image_paths: list[str], tmp_path: Path) -> None:
    extractor = FrozenFeatureExtractor(small_vit, device="cpu", store=tmp_path / "store")
    extraction = extractor.extract(image_paths, range(12))
    assert isinstance(extraction.features, FeatureArray)
    np.testing.assert_array_equal(extraction.features, extractor.set_params(store=None).transform(image_paths))
    assert extraction.n_computed == 12
    assert extraction.kept.tolist() == list(range(12))
    again = extractor.set_params(store=tmp_path / "store").extract([*image_paths, image_paths[3]])
    assert (again.n_computed, again.n_from_store, again.n_duplicates) == (0, 12, 1)


def test_the_progress_bar_counts(
    small_vit: str, image_paths: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_text("no image")
    extractor = FrozenFeatureExtractor(
        small_vit, device="cpu", store=tmp_path / "store", batch_size=4, on_error="skip", verbose=True
    )
    extractor.transform(image_paths[:3])
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extractor.transform([*image_paths, image_paths[0], tmp_path / "bad.png"])
    last = capfd.readouterr().err.strip().split("\r")[-1]
    assert last.startswith("extract: 100%")
    assert "10/10 [" in last
    assert last.endswith("img/s, 3 from store, 1 duplicates, 1 skipped]")


def test_automatic_batch_sizes_are_powers_of_two(small_vit: str, image_paths: list[str]) -> None:
    assert [largest_power_of_two(n) for n in (0, 1, 2, 3, 63, 64, 1000)] == [1, 1, 2, 2, 32, 64, 256]
    assert automatic_batch_size(load_backbone(small_vit, None, "cpu"), [TOKENS], "float32") == 64
    automatic = FrozenFeatureExtractor(small_vit, device="cpu", batch_size="auto").transform(image_paths)
    np.testing.assert_array_equal(automatic, FrozenFeatureExtractor(small_vit, device="cpu").transform(image_paths))
    with pytest.raises(ValueError, match="'batch_size' parameter"):
        FrozenFeatureExtractor(small_vit, device="cpu", batch_size="most").fit()  # type: ignore[arg-type]


def test_decoding_runs_on_all_cores_by_default(small_vit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(small_vit, None, "cpu")
    for cores, expected in ((3, 3), (500, 32)):
        monkeypatch.setattr("frofa.extraction.request.effective_n_jobs", lambda n, cores=cores: cores if n == -1 else n)
        for n_jobs, found in ((None, expected), (7, 7), (-1, cores)):
            parameters = FrozenFeatureExtractor(small_vit, n_jobs=n_jobs).get_params()
            assert settings_of(parameters, backbone, 1000).n_jobs == found


def test_features_in_the_store_are_those_without(small_vit: str, image_paths: list[str], tmp_path: Path) -> None:
    for dtype in ("float32", "float16", "float64"):
        make: Any = {"device": "cpu", "batch_size": 5, "dtype": dtype}
        stored = FrozenFeatureExtractor(small_vit, store=FeatureStore(tmp_path / "store"), **make)
        np.testing.assert_array_equal(
            stored.transform(image_paths), FrozenFeatureExtractor(small_vit, **make).transform(image_paths)
        )
