"""Threads on a machine that others use too: what is set before libraries are loaded, and what is left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from frofa.utils import threads as _threads

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT")
NUMBERS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in WAITING + NUMBERS:
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    monkeypatch.setattr(_threads, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(_threads, "QUOTA_V1", tmp_path / "cpu")


def test_import_lets_waiting_threads_sleep_before_any_library_is_loaded() -> None:
    names = f"[os.environ[name] for name in {WAITING}]"
    program = f"import frofa, os, sys; print({names}, {{'torch', 'numpy'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['PASSIVE', '1000', '4'] set()\n"


def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    _threads.QUOTA.write_text("200000 100000\n")
    _threads.prepare_threads()
    assert [os.environ.get(name) for name in WAITING] == ["ACTIVE", None, "4"]
    assert [os.environ[name] for name in NUMBERS] == ["7", "2", "2"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [("max 100000\n", None), ("250000 100000\n", 3), ("50000 100000\n", 1), ("", None), ("odd", None)],
)
def test_quota_of_a_control_group(written: str, expected: int | None) -> None:
    _threads.QUOTA.write_text(written)
    assert _threads.processor_quota() == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", None), ("150000", 2)])
def test_quota_in_version_1(quota: str, expected: int | None) -> None:
    _threads.QUOTA_V1.mkdir()
    (_threads.QUOTA_V1 / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (_threads.QUOTA_V1 / "cpu.cfs_period_us").write_text("100000\n")
    assert _threads.processor_quota() == expected


@pytest.mark.parametrize(("processors", "expected"), [(64, "2"), (2, None), (1, None)])
def test_no_more_threads_than_the_quota_lets_run(
    processors: int, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    _threads.QUOTA.write_text("200000 100000\n")
    _threads.prepare_threads()
    assert [os.environ.get(name) for name in NUMBERS] == [expected] * 3
