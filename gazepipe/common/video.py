"""An MP4 that browsers play: H.264, yuv420p, its index first."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from gazepipe.common.files import atomic
from gazepipe.errors import UserError

TICKS_PER_SECOND = 90_000
BT601 = 6
"""FFmpeg's number of the colour space in which OpenCV turns BGR into YUV."""


class Sink(Protocol):
    """Takes what happens in a video, frame by frame."""

    def __call__(self, image_bgr: np.ndarray, time_s: float) -> None: ...


def check_output(path: Path | None, source: str | Path) -> None:
    """UserError where a video of `source` cannot be written under this name, before any work is done."""
    if path is None:
        return
    if path.resolve() == Path(source).resolve():
        raise UserError(f"{path}: is the input; write to another name")
    if path.suffix.lower() != ".mp4":
        raise UserError(f"{path}: only MP4 is written; end the name in .mp4")
    try:
        import av  # noqa: F401
    except ImportError:
        raise UserError(f"{path}: writing H.264 needs PyAV; run `pip install av`, or leave out --output") from None


@contextmanager
def video_writer(path: Path | None, rate: float) -> Iterator[Sink | None]:
    """A function that appends a frame to an MP4 (H.264, yuv420p, its index first), atomic as a whole; None for None.

    The first frame gives the size; others are fitted into it, with black at the sides. Frames keep their times.
    """
    if path is None:
        yield None
        return
    import av

    with atomic(path) as partial:
        container = av.open(str(partial), "w", options={"movflags": "faststart"})
        try:
            sink = _Encoder(container, rate)
            yield sink
            sink.finish()
        finally:
            container.close()
        if not partial.stat().st_size:
            partial.unlink()


class _Encoder:
    def __init__(self, container, rate: float):
        self.container, self.rate = container, rate
        self.stream = None
        self.last = -1

    def __call__(self, image_bgr: np.ndarray, time_s: float) -> None:
        import av

        if self.stream is None:
            self._open(image_bgr)
        frame = av.VideoFrame.from_ndarray(
            cv2.cvtColor(fitted(image_bgr, *self.size), cv2.COLOR_BGR2YUV_I420), format="yuv420p"
        )
        self.last = frame.pts = max(self.last + 1, round(time_s * TICKS_PER_SECOND))
        frame.time_base = Fraction(1, TICKS_PER_SECOND)
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        if self.stream is not None:
            self.container.mux(self.stream.encode())

    def _open(self, image_bgr: np.ndarray) -> None:
        height, width = image_bgr.shape[:2]
        self.size = max(2, width & ~1), max(2, height & ~1)  # half as many colours need even sides
        rate = Fraction(self.rate).limit_denominator(1001)
        # The fastest preset: live use wants time, not bytes.
        self.stream = self.container.add_stream("libx264", rate, options={"preset": "ultrafast", "crf": "23"})
        self.stream.width, self.stream.height = self.size
        self.stream.pix_fmt = "yuv420p"
        context = self.stream.codec_context
        context.time_base = Fraction(1, TICKS_PER_SECOND)
        context.colorspace = BT601
        context.thread_count = 1


def fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The image u8 [h, w, 3] as u8 [height, width, 3]: cut by a pixel, or made to fit with black at the sides."""
    found = image.shape[:2]
    if 0 <= found[0] - height <= 1 and 0 <= found[1] - width <= 1:
        return np.ascontiguousarray(image[:height, :width])
    scale = min(height / found[0], width / found[1])
    inner = max(1, round(found[1] * scale)), max(1, round(found[0] * scale))
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    return canvas
