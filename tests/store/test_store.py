"""frofa.FeatureStore: nothing is computed twice, and nothing wrong is ever served."""

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import frofa
from frofa import FeatureStore, FrozenFeatureExtractor
from frofa.backbones.backbone import Backbone
from frofa.exceptions import ImageReadError, SkippedImagesWarning
from frofa.store import FeatureSpec

Make = Callable[..., FrozenFeatureExtractor]


@pytest.fixture
def forwarded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all batches that went through a backbone."""
    sizes: list[int] = []
    original = Backbone.extract

    def counted(self: Backbone, images: Any, *options: Any) -> Any:
        sizes.append(len(images))
        return original(self, images, *options)

    monkeypatch.setattr(Backbone, "extract", counted)
    return sizes


@pytest.fixture
def make(small_vit: str, tmp_path: Path) -> Make:
    """An extractor on one store, ``tmp_path / "store"``."""

    def extractor(**parameters: Any) -> FrozenFeatureExtractor:
        return FrozenFeatureExtractor(
            **{"model": small_vit, "device": "cpu", "batch_size": 5, "store": tmp_path / "store", **parameters}
        )

    return extractor


def test_a_second_run_does_no_forward_pass(make: Make, image_paths: list[str], forwarded: list[int]) -> None:
    first = make().extract(image_paths)
    assert (forwarded, first.n_computed) == ([5, 5, 2], 12)
    np.testing.assert_array_equal(first.features, make(store=None).transform(image_paths))
    forwarded.clear()
    second = make(batch_size=3).extract(image_paths[::-1])
    assert (forwarded, second.n_computed) == ([], 0)
    np.testing.assert_array_equal(second.features, first.features[::-1])


def test_only_new_content_is_computed(make: Make, image_paths: list[str], forwarded: list[int]) -> None:
    features = make().transform(image_paths[:2])
    np.testing.assert_array_equal(make().transform(image_paths)[:2], features)
    assert sum(forwarded) == 12
    forwarded.clear()
    moved = [Path(path).rename(Path(path).with_name(f"moved-{i}")) for i, path in enumerate(image_paths)]
    np.testing.assert_array_equal(make().transform(moved)[:2], features)
    assert forwarded == []
    moved[0].write_bytes(moved[5].read_bytes())
    Image.new("RGB", (48, 40), (9, 99, 199)).save(moved[1], "PNG")
    changed = make().transform(moved)
    assert forwarded == [1]
    np.testing.assert_array_equal(changed[0], changed[5])
    np.testing.assert_allclose(changed, make(store=None).transform(moved), atol=1e-5)


def test_duplicates_are_computed_once(make: Make, image_paths: list[str], forwarded: list[int]) -> None:
    extraction = make().extract([image_paths[0], image_paths[1], image_paths[0], image_paths[0]])
    assert forwarded == [2]
    assert extraction.n_computed == 2
    np.testing.assert_array_equal(extraction.features[[0, 0]], extraction.features[2:])
    pixels = np.zeros((3, 40, 48, 3), np.uint8)
    assert make().extract(pixels).n_computed == 1


def test_other_settings_never_get_these_features(
    make: Make, small_vit: str, save_backbone: Callable[..., str], image_paths: list[str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(small_vit.removeprefix("local-dir:"), tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["mean"] = [0.1, 0.1, 0.1]  # the same weights, another preprocessing
    (folder / "config.json").write_text(json.dumps(config))
    other = save_backbone("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=4)
    settings: list[dict[str, Any]] = [
        {},
        {"model": other},
        {"model": f"local-dir:{folder}"},
        {"output": "cls"},
        {"output": "mean"},
        {"output": "pooled"},
        {"layer": 0},
        {"norm": False},
        {"layer": 0, "norm": False},
        {"image_size": 48},
        {"image_size": (32, 48)},
        {"dtype": "float16"},
        {"precision": "bfloat16"},
    ]
    for setting in settings:
        extraction = make(**setting).extract(image_paths)
        assert extraction.n_computed == 12, setting
        np.testing.assert_array_equal(extraction.features, make(**setting, store=None).transform(image_paths))
    for same in ({"layer": -1}, {"layer": 1}, {"layer": np.int64(1)}, {"precision": "float32"}, {"n_jobs": 2}):
        assert make(**same).extract(image_paths).n_computed == 0, same
    specs = FeatureStore(tmp_path / "store").info()
    assert [spec.n_images for spec in specs] == [12] * len(settings)


@pytest.mark.parametrize("function", ["os.fsync", "pathlib.Path.rename"])
def test_a_full_disk_loses_nothing(
    function: str, make: Make, image_paths: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    stored = make().transform(image_paths[:5])
    before = sorted(tmp_path.rglob("store/**/*"))
    with monkeypatch.context() as patch:
        patch.setattr(function, full)
        with pytest.raises(OSError, match="No space left"):
            make().transform(image_paths)
    assert sorted(tmp_path.rglob("store/**/*")) == before
    extraction = make().extract(image_paths)
    assert extraction.n_computed == 7
    np.testing.assert_array_equal(extraction.features[:5], stored)


def test_an_interrupted_run_goes_on_where_it_stopped(
    make: Make, image_paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(store=None).transform(image_paths)
    original = Backbone.extract
    calls: list[int] = []

    def interrupted(self: Backbone, images: Any, *options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, images, *options)

    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "extract", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make().transform(image_paths)
    extraction = make().extract(image_paths)
    assert extraction.n_computed == 2
    np.testing.assert_array_equal(extraction.features, whole)


def test_leftovers_of_a_crash_are_ignored(make: Make, image_paths: list[str], tmp_path: Path) -> None:
    make().transform(image_paths[:5])
    [directory] = (entry for entry in (tmp_path / "store").iterdir() if len(entry.name) == 40)
    for folder in (directory, tmp_path / "store"):
        (folder / ".tmp-leftover").write_bytes(b"half a sha")
    assert make().extract(image_paths).n_computed == 7
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".tmp-leftover").write_bytes(b"")  # a crash while the manifest was written
    assert make(store=tmp_path / "new").extract(image_paths).n_computed == 12


def test_two_processes_fill_one_store(make: Make, small_vit: str, image_paths: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from frofa import FrozenFeatureExtractor as E; model, store, *paths = sys.argv[1:];"
        "print(E(model, device='cpu', batch_size=5, store=store).fit().extract(paths).n_computed)"
    )
    command = [sys.executable, "-c", code, small_vit, str(tmp_path / "store"), *image_paths]
    root = Path(frofa.__file__).parents[1]
    running = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    computed = [int(process.communicate(timeout=300)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert max(computed) == 12
    extraction = make().extract(image_paths)
    assert extraction.n_computed == 0  # this process knows the same keys as those
    np.testing.assert_allclose(extraction.features, make(store=None).transform(image_paths), atol=1e-5)


def test_no_file_is_a_pickle(make: Make, image_paths: list[str], tmp_path: Path) -> None:
    make().transform(image_paths)
    files = [file for file in (tmp_path / "store").rglob("*") if file.is_file()]
    assert sorted({file.suffix for file in files}) == [".json", ".npy"]
    for file in files:
        if file.suffix == ".npy":
            np.load(file, allow_pickle=False)
        else:
            json.loads(file.read_bytes())


def test_bad_images_and_their_copies_are_skipped(make: Make, image_paths: list[str], tmp_path: Path) -> None:
    good = make(store=None).transform(image_paths[:2])
    bad = [tmp_path / "bad.png", tmp_path / "copy.png", tmp_path / "absent.png"]
    for file in bad[:2]:
        file.write_text("no image")
    for computed in (2, 0):
        with pytest.warns(SkippedImagesWarning, match="skipped 3 of 5"):
            extraction = make(on_error="skip").extract([bad[0], image_paths[0], *bad[1:], image_paths[1]])
        np.testing.assert_allclose(extraction.features, good, atol=1e-5)
        assert extraction.kept.tolist() == [1, 4]
        assert [error.name for error in extraction.skipped] == [str(file) for file in bad]
        assert extraction.n_computed == computed


def test_a_file_that_changes_while_it_is_read_is_not_stored(make: Make, image_paths: list[str], tmp_path: Path) -> None:
    class Slow(FeatureStore):
        def missing(self, spec: FeatureSpec, keys: Any) -> list[str]:
            shutil.copy(image_paths[3], image_paths[1])
            return super().missing(spec, keys)

    with pytest.raises(ImageReadError, match=r"position 1 .*the file changed while it was being read"):
        make(store=Slow(tmp_path / "store")).transform(image_paths[:2])
    assert make().extract(image_paths[:4]).n_computed == 3
