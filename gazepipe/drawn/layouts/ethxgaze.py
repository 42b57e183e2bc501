"""Drawn ETH-XGaze, in the layout of its normalised release: `train/subject0000.h5` and so on.

`face_patch` u8 [n, S, S, 3] BGR (the release: S = 224), `face_gaze` and `face_head_pose` f32 [n, 2], `frame_index` and
`cam_index` i32 [n, 1]. Every moment (head, gaze, light) is seen by all `CAMERAS`, as in the release, whose cameras
stand around the subject; each picture is normalised on its own, so the gaze angles differ from camera to camera.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from gazepipe.common.files import atomic
from gazepipe.drawn.drawing import Drawing
from gazepipe.drawn.face.render import render
from gazepipe.drawn.face.style import lab
from gazepipe.drawn.face.subject import Subject, build_subject, evenly
from gazepipe.drawn.face.view import View, head_rotation
from gazepipe.geometry import VIEW_DISTANCE_MM, angles_to_vector, head_angles, look_at, vector_to_angles, xgaze_camera

DEFAULTS = {"seed": 0, "images": 80, "size": 224}
OUTER_ENTRIES = {"train"}
STREAM = 3  # tells this layout's random streams from the others'
GLASSES_SHARE = (1, 4)
CAMERAS = np.radians([(0.0, 0.0), (0.0, 25.0), (0.0, -25.0), (18.0, 0.0)])  # places around the face: pitch, yaw
DISTANCE_MM = (900.0, 1100.0)


@dataclass(frozen=True)
class Sample:
    """A view in the normalised camera's frame, the point looked at [3] mm, gaze and head pose (pitch, yaw) [2] rad."""

    view: View
    target: np.ndarray
    gaze: np.ndarray
    head_pose: np.ndarray


def subject_name(index: int) -> str:
    return f"subject{index:04d}"


def has_glasses(index: int) -> bool:
    return evenly(index, *GLASSES_SHARE)


def draw_subject(folder: Path, index: int, drawing: Drawing) -> None:
    """Write `<folder>/train/subjectNNNN.h5` with `drawing.images` faces of `drawing.size` px; equal drawings, equal
    bytes."""
    seed, count, size = drawing.seed, drawing.images, drawing.size
    subject = build_subject(np.random.default_rng([seed, STREAM, index]), has_glasses(index))
    images = np.empty((count, size, size, 3), np.uint8)
    angles = np.empty((2, count, 2), np.float32)
    frame, camera = np.divmod(np.arange(count, dtype=np.int32)[:, None], len(CAMERAS))
    for row in range(count):
        rng = np.random.default_rng([seed, STREAM, index, 1 + int(frame[row, 0])])  # the same for all cameras
        sample = sample_geometry(subject, rng, size, int(camera[row, 0]))
        light, photometry = lab(rng)
        images[row] = render(subject, sample.view, sample.target, light, photometry, rng)
        angles[:, row] = sample.gaze, sample.head_pose
    columns = {"face_patch": images, "face_gaze": angles[0], "face_head_pose": angles[1]}
    columns |= {"frame_index": frame, "cam_index": camera}
    with atomic(folder / "train" / f"{subject_name(index)}.h5") as path, h5py.File(path, "w") as file:
        for name, column in columns.items():
            file.create_dataset(name, data=column, track_times=False)


def sample_geometry(subject: Subject, rng: np.random.Generator, size: int, camera: int) -> Sample:
    """Draw head pose, distance and gaze, and look at them from one of the `CAMERAS`."""
    head = head_rotation(*np.radians(rng.normal((2.0, 0.0), (8.0, 12.0))))
    gaze = angles_to_vector(np.radians(rng.normal((-4.0, 0.0), (9.0, 13.0))))
    distance = rng.uniform(*DISTANCE_MM)
    # The frame whose origin is the face centre, turned as the camera before the subject; then the normalised frame of
    # the camera in question.
    centre = -distance * angles_to_vector(CAMERAS[camera])
    turn = look_at(centre, head[:, 0])
    rotation = turn @ head
    ahead = np.array([0.0, 0.0, distance])
    matrix = xgaze_camera(size)
    matrix[[0, 1], [0, 1]] *= distance / VIEW_DISTANCE_MM
    view = View(size, size, matrix, rotation, ahead - rotation @ subject.face_centre)
    return Sample(view, ahead + distance * (turn @ gaze), vector_to_angles(turn @ gaze), head_angles(rotation))
