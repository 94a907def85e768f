"""The command that serves the page: kills, restarts, two servers and full disks lose nothing that was confirmed."""

import csv
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving_helpers import Client, Reply, write_images

from frofa.cli import main

PAGE = b"<!doctype html>"


class Served:
    """A running command, and a client that sends it requests."""

    def __init__(self, process: "subprocess.Popen[str]", address: str):
        self.process, self.address = process, address
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{43})", address)
        assert found
        self.port, self.token = int(found[1]), found[2]
        self.number = 0

    @property
    def client(self) -> Client:
        client = object.__new__(Client)
        client.port, client.cookie = self.port, f"frofa-{self.port}={self.token}"
        return client

    def ask(self, **request: Any) -> Any:
        reply = self.client.ask(request)
        assert reply.status == 200, reply.body
        return reply.json

    def label(self, path: str, label: str | None, how: str = "key", client: str = "a") -> Reply:
        self.number += 1
        labels = [{"path": path, "label": label, "how": how}]
        return self.client.ask({"op": "label", "client": client, "number": self.number, "labels": labels})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", [f"{i}.png" for i in range(12)])


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    running = []
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}

    def start(*arguments: object) -> Served:
        command = [sys.executable, "-m", "frofa", "label", "--no-browser", "--store", str(tmp_path / "store")]
        process = subprocess.Popen(
            [*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        )
        running.append(process)
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("label at "), line
        return Served(process, line.removeprefix("label at ").strip())

    yield start
    for process in running:
        process.kill()
        process.communicate()


def decisions(file: Path) -> list[tuple[str, str, str]]:
    with file.open(newline="") as stream:
        return [(row["path"], row["label"], row["how"]) for row in csv.DictReader(stream)]


def test_a_killed_server_goes_on_at_the_same_address_with_all_that_was_confirmed(
    folder: Path, serve: Callable[..., Served]
) -> None:
    first = serve(folder)
    for i in range(5):
        assert first.label(f"{i}.png", "cat" if i % 2 else "dog").status == 200
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    with (folder / "labels.csv").open("ab") as file:
        file.write(b"5.png,ca")  # as a kill in the middle of writing leaves it
    again = serve(folder)
    assert again.address == first.address
    # The cookie of the page that is still open works, too.
    state = first.ask(op="state", since=None)
    assert state["n_labelled"] == 5
    assert [(one["name"], one["n"]) for one in state["classes"]] == [("dog", 3), ("cat", 2)]
    assert first.label("5.png", "cat").status == 200
    expected = [(f"{i}.png", "cat" if i % 2 else "dog", "key") for i in range(6)]
    assert decisions(folder / "labels.csv") == expected


def test_two_servers_for_the_same_labels_see_each_others(folder: Path, serve: Callable[..., Served]) -> None:
    first, second = serve(folder), serve(folder)
    assert first.port != second.port
    assert first.token != second.token
    assert first.label("0.png", "cat").status == 200
    assert second.ask(op="state", since=0)["changes"] == [{"path": "0.png", "index": 0, "label": "cat", "how": "key"}]
    assert second.label("0.png", "dog", client="b").status == 200
    assert second.label("1.png", None, "unsure", client="b").status == 200
    state = first.ask(op="state", since=1)
    assert [(one["path"], one["label"]) for one in state["changes"]] == [("0.png", "dog"), ("1.png", None)]
    rows = [("0.png", "cat", "key"), ("0.png", "dog", "key"), ("1.png", "", "unsure")]
    assert decisions(folder / "labels.csv") == rows


@contextmanager
def full_disk(process: "subprocess.Popen[str]", size: int) -> Iterator[None]:
    """Let files of a process grow to this size and no further."""
    _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, most))
    yield
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of other processes are Linux's")
def test_a_full_disk_takes_no_label_and_loses_none(folder: Path, serve: Callable[..., Served]) -> None:
    served = serve(folder)
    assert served.label("0.png", "cat").status == 200
    before = (folder / "labels.csv").read_bytes()
    with full_disk(served.process, len(before) + 10):  # a part of the row fits
        refused = served.label("1.png", "dog")
        assert refused.status == 507
        assert "cannot be written" in refused.json["error"]
        assert (folder / "labels.csv").read_bytes() == before
        assert served.ask(op="state", since=None)["n_labelled"] == 1
    served.number -= 1  # the page sends it again
    assert served.label("1.png", "dog").status == 200
    assert served.client.ask({"op": "label", "client": "a", "number": served.number, "labels": []}).status in (200, 400)
    assert decisions(folder / "labels.csv") == [("0.png", "cat", "key"), ("1.png", "dog", "key")]


def test_the_page_comes_before_the_features_and_an_end_while_they_are_computed_is_one(
    tmp_path: Path, serve: Callable[..., Served]
) -> None:
    folder = write_images(tmp_path / "many", [f"{i}.png" for i in range(1500)], side=8)
    served = serve(folder, "--device", "cpu", "--n-jobs", 1)
    maps = Path(f"/proc/{served.process.pid}/maps")
    page = served.client.get("/")
    assert page.status == 200
    assert page.body.lower().startswith(PAGE)
    assets = re.findall(rb'(?:src|href)="(/assets/[\w.]+)"', page.body)
    assert len(assets) > 2
    for asset in assets:
        assert served.client.get(asset.decode()).status == 200
    for item in served.ask(op="batch", n=4, kind="useful", skip=[])["items"]:
        assert served.client.get(f"/thumb/{item['index']}?size=128").body.startswith(b"RIFF")
    assert served.label("0.png", "cat").status == 200
    if maps.exists():
        assert "libtorch" not in maps.read_text()
    # Then features come, though nobody asked for them.
    end = time.monotonic() + 180
    while not (found := served.ask(op="state", since=None)["extraction"])["done"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert (found["total"], found["failed"], found["running"]) == (1500, 0, True)
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(30) == 0
    assert decisions(folder / "labels.csv") == [("0.png", "cat", "key")]


def test_folders_are_labels_if_asked_for(tmp_path: Path, serve: Callable[..., Served]) -> None:
    folder = write_images(tmp_path / "images", ["cats/1.png", "cats/old/2.png", "dogs/3.png", "4.png"])
    assert serve(folder).ask(op="state", since=None)["classes"] == []
    served = serve(folder, "--folders", "--out", tmp_path / "out.csv")
    state = served.ask(op="state", since=None)
    assert [(one["name"], one["n"]) for one in state["classes"]] == [("cats", 2), ("dogs", 1)]
    expected = [("images/cats/1.png", "cats"), ("images/cats/old/2.png", "cats"), ("images/dogs/3.png", "dogs")]
    assert [(path, label) for path, label, how in decisions(tmp_path / "out.csv") if how == "folder"] == expected
    served.process.kill()
    served.process.wait()
    served = serve(folder, "--folders", "--out", tmp_path / "out.csv")
    assert len(decisions(tmp_path / "out.csv")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "there is no directory absent"),
        (["file.png"], "expected a directory of images"),
        (["empty"], "found no image in empty"),
        (["images", "--out", "labels.txt"], "--out must end in .csv"),
        (["images", "--out", "other.csv"], "path,label,when,how"),
        (["images", "--model", "frofa/nonsense"], "frofa/nonsense"),
    ],
)
def test_what_cannot_be_served_is_said(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    write_images(tmp_path, ["images/1.png", "file.png"])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert main(["label", "--no-browser", *arguments]) == 1
    assert message in capsys.readouterr().err
