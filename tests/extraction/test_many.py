"""frofa.extract_many: one pass, and what each extractor would have got alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frofa import FeatureStore, FrozenFeatureExtractor, extract_many
from frofa.backbones.backbone import Backbone
from frofa.exceptions import SkippedImagesWarning

WANTED: dict[str, dict[str, Any]] = {
    "tokens": {},
    "cls": {"output": "cls"},
    "mean": {"output": "mean", "dtype": "float16"},
    "pooled": {"output": "pooled"},
    "first": {"layer": 0},
    "first plain": {"layer": 0, "norm": False},
    "last plain": {"output": "cls", "norm": False},
    "first mean": {"output": "mean", "layer": 0, "dtype": "float64"},
}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """For each forward pass, images and outputs."""
    found: list[tuple[int, int]] = []
    original = Backbone.extract

    def counted(self: Backbone, images: Any, requests: Any, *options: Any) -> Any:
        found.append((len(images), len(requests)))
        return original(self, images, requests, *options)

    monkeypatch.setattr(Backbone, "extract", counted)
    return found


def extractors(model: str, wanted: dict[str, dict[str, Any]], **shared: Any) -> dict[str, FrozenFeatureExtractor]:
    shared = {"device": "cpu", "batch_size": 5, **shared}
    return {name: FrozenFeatureExtractor(model, **own, **shared) for name, own in wanted.items()}


@pytest.mark.parametrize("stored", [False, True])
def test_one_pass_gives_the_bits_of_each_alone(
    stored: bool, small_vit: str, image_paths: list[str], tmp_path: Path, passes: list[Any]
) -> None:
    alone = {n: e.extract(image_paths) for n, e in extractors(small_vit, WANTED).items()}
    passes.clear()
    shared = {"store": tmp_path / "store"} if stored else {}
    together = extract_many(extractors(small_vit, WANTED, **shared), image_paths, range(12))
    assert passes == [(5, 8), (5, 8), (2, 8)]
    assert list(together) == list(WANTED)
    for name, extraction in together.items():
        assert extraction.features.dtype == WANTED[name].get("dtype", "float32")
        np.testing.assert_array_equal(extraction.features, alone[name].features, err_msg=name)
        assert extraction.y is not None
        assert extraction.y.tolist() == list(range(12))
        assert extraction.n_computed == 12


@pytest.mark.parametrize(
    ("architecture", "model_args"),
    [
        ("vit_tiny_patch16_224", {"embed_dim": 16, "depth": 3, "num_heads": 2, "img_size": 48, "reg_tokens": 3}),
        ("vit_base_patch16_siglip_224", {"embed_dim": 16, "depth": 3, "num_heads": 2, "img_size": 32, "patch_size": 8}),
        ("deit3_small_patch16_224", {"embed_dim": 16, "depth": 3, "num_heads": 2, "img_size": 48}),
        ("deit_tiny_distilled_patch16_224", {"embed_dim": 16, "depth": 3, "num_heads": 2, "img_size": 48}),
        ("eva02_tiny_patch14_224", {"embed_dim": 32, "depth": 3, "num_heads": 2, "img_size": 56}),
        ("beit_base_patch16_224", {"embed_dim": 16, "depth": 3, "num_heads": 2, "img_size": 48}),
        ("resnet10t", {"stem_width": 8}),
    ],
)
def test_one_pass_of_other_families(
    architecture: str, model_args: Any, save_backbone: Callable[..., str], image_paths: list[str]
) -> None:
    model = save_backbone(architecture, **model_args)
    wanted = {name: own for name, own in WANTED.items() if "resnet" not in architecture or own.keys() <= {"output"}}
    if "siglip" in architecture or "resnet" in architecture:
        wanted = {name: own for name, own in wanted.items() if own.get("output") != "cls"}
    assert len(wanted) > 1
    together = extract_many(extractors(model, wanted), image_paths)
    for name, extractor in extractors(model, wanted).items():
        np.testing.assert_array_equal(together[name].features, extractor.transform(image_paths), err_msg=name)


def test_each_feature_has_its_own_key_and_is_computed_where_it_is_missing(
    small_vit: str, image_paths: list[str], tmp_path: Path, passes: list[Any]
) -> None:
    store = FeatureStore(tmp_path / "store")
    make = extractors(small_vit, WANTED, store=store)
    make["cls"].transform(image_paths)
    make["mean"].transform(image_paths[:5])
    passes.clear()
    wanted = {name: make[name] for name in ("cls", "mean", "first")}
    found = extract_many(wanted, [*image_paths, image_paths[0]])
    assert passes == [(5, 2), (5, 2), (2, 2)]  # the class tokens are there
    assert {name: extraction.n_computed for name, extraction in found.items()} == {"cls": 0, "mean": 7, "first": 12}
    assert {name: extraction.n_from_store for name, extraction in found.items()} == {"cls": 12, "mean": 5, "first": 0}
    assert {extraction.n_duplicates for extraction in found.values()} == {1}
    assert sorted(part.n_images for part in store.info()) == [12, 12, 12]
    passes.clear()
    again = {name: extractor.transform(image_paths) for name, extractor in wanted.items()}
    assert passes == []
    for name, features in again.items():
        np.testing.assert_array_equal(found[name].features[:12], features)


def test_skipped_images_are_left_out_of_all(small_vit: str, image_paths: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    make = extractors(small_vit, {"tokens": {}, "cls": {"output": "cls"}}, on_error="skip")
    with pytest.warns(SkippedImagesWarning, match="skipped 1 of 3") as caught:
        found = extract_many(make, [image_paths[0], bad, image_paths[1]])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert {tuple(extraction.kept) for extraction in found.values()} == {(0, 2)}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"batch_size": 6},
            "may differ in output, layer, .*, mirror, dtype only. Got batch_size=6 for 'b', and 5 for 'a'",
        ),
        ({"precision": "bfloat16"}, "Got precision='bfloat16' for 'b'"),
        ({"image_size": 48}, "Got image_size=48 for 'b'"),
        ({"store": "elsewhere"}, "Got store='elsewhere' for 'b', and None for 'a'"),
        ({"model": "frofa/vit_tiny_tin200"}, "Got model='frofa/vit_tiny_tin200' for 'b'"),
    ],
)
def test_extractors_must_share_the_rest(
    other: dict[str, Any], message: str, small_vit: str, image_paths: list[str]
) -> None:
    make = extractors(small_vit, {"a": {}, "b": {"output": "cls"}})
    make["b"].set_params(**other)
    with pytest.raises(ValueError, match=message):
        extract_many(make, image_paths)
    with pytest.raises(ValueError, match="at least one extractor"):
        extract_many({}, image_paths)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "extractors by name, .* Got list"),
        (FrozenFeatureExtractor(), "extractors by name, .* Got FrozenFeatureExtractor"),
        (None, "Got NoneType"),
        ({"a": FrozenFeatureExtractor(), "b": "cls"}, "a FrozenFeatureExtractor for 'b'. Got str"),
        ({"a": FrozenFeatureExtractor}, "a FrozenFeatureExtractor for 'a'. Got type"),
    ],
)
def test_what_is_no_extractor_is_named(given: Any, message: str, image_paths: list[str]) -> None:
    with pytest.raises(TypeError, match=message):
        extract_many(given, image_paths)
