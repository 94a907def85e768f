import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from study_helpers import BASELINES, study

from frofa.study.reporting.plots import StudyDisplay, write_figures


def test_figures_show_the_planted_numbers() -> None:
    display = StudyDisplay(study(noise=0)).plot_changes()
    panel = display.figure_.axes[0]
    names = [label.get_text() for label in panel.get_yticklabels()]
    shown = np.array(panel.images[0].get_array())
    assert shown[names.index("rotate")] == pytest.approx([-1 / (1 + np.log2(k)) for k in (1, 5, 10, 25)])
    assert "+6.1" in [text.get_text() for text in panel.texts]
    low, high = panel.images[0].get_clim()
    assert low == -high == pytest.approx(-7.7)
    lines = StudyDisplay(study(noise=0)).plot_brightness().figure_.axes[0].containers
    assert [line.get_label() for line in lines] == ["default", "c", "c2"]
    assert lines[1][0].get_ydata()[2] == pytest.approx(6.1)
    gains = StudyDisplay(study(noise=0)).plot_gains().figure_.axes[0].containers
    assert [line[0].get_ydata()[0] for line in gains] == pytest.approx([7.7, 9.0])


def test_a_large_study_has_small_figures(tmp_path: Path) -> None:
    results = study(datasets=["a", "b"], backbones=["tiny", "small", "base"], seeds=2, noise=1)
    paths = write_figures(results, tmp_path)
    assert [path.name for path in paths] == ["changes.png", "brightness.png", "gains.png"]
    for path in paths:
        assert path.stat().st_size < 150_000
        with Image.open(path) as image:
            assert 300 < image.width <= 1600


def test_nothing_to_draw_writes_nothing(tmp_path: Path) -> None:
    assert write_figures(study(BASELINES[:1]), tmp_path) == []
    assert not list(tmp_path.iterdir())
    assert StudyDisplay(study()).plot_gains().plot_changes().figure_ is not None


def test_missing_matplotlib_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'frofa\[plot\]'"):
        write_figures(study(datasets=["a"], shots=[1], seeds=1), tmp_path)
