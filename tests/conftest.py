"""Fixtures that all tests share."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read by the hub's client at import: nothing here may wait for a network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small work: on a busy machine, threads wait for each other

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

pytest_plugins = ["browsing"]

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"../shared/{name} is absent: it is not part of the repository")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real image sets, SET/SPLIT/CLASS/FILE, and a flat folder of photographs."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_backbones() -> Path:
    """Pretrained backbones in timm's folder format."""
    return _shared("backbones")


@pytest.fixture(autouse=True)
def untouched_global_random_state(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test, and so nothing that it calls, may touch the global generators."""
    if "check" in request.fixturenames:  # one of scikit-learn's own checks: some shuffle with NumPy's
        yield
        return
    numpy_before = np.random.get_state(legacy=False)["state"]  # noqa: NPY002 (this is what is watched)
    torch_before = torch.get_rng_state()
    yield
    numpy_after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    assert numpy_after["pos"] == numpy_before["pos"], "NumPy's global random state was touched"
    assert np.array_equal(numpy_after["key"], numpy_before["key"]), "NumPy's global random state was touched"
    assert torch.equal(torch.get_rng_state(), torch_before), "PyTorch's global random state was touched"


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """An ImageFolder tree: three classes of four images, 48 x 40 pixels, JPEG and PNG, one of them grey."""
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    for tint, name in enumerate(("blue", "green", "red")):
        (root / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 128, (40, 48, 3), np.uint8)
            pixels[..., 2 - tint] += 120
            image = Image.fromarray(pixels)
            if name == "red" and i == 1:
                image = image.convert("L")
            image.save(root / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    return root


@pytest.fixture
def image_paths(image_folder: Path) -> list[str]:
    """The twelve files of `image_folder`."""
    return sorted(str(path) for path in image_folder.rglob("*.*"))


@pytest.fixture(scope="session")
def read_only_tokens() -> npt.NDArray[np.float32]:
    """Tokens (12, 9, 8) with another scale for each image; writing to them is an error."""
    rng = np.random.default_rng(1)
    scales = rng.uniform(0.1, 20, (12, 1, 1))
    tokens = (rng.normal(size=(12, 9, 8)) * scales + rng.normal(size=(12, 1, 8))).astype(np.float32)
    tokens.flags.writeable = False
    return tokens


@pytest.fixture(scope="session")
def save_backbone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that writes a small timm model with random weights and returns its ``local-dir:`` name."""

    def save(architecture: str, **model_args: Any) -> str:
        import timm
        from safetensors.torch import save_file

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module: Any = timm.create_model(architecture, pretrained=False, num_classes=0, **model_args)
        size = model_args.get("img_size", 32)
        preprocessing = {
            "input_size": [3, size, size],
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.3, 0.4],
            "crop_pct": 0.8,
        }
        folder = tmp_path_factory.mktemp("backbone")
        config = {"architecture": architecture, "num_classes": 0, "model_args": model_args}
        (folder / "config.json").write_text(json.dumps({**config, "pretrained_cfg": preprocessing}))
        save_file(module.state_dict(), folder / "model.safetensors")
        return f"local-dir:{folder}"

    return save


@pytest.fixture(scope="session")
def small_vit(save_backbone: Callable[..., str]) -> str:
    """A vision transformer with a class token, two blocks, 4 x 4 patches, width 16."""
    return save_backbone("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2)
