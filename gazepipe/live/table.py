"""The table of a video, as a CSV: every face in every frame."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gazepipe.common.files import atomic
from gazepipe.live.draw import Seen
from gazepipe.live.gaze import ANGLES
from gazepipe.live.tracking import box_of

COLUMNS = ("frame", "time_s", "face", *ANGLES, "distance_mm", "left", "top", "right", "bottom")


@contextmanager
def table_writer(path: Path | None) -> Iterator[object]:
    """A function (frame, time in s, faces) that appends rows of COLUMNS to a CSV, atomic as a whole; nothing for None.

    Angles in degrees as `gazepipe.geometry` defines them; the box, in pixels, is that of the landmarks.
    """
    if path is None:
        yield lambda number, time_s, faces: None
        return
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)

        def write(number: int, time_s: float, faces: list[Seen]) -> None:
            for face in faces:
                row = face.gaze.row()
                numbers = [f"{value:.3f}" for value in row.values()]
                box = [f"{value:.1f}" for value in box_of(face.gaze.mesh)]
                writer.writerow([number, f"{time_s:.4f}", face.number, *numbers, *box])

        yield write
