"""Faces and gaze drawn into a picture, in place."""

from dataclasses import dataclass

import cv2
import numpy as np

from gazepipe.geometry import look_at
from gazepipe.live.gaze import Gaze
from gazepipe.live.tracking import box_of

ARROW_MM = 350.0
"""Length of a gaze arrow that lies across the line of sight, at the distance of the face."""
AXIS_MM = 40.0

COLOURS = ((80, 200, 255), (255, 190, 90), (140, 235, 130), (200, 150, 255), (120, 160, 255), (230, 230, 120))
"""BGR, by the number of the face."""
AXES = ((90, 90, 235), (100, 205, 100), (235, 140, 70))
DARK, LIGHT = (28, 24, 20), (245, 245, 245)
FONT = cv2.FONT_HERSHEY_SIMPLEX
SUBPIXEL_BITS = 4

OUTLINES = (
    # Edge of the face, right eye, left eye, lips: closed rings of mesh indices.
    (
        *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
        *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    ),
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
)


@dataclass(frozen=True)
class Seen:
    """What is drawn of a face: its number and its gaze."""

    number: int
    gaze: Gaze


def draw_faces(image_bgr: np.ndarray, faces: list[Seen], camera: np.ndarray) -> None:
    """Draw outlines of the landmarks, head axes, gaze arrows and a label of each face into u8 [h, w, 3].

    Lines scale with the picture; `camera` [3, 3] projects what is known in mm. Arrows and label tell the gaze against
    the line from the face to the camera, as it looks to a viewer: who looks into the camera has dots and (0, 0).
    """
    unit_px = max(image_bgr.shape[:2]) / 1280
    for face in faces:
        colour = COLOURS[(face.number - 1) % len(COLOURS)]
        _outlines(image_bgr, face.gaze.mesh, colour, unit_px)
        for end_mm, axis_colour in zip(_axis_ends(face.gaze), AXES, strict=True):
            ends = _fixed(_pixels(np.stack([face.gaze.center_mm, end_mm]), camera))
            cv2.line(image_bgr, *ends, axis_colour, max(1, round(1.6 * unit_px)), cv2.LINE_AA, SUBPIXEL_BITS)
        starts = _pixels(face.gaze.eyes_mm, camera)
        for start, along in zip(starts, _arrows(face.gaze, camera), strict=True):
            _arrow(image_bgr, start, along, colour, unit_px)
        row = face.gaze.row()
        text = f"{face.number}: pitch {row['pitch_normalised_deg']:+.0f}, yaw {row['yaw_normalised_deg']:+.0f} deg"
        left, top, _, _ = box_of(face.gaze.mesh)
        _label(image_bgr, text, (left, top - 14 * unit_px), colour, unit_px)


def draw_panel(image_bgr: np.ndarray, lines: list[str]) -> None:
    """Write lines of text on a darkened field in the upper left corner."""
    scale = max(image_bgr.shape[:2]) / 1280
    width = round(max(cv2.getTextSize(line, FONT, 0.5 * scale, 1)[0][0] for line in lines) + 24 * scale)
    height = round((22 * len(lines) + 14) * scale)
    field = image_bgr[: max(1, height), : max(1, width)]
    field[:] = cv2.addWeighted(field, 0.35, np.full_like(field, DARK), 0.65, 0)
    for row, line in enumerate(lines):
        at = (round(12 * scale), round((24 + 22 * row) * scale))
        cv2.putText(image_bgr, line, at, FONT, 0.5 * scale, LIGHT, max(1, round(scale)), cv2.LINE_AA)


def _outlines(image: np.ndarray, mesh: np.ndarray, colour: tuple[int, int, int], unit_px: float) -> None:
    rings = [_fixed(mesh[list(ring), :2]) for ring in OUTLINES]
    dimmed = tuple((3 * value + 2 * dark) // 5 for value, dark in zip(colour, DARK, strict=True))
    cv2.polylines(image, rings, True, dimmed, max(1, round(unit_px)), cv2.LINE_AA, SUBPIXEL_BITS)


def _axis_ends(gaze: Gaze) -> np.ndarray:
    """Ends [3, 3] mm of the head's axes: to the head's left, down, and the way that the face points."""
    return gaze.center_mm + AXIS_MM * gaze.head.T * [[1], [1], [-1]]


def _pixels(points_mm: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Points [n, 3] of the camera's frame in pixels [n, 2]."""
    seen = points_mm @ camera.T
    return seen[:, :2] / seen[:, 2:]


def _arrows(gaze: Gaze, camera: np.ndarray) -> np.ndarray:
    """Arrows [2, 2] in pixels of both eyes: the gaze across the line of sight, at one scale for the whole face."""
    towards = look_at(gaze.center_mm, np.array([1.0, 0.0, 0.0]))
    pixels_per_mm = camera[0, 0] / np.linalg.norm(gaze.center_mm)
    return ARROW_MM * pixels_per_mm * (gaze.vectors @ towards.T)[:, :2]


def _arrow(
    image: np.ndarray, start: np.ndarray, along: np.ndarray, colour: tuple[int, int, int], unit_px: float
) -> None:
    """A line with a filled head, edged dark; a dot where it points at the viewer."""
    end, length = start + along, float(np.linalg.norm(along))
    wide = max(1.5, 2.2 * unit_px)
    if length < 4 * wide:
        for radius, shade in ((2.0 * wide, DARK), (1.5 * wide, colour)):
            _dot(image, start, radius, shade)
        return
    along = along / length
    across = np.array([-along[1], along[0]])
    head = min(7 * wide, 0.5 * length)
    neck = end - along * head
    for extra, shade in ((max(0.7, unit_px), DARK), (0.0, colour)):
        half = wide / 2 + extra
        tip, back = end + along * 2 * extra, neck - along * extra
        barb = across * (head * 0.45 + 1.8 * extra)
        shape = [start + across * half, neck + across * half, back + barb, tip]
        shape += [back - barb, neck - across * half, start - across * half]
        cv2.fillPoly(image, [_fixed(np.array(shape))], shade, cv2.LINE_AA, SUBPIXEL_BITS)
        _dot(image, start, half * 1.4, shade)


def _dot(image: np.ndarray, center: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
    cv2.circle(image, _fixed(center), round(radius * 2**SUBPIXEL_BITS), colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _label(
    image: np.ndarray, text: str, corner: tuple[float, float], colour: tuple[int, int, int], scale: float
) -> None:
    """Text on a dark field that lies within the image, its lower left corner near `corner`."""
    left, bottom = corner
    size = 0.5 * scale
    (width, height), _ = cv2.getTextSize(text, FONT, size, 1)
    x = round(np.clip(left, 4, max(4, image.shape[1] - width - 10 * scale)))
    y = round(np.clip(bottom, height + 8 * scale, image.shape[0] - 8))
    margin = round(6 * scale)
    cv2.rectangle(image, (x - margin, y - height - margin), (x + width + margin, y + margin), DARK, -1)
    cv2.rectangle(image, (x - margin, y - height - margin), (x - margin + round(3 * scale), y + margin), colour, -1)
    cv2.putText(image, text, (x + margin // 2, y), FONT, size, LIGHT, max(1, round(scale)), cv2.LINE_AA)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Points [..., 2] in OpenCV's fixed-point pixels, cut where they would not fit."""
    return np.rint(np.clip(points, -30_000, 30_000) * 2**SUBPIXEL_BITS).astype(np.int32)
