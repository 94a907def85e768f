"""The labelling page as a notebook's widget, in a browser whose kernel is this process."""

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import WIDTHS
from labelling_helpers import Hands, labels_of, read_rows, write_clothes
from PIL import Image
from playwright.sync_api import Page, expect

from frofa import LabelWidget
from frofa.annotation.widget import MODULES, STYLES, bundle, shadow_styles

Browse = Callable[..., Any]
ASSETS = Path(__file__).parents[2] / "frofa" / "annotation" / "assets"
SHOW = """async ([code, styles]) => {
    const listeners = [];
    const answer = async (message) => {
        const [content, picture] = await kernel(message);
        const bytes = picture && Uint8Array.from(atob(picture), (one) => one.charCodeAt(0));
        listeners.forEach((listener) => listener(content, bytes ? [new DataView(bytes.buffer)] : []));
    };
    const model = {
        get: () => styles,
        on: (_, listener) => listeners.push(listener),
        off: (_, listener) => listeners.splice(listeners.indexOf(listener), 1),
        send: answer,
    };
    const { default: widget } = await import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    window.end = widget.render({ model, el: document.getElementById("output") });
}"""


@contextmanager
def notebook(page: Page, widget: LabelWidget) -> Iterator[Hands]:
    """Show a widget on a page that has other things, too, as a notebook does."""

    def kernel(message: dict[str, Any]) -> tuple[Any, str | None]:
        content, buffers = widget._answer(message)
        picture = base64.b64encode(buffers[0]).decode() if buffers else None
        return {"id": message["id"], **content}, picture

    page.expose_function("kernel", kernel)
    page.set_content("<body data-jp-theme-light='false'><textarea></textarea><div id='output'></div></body>")
    page.evaluate(SHOW, [bundle(), shadow_styles()])
    page.wait_for_selector(".tile.cursor")
    yield Hands(page)
    page.evaluate("window.end()")


@pytest.fixture
def widget(tmp_path: Path) -> Iterator[LabelWidget]:
    write_clothes(tmp_path, 14)
    made = LabelWidget(tmp_path, features=np.random.default_rng(0).normal(size=(14, 8)))
    yield made
    made.close()


def test_labels_by_keyboard_in_a_notebook(browse: Browse, widget: LabelWidget, screenshots: Path) -> None:
    page = browse(WIDTHS["tablet"]).page
    with notebook(page, widget) as hands:
        page.locator("textarea").focus()
        page.keyboard.type("b1?0")  # in a cell: no label, and the keyboard stays there
        page.wait_for_timeout(1200)
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
        page.locator(".tile").first.click()
        hands.press("Escape")
        first, second = hands.shown()[:2]
        hands.give("bag")
        hands.press("1", "Backspace")
        expect(page.locator(".panel .large").first).to_have_text("1 of 14 images")
        expect(page.locator(".panel li")).to_have_count(1)
        page.screenshot(path=screenshots / "label_widget.png")
        assert page.evaluate("[...document.querySelector('#output > div').shadowRoot.querySelectorAll('img')].length")
        widget_rows = read_rows(widget.session.records.file)
        hands.press("F2")
        expect(page.locator("dialog[open] bdi")).to_have_text(second)
    assert labels_of(widget_rows) == {first: "bag"}
    images, labels = widget.labelled()
    assert [Path(str(image)).name for image in images] == [first]
    assert labels == ["bag"]


def test_the_notebook_keeps_its_looks() -> None:
    styles = shadow_styles()
    selectors = re.findall(r"^([^\s@}/][^{}]*?)\s*\{", styles, re.MULTILINE)
    assert ":host" in selectors
    assert not [one for one in selectors if re.search(r":root|^html|^body", one)]


def test_the_bundle_is_one_module_of_all_parts() -> None:
    code = bundle()
    assert not re.search(r"^import|^export (?!default)", code, re.MULTILINE)
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", code, re.MULTILINE)
    assert len(set(names)) == len(names)
    own = {"label.js"}  # the entry of the page that a server sends
    assert {path.name for path in ASSETS.glob("*.js")} - own == set(MODULES)
    assert {path.name for path in ASSETS.glob("*.css")} == set(STYLES)


def test_what_cannot_be_done_is_said(widget: LabelWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "from 0 to 13" in widget._answer({"picture": 14})[0]["refused"]
    assert "from 0 to 13" in widget._answer({"picture": "../x"})[0]["refused"]
    assert "op" in widget._answer({"request": {"op": "delete"}})[0]["refused"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(widget.session.records, "append", full)
    path = widget.session.paths[0]
    labels = [{"path": path, "label": "bag", "how": "key"}]
    answer, _ = widget._answer({"request": {"op": "label", "client": "c", "number": 1, "labels": labels}})
    assert answer["failed"] == "the labels cannot be written: No space left on device"


def test_images_that_are_no_files(tmp_path: Path) -> None:
    images = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (0, 90, 180)]
    widget = LabelWidget(images, tmp_path / "labels.csv", features=np.eye(3))
    labels = [{"path": "image 2", "label": "red", "how": "key"}]
    widget._answer({"request": {"op": "label", "client": "c", "number": 1, "labels": labels}})
    assert widget.labels().tolist() == [None, None, "red"]
    assert widget.labelled() == ([images[2]], ["red"])
    assert widget._answer({"picture": 2})[1][0].startswith(b"RIFF")
    widget.close()
    again = LabelWidget(images, tmp_path / "labels.csv", features=np.eye(3))
    assert again.labels().tolist() == [None, None, "red"]
    again.close()


def test_wrong_arguments(tmp_path: Path) -> None:
    write_clothes(tmp_path / "images", 2)
    with pytest.raises(ValueError, match=r"expected features of 2 images. Got 3"):
        LabelWidget(tmp_path / "images", features=np.eye(3))
    with pytest.raises(ValueError, match=r"ends in .csv. Got .*labels.txt"):
        LabelWidget(tmp_path / "images", tmp_path / "labels.txt", features=np.eye(2))
    with pytest.raises(ValueError, match=r"expected images. Got none"):
        LabelWidget([])
