"""Drawn Columbia Gaze, in its native layout: `0001/0001_2m_-15P_-10V_-10H.jpg`, 5 head poses x 3 x 7 gazes each.

Signs. V > 0 looks up, H > 0 to the image's right (`gazepipe.geometry.columbia_gaze`); P is drawn with the sense of H:
P > 0 turns the face to the image's right.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gazepipe.common.files import atomic
from gazepipe.drawn.drawing import Drawing
from gazepipe.drawn.face.render import render
from gazepipe.drawn.face.style import lab
from gazepipe.drawn.face.subject import Subject, build_subject, evenly
from gazepipe.drawn.face.view import View, head_rotation
from gazepipe.geometry import columbia_camera, columbia_gaze

DEFAULTS = {"seed": 0, "scale": 0.125}
SMALLEST_SCALE = 0.02  # faces 26 px wide in 104
STREAM = 1  # tells this layout's random streams from MPIIFaceGaze's
FULL_WIDTH, FULL_HEIGHT = 5184, 3456
GLASSES_SHARE = (3, 8)  # 21 of 56
POSES = (-30, -15, 0, 15, 30)
VERTICAL = (-10, 0, 10)
HORIZONTAL = (-15, -10, -5, 0, 5, 10, 15)
WALL_MM = 2500.0  # from the face to the dots looked at
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Sample:
    """A view of the head, and the point looked at [3] in mm in the camera's frame."""

    view: View
    target: np.ndarray


def subject_name(index: int) -> str:
    return f"{index + 1:04d}"


def has_glasses(index: int) -> bool:
    """3 of 8 subjects: 21 of Columbia's 56."""
    return evenly(index, *GLASSES_SHARE)


def frame_name(subject: str, pose: int, vertical: int, horizontal: int) -> str:
    return f"{subject}_2m_{pose}P_{vertical}V_{horizontal}H.jpg"


def draw_subject(folder: Path, index: int, drawing: Drawing) -> None:
    """Write `<folder>/NNNN/` with its 105 pictures; equal drawings give equal bytes."""
    seed, name = drawing.seed, subject_name(index)
    subject = build_subject(np.random.default_rng([seed, STREAM, index]), has_glasses(index))
    size = (round(FULL_WIDTH * drawing.scale), round(FULL_HEIGHT * drawing.scale))
    conditions = [(p, v, h) for p in POSES for v in VERTICAL for h in HORIZONTAL]
    with atomic(folder / name) as partial:
        partial.mkdir()
        for frame, (pose, vertical, horizontal) in enumerate(conditions):
            rng = np.random.default_rng([seed, STREAM, index, 1 + frame])
            sample = sample_geometry(subject, rng, size, pose, vertical, horizontal)
            light, photometry = lab(rng)
            picture = render(subject, sample.view, sample.target, light, photometry, rng)
            _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            (partial / frame_name(name, pose, vertical, horizontal)).write_bytes(encoded.tobytes())


def sample_geometry(
    subject: Subject,
    rng: np.random.Generator,
    size: tuple[int, int],
    pose: int,
    vertical: int,
    horizontal: int,
) -> Sample:
    """Place the head 2 m before a camera of `size` (width, height) px; chin rest and camera leave a little jitter."""
    jitter = np.radians(rng.normal(0, (2.0, 1.7, 1.7)))
    pitch, yaw, roll = jitter - np.radians([0, pose, 0])
    roll_matrix = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation = head_rotation(pitch, yaw) @ roll_matrix
    centre = rng.normal((0, 12, 2000), (8, 6, 15))
    view = View(*size, columbia_camera(*size), rotation, centre - rotation @ subject.face_centre)
    return Sample(view, centre + WALL_MM * columbia_gaze(vertical, horizontal, centre))
