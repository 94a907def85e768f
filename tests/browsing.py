"""A browser for tests of pages: Debian's Chromium, driven by Playwright, which may talk to this machine alone."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

WITHIN = ("http://127.0.0.1:", "file://", "data:", "blob:", "about:")
WIDTHS = {"phone": 360, "tablet": 820, "desktop": 1400}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests, which resolves no name and so reaches no other machine."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: .ci/run installs it")
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", rules])
        yield browser
        browser.close()


class Watched:
    """A page, with what it asked for and complained of."""

    def __init__(self, page: Page):
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on(
            "console", lambda line: self.complaints.append(line.text) if line.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def check(self) -> None:
        """Nothing left the machine, and nothing went wrong."""
        assert not self.complaints
        assert not [url for url in self.requests if not url.startswith(WITHIN)]


@pytest.fixture
def browse(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """Open pages of a width, in light or dark; what they asked for and complained of is checked at the end."""
    opened = []

    def open_page(width: int = WIDTHS["desktop"], height: int = 900, **options: Any) -> Watched:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        opened.append((context, Watched(context.new_page())))
        return opened[-1][1]

    yield open_page
    for context, watched in opened:
        watched.check()
        context.close()


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where screenshots go: FROFA_SCREENSHOTS, if somebody wants to look at them."""
    folder = Path(os.environ.get("FROFA_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
