"""The theme in a browser: light and dark by the system and by the switch, and a policy that stops what it should."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frofa.web.page import document, json_block, theme_switch, themed_image
from frofa.web.thumbnails import data_uri

WHITE, BLACK = "rgb(255, 255, 255)", "rgb(20, 24, 28)"
STYLED = b"<style>rect{fill:red}</style><rect style='stroke:blue' width='9' height='9'/>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'>" + STYLED + b"</svg>"
GROUND = "getComputedStyle(document.body).backgroundColor"
SHOWN = "[...document.querySelectorAll('img')].filter((one) => one.checkVisibility()).map((one) => one.className)"


@pytest.fixture
def themed(tmp_path: Path) -> str:
    uri = data_uri(SVG, "svg+xml")
    body = f"<main><h1>Theme</h1>{theme_switch()}{themed_image(uri, uri, 'a square')}<p id='out'></p></main>"
    script = "document.getElementById('out').textContent = JSON.parse(document.getElementById('d').textContent).a;"
    path = tmp_path / "page.html"
    path.write_text(document("Theme", body, scripts=[script], data=[json_block("d", {"a": "</script>"})]), "utf-8")
    return path.as_uri()


@pytest.mark.parametrize(("scheme", "ground"), [("light", WHITE), ("dark", BLACK)])
def test_the_system_decides_until_the_switch_does(
    browse: Callable[..., Any], themed: str, scheme: str, ground: str
) -> None:
    page = browse(color_scheme=scheme).page
    page.goto(themed)
    assert page.evaluate(GROUND) == ground
    assert page.evaluate(SHOWN) == [f"{scheme}-only"]
    assert page.text_content("#out") == "</script>"
    seen = []
    for _ in range(3):
        page.get_by_role("button", name="Theme").press("Enter")
        seen.append((page.text_content("button"), page.evaluate(GROUND), page.evaluate(SHOWN)))
    assert seen == [
        ("Theme: light", WHITE, ["light-only"]),
        ("Theme: dark", BLACK, ["dark-only"]),
        ("Theme: automatic", ground, [f"{scheme}-only"]),
    ]


def test_the_choice_holds_after_a_reload(browse: Callable[..., Any], themed: str) -> None:
    page = browse(color_scheme="dark").page
    page.goto(themed)
    page.get_by_role("button").click()
    page.reload()
    assert page.text_content("button") == "Theme: light"
    assert page.evaluate(GROUND) == WHITE


def test_scripts_from_elsewhere_do_not_run(browse: Callable[..., Any], tmp_path: Path) -> None:
    watched = browse()
    inside = "<img src=x onerror='window.ran = 1'><script>window.ran = 2</script><p style='color: red'>a</p>"
    (tmp_path / "page.html").write_text(document("Policy", inside), "utf-8")
    watched.page.goto((tmp_path / "page.html").as_uri())
    assert watched.page.evaluate("window.ran") is None
    assert watched.page.evaluate("getComputedStyle(document.querySelector('p')).color") == "rgb(28, 34, 40)"
    # The browser says what it refused, which elsewhere is a fault.
    assert len(watched.complaints) >= 3
    assert all("Content Security Policy" in line for line in watched.complaints)
    watched.complaints.clear()
