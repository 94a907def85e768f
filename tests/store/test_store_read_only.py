"""A store that cannot be written: it is read, and what it cannot keep is said once."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from store_helpers import SPEC, assert_holds, features, filled, keys, snapshot

from frofa import FeatureStore, FrozenFeatureExtractor, extract_many
from frofa.cli import main
from frofa.exceptions import StoreNotWrittenWarning
from frofa.store import export_npy
from frofa.store.file_digests import FILES

ERRORS = [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EIO]


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a test has just made count as old, so that they are remembered."""
    monkeypatch.setattr("frofa.store.file_digests.SETTLED", -1e6)


@pytest.fixture
def moved(image_folder: Path, tmp_path: Path) -> list[str]:
    """The same images as `image_paths` at other paths, which no store knows."""
    shutil.copytree(image_folder, tmp_path / "moved")
    return sorted(str(path) for path in (tmp_path / "moved").rglob("*.*"))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A directory in which ``tmp_path / "store"`` is to be seen, read-only, once `mount` was called with both."""
    place = tmp_path / "mounted"
    place.mkdir()
    yield place
    if shutil.which("umount"):
        subprocess.run(["umount", "-l", place], capture_output=True)


def mount(source: Path, place: Path) -> None:
    if not shutil.which("mount"):
        pytest.skip("needs mount")
    for options in (["--bind", source], ["-o", "remount,ro,bind"]):
        done = subprocess.run(["mount", *options, place], capture_output=True)
        if done.returncode:
            pytest.skip(f"no mount is allowed: {done.stderr.decode().strip()}")


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be written, as the system says when it is asked."""
    monkeypatch.setattr("os.access", lambda *_: False)


def test_a_run_that_needs_nothing_written(
    small_vit: str, image_paths: list[str], moved: list[str], mounted: Path, tmp_path: Path
) -> None:
    def extractor(store: Path) -> FrozenFeatureExtractor:
        return FrozenFeatureExtractor(small_vit, device="cpu", store=store)

    before = extractor(tmp_path / "store").transform(image_paths)
    mount(tmp_path / "store", mounted)
    with pytest.warns(
        StoreNotWrittenWarning, match=r"mounted cannot be written \(Read-only .*will read 12 files again"
    ):
        np.testing.assert_array_equal(extractor(mounted).transform(moved), before)
    np.testing.assert_array_equal(extractor(mounted).transform(image_paths), before)  # without a warning


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("function", ["clock_behind", "make_directory", "write_atomically"])
def test_whatever_the_error_is(
    function: str,
    number: int,
    small_vit: str,
    image_paths: list[str],
    moved: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    extractor = FrozenFeatureExtractor(small_vit, output="mean", device="cpu", store=tmp_path / "store")
    before = extractor.transform(image_paths)
    monkeypatch.setattr(f"frofa.store.file_digests.{function}", refuse)
    with pytest.warns(StoreNotWrittenWarning, match="no feature is lost"):
        np.testing.assert_array_equal(extractor.transform(moved), before)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_all_that_reads(mounted: Path, tmp_path: Path) -> None:
    filled(tmp_path / "store", range(3), range(3, 6)).compact()
    mount(tmp_path / "store", mounted)
    store = FeatureStore(mounted)
    assert_holds(store, range(6))
    assert not store.is_writable()
    assert (store.verify(), list(store.specs()), store.info()[0].n_images) == ([], [SPEC.digest], 6)
    export_npy(store.features(SPEC), tmp_path / "features.npy")
    for write in (store.compact, store.repair, lambda: store.put(SPEC, keys([7]), features([7]))):
        with pytest.raises(OSError, match="Read-only file system"):
            write()


@pytest.mark.usefixtures("unwritable")
@pytest.mark.parametrize("options", [{}, {"output": "mean"}, {"dtype": "bfloat16"}, {"dtype": "float16"}], ids=str)
@pytest.mark.parametrize("n_stored", [0, 5])
def test_what_is_missing_is_computed_and_returned(
    n_stored: int,
    options: dict[str, Any],
    small_vit: str,
    image_paths: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def extractor(store: str) -> FrozenFeatureExtractor:
        return FrozenFeatureExtractor(small_vit, device="cpu", store=tmp_path / store, batch_size=3, **options)

    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: True)
        if n_stored:
            extractor("store").transform(image_paths[4 : 4 + n_stored])
        order = [*image_paths[::-1], *image_paths[:3]]
        expected = extractor("other").extract(order)
    before = {name for name in snapshot(tmp_path / "store") if not name.startswith(FILES)}
    with pytest.warns(StoreNotWrittenWarning, match=f"features of {12 - n_stored} images .* but not kept"):
        found = extractor("store").extract(order)
    assert (found.n_computed, found.n_from_store, found.n_not_kept) == (12 - n_stored, n_stored, 12 - n_stored)
    assert found.features.dtype == expected.features.dtype
    np.testing.assert_allclose(found.features, expected.features, atol=1e-6 if not options.get("dtype") else 0.02)
    assert {name for name in snapshot(tmp_path / "store") if not name.startswith(FILES)} == before


@pytest.mark.usefixtures("unwritable")
def test_several_outputs_and_labels(small_vit: str, image_paths: list[str], tmp_path: Path) -> None:
    store, y = tmp_path / "store", np.arange(12)
    extractors = {
        name: FrozenFeatureExtractor(small_vit, output=name, device="cpu", store=store) for name in ("tokens", "mean")
    }
    with pytest.warns(StoreNotWrittenWarning, match="not kept"):
        found = extract_many(extractors, image_paths, y)
    for name, extractor in extractors.items():
        np.testing.assert_array_equal(found[name].features, extractor.set_params(store=None).transform(image_paths))
        np.testing.assert_array_equal(found[name].y, y)
    assert not store.exists()


@pytest.mark.usefixtures("unwritable")
def test_tokens_of_images_of_different_sizes(tmp_path: Path, small_vit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (40, 8 * n, 3), np.uint8)) for n in range(2, 8)]
    extractor = FrozenFeatureExtractor(small_vit, max_tokens=30, device="cpu", store=tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: True)
        extractor.transform(images[1:3])
    with pytest.warns(StoreNotWrittenWarning, match="features of 4 images"):
        found: Any = extractor.transform(images)
    expected: Any = extractor.set_params(store=None).transform(images)
    np.testing.assert_array_equal(found.grids, expected.grids)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)


def test_an_index_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("frofa.store.disk.table.LOOSE_ROWS", 0)
    monkeypatch.setattr("frofa.store.disk.table.write_index", refuse)
    with pytest.warns(StoreNotWrittenWarning, match="all features are there"):
        store = filled(tmp_path / "store", range(3))
    assert_holds(FeatureStore(store.path), range(3))


@pytest.mark.filterwarnings("default::frofa.exceptions.StoreNotWrittenWarning")
def test_the_command_line_says_that_nothing_was_kept(
    small_vit: str, image_paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    extract = ["extract", *image_paths, "--model", small_vit, "--device=cpu", f"--store={tmp_path / 'store'}"]
    with monkeypatch.context() as patch:
        patch.setattr("frofa.FeatureStore.is_writable", lambda _: False)
        assert main(extract) == 1
        assert "nothing was kept" in capsys.readouterr().err
        assert main([*extract, f"--out={tmp_path / 'features.npz'}"]) == 0
        assert "12 images that it does not have are computed" in capsys.readouterr().err
    assert np.load(tmp_path / "features.npz")["features"].shape[0] == 12
    assert main(extract) == 0
    monkeypatch.setattr("frofa.FeatureStore.is_writable", lambda _: False)
    assert main(extract) == 0  # nothing is to be written
