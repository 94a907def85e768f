"""The labelling page in a browser, used by keyboard: what is typed is what stands in the file."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import WIDTHS
from labelling_helpers import Command, Hands, knowledge, label_page, labels_of, read_rows, until, write_clothes
from playwright.sync_api import expect

from frofa.annotation.learning.knowledge import Group, Mistake
from frofa.exceptions import RequestError

Browse = Callable[..., Any]


def test_from_no_labels_by_keyboard(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 14)
    with label_page(tmp_path) as served:
        hands = Hands(browse().page).open(served.url)
        paths = hands.shown()
        # Typing is obvious: a letter opens the box in which the first class is named.
        hands.page.keyboard.type("bag")
        hands.press("Enter")
        hands.give("Ankle boot")
        assert hands.keys() == {"bag": "1", "Ankle boot": "2"}
        hands.press("2", "?", "0", "1")
        assert hands.here() == paths[6]
        # Undo takes the cursor back to the image.
        hands.press("Backspace", "Control+z")
        assert hands.here() == paths[4]
        hands.press("0")
        # Several at once: the rest of the row, then one more that is far from it.
        hands.press("Shift+ArrowRight", "Shift+ArrowRight", "End", "Space")
        expect(hands.page.locator('.tile[aria-selected="true"]')).to_have_count(4)
        hands.give("bag")
        hands.saved()
    typed = dict.fromkeys([paths[0], *paths[5:8], paths[11]], "bag") | dict.fromkeys(paths[1:3], "Ankle boot")
    assert labels_of(served.rows) == typed
    last = {row["path"]: row["how"] for row in served.rows}
    assert (last[paths[3]], last[paths[4]]) == ("unsure", "none")


def test_the_last_key_of_a_batch_shows_the_next_at_once(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 30)
    with label_page(tmp_path) as served:
        hands = Hands(browse().page).open(served.url)
        first = hands.shown()
        hands.give("bag")
        hands.press("Control+a")
        hands.page.wait_for_timeout(500)  # a person looks at the images; the next ones come meanwhile
        now = """() => {
            document.dispatchEvent(new KeyboardEvent("keydown", {key: "1", bubbles: true}));
            const tiles = [...document.querySelectorAll(".tile")];
            return tiles.map((tile) => [tile.title, tile.querySelector("img").naturalWidth]);
        }"""
        after = hands.page.locator(".tile.cursor").evaluate(
            now.replace("document.dispatch", "document.activeElement.dispatch")
        )
        hands.saved()
    assert len(after) == 12
    assert not {path for path, _ in after} & set(first)
    assert all(width == 28 for _, width in after)
    assert len(labels_of(served.rows)) == 12


def test_guesses_are_accepted(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 12)
    with label_page(tmp_path, knowledge=knowledge(12)) as served:
        hands = Hands(browse().page).open(served.url)
        expect(hands.page.locator(".tile.cursor .guess")).to_have_text("bag? 75 %")
        hands.press("Enter")
        # The same without a keyboard.
        hands.press("Shift+ArrowRight")
        hands.page.get_by_role("button", name="Label 2 images as bag").click()
        hands.page.wait_for_selector(".tile.cursor:focus")
        hands.saved()
        told = "Next target, 95 %: about 20 more labels (as of 40 labels)"
        expect(hands.page.locator(".panel")).to_contain_text(told)
    assert [(row["label"], row["how"]) for row in served.rows] == [("bag", "guess")] * 3


def test_suspected_mistakes_are_looked_at(browse: Browse, tmp_path: Path) -> None:
    paths = list(write_clothes(tmp_path, 12))
    mistakes = (Mistake(3, "coat", "bag", 0.8), Mistake(5, "coat", "bag", 0.6))
    with label_page(tmp_path, knowledge=knowledge(12, mistakes=mistakes)) as served:
        ask = {"op": "label", "client": "c", "number": 1}
        coats = [{"path": paths[i], "label": "coat", "how": "key"} for i in (3, 5)]
        served.respond({**ask, "labels": coats})
        hands = Hands(browse().page).open(served.url)
        hands.page.get_by_role("button", name="Look at 2 suspected mistakes").click()
        hands.page.wait_for_selector('[data-kind="mistakes"][aria-pressed="true"]')
        expect(hands.page.locator(".tile.cursor .label")).to_have_text("coat")
        hands.press("Enter", hands.keys()["coat"])
        hands.saved()
    assert labels_of(served.rows) == {paths[3]: "bag", paths[5]: "coat"}


def test_two_windows_see_each_other_and_undo_their_own(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 12)
    with label_page(tmp_path) as served:
        one, two = Hands(browse().page).open(served.url), Hands(browse().page).open(served.url)
        first, second = one.shown()[:2]
        one.give("bag")
        expect(two.page.locator(f'.tile[title="{first}"] .label')).to_have_text("bag")
        two.press("ArrowRight")
        two.give("coat")
        expect(one.page.locator(f'.tile[title="{second}"] .label')).to_have_text("coat")
        one.press("Backspace")
        expect(two.page.locator(f'.tile[title="{first}"] .label')).to_have_text("")
        one.saved()
        two.saved()
    assert labels_of(served.rows) == {second: "coat"}


def test_a_full_disk_and_a_reload_lose_nothing(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 12)
    with label_page(tmp_path) as served:
        watched = browse()
        hands = Hands(watched.page).open(served.url)
        served.fail = OSError(errno.ENOSPC, "No space left on device")
        path = hands.here()
        hands.give("bag")
        expect(hands.page.locator(".banner")).to_contain_text("Not saved yet: ")
        expect(hands.page.locator(".banner")).to_contain_text("No space left on device")
        second = hands.here()
        hands.press("1")
        # The window goes with two decisions that nobody has written; the next one has them.
        hands.page.reload()
        hands.page.wait_for_selector(".tile.cursor:focus")
        assert not served.rows
        served.fail = None
        hands.saved()
        expect(hands.page.locator(".banner")).to_be_hidden()
        watched.complaints[:] = [text for text in watched.complaints if "507" not in text]
    assert [(row["path"], row["label"]) for row in served.rows] == [(path, "bag"), (second, "bag")]


def test_a_refused_label_can_be_given_up(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 12)
    with label_page(tmp_path) as served:
        watched = browse()
        hands = Hands(watched.page).open(served.url)
        path = hands.here()
        served.fail = RequestError("no such thing")
        hands.give("bag")
        expect(hands.page.locator(".banner")).to_contain_text("Not saved: no such thing")
        served.fail = None
        hands.page.get_by_role("button", name="Give up this label").click()
        expect(hands.page.locator(".banner")).to_be_hidden()
        expect(hands.page.locator(f'.tile[title="{path}"] .label')).to_have_text("")
        watched.complaints[:] = [text for text in watched.complaints if "400" not in text]
    assert not served.rows


def test_a_notice_is_read_once(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 12)
    with label_page(tmp_path, message="A row that was cut off was removed.") as served:
        hands = Hands(browse().page).open(served.url)
        expect(hands.page.locator(".banner")).to_contain_text("A row that was cut off was removed.")
        hands.page.get_by_role("button", name="Close", exact=True).first.click()
        expect(hands.page.locator(".banner")).to_be_hidden()
        hands.give("bag")
        hands.saved()
        expect(hands.page.locator(".banner")).to_be_hidden()


HOSTILE = [
    "<img src=x onerror=document.title='owned'>.png",
    "'\"><script>document.title='owned'<|script>.png",
    "javascript:document.title='owned'.png",
    "\u202egnp.exe\u2069 \U0001f4a5.png",
    "&lt;b&gt;%00%2e%2e%2f.png",
    "a b#c?d=1&e.png",
]


def test_hostile_names_are_text(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, len(HOSTILE), lambda i: HOSTILE[i])
    name = "<img src=x onerror=\"document.title='owned'\">"
    with label_page(tmp_path) as served:
        hands = Hands(browse().page).open(served.url)
        assert set(hands.shown()) == set(HOSTILE)
        hands.press("+")
        hands.page.keyboard.type(name)
        hands.press("Enter", "F2")
        expect(hands.page.locator("dialog[open] bdi")).to_have_text(hands.here())
        hands.press("1", "Escape", "+")
        hands.page.keyboard.type("<img")
        expect(hands.page.locator(".completions li")).to_have_text([name])
        hands.press("ArrowDown", "Enter")
        hands.saved()
        assert "owned" not in hands.page.title()
        assert hands.page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth)")
        assert not hands.page.locator("main script, main [onerror]").count()
    assert list(labels_of(served.rows).values()) == [name] * 3


def test_more_classes_than_keys(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 40)
    with label_page(tmp_path) as served:
        for number in range(40):
            served.respond({"op": "add_class", "name": f"class {number:02d}"})
        hands = Hands(browse().page).open(served.url)
        assert "".join(hands.keys().values()) == "123456789abcdefghijklmnopqrstuvwxyz"
        first, second = hands.shown()[:2]
        hands.press("z", "+")
        hands.page.keyboard.type("CLASS 3")
        expect(hands.page.locator(".completions li")).to_have_count(8)
        hands.page.keyboard.type("9")
        hands.press("Enter")  # as it is written elsewhere, whatever its capitals
        hands.saved()
    assert labels_of(served.rows) == {first: "class 34", second: "class 39"}


def test_classes_are_renamed_and_shown(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 12)
    with label_page(tmp_path) as served:
        hands = Hands(browse().page).open(served.url)
        paths = hands.shown()
        hands.give("bga")
        hands.press("1")
        hands.saved()
        hands.page.get_by_role("button", name="Rename bga").click()
        hands.page.keyboard.type("bag")
        hands.press("Enter")
        expect(hands.page.locator(".classes .take bdi")).to_have_text(["bag"])
        hands.page.get_by_role("button", name="Show the 2 images of bag").click()
        expect(hands.page.locator(".tile")).to_have_count(2)
        hands.page.locator(".tile:focus").wait_for()
        hands.press("?")
        hands.saved()
    assert list(labels_of(served.rows).values()) == ["bag"]
    assert set(labels_of(served.rows)) < set(paths[:2])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_three_widths(browse: Browse, tmp_path: Path, screenshots: Path, width: str, scheme: str) -> None:
    paths = list(write_clothes(tmp_path, 60))
    known = knowledge(60, groups=(Group("bag", tuple(range(20, 40))),), mistakes=(Mistake(0, "a", "bag", 0.8),))
    with label_page(tmp_path, knowledge=known) as served:
        labels = [
            {"path": path, "label": f"{'a very long name of a ' * 3}class {i}", "how": "key"}
            for i, path in enumerate(paths[:9])
        ]
        served.respond({"op": "label", "client": "c", "number": 1, "labels": labels})
        page = browse(WIDTHS[width], 740 if width == "phone" else 900, color_scheme=scheme).page
        hands = Hands(page).open(served.url)
        for kind in ("useful", "group"):
            expect(page.locator(f'[data-kind="{kind}"]')).to_have_attribute("aria-pressed", "true")
            page.wait_for_selector(".tile.cursor:focus")
            until(page, "[...document.images].every((image) => image.complete)")
            page.screenshot(path=screenshots / f"label_{kind}_{width}_{scheme}.png")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            # What has the keyboard is seen, and not under the bar of classes.
            assert page.evaluate(
                "(() => { const box = document.activeElement.getBoundingClientRect();"
                "const top = document.elementFromPoint(box.x + box.width / 2, box.bottom - 8);"
                "return document.activeElement.contains(top); })()"
            )
            hands.press("End" if kind == "useful" else "Home", ".")
        hands.press("F1")
        page.screenshot(path=screenshots / f"label_keys_{width}_{scheme}.png")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [1024, 1200, 1280, 1400])
def test_the_header_is_one_line(browse: Browse, tmp_path: Path, width: int) -> None:
    write_clothes(tmp_path, 12)
    known = knowledge(12, mistakes=tuple(Mistake(i, "coat", "bag", 0.8) for i in range(12)))
    with label_page(tmp_path, knowledge=known) as served:
        hands = Hands(browse(width, 800).page).open(served.url)
        # With a number of mistakes and the longest name of the theme, too.
        hands.press("Control+a")
        hands.give("coat")
        expect(hands.page.locator('[data-kind="mistakes"]')).to_have_text("Suspected mistakes (12)")
        boxes = [one.bounding_box() for one in hands.page.locator("header button").all()]
        middles = {round(box["y"] + box["height"] / 2) for box in boxes if box}
    assert len(boxes) == 6
    assert max(middles) - min(middles) <= 2


def test_everything_has_a_name(browse: Browse, tmp_path: Path) -> None:
    write_clothes(tmp_path, 12)
    with label_page(tmp_path, knowledge=knowledge(12)) as served:
        hands = Hands(browse().page).open(served.url)
        hands.give("bag")
        page = hands.page
        assert page.locator("h1").count() == 1
        for role in ("button", "textbox", "combobox", "listbox", "option", "progressbar"):
            for one in page.get_by_role(role).all():
                name = "(node) => (node.ariaLabel || node.labels?.[0]?.textContent || node.textContent).trim()"
                assert page.evaluate(name, one.element_handle())
        expect(page.get_by_role("option", name=f"Image 1 of 12, {hands.shown()[0]}, bag")).to_be_visible()
        expect(page.get_by_role("status")).to_have_text("1 image: bag.")
        # By Tab alone: the images are one stop, and Space on a button presses the button.
        page.get_by_role("button", name="Keys").focus()
        hands.press("Space")
        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        hands.press("Escape")
        page.wait_for_selector(".tile.cursor:focus")


@pytest.fixture(params=["packaged", "imagenette160"])
def photographs(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder of images without labels, and what they show."""
    folder = tmp_path / "images"
    if request.param == "packaged":
        return folder, write_clothes(folder, 100)
    source = request.getfixturevalue("shared_data") / "imagenette160" / "train"
    truth: dict[str, str] = {}
    folder.mkdir()
    for one in sorted(source.iterdir()):
        for number, path in enumerate(sorted(one.iterdir())[:12]):
            name = f"{number:02d}{len(truth):04d}{path.suffix}"
            shutil.copy(path, folder / name)
            truth[name] = one.name
    return folder, truth


def test_sixty_labels_with_a_kill_and_a_reload(
    browse: Browse, photographs: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, truth = photographs
    command = Command(folder, tmp_path / "cache")
    watched = browse()
    with command:
        hands = Hands(watched.page).open(command.url)
        typed = hands.label(truth, 27)
        command.kill()
        typed |= hands.label(truth, 5)
        expect(watched.page.locator(".banner")).to_contain_text("Not saved yet")
        assert len(labels_of(read_rows(folder / "labels.csv"))) < len(typed)
    url = command.url
    with command:
        assert command.url == url
        typed |= hands.label(truth, 10)
        hands.saved()
        expect(watched.page.locator(".banner")).to_be_hidden()
        hands.page.reload()
        hands.page.wait_for_selector(".tile.cursor:focus")
        typed |= hands.label(truth, 18)
        hands.saved()
    watched.complaints[:] = [text for text in watched.complaints if "ERR_CONNECTION" not in text]
    rows = read_rows(folder / "labels.csv")
    assert len(typed) == len(rows) == 60
    assert [(row["path"], row["label"]) for row in rows] == list(typed.items())


@pytest.mark.parametrize("seed", [0])
def test_whatever_is_pressed_the_page_shows_what_the_file_has(browse: Browse, tmp_path: Path, seed: int) -> None:
    write_clothes(tmp_path, 50)
    random = np.random.default_rng(seed)
    keys = [
        *"123?0",
        "Backspace",
        "Enter",
        "Space",
        "Shift+ArrowRight",
        "ArrowDown",
        "Escape",
        "Control+a",
        ".",
        "PageDown",
    ]
    likely = np.array([8, 8, 4, 2, 2, 6, 2, 3, 3, 2, 1, 0.5, 1, 0.5])
    known = knowledge(50, groups=(Group("bag", tuple(range(10, 30))),))
    with label_page(tmp_path, knowledge=known) as served:
        for name in ("bag", "coat", "dress"):
            served.respond({"op": "add_class", "name": name})
        watched = browse()
        hands = Hands(watched.page).open(served.url)
        for step in range(120):
            # The disk is full now and then.
            served.fail = OSError(errno.ENOSPC, "No space left on device") if step % 40 > 30 else None
            hands.press(str(random.choice(keys, p=likely / likely.sum())))
        served.fail = None
        hands.saved()
        hands.page.wait_for_timeout(1200)  # a look at the state
        watched.complaints[:] = [text for text in watched.complaints if "507" not in text]
        last = {
            row["path"]: row["label"] or {"unsure": "not sure", "none": "none of these"}.get(row["how"], "")
            for row in served.rows
        }
        tiles = "tiles => tiles.map((tile) => [tile.title, tile.querySelector('.label').textContent])"
        for path, shown in hands.page.locator(".tile").evaluate_all(tiles):
            assert shown == last.get(path, "")
        panel = hands.page.locator(".panel").inner_text()
        n_labelled = len(labels_of(served.rows))
        marks = [list(last.values()).count(mark) for mark in ("not sure", "none of these")]
        assert f"{n_labelled} of 50 images" in panel
        assert f"{marks[0]} not sure · {marks[1]} none of these" in panel
