"""Drawn pictures of a laptop's camera with a manifest: `labels.csv` and `images/s00/000.jpg`.

Every row gives the gaze in all three forms that the layout `manifest` reads: angles in the camera's frame (radians), a
point in mm in that frame, and the same point in pixels of the screen below the camera; and the head pose.
"""

import csv
import io
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from gazepipe.common.files import atomic, write_text
from gazepipe.drawn.drawing import Drawing
from gazepipe.drawn.face.laptop import camera, sample_geometry
from gazepipe.drawn.face.render import render
from gazepipe.drawn.face.style import wild
from gazepipe.drawn.face.subject import Subject, build_subject, evenly
from gazepipe.geometry import vector_to_angles

DEFAULTS = {"seed": 0, "images": 80, "size": 640}
OUTER_ENTRIES = {"images", "labels.csv"}
STREAM = 4  # tells this layout's random streams from the others'
GLASSES_SHARE = (1, 4)
JPEG_QUALITY = 95
COLUMNS = ("image", "subject", "pitch", "yaw", "x", "y", "z", "screen_x", "screen_y")
HEAD_COLUMNS = ("head_rx", "head_ry", "head_rz", "face_x", "face_y", "face_z")


def camera_block(size: int) -> dict:
    """The camera that draws pictures `size` px wide, as the block `camera` of the configuration."""
    matrix, height = camera(size)
    inner = {"fx": matrix[0, 0], "fy": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}
    return {"width": size, "height": height, **{name: float(value) for name, value in inner.items()}}


def subject_name(index: int) -> str:
    return f"s{index:02d}"


def draw_subject(folder: Path, index: int, drawing: Drawing) -> None:
    """Write `<folder>/images/sNN/` with `drawing.images` pictures, `drawing.size` px wide; the bytes repeat."""
    subject, name = _subject(index, drawing), subject_name(index)
    with atomic(folder / "images" / name) as partial:
        partial.mkdir()
        for frame in range(drawing.images):
            rng = np.random.default_rng([drawing.seed, STREAM, index, 1 + frame])
            sample = sample_geometry(subject, rng, drawing.size)
            light, photometry = wild(rng)
            picture = render(subject, sample.view, sample.target, light, photometry, rng)
            _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            (partial / f"{frame:03d}.jpg").write_bytes(encoded.tobytes())


def finish(folder: Path, drawing: Drawing) -> None:
    """Write `<folder>/labels.csv`, once all subjects are drawn."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *HEAD_COLUMNS])
    for index in range(drawing.subjects):
        subject, name = _subject(index, drawing), subject_name(index)
        for frame in range(drawing.images):
            rng = np.random.default_rng([drawing.seed, STREAM, index, 1 + frame])
            sample = sample_geometry(subject, rng, drawing.size)
            centre = sample.view.to_camera(subject.face_centre)
            angles = vector_to_angles(sample.target - centre)
            vector = Rotation.from_matrix(sample.view.rotation).as_rotvec()
            numbers = [f"{value:.6f}" for value in (*angles, *sample.target, *sample.pixel, *vector, *centre)]
            writer.writerow([f"images/{name}/{frame:03d}.jpg", name, *numbers])
    write_text(folder / "labels.csv", text.getvalue())


def _subject(index: int, drawing: Drawing) -> Subject:
    return build_subject(np.random.default_rng([drawing.seed, STREAM, index]), evenly(index, *GLASSES_SHARE))
