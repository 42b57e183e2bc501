"""Angles, frames and data normalisation against closed forms and invariances."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from gazepipe import geometry as geo

EYES = {"kind": "eyes", "height": 36, "width": 112}

pitch = st.floats(-1.5, 1.5)
yaw = st.floats(-3.1, 3.1)
angles = st.tuples(pitch, yaw).map(np.array)
vectors = arrays(np.float64, 3, elements=st.floats(-10, 10)).filter(lambda v: np.linalg.norm(v) > 0.1)
rotations = st.tuples(*[st.floats(-1.0, 1.0)] * 3).map(lambda r: Rotation.from_rotvec(r).as_matrix())
centers = st.tuples(st.floats(-300, 300), st.floats(-300, 300), st.floats(400, 3000)).map(np.array)


def test_angles_to_vector_has_the_agreed_signs():
    assert geo.angles_to_vector([0, 0]) == pytest.approx([0, 0, -1])
    assert geo.angles_to_vector([np.pi / 2, 0]) == pytest.approx([0, -1, 0])  # up
    assert geo.angles_to_vector([0, np.pi / 2]) == pytest.approx([-1, 0, 0])  # the image's left
    p, y = 0.3, -0.7
    expected = [-np.cos(p) * np.sin(y), -np.sin(p), -np.cos(p) * np.cos(y)]
    assert geo.angles_to_vector([p, y]) == pytest.approx(expected)


@given(angles)
def test_angles_survive_the_round_trip(pair):
    assert geo.vector_to_angles(geo.angles_to_vector(pair)) == pytest.approx(pair, abs=1e-12)


@given(vectors)
def test_vectors_survive_the_round_trip_up_to_length(vector):
    back = geo.angles_to_vector(geo.vector_to_angles(vector))
    assert back == pytest.approx(vector / np.linalg.norm(vector), abs=1e-12)


@given(angles)
def test_mirroring_the_image_negates_yaw_and_keeps_pitch(pair):
    mirrored = geo.angles_to_vector(pair) * [-1, 1, 1]
    assert geo.vector_to_angles(mirrored) == pytest.approx(pair * [1, -1], abs=1e-12)


def test_batches_keep_their_leading_shape():
    batch = np.random.default_rng(0).uniform(-1, 1, (4, 3, 2))
    vector = geo.angles_to_vector(batch)
    assert vector.shape == (4, 3, 3)
    assert geo.angular_error_deg(vector, vector[::-1]).shape == (4, 3)
    assert vector[2, 1] == pytest.approx(geo.angles_to_vector(batch[2, 1]))


@given(vectors, vectors)
def test_angular_error_is_the_arc_cosine_where_that_is_accurate(a, b):
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assume(abs(cosine) < 0.99)
    assert geo.angular_error_deg(a, b) == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-9)
    assert geo.angular_error_deg(a, b) == geo.angular_error_deg(b, a)


@given(vectors, vectors, vectors)
def test_angular_error_is_a_metric_on_directions(a, b, c):
    error = geo.angular_error_deg
    assert error(a, a) == pytest.approx(0, abs=1e-6)
    assert error(a, -a) == pytest.approx(180)
    assert error(a, c) <= error(a, b) + error(b, c) + 1e-9
    assert error(3 * a, b / 7) == pytest.approx(error(a, b), abs=1e-9)


def test_angular_error_resolves_tiny_angles_that_acos_loses():
    tiny = np.radians(1e-7)
    assert geo.angular_error_deg([0, 0, -1], geo.angles_to_vector([tiny, 0])) == pytest.approx(1e-7, rel=1e-9)


@given(centers, vectors)
def test_look_at_is_a_rotation_with_the_target_ahead(target, x_axis):
    assume(np.linalg.norm(np.cross(geo.unit(target), geo.unit(x_axis))) > 1e-3)
    turn = geo.look_at(target, x_axis)
    assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert turn @ target == pytest.approx([0, 0, np.linalg.norm(target)], abs=1e-6)
    assert turn[1] @ x_axis == pytest.approx(0, abs=1e-9)
    assert turn[0] @ x_axis > 0


@pytest.mark.parametrize(("vertical", "horizontal"), [(0, 0), (10, 0), (-10, 15), (10, -5)])
def test_columbia_gaze_straight_ahead_reads_as_pitch_v_and_yaw_minus_h(vertical, horizontal):
    gaze = geo.columbia_gaze(vertical, horizontal, np.array([0, 0, 2000]))
    assert np.degrees(geo.vector_to_angles(gaze)) == pytest.approx([vertical, -horizontal])
    assert np.sign(gaze[0]) == np.sign(horizontal)  # H > 0: the image's right
    assert np.sign(gaze[1]) == -np.sign(vertical)  # V > 0: up


@given(centers, st.floats(-30, 30), st.floats(-30, 30))
def test_columbia_gaze_is_measured_from_the_direction_to_the_camera(center, vertical, horizontal):
    gaze = geo.columbia_gaze(vertical, horizontal, center)
    cosine = np.cos(np.radians(vertical)) * np.cos(np.radians(horizontal))
    assert geo.unit(gaze) @ -geo.unit(center) == pytest.approx(cosine)
    assert geo.columbia_gaze(0, 0, center) == pytest.approx(-geo.unit(center))


@given(rotations, centers)
def test_head_frame_recovers_the_pose_of_three_points(rotation, center):
    points = np.array([[-31.5, -20, 5], [31.5, -20, 5], [0, 40, 5]]) - [0, 0, 5]
    found, middle = geo.head_frame(*(points @ rotation.T + center))
    assert found == pytest.approx(rotation, abs=1e-9)
    assert middle == pytest.approx(center, abs=1e-9)


def test_head_angles_follow_the_labels_of_mpiifacegaze():
    rotation = Rotation.from_euler("yxz", [25, -12, 7], degrees=True).as_matrix()
    z = rotation[:, 2]
    assert geo.head_angles(rotation) == pytest.approx([np.arcsin(z[1]), np.arctan2(z[0], z[2])])
    assert geo.head_angles(np.eye(3)) == pytest.approx([0, 0])


def camera(focal=2500.0):
    return geo.camera_matrix(648, 432, focal)


def project(matrix, points):
    pixels = points @ matrix.T
    return pixels[..., :2] / pixels[..., 2:]


@given(centers, rotations)
def test_warp_takes_the_face_centre_to_the_principal_point_at_the_patch_scale(center, head):
    patch = geo.patch_camera(EYES)
    turn, warp = geo.normalisation(center, head, camera(), patch)
    assert project(warp @ camera(), center) == pytest.approx(patch[:2, 2], abs=1e-6)
    # 10 mm beside the face centre, seen from 600 mm, wherever the head really is.
    beside = center + 10 * turn[0]
    assert project(warp @ camera(), beside)[0] - patch[0, 2] == pytest.approx(patch[0, 0] * 10 / 600)


@given(centers, rotations, rotations, angles)
def test_turning_the_camera_changes_neither_label_nor_patch(center, head, camera_turn, gaze):
    """Roll is cancelled, and pan and tilt as well: the patch depends on what is seen, not on how the camera hangs."""
    patch = geo.patch_camera(EYES)
    landmarks = center + 40 * np.random.default_rng(0).standard_normal((5, 3)) @ head.T
    vector = geo.angles_to_vector(gaze)
    before = geo.normalisation(center, head, camera(), patch)
    after = geo.normalisation(camera_turn @ center, camera_turn @ head, camera(), patch)
    assert after[0] @ camera_turn @ vector == pytest.approx(before[0] @ vector, abs=1e-9)
    seen = project(after[1] @ camera(), landmarks @ camera_turn.T)
    assert seen == pytest.approx(project(before[1] @ camera(), landmarks), abs=1e-6)


@given(centers, rotations, angles)
def test_the_label_is_turned_by_r_and_not_scaled_with_the_distance(center, head, gaze):
    patch = geo.patch_camera(EYES)
    near = geo.normalisation(center, head, camera(), patch)
    far = geo.normalisation(2 * center, head, camera(), patch)
    assert far[0] == pytest.approx(near[0])
    assert np.abs(far[1] / far[1][2, 2] - near[1] / near[1][2, 2]).max() > 0.1
    label = near[0] @ geo.angles_to_vector(gaze)
    assert np.linalg.norm(label) == pytest.approx(1)
    towards = near[0] @ -geo.unit(center)
    assert geo.angular_error_deg(label, towards) == pytest.approx(
        geo.angular_error_deg(geo.angles_to_vector(gaze), -center), abs=1e-6
    )


def test_a_level_head_before_the_camera_needs_no_turn():
    turn, _ = geo.normalisation(np.array([0, 0, 2000]), np.eye(3), camera(), geo.view_camera())
    assert turn == pytest.approx(np.eye(3))


def test_columbia_camera_scales_with_the_picture():
    full, small = geo.columbia_camera(5184, 3456), geo.columbia_camera(648, 432)
    assert full[0, 0] == 19_760
    assert small[0, 0] == pytest.approx(2470)
    point = np.array([60.0, -80.0, 2000.0])
    # The same point, counted from the pictures' left edge in shares of the width.
    assert (project(small, point) + 0.5) / 648 == pytest.approx((project(full, point) + 0.5) / 5184)


def test_the_eye_band_is_120_mm_wide_and_centred_20_mm_up():
    matrix = geo.patch_camera(EYES)
    assert project(matrix, np.array([-60.0, -20.0, 600.0])) == pytest.approx([-0.5, 17.5])
    assert project(matrix, np.array([60.0, -20.0, 600.0])) == pytest.approx([111.5, 17.5])
    height_mm = 120 * 36 / 112
    assert project(matrix, np.array([0.0, -20.0 - height_mm / 2, 600.0]))[1] == pytest.approx(-0.5)


def test_the_face_patch_is_the_whole_view():
    assert geo.patch_camera({"kind": "face", "height": 448, "width": 448}) == pytest.approx(geo.view_camera())
    edge = np.array([224 / 1.6, 224 / 1.6, 600.0])  # mm at 1.6 px per mm
    assert project(geo.patch_camera({"kind": "face", "height": 96, "width": 64}), edge) == pytest.approx([63.5, 95.5])
    with pytest.raises(ValueError, match="nose"):
        geo.patch_camera({"kind": "nose", "height": 8, "width": 8})
