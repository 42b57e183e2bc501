"""The user's own images: `<folder>/labels.csv` (or .jsonl), one row per image, and the images it names.

Columns: `image` (path within the folder), `subject`, and the gaze in one of three forms, as the block's `gaze` says:
`pitch`, `yaw`; or `x`, `y`, `z`, a point in mm in the camera's frame; or `screen_x`, `screen_y`, a point in pixels on
the screen. Other columns are ignored. With `normalise: face` angles are those of the camera's frame, and each picture
goes through data normalisation with a head pose that is found in it, as Columbia's do, or, with `head: given`, stands
in the columns `head_rx`, `head_ry`, `head_rz` (rotation vector, radians) and `face_x`, `face_y`, `face_z` (face
centre, mm), both in the camera's frame. With `normalise: none` each image is the patch itself, and angles are those
of its own (normalised) frame.

`manifest` below is the block `gazepipe.datasets.settings.Manifest` as builtins. Rows are numbered as a spreadsheet does
it: the header of a CSV is row 1.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from gazepipe.datasets.faces import find_mesh, head_pose
from gazepipe.datasets.images import UnusableImage, gray, read_picture, resized, warp
from gazepipe.datasets.layouts.layout import Prepared, stacked
from gazepipe.errors import UserError
from gazepipe.geometry import (
    VIEW_GEOMETRY,
    angles_to_vector,
    head_angles,
    normalisation,
    patch_camera,
    rotation_matrix,
    screen_point,
    vector_to_angles,
)

GEOMETRY = f"{VIEW_GEOMETRY}; with `normalise: none` the images' own"

COLUMNS = {"angles": ("pitch", "yaw"), "point": ("x", "y", "z"), "screen": ("screen_x", "screen_y")}
HEAD_COLUMNS = ("head_rx", "head_ry", "head_rz", "face_x", "face_y", "face_z")
ANGLE_LIMIT = {"radians": np.pi / 2, "degrees": 90.0}
NEAREST_MM, FARTHEST_MM = 100.0, 20_000.0
SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Row:
    """A row without faults: its number, `image` as given, the numbers of the gaze columns, in their units, and those
    of `HEAD_COLUMNS`, if they are given."""

    number: int
    image: str
    subject: str
    gaze: tuple[float, ...]
    head: tuple[float, ...] = ()


def subjects(folder: str | Path, manifest: dict) -> list[str]:
    """Names of the subjects, sorted; UserError where there is none or a row is at fault."""
    return sorted({row.subject for row in read_rows(folder, manifest)})


def prepare_subject(folder: str | Path, subject: str, patch: dict, manifest: dict) -> Prepared:
    """Patches of all images of a subject; frames are the paths of the images.

    Images that cannot be used (missing, damaged, of another size or of 16 bits, without a face) are listed in
    `rejected`, by row. Raises UserError where a row is at fault or the subject has none.
    """
    folder = Path(folder)
    rows = read_rows(folder, manifest)
    own = sorted((row for row in rows if row.subject == subject), key=lambda row: row.image)
    if not own:
        raise UserError(f"{folder / manifest['file']}: has no row of subject {subject}; add one")
    size = _expected_size(folder, rows, manifest)
    digest = hashlib.sha256(json.dumps([[row.image, row.gaze, row.head] for row in own]).encode())
    frames, samples, rejected = [], [], []
    for row in own:
        try:
            image, data = read_picture(folder / row.image)
            if image.shape[1::-1] != size:
                raise UnusableImage(f"is {image.shape[1]}x{image.shape[0]} px, expected {size[0]}x{size[1]}")
            sample = _normalised if manifest["normalise"] == "face" else _plain
            samples.append(sample(image, row, patch, manifest))
            frames.append(row.image)
            digest.update(data)
        except UnusableImage as error:
            rejected.append((row.image, f"row {row.number}: {error}"))
    return stacked(samples, frames, rejected, patch, digest.hexdigest(), folder)


def native_image(folder: str | Path, subject: str, frame: str, manifest: dict) -> np.ndarray:
    """An image as it is, u8 BGR [h, w, 3]; UserError where it cannot be read any more."""
    try:
        return read_picture(Path(folder) / frame)[0]
    except UnusableImage as error:
        raise UserError(f"{Path(folder) / frame}: {error}") from None


def read_rows(folder: str | Path, manifest: dict) -> list[Row]:
    """All rows, in the file's order; UserError names the file, the first row at fault and the number of others."""
    path = Path(folder) / manifest["file"]
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); put the manifest there or correct `file`"
        ) from None
    return _rows(path, (status.st_mtime_ns, status.st_size), json.dumps(manifest, sort_keys=True))


@lru_cache(maxsize=2)
def _rows(path: Path, _: tuple[int, int], manifest: str) -> list[Row]:
    """Kept from subject to subject, as long as the file stays the same."""
    found = list(checked_rows(path, json.loads(manifest)))
    faults = [entry for entry in found if isinstance(entry, str)]
    if faults:
        others = f" ({len(faults) - 1} more such rows)" if len(faults) > 1 else ""
        raise UserError(f"{path}: {faults[0]}{others}")
    if not found:
        raise UserError(f"{path}: holds no rows; list the images, one a row")
    return found


def checked_rows(path: Path, manifest: dict) -> Iterator[Row | str]:
    """Each row, or what is wrong with it; UserError where the file as a whole cannot be read."""
    seen: dict[PurePosixPath, int] = {}
    head = HEAD_COLUMNS if manifest["head"] == "given" else ()
    for number, cells in _cells(path, ("image", "subject", *COLUMNS[manifest["gaze"]], *head)):
        try:
            row = _row(number, cells, manifest)
            first = seen.setdefault(PurePosixPath(row.image), number)
            if first != number:
                raise ValueError(f"image {row.image!r} is that of row {first} again; remove one")
            yield row
        except ValueError as error:
            yield f"row {number}: {error}"


def _row(number: int, cells: dict | str, manifest: dict) -> Row:
    """ValueError says what is wrong with a row; `cells` is its values by column, or the fault itself."""
    if isinstance(cells, str):
        raise ValueError(cells)
    image, subject = (_text(cells, name) for name in ("image", "subject"))
    if PurePosixPath(image).is_absolute() or ".." in PurePosixPath(image).parts or "\0" in image:
        raise ValueError(f"image {image!r} lies outside of the data folder; give a path within it")
    if not SUBJECT.fullmatch(subject):
        raise ValueError(f"subject {subject!r} is no name; use letters, digits, '_', '-' and '.'")
    names = COLUMNS[manifest["gaze"]]
    values = tuple(_number(cells, name) for name in names)
    for index, (name, value) in enumerate(zip(names, values, strict=True)):
        _check_range(name, value, index, manifest)
    if manifest["head"] == "found":
        return Row(number, image, subject, values)
    head = tuple(_number(cells, name) for name in HEAD_COLUMNS)
    if not NEAREST_MM <= head[-1] <= FARTHEST_MM or np.abs(head).max() > FARTHEST_MM:
        raise ValueError(
            f"face_z is {head[-1]:g}, not within {NEAREST_MM:g}-{FARTHEST_MM:g} mm; correct the face centre"
        )
    return Row(number, image, subject, values, head)


def _check_range(name: str, value: float, index: int, manifest: dict) -> None:
    match manifest["gaze"]:
        case "angles":
            limit = ANGLE_LIMIT[manifest["units"]]
            if abs(value) > limit:
                mend = "turn it into radians or declare `units: degrees`" if limit < 2 else "correct it"
                raise ValueError(f"{name} is {value:g}, not within +-{limit:.4g} {manifest['units']}; {mend}")
        case "point":
            if abs(value) > FARTHEST_MM:
                raise ValueError(f"{name} is {value:g}, more than {FARTHEST_MM / 1000:g} m away; give mm")
        case "screen":
            limit = manifest["screen"][("width", "height")[index]]
            if not 0 <= value <= limit:
                raise ValueError(f"{name} is {value:g}, outside of the screen's 0-{limit:g} px; correct it")


def _text(cells: dict, name: str) -> str:
    value = cells.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"has no {name}; fill it in")
    if not isinstance(value, str):
        raise ValueError(f"{name} is {_shown(value)}, expected text")
    return value.strip()


def _number(cells: dict, name: str) -> float:
    value = cells.get(name)
    if value is None or value == "":
        raise ValueError(f"has no {name}; fill it in")
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        number = np.nan
    if not np.isfinite(number):
        raise ValueError(f"{name} is {_shown(value)}, not a number; correct it")
    return number


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _cells(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict | str]]:
    """(row number, values by column, or what is wrong with the row) for each row that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); correct `file`") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    match path.suffix.lower():
        case ".csv":
            yield from _csv_cells(path, text, columns)
        case ".jsonl":
            yield from _json_cells(text)
        case _:
            raise UserError(f"{path}: is neither .csv nor .jsonl; save it as one of them")


def _csv_cells(path: Path, text: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict | str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in columns:
            if header.count(name) != 1:
                times = "no" if name not in header else f"{header.count(name)} times a"
                raise UserError(f"{path}: has {times} column {name!r}; give it once (found: {', '.join(header[:8])})")
        for values in reader:
            if len(values) == len(header):
                yield reader.line_num, dict(zip(header, values, strict=True))
            elif values:
                yield reader.line_num, f"has {len(values)} cells, expected {len(header)} as in the header"
    except csv.Error as error:
        raise UserError(f"{path}: row {reader.line_num}: is not CSV ({error}); correct it") from None


def _json_cells(text: str) -> Iterator[tuple[int, dict | str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            yield number, value if isinstance(value, dict) else "is not a JSON object; correct it"


def _expected_size(folder: Path, rows: list[Row], manifest: dict) -> tuple[int, int]:
    """(width, height) that all images must have: the camera's, else the first readable image's."""
    if manifest["normalise"] == "face":
        return manifest["camera"]["width"], manifest["camera"]["height"]
    for row in rows:
        try:
            return read_picture(folder / row.image)[0].shape[1::-1]
        except UnusableImage:
            continue
    return 0, 0


def _plain(image: np.ndarray, row: Row, patch: dict, manifest: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patch, gaze and head pose (unknown: 0) of an image that is the patch."""
    return resized(gray(image), patch["width"], patch["height"]), _angles(row, manifest), np.zeros(2)


def _normalised(image: np.ndarray, row: Row, patch: dict, manifest: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patch, gaze and head pose in the normalised frame of a camera's picture."""
    inner = manifest["camera"]
    camera = np.array([[inner["fx"], 0, inner["cx"]], [0, inner["fy"], inner["cy"]], [0, 0, 1.0]])
    if row.head:
        rotation, center = rotation_matrix(np.array(row.head[:3])), np.array(row.head[3:])
    else:
        rotation, center = head_pose(find_mesh(image), camera)
    match manifest["gaze"]:
        case "angles":
            gaze = angles_to_vector(_angles(row, manifest))
        case "point":
            gaze = np.array(row.gaze) - center
        case "screen":
            gaze = screen_point(np.array(row.gaze), manifest["screen"]) - center
    turn, to_patch = normalisation(center, rotation, camera, patch_camera(patch))
    angles, head = vector_to_angles(turn @ gaze), head_angles(turn @ rotation)
    if np.abs([*angles, *head]).max() > np.pi / 2:
        raise UnusableImage("gaze or face point away from the camera; correct the row or leave it out")
    return warp(gray(image), to_patch, patch["width"], patch["height"]), angles, head


def _angles(row: Row, manifest: dict) -> np.ndarray:
    """(pitch, yaw) [2] in radians, as given."""
    return np.radians(row.gaze) if manifest["units"] == "degrees" else np.array(row.gaze)
