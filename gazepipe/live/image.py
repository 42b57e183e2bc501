"""Gaze in one image, as plain values for JSON."""

from pathlib import Path
from typing import Any

import numpy as np

from gazepipe.datasets.images import UnusableImage, read_picture
from gazepipe.errors import UserError
from gazepipe.live.bundle import load_bundle
from gazepipe.live.gaze import Camera, gaze_of
from gazepipe.live.runtime import load_network
from gazepipe.live.tracking import Tracker, box_of


def look_at_image(
    path: Path, bundle_folder: Path, runtime: str = "openvino", int8: bool = False, camera: Camera | None = None
) -> dict[str, Any]:
    """Gaze of all faces in a JPEG or PNG file, from left to right.

    Per face: angles in degrees and the distance (see `gaze.Gaze.row`), `gaze` the unit vector in the camera's frame,
    `box` (left, top, right, bottom) and `eyes` (x, y of the person's right and left one) in pixels. Raises
    UserError for an image or bundle that cannot be read.
    """
    camera = camera or Camera()
    bundle = load_bundle(bundle_folder)
    network = load_network(bundle, runtime, int8)
    try:
        image, _ = read_picture(path)
    except UnusableImage as error:
        raise UserError(f"{path}: {error}") from None
    height, width = image.shape[:2]
    matrix = camera.matrix(width, height)
    meshes = [track.mesh for track in Tracker()(image)]
    faces = []
    for gaze in gaze_of(image, meshes, matrix, bundle, network):
        eyes = gaze.eyes_mm @ matrix.T
        faces.append(
            {name: round(value, 3) for name, value in gaze.row().items()}
            | {
                "gaze": np.round(gaze.vector, 6).tolist(),
                "box": np.round(box_of(gaze.mesh), 1).tolist(),
                "eyes": np.round(eyes[:, :2] / eyes[:, 2:], 1).tolist(),
            }
        )
    return {
        "image": str(path),
        "width": width,
        "height": height,
        "camera": {
            "fx": matrix[0, 0],
            "fy": matrix[1, 1],
            "cx": matrix[0, 2],
            "cy": matrix[1, 2],
            "guessed": camera.guessed,
        },
        "faces": sorted(faces, key=lambda face: face["box"][0]),
    }
