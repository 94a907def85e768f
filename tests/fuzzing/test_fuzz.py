"""Generated inputs at every boundary: the right result or a documented error; see `fuzz_harness` for the long run."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuzz_strategies as strategies
import numpy as np
import pytest
from fuzz_harness import MINUTES, Fuzz, public_errors
from fuzz_strategies import Entry, Problem, mutated, mutated_json
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from store_helpers import SPEC, filled, keys
from store_helpers import features as numbered

import frofa
from frofa import FeatureStore, FrozenFeatureExtractor
from frofa.augmentations import Brightness
from frofa.cli import main
from frofa.estimators import (
    BatchedSearchCV,
    CheckpointError,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
    RidgeProbeClassifier,
    SoftMoEClassifier,
)
from frofa.estimators.searching.checkpoint import _line
from frofa.exceptions import ImageReadError, SavedFileError, StoreError
from frofa.persistence.saving import _digest
from frofa.store.disk.format import seal

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 5)).astype(np.float32), np.array(["ant", "bee", "cow"] * 4)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def fuzz(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a check on examples of a strategy, for this target's share of the time."""
    targets = [item for item in request.session.items if "fuzz" in getattr(item, "fixturenames", ())]
    runner = Fuzz(tmp_path, 60 * MINUTES / len(targets))
    yield runner
    if MINUTES:
        with capsys.disabled():
            print(f"{request.node.name}: {runner.n_examples} examples")


@pytest.fixture
def extractor() -> FrozenFeatureExtractor:
    return FrozenFeatureExtractor(output="pooled", device="cpu", n_jobs=1).fit()


@contextlib.contextmanager
def refused(kind: type[Exception], path: Path) -> Iterator[None]:
    """Let errors of a kind pass that name the file."""
    try:
        yield
    except kind as error:
        if path.name not in str(error):
            raise AssertionError(f"an error that does not name the file: {error}") from error


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_image_files(fuzz: Fuzz, extractor: FrozenFeatureExtractor, tmp_path: Path) -> None:
    def check(file: tuple[str, bytes]) -> None:
        path = written(tmp_path / f"image.{file[0]}", file[1])
        with refused(ImageReadError, path):
            features = extractor.transform([str(path)])
            assert features.shape == (1, 192)
            assert np.isfinite(features).all()

    fuzz(strategies.image_files, check, 150)


def test_images_in_memory(fuzz: Fuzz, extractor: FrozenFeatureExtractor) -> None:
    def check(images: Any) -> None:
        with public_errors():
            assert np.isfinite(extractor.transform(images)).all()

    fuzz(strategies.images_in_memory(), check, 80)


def test_directories(fuzz: Fuzz, tmp_path: Path) -> None:
    def check(tree: list[Entry]) -> None:
        root = tmp_path / "root"
        shutil.rmtree(root, ignore_errors=True)
        plant(root, tree)
        with public_errors():
            found = frofa.load_images(root)
            assert found.labels is None or len(found.labels) == len(found.items)
            assert len(found.names) == len(found.items)
        with public_errors():
            paths, labels = frofa.load_image_folder(root)
            assert len(paths) == len(labels)
            assert frofa.list_images(root)

    fuzz(strategies.trees, check, 100)


def plant(root: Path, tree: list[Entry]) -> None:
    """Make what the entries describe; those that are in the way of others are left out."""
    root.mkdir()
    for kind, parts in tree:
        place = root.joinpath(*map(os.fsdecode, parts))
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            match kind:
                case "image":
                    with place.with_name(f"{place.name}.png").open("xb") as file:
                        file.write(strategies.IMAGES["png"])
                case "text":
                    place.open("x").close()
                case "directory":
                    place.mkdir()
                case "link above":
                    place.symlink_to("..")
                case "link nowhere":
                    place.with_name(f"{place.name}.png").symlink_to("nowhere.png")
                case "link to itself":
                    place.symlink_to(place.name)
                case "pipe":
                    os.mkfifo(place.with_name(f"{place.name}.png"))


COLUMNS = st.fixed_dictionaries(
    {},
    optional={"path_column": st.sampled_from(["path", "x", ""]), "label_column": st.sampled_from(["label", "b", ""])},
)


def test_tables(fuzz: Fuzz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    for name in ("a.png", "cats/a.png"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        written(folder / name, strategies.IMAGES["png"])

    def check(example: tuple[bytes, str, dict[str, Any]]) -> None:
        data, ending, columns = example
        table = written(folder / f"table.{ending}", data)
        for source, labels in ((table, None), (folder, table)):
            with public_errors():
                found = frofa.load_images(source, labels=labels, **columns)
                assert found.labels is None or len(found.labels) == len(found.items)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        with public_errors():
            frofa.load_images("-")

    fuzz(st.tuples(strategies.tables(), st.sampled_from(["csv", "tsv"]), COLUMNS), check, 100)


@pytest.mark.parametrize(("ending", "archives"), [("zip", strategies.zips()), ("tar", strategies.tars())])
def test_archives(fuzz: Fuzz, ending: str, archives: st.SearchStrategy[bytes], tmp_path: Path) -> None:
    def check(example: tuple[bytes, dict[str, Any]]) -> None:
        path = written(tmp_path / f"archive.{ending}", example[0])
        with public_errors():
            found = frofa.load_images(path, **example[1])
            assert len(found.names) == len(found.items)
            members: Any = found.items
            for member in members:
                with public_errors():
                    assert isinstance(member.read(), bytes)

    options = st.fixed_dictionaries(
        {}, optional={"labels": st.just(False), "label_column": st.sampled_from(["label", "b", "x"])}
    )
    fuzz(st.tuples(archives, options), check, 150)


def test_stores(fuzz: Fuzz, tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole", range(3))
    whole.compact()
    whole.put(SPEC, keys(range(3, 5)), numbered(range(3, 5)))
    files = sorted(path for path in whole.path.rglob("*") if path.is_file() and path.stat().st_size)
    contents = {str(path.relative_to(whole.path)): path.read_bytes() for path in files}

    def check(example: tuple[str, bytes]) -> None:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole.path, copy)
        (copy / example[0]).write_bytes(example[1])
        for _ in range(2):
            use_store(copy)
            with public_errors():
                FeatureStore(copy).repair()

    names = st.sampled_from(sorted(contents))
    fuzz(names.flatmap(lambda name: st.tuples(st.just(name), changed_store_file(contents[name]))), check, 60)


def changed_store_file(data: bytes) -> st.SearchStrategy[bytes]:
    """Mutations of a file of a store; of JSON, ones with the right checksum, too."""
    if not data.startswith(b"{"):
        return mutated(data)
    content = json.loads(data)
    content.pop("checksum", None)
    forged = mutated_json(content)
    return mutated(data) | forged.map(resealed) | forged.map(lambda text: text.encode(errors="replace"))


def resealed(text: str) -> bytes:
    """A JSON object as a store writes it; other text as it is."""
    try:
        return seal(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return text.encode(errors="replace")


def use_store(path: Path) -> None:
    """All that reads, each on its own: what was written, or an error of the store."""
    store = FeatureStore(path)
    calls: list[Callable[[], object]] = [
        store.specs,
        store.info,
        store.verify,
        lambda: store.missing(SPEC, keys(range(6))),
        lambda: np.asarray(store.features(SPEC)),
        lambda: store.get(SPEC, keys(range(5))),
        lambda: store.explain(np.zeros((4, 4, 3), np.uint8), SPEC),
    ]
    for call in calls:
        with contextlib.suppress(StoreError), public_errors(KeyError):
            call()


SAVED = [
    make_pipeline(StandardScaler(), LogisticProbeClassifier()),
    RidgeProbeClassifier(),
    PrototypeClassifier(),
    MAPClassifier(Brightness(0.2), n_steps=1, random_state=0, device="cpu", num_heads=1),
    SoftMoEClassifier(n_steps=1, random_state=0, device="cpu"),
]


@pytest.mark.parametrize("estimator", SAVED, ids=lambda estimator: type(estimator).__name__)
def test_saved_estimators(fuzz: Fuzz, estimator: Any, tmp_path: Path) -> None:
    path = tmp_path / "saved.frofa"
    frofa.save(estimator.fit(X, Y), path)
    data, arrays = path.read_bytes(), load_file(path)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])

    def write_forged(description: str, tensors: dict[str, Any]) -> None:
        with contextlib.suppress(UnicodeEncodeError):  # what cannot be written
            save_file(tensors, path, metadata={"frofa": description, "digest": _digest(description, tensors)})

    def check(example: bytes | tuple[str, dict[str, Any]]) -> None:
        if isinstance(example, bytes):
            path.write_bytes(example)
        else:
            write_forged(*example)
        with refused(SavedFileError, path):
            loaded = frofa.load(path)
            with public_errors(AttributeError):  # what was loaded may be another estimator, without `predict`
                loaded.predict(X)

    description = header["__metadata__"]["frofa"]
    forged = st.tuples(st.just(description) | mutated_json(json.loads(description)), changed_tensors(arrays))
    fuzz(mutated(data) | forged, check, 60)


@st.composite
def changed_tensors(draw: st.DrawFn, arrays: dict[str, Any]) -> dict[str, Any]:
    """Tensors of which perhaps one is gone, of another shape or dtype, or not finite."""
    changed = dict(arrays)
    name = draw(st.sampled_from(sorted(arrays)))
    match draw(st.sampled_from(["same", "gone", "cut", "flat", "deep", "whole", "NaN"])):
        case "gone":
            del changed[name]
        case "cut":
            changed[name] = np.ascontiguousarray(arrays[name][:-1]) if arrays[name].ndim else arrays[name]
        case "flat":
            changed[name] = arrays[name].ravel()
        case "deep":
            changed[name] = arrays[name][None]
        case "whole":
            changed[name] = arrays[name].astype(np.int8)
        case "NaN":
            changed[name] = np.full_like(arrays[name], np.nan, dtype=np.float32)
    return changed


def test_checkpoints(fuzz: Fuzz, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"

    def fit() -> Any:
        search = BatchedSearchCV(PrototypeClassifier(), {"center": [True, False]}, cv=2, checkpoint=path)
        return search.fit(X, Y)

    first = fit().best_params_
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with refused(CheckpointError, path):
            assert fit().best_params_ == first or content != data
            return
        assert path.read_bytes() == content  # refused, and left as it was

    def forged(number: int) -> st.SearchStrategy[bytes]:
        entry = json.loads(lines[number])
        del entry["sum"]
        texts = mutated_json(entry).map(relined)
        return texts.map(lambda line: b"".join([*lines[:number], line, *lines[number + 1 :]]))

    fuzz(mutated(data) | st.integers(0, len(lines) - 1).flatmap(forged), check, 60)


def relined(text: str) -> bytes:
    """A line of a checkpoint with the right sum; of what is no JSON object, the text."""
    try:
        entry = json.loads(text)
        return _line(entry) if isinstance(entry, dict) else text.encode(errors="replace") + b"\n"
    except (ValueError, RecursionError):
        return text.encode(errors="replace") + b"\n"


HEADS = [
    RidgeProbeClassifier(),
    LogisticProbeClassifier(max_iter=50),
    PrototypeClassifier(),
    MAPClassifier(n_steps=2, random_state=0, device="cpu", augment=None),
    SoftMoEClassifier(n_steps=2, random_state=0, device="cpu", augment=None),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_heads(fuzz: Fuzz, head: Any) -> None:
    def check(problem: Problem) -> None:
        with public_errors():
            head.fit(problem.X, problem.y, problem.sample_weight)
            assert_probable(head.predict_proba(problem.X), len(problem.X))
            assert np.isin(head.predict(problem.X), head.classes_).all()
            assert_probable(head.predict_proba(problem.X_new), len(problem.X_new))

    fuzz(strategies.problems(), check, 80 if head in HEADS[:3] else 40)


def assert_probable(probabilities: Any, n: int) -> None:
    assert len(probabilities) == n
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_command_line(fuzz: Fuzz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cats", "dogs"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            different = f"{name} {i}".encode()  # after the image's end: no copy of another
            written(tmp_path / "images" / name / f"{i}.png", strategies.IMAGES["png"] + different)
    written(tmp_path / "text.png", b"no image")
    written(tmp_path / "paths.csv", b"path,label\nimages/cats/0.png,cat\nimages/dogs/0.png,dog\n")
    monkeypatch.chdir(tmp_path)
    assert run("fit", "images", "--out", "model.frofa", "--head", "ridge")[0] == 0

    def check(arguments: list[str]) -> None:
        code, error = run(*arguments)
        assert code in (0, 1, 2, 3)
        assert "Traceback" not in error
        if code == 1:
            assert error.splitlines()[-1].startswith("frofa: error: ")

    fuzz(strategies.command_lines(), check, 60)


def run(*arguments: str) -> tuple[int, str]:
    """The exit code of a command, and what it writes to standard error."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            return main(arguments), error.getvalue()
        except SystemExit as stop:
            return int(stop.code or 0), error.getvalue()


def test_folders_of_backbones(fuzz: Fuzz, small_vit: str, tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(small_vit.removeprefix("local-dir:"), folder)
    config = (folder / "config.json").read_bytes()

    def check(data: bytes) -> None:
        (folder / "config.json").write_bytes(data)
        with public_errors():
            features = FrozenFeatureExtractor(f"local-dir:{folder}", device="cpu", n_jobs=1).fit_transform(
                np.zeros((1, 32, 32, 3), np.uint8)
            )
            assert np.isfinite(features).all()

    texts = mutated_json(json.loads(config)).map(lambda text: text.encode(errors="surrogatepass"))
    fuzz(mutated(config) | texts, check, 40)
