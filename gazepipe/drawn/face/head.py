"""The head's surface in a view: ray marching of the height field, shadows and shading."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from gazepipe.drawn.face.style import Light
from gazepipe.drawn.face.subject import HALF_WIDTH, SKULL_Y, TEXEL, TOP, Subject
from gazepipe.drawn.face.view import BODY_STEP, Box, View, corners, dot
from gazepipe.geometry import unit

CELL_MM = 2.2  # the first march goes by cells of this size
BACK = 8.0  # mm, z of the height field's last slice
SLICES = 24
SLACK = np.float32(1.5)  # mm, more than the first march errs on a smooth surface
OUTSIDE = -50.0  # mm, height beyond the field
STRIP_PIXELS = 16_384  # arrays of one strip stay in the cache
SHADOW_STEPS_MM = np.arange(4, 33, 4)


@dataclass(frozen=True)
class _Lines:
    """Rays as lines over z in texels of the height field: (x, y) = start + z * slope; all f32 [h, w]."""

    start_x: np.ndarray
    start_y: np.ndarray
    slope_x: np.ndarray
    slope_y: np.ndarray

    def at(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.start_x + z * self.slope_x, self.start_y + z * self.slope_y


def head_box(subject: Subject, view: View) -> Box:
    """Pixels that the height field can reach; borders in steps of `BODY_STEP`, as the body's canvas has."""
    half_width, half_height, _ = subject.skull
    reach = corners(
        (-half_width - 2, SKULL_Y - half_height - 2, -subject.front), (half_width + 2, subject.chin + 3, BACK)
    )
    return view.bounds(reach, margin=2).shrunk(BODY_STEP)


def draw_head(patch: np.ndarray, box: Box, subject: Subject, view: View, light: Light) -> np.ndarray:
    """Draw the head into `patch`, the linear RGB f32 [h, w, 3] of `box`; `light` in the head's frame.

    Returns the surface's depth f32 [h, w]: z in the head's frame, mm.
    """
    step = max(1, round(CELL_MM * view.pixels_per_mm))
    cells = (max(3, box.width // step), max(3, box.height // step))
    lines = _lines(view, box, *cells)
    coarse, clearance = _march(subject, lines)
    shadow = _enlarged(_shadow(subject, lines, coarse, light), box)
    coverage = _coverage(clearance, box)
    neighbours = np.ones((3, 3), np.uint8)
    near = _enlarged(cv2.erode(coarse, neighbours) - SLACK, box)
    far = _enlarged(cv2.dilate(coarse, neighbours) + SLACK, box)
    depth = np.full((box.height, box.width), BACK, np.float32)
    for part in _strips(coverage):
        place = Box(part.x0 + box.x0, part.y0 + box.y0, part.x1 + box.x0, part.y1 + box.y0)
        part = part.slices
        lines = _lines(view, place, place.width, place.height)
        found = _refine(subject, lines, near[part], far[part], view.pixels_per_mm)
        texel_x, texel_y = lines.at(found)
        albedo = cv2.remap(subject.albedo, texel_x, texel_y, cv2.INTER_LINEAR)
        surface = cv2.remap(subject.surface, texel_x, texel_y, cv2.INTER_LINEAR)
        colour = _shade(albedo, surface, shadow[part], view, light)
        colour -= patch[part]
        colour *= coverage[part][..., None]
        patch[part] += colour
        depth[part] = np.where(coverage[part] > 0, found, np.float32(BACK))
    return depth


def _strips(coverage: np.ndarray) -> Iterator[Box]:
    """Boxes that hold all covered pixels, each small enough that its arrays stay in the cache."""
    rows = max(8, STRIP_PIXELS // coverage.shape[1])
    for y0 in range(0, coverage.shape[0], rows):
        covered = np.flatnonzero(coverage[y0 : y0 + rows].max(axis=0))
        if len(covered):
            yield Box(int(covered[0]), y0, int(covered[-1]) + 1, min(y0 + rows, coverage.shape[0]))


def _enlarged(cells: np.ndarray, box: Box) -> np.ndarray:
    return cv2.resize(cells, (box.width, box.height), interpolation=cv2.INTER_LINEAR)


def _lines(view: View, box: Box, width: int, height: int) -> _Lines:
    rays = view.rays(box, width, height)
    slope_x, slope_y = rays[0] / rays[2], rays[1] / rays[2]
    x, y, z = (float(part) for part in view.origin)
    return _Lines(
        (x + HALF_WIDTH - z * slope_x) / TEXEL, (y + TOP - z * slope_y) / TEXEL, slope_x / TEXEL, slope_y / TEXEL
    )


def _heights(subject: Subject, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height in mm at texel coordinates of any shape [..., w]."""
    flat = cv2.remap(
        subject.height,
        x.reshape(-1, x.shape[-1]),
        y.reshape(-1, x.shape[-1]),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=OUTSIDE,
    )
    return flat.reshape(x.shape)


def _march(subject: Subject, lines: _Lines) -> tuple[np.ndarray, np.ndarray]:
    """Slice by slice of z: where each line first meets the surface, or comes nearest to it.

    Returns (z, clearance), f32 [h, w], mm: a line is inside the outline where its deepest dive, the clearance, is
    positive.
    """
    z = np.linspace(-subject.front - 1, BACK, SLICES, dtype=np.float32)
    inside = np.empty((SLICES, *lines.slope_x.shape), np.float32)
    for index, height in enumerate(z):
        inside[index] = _heights(subject, *lines.at(height))
        inside[index] += height
    first = np.maximum((inside >= 0).argmax(axis=0), 1)
    before, after = _pick(inside, first - 1), _pick(inside, first)
    hit = first - 1 + np.clip(before / np.minimum(before - after, -1e-6), 0, 1)

    # The deepest dive lies between slices: the vertex of a parabola through the three deepest ones.
    deepest = np.clip(inside.argmax(axis=0), 1, SLICES - 2)
    middle = _pick(inside, deepest)
    left, right = (np.maximum(_pick(inside, deepest + step), middle - 15) for step in (-1, 1))
    shift = np.clip((right - left) / (4 * middle - 2 * (left + right) + 1e-3), -1, 1)
    highest = inside.max(axis=0)
    clearance = np.maximum(middle + 0.25 * (right - left) * shift, highest)
    position = np.where(highest >= 0, hit, deepest + shift)
    return (z[0] + position * (z[1] - z[0])).astype(np.float32), clearance


def _pick(stack: np.ndarray, index: np.ndarray) -> np.ndarray:
    """stack[index[y, x], y, x] for a stack [n, h, w]."""
    return np.take_along_axis(stack, index[None], axis=0)[0]


def _refine(subject: Subject, lines: _Lines, near: np.ndarray, far: np.ndarray, pixels_per_mm: float) -> np.ndarray:
    """Depth f32 [h, w] by bisection between the bounds `near` (before the surface) and `far` (inside it)."""
    near, far = near.copy(), far.copy()
    for _ in range(4 + max(0, int(np.ceil(np.log2(pixels_per_mm))))):
        middle = 0.5 * (near + far)
        hit = _heights(subject, *lines.at(middle)) + middle >= 0
        np.copyto(far, middle, where=hit)
        np.copyto(near, middle, where=~hit)
    return 0.5 * (near + far)


def _coverage(clearance: np.ndarray, box: Box) -> np.ndarray:
    """Share of each pixel inside the outline, f32 [h, w]: clearance over its slope, an edge one pixel wide."""
    fine = _enlarged(np.clip(clearance, -20, 20), box)
    slope = cv2.magnitude(cv2.Sobel(fine, cv2.CV_32F, 1, 0), cv2.Sobel(fine, cv2.CV_32F, 0, 1)) / 8
    return np.clip(0.5 + fine / np.maximum(slope, 0.5), 0, 1)


def _shadow(subject: Subject, lines: _Lines, depth: np.ndarray, light: Light) -> np.ndarray:
    """Share of the key light that arrives, f32 [h, w] on the coarse cells: a short march towards the light."""
    if light.shadow <= 0 or light.key[2] > -0.15:
        return np.ones_like(depth)
    x, y = lines.at(depth)
    steps = SHADOW_STEPS_MM.astype(np.float32)[:, None, None]
    towards = light.key.astype(np.float32)
    covered = _heights(subject, x + steps * (towards[0] / TEXEL), y + steps * (towards[1] / TEXEL))
    covered += depth + steps * towards[2]
    shade = np.clip((covered.max(axis=0) - 0.5) / 2.5, 0, 1)
    return 1 - light.shadow * cv2.GaussianBlur(shade, (0, 0), 0.8)


def _shade(albedo: np.ndarray, surface: np.ndarray, shadow: np.ndarray, view: View, light: Light) -> np.ndarray:
    """Linear RGB f32 [h, w, 3]: sky and ground light, key light with a red bleeding edge, and gloss."""
    slope_x, slope_y, occlusion, gloss = cv2.split(surface)
    normal_z = -1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    normal = np.stack([slope_x * normal_z, slope_y * normal_z, normal_z])
    facing = dot(light.key, normal)
    key = np.maximum(facing, 0) * shadow
    up = 0.5 - 0.5 * normal[1]
    above, below = up * occlusion, (1 - up) * occlusion
    bleeding = np.exp(-(((facing - 0.05) / 0.22) ** 2))
    halfway = unit(light.key + unit(view.origin))
    shine = np.maximum(dot(halfway, normal), 0) ** 2
    shine = (shine**4) ** 2 * gloss * (key > 0) * (0.10 * light.gloss)
    colour = np.empty_like(albedo)
    for channel, bleed in enumerate((0.10, 0.02, 0.01)):
        sky, ground, sun = (float(rgb[channel]) for rgb in (light.above_rgb, light.below_rgb, light.key_rgb))
        diffuse = sky * above + ground * below + sun * (key + bleed * bleeding)
        colour[..., channel] = albedo[..., channel] * diffuse + sun * shine
    return colour
