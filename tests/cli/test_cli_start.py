"""What answers without a model imports no library that takes seconds to import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "timm", "sklearn", "scipy", "pandas", "matplotlib")
CODE = """
import json, sys
from frofa.cli import main
try:
    code = main(sys.argv[2:])
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, [name for name in sys.argv[1].split() if name in sys.modules]]))
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["fit", "--help"], 0),
        (["models"], 0),
        (["models", "frofa/vit_tiny_tin200"], 0),
        (["models", "absent"], 1),
        (["--nonsense"], 2),
        (["extract", "photos", "--nonsense"], 2),
        (["extract", "photos", "--device", "gpu"], 2),
        (["extract", "absent"], 1),
        (["fit", "absent", "--out", "m.frofa"], 1),
        (["fit", "photos", "--out", "absent/m.frofa"], 1),
        (["predict", "absent.frofa", "photos"], 1),
        (["predict", "photos", "photos"], 1),
        (["predict", "here.frofa", "absent"], 1),
        (["evaluate", "absent.frofa", "photos"], 1),
        (["store", "info", "--store", "absent"], 1),
        (["store", "verify", "--store", "absent"], 1),
        (["store", "export", "--npy", "f.npy", "--store", "absent"], 1),
        (["store", "import", "absent.npy", "--paths", "photos", "--fields", "f.json"], 1),
        (["doctor", "frofa/vit_tiny_tin200", "absent"], 1),
        (["bench-backbone", "frofa/vit_tiny_tin200", "absent"], 1),
        (["study", "photos", "absent"], 1),
        (["label", "--help"], 0),
        (["label", "absent"], 1),
        (["label", "photos"], 1),
        (["labels", "--help"], 0),
        (["labels", "wrong", "absent"], 1),
        (["labels", "wrong", "photos", "--out", "f.txt"], 1),
        (["labels", "enough", "absent"], 1),
        (["convert", "hf-dir:absent", "out"], 1),
        (["fit", "photos", "--out", "m.frofa", "--model", "vit_nonsense"], 1),
        (["fit", "photos", "--out", "m.frofa", "--model", "local-dir:absent"], 1),
        (["doctor", "vit_base_patch16_siglip_224.webli"], 1),
        (["bench-backbone", "frofa/nonsense", "photos"], 1),
        (["study", "photos", "--backbone", "hf-hub:nobody/nothing"], 1),
    ],
)
def test_quick_answers_import_little(arguments: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "here.frofa").touch()
    ran = subprocess.run(
        [sys.executable, "-c", CODE, " ".join(HEAVY), *arguments],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout.splitlines()[-1]) == [code, []]


def test_importing_frofa_imports_little() -> None:
    code = f"import sys, frofa; print([name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
