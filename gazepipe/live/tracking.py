"""Faces of a video: found by the detector, then followed from mesh to mesh, which costs half as much a face."""

from dataclasses import dataclass

import numpy as np

from gazepipe.datasets.faces import MESH_SIZE_PX, Face, detect, followed, landmarks

DETECT_EVERY = 15
"""Frames between two looks of the detector while every face is followed: half a second of most videos."""

SAME_FACE_SHARE = 0.4
"""Meshes whose boxes share more than this of the smaller one are of one face."""


def load_models() -> None:
    """Load the face models, so that the first frame is as quick as the others; UserError where they are missing."""
    blank = np.zeros((MESH_SIZE_PX, MESH_SIZE_PX, 3), np.uint8)
    detect(blank)
    keypoints = np.array([[0.0, 0.0], [1.0, 0.0]])
    landmarks(blank, Face(np.array([0.0, 0.0, 1.0, 1.0]), 1.0, keypoints))


@dataclass
class Track:
    """A face that is followed: `number` counts from 1 and is never used again; `mesh` [468, 3] of the last frame."""

    number: int
    mesh: np.ndarray
    score: float


class Tracker:
    """Meshes of all faces, frame after frame.

    The mesh model looks where each face was in the frame before. The detector is asked in every `every`-th frame, and
    whenever a face was lost or none is followed; the same frames give the same faces.
    """

    def __init__(self, every: int = DETECT_EVERY):
        self.every = every
        self.detections = 0
        self._tracks: list[Track] = []
        self._count = 0
        self._since = 0

    def __call__(self, image_bgr: np.ndarray) -> list[Track]:
        """The faces of the next frame u8 [h, w, 3], the longest followed first."""
        lost = self._follow(image_bgr)
        self._since += 1
        if lost or not self._tracks or self._since >= self.every:
            self._look(image_bgr, lost)
        return self._tracks

    def forget(self) -> None:
        """Drop all tracks: the next frame is of another scene or size."""
        self._tracks = []

    def _follow(self, image_bgr: np.ndarray) -> list[Track]:
        """Move the tracks into this frame; returns those that were lost."""
        kept: list[Track] = []
        lost = []
        for track in self._tracks:
            mesh = _mesh(image_bgr, followed(track.mesh, track.score))
            if mesh is None:
                lost.append(track)
            elif not _same(mesh, kept):
                kept.append(Track(track.number, mesh, track.score))
        self._tracks = kept
        return lost

    def _look(self, image_bgr: np.ndarray, lost: list[Track]) -> None:
        """Add the faces that no track follows; one where another was just lost is that one."""
        self._since = 0
        self.detections += 1
        for face in detect(image_bgr):
            if any(_holds(track.mesh, face) for track in self._tracks):
                continue
            mesh = _mesh(image_bgr, face)
            if mesh is None or _same(mesh, self._tracks):
                continue
            again = _same(mesh, lost)
            self._count += again is None
            self._tracks.append(Track(again.number if again else self._count, mesh, face.score))


def _mesh(image_bgr: np.ndarray, face: Face) -> np.ndarray | None:
    """The mesh [468, 3] of a face whose eyes lie within the picture."""
    mesh = landmarks(image_bgr, face)
    if mesh is None:
        return None
    height, width = image_bgr.shape[:2]
    eyes = followed(mesh, face.score).keypoints[:2]
    inside = (eyes >= 0).all() and (eyes < [width, height]).all()
    return mesh if inside and not np.array_equal(*eyes) else None


def box_of(mesh: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom [4] of a mesh [468, 3], in pixels."""
    return np.concatenate([mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)])


def _holds(mesh: np.ndarray, face: Face) -> bool:
    """Whether the middle of a detected face lies within the box of a mesh."""
    left, top, right, bottom = box_of(mesh)
    x, y = (face.box[:2] + face.box[2:]) / 2
    return bool(left < x < right and top < y < bottom)


def _same(mesh: np.ndarray, tracks: list[Track]) -> Track | None:
    """The track whose face a mesh is of."""
    return next((track for track in tracks if _shared(box_of(mesh), box_of(track.mesh)) > SAME_FACE_SHARE), None)


def _shared(a: np.ndarray, b: np.ndarray) -> float:
    """Area that two boxes [4] share over that of the smaller one."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    return float(np.prod(sides) / max(min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])), 1e-9))
