"""frofa bench-backbone: each side's speed and accuracy, the same samples for all, and errors of one side alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frofa import FrozenFeatureExtractor, load_image_folder
from frofa.cli import main
from frofa.doctor import precisions as bench
from frofa.doctor.checks import cost


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "MEASURED_SECONDS", 0.0)


def test_sides_have_rates_and_accuracies(small_vit: str, image_folder: Path) -> None:
    paths, labels = load_image_folder(image_folder)
    extractor = FrozenFeatureExtractor(small_vit, device="cpu")
    sides = list(bench.compare_sides(extractor, paths, labels, shots=2, n_seeds=3))
    assert [side.name for side in sides] == ["float32", "bfloat16", "2:4", "int8"]
    for side in sides:
        assert side.error is None
        assert side.images_per_second > 0
        assert len(side.accuracies) == 3
        assert all(0 <= accuracy <= 100 for accuracy in side.accuracies)
    assert extractor.get_params() == FrozenFeatureExtractor(small_vit, device="cpu").get_params()


def test_accuracy_is_of_the_images_that_the_probe_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 10)
    features = rng.normal(size=(20, 4)).astype(np.float32)
    features[:, 0] = np.where(labels == "a", 5, -5)
    support = np.array([0, 1, 2, 10, 11, 12])
    assert bench._accuracy(features, labels, support) == 100.0
    features[support, 0] *= -1  # what was learnt is the reverse of what is tested
    assert bench._accuracy(features, labels, support) == 0.0


def test_a_side_that_fails_says_why_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_vit: str, image_folder: Path
) -> None:
    measure: Callable[..., Any] = bench._measure

    def failing(extractor: Any, name: str, *rest: Any) -> Any:
        if name == "int8":
            raise RuntimeError("no kernel\nhere")
        return measure(extractor, name, *rest)

    monkeypatch.setattr(bench, "_measure", failing)
    command = ["bench-backbone", small_vit, str(image_folder), "--shots", "2", "--seeds", "2", "--device", "cpu"]
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "int8      failed: RuntimeError: no kernel here"
    assert lines[-2].startswith("2:4 ")


def test_gpus_have_no_int8_side() -> None:
    assert bench.sides_for(torch.device("cpu")) == ["float32", "bfloat16", "2:4", "int8"]
    assert bench.sides_for(torch.device("cuda")) == ["float32", "bfloat16", "2:4"]


def test_unreadable_images_are_skipped_by_all_sides(
    capsys: pytest.CaptureFixture[str], small_vit: str, image_folder: Path, tmp_path: Path
) -> None:
    (image_folder / "red" / "0.jpg").write_bytes(b"not an image")
    out = tmp_path / "skipped.csv"
    command = ["bench-backbone", small_vit, str(image_folder), "--shots", "1", "--seeds", "2", "--device", "cpu"]
    assert main([*command, "--sides", "float32", "2:4", "--skipped", str(out)]) == 3
    captured = capsys.readouterr()
    assert "ridge probe at 1 shots, 2 support samples, 11 images" in captured.out
    assert "0.jpg" in out.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shots", "4"], "4 shots and a test take 5 images a class. Got 4 of blue"),
        (["--sides", "float32", "fp4"], "sides must be of float32, bfloat16, 2:4, int8. Got fp4"),
    ],
)
def test_wrong_options(
    capsys: pytest.CaptureFixture[str], small_vit: str, image_folder: Path, options: list[str], message: str
) -> None:
    assert main(["bench-backbone", small_vit, str(image_folder), "--device", "cpu", *options]) == 1
    assert message in capsys.readouterr().err
