"""The CSV of predictions, one row per sample, as every stage writes it that predicts."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gazepipe.common.files import atomic
from gazepipe.datasets.splits import read_split
from gazepipe.datasets.store import Store

KEYS = ("sample", "subject", "frame")
HEAD = ("head_pitch", "head_yaw")
"""Head pose, rad in the normalised frame; empty where the data set does not say."""
COLUMNS = {
    "rad": (*KEYS, "pitch", "yaw", "pitch_pred", "yaw_pred", *HEAD),
    "px": (*KEYS, "x", "y", "x_pred", "y_pred"),
}
"""By the unit of the target."""
DECIMALS = {"rad": 6, "px": 3}


def tested_subjects(split: Path, fold: int | None) -> set[str] | None:
    """The test subjects of a fold; None, for all subjects, without a fold."""
    return None if fold is None else read_split(split, fold)["test"]


@contextmanager
def prediction_csv(path: Path, units: str) -> Iterator[Any]:
    """A function (store, rows [n], predicted [n, 2] in `units`) that appends rows to a CSV of COLUMNS, atomic as
    a whole.
    """
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS[units])

        def write(store: Store, rows: np.ndarray, predicted: np.ndarray) -> None:
            for row, gaze in zip(rows, predicted, strict=True):
                numbers = (f"{value:.{DECIMALS[units]}f}" for value in (*store.target[row], *gaze))
                head = _head_cells(store.head_pose[row]) if units == "rad" else ()
                writer.writerow([row, store.subject[row], store.frame[row], *numbers, *head])

        yield write


def _head_cells(pose: np.ndarray) -> tuple[str, str]:
    """Head pose [2] as it is written; a store holds exactly (0, 0) where its source gives none."""
    pitch, yaw = (f"{value:.{DECIMALS['rad']}f}" for value in pose)
    return (pitch, yaw) if pose.any() else ("", "")
