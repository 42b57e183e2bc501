"""Small data sets of random pixels in the layouts in which their makers give them."""

import csv

import cv2
import h5py
import numpy as np
from scipy.io import savemat

from gazepipe.datasets import faces
from gazepipe.datasets.settings import Manifest
from gazepipe.geometry import (
    angles_to_vector,
    columbia_camera,
)


def straight_mesh(image):
    """A frontal face in the middle of the picture, 63 mm between its eyes at 2 m."""
    height, width = image.shape[:2]
    per_mm = columbia_camera(width, height)[0, 0] / 2000
    mesh = np.zeros((468, 3))
    places = {faces.RIGHT_EYE: (-31.5, -22), faces.LEFT_EYE: (31.5, -22), faces.MOUTH: (0, 44)}
    for (a, b), (x, y) in places.items():
        for corner, beside in ((a, -12), (b, 12)):
            mesh[corner] = [(width - 1) / 2 + per_mm * (x + beside), (height - 1) / 2 + per_mm * y, 0]
    return mesh


def write_pictures(folder, subjects, names=("0P_0V_0H", "0P_10V_-5H", "-15P_-10V_15H")):
    rng = np.random.default_rng(0)
    for subject in subjects:
        (folder / subject).mkdir(parents=True)
        for name in names:
            picture = cv2.resize(rng.integers(0, 256, (27, 41, 3), np.uint8), (648, 432))
            cv2.imwrite(str(folder / subject / f"{subject}_2m_{name}.jpg"), picture)
    return folder


def write_mat(path, images, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["Data/data"] = images
        file["Data/label"] = labels


def views(count, size=112, seed=0):
    rng = np.random.default_rng(seed)
    smooth = [cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (size, size)) for _ in range(count)]
    return np.stack(smooth).transpose(0, 3, 1, 2)


def labels(count, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (count, 16)).astype(np.float32)


def write_xgaze(path, **change):
    rng = np.random.default_rng(0)
    table = {
        "face_patch": rng.integers(0, 256, (6, 32, 32, 3), np.uint8),
        "face_gaze": rng.uniform(-1, 1, (6, 2)),
        "face_head_pose": rng.uniform(-1, 1, (6, 2)),
        "frame_index": np.arange(6)[:, None] // 2,
        "cam_index": np.arange(6)[:, None] % 2,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, column in {**table, **change}.items():
            if column is not None:
                file[name] = column
    return path


def day(count=3, seed=0, **change):
    rng = np.random.default_rng(seed)
    side = lambda: {  # noqa: E731
        "image": rng.integers(0, 256, (count, 36, 60), np.uint8),
        "gaze": angles_to_vector(rng.uniform(-0.5, 0.5, (count, 2))),
        "pose": rng.uniform(-0.3, 0.3, (count, 3)),
    }
    names = np.array([f"{n:04d}.jpg" for n in range(1, count + 1)], object)[:, None]
    table = {"left": side(), "right": side()}
    table["left"] |= change
    return {"data": table, "filenames": names}


def write_eyes(
    folder, content=None, lines=("day01/0001.jpg left", "day01/0001.jpg right", "day01/0003.jpg left"), name="p00"
):
    place = folder / "Data" / "Normalized" / name
    place.mkdir(parents=True, exist_ok=True)
    savemat(place / "day01.mat", day() if content is None else content, do_compression=True)
    lists = folder / "Evaluation Subset" / "sample list for eye image"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return place / "day01.mat"


def arrays(**change):
    rng = np.random.default_rng(0)
    table = {
        "image": rng.integers(0, 256, (4, 36, 60), np.uint8),
        "gaze_pitch_yaw_rad": rng.uniform(-0.3, 0.3, (4, 2)).astype(np.float32),
        "frame": np.array(["day02/0001.jpg", "day01/0001.jpg", "day02/0002.jpg", "day01/0001.jpg"]),
        "right_flipped": np.array([False, False, True, True]),
    }
    return {name: column for name, column in {**table, **change}.items() if column is not None}


def write_npz(folder, **change):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "eyes.npz", **arrays(**change))
    return folder


SCENE = (64, 48)
HEADER = ["cornerxy[0]", "cornerxy[1]"]


def write_recording(folder, points, header=HEADER, size=(24, 30), seed=0):
    """A recording of random eyes; returns them u8 [n, 4, h, w]."""
    folder.mkdir(parents=True)
    images = np.random.default_rng(seed).integers(0, 256, (len(points), 4, *size), np.uint8)
    for row, views in enumerate(images, 1):
        for number, image in zip((0, 1, 3, 4), views, strict=True):
            cv2.imwrite(str(folder / f"{row}_{number}.png"), image)
        cv2.imwrite(str(folder / f"{row}_2.png"), np.zeros((SCENE[1], SCENE[0], 3), np.uint8))
    with (folder / "Learn.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *points])
    return images


PLAIN = {"normalise": "none"}


def manifest_block(**keys):
    """As the configuration hands it on, with defaults."""
    return Manifest.model_validate(keys).model_dump(exclude_none=True)


def write_manifest(folder, rows, header="image,subject,pitch,yaw", name="labels.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join([header, *rows]) + "\n")


def patches(folder, count=4, size=(60, 36)):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (size[1], size[0]), np.uint8))
    return [f"{number}.png,anna,{0.1 * number},{-0.1 * number}" for number in range(count)]
