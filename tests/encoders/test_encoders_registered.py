"""Encoders that other packages register as entry points."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import frofa
from frofa import FrozenFeatureExtractor
from frofa.cli import main
from frofa.exceptions import ModelNotFoundError

MODULE = """
import numpy as np
from frofa import FunctionEncoder

def beats(batch):
    return np.stack([batch.mean(-1), batch.std(-1)], 1)

def factory():
    return FunctionEncoder(beats, spec="beats v1")

ready = factory()
nothing = "a string"

class Own:
    spec = {"name": "own", "version": 1}

    def __call__(self, batch):
        return beats(batch)

class NoSpec:
    def __call__(self, batch):
        return batch

def failing():
    raise RuntimeError("no licence")
"""
ECG = np.random.default_rng(0).normal(size=(6, 50))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that puts a package with these entry points on the path, as pip leaves it there."""

    def write(package: str, **entry_points: str) -> None:
        site = tmp_path / package
        information = site / f"{package}-1.0.dist-info"
        information.mkdir(parents=True)
        (site / f"{package}.py").write_text(MODULE)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [
            f"{package}/{name} = {value}" if name != "bare" else f"{name} = {value}"
            for name, value in entry_points.items()
        ]
        (information / "entry_points.txt").write_text("\n".join(["[frofa.encoders]", *lines]))
        monkeypatch.syspath_prepend(site)

    return write


@pytest.mark.parametrize("kind", ["ready", "factory", "Own"])
def test_a_registered_encoder_is_found_by_name(kind: str, install: Callable[..., None], tmp_path: Path) -> None:
    package = f"ecgkit_{kind.lower()}"
    install(package, encoder=f"{package}:{kind}")
    extractor = FrozenFeatureExtractor(f"{package}/encoder").fit()
    expected = np.stack([ECG.mean(-1), ECG.std(-1)], 1)
    np.testing.assert_allclose(extractor.transform(ECG), expected, rtol=1e-6)
    frofa.save(extractor, tmp_path / "extractor.frofa")  # by name: nothing else is needed to load it
    np.testing.assert_allclose(frofa.load(tmp_path / "extractor.frofa").transform(ECG), expected, rtol=1e-6)


def test_models_lists_them(install: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    install("ecgkit_list", encoder="ecgkit_list:ready", gone="ecgkit_absent:ready", bare="ecgkit_list:ready")
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "Encoders of other packages:\n" in out
    assert "  ecgkit_list/encoder\n      ecgkit_list 1.0 (ecgkit_list:ready)\n" in out
    assert "  ecgkit_list/gone\n" in out  # what is listed is not imported
    assert "(ecgkit_list:ready): not to be used, its name must be of the form PACKAGE/NAME" in out
    assert main(["models", "ecgkit_list/encoder"]) == 0
    assert "FunctionEncoder(beats, spec='beats v1')\nspec: \"beats v1\"" in capsys.readouterr().out
    assert main(["models", "ecgkit_list/gone"]) == 1
    assert "'ecgkit_list/gone', registered by ecgkit_list 1.0 (ecgkit_absent:ready), cannot" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("absent_module:ready", "ModuleNotFoundError: No module named 'absent_module'"),
        ("ecgkit_broken:absent", "AttributeError: .*absent"),
        ("ecgkit_broken:failing", "RuntimeError: no licence"),
        ("ecgkit_broken:nothing", "TypeError: 'str' object is not callable"),
        ("ecgkit_broken:NoSpec", "EncoderError: .*has a 'spec'"),
    ],
)
def test_a_broken_one_is_an_error_that_names_its_package(
    value: str, message: str, install: Callable[..., None]
) -> None:
    install("ecgkit_broken", encoder=value)
    with pytest.raises(
        ModelNotFoundError, match=rf"'ecgkit_broken/encoder', .* ecgkit_broken 1\.0 \({value}\), .*{message}"
    ):
        FrozenFeatureExtractor("ecgkit_broken/encoder").fit()


def test_one_name_of_two_packages_is_an_error(install: Callable[..., None], tmp_path: Path) -> None:
    install("ecgkit_one", encoder="ecgkit_one:ready")
    install("ecgkit_two", encoder="ecgkit_two:ready")
    points = tmp_path / "ecgkit_two" / "ecgkit_two-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text().replace("ecgkit_two/encoder", "ecgkit_one/encoder"))
    with pytest.raises(ModelNotFoundError, match=r"several packages .*ecgkit_one 1\.0 .*; ecgkit_two 1\.0 "):
        FrozenFeatureExtractor("ecgkit_one/encoder").fit()


def test_other_names_are_left_to_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frofa.encoders.registered.entry_points", lambda **_: pytest.fail("looked up"))
    FrozenFeatureExtractor().fit()


def test_an_unknown_name_says_that_no_package_registers_it() -> None:
    with pytest.raises(ModelNotFoundError, match="no installed package registers an encoder of this name"):
        FrozenFeatureExtractor("ecgkit_absent/encoder").fit()
