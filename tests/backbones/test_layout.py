"""What a model returns, checked when it is loaded: the outputs are right, or refused in one line before any work."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from test_pretrained_config import rewritten
from torch import Tensor, nn

from frofa import FrozenFeatureExtractor
from frofa.backbones.backbone import Backbone
from frofa.backbones.layout import probing_images, read_layout
from frofa.backbones.loading import _load, load_backbone
from frofa.backbones.outputs import Output, Request

SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
LAYOUTS: dict[str, tuple[dict[str, Any], int, tuple[int, int]]] = {
    "cait_xxs24_224": (SMALL, 1, (4, 4)),
    "xcit_nano_12_p8_224": ({**SMALL, "num_heads": 4}, 1, (4, 4)),
    "convit_tiny": ({**SMALL, "local_up_to_layer": 2}, 1, (4, 4)),
    "vit_relpos_small_patch16_224": (SMALL, 0, (4, 4)),
    "vit_relpos_medium_patch16_cls_224": (SMALL, 1, (4, 4)),
    "vit_little_patch16_reg4_gap_256": ({**SMALL, "mlp_ratio": 2}, 4, (4, 4)),
    "vit_small_patch14_reg4_dinov2": (SMALL, 5, (4, 4)),
    "vit_small_patch16_dinov3": (SMALL, 5, (4, 4)),
    "eva02_tiny_patch14_224": (SMALL, 1, (4, 4)),
    "beit_base_patch16_224": (SMALL, 1, (4, 4)),
    "deit_tiny_distilled_patch16_224": (SMALL, 2, (4, 4)),
    "gmlp_ti16_224": ({"img_size": 64}, 0, (4, 4)),
    "levit_128s": ({"img_size": 64}, 0, (1, 1)),
    "swin_tiny_patch4_window7_224": (
        {"img_size": 64, "window_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2]},
        0,
        (8, 8),
    ),
    "resnet10t": ({"stem_width": 8}, 0, (1, 1)),
}
OUTPUTS: tuple[Output, ...] = ("tokens", "mean", "pooled")


def features(
    backbone: Backbone, images: Tensor, output: Output, layer: int | None = None, *, norm: bool = True
) -> Tensor:
    request = Request(output, backbone.resolve_layer(output, layer, norm), norm)
    return backbone.extract(images, [request], "float32")[0]


def images_for(backbone: Backbone) -> Tensor:
    return torch.randn(2, *backbone.data_config["input_size"], generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
@pytest.mark.parametrize("architecture", LAYOUTS)
def test_tokens_are_the_patch_tokens(architecture: str, save_backbone: Callable[..., str]) -> None:
    arguments, n_prefix, grid = LAYOUTS[architecture]
    backbone = load_backbone(save_backbone(architecture, **arguments), None, "cpu")
    module: Any = backbone.module
    images = images_for(backbone)
    whole = module.forward_features(images)
    if whole.ndim == 4:
        whole = whole.flatten(1, 2) if architecture.startswith("swin") else whole.flatten(2).transpose(1, 2)
    assert (backbone.layout.n_prefix, backbone.layout.grid) == (n_prefix, grid)
    assert whole.shape[1] == n_prefix + grid[0] * grid[1]
    found = [features(backbone, images, output) for output in OUTPUTS]
    pooled = module.forward_head(module.forward_features(images), pre_logits=True)
    expected = (whole[:, n_prefix:], whole[:, n_prefix:].mean(1), pooled)
    for output, one, other in zip(OUTPUTS, found, expected, strict=True):
        torch.testing.assert_close(one, other)
        assert backbone.width(output) == other.shape[-1]
    if getattr(module, "cls_token", None) is None:
        with pytest.raises(ValueError, match="has no class token"):
            backbone.resolve_layer("cls", None, True)
    else:
        torch.testing.assert_close(features(backbone, images, "cls"), whole[:, 0])


@torch.inference_mode()
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(
    "architecture", ["cait_xxs24_224", "xcit_nano_12_p8_224", "convit_tiny", "vit_relpos_small_patch16_224"]
)
def test_layers_of_models_without_prefix_tokens_in_their_blocks(
    architecture: str, norm: bool, save_backbone: Callable[..., str]
) -> None:
    backbone = load_backbone(save_backbone(architecture, **LAYOUTS[architecture][0]), None, "cpu")
    module: Any = backbone.module
    images = images_for(backbone)
    for layer in (0, 1):
        [expected] = module.forward_intermediates(images, [layer], norm=norm, intermediates_only=True)
        found = features(backbone, images, "tokens", layer, norm=norm)
        torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2))
    if backbone.has_cls_token:
        with pytest.raises(ValueError, match=r"gives the class token of its last layer only. Choose layer=None"):
            backbone.resolve_layer("cls", 0, norm)


@torch.inference_mode()
def test_several_scales_have_a_pooled_vector_only(save_backbone: Callable[..., str]) -> None:
    backbone = load_backbone(save_backbone("crossvit_tiny_240", img_size=240), None, "cpu")
    module: Any = backbone.module
    images = images_for(backbone)
    expected = module.forward_head(module.forward_features(images), pre_logits=True)
    torch.testing.assert_close(features(backbone, images, "pooled"), expected)
    for output in ("tokens", "cls", "mean"):
        with pytest.raises(ValueError, match=rf"output='{output}' of .* gives 2 parts .* Choose output='pooled'\.$"):
            FrozenFeatureExtractor(backbone.name, output=output, device="cpu").fit()


def test_a_model_that_returns_class_tokens_only(save_backbone: Callable[..., str]) -> None:
    backbone = load_backbone(save_backbone("pit_ti_224", img_size=64), None, "cpu")
    assert set(backbone.layout.widths) == {"pooled"}
    with pytest.raises(ValueError, match="its 1 tokens are not a grid of patches"):
        backbone.resolve_layer("tokens", None, True)


@torch.inference_mode()
def test_volos_class_token_is_no_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]):
        module: Any = timm.models.volo.VOLO([1] * 4, img_size=64, embed_dims=[16] * 4, num_heads=[2] * 4, num_classes=0)
    module.pretrained_cfg = {"input_size": (3, 64, 64)}
    monkeypatch.setattr("frofa.backbones.loading.create_module", lambda *_: module)
    backbone = _load.__wrapped__("volo", "volo", (), None, "cpu", None)
    images = images_for(backbone)
    whole = module.forward_features(images)
    assert whole.shape == (2, 17, 16)
    torch.testing.assert_close(features(backbone, images, "tokens"), whole[:, 1:])
    torch.testing.assert_close(features(backbone, images, "mean"), whole[:, 1:].mean(1))
    torch.testing.assert_close(features(backbone, images, "cls"), whole[:, 0])
    with pytest.raises(ValueError, match="layer=0, norm=True need a vision transformer"):
        backbone.resolve_layer("tokens", 0, True)


class Sequence(nn.Module):
    """A model of 4 x 4 patches of 8 pixels: their averages, with or without another token, in some order."""

    num_features = 3

    def __init__(self, arrange: Callable[[Tensor], Tensor]):
        super().__init__()
        self.arrange = arrange

    def forward_features(self, images: Tensor) -> Tensor:
        return self.arrange(nn.functional.avg_pool2d(images, 8).flatten(2).transpose(1, 2))

    def forward_head(self, features: Tensor, *, pre_logits: bool) -> Tensor:
        assert pre_logits
        return features.mean(1)


def with_class_token(tokens: Tensor) -> Tensor:
    return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


@pytest.mark.parametrize(("arrange", "n_prefix"), [(lambda tokens: tokens, 0), (with_class_token, 1)])
def test_undeclared_prefix_tokens_are_found(arrange: Callable[[Tensor], Tensor], n_prefix: int) -> None:
    layout = read_layout("model", Sequence(arrange), (3, 32, 32), torch.device("cpu"))
    assert (layout.n_prefix, layout.grid, layout.widths) == (n_prefix, (4, 4), {"tokens": 3, "pooled": 3})


@pytest.mark.parametrize(
    ("arrange", "reason"),
    [
        (lambda tokens: with_class_token(tokens).flip(1), "are not where a grid of 4 x 4 has them"),
        (lambda tokens: tokens[:, torch.arange(16).roll(5)], "are not where a grid of 4 x 4 has them"),
        (lambda tokens: tokens[:, :7], "its 7 tokens are not a grid of patches"),
        (lambda tokens: tokens * 0, "the same for two different images"),
        (lambda tokens: tokens / 0, "NaN or infinite values"),
        (lambda tokens: tokens[:, 0], r"gives \(3,\) an image, not tokens or a grid"),
        (lambda tokens: {"x": tokens}, "gives a dict, not one tensor of tokens"),
    ],
)
def test_tokens_that_cannot_be_read_are_refused(arrange: Callable[[Tensor], Any], reason: str) -> None:
    class Pooled(Sequence):
        def forward_head(self, features: Any, *, pre_logits: bool) -> Tensor:
            assert pre_logits
            assert features is not None
            return torch.eye(2)

    layout = read_layout("model", Pooled(arrange), (3, 32, 32), torch.device("cpu"))
    assert list(layout.lacking) == ["tokens"]
    assert re.search(reason, layout.lacking["tokens"])


def test_a_model_without_any_output_is_refused() -> None:
    class Broken(Sequence):
        def forward_head(self, features: Tensor, *, pre_logits: bool) -> Tensor:
            raise RuntimeError(f"no\nhead for {len(features)}, {pre_logits}")

    with pytest.raises(
        ValueError, match=r"^model \(Broken\) returns no features .*; forward_head fails: no head for 2, True$"
    ):
        read_layout("model", Broken(lambda tokens: tokens / 0), (3, 32, 32), torch.device("cpu"))
    with pytest.raises(ValueError, match=r"^model \(Sequence\) cannot take images of 3 x 4 x 4 .*: "):
        read_layout("model", Sequence(lambda tokens: tokens), (3, 4, 4), torch.device("cpu"))


def test_probing_images_differ_in_a_part() -> None:
    first, second = probing_images(3, 40, 16)
    changed = (first != second).all(0)
    assert changed[10:20, 8:12].all()
    assert changed.sum() == 10 * 4


def test_a_model_is_probed_once(monkeypatch: pytest.MonkeyPatch, small_vit: str) -> None:
    _load.cache_clear()
    module: Any = load_backbone(small_vit, None, "cpu").module
    calls = []
    for name in ("forward_features", "forward_intermediates"):
        original = getattr(type(module), name)

        def counted(self: Any, *args: Any, _name: str = name, _original: Any = original, **options: Any) -> Any:
            calls.append(_name)
            return _original(self, *args, **options)

        monkeypatch.setattr(type(module), name, counted)
    _load.cache_clear()
    for layer in (None, 0, 0, 0):
        FrozenFeatureExtractor(small_vit, layer=layer, device="cpu").fit()
    assert calls == ["forward_features", "forward_intermediates"]
    _load.cache_clear()


@torch.inference_mode()
def test_grey_images(save_backbone: Callable[..., str], tmp_path: Any) -> None:
    name = save_backbone("vit_tiny_patch16_224", in_chans=1, **SMALL)
    with pytest.raises(
        ValueError, match=r"mean must be one number, as the model takes grey images. Got .0.4, 0.5, 0.6.$"
    ):
        FrozenFeatureExtractor(name, device="cpu").fit()
    grey = rewritten(name, tmp_path, mean=[0.4], std=[0.2])
    colours = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3), np.uint8)
    images = [Image.fromarray(pixels) for pixels in colours]
    found = FrozenFeatureExtractor(grey, device="cpu").transform(images)
    transform = timm.data.create_transform((1, 32, 32), mean=(0.4,), std=(0.2,), crop_pct=0.8, interpolation="bicubic")
    module: Any = load_backbone(grey, None, "cpu").module
    expected = module.forward_features(torch.stack([transform(image.convert("L")) for image in images]))[:, 1:]
    torch.testing.assert_close(torch.from_numpy(found), expected)


def test_four_channels_are_refused(save_backbone: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="takes images of 4 channels: images are RGB, or grey"):
        FrozenFeatureExtractor(save_backbone("vit_tiny_patch16_224", in_chans=4, **SMALL), device="cpu").fit()


@pytest.mark.parametrize(("architecture", "size"), [("cait_xxs24_224", 48), ("convit_tiny", (32, 64))])
def test_image_sizes_that_a_model_cannot_take(architecture: str, size: Any, save_backbone: Callable[..., str]) -> None:
    name = save_backbone(architecture, **LAYOUTS[architecture][0])
    with pytest.raises(ValueError, match=r"cannot take images of 3 x (48|32) x (48|64) \(channels, height, width\)"):
        FrozenFeatureExtractor(name, image_size=size, device="cpu").fit()


def test_image_sizes_that_cut_patches_through(small_vit: str) -> None:
    with pytest.raises(ValueError, match=r"image_size must be a multiple, such as 40x48. Got 44x48\.$"):
        FrozenFeatureExtractor(small_vit, image_size=(44, 48), device="cpu").fit()
