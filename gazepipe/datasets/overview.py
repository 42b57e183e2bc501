"""The `sheet` stage: a contact sheet of a prepared data set, native images beside what the network sees."""

from pathlib import Path

import cv2
import h5py
import numpy as np

from gazepipe.datasets import columbia, mpiifacegaze
from gazepipe.datasets.layout import matching
from gazepipe.datasets.sheet import contact_sheet
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError

SAMPLES = 18


def write_overview(block: dict, raw: Path, store: Path, out: Path) -> None:
    """Write the sheet of SAMPLES images, of as many subjects as there are, as PNG.

    `block` is {"dataset", "layout"}; `raw` the native folder that `store` was prepared from.
    """
    opened = open_store(store)
    rows = spread_rows(np.asarray(opened.subject))
    native = [NATIVE[block["layout"]](raw, opened.subject[row], opened.frame[row]) for row in rows]
    title = f"{block['dataset']}: {len(opened)} images of {len(set(opened.subject))} subjects"
    labels = [f"{opened.subject[row]}" for row in rows]
    contact_sheet(native, opened.image[rows], opened.target[rows], out, title, labels)


def spread_rows(subjects: np.ndarray) -> np.ndarray:
    """SAMPLES row numbers, rising: subjects evenly spread, and another place within each subject in turn."""
    names = np.unique(subjects)
    chosen = names[np.linspace(0, len(names) - 1, min(SAMPLES, len(names))).round().astype(int)]
    rows = []
    for turn in range(SAMPLES):
        own = np.flatnonzero(subjects == chosen[turn % len(chosen)])
        # The golden ratio's multiples fall evenly into [0, 1) however many there are.
        rows.append(own[int(len(own) * (turn * 0.618034 % 1.0))])
    return np.unique(rows)


def _columbia_image(raw: Path, subject: str, frame: str) -> np.ndarray:
    folders = {p.name: p for p in matching(raw, columbia.SUBJECT_FOLDER, "subject folders")}
    image = cv2.imread(str(folders[subject] / frame), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{folders[subject] / frame}: cannot be read any more; fetch the data set again")
    height, width = image.shape[:2]
    # The subject is a small part of a Columbia picture: show the middle of it.
    return image[:, width // 2 - height // 2 : width // 2 + height // 2]


def _mpiifacegaze_image(raw: Path, subject: str, frame: str) -> np.ndarray:
    files = {p.stem: p for p in matching(raw, mpiifacegaze.SUBJECT_FILE, "files p00.mat")}
    with h5py.File(files[subject], "r") as file:
        return np.ascontiguousarray(file["Data/data"][int(frame)].transpose(1, 2, 0).astype(np.uint8))


NATIVE = {"columbia": _columbia_image, "mpiifacegaze": _mpiifacegaze_image}
