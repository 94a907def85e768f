"""Several views of each image: decoded once, one row of a forward pass each, kept and resumed by view."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from frofa import FeatureStore, FrozenFeatureExtractor, FunctionEncoder, RaggedTokens, extract_many, load_images
from frofa.backbones.backbone import Backbone
from frofa.backbones.loading import load_backbone
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.backbones.outputs import Request
from frofa.backbones.preprocessing import Preprocessing, of_config
from frofa.decoding.task import DecodeTask
from frofa.decoding.views import ImageView, make_views
from frofa.exceptions import EncoderError, ImageReadError, SkippedImagesWarning, StoreNotWrittenWarning
from frofa.extraction.engine import ForwardEngine
from frofa.extraction.pipeline import IN_FLIGHT, number_of_rows
from frofa.extraction.request import ExtractionRequest, checked_input, settings_of, targets_of
from frofa.extraction.run import extract_together
from frofa.extraction.sinks import Lack, Share, StoreSink
from frofa.images.folders import list_images
from frofa.images.reading import content
from frofa.images.reading import decode as decode_image

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
"""Features of the same pixels in batches of another make-up."""


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each forward pass."""
    found: list[int] = []
    original, packed = Backbone.extract, NativeBackbone.extract_packed

    def counted(self: Backbone, images: Any, *arguments: Any) -> Any:
        found.append(len(images))
        return original(self, images, *arguments)

    def counted_packed(self: NativeBackbone, images: Any, *arguments: Any) -> Any:
        found.append(len(images))
        return packed(self, images, *arguments)

    monkeypatch.setattr(Backbone, "extract", counted)
    monkeypatch.setattr(NativeBackbone, "extract_packed", counted_packed)
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was decoded, one after another."""
    found: list[Any] = []

    def counted(image: Any, background: Any) -> Any:
        found.append(image)
        return decode_image(image, background)

    monkeypatch.setattr("frofa.decoding.task.decode", counted)
    return found


def extractor(model: str, n_views: int = 6, output: Any = "mean", **parameters: Any) -> FrozenFeatureExtractor:
    parameters = {"device": "cpu", "batch_size": 8, "n_jobs": 2, **parameters}
    return FrozenFeatureExtractor(model, output=output, n_views=n_views, **parameters)


def views_of(blocks: Any, name: str = "mean") -> Any:
    """Views of a block side by side, (n, V, ...)."""
    return np.stack([np.asarray(view) for view in blocks.views(name)], 1)


def images_of_views(path: Any, n_views: int, size: int = 32, **options: Any) -> list[Image.Image]:
    """What the views of an image show, by Pillow alone; its plain view must be square."""
    image, digest = content(path)
    upright = decode_image(image)
    found = []
    for view in make_views(n_views, **options):
        if view.kind == "crop":
            box, flipped = view.draw(digest, *upright.size)
            part = upright.resize((size, size), Image.Resampling.BICUBIC, box=box)
        else:
            part, flipped = plain_view(upright), view.kind == "mirror"
        found.append(ImageOps.mirror(part) if flipped else part)
    return found


def plain_view(image: Image.Image) -> Image.Image:
    """The plain view of the small ViT: 80 % of the middle of the shorter side, 32 x 32 pixels."""
    scale = 40 / min(image.size)
    width, height = (int(side * scale) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, upper = round((width - 32) / 2), round((height - 32) / 2)
    return resized.crop((left, upper, left + 32, upper + 32))


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("decode", ["thread", "process"])
def test_each_view_has_the_features_of_its_pixels(
    stored: bool, decode: str, small_vit: str, image_paths: list[str], tmp_path: Path, rows: list[int]
) -> None:
    store = tmp_path / "store" if stored else None
    wanted = extractor(small_vit, 6, ["mean", "pooled", "tokens"], decode=decode, store=store)
    blocks = wanted.transform(image_paths)
    assert blocks.n_views == 6
    assert sum(rows) == 6 * 12
    backbone = load_backbone(small_vit, None, "cpu")
    parts = np.stack([[np.asarray(part) for part in images_of_views(path, 6)] for path in image_paths])
    requests = [Request("mean", 1, True), Request("pooled", 1, True), Request("tokens", 1, True)]
    expected = backbone.extract(torch.from_numpy(parts).flatten(0, 1), requests, "float32")
    for name, values in zip(("mean", "pooled", "tokens"), expected, strict=True):
        found = views_of(blocks, name)
        np.testing.assert_allclose(found, values.unflatten(0, (12, 6)).numpy(), **CLOSE, err_msg=name)
        assert len(np.unique(found[:, :, 0].round(4), axis=1)[0]) == 6  # they are six different ones


def test_images_are_read_and_decoded_once(
    small_vit: str, image_paths: list[str], tmp_path: Path, decoded: list[Any], rows: list[int]
) -> None:
    extractor(small_vit, 6, ["mean", "pooled"]).transform(image_paths)
    assert len(decoded) == 12
    decoded.clear()
    extractor(small_vit, 6, ["mean", "pooled"], store=tmp_path / "store").transform([*image_paths, image_paths[0]])
    assert len(decoded) == 12
    assert sum(rows) == 2 * 6 * 12


def test_more_views_cost_the_new_ones(
    small_vit: str, image_paths: list[str], tmp_path: Path, decoded: list[Any], rows: list[int]
) -> None:
    store = FeatureStore(tmp_path / "store")
    six = extractor(small_vit, 6, store=store).transform(image_paths)
    assert (sum(rows), len(decoded)) == (72, 12)
    rows.clear()
    ten = extractor(small_vit, 10, store=store).transform(image_paths)
    assert sum(rows) == 4 * 12
    assert max(rows) == 8  # whole batches of views of several images
    np.testing.assert_array_equal(views_of(ten)[:, :6], views_of(six))
    np.testing.assert_allclose(views_of(ten), views_of(extractor(small_vit, 10).transform(image_paths)), **CLOSE)
    rows.clear()
    decoded.clear()
    for fewer in (1, 3, 10):
        extractor(small_vit, fewer, store=store).transform(image_paths)
    extractor(small_vit, 3, store=store, mirror=True).transform(image_paths[::-1])
    assert (rows, decoded) == ([], [])
    # Settings of crops have their own features; the plain and the mirror image have none.
    extractor(small_vit, 4, store=store, view_area=(0.2, 0.4)).transform(image_paths)
    assert sum(rows) == 2 * 12
    rows.clear()
    extractor(small_vit, 4, store=store, mirror=False).transform(image_paths)
    assert sum(rows) == 3 * 12


def test_the_plain_view_is_what_it_was(small_vit: str, image_paths: list[str], tmp_path: Path, rows: list[int]) -> None:
    store = FeatureStore(tmp_path / "store")
    alone = extractor(small_vit, 1, store=store)
    assert alone.feature_spec().preprocessing == load_backbone(small_vit, None, "cpu").preprocessing_key
    before = alone.transform(image_paths)
    assert sum(rows) == 12
    rows.clear()
    blocks = extractor(small_vit, 6, store=store).transform(image_paths)
    assert sum(rows) == 5 * 12
    np.testing.assert_array_equal(blocks.views("mean")[0], before)
    specs: Any = extractor(small_vit, 6).feature_spec()
    assert specs["mean"][0].digest == alone.feature_spec().digest
    assert len({spec.digest for spec in specs["mean"]}) == 6


def test_a_view_that_lacks_one_output_is_computed_for_that_one(
    small_vit: str, image_paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "store")
    extractor(small_vit, 2, "mean", store=store).transform(image_paths)
    extractor(small_vit, 4, "pooled", store=store).transform(image_paths[:6])
    passes: list[tuple[int, tuple[str, ...]]] = []
    original = Backbone.extract

    def counted(self: Backbone, images: Any, requests: Any, *options: Any) -> Any:
        passes.append((len(images), tuple(request.output for request in requests)))
        return original(self, images, requests, *options)

    monkeypatch.setattr(Backbone, "extract", counted)
    both = extractor(small_vit, 4, ["mean", "pooled"], store=store, batch_size=4)
    extraction = both.extract(image_paths)
    # Of the first six images, "mean" of two crops; of the others, all views for "pooled" and two for "mean" as well.
    assert sum(n for n, _ in passes) == 6 * 2 + 6 * 4
    assert {outputs for _, outputs in passes} == {("mean", "pooled")}
    assert [part.n_images for part in store.info()] == [12] * 8
    expected = extractor(small_vit, 4, ["mean", "pooled"]).transform(image_paths)
    for name in ("mean", "pooled"):
        np.testing.assert_allclose(views_of(extraction.features, name), views_of(expected, name), **CLOSE)
    passes.clear()
    extractor(small_vit, 4, [("cls", 0), "mean", "pooled"], store=store).extract(image_paths)
    assert passes == [(8, ("cls",))] * 6


def test_features_do_not_depend_on_order_company_or_process(small_vit: str, image_paths: list[str]) -> None:
    wanted = extractor(small_vit, 5)
    expected = views_of(wanted.transform(image_paths))
    np.testing.assert_array_equal(views_of(wanted.transform(image_paths)), expected)
    order = np.random.default_rng(0).permutation(12)
    found = views_of(wanted.transform([image_paths[i] for i in order]))
    np.testing.assert_allclose(found, expected[order], **CLOSE)
    np.testing.assert_allclose(views_of(wanted.transform(image_paths[7:8])), expected[7:8], **CLOSE)
    for decode, n_jobs, batch_size in (("process", 2, 8), ("thread", 1, 8), ("process", 1, 3), ("thread", 3, 2)):
        wanted.set_params(decode=decode, n_jobs=n_jobs, batch_size=batch_size)
        found = views_of(wanted.transform(image_paths))
        np.testing.assert_allclose(found, expected, **CLOSE)
        if batch_size == 8:
            np.testing.assert_array_equal(found, expected)


def test_the_same_bytes_have_the_same_crops_wherever_they_lie(
    small_vit: str, image_paths: list[str], tmp_path: Path, rows: list[int]
) -> None:
    """In a folder, in an archive, or under another name; pixels in memory have a digest, and so crops, of their own."""
    store = FeatureStore(tmp_path / "store")
    expected = extractor(small_vit, 6, store=store).transform(image_paths)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for number, path in enumerate(image_paths):
            archive.write(path, f"class/{number:02}{Path(path).suffix}")
    rows.clear()
    archived = load_images(tmp_path / "images.zip")
    np.testing.assert_array_equal(
        views_of(extractor(small_vit, 6, store=store).transform(archived)), views_of(expected)
    )
    assert rows == []
    np.testing.assert_allclose(views_of(extractor(small_vit, 6).transform(archived)), views_of(expected), **CLOSE)

    images = [Image.open(path).convert("RGB") for path in image_paths]
    from_pil = views_of(extractor(small_vit, 6).transform(images))
    from_array = views_of(extractor(small_vit, 6).transform([np.asarray(image) for image in images]))
    np.testing.assert_array_equal(from_pil, from_array)
    np.testing.assert_allclose(from_pil[:, :2], views_of(expected)[:, :2], **CLOSE)
    assert (np.abs(from_pil[:, 2:] - views_of(expected)[:, 2:]).max(-1) > 1e-3).all()


def test_copies_are_computed_once_with_a_store(
    small_vit: str, image_paths: list[str], tmp_path: Path, rows: list[int]
) -> None:
    wanted = extractor(small_vit, 3, store=tmp_path / "store")
    extraction = wanted.extract([*image_paths, *image_paths[::-1]], range(24))
    assert sum(rows) == 36
    assert (extraction.n_computed, extraction.n_duplicates) == (12, 12)
    found = views_of(extraction.features)
    np.testing.assert_array_equal(found[:12], found[:11:-1])


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("decode", ["thread", "process"])
def test_images_that_cannot_be_read(
    stored: bool, decode: str, small_vit: str, image_paths: list[str], tmp_path: Path
) -> None:
    Path(image_paths[3]).write_text("no image")
    Path(image_paths[7]).write_bytes(Path(image_paths[6]).read_bytes()[:600])  # ends early
    Path(image_paths[9]).unlink()
    store = tmp_path / "store" if stored else None
    wanted = extractor(small_vit, 6, decode=decode, store=store, batch_size=4)
    with pytest.raises(ImageReadError, match=r"position (3|9)"):
        wanted.transform(image_paths)
    with pytest.warns(SkippedImagesWarning, match="skipped 3 of 12"):
        extraction = wanted.set_params(on_error="skip").extract(image_paths, range(12))
    kept = [i for i in range(12) if i not in (3, 7, 9)]
    assert extraction.kept.tolist() == kept
    assert extraction.y is not None
    assert extraction.y.tolist() == kept
    expected = extractor(small_vit, 6).transform([image_paths[i] for i in kept])
    np.testing.assert_allclose(views_of(extraction.features), views_of(expected), **CLOSE)


def test_a_file_that_changes_meanwhile(
    small_vit: str, image_paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its crops would be drawn from a content that it no longer has."""
    launch = ForwardEngine.launch

    def changing(self: ForwardEngine, pixels: Any) -> Any:
        Image.new("RGB", (40, 40)).save(image_paths[11])
        return launch(self, pixels)

    monkeypatch.setattr(ForwardEngine, "launch", changing)
    with pytest.raises(ImageReadError, match=r"position 11 .*: the file changed while it was being read"):
        extractor(small_vit, 6, store=tmp_path / "store", batch_size=2, n_jobs=1).transform(image_paths)


@pytest.mark.parametrize("batch_size", [4, 8])
def test_a_run_that_was_stopped_goes_on(
    batch_size: int, small_vit: str, image_paths: list[str], tmp_path: Path, rows: list[int]
) -> None:
    undisturbed = extractor(small_vit, 6, ["mean", "pooled"], store=tmp_path / "other", batch_size=batch_size)
    expected = undisturbed.transform(image_paths)
    wanted = extractor(small_vit, 6, ["mean", "pooled"], store=tmp_path / "store", batch_size=batch_size)
    launch, n_launched = ForwardEngine.launch, [0]

    def stopped(self: ForwardEngine, pixels: Any) -> Any:
        n_launched[0] += 1
        if n_launched[0] == 5:
            raise KeyboardInterrupt
        return launch(self, pixels)

    rows.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ForwardEngine, "launch", stopped)
        with pytest.raises(KeyboardInterrupt):
            wanted.transform(image_paths)
    assert sum(rows) == 4 * batch_size  # so that an image has some of its views in the store, and lacks others
    found = wanted.transform(image_paths)
    assert sum(rows) == 6 * 12
    for name in ("mean", "pooled"):
        np.testing.assert_array_equal(views_of(found, name), views_of(expected, name))


def test_a_store_that_cannot_be_written(
    small_vit: str, image_paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = extractor(small_vit, 3, store=tmp_path / "store")
    wanted.transform(image_paths[:5])
    monkeypatch.setattr(FeatureStore, "is_writable", lambda _: False)
    with pytest.warns(StoreNotWrittenWarning, match="of 12 images that it does not have"):
        extraction = extractor(small_vit, 5, store=tmp_path / "store").extract(image_paths)
    expected = extractor(small_vit, 5).transform(image_paths)
    np.testing.assert_allclose(views_of(extraction.features), views_of(expected), **CLOSE)


@pytest.mark.parametrize("decode", ["thread", "process"])
@pytest.mark.parametrize(("n_views", "batch_size", "n_jobs"), [(16, 2, 3), (16, 1, 1), (7, 5, 2), (3, 64, 2)])
def test_more_views_than_a_batch_has_rows(
    decode: str, n_views: int, batch_size: int, n_jobs: int, small_vit: str, image_paths: list[str], rows: list[int]
) -> None:
    wanted = extractor(small_vit, n_views, batch_size=batch_size, n_jobs=n_jobs, decode=decode)
    found = views_of(wanted.transform(image_paths))
    assert sum(rows) == 12 * n_views
    expected = views_of(extractor(small_vit, n_views).transform(image_paths))
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 1), (300, 1), (1, 300), (4000, 3), (3000, 2500)], ids=str)
def test_tiny_and_long_and_large_images(size: tuple[int, int], small_vit: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    found = views_of(extractor(small_vit, 5).transform([tmp_path / "image.png"]))
    parts = torch.from_numpy(np.stack([np.asarray(p) for p in images_of_views(tmp_path / "image.png", 5)[2:]]))
    [expected] = load_backbone(small_vit, None, "cpu").extract(parts, [Request("mean", 1, True)], "float32")
    np.testing.assert_allclose(found[0, 2:], expected, **CLOSE)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("stored", [False, True])
def test_native_models(stored: bool, image_paths: list[str], tmp_path: Path, rows: list[int]) -> None:
    """Crops are images of their own: each view has its own grid."""
    Image.open(image_paths[0]).resize((90, 30)).save(image_paths[0])
    store = tmp_path / "store" if stored else None
    wanted = extractor("frofa/vit_tiny_tin200", 5, ["mean", "tokens"], max_tokens=36, store=store)
    blocks = wanted.transform(image_paths)
    assert sum(rows) == 5 * 12
    tokens: Any = blocks.views("tokens")
    assert all(isinstance(view, RaggedTokens) for view in tokens)
    assert tokens[0].grids.tolist() == tokens[1].grids.tolist()
    crops = []
    for path in image_paths:
        image, digest = content(path)
        upright = decode_image(image)
        box, flipped = make_views(3)[2].draw(digest, *upright.size)
        crops.append((upright.crop(box), flipped))
    one: Any = FrozenFeatureExtractor(max_tokens=36, device="cpu").transform([crop for crop, _ in crops])
    assert tokens[2].grids.tolist() == one.grids.tolist()
    flips = np.array([flipped for _, flipped in crops])
    assert flips.any()
    assert not flips.all()
    for i in np.flatnonzero(~flips):
        np.testing.assert_allclose(tokens[2][i], one[i], **CLOSE)
        np.testing.assert_allclose(views_of(blocks)[i, 2], one[i].mean((0, 1)), **CLOSE)
    rows.clear()
    wanted.set_params(n_views=6).transform(image_paths)
    assert sum(rows) == (12 if stored else 72)


def test_a_native_checkpoint(shared_backbones: Path, shared_data: Path, tmp_path: Path, rows: list[int]) -> None:
    paths = [str(path) for path in list_images(shared_data / "photos")[:3]]
    name = f"local-dir:{shared_backbones / 'naflexvit_tiny_patch8.sup_tin202'}"
    wanted = extractor(name, 3, ["pooled", "tokens"], max_tokens=64, store=tmp_path / "store")
    blocks = wanted.transform(paths)
    assert sum(rows) == 9
    single = extractor(name, 1, ["pooled", "tokens"], max_tokens=64).transform(paths)
    np.testing.assert_allclose(blocks.views("pooled")[0], single.views("pooled")[0], **CLOSE)
    assert blocks.views("tokens")[0].grids.tolist() == single.views("tokens")[0].grids.tolist()
    rows.clear()
    wanted.set_params(n_views=5).transform(paths)
    assert sum(rows) == 6


@pytest.mark.parametrize("batch_size", [2, 8])
def test_transforms_that_are_run_whole(
    batch_size: int, small_vit: str, image_paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Any
) -> None:
    known = extractor(small_vit, 6, batch_size=batch_size).transform(image_paths)
    backbone = load_backbone(small_vit, None, "cpu")
    with monkeypatch.context() as patch:
        patch.setattr("frofa.backbones.preprocessing._known", lambda _: None)
        whole = of_config(backbone.data_config)
    assert whole.geometry is None
    monkeypatch.setattr(backbone, "preprocessing", whole)
    rows.clear()
    wanted = extractor(small_vit, 6, store=tmp_path / "store", batch_size=batch_size)
    np.testing.assert_allclose(views_of(wanted.transform(image_paths)), views_of(known), **CLOSE)
    assert sum(rows) == 72
    wanted.set_params(n_views=8).transform(image_paths)
    assert sum(rows) == 72 + 24
    # A transform of which nothing is known has no crops.
    monkeypatch.setattr(backbone, "preprocessing", Preprocessing(whole.whole))
    assert extractor(small_vit, 1).transform(image_paths).shape == (12, 16)
    with pytest.raises(ValueError, match=r"only the plain view can be made. Got 2 more: choose n_views=1"):
        extractor(small_vit, 3).transform(image_paths)


def test_custom_encoders_have_one_view() -> None:
    items = np.ones((4, 3))
    encoder = FunctionEncoder(lambda batch: batch * 2, "double v1")
    assert FrozenFeatureExtractor(encoder).transform(items).shape == (4, 3)
    with pytest.raises(EncoderError, match="n_views=2"):
        FrozenFeatureExtractor(encoder, n_views=2).transform(items)
    # Also where a request is made by other means.
    single: Any = FrozenFeatureExtractor(encoder)
    backbone, parameters = single._backbone(), single.get_params(deep=False)
    targets = [t for views in targets_of({**parameters, "n_views": 3}, backbone).values() for t in views]
    request = ExtractionRequest(
        checked_input(items, None, encoder)[0], None, backbone, targets, settings_of(parameters, backbone, 4), None
    )
    with pytest.raises(EncoderError, match=r"a custom encoder, whose items need not be images.*choose n_views=1"):
        extract_together(request)


def test_extractors_of_one_pass_may_have_other_views(small_vit: str, image_paths: list[str], rows: list[int]) -> None:
    """Each gets its own, and what they share is computed once."""
    several = {
        "plain": extractor(small_vit, 1),
        "six": extractor(small_vit, 6),
        "other": extractor(small_vit, 4, "pooled", mirror=False),
    }
    found = extract_many(several, image_paths)
    assert sum(rows) == 12 * (6 + 3)
    for name, wanted in several.items():
        expected, features = wanted.transform(image_paths), found[name].features
        if name == "plain":
            np.testing.assert_allclose(features, expected, **CLOSE)
        else:
            block = str(wanted.output)
            np.testing.assert_allclose(views_of(features, block), views_of(expected, block), **CLOSE)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept(dtype: Any, small_vit: str, image_paths: list[str], tmp_path: Path) -> None:
    wanted = extractor(small_vit, 4, store=tmp_path / "store", dtype=dtype)
    wanted.transform(image_paths)
    expected = views_of(extractor(small_vit, 4).transform(image_paths))
    np.testing.assert_allclose(views_of(wanted.transform(image_paths)), expected, atol=0.03)


def test_the_bar_counts_views(
    small_vit: str, image_paths: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("frofa.utils.progress._is_watched", lambda: True)
    wanted = extractor(small_vit, 4, ["mean", "pooled"], store=tmp_path / "store", verbose=True)
    wanted.transform(image_paths)
    last = capfd.readouterr().err.strip().split("\r")[-1]
    assert "48/48 [" in last
    assert "view/s" in last
    wanted.set_params(n_views=5).transform(image_paths)  # one more of each image
    assert "12/12 [" in capfd.readouterr().err.strip().split("\r")[-1]


def test_transparent_images_and_orientation(small_vit: str, tmp_path: Path) -> None:
    """Crops are cut from the image as it is shown, on its background."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 4), np.uint8), "RGBA")
    image.save(tmp_path / "transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", exif=exif)
    (tmp_path / "turned.png").write_bytes(buffer.getvalue())
    paths = [tmp_path / "transparent.png", tmp_path / "turned.png"]
    found = views_of(extractor(small_vit, 4).transform(paths))
    parts = [np.asarray(part) for path in paths for part in images_of_views(path, 4)]
    backbone = load_backbone(small_vit, None, "cpu")
    [expected] = backbone.extract(torch.from_numpy(np.stack(parts)), [Request("mean", 1, True)], "float32")
    np.testing.assert_allclose(found, expected.unflatten(0, (2, 4)), **CLOSE)
    on_white = views_of(extractor(small_vit, 4, background="white").transform(paths))
    assert (np.abs(on_white - found).max(-1) > 1e-4).tolist() == [[True] * 4, [False] * 4]


class Waiting:
    """In the place of a writer: counts the bytes that wait."""

    is_due = False

    def __init__(self) -> None:
        self.n_bytes = self.n_commits = 0

    def add(self, keys: Any, features: Any) -> None:
        assert len(keys) == len(features)
        self.n_bytes += features.nbytes

    def commit(self) -> None:
        self.n_bytes, self.n_commits = 0, self.n_commits + 1


def test_features_of_many_views_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be written is bounded for all views together."""
    monkeypatch.setattr("frofa.extraction.sinks.COMMIT_BYTES", 16 * 100 * 4)
    writers: list[Any] = [Waiting() for _ in range(8)]
    keys = dict.fromkeys(f"{i}" for i in range(40))
    views = make_views(8)
    sink = StoreSink(
        {i: f"{i}" for i in range(40)}, [Lack(Share(0, v), keys, w) for v, w in zip(views, writers, strict=True)]
    )
    for i in range(40):  # a batch an image: 8 views of 100 channels
        sink([ImageView(i, view) for view in views], [np.zeros((8, 100), np.float32)])
        assert sum(writer.n_bytes for writer in writers) < 16 * 100 * 4
    assert {writer.n_commits for writer in writers} == {20}
    assert sink.n_added == [40] * 8


def test_rows_come_in_whole_batches() -> None:
    """One that reaches over the end of the rows would be copied."""
    for n_views, batch_size, n_jobs in ((1, 64, 16), (6, 64, 16), (16, 5, 3), (7, 1, 1)):
        tasks = [DecodeTask(i, "", views=make_views(n_views)) for i in range(1000)]
        n_rows = number_of_rows(tasks, batch_size, n_jobs)
        assert n_rows % batch_size == 0
        assert (n_views == 1) == (n_rows == (IN_FLIGHT + 2) * batch_size)
        # Enough for one image in each thread, beside the batches that wait.
        assert n_rows >= (IN_FLIGHT + 1) * batch_size + n_jobs * (n_views - 1)
        assert number_of_rows(tasks[:2], batch_size, n_jobs) == min(2 * n_views, n_rows)


class Failing(Waiting):
    """A writer whose disk is full."""

    def commit(self) -> None:
        super().commit()
        raise OSError(28, "No space left on device")


def test_a_full_disk_ends_the_run_when_all_were_tried() -> None:
    writers: list[Any] = [Waiting(), Failing(), Waiting()]
    views = make_views(3)
    lacks = [Lack(Share(0, view), {"0": None}, writer) for view, writer in zip(views, writers, strict=True)]
    sink = StoreSink({0: "0"}, lacks)
    sink([ImageView(0, view) for view in views], [np.zeros((3, 4), np.float32)])
    with pytest.raises(OSError, match="No space left"):
        sink.commit()
    assert [writer.n_commits for writer in writers] == [1, 1, 1]
