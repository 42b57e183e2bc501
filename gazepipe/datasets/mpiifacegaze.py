"""MPIIFaceGaze, normalised release: `<folder>/p00.mat` ... (HDF5 inside), images and labels normalised.

Zhang, Sugano, Fritz, Bulling (CVPRW 2017). `Data/data` [n, 3, S, S] is BGR, S = 448 in the release;
`Data/label` [n, 16] begins with gaze pitch and yaw, head pitch and yaw, in radians. Here the patch is cut
from the view; nothing is rejected: a file that does not keep to the layout is an error.
"""

import hashlib
import re
from pathlib import Path

import h5py
import numpy as np

from gazepipe.datasets.images import gray, warp
from gazepipe.datasets.layout import Prepared, matching
from gazepipe.datasets.store import DAMAGED
from gazepipe.errors import UserError
from gazepipe.geometry import patch_camera, view_camera

SUBJECT_FILE = re.compile(r"p\d{2}\.mat")
BATCH = 64
LABEL_COLUMNS = 16
LABELS = ("gaze pitch", "gaze yaw", "head pitch", "head yaw")


def subjects(folder: str | Path) -> list[str]:
    """Names of the subjects (`p00`, ...), sorted; UserError where there is none."""
    return [path.stem for path in matching(folder, SUBJECT_FILE, "files p00.mat, p01.mat, ...")]


def prepare_subject(folder: str | Path, subject: str, patch: dict) -> Prepared:
    """Patches of all images of a subject; frames are the row numbers, as text of four digits.

    Images are read in batches. Raises UserError naming the file (and row) where it is missing, truncated,
    no HDF5, of other shapes, or holds a label that is not finite or not within +-pi/2.
    """
    places = {path.stem: path for path in matching(folder, SUBJECT_FILE, "files p00.mat, p01.mat, ...")}
    if subject not in places:
        missing = min(places.values()).with_name(f"{subject}.mat")
        raise UserError(f"{missing}: the subject's file is missing; add it")
    path = places[subject]
    try:
        with h5py.File(path, "r") as file:
            data, label = _datasets(file, path)
            labels = np.asarray(label[:, : len(LABELS)], np.float64)
            _check_labels(labels, path)
            digest = hashlib.sha256(labels.tobytes())
            image = np.empty((len(labels), 1, patch["height"], patch["width"]), np.uint8)
            to_patch = patch_camera(patch) @ np.linalg.inv(view_camera(data.shape[-1]))
            for start in range(0, len(labels), BATCH):
                views = _as_bytes(data[start : start + BATCH], path, start)
                digest.update(views)
                for row, view in enumerate(views, start):
                    pixels = gray(np.ascontiguousarray(view.transpose(1, 2, 0)))
                    image[row, 0] = warp(pixels, to_patch, patch["width"], patch["height"])
    except DAMAGED as error:
        raise UserError(f"{path}: is damaged or no HDF5 file ({error}); fetch it again") from None
    return Prepared(
        image=image,
        target=labels[:, :2].astype(np.float32),
        head_pose=labels[:, 2:].astype(np.float32),
        frame=[f"{row:04d}" for row in range(len(labels))],
        rejected=[],
        checksum=digest.hexdigest(),
        place=path,
    )


def _datasets(file: h5py.File, path: Path) -> tuple[h5py.Dataset, h5py.Dataset]:
    data, label = file.get("Data/data"), file.get("Data/label")
    if not isinstance(data, h5py.Dataset) or not isinstance(label, h5py.Dataset):
        raise UserError(f"{path}: holds no Data/data and Data/label; fetch the normalised release")
    if data.ndim != 4 or data.shape[1] != 3 or data.shape[2] != data.shape[3] or 0 in data.shape:
        raise UserError(f"{path}: Data/data has shape {data.shape}, expected (n, 3, S, S); fetch the file again")
    if label.shape != (len(data), LABEL_COLUMNS):
        expected = (len(data), LABEL_COLUMNS)
        raise UserError(f"{path}: Data/label has shape {label.shape}, expected {expected}; fetch the file again")
    for name, dataset in (("data", data), ("label", label)):
        if dataset.dtype.kind not in "uif":
            raise UserError(f"{path}: Data/{name} is of type {dataset.dtype}, expected numbers; fetch it again")
    return data, label


def _check_labels(labels: np.ndarray, path: Path) -> None:
    wrong = ~(np.abs(labels) <= np.pi / 2)  # true for NaN, too
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise UserError(
            f"{path}: Data/label row {row}: {LABELS[column]} is {labels[row, column]:g}, "
            "not within +-pi/2 rad; correct the label (turn degrees into radians)"
        )


def _as_bytes(views: np.ndarray, path: Path, first_row: int) -> np.ndarray:
    """Images of any numeric type that hold 0-255, as u8."""
    if views.dtype == np.uint8:
        return views
    fine = np.logical_and(views >= 0, views <= 255).all(axis=(1, 2, 3))
    if not fine.all():
        row = first_row + int(np.argmin(fine))
        raise UserError(f"{path}: Data/data row {row} holds values outside 0-255; fetch the file again")
    if views.dtype.kind == "f" and 0 < views.max() <= 1:
        raise UserError(f"{path}: Data/data row {first_row} holds 0-1, expected 0-255; multiply the images by 255")
    return np.rint(views).astype(np.uint8)
