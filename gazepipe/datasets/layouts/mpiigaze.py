"""MPIIGaze, normalised eyes: `<folder>/Data/Normalized/p00/day01.mat` and so on, MATLAB v5 files, one a day.

Zhang, Sugano, Fritz, Bulling, "Appearance-based gaze estimation in the wild" (CVPR 2015). `data.left` and `data.right`
hold `image` u8 [n, 36, 60] (histogram equalised), `gaze` [n, 3] (vectors) and `pose` [n, 3] (rotation vectors of the
head) in the normalised frame of each eye; `filenames` names the n pictures. Used are the images that the evaluation
list names: `Evaluation Subset/sample list for eye image/p00.txt`, lines like `day01/0203.jpg left`. Right eyes are
mirrored to look like left ones, their yaws negated, as in public practice. (The release turned its gaze vectors by
S R, not by R, as later releases do; a network learns its own frame.)
"""

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from gazepipe.datasets.images import resized
from gazepipe.datasets.layouts.layout import (
    Prepared,
    check_angles,
    inner_folder,
    stacked,
    subject_place,
    subject_places,
)
from gazepipe.errors import UserError
from gazepipe.geometry import head_angles, rotation_matrix, vector_to_angles

GEOMETRY = "normalised eye (60 x 36 px, focal length 960 px, 600 mm), right eyes mirrored; x right, y down"

SUBJECT_FOLDER = re.compile(r"p\d{2}", re.IGNORECASE)
WHAT = "folders Data/Normalized/p00, ..."
LINE = re.compile(r"([^/\s]+)/([^/\s]+)\s+(left|right)")
SIDES = ("left", "right")


class Eyes(NamedTuple):
    """One side of a day: `image` u8 [n, h, w], `gaze` and `pose` f64 [n, 3]."""

    image: np.ndarray
    gaze: np.ndarray
    pose: np.ndarray


def subjects(folder: str | Path) -> list[str]:
    """Names of the subjects (`p00`, ...), sorted; UserError where there is none."""
    return list(subject_places(_normalised_folder(folder), SUBJECT_FOLDER, WHAT))


def subject_name(index: int) -> str:
    """Name of the subject `index`, from 0."""
    return f"p{index:02d}"


def prepare_subject(folder: str | Path, subject: str, patch: dict) -> Prepared:
    """Patches of the eyes in a subject's evaluation list; frames are its lines, `day01/0203.jpg left`.

    Eyes that the day's file does not hold are listed in `rejected`. Raises UserError where a file is missing, damaged
    or not of this layout, a line of the list cannot be read or repeats, or a label is not within +-pi/2.
    """
    place = subject_place(_normalised_folder(folder), subject, SUBJECT_FOLDER, WHAT)
    digest = hashlib.sha256()
    frames, samples, rejected = [], [], []
    for frame, day, name, side in sorted(_evaluation_list(folder, subject)):
        names, eyes = _day(place / f"{day}.mat")
        row = names.get(name)
        if row is None:
            rejected.append((frame, f"{day}.mat holds no such picture"))
            continue
        image, gaze, head = _sample(eyes[side], row, side, f"{place / f'{day}.mat'}: data.{side}")
        frames.append(frame)
        samples.append((resized(image, patch["width"], patch["height"]), gaze, head))
        digest.update(frame.encode() + image.tobytes() + np.concatenate([gaze, head]).tobytes())
    return stacked(samples, frames, rejected, patch, digest.hexdigest(), place)


def native_image(folder: str | Path, subject: str, frame: str) -> np.ndarray:
    """An eye as it is in the file, right ones mirrored: u8 BGR [h, w, 3]."""
    place = subject_place(_normalised_folder(folder), subject, SUBJECT_FOLDER, WHAT)
    day, name, side = LINE.fullmatch(frame).groups()
    names, eyes = _day(place / f"{day}.mat")
    return cv2.cvtColor(_upright(eyes[side].image[names[name]], side), cv2.COLOR_GRAY2BGR)


def _normalised_folder(folder: str | Path) -> Path:
    return inner_folder(folder, "Data", "Normalized")


def _evaluation_list(folder: str | Path, subject: str) -> list[tuple[str, str, str, str]]:
    """(frame, day, picture, side) of each line of the subject's list."""
    path = inner_folder(folder, "Evaluation Subset", "sample list for eye image") / f"{subject}.txt"
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); add the subject's evaluation list") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not plain text; fetch it again") from None
    entries: dict[tuple[str, str, str], int] = {}
    for number, line in enumerate(lines, 1):
        match = LINE.fullmatch(line.strip())
        if match is None and line.strip():
            raise UserError(
                f"{path}: line {number}: {line[:40]!r} is not of the form 'day01/0203.jpg left'; correct it"
            )
        if match and entries.setdefault(match.groups(), number) != number:
            raise UserError(f"{path}: line {number} is line {entries[match.groups()]} again; remove one")
    if not entries:
        raise UserError(f"{path}: is empty; fetch it again")
    return [(f"{day}/{name} {side}", day, name, side) for day, name, side in entries]


@lru_cache(maxsize=1)  # the list is sorted by day
def _day(path: Path) -> tuple[dict[str, int], dict[str, Eyes]]:
    """Rows by name of the picture, and both sides, of one day's file, checked."""
    content = load_mat(path)
    try:
        names = [str(name) for name in np.atleast_1d(content["filenames"])]
        sides = {side: getattr(content["data"], side) for side in SIDES}
        tables = {side: Eyes(*(np.asarray(getattr(sides[side], column)) for column in Eyes._fields)) for side in SIDES}
    except (KeyError, AttributeError):
        raise UserError(f"{path}: holds no data.left, data.right and filenames; fetch the release again") from None
    return {name: row for row, name in enumerate(names)}, {
        side: _checked(table, len(names), f"{path}: data.{side}") for side, table in tables.items()
    }


def load_mat(path: Path) -> dict[str, Any]:
    """Variables of a MATLAB v5 file, structures as objects; UserError where it is missing or damaged."""
    from scipy.io import loadmat

    if not path.is_file():
        raise UserError(f"{path}: is missing; add it or fetch the release again")
    try:
        return loadmat(path, struct_as_record=False, squeeze_me=True)
    except Exception as error:  # of a damaged file scipy raises almost anything, MemoryError included
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise UserError(f"{path}: is damaged or no MATLAB v5 file ({reason}); fetch it again") from None


def _checked(eyes: Eyes, count: int, place: str) -> Eyes:
    """The same with the axis n that a single row lost, and numbers as f64."""
    shapes = {"image": (count, *eyes.image.shape[-2:]), "gaze": (count, 3), "pose": (count, 3)}
    for name, value in zip(Eyes._fields, eyes, strict=True):
        expected = shapes[name]
        if value.shape not in ((expected, expected[1:]) if count == 1 else (expected,)) or 0 in value.shape:
            raise UserError(f"{place}.{name} has shape {value.shape}, expected ({count}, ...); fetch it again")
    if eyes.image.dtype != np.uint8 or eyes.image.ndim < 2 or len(shapes["image"]) != 3:
        raise UserError(
            f"{place}.image is {eyes.image.dtype} {eyes.image.shape}, expected uint8 (n, h, w); fetch it again"
        )
    if any(value.dtype.kind not in "uif" for value in eyes[1:]):
        raise UserError(f"{place}: gaze or pose are no numbers; fetch it again")
    image = eyes.image.reshape(shapes["image"])
    return Eyes(image, *(value.astype(np.float64).reshape(count, 3) for value in eyes[1:]))


def _sample(eyes: Eyes, row: int, side: str, place: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image u8 [h, w], gaze and head pose (pitch, yaw) [2], mirrored where it is a right eye."""
    vector, pose = eyes.gaze[row], eyes.pose[row]
    if not np.isfinite([vector, pose]).all() or not 0.5 < np.linalg.norm(vector) < 2:
        raise UserError(f"{place} row {row}: gaze {vector} is no unit vector, or its pose no numbers; fetch it again")
    gaze, head = vector_to_angles(vector), head_angles(rotation_matrix(pose))
    check_angles(np.concatenate([gaze, head])[None], ("gaze pitch", "gaze yaw", "head pitch", "head yaw"), place)
    mirror = np.array([1, -1]) if side == "right" else 1
    return _upright(eyes.image[row], side), gaze * mirror, head * mirror


def _upright(image: np.ndarray, side: str) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1]) if side == "right" else image
