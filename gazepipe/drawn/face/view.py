"""A camera and a head before it: projection, rays in the head's frame, boxes of pixels."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

BODY_STEP = 3  # body and background are drawn this much coarser than the frame

_CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T.astype(bool)


class Box(NamedTuple):
    """Pixels x0 <= x < x1, y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    def shrunk(self, step: int) -> "Box":
        """The largest box inside whose borders are multiples of `step`."""
        x0, y0 = -(-self.x0 // step) * step, -(-self.y0 // step) * step
        return Box(x0, y0, max(x0, self.x1 // step * step), max(y0, self.y1 // step * step))

    def grown(self, step: int) -> "Box":
        """The smallest box around whose borders are multiples of `step`."""
        return Box(
            self.x0 // step * step, self.y0 // step * step, -(-self.x1 // step) * step, -(-self.y1 // step) * step
        )

    def inside(self, other: "Box") -> "Box":
        """The part of this box that lies in `other`."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        return Box(x0, y0, max(x0, min(self.x1, other.x1)), max(y0, min(self.y1, other.y1)))

    def relative(self, other: "Box") -> "Box":
        """The same pixels counted from the corner of `other`."""
        return Box(self.x0 - other.x0, self.y0 - other.y0, self.x1 - other.x0, self.y1 - other.y0)

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


@dataclass(frozen=True)
class View:
    """A pinhole camera of `width` x `height` px with intrinsics `matrix` [3, 3], pixel centres at integers.

    `rotation` [3, 3] and `translation` [3] (mm) take the head's frame to the camera's.
    """

    width: int
    height: int
    matrix: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray

    @property
    def box(self) -> Box:
        return Box(0, 0, self.width, self.height)

    @cached_property
    def origin(self) -> np.ndarray:
        """The camera's place in the head's frame, [3] mm."""
        return self.to_head(np.zeros(3))

    @property
    def pixels_per_mm(self) -> float:
        """At the distance of the head's origin."""
        return float(self.matrix[0, 0] / self.translation[2])

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 3] mm of the head's frame in the camera's."""
        return np.asarray(points) @ self.rotation.T + self.translation

    def to_head(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 3] mm of the camera's frame in the head's."""
        return (np.asarray(points) - self.translation) @ self.rotation

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels [..., 2] of points [..., 3] mm in the head's frame."""
        image = self.to_camera(points) @ self.matrix.T
        return image[..., :2] / image[..., 2:]

    def rays(self, box: Box, width: int, height: int) -> np.ndarray:
        """f32 [3, height, width]: directions in the head's frame through the middles of width x height cells of `box`.

        Directions have depth 1 in the camera's frame, not length 1.
        """
        (fx, _, cx), (_, fy, cy), _ = self.matrix
        u = (box.x0 - 0.5 + (np.arange(width) + 0.5) * box.width / width - cx) / fx
        v = (box.y0 - 0.5 + (np.arange(height) + 0.5) * box.height / height - cy) / fy
        x_axis, y_axis, z_axis = self.rotation.astype(np.float32)
        columns = x_axis[:, None] * u.astype(np.float32) + z_axis[:, None]
        rows = y_axis[:, None] * v.astype(np.float32)
        return rows[:, :, None] + columns[:, None, :]

    def bounds(self, points: np.ndarray, margin: float = 0.0) -> Box:
        """The box, within the image, of the projections of points [n, 3] mm in the head's frame; it may be empty."""
        pixels = self.project(points)
        low = np.floor(pixels.min(axis=0) - margin).astype(int)
        high = np.ceil(pixels.max(axis=0) + margin).astype(int) + 1
        x0, y0 = np.clip(low, 0, (self.width, self.height))
        x1, y1 = np.clip(high, (x0, y0), (self.width, self.height))
        return Box(int(x0), int(y0), int(x1), int(y1))


def corners(low: tuple[float, float, float], high: tuple[float, float, float]) -> np.ndarray:
    """The eight corners [8, 3] of an axis-parallel cuboid."""
    return np.where(_CORNERS, high, low)


def head_rotation(pitch: float, yaw: float) -> np.ndarray:
    """Rotation [3, 3], head to camera, of a head that faces along the gaze angles (pitch, yaw), its x axis level."""
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    return turn @ nod


def dot(vector: np.ndarray, field: np.ndarray) -> np.ndarray:
    """f32 [h, w]: scalar product of a vector [3] with a field of vectors f32 [3, h, w]."""
    x, y, z = (float(part) for part in vector)
    return x * field[0] + y * field[1] + z * field[2]


def normalised(field: np.ndarray) -> np.ndarray:
    """A field of vectors f32 [3, h, w] scaled to length 1."""
    return field / np.sqrt((field * field).sum(axis=0))
