"""Contact sheets: what a data set looks like, and what the network sees of it."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gazepipe.common.files import atomic
from gazepipe.geometry import angles_to_vector

COLUMNS = 6
CELL_WIDTH = 320
MARGIN, GAP, SEAM, TITLE_HEIGHT, CAPTION_HEIGHT = 28, 20, 4, 84, 34
BACKGROUND, PANEL = (24, 20, 18), (38, 33, 30)
ARROW, ARROW_EDGE = (0, 190, 255), (20, 16, 12)
INK, FAINT = "#f0f1f4", "#a3a9b5"
ARROW_GAIN = 0.9
"""Arrow length for a gaze at a right angle to the camera's axis, in widths of a cell."""
SHIFT = 4
"""Fractional bits of the coordinates that cv2 draws at."""
DPI = 100
POINT_COLUMNS, POINT_HEIGHT = 2, 168


def contact_sheet(
    native: Sequence[np.ndarray],
    patches: np.ndarray,
    targets: np.ndarray,
    out: str | Path,
    title: str,
    labels: Sequence[str] | None = None,
    origins: np.ndarray | None = None,
) -> None:
    """Write a PNG with one cell per sample: the native image with its gaze arrow, and the network's patch.

    `native` holds n BGR images u8 of any sizes, `patches` is u8 [n, h, w] or [n, V, h, w] (the first view is
    shown), `targets` is (pitch, yaw) [n, 2] in radians. `labels` name the samples (say, subjects). Arrows
    start at `origins` [n, 2] (x, y in native pixels), or in the middle of the image, and show the gaze vector
    along the camera's axis: an arrow without length looks into the camera.
    """
    patches = patches[:, 0] if patches.ndim == 4 else patches
    native_height = round(CELL_WIDTH * np.clip(native[0].shape[0] / native[0].shape[1], 0.5, 1.0))
    patch_height = min(round(CELL_WIDTH * patches.shape[1] / patches.shape[2]), CELL_WIDTH)
    cell_height = native_height + SEAM + patch_height + CAPTION_HEIGHT
    columns = min(COLUMNS, len(native))
    rows = -(-len(native) // columns)
    width = 2 * MARGIN + columns * CELL_WIDTH + (columns - 1) * GAP
    height = TITLE_HEIGHT + rows * (cell_height + GAP) + MARGIN - GAP
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    captions = []
    for index, image in enumerate(native):
        x = MARGIN + index % columns * (CELL_WIDTH + GAP)
        y = TITLE_HEIGHT + index // columns * (cell_height + GAP)
        origin = None if origins is None else origins[index]
        picture = _with_arrow(image, targets[index], origin, native_height)
        canvas[y : y + native_height, x : x + CELL_WIDTH] = picture
        below = y + native_height + SEAM
        patch = _fitted(cv2.cvtColor(patches[index], cv2.COLOR_GRAY2BGR), patch_height)[0]
        canvas[below : below + patch_height, x : x + CELL_WIDTH] = patch
        label = str(index + 1) if labels is None else str(labels[index])
        pitch, yaw = (_degrees(angle) for angle in targets[index])
        words = f"pitch {pitch}  yaw {yaw}"
        captions.append((x, x + CELL_WIDTH, below + patch_height + CAPTION_HEIGHT / 2, label, words))
    size = f"{patches.shape[2]}x{patches.shape[1]}"
    note = f"arrow: gaze as the camera sees it · below: the {size} patch the network sees"
    _write(canvas, captions, title, note, Path(out))


def point_sheet(
    scenes: Sequence[np.ndarray],
    patches: np.ndarray,
    targets: np.ndarray,
    out: str | Path,
    title: str,
    labels: Sequence[str],
) -> None:
    """Write a PNG with one cell per sample: the views that the network sees, and the scene with the gaze point.

    `scenes` holds n BGR images u8 of one size, `patches` is u8 [n, V, h, w], `targets` the gaze points (x, y) [n, 2] in
    pixels of the scene; `labels` name the samples.
    """
    _, views, patch_height, patch_width = patches.shape
    width = round(POINT_HEIGHT * patch_width / patch_height)
    scene_width = round(POINT_HEIGHT * scenes[0].shape[1] / scenes[0].shape[0])
    cell = views * (width + SEAM) + scene_width
    columns = min(POINT_COLUMNS, len(scenes))
    rows = -(-len(scenes) // columns)
    step = POINT_HEIGHT + CAPTION_HEIGHT + GAP
    shape = (TITLE_HEIGHT + rows * step + MARGIN - GAP, 2 * MARGIN + columns * (cell + GAP) - GAP, 3)
    canvas = np.full(shape, BACKGROUND, np.uint8)
    captions = []
    for index, scene in enumerate(scenes):
        x, y = MARGIN + index % columns * (cell + GAP), TITLE_HEIGHT + index // columns * step
        for view, patch in enumerate(patches[index]):
            small = cv2.resize(patch, (width, POINT_HEIGHT), interpolation=cv2.INTER_AREA)
            left = x + view * (width + SEAM)
            canvas[y : y + POINT_HEIGHT, left : left + width] = small[..., None]
        left = x + views * (width + SEAM)
        canvas[y : y + POINT_HEIGHT, left : left + scene_width] = _with_point(scene, targets[index], scene_width)
        words = f"gaze point {targets[index][0]:.0f}, {targets[index][1]:.0f} px"
        captions.append((x, x + cell, y + POINT_HEIGHT + CAPTION_HEIGHT / 2, labels[index], words))
    note = f"the {views} images of {patch_width}x{patch_height} px that the network sees · ring: gaze point"
    _write(canvas, captions, title, note, Path(out))


def _with_point(scene: np.ndarray, point: np.ndarray, width: int) -> np.ndarray:
    """The scene POINT_HEIGHT high, with a ring about the point."""
    panel = cv2.resize(scene, (width, POINT_HEIGHT), interpolation=cv2.INTER_AREA)
    scale = np.array([width / scene.shape[1], POINT_HEIGHT / scene.shape[0]])
    middle = tuple(round(float(value) * 2**SHIFT) for value in (np.asarray(point) + 0.5) * scale - 0.5)
    for colour, thickness in ((ARROW_EDGE, 6), (ARROW, 3)):
        cv2.circle(panel, middle, 11 << SHIFT, colour, thickness, cv2.LINE_AA, SHIFT)
    return panel


def _fitted(image: np.ndarray, height: int) -> tuple[np.ndarray, float, tuple[int, int]]:
    """The image in the middle of a CELL_WIDTH x `height` panel, its scale, and where its corner (x, y) is."""
    scale = min(CELL_WIDTH / image.shape[1], height / image.shape[0])
    size = (min(round(image.shape[1] * scale), CELL_WIDTH), min(round(image.shape[0] * scale), height))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    x, y = (CELL_WIDTH - size[0]) // 2, (height - size[1]) // 2
    panel = np.full((height, CELL_WIDTH, 3), PANEL, np.uint8)
    panel[y : y + size[1], x : x + size[0]] = resized
    return panel, scale, (x, y)


def _with_arrow(image: np.ndarray, target: np.ndarray, origin: np.ndarray | None, height: int) -> np.ndarray:
    panel, scale, corner = _fitted(image, height)
    if origin is None:
        origin = np.array([image.shape[1] - 1, image.shape[0] - 1]) / 2
    start = np.asarray(origin) * scale + corner
    end = start + angles_to_vector(target)[:2] * CELL_WIDTH * ARROW_GAIN
    for colour, thickness, radius in ((ARROW_EDGE, 7, 7), (ARROW, 3, 5)):
        _arrow(panel, start, end, colour, thickness, radius)
    return panel


def _arrow(panel: np.ndarray, start: np.ndarray, end: np.ndarray, colour: tuple, thickness: int, radius: int) -> None:
    a, b = (tuple(round(float(value) * 2**SHIFT) for value in point) for point in (start, end))
    cv2.circle(panel, a, radius << SHIFT, colour, -1, cv2.LINE_AA, SHIFT)
    length = float(np.linalg.norm(end - start))
    if length > 2 * radius:
        cv2.arrowedLine(panel, a, b, colour, thickness, cv2.LINE_AA, SHIFT, tipLength=min(0.4, 14 / length))


def _write(canvas: np.ndarray, captions: list[tuple], title: str, note: str, out: Path) -> None:
    """The canvas with its text, which matplotlib sets better than OpenCV, as a PNG without a date.

    Captions: (left, right, y, label, words), the words to the right.
    """
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.figimage(canvas[..., ::-1])

    def text(x: float, y: float, words: str, **style) -> None:
        figure.text(x / width, 1 - y / height, words, va="center_baseline", **style)

    text(MARGIN, 32, title, color=INK, size=20, weight="bold")
    text(MARGIN, 62, note, color=FAINT, size=12)
    for left, right, y, label, words in captions:
        text(left, y, label, color=INK, size=12.5, weight="bold")
        text(right, y, words, color=FAINT, size=11.5, ha="right")
    with atomic(out) as partial:
        FigureCanvasAgg(figure).print_png(partial, metadata={"Software": None})


def _degrees(radians: float) -> str:
    return f"{round(float(np.degrees(radians)), 1) + 0.0:+.1f}°"
