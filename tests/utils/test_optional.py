"""Optional dependencies that are not there are called by the name of their package."""

import sys

import pytest

from frofa.utils.optional import require


def test_a_package_is_named_and_not_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"^matplotlib is not installed: pip install 'frofa\[plot\]'$"):
        require("matplotlib.figure", "plot")
