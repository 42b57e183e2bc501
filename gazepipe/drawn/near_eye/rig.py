"""A headset on a face: two infrared cameras and a ring of lamps before each eye, and a camera that sees the scene.

The headset's frame is the head's (x to the left eye, y down, z into the head, mm) with its origin midway between where
the headset expects the eyeballs' centres. Its halves are set apart to fit the wearer's eyes, within a fraction of a
millimetre; it sits on each face a little differently, and slips.
"""

from dataclasses import dataclass, replace

import numpy as np

from gazepipe.drawn.face.eyes import optical_axes
from gazepipe.drawn.face.subject import Subject
from gazepipe.drawn.face.view import View
from gazepipe.geometry import angles_to_vector, camera_matrix, look_at, rotation_matrix

RIGHT, LEFT = 0, 1  # the person's eyes in the order of `subject.Eyes`; the left one is to the image's right
CAMERAS = {0: (LEFT, "outer"), 1: (LEFT, "inner"), 3: (RIGHT, "outer"), 4: (RIGHT, "inner")}
"""Eye and place of each camera by the number in its files' names."""
PLACES = {"outer": (15.0, 17.0, -46.0), "inner": (-12.0, 19.0, -45.0)}
"""Cameras (outwards, down, into the head) in mm from the eyeball's centre."""
SIDES = np.array([-1.0, 1.0])  # x per distance outwards, by eye
CORNEA_Z = -9.0  # mm before the eyeball's centre: what the cameras point at
EYE_SIZE, EYE_FOCAL = (720, 576), 820.0  # px at full size
LAMPS = 8
LAMP_RING = (19.0, 16.0, -37.0)  # half axes and z, mm

SCENE_SIZE, SCENE_FOCAL = (1280, 720), 850.0
SCENE_PLACE = np.array([0.0, -38.0, -52.0])
SCENE_TILT = np.radians(4.0)  # the scene camera points down a little
SCENE_MARGIN = 24  # px, no gaze point is nearer to the frame's edge

WIDEST = np.radians([14.0, 20.0])  # gaze up and down, left and right
DISTANCE_MM = (400.0, 3000.0)


@dataclass(frozen=True)
class Pose:
    """Takes the headset's frame to the head's: `rotation` [3, 3], `translation` [3] mm. `half`: mm from the middle to
    where the headset expects an eyeball's centre."""

    rotation: np.ndarray
    translation: np.ndarray
    half: float

    def to_head(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 3] mm of the headset's frame in the head's."""
        return np.asarray(points) @ self.rotation.T + self.translation


@dataclass(frozen=True)
class Sample:
    """One moment; all in the head's frame, mm.

    views: the four eye cameras in the order of `CAMERAS`. scene: the scene camera. lamps [2, 8, 3], by eye. target [3]:
    the point looked at. axes [2, 3]: the eyes' optical axes, unit. point [2]: the target in the scene image, px.
    """

    views: tuple[View, ...]
    scene: View
    lamps: np.ndarray
    target: np.ndarray
    axes: np.ndarray
    point: np.ndarray


def seat(subject: Subject, rng: np.random.Generator) -> Pose:
    """How the headset sits on a subject throughout a recording."""
    middle = subject.eyes.centres.mean(axis=0)
    turn = rotation_matrix(np.radians(rng.normal(0, (0.6, 0.4, 0.5))))
    half = subject.eyes.centres[LEFT, 0] + rng.normal(0, 0.4)
    return Pose(turn, middle + rng.normal(0, (0.4, 0.5, 0.6)), half)


def slipped(pose: Pose, rng: np.random.Generator) -> Pose:
    """The same headset in one frame: it moves on the skin by tenths of a millimetre and of a degree."""
    turn = rotation_matrix(np.radians(rng.normal(0, (0.3, 0.25, 0.25))))
    return replace(pose, rotation=turn @ pose.rotation, translation=pose.translation + rng.normal(0, (0.3, 0.4, 0.3)))


def sample_geometry(subject: Subject, pose: Pose, scale: float, rng: np.random.Generator) -> Sample:
    """Draw a point to look at, somewhere in the scene camera's image, and place both eyes and all cameras.

    scale: fraction of the eye cameras' 720 x 576 px. The scene image keeps its size.
    """
    scene = scene_view(pose)
    target = _target(subject, scene, rng)
    return Sample(
        views=eye_views(pose, scale),
        scene=scene,
        lamps=np.stack([pose.to_head(lamp_ring() + np.array([x, 0, 0])) for x in pose.half * SIDES]),
        target=target,
        axes=optical_axes(subject.eyes, target),
        point=scene.project(target),
    )


def eye_views(pose: Pose, scale: float) -> tuple[View, ...]:
    """The four eye cameras, in the order of `CAMERAS`."""
    width, height = (round(side * scale) for side in EYE_SIZE)
    matrix = camera_matrix(width, height, EYE_FOCAL * width / EYE_SIZE[0])
    views = []
    for eye, place in CAMERAS.values():
        outwards, down, depth = PLACES[place]
        cornea = np.array([SIDES[eye] * pose.half, 0.0, CORNEA_Z])
        origin = np.array([SIDES[eye] * (pose.half + outwards), down, depth])
        turn = look_at(cornea - origin, np.array([1.0, 0.0, 0.0]))
        views.append(_view(width, height, matrix, turn, origin, pose))
    return tuple(views)


def scene_view(pose: Pose) -> View:
    """The scene camera, which looks away from the face: its x axis is the head's -x."""
    forwards = np.array([0.0, np.sin(SCENE_TILT), -np.cos(SCENE_TILT)])
    turn = look_at(forwards, np.array([-1.0, 0.0, 0.0]))
    return _view(*SCENE_SIZE, camera_matrix(*SCENE_SIZE, SCENE_FOCAL), turn, SCENE_PLACE, pose)


def lamp_ring() -> np.ndarray:
    """Lamps [8, 3] around an eye, mm from where its centre is expected, headset's frame."""
    angle = 2 * np.pi * (np.arange(LAMPS) + 0.25) / LAMPS
    half_width, half_height, z = LAMP_RING
    return np.stack([half_width * np.cos(angle), half_height * np.sin(angle), np.full(LAMPS, z)], axis=-1)


def _view(width: int, height: int, matrix: np.ndarray, turn: np.ndarray, origin: np.ndarray, pose: Pose) -> View:
    rotation = turn @ pose.rotation.T
    return View(width, height, matrix, rotation, -rotation @ pose.to_head(origin))


def _target(subject: Subject, scene: View, rng: np.random.Generator) -> np.ndarray:
    """A point [3] mm: its direction from between the eyes is uniform in +-WIDEST, its distance's inverse is, too."""
    low, high = np.full(2, SCENE_MARGIN), np.array(SCENE_SIZE) - 1 - SCENE_MARGIN
    while True:
        gaze = angles_to_vector(rng.uniform(-WIDEST, WIDEST))
        distance = 1 / rng.uniform(1 / DISTANCE_MM[1], 1 / DISTANCE_MM[0])
        target = subject.eyes.centres.mean(axis=0) + distance * gaze
        point = scene.project(target)
        if np.all(point >= low) and np.all(point <= high):
            return target
