"""Models, stores and checkpoints of earlier versions are read, and give what they gave (``data/make_fixtures.py``)."""

import json
import os
import shutil
import subprocess
import sys
import types
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import older_cases
import pytest
from older_cases import FOLDER, SHARED, Anything, Pairs, cases, extractor, images_of, inputs_of, models

import frofa
from frofa import FeatureStore, augmentations, load_images
from frofa.estimators import CheckpointError
from frofa.estimators.batched.jobs import fit_many

FIT_MANY = "frofa.estimators.searching.chunks.fit_many"
"""What a search trains with."""
VERSIONS = ("0.1.0", "0.2.0")
SEARCHES = sorted((path.parent.name, path.stem) for path in FOLDER.glob("*/*.jsonl"))
MODELS = sorted((path.parent.name, path.stem) for path in FOLDER.glob("*/*.frofa"))

pytestmark = pytest.mark.filterwarnings("ignore::frofa.estimators.BatchFallbackWarning")


@pytest.fixture
def folder(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what a version wrote, as the working directory: paths in searches are relative."""
    copy = shutil.copytree(FOLDER / version, tmp_path / version)
    for name in SHARED:
        shutil.copy(FOLDER / name, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of fits of each batch."""
    counts: list[int] = []

    def counted(X: Any, y: Any, jobs: list[Any], **options: Any) -> Any:
        counts.append(len(jobs))
        return fit_many(X, y, jobs, **options)

    monkeypatch.setattr(FIT_MANY, counted)
    monkeypatch.setattr(Anything, "n_fits", 0)
    return counts


def expected(version: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / version / "expected.json").read_text())
    return content


def results_of(search: Any) -> tuple[Any, Any]:
    """Scores by split and candidate, and mean times of fits by candidate."""
    results = search.cv_results_
    return np.array([results["split0_test_score"], results["split1_test_score"]]), results["mean_fit_time"]


def test_the_files_are_those_that_were_written() -> None:
    assert {name for version, name in MODELS if version == "0.2.0"} == set(models())
    assert {name for version, name in MODELS if version == "0.1.0"} == set(models()) - {"search"}
    searches = {name for version, name in SEARCHES if version == "0.2.0"}
    assert {name for version, name in SEARCHES if version == "0.1.0"} == searches - {"pipeline", "encoder", "archive"}
    kinds = {getattr(augmentations, name) for name in augmentations.__all__}
    concrete = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, augmentations.Augmentation)}
    assert {type(augment) for augment in older_cases.AUGMENTATIONS} == concrete - {augmentations.Augmentation}


@pytest.mark.parametrize(("version", "name"), MODELS)
def test_saved_models_predict_what_they_did(version: str, name: str) -> None:
    loaded = frofa.load(FOLDER / version / f"{name}.frofa")
    made = models()[name]
    assert repr(loaded) == repr(getattr(made, "estimator", made))  # of a search, the best, which is as it was given
    if name == "not_fitted":
        return
    X, _ = inputs_of(name)
    before = np.array(expected(version)["predictions"][name])
    atol = 1e-3 if name == "pipeline" else 1e-5  # features differ a little from machine to machine
    np.testing.assert_allclose(loaded.predict_proba(X), before, atol=atol, rtol=0)
    if name != "pipeline":
        assert loaded.predict(X).tolist() == loaded.classes_[before.argmax(1)].tolist()


@pytest.mark.parametrize("version", VERSIONS)
def test_stores_hold_what_was_written(version: str, folder: Path) -> None:
    store = FeatureStore(folder / "store")
    assert store.verify() == []
    assert store.repair() == []
    before = expected(version)["features"]
    for _ in range(2):
        features: dict[str, Any] = {
            digest: np.ascontiguousarray(store.features(spec)) for digest, spec in store.specs().items()
        }
        assert {digest: blake2b(array, digest_size=16).hexdigest() for digest, array in features.items()} == before
        store.compact()
        store.forget()


@pytest.mark.parametrize("version", VERSIONS)
def test_stored_features_are_served_and_not_computed(folder: Path) -> None:
    def refuse(images: Any) -> Any:
        raise AssertionError(f"asked to encode {len(images)} images")

    images = images_of("encoder")
    extraction = extractor("encoder", refuse, store=folder / "store").extract(images)
    assert (extraction.n_computed, extraction.n_from_store) == (0, len(images))
    np.testing.assert_allclose(np.asarray(extraction.features), older_cases.means(images), rtol=1e-6)


@pytest.mark.parametrize("version", ["0.2.0"])  # since when some images are decoded in another way than before
def test_stored_features_of_a_backbone_are_served(folder: Path) -> None:
    """In a process of its own, which takes the installed Pillow, whose version is in keys, for that of the time."""
    decoders = {spec.decoder.split(",")[0] for spec in FeatureStore(folder / "store").specs().values()}
    [pillow] = decoders - {"none"}
    code = f"""
import json
import PIL.Image
PIL.__version__ = {pillow.removeprefix("Pillow ")!r}
import numpy as np
from older_cases import extractor, images_of
for output in ("mean", "tokens", "ragged"):
    images = images_of(output)
    stored, fresh = extractor(output, store="store").extract(images), extractor(output).transform(images)
    one, other = (np.asarray(getattr(array, "values", array), np.float64) for array in (stored.features, fresh))
    print(json.dumps([stored.n_computed, stored.n_from_store - len(images), float(abs(one - other).max()) < 0.02]))
"""
    paths = os.pathsep.join([str(Path(older_cases.__file__).parent), str(Path(frofa.__file__).parents[1])])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert run.stdout.splitlines() == ["[0, 0, true]"] * 3, run.stderr


@pytest.mark.parametrize(("version", "name"), SEARCHES)
def test_checkpoints_are_continued(version: str, name: str, folder: Path, trained: list[int]) -> None:
    path, case = folder / f"{name}.jsonl", cases()[name]
    begun = path.read_bytes()
    kept = [json.loads(line)["result"] for line in begun.splitlines()[1:]]
    before = np.array(expected(version)["scores"][name])
    assert 0 < len(kept) < before.size
    scores, _ = results_of(case.search(path).fit(case.X, case.y))
    assert sum(trained) + Anything.n_fits == before.size - len(kept)  # no fit is done again
    assert path.read_bytes().startswith(begun)
    fresh, _ = results_of(case.search(None).fit(case.X, case.y))
    assert ((scores == before) | np.isclose(scores, fresh)).all()
    assert (scores == before).sum() >= len(kept)

    trained.clear()
    Anything.n_fits = 0
    case = cases()[name]  # features of a store that was opened anew, as by the next process
    again, times = results_of(case.search(path).fit(case.X, case.y))
    assert sum(trained) + Anything.n_fits == 0
    np.testing.assert_array_equal(again, scores)
    whole = [json.loads(line)["result"]["fit_time"] for line in path.read_text().splitlines()[1:]]
    assert np.isclose(times.sum() * 2, sum(whole))  # those of the file


@pytest.mark.parametrize(("version", "name"), SEARCHES)
def test_checkpoints_of_other_searches_are_refused(name: str, folder: Path) -> None:
    path, case = folder / f"{name}.jsonl", cases()[name]
    with pytest.raises(CheckpointError, match="is the checkpoint of another search, which differs in: candidates"):
        case.search(path, changed=True).fit(case.X, case.y)
    with pytest.raises(CheckpointError, match="is the checkpoint of another search, which differs in: X"):
        case.search(path).fit(case.X[::-1], case.y)


@pytest.mark.parametrize("version", ["0.2.0"])
def test_checkpoints_are_continued_wherever_classes_have_moved(
    folder: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = types.ModuleType("frofa.elsewhere")
    items = [load_images(source).items[0] for source in (Pairs(), "film.mp4", "images.zip", "images.tar")]
    named = ("Brightness", "Contrast", "Equalize", "Invert", "Posterize", "Solarize")
    ours = [getattr(augmentations, name) for name in named]
    ours += [frofa.RaggedTokens, frofa.FrozenFeatureExtractor, frofa.FunctionEncoder, frofa.OnnxEncoder]
    for kind in [*ours, *map(type, items), frofa.store.FeatureArray]:
        monkeypatch.setattr(kind, "__module__", moved.__name__)
        setattr(moved, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, moved.__name__, moved)
    for name, case in cases().items():
        path = folder / f"{name}.jsonl"
        n_kept = len(path.read_bytes().splitlines()) - 1
        trained.clear()
        Anything.n_fits = 0
        scores, _ = results_of(case.search(path).fit(case.X, case.y))
        assert sum(trained) + Anything.n_fits == scores.size - n_kept, name
