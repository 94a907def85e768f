"""A search that is killed at any moment goes on where it stopped, with the result that it would have had."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_helpers import FEATURES, LABELS, assert_same_results
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from store_helpers import SPEC, features, keys

import frofa
from frofa import FeatureStore
from frofa.augmentations import Brightness
from frofa.estimators import (
    BatchedSearchCV,
    BatchFallbackWarning,
    CheckpointError,
    LogisticProbeClassifier,
    MAPClassifier,
    PrototypeClassifier,
)
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.searching.checkpoint import SUM, _line, _sum

KILLS = int(os.environ.get("FROFA_KILLS", "3"))
GRID = {"center": [True, False], "normalize": [True, False], "temperature": [0.1, 1.0, 10.0]}

RESULT = {
    "fit_error": None,
    "n_test_samples": 12,
    "fit_time": 0.1,
    "score_time": 0.1,
    "test_scores": 1.0,
    "train_scores": 1.0,
}


def search(path: Path | None, **arguments: Any) -> BatchedSearchCV:
    arguments = {
        "scoring": "neg_log_loss",
        "cv": 3,
        "return_train_score": True,
        "checkpoint": path,
        **arguments,
    }
    return BatchedSearchCV(arguments.pop("estimator", PrototypeClassifier()), arguments.pop("grid", GRID), **arguments)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of fits of each batch."""
    counts: list[int] = []

    def counted(X: Any, y: Any, jobs: list[Job], **options: Any) -> Any:
        counts.append(len(jobs))
        return fit_many(X, y, jobs, **options)

    monkeypatch.setattr("frofa.estimators.searching.chunks.fit_many", counted)
    return counts


def test_a_finished_search_is_read_from_its_checkpoint(tmp_path: Path, fitted: list[int]) -> None:
    path = tmp_path / "search.jsonl"
    first = search(path).fit(FEATURES, LABELS)
    assert sum(fitted) == 36
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [set(line) for line in lines] == [{"sum", "frofa search", "search"}] + [{"sum", "fit", "result"}] * 36
    fitted.clear()
    again = search(path).fit(FEATURES, LABELS)
    assert fitted == []
    assert_same_results(again, first, atol=0)
    assert_same_results(search(None).fit(FEATURES, LABELS), first)
    np.testing.assert_array_equal(again.cv_results_["mean_fit_time"], first.cv_results_["mean_fit_time"])


def test_a_checkpoint_may_end_anywhere(tmp_path: Path, fitted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.estimators.searching.run.FIRST_CHUNK_KEPT", 5)
    path = tmp_path / "search.jsonl"
    first = search(path).fit(FEATURES, LABELS)
    content = path.read_bytes()
    ends = random.Random(0).sample(range(len(content)), 12)
    for end in [0, 1, content.index(b"\n"), content.index(b"\n") + 1, len(content) - 1, *ends]:
        path.write_bytes(content[:end])
        fitted.clear()
        again = search(path).fit(FEATURES, LABELS)
        assert sum(fitted) == 36 - max(0, content[:end].count(b"\n") - 1)
        assert_same_results(again, first)
        written = path.read_bytes().splitlines()
        assert written[: content[:end].count(b"\n")] == content.splitlines()[: content[:end].count(b"\n")]
        assert len(written) == 37


def test_what_is_finished_is_on_disk_before_the_next_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.estimators.searching.run.FIRST_CHUNK_KEPT", 4)
    path = tmp_path / "search.jsonl"
    lines: list[int] = []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        lines.append(path.read_bytes().count(b"\n"))
        if len(lines) == 4:
            raise KeyboardInterrupt
        return fit_many(*arguments, **options)

    monkeypatch.setattr("frofa.estimators.searching.chunks.fit_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(path).fit(FEATURES, LABELS)
    assert lines == [1, 5, 13, 29]
    assert search(path).fit(FEATURES, LABELS).best_score_ == search(None).fit(FEATURES, LABELS).best_score_


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"estimator": PrototypeClassifier(temperature=2)}, "estimator"),
        ({"grid": {"center": [True]}}, "candidates"),
        ({"grid": {"center": [True, False]}, "n_iter": 1, "random_state": 0}, "candidates"),
        ({"cv": 4}, "splits"),
        ({"cv": StratifiedKFold(3, shuffle=True, random_state=0)}, "splits"),
        ({"scoring": "accuracy"}, "scoring"),
        ({"scoring": lambda *_: 0.0}, "scoring"),
        ({"return_train_score": False}, "scoring"),
        ({"error_score": 0.0}, "scoring"),
    ],
)
def test_the_checkpoint_of_another_search_is_refused(arguments: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    search(path).fit(FEATURES, LABELS)
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match=f"of another search, which differs in: {named}. Give another path"):
        search(path, **arguments).fit(FEATURES, LABELS)
    assert path.read_bytes() == content


@pytest.mark.parametrize("named", ["X", "y, splits", "fit parameters"])
def test_the_checkpoint_of_other_data_is_refused(named: str, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    search(path).fit(FEATURES, LABELS)
    X = FEATURES.copy()
    X[35, 7] += 1e-6 if named == "X" else 0
    y = np.roll(LABELS, 1) if named == "y, splits" else LABELS
    given: dict[str, Any] = {"sample_weight": np.ones(36)} if named == "fit parameters" else {}
    with pytest.raises(CheckpointError, match=f"which differs in: {named}"):
        search(path).fit(X, y, **given)


def test_features_of_a_store_are_the_same_whatever_was_read_of_them(tmp_path: Path) -> None:
    from frofa.compute.digests import digest_data

    store, other = FeatureStore(tmp_path / "store"), FeatureStore(tmp_path / "other")
    for place in (store, other):
        place.put(SPEC, keys(range(12)), features(range(12)))
    lazy = store.features(SPEC, keys(range(12)))
    before = digest_data(lazy)
    np.asarray(lazy[3:5]), np.asarray(lazy)
    assert before == digest_data(lazy) == digest_data(other.features(SPEC, keys(range(12))))
    for changed in (lazy[:, :1], lazy[:, 1:], lazy[1:], lazy[::-1]):
        assert digest_data(changed) != before
    search = BatchedSearchCV(PrototypeClassifier(), {"temperature": [0.1]}, cv=2, checkpoint=tmp_path / "search.jsonl")
    for _ in range(2):
        search.fit(lazy, ["a", "b", "c"] * 4)


def test_images_are_told_apart_by_their_content(image_paths: list[str]) -> None:
    from frofa.compute.digests import digest_data

    before = digest_data(image_paths), digest_data(np.array(image_paths)), digest_data([Path(p) for p in image_paths])
    assert before[0] == digest_data(list(image_paths))
    Path(image_paths[3]).write_bytes(Path(image_paths[4]).read_bytes())
    assert digest_data(image_paths) != before[0]
    assert digest_data(np.array(image_paths)) != before[1]
    assert digest_data([Path(p) for p in image_paths]) != before[2]


def test_the_same_value_has_the_same_digest_in_every_process(tmp_path: Path) -> None:
    code = """
from functools import partial
import numpy as np, torch
from sklearn.metrics import accuracy_score, get_scorer
from frofa import FeatureStore, FrozenFeatureExtractor
from frofa.augmentations import Brightness, Posterize, Sequential
from frofa.estimators import MAPClassifier
from frofa.compute.digests import digest
values = [
    FrozenFeatureExtractor(store="features"), MAPClassifier(Sequential([Brightness(0.2), Posterize()])), {"a", "b", 1},
    get_scorer("roc_auc_ovr"), partial(accuracy_score, normalize=False), lambda X: X + 1, np.random.RandomState(0),
    np.random.default_rng(0), np.array(["x", None], object), {"b": 1, "a": 2.5}, torch.ones(3), range(3), np.float32,
]
print([digest(value) for value in values])
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(frofa.__file__).parents[1])}
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            cwd=tmp_path,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert len(set(json.loads(printed.pop().decode().replace("'", '"')))) == 13


def test_other_and_damaged_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    search(path).fit(FEATURES, LABELS)
    content = path.read_bytes()
    middle = content.index(b"\n", len(content) // 2) + 60
    for damaged, message in [
        (b"notes of mine", "not a checkpoint of a search"),
        (b"notes of mine\n", "not a checkpoint of a search"),
        (content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], "damaged in line"),
        (content[:10] + b"x" + content[11:], "not a checkpoint"),
    ]:
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=message):
            search(path).fit(FEATURES, LABELS)
        assert path.read_bytes() == damaged
    with pytest.raises(FileNotFoundError, match="absent"):
        search(tmp_path / "absent" / "search.jsonl").fit(FEATURES, LABELS)


def test_two_searches_cannot_write_to_one_file(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path / "search.jsonl"

    def nested(*_: Any) -> float:
        search(path).fit(FEATURES, LABELS)
        return 0.0

    with pytest.raises(CheckpointError, match="is in use"):
        search(path, scoring=nested, error_score="raise").fit(FEATURES, LABELS)


@pytest.mark.filterwarnings("ignore:(?s).*fits failed", "ignore:One or more of the t")
@pytest.mark.parametrize(
    "arguments",
    [
        {"estimator": LogisticProbeClassifier(), "grid": {"C": [0.1, -1.0]}},
        {"estimator": MAPClassifier(n_steps=4, random_state=0), "grid": {"augment": [None, Brightness(0.2)]}},
        {"scoring": ["accuracy", "neg_log_loss"], "refit": "accuracy"},
        {"halving": True, "min_resources": 12, "factor": 2, "random_state": 0, "cv": 2},
    ],
    ids=["failures", "augmentations", "metrics", "halving"],
)
def test_every_kind_of_search_resumes(arguments: dict[str, Any], tmp_path: Path, fitted: list[int]) -> None:
    path = tmp_path / "search.jsonl"
    first = search(path, **arguments).fit(FEATURES, LABELS)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))
    fitted.clear()
    again = search(path, **arguments).fit(FEATURES, LABELS)
    assert sum(fitted) == len(lines) - len(lines) // 2
    assert_same_results(again, first, atol=1e-4)
    assert_same_results(again, search(None, **arguments).fit(FEATURES, LABELS), atol=1e-4)


def test_ordinary_fits_are_kept_too(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    arguments: dict[str, Any] = {"estimator": LogisticRegression(), "grid": {"C": [0.1, 1.0, 10.0]}}
    with pytest.warns(BatchFallbackWarning):
        first = search(path, **arguments).fit(FEATURES, LABELS)
    again = search(path, **arguments).fit(FEATURES, LABELS)  # nothing is left to fit, so there is nothing to warn of
    assert_same_results(again, first, atol=0)
    np.testing.assert_array_equal(again.cv_results_["mean_score_time"], first.cv_results_["mean_score_time"])


CHILD = """
import sys
import numpy as np
from frofa.estimators import BatchedSearchCV, MAPClassifier
from frofa.estimators.searching import chunks as _search_chunks
from frofa.estimators.searching import run as _search_run
_search_run.FIRST_CHUNK_KEPT = 2
_search_chunks.ChunkSize.learn = lambda *arguments: None
rng = np.random.default_rng(0)
X, y = rng.normal(size=(60, 9, 16)).astype(np.float32), np.arange(60) % 3
head = MAPClassifier(None, n_steps=4, batch_size=32, random_state=0, device="cpu")
grid = {"lr": np.logspace(-3, -1, 8), "weight_decay": np.logspace(-4, 0, 4)}
path = sys.argv[1] if len(sys.argv) > 2 else None
search = BatchedSearchCV(head, grid, cv=3, scoring=["accuracy", "neg_log_loss"], refit=False, checkpoint=path)
results = search.fit(X, y).cv_results_
np.savez(sys.argv[-1], **{key: results[key] for key in results if key.startswith(("split", "mean_test", "rank"))})
"""


def test_a_killed_search_gives_the_undisturbed_result(tmp_path: Path) -> None:
    """Killed in FROFA_KILLS moments that are spread over the search at random."""
    environment = {**os.environ, "PYTHONPATH": str(Path(frofa.__file__).parents[1])}
    undisturbed, disturbed, path = tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "search.jsonl"
    python = [sys.executable, "-c", CHILD]
    subprocess.run([*python, str(undisturbed)], check=True, env=environment)
    rng, kept = random.Random(time.time_ns()), 0
    expected_bytes = 96 * 260
    for _ in range(KILLS):
        moment = (path.stat().st_size if path.exists() else 0) + rng.uniform(0, 1.2 * expected_bytes / (KILLS + 1))
        with subprocess.Popen([*python, str(path), str(disturbed)], env=environment) as process:
            while process.poll() is None and not (path.exists() and path.stat().st_size >= moment):
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
        lines = path.read_bytes().count(b"\n")
        assert lines >= kept
        kept = lines
        if disturbed.exists():  # it came to its end
            break
    assert kept > 1
    subprocess.run([*python, str(path), str(disturbed)], check=True, env=environment)
    one, other = np.load(undisturbed), np.load(disturbed)
    assert sorted(one) == sorted(other)
    for key in one:
        np.testing.assert_allclose(one[key], other[key], atol=1e-4, rtol=0)


def two_scores(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    return {"right": estimator.score(X, y), "wrong": 1 - estimator.score(X, y)}


@pytest.mark.parametrize(
    "arguments", [{"scoring": ["accuracy", "neg_log_loss"]}, {"scoring": two_scores}, {"return_train_score": False}]
)
def test_scores_of_every_form_come_back(arguments: dict[str, Any], tmp_path: Path, fitted: list[int]) -> None:
    path = tmp_path / "search.jsonl"
    first = search(path, refit=False, **arguments).fit(FEATURES, LABELS)
    fitted.clear()
    assert_same_results(search(path, refit=False, **arguments).fit(FEATURES, LABELS), first, atol=0)
    assert fitted == []


@pytest.mark.parametrize(
    ("number", "entry", "message"),
    [
        (0, {"frofa search": 1}, "not a checkpoint of a search .it has no 'search'"),
        (0, {"frofa search": 1, "search": ["X"]}, "expected dict as 'search'"),
        (0, {"frofa search": 1, "search": None}, "expected dict as 'search'"),
        (0, {"search": {}}, "not a checkpoint of a search of format 1"),
        (1, {}, "damaged in line 2 .it has no 'fit'"),
        (1, {"fit": [1], "result": {}}, "expected str as 'fit'"),
        (1, {"fit": "x", "result": [1]}, "expected dict as 'result'"),
        (1, {"fit": "x", "result": {}}, "no 'fit_error'"),
        (1, {"fit": "x", "result": {"fit_error": None, "n_test_samples": 3}}, "expected numbers as 'fit_time'"),
        (1, {"fit": "x", "result": {**RESULT, "test_scores": {"a": 1.0}}}, "expected numbers as 'test_scores'"),
        (1, {"fit": "x", "result": {**RESULT, "test_scores": 10**400}}, "expected numbers as 'test_scores'"),
        (1, {"fit": "x", "result": {**RESULT, "train_scores": None}}, "expected numbers as 'train_scores'"),
        (1, {"fit": 200 * [0]}, "expected str as 'fit'"),
        (1, {"fit": json.loads(200 * "[" + 200 * "]")}, "more than 100 lists"),
    ],
)
def test_forged_lines_are_refused(number: int, entry: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    search(path).fit(FEATURES, LABELS)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = _line(entry)
    path.write_bytes(b"".join(lines))
    with pytest.raises(CheckpointError, match=message):
        search(path).fit(FEATURES, LABELS)
    assert path.read_bytes() == b"".join(lines)


def test_a_line_nested_too_deeply_for_python_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    search(path).fit(FEATURES, LABELS)
    text = '{"fit": ' + 100_000 * "[" + 100_000 * "]" + "}"
    with path.open("ab") as file:
        file.write(b"%s%s%s%s\n" % (SUM[0], _sum(text), SUM[1], text[1:].encode()))
    with pytest.raises(CheckpointError, match=r"line 38 \(more than 100 lists"):
        search(path).fit(FEATURES, LABELS)
