"""Features out of a store and into one, by files that other programs read and write."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from store_helpers import snapshot
from test_store_array import DTYPES, KEYS, ORDER, N, as_numpy, features_of, spec_of, stored

from frofa.exceptions import ImageReadError
from frofa.images.reading import content
from frofa.store import FeatureStore, exchange, export_npy, export_parquet, export_safetensors, import_npy
from frofa.store.keys import to_hex


@pytest.fixture(params=[1, 2**26], ids=["row by row", "at once"], autouse=True)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "COPY_BYTES", request.param)


@pytest.mark.parametrize("dtype", DTYPES)
def test_npy_there_and_back(dtype: str, tmp_path: Path) -> None:
    array = stored(tmp_path / "store", dtype).features(spec_of(dtype), KEYS[ORDER])
    keys = export_npy(array, tmp_path / "features.npy")
    assert keys == tmp_path / "features.keys.npy"
    exported = np.load(tmp_path / "features.npy")
    assert exported.dtype == as_numpy(features_of(dtype)).dtype
    np.testing.assert_array_equal(exported, as_numpy(features_of(dtype))[ORDER])
    np.testing.assert_array_equal(np.load(keys), KEYS[ORDER])
    other = FeatureStore(tmp_path / "other")
    assert import_npy(other, spec_of(dtype), tmp_path / "features.npy", keys=keys) == N
    assert torch.equal(other.features(spec_of(dtype), KEYS).tensor(), features_of(dtype))
    np.testing.assert_array_equal(other.features(spec_of(dtype)).keys, KEYS[ORDER])
    assert import_npy(other, spec_of(dtype), tmp_path / "features.npy", keys=keys) == 0


@pytest.mark.parametrize("export", [export_npy, export_safetensors, export_parquet])
@pytest.mark.parametrize("function", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_nothing_behind(
    there: bool, function: str, export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whichever call it is found to be full, there are the files of before, or all of the new ones."""
    array = stored(tmp_path / "store", "float32").features(spec_of("float32"))
    folder, original = tmp_path / "out", getattr(os if "fsync" in function else Path, function.split(".")[-1])
    written = {"features.x"} if export is not export_npy else {"features.x", "features.x.keys.npy"}
    for at in range(1, 10):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if there:
            export(array[:2], folder / "features.x")
        before, calls = set(snapshot(folder)), 0

        def full(*arguments: Any, at: int = at) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(function, full)
            try:
                export(array, folder / "features.x")
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 (once there is room, there is no error)
            else:
                break
        assert set(snapshot(folder)) in (before, written)
    assert at > 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_safetensors_reads_what_was_exported(dtype: str, tmp_path: Path) -> None:
    array = stored(tmp_path / "store", dtype).features(spec_of(dtype))[3:, 1]
    export_safetensors(array, tmp_path / "features.safetensors")
    with safe_open(tmp_path / "features.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("features"), features_of(dtype)[3:, 1])
        np.testing.assert_array_equal(file.get_tensor("keys").numpy(), KEYS[3:])
        description = json.loads(file.metadata()["frofa"])
    assert description == {"format": 2, "spec": vars(spec_of(dtype))}


@pytest.mark.parametrize("keys", ["hex", "binary"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_parquet_has_keys_features_and_what_they_are_of(dtype: str, keys: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    array = stored(tmp_path / "store", dtype).features(spec_of(dtype), KEYS[ORDER])
    export_parquet(array, tmp_path / "features.parquet", keys=keys)
    table = parquet.read_table(tmp_path / "features.parquet")
    expected = as_numpy(features_of(dtype))[ORDER]
    flat = table["features"].combine_chunks().flatten().to_numpy()
    assert flat.dtype == expected.dtype
    np.testing.assert_array_equal(flat.reshape(expected.shape), expected)
    names = to_hex(KEYS[ORDER])
    assert table["key"].to_pylist() == (names if keys == "hex" else [bytes.fromhex(name) for name in names])
    description = json.loads(table.schema.metadata[b"frofa"])
    assert description == {"format": 2, "spec": vars(spec_of(dtype)), "shape": [5, 8]}
    assert parquet.ParquetFile(tmp_path / "features.parquet").num_row_groups == (N if exchange.COPY_BYTES == 1 else 1)


@pytest.mark.parametrize("export", [export_npy, export_safetensors, export_parquet])
def test_an_export_that_fails_leaves_what_was_there(export: Any, tmp_path: Path) -> None:
    if export is export_parquet:
        pytest.importorskip("pyarrow")
    store = stored(tmp_path / "store")
    array = store.features(spec_of("float32"))
    (tmp_path / "out").mkdir()
    export(array[:3], tmp_path / "out" / "features.npy")
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if "keys" not in file.name}
    last = sorted(store.path.rglob("features.npy"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(OSError, match="damaged"):
        export(array, tmp_path / "out" / "features.npy")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if "keys" not in file.name} == before


def test_no_rows_are_exported_too(tmp_path: Path) -> None:
    array = stored(tmp_path / "store").features(spec_of("float32"))[:0]
    export_npy(array, tmp_path / "features.npy")
    export_safetensors(array, tmp_path / "features.safetensors")
    assert np.load(tmp_path / "features.npy").shape == (0, 5, 8)
    with safe_open(tmp_path / "features.safetensors", "pt") as file:
        assert file.get_tensor("features").shape == (0, 5, 8)
    assert import_npy(FeatureStore(tmp_path / "new"), spec_of("float32"), tmp_path / "features.npy", keys=[]) == 0


def test_keys_come_as_text_bytes_or_images(tmp_path: Path, image_paths: list[str]) -> None:
    values = as_numpy(features_of("float32"))[: len(image_paths)]
    np.save(tmp_path / "features.npy", np.asfortranarray(values))
    digests = [content(path)[1] for path in image_paths]
    (tmp_path / "keys.txt").write_text("\n".join(digests) + "\n")
    np.save(tmp_path / "keys.npy", np.array(digests))
    forms: list[dict[str, Any]] = [
        {"keys": digests}, {"keys": tmp_path / "keys.txt"}, {"keys": str(tmp_path / "keys.npy")},
        {"images": image_paths},
    ]  # fmt: skip
    for i, form in enumerate(forms):
        store = FeatureStore(tmp_path / f"store{i}")
        assert import_npy(store, spec_of("float32"), tmp_path / "features.npy", **form) == 12
        np.testing.assert_array_equal(store.get(spec_of("float32"), digests), values)


def test_an_import_goes_on_where_it_stopped(tmp_path: Path) -> None:
    values = as_numpy(features_of("float32"))
    np.save(tmp_path / "features.npy", values)
    store = FeatureStore(tmp_path / "store")
    store.put(spec_of("float32"), KEYS[5:9], values[5:9])
    assert import_npy(store, spec_of("float32"), tmp_path / "features.npy", keys=KEYS) == N - 4
    np.testing.assert_array_equal(store.features(spec_of("float32"), KEYS), values)


def test_the_same_image_twice_is_taken_once_if_its_features_are_the_same(tmp_path: Path) -> None:
    values = as_numpy(features_of("float32"))[[0, 1, 0, 2]]
    np.save(tmp_path / "features.npy", values)
    store = FeatureStore(tmp_path / "store")
    with pytest.raises(ValueError, match=r"rows 0 and 3 have the same key .*, but different features"):
        import_npy(store, spec_of("float32"), tmp_path / "features.npy", keys=KEYS[[0, 1, 2, 0]])
    assert not store.path.exists()
    assert import_npy(store, spec_of("float32"), tmp_path / "features.npy", keys=KEYS[[0, 1, 0, 2]]) == 3
    np.testing.assert_array_equal(store.features(spec_of("float32")), values[[0, 1, 3]])


def test_wrong_files_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    store, values = FeatureStore(tmp_path / "store"), as_numpy(features_of("float32"))
    file = tmp_path / "features.npy"

    def refused(message: str, dtype: str = "float32", kind: type[Exception] = ValueError, **source: Any) -> None:
        with pytest.raises(kind, match=message):
            import_npy(store, spec_of(dtype), file, **(source or {"keys": KEYS}))
        assert not store.path.exists()

    refused("features.npy", kind=FileNotFoundError)
    file.write_bytes(b"no array")
    refused("expected a .npy file of features. Got")
    np.save(file, values[:, 0, 0])
    refused(r"shape \(n, ...\). Got .*: shape \(50,\)")
    with file.open("wb") as opened:
        np.savez(opened, values)
    refused("several arrays")
    np.save(file, np.array([[None]]), allow_pickle=True)
    refused("expected a .npy file of features. Got")
    np.save(file, values)
    refused("expected features of float16 for a spec of float16. Got float32", dtype="float16")
    refused("expected one key for each row of .*. Got 3 keys, 50 rows", keys=KEYS[:3])
    refused("40 hexadecimal digits", keys=["abc"])
    refused("expected either keys or images", keys=KEYS, images=["a.png"])
    refused("absent.png", kind=ImageReadError, images=["absent.png"] * N)
    with pytest.raises(ValueError, match="has values that bfloat16 would round"):
        import_npy(store, spec_of("bfloat16"), file, keys=KEYS)
    assert len(store.features(spec_of("bfloat16"))) == 0
