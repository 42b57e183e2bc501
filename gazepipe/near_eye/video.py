"""The video of a near-eye network: the four eye images beside the scene frame, prediction, truth, and error."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch

from gazepipe.common.files import read_json
from gazepipe.common.progress import track
from gazepipe.common.video import check_output, video_writer
from gazepipe.datasets.fetch.receipt import raw_folder
from gazepipe.datasets.layouts.near_eye import scene_image
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError
from gazepipe.models.weights import load_weights
from gazepipe.training.device import make_deterministic
from gazepipe.training.inherit import check_units, scale_of
from gazepipe.training.samples import batches, check_images, normalised, samples_of, to_unit

BATCH = 16
WIDTH, HEIGHT, MARGIN, GAP = 1280, 720, 24, 6
TRAIL = 5
"""Points behind the newest one that are shown."""
SUBPIXEL_BITS = 4

BACK, FIELD, LINE = (26, 22, 20), (40, 35, 32), (78, 72, 68)
TEXT, FAINT = (242, 240, 238), (168, 162, 158)
GREEN, BLACK, WHITE, AMBER = (70, 225, 60), (0, 0, 0), (255, 255, 255), (70, 185, 250)
FONT, LARGE = cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX
EYES = ("left eye, camera 0", "right eye, camera 3", "left eye, camera 1", "right eye, camera 4")
VIEWS = (0, 2, 1, 3)
"""The store's views in the order of EYES: a column for each eye."""


@dataclass(frozen=True)
class Box:
    """A rectangle in whole pixels of the video."""

    left: int
    top: int
    width: int
    height: int

    def of(self, image: np.ndarray) -> np.ndarray:
        """That part of an image, to draw into."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]

    def inner(self, width: float, height: float) -> "Box":
        """The largest rectangle of the proportions `width` to `height` in the middle of this one."""
        scale = min(self.width / width, self.height / height)
        w, h = max(1, round(width * scale)), max(1, round(height * scale))
        return Box(self.left + (self.width - w) // 2, self.top + (self.height - h) // 2, w, h)


EYES_BOX = Box(MARGIN, 72, 498, 400)
SCENE_BOX = Box(546, 72, 710, 400)
NUMBERS_BOX = Box(MARGIN, 496, 498, 200)
CURVE_BOX = Box(546, 496, 710, 200)


@dataclass(frozen=True)
class Clip:
    """All that is drawn: `rows` [n] of the mapped `images` u8 [N, 4, H, W] of a store, names of their `frames`, and
    `truth` and `predicted` [n, 2] in scene px."""

    title: str
    subtitle: str
    images: np.ndarray
    rows: np.ndarray
    frames: list[str]
    truth: np.ndarray
    predicted: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Distance [n] in scene px from prediction to truth."""
        return np.linalg.norm(self.predicted - self.truth, axis=1)


def near_eye_video(
    weights: Path, store: Path, receipt: Path, subject: str, out: Path, frames: int | None = None, rate: float = 12.0
) -> str:
    """Write an MP4 (1280 x 720, H.264) of a subject's eye images and scene, with prediction, truth and error.

    Eye images come from the `store`, as the network sees them, scene frames from the native folder that the `receipt`
    of `fetch` names; the first `frames` of them (None: all), `rate` a second. Returns a report of one line. Raises
    UserError for an unknown subject, weights that do not fit the store, a missing scene frame, and bad files.
    """
    check_output(out, weights)
    make_deterministic()
    torch.set_num_threads(1)
    folder = _native_folder(receipt)
    clip = _clip(weights, open_store(store), subject, frames)
    with video_writer(out, rate) as write:
        for number, name in enumerate(track(clip.frames, f"video {out}", unit="frame")):
            write(draw(clip, number, scene_image(folder, subject, name)), number / rate)
    errors = clip.errors
    return (
        f"{out}: {len(errors)} frames of {subject}, error {errors.mean():.1f} px in the mean, "
        f"{np.median(errors):.1f} px in the median"
    )


def draw(clip: Clip, number: int, scene_bgr: np.ndarray) -> np.ndarray:
    """Frame `number`, from 0, of the video, u8 BGR [HEIGHT, WIDTH, 3], with its scene frame u8 BGR [h, w, 3]."""
    canvas = np.full((HEIGHT, WIDTH, 3), BACK, np.uint8)
    _draw_header(canvas, clip, number)
    _draw_eyes(canvas, clip.images[clip.rows[number]])
    _draw_scene(canvas, clip, number, scene_bgr)
    _draw_numbers(canvas, clip, number)
    _draw_curve(canvas, clip.errors, number)
    return canvas


def scene_points(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Points [..., 2] in px of a scene frame of that size to px of the video, pixel centres at whole numbers."""
    box = SCENE_BOX.inner(width, height)
    return (np.asarray(points, np.float64) + 0.5) * (box.width / width, box.height / height) - 0.5 + (box.left, box.top)


def _native_folder(receipt: Path) -> Path:
    layout = read_json(receipt).get("layout")
    if layout != "near-eye":
        raise UserError(f"{receipt}: is of the layout {layout}; scene frames are in data sets of the layout near-eye")
    return raw_folder(receipt)


def _clip(weights: Path, store: Store, subject: str, frames: int | None) -> Clip:
    """The subject's rows of the store, predicted."""
    model, metadata = load_weights(weights)
    if metadata.get("units") != "px":
        raise UserError(f"{weights}: predicts no gaze points; name a run on a data set of the layout near-eye")
    check_units(weights, metadata, store.attrs["units"])
    check_images(store, metadata["model"]["input"], metadata["patch"])
    known = sorted(set(store.subject))
    if subject not in known:
        raise UserError(f"{store.path}: has no subject {subject!r}; name one of {', '.join(known)}")
    samples = samples_of(store, {subject})
    rows = samples.rows[:frames]
    model.eval()
    predicted: list[np.ndarray] = []
    with torch.inference_mode():
        for images, _ in batches(samples, BATCH):
            seen = normalised(to_unit(images, torch.device("cpu")), metadata["mean"], metadata["std"])
            predicted.extend(model(seen).float().numpy() * np.float32(scale_of(metadata)))
            if len(predicted) >= len(rows):
                break
    spec = metadata["model"]
    return Clip(
        title=subject,
        subtitle=f"{store.attrs['dataset']}   {spec['arch']}",
        images=store.image,
        rows=rows,
        frames=list(store.frame[rows]),
        truth=store.target[rows].astype(np.float64),
        predicted=np.array(predicted[: len(rows)], np.float64),
    )


# ---- parts of the picture


def _draw_header(canvas: np.ndarray, clip: Clip, number: int) -> None:
    end = _text(canvas, clip.title, (MARGIN, 46), 0.9, TEXT, LARGE)
    _text(canvas, clip.subtitle, (end + 24, 46), 0.6, FAINT)
    _text(canvas, f"{number + 1} / {len(clip.frames)}", (WIDTH - MARGIN, 46), 0.75, TEXT, right=True)


def _draw_eyes(canvas: np.ndarray, eyes: np.ndarray) -> None:
    height, width = eyes.shape[1:]
    half = Box(0, 0, (EYES_BOX.width - GAP) // 2, (EYES_BOX.height - GAP) // 2)
    tile = half.inner(width, height)
    left = EYES_BOX.left + (EYES_BOX.width - 2 * tile.width - GAP) // 2
    top = EYES_BOX.top + (EYES_BOX.height - 2 * tile.height - GAP) // 2
    for place, (view, label) in enumerate(zip(VIEWS, EYES, strict=True)):
        row, column = divmod(place, 2)
        box = Box(left + column * (tile.width + GAP), top + row * (tile.height + GAP), tile.width, tile.height)
        field = box.of(canvas)
        field[:] = cv2.cvtColor(_resized(eyes[view], box), cv2.COLOR_GRAY2BGR)
        _label(field, label)


def _draw_scene(canvas: np.ndarray, clip: Clip, number: int, scene_bgr: np.ndarray) -> None:
    height, width = scene_bgr.shape[:2]
    box = SCENE_BOX.inner(width, height)
    field = box.of(canvas)
    field[:] = _resized(scene_bgr, box)
    first = max(0, number - TRAIL)
    truth, predicted = (
        scene_points(points[first : number + 1], width, height) - (box.left, box.top)
        for points in (clip.truth, clip.predicted)
    )
    _trail(field, truth, BLACK, joined=False)
    _trail(field, predicted, GREEN)
    _draw_line(field, np.stack([truth[-1], predicted[-1]]), WHITE, 1)
    _truth_mark(field, truth[-1])
    _prediction_mark(field, predicted[-1])


def _draw_numbers(canvas: np.ndarray, clip: Clip, number: int) -> None:
    field = NUMBERS_BOX.of(canvas)
    field[:] = FIELD
    errors = clip.errors[: number + 1]
    for left, name, value, colour in ((24, "error", errors[-1], GREEN), (260, "mean so far", errors.mean(), AMBER)):
        _text(field, name, (left, 40), 0.6, FAINT)
        end = _text(field, f"{value:.1f}", (left, 96), 1.5, colour, LARGE, thickness=2)
        _text(field, "px", (end + 10, 96), 0.7, FAINT)
    _prediction_mark(field, np.array([36.0, 160.0]))
    _text(field, "prediction", (60, 166), 0.6, TEXT)
    _truth_mark(field, np.array([271.0, 160.0]))
    _text(field, "truth", (290, 166), 0.6, TEXT)


def _draw_curve(canvas: np.ndarray, errors: np.ndarray, number: int) -> None:
    """Error and running mean up to now, over all frames; the scale is that of the whole video."""
    field = CURVE_BOX.of(canvas)
    field[:] = FIELD
    plot = Box(58, 36, CURVE_BOX.width - 58 - 24, CURVE_BOX.height - 36 - 32)
    bottom = plot.top + plot.height
    step = _tick_step(errors.max())
    top = step * max(1, np.ceil(errors.max() / step))
    for value in np.arange(0, top + step / 2, step):
        y = round(bottom - plot.height * value / top)
        cv2.line(field, (plot.left, y), (plot.left + plot.width, y), LINE, 1)
        _text(field, f"{value:g}", (plot.left - 8, y + 5), 0.45, FAINT, right=True)
    _text(field, "error, px", (16, 22), 0.45, FAINT)
    _text(field, "1", (plot.left, bottom + 20), 0.45, FAINT)
    _text(field, f"frame {len(errors)}", (plot.left + plot.width, bottom + 20), 0.45, FAINT, right=True)
    x = plot.left + plot.width * np.arange(len(errors)) / max(1, len(errors) - 1)
    mean = np.cumsum(errors) / np.arange(1, len(errors) + 1)
    for values, colour in ((mean, AMBER), (errors, GREEN)):
        points = np.stack([x, bottom - plot.height * values / top], axis=1)[: number + 1]
        _draw_line(field, points, colour, 2)
        _dot(field, points[-1], 4, colour)


# ---- marks, lines, text


def _prediction_mark(image: np.ndarray, point: np.ndarray) -> None:
    """A green square around the point, edged dark."""
    corners = point + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 11
    for colour, thickness in ((BLACK, 5), (GREEN, 3)):
        cv2.polylines(image, [_fixed(corners)], True, colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def _truth_mark(image: np.ndarray, point: np.ndarray) -> None:
    """A black dot, edged white."""
    _dot(image, point, 7, WHITE)
    _dot(image, point, 5, BLACK)


def _trail(image: np.ndarray, points: np.ndarray, colour: tuple[int, int, int], joined: bool = True) -> None:
    """Points [n, 2], the oldest first, perhaps joined by a thin line; older ones are smaller and fade."""
    for place, (start, end) in enumerate(pairwise(points)):
        share = 1 - (len(points) - 1 - place) / (TRAIL + 1)
        over = image.copy()
        if joined:
            _draw_line(over, np.stack([start, end]), colour, 1)
        _dot(over, start, 2 + 3 * share, colour)
        cv2.addWeighted(over, 0.25 + 0.6 * share, image, 0.75 - 0.6 * share, 0, image)


def _draw_line(image: np.ndarray, points: np.ndarray, colour: tuple[int, int, int], thickness: int) -> None:
    cv2.polylines(image, [_fixed(points)], False, colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def _dot(image: np.ndarray, center: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
    x, y = _fixed(center)
    cv2.circle(image, (int(x), int(y)), round(radius * 2**SUBPIXEL_BITS), colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _label(image: np.ndarray, text: str) -> None:
    """Text on a darkened strip in the lower left corner."""
    (width, _), _ = cv2.getTextSize(text, FONT, 0.42, 1)
    strip = image[-22:, : width + 14]
    strip[:] = cv2.addWeighted(strip, 0.3, np.full_like(strip, BACK), 0.7, 0)
    _text(image, text, (7, image.shape[0] - 7), 0.42, TEXT)


def _text(
    image: np.ndarray,
    text: str,
    at: tuple[int, int],
    size: float,
    colour: tuple[int, int, int],
    font: int = FONT,
    thickness: int = 1,
    right: bool = False,
) -> int:
    """Write text with its baseline at (x, y), x its left end or its right one; returns its right end."""
    (width, _), _ = cv2.getTextSize(text, font, size, thickness)
    left = at[0] - width if right else at[0]
    cv2.putText(image, text, (left, at[1]), font, size, colour, thickness, cv2.LINE_AA)
    return left + width


def _resized(image: np.ndarray, box: Box) -> np.ndarray:
    shrinks = box.width < image.shape[1]
    return cv2.resize(image, (box.width, box.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _tick_step(largest: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... that divides an axis up to `largest` into at most four parts."""
    steps = (digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5))
    return next(step for step in steps if largest <= 4 * step)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Points [..., 2] in OpenCV's fixed-point pixels, cut where they would not fit."""
    return np.rint(np.clip(points, -30_000, 30_000) * 2**SUBPIXEL_BITS).astype(np.int32)
