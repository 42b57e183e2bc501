"""Frames of a video file, a folder of images, or a camera: BGR pictures and their times, errors as one line."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from gazepipe.datasets.images import UnusableImage, read_picture
from gazepipe.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png")
DEFAULT_RATE = 25.0
MOST_SKIPPED_IN_A_ROW = 200
UNSPECIFIED_COLOURS = 2
MISSED_SECONDS = 1.0
"""Of a file that does not count its frames: how much may be missing from the length that it names."""


@dataclass
class Frames:
    """An open source: `rate` in frames/s, `total` frames (None: unknown). `skipped` counts what cannot be decoded;
    `ended_early`, once all are read, says how a file is cut short."""

    name: str
    rate: float
    total: int | None = None
    live: bool = False
    skipped: int = 0
    ended_early: str = ""
    _frames: Iterator[tuple[int, float, np.ndarray]] = field(default_factory=lambda: iter(()))

    def __iter__(self) -> Iterator[tuple[int, float, np.ndarray]]:
        """(number from 0, time in s, BGR image u8 [h, w, 3]) of each frame that can be decoded."""
        return self._frames


def open_frames(source: str, rate: float | None = None) -> Frames:
    """Open a video file, a folder of images (JPEG, PNG; by name), or a camera (its number).

    `rate` is that of a folder's frames (25 where None). Raises UserError for what is none of them.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path, rate or DEFAULT_RATE)
    if path.is_file():
        try:
            import av  # noqa: F401
        except ImportError:
            return _opencv_file(path)
        return _av_file(path)
    if source.isdecimal():
        return _camera(int(source))
    raise UserError(f"{source}: no such file or folder; give a video, a folder of images, or a camera's number")


def _folder(folder: Path, rate: float) -> Frames:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not paths:
        raise UserError(f"{folder}: holds no {', '.join(PICTURES)}; give a folder of images")
    frames = Frames(str(folder), rate, len(paths))

    def pictures() -> Iterator[tuple[int, float, np.ndarray]]:
        for number, path in enumerate(paths):
            try:
                image, _ = read_picture(path)
            except UnusableImage as error:
                frames.skipped += 1
                print(f"warning: {path}: {error}; skipped", file=sys.stderr)
                continue
            yield number, number / rate, image

    frames._frames = pictures()
    return frames


def _camera(number: int) -> Frames:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # it would say the same in its own words
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise UserError(f"{number}: no camera of this number can be opened; plug it in, or give a file")
    frames = Frames(f"camera {number}", capture.get(cv2.CAP_PROP_FPS) or DEFAULT_RATE, live=True)

    def pictures() -> Iterator[tuple[int, float, np.ndarray]]:
        start, shown = time.monotonic(), 0
        try:
            failures = 0
            while failures < MOST_SKIPPED_IN_A_ROW:
                there, image = capture.read()
                if there:
                    yield shown, time.monotonic() - start, image
                    shown, failures = shown + 1, 0
                else:
                    frames.skipped, failures = frames.skipped + 1, failures + 1
                    time.sleep(0.01)
        finally:
            capture.release()
        frames.ended_early = "gives no pictures any more; plug it in again"

    frames._frames = pictures()
    return frames


def _opencv_file(path: Path) -> Frames:
    """A video file where PyAV is not installed; frames that cannot be decoded end it."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise UserError(f"{path}: is no video, or is cut short; record or copy it again")
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 0 < rate < 1000 else DEFAULT_RATE
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = Frames(str(path), rate, total if total > 0 else None)

    def pictures() -> Iterator[tuple[int, float, np.ndarray]]:
        number = 0
        try:
            while True:
                there, image = capture.read()
                if not there:
                    break
                yield number, number / rate, image
                number += 1
        finally:
            capture.release()
        if number < total - MISSED_SECONDS * rate:
            frames.ended_early = f"ends after {number} of {total} frames; record or copy it again"

    frames._frames = pictures()
    return frames


def _av_file(path: Path) -> Frames:
    import av

    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: is no video, or is cut short ({reason}); record or copy it again") from None
    if not container.streams.video:
        container.close()
        raise UserError(f"{path}: holds no pictures; give a video")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
    counted = stream.frames
    # Where the container does not count frames, and nothing but them makes up its length, that tells what is missing.
    alone = not counted and len(container.streams) == 1
    seconds = container.duration / av.time_base if alone and container.duration else 0.0
    frames = Frames(str(path), rate, counted or round(seconds * rate) or None)

    def pictures() -> Iterator[tuple[int, float, np.ndarray]]:
        number = packets = 0
        first_s, end_s = None, 0.0
        with container:
            for packet in _packets(container.demux(stream), frames):
                packets += packet.size > 0
                end_s = max(end_s, _end_s(packet))
                for frame in _decoded(packet, frames):
                    time_s = number / rate if frame.time is None else float(frame.time)
                    first_s = time_s if first_s is None else first_s
                    yield number + frames.skipped, time_s - first_s, _bgr(frame)
                    number += 1
        if packets < counted:
            frames.ended_early = f"ends after {packets} of {counted} frames; copy it again"
        elif end_s - (first_s or 0.0) < seconds - MISSED_SECONDS:
            frames.ended_early = f"ends after {end_s:.1f} of {seconds:.1f} s; copy it again"
        elif frames.ended_early:
            frames.ended_early = f"ends after {packets} frames ({frames.ended_early}); copy it again"

    frames._frames = pictures()
    return frames


def _end_s(packet) -> float:
    """When the picture of an `av.Packet` ends, in s of the file's clock; 0 where that is not said."""
    if packet.pts is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _packets(demuxed: Iterator, frames: Frames) -> Iterator:
    """The packets of a file until it ends or cannot be read any further."""
    import av

    try:
        yield from demuxed
    except av.error.FFmpegError as error:
        frames.ended_early = error.strerror


def _decoded(packet, frames: Frames) -> list:
    """The sound pictures of an `av.Packet`; others are counted."""
    import av

    try:
        decoded = packet.decode()
    except av.error.FFmpegError:
        frames.skipped += 1
        return []
    sound = [frame for frame in decoded if not frame.is_corrupt]
    frames.skipped += len(decoded) - len(sound)
    return sound


def _bgr(frame) -> np.ndarray:
    """The picture of an `av.VideoFrame`, upright, with the colours that its file means."""
    colours = frame.colorspace if frame.colorspace != UNSPECIFIED_COLOURS else None
    image = frame.to_ndarray(format="bgr24", src_colorspace=colours)
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarters)) if quarters else image
