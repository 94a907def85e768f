"""Text towers by names of the hub and of timm: the repository, its cache, and what is said where there is none."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from text_helpers import clip_folder, open_clip_model, siglip_folder, write_open_clip
from token_helpers import write_clip_tokenizer

from frofa.backbones.loading import load_backbone
from frofa.backbones.text.finding import find_tower
from frofa.backbones.text.hub import cached_towers
from frofa.backbones.text.loading import load_text_tower
from frofa.backbones.text.pairs import repository_of
from frofa.exceptions import ModelNotFoundError


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, which is switched off."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put(name: str, cache: Path, repository: str) -> None:
    """Move a folder to where the hub's client keeps a repository."""
    entry = cache / f"models--{repository.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("0" * 40)
    (entry / "snapshots").mkdir()
    shutil.move(name.partition(":")[2], entry / "snapshots" / ("0" * 40))


def open_clip_folder(folder: Path, kind: str) -> str:
    size = write_clip_tokenizer(folder)
    return write_open_clip(folder, *open_clip_model(kind, size))


def test_repositories_are_those_of_open_clip() -> None:
    import timm
    from open_clip.pretrained import _PRETRAINED

    known = {tag.get("hf_hub", "").rstrip("/") for tags in _PRETRAINED.values() for tag in tags.values()}
    names = [name for name in timm.list_models("*siglip*", pretrained=True) if "pali" not in name]
    names = [name for name in names if "_ft_" not in name]
    found = {name: repository_of(name) for name in names}
    assert len(names) > 50
    assert {name for name, repository in found.items() if repository not in known} == {
        "naflexvit_base_patch16_siglip.v2_webli",
        "naflexvit_so400m_patch16_siglip.v2_webli",
    }
    patterns = ["vit_*_clip_*", "resnet*_clip.*", "eva*_clip_*", "vit_pe_core_*"]
    clips = {name: repository_of(name) for name in timm.list_models(patterns, pretrained=True)}
    named = {name: repository for name, repository in clips.items() if repository is not None}
    # Those of 2021 were kept at several epochs.
    assert len(named) > 60
    assert {repository.replace("_e32", "_e31") for repository in named.values() if repository not in known} <= known


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("vit_so400m_patch14_siglip_378.webli", "timm/ViT-SO400M-14-SigLIP-384"),
        ("vit_base_patch16_siglip_gap_256.webli_i18n", "timm/ViT-B-16-SigLIP-i18n-256"),
        ("timm/vit_giantopt_patch16_siglip_384.v2_webli", "timm/ViT-gopt-16-SigLIP2-384"),
        ("vit_large_patch14_clip_336.openai", "timm/vit_large_patch14_clip_336.openai"),
        ("vit_base_patch16_clip_224.laion2b_ft_in1k", None),  # fine-tuned: no longer in the space of words
        ("vit_so400m_patch14_siglip_gap_224.pali_mix", None),
        ("resnet50.a1_in1k", None),
    ],
)
def test_repositories_of_timm_names(name: str, repository: str | None) -> None:
    assert repository_of(name) == repository


def test_a_timm_name_has_its_text_tower_in_the_cache(cache: Path, tmp_path: Path) -> None:
    put(open_clip_folder(tmp_path / "made", "siglip"), cache, "timm/ViT-B-16-SigLIP")
    assert cached_towers() == {"timm/ViT-B-16-SigLIP"}
    tower = load_text_tower("vit_base_patch16_siglip_224.webli", "cpu")
    assert tower.name == "vit_base_patch16_siglip_224.webli"
    assert tower.weights_digest == load_text_tower("hf-hub:timm/ViT-B-16-SigLIP", "cpu").weights_digest


@pytest.mark.parametrize("kind", ["open_clip", "hf"])
def test_one_name_of_the_hub_for_images_and_texts(kind: str, cache: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    repository = f"someone/{kind}"  # a backbone is loaded once under its name
    put(open_clip_folder(made, "siglip") if kind == "open_clip" else clip_folder(made), cache, repository)
    assert find_tower(f"hf-hub:{repository}").kind == kind
    width = load_text_tower(f"hf-hub:{repository}", "cpu").width
    assert load_backbone(f"hf-hub:{repository}", None, "cpu").layout.widths["projected"] == width


def test_only_what_a_text_tower_needs_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files first, which say whose weights are wanted; and all that once a process."""
    remote, local = Path(open_clip_folder(tmp_path / "made", "clip").partition(":")[2]), tmp_path / "local"
    for name in ("model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin", "picture.png"):
        (remote / name).write_bytes(b"large")
    (remote / "config.json").write_text('{"architecture": "vit_base_patch32_clip_224"}')  # timm's
    asked = []

    def download(repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repository, revision))
        local.mkdir(exist_ok=True)
        for file in {file for pattern in allow_patterns for file in remote.glob(pattern)}:
            shutil.copy(file, local)
        return str(local)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("frofa.backbones.text.hub.Reachability.fault", lambda _: None)
    towers = [load_text_tower("hf-hub:someone/both@v2", "cpu") for _ in range(2)]
    assert towers[0] is towers[1]
    assert asked == [("someone/both", "v2")] * 2
    assert {file.name for file in local.iterdir() if file.suffix != ".json"} == {
        "open_clip_model.safetensors",
        "merges.txt",
    }
    (remote / "open_clip_config.json").unlink()
    shutil.rmtree(local)
    with pytest.raises(ModelNotFoundError, match="it holds no text tower in safetensors"):
        load_text_tower("hf-hub:someone/both", "cpu")


def test_towers_that_are_out_of_reach_are_named(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="It is 'timm/ViT-B-16-SigLIP' of the Hugging Face hub") as error:
        load_text_tower("vit_base_patch16_siglip_224.webli", "cpu")
    assert "HF_HUB_OFFLINE is set" in str(error.value)
    put(open_clip_folder(tmp_path / "made", "clip"), cache, "someone/else")
    next((cache / "models--someone--else").rglob("*.safetensors")).unlink()
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE is set"):
        load_text_tower("hf-hub:someone/else", "cpu")
    assert cached_towers() == set()


def test_models_without_a_text_tower_are_named(tmp_path: Path) -> None:
    for name in ("frofa/vit_tiny_tin200", "resnet50.a1_in1k"):
        with pytest.raises(ModelNotFoundError, match=f"'{name}' has no text tower"):
            find_tower(name)
    with pytest.raises(ModelNotFoundError, match=r"no embedded model is called 'frofa/vit_huge'"):
        find_tower("frofa/vit_huge")
    folder = siglip_folder(tmp_path / "made").partition(":")[2]
    with pytest.raises(ModelNotFoundError, match=f"is a Hugging Face folder: write 'hf-dir:{folder}'"):
        find_tower(f"local-dir:{folder}")
    with pytest.raises(ModelNotFoundError, match=f"is a folder: write 'local-dir:{folder}'"):
        find_tower(folder)
    with pytest.raises(TypeError, match="model must be a name"):
        find_tower(3)  # type: ignore[arg-type]
