"""How long people wait for the labelling page, in a real browser, with features being computed behind it.

- first: from the start of ``frofa label`` on 1,000 photographs without features to the first image that the browser has
  painted. Bar: 3 s.
- keys: from a key that labels an image to the next image, painted, over 60 keys, while features are computed; keys that
  end a batch and those within one apart. Bar: 50 ms.
- many: the same start on 100,000 files, and what each operation of the page takes there. Bar: 50 ms.
- retraining: from the answer to the 500th label to the model that knows it, of 2,000 and of 100,000 images whose
  features (384 numbers) are there, after a pause, and at once after the last one, while suggestions and the like are
  still computed beside it; and what operations take meanwhile. Bar: 1 s, and 50 ms.

Usage: python benchmarks/labelling_page.py [first keys many retraining] [--runs N] [--out FILE.json]
Needs Chromium and Playwright for the first two. Prints one line of JSON a measurement.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

PHOTOS, FILES, DIFFERENT = 1_000, 100_000, 100
KEYS, BATCH = 60, 12
TIMED_KEY = """async key => {
  const at = () => document.querySelector(".tile.cursor:not(.done)");
  const before = at()?.title;
  const began = performance.now();
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
  for (;;) {
    await new Promise(requestAnimationFrame);
    const picture = at()?.querySelector("img");
    if (at() && at().title !== before && picture?.complete && picture.naturalWidth) return performance.now() - began;
    if (performance.now() - began > 10000) return null;
  }
}"""
"""Presses a key and waits for a frame with another image at the cursor."""
FIRST_PICTURE = """async () => {
  const isThere = one => one.complete && one.naturalWidth;
  while (![...document.querySelectorAll(".tile img")].some(isThere)) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
}"""
"""Waits for a frame with an image."""


def write_photos(folder: Path, n: int, different: int) -> Path:
    """Write JPEG files of 640 x 480, `different` ones, and links to these up to `n`."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(n):
        path = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if i < different:
            small = Image.fromarray(random.integers(0, 255, (48, 64, 3), np.uint8))
            small.resize((640, 480)).filter(ImageFilter.GaussianBlur(2)).save(path, quality=85)
        else:
            os.link(folder / "000" / f"{i % different:06d}.jpg", path)
    return folder


@contextmanager
def command(folder: Path, work: Path) -> Iterator[tuple[str, float]]:
    """Start the command on a folder without features; give the page's address, and when it was started."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    options = ["--no-browser", "--store", str(work / "store"), "--out", str(work / "labels.csv"), "--quiet"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(work / "cache")}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "frofa", "label", str(folder), *options],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout
        yield process.stdout.readline().removeprefix("label at ").strip(), began
    finally:
        process.kill()
        process.wait()


class Api:
    """Operations of the page, each with the time that it took."""

    def __init__(self, address: str):
        host, _, token = address.removeprefix("http://").partition("/?token=")
        self.connection = HTTPConnection(host, timeout=120)
        port = host.partition(":")[2]
        self.headers = {"Content-Type": "application/json", "X-Frofa": "1", "Cookie": f"frofa-{port}={token}"}
        self.seconds: dict[str, list[float]] = {}
        self.number = 0

    def __call__(self, name: str, **request: Any) -> Any:
        """Ask, and give the answer."""
        began = time.perf_counter()
        self.connection.request("POST", "/api", json.dumps(request), self.headers)
        answer = self.connection.getresponse()
        found = json.loads(answer.read())
        self.seconds.setdefault(name, []).append(time.perf_counter() - began)
        if answer.status != 200:
            raise RuntimeError(found)
        return found

    def label(self, path: str, label: str, since: int) -> Any:
        """Label an image, and give the state."""
        self.number += 1
        labels = [{"path": path, "label": label, "how": "key"}]
        return self("label", op="label", client="benchmark", number=self.number, labels=labels, since=since)

    def summary(self) -> dict[str, Any]:
        """Describe the times of each kind of operation."""
        return {name: spread(seconds) for name, seconds in self.seconds.items()}


def spread(seconds: list[float]) -> dict[str, Any]:
    """Median, 95th percentile and maximum in milliseconds."""
    values = 1000 * np.array(seconds)
    names = {"median": np.median(values), "p95": np.quantile(values, 0.95), "most": values.max()}
    return {"n": len(values), **{f"{name}_ms": round(float(value), 1) for name, value in names.items()}}


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def measure_first(directory: Path, runs: int) -> Iterator[dict[str, Any]]:
    folder = write_photos(directory / "photos", PHOTOS, PHOTOS)
    seconds, done = [], []
    with browser() as chromium:
        for _ in range(runs):
            page = chromium.new_context().new_page()
            with command(folder, directory / "work") as (address, began):
                page.goto(address)
                page.evaluate(FIRST_PICTURE)
                seconds.append(time.perf_counter() - began)
                done.append(wait_for(Api(address), lambda state: state["extraction"]["done"] > 0)["extraction"]["done"])
            page.close()
    yield {
        "measurement": "first",
        "images": PHOTOS,
        "runs": runs,
        "seconds_median": round(statistics.median(seconds), 2),
        "seconds_most": round(max(seconds), 2),
        "bar": 3.0,
        "features_followed": min(done) > 0,
    }


def measure_keys(directory: Path, runs: int) -> Iterator[dict[str, Any]]:  # noqa: ARG001 (as the others)
    folder = write_photos(directory / "photos", PHOTOS, PHOTOS)
    with browser() as chromium, command(folder, directory / "work") as (address, _):
        page = chromium.new_context().new_page()
        page.goto(address)
        page.evaluate(FIRST_PICTURE)
        for name in ("one", "two"):
            page.keyboard.press("+")
            page.keyboard.type(name)
            page.keyboard.press("Enter")
            time.sleep(0.5)
        wait_for(Api(address), lambda state: state["extraction"]["done"] > 0)
        within: list[float] = []
        ending: list[float] = []
        for i in range(KEYS):
            left = page.locator(".tile:not(.done)").count()
            taken = page.evaluate(TIMED_KEY, "12"[i % 2])
            (within if left > 1 else ending).append(taken / 1000 if taken is not None else float("nan"))
            time.sleep(0.2)
        extraction = Api(address)("state", op="state", since=None)["extraction"]
    yield {
        "measurement": "keys",
        "images": PHOTOS,
        "within_a_batch": spread(within),
        "to_the_next_batch": spread(ending),
        "bar_ms": 50,
        "features_at_the_end": extraction["done"],
    }


def measure_many(directory: Path, runs: int) -> Iterator[dict[str, Any]]:  # noqa: ARG001 (as the others)
    folder = write_photos(directory / "files", FILES, DIFFERENT)
    with command(folder, directory / "work") as (address, began):
        served = time.perf_counter() - began
        api = Api(address)
        found = api("batch", op="batch", n=BATCH, kind="useful", skip=[])
        shown = found["items"][0]["index"]
        api.connection.request("GET", f"/thumb/{shown}?size=256", headers=api.headers)
        api.connection.getresponse().read()
        first = time.perf_counter() - began
        before = operate(api, 100)
        # With PyTorch imported, and features coming.
        wait_for(api, lambda state: state["extraction"]["done"] > 0)
        api.seconds.clear()
        during = operate(api, 200)
        extraction = api("state", op="state", since=None)["extraction"]
    yield {
        "measurement": "many",
        "images": FILES,
        "seconds_to_address": round(served, 2),
        "seconds_to_first_image": round(first, 2),
        "without_features": before,
        "with_features_coming": during,
        "features_at_the_end": extraction["done"],
        "bar_ms": 50,
    }


def operate(api: Api, n: int) -> dict[str, Any]:
    """Label, look at the state and fetch images, as the page does."""
    api.seconds.clear()
    version = api("state", op="state", since=None)["version"]
    api.seconds.clear()
    for i in range(n):
        items = api("batch", op="batch", n=BATCH, kind="useful", skip=[])["items"]
        version = api.label(items[0]["path"], f"class {i % 10}", version)["version"]
        api("state", op="state", since=version)
    return api.summary()


def wait_for(api: Api, condition: Callable[[Any], bool], seconds: float = 300.0) -> Any:
    end = time.perf_counter() + seconds
    while not condition(state := api("state", op="state", since=None)):
        if time.perf_counter() > end:
            raise TimeoutError(state)
        time.sleep(0.05)
    return state


def measure_retraining(directory: Path, runs: int) -> Iterator[dict[str, Any]]:
    for n in (2_000, FILES):
        yield retrain(directory / str(n), n, runs)


def retrain(directory: Path, n: int, runs: int) -> dict[str, Any]:
    from frofa.annotation.features import ArrayFeatures
    from frofa.annotation.records.file import LabelFile
    from frofa.annotation.respond import respond
    from frofa.annotation.server.access import Access, new_token
    from frofa.annotation.server.pictures import Pictures
    from frofa.annotation.server.server import LabellingServer
    from frofa.annotation.session import Labelling, LabellingSession

    directory.mkdir()
    # Ten classes that overlap, so that accuracy is not perfect and guesses are not certain.
    random = np.random.default_rng(0)
    truth = random.integers(0, 10, n)
    X = (0.12 * random.normal(size=(10, 384))[truth] + random.normal(size=(n, 384))).astype(np.float32)
    names = [f"{i}.jpg" for i in range(n)]
    session = LabellingSession(directory, names, LabelFile(directory / "labels.csv"), ArrayFeatures(X))
    session.decide([Labelling(names[i], f"class {truth[i]}", "key") for i in range(499)])
    fits: list[float] = []
    waits: dict[str, list[float]] = {"after_a_pause": [], "at_once": []}
    with LabellingServer(partial(respond, session), Pictures(directory, names), Access(new_token())) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = Api(server.url)
        session.start()
        version = wait_for(api, lambda state: state["model"] and not state["model"]["stale"])["version"]
        api.seconds.clear()
        for i in range(499, 499 + 2 * runs):
            if i % 2:
                rest()
            version = api.label(names[i], f"class {truth[i]}", version)["version"]
            began = time.perf_counter()
            while not (model := api("state", op="state", since=version)["model"]) or model["version"] < version:
                time.sleep(0.02)
            waits["after_a_pause" if i % 2 else "at_once"].append(time.perf_counter() - began)
            fits.append(model["seconds"])
            api("batch", op="batch", n=BATCH, kind="useful", skip=[])
        server.shutdown()
    session.close()
    for thread in threading.enumerate():
        if thread.name == "frofa-labelling":
            thread.join()
    return {
        "measurement": "retraining",
        "images": n,
        "labels": 500,
        "accuracy": model["accuracy"],
        **{f"retraining_{name}": spread(seconds) for name, seconds in waits.items()},
        "of_which_the_fit": spread(fits),
        "bar_ms": 1000,
        "operations": api.summary(),
    }


def rest() -> None:
    """Wait until everything that follows a fit, such as suggestions, is done: nothing is computed for half a second."""
    while True:
        before = time.process_time()
        time.sleep(0.5)
        if time.process_time() - before < 0.05:
            return


MEASUREMENTS = {"first": measure_first, "keys": measure_keys, "many": measure_many, "retraining": measure_retraining}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(MEASUREMENTS), metavar="NAME")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    records = []
    for name in args.names:
        with tempfile.TemporaryDirectory() as directory:
            for record in MEASUREMENTS[name](Path(directory), args.runs):
                records.append({**record, **machine, "load": round(os.getloadavg()[0], 1)})
                print(json.dumps(records[-1]), flush=True)
    if args.out:
        # Measurements that were not made now stay.
        earlier = json.loads(args.out.read_text()) if args.out.exists() else []
        records = [one for one in earlier if one["measurement"] not in args.names] + records
        args.out.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
