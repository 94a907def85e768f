"""The report in a real browser: everything is there, opens, is reached by keyboard, and asks nobody for anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright")

from browsing import WIDTHS
from made_up import HOSTILE, hostile, made_up

from frofa.reporting.facts.contents import SECTIONS, Facts
from frofa.reporting.page.markup import visible
from frofa.reporting.page.render import render

Browse = Callable[..., Any]


@pytest.fixture(scope="module")
def facts() -> Facts:
    return made_up()


@pytest.fixture(scope="module")
def address(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(facts, tmp_path_factory.mktemp("report"))


def written(facts: Facts, folder: Path, **options: Any) -> str:
    path = folder / "report.html"
    path.write_text(render(facts, **options), "utf-8")
    return path.as_uri()


def opened(browse: Browse, address: str, **options: Any) -> Any:
    page = browse(**options).page
    page.goto(address)
    return page


def overflows(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_section_is_there_at_every_width(
    browse: Browse, address: str, screenshots: Path, width: str, scheme: str
) -> None:
    page = opened(browse, address, width=WIDTHS[width], color_scheme=scheme)
    for key in SECTIONS:
        section = page.locator(f"section#{key}")
        assert section.get_by_role("heading", level=2).count() == 1
        assert len(section.inner_text()) > 40
        assert page.locator(f"#contents a[href='#{key}']").count() == 1
    assert not overflows(page)
    page.screenshot(path=screenshots / f"report_{width}_{scheme}.png", full_page=True)


def test_each_picture_is_shown(browse: Browse, address: str) -> None:
    page = opened(browse, address)
    broken = "[...document.images].filter(one => one.complete && !one.naturalWidth && one.offsetParent).length"
    assert page.locator("img").count() > 50
    assert page.evaluate(broken) == 0


def test_each_cell_opens_its_images(browse: Browse, address: str, facts: Facts) -> None:
    page = opened(browse, address)
    table = facts.evaluation.confusion_matrix
    assert page.locator("table.confusion button").count() == np.count_nonzero(table)
    for true, other in [(0, 0), (6, 2), (0, 7)]:
        n = int(table[true, other])
        page.locator(f"table.confusion button[data-true='{true}'][data-predicted='{other}']").click()
        dialog = page.locator("dialog#group[open]")
        expected = "recognised" if true == other else f"taken for {facts.labels[other]}"
        assert dialog.get_by_role("heading").inner_text() == f"{n} images of {facts.labels[true]} {expected}"
        shown = dialog.locator("#group-images button")
        assert shown.count() == n
        positions = {i for i in range(600) if facts.truth[i] == true and facts.predicted[i] == other}
        assert {shown.nth(k).get_attribute("title") for k in range(n)} == {facts.names[i] for i in positions}
        dialog.get_by_role("button", name="Close").click()


def test_an_image_opens_with_all_that_is_known_of_it(browse: Browse, address: str, facts: Facts) -> None:
    page = opened(browse, address)
    page.locator("section#mistakes button.picture").first.click()
    dialog = page.locator("dialog#image[open]")
    name = dialog.get_by_role("heading").inner_text()
    i = facts.names.index(name)
    text = dialog.inner_text()
    assert facts.labels[facts.predicted[i]] in text
    assert f"in truth {facts.labels[facts.truth[i]]}" in text
    assert f"{100 * facts.probabilities[i].max():.1f} %" in text
    assert "Prediction set at 90 %" in text
    assert facts.novelty is not None
    assert f"p = {facts.novelty[i]:.3f}" in text
    assert dialog.locator(".large img").evaluate("one => one.naturalWidth") > 0
    page.keyboard.press("ArrowRight")
    assert dialog.get_by_role("heading").inner_text() != name
    assert "2 of 24" in dialog.inner_text()


def test_everything_can_be_reached_by_keyboard(browse: Browse, address: str) -> None:
    page = opened(browse, address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    cell = page.locator("table.confusion button").nth(1)
    cell.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog#group[open]").count() == 1
    page.locator("#group-images button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog#image[open]").count() == 1
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert cell.evaluate("one => one === document.activeElement")


def test_the_class_table_is_sorted_by_each_column(browse: Browse, address: str, facts: Facts) -> None:
    page = opened(browse, address)
    names = page.locator("#class-table tbody th")
    assert names.all_inner_texts() == facts.labels
    page.locator("#class-table").get_by_role("button", name="Recognised").click()
    accuracy = np.diagonal(facts.evaluation.confusion_matrix)
    assert names.first.inner_text() == facts.labels[int(accuracy.argmin())]
    assert page.locator("th[aria-sort='ascending']").inner_text().startswith("Recognised")
    page.locator("#class-table").get_by_role("button", name="Class").click()
    page.locator("#class-table").get_by_role("button", name="Class").click()
    assert names.all_inner_texts() == facts.labels[::-1]


def test_the_map_is_drawn_and_answers_to_keys_and_pointer(browse: Browse, address: str) -> None:
    page = opened(browse, address)
    canvas = page.locator("#map-canvas")
    canvas.scroll_into_view_if_needed()
    drawn = "one => new Set(one.getContext('2d').getImageData(0, 0, one.width, one.height).data).size"
    page.wait_for_function("document.getElementById('map-canvas').width > 400")
    page.wait_for_timeout(100)
    assert canvas.evaluate(drawn) > 10
    canvas.focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#map-said").inner_text()
    page.keyboard.press("ArrowRight")
    second = page.locator("#map-said").inner_text()
    assert first.startswith("test/")
    assert first != second
    assert page.locator("#map-card").is_visible()
    page.keyboard.press("Enter")
    assert page.locator("dialog#image[open]").get_by_role("heading").inner_text() == second.partition(":")[0]
    page.keyboard.press("Escape")
    before = canvas.evaluate("one => one.toDataURL()")
    for key in ("+", "0"):
        page.keyboard.press(key)
        page.wait_for_timeout(80)
    page.locator("#map-colour").select_option("right")
    page.wait_for_timeout(80)
    assert canvas.evaluate("one => one.toDataURL()") != before
    assert page.locator("#map-legend").inner_text().split() == ["right", "mistaken"]


def test_another_map_of_attention_can_be_chosen(browse: Browse, address: str) -> None:
    page = opened(browse, address)
    heat = page.locator(".heat").first
    before = heat.get_attribute("src")
    page.locator(".attention-choice").select_option("2")
    assert heat.get_attribute("src") not in (before, None)


def test_the_theme_can_be_switched(browse: Browse, address: str) -> None:
    page = opened(browse, address, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    switch = page.get_by_role("button", name="Theme")
    switch.click()
    assert page.evaluate(ground) == light
    switch.click()
    assert page.evaluate(ground) != light
    assert page.locator(".plot img.dark-only").first.is_visible()
    assert not page.locator(".plot img.light-only").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_told_from_its_ground(browse: Browse, address: str, scheme: str) -> None:
    page = opened(browse, address, color_scheme=scheme)
    faint = (Path(__file__).parent / "contrast.js").read_text("utf-8")
    assert page.evaluate(faint) == {}
    page.locator("table.confusion button").nth(1).click()
    page.locator("#group-images button").first.click()
    assert page.evaluate(faint) == {}


def test_the_contents_are_a_menu_on_phones(browse: Browse, address: str) -> None:
    page = opened(browse, address, width=WIDTHS["phone"])
    assert not page.locator("#contents").is_visible()
    page.get_by_role("button", name="Contents").click()
    page.locator("#contents").get_by_role("link", name="Attention").click()
    assert not page.locator("#contents").is_visible()
    assert page.evaluate("location.hash") == "#attention"


def test_names_are_text_and_no_more(browse: Browse, tmp_path: Path, screenshots: Path) -> None:
    page = opened(browse, written(hostile(), tmp_path), width=WIDTHS["phone"])
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    assert page.get_by_role("heading", level=1).inner_text() == HOSTILE[0]
    assert page.locator("img[src='x'], script:not([id]):not([type='module']) ~ script:not([type])").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0
    labels = page.locator("#class-table tbody th").all_inner_texts()
    assert labels == [visible(name) for name in HOSTILE]
    assert "undecodable-\\xff\\x80.jpg" in labels
    assert "\u202e" not in page.content()
    for button in page.locator("#class-table button.link").all()[:4]:
        button.click()
        page.locator("#group-images button").first.click()
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
    assert not overflows(page)
    assert not asked
    page.screenshot(path=screenshots / "report_hostile.png", full_page=True)


def test_numbers_and_words_are_there_without_script(browse: Browse, address: str) -> None:
    page = opened(browse, address, java_script_enabled=False)
    text = page.locator("main").inner_text()
    assert "JavaScript is off" in text
    for key in ("classes", "confusion", "members", "skipped", "reproduce"):
        assert page.locator(f"section#{key} table, section#{key} dl").first.is_visible()
    assert page.locator("section#mistakes img").first.is_visible()
    assert not page.locator(".script-only").first.is_visible()


def test_it_lives_in_a_sandboxed_frame(browse: Browse, address: str, tmp_path: Path) -> None:
    frame = tmp_path / "frame.html"
    frame.write_text(f'<iframe sandbox="allow-scripts" src="{address}" width="900" height="700"></iframe>')
    page = opened(browse, frame.as_uri())
    inner = page.frame_locator("iframe")
    inner.locator("table.confusion button").first.click()
    assert inner.locator("dialog#group[open] h2").inner_text().startswith("58 images")
