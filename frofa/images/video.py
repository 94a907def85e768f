"""Frames of videos, decoded where they are needed, by PyAV."""

import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from frofa.images.image_set import ImageSet, image_set
from frofa.images.items import LazyImage
from frofa.utils.optional import require

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv", ".3gp")


@dataclass(frozen=True, slots=True)
class VideoFrame(LazyImage):
    """A frame of a video: its place in the order in which frames are shown, and its seconds from the first one.

    `pts` and `keyframe` are the timestamps of the frame and of the last key frame up to it, in the stream's units; None
    where the container has none: all frames before this one are decoded then.
    """

    path: str
    index: int
    time: float
    pts: int | None
    keyframe: int | None

    def describe(self) -> str:
        """Name the frame by video, index and time, such as ``film.mp4#120@4.800s``."""
        return f"{self.path}#{self.index}@{self.time:.3f}s"

    def read(self) -> Image.Image:
        """Decode the frame to an RGB image, turned upright."""
        key = _key(self.path)
        decoder: _Decoder | None = getattr(_own, "decoder", None)
        _own.decoder = None  # one that raised is of no more use
        if decoder is None or decoder.key != key:
            decoder = _Decoder(key)
        image = decoder.frame(self)
        _own.decoder = decoder
        return image


_own = threading.local()
"""Open video of each thread: frames that follow each other cost one decoding each."""


def _key(path: str) -> tuple[str, int, int, int]:
    """Make the key of an open video; by its process too, as a forked one must not share its parent's place."""
    status = Path(path).stat()
    return path, status.st_mtime_ns, status.st_size, os.getpid()


class _Decoder:
    """An open video and the place in it up to which frames are decoded."""

    def __init__(self, key: tuple[str, int, int, int]):
        self.key = key
        self._rewind()

    def _rewind(self) -> None:
        self.container = require("av", "video").open(self.key[0])
        self.stream = self.container.streams.video[0]
        # One thread, here and in `frame`: many frames are read at once, and to close this in a forked process would
        # wait for ever for threads that only its parent has.
        self.stream.codec_context.thread_count = 1
        self.frames: Iterator[Any] = self.container.decode(self.stream)
        self.last: int | None = None  # timestamp of the frame that was decoded last
        self.n_decoded = 0

    def frame(self, wanted: VideoFrame) -> Image.Image:
        found = self._count_to(wanted.index) if wanted.pts is None else self._go_to(wanted)
        if found is None:
            raise OSError("the video has no such frame: damaged or changed")
        image: Image.Image = found.to_image(threads=1)
        return image.rotate(found.rotation, expand=True) if found.rotation else image

    def _count_to(self, index: int) -> Any:
        if self.n_decoded > index:
            self._rewind()
        for frame in self.frames:
            self.n_decoded += 1
            if self.n_decoded > index:
                return frame
        return None

    def _go_to(self, wanted: VideoFrame) -> Any:
        # Decoding goes on from here if the frame comes later, before the next key frame.
        if self.last is None or not wanted.keyframe <= self.last < wanted.pts:  # type: ignore[operator]
            self._seek(wanted.keyframe)
        found = self._decode_up_to(wanted.pts)
        # Some containers seek beyond the frame: then it is looked for from the start.
        if found is None:
            self._rewind()
            found = self._decode_up_to(wanted.pts)
        return found

    def _seek(self, keyframe: int | None) -> None:
        """Go to a key frame; to the start if the container seeks elsewhere, as other frames need those before them."""
        self.container.seek(keyframe, stream=self.stream)
        packets = self.container.demux(self.stream)
        # A seek is believed only if it ends at a key frame, and at none later than the one that was asked for.
        first = next(packets, None)
        if first is None or not first.is_keyframe or first.pts is None or first.pts > keyframe:
            self._rewind()
        else:
            self.frames = (frame for packet in chain([first], packets) for frame in packet.decode())

    def _decode_up_to(self, pts: int | None) -> Any:
        for frame in self.frames:
            self.last = frame.pts
            if frame.pts is not None and frame.pts >= pts:
                return frame if frame.pts == pts else None
        return None


def load_video(path: Path, every: int) -> ImageSet:
    """Find every so many-th frame of a video's first stream, in order, without labels.

    The stream's packets are read, but not decoded, to know how many frames there are and when. A ValueError says that
    it is not a video or has no frames, an ImportError that PyAV is not installed.
    """
    av = require("av", "video")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video stream.")
            stream = container.streams.video[0]
            packets = (packet for packet in container.demux(stream) if packet.size > 0 and not packet.is_discard)
            found = [(packet.pts, packet.is_keyframe) for packet in packets]
            unit, rate = float(stream.time_base), float(stream.average_rate or 25)
        if any(pts is None for pts, _ in found):
            # Without timestamps, only decoding tells how many frames there are.
            with av.open(str(path)) as container:
                n_frames = sum(1 for _ in container.decode(container.streams.video[0]))
            frames = [VideoFrame(str(path), i, i / rate, None, None) for i in range(0, n_frames, every)]
        else:
            frames = _place_frames(str(path), found, unit)[::every]
    except av.error.FFmpegError as error:
        raise ValueError(f"cannot read {path} as a video: {error.strerror or error}") from error
    if not frames:
        raise ValueError(f"{path} has no frames.")
    return image_set(frames)


def _place_frames(path: str, packets: list[tuple[int, bool]], unit: float) -> list[VideoFrame]:
    """Put the frames in the order in which they are shown, as packets come in the order of decoding."""
    shown = sorted(packets)
    # Without key frames, all are decoded from the first one.
    keys = [pts for pts, is_key in shown if is_key] or [shown[0][0]] if shown else []
    first = shown[0][0] if shown else 0
    return [
        VideoFrame(path, index, (pts - first) * unit, pts, keys[max(bisect_right(keys, pts) - 1, 0)])
        for index, (pts, _) in enumerate(shown)
    ]
