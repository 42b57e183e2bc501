"""What the readers of native layouts share: where a layout's files lie, and what they make of one subject."""

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from gazepipe.common.named import module_of
from gazepipe.errors import UserError

DEEPEST = 3
"""Levels of folders that an archive may add."""


@dataclass(frozen=True)
class Prepared:
    """One subject, ready for the store, sorted by `frame`.

    `image` u8 [n, V, H, W]; `target` f32 [n, 2] gaze (pitch, yaw) and `head_pose` f32 [n, 2], radians in the
    normalised frame (0 where the source gives no head pose), or gaze point (x, y) in scene pixels; `frame` n names;
    `rejected` (frame, reason) of what could not be used; `checksum` of what was read, or of what was cut from it;
    `place` the folder or file that it was read from; `target_scale` what brings targets near 0-1.
    """

    image: np.ndarray
    target: np.ndarray
    head_pose: np.ndarray
    frame: list[str]
    rejected: list[tuple[str, str]]
    checksum: str
    place: Path
    target_scale: tuple[float, float] = (1.0, 1.0)


def reader(layout: str) -> ModuleType:
    """The module that reads a native layout.

    It has GEOMETRY (text for the store), subjects(folder), prepare_subject(folder, subject, patch) and
    native_image(folder, subject, frame), and subject_name(index) where the layout numbers its subjects; where it is not
    about gaze angles, TASK and UNITS (see `store.ATTRIBUTES`).
    """
    return importlib.import_module(module_of(__package__, layout))


def subject_places(folder: str | Path, pattern: re.Pattern[str], what: str) -> dict[str, Path]:
    """Files or folders of the subjects, by subject: the lower-case stem of a name that matches `pattern` whole.

    Archives unpack into folders of their own, so the first folder in which something matches counts: `folder`, else
    those below it, nearest first, down to `DEEPEST` levels. Raises UserError where nothing matches, saying that it
    holds no `what`.
    """
    for place in _folders(Path(folder)):
        found = {entry.stem.lower(): entry for entry in _entries(place) if pattern.fullmatch(entry.name)}
        if found:
            return dict(sorted(found.items()))
    raise UserError(f"{folder}: holds no {what}; put the unpacked data set there or correct the path")


def inner_folder(folder: str | Path, *names: str) -> Path:
    """The nearest folder `names[0]/names[1]/...` in `folder` or below it, whatever the case of its letters.

    Raises UserError where there is none.
    """
    for place in _folders(Path(folder)):
        for name in names:
            inner = [entry for entry in _entries(place) if entry.name.lower() == name.lower() and entry.is_dir()]
            if not inner:
                break
            place = inner[0]
        else:
            return place
    missing = "/".join(names)
    raise UserError(f"{folder}: holds no folder {missing}; put the unpacked data set there or correct the path")


def subject_place(folder: str | Path, subject: str, pattern: re.Pattern[str], what: str) -> Path:
    """The file or folder of one subject (see `subject_places`); UserError where it is missing."""
    places = subject_places(folder, pattern, what)
    if subject not in places:
        first = min(places.values())
        kind = "folder" if first.is_dir() else "file"
        missing = first.with_name(subject + ("" if first.is_dir() else first.suffix))
        raise UserError(f"{missing}: the subject's {kind} is missing; add it")
    return places[subject]


def check_angles(angles: np.ndarray, names: Sequence[str], place: str) -> None:
    """Raise UserError, naming `place`, row and column, unless all of `angles` [n, k] lie within +-pi/2."""
    wrong = ~(np.abs(angles) <= np.pi / 2)  # true for NaN, too
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise UserError(
            f"{place} row {row}: {names[column]} is {angles[row, column]:g}, "
            "not within +-pi/2 rad; correct the label (turn degrees into radians)"
        )


def as_bytes(images: np.ndarray, place: str, first_row: int) -> np.ndarray:
    """Images [n, ...] of any numeric type that hold 0-255, as u8; UserError, naming `place` and row, where not."""
    if images.dtype == np.uint8:
        return images
    fine = np.logical_and(images >= 0, images <= 255).all(axis=tuple(range(1, images.ndim)))
    if not fine.all():
        row = first_row + int(np.argmin(fine))
        raise UserError(f"{place} row {row} holds values outside 0-255; fetch the file again")
    if images.dtype.kind == "f" and 0 < images.max() <= 1:
        raise UserError(f"{place} row {first_row} holds 0-1, expected 0-255; multiply the images by 255")
    return np.rint(images).astype(np.uint8)


def stacked(
    samples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    frames: Sequence[str],
    rejected: list[tuple[str, str]],
    patch: dict,
    checksum: str,
    place: Path,
) -> Prepared:
    """`Prepared` from samples one by one: patch u8 [H, W], gaze [2] and head pose [2] each; there may be none."""
    images, targets, poses = zip(*samples, strict=True) if samples else ((), (), ())
    return Prepared(
        image=np.array(images, np.uint8).reshape(-1, 1, patch["height"], patch["width"]),
        target=np.array(targets, np.float32).reshape(-1, 2),
        head_pose=np.array(poses, np.float32).reshape(-1, 2),
        frame=list(frames),
        rejected=rejected,
        checksum=checksum,
        place=place,
    )


def _folders(folder: Path) -> Iterator[Path]:
    """`folder` and those below it, nearest first, `DEEPEST` levels down."""
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; put the data set there or correct the path")
    level = [folder]
    for _ in range(DEEPEST + 1):
        yield from level
        level = [entry for place in level for entry in _entries(place) if entry.is_dir()]


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX")))
