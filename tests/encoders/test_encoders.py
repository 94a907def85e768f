"""Custom encoders: functions, modules and objects in the place of a backbone."""

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from encoder_helpers import LABELS, SIGNALS, Array, Counting, moments
from PIL import Image
from sklearn.base import clone
from torch import nn

from frofa import Encoder, FrozenFeatureExtractor, FunctionEncoder, extract_many
from frofa.exceptions import (
    EncoderCallError,
    EncoderError,
    ImageReadError,
    ItemError,
    SkippedImagesWarning,
    WeightsChangedError,
)


def test_features_are_the_functions(tmp_path: Path) -> None:
    encoder = Counting()
    assert isinstance(encoder, Encoder)
    extractor = FrozenFeatureExtractor(encoder, batch_size=5)
    features = extractor.fit_transform(SIGNALS)
    np.testing.assert_array_equal(features, moments(SIGNALS))
    assert features.dtype == np.float32
    assert encoder.shapes == [(5, 2, 20), (5, 2, 20), (3, 2, 20)]
    np.testing.assert_array_equal(
        clone(extractor).set_params(store=tmp_path / "store").transform(list(SIGNALS)), features
    )
    assert extractor.set_params(dtype="float64").transform(SIGNALS.astype(np.float64)).dtype == np.float64


def test_tokens_and_items_of_several_shapes() -> None:
    items = [np.full((1 + i % 3, 4), i, np.int64) for i in range(9)]
    encoder = Counting(features=lambda batch: np.stack([batch.sum(1), batch.max(1)], 1))
    features = FrozenFeatureExtractor(encoder).transform(items)
    assert features.shape == (9, 2, 4)
    np.testing.assert_array_equal(features[:, 1, 0], np.arange(9))
    assert sorted(encoder.shapes) == [(3, 1, 4), (3, 2, 4), (3, 3, 4)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">f4", "float16", "bool", "complex64", "float64"])
def test_arrays_of_any_dtype(dtype: str) -> None:
    batch = (SIGNALS * 3).astype(dtype) if dtype != "uint16" else (np.abs(SIGNALS) * 9000).astype(dtype)
    features = FrozenFeatureExtractor(Counting(features=lambda x: np.abs(x).sum(-1))).transform(batch)
    np.testing.assert_allclose(features, np.abs(batch.astype(np.dtype(dtype).newbyteorder("="))).sum(-1), rtol=1e-3)


def test_forms_of_input() -> None:
    extractor = FrozenFeatureExtractor(Counting(features=lambda x: x.reshape(len(x), -1)))
    rows = SIGNALS[:, 0]
    for form in (rows, list(rows), rows.tolist(), torch.from_numpy(rows.copy()), pd.DataFrame(rows)):
        np.testing.assert_array_equal(extractor.transform(form), rows)
    pictures = [Image.new("RGB", (3, 2), (1, 2, 3))] * 2
    assert extractor.transform(pictures).tolist() == [[1, 2, 3] * 6] * 2


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.arange(3.0), r"Got one array of shape \(3,\)"),
        ("signal.npy", "several items: an array .* Got 'signal.npy'"),
        (["signal.npy"], "no 'load' for paths. Got 'signal.npy', position 0"),
        ([SIGNALS[0], None], "expected an array. Got NoneType .* at position 1"),
        ([np.array(["a"])], r"arrays of numbers .* Got <U1, shape \(1,\), at position 0"),
        ([1.0, 2.0], "expected an array. Got float"),
        (3, "expected an array .* Got int"),
        ([], "at least one item. Got none"),
    ],
)
def test_wrong_input_is_named(X: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        FrozenFeatureExtractor(Counting()).transform(X)


def test_the_store_computes_each_array_once(tmp_path: Path) -> None:
    encoder = Counting()
    extractor = FrozenFeatureExtractor(encoder, store=tmp_path, batch_size=4)
    extraction = extractor.extract([*SIGNALS, SIGNALS[2].copy()], [*LABELS, "low"])
    assert (extraction.n_computed, extraction.n_duplicates, encoder.n_items) == (13, 1, 13)
    again = extractor.extract(SIGNALS[::-1])
    assert (again.n_computed, again.n_from_store, encoder.n_items) == (0, 13, 13)
    np.testing.assert_array_equal(np.asarray(again.features), moments(SIGNALS)[::-1])
    for other in (SIGNALS.astype(np.float64), SIGNALS.reshape(13, 2, 4, 5), SIGNALS.view(np.int32)):
        assert (
            FrozenFeatureExtractor(Counting(features=lambda x: x.reshape(len(x), -1)[:, :6]), store=tmp_path)
            .extract(other)
            .n_computed
            == 13
        )


@pytest.mark.parametrize(
    ("one", "other"),
    [("a v1", "a v2"), ("a v1", {"name": "a v1"}), ({"a": 1, "b": 2}, {"a": 1, "b": 3})],
)
def test_another_spec_is_another_key(one: Any, other: Any, tmp_path: Path) -> None:
    FrozenFeatureExtractor(Counting(one), store=tmp_path).transform(SIGNALS)
    changed = Counting(other, lambda batch: 2 * moments(batch))
    features = FrozenFeatureExtractor(changed, store=tmp_path).transform(SIGNALS)
    np.testing.assert_array_equal(features, 2 * moments(SIGNALS))
    same = FrozenFeatureExtractor(Counting(dict(reversed(list(one.items()))) if isinstance(one, dict) else one))
    assert same.feature_spec() == FrozenFeatureExtractor(Counting(one)).feature_spec()
    assert same.feature_spec() != FrozenFeatureExtractor(changed).feature_spec()


def test_a_fitted_extractor_refuses_another_spec() -> None:
    encoder = Counting()
    extractor = FrozenFeatureExtractor(encoder).fit()
    encoder.spec = "moments v2"
    with pytest.raises(WeightsChangedError, match="Counting"):
        extractor.transform(SIGNALS)


@pytest.mark.parametrize("spec", [None, "", {}, 3, {"a": object()}, {"a": float("nan")}])
def test_a_spec_must_be_text_or_json(spec: Any) -> None:
    with pytest.raises(EncoderError, match="spec"):
        FrozenFeatureExtractor(Counting(spec)).transform(SIGNALS)
    with pytest.raises(EncoderError, match="FunctionEncoder: its spec"):
        FunctionEncoder(moments, spec)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 2), r"PyTorch module: pass frofa.TorchEncoder\(module\)"),
        (moments, r"has a 'spec' .* Got <function moments.*frofa.FunctionEncoder"),
        (Counting, "Got <class"),
    ],
)
def test_what_is_no_encoder_is_refused(model: Any, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        FrozenFeatureExtractor(model).fit()


@pytest.mark.parametrize(
    "parameters",
    [
        {"output": "mean"},
        {"layer": 2},
        {"norm": False},
        {"image_size": 64},
        {"device": "cpu"},
        {"precision": "float16"},
        {"compile": True},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_parameters_of_backbones_are_refused(parameters: dict[str, Any]) -> None:
    [(name, value)] = parameters.items()
    extractor = FrozenFeatureExtractor(Counting(), **parameters)
    for call in (lambda: extractor.fit(), lambda: extractor.transform(SIGNALS), extractor.feature_spec):
        with pytest.raises(EncoderError, match=rf"defaults\. Got {name}={value!r}"):
            call()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x: x[:, 0, 0], r"expected features of shape \(13, C\) or \(13, N, C\) .* Got shape \(13,\)"),
        (lambda x: x[:5, 0], r"Got shape \(5, 20\)"),
        (lambda x: x[..., None, None], r"Got shape \(13, 2, 20, 1, 1\)"),
        (lambda x: x[:, :0, 0], r"Got shape \(13, 0\)"),
        (lambda x: x[:, 0].astype(complex), r"real numbers. Got complex128"),
        (lambda _: None, r"Got NoneType"),
        (lambda _: [[1.0], [2.0, 3.0]], r"Got what is no array"),
        (lambda x: np.full(x.shape[:2], "a"), r"Got <U1"),
    ],
)
def test_wrong_output_is_named_and_never_skipped(returned: Any, message: str, tmp_path: Path) -> None:
    for options in ({}, {"on_error": "skip", "store": tmp_path}):
        with pytest.raises(EncoderError, match=message):
            FrozenFeatureExtractor(Counting(features=returned), **options).transform(SIGNALS)  # type: ignore[arg-type]


def test_different_widths_are_an_error() -> None:
    items = [np.ones(3), np.ones(4)]
    with pytest.raises(ValueError, match="different shapes"):
        FrozenFeatureExtractor(Counting(features=lambda x: x)).transform(items)


def with_bad_items() -> Array:
    """Position 4 makes the function raise, position 7 gives NaN."""
    signals = SIGNALS.copy()
    signals[4, 0, 0] = 1e9
    signals[7, 0, 0] = np.nan
    return signals


def picky(batch: Array) -> Array:
    if (batch > 1e8).any():
        raise RuntimeError("a spike")
    return moments(batch)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("stored", [False, True])
def test_bad_items_are_named_or_skipped(batch_size: int, stored: bool, tmp_path: Path) -> None:
    store = tmp_path if stored else None
    extractor = FrozenFeatureExtractor(FunctionEncoder(picky, "v1"), batch_size=batch_size, store=store)
    signals = with_bad_items()
    with pytest.raises(
        ItemError, match=r"encode the item at position 4 \(array, float32, shape \(2, 20\)\): Runt.*spike"
    ):
        extractor.transform(signals)
    with pytest.raises(ItemError, match=r"position 0 .*: ValueError: 3 of its 6 features are NaN"):
        extractor.transform(signals[7:])
    extractor.set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning, match=r"skipped 2 of 13 items: .*position 4\): .*position 7\): "):
        extraction = extractor.extract(signals, LABELS)
    kept = [0, 1, 2, 3, 5, 6, 8, 9, 10, 11, 12]
    np.testing.assert_array_equal(extraction.features, moments(SIGNALS[kept]))
    assert extraction.kept.tolist() == kept
    assert extraction.y is not None
    assert extraction.y.tolist() == LABELS[kept].tolist()
    with pytest.raises(ItemError):
        extractor.transform(signals[[4, 7, 4]])


def test_a_failure_of_the_batch_alone_is_raised() -> None:
    def single(batch: Array) -> Array:
        if len(batch) > 1:
            raise TypeError("one at a time")
        return moments(batch)

    with pytest.raises(
        EncoderCallError, match=r"raised TypeError for a batch \(float32, shape \(13, 2, 20\)\): one at"
    ):
        FrozenFeatureExtractor(Counting(features=single), on_error="skip").transform(SIGNALS)
    one_by_one = FunctionEncoder(single, "v1", batch_size=1)
    np.testing.assert_array_equal(FrozenFeatureExtractor(one_by_one).transform(SIGNALS), moments(SIGNALS))


def test_batches_are_halved_when_memory_runs_out() -> None:
    def hungry(batch: Array) -> Array:
        if len(batch) > 3:
            raise MemoryError("no more")
        return moments(batch)

    encoder = Counting(features=hungry)
    with pytest.warns(UserWarning, match="memory runs out at 8 images a pass: going on with 2"):
        features = FrozenFeatureExtractor(encoder, batch_size=8).transform(SIGNALS)
    np.testing.assert_array_equal(features, moments(SIGNALS))
    with pytest.raises(MemoryError), warnings.catch_warnings():
        FrozenFeatureExtractor(Counting(features=lambda x: hungry(np.repeat(x, 4, 0)))).transform(SIGNALS)


@pytest.mark.parametrize(("wanted", "hint", "first"), [("auto", None, 13), ("auto", 6, 6), (4, 6, 4), (10, 6, 6)])
def test_hints_of_batch_size(wanted: Any, hint: int | None, first: int) -> None:
    encoder = Counting()
    if hint is not None:
        encoder.batch_size = hint  # type: ignore[attr-defined]
    FrozenFeatureExtractor(encoder, batch_size=wanted).transform(SIGNALS)
    assert encoder.shapes[0][0] == first
    encoder.batch_size = 0  # type: ignore[attr-defined]
    with pytest.raises(EncoderError, match=r"batch_size must be a positive int or None. Got 0"):
        FrozenFeatureExtractor(encoder).transform(SIGNALS)


def test_preprocessing_runs_in_threads_and_its_errors_name_the_item() -> None:
    threads = set()

    def preprocess(item: Array) -> Array:
        threads.add(threading.current_thread().name)
        if item[0, 0] > 1e8:
            raise ArithmeticError("too loud")
        return item[:, ::2] * 2

    encoder = FunctionEncoder(moments, "v1", preprocess=preprocess)
    features = FrozenFeatureExtractor(encoder).transform(SIGNALS)
    np.testing.assert_allclose(features, moments(2 * SIGNALS[..., ::2]), rtol=1e-6)
    assert all(name.startswith("frofa-decode") for name in threads)
    with pytest.raises(ItemError, match=r"position 4 .*: ArithmeticError: too loud"):
        FrozenFeatureExtractor(encoder).transform(with_bad_items())
    wrong: Any = FunctionEncoder(moments, "v1", preprocess=lambda _: "text")
    with pytest.raises(ItemError, match="preprocess returned str, expected an array"):
        FrozenFeatureExtractor(wrong).transform(SIGNALS)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / f"{i:02}.npy") for i in range(len(SIGNALS))]
    for path, signal in zip(paths, SIGNALS, strict=True):
        np.save(path, signal)
    return paths


def test_files_are_loaded_by_the_encoder(files: list[str], tmp_path: Path) -> None:
    loaded: list[str] = []

    def load(path: str) -> Array:
        loaded.append(path)
        return np.asarray(np.load(path))

    extractor = FrozenFeatureExtractor(FunctionEncoder(moments, "v1", load=load), store=tmp_path / "store")
    features = extractor.transform(pd.Series(files))
    np.testing.assert_array_equal(features, moments(SIGNALS))
    assert sorted(loaded) == files
    Path(files[3]).rename(tmp_path / "renamed.npy")
    moved = [*files[:3], tmp_path / "renamed.npy", *files[4:]]
    np.testing.assert_array_equal(extractor.transform(moved), features)
    assert len(loaded) == len(files)  # by content
    np.save(files[0], SIGNALS[0] + 1)
    np.testing.assert_array_equal(extractor.transform([files[0]]), moments(SIGNALS[:1] + 1))


def test_files_that_cannot_be_loaded_are_named(files: list[str], tmp_path: Path) -> None:
    Path(files[2]).unlink()
    Path(files[5]).write_bytes(b"no array")
    extractor = FrozenFeatureExtractor(FunctionEncoder(moments, "v1", load=np.load), on_error="skip")
    for store in (None, tmp_path / "store"):
        extractor.set_params(store=store)
        with pytest.warns(SkippedImagesWarning, match=r"02\.npy \(position 2\): No such.*05\.npy \(position 5\): "):
            extraction = extractor.extract(files, LABELS)
        np.testing.assert_array_equal(extraction.features, moments(np.delete(SIGNALS, [2, 5], 0)))


def test_a_file_that_changes_while_it_is_loaded_is_an_error(files: list[str]) -> None:
    def load(path: str) -> Array:
        found = np.asarray(np.load(path))
        np.save(path, np.ones((2, 21)))
        return found

    with pytest.raises(ItemError, match=r"position 0 .* the file changed while it was being read"):
        FrozenFeatureExtractor(FunctionEncoder(moments, "v1", load=load)).transform(files[:1])


def test_frames_have_names() -> None:
    extractor = FrozenFeatureExtractor(Counting())
    with pytest.raises(ValueError, match="once transform has returned"):
        extractor.get_feature_names_out()
    frame = extractor.set_output(transform="pandas").fit_transform(SIGNALS)
    assert frame.columns.tolist() == [f"frozenfeatureextractor{i}" for i in range(6)]
    np.testing.assert_array_equal(frame.to_numpy(), moments(SIGNALS))
    tokens = FrozenFeatureExtractor(Counting(features=lambda x: x)).set_output(transform="pandas")
    with pytest.raises(ValueError, match=r"three dimensions"):
        tokens.transform(SIGNALS)


def test_several_dtypes_come_from_one_pass() -> None:
    encoder = Counting()
    extractors = {dtype: FrozenFeatureExtractor(encoder, dtype=dtype) for dtype in ("float32", "float16")}
    found = extract_many(extractors, SIGNALS)
    assert encoder.n_items == 13
    assert {name: extraction.features.dtype for name, extraction in found.items()} == {
        "float32": np.float32,
        "float16": np.float16,
    }


def test_progress_counts_items(capsys: pytest.CaptureFixture[str]) -> None:
    FrozenFeatureExtractor(Counting(), verbose=True).transform(SIGNALS)
    assert "item/s" in capsys.readouterr().err


def test_inputs_are_not_changed_and_outputs_are_kept_apart() -> None:
    buffer = np.zeros((4, 2), np.float32)

    def careless(batch: Array) -> Array:
        buffer[: len(batch)] = batch.sum(-1)
        return buffer[: len(batch)]

    signals = SIGNALS.copy()
    extractor = FrozenFeatureExtractor(FunctionEncoder(careless, "v1"), batch_size=4)
    np.testing.assert_array_equal(extractor.transform(signals), SIGNALS.sum(-1))
    np.testing.assert_array_equal(signals, SIGNALS)


def test_item_errors_are_image_errors_too() -> None:
    assert issubclass(ItemError, ImageReadError)
