"""Groups of images on the labelling page: Enter labels what the page selected, keys what a person selected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from labelling_helpers import Hands, knowledge, label_page, labels_of, write_clothes
from playwright.sync_api import expect

from frofa.annotation.learning.knowledge import Group

Browse = Callable[..., Any]
SELECTED = '.tile[aria-selected="true"]'


def test_a_whole_group_at_once(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 30)
    group = Group("bag", tuple(range(8)))
    with label_page(tmp_path, knowledge=knowledge(30, groups=(group,))) as served:
        hands = Hands(browse().page).open(served.url)
        hands.press(".")
        hands.page.wait_for_selector('[data-kind="group"][aria-pressed="true"]')
        expect(hands.page.locator('.tile[aria-selected="true"]')).to_have_count(8)
        paths = hands.shown()
        hands.press("ArrowRight", "Space", "Enter")
        # What was left out stays, to be labelled by key.
        assert hands.here() == paths[1]
        hands.give("coat")
        hands.press("Backspace", "Backspace")
        expect(hands.page.locator('.tile[aria-selected="true"]')).to_have_count(7)
        hands.press("Enter")
        hands.saved()
    assert labels_of(served.rows) == dict.fromkeys([paths[0], *paths[2:]], "bag")
    assert {row["how"] for row in served.rows if row["label"] == "bag"} == {"cluster"}


def test_a_key_in_a_group_is_about_one_image(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 30)
    group = Group("bag", tuple(range(8)))
    with label_page(tmp_path, knowledge=knowledge(30, groups=(group,))) as served:
        for name in ("bag", "coat", "dress"):
            served.respond({"op": "add_class", "name": name})
        hands = Hands(browse().page).open(served.url)
        hands.press(".")
        expect(hands.page.locator(SELECTED)).to_have_count(8)
        hint = hands.page.locator(".hint")
        expect(hint).to_contain_text("Enter labels the 8 selected images as bag")
        expect(hint).to_contain_text("A class's key labels the image at the cursor alone")
        paths = hands.shown()
        # An odd one by its key, another one that was left out before: the others stay selected, for Enter.
        hands.press("ArrowRight", "2")
        expect(hands.page.locator(SELECTED)).to_have_count(7)
        hands.press("Space", "3")
        expect(hands.page.locator(SELECTED)).to_have_count(6)
        # Two that a person selects are labelled by one key.
        hands.press("Shift+ArrowRight")
        expect(hint).to_contain_text("labels the 2 selected images")
        hands.press("2")
        expect(hands.page.locator(SELECTED)).to_have_count(4)
        # So it is with an image that is looked at closely.
        hands.press("F2", "2", "Escape")
        expect(hands.page.locator(SELECTED)).to_have_count(3)
        hands.press("Enter")
        hands.saved()
    typed = {paths[1]: "coat", paths[2]: "dress"} | dict.fromkeys(paths[3:6], "coat")
    assert labels_of(served.rows) == {path: typed.get(path, "bag") for path in paths}
    assert [row["how"] for row in served.rows] == ["key", "key", "cluster", "cluster", "key", *["cluster"] * 3]


def test_a_group_that_is_taken_back_elsewhere_is_not_selected(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 40)
    groups = (Group("bag", tuple(range(8))), Group("coat", tuple(range(20, 26))))
    with label_page(tmp_path, knowledge=knowledge(40, groups=groups)) as served:
        hands = Hands(browse().page).open(served.url)
        hands.press(".")
        expect(hands.page.locator(SELECTED)).to_have_count(8)
        group = hands.shown()
        hands.press("Enter")
        expect(hands.page.locator(SELECTED)).to_have_count(6)
        hands.page.get_by_role("button", name="Most useful").click()
        hands.page.wait_for_selector('[data-kind="useful"][aria-pressed="true"]')
        expect(hands.page.locator(".tile")).to_have_count(12)
        hands.press("Backspace")
        expect(hands.page.locator(".tile")).to_have_count(20)
        expect(hands.page.locator(SELECTED)).to_have_count(0)
        assert hands.shown()[:8] == group
        hands.give("dress")
        hands.saved()
    assert labels_of(served.rows) == {group[0]: "dress"}


def test_a_group_without_a_class_is_selected_by_enter(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 30)
    with label_page(tmp_path, knowledge=knowledge(30, groups=(Group(None, tuple(range(6))),))) as served:
        hands = Hands(browse().page).open(served.url)
        hands.press(".")
        expect(hands.page.locator(".tile")).to_have_count(6)
        expect(hands.page.locator(SELECTED)).to_have_count(0)
        paths = hands.shown()
        hands.press("Enter")
        expect(hands.page.locator(SELECTED)).to_have_count(6)
        hands.press("ArrowRight", "Space")
        hands.give("sandal")
        assert hands.here() == paths[1]
        hands.saved()
    assert labels_of(served.rows) == dict.fromkeys([paths[0], *paths[2:]], "sandal")
