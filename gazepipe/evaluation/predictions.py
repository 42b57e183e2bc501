"""The CSV of predictions, one row per test set and sample, as every stage writes it that predicts."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gazepipe.common.files import atomic
from gazepipe.datasets.splits import read_split, rows_of
from gazepipe.datasets.store import Store, open_store
from gazepipe.errors import UserError
from gazepipe.evaluation.settings import Tested

KEYS = ("test", "sample", "subject", "frame")
HEAD = ("head_pitch", "head_yaw")
"""Head pose, rad in the normalised frame; empty where the data set does not say."""
COLUMNS = {
    "rad": (*KEYS, "pitch", "yaw", "pitch_pred", "yaw_pred", *HEAD),
    "px": (*KEYS, "x", "y", "x_pred", "y_pred"),
}
"""By the unit of the target."""
DECIMALS = {"rad": 6, "px": 3}


def tested_subjects(split: Path, fold: int) -> set[str]:
    """The test subjects of a fold."""
    return read_split(split, fold)["test"]


def tested_sets(settings: Tested, stores: Sequence[Path], split: Path) -> list[tuple[str, Store, np.ndarray]]:
    """Name, open store and rows [n] of each data set that is tested: of the one that was learnt from those of the
    fold's test subjects, of another all. Raises UserError where there are not as many stores as names, and for bad
    files.
    """
    if len(stores) != len(settings.tests):
        raise UserError(f"tests: {len(settings.tests)} names for {len(stores)} stores; name the data set of each store")
    subjects = {settings.dataset: tested_subjects(split, settings.fold)}
    opened = [(name, open_store(path)) for name, path in zip(settings.tests, stores, strict=True)]
    return [(name, store, rows_of(store, subjects.get(name))) for name, store in opened]


@contextmanager
def prediction_csv(path: Path, units: str) -> Iterator[Any]:
    """A function (name of the test set, store, rows [n], predicted [n, 2] in `units`) that appends rows to a CSV of
    COLUMNS, atomic as a whole.
    """
    with atomic(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS[units])

        def write(test: str, store: Store, rows: np.ndarray, predicted: np.ndarray) -> None:
            for row, gaze in zip(rows, predicted, strict=True):
                numbers = (f"{value:.{DECIMALS[units]}f}" for value in (*store.target[row], *gaze))
                head = _head_cells(store.head_pose[row]) if units == "rad" else ()
                writer.writerow([test, row, store.subject[row], store.frame[row], *numbers, *head])

        yield write


def _head_cells(pose: np.ndarray) -> tuple[str, str]:
    """Head pose [2] as it is written; a store holds exactly (0, 0) where its source gives none."""
    pitch, yaw = (f"{value:.{DECIMALS['rad']}f}" for value in pose)
    return (pitch, yaw) if pose.any() else ("", "")
