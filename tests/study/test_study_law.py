"""The law of weights, sparsity and labels: against a known one, and from images to report, killed and resumed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frofa.cli import main
from frofa.study import Study, report_law, run_law
from frofa.study.law.checks import advice, checks
from frofa.study.law.results import LawResult, read_law_results, write_law_results
from frofa.study.law.surface import fit_surface

EMBEDDED = "frofa/vit_tiny_tin200"
SIZES = {"small": 2e6, "middle": 6e6, "large": 20e6}


def true_error(n_kept: float, zeros: float, shots: float) -> float:
    """The law with parameters of its own, N in 6 million."""
    return float((0.08 * (1 - zeros) ** -0.8 + 0.05) * (n_kept / 6e6) ** -0.3 + 0.3 * shots**-0.5 + 0.03)


def simulated(noise: float = 0.03, shots: Sequence[int] = (1, 2, 5, 10, 25), seeds: int = 6) -> list[LawResult]:
    rng = np.random.default_rng(0)
    return [
        LawResult("made", name, s, int(n), int(n * (1 - s)), k, seed, 10, 1000, 1 - error, "print")
        for name, n in SIZES.items()
        for s in (0.0, 0.25, 0.5)
        for k in shots
        for seed in range(seeds)
        for error in [true_error(n * (1 - s), s, k) * np.exp(noise * rng.standard_normal())]
    ]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.study.law.surface.N_DRAWS", 30)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six train and four test images of each of two colours."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 6), ("test", 4)):
        for channel, name in enumerate(("blue", "red")):
            (tmp_path / "colours" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 160, (24, 24, 3), np.uint8)
                pixels[..., 2 - 2 * channel] += 60
                Image.fromarray(pixels).save(tmp_path / "colours" / split / name / f"{i}.png")
    return tmp_path / "colours"


def test_a_known_law_is_found_and_goes_on_beyond_what_was_measured() -> None:
    surface = fit_surface(simulated())
    for name, n in SIZES.items():
        for zeros in (0.0, 0.5):
            foretold = surface.predict(n * (1 - zeros), zeros, 100, name)
            real = 1 - true_error(n * (1 - zeros), zeros, 100)
            assert foretold.mean == pytest.approx(real, abs=0.02)
            assert foretold.low <= real + 0.005
            assert foretold.high >= real - 0.005
    # A backbone that was not measured: the law of sizes, with a wider interval.
    other, known = surface.predict(12e6, 0, 10), surface.predict(6e6, 0, 10, "middle")
    assert other.mean == pytest.approx(1 - true_error(12e6, 0, 10), abs=0.03)
    assert other.half_width > 3 * known.half_width
    assert surface.parameters["b_S"] < 0
    with pytest.raises(ValueError, match=r"one of large, middle, small, or None. Got 'huge'"):
        surface.predict(1e6, 0, 1, "huge")


def test_checks_foretell_what_was_left_out() -> None:
    found = checks(simulated())
    assert [(one.what, one.n) for one in found] == [
        ("25 shots from 10 and less", 9),
        ("sparsity 0.25 from the others", 15),
    ]
    assert all(one.rms < 2 and one.coverage > 0.7 for one in found)


def test_advice_names_the_best_and_the_lightest() -> None:
    results = simulated()
    first, last = advice(fit_surface(results), results, [1, 100])
    assert last.best == ("large", 0.0)
    assert last.chance > 0.5
    assert last.low < last.accuracy < last.high
    assert last.small_kept <= 20e6
    assert first.accuracy < last.accuracy


def test_a_law_needs_one_set_and_several_shots() -> None:
    with pytest.raises(ValueError, match="at 2 numbers of shots at least"):
        fit_surface(simulated(shots=(5,)))
    with pytest.raises(ValueError, match="one set of images"):
        fit_surface([*simulated(), replace(simulated()[0], dataset="other")])


def test_results_are_read_as_written(tmp_path: Path) -> None:
    results = [replace(one, accuracy=round(one.accuracy, 5)) for one in simulated(seeds=1)]
    write_law_results(tmp_path / "law.csv", results)
    assert read_law_results(tmp_path / "law.csv") == results
    (tmp_path / "law.csv").write_text("head,shots\n")
    with pytest.raises(ValueError, match="no file of a law"):
        read_law_results(tmp_path / "law.csv")


def study(images: Path, *backbones: str, **changes: Any) -> Study:
    options: dict[str, Any] = {"shots": (1, 3), "n_seeds": 2, "sparsities": (0, 0.5), "device": "cpu", "n_jobs": 1}
    return Study([images], backbones, images.parent / "out", **{**options, **changes})


def test_the_command_measures_and_reports(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = images.parent / "out"
    command = ["study", str(images), "--law", "--sparsity", "0", "0.5", "0.9", "--shots", "1", "2", "--seeds", "2"]
    assert main([*command, "--out", str(out), "--device", "cpu", "--n-jobs", "1"]) == 0
    results = read_law_results(out / "law.csv")
    assert len(results) == 3 * 2 * 2
    kept = {one.sparsity: one.n_kept / one.n_weights for one in results}
    # Nearly all weights of this model lie in its blocks' linear layers.
    assert [kept[s] for s in (0.0, 0.5, 0.9)] == pytest.approx([1, 0.51, 0.12], abs=0.03)
    text = (out / "law.md").read_text()
    assert "Which backbone for so many labels" in text
    assert "vit_tiny_tin200, sparsity 0.9" in text or "| vit_tiny_tin200 | 0.9 |" in text
    assert str(images.parent) not in text.replace(str(images), "").replace(str(out), "")
    assert (out / "law.png").stat().st_size > 1000
    assert "sparsity 0.9:" in capsys.readouterr().out


def test_a_law_is_resumed_and_other_images_are_refused(images: Path, small_vit: str) -> None:
    whole = study(images, small_vit)
    results, said = run_law(whole, lambda _: None), list[str]()
    assert len(results) == 2 * 2 * 2
    write_law_results(whole.law_file, results[:4])
    assert sorted(map(repr, run_law(whole, said.append))) == sorted(map(repr, read_law_results(whole.law_file)))
    assert len(said) == 1, "what is there is not measured again"
    next((images / "train" / "red").iterdir()).unlink()
    with pytest.raises(ValueError, match="other images or other weights"):
        run_law(whole, said.append)


def test_what_cannot_be_pruned_takes_part_as_it_is(images: Path, save_backbone: Any) -> None:
    said = list[str]()
    results = run_law(study(images, save_backbone("resnet10t")), said.append)
    assert {one.sparsity for one in results} == {0.0}
    assert any("takes part as it is only: sparsity=0.5 is for the linear layers" in line for line in said)
    with pytest.raises(ValueError, match=r"sparsities must be from 0 to below 1. Got 1"):
        study(images, EMBEDDED, sparsities=(0, 1))
    with pytest.raises(ValueError, match=r"expected results in .*law.csv. Got none"):
        report_law(replace(study(images, EMBEDDED), out=images.parent / "elsewhere"))
