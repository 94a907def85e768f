"""Lazy arrays of stored features: NumPy's indexing, nothing read too early, and what they survive."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import frofa
from frofa.augmentations import Brightness
from frofa.estimators import (
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    SoftMoEClassifier,
)
from frofa.estimators.tokens import lazy as lazy_tokens
from frofa.exceptions import DamagedStoreError, StoreError
from frofa.store import FeatureArray, FeatureSpec, FeatureStore
from frofa.store.lazy import reading, source, transfer
from frofa.utils.files import remove_directory

N = 50
DTYPES = ("float32", "float16", "float64", "bfloat16")
ORDER = np.random.default_rng(1).permutation(N)
KEYS = np.random.default_rng(2).integers(0, 256, (N, 20), np.uint8)


def spec_of(dtype: str) -> FeatureSpec:
    return FeatureSpec("weights", "architecture", "{}", "decoder", "tokens", 1, True, "float32", dtype)


def features_of(dtype: str, n: int = N) -> torch.Tensor:
    values = np.random.default_rng(0).normal(size=(n, 5, 8)) + np.arange(n)[:, None, None] % 2
    return torch.tensor(values).to(getattr(torch, dtype))


def as_numpy(features: torch.Tensor) -> Any:
    return (features.float() if features.dtype == torch.bfloat16 else features).numpy()


def stored(path: Path, dtype: str = "float32", size: int = 13) -> FeatureStore:
    """A store of N features in shards of a few."""
    store, features = FeatureStore(path), features_of(dtype)
    for start in range(0, N, size):
        store.put(spec_of(dtype), KEYS[start : start + size], features[start : start + size])
    return store


@pytest.fixture(params=["in order", "by key"])
def lazy(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FeatureArray, Any]:
    """An array of several shards, and what it should hold."""
    store, expected = stored(tmp_path / "store"), as_numpy(features_of("float32"))
    if request.param == "in order":
        return store.features(spec_of("float32")), expected
    return store.features(spec_of("float32"), KEYS[ORDER]), expected[ORDER]


MASK = np.random.default_rng(3).random((N, 5)) > 0.5
LAZY_INDICES: list[Any] = [
    slice(2, 9), slice(None), slice(None, None, -1), slice(40, 3, -7), slice(0, 0), slice(13, 26), slice(14, 24, 3),
    [1, 2, -1], [], np.arange(N) % 3 == 0, np.array([7, 7, 0], np.uint8), (slice(3, 8), 2),
    (slice(None), slice(1, 3), 4), ([1, 5], slice(None), 3), (..., 2), (), ...,
    (slice(2, 30, 3), ..., slice(None, None, 2)), (MASK[:, 0], 1),
]  # fmt: skip
READ_INDICES: list[Any] = [
    3, -1, np.int64(4), (4, 2, 1), (3, ...), ([1, 5], [2, 3]), (slice(2, 30, 3), [0, 1], slice(None, None, -1)),
    (4, slice(None), [1, 2]), ([3, 4], slice(None), [1, 2]), None, (slice(None), None), np.array([[1, 2], [3, 4]]),
    MASK, (MASK, 1), np.repeat(MASK[:, :, None], 8, 2), True,
]  # fmt: skip
BAD_INDICES: list[Any] = [
    N, -N - 1, [N], [0, -N - 1], (0, 0, 0, 0), np.ones(3, bool), 1.5, "a", (0, 5), (slice(None), 9), (..., ...),
    ([1, 2], [1, 2, 3]), [1.0], (slice(None), slice(None), -9),
]  # fmt: skip


@pytest.mark.parametrize("index", LAZY_INDICES, ids=str)
def test_several_rows_are_a_view_that_holds_what_numpy_would_give(lazy: tuple[FeatureArray, Any], index: Any) -> None:
    array, values = lazy
    found, expected = array[index], values[index]
    assert isinstance(found, FeatureArray)
    assert (found.shape, found.ndim, found.size, found.nbytes) == (
        expected.shape, expected.ndim, expected.size, expected.nbytes
    )  # fmt: skip
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found.tensor().numpy(), expected)
    np.testing.assert_array_equal(found[::-1][1:], expected[::-1][1:])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)), expected)  # noqa: S301 (just written)
    for device_first in (False, True):
        if device_first:
            array.to_device("cpu")
        np.testing.assert_array_equal(found.to_device("cpu").numpy(), expected)


@pytest.mark.parametrize("index", READ_INDICES, ids=str)
def test_all_else_is_read_as_numpy_would_give_it(lazy: tuple[FeatureArray, Any], index: Any) -> None:
    array, values = lazy
    assert not isinstance(array[index], FeatureArray)
    assert array[index].dtype == np.float32
    np.testing.assert_array_equal(array[index], values[index])


@pytest.mark.parametrize("index", BAD_INDICES, ids=str)
def test_wrong_indices_are_numpys_errors(lazy: tuple[FeatureArray, Any], index: Any) -> None:
    array, values = lazy
    with pytest.raises(IndexError) as expected:
        values[index]
    with pytest.raises(IndexError) as found:
        array[index]
    assert str(found.value).split(";")[0] == str(expected.value).split(";")[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read_exactly(dtype: str, tmp_path: Path) -> None:
    array, features = stored(tmp_path / "store", dtype).features(spec_of(dtype)), features_of(dtype)
    for part, expected in ((array, features), (array[15:20], features[15:20]), (array[::7, 1:3], features[::7, 1:3])):
        assert part.tensor().dtype == features.dtype
        assert torch.equal(part.tensor(), expected)
        assert torch.equal(part.to_device("cpu", torch.float64), expected.double())
        assert np.asarray(part).dtype == part.dtype == as_numpy(features).dtype
        np.testing.assert_array_equal(part, as_numpy(expected))
        np.testing.assert_array_equal(np.asarray(part, np.float64), expected.double().numpy())
        np.testing.assert_array_equal(np.asarray(part, np.uint16), as_numpy(expected).astype(np.uint16))
        np.testing.assert_array_equal(list(part), as_numpy(expected))


def test_rows_of_one_shard_are_the_memory_map(tmp_path: Path) -> None:
    array = stored(tmp_path / "store").features(spec_of("float32"))
    one, several = np.asarray(array[15:25:2, 1]), np.asarray(array[5:25])
    assert not one.flags.writeable
    assert not one.flags.owndata
    assert several.flags.writeable
    with pytest.raises(ValueError, match="copy"):
        array[5:25].__array__(copy=False)
    copied = array[15:25].__array__(copy=True)
    copied[:] = 0
    array[15:25].tensor().zero_()  # private memory: neither the file nor others see it
    np.testing.assert_array_equal(array, as_numpy(features_of("float32")))


def test_nothing_is_read_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadError(Exception):
        pass

    def refuse(*_: Any) -> None:
        raise ReadError

    store = stored(tmp_path / "store")
    monkeypatch.setattr(source, "read_rows", refuse)
    array = store.features(spec_of("float32"), KEYS)[3:40, 1]
    assert (len(array), array.shape, array.dtype) == (37, (37, 8), np.float32)
    assert repr(array).startswith("FeatureArray(shape=(37, 8), dtype=float32, 0.001129 MiB in ")
    np.testing.assert_array_equal(array.keys, KEYS[3:40])
    reads: list[Any] = [np.asarray, FeatureArray.tensor, lambda x: x[[1, 0]].tensor(), lambda x: x.to_device("cpu")]
    for read in reads:
        with pytest.raises(ReadError):
            read(array)


@pytest.mark.parametrize("block", [1, 100, 2**23])
@pytest.mark.parametrize("long_run", [1, 2**40])
@pytest.mark.parametrize("few", [0, 256])
def test_blocks_runs_and_threads_make_no_difference(
    block: int, long_run: int, few: int, lazy: tuple[FeatureArray, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    array, values = lazy
    monkeypatch.setattr(reading, "BLOCK", block)
    monkeypatch.setattr(reading, "LONG_RUN", long_run)
    monkeypatch.setattr(reading, "FEW_RUNS", few)
    monkeypatch.setattr(reading, "THREADED", 1)
    monkeypatch.setattr(transfer, "CHUNK", block)
    np.testing.assert_array_equal(array[ORDER], values[ORDER])
    np.testing.assert_array_equal(np.asarray(array, np.float64), values)
    np.testing.assert_array_equal(array[::3, 2].to_device("cpu").numpy(), values[::3, 2])


def merge(store: FeatureStore, dtype: str) -> None:
    """What a compaction by another process does."""
    FeatureStore(store.path).compact()
    assert len(FeatureStore(store.path).table(spec_of(dtype)).shards()) == 1


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_compaction_by_another_process_goes_unnoticed(touched: bool, dtype: str, tmp_path: Path) -> None:
    store, expected = stored(tmp_path / "store", dtype), as_numpy(features_of(dtype))
    whole = store.features(spec_of(dtype))
    arrays = [(whole, expected), (store.features(spec_of(dtype), KEYS[ORDER]), expected[ORDER]), (whole[20:9:-2], None)]
    arrays.append((pickle.loads(pickle.dumps(whole)), expected))  # noqa: S301 (just written)
    if touched:
        for array, _ in arrays:
            np.asarray(array[:20])
    merge(store, dtype)
    for array, values in arrays:
        np.testing.assert_array_equal(array, expected[20:9:-2] if values is None else values)
        np.testing.assert_array_equal(array[2:4].tensor().float(), np.asarray(array[2:4]))
    np.testing.assert_array_equal(store.get(spec_of(dtype), KEYS[[3]]), expected[[3]])  # type: ignore[arg-type]


def test_features_that_are_removed_can_be_read_by_who_has_them(tmp_path: Path) -> None:
    store, values = stored(tmp_path / "store"), as_numpy(features_of("float32"))
    arrays = [
        (store.features(spec_of("float32")), values),
        (store.features(spec_of("float32"), KEYS[20:30]), values[20:30]),
    ]
    remove_directory(store.path / spec_of("float32").digest)
    for array, expected in arrays:
        np.testing.assert_array_equal(array, expected)
        np.testing.assert_array_equal(array.tensor(), expected)
        np.testing.assert_array_equal(array[::-1].to_device("cpu"), expected[::-1])
        late = pickle.loads(pickle.dumps(array))  # noqa: S301 (just written)
        with pytest.raises(StoreError, match=r"removed from .* before this copy was made"):
            np.asarray(late)


def test_a_file_that_was_cut_is_named(tmp_path: Path) -> None:
    store = stored(tmp_path / "store")
    array = store.features(spec_of("float32"))
    last = sorted(store.path.rglob("features.npy"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(DamagedStoreError, match=last.parent.name):
        np.asarray(array)


def test_no_rows(tmp_path: Path) -> None:
    store = stored(tmp_path / "store")
    for empty in (store.features(spec_of("float32"), []), store.features(spec_of("float32"))[:0]):
        assert empty.shape == np.asarray(empty).shape == tuple(empty.tensor().shape) == (0, 5, 8)
        assert list(empty) == []
    assert FeatureStore(tmp_path / "new").features(spec_of("float32")).shape == (0,)


def test_views_find_their_rows_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, values = stored(tmp_path / "store"), features_of("float32")
    array = store.features(spec_of("float32"))
    before = array[10:20]
    on_device = array.to_device("cpu", torch.bfloat16)
    monkeypatch.setattr(FeatureArray, "tensor", None)
    for file in store.path.rglob("features.npy"):
        file.write_bytes(b"")  # nothing is read again
    for part, expected in ((array, values), (before, values[10:20]), (array[[3, 1]][::-1, 2], values[[1, 3], 2])):
        assert torch.equal(part.to_device("cpu"), expected.bfloat16())
    assert before.to_device("cpu").data_ptr() == on_device[10:].data_ptr()
    array.release()
    with pytest.raises(DamagedStoreError):
        before.to_device("cpu")


def test_what_does_not_fit_is_an_error_that_says_what_is_needed(tmp_path: Path) -> None:
    array = stored(tmp_path / "store").features(spec_of("float32"))
    with pytest.raises(MemoryError, match=r"shape \(50, 5, 8\) in float64 need 0.0 MiB on cpu; the budget is"):
        array.to_device("cpu", torch.float64, budget=15_999)
    assert array.to_device("cpu", torch.float64, budget=16_000).dtype == torch.float64


def test_scikit_learn_takes_it(tmp_path: Path) -> None:
    array, values = stored(tmp_path / "store").features(spec_of("float32")), as_numpy(features_of("float32"))
    y = np.arange(N) % 2
    train, test, _, _ = train_test_split(array, y, stratify=y, random_state=0)
    assert isinstance(train, FeatureArray)
    for found, expected in zip((train, test), train_test_split(values, stratify=y, random_state=0), strict=True):
        np.testing.assert_array_equal(found, expected)
    pipeline = make_pipeline(FunctionTransformer(np.log1p), RidgeProbeClassifier())
    positive = array[:, :, 0]
    assert cross_val_score(RidgeProbeClassifier(), array, y, cv=3).tolist() == (
        cross_val_score(RidgeProbeClassifier(), values, y, cv=3).tolist()
    )
    assert pipeline.set_params(functiontransformer__func=np.arcsinh).fit(positive, y).predict(positive).shape == (N,)
    search = GridSearchCV(MAPClassifier(n_steps=3, random_state=0), {"lr": [0.01, 0.1]}, cv=StratifiedKFold(2))
    assert search.fit(array, y).cv_results_["mean_test_score"].tolist() == (
        search.fit(values, y).cv_results_["mean_test_score"].tolist()
    )


HEADS = (
    RidgeProbeClassifier(),
    RidgeProbeClassifier(augment=Brightness(), n_augmented=2, n_views=1, random_state=0),
    LogisticProbeClassifier(),
    PrototypeClassifier(),
    MAPClassifier(n_steps=5, batch_size=8, random_state=0),
    SoftMoEClassifier(n_steps=5, batch_size=8, validation_fraction=0.3, random_state=0),
    MAPClassifier(n_steps=5, batch_size=8, validation_fraction=0.3, n_views=1, random_state=0),
    MAPClassifier(n_steps=3, batch_size=64, random_state=0),
)


@pytest.mark.parametrize("head", HEADS, ids=repr)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_heads_give_what_they_give_for_the_array(
    head: Any, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_tokens, "CHUNK_ELEMENTS", 7 * 40)
    monkeypatch.setattr(lazy_tokens, "SMALL", 0)
    array, values = stored(tmp_path / "store", dtype).features(spec_of(dtype)), as_numpy(features_of(dtype))
    y, weights = np.arange(N) % 2, np.r_[0, np.ones(N - 1)]
    expected = head.fit(values, y, sample_weight=weights).predict_proba(values)
    np.testing.assert_array_equal(head.fit(array, y, sample_weight=weights).predict_proba(array), expected)
    with pytest.raises(ValueError, match="expecting 8 features"):
        head.predict(array[:, :, :3])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_heads_refuse_what_is_not_finite(value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_tokens, "CHUNK_ELEMENTS", 7 * 40)
    store, features = FeatureStore(tmp_path / "store"), features_of("float16")
    features[33, 4, 7] = value
    store.put(spec_of("float16"), KEYS, features)
    array = store.features(spec_of("float16"))
    for head in (RidgeProbeClassifier(), MAPClassifier(n_steps=2)):
        with pytest.raises(ValueError, match="Input X contains"):
            head.fit(array, np.arange(N) % 2)
        with pytest.raises(ValueError, match="minimum of 1 is required"):
            head.fit(array[:0], [])


MEMORY = """
import sys, numpy as np, torch
from pathlib import Path
from frofa.estimators import MAPClassifier, RidgeProbeClassifier
from frofa.store import FeatureSpec, FeatureStore
torch.set_num_threads(1)
store, n = FeatureStore(sys.argv[1]), 1200
spec = FeatureSpec("w", "a", "{}", "d", "tokens", 1, True, "float32", "float16")
rng = np.random.default_rng(0)
with store.writer(spec) as writer:
    for start in range(0, n, 50):
        features = rng.standard_normal((50, 196, 256), np.float32).astype(np.float16)
        writer.add(rng.integers(0, 256, (50, 20), np.uint8), features)
array, y = store.features(spec), np.arange(n) % 2
def peak():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024
def fit(head, X, y):
    head.fit(X, y).predict(X[:8])
small = array[np.arange(40)[::-1]]
heads = RidgeProbeClassifier(alphas=1.0), MAPClassifier(n_steps=4, batch_size=16, validation_fraction=0.05)
for head in heads:
    fit(head, small, y[:40])
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = peak()
for head in heads:
    fit(head, array, y)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's peak of memory")
def test_fitting_does_not_read_all_into_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "store")]
    root = Path(frofa.__file__).parents[1]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    in_float32 = 1200 * 196 * 256 * 4 / 2**20
    assert float(finished.stdout) < in_float32 / 2
