"""output="projected": the vector that is compared with texts, of models that have a space of texts."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from tower_helpers import pixels

from frofa.backbones.layout import Layout, read_layout
from frofa.backbones.loading import load_backbone
from frofa.backbones.outputs import OUTPUTS, Request, run_requests
from frofa.backbones.projection import with_projection
from frofa.cli.extract import OUTPUTS as OF_THE_COMMAND

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def create(name: str, **options: Any) -> tuple[Any, Layout]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = timm.create_model(name, pretrained=False, **{**SMALL, **options}).eval()
    return module, with_projection(read_layout(name, module, (3, 32, 32), torch.device("cpu")), module)


def run(module: Any, layout: Layout, *outputs: Any) -> list[Tensor]:
    with torch.inference_mode():
        return run_requests(module, layout, pixels(2, 32), [Request(output, 1, True) for output in outputs])


@pytest.mark.parametrize("name", ["vit_base_patch32_clip_224.openai", "vit_base_patch16_clip_quickgelu_224.openai"])
def test_clip_has_its_projection(name: str) -> None:
    module, layout = create(name, num_classes=24)
    assert layout.widths == {"tokens": 32, "pooled": 32, "projected": 24}
    pooled, projected = run(module, layout, "pooled", "projected")
    with torch.inference_mode():
        assert torch.equal(projected, module.head(pooled))


def test_siglip_compares_its_pooled_vector() -> None:
    module, layout = create("vit_base_patch16_siglip_224.webli")
    assert layout.widths["projected"] == 32
    pooled, projected, mean = run(module, layout, "pooled", "projected", "mean")
    assert torch.equal(projected, pooled)
    assert not torch.equal(projected, mean)


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("vit_base_patch32_clip_224.openai", {"num_classes": 0}, "was left out"),
        ("vit_base_patch32_clip_224.openai_ft_in1k", {}, r"not trained together .* classification of labelled images"),
        ("vit_base_patch16_siglip_224.webli", {"num_classes": 10}, "a last layer of 10 outputs"),
        ("vit_base_patch16_siglip_gap_224.webli", {}, "not trained together"),
        ("vit_tiny_patch16_224.augreg_in21k", {}, "not trained together"),
    ],
)
def test_models_without_a_space_of_texts_say_so(name: str, options: dict[str, Any], why: str) -> None:
    _, layout = create(name, **options)
    assert "projected" not in layout.widths
    assert re.search(why, layout.lacking["projected"])


def test_a_folder_with_a_text_tower_has_one_whatever_its_name(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224.augreg_in21k"
    module, layout = create(name, num_classes=0)
    assert "projected" not in with_projection(layout, module, f"local-dir:{tmp_path}").widths
    (tmp_path / "text.json").write_text("{}")
    assert with_projection(layout, module, f"local-dir:{tmp_path}").widths["projected"] == 32
    module, layout = create(name, num_classes=24)
    assert with_projection(layout, module, f"local-dir:{tmp_path}").widths["projected"] == 24


def test_refusals_name_the_model_and_what_it_has() -> None:
    backbone = load_backbone("frofa/vit_tiny_tin200", None, "cpu")
    with pytest.raises(ValueError, match=r"'projected' of frofa/vit_tiny_tin200.* Choose output='tokens' or 'pooled'"):
        backbone.resolve_layer("projected", None, True)


def test_it_is_of_the_last_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone("frofa/vit_tiny_tin200", None, "cpu")
    layout = backbone.layout._replace(widths={**backbone.layout.widths, "projected": 192}, lacking={})
    monkeypatch.setattr(backbone, "layout", layout)
    with pytest.raises(ValueError, match="output='projected' is the model's own pooling, which needs the last layer"):
        backbone.resolve_layer("projected", 3, True)


def test_the_command_offers_every_output() -> None:
    assert set(OF_THE_COMMAND) == {*OUTPUTS, "auto"}
