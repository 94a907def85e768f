"""frofa search: words and images as queries, words for images, labels, moved images, sheets, and clear errors."""

import shutil
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from text_helpers import clip_folder

from frofa import FrozenFeatureExtractor
from frofa.backbones.text.loading import load_text_tower
from frofa.cli import main

COLOURS = {"red": (200, 30, 20), "green": (20, 180, 40), "blue": (30, 20, 210)}


def run(*arguments: object) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as outside of these tests
        return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A whole CLIP of random weights."""
    return clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def searched(clip: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with images of three classes, of which ``S`` has the projected features."""
    folder = tmp_path_factory.mktemp("searched")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / "images" / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.clip(np.array(colour) + rng.normal(0, 60, (32, 32, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / name / f"{i}.png")
    arguments = ["extract", folder / "images", "--store", folder / "S", "--model", clip, "--output", "projected"]
    assert run(*arguments, "--quiet") == 0
    return folder


@pytest.fixture
def there(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store beside which a test runs; the images stay where they are."""
    shutil.copytree(searched / "S", tmp_path / "S")
    monkeypatch.chdir(tmp_path)
    return searched / "images"


def rows_of(out: str) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in out.splitlines()]


def cosines(images: Sequence[Path], texts: Sequence[str], model: str) -> npt.NDArray[np.float32]:
    features = FrozenFeatureExtractor(model, output="projected").transform(images)
    tower = load_text_tower(model, "cpu")
    ids, mask = tower.tokenizer(texts)
    words = tower.encode(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    features, words = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (features, words))
    scores: npt.NDArray[np.float32] = words @ features.T
    return scores


def test_words_find_images(there: Path, clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("search", "S", "a cat", "two dogs", "--top", 3) == 0
    captured = capsys.readouterr()
    found = rows_of(captured.out)
    paths = sorted(there.rglob("*.png"))
    expected = cosines(paths, ["a cat", "two dogs"], clip)
    assert [found[0], found[4]] == [["a", "cat:"], ["two", "dogs:"]]
    for scores, lines in zip(expected, (found[1:4], found[5:]), strict=True):
        best = np.argsort(-scores)[:3]
        assert [line[2:] for line in lines] == [[str(paths[i]), paths[i].parent.name] for i in best]
        np.testing.assert_allclose([float(line[1]) for line in lines], scores[best], atol=2e-4)
    assert "12 images, projected features of hf-dir:" in captured.err


def test_an_image_of_the_store_needs_no_model(there: Path, clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    next(Path("S/names").glob("*.json")).unlink()
    assert run("search", "S", there / "red" / "0.png", "--top", 2, "--where", "red", "blue", "--quiet") == 0
    first, second = rows_of(capsys.readouterr().out)
    assert first[:3] == ["1", "1.0000", str(there / "red" / "0.png")]
    assert second[3] in ("red", "blue")
    # Another image has to be computed, by a model that nobody has named.
    Image.new("RGB", (40, 40), "red").save("new.png")
    assert run("search", "S", "new.png", "--quiet") == 1
    assert "name it by --model" in capsys.readouterr().err
    assert run("search", "S", "new.png", "--model", clip, "--top", 99, "--where", "green", "--out", "t.csv") == 0
    assert len(Path("t.csv").read_text().splitlines()) == 1 + 4
    assert "new.png,1," in Path("t.csv").read_text()


def test_a_new_image_is_computed_as_those_in_the_store_were(
    there: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, 8:, 0] = pixels[:, 8:, 3] = 255
    Image.fromarray(pixels).save("half.png")
    options = ["--model", clip, "--output", "projected", "--background", "#00ff00", "--image-size", 64, "--quiet"]
    assert run("extract", there, "half.png", "--store", "T", *options) == 0
    shutil.rmtree("T/names")  # so that nothing but the spec says how
    Image.open("half.png").save("other.png", compress_level=0)
    capsys.readouterr()
    assert run("search", "T", "other.png", "half.png", "--model", clip, "--top", 1, "--images", "half.png", there) == 0
    for line in rows_of(capsys.readouterr().out)[1::2]:
        assert line == ["1", "1.0000", "half.png"]


def test_words_for_an_image(there: Path, clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["a cat", "a house by the sea", "\u732b"]
    Path("words.txt").write_text("\ufeff" + "\n".join([*texts, "", "a cat"]), "utf-8")
    assert run("search", "S", there / "red" / "1.png", "--among", "words.txt", "--quiet") == 0
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    scores = cosines([there / "red" / "1.png"], texts, clip)[:, 0]
    assert [line[2] for line in lines] == [texts[i] for i in np.argsort(-scores)]


def test_images_that_were_moved_are_found_where_they_are_said_to_be(
    searched: Path, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(there, "moved")
    with zipfile.ZipFile("moved.zip", "w") as archive:
        for path in sorted(Path("moved").rglob("*.png")):
            archive.write(path)
    hidden = searched / "elsewhere"
    there.rename(hidden)
    try:
        assert run("search", "S", "a cat", "--out", "sheet.png") == 0
        captured = capsys.readouterr()
        assert "12 of 12 images are not where they were extracted: --images" in captured.err
        assert str(there) in captured.out
        for source, prefix in (("moved", "moved/"), ("moved.zip", "moved.zip!/moved/")):
            assert run("search", "S", "a cat", "--images", source, "--where", "green") == 0
            captured = capsys.readouterr()
            assert "warning" not in captured.err
            assert sorted(line[2] for line in rows_of(captured.out)) == [f"{prefix}green/{i}.png" for i in range(4)]
    finally:
        hidden.rename(there)


def test_sheets_show_what_was_found(there: Path) -> None:
    query = there / "blue" / "2.png"
    assert run("search", "S", query, "--top", 6, "--out", "sheet.png", "--quiet") == 0
    assert run("search", "S", query, "a <b> cat", "--top", 2, "--out", "page.html", "--quiet") == 0
    sheet = Image.open("sheet.png").convert("RGB")
    colours = np.asarray(sheet).reshape(-1, 3).astype(int)
    # The query stands beside itself, both of them blue; the frame has a colour of its own.
    assert ((colours[:, 2] > 120) & (colours[:, 0] < 90)).sum() > 2 * 100 * 100
    assert (colours == (0x0A, 0x62, 0xB5)).all(1).sum() > 400
    page = Path("page.html").read_text("utf-8")
    assert page.count("data:image/webp;base64,") == 1 + 2 + 2
    assert "a &lt;b&gt; cat" in page
    assert "<b> cat" not in page


def test_a_copy_is_said_and_found_once(there: Path, clip: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(there, "twice")
    options = ["--store", "S", "--model", clip, "--output", "projected", "--quiet"]
    assert run("extract", "twice", *options) == 0
    capsys.readouterr()
    assert run("search", "S", "a cat", "--top", 99, "--quiet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert all("  twice/" in line and "(and 1 with the same content)" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-store", "a cat"], "there is no feature store no-such-store."),
        (["S", "cat.png"], "there is no image cat.png."),
        (["S", " "], "an empty one"),
        (["S", "."], "Got the directory ."),
        (["S", "a cat", "--out", "sheet.gif"], "--out must end in .png, .html, .csv."),
        (["S", "a cat", "--among", "words.txt"], "Got 'a cat', which is no file."),
        (["S", "a cat", "--where", "gren"], "expected labels that images of the store have: blue, green, red."),
        (["S", "a cat", "--spec", "0123"], "whose spec begins with 0123"),
        (["S", "a cat", "--model", "frofa/vit_tiny_tin200"], "expected features of frofa/vit_tiny_tin200 in S."),
    ],
)
@pytest.mark.usefixtures("there")
def test_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("search", *arguments, "--quiet") == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_words_need_features_in_their_space(
    there: Path, clip: str, small_vit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("extract", there, "--store", "T", "--model", small_vit, "--quiet") == 0
    assert run("search", "T", "a cat", "--quiet") == 1
    assert "words need features in their space" in capsys.readouterr().err
    # CLIP's pooled vector is not in it either.
    assert run("extract", there, "--store", "U", "--model", clip, "--quiet") == 0
    assert run("search", "U", "a cat", "--quiet") == 1
    assert "words need features in their space" in capsys.readouterr().err
    # Of several models, words leave the one that knows them, and images do not.
    assert run("extract", there, "--store", "T", "--model", clip, "--output", "projected", "--quiet") == 0
    assert run("search", "T", "a cat", "--quiet") == 0
    assert run("search", "T", there / "red" / "0.png", "--quiet") == 1
    assert "expected --model or --spec, as T has features of several models" in capsys.readouterr().err
    assert run("search", "T", there / "red" / "0.png", "--model", small_vit, "--quiet") == 0


def test_other_weights_are_refused(there: Path, clip: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(clip.removeprefix("hf-dir:"), folder)
    model = f"hf-dir:{folder}"
    assert run("extract", there, "--store", "T", "--model", model, "--output", "projected", "--quiet") == 0
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"] = weights["visual_projection.weight"] + 0.1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert run("search", "T", "a cat", "--quiet") == 1
    assert "other weights" in capsys.readouterr().err


@pytest.mark.usefixtures("there")
def test_an_approximate_index_is_kept_and_taken_again(
    clip: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr("frofa.retrieval.base.MOST_EXACT", 5)
    assert run("search", "S", "a cat", "--exact", "--quiet") == 0
    expected = capsys.readouterr().out
    assert not Path("S/index").exists()
    assert run("search", "S", "a cat", "--quiet") == 0
    assert capsys.readouterr().out == expected
    written = {path: path.stat().st_mtime_ns for path in Path("S/index").rglob("*") if path.is_file()}
    assert written
    assert run("search", "S", "a cat", "--quiet") == 0
    assert capsys.readouterr().out == expected
    assert {path: path.stat().st_mtime_ns for path in Path("S/index").rglob("*") if path.is_file()} == written
    # Another image is added to what was kept.
    Image.new("RGB", (32, 32), "yellow").save("new.png")
    assert run("extract", "new.png", "--store", "S", "--model", clip, "--output", "projected", "--quiet") == 0
    capsys.readouterr()
    assert run("search", "S", "new.png", "--top", 1, "--quiet") == 0
    assert rows_of(capsys.readouterr().out) == [["1", "1.0000", "new.png"]]
    assert {path: path.stat().st_mtime_ns for path in Path("S/index").rglob("*") if path.is_file()} != written
