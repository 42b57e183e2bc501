"""ETH-XGaze, normalised release at 224 px: `<folder>/train/subject0000.h5` and so on.

Zhang, Park, Beeler, Bradley, Tang, Hilliges (ECCV 2020). `face_patch` [n, S, S, 3] BGR (S = 224 in the release),
`face_gaze` and `face_head_pose` [n, 2] pitch and yaw in radians, `frame_index` and `cam_index` [n, 1]. The test
files, which are named alike, hold no gaze and are not read. The release's face is 140 mm wide, half of
MPIIFaceGaze's: `face` patches show that whole image, at twice the scale of the other data sets; `eyes` patches show
the same 120 mm band as theirs.
"""

import hashlib
import re
from pathlib import Path

import h5py
import numpy as np

from gazepipe.datasets.images import gray, resized, warp
from gazepipe.datasets.layouts.layout import (
    Prepared,
    as_bytes,
    check_angles,
    inner_folder,
    subject_place,
    subject_places,
)
from gazepipe.datasets.store import DAMAGED
from gazepipe.errors import UserError
from gazepipe.geometry import patch_camera, xgaze_camera

GEOMETRY = "ETH-XGaze's normalised face (140 mm wide at 300 mm, no head roll); x right, y down"

SUBJECT_FILE = re.compile(r"subject\d{4}\.h5", re.IGNORECASE)
WHAT = "files train/subject0000.h5, ..."
BATCH = 64
LABELS = {"face_gaze": ("gaze pitch", "gaze yaw"), "face_head_pose": ("head pitch", "head yaw")}
INDICES = ("frame_index", "cam_index")


def subjects(folder: str | Path) -> list[str]:
    """Names of the training subjects (`subject0000`, ...; the numbers have gaps), sorted; UserError for none."""
    return list(subject_places(inner_folder(folder, "train"), SUBJECT_FILE, WHAT))


def prepare_subject(folder: str | Path, subject: str, patch: dict) -> Prepared:
    """Patches of all images of a subject; frames are `<frame>/<camera>`, as text of four and two digits.

    Images are read in batches. Raises UserError naming the file (and row) where it is missing, truncated, no HDF5, of
    other shapes, or holds a label that is not finite or not within +-pi/2.
    """
    path = subject_place(inner_folder(folder, "train"), subject, SUBJECT_FILE, WHAT)
    try:
        with h5py.File(path, "r") as file:
            views, labels, frames = _columns(file, path)
            digest = hashlib.sha256(labels.tobytes() + "\n".join(frames).encode())
            image = np.empty((len(labels), 1, patch["height"], patch["width"]), np.uint8)
            for start in range(0, len(labels), BATCH):
                batch = as_bytes(views[start : start + BATCH], f"{path}: face_patch", start)
                digest.update(batch)
                for row, view in enumerate(batch, start):
                    image[row, 0] = _patch(gray(view), patch)
    except DAMAGED as error:
        raise UserError(f"{path}: is damaged or no HDF5 file ({error}); fetch it again") from None
    order = sorted(range(len(frames)), key=lambda row: frames[row])
    return Prepared(
        image=image[order],
        target=labels[order, :2].astype(np.float32),
        head_pose=labels[order, 2:].astype(np.float32),
        frame=[frames[row] for row in order],
        rejected=[],
        checksum=digest.hexdigest(),
        place=path,
    )


def native_image(folder: str | Path, subject: str, frame: str) -> np.ndarray:
    """A normalised face as it is in the file, u8 BGR [S, S, 3]."""
    path = subject_place(inner_folder(folder, "train"), subject, SUBJECT_FILE, WHAT)
    with h5py.File(path, "r") as file:
        views, _, frames = _columns(file, path)
        return np.asarray(views[frames.index(frame)]).astype(np.uint8)


def _patch(view: np.ndarray, patch: dict) -> np.ndarray:
    """Patch u8 [H, W] of a gray view u8 [S, S]."""
    if patch["kind"] == "face":
        return resized(view, patch["width"], patch["height"])
    to_patch = patch_camera(patch) @ np.linalg.inv(xgaze_camera(len(view)))
    return warp(view, to_patch, patch["width"], patch["height"])


def _columns(file: h5py.File, path: Path) -> tuple[h5py.Dataset, np.ndarray, list[str]]:
    """Images [n, S, S, 3], labels f64 [n, 4] (gaze, head pose) and names of the frames, checked."""
    for name in ("face_patch", *LABELS, *INDICES):
        column = file.get(name)
        if not isinstance(column, h5py.Dataset) or column.dtype.kind not in "uif":
            raise UserError(f"{path}: holds no numbers in {name}; give the training files of the 224 px release")
    views = file["face_patch"]
    if views.ndim != 4 or views.shape[1] != views.shape[2] or views.shape[3] != 3 or 0 in views.shape:
        raise UserError(f"{path}: face_patch has shape {views.shape}, expected (n, S, S, 3); fetch the file again")
    count = len(views)
    for name in (*LABELS, *INDICES):
        expected = [(count, 2)] if name in LABELS else [(count, 1), (count,)]
        if file[name].shape not in expected:
            raise UserError(f"{path}: {name} has shape {file[name].shape}, expected {expected[0]}; fetch it again")
    labels = np.hstack([np.asarray(file[name][()], np.float64) for name in LABELS])
    for columns, (name, words) in zip((slice(0, 2), slice(2, 4)), LABELS.items(), strict=True):
        check_angles(labels[:, columns], words, f"{path}: {name}")
    frame, camera = (file[name][()].ravel() for name in INDICES)
    return views, labels, [f"{a:04.0f}/{b:02.0f}" for a, b in zip(frame, camera, strict=True)]
