"""Extraction at native resolution and aspect ratio: as timm's, in the caller's order, whatever is beside an image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from navit_cases import alone, drawn
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform

from frofa import FrozenFeatureExtractor, extract_many
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.estimators import RaggedTokens
from frofa.exceptions import SkippedImagesWarning
from frofa.extraction.batch_size import images_of_a_pass
from frofa.store import FeatureStore

SIZES = [(64, 64), (40, 90), (200, 30), (8, 512), (90, 40), (64, 64), (3, 3), (120, 70)]
BUDGET = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SigLIP2 NaFlex tower, small, with random weights, in timm's folder format."""
    path = tmp_path_factory.mktemp("naflex")
    shape: dict[str, Any] = {
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 4,
        "pos_embed_grid_size": [6, 6],
    }
    with torch.random.fork_rng(devices=[]):
        module: Any = drawn(timm.create_model("naflexvit_base_patch16_siglip", num_classes=0, **shape))
    config: dict[str, Any] = {"architecture": "naflexvit_base_patch16_siglip", "num_classes": 0, "model_args": shape}
    config["pretrained_cfg"] = {"input_size": [3, 48, 48], "num_classes": 0, "interpolation": "bilinear"}
    config["pretrained_cfg"] |= {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.6, 0.5], "first_conv": "embeds.proj"}
    (path / "config.json").write_text(json.dumps(config))
    save_file(module.state_dict(), path / "model.safetensors")
    return f"local-dir:{path}"


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in SIZES]


@pytest.fixture
def files(images: list[Image.Image], tmp_path: Path) -> list[str]:
    for index, image in enumerate(images):
        image.save(tmp_path / f"{index}.png")
    return [str(tmp_path / f"{index}.png") for index in range(len(images))]


def test_tokens_and_pooled_are_those_of_timm(folder: str, images: list[Image.Image]) -> None:
    found = {
        output: FrozenFeatureExtractor(folder, output=output, max_tokens=BUDGET).transform(images)
        for output in ("tokens", "mean", "pooled")
    }
    with torch.random.fork_rng(devices=[]):
        module: Any = timm.create_model(folder, pretrained=True).eval()
    config = timm.data.resolve_data_config({}, model=module)
    transform = create_transform(**config, naflex=True, patch_size=8, max_seq_len=BUDGET, patchify=True)
    assert isinstance(found["tokens"], RaggedTokens)
    for index, image in enumerate(images):
        given = transform(image)
        grid = tuple((given["patch_coord"].max(0).values + 1).tolist())
        with torch.inference_mode():
            tokens, pooled = alone(module, given["patches"], grid)
        ours = found["tokens"][index]
        assert ours.shape == (*grid, 48)
        np.testing.assert_allclose(ours.reshape(-1, 48), tokens, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["mean"][index], tokens.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["pooled"][index], pooled, rtol=1e-4, atol=1e-5)


def test_at_the_models_own_size_it_is_the_fixed_size(images: list[Image.Image]) -> None:
    for output in ("tokens", "cls", "mean", "pooled"):
        fixed: Any = FrozenFeatureExtractor(output=output).transform([images[0]])[0]
        native: Any = FrozenFeatureExtractor(output=output, max_tokens=64).transform([images[0]])[0]
        np.testing.assert_allclose(native.reshape(fixed.shape), fixed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 64, "auto"])
def test_order_and_neighbours_change_no_bit(folder: str, images: list[Image.Image], batch_size: Any) -> None:
    extractor = FrozenFeatureExtractor(folder, max_tokens=BUDGET, batch_size=batch_size)
    tokens: Any = extractor.transform(images)
    order = np.random.default_rng(1).permutation(len(images))
    shuffled: Any = extractor.transform([images[index] for index in order])
    assert shuffled.equals(tokens[order])
    changed: Any = extractor.transform([*images[:3], images[0].resize((31, 99)), *images[4:]])
    for index in range(len(images)):
        same = changed.grids[index].tolist() == tokens.grids[index].tolist()
        assert (same and np.array_equal(changed[index], tokens[index])) == (index != 3)
    for index, image in enumerate(images):
        lone: Any = extractor.transform([image])
        assert np.array_equal(lone[0], tokens[index])


def test_small_images_keep_their_size_without_enlarging(images: list[Image.Image]) -> None:
    tokens: Any = FrozenFeatureExtractor(max_tokens=BUDGET, enlarge=False).transform(images)
    assert tokens.grids[6].tolist() == [1, 1]
    assert tokens.grids[1].tolist() == [5, 12]
    assert FrozenFeatureExtractor(max_tokens=BUDGET).fit().transform(images).grids[6].tolist() == [8, 8]


@pytest.mark.parametrize(("size", "budget", "grid"), [((300, 200), 1, (1, 1)), ((8, 512), 64, (1, 64))])
def test_one_patch_and_one_row(folder: str, size: tuple[int, int], budget: int, grid: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    tokens: Any = FrozenFeatureExtractor(folder, max_tokens=budget).transform([Image.fromarray(pixels)])
    assert tokens.grids.tolist() == [list(grid)]
    assert np.isfinite(tokens.values).all()


def test_processes_decode_the_same(files: list[str], images: list[Image.Image]) -> None:
    extractor = FrozenFeatureExtractor(max_tokens=BUDGET, decode="process", n_jobs=2)
    expected: Any = FrozenFeatureExtractor(max_tokens=BUDGET).transform(images)
    found: Any = extractor.transform(files)
    assert found.equals(expected)


@pytest.mark.parametrize("output", ["mean", "pooled"])
def test_store_keeps_vectors_by_budget(files: list[str], tmp_path: Path, output: Any) -> None:
    extractor = FrozenFeatureExtractor(output=output, max_tokens=BUDGET, store=tmp_path / "store")
    first, second = extractor.extract(files), extractor.extract(files)
    assert (first.n_computed, second.n_computed) == (len(SIZES), 0)
    plain = FrozenFeatureExtractor(output=output, max_tokens=BUDGET).transform(files)
    np.testing.assert_array_equal(np.asarray(second.features), plain)
    for other in (32, None):
        assert extractor.set_params(max_tokens=other).extract(files).n_computed == len(SIZES)
    assert len(FeatureStore(tmp_path / "store").specs()) == 3


def test_several_outputs_of_one_pass(images: list[Image.Image]) -> None:
    kinds: Any = ("mean", "tokens", "cls")
    extractors = {name: FrozenFeatureExtractor(output=name, max_tokens=BUDGET, batch_size=3) for name in kinds}
    found = extract_many(extractors, images)
    for name, extractor in extractors.items():
        alone_: Any = extractor.transform(images)
        ours = found[name].features
        assert ours.equals(alone_) if name == "tokens" else np.array_equal(ours, alone_)
    with pytest.raises(ValueError, match="Got max_tokens=64 for 'b'"):
        extract_many({"a": FrozenFeatureExtractor(batch_size=3), "b": extractors["mean"]}, images)


def test_skipped_images_leave_no_tokens(files: list[str], images: list[Image.Image]) -> None:
    Path(files[2]).write_bytes(b"no image")
    with pytest.warns(SkippedImagesWarning):
        found = FrozenFeatureExtractor(max_tokens=BUDGET, on_error="skip").extract(files, np.arange(len(files)))
    kept = [0, 1, 3, 4, 5, 6, 7]
    whole: Any = FrozenFeatureExtractor(max_tokens=BUDGET).transform(images)
    assert found.features.equals(whole[kept])
    assert found.y is not None
    assert found.y.tolist() == kept


def test_memory_that_runs_out_halves_the_sequences(images: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    expected: Any = FrozenFeatureExtractor(max_tokens=BUDGET).transform(images)
    capacities: list[int] = []
    run = NativeBackbone.extract_packed

    def short_of_memory(self: Any, rows: Any, grids: Any, capacity: int, *rest: Any) -> Any:
        capacities.append(capacity)
        if capacity > 2 * BUDGET:
            raise RuntimeError("CUDA out of memory")
        return run(self, rows, grids, capacity, *rest)

    monkeypatch.setattr(NativeBackbone, "extract_packed", short_of_memory)
    with pytest.warns(UserWarning, match="memory runs out at 8 images a pass: going on with 2"):
        found: Any = FrozenFeatureExtractor(max_tokens=BUDGET, batch_size=8).transform(images)
    assert capacities == [8 * BUDGET, 4 * BUDGET, 2 * BUDGET]
    assert found.equals(expected)


def test_dtypes(images: list[Image.Image]) -> None:
    kinds: Any = {"float16": np.float16, "bfloat16": np.float32, "float64": np.float64}
    expected: Any = FrozenFeatureExtractor(max_tokens=BUDGET).transform(images)
    for name, dtype in kinds.items():
        found: Any = FrozenFeatureExtractor(max_tokens=BUDGET, dtype=name).transform(images)
        assert found.dtype == dtype
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-2, atol=1e-2)


def test_what_is_refused(files: list[str], shared_backbones: Path) -> None:
    with pytest.raises(ValueError, match="image_size and max_tokens exclude each other"):
        FrozenFeatureExtractor(image_size=64, max_tokens=64).transform(files)
    with pytest.raises(ValueError, match="'max_tokens' parameter"):
        FrozenFeatureExtractor(max_tokens=0).transform(files)
    convolutional = f"local-dir:{shared_backbones / 'tf_efficientnet_lite0.in1k'}"
    with pytest.raises(ValueError, match="max_tokens needs timm's NaFlexVit or VisionTransformer"):
        FrozenFeatureExtractor(convolutional, max_tokens=64, output="mean").transform(files)


def test_images_of_a_pass() -> None:
    assert [images_of_a_pass(budget) for budget in (64, 256, 1024, 10**6)] == [256, 256, 64, 1]
