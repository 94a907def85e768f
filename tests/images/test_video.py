"""frofa.images.video: frames in the order shown, from anywhere in the video."""

import pickle
import random
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from frofa import load_images
from frofa.images.reading import content, decode
from frofa.images.video import VideoFrame

N_FRAMES = 50


def write_video(path: Path, codec: str, options: dict[str, str] | None = None, rotation: int = 0) -> Path:
    """A video of `N_FRAMES` frames, 25 a second, each with its own brightness; the upper half is brighter by 50."""
    av = pytest.importorskip("av")
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "12", **(options or {})})
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(N_FRAMES):
            pixels = np.full((48, 64, 3), 4 * index, np.uint8)
            pixels[:24] += 50
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


VIDEOS: dict[str, tuple[str, dict[str, str]]] = {
    "film.mp4": ("mpeg4", {}),
    "b-frames.mkv": ("libx264", {"bf": "3"}),
    "open.mp4": ("libx264", {"bf": "3", "x264-params": "open-gop=1"}),
    "film.avi": ("mjpeg", {}),
    "stream.mpg": ("mpeg1video", {}),
}


@pytest.fixture(params=VIDEOS)
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    codec, options = VIDEOS[request.param]
    return write_video(tmp_path / request.param, codec, options)


def decoded_in_a_row(path: Path) -> list[Image.Image]:
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def test_frames_are_those_of_decoding_in_a_row(video: Path) -> None:
    expected = decoded_in_a_row(video)
    items = list(load_images(video).items)
    assert len(items) == len(expected) == N_FRAMES
    order = list(range(N_FRAMES))
    random.Random(0).shuffle(order)
    for position in (*order, *range(N_FRAMES)):
        assert content(items[position])[0] == expected[position], position
    top, bottom = (np.asarray(expected[20])[rows].mean() for rows in (slice(24), slice(24, 48)))
    assert abs(bottom - 80) < 12
    assert abs(top - 130) < 12


def test_every_kth_frame_with_index_and_time(video: Path) -> None:
    images = load_images(video, every=20)
    assert images.names == [f"{video}#0@0.000s", f"{video}#20@0.800s", f"{video}#40@1.600s"]
    assert images.labels is None
    whole = load_images(video).items
    assert images.items == [whole[0], whole[20], whole[40]]


def test_frames_are_read_from_any_thread_or_process(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mp4", "mpeg4")
    other = write_video(tmp_path / "other.avi", "mjpeg")
    items = [*load_images(path, every=5).items, *load_images(other, every=5).items]
    expected = [content(item)[1] for item in items]
    assert [content(pickle.loads(pickle.dumps(item)))[1] for item in items] == expected  # noqa: S301 (our own)
    with ThreadPoolExecutor(4) as threads:
        assert [digest for _, digest in threads.map(content, items)] == expected
    for start in ("spawn", "fork") if sys.platform == "linux" else ("spawn",):
        with ProcessPoolExecutor(1, mp_context=get_context(start)) as processes:
            assert [digest for _, digest in processes.map(content, items)] == expected


def test_a_video_without_timestamps_is_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.avi", "mjpeg")
    expected = decoded_in_a_row(path)
    frames = [VideoFrame(str(path), index, index / 25, None, None) for index in (7, 3, 3, 30)]
    assert [content(frame)[0] for frame in frames] == [expected[index] for index in (7, 3, 3, 30)]
    with pytest.raises(OSError, match="no such frame"):
        content(VideoFrame(str(path), N_FRAMES, 2.0, None, None))
    with pytest.raises(OSError, match="no such frame"):
        content(VideoFrame(str(path), 3, 0.1, 10_000, 0))


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    items = load_images(write_video(tmp_path / "turned.mp4", "mpeg4", rotation=90)).items
    pixels = np.asarray(decode(content(items[20])[0])).astype(int)
    assert pixels.shape == (64, 48, 3)
    left, right = pixels[:, :20].mean(), pixels[:, 28:].mean()
    assert left - right > 30  # turned anticlockwise, the top comes to the left


@pytest.mark.parametrize(
    ("name", "message"), [("text.mp4", "cannot read .*text.mp4 as a video"), ("empty.avi", "empty")]
)
def test_what_is_not_a_video_is_named(name: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / name).write_bytes(b"no video" * (100 if name.startswith("text") else 0))
    with pytest.raises(ValueError, match=message):
        load_images(tmp_path / name)


def test_a_video_that_is_cut_short_loses_only_its_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mkv", "mpeg4")
    items = load_images(path).items
    whole = [content(item)[0] for item in items]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    outcomes: list[Any] = []
    for item in items:
        try:
            outcomes.append(content(item)[0])
        except (OSError, ValueError) as error:
            outcomes.append(error)
    n_read = sum(isinstance(outcome, Image.Image) for outcome in outcomes)
    assert 5 < n_read < N_FRAMES - 5
    assert outcomes[: n_read - 1] == whole[: n_read - 1]


def test_without_pyav_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "film.mp4").touch()
    with pytest.raises(ImportError, match=r"pip install 'frofa\[video\]'"):
        load_images(tmp_path / "film.mp4")
