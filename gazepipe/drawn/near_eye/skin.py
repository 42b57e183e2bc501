"""Skin around one eye in infrared light: the head's height field, finer, with pores and wrinkles, lit by near lamps."""

from dataclasses import dataclass

import cv2
import numpy as np

from gazepipe.drawn.face.subject import HALF_WIDTH, TEXEL, TOP, Subject, smooth_noise
from gazepipe.drawn.face.view import View

REACH = 36.0  # mm to each side of the eye
FINE_TEXEL = 0.15  # mm
CELLS = (90, 72)  # rays cast in an image; between them the surface is smooth
SLICES = 16
BACK = 32.0  # mm from the eyeball's centre into the head, the last slice
LAMP_POWER = 165.0  # mm^2; eight lamps of the ring then light the cornea by about 1
AMBIENT = 0.10


@dataclass(frozen=True)
class Skin:
    """Around one eye: `height` f32 [n, n], the surface is z = -height (head's frame, mm); `detail` f32 [n, n, 3],
    slopes of the fine surface (x, y) and albedo; `left` [2]: head's x and y of the first texel."""

    height: np.ndarray
    detail: np.ndarray
    left: np.ndarray

    def texels(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Texel coordinates f32 of head coordinates in mm."""
        first_x, first_y = (float(edge) for edge in self.left)
        return (x - first_x) / FINE_TEXEL, (y - first_y) / FINE_TEXEL


def build_skin(subject: Subject, eye: int, albedo: float, rng: np.random.Generator) -> Skin:
    """The skin around an eye of `subject`, reflecting `albedo` of the infrared light; wrinkles from `rng`."""
    count = round(2 * REACH / FINE_TEXEL)
    centre = subject.eyes.centres[eye]
    offsets = (np.arange(count) * FINE_TEXEL - REACH).astype(np.float32)
    columns = np.broadcast_to((offsets + np.float32(centre[0] + HALF_WIDTH)) / np.float32(TEXEL), (count, count))
    rows = np.broadcast_to((offsets + np.float32(centre[1] + TOP))[:, None] / np.float32(TEXEL), (count, count))
    height = cv2.GaussianBlur(cv2.remap(subject.height, columns, rows, cv2.INTER_CUBIC), (0, 0), 2.5)
    height = _without_temple(height, offsets, float(-centre[2]))
    hair = cv2.remap(_hairiness(subject), columns, rows, cv2.INTER_LINEAR)
    pores = smooth_noise(rng, height.shape, 5, 2)
    folds = _wrinkles(rng, outwards=1.0 if centre[0] > 0 else -1.0)
    fine = height - 0.16 * folds + 0.016 * pores
    slope_y, slope_x = np.gradient(fine, FINE_TEXEL)
    mottle = 1 + 0.035 * smooth_noise(rng, height.shape, 90, 4) + 0.02 * pores - 0.08 * folds
    detail = np.dstack([slope_x, slope_y, albedo * hair * mottle]).astype(np.float32)
    return Skin(height, detail, centre[:2] - REACH)


def draw_skin(skin: Skin, view: View, lamps: np.ndarray) -> np.ndarray:
    """Linear light f32 [h, w] that a camera sees of the skin under `lamps` [8, 3] (mm, head's frame)."""
    rays = view.rays(view.box, *CELLS)
    slope_x, slope_y = rays[0] / rays[2], rays[1] / rays[2]
    x, y, z = (np.float32(part) for part in view.origin)
    depth = _march(skin, x - z * slope_x, y - z * slope_y, slope_x, slope_y)
    points = np.stack([x + (depth - z) * slope_x, y + (depth - z) * slope_y, depth])
    cells = np.dstack([*skin.texels(points[0], points[1]), *lamp_light(points, lamps)])
    fine = cv2.resize(cells, (view.width, view.height), interpolation=cv2.INTER_LINEAR)
    texel_x, texel_y, light_x, light_y, light_z = cv2.split(fine)
    surface = cv2.remap(skin.detail, texel_x, texel_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    bump_x, bump_y, albedo = cv2.split(surface)
    facing = bump_x * light_x + bump_y * light_y + light_z
    facing /= -np.sqrt(1 + bump_x * bump_x + bump_y * bump_y)
    return albedo * (AMBIENT + np.maximum(facing, 0))


def lamp_light(points: np.ndarray, lamps: np.ndarray) -> np.ndarray:
    """Vector irradiance f32 [3, ...] at `points` [3, ...] mm: a surface whose normal n sees all lamps gets n . E."""
    total = np.zeros_like(points, np.float32)
    for lamp in lamps.astype(np.float32):
        towards = lamp.reshape(3, *[1] * (points.ndim - 1)) - points
        squared = (towards * towards).sum(axis=0)
        total += towards * (LAMP_POWER / (squared * np.sqrt(squared)))
    return total


def _march(
    skin: Skin, start_x: np.ndarray, start_y: np.ndarray, slope_x: np.ndarray, slope_y: np.ndarray
) -> np.ndarray:
    """z f32 [h, w] where the lines (x, y) = start + z * slope first meet the skin, slice by slice."""
    front = -float(skin.height.max()) - 1
    slices = np.linspace(front, front + 1 + BACK, SLICES, dtype=np.float32)[:, None, None]
    x, y = skin.texels(start_x + slices * slope_x, start_y + slices * slope_y)
    flat = (-1, x.shape[-1])
    heights = cv2.remap(
        skin.height, x.reshape(flat), y.reshape(flat), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    inside = heights.reshape(x.shape) + slices
    inside[-1] = np.maximum(inside[-1], 0)
    first = np.maximum((inside >= 0).argmax(axis=0), 1)[None]
    before, after = (np.take_along_axis(inside, index, axis=0)[0] for index in (first - 1, first))
    share = np.clip(before / np.minimum(before - after, -1e-6), 0, 1)
    return front + (first[0] - 1 + share).astype(np.float32) * float(slices[1, 0, 0] - slices[0, 0, 0])


def _without_temple(height: np.ndarray, offsets: np.ndarray, level: float) -> np.ndarray:
    """The height field without its steep end beside the head, which a headset's rim would hide."""
    floor = level - 2.0 - 0.018 * offsets**2
    soft = np.float32(1.5)
    return (soft * np.logaddexp(height / soft, floor[None].astype(np.float32) / soft)).astype(np.float32)


def _hairiness(subject: Subject) -> np.ndarray:
    """Gray of the head's colours over that around it, f32: brows stay, the tint of the skin goes."""
    gray = subject.albedo.mean(axis=-1)
    return np.clip(gray / np.maximum(cv2.GaussianBlur(gray, (0, 0), 20), 0.01), 0.3, 1.1) ** 0.7


def _wrinkles(rng: np.random.Generator, outwards: float) -> np.ndarray:
    """Depth 0-1 f32 [n, n] of crow's feet and of folds below the eye."""
    count = round(2 * REACH / FINE_TEXEL)
    canvas = np.zeros((count, count), np.uint8)
    along = np.linspace(0, 1, 10)
    for _ in range(rng.integers(5, 12)):
        start, bend = np.array([rng.uniform(9, 21), rng.uniform(-4, 8)]), rng.uniform(-0.3, 0.9)
        _stroke(canvas, start, bend + 0.4 * along, rng.uniform(7, 13), outwards, rng)
    for _ in range(rng.integers(1, 4)):
        start, bend = np.array([rng.uniform(-13, -7), rng.uniform(7, 12)]), rng.uniform(0.3, 0.6)
        _stroke(canvas, start, bend - 0.8 * along, rng.uniform(14, 24), outwards, rng)
    return np.minimum(cv2.GaussianBlur(canvas, (0, 0), 2.2) / np.float32(160), 1)


def _stroke(
    canvas: np.ndarray,
    start: np.ndarray,
    angles: np.ndarray,
    length: float,
    outwards: float,
    rng: np.random.Generator,
) -> None:
    """A curved line from `start` (outwards, down; mm from the eye) whose direction follows `angles`, drawn in place."""
    steps = length / len(angles) * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    points = (start + np.cumsum(steps, axis=0)) * [outwards, 1]
    pixels = np.round((points + REACH) / FINE_TEXEL * 8).astype(np.int32)
    cv2.polylines(canvas, [pixels], False, int(rng.uniform(60, 230)), int(rng.integers(1, 4)), cv2.LINE_AA, 3)
