"""Decoding in processes gives what threads give; a process that dies is reported, and none is left behind."""

import os
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import frofa
from frofa import FrozenFeatureExtractor
from frofa.decoding.decoders import Decoders
from frofa.decoding.geometry import CenterCrop, Geometry, Resize
from frofa.decoding.task import DecodeTask
from frofa.exceptions import DecodingProcessError, ImageReadError, SkippedImagesWarning
from frofa.extraction.batches import PixelRows

ROOT = Path(frofa.__file__).parents[1]
GEOMETRY = Geometry((Resize(40, Image.Resampling.BICUBIC), CenterCrop((32, 32))))

posix = pytest.mark.skipif(os.name == "nt", reason="signals and /proc are not Windows's")


def running_workers() -> list[int]:
    """Process ids of decoding processes that this process has started and that live."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (entry / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == os.getpid() and b"frofa.decoding.worker" in command:
            found.append(int(entry.name))
    return found


@pytest.fixture
def extractor(small_vit: str) -> FrozenFeatureExtractor:
    return FrozenFeatureExtractor(small_vit, device="cpu", batch_size=5, n_jobs=2, decode="process")


@pytest.mark.parametrize("store", [False, True])
def test_processes_give_what_threads_give(
    store: bool, extractor: FrozenFeatureExtractor, image_paths: list[str], tmp_path: Path
) -> None:
    threads = FrozenFeatureExtractor(extractor.model, device="cpu", batch_size=5)
    if store:  # which makes the batches of the second call smaller, and so rounds their features in another way
        extractor.set_params(store=tmp_path / "store")
        threads.set_params(store=tmp_path / "threads")
    expected = threads.transform(image_paths)
    np.testing.assert_array_equal(extractor.transform(image_paths), expected)
    paths = [Path(path) for path in image_paths]
    mixed = [paths[0], Image.open(paths[1]), np.asarray(Image.open(paths[2]).convert("RGB")), *paths[3:]]
    np.testing.assert_array_equal(extractor.transform(mixed), threads.transform(mixed))
    np.testing.assert_allclose(extractor.transform(mixed), expected, rtol=1e-4, atol=1e-6)
    assert not hasattr(os, "fork") or running_workers() == []


def test_processes_digest_what_threads_digest(image_paths: list[str]) -> None:
    items: list[Any] = [*image_paths, "absent.png", np.zeros((2, 2, 3), np.uint8)]
    tasks = [DecodeTask(i, item, None) for i, item in enumerate(items)]
    decoders = Decoders(2, processes=True)
    try:
        there, here = (decoders.digests(tasks, here=here).result() for here in (False, True))
    finally:
        decoders.close()
    assert there[:12] == here[:12]
    assert there[13] == here[13]
    assert str(there[12]) == str(here[12])
    assert isinstance(there[12], ImageReadError)


def test_bad_images_are_named_by_processes(extractor: FrozenFeatureExtractor, image_paths: list[str]) -> None:
    Path(image_paths[7]).write_text("no image")
    Path(image_paths[3]).unlink()
    with pytest.raises(ImageReadError, match=r"position 3 .*No such file"):
        extractor.transform(image_paths)
    with pytest.warns(SkippedImagesWarning, match=r"skipped 2 of 12 .*position 3\).*position 7\): not an image"):
        extraction = extractor.set_params(on_error="skip").extract(image_paths)
    good = [path for i, path in enumerate(image_paths) if i not in (3, 7)]
    expected = FrozenFeatureExtractor(extractor.model, device="cpu", batch_size=5).transform(good)
    np.testing.assert_array_equal(extraction.features, expected)


def test_more_bad_images_than_rows(small_vit: str, image_paths: list[str]) -> None:
    """Their rows are used again, though no batch is ever full."""
    extractor = FrozenFeatureExtractor(small_vit, device="cpu", batch_size=2, on_error="skip")
    with pytest.warns(SkippedImagesWarning, match="skipped 60 of 63"):
        extraction = extractor.extract([image_paths[0], *["absent.png"] * 60, *image_paths[1:3]])
    assert extraction.kept.tolist() == [0, 61, 62]


def test_warnings_of_processes_are_given_out_here(extractor: FrozenFeatureExtractor, tmp_path: Path) -> None:
    file = tmp_path / "broken-exif.jpg"
    Image.new("RGB", (48, 40)).save(file, exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00\x12\x01")
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        extractor.transform([file])


@posix
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_is_killed_is_reported_with_its_image(
    death: int, extractor: FrozenFeatureExtractor, image_paths: list[str], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)  # reading it waits for ever

    def kill() -> None:
        descriptor = os.open(pipe, os.O_WRONLY)  # waits until the image is being read
        for worker in running_workers():
            os.kill(worker, death)
        os.close(descriptor)

    killer = threading.Thread(target=kill)
    killer.start()
    name = signal.Signals(death).name
    with pytest.raises(DecodingProcessError, match=rf"killed by signal {death:d} \({name}.*pipe\.png \(position 6\)"):
        extractor.set_params(n_jobs=1, on_error="skip").transform([*image_paths[:6], pipe, *image_paths[6:]])
    killer.join()
    assert running_workers() == []


def test_a_process_that_cannot_start_is_reported(
    extractor: FrozenFeatureExtractor, image_paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frofa.decoding.process.PROGRAM", "import sys; sys.exit(7)")
    with pytest.raises(DecodingProcessError, match="ended with exit code 7"):
        extractor.transform(image_paths)


def test_where_no_process_can_start_threads_decode(
    extractor: FrozenFeatureExtractor, image_paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = extractor.transform(image_paths)
    monkeypatch.setattr("sys.frozen", True, raising=False)
    with pytest.warns(UserWarning, match="threads decode instead: this program embeds or freezes Python") as caught:
        features = extractor.extract(image_paths).features
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(features, expected)


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
from frofa import FrozenFeatureExtractor
model, *paths = sys.argv[1:]
extractor = FrozenFeatureExtractor(model, device="cpu", decode="process", n_jobs=2, batch_size=5)
print(extractor.transform(paths).shape)
{rest}
"""


def run_script(rest: str, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-c", SCRIPT.format(rest=rest), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def test_a_script_needs_no_guard_and_leaves_nothing(small_vit: str, image_paths: list[str], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(rest=""))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    ran = subprocess.run(
        [sys.executable, script, small_vit, *image_paths], capture_output=True, text=True, env=environment, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "(12, 16, 16)\n", "")


@posix
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_an_interrupted_run(
    end: int, small_vit: str, image_paths: list[str], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    # In a group of its own, as a terminal would have it: Ctrl-C reaches the group.
    process = run_script("", small_vit, *image_paths, str(pipe), start_new_session=True)
    descriptor = os.open(pipe, os.O_WRONLY)  # waits until a worker reads
    os.killpg(process.pid, end)
    if end == signal.SIGKILL:
        os.close(descriptor)  # what the worker reads ends, and it finds that its parent is gone
    out, err = process.communicate(timeout=120)  # until all who can write to these have ended
    assert process.returncode == -end
    assert out == ""
    assert ("KeyboardInterrupt" in err) == (end == signal.SIGINT)
    assert err.count("Traceback") == (end == signal.SIGINT)
    assert "leak" not in err
    if end == signal.SIGINT:
        os.close(descriptor)


def test_rows_that_follow_each_other_are_not_copied() -> None:
    pixels = torch.arange(8 * 2 * 2 * 3, dtype=torch.uint8).view(8, 2, 2, 3)
    rows = PixelRows(pixels)
    assert rows.take([1, 2], wait=True) == [(0,), (1, 2)]
    assert rows.take([2, 3, 1], wait=False) == [(3, 4), (5, 6, 7)]
    assert rows.take([1], wait=False) == []
    assert rows.batch([2, 3, 4]).data_ptr() == pixels[2].data_ptr()
    assert torch.equal(rows.batch([5, 2, 3]), pixels[[5, 2, 3]])
    rows.give_back([6, 1])
    assert rows.take([3], wait=False) == []  # all rows of an image, or none
    assert rows.take([2], wait=True) == [(1, 6)]


def test_batches_that_are_given_back_in_turn_stay_whole() -> None:
    rows = PixelRows(torch.zeros(12, 1, 1, 3, dtype=torch.uint8))
    begun, waiting = [], []
    for turn in range(30):
        begun += [row for (row,) in rows.take([1, 1, 1], wait=True)]  # as many at a time as do not make up a batch
        if len(begun) >= 4:
            waiting.append([begun.pop(0) for _ in range(4)])
        if len(waiting) > 1:
            batch = waiting.pop(0)
            assert batch == list(range(batch[0], batch[0] + 4)), turn
            rows.give_back(batch)


def test_processes_are_started_before_there_is_work(image_paths: list[str]) -> None:
    with closing(Decoders(3, processes=True)) as decoders:
        decoders.start(0)
        decoders.start(2)
        decoders.start(3)  # they were
        decoders.submit(int).result()
        assert decoders._processes is not None
        assert len(decoders._processes._all) <= 2
        decoders.allocate(8, GEOMETRY)
        tasks = [DecodeTask(0, image_paths[0], None, (row,)) for row in range(8)]
        assert [future.result() for future in [decoders.decode([task]) for task in tasks]] == [[None]] * 8
    with closing(Decoders(2)) as threads:
        threads.start(2)  # there are none


def test_a_pool_that_is_closed_takes_nothing(image_paths: list[str]) -> None:
    decoders = Decoders(1, processes=True)
    decoders.allocate(4, GEOMETRY)
    assert decoders.decode([DecodeTask(0, image_paths[0], None, (2,))]).result() == [None]
    decoders.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoders.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        decoders.decode([DecodeTask(0, image_paths[0], None, (2,))])
