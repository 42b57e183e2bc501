"""A deployed network's folder: model files, and `preprocess.json`, which says what they see, with their checksums."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gazepipe.common.files import sha256
from gazepipe.errors import UserError
from gazepipe.geometry import VIEW_FOCAL_PX, VIEW_SIZE_PX, XGAZE_VIEW_SHARE, patch_camera

SCHEMA = 1
DESCRIPTION = "preprocess.json"
TASK = "gaze angles"
PATCH_KINDS = ("face", "eyes", "eye")
LARGEST_SIDE_PX = 4096


@dataclass(frozen=True)
class Bundle:
    """A checked bundle of a network from one patch to gaze angles.

    `patch` is {"kind", "height", "width"} (see `gazepipe.geometry.patch_camera`), `mean` and `std` turn u8 into
    the network's input (x / 255 - mean) / std, `geometry` is the text of the store that it learnt from.
    """

    folder: Path
    patch: dict[str, Any]
    mean: float
    std: float
    geometry: str
    files: tuple[str, ...]

    @property
    def equalised(self) -> bool:
        """Whether the patches are histogram equalised, as the eyes of the MPIIGaze release are."""
        return self.patch["kind"] == "eye" and self.geometry.startswith("normalised eye")

    def camera(self) -> np.ndarray:
        """Intrinsics [3, 3] of the patch, at the normalised view's distance."""
        if self.patch["kind"] != "face" or not self.geometry.startswith("ETH-XGaze"):
            return patch_camera(self.patch)
        width, height = self.patch["width"], self.patch["height"]
        focal = VIEW_FOCAL_PX / VIEW_SIZE_PX / XGAZE_VIEW_SHARE
        return np.array([[focal * width, 0, (width - 1) / 2], [0, focal * height, (height - 1) / 2], [0, 0, 1.0]])


def load_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and compare every file that it lists with its checksum.

    Raises UserError for a missing folder or file, a description that is no JSON, of another schema, task or shape, and
    a file whose bytes are not those that were exported.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not folder.is_dir():
        raise UserError(f"{folder}: no such bundle; give the folder that holds {DESCRIPTION}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a bundle's folder, or export again") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error}); export the network again") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path}: schema is {found!r}, expected {SCHEMA}; export the network with this version")
    if content.get("task") != TASK:
        raise UserError(f"{path}: task is {content.get('task')!r}, expected {TASK!r}; use a bundle of a face network")
    patch = _patch(path, content)
    mean, std = (_number(path, content, name) for name in ("mean", "std"))
    if std <= 0:
        raise UserError(f"{path}: std is {std:g}, expected a number above 0; export the network again")
    geometry = content.get("geometry")
    if not isinstance(geometry, str):
        raise UserError(f"{path}: geometry is {geometry!r}, expected text; export the network again")
    return Bundle(folder, patch, mean, std, geometry, _checked_files(path, content))


def _patch(path: Path, content: dict) -> dict[str, Any]:
    patch, shape = content.get("patch"), content.get("input")
    if not isinstance(patch, dict) or patch.get("kind") not in PATCH_KINDS:
        raise UserError(f"{path}: patch is {patch!r}, expected a kind of {', '.join(PATCH_KINDS)}; export again")
    sides = [patch.get("height"), patch.get("width")]
    if not all(type(side) is int and 0 < side <= LARGEST_SIDE_PX for side in sides):
        raise UserError(f"{path}: patch is {patch!r}, expected height and width in pixels; export again")
    if shape != [1, *sides]:
        raise UserError(f"{path}: input is {shape!r}, expected {[1, *sides]} as in patch; export the network again")
    return patch


def _number(path: Path, content: dict, name: str) -> float:
    value = content.get(name)
    if type(value) not in (int, float) or not np.isfinite(value):
        raise UserError(f"{path}: {name} is {value!r}, expected a number; export the network again")
    return float(value)


def _checked_files(path: Path, content: dict) -> tuple[str, ...]:
    """Names of the listed files, each of which is there as it was exported."""
    listed = content.get("files")
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"{path}: lists no files; export the network again")
    for name, entry in listed.items():
        file = path.parent / name
        if Path(name).name != name or not isinstance(entry, dict):
            raise UserError(f"{path}: lists {name!r}, which is no file of the bundle; export the network again")
        try:
            found = sha256(file)
        except OSError as error:
            raise UserError(f"{file}: is missing ({error.strerror}); copy the whole bundle, or export again") from None
        if found != entry.get("sha256"):
            raise UserError(f"{file}: is not the file that was exported (wrong checksum); copy the bundle again")
    return tuple(listed)
