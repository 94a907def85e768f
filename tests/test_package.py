"""The package as a whole: imports are light, public names exist, versions agree."""

import subprocess
import sys
from pathlib import Path

import pytest

import frofa

ROOT = Path(__file__).parents[1]


def test_import_is_light() -> None:
    heavy = {"timm", "torch", "sklearn", "matplotlib", "PIL", "numpy"}
    code = f"import sys, frofa; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["frofa.cli", "frofa.augmentations", "frofa.estimators"])
def test_heavy_libraries_are_imported_where_they_are_used(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'timm', 'matplotlib'}} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    for name in frofa.__all__:
        assert getattr(frofa, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        frofa.nonsense  # noqa: B018


def test_the_changelog_knows_this_version() -> None:
    assert f"## {frofa.__version__}" in (ROOT / "CHANGELOG.md").read_text()
