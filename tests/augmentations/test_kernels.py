"""The GPU kernels give the numbers of plain PyTorch: here by Triton's interpreter on the CPU; test_gpu.py has a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_kernels_give_the_same_numbers() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    script = Path(__file__).with_name("kernel_cases.py")
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    errors = json.loads(run.stdout)
    assert len(errors) > 60
    assert {name: error for name, error in errors.items() if not error < 1e-5} == {}
