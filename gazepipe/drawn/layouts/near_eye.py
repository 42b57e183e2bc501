"""Drawn near-eye recordings in the native layout: `train/7/IMG1/Learn.csv` and `12_0.png` ... `12_4.png`.

Wearers of one headset look at points before them. Row k of `Learn.csv` (from 1) is the gaze point in the scene image
`<k>_2.png`; `<k>_0.png`, `<k>_1.png` are the left eye's cameras, `<k>_3.png`, `<k>_4.png` the right eye's. The gaze
point is the projection of a point in space, on which both visual axes meet: exact. Subjects are numbered through the
roles: with 22, 1-15 train, 16-18 val, 19-22 test.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gazepipe.common.files import atomic
from gazepipe.drawn.drawing import Drawing
from gazepipe.drawn.near_eye.image import Moment, Wearer, build_wearer, draw_image
from gazepipe.drawn.near_eye.rig import CAMERAS, Pose, Sample, sample_geometry, seat, slipped
from gazepipe.drawn.near_eye.scene import Room, build_room, draw_scene

DEFAULTS = {"seed": 0, "images": 40, "scale": 0.5}
SMALLEST_SCALE = 0.1  # eyes 50 px wide in 72
STREAM = 6  # tells this layout's random streams from the others'
ROLES = ("train", "val", "test")
OUTER_ENTRIES = set(ROLES)
FEWEST_SUBJECTS = len(ROLES)
HELD_OUT = {"val": 0.12, "test": 0.18}  # share of the subjects
COLUMNS = ("cornerxy[0]", "cornerxy[1]")
SCENE_FILE = 2
SQUINTS = 0.08  # share of the frames
HEAD_SD = np.radians([5.0, 9.0])  # pitch and yaw of the head in the room
EYE_PNG = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
SCENE_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
"""Written in 1 and 5 ms; OpenCV's defaults take 2 and 16."""


@dataclass(frozen=True)
class Session:
    """One subject's recording: seed of its rows, scale of its eye images, who wears the headset where and how."""

    seed: tuple[int, int, int]
    scale: float
    wearer: Wearer
    room: Room
    pose: Pose
    usual: Moment


def subject_name(index: int) -> str:
    """Name of the native folder of subject `index`, from 0."""
    return str(index + 1)


def role(index: int, count: int) -> str:
    """Role of subject `index` among `count`: about 70, 12 and 18 %, at least one each."""
    test = max(1, round(HELD_OUT["test"] * count))
    val = max(1, round(HELD_OUT["val"] * count))
    return ROLES[(index >= count - test - val) + (index >= count - test)]


def draw_subject(folder: Path, index: int, drawing: Drawing) -> None:
    """Write a subject's recording of `drawing.images` rows; `drawing.scale`: fraction of 720 x 576 px.

    Equal drawings give equal bytes.
    """
    session = open_session(drawing, index)
    points = []
    with atomic(folder / role(index, drawing.subjects) / subject_name(index)) as partial:
        recording = partial / "IMG1"
        recording.mkdir(parents=True)
        for row in range(1, drawing.images + 1):
            sample, moment, rng = session_row(session, row)
            for camera in CAMERAS:
                image = draw_image(session.wearer, sample, camera, moment, rng)
                _write(recording / f"{row}_{camera}.png", image, EYE_PNG)
            scene = draw_scene(session.room, rng.normal(0, HEAD_SD), sample.scene, sample.target)
            _write(recording / f"{row}_{SCENE_FILE}.png", scene, SCENE_PNG)
            points.append(sample.point)
        (recording / "Learn.csv").write_text(_table(points), encoding="utf-8")


def open_session(drawing: Drawing, index: int) -> Session:
    """What stays the same throughout the recording of subject `index`."""
    seed = (drawing.seed, STREAM, index)
    rng = np.random.default_rng(seed)
    wearer = build_wearer(rng)
    return Session(seed, drawing.scale, wearer, build_room(rng), seat(wearer.subject, rng), _usual(rng))


def session_row(session: Session, row: int) -> tuple[Sample, Moment, np.random.Generator]:
    """Geometry and circumstances of row `row` (from 1), and the generator that its pictures' noise comes from."""
    rng = np.random.default_rng([*session.seed, row])
    sample = sample_geometry(session.wearer.subject, slipped(session.pose, rng), session.scale, rng)
    return sample, _moment(session.usual, rng), rng


def _usual(rng: np.random.Generator) -> Moment:
    """What the frames of a recording vary about."""
    return Moment(
        pupil_radius=rng.uniform(1.6, 2.9),
        openness=rng.uniform(0.86, 1.0),
        exposure=float(np.exp(rng.normal(0, 0.13))),
        blur=rng.uniform(0.9, 1.7),
        noise=rng.uniform(1.2, 3.2),
    )


def _moment(usual: Moment, rng: np.random.Generator) -> Moment:
    squint = rng.uniform(0.62, 0.8) if rng.random() < SQUINTS else 1.0
    return Moment(
        pupil_radius=float(np.clip(usual.pupil_radius + rng.normal(0, 0.3), 1.2, 3.5)),
        openness=usual.openness * squint * rng.uniform(0.93, 1.03),
        exposure=usual.exposure * float(np.exp(rng.normal(0, 0.04))),
        blur=usual.blur,
        noise=usual.noise,
    )


def _write(path: Path, image: np.ndarray, settings: list[int]) -> None:
    _, encoded = cv2.imencode(".png", image, settings)
    path.write_bytes(encoded.tobytes())


def _table(points: list[np.ndarray]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *([f"{x:.4f}", f"{y:.4f}"] for x, y in points)])
    return text.getvalue()
