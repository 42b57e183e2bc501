"""From the mesh of a face to its gaze: head pose, normalisation, patch, network, and back into the camera's frame."""

from dataclasses import dataclass

import cv2
import numpy as np

from gazepipe.datasets.faces import LEFT_EYE, RIGHT_EYE, head_pose
from gazepipe.datasets.images import gray, warp
from gazepipe.errors import UserError
from gazepipe.geometry import (
    angles_to_vector,
    camera_matrix,
    head_angles,
    look_at,
    normalisation,
    unit,
    vector_to_angles,
)
from gazepipe.live.bundle import Bundle
from gazepipe.live.runtime import Network

GUESSED_FOCAL = 1.0
"""Focal length over the longer side of the picture where no camera is given: a field of view of 53 degrees."""

LEAST_SLANT = 0.2
"""Cosine between line of sight and face plane's normal below which that plane tells no depth."""


@dataclass(frozen=True)
class Camera:
    """What is known of a camera: fx, fy, cx, cy in pixels; or one focal length, or nothing (None: guessed)."""

    focal: float | None = None
    intrinsics: tuple[float, float, float, float] | None = None

    def matrix(self, width: int, height: int) -> np.ndarray:
        """Intrinsics [3, 3] for pictures of `width` x `height` pixels."""
        if self.intrinsics is not None:
            fx, fy, cx, cy = self.intrinsics
            return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        return camera_matrix(width, height, self.focal or GUESSED_FOCAL * max(width, height))

    @property
    def guessed(self) -> bool:
        return self.focal is None and self.intrinsics is None


def given_camera(focal: float | None, intrinsics: str | None) -> Camera:
    """The camera of the options --focal PX and --camera FX,FY,CX,CY; UserError for what is none."""
    if focal is not None and intrinsics is not None:
        raise UserError("--focal and --camera: both are given; leave one out")
    if focal is not None and not 0 < focal < np.inf:
        raise UserError(f"--focal: {focal:g} is no focal length; give pixels above 0")
    if intrinsics is None:
        return Camera(focal)
    try:
        fx, fy, cx, cy = (float(value) for value in intrinsics.split(","))
    except ValueError:
        raise UserError(f"--camera: {intrinsics!r} is not of the form FX,FY,CX,CY in pixels; correct it") from None
    if not np.isfinite([fx, fy, cx, cy]).all() or min(fx, fy) <= 0:
        raise UserError(f"--camera: {intrinsics!r} holds no focal lengths above 0; correct it")
    return Camera(None, (fx, fy, cx, cy))


@dataclass(frozen=True)
class Gaze:
    """Where a face looks, in the camera's frame (see `gazepipe.geometry`).

    `eyes_mm` [2, 3] and `vectors` [2, 3] (of length 1) of the person's right and left eye; `mesh` [468, 3] in pixels;
    `head` [3, 3], its columns the head's axes, at `center_mm` [3]; `turn` [3, 3] into the normalised frame.
    """

    mesh: np.ndarray
    eyes_mm: np.ndarray
    vectors: np.ndarray
    head: np.ndarray
    center_mm: np.ndarray
    turn: np.ndarray

    @property
    def vector(self) -> np.ndarray:
        """Unit gaze vector [3] of both eyes."""
        return unit(self.vectors.sum(axis=0))

    def row(self) -> dict[str, float]:
        """Gaze and head in degrees, camera's and normalised frame, and the face centre's distance in mm."""
        gaze, normalised = (vector_to_angles(vector) for vector in (self.vector, self.turn @ self.vector))
        head = head_angles(self.head)
        roll = np.arctan2(self.head[1, 0], self.head[0, 0])
        values = np.degrees([*gaze, *normalised, *head, roll])
        return dict(zip(ANGLES, values.tolist(), strict=True)) | {"distance_mm": float(np.linalg.norm(self.center_mm))}


ANGLES = (
    "pitch_deg",
    "yaw_deg",
    "pitch_normalised_deg",
    "yaw_normalised_deg",
    "head_pitch_deg",
    "head_yaw_deg",
    "head_roll_deg",
)


def gaze_of(
    image_bgr: np.ndarray, meshes: list[np.ndarray], camera: np.ndarray, bundle: Bundle, network: Network
) -> list[Gaze]:
    """Gaze of each face in a BGR image u8 [h, w, 3] whose mesh [468, 3] is given; `camera` [3, 3].

    Patches are cut as in the stage `prepare`, and the gaze is turned back by the normalisation's rotation. A network of
    whole faces or eye bands gives both eyes one direction; one of single eyes sees each eye, the right one mirrored.
    """
    if not meshes:
        return []
    plane = gray(image_bgr)
    single = bundle.patch["kind"] == "eye"
    faces = [_Pose(mesh, camera) for mesh in meshes]
    points = [point for face in faces for point in (face.eyes_mm if single else [face.center_mm])]
    heads = [face.head for face in faces for _ in range(1 + single)]
    warps = [normalisation(*place, camera, bundle.camera()) for place in zip(points, heads, strict=True)]
    patches = [warp(plane, to_patch, bundle.patch["width"], bundle.patch["height"]) for _, to_patch in warps]
    if single:
        patches = [_as_left_eye(patch, index % 2 == 0, bundle.equalised) for index, patch in enumerate(patches)]
    angles = network(np.stack(patches))
    if single:
        angles[::2, 1] *= -1
    turns = np.stack([turn for turn, _ in warps])
    vectors = np.einsum("nji,nj->ni", turns, angles_to_vector(angles))
    vectors = vectors.reshape(-1, 2, 3) if single else np.repeat(vectors[:, None], 2, axis=1)
    return [face.looking(both) for face, both in zip(faces, vectors, strict=True)]


class _Pose:
    """A face in the camera's frame, before its gaze is known; fields as in `Gaze`."""

    def __init__(self, mesh: np.ndarray, camera: np.ndarray):
        self.mesh = mesh
        self.head, self.center_mm = head_pose(mesh, camera)
        self.eyes_mm = _eyes_mm(mesh, camera, self.head, self.center_mm)

    def looking(self, vectors: np.ndarray) -> Gaze:
        turn = look_at(self.center_mm, self.head[:, 0])
        return Gaze(self.mesh, self.eyes_mm, vectors, self.head, self.center_mm, turn)


def _as_left_eye(patch: np.ndarray, right: bool, equalised: bool) -> np.ndarray:
    patch = patch[:, ::-1] if right else patch
    return cv2.equalizeHist(np.ascontiguousarray(patch)) if equalised else patch


def _eyes_mm(mesh: np.ndarray, camera: np.ndarray, head: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Middles of the right and left eye [2, 3] mm: where their rays meet the plane of eyes and mouth."""
    pixels = np.array([mesh[list(corners), :2].mean(axis=0) for corners in (RIGHT_EYE, LEFT_EYE)])
    rays = np.column_stack([pixels, np.ones(2)]) @ np.linalg.inv(camera).T
    slant = unit(rays) @ head[:, 2]
    if np.abs(slant).min() < LEAST_SLANT:
        return rays * center[2]
    return rays * ((head[:, 2] @ center) / (rays @ head[:, 2]))[:, None]
