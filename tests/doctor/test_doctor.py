"""frofa.check_extractor and frofa doctor: sound extractors pass, and each broken one's fault is named."""

import copy
import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_helpers import SIGNALS, Counting, moments
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from tower_helpers import SMALL, naflex, paligemma, rewritten, save, siglip

from frofa import FrozenFeatureExtractor, TorchEncoder, check_extractor
from frofa.backbones.backbone import Backbone
from frofa.backbones.checkpoints.embedded import embedded_models
from frofa.backbones.loading import _load
from frofa.backbones.navit.backbone import NativeBackbone
from frofa.backbones.preprocessing import Preprocessing, of_config
from frofa.cli import main
from frofa.doctor import Finding, write_golden
from frofa.doctor.checks import cost
from frofa.exceptions import ExtractorCheckError

EMBEDDED = "frofa/vit_tiny_tin200"


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "MEASURED_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def loaded_anew() -> Iterator[None]:
    """Tests here break what is loaded."""
    _load.cache_clear()
    yield
    _load.cache_clear()


@pytest.fixture
def embedded_copy(tmp_path: Path) -> Path:
    """A copy of the embedded backbone without its golden vectors, to change."""
    folder = Path(shutil.copytree(embedded_models()[0].folder, tmp_path / "copy"))
    (folder / "golden.npz").unlink()
    return folder


class Changed(FrozenFeatureExtractor):
    """An extractor whose backbone something was done to."""

    def _backbone(self, *, check_weights: bool = True) -> Backbone:
        return self.change(super()._backbone(check_weights=check_weights))

    def change(self, backbone: Backbone) -> Backbone:
        raise NotImplementedError


def with_changes(backbone: Backbone, **changes: Any) -> Backbone:
    changed = copy.copy(backbone)
    vars(changed).update(changes)
    return changed


def packed(backbone: Backbone) -> Backbone:
    """The same, made anew of what was changed; a backbone at a fixed size as it is."""
    if isinstance(backbone, NativeBackbone):
        return NativeBackbone(backbone, backbone.max_tokens, backbone.enlarge)
    return backbone


def fault(extractor_or_model: FrozenFeatureExtractor | str, **options: Any) -> dict[str, str]:
    """What failed, by the name of the check."""
    with pytest.raises(ExtractorCheckError) as caught:
        check_extractor(extractor_or_model, **options)
    failed = {finding.check: finding.message for finding in caught.value.findings if finding.status == "failed"}
    assert all(f"{check}: {message}" in str(caught.value) for check, message in failed.items())
    return failed


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    return f"local-dir:{folder}"


def test_the_embedded_backbone_passes_every_check(image_paths: list[str]) -> None:
    findings = by_name(check_extractor(EMBEDDED, image_paths[:2]))
    assert {name for name, finding in findings.items() if finding.status != "ok"} == {"text tower"}
    assert "has no text tower" in findings["text tower"].message
    assert "8 x 8 patch tokens" in findings["tokens and grid"].message
    assert "tokens float32 49.15 GB" in findings["store size"].message


def test_a_convolutional_backbone_passes(shared_backbones: Path, image_paths: list[str]) -> None:
    model = f"local-dir:{shared_backbones / 'tf_efficientnet_lite0.in1k'}"
    findings = by_name(check_extractor(model, image_paths[:2]))
    assert findings["golden vectors"].status == "skipped"
    assert findings["tokens and grid"].message == "0 prefix tokens (none), 7 x 7 patch tokens of 1280"


@pytest.mark.parametrize("architecture", ["vit_base_patch16_siglip_224", "naflexvit_base_patch16_siglip"])
def test_random_weights_of_other_families_pass_with_a_note(
    save_backbone: Callable[..., str], architecture: str
) -> None:
    size = {"img_size": 32} if architecture.startswith("vit") else {}
    model = save_backbone(architecture, patch_size=8, embed_dim=16, depth=2, num_heads=2, **size)
    findings = by_name(check_extractor(FrozenFeatureExtractor(model, device="cpu")))
    assert findings["loaded weights"].status == "note"
    assert "random weights?" in findings["loaded weights"].message
    assert "4 x 4 patch tokens of 16" in findings["tokens and grid"].message


@pytest.mark.parametrize(
    ("architecture", "tag", "status", "expected"),
    [
        ("vit_small_patch16_dinov3", "lvd1689m", "note", "the average of the patch tokens; .* to output='cls' instead"),
        ("vit_small_patch14_dinov2", "lvd142m", "ok", r"the class token; .* was applied to it \(the DINO loss\)"),
        ("vit_base_patch16_siglip_224", "webli", "ok", "an attention-pooling head; .* was applied to it"),
        ("vit_base_patch16_siglip_gap_224", "webli", "note", "the average of the patch tokens; .* was not applied"),
        ("vit_base_patch16_224", "mae", "note", r"class token; .* not applied to it \(reconstruction of single"),
        ("vit_base_patch16_clip_224", "openai", "ok", r"the class token; .* applied to it \(.* CLIP\)"),
        ("vit_base_patch16_224", "augreg_in21k", "ok", r"the class token; .* applied to it \(classification of"),
        ("beit_base_patch16_224", "in22k_ft_in22k", "ok", "the average of the patch tokens, normalised; .* applied"),
        ("vit_tiny_patch16_224", "of_somebody", "ok", "the class token; which vector .* is not known"),
    ],
)
def test_what_the_pooled_vector_is(
    architecture: str, tag: str, status: str, expected: str, save_backbone: Callable[..., str], tmp_path: Path
) -> None:
    model = save_backbone(architecture, img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2)
    finding = by_name(check_extractor(rewritten(model, tmp_path, tag=tag)))["pooled vector"]
    assert re.search(f"^pooled is .*{expected}", finding.message)
    assert finding.status == status


def test_models_without_tokens_pass(save_backbone: Callable[..., str]) -> None:
    findings = by_name(check_extractor(save_backbone("crossvit_tiny_240", img_size=240)))
    assert {finding.status for finding in findings.values()} == {"ok", "note", "skipped"}
    assert findings["tokens and grid"].message.startswith("none: forward_features gives 2 parts")
    assert "tokens" not in findings["store size"].message


@pytest.mark.parametrize("options", [{"image_size": 48}, {"precision": "int8"}, {"sparsity": "2:4"}, {"sparsity": 0.5}])
def test_other_settings_of_an_extractor_pass(options: dict[str, Any]) -> None:
    findings = check_extractor(FrozenFeatureExtractor(EMBEDDED, device="cpu", **options))
    assert {finding.status for finding in findings} <= {"ok", "skipped"}


def test_the_store_of_an_extractor_is_not_touched(tmp_path: Path) -> None:
    check_extractor(FrozenFeatureExtractor(EMBEDDED, store=tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_train_mode_is_named() -> None:
    extractor = FrozenFeatureExtractor(EMBEDDED, device="cpu")
    extractor._backbone().module.blocks[3].train()  # type: ignore[index, union-attr]
    assert fault(extractor)["eval mode"].startswith("in train mode: blocks.3, ")


def test_a_wrong_mean_that_someone_set_is_named() -> None:
    class Wrong(Changed):
        def change(self, backbone: Backbone) -> Backbone:
            config = {**backbone.data_config, "mean": (0.485, 0.456, 0.406)}
            return with_changes(backbone, data_config=config, preprocessing=of_config(config))

    failed = fault(Wrong(EMBEDDED, device="cpu"))
    expected = "mean is [0.485, 0.456, 0.406], expected [0.5, 0.5, 0.5]"
    assert failed["preprocessing"] == f"not the checkpoint's own: {expected}"
    assert failed["golden vectors"].endswith(expected)


def test_a_wrong_mean_in_the_config_file_is_named_by_the_golden_vectors(embedded_copy: Path) -> None:
    config = json.loads((embedded_copy / "config.json").read_text())
    config["pretrained_cfg"]["mean"] = [0.485, 0.456, 0.406]
    (embedded_copy / "config.json").write_text(json.dumps(config))
    failed = fault(f"local-dir:{embedded_copy}")
    assert list(failed) == ["golden vectors"]
    assert "mean is [0.485, 0.456, 0.406], expected [0.5, 0.5, 0.5]" in failed["golden vectors"]


def test_a_mean_that_is_not_applied_is_named() -> None:
    class Wrong(Changed):
        def change(self, backbone: Backbone) -> Backbone:
            parts = backbone.preprocessing
            assert parts.mean is not None
            wrong = dataclasses.replace(parts, mean=parts.mean + 0.1)
            return with_changes(backbone, preprocessing=wrong)

    assert "wrong mean or std in what an extraction runs" in fault(Wrong(EMBEDDED, device="cpu"))["pixel values"]


def test_swapped_channels_of_the_preprocessing_are_named() -> None:
    class Swapped(Changed):
        def change(self, backbone: Backbone) -> Backbone:
            whole = backbone.preprocessing.whole
            return with_changes(backbone, preprocessing=Preprocessing(lambda image: whole(image).flip(0)))

    failed = fault(Swapped(EMBEDDED, device="cpu"))
    assert "channels are swapped" in failed["pixel values"]
    assert "agree with swapped colour channels" in failed["golden vectors"]


def test_swapped_channels_of_the_weights_are_named_by_the_golden_vectors(embedded_copy: Path) -> None:
    write_golden(EMBEDDED, embedded_copy / "golden.npz")

    def swap(weights: dict[str, torch.Tensor]) -> None:
        weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"].flip(1).contiguous()

    failed = fault(edit(embedded_copy, swap))
    assert list(failed) == ["golden vectors"]
    assert "agree with swapped colour channels" in failed["golden vectors"]


def test_blocks_that_were_never_loaded_are_named(embedded_copy: Path) -> None:
    def reset(weights: dict[str, torch.Tensor]) -> None:
        generator = torch.Generator().manual_seed(0)
        for name in [name for name in weights if name.startswith(("blocks.10.", "blocks.11."))]:
            if ".norm" in name:
                weights[name] = torch.full_like(weights[name], float(name.endswith("weight")))
            elif name.endswith("bias"):
                weights[name] = torch.zeros_like(weights[name])
            elif weights[name].ndim == 2:
                weights[name] = torch.randn(weights[name].shape, generator=generator) * 0.02

    failed = fault(edit(embedded_copy, reset))
    assert failed["loaded weights"].startswith("loaded in part: 4 of 25 normalisation layers are as before training")
    assert "blocks.10.norm1" in failed["loaded weights"]


def test_weights_that_are_not_the_files_are_named() -> None:
    extractor = FrozenFeatureExtractor(EMBEDDED, device="cpu")
    extractor._backbone().module.blocks[2].mlp.fc1.weight.mul_(1.5)  # type: ignore[index, union-attr]
    assert fault(extractor)["checkpoint file"] == "differ from model.safetensors: blocks.2.mlp.fc1.weight"


def test_layers_of_zeros_are_named(embedded_copy: Path) -> None:
    model = edit(embedded_copy, lambda weights: weights["blocks.5.attn.proj.weight"].zero_())  # type: ignore[arg-type]
    assert "blocks.5.attn.proj" in fault(model)["constant weights"]


def test_nan_weights_are_named(embedded_copy: Path) -> None:
    model = edit(embedded_copy, lambda weights: weights["blocks.7.norm1.bias"].fill_(float("nan")))  # type: ignore[arg-type]
    assert fault(model)["loading"].endswith("blocks.7.norm1.bias holds NaN or infinite values.")
    extractor = FrozenFeatureExtractor(EMBEDDED, device="cpu")
    extractor._backbone().module.blocks[7].norm1.bias.data.fill_(float("nan"))  # type: ignore[index, union-attr]
    failed = fault(extractor)
    assert failed["finite weights"] == "NaN or infinite values in blocks.7.norm1.bias"
    assert failed["features"] == "4 of 4 images have NaN or infinite features"
    assert "blocks.7.norm1.bias" in failed["checkpoint file"]


def test_a_file_that_lacks_weights_is_named(embedded_copy: Path) -> None:
    model = edit(embedded_copy, lambda weights: weights.pop("blocks.4.mlp.fc1.weight"))  # type: ignore[arg-type]
    assert "blocks.4.mlp.fc1.weight" in fault(model)["loading"]


def test_features_that_depend_on_the_batch_are_named(small_vit: str) -> None:
    class Mixed(Changed):
        def change(self, backbone: Backbone) -> Backbone:
            backbone.module.norm.register_forward_hook(lambda _, __, out: out - out.mean(0, keepdim=True) / 2)  # type: ignore[union-attr]
            return backbone

    assert "features depend on the batch" in fault(Mixed(small_vit, device="cpu"))["batch size"]


def test_golden_vectors_of_ones_own(small_vit: str, embedded_copy: Path, tmp_path: Path) -> None:
    write_golden(small_vit, tmp_path / "golden.npz")
    findings = by_name(check_extractor(small_vit, golden=tmp_path / "golden.npz"))
    assert findings["golden vectors"].status == "ok"
    failed = fault(f"local-dir:{embedded_copy}", golden=tmp_path / "golden.npz")
    assert "golden vectors" in failed
    (tmp_path / "golden.npz").write_bytes(b"no archive")
    assert "expected golden vectors" in fault(small_vit, golden=tmp_path / "golden.npz")["golden vectors"]


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"expected a FrozenFeatureExtractor or the name of a model\. Got int"):
        check_extractor(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected at least one image"):
        check_extractor(EMBEDDED, [])
    with pytest.raises(ValueError, match=r"on_fail must be 'raise' or None\. Got 'warn'"):
        check_extractor(EMBEDDED, on_fail="warn")  # type: ignore[arg-type]


def test_findings_without_raising(embedded_copy: Path) -> None:
    (embedded_copy / "model.safetensors").unlink()
    [finding] = check_extractor(f"local-dir:{embedded_copy}", on_fail=None)
    assert (finding.check, finding.status) == ("loading", "failed")


def test_the_command_prints_a_line_a_check(capsys: pytest.CaptureFixture[str], small_vit: str, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    golden = tmp_path / "golden.npz"
    assert main(["doctor", small_vit, str(tmp_path), "--device", "cpu", "--write-golden", str(golden)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "ok       eval mode: all parts are in eval mode, without gradients"
    assert lines[-1] == f"golden vectors: {golden}"
    assert main(["doctor", small_vit, "--device", "cpu", "--golden", str(golden)]) == 0


def test_the_command_fails_with_the_line_that_says_why(
    capsys: pytest.CaptureFixture[str], embedded_copy: Path, tmp_path: Path
) -> None:
    model = edit(embedded_copy, lambda weights: weights["norm.weight"].fill_(float("inf")))  # type: ignore[arg-type]
    golden = tmp_path / "golden.npz"
    assert main(["doctor", model, "--device", "cpu", "--write-golden", str(golden)]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("failed   loading: ")
    assert captured.out.endswith("norm.weight holds NaN or infinite values.\n")
    assert "checks failed" in captured.err
    assert not golden.exists()


def test_towers_of_hugging_face_folders_pass(tmp_path: Path) -> None:
    config = {**SMALL, "patch_size": 8}
    for kind, model, size in [
        ("siglip", siglip(image_size=32, **config), 32),
        ("paligemma", paligemma(image_size=32, **config), 32),
        ("naflex", naflex(num_patches=16, **config), None),
    ]:
        name = save(model, tmp_path / kind, size)
        findings = by_name(check_extractor(FrozenFeatureExtractor(name, device="cpu")))
        assert {finding.status for finding in findings.values()} == {"ok", "skipped"}, kind
        assert "4 x 4 patch tokens of 32" in findings["tokens and grid"].message
        assert ("(avg)" if kind == "paligemma" else "(map)") in findings["pooling"].message


def test_packed_passes_of_naflex_pass(tmp_path: Path, image_paths: list[str]) -> None:
    name = save(naflex(num_patches=16, **{**SMALL, "patch_size": 8}), tmp_path / "naflex")
    findings = by_name(check_extractor(FrozenFeatureExtractor(name, max_tokens=64, device="cpu")))
    assert {finding.status for finding in findings.values()} == {"ok", "skipped"}
    assert findings["tokens and grid"].message == "grids 6 x 9 of at most 64 patches, tokens of 32"
    assert findings["pooling"].message.startswith("tokens and pooled of packed images are those of each alone through")
    assert findings["batch size"].message.startswith("max relative difference 0.0e+00 to each image alone, 0.0e+00 in")
    assert findings["preprocessing"].message == ("mean [0.5, 0.5, 0.5], std [0.5, 0.5, 0.5], interpolation bilinear")
    check_extractor(FrozenFeatureExtractor(name, max_tokens=64, device="cpu"), image_paths[:3])


def test_packed_passes_of_a_plain_vit_pass(capsys: pytest.CaptureFixture[str]) -> None:
    findings = by_name(check_extractor(FrozenFeatureExtractor(EMBEDDED, max_tokens=100, device="cpu")))
    assert {finding.status for finding in findings.values()} == {"ok", "skipped"}
    assert findings["pooling"].message.endswith("those of the model's own pass over 64 x 64 pixels")
    assert main(["doctor", EMBEDDED, "--device", "cpu", "--max-tokens", "100"]) == 0
    assert "ok       tokens and grid: grids 8 x 12 of at most 100 patches" in capsys.readouterr().out


def test_faults_of_packed_passes_are_named(embedded_copy: Path) -> None:
    class WrongMean(Changed):
        def change(self, backbone: Backbone) -> Backbone:
            return packed(with_changes(backbone, data_config={**backbone.data_config, "mean": (0.485, 0.456, 0.406)}))

    class NotApplied(Changed):
        def change(self, backbone: Backbone) -> Backbone:
            changed = copy.copy(backbone)
            if isinstance(changed, NativeBackbone):
                mean, std = changed._scaling
                changed._scaling = [mean + 0.1, std]
                changed.preprocessing = dataclasses.replace(changed.preprocessing, whole=changed._whole)
            return changed

    class WrongOrder(Changed):
        def change(self, backbone: Backbone) -> Backbone:
            if isinstance(backbone, NativeBackbone):
                module: Any = copy.deepcopy(backbone.module)
                module.pos_embed.data[:, 1:] = module.pos_embed.data[:, 1:].flip(1)
                return packed(with_changes(backbone, module=module))
            return backbone

    failed = fault(WrongMean(f"local-dir:{embedded_copy}", max_tokens=100, device="cpu"))
    assert failed["preprocessing"].endswith("mean is [0.485, 0.456, 0.406], expected [0.5, 0.5, 0.5]")
    failed = fault(NotApplied(f"local-dir:{embedded_copy}", max_tokens=100, device="cpu"))
    assert "wrong mean or std in the transform" in failed["pixel values"]
    failed = fault(WrongOrder(f"local-dir:{embedded_copy}", max_tokens=100, device="cpu"))
    assert list(failed) == ["checkpoint file", "pooling"]
    assert failed["pooling"].startswith("tokens of packed images differ from those of the model's own pass")


def test_soft_moe_passes(save_backbone: Callable[..., str]) -> None:
    findings = by_name(
        check_extractor(FrozenFeatureExtractor(save_backbone("soft_moe_vit_tiny_patch16", img_size=32), device="cpu"))
    )
    assert {finding.status for finding in findings.values()} <= {"ok", "note", "skipped"}
    assert findings["loaded weights"].status == "note"  # random


def test_custom_encoders_pass() -> None:
    findings = by_name(check_extractor(FrozenFeatureExtractor(Counting()), SIGNALS))
    assert {finding.status for finding in findings.values()} == {"ok", "skipped"}
    assert findings["weights digest"].message.endswith("(of the spec 'moments v1')")
    assert findings["features"].message == "finite, the same in two passes; shape (8, 6)"
    with torch.random.fork_rng(devices=[]):
        module = nn.Sequential(nn.Flatten(), nn.Linear(40, 5))
    encoder = TorchEncoder(module.eval(), spec="linear v1")
    findings = by_name(check_extractor(FrozenFeatureExtractor(encoder), SIGNALS))
    assert findings["eval mode"].status in ("ok", "note")
    with pytest.raises(ValueError, match="is a custom encoder: expected some of the items that it takes"):
        check_extractor(FrozenFeatureExtractor(Counting()))


def test_faults_of_custom_encoders_are_named() -> None:
    def centred(batch: Any) -> Any:
        return moments(batch - batch.mean(0))

    def spoiling(batch: Any) -> Any:
        batch *= 2
        return moments(batch)

    random = np.random.default_rng(0)

    def noisy(batch: Any) -> Any:
        return moments(batch) + random.normal(size=(len(batch), 6))

    def found(features: Callable[[Any], Any]) -> dict[str, str]:
        return fault(FrozenFeatureExtractor(Counting("faulty", features)), images=SIGNALS)

    assert "features depend on the batch" in found(centred)["batch size"]
    assert found(spoiling)["features"] == "the encoder changes the batch that it is given"
    assert "two passes over the same items differ" in found(noisy)["features"]
    assert "6 of its 6 features are NaN" in found(lambda batch: moments(batch) * np.nan)["features"]
    with torch.random.fork_rng(devices=[]):
        module = nn.Sequential(nn.Flatten(), nn.Linear(40, 5), nn.Dropout())
    encoder = TorchEncoder(module, spec="linear v1")
    encoder.module.train()
    assert fault(FrozenFeatureExtractor(encoder), images=SIGNALS)["eval mode"].startswith("in train mode")
