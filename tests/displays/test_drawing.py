"""Drawings: the same each time, in light and dark, with text that is never interpreted."""

import base64
import re
import sys
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from frofa import ConfusionDisplay, EmbeddingDisplay, MistakesDisplay, RejectionDisplay, ReliabilityDisplay
from frofa.display import FewShotDisplay
from frofa.displays.drawing import GROUNDS, svg_pair
from frofa.displays.mistakes import Mistake
from frofa.estimators import NoveltyDisplay
from frofa.evaluation import rejection_curve, reliability

HOSTILE = ("$x_{1", "<img src=x onerror=alert(1)>", "_hidden", "a\nb\x00", "caf\udce9", "\U0001f431", "\u202egpj")


def displays() -> list[Any]:
    """One of each kind, with class names from outside wherever there are some."""
    n = len(HOSTILE)
    picture = Image.new("RGB", (20, 10), "red")
    bins = reliability(["a", "a", "b"], [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]], ["a", "b"])
    matrix = np.eye(n, dtype=int) * 5 + 1
    points = np.random.default_rng(0).normal(size=(2 * n, 2))
    return [
        ConfusionDisplay(matrix, HOSTILE, images={(0, 1): [picture] * 2, (1, 2): [picture]}),
        MistakesDisplay([Mistake(i, picture, name, HOSTILE[i - 1], 0.7, HOSTILE) for i, name in enumerate(HOSTILE)]),
        EmbeddingDisplay(points, HOSTILE * 2, right=np.arange(2 * n) > 2, images=[picture] * (2 * n)),
        ReliabilityDisplay(bins, calibration_floor=0.01),
        RejectionDisplay({name: rejection_curve([True, False, True], [0.9, 0.8, 0.7]) for name in HOSTILE[:2]}),
        FewShotDisplay({5: {"ridge": [60.0, 62.0]}}),
        NoveltyDisplay([1.0, 2.0, 3.0], [3.5, 5.0], threshold=3.2),
    ]


@pytest.mark.parametrize("display", displays(), ids=lambda display: type(display).__name__)
def test_svg_is_the_same_each_time_in_light_and_dark(display: Any) -> None:
    first = svg_pair(display.plot)
    assert first == svg_pair(display.plot)
    for text, theme in zip(first, ("light", "dark"), strict=True):
        ET.fromstring(text)
        text.encode()
        assert GROUNDS[theme][0] in text
        assert "<text" in text
        assert "DejaVu" not in text
    assert first[0] != first[1]


@pytest.mark.parametrize("display", displays(), ids=lambda display: type(display).__name__)
def test_notebooks_show_a_picture_with_a_text(display: Any) -> None:
    shown = display._repr_html_()
    found = re.fullmatch(r'<img src="data:image/svg\+xml;base64,([^"]*)" alt="([^"<>]*)" style="[^"]*">', shown)
    assert found is not None
    ET.fromstring(base64.b64decode(found[1]))
    assert found[2].endswith(".")


def test_names_stay_what_they_are() -> None:
    light, _ = svg_pair(displays()[0].plot)
    texts = [one.text for one in ET.fromstring(light).iter("{http://www.w3.org/2000/svg}text")]
    for name in ("$x_{1", "_hidden", "<img src=x onerror=aler…", "a b ", "caf\ufffd", "\U0001f431", "\u202egpj"):
        assert name[:21] in {(text or "")[:21] for text in texts}


def test_parts_of_figures_are_drawn_on() -> None:
    parts: Any = Figure().subfigures(1, 2)
    part = parts[0]
    display = displays()[2].plot(part.subplots())
    assert display.figure_ is part
    assert display.shown_
    assert "<img" in display._repr_html_()


def test_a_figure_of_pyplot_is_left_to_it() -> None:
    from matplotlib import pyplot as plt

    _, ax = plt.subplots()
    try:
        assert ReliabilityDisplay(displays()[3].reliability).plot(ax)._repr_html_() is None
    finally:
        plt.close("all")


def test_without_matplotlib_there_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    display = displays()[0]
    assert display._repr_html_() is None
    with pytest.raises(ImportError, match=r"pip install 'frofa\[plot\]'"):
        display.plot()
