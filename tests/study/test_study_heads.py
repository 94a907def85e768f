"""The comparison of heads on a few images: its fits, what they are scored by, and that a killed one goes on."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.preprocessing import StandardScaler

from frofa.blocks import FeatureBlocks
from frofa.estimators import FewShotClassifier, LogisticProbeClassifier, MAPClassifier, RidgeProbeClassifier
from frofa.evaluation import calibration_error, log_loss
from frofa.study import Study, report_study, run_study
from frofa.study.heads.blends import predict_blends
from frofa.study.heads.contenders import high_contender, map_contenders, probe_contenders
from frofa.study.heads.inputs import unit_blocks
from frofa.study.heads.probes import fit_grid, predict_grid, settings
from frofa.study.heads.scoring import score
from frofa.study.results import COLUMNS, read_results

N_CANDIDATES = 3 * len(settings()) + len(probe_contenders())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eight train and four test images of each of three colours."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 8), ("test", 4)):
        for channel, name in enumerate(("blue", "green", "red")):
            (tmp_path / "colours" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 160, (24, 24, 3), np.uint8)
                pixels[..., 2 - channel] += 60
                Image.fromarray(pixels).save(tmp_path / "colours" / split / name / f"{i}.png")
    return tmp_path / "colours"


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.study.heads.contenders.MAPClassifier", partial(MAPClassifier, n_steps=4))
    blend = partial(FewShotClassifier, n_steps=4, n_folds=2)
    monkeypatch.setattr("frofa.study.heads.contenders.FewShotClassifier", blend)


def small(images: Path, backbone: str, **changes: Any) -> Study:
    options: dict[str, Any] = {"shots": (1, 3), "n_seeds": 3, "quick": True, "device": "cpu", "n_jobs": 1}
    return Study([images], [backbone], images.parent / "out", **{**options, **changes})


def test_a_comparison_is_resumed_where_it_was_killed(images: Path, small_vit: str) -> None:
    study, said = small(images, small_vit), list[str]()
    results = run_study(study, said.append)
    assert len(results) == 2 * 3 * N_CANDIDATES
    assert any("output='auto' is pooled and mean, 6 views" in line for line in said)
    whole = study.results_file.read_text()
    lines = whole.splitlines(keepends=True)
    study.results_file.write_text("".join(lines[:40]) + lines[40][:9])
    run_study(study, said.append)
    assert COLUMNS[-1] == "seconds"
    numbers = [
        sorted(line.rpartition(",")[0] for line in text.splitlines())
        for text in (whole, study.results_file.read_text())
    ]
    assert numbers[0] == numbers[1], "the same numbers again, but for the time that they took"
    before = study.results_file.stat().st_mtime_ns
    run_study(study, said.append)
    assert study.results_file.stat().st_mtime_ns == before, "nothing left to do"


@pytest.mark.usefixtures("few_steps")
def test_all_heads_are_compared_and_reported(images: Path, small_vit: str) -> None:
    study = small(images, small_vit, quick=False, shots=(3,))
    results = run_study(study, lambda _: None)
    candidates = {result.candidate for result in results}
    assert {one.candidate for one in (*map_contenders("cpu"), high_contender("cpu"))} <= candidates
    assert len(candidates) == N_CANDIDATES + 4
    high = [result for result in results if result.head == "FewShot high"]
    assert all(0 <= result.calibration <= 100 and result.seconds > 0 for result in high)
    text = report_study(study).read_text()
    assert text.startswith("# Study of few-shot heads")
    for part in ("## The bar", "## Calibration", "## Against the oracle probe", "| FewShot high |", "accuracy.png"):
        assert part in text
    assert "MAP default" not in text, "nothing on augmentations, which were not studied"


def test_both_kinds_of_studies_share_a_directory(images: Path, small_vit: str) -> None:
    heads = small(images, small_vit, shots=(3,))
    run_study(heads, lambda _: None)
    run_study(small(images, small_vit, shots=(3,), heads=("probes",), augmentations=("crop",)), lambda _: None)
    text = report_study(heads).read_text()
    assert "## The bar" in text
    assert "best probe" in text


def test_results_of_earlier_versions_are_read_and_added_to(images: Path, small_vit: str) -> None:
    study = small(images, small_vit, shots=(3,), heads=("probes",), augmentations=("crop",))
    before = run_study(study, lambda _: None)
    old = ["head", "augmentation", "variant", "level", "setting", "dataset", "backbone", "shots", "seed"]
    lines = [",".join([*old, "validation", "test"])]
    for row in before[:5]:
        lines.append(",".join([*(str(getattr(row, name)) for name in old), f"{row.validation:.2f}", f"{row.test:.2f}"]))
    study.results_file.write_text("\n".join(lines) + "\n")
    assert [row.candidate for row in read_results(study.results_file)] == [row.candidate for row in before[:5]]
    after = run_study(study, lambda _: None)
    assert {(row.candidate, row.seed, row.test) for row in after} == {(r.candidate, r.seed, r.test) for r in before}


def test_scores_are_those_of_the_library() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), (3, 50))
    codes = rng.integers(0, 4, 50)
    found = score(torch.as_tensor(probabilities).log(), torch.as_tensor(codes))
    for i, each in enumerate(probabilities):
        assert found.accuracy[i].item() == pytest.approx(100 * (each.argmax(1) == codes).mean())
        assert found.log_loss[i].item() == pytest.approx(log_loss(codes, each, range(4)))
        assert found.calibration[i].item() == pytest.approx(100 * calibration_error(codes, each, range(4)))
    together = calibration_error(np.tile(codes, 3), probabilities.reshape(-1, 4), range(4))
    assert found.pooled == pytest.approx(100 * together)


def test_the_floor_of_the_calibration_error_is_that_of_perfect_probabilities() -> None:
    rng = np.random.default_rng(0)
    errors, floors = [], []
    for _ in range(200):
        each = rng.dirichlet(np.ones(3), 300)
        codes = (rng.random((300, 1)) > each.cumsum(1)).sum(1)
        found = score(torch.as_tensor(each)[None].log(), torch.as_tensor(codes))
        errors.append(found.calibration.item())
        floors.append(found.floor.item())
    assert np.mean(errors) == pytest.approx(np.mean(floors), rel=0.05)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_grid_is_that_of_the_probes(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    codes = np.tile(np.arange(n_classes), 20)
    features = rng.normal(size=(len(codes), 6)) + codes[:, None] * rng.normal(size=6)
    blocks = FeatureBlocks({"a": [features[:, :2]], "b": [features[:, 2:]]})
    unit = unit_blocks(blocks)
    assert np.linalg.norm(unit, axis=1) == pytest.approx(1)
    samples = [np.arange(0, 3 * n_classes), np.arange(3 * n_classes, 6 * n_classes)]
    device = torch.device("cpu")
    fits = {(one.head, one.setting): one for one in fit_grid(features, unit, codes, samples, device)}
    assert list(fits) == settings()
    tensors = torch.as_tensor(features), torch.as_tensor(unit)
    for i, rows in enumerate(samples):
        scaler = StandardScaler().fit(features[rows])
        probe = LogisticProbeClassifier(0.1).fit(scaler.transform(features[rows]), codes[rows])
        scores = predict_grid(fits["logistic", "standardised C=0.1"], *tensors)[i].softmax(1).numpy()
        assert scores == pytest.approx(probe.predict_proba(scaler.transform(features)), abs=1e-3)
        probe = LogisticProbeClassifier(10.0).fit(unit[rows], codes[rows])
        scores = predict_grid(fits["logistic", "unit C=10"], *tensors)[i].softmax(1).numpy()
        assert scores == pytest.approx(probe.predict_proba(unit), abs=1e-3)
        ridge = RidgeProbeClassifier(10.0).fit(features[rows], codes[rows])
        scores = predict_grid(fits["ridge", "alpha=10"], *tensors)[i].numpy()
        assert np.array_equal(scores.argmax(1), ridge.predict(features))


def test_blends_predict_as_they_do_by_themselves() -> None:
    rng = np.random.default_rng(0)
    codes = np.tile(np.arange(3), 12)
    # Tokens say what an image is, and vectors do not.
    tokens = [rng.normal(size=(36, 9, 32)).astype(np.float32) + np.eye(3, 32)[codes][:, None] for _ in range(2)]
    blocks = FeatureBlocks({"noise": [rng.normal(size=(36, 4)) for _ in range(2)], "tokens": tokens})
    heads = [
        FewShotClassifier("high", n_steps=40, n_folds=2, random_state=seed, device="cpu").fit(blocks[::2], codes[::2])
        for seed in range(2)
    ]
    assert any((head.weights_[1:] > 0).any() for head in heads), "a head on tokens counts"
    found = predict_blends(heads, blocks, torch.device("cpu"))
    assert found == pytest.approx(np.stack([head.predict_proba(blocks) for head in heads]), abs=1e-5)
