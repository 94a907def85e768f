"""A small study from images to report, killed and resumed; and the heads it trains at once."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import run as frofa

from frofa.augmentations import Brightness, MixUp, PatchDropout
from frofa.estimators import MAPClassifier
from frofa.estimators.batched.trials import Samples, Trial, fit_heads, predict_heads
from frofa.estimators.training.schedule import Schedule
from frofa.study import Study, report_study, run_study
from frofa.study.data import short_name, split_images
from frofa.study.plan import COARSE, FINE, NAMES, map_plans, probe_plans
from frofa.study.results import Candidate, read_results

SCHEDULE = Schedule(0.0, 20, 8, 0.0, 0.9, 2, "cosine", 1.0)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twelve train and six test images of each of three colours."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 12), ("test", 6)):
        for channel, name in enumerate(("blue", "green", "red")):
            (tmp_path / "colours" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 128, (40, 40, 3), np.uint8)
                pixels[..., 2 - channel] += 100
                Image.fromarray(pixels).save(tmp_path / "colours" / split / name / f"{i}.png")
    return tmp_path / "colours"


def small(images: Path, backbone: str, **changes: Any) -> Study:
    options: dict[str, Any] = {"shots": (1, 3), "n_seeds": 2, "quick": True, "device": "cpu", "n_jobs": 1}
    options |= {"heads": ("map", "probes"), "augmentations": ("brightness", "crop", "trivialaugment")}
    return Study([images], [backbone], images.parent / "out", **{**options, **changes})


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.study.fit.N_STEPS", 12)


def test_a_study_is_resumed_where_it_was_killed(images: Path, small_vit: str) -> None:
    study, said = small(images, small_vit), list[str]()
    results = run_study(study, said.append)
    n_maps = len(map_plans(COARSE, with_cls=True, augmentations=study.augmentations))
    assert len(results) == 2 * 2 * (n_maps + len(list(probe_plans(0))))
    assert any("MAP heads of 12 steps: about" in line for line in said)
    whole = study.results_file.read_text()
    lines = whole.splitlines(keepends=True)
    study.results_file.write_text("".join(lines[:31]) + lines[31][:9])  # killed in the middle of a line
    assert len(read_results(study.results_file)) == 30
    run_study(study, said.append)
    assert sorted(study.results_file.read_text().splitlines()) == sorted(whole.splitlines()), "the same numbers again"
    before = study.results_file.stat().st_mtime_ns
    run_study(study, said.append)
    assert study.results_file.stat().st_mtime_ns == before, "nothing left to do"


def test_the_report_says_what_was_run(images: Path, small_vit: str) -> None:
    study = small(images, small_vit, command="frofa study colours", heads=("map",))
    run_study(study, lambda _: None)
    text = report_study(study).read_text()
    assert "frofa study colours" in text
    assert "30 training, 6 validation and 18 test images, 3 classes, tokens 16 x 16" in text
    assert str(images.parent) not in text, "no directory of this machine"
    assert (study.out / "brightness.png").stat().st_size > 1000


def test_shots_that_images_do_not_suffice_for_are_an_error(images: Path, small_vit: str) -> None:
    with pytest.raises(ValueError, match=r"11 shots take as many training images .* leaves 10 of"):
        run_study(small(images, small_vit, shots=(1, 11)), lambda _: None)
    said = list[str]()
    run_study(small(images, small_vit, shots=(10,), heads=("map",), augmentations=("crop",)), said.append)
    assert any("too few images for disjoint support samples at 10 shots" in line for line in said)


def test_a_study_checks_what_it_is_asked(images: Path, small_vit: str) -> None:
    with pytest.raises(ValueError, match=r"unknown augmentations: blur. There are: brightness, contrast"):
        small(images, small_vit, augmentations=("blur",))
    with pytest.raises(ValueError, match="shots must be at least 1"):
        small(images, small_vit, shots=(0, 1))
    with pytest.raises(ValueError, match=r"different names. Got twice: colours"):
        Study([images, images], [small_vit], images.parent)


def test_one_folder_is_split(images: Path) -> None:
    paths, labels, is_test = split_images(images / "train")
    assert len(paths) == 36
    assert [int(is_test[labels == name].sum()) for name in ("blue", "green", "red")] == [4, 4, 4]
    again = split_images(images / "train")[2]
    assert np.array_equal(is_test, again)


def test_support_validation_and_test_share_no_image(images: Path, small_vit: str) -> None:
    from frofa.study.data import load_study_data

    data = load_study_data(images, small_vit, images.parent / "store", 3, device="cpu", n_jobs=1)
    samples, disjoint = data.support(3, 3)
    rows = [*samples, data.validation, data.test]
    assert disjoint
    assert len(np.unique(np.concatenate(rows))) == sum(map(len, rows))
    assert data.features["cls"].shape == (54, 16)
    for sample in samples:
        assert np.unique(data.y[sample], return_counts=True)[1].tolist() == [3, 3, 3]


def test_some_of_the_features_come_with_the_same_split(images: Path, small_vit: str) -> None:
    from frofa.study.data import load_study_data

    store = images.parent / "store"
    whole = load_study_data(images, small_vit, store, 3, device="cpu", n_jobs=1)
    pooled = load_study_data(images, small_vit, store, 3, device="cpu", n_jobs=1, outputs=["pooled"])
    assert list(pooled.features) == ["pooled"]
    assert np.array_equal(pooled.features["pooled"], whole.features["pooled"])
    assert np.array_equal(pooled.pool, whole.pool)
    assert pooled.fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    "name", ["local-dir:/home/me/models/vit_x", "hf-dir:vit_x", "hf-hub:timm/vit_x", "vit_x", "frofa/vit_x"]
)
def test_names_of_backbones_hold_no_directory(name: str) -> None:
    assert short_name(name) == "vit_x"


@pytest.mark.parametrize("grid", [FINE, COARSE])
def test_a_plan_has_every_augmentation_once(grid: Any) -> None:
    plans = map_plans(grid, with_cls=True)
    candidates = [plan.candidate for plan in plans]
    assert len(set(candidates)) == len(candidates)
    assert {candidate.augmentation for candidate in candidates} == {*NAMES, "none"}
    assert Candidate("MAP") in candidates, "the library's defaults, without augmentation"
    for plan in plans:
        if plan.augment is not None:
            plan.augment.validate()
            assert plan.candidate.setting == ""


def test_the_plan_trains_as_the_head_does_by_default() -> None:
    from frofa.study.plan import LR, N_STEPS, WEIGHT_DECAY

    head = MAPClassifier()
    assert (head.lr, head.weight_decay, head.n_steps, head.batch_size) == (LR, WEIGHT_DECAY, N_STEPS, 64)


def samples(n_samples: int = 2) -> Samples:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(n_samples, 12, 9, 32, generator=generator)
    tokens[..., 0] += 3 * torch.arange(12).remainder(3)[:, None]
    return Samples(tokens, torch.eye(3)[torch.arange(12) % 3].expand(n_samples, -1, -1), list(range(n_samples)))


def test_a_trial_does_not_depend_on_the_others() -> None:
    trials = [
        Trial(None, 0.03, 0.0),
        Trial(Brightness(0.3), 0.03, 0.02),
        Trial(MixUp(0.4), 0.01, 0.02),
        Trial(PatchDropout(), 0.03, 0.1),
    ]
    together = fit_heads(samples(), trials, SCHEDULE)
    for i, trial in enumerate(trials):
        alone = fit_heads(samples(), [trial], SCHEDULE)
        for name, value in alone.items():
            torch.testing.assert_close(together[name][2 * i : 2 * i + 2], value, rtol=1e-4, atol=1e-6, msg=name)


def test_samples_are_not_mixed() -> None:
    """The head of a sample does not change with the images of another one."""
    both, trial = samples(), [Trial(MixUp(0.4), 0.03, 0.0)]
    together = fit_heads(both, trial, SCHEDULE)
    changed = Samples(both.tokens.clone(), both.targets, both.seeds)
    changed.tokens[1] += 1
    other = fit_heads(changed, trial, SCHEDULE)
    assert all(torch.equal(other[name][0], value[0]) for name, value in together.items())
    assert not all(torch.equal(other[name][1], value[1]) for name, value in together.items())


def test_predictions_of_all_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = fit_heads(samples(), [Trial(None, 0.03, 0.0), Trial(None, 0.1, 0.0)], SCHEDULE)
    tokens = samples(1).tokens[0]
    predicted = predict_heads(trained, tokens)
    assert predicted.shape == (4, 12)
    assert (predicted == torch.arange(12) % 3).float().mean() > 0.9
    monkeypatch.setattr("frofa.estimators.batched.trials.PASS_ELEMENTS", 1)
    assert torch.equal(predict_heads(trained, tokens), predicted)


def test_command_line(images: Path, small_vit: str, capsys: pytest.CaptureFixture[str]) -> None:
    images = images.rename(os.fsdecode(bytes(images.parent) + b"/caf\xe9"))
    out = images.parent / "study"
    options = ["--backbone", small_vit, "--shots", "1", "--seeds", "2", "--quick", "--augmentations", "brightness"]
    machine = ["--device", "cpu", "--n-jobs", "1"]
    arguments = ["study", str(images), "--heads", "map", "probes", *options, "--out", str(out), *machine]
    assert frofa(*arguments) == 0
    captured = capsys.readouterr()
    assert f"report: {out / 'report.md'}" in captured.out
    assert captured.out.count("MAP heads of 12 steps: about") == 1
    assert captured.err == ""
    assert {result.dataset for result in read_results(out / "results.csv")} == {r"caf\xe9"}
    assert r"caf\xe9" in (out / "report.md").read_text("utf-8")
    assert frofa("study", images, "--augmentations", "blur") == 1
    assert "unknown augmentations: blur" in capsys.readouterr().err


def test_results_of_other_images_of_the_same_name_are_refused(images: Path, small_vit: str) -> None:
    study = small(images, small_vit, shots=(1,), heads=("probes",))
    whole = run_study(study, lambda _: None)
    (images / "train" / "blue" / "0.png").rename(images / "train" / "blue" / "other.png")
    with pytest.raises(ValueError, match=r"holds results of colours, .* with other images, another split"):
        run_study(study, lambda _: None)
    assert read_results(study.results_file) == whole


def test_too_few_seeds_are_said(images: Path, small_vit: str) -> None:
    said = list[str]()
    run_study(small(images, small_vit, shots=(1,), heads=("probes",)), said.append)
    assert said[0].startswith("2 seeds are too few for intervals")
    said.clear()
    run_study(small(images, small_vit, shots=(1,), heads=("probes",), n_seeds=3), said.append)
    assert "too few" not in said[0]


def test_augmentations_of_probes_can_be_left_out(images: Path, small_vit: str) -> None:
    results = run_study(
        small(images, small_vit, shots=(1,), heads=("probes",), augmentations=("crop",)), lambda _: None
    )
    assert {result.augmentation for result in results} == {"none"}


@pytest.mark.filterwarnings("ignore::frofa.exceptions.SkippedImagesWarning")
def test_images_that_cannot_be_read_are_counted(
    images: Path, small_vit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "train" / "blue" / "0.png").write_bytes(b"no image")
    options = ["--backbone", small_vit, "--shots", "1", "--seeds", "2", "--heads", "probes", "--device", "cpu"]
    assert frofa("study", images, *options, "--out", images.parent / "study") == 3
    assert "1 images could not be read" in capsys.readouterr().out


def test_train_without_test_is_an_error(images: Path) -> None:
    (images / "test").rename(images.parent / "elsewhere")
    with pytest.raises(ValueError, match="has train/ but not both"):
        split_images(images)
