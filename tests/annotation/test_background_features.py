"""Features that come in the background: in which order, what is there at any time, and what goes wrong."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_helpers import write_images

from frofa import FrozenFeatureExtractor
from frofa.annotation.background import FIRST, BackgroundFeatures, Positions
from frofa.annotation.extracting import ExtractorSource
from frofa.blocks import FeatureBlocks

MODEL = "frofa/vit_tiny_tin200"


class Recorder:
    """Features that say their position, computed as far as somebody lets it; 7 cannot be read."""

    def __init__(self, stored: tuple[int, ...] = ()):
        self.chunks: list[list[int]] = []
        self.gate = threading.Semaphore(0)
        self._stored = stored

    def stored(self) -> Iterator[Positions]:
        if self._stored:
            yield np.array(self._stored, np.int64)

    def extract(self, positions: Positions) -> tuple[Positions, Any, dict[int, str]]:
        assert self.gate.acquire(timeout=20)
        self.chunks.append(positions.tolist())
        kept = positions[positions != 7]
        rows = np.stack([kept, -kept], axis=1).astype(np.float32)
        return kept, FeatureBlocks({"a": [rows], "b": [rows[:, :1]]}), {7: "damaged"} if 7 in positions else {}


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_stored_images_come_first_then_wanted_ones_then_all() -> None:
    recorder = Recorder(stored=(50, 51, 52))
    features = BackgroundFeatures(100, lambda: recorder, random_state=3)
    assert (features.total, features.done, features.running) == (100, 0, True)
    positions, X = features.ready()
    assert (len(positions), X) == (0, None)
    features.want([60, 61, 50, -1, 100])
    features.start()
    features.start()
    recorder.gate.release()
    wait(lambda: features.done == 3)
    recorder.gate.release()
    wait(lambda: len(recorder.chunks) == 2)
    first, before = features.ready()
    features.want([7, 62])
    recorder.gate.release(50)
    wait(lambda: not features.running)
    assert recorder.chunks[0] == [50, 51, 52]
    assert recorder.chunks[1][:2] == [60, 61]
    assert sorted(chain.from_iterable(recorder.chunks)) == list(range(100))
    assert recorder.chunks[1][2:6] != [0, 1, 2, 3]
    assert (features.failed, features.done, features.error) == ({7: "damaged"}, 100, None)
    positions, X = features.ready()
    assert len(positions) == len(X) == 99
    assert X.names == ("a", "b")
    np.testing.assert_array_equal(np.asarray(X)[:, 0], positions)
    # What was given before stays as it was.
    np.testing.assert_array_equal(first, positions[: len(first)])
    np.testing.assert_array_equal(np.asarray(before), np.asarray(X)[: len(before)])
    features.close()


def test_images_wanted_meanwhile_come_next() -> None:
    recorder = Recorder()
    features = BackgroundFeatures(1000, lambda: recorder)
    features.start()
    recorder.gate.release()
    wait(lambda: len(recorder.chunks) == 1)
    # The next chunk may have been chosen already.
    left = [i for i in range(1000) if i not in recorder.chunks[0]]
    features.want(left[-3:])
    recorder.gate.release(2)
    wait(lambda: len(recorder.chunks) == 3)
    assert len(recorder.chunks[0]) == FIRST
    assert set(left[-3:]) <= {*recorder.chunks[1], *recorder.chunks[2]}
    recorder.gate.release(1000)
    features.close()
    done = list(chain.from_iterable(recorder.chunks))
    assert len(done) == len(set(done))


def order_of(random_state: int) -> list[int]:
    recorder = Recorder()
    recorder.gate.release(100)
    features = BackgroundFeatures(300, lambda: recorder, random_state=random_state)
    features.start()
    wait(lambda: not features.running)
    return list(chain.from_iterable(recorder.chunks))


def test_the_same_seed_gives_the_same_order() -> None:
    assert order_of(0) == order_of(0) != order_of(1)


def test_an_error_ends_the_thread_and_is_said() -> None:
    said: list[str] = []

    def fail() -> Any:
        raise OSError("no such model")

    features = BackgroundFeatures(10, fail, report=said.append)
    features.start()
    wait(lambda: not features.running)
    assert features.error == said[0] == "no features any more: no such model"
    assert features.ready()[1] is None
    features.close()


@pytest.mark.filterwarnings("ignore:skipped")
def test_features_are_those_of_the_extractor_and_come_from_its_store(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", [f"{i}.png" for i in range(6)])
    paths = [str(path) for path in sorted(folder.iterdir())]
    (folder / "4.png").write_bytes(b"nothing")
    parameters = {"model": MODEL, "store": tmp_path / "store", "device": "cpu", "n_views": 2}
    source = ExtractorSource(paths, parameters)
    assert list(source.stored()) == []
    kept, X, failed = source.extract(np.array([5, 4, 0], np.int64))
    assert (kept.tolist(), list(failed)) == ([5, 0], [4])
    expected = FrozenFeatureExtractor(output="auto", n_views=2, device="cpu").transform([paths[5], paths[0]])
    for name in expected.names:
        np.testing.assert_allclose(X.block(name), expected.block(name), atol=1e-5)
        assert type(X.views(name)[0]) is np.ndarray
    kept, X, failed = source.extract(np.array([4], np.int64))
    assert (len(kept), X, list(failed)) == (0, None, [4])
    assert "not an image" in failed[4]


def test_what_the_store_has_is_known(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", [f"{i}.png" for i in range(4)])
    paths = [str(path) for path in sorted(folder.iterdir())]
    for path in paths:
        os.utime(path, (1e9, 1e9))
    time.sleep(2.1)  # the store trusts times of change that are two seconds old
    parameters = {"model": MODEL, "store": tmp_path / "store", "device": "cpu"}
    ExtractorSource(paths, parameters).extract(np.array([1, 3], np.int64))
    again = ExtractorSource(paths, parameters)
    assert [chunk.tolist() for chunk in again.stored()] == [[1, 3]]
    assert list(ExtractorSource(paths, {**parameters, "n_views": 2}).stored()) == []
