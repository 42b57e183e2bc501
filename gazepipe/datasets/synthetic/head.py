"""The head's surface in a view: ray marching of the height field, shadows and shading."""

from dataclasses import dataclass

import cv2
import numpy as np

from gazepipe.datasets.synthetic.style import Light
from gazepipe.datasets.synthetic.subject import BOTTOM, HALF_WIDTH, SKULL_Y, TEXEL, TOP, Subject
from gazepipe.datasets.synthetic.view import Box, View, corners, dot
from gazepipe.geometry import unit

CELL_MM = 2.2  # the first march goes by cells of this size
BACK = 8.0  # mm, z of the height field's last slice
SLICES = 26
OUTSIDE = -50.0  # mm, height beyond the field
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
    """Pixels that the height field can reach; even borders, so that a half-size copy has the same edges."""
    half_width, half_height, _ = subject.skull
    reach = corners(
        (-half_width - 2, SKULL_Y - half_height - 2, -subject.front), (half_width + 2, subject.chin + 3, BACK)
    )
    box = view.bounds(reach, margin=2)
    return Box(box.x0 // 2 * 2, box.y0 // 2 * 2, box.x1 // 2 * 2, box.y1 // 2 * 2)


def draw_head(patch: np.ndarray, box: Box, subject: Subject, view: View, light: Light) -> np.ndarray:
    """Draw the head into `patch`, the linear RGB f32 [h, w, 3] of `box`; `light` in the head's frame.

    Returns the surface's depth f32 [h, w]: z in the head's frame, mm.
    """
    step = max(1, round(CELL_MM * view.pixels_per_mm))
    cells = (max(2, box.width // step), max(2, box.height // step))
    coarse_lines = _lines(view, box, *cells)
    coarse, clearance = _march(subject, coarse_lines)
    lines = _lines(view, box, box.width, box.height)
    depth = _refine(subject, lines, coarse, box, view.pixels_per_mm)
    texel_x, texel_y = lines.at(depth)
    albedo = cv2.remap(subject.albedo, texel_x, texel_y, cv2.INTER_LINEAR)
    surface = cv2.remap(subject.surface, texel_x, texel_y, cv2.INTER_LINEAR)
    shadow = _shadow(subject, coarse_lines, coarse, light)
    shadow = cv2.resize(shadow, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
    colour = _shade(albedo, surface, shadow, view, light)
    patch += (colour - patch) * _coverage(clearance, box)[..., None]
    return depth


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
    """First hit of each line, by slices of z: (z or `BACK` where it misses, largest penetration in mm), f32 [h, w]."""
    z = np.linspace(-subject.front - 1, BACK, SLICES, dtype=np.float32)
    inside = _heights(subject, *lines.at(z[:, None, None]))
    inside += z[:, None, None]
    clearance = inside.max(axis=0)
    first = np.maximum((inside >= 0).argmax(axis=0), 1)[None]
    before = np.take_along_axis(inside, first - 1, axis=0)[0]
    after = np.take_along_axis(inside, first, axis=0)[0]
    share = np.clip(before / np.minimum(before - after, -1e-6), 0, 1)
    hit = z[first[0] - 1] + share * (z[1] - z[0])
    return np.where(clearance >= 0, hit, np.float32(BACK)), clearance


def _refine(subject: Subject, lines: _Lines, coarse: np.ndarray, box: Box, pixels_per_mm: float) -> np.ndarray:
    """Depth f32 [h, w] of `box` by bisection between bounds that hold over neighbouring cells."""
    slice_mm = (subject.front + 1 + BACK) / (SLICES - 1)
    kernel = np.ones((3, 3), np.uint8)
    size = (box.width, box.height)
    near = cv2.resize(cv2.erode(coarse, kernel) - np.float32(slice_mm), size, interpolation=cv2.INTER_LINEAR)
    far = cv2.resize(cv2.dilate(coarse, kernel) + np.float32(slice_mm), size, interpolation=cv2.INTER_LINEAR)
    for _ in range(5 + max(0, int(np.ceil(np.log2(pixels_per_mm))))):
        middle = 0.5 * (near + far)
        hit = _heights(subject, *lines.at(middle)) + middle >= 0
        np.copyto(far, middle, where=hit)
        np.copyto(near, middle, where=~hit)
    return 0.5 * (near + far)


def _coverage(clearance: np.ndarray, box: Box) -> np.ndarray:
    """Share of each pixel inside the outline, f32 [h, w]: the clearance over its slope, a smooth edge one pixel wide."""
    fine = cv2.resize(np.clip(clearance, -20, 20), (box.width, box.height), interpolation=cv2.INTER_LINEAR)
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
        sky, ground, sun = (
            float(rgb[channel]) for rgb in (light.above_rgb, light.below_rgb, light.key_rgb)
        )
        diffuse = sky * above + ground * below + sun * (key + bleed * bleeding)
        colour[..., channel] = albedo[..., channel] * diffuse + sun * shine
    return colour
