"""The store: one HDF5 file per data set that every later stage reads, images memory-mapped.

`image` u8 [N, V, H, W] (V views), stored in one piece; `target` f32 [N, 2] gaze (pitch, yaw), or gaze point (x, y)
in a scene image; `head_pose` f32 [N, 2] (pitch, yaw of the head's z axis); `subject` and `frame` as UTF-8
text; and the attributes listed in `ATTRIBUTES`.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from gazepipe.common.files import atomic
from gazepipe.errors import UserError
from gazepipe.geometry import VIEW_GEOMETRY

SCHEMA_VERSION = 2

ATTRIBUTES = {
    "dataset": str,  # name in the configuration
    "task": str,  # "gaze angles" or "gaze point"
    "geometry": str,  # the frame that image and target live in
    "units": str,  # of target: "rad" or "px"
    "target_scale": list,  # [2] networks learn target / target_scale, numbers near 0-1
    "mean": float,  # a network sees (image / 255 - mean) / std
    "std": float,
    "patch": dict,  # what of the normalised view an image shows: kind, height, width
    "source": str,  # checksum of all that was read
}
DEFAULTS: dict[str, Any] = {
    "task": "gaze angles",
    "geometry": VIEW_GEOMETRY,
    "units": "rad",
    "target_scale": [1.0, 1.0],
    "mean": 0.5,
    "std": 0.5,
}
COLUMNS = ("image", "target", "head_pose", "subject", "frame")
DAMAGED = (OSError, KeyError, RuntimeError, ValueError)
"""What h5py raises on a file that is cut short, overwritten, or no HDF5 at all."""

TARGET_LIMIT = {"rad": np.pi / 2, "px": 100_000.0}
HEAD_POSE_LIMIT = np.pi / 2


@dataclass(frozen=True)
class Store:
    """An open store of N samples; `image` u8 [N, V, H, W] is mapped read-only from the file.

    `target` and `head_pose` are f32 [N, 2], `subject` and `frame` text [N], `attrs` those of `ATTRIBUTES`.
    """

    path: Path
    image: np.ndarray
    target: np.ndarray
    head_pose: np.ndarray
    subject: np.ndarray
    frame: np.ndarray
    attrs: dict[str, Any]

    def __len__(self) -> int:
        return len(self.target)


def write_store(path: str | Path, batches: Iterable[dict[str, Any]], attrs: dict[str, Any]) -> None:
    """Write a store from batches of samples, one batch in memory at a time.

    A batch holds `image` u8 [n, V, H, W], `target` and `head_pose` [n, 2], `subject` (a name for all n, or
    n names) and `frame` (n names). `attrs` must give dataset, patch and source; the rest of `ATTRIBUTES`
    has defaults. Equal samples give equal bytes, however they are batched. Raises UserError, and leaves no
    file, where `open_store` would.
    """
    attrs = {**DEFAULTS, **attrs}
    with atomic(path) as partial, tempfile.TemporaryFile(dir=partial.parent) as pixels:
        columns: dict[str, list] = {name: [] for name in COLUMNS[1:]}
        shape = None
        for batch in batches:
            images = np.ascontiguousarray(batch["image"])
            if images.dtype != np.uint8 or images.ndim != 4 or shape not in (None, images.shape[1:]):
                raise UserError(
                    f"{path}: images are {images.dtype} {images.shape}, "
                    "expected uint8 (n, V, H, W) of one size; prepare the data again"
                )
            shape = images.shape[1:]
            pixels.write(images)
            for name, column in _columns(batch, len(images)).items():
                columns[name].append(column)
        if shape is None or not sum(map(len, columns["target"])):
            raise UserError(f"{path}: no samples to store; look at what prepare rejected")
        table = {name: np.concatenate(parts) for name, parts in columns.items()}
        _write(partial, pixels, shape, table, attrs)
        _load(partial, shown=Path(path))


def open_store(path: str | Path) -> Store:
    """Open a store and check it; raises UserError naming the file, what is wrong and the correction.

    Checked are schema version, columns, types and shapes, finite targets (angles within +-pi/2) and head poses,
    text, and the image normalisation. Pixels are not read.
    """
    return _load(Path(path), shown=Path(path))


def _columns(batch: dict[str, Any], count: int) -> dict[str, np.ndarray]:
    subject = [batch["subject"]] * count if isinstance(batch["subject"], str) else batch["subject"]
    columns = {
        "target": np.asarray(batch["target"], np.float32),
        "head_pose": np.asarray(batch["head_pose"], np.float32),
        "subject": np.array([name.encode() for name in subject], np.bytes_),
        "frame": np.array([name.encode() for name in batch["frame"]], np.bytes_),
    }
    for name, column in columns.items():
        expected = (count, 2) if column.dtype == np.float32 else (count,)
        if column.shape != expected:
            raise ValueError(f"{name} has shape {column.shape}, expected {expected}")
    return columns


def _write(
    path: Path, pixels: BinaryIO, shape: tuple[int, ...], table: dict[str, np.ndarray], attrs: dict[str, Any]
) -> None:
    """Lay the file out with room for the images, then copy them from `pixels` into it."""
    with h5py.File(path, "w", libver=("v110", "v110"), track_order=False) as file:
        for name, value in {"schema_version": SCHEMA_VERSION, **attrs}.items():
            file.attrs[name] = json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value
        for name, column in table.items():
            if column.dtype.kind == "S":
                column = column.astype(h5py.string_dtype("utf-8", column.dtype.itemsize))
            file.create_dataset(name, data=column, track_times=False)
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        layout.set_obj_track_times(False)
        space = h5py.h5s.create_simple((len(table["target"]), *shape))
        image = h5py.h5d.create(file.id, b"image", h5py.h5t.STD_U8LE, space, layout)
        offset = image.get_offset()
    with open(path, "r+b") as file:
        file.seek(offset)
        pixels.seek(0)
        shutil.copyfileobj(pixels, file, 1 << 22)


def _load(path: Path, shown: Path) -> Store:
    """`open_store` of `path`; messages name `shown`."""
    if not path.is_file():
        raise UserError(f"{shown}: is missing; run the prepare stage that writes it")
    try:
        with h5py.File(path, "r") as file:
            _check_version(file, shown)
            attrs = _attributes(file, shown)
            _check_layout(file, shown)
            offset, shape = file["image"].id.get_offset(), file["image"].shape
            text = {name: np.char.decode(file[name][()], "utf-8") for name in ("subject", "frame")}
            target, head_pose = file["target"][()], file["head_pose"][()]
    except DAMAGED as error:
        raise UserError(f"{shown}: is damaged or no HDF5 file ({error}); delete it and prepare again") from None
    _check_values(shown, attrs, target, head_pose, text)
    if os.path.getsize(path) < offset + int(np.prod(shape)):
        raise UserError(f"{shown}: is cut short; delete it and prepare again")
    image = np.memmap(path, np.uint8, mode="r", offset=offset, shape=shape)
    return Store(shown, image, target, head_pose, text["subject"], text["frame"], attrs)


def _check_version(file: h5py.File, path: Path) -> None:
    version = file.attrs.get("schema_version", "none")
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema version is {version}, this gazepipe reads {SCHEMA_VERSION}; delete it and prepare again"
        )


def _attributes(file: h5py.File, path: Path) -> dict[str, Any]:
    attrs = {}
    for name, kind in ATTRIBUTES.items():
        value = file.attrs.get(name)
        try:
            attrs[name] = json.loads(value) if kind in (dict, list) else kind(value)
        except (TypeError, ValueError):
            raise UserError(f"{path}: attribute {name} is {value!r}; delete the store and prepare again") from None
    if not (0 <= attrs["mean"] <= 1 and 0 < attrs["std"] < np.inf):
        raise UserError(
            f"{path}: image normalisation is mean {attrs['mean']:g}, std {attrs['std']:g}, "
            "expected a mean within 0-1 and a positive std; delete it and prepare again"
        )
    if attrs["units"] not in TARGET_LIMIT:
        raise UserError(f"{path}: units are {attrs['units']!r}, expected 'rad' or 'px'; prepare again")
    scale = attrs["target_scale"]
    if len(scale) != 2 or not all(isinstance(side, (int, float)) and 0 < side < np.inf for side in scale):
        raise UserError(f"{path}: target_scale is {scale}, expected two positive numbers; prepare again")
    return attrs


def _check_layout(file: h5py.File, path: Path) -> None:
    for name in COLUMNS:
        if name not in file:
            raise UserError(f"{path}: has no column {name!r}; delete it and prepare again")
    image, count = file["image"], len(file["image"])
    expected = {"target": ((count, 2), "f"), "head_pose": ((count, 2), "f"), "subject": ((count,), "S")}
    expected["frame"] = expected["subject"]
    if image.ndim != 4 or 0 in image.shape or image.dtype != np.uint8 or image.id.get_offset() is None:
        raise UserError(
            f"{path}: column 'image' is {image.dtype} {image.shape}, expected contiguous uint8 (N, V, H, W); "
            "delete it and prepare again"
        )
    for name, (shape, kind) in expected.items():
        column = file[name]
        if column.shape != shape or column.dtype.kind != kind:
            raise UserError(
                f"{path}: column {name!r} is {column.dtype} {column.shape}, expected shape {shape}; "
                "delete it and prepare again"
            )


def _check_values(
    path: Path, attrs: dict[str, Any], target: np.ndarray, head_pose: np.ndarray, text: dict[str, np.ndarray]
) -> None:
    limits = {"target": (target, TARGET_LIMIT[attrs["units"]]), "head_pose": (head_pose, HEAD_POSE_LIMIT)}
    for name, (values, limit) in limits.items():
        wrong = ~(np.abs(values) <= limit + 1e-6)  # true for NaN, too
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise UserError(
                f"{path}: {name} of {text['subject'][row]}/{text['frame'][row]} is {values[row, column]:g}, "
                f"not within +-{'pi/2 rad' if limit == HEAD_POSE_LIMIT else f'{limit:g} px'}; "
                "correct the source and prepare again"
            )
    for name, column in text.items():
        if (column == "").any():
            raise UserError(f"{path}: row {int(np.argmax(column == ''))} has an empty {name}; prepare again")
