"""frofa.FrozenFeatureExtractor: its features are timm's, whatever the batch and the form of the images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from PIL import Image, ImageOps
from timm.data import create_transform, resolve_data_config

from frofa import FrozenFeatureExtractor, list_images
from frofa.backbones.backbone import is_convolutional
from frofa.backbones.checkpoints.embedded import embedded_models
from frofa.backbones.loading import load_backbone
from frofa.extraction.batch_size import CPU_PASS

Array = npt.NDArray[Any]
EMBEDDED = f"local-dir:{embedded_models()[0].folder}"


def timm_model(name: str, images: list[str], **options: Any) -> tuple[Any, torch.Tensor]:
    """The model and its preprocessed images, by timm alone."""
    with torch.random.fork_rng(devices=[]):
        model: Any = timm.create_model(name, pretrained=True, **options).eval()
    if is_convolutional(model):  # the same arithmetic in another order: see the test of its accuracy
        model = model.to(memory_format=torch.channels_last)
    size = options.get("img_size")
    config = resolve_data_config({} if size is None else {"input_size": (3, size, size)}, model=model)
    transform = create_transform(**config)
    upright = [ImageOps.exif_transpose(Image.open(path)).convert("RGB") for path in images]
    return model, torch.stack([transform(image) for image in upright])


def timm_features(name: str, images: list[str], **options: Any) -> dict[str, Array]:
    """Every output, by timm alone."""
    model, pixels = timm_model(name, images, **options)
    with torch.inference_mode():
        # Passes of the same size: a convolution's last bits depend on it.
        features = torch.cat([model.forward_features(part) for part in pixels.split(CPU_PASS)])
        pooled = model.forward_head(features, pre_logits=True)
    if features.ndim == 3:
        outputs = {"tokens": features[:, model.num_prefix_tokens :]}
        if getattr(model, "cls_token", None) is not None:
            outputs["cls"] = features[:, 0]
    else:
        grid = features if getattr(model, "output_fmt", "NCHW") == "NHWC" else features.permute(0, 2, 3, 1)
        outputs = {"tokens": grid.reshape(len(grid), -1, grid.shape[-1])}
    outputs |= {"mean": outputs["tokens"].mean(1), "pooled": pooled}
    return {output: values.numpy() for output, values in outputs.items()}


def assert_equals_timm(model: str, name: str, images: list[str], n_outputs: int) -> None:
    expected = timm_features(name, images)
    assert len(expected) == n_outputs
    for output, values in expected.items():
        extractor: Any = FrozenFeatureExtractor(model, output=output, device="cpu")  # type: ignore[arg-type]
        features = extractor.fit_transform(images)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, values, rtol=1e-5, atol=1e-5, err_msg=output)
    in_small_batches = FrozenFeatureExtractor(model, device="cpu", batch_size=7).transform(images)
    np.testing.assert_allclose(in_small_batches, expected["tokens"], rtol=1e-4, atol=1e-4)


def test_embedded_model_equals_timm(image_paths: list[str]) -> None:
    assert_equals_timm("frofa/vit_tiny_tin200", EMBEDDED, image_paths, 4)


def test_embedded_model_equals_timm_on_photographs(shared_data: Path) -> None:
    assert_equals_timm("frofa/vit_tiny_tin200", EMBEDDED, list_images(shared_data / "photos")[:50], 4)


def test_convolutional_model_equals_timm_on_photographs(shared_data: Path, shared_backbones: Path) -> None:
    name = f"local-dir:{shared_backbones / 'tf_efficientnet_lite0.in1k'}"
    assert_equals_timm(name, name, list_images(shared_data / "photos")[50:100], 3)


def test_channels_last_is_about_as_near_to_the_truth(shared_data: Path, shared_backbones: Path) -> None:
    name = f"local-dir:{shared_backbones / 'tf_efficientnet_lite0.in1k'}"
    images = list_images(shared_data / "photos")[50:66]
    backbone = load_backbone(name, None, "cpu")
    assert is_convolutional(backbone.module)
    assert next(p for p in backbone.module.parameters() if p.ndim == 4).is_contiguous(memory_format=torch.channels_last)
    plain, pixels = timm_model(name, images)
    plain = plain.to(memory_format=torch.contiguous_format)
    precise = timm_model(name, images)[0].double()
    with torch.inference_mode():
        truth = precise.forward_features(pixels.double()).flatten(2).transpose(1, 2).numpy()
        error_of_timm = np.abs(plain.forward_features(pixels).flatten(2).transpose(1, 2).numpy() - truth)
    error = np.abs(FrozenFeatureExtractor(name, device="cpu").transform(images) - truth)
    assert error.max() < 1e-4
    assert np.sqrt((error**2).mean()) < 2 * np.sqrt((error_of_timm**2).mean())
    assert backbone.precision_key("auto", compiled=False) == "float32 channels_last"
    assert load_backbone(EMBEDDED, None, "cpu").precision_key("auto", compiled=False) == "float32"


@pytest.mark.parametrize(
    ("architecture", "model_args", "n_outputs"),
    [
        ("vit_tiny_patch16_224", {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 48, "reg_tokens": 3}, 4),
        (
            "vit_base_patch16_siglip_224",  # no class token; an attention-pooling head
            {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 8},
            3,
        ),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 8, "depths": (1, 1), "num_heads": (2, 2), "img_size": 56}, 3),
        ("resnet10t", {"stem_width": 8}, 3),
    ],
)
def test_other_families_equal_timm(
    architecture: str, model_args: Any, n_outputs: int, save_backbone: Callable[..., str], image_paths: list[str]
) -> None:
    name = save_backbone(architecture, **model_args)
    assert_equals_timm(name, name, image_paths, n_outputs)


@pytest.mark.parametrize("layer", [0, 5, 10, 11, -1, -12])
@pytest.mark.parametrize("norm", [True, False])
def test_layers_are_the_outputs_of_timms_blocks(layer: int, norm: bool, image_paths: list[str]) -> None:
    model, pixels = timm_model(EMBEDDED, image_paths)
    caught: list[torch.Tensor] = []
    model.blocks[layer].register_forward_hook(lambda _module, _input, output: caught.append(output))
    with torch.inference_mode():
        model.forward_features(pixels)
        prefixed = model.norm(caught[0]) if norm else caught[0]
        [spatial] = model.forward_intermediates(
            pixels, indices=[layer], norm=norm, output_fmt="NLC", intermediates_only=True
        )
    tokens, cls = (
        FrozenFeatureExtractor(output=output, layer=layer, norm=norm, device="cpu").transform(image_paths)
        for output in ("tokens", "cls")
    )
    np.testing.assert_allclose(tokens, spatial.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(cls, prefixed[:, 0].numpy(), rtol=1e-5, atol=1e-5)


def test_last_layer_is_the_default(image_paths: list[str]) -> None:
    default = FrozenFeatureExtractor(device="cpu").transform(image_paths)
    for layer in (-1, 11, np.int64(11)):
        same = FrozenFeatureExtractor(layer=layer, device="cpu").transform(image_paths)  # type: ignore[arg-type]
        np.testing.assert_array_equal(same, default)


def test_image_size_interpolates_positions_as_timm_does(small_vit: str, image_paths: list[str]) -> None:
    expected = timm_features(small_vit, image_paths, img_size=96)["tokens"]
    assert expected.shape == (12, 144, 16)
    for size in (96, (96, 96), np.int64(96)):
        extractor = FrozenFeatureExtractor(small_vit, image_size=size, device="cpu")  # type: ignore[arg-type]
        np.testing.assert_allclose(extractor.transform(image_paths), expected, rtol=1e-5, atol=1e-5)


def test_image_size_is_height_and_width(small_vit: str, image_paths: list[str]) -> None:
    with Image.open(image_paths[0]) as image:
        assert load_backbone(small_vit, (48, 96), "cpu").preprocess(image).shape == (3, 48, 96)
    for size in ((48, 96), [48, 96]):
        extractor = FrozenFeatureExtractor(small_vit, image_size=size, device="cpu")  # type: ignore[arg-type]
        assert extractor.transform(image_paths).shape == (12, 6 * 12, 16)


def test_paths_images_and_arrays_agree(small_vit: str, image_folder: Path) -> None:
    paths = sorted(image_folder.rglob("*.png"))
    extractor = FrozenFeatureExtractor(small_vit, device="cpu")
    features = extractor.transform(paths)
    images = [Image.open(path) for path in paths]
    arrays = np.stack([np.asarray(image.convert("RGB")) for image in images])
    np.testing.assert_array_equal(extractor.transform(images), features)
    np.testing.assert_array_equal(extractor.transform(arrays), features)
    np.testing.assert_array_equal(extractor.transform([paths[0], *images[1:3], *arrays[3:]]), features)


def test_threads_change_nothing(small_vit: str, image_paths: list[str]) -> None:
    one, two = (FrozenFeatureExtractor(small_vit, device="cpu", n_jobs=n, batch_size=5) for n in (None, 2))
    np.testing.assert_array_equal(one.transform(image_paths), two.transform(image_paths))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_dtype_rounds_the_same_features(dtype: Any, small_vit: str, image_paths: list[str]) -> None:
    single = FrozenFeatureExtractor(small_vit, device="cpu").transform(image_paths)
    features = FrozenFeatureExtractor(small_vit, device="cpu", dtype=dtype).transform(image_paths)
    assert features.dtype == dtype
    np.testing.assert_array_equal(features, single.astype(dtype))


def test_low_precision_is_close_and_not_equal(small_vit: str, image_paths: list[str]) -> None:
    single, low = (
        FrozenFeatureExtractor(small_vit, device="cpu", precision=precision).transform(image_paths)
        for precision in ("float32", "bfloat16")
    )
    assert low.dtype == np.float32
    np.testing.assert_allclose(low, single, atol=0.1)
    assert np.abs(low - single).max() > 1e-4
