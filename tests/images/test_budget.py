"""frofa.images.pixels.budget: bounds of what is read, one by one and together."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from frofa.decoding.task import DecodeTask, digests, upright
from frofa.images.items import LazyImage
from frofa.images.pixels import budget as _memory
from frofa.images.reading import content


def test_the_largest_file_follows_pillows_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.bmp"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no space
    with pytest.raises(OSError, match=r"1099511627776 bytes; more than 715827880 are not read"):
        content(path)
    Image.new("L", (40, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(OSError, match="more than 800 are not read"):
        content(str(path))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert len(content(path)[0]) > 800  # type: ignore[arg-type]


def test_who_would_hold_more_than_there_is_waits() -> None:
    budget = _memory.Budget(10)
    entered = threading.Event()

    def second() -> None:
        with budget.hold(6):
            entered.set()

    thread = threading.Thread(target=second)
    with budget.hold(5):
        with budget.hold(5):
            thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(30)
    thread.join()
    with budget.hold(1000):  # alone
        pass
    with pytest.raises(ValueError, match="of the block"), budget.hold(10):
        raise ValueError("of the block")
    with budget.hold(10):
        pass


class Large(LazyImage):
    """An image of a size of its own choosing, which notes how many are being read and decoded at once."""

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes, self.now, self.most = n_bytes, 0, 0
        self.lock = threading.Lock()

    @property
    def n_bytes(self) -> int:
        return self._n_bytes

    def describe(self) -> str:
        return "large"

    def read(self) -> Image.Image:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        threading.Event().wait(0.002)
        with self.lock:
            self.now -= 1
        return Image.new("RGB", (2, 2))


def test_threads_read_large_files_by_turns() -> None:
    large = Large(_memory._budget.total // 2 + 1)
    tasks = [DecodeTask(position, large, None) for position in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(upright, tasks))
        list(threads.map(digests, [[task] for task in tasks]))
    assert large.most == 1
