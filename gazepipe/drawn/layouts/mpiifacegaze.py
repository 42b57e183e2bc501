"""Drawn MPIIFaceGaze, in the layout of its normalised release: `p00.mat` and so on, HDF5 inside.

`Data/data` u8 [n, 3, S, S] BGR (the release: S = 448), `Data/label` f32 [n, 16]: gaze pitch and yaw, head pitch and yaw
(rad), six landmarks (x, y) in pixels: the eyes' corners from the image's left to its right, then the mouth's.

A normalised picture is a homography of the real one, namely a rotation and a scaling of the focal length; so a camera
at the real distance d with focal length f_n d / d_n that looks at the face centre draws it exactly, perspective
included.
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from gazepipe.common.files import atomic
from gazepipe.drawn.drawing import Drawing
from gazepipe.drawn.face.render import render
from gazepipe.drawn.face.style import wild
from gazepipe.drawn.face.subject import Subject, build_subject, evenly
from gazepipe.drawn.face.view import View, head_rotation
from gazepipe.geometry import (
    VIEW_DISTANCE_MM,
    VIEW_FOCAL_PX,
    VIEW_SIZE_PX,
    angles_to_vector,
    camera_matrix,
    head_angles,
)

DEFAULTS = {"seed": 0, "images": 80, "size": 256}
SUFFIX = ".mat"
STREAM = 2  # tells this layout's random streams from Columbia's
GLASSES_SHARE = (5, 15)
DISTANCE_MM = (420.0, 700.0)
HEAD_SD_DEG = (3.0, 10.0)  # pitch, yaw; the pitch of a head hides the pitch of its eyes, so it stays small


@dataclass(frozen=True)
class Sample:
    """A view in the normalised camera's frame, the point looked at [3] mm, gaze (pitch, yaw) [2] rad."""

    view: View
    target: np.ndarray
    gaze: np.ndarray


def subject_name(index: int) -> str:
    return f"p{index:02d}"


def has_glasses(index: int) -> bool:
    """5 of 15 subjects."""
    return evenly(index, *GLASSES_SHARE)


def draw_subject(folder: Path, index: int, drawing: Drawing) -> None:
    """Write `<folder>/pNN.mat` with `drawing.images` views of `drawing.size` px; equal drawings give equal bytes."""
    seed, count, size = drawing.seed, drawing.images, drawing.size
    subject = build_subject(np.random.default_rng([seed, STREAM, index]), has_glasses(index))
    images = np.empty((count, 3, size, size), np.uint8)
    labels = np.empty((count, 16), np.float32)
    for frame in range(count):
        rng = np.random.default_rng([seed, STREAM, index, 1 + frame])
        sample = sample_geometry(subject, rng, size)
        light, photometry = wild(rng)
        images[frame] = render(subject, sample.view, sample.target, light, photometry, rng).transpose(2, 0, 1)
        labels[frame] = label(subject, sample)
    with atomic(folder / f"{subject_name(index)}{SUFFIX}") as path, h5py.File(path, "w") as file:
        file.create_dataset("Data/data", data=images, track_times=False)
        file.create_dataset("Data/label", data=labels, track_times=False)


def sample_geometry(subject: Subject, rng: np.random.Generator, size: int) -> Sample:
    """Draw a head pose, a distance and a gaze; the head's roll is already cancelled."""
    head_pitch, head_yaw = rng.normal((3.0, 0.0), HEAD_SD_DEG)
    rotation = head_rotation(*np.radians([head_pitch, head_yaw]))
    pitch = np.clip(rng.normal(-9.0, 6.5), -26, 8)
    yaw = np.clip(rng.normal(0.0, 10.0) - 0.35 * head_yaw, -27, 27)
    gaze = np.radians([pitch, yaw])
    distance = rng.uniform(*DISTANCE_MM)
    centre = np.array([0.0, 0.0, distance])
    focal = VIEW_FOCAL_PX * size / VIEW_SIZE_PX * distance / VIEW_DISTANCE_MM
    view = View(size, size, camera_matrix(size, size, focal), rotation, centre - rotation @ subject.face_centre)
    return Sample(view, centre + distance * angles_to_vector(gaze), gaze)


def label(subject: Subject, sample: Sample) -> np.ndarray:
    """f64 [16], columns as of the module's docstring."""
    pixels = sample.view.project(subject.landmarks)
    return np.concatenate([sample.gaze, head_angles(sample.view.rotation), pixels.ravel()])
