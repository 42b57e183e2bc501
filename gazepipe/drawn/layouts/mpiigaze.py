"""Drawn MPIIGaze eyes, in the layout of its normalised release: `Data/Normalized/p00/day01.mat` and evaluation lists.

Of every picture of a person before a laptop each eye is normalised on its own: a camera at the same place that looks
at the middle between the eye's corners, its x axis parallel to the head's, draws the eye exactly as 60 x 36 px at 960
px focal length and 600 mm (see `mpiifacegaze`). Gaze is measured from that middle. Images are grey and histogram
equalised, as in the release. All pictures are in the evaluation lists, with both eyes.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from gazepipe.common.files import atomic, write_text
from gazepipe.drawn.drawing import Drawing
from gazepipe.drawn.face import laptop
from gazepipe.drawn.face.render import render
from gazepipe.drawn.face.style import wild
from gazepipe.drawn.face.subject import Subject, build_subject, evenly
from gazepipe.drawn.face.view import View
from gazepipe.geometry import EYE_HEIGHT_PX, EYE_WIDTH_PX, VIEW_DISTANCE_MM, eye_camera, look_at, unit

DEFAULTS = {"seed": 0, "images": 80}
OUTER_ENTRIES = {"Data", "Evaluation Subset"}
STREAM = 5  # tells this layout's random streams from the others'
GLASSES_SHARE = (5, 15)
IMAGES_PER_DAY = 10
FOUND_WITHIN_MM = 1.0  # standard deviation of the corners found in real pictures
OVERSAMPLING = 2
SOFTNESS = 0.5  # px: the release's eyes were warped from pictures hardly finer than they are
SIDES = ("right", "left")  # the person's; the right eye is the one to the image's left
MAT_HEADER = b"MATLAB 5.0 MAT-file, drawn by gazepipe"


@dataclass(frozen=True)
class Eye:
    """A view in the eye's normalised frame, the point looked at [3] mm, gaze [3] (unit) and head pose [3] (rotation
    vector)."""

    view: View
    target: np.ndarray
    gaze: np.ndarray
    pose: np.ndarray


def subject_name(index: int) -> str:
    return f"p{index:02d}"


def draw_subject(folder: Path, index: int, drawing: Drawing) -> None:
    """Write a subject's days, `drawing.images` pictures in all, and its evaluation list; the bytes repeat."""
    seed, name = drawing.seed, subject_name(index)
    subject = build_subject(np.random.default_rng([seed, STREAM, index]), evenly(index, *GLASSES_SHARE))
    lines = []
    with atomic(folder / "Data" / "Normalized" / name) as partial:
        partial.mkdir()
        for first in range(0, drawing.images, IMAGES_PER_DAY):
            pictures = range(first, min(first + IMAGES_PER_DAY, drawing.images))
            day = f"day{1 + first // IMAGES_PER_DAY:02d}"
            files = [f"{picture - first + 1:04d}.jpg" for picture in pictures]
            eyes = [_draw_eyes(subject, np.random.default_rng([seed, STREAM, index, 1 + p])) for p in pictures]
            _write_day(partial / f"{day}.mat", files, eyes)
            lines += [f"{day}/{file} {side}" for file in files for side in sorted(SIDES)]
    lists = folder / "Evaluation Subset" / "sample list for eye image"
    write_text(lists / f"{name}.txt", "\n".join(lines) + "\n")


def eye_geometry(subject: Subject, sample: laptop.Sample, side: str, found: np.ndarray) -> Eye:
    """Normalise one eye of a sample; `found` [3] mm is how far off, in the head's frame, its middle was found."""
    corners = subject.landmarks[:2] if side == "right" else subject.landmarks[2:4]
    head = sample.view.rotation
    centre = sample.view.to_camera(corners.mean(axis=0) + found)
    turn = look_at(centre, head[:, 0])
    size = (OVERSAMPLING * EYE_WIDTH_PX, OVERSAMPLING * EYE_HEIGHT_PX)
    matrix = eye_camera(*size)
    matrix[[0, 1], [0, 1]] *= np.linalg.norm(centre) / VIEW_DISTANCE_MM
    view = View(*size, matrix, turn @ head, turn @ sample.view.translation)
    gaze = turn @ unit(sample.target - centre)
    return Eye(view, turn @ sample.target, gaze, Rotation.from_matrix(turn @ head).as_rotvec())


def _draw_eyes(subject: Subject, rng: np.random.Generator) -> dict[str, tuple[np.ndarray, Eye]]:
    """Image u8 [36, 60] and geometry of both eyes in one picture."""
    sample = laptop.sample_geometry(subject, rng, EYE_WIDTH_PX)
    light, photometry = wild(rng)
    photometry = replace(photometry, blur=OVERSAMPLING * (SOFTNESS + photometry.blur))
    drawn = {}
    for side in SIDES:
        eye = eye_geometry(subject, sample, side, rng.normal(0, FOUND_WITHIN_MM, 3))
        fine = render(subject, eye.view, eye.target, light, photometry, rng)
        image = cv2.resize(fine, (EYE_WIDTH_PX, EYE_HEIGHT_PX), interpolation=cv2.INTER_AREA)
        drawn[side] = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)), eye
    return drawn


def _write_day(path: Path, files: list[str], eyes: list[dict[str, tuple[np.ndarray, Eye]]]) -> None:
    data = {
        side: {
            "image": np.stack([entry[side][0] for entry in eyes]),
            "gaze": np.stack([entry[side][1].gaze for entry in eyes]),
            "pose": np.stack([entry[side][1].pose for entry in eyes]),
        }
        for side in sorted(SIDES)
    }
    names = np.array(files, object)[:, None]
    savemat(path, {"data": data, "filenames": names}, do_compression=True)
    with open(path, "r+b") as file:  # the header holds the date: nothing that repeats
        file.write(MAT_HEADER.ljust(116))
