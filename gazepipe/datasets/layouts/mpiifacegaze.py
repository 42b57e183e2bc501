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

from gazepipe.datasets.images import gray_planes, warp
from gazepipe.datasets.layouts.layout import Prepared, as_bytes, check_angles, subject_place, subject_places
from gazepipe.datasets.store import DAMAGED
from gazepipe.errors import UserError
from gazepipe.geometry import VIEW_GEOMETRY, patch_camera, view_camera

GEOMETRY = VIEW_GEOMETRY

SUBJECT_FILE = re.compile(r"p\d{2}\.mat", re.IGNORECASE)
WHAT = "files p00.mat, p01.mat, ..."
BATCH = 16
LABEL_COLUMNS = 16
LABELS = ("gaze pitch", "gaze yaw", "head pitch", "head yaw")


def subjects(folder: str | Path) -> list[str]:
    """Names of the subjects (`p00`, ...), sorted; UserError where there is none."""
    return list(subject_places(folder, SUBJECT_FILE, WHAT))


def subject_name(index: int) -> str:
    """Name of the subject `index`, from 0."""
    return f"p{index:02d}"


def prepare_subject(folder: str | Path, subject: str, patch: dict) -> Prepared:
    """Patches of all images of a subject; frames are the row numbers, as text of four digits.

    Images are read in batches. Raises UserError naming the file (and row) where it is missing, truncated,
    no HDF5, of other shapes, or holds a label that is not finite or not within +-pi/2.
    """
    path = subject_place(folder, subject, SUBJECT_FILE, WHAT)
    try:
        with h5py.File(path, "r") as file:
            data, label = _datasets(file, path)
            labels = np.asarray(label[:, : len(LABELS)], np.float64)
            check_angles(labels, LABELS, f"{path}: Data/label")
            image = np.empty((len(labels), 1, patch["height"], patch["width"]), np.uint8)
            to_patch = patch_camera(patch) @ np.linalg.inv(view_camera(data.shape[-1]))
            for start in range(0, len(labels), BATCH):
                views = as_bytes(data[start : start + BATCH], f"{path}: Data/data", start)
                for row, view in enumerate(views, start):
                    image[row, 0] = warp(gray_planes(view), to_patch, patch["width"], patch["height"])
    except DAMAGED as error:
        raise UserError(f"{path}: is damaged or no HDF5 file ({error}); fetch it again") from None
    digest = hashlib.sha256(labels.tobytes())
    digest.update(image)
    return Prepared(
        image=image,
        target=labels[:, :2].astype(np.float32),
        head_pose=labels[:, 2:].astype(np.float32),
        frame=[f"{row:04d}" for row in range(len(labels))],
        rejected=[],
        checksum=digest.hexdigest(),
        place=path,
    )


def native_image(folder: str | Path, subject: str, frame: str) -> np.ndarray:
    """A normalised view as it is in the file, u8 BGR [S, S, 3]."""
    with h5py.File(subject_place(folder, subject, SUBJECT_FILE, WHAT), "r") as file:
        return np.ascontiguousarray(file["Data/data"][int(frame)].transpose(1, 2, 0).astype(np.uint8))


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
