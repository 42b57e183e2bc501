"""Near-eye recordings: `<folder>/{train,val,test}/<subject>/IMG1/Learn.csv` and PNG files, subjects numbered.

Row k of `Learn.csv`, from 1, belongs to `<k>_0.png`, `<k>_1.png` (the left eye's two infrared cameras), `<k>_3.png`,
`<k>_4.png` (the right eye's) and `<k>_2.png` (the scene camera's frame); its columns `cornerxy[0]` and `cornerxy[1]`
are the gaze point (x, y) in that frame's pixels. `<k>_0_256.png` and so on may hold copies of 256 x 256 px. Subjects
of the store carry the role of their folder: `train-07`.
"""

import csv
import hashlib
import re
import struct
from pathlib import Path

import cv2
import numpy as np

from gazepipe.datasets.images import PNG_SIGNATURE, UnusableImage, gray, read_picture, resized
from gazepipe.datasets.layouts.layout import DEEPEST, Prepared
from gazepipe.errors import UserError

GEOMETRY = "four infrared eye images of a headset (left eye twice, right eye twice); target: pixel of the scene camera"
TASK = "gaze point"
UNITS = "px"

ROLES = ("test", "train", "val")
RECORDING, TABLE = "IMG1", "Learn.csv"
COLUMNS = ("cornerxy[0]", "cornerxy[1]")
EYES, SCENE = (0, 1, 3, 4), 2
COPY = (256, 256)
PICTURE = re.compile(r"(\d+)_([0134])(_256)?\.png", re.IGNORECASE)
SHOWN_HEIGHT = 288
CANONICAL_BRIGHTNESS = 0.5
GAMMAS = (0.2, 5.0)  # searched by the intensity correction


def subjects(folder: str | Path, **_options) -> list[str]:
    """Names of the subjects (`test-19`, `train-01`, ...), sorted.

    Raises UserError where there is none, or where one number has two roles.
    """
    return sorted(_recordings(folder))


def prepare_subject(
    folder: str | Path,
    subject: str,
    patch: dict,
    equalise: bool = False,
    gamma: float = 1.0,
    intensity_correction: bool = False,
) -> Prepared:
    """A subject's rows, frames `0001`, `0002`, ...: image u8 [n, 4, H, W] in the order of `EYES`, target in scene px.

    Whole images are resized (by area) to the patch's size; copies `_256` are used where they have it. Then, as asked,
    come `intensity_corrected`, `gamma_corrected` and histogram equalisation. `target_scale` is the width of the scene
    frames. Raises UserError, naming file and row, where a picture is missing or cannot be used, scene frames differ in
    size, `Learn.csv` has no such column, no rows, fewer or more of them than there are pictures, a value that is
    no number, or a point more than a frame's size beyond the scene frame.
    """
    recording = _recording(folder, subject)
    points, table = _points(recording)
    digest = hashlib.sha256(table)
    size = _scene_size(recording, len(points))
    _check_points(points, size, recording)
    images = np.empty((len(points), len(EYES), patch["height"], patch["width"]), np.uint8)
    for row in range(1, len(points) + 1):
        for view, number in enumerate(EYES):
            image, data = _eye(recording, row, number, (patch["height"], patch["width"]))
            digest.update(data)
            if intensity_correction:
                image = intensity_corrected(image)
            if gamma != 1:
                image = gamma_corrected(image, gamma)
            images[row - 1, view] = cv2.equalizeHist(image) if equalise else image
    return Prepared(
        image=images,
        target=points.astype(np.float32),
        head_pose=np.zeros((len(points), 2), np.float32),
        frame=[f"{row:04d}" for row in range(1, len(points) + 1)],
        rejected=[],
        checksum=digest.hexdigest(),
        place=recording,
        target_scale=(float(size[0]), float(size[0])),
    )


def native_image(folder: str | Path, subject: str, frame: str, **_options) -> np.ndarray:
    """The four eyes side by side in the order of `EYES`, uncorrected, 288 px high: u8 BGR [288, w, 3]."""
    recording = _recording(folder, subject)
    eyes = []
    for number in EYES:
        image, _ = _picture(recording, int(frame), number)
        height, width = image.shape
        eyes.append(resized(image, round(width * SHOWN_HEIGHT / height), SHOWN_HEIGHT))
    return cv2.cvtColor(np.hstack(eyes), cv2.COLOR_GRAY2BGR)


def scene_image(folder: str | Path, subject: str, frame: str, **_options) -> np.ndarray:
    """The scene frame of a row: u8 BGR [h, w, 3]."""
    path = _recording(folder, subject) / f"{int(frame)}_{SCENE}.png"
    return _read(path, int(frame))[0]


def gamma_corrected(image: np.ndarray, gamma: float) -> np.ndarray:
    """255 (v / 255)^(1 / gamma) of the values v of an image u8 [h, w]: a `gamma` above 1 brightens."""
    curve = np.round(255 * (np.arange(256) / 255) ** (1 / gamma)).astype(np.uint8)
    return cv2.LUT(image, curve)


def intensity_corrected(image: np.ndarray) -> np.ndarray:
    """Gamma intensity correction: `gamma_corrected` by the gamma that brings an image u8 [h, w] to a canonical one.

    After Shan, Gao, Cao, Zhao, "Illumination normalization for robust face recognition against varying lighting
    conditions" (AMFG 2003), who take an average face as the canonical image; here it is the mean brightness 0.5,
    which needs no other images, and gamma in `GAMMAS` is found by bisection: brightness rises with it.
    """
    count = np.bincount(image.ravel(), minlength=256)
    values = np.arange(256) / 255
    low, high = GAMMAS
    for _ in range(30):
        middle = np.sqrt(low * high)
        if count @ values ** (1 / middle) < CANONICAL_BRIGHTNESS * image.size:
            low = middle
        else:
            high = middle
    return gamma_corrected(image, float(np.sqrt(low * high)))


def _recordings(folder: str | Path) -> dict[str, Path]:
    """Folders `IMG1` by subject."""
    found: dict[str, Path] = {}
    roles: dict[int, Path] = {}
    for place in _role_folders(Path(folder)):
        for entry in _folders(place):
            if not entry.name.isdigit():
                continue
            recording = _child(entry, RECORDING)
            if recording is None:
                raise UserError(f"{entry / RECORDING}: is missing; add the subject's recording")
            other = roles.setdefault(int(entry.name), entry)
            if other != entry:
                raise UserError(f"{entry}: subject {int(entry.name)} is in {other}, too; leave it in one role")
            found[f"{place.name.lower()}-{int(entry.name):02d}"] = recording
    if not found:
        raise UserError(f"{folder}: holds no folders train/1, val/2, test/3, ...; put the unpacked data set there")
    return found


def _role_folders(folder: Path) -> list[Path]:
    """The folders train, val and test, in any case, in `folder` or in the nearest folder below it that has any."""
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder; put the data set there or correct the path")
    level = [folder]
    for _ in range(DEEPEST + 1):
        for place in level:
            found = [entry for entry in _folders(place) if entry.name.lower() in ROLES]
            if found:
                return found
        level = [entry for place in level for entry in _folders(place)]
    return []


def _folders(folder: Path) -> list[Path]:
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX")))
    return sorted(entry for entry in entries if entry.is_dir())


def _child(folder: Path, name: str) -> Path | None:
    """The entry of that name, whatever the case of its letters."""
    return next((entry for entry in sorted(folder.iterdir()) if entry.name.lower() == name.lower()), None)


def _recording(folder: str | Path, subject: str) -> Path:
    places = _recordings(folder)
    if subject not in places:
        raise UserError(f"{folder}: holds no subject {subject}; add its folder {subject.replace('-', '/')}")
    return places[subject]


def _points(recording: Path) -> tuple[np.ndarray, bytes]:
    """Gaze points f64 [n, 2] of `Learn.csv`, and the bytes of the file."""
    path = _child(recording, TABLE) or recording / TABLE
    try:
        data = path.read_bytes()
        lines = list(csv.reader(data.decode("utf-8-sig").splitlines(), skipinitialspace=True))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); add it") from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: is no CSV text; fetch it again") from None
    rows = [line for line in lines if any(cell.strip() for cell in line)]
    names = [name.strip() for name in rows[0]] if rows else []
    for column in COLUMNS:
        if names.count(column) != 1:
            raise UserError(f"{path}: its columns are {names[:8]}, expected {column} once; correct the header")
    places = [names.index(column) for column in COLUMNS]
    points = [[_number(line, place, path, row) for place in places] for row, line in enumerate(rows[1:], 1)]
    if not points:
        raise UserError(f"{path}: holds no rows; fetch it again or leave the subject out")
    _check_count(recording, path, len(points))
    return np.array(points), data


def _number(line: list[str], place: int, path: Path, row: int) -> float:
    text = line[place].strip() if place < len(line) else ""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f"{path} row {row}: cornerxy is {text!r}, which is no number; correct it")
    return value


def _check_count(recording: Path, table: Path, rows: int) -> None:
    """Pictures beyond the table's last row mean that it was cut short."""
    numbers = (PICTURE.fullmatch(entry.name) for entry in recording.iterdir())
    last = max((int(match[1]) for match in numbers if match), default=0)
    if last > rows:
        raise UserError(f"{table}: ends at row {rows}, but there are pictures of row {last}; add the missing rows")


def _scene_size(recording: Path, rows: int) -> tuple[int, int]:
    """(width, height) of all scene frames, from their headers."""
    first = None
    for row in range(1, rows + 1):
        path = recording / f"{row}_{SCENE}.png"
        try:
            with path.open("rb") as file:
                header = file.read(24)
        except OSError as error:
            raise UserError(f"{path}: row {row}: the scene frame cannot be read ({error.strerror}); add it") from None
        if header[:8] != PNG_SIGNATURE or len(header) < 24 or header[12:16] != b"IHDR":
            raise UserError(f"{path}: row {row}: the scene frame is no PNG file; fetch it again")
        size = struct.unpack(">II", header[16:24])
        first = first or size
        if size != first:
            raise UserError(
                f"{path}: row {row}: the scene frame is {size[0]} x {size[1]} px, the first {first[0]} x {first[1]}; "
                "resize it and its gaze point"
            )
    return first


def _check_points(points: np.ndarray, size: tuple[int, int], recording: Path) -> None:
    """Within a frame's size of the scene frame: beyond that, the numbers are of another picture."""
    wrong = np.any((points < -np.array(size)) | (points > 2 * np.array(size)), axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        x, y = points[row]
        raise UserError(
            f"{recording / TABLE} row {row + 1}: the gaze point ({x:g}, {y:g}) is far outside the scene frame of "
            f"{size[0]} x {size[1]} px; correct it"
        )


def _eye(recording: Path, row: int, number: int, size: tuple[int, int]) -> tuple[np.ndarray, bytes]:
    """An eye image u8 of `size` (height, width), and the bytes of its file."""
    if size == COPY and (recording / f"{row}_{number}_256.png").is_file():
        image, data = _picture(recording, row, number, "_256")
    else:
        image, data = _picture(recording, row, number)
    return resized(image, size[1], size[0]), data


def _picture(recording: Path, row: int, number: int, suffix: str = "") -> tuple[np.ndarray, bytes]:
    image, data = _read(recording / f"{row}_{number}{suffix}.png", row)
    return gray(image), data


def _read(path: Path, row: int) -> tuple[np.ndarray, bytes]:
    try:
        return read_picture(path)
    except UnusableImage as error:
        reason = str(error) if path.exists() else "is missing; add it"
        mend = "" if ";" in reason else "; fetch it again"
        raise UserError(f"{path}: row {row}: the picture {reason}{mend}") from None
