"""Labelling pages for tests: a session behind a server in this process, or the command in one of its own."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect
from serving_helpers import serving

from frofa.annotation.features import NoFeatures
from frofa.annotation.learning.knowledge import Group, Knowledge, Measured, Mistake, Needed
from frofa.annotation.records.file import LabelFile
from frofa.annotation.respond import respond
from frofa.annotation.server.folder import list_folder
from frofa.annotation.session import LabellingSession


def write_clothes(folder: Path, n: int, name: Callable[[int], str] = "{:03d}.png".format) -> dict[str, str]:
    """Write the first images of the packaged sample, its classes in turn; give the class of each path."""
    with np.load(str(files("frofa") / "data" / "fashion_mnist_sample.npz")) as sample:
        classes, images = sample["classes"].tolist(), sample["train"]
    truth = {}
    for i in range(n):
        label = i % len(classes)
        path = folder / name(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[label, i // len(classes)]).save(path)
        truth[name(i)] = classes[label]
    return truth


def knowledge(n: int, *, groups: tuple[Group, ...] = (), mistakes: tuple[Mistake, ...] = ()) -> Knowledge:
    """A model that takes all images for bags, and shows them in their order."""
    return Knowledge(
        1,
        ("bag", "coat"),
        np.zeros(n, np.intp),
        np.full(n, 0.75, np.float32),
        Measured(0.9, 0.8, 0.95, 40),
        np.arange(n),
        groups,
        mistakes,
        Needed("Next target, 95 %: about 20 more labels", 20, 0.95, 1, 40),
    )


class Served:
    """A session, the address of its page, and what goes wrong on purpose: `fail` is raised by each label."""

    def __init__(self, session: LabellingSession):
        self.session = session
        self.fail: Exception | None = None
        self.url = ""

    def respond(self, request: Any) -> dict[str, Any]:
        if self.fail is not None and request["op"] in ("label", "undo"):
            raise self.fail
        return respond(self.session, request)

    @property
    def rows(self) -> list[dict[str, str]]:
        return read_rows(self.session.records.file)


@contextmanager
def label_page(folder: Path, out: Path | None = None, **known: Any) -> Iterator[Served]:
    """Serve a page on the images of a folder; `known` are attributes of the session, as its `knowledge`."""
    names = list_folder(folder).names
    records = LabelFile(out or folder / "labels.csv")
    served = Served(LabellingSession(folder, names, records, NoFeatures(len(names))))
    for name, value in known.items():
        setattr(served.session, name, value)
    with serving(folder, served.respond) as client:
        served.url = f"http://127.0.0.1:{client.port}/?token={client.cookie.partition('=')[2]}"
        yield served


class Command:
    """``frofa label`` in a process, which can be killed and started again at the same address."""

    def __init__(self, folder: Path, cache: Path, *options: str):
        self.arguments = [sys.executable, "-m", "frofa", "label", str(folder), "--no-browser", *options]
        self.environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONUNBUFFERED": "1"}

    def __enter__(self) -> "Command":
        self.process = subprocess.Popen(self.arguments, env=self.environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        assert self.url.startswith("http://127.0.0.1:")
        return self

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def read_rows(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        return list(csv.DictReader(lines))


def labels_of(rows: list[dict[str, str]]) -> dict[str, str]:
    """The labels that count: of each path the last, unless it is none."""
    last = {row["path"]: row["label"] for row in rows}
    return {path: label for path, label in last.items() if label}


class Hands:
    """A person at the keyboard of a labelling page."""

    def __init__(self, page: Page):
        self.page = page

    def open(self, url: str) -> "Hands":
        self.page.goto(url)
        self.page.wait_for_selector(".tile.cursor:focus")
        return self

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def here(self) -> str:
        """The path of the image at the cursor."""
        path = self.page.locator(".tile.cursor").get_attribute("title")
        assert path
        return path

    def shown(self) -> list[str]:
        titles = self.page.locator(".tile").evaluate_all("tiles => tiles.map((tile) => tile.title)")
        return [str(title) for title in titles]

    def keys(self) -> dict[str, str]:
        """The key of each class, as the page shows them."""
        rows = self.page.locator(".classes .take")
        read = "rows => rows.map((row) => [row.querySelector('bdi').textContent, row.querySelector('kbd').textContent])"
        return dict(rows.evaluate_all(read))

    def give(self, label: str) -> None:
        """Label what is at the cursor or selected, by a key if there is one, else by a name."""
        key = self.keys().get(label)
        if key:
            self.press(key)
        else:
            self.press("+")
            self.page.keyboard.type(label)
            self.press("Enter")

    def label(self, truth: dict[str, str], n: int) -> dict[str, str]:
        """Label n images as they come; give what was typed."""
        typed = {}
        for _ in range(n):
            path = self.here()
            assert path not in typed
            self.give(truth[path])
            typed[path] = truth[path]
            # The next image is there when the cursor stands on another one.
            expect(self.page.locator(".tile.cursor")).not_to_have_attribute("title", path)
        return typed

    def status(self) -> str:
        return self.page.locator(".status").inner_text()

    def saved(self) -> None:
        """Wait until nothing is on its way any more."""
        until(self.page, "Object.keys(localStorage).every((key) => !key.startsWith('frofa-label:'))")


def until(page: Page, condition: str, seconds: float = 20.0) -> None:
    """Wait for a condition; Playwright's own waiting evaluates text in the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)
