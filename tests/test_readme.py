"""Every example of the README, of docs/ and of the docstrings runs, and tables of parameters are true."""

import doctest
import pkgutil
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from byte_tower_helpers import siglip_like
from PIL import Image

import frofa
from frofa import augmentations
from frofa.augmentations import Augmentation
from frofa.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = {
    f"{file.name}-{index}": example
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for index, example in enumerate(re.findall(r"<!-- example -->\n```python\n(.*?)```", file.read_text(), re.DOTALL))
}
AUGMENTATIONS = re.findall(
    r"^\| [^|]* \| `(\w+\(.*?\))` \| [^|]* \| ([\d.]+), ([\d.]+) \| ([\w, ]*)\|",
    (ROOT / "docs" / "augmentations.md").read_text(),
    re.MULTILINE,
)
SHELL = re.findall(r"<!-- shell -->\n```sh\n(.*?)```", README, re.DOTALL)
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(frofa.__path__, "frofa.") if "__main__" not in module.name
)


@pytest.fixture
def user_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with ``images/train/CLASS/IMAGE`` and ``images/new.jpg``, as the examples have it.

    In ``siglip`` is a model of images and texts that knows nothing.
    """
    rng = np.random.default_rng(0)
    for shade, name in ((40, "daisy"), (200, "rose")):
        folder = tmp_path / "images" / "train" / name
        folder.mkdir(parents=True)
        for index in range(4):
            pixels = np.clip(rng.normal(shade, 30, (40, 60, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.jpg")
    Image.fromarray(pixels).save(tmp_path / "images" / "new.jpg")
    siglip_like(tmp_path / "siglip")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("user_directory")
@pytest.mark.parametrize("name", EXAMPLES)
def test_python_examples_run(name: str) -> None:
    exec(compile(EXAMPLES[name], name, "exec"), {})


def test_the_tables_of_augmentations_are_true() -> None:
    for call, identity, strongest, variants in AUGMENTATIONS:
        shown = eval(call, vars(augmentations))
        params = shown.get_params()
        assert params == type(shown)().get_params(), f"{call} does not show the defaults"
        unsaid = set(params) - set(re.findall(r"(\w+)=", call))
        assert unsaid <= {"clip", "max_aspect"}, f"{call} leaves out {unsaid}"
        assert shown.strength[1:] == (float(identity), float(strongest)), call
        [allowed] = shown._parameter_constraints.get("variant", [None])
        assert set(re.findall(r"\w+", variants)) == (allowed.options if allowed else set()), call
    public = [getattr(augmentations, name) for name in augmentations.__all__]
    concrete = {kind.__name__ for kind in public if isinstance(kind, type) and issubclass(kind, Augmentation)}
    compositions = {"RandAugment", "RandomApply", "RandomChoice", "Sequential", "TrivialAugment"}
    named = [call.partition("(")[0] for call, *_ in AUGMENTATIONS]
    assert sorted(named) == sorted(concrete - compositions - {"Augmentation"})


def test_shell_examples_run(
    user_directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frofa.study.fit.N_STEPS", 12)  # enough to see that it runs
    for script in SHELL:
        for line in script.splitlines():
            command, *arguments = shlex.split(line, comments=True)
            assert command == "frofa"
            assert main(arguments) == 0, line
    assert re.search(r"images/new.jpg,rose,[\d.]+,\n", capsys.readouterr().out)
    with np.load(user_directory / "features.npz") as features:
        assert features["features_tokens"].shape == (8, 64, 192)
    assert "patch dropout" in (user_directory / "study" / "report.md").read_text()


def test_the_readme_has_examples_and_both_commands() -> None:
    assert sum(name.startswith("README") for name in EXAMPLES) >= 5
    assert sum(name.startswith("augmentations") for name in EXAMPLES) >= 4
    for name in ("demo", "test"):
        ran = subprocess.run(
            [sys.executable, Path(__file__).parents[1] / ".ci" / "readme_command.py", name],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "pip install" in ran.stdout


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(import_module(name))
    assert failed == 0
