"""Take the pictures of docs/labelling.md: the page in a browser, with packaged images of Fashion-MNIST being labelled.

Runs offline, on the embedded backbone; needs Chromium, and Playwright of the extra ``dev``:

    python docs/make_label_figures.py [--labels 60] [--out docs/figures]
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

DESKTOP, TABLET, PHONE = (1400, 900), (820, 1100), (360, 740)
COLOURS = 64
"""Of a picture: grey images and a few colours take no more."""


def write_images(folder: Path) -> dict[str, str]:
    """Write the packaged images in a random order, without their classes, which are returned by name."""
    with np.load(str(files("frofa") / "data" / "fashion_mnist_sample.npz")) as sample:
        names, images = sample["classes"], sample["train"]
    truth = {}
    for number, place in enumerate(np.random.default_rng(0).permutation(images.shape[0] * images.shape[1])):
        label, index = divmod(int(place), images.shape[1])
        truth[f"{number:03d}.png"] = str(names[label])
        Image.fromarray(images[label, index]).save(folder / f"{number:03d}.png")
    return truth


@contextmanager
def labelling(folder: Path, cache: Path) -> Iterator[str]:
    """Run ``frofa label`` and give its address."""
    command = [sys.executable, "-m", "frofa", "label", str(folder), "--no-browser", "--store", str(cache / "store")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def label(page: Page, truth: dict[str, str], n: int) -> None:
    """Label images as a person does, who knows what they are."""
    for _ in range(n):
        name = truth[str(page.locator(".tile.cursor").get_attribute("title"))]
        known = page.locator(".classes .take", has=page.get_by_text(name, exact=True))
        if known.count():
            page.keyboard.press(known.locator("kbd").inner_text())
        else:
            page.keyboard.press("+")
            page.keyboard.type(name)
            page.keyboard.press("Enter")
        page.wait_for_timeout(150)


def take(page: Page, file: Path, size: tuple[int, int], scheme: str) -> None:
    """Write a picture of the page, in few colours."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.wait_for_timeout(700)
    image = Image.open(BytesIO(page.screenshot())).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with TemporaryDirectory() as directory, sync_playwright() as playwright:
        folder = Path(directory, "images")
        folder.mkdir()
        truth = write_images(folder)
        with labelling(folder, Path(directory, "cache")) as url:
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
            page.goto(url)
            page.wait_for_selector(".tile.cursor:focus")
            # Features first, so that the pictures show what they buy.
            while page.locator(".panel progress").is_visible():
                page.wait_for_timeout(500)
            page.keyboard.press("PageDown")
            label(page, truth, args.labels)
            page.wait_for_timeout(4000)
            page.keyboard.press("PageDown")
            page.wait_for_timeout(2000)
            label(page, truth, 3)
            page.keyboard.press("Shift+ArrowRight")
            page.wait_for_timeout(3000)
            take(page, args.out / "label_useful.png", DESKTOP, "light")
            take(page, args.out / "label_phone.png", PHONE, "light")
            page.keyboard.press("Escape")
            page.keyboard.press(".")
            page.wait_for_timeout(2000)
            take(page, args.out / "label_group.png", TABLET, "dark")
            browser.close()


if __name__ == "__main__":
    main()
