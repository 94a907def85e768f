"""The command line: what it writes, its exit codes, and errors on one line."""

import argparse
import csv
import io
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.pipeline import make_pipeline

import frofa
from frofa.cli import build_parser, main
from frofa.estimators import RidgeProbeClassifier


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for shade, name in ((40, "daisy"), (200, "rose")):
        folder = tmp_path / "flowers" / name
        folder.mkdir(parents=True)
        for index in range(6):
            pixels = np.clip(rng.normal(shade, 30, (40, 60, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "flowers"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_extract_writes_aligned_arrays(flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("extract", flowers, "--out", "f.npz") == 0
    assert "12 images computed now" in capsys.readouterr().out
    with np.load("f.npz", allow_pickle=False) as arrays:
        assert arrays["features"].shape == (12, 192)
        assert [Path(path).parent.name for path in arrays["paths"]] == arrays["labels"].tolist()
    assert run("extract", flowers, "--out", "again.npz") == 0
    assert "0 images computed now" in capsys.readouterr().out
    assert Path("f.npz").read_bytes() == Path("again.npz").read_bytes()
    assert run("extract", flowers / "rose", "--out", "flat.npz", "--output", "tokens", "--dtype", "float16") == 0
    with np.load("flat.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"features", "paths"}
        assert arrays["features"].dtype == np.float16


def test_a_model_rejects_images_of_no_class(flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = frofa.ImageClassifier(n_views=2, device="cpu").fit(*frofa.load_image_folder(flowers))
    model.save("m.frofa")
    stripes = np.zeros((40, 60, 3), np.uint8)
    stripes[::4] = 255
    Image.fromarray(stripes).save("stripes.png")
    assert run("predict", "m.frofa", flowers, "stripes.png", "--reject", "0.1", "--out", "p.csv") == 0
    rows = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    p_values = model.novelty_p_value([row["path"] for row in rows])
    assert [float(row["novelty_p_value"]) for row in rows] == pytest.approx(p_values, abs=1e-4)
    assert [row["label"] == "none of these" for row in rows] == (p_values < 0.1).tolist()
    assert rows[-1]["label"] == "none of these"
    said = capsys.readouterr().err
    assert f"rejected {int((p_values < 0.1).sum())} of 13 images" in said
    # Of known images, without the stripes.
    truth = np.array([row["true_label"] for row in rows])[:12]
    rejected, right = p_values[:12] < 0.1, np.array([row["label"] for row in rows])[:12] == truth
    assert not (rejected & right).any()
    part = f"{100 * right.mean():.1f} % of 12 images"
    if rejected.any():
        part += f", of which {rejected.sum()} rejected (counted as wrong); {100 * right[~rejected].mean():.1f} % of"
    assert f"accuracy {part}" in said
    # A model that rejects by itself needs no option.
    model.set_params(reject=0.1).save("r.frofa")
    assert run("predict", "r.frofa", flowers, "stripes.png", "--out", "r.csv") == 0
    assert Path("r.csv").read_bytes() == Path("p.csv").read_bytes()
    assert run("predict", "m.frofa", flowers, "--reject", "0.05") == 1
    said = capsys.readouterr().err
    assert "--reject 0.05 needs a model of 19 images or more to compare with. This one has 12 of" in said
    assert "--reject 0.077 or more" in said
    assert "FewShotClassifier" not in said


def test_a_model_of_several_outputs_and_views_predicts(flowers: Path) -> None:
    paths, labels = frofa.load_image_folder(flowers)
    extractor = frofa.FrozenFeatureExtractor(output="auto", n_views=3)
    model = make_pipeline(extractor, RidgeProbeClassifier()).fit(paths, labels)
    frofa.save(model, "m.frofa")
    assert run("predict", "m.frofa", flowers, "--out", "p.csv", "--store", "kept") == 0
    with Path("p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == model.predict([row["path"] for row in rows]).tolist()
    assert len(frofa.FeatureStore("kept").specs()) == 6  # two outputs of three views


def test_unreadable_images_are_skipped_and_reported(flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (flowers / "rose" / "bad.png").write_text("no image")
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of these tests
        assert run("extract", flowers, "--out", "f.npz") == 3
    assert re.search(r"frofa: warning: skipped 1 of 13 images: .*bad\.png", capsys.readouterr().err)
    with np.load("f.npz") as arrays:
        assert arrays["features"].shape[0] == len(arrays["labels"]) == 12
    assert run("extract", flowers, "--out", "g.npz", "--fail-fast") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("frofa: error: could not read the image at position 12")
    assert "bad.png" in error
    assert not Path("g.npz").exists()


@pytest.mark.parametrize("head", ["ridge", "soft-moe", "map"])
def test_fit_and_predict(head: str, flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", flowers, "--out", "m.frofa", "--head", head, "--shots", 4) == 0
    assert f"{head} on frofa/vit_tiny_tin200, 8 images, 2 classes" in capsys.readouterr().out
    assert run("predict", "m.frofa", flowers / "rose", flowers / "daisy" / "5.png") == 0
    text = capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert "\r" not in text
    assert [row["label"] for row in rows] == ["rose"] * 6 + ["daisy"]
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)
    assert run("predict", "m.frofa", flowers, "--out", "p.csv") == 0
    assert len(Path("p.csv").read_text().splitlines()) == 13


def test_the_default_is_an_image_classifier(flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", flowers, "--out", "m.frofa", "--views", 2, "--no-mirror") == 0
    first, last = capsys.readouterr().out.splitlines()
    model = frofa.ImageClassifier.load("m.frofa")
    assert (model.n_views, model.mirror, model.effort, model.verbose) == (2, False, "fast", False)
    low, high = (100 * end for end in model.out_of_fold_interval_)
    share = f"{100 * model.out_of_fold_accuracy_:.1f} % ({low:.1f} to {high:.1f})"
    assert first == f"out-of-fold accuracy {share}, log-loss {model.out_of_fold_log_loss_:.3f}"
    assert last == ("m.frofa: effort fast, 2 views on frofa/vit_tiny_tin200, 12 images, 2 classes: daisy, rose")
    assert run("predict", "m.frofa", flowers / "rose", "--probabilities") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    expected = model.predict_proba([str(path) for path in sorted((flowers / "rose").iterdir())])
    found = [[float(row["probability_daisy"]), float(row["probability_rose"])] for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_cross_validated_heads_say_what_was_chosen(flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", flowers, "--out", "m.frofa", "--head", "logistic", "--cv", 2) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert re.fullmatch(r"logistic   accuracy [\d.]+ % over 2 folds; C=[\d.]+", first)


def test_one_shot_has_no_estimate_of_accuracy(flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", flowers, "--out", "m.frofa", "--shots", 1, "--views", 2) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("m.frofa: ")
    assert "no estimate of accuracy: it takes 2 images of every class, and daisy has one" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "flowers", "--batch-size", "0"], "a positive whole number. Got '0'"),
        (["extract", "flowers", "--every", "1.5"], "a positive whole number. Got '1.5'"),
        (["fit", "flowers", "--out", "m.frofa", "--image-size", "-1"], "a positive whole number. Got '-1'"),
        (["fit", "flowers", "--out", "m.frofa", "--shots", "0"], "a positive whole number. Got '0'"),
        (["fit", "flowers", "--out", "m.frofa", "--shots", "9" * 5000], "a positive whole number. Got '999"),
        (["fit", "flowers", "--out", "m.frofa", "--cv", "1"], "a whole number, 2 or more. Got '1'"),
        (["fit", "flowers", "--out", "m.frofa", "--seed", "-1"], "from 0 to 4294967295. Got '-1'"),
        (["fit", "flowers", "--out", "m.frofa", "--seed", str(2**32)], "from 0 to 4294967295. Got '4294967296'"),
        (["fit", "flowers", "--out", "m.frofa", "--n-jobs", "0"], "a number of threads, or -1 for one a core. Got '0'"),
        (["predict", "m.frofa", "flowers", "--reject", "5"], "expected a share between 0 and 1, such as 0.05. Got '5'"),
        (["predict", "m.frofa", "flowers", "--device", "gpu"], "expected auto, cpu, cuda, "),
        (
            ["predict", "m.frofa", "flowers", "--sets", "abc"],
            "expected a share between 0 and 1, such as 0.9. Got 'abc'",
        ),
        (["evaluate", "m.frofa", "flowers", "--device", "cuda:"], "Got 'cuda:'"),
        (["study", "flowers", "--shots", "1", "0"], "a positive whole number. Got '0'"),
        (["study", "flowers", "--seeds", "none"], "a positive whole number. Got 'none'"),
        (["demo", "--seeds", "0"], "a positive whole number. Got '0'"),
        (["bench-backbone", "frofa/vit_tiny_tin200", "flowers", "--shots", "0"], "a positive whole number. Got '0'"),
        (["doctor", "frofa/vit_tiny_tin200", "--max-tokens", "0"], "a positive whole number. Got '0'"),
        (
            ["extract", "flowers", "--sparsity", "1.5"],
            "expected 2:4, or a share between 0 and 1, such as 0.5. Got '1.5'",
        ),
        (["doctor", "frofa/vit_tiny_tin200", "--sparsity", ".0"], "a share between 0 and 1, such as 0.5. Got '.0'"),
        (["extract", "flowers", "--quiet", "--progress"], "not allowed with argument --quiet"),
    ],
)
def test_values_that_cannot_be_are_wrong_usage(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_gpu_on_a_machine_without_one_is_wrong_usage(
    platform: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("frofa.cli.options.DRIVERS", {"linux": "libabsent.so.1"})
    monkeypatch.setattr("frofa.cli.options.AMD", Path("absent"))
    with pytest.raises(SystemExit) as stop:
        main(["extract", "flowers", "--device", "cuda:1"])
    assert stop.value.code == 2
    assert "this machine has no driver of a GPU. Got 'cuda:1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "absent", "--out", "f.npz"], "absent"),
        (["extract", "flowers", "--out", "f.txt"], "--out must end in .npz"),
        (["extract", "flowers", "--out", "f.npz", "--model", "no_such_model"], "frofa/vit_tiny_tin200"),
        (["fit", "flowers", "--out", "m", "--shots", "99"], "at least 99 samples"),
        (["fit", "flowers/rose", "--out", "m"], "DIRECTORY/CLASS/IMAGE"),
        (["predict", "absent.frofa", "flowers"], "there is no model absent.frofa"),
        (["predict", "flowers", "flowers"], "Got the directory flowers"),
        (["predict", "flowers/rose/0.png", "flowers"], "flowers/rose/0.png is not a file that frofa.save wrote"),
        (["evaluate", "absent.frofa", "flowers"], "there is no model absent.frofa"),
        (["fit", "absent", "--out", "m"], "no such file or directory: absent"),
        (["models", "absent"], "frofa/vit_tiny_tin200"),
        (["fit", "flowers", "--out", "absent/m"], "there is no directory absent"),
        (["extract", "flowers", "--out", "absent/f.npz"], "there is no directory absent"),
        (["fit", "flowers", "--out", "flowers"], "Got the directory flowers"),
        (["fit", "one", "--out", "m"], "one has one, daisy"),
        (["extract", "one/daisy", "--out", "f.npz"], "found no image in one/daisy. Known endings: .jpg"),
        (["extract", "flowers", "--out", "f.npz", "--store", "flowers/rose/0.png"], "a feature store is a directory"),
        (["extract", "flowers", "--out", "f.npz", "--model", "./flowers"], "write 'local-dir:./flowers'"),
    ],
)
@pytest.mark.usefixtures("flowers")
def test_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("one/daisy").mkdir(parents=True)
    if arguments[0] == "fit":
        shutil.copy("flowers/daisy/0.png", "one/daisy")
    assert main(arguments) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("frofa: error: ")
    assert message in lines[0]


def test_shots_are_chosen_among_readable_images(flowers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(5):
        (flowers / "rose" / f"{index}.png").write_text("no image")
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of these tests
        assert run("fit", flowers, "--out", "m.frofa", "--head", "prototype", "--shots", 1) == 3
    captured = capsys.readouterr()
    assert "2 images, 2 classes: daisy, rose" in captured.out
    assert "another image is taken instead: could not read the image" in captured.err
    assert run("fit", flowers, "--out", "m.frofa", "--head", "prototype", "--shots", 1, "--fail-fast") == 1
    (flowers / "rose" / "5.png").write_text("no image")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run("fit", flowers, "--out", "n.frofa", "--head", "prototype") == 1
        assert "no image could be read of: rose" in capsys.readouterr().err
    assert not Path("n.frofa").exists()


def test_local_backbones_are_saved_by_their_full_path(flowers: Path, small_vit: str) -> None:
    Path("backbone").symlink_to(small_vit.removeprefix("local-dir:"))
    assert run("fit", flowers, "--out", "m.frofa", "--head", "ridge", "--model", "local-dir:backbone") == 0
    assert frofa.load("m.frofa")[0].model == f"local-dir:{Path.cwd() / 'backbone'}"


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models") == 0
    assert "frofa/vit_tiny_tin200" in capsys.readouterr().out
    assert run("models", "frofa/vit_tiny_tin200") == 0
    assert "What it is not for" in capsys.readouterr().out


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """All commands below a parser that have none below them."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for command in action.choices.values():
            yield from commands(command)


@pytest.mark.parametrize("parser", list(commands(build_parser())), ids=lambda parser: parser.prog)
def test_help(parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*parser.prog.split()[1:], "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {parser.prog} ")
    assert "--quiet" in text
    assert "--progress" in text
    assert not re.search(r"%%|%\(|(?<!\d )%(?!\w)", text)


@pytest.mark.parametrize("arguments", [[], ["--nonsense"], ["nonsense"], ["store"], ["models", "--nonsense"]])
def test_unknown_arguments_are_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from frofa import demo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "SHOTS", (3, 4))
    every_eighth = lambda path: tuple(part[::8] for part in frofa.load_image_folder(path))  # noqa: E731
    monkeypatch.setattr(demo, "load_image_folder", every_eighth)
    monkeypatch.setattr(demo, "N_STEPS", 5)
    monkeypatch.setattr(demo, "N_VIEWS", 2)
    assert run("demo", "--seeds", 2, "--plot", "plot.png") == 0
    out = capsys.readouterr().out
    assert "over 2 support samples" in out
    for title in demo.HEADS:
        [line] = [line for line in out.splitlines() if line.startswith(f"{title}  ")]
        assert line.count("±") == (2 if title == demo.FIRST else 4)
    with Image.open("plot.png") as plot:
        assert plot.size == (1320, 504)


def test_the_table_of_the_demo_has_paired_differences() -> None:
    from frofa import demo

    found = {title: [60.0 + number, 64.0 + number] for number, title in enumerate(demo.HEADS)}
    found[demo.FROFA] = [70.0, 76.0]
    lines = demo.report_lines({5: found})
    assert "over 2 support samples" in lines[0]
    [probe] = [line for line in lines if line.startswith("ridge probe")]
    assert probe.split()[2:] == ["63.0", "±", "25.4", "+1.0", "±", "0.0"]
    gain = frofa.mean_interval([70.0 - found[demo.MAP][0], 76.0 - found[demo.MAP][1]])
    assert lines[-1].split()[-3:] == f"{gain:+.1f}".split()
    one = {title: values[:1] for title, values in found.items()}
    assert demo.report_lines({1: one})[0].endswith("over 1 support sample, and")
