"""Progress bars: on a terminal, as lines in a log, or not at all."""

import io
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frofa.cli import main
from frofa.estimators import MAPClassifier
from frofa.utils import progress as _progress
from frofa.utils.progress import Mode, progress_bar, progress_mode


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("mode", "shown"), [("lines", True), ("terminal", True), ("none", False)])
def test_a_terminal_has_bars(mode: Mode, shown: bool) -> None:
    with progress_mode(mode), redirect_stderr(Terminal()) as terminal:
        assert list(progress_bar(range(3), desc="read")) == [0, 1, 2]
    assert ("\rread: 100%" in terminal.getvalue()) == shown


@pytest.mark.parametrize(("mode", "lines"), [("lines", 1), ("terminal", 0), ("none", 0)])
def test_a_log_has_a_line_at_the_end_at_most(mode: Mode, lines: int) -> None:
    with progress_mode(mode), redirect_stderr(io.StringIO()) as log, progress_bar(total=1000, desc="read") as bar:
        for _ in range(1000):
            bar.update()
    assert "\r" not in log.getvalue()
    assert log.getvalue().count("\n") == lines
    assert log.getvalue().startswith("read: 100%" if lines else "")


def test_a_long_run_has_lines_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "SECONDS", 0)
    with redirect_stderr(io.StringIO()) as log:
        assert sum(progress_bar(range(3), desc="read", miniters=1)) == 3
    assert "\r" not in log.getvalue()
    lines = [line.split("|")[0] for line in log.getvalue().splitlines()]
    assert lines == ["read:   0%", "read:  33%", "read:  67%", "read: 100%", "read: 100%"]


@pytest.mark.parametrize("options", [{"leave": False}, {"delay": 60}, {"shown": None}, {"shown": False}])
def test_what_passes_has_no_line_in_a_log(options: dict[str, Any]) -> None:
    with redirect_stderr(io.StringIO()) as log:
        assert sum(progress_bar(range(3), **options)) == 3
    assert log.getvalue() == ""


def test_a_bar_that_nobody_asked_for_is_shown_on_a_terminal() -> None:
    with redirect_stderr(Terminal()) as terminal:
        assert sum(progress_bar(range(3), shown=None, desc="index")) == 3
    assert "index: 100%" in terminal.getvalue()


def test_closed_standard_error_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress_mode("terminal"):
        assert sum(progress_bar(range(3))) == 3


def test_a_head_that_trains_leaves_a_log_alone() -> None:
    tokens = np.random.default_rng(0).normal(size=(8, 4, 8)).astype(np.float32)
    with redirect_stderr(io.StringIO()) as log:
        MAPClassifier(augment=None, n_steps=3, verbose=True, random_state=0).fit(tokens, np.arange(8) % 2)
    assert log.getvalue() == ""


@pytest.mark.parametrize(("options", "lines"), [([], 0), (["--quiet"], 0), (["--progress"], 1)])
def test_the_command_shows_progress_in_a_log_if_asked(
    options: list[str], lines: int, image_folder: Path, small_vit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(image_folder.parent / "store")
    assert main(["extract", str(image_folder), "--store", store, "--model", small_vit, *options]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["extract"] * lines
