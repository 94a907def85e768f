"""Killing ``frofa extract`` at any moment and running it again loses nothing that was reported done."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from store_helpers import snapshot

import frofa
from frofa import FeatureStore
from frofa.demo import write_sample

KILLS = 4
CODE = """
import sys
from frofa.utils import progress as _progress
from frofa.cli import main
from frofa.store import writer
_progress.SECONDS = 0.0  # a line for each batch
writer.COMMIT_SECONDS = 0.0  # after each batch: the whole run takes less time than there is between two commits
sys.exit(main())
"""


def command(images: Path, out: Path, store: Path) -> list[str]:
    arguments = [
        "extract",
        images,
        "--out",
        out,
        "--store",
        store,
        "--output",
        "tokens",
        "--batch-size",
        8,
        "--progress",
    ]
    return [sys.executable, "-c", CODE, *map(str, arguments)]


def run_and_kill(arguments: list[str], after: int, environment: dict[str, str]) -> int:
    """Kill the process once it has reported `after` images or more; return how many it had reported."""
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment) as process:
        assert process.stderr is not None
        read, reported = b"", 0
        while chunk := os.read(process.stderr.fileno(), 65536):
            read += chunk
            reported = max([0, *(int(done) for done in re.findall(rb"(\d+)/\d+ \[", read))])
            if reported >= after:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    return reported


def test_a_killed_extraction_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(frofa.__file__).parents[1])}
    write_sample(tmp_path / "sample")
    images = tmp_path / "sample" / "train"
    for name in ("bag", "coat", "dress", "trouser"):
        shutil.rmtree(images / name)  # 6 classes of 40 images are left
    undisturbed, disturbed = tmp_path / "undisturbed.npz", tmp_path / "disturbed.npz"
    subprocess.run(command(images, undisturbed, tmp_path / "a"), check=True, capture_output=True, env=environment)

    rng, done, store = random.Random(0), 0, tmp_path / "b"
    for _ in range(KILLS):
        done += run_and_kill(command(images, disturbed, store), rng.randrange(0, 48), environment)
        assert not disturbed.exists()
        assert FeatureStore(store).verify() == []
        kept = [spec.n_images for spec in FeatureStore(store).info()]
        assert sum(kept) >= done
    assert done > 0
    ran = subprocess.run(command(images, disturbed, store), check=True, capture_output=True, env=environment)
    assert f"{240 - sum(kept)} images computed now" in ran.stdout.decode()
    assert disturbed.read_bytes() == undisturbed.read_bytes()
    monkeypatch.setattr("frofa.utils.files.STALE_AFTER", -1.0)
    for path in (tmp_path / "a", store):
        FeatureStore(path).compact()
    assert snapshot(store) == snapshot(tmp_path / "a")
