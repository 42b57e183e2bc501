"""One subject of MPIIGaze's normalised eyes as NumPy arrays: `<folder>/eyes.npz`; the folder's name ends in `p00`.

`image` u8 [n, 36, 60], `gaze_pitch_yaw_rad` [n, 2], `frame` (`day01/0203.jpg`), `right_flipped` (bool: a right eye,
already mirrored, its yaw negated). The head poses are not there: 0 is stored.
"""

import hashlib
import re
from pathlib import Path

import cv2
import numpy as np

from gazepipe.datasets.images import resized
from gazepipe.datasets.layouts import mpiigaze
from gazepipe.datasets.layouts.layout import Prepared, check_angles, stacked
from gazepipe.errors import UserError

GEOMETRY = mpiigaze.GEOMETRY

FILE = "eyes.npz"
SUBJECT = re.compile(r"p\d{2}$", re.IGNORECASE)
COLUMNS = {"image": "u", "gaze_pitch_yaw_rad": "f", "frame": "U", "right_flipped": "b"}


def subjects(folder: str | Path) -> list[str]:
    """The one subject, from the folder's name; UserError where the name gives none or the file is missing."""
    folder = Path(folder)
    found = SUBJECT.search(folder.absolute().name)
    if found is None:
        raise UserError(f"{folder}: its name does not end in a subject such as p00; rename it")
    if not (folder / FILE).is_file():
        raise UserError(f"{folder / FILE}: is missing; put the data set there or correct the path")
    return [found[0].lower()]


def prepare_subject(folder: str | Path, subject: str, patch: dict) -> Prepared:
    """Patches of all eyes; frames are `day01/0203.jpg left`. UserError where the file breaks the layout."""
    folder = Path(folder)
    table = _table(folder / FILE)
    frames = _frames(table)
    order = sorted(range(len(frames)), key=lambda row: frames[row])
    digest = hashlib.sha256("\n".join(frames).encode())
    for name in ("image", "gaze_pitch_yaw_rad"):
        digest.update(np.ascontiguousarray(table[name]))
    samples = [
        (resized(table["image"][row], patch["width"], patch["height"]), table["gaze_pitch_yaw_rad"][row], np.zeros(2))
        for row in order
    ]
    return stacked(samples, [frames[row] for row in order], [], patch, digest.hexdigest(), folder)


def native_image(folder: str | Path, subject: str, frame: str) -> np.ndarray:
    """An eye as it is in the file: u8 BGR [h, w, 3]."""
    table = _table(Path(folder) / FILE)
    return cv2.cvtColor(table["image"][_frames(table).index(frame)], cv2.COLOR_GRAY2BGR)


def _frames(table: dict[str, np.ndarray]) -> list[str]:
    sides = np.where(table["right_flipped"], "right", "left")
    return [f"{frame} {side}" for frame, side in zip(table["frame"], sides, strict=True)]


def _table(path: Path) -> dict[str, np.ndarray]:
    """The four arrays, checked."""
    try:
        with np.load(path, allow_pickle=False) as file:
            table = {name: file[name] for name in COLUMNS}
    except Exception as error:  # of a damaged file NumPy raises almost anything, TokenError included
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise UserError(f"{path}: is damaged or lacks one of {', '.join(COLUMNS)} ({reason}); restore it") from None
    count = len(table["frame"])
    for name, shape in {"image": (count, 36, 60), "gaze_pitch_yaw_rad": (count, 2), "right_flipped": (count,)}.items():
        if table[name].shape != shape or table[name].dtype.kind != COLUMNS[name] or not count:
            found = f"{table[name].dtype} {table[name].shape}"
            raise UserError(f"{path}: {name} is {found}, expected shape {shape}; restore it")
    if table["image"].dtype != np.uint8 or table["frame"].dtype.kind != "U":
        raise UserError(f"{path}: image is not uint8, or frame no text; restore it")
    check_angles(table["gaze_pitch_yaw_rad"], ("gaze pitch", "gaze yaw"), f"{path}: gaze_pitch_yaw_rad")
    return table
