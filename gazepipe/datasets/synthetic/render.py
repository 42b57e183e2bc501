"""A frame of a subject: body and background at half size, then head, eyes and glasses where the face is."""

import cv2
import numpy as np

from gazepipe.datasets.synthetic.eyes import draw_eyes
from gazepipe.datasets.synthetic.glasses import draw_glasses
from gazepipe.datasets.synthetic.head import draw_head, head_box
from gazepipe.datasets.synthetic.style import Light, Photometry, add_noise, compress, tone_map
from gazepipe.datasets.synthetic.subject import SKULL_Y, Subject
from gazepipe.datasets.synthetic.view import Box, View, corners, dot


def render(
    subject: Subject,
    view: View,
    target: np.ndarray,
    light: Light,
    photometry: Photometry,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw `subject` looking at `target` [3] (mm, camera frame) through `view`: u8 BGR [height, width, 3].

    `light` is given in the camera's frame; `rng` makes the sensor's noise.
    """
    light_on_head = light.turned(view.rotation.T)
    body = _body(subject, view, light_on_head)
    half_height, half_width = body.shape[:2]
    frame = cv2.resize(
        tone_map(body, photometry), (2 * half_width, 2 * half_height), interpolation=cv2.INTER_LINEAR
    )[: view.height, : view.width]
    frame = np.ascontiguousarray(frame)
    box = head_box(subject, view)
    if box.width > 4 and box.height > 4:
        behind = body[box.y0 // 2 : box.y1 // 2, box.x0 // 2 : box.x1 // 2]
        patch = cv2.resize(behind, (box.width, box.height), interpolation=cv2.INTER_LINEAR)
        depth = draw_head(patch, box, subject, view, light_on_head)
        draw_eyes(patch, depth, box, subject, view, view.to_head(target), light_on_head)
        if subject.glasses is not None:
            draw_glasses(patch, depth, box, subject, view, light_on_head)
        frame[box.slices] = tone_map(patch, photometry)
    return compress(add_noise(frame, photometry, rng), photometry)


def _body(subject: Subject, view: View, light: Light) -> np.ndarray:
    """Background, shoulders, neck, ears, skull and long hair, far to near; linear RGB f32 at half size."""
    half = (-(-view.width // 2), -(-view.height // 2))
    canvas = cv2.resize(light.background, half, interpolation=cv2.INTER_LINEAR)
    half_width, half_height, depth = subject.skull
    top = subject.skin if subject.bald else subject.hair

    def ellipsoid(centre: tuple, radii: tuple, rgb: np.ndarray) -> None:
        _ellipsoid(canvas, view, np.array(centre), np.array(radii), rgb, light)

    def ear(side: int) -> None:
        ellipsoid((side * (half_width + 1), 8, 10), (7, 29, 16), 0.8 * subject.skin)
        ellipsoid((side * (half_width + 4), 7, 5), (5, 17, 9), 0.62 * subject.skin)

    near = 1 if view.origin[0] > 0 else -1
    ellipsoid((0, 250, 60), (205, 118, 95), subject.cloth)
    ellipsoid((0, 120, 30), (54, 112, 54), 0.8 * subject.skin)
    ear(-near)
    ellipsoid((0, SKULL_Y - 5, 8), (1.04 * half_width, 1.02 * half_height, 1.05 * depth), 0.9 * top)
    ear(near)
    if subject.long_hair:
        for side in (-near, near):
            ellipsoid((side * (half_width - 3), 55, 24), (22, 115, 45), 0.9 * subject.hair)
    return canvas


def _ellipsoid(
    canvas: np.ndarray, view: View, centre: np.ndarray, radii: np.ndarray, rgb: np.ndarray, light: Light
) -> None:
    """Draw an axis-parallel ellipsoid (head's frame, mm) into the half-size `canvas`, with a smooth edge."""
    bounds = view.bounds(corners(tuple(centre - radii), tuple(centre + radii)), margin=2)
    cells = Box(bounds.x0 // 2, bounds.y0 // 2, -(-bounds.x1 // 2), -(-bounds.y1 // 2))
    if cells.width < 1 or cells.height < 1:
        return
    box = Box(2 * cells.x0, 2 * cells.y0, 2 * cells.x1, 2 * cells.y1)
    stretch = (1 / radii).astype(np.float32)[:, None, None]
    rays = view.rays(box, cells.width, cells.height) * stretch
    origin = (view.origin - centre) / radii
    squared = (rays * rays).sum(axis=0)
    along = dot(origin, rays) / squared
    clearance = along * along - float(origin @ origin - 1) / squared
    # `inside` is 1 - (closest approach to the centre)^2, in units of the radii.
    inside = clearance * squared
    edge = 4 / (view.pixels_per_mm * min(radii[0], radii[1]))
    coverage = np.clip(0.5 + inside / edge, 0, 1)[..., None]
    surface = origin.astype(np.float32)[:, None, None] - (along + np.sqrt(np.maximum(clearance, 0))) * rays
    normal = surface * stretch
    normal /= np.sqrt((normal * normal).sum(axis=0))
    up = (0.5 - 0.5 * normal[1])[..., None]
    key = np.maximum(0, dot(light.key, normal))[..., None]
    colour = rgb * (light.above_rgb * up + light.below_rgb * (1 - up) + light.key_rgb * key)
    patch = canvas[cells.slices]
    patch += (colour - patch) * coverage
