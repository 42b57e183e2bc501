"""Spectacles: frame, bridge and temples as antialiased curves in space, a faint mirror on the lenses."""

import cv2
import numpy as np

from gazepipe.drawn.face.style import Light
from gazepipe.drawn.face.subject import Subject
from gazepipe.drawn.face.view import Box, View

BEFORE_EYES = 9.0  # mm from the corneas to the lenses
FINE = 2  # curves are drawn this much finer than the frame
SHIFT = 4  # fractional bits of cv2's coordinates
HIDDEN_MM = 4.0  # a temple is hidden where the head lies this far before it


def draw_glasses(patch: np.ndarray, depth: np.ndarray, box: Box, subject: Subject, view: View, light: Light) -> None:
    """Draw the subject's glasses into `patch`, the linear RGB f32 [h, w, 3] of `box`; `depth` as of `draw_head`."""
    glasses = subject.glasses
    rims, bridge = _rims(subject)
    temples = [_visible(_temple(subject, side), depth, view, box) for side in (-1, 1)]
    roi = view.bounds(np.concatenate([*rims, bridge, *temples]), margin=6 * view.pixels_per_mm + 2).inside(box)
    if roi.width < 3 or roi.height < 3:
        return
    frame = np.zeros((roi.height * FINE, roi.width * FINE), np.uint8)
    lenses = np.zeros_like(frame)
    thickness = max(1, round(glasses.thickness * view.pixels_per_mm * FINE))
    for rim in rims:
        cv2.fillPoly(lenses, [_fine_pixels(rim, view, roi)], 255, cv2.LINE_AA, SHIFT)
        cv2.polylines(frame, [_fine_pixels(rim, view, roi)], True, 255, thickness, cv2.LINE_AA, SHIFT)
    for curve in (bridge, *temples):
        cv2.polylines(frame, [_fine_pixels(curve, view, roi)], False, 255, thickness, cv2.LINE_AA, SHIFT)
    size = (roi.width, roi.height)
    frame_mask = cv2.resize(frame, size, interpolation=cv2.INTER_AREA) / np.float32(255)
    lens_mask = cv2.resize(lenses, size, interpolation=cv2.INTER_AREA) / np.float32(255)

    part = patch[roi.relative(box).slices]
    _drop_shadow(part, frame_mask, view, light)
    down, across = (np.linspace(-1, 1, count, dtype=np.float32) for count in (roi.height, roi.width))
    slant = np.exp(-(((down[:, None] + 2 * across) / 0.3) ** 2))
    part += (glasses.lens * lens_mask * (0.4 + 0.6 * slant))[..., None] * light.above_rgb
    part += (glasses.rgb * 1.5 * light.above_rgb - part) * frame_mask[..., None]


def _rims(subject: Subject) -> tuple[list[np.ndarray], np.ndarray]:
    """Two closed rims [64, 3] and the bridge [8, 3], mm in the head's frame."""
    glasses, eye_x = subject.glasses, float(subject.eyes.centres[1, 0])
    z = float(subject.eyes.centres[0, 2]) - subject.eyes.radius - BEFORE_EYES
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    power = 2 / glasses.exponent
    round_x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    round_y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
    centre_x = max(eye_x + 1.5, glasses.half_width + 7)
    rims = [
        np.stack([side * centre_x + glasses.half_width * round_x, 3 + glasses.half_height * round_y, z + 0 * angle], 1)
        for side in (-1, 1)
    ]
    across = np.linspace(-1, 1, 8)
    half_bridge = centre_x - glasses.half_width
    bridge = np.stack([half_bridge * across, -3 - 2 * np.cos(across * np.pi / 2), np.full(8, z)], axis=1)
    return rims, bridge


def _temple(subject: Subject, side: int) -> np.ndarray:
    """The arm [24, 3] from the rim's outer edge to the ear, mm in the head's frame."""
    glasses, eye_x = subject.glasses, float(subject.eyes.centres[1, 0])
    z = float(subject.eyes.centres[0, 2]) - subject.eyes.radius - BEFORE_EYES
    start = np.array([side * (max(eye_x + 1.5, glasses.half_width + 7) + glasses.half_width), -2.0, z])
    end = np.array([side * (subject.skull[0] + 3), -6.0, 8.0])
    return start + np.linspace(0, 1, 24)[:, None] * (end - start)


def _visible(points: np.ndarray, depth: np.ndarray, view: View, box: Box) -> np.ndarray:
    """The leading run of `points` that no part of the head hides."""
    pixels = np.round(view.project(points)).astype(int) - (box.x0, box.y0)
    inside = np.all((pixels >= 0) & (pixels < (box.width, box.height)), axis=1)
    x, y = np.clip(pixels, 0, (box.width - 1, box.height - 1)).T
    hidden = inside & (depth[y, x] < points[:, 2] - HIDDEN_MM)
    return points[: int(hidden.argmax())] if hidden.any() else points


def _fine_pixels(points: np.ndarray, view: View, box: Box) -> np.ndarray:
    """Projected points as cv2's fixed-point coordinates on the finer canvas of `box`."""
    pixels = (view.project(points) - (box.x0, box.y0) + 0.5) * FINE - 0.5
    return np.round(pixels * (1 << SHIFT)).astype(np.int32)


def _drop_shadow(patch: np.ndarray, frame_mask: np.ndarray, view: View, light: Light) -> None:
    """Darken the skin behind the frame, shifted away from the light."""
    gap = 8.0 * view.pixels_per_mm
    towards = view.rotation @ light.key
    shift = np.float32([[1, 0, -gap * towards[0]], [0, 1, -gap * towards[1]]])
    shadow = cv2.warpAffine(frame_mask, shift, frame_mask.shape[::-1])
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.4 + 1.2 * view.pixels_per_mm)
    patch *= (1 - 0.5 * light.shadow * shadow)[..., None]
