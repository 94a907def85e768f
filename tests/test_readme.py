"""Every example of the README and of the docstrings runs."""

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
from PIL import Image

import frofa
from frofa.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"<!-- example -->\n```python\n(.*?)```", README, re.DOTALL)
SHELL = re.findall(r"<!-- shell -->\n```sh\n(.*?)```", README, re.DOTALL)
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(frofa.__path__, "frofa.") if "__main__" not in module.name
)


@pytest.fixture
def user_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with ``images/train/CLASS/IMAGE`` and ``images/new.jpg``, as the examples have it."""
    rng = np.random.default_rng(0)
    for shade, name in ((40, "daisy"), (200, "rose")):
        folder = tmp_path / "images" / "train" / name
        folder.mkdir(parents=True)
        for index in range(4):
            pixels = np.clip(rng.normal(shade, 30, (40, 60, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.jpg")
    Image.fromarray(pixels).save(tmp_path / "images" / "new.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("user_directory")
@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_python_examples_run(example: str) -> None:
    exec(compile(example, "README.md", "exec"), {})


def test_shell_examples_run(user_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [script] = SHELL
    for line in script.splitlines():
        command, *arguments = shlex.split(line, comments=True)
        assert command == "frofa"
        assert main(arguments) == 0, line
    assert re.search(r"images/new.jpg,rose,\d", capsys.readouterr().out)
    with np.load(user_directory / "features.npz") as features:
        assert features["features"].shape == (8, 64, 192)


def test_the_readme_has_examples_and_both_commands() -> None:
    assert len(EXAMPLES) >= 5
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
