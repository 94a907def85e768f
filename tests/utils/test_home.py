"""`~` in a path is the home directory wherever a user gives one, and makes no directory of that name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from store_helpers import SPEC, features, filled, keys

import frofa
from frofa import FeatureStore, FrozenFeatureExtractor, list_images, load_image_folder, load_images
from frofa.cli import main
from frofa.estimators import PrototypeClassifier
from frofa.store import export_npy, export_parquet, export_safetensors, import_npy
from frofa.utils.files import expand_home


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with two classes of an image each, and another working directory."""
    home = tmp_path / "home"
    for name in ("black", "white"):
        (home / "images" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), name).save(home / "images" / name / "1.png")
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return home


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, home: Path) -> Any:  # noqa: ARG001 (first)
    yield
    assert list((tmp_path / "work").iterdir()) == []


def test_only_a_home_is_replaced(home: Path) -> None:
    assert expand_home("~/a") == str(home / "a")
    assert [expand_home(path) for path in ("a/~", "./~", "~no-such-user/a", "", Path("a"))] == [
        "a/~",
        "./~",
        "~no-such-user/a",
        "",
        "a",
    ]


def test_stores(small_vit: str, home: Path) -> None:
    filled(Path("~/a"), range(2))
    assert FeatureStore(home / "a").missing(SPEC, keys(range(2))) == []
    FrozenFeatureExtractor(small_vit, device="cpu", store="~/b").transform(["~/images/black/1.png"])
    assert len(FeatureStore(home / "b").specs()) == 1


@pytest.mark.parametrize("export", [export_npy, export_parquet, export_safetensors])
def test_exports(export: Callable[..., object], home: Path) -> None:
    if export is export_parquet:
        pytest.importorskip("pyarrow")
    store = filled(home / "store", range(2))
    export(store.features(SPEC), "~/features.x")
    assert (home / "features.x").is_file()


def test_imports(home: Path) -> None:
    np.save(home / "features.npy", features(range(2)))
    (home / "keys.txt").write_text("\n".join(keys(range(2))))
    store = FeatureStore("~/store")
    assert import_npy(store, SPEC, "~/features.npy", keys="~/keys.txt") == 2


def test_images(home: Path) -> None:
    black, white = (str(home / "images" / name / "1.png") for name in ("black", "white"))
    assert list_images("~/images") == [black, white]
    assert load_image_folder("~/images")[0] == [black, white]
    assert load_images("~/images").items == [black, white]
    (home / "labels.csv").write_text("path,label\nblack/1.png,a\n")
    assert load_images("~/images", labels="~/labels.csv").labels.tolist() == ["a"]  # type: ignore[union-attr]
    extractor = FrozenFeatureExtractor(output="mean", device="cpu")
    paths = ["~/images/black/1.png", "~/images/white/1.png"]
    np.testing.assert_array_equal(extractor.transform(paths), extractor.transform([black, white]))


def test_saved_estimators(home: Path) -> None:
    head = PrototypeClassifier().fit([[0.0, 1.0], [1.0, 0.0]], ["a", "b"])
    frofa.save(head, "~/head.frofa")
    assert (home / "head.frofa").is_file()
    assert frofa.load("~/head.frofa").predict([[0.0, 1.0]]).tolist() == ["a"]


def test_the_command_line(small_vit: str, home: Path) -> None:
    (home / "model").symlink_to(small_vit.removeprefix("local-dir:"))
    arguments = ["~/images", "--model", "local-dir:~/model", "--device=cpu", "--store=~/store", "--out=~/features.npz"]
    assert main(["extract", *arguments]) == 0
    assert (home / "features.npz").is_file()
    assert main(["store", "info", "--store=~/store"]) == 0
    assert main(["store", "export", "--store=~/store", "--npy=~/features.npy"]) == 0
