"""A person before a laptop: camera, screen below it, head, and a point looked at on the screen."""

from dataclasses import dataclass

import numpy as np

from gazepipe.drawn.face.subject import Subject
from gazepipe.drawn.face.view import View, head_rotation
from gazepipe.geometry import camera_matrix, screen_point

SCREEN = {
    "width": 1920,
    "height": 1080,
    "width_mm": 344.0,
    "height_mm": 194.0,
    "origin": (172.0, 12.0, 0.0),
    "rotation": (0.0, np.pi, 0.0),
}
"""As the block `screen` of the configuration."""


@dataclass(frozen=True)
class Sample:
    """A view by the camera, the point looked at: [2] px of the screen, and `target` [3] mm in the camera's frame."""

    view: View
    pixel: np.ndarray
    target: np.ndarray


def camera(size: int) -> tuple[np.ndarray, int]:
    """Intrinsics [3, 3] and height (px) of the camera's pictures, `size` px wide."""
    height = size * 3 // 4
    return camera_matrix(size, height, float(size)), height


def sample_geometry(subject: Subject, rng: np.random.Generator, size: int) -> Sample:
    """Draw a head before the camera, rolled by a few degrees, too, and a point on the screen."""
    pitch, yaw, roll = np.radians(rng.normal((0.0, 0.0, 0.0), (6.0, 9.0, 5.0)))
    upright = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation = head_rotation(pitch, yaw) @ upright
    centre = np.array([*rng.normal((0, 10), (40, 25)), rng.uniform(480, 680)])
    pixel = rng.uniform((0, 0), (SCREEN["width"], SCREEN["height"]))
    matrix, height = camera(size)
    view = View(size, height, matrix, rotation, centre - rotation @ subject.face_centre)
    return Sample(view, pixel, screen_point(pixel, SCREEN))
