"""Gaze in a video: frames are decoded in one thread, analysed in this one and written in a third."""

import os
import resource
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gazepipe.common.progress import track
from gazepipe.common.video import check_output, video_writer
from gazepipe.errors import UserError
from gazepipe.geometry import unit
from gazepipe.live.bundle import Bundle, load_bundle
from gazepipe.live.draw import Seen, draw_faces, draw_panel
from gazepipe.live.frames import Frames, open_frames
from gazepipe.live.gaze import Camera, gaze_of
from gazepipe.live.runtime import Network, load_network
from gazepipe.live.smoothing import OneEuro, jitter_deg
from gazepipe.live.table import table_writer
from gazepipe.live.tracking import Tracker, load_models

FRAMES_AHEAD = 4
STAGES = ("read", "faces", "gaze", "draw", "write")
RECENT_SHARE = 0.05
"""Weight of the newest frame in the times that are shown on screen."""


@dataclass(frozen=True)
class Options:
    """What the command `video` may be told beside its input and bundle."""

    output: Path | None = None
    csv: Path | None = None
    runtime: str = "openvino"
    int8: bool = False
    camera: Camera = field(default_factory=Camera)
    smooth: bool = False
    show: bool = False
    rate: float | None = None
    frames: int | None = None


@dataclass
class Outcome:
    """What a run saw: `sizes` of frames in order of appearance, gaze vectors by face, as seen and as smoothed."""

    frames: int = 0
    with_face: int = 0
    sizes: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    raw: dict[int, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    smoothed: dict[int, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))


def run_video(source: str, bundle_folder: Path, options: Options) -> str:
    """Follow all faces of a video, folder of images or camera (`source`), and write what `options` ask for.

    Returns a report of some lines: rate, times of the stages, faces, jitter. Raises UserError for bad input; where the
    file is cut short or shows no face that is raised at the end, when all that could be read has been written.
    """
    check_output(options.output, source)
    bundle = load_bundle(bundle_folder)
    network = load_network(bundle, options.runtime, options.int8)
    frames = open_frames(source, options.rate)
    load_models()
    cv2.setNumThreads(1)  # the stages already share the cores
    clock, outcome, tracker = Clock(), Outcome(), Tracker()
    start, used = time.perf_counter(), _cpu_seconds()
    with (
        video_writer(options.output, frames.rate) as sink,
        table_writer(options.csv) as write_rows,
        written_behind(sink, clock) as write,
    ):
        window = _window() if options.show else None
        eye = _Eye(bundle, network, options, tracker, clock)
        with suppress(KeyboardInterrupt):  # how a camera is stopped
            for number, time_s, image in _read(frames, clock, options.frames):
                seen, camera = eye(image, time_s, outcome)
                write_rows(number, time_s, seen)
                if sink or window:
                    with clock("draw"):
                        draw_faces(image, seen, camera)
                        draw_panel(image, clock.lines())
                    write(image, time_s)
                if window and not window(image):
                    break
                clock.frame()
        if not outcome.frames:
            raise UserError(f"{frames.name}: holds no frame that can be decoded; record or copy it again")
    seconds, used = time.perf_counter() - start, _cpu_seconds() - used
    report = _report(frames, options, outcome, tracker, clock, seconds, used)
    _check_outcome(frames, outcome, report)
    return report


class Clock:
    """Wall and CPU time of the stages, in ms a frame: in the mean over all frames, and over the last ones."""

    def __init__(self) -> None:
        self.wall_ms: dict[str, float] = defaultdict(float)
        self.cpu_ms: dict[str, float] = defaultdict(float)
        self._recent: dict[str, float] = {}
        self._last = 0.0

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block as part of a `stage`; CPU time is that of this thread."""
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        wall, cpu = 1000 * (time.perf_counter() - wall), 1000 * (time.thread_time() - cpu)
        self.wall_ms[stage] += wall
        self.cpu_ms[stage] += cpu
        self._update(stage, wall)

    def frame(self) -> None:
        """A frame is done."""
        now = time.perf_counter()
        if self._last:
            self._update("frame", 1000 * (now - self._last))
        self._last = now

    def lines(self) -> list[str]:
        """Rate and times of the last frames, for the screen."""
        frame = self._recent.get("frame")
        rate = f"{1000 / frame:.0f} frames/s" if frame else "- frames/s"
        return [rate, "  ".join(f"{stage} {self._recent.get(stage, 0):.1f}" for stage in STAGES) + " ms"]

    def _update(self, stage: str, ms: float) -> None:
        before = self._recent.get(stage, ms)
        self._recent[stage] = before + RECENT_SHARE * (ms - before)


class _Eye:
    """Faces and their gaze in frame after frame."""

    def __init__(self, bundle: Bundle, network: Network, options: Options, tracker: Tracker, clock: Clock):
        self.bundle, self.network, self.options = bundle, network, options
        self.tracker, self.clock = tracker, clock
        self.filters: dict[int, OneEuro] = {}

    def __call__(self, image: np.ndarray, time_s: float, outcome: Outcome) -> tuple[list[Seen], np.ndarray]:
        height, width = image.shape[:2]
        if outcome.sizes and (width, height) != next(reversed(outcome.sizes)):
            self._new_size(outcome, width, height)
        outcome.sizes[width, height] += 1
        camera = self.options.camera.matrix(width, height)
        with self.clock("faces"):
            tracks = self.tracker(image)
        with self.clock("gaze"):
            gazes = gaze_of(image, [track.mesh for track in tracks], camera, self.bundle, self.network)
        seen = [Seen(track.number, gaze) for track, gaze in zip(tracks, gazes, strict=True)]
        outcome.frames += 1
        outcome.with_face += bool(seen)
        for face in seen:
            outcome.raw[face.number].append(face.gaze.vector)
        if self.options.smooth:
            seen = self._smoothed(seen, time_s)
            for face in seen:
                outcome.smoothed[face.number].append(face.gaze.vector)
        return seen, camera

    def _smoothed(self, seen: list[Seen], time_s: float) -> list[Seen]:
        self.filters = {face.number: self.filters.get(face.number, OneEuro()) for face in seen}
        vectors = [unit(self.filters[face.number](face.gaze.vectors, time_s)) for face in seen]
        return [Seen(f.number, replace(f.gaze, vectors=both)) for f, both in zip(seen, vectors, strict=True)]

    def _new_size(self, outcome: Outcome, width: int, height: int) -> None:
        before = "x".join(map(str, next(reversed(outcome.sizes))))
        if self.options.camera.intrinsics:
            raise UserError(
                f"--camera: describes one size, frame {outcome.frames} is {width}x{height} after {before}; leave it out"
            )
        self.tracker.forget()
        sizes = outcome.sizes
        sizes[width, height] = sizes.pop((width, height), 0)  # the last one is the present one


def _read(frames: Frames, clock: Clock, most: int | None) -> Iterator[tuple[int, float, np.ndarray]]:
    """Frames, at most so many, decoded ahead in another thread; of a camera only one ahead, since older is late."""
    source = iter(frames)

    def next_frame() -> tuple[int, float, np.ndarray] | None:
        with clock("read"):
            return next(source, None)

    def ahead() -> Iterator[tuple[int, float, np.ndarray]]:
        with ThreadPoolExecutor(1) as pool:
            pending = deque(pool.submit(next_frame) for _ in range(1 if frames.live else FRAMES_AHEAD))
            while (frame := pending.popleft().result()) is not None:
                pending.append(pool.submit(next_frame))
                yield frame

    total = min(frames.total or most, most or frames.total) if frames.total or most else None
    for count, frame in enumerate(track(ahead(), f"video {frames.name}", total, "frame"), 1):
        yield frame
        if count == most:
            return


@contextmanager
def written_behind(sink: Callable[..., None] | None, clock: Clock) -> Iterator[Callable[..., None]]:
    """`sink` as a function that returns at once and works in another thread; what it raises is raised later."""
    if sink is None:
        yield lambda *_: None
        return

    def write(*frame: Any) -> None:
        with clock("write"):
            sink(*frame)

    with ThreadPoolExecutor(1) as pool:
        pending: deque = deque()

        def put(*frame: Any) -> None:
            pending.append(pool.submit(write, *frame))
            if len(pending) > FRAMES_AHEAD:
                pending.popleft().result()

        yield put
        while pending:
            pending.popleft().result()


def _window() -> Callable[[np.ndarray], bool] | None:
    """A function that shows a picture and says whether to go on; None, with a warning, where there is no display."""
    name = "gazepipe (q: quit)"
    display = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    try:
        if not display:
            raise OSError("no display")
        cv2.namedWindow(name)
    except (OSError, cv2.error) as error:
        reason = "OpenCV was built without windows" if isinstance(error, cv2.error) else str(error)
        print(f"warning: --show: {reason}; going on without a window", file=sys.stderr)
        return None

    def show(image: np.ndarray) -> bool:
        cv2.imshow(name, image)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    return show


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _report(
    frames: Frames,
    options: Options,
    outcome: Outcome,
    tracker: Tracker,
    clock: Clock,
    seconds: float,
    cpu_seconds: float,
) -> str:
    count = outcome.frames
    sizes = ", ".join(f"{width}x{height}" for width, height in outcome.sizes)
    stages = ", ".join(
        f"{name} {clock.wall_ms[name] / count:.1f} ({clock.cpu_ms[name] / count:.1f})"
        for name in STAGES
        if clock.wall_ms[name]
    )
    lines = [
        f"{frames.name}: {count} frames of {sizes}, {count / seconds:.1f} frames/s",
        f"ms a frame (CPU): {stages}, side by side; CPU of all threads {1000 * cpu_seconds / count:.1f}",
        f"faces: {len(outcome.raw)}, in {outcome.with_face} frames; the detector looked at {tracker.detections} frames",
        _jitter_line("jitter", outcome.raw.values()),
    ]
    if options.smooth:
        lines.append(_jitter_line("smoothed", outcome.smoothed.values()))
    if options.camera.guessed:
        lines.append("camera: guessed (focal length = longer side of the frame); give --focal or --camera if known")
    if frames.skipped:
        lines.append(f"skipped: {frames.skipped} frames that cannot be decoded")
    lines += [f"wrote {path}" for path in (options.output, options.csv) if path]
    return "\n".join(lines)


def _jitter_line(name: str, sequences: Iterable[list[np.ndarray]]) -> str:
    mean, rms = jitter_deg([np.array(vectors) for vectors in sequences])
    if np.isnan(mean):
        return f"{name}: unknown, no face is in two frames"
    return f"{name}: {mean:.2f} degrees from frame to frame (root mean square {rms:.2f})"


def _check_outcome(frames: Frames, outcome: Outcome, report: str) -> None:
    """Raise what is wrong with the input as a whole, after the report."""
    if not frames.ended_early and outcome.with_face:
        return
    print(report)
    if frames.ended_early:
        raise UserError(f"{frames.name}: {frames.ended_early}")
    raise UserError(f"{frames.name}: shows no face in {outcome.frames} frames; the output has them as they are")
