"""What the readers of native layouts share: where a layout's files lie, and what they make of one subject."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gazepipe.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """One subject, ready for the store, sorted by `frame`.

    `image` u8 [n, 1, H, W]; `target` f32 [n, 2] gaze (pitch, yaw) and `head_pose` f32 [n, 2], radians in the
    normalised frame; `frame` n names; `rejected` (frame, reason) of what could not be used; `checksum` of all
    that was read; `place` the folder or file that it was read from.
    """

    image: np.ndarray
    target: np.ndarray
    head_pose: np.ndarray
    frame: list[str]
    rejected: list[tuple[str, str]]
    checksum: str
    place: Path


def matching(folder: str | Path, pattern: re.Pattern[str], what: str) -> list[Path]:
    """Entries of `folder` whose whole name matches, sorted; if there are none, those of its first subfolder.

    Archives unpack into one more folder, hence the second chance: the first in which something matches.
    Raises UserError where nothing matches.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; put the data set there or correct the path")
    for place in (folder, *sorted(entry for entry in folder.iterdir() if entry.is_dir())):
        found = sorted(entry for entry in place.iterdir() if pattern.fullmatch(entry.name))
        if found:
            return found
    raise UserError(f"{folder}: holds no {what}; put the unpacked data set there or correct the path")
