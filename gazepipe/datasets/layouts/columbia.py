"""Columbia Gaze, native layout: `<folder>/0001/0001_2m_-15P_-10V_-10H.jpg`, one picture per pose and gaze.

Smith, Yin, Feiner, Nayar, "Gaze Locking" (UIST 2013). Each picture goes through face detection, head pose
and data normalisation; the label of its file name is turned from the camera's frame into the normalised
one.
"""

import hashlib
import re
from pathlib import Path

import cv2
import numpy as np

from gazepipe.datasets.faces import find_mesh, head_pose
from gazepipe.datasets.images import UnusableImage, gray, read_jpeg, warp
from gazepipe.datasets.layouts.layout import Prepared, stacked, subject_place, subject_places
from gazepipe.errors import UserError
from gazepipe.geometry import (
    COLUMBIA_FOCAL_PX,
    COLUMBIA_WIDTH_PX,
    VIEW_DISTANCE_MM,
    VIEW_GEOMETRY,
    columbia_camera,
    columbia_gaze,
    head_angles,
    normalisation,
    patch_camera,
    vector_to_angles,
)

GEOMETRY = VIEW_GEOMETRY

SUBJECT_FOLDER = re.compile(r"\d{4}")
WHAT = "subject folders 0001, 0002, ..."
LIKE_A_PICTURE = re.compile(r"\d.*\.jpe?g", re.IGNORECASE)
PICTURE = re.compile(r"(\d{4})_2m_(-?\d+)P_(-?\d+)V_(-?\d+)H\.jpg", re.IGNORECASE)
ANGLES_DEG = {"P": (-30, -15, 0, 15, 30), "V": (-10, 0, 10), "H": (-15, -10, -5, 0, 5, 10, 15)}

CAMERA_DISTANCE_MM = 2000.0
POSSIBLE_DISTANCE_MM = (1000.0, 4000.0)
LEAST_WIDTH_PX = 640
"""Width below which the corners of the eyes are found too coarsely."""


def subjects(folder: str | Path) -> list[str]:
    """Names of the subject folders, sorted; UserError where there is none."""
    return list(subject_places(folder, SUBJECT_FOLDER, WHAT))


def subject_name(index: int) -> str:
    """Name of the subject `index`, from 0."""
    return f"{index + 1:04d}"


def prepare_subject(folder: str | Path, subject: str, patch: dict) -> Prepared:
    """Patches of all pictures of a subject; frames are the file names.

    Pictures that cannot be used (unreadable, misnamed, no face) are listed in `rejected`; other files are
    ignored. Raises UserError where the subject's folder is missing or holds no picture.
    """
    place = subject_place(folder, subject, SUBJECT_FOLDER, WHAT)
    paths = sorted(path for path in place.iterdir() if LIKE_A_PICTURE.fullmatch(path.name))
    if not paths:
        raise UserError(f"{place}: holds no pictures; restore them or leave the subject out")
    digest = hashlib.sha256()
    frames, samples, rejected = [], [], []
    for path in paths:
        try:
            angles = parse_name(path.name, subject)
            image, data = read_jpeg(path, _least_width(patch))
            digest.update(path.name.encode() + data)
            samples.append(_sample(image, *angles, patch))
            frames.append(path.name)
        except UnusableImage as error:
            rejected.append((path.name, str(error)))
    return stacked(samples, frames, rejected, patch, digest.hexdigest(), place)


def native_image(folder: str | Path, subject: str, frame: str) -> np.ndarray:
    """The middle of a picture, where the subject is: u8 BGR [h, h, 3]; UserError where it cannot be read."""
    path = subject_place(folder, subject, SUBJECT_FOLDER, WHAT) / frame
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path}: cannot be read any more; fetch the data set again")
    height, width = image.shape[:2]
    return image[:, width // 2 - height // 2 : width // 2 + height // 2]


def parse_name(name: str, subject: str) -> tuple[int, int]:
    """(V, H) in degrees from a picture's name; UnusableImage where `subject` has no picture so named."""
    match = PICTURE.fullmatch(name)
    if match is None:
        raise UnusableImage("the name is not of the form 0001_2m_0P_0V_0H.jpg")
    if match[1] != subject:
        raise UnusableImage(f"names subject {match[1]}, lies in the folder of {subject}")
    angles = {key: int(match[place]) for place, key in enumerate(ANGLES_DEG, 2)}
    for key, value in angles.items():
        if value not in ANGLES_DEG[key]:
            raise UnusableImage(f"{value}{key} is not one of {', '.join(map(str, ANGLES_DEG[key]))}")
    return angles["V"], angles["H"]


def _least_width(patch: dict) -> float:
    """Width of a picture that has as many pixels per millimetre of face as the patch."""
    patch_px_per_mm = np.diag(patch_camera(patch)).max() / VIEW_DISTANCE_MM
    return max(LEAST_WIDTH_PX, patch_px_per_mm * CAMERA_DISTANCE_MM / COLUMBIA_FOCAL_PX * COLUMBIA_WIDTH_PX)


def _sample(
    image: np.ndarray, vertical_deg: int, horizontal_deg: int, patch: dict
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patch u8 [H, W], gaze [2] and head pose [2] in the normalised frame of a picture u8 [h, w, 3]."""
    camera = columbia_camera(image.shape[1], image.shape[0])
    rotation, center = head_pose(find_mesh(image), camera)
    distance = np.linalg.norm(center)
    if not POSSIBLE_DISTANCE_MM[0] < distance < POSSIBLE_DISTANCE_MM[1]:
        raise UnusableImage(f"the face found seems {distance / 1000:.1f} m away, expected about 2 m")
    turn, to_patch = normalisation(center, rotation, camera, patch_camera(patch))
    gaze = vector_to_angles(turn @ columbia_gaze(vertical_deg, horizontal_deg, center))
    pixels = warp(gray(image), to_patch, patch["width"], patch["height"])
    return pixels, gaze, head_angles(turn @ rotation)
