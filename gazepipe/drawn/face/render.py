"""A frame of a subject: body and background coarsely, then head, eyes and glasses where the face is."""

from dataclasses import replace

import cv2
import numpy as np

from gazepipe.drawn.face.eyes import draw_eyes
from gazepipe.drawn.face.glasses import draw_glasses
from gazepipe.drawn.face.head import draw_head, head_box
from gazepipe.drawn.face.style import Light, Photometry, add_noise, compress, tone_map
from gazepipe.drawn.face.subject import SKULL_Y, Subject
from gazepipe.drawn.face.view import BODY_STEP, Box, View, corners, dot


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
    size = (body.shape[1] * BODY_STEP, body.shape[0] * BODY_STEP)
    enlarged = cv2.resize(tone_map(body, replace(photometry, blur=0)), size, interpolation=cv2.INTER_LINEAR)
    frame = np.ascontiguousarray(enlarged[: view.height, : view.width])
    box = head_box(subject, view)
    if min(box.width, box.height) > BODY_STEP:
        rows, columns = Box(*(edge // BODY_STEP for edge in box)).slices
        patch = cv2.resize(body[rows, columns], (box.width, box.height), interpolation=cv2.INTER_LINEAR)
        depth = draw_head(patch, box, subject, view, light_on_head)
        draw_eyes(patch, depth, box, subject, view, view.to_head(target), light_on_head)
        if subject.glasses is not None:
            draw_glasses(patch, depth, box, subject, view, light_on_head)
        frame[box.slices] = tone_map(patch, photometry)
    return compress(add_noise(frame, photometry, rng), photometry)


def _body(subject: Subject, view: View, light: Light) -> np.ndarray:
    """Background, shoulders, neck, ears, skull, long hair, far to near: linear RGB f32, `BODY_STEP` times smaller."""
    size = (-(-view.width // BODY_STEP), -(-view.height // BODY_STEP))
    canvas = cv2.resize(light.background, size, interpolation=cv2.INTER_LINEAR)
    rays = view.rays(view.box.grown(BODY_STEP), *size)
    half_width, half_height, depth = subject.skull
    top = subject.skin if subject.bald else subject.hair

    def ellipsoid(centre: tuple, radii: tuple, rgb: np.ndarray) -> None:
        _ellipsoid(canvas, rays, view, np.array(centre), np.array(radii), rgb, light)

    def ear(side: int) -> None:
        ellipsoid((side * (half_width + 1), 8, 10), (7, 29, 16), 0.8 * subject.skin)
        ellipsoid((side * (half_width + 4), 7, 5), (5, 17, 9), 0.62 * subject.skin)

    near = 1 if view.origin[0] > 0 else -1
    ellipsoid((0, 250, 60), (205, 118, 95), subject.cloth)
    ellipsoid((0, 120, 30), (54, 112, 54), 0.6 * subject.skin)
    ear(-near)
    ellipsoid((0, SKULL_Y - 5, 8), (1.04 * half_width, 1.02 * half_height, 1.05 * depth), 0.9 * top)
    ear(near)
    if subject.long_hair:
        for side in (-near, near):
            ellipsoid((side * (half_width - 10), 52, 24), (31, 118, 48), 0.9 * subject.hair)
    return canvas


def _ellipsoid(
    canvas: np.ndarray,
    rays: np.ndarray,
    view: View,
    centre: np.ndarray,
    radii: np.ndarray,
    rgb: np.ndarray,
    light: Light,
) -> None:
    """Draw an axis-parallel ellipsoid (head's frame, mm) into the coarse `canvas` [h, w, 3] with `rays` [3, h, w]."""
    bounds = view.bounds(corners(centre - radii, centre + radii), margin=2).grown(BODY_STEP)
    cells = Box(*(edge // BODY_STEP for edge in bounds))
    if cells.width < 1 or cells.height < 1:
        return
    rows, columns = cells.slices
    stretch = (1 / radii).astype(np.float32)[:, None, None]
    rays = rays[:, rows, columns] * stretch
    origin = (view.origin - centre) / radii
    squared = (rays * rays).sum(axis=0)
    along = dot(origin, rays) / squared
    clearance = along * along - float(origin @ origin - 1) / squared
    # `inside` is 1 - (closest approach to the centre)^2, in units of the radii.
    inside = clearance * squared
    edge = 2 * BODY_STEP / (view.pixels_per_mm * min(radii[0], radii[1]))
    coverage = np.clip(0.5 + inside / edge, 0, 1)[..., None]
    surface = origin.astype(np.float32)[:, None, None] - (along + np.sqrt(np.maximum(clearance, 0))) * rays
    normal = surface * stretch
    normal /= np.sqrt((normal * normal).sum(axis=0))
    up = (0.5 - 0.5 * normal[1])[..., None]
    key = np.maximum(0, dot(light.key, normal))[..., None]
    colour = rgb * (light.above_rgb * up + light.below_rgb * (1 - up) + light.key_rgb * key)
    patch = canvas[rows, columns]
    patch += (colour - patch) * coverage
