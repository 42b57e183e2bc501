"""Where the pupils of a drawn face must be, by a second model of the eye, and a subject with pupils easy to find."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
from scipy.optimize import root

from gazepipe.drawn.face.render import render
from gazepipe.drawn.face.style import Photometry, lab
from gazepipe.drawn.face.subject import Subject, build_subject
from gazepipe.drawn.face.view import View

PUPIL_TOLERANCE_MM = 0.2  # 1 degree of eye rotation moves the pupil by 0.18 mm


@cache
def plain_subject() -> Subject:
    """A subject whose pupils are easy to find: light irises and hair, no lashes, lids that never cover the pupil."""
    subject = build_subject(np.random.default_rng(5), glasses=False)
    eyes = replace(
        subject.eyes,
        iris_rgb=np.float32([0.5, 0.5, 0.5]),
        iris_texture=0 * subject.eyes.iris_texture,
        lash=0.05,
        upper=6.0,
        upper_follow=1.0,
        lower_follow=1.0,
    )
    return replace(subject, eyes=eyes, hair=np.float32([0.4, 0.4, 0.4]))


def close_up(subject: Subject, view: View, target: np.ndarray) -> np.ndarray:
    """A sharp picture without noise, lights in the eyes or shadows; u8 BGR."""
    light, _ = lab(np.random.default_rng(0))
    light = replace(light, glints=(), shadow=0.0)
    photometry = Photometry(blur=0, gain=np.ones(3, np.float32), noise=0, jpeg=None)
    return render(subject, view, target, light, photometry, np.random.default_rng(0))


def turned_axis(visual: np.ndarray, nasal: float, up: float) -> np.ndarray:
    """The optical axis: `visual` (head frame, unit) less kappa, `nasal` towards +x and `up` towards -y, in radians."""
    elevation, azimuth = np.arcsin(-visual[1]), np.arctan2(visual[0], -visual[2])
    elevation, azimuth = elevation - up, azimuth - nasal
    return np.array([np.cos(elevation) * np.sin(azimuth), -np.sin(elevation), -np.cos(elevation) * np.cos(azimuth)])


def apparent_pupil(eye: np.ndarray, axis: np.ndarray, subject: Subject, matrix: np.ndarray) -> np.ndarray:
    """Pixel [2] at which a camera at the origin sees the pupil's centre through the cornea, by tracing rays.

    eye, axis: centre [3] mm and optical axis [3] in the camera's frame.
    """
    eyes = subject.eyes
    limbus = np.sqrt(eyes.radius**2 - eyes.iris_radius**2)
    pupil = eye + (limbus - 0.45) * axis
    cornea = eye + (limbus - np.sqrt(7.8**2 - eyes.iris_radius**2)) * axis

    def miss(pixel: np.ndarray) -> np.ndarray:
        ray = np.linalg.solve(matrix, [*pixel, 1.0])
        ray /= np.linalg.norm(ray)
        along = ray @ cornea
        entry = ray * (along - np.sqrt(along**2 - cornea @ cornea + 7.8**2))
        normal = (entry - cornea) / 7.8
        sideways = (ray - (ray @ normal) * normal) / 1.3375  # Snell: the tangential part shrinks by n
        inside = sideways - np.sqrt(1 - sideways @ sideways) * normal
        at_pupil = entry + inside * (((pupil - entry) @ axis) / (inside @ axis))
        return (at_pupil - pupil)[:2]

    start = matrix @ pupil
    return root(miss, start[:2] / start[2], tol=1e-9).x


def darkest_blob(picture: np.ndarray, around: np.ndarray, radius: float) -> np.ndarray:
    """Centroid [2] of the largest dark patch within `radius` px of `around`."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    x0, y0 = np.round(around - radius).astype(int)
    size = round(2 * radius)
    dark = (grey[y0 : y0 + size, x0 : x0 + size] < 60).astype(np.uint8)
    _, _, stats, centroids = cv2.connectedComponentsWithStats(dark)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return centroids[largest] + (x0, y0)


def pupil_errors_mm(subject: Subject, view: View, target: np.ndarray, gaze_point: np.ndarray) -> list[float]:
    """Distance between the drawn pupils and those of eyes that fixate `gaze_point`, in mm at the eyes' distance."""
    picture = close_up(subject, view, target)
    errors = []
    for side, nose in enumerate((1, -1)):
        eye = view.rotation @ subject.eyes.centres[side] + view.translation
        visual = view.rotation.T @ (gaze_point - eye)
        kappa = subject.eyes.kappa[side]
        axis = view.rotation @ turned_axis(visual / np.linalg.norm(visual), nose * kappa[0], kappa[1])
        expected = apparent_pupil(eye, axis, subject, view.matrix)
        scale = view.matrix[0, 0] / eye[2]
        middle = view.matrix @ (eye - [0, 0, subject.eyes.radius])
        found = darkest_blob(picture, middle[:2] / middle[2], 8 * scale)
        errors.append(float(np.linalg.norm(found - expected) / scale))
    return errors
