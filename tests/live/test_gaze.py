"""From mesh to gaze and back into the picture: geometry against known answers, tracking against detection."""

import numpy as np
import pytest
from drawn_face import HEIGHT, WIDTH, drawn_face, shifted

from gazepipe.datasets import faces
from gazepipe.datasets.layouts import columbia
from gazepipe.errors import UserError
from gazepipe.geometry import VIEW_GEOMETRY, columbia_camera, look_at, unit, vector_to_angles
from gazepipe.live.bundle import Bundle
from gazepipe.live.draw import Seen, draw_faces, draw_panel
from gazepipe.live.gaze import Camera, gaze_of, given_camera
from gazepipe.live.tracking import Tracker

EYES = {"kind": "eyes", "height": 36, "width": 112}
EYE = {"kind": "eye", "height": 36, "width": 60}
CAMERA = columbia_camera(WIDTH, HEIGHT)


def bundle(patch, geometry=VIEW_GEOMETRY):
    return Bundle(None, patch, 0.5, 0.5, geometry, ())


@pytest.fixture(scope="module")
def mesh():
    return faces.find_mesh(drawn_face())


class Recorder:
    """A network that says what it is told and keeps what it saw."""

    def __init__(self, *angles):
        self.angles = np.array(angles, np.float64)

    def __call__(self, patches):
        self.patches = patches
        return self.angles.copy()


def test_patches_are_those_of_prepare(mesh):
    network = Recorder((0, 0))
    gaze_of(drawn_face(), [mesh], CAMERA, bundle(EYES), network)
    expected, _, _ = columbia._sample(drawn_face(), 0, 0, EYES)
    assert np.array_equal(network.patches, expected[None])


def test_gaze_comes_back_into_the_camera_s_frame(mesh):
    """(0, 0) is the direction to the camera; other angles are those of the normalised frame again."""
    angles = [(0.0, 0.0), (0.2, -0.3)]
    into, away = gaze_of(drawn_face(), [mesh, mesh], CAMERA, bundle(EYES), Recorder(*angles))
    assert into.vector == pytest.approx(-unit(into.center_mm))
    assert vector_to_angles(away.turn @ away.vector) == pytest.approx(angles[1])
    assert np.array_equal(*away.vectors)
    assert np.linalg.norm(away.vectors, axis=1) == pytest.approx(1)
    row = away.row()
    assert (row["pitch_normalised_deg"], row["yaw_normalised_deg"]) == pytest.approx(np.degrees(angles[1]))
    assert row["distance_mm"] == pytest.approx(2000, rel=0.12)
    assert [abs(row[f"head_{name}_deg"]) < 12 for name in ("pitch", "yaw", "roll")] == [True] * 3
    assert into.row()["yaw_deg"] == pytest.approx(vector_to_angles(-into.center_mm)[1] * 180 / np.pi)


def test_eyes_lie_on_their_rays_a_pupil_distance_apart(mesh):
    (gaze,) = gaze_of(drawn_face(), [mesh], CAMERA, bundle(EYES), Recorder((0, 0)))
    seen = gaze.eyes_mm @ CAMERA.T
    expected = [mesh[list(corners), :2].mean(axis=0) for corners in (faces.RIGHT_EYE, faces.LEFT_EYE)]
    assert seen[:, :2] / seen[:, 2:] == pytest.approx(np.array(expected))
    assert np.linalg.norm(gaze.eyes_mm[1] - gaze.eyes_mm[0]) == pytest.approx(faces.PUPIL_DISTANCE_MM, rel=0.02)


def test_a_network_of_single_eyes_sees_the_right_one_mirrored(mesh):
    network = Recorder((0.1, 0.2), (0.1, 0.2))
    (gaze,) = gaze_of(drawn_face(), [mesh], CAMERA, bundle(EYE), network)
    assert network.patches.shape == (2, 36, 60)
    for eye, vector, expected in zip(gaze.eyes_mm, gaze.vectors, ((0.1, -0.2), (0.1, 0.2)), strict=True):
        turn = look_at(eye, gaze.head[:, 0])
        assert vector_to_angles(turn @ vector) == pytest.approx(expected)

    turned = Recorder((0, 0), (0, 0))
    mirrored = mesh * [-1, 1, 1] + [WIDTH - 1, 0, 0]
    # The person's right eye of the mirrored picture is the left one of the picture.
    pairs = (faces.RIGHT_EYE, faces.LEFT_EYE), (faces.LEFT_EYE[::-1], faces.RIGHT_EYE[::-1])
    swapped = mirrored.copy()
    for own, other in zip(*pairs, strict=True):
        swapped[list(own)] = mirrored[list(other)]
    swapped[list(faces.MOUTH)] = mirrored[list(faces.MOUTH[::-1])]
    gaze_of(np.ascontiguousarray(drawn_face()[:, ::-1]), [swapped], CAMERA, bundle(EYE), turned)
    assert np.abs(turned.patches[::-1].astype(int) - network.patches).max() <= 2


def test_eyes_of_the_release_are_equalised(mesh):
    plain, equalised = Recorder((0, 0), (0, 0)), Recorder((0, 0), (0, 0))
    gaze_of(drawn_face(), [mesh], CAMERA, bundle(EYE), plain)
    gaze_of(drawn_face(), [mesh], CAMERA, bundle(EYE, "normalised eye (...)"), equalised)
    assert equalised.patches.min() == 0
    assert equalised.patches.max() == 255
    assert np.ptp(plain.patches) < 255


def test_no_face_no_gaze():
    assert gaze_of(drawn_face(), [], CAMERA, bundle(EYES), None) == []


def test_cameras_are_guessed_or_given():
    assert given_camera(None, None).guessed
    assert given_camera(None, None).matrix(1280, 720)[0, 0] == 1280
    assert given_camera(None, None).matrix(720, 1280)[1, 1] == 1280
    assert given_camera(900.0, None).matrix(640, 480) == pytest.approx(
        np.array([[900, 0, 319.5], [0, 900, 239.5], [0, 0, 1]])
    )
    assert Camera(None, (1, 2, 3, 4)).matrix(9, 9).tolist() == [[1, 0, 3], [0, 2, 4], [0, 0, 1]]
    assert given_camera(None, "500,510,320.5,240").intrinsics == (500, 510, 320.5, 240)
    assert not given_camera(None, "500,510,320.5,240").guessed


@pytest.mark.parametrize(
    ("focal", "camera", "message"),
    [
        (500.0, "1,2,3,4", "both are given"),
        (0.0, None, "--focal: 0 is no focal length"),
        (float("nan"), None, "--focal: nan"),
        (None, "1,2,3", "not of the form FX,FY,CX,CY"),
        (None, "a,b,c,d", "not of the form FX,FY,CX,CY"),
        (None, "1,-2,3,4", "no focal lengths above 0"),
        (None, "1,2,inf,4", "no focal lengths above 0"),
    ],
)
def test_cameras_that_are_none_are_refused(focal, camera, message):
    with pytest.raises(UserError, match=message):
        given_camera(focal, camera)


# Tracking


def test_a_moving_face_is_followed_with_few_looks_of_the_detector(mesh):
    tracker = Tracker(every=6)
    for step in range(12):
        image = shifted(drawn_face(), 4 * step, 2 * step)
        (track,) = tracker(image)
        assert track.number == 1
        assert np.median(np.abs(track.mesh[:, :2] - mesh[:, :2] - [4 * step, 2 * step])) < 1.5
    assert tracker.detections == 2


def test_a_lost_face_is_looked_for_at_once_and_comes_back_under_another_number():
    tracker = Tracker(every=100)
    blank = np.zeros_like(drawn_face())
    assert [track.number for track in tracker(drawn_face())] == [1]
    assert tracker(blank) == []
    assert tracker.detections == 2
    assert [track.number for track in tracker(drawn_face())] == [2]


def test_a_face_that_jumps_is_found_again_in_the_same_frame():
    tracker = Tracker(every=100)
    tracker(drawn_face())
    (track,) = tracker(shifted(drawn_face(), 250, 0))
    assert tracker.detections == 2
    assert track.mesh[:, 0].mean() > 0.6 * WIDTH


def test_all_faces_of_a_frame_are_followed_apart():
    pair = np.ascontiguousarray(np.hstack([drawn_face()[:, 150:500], drawn_face(15)[:, 150:500]]))
    tracker = Tracker(every=3)
    for _ in range(7):
        tracks = sorted(tracker(pair), key=lambda track: track.mesh[0, 0])
        assert [track.mesh[:, 0].mean() > 350 for track in tracks] == [False, True]
        assert {track.number for track in tracks} == {1, 2}
    tracker.forget()
    assert {track.number for track in tracker(pair)} == {3, 4}


def test_tracking_repeats_to_the_bit():
    def meshes():
        tracker = Tracker(every=2)
        return np.array([tracker(shifted(drawn_face(), step, 0))[0].mesh for step in range(4)])

    assert np.array_equal(meshes(), meshes())


# Drawing


def drawn_over(mesh, angles, image=None):
    image = drawn_face().copy() if image is None else image
    gazes = gaze_of(drawn_face(), [mesh], CAMERA, bundle(EYES), Recorder(angles))
    before = image.copy()
    draw_faces(image, [Seen(1, gazes[0])], CAMERA)
    return (image != before).any(axis=2)


@pytest.mark.parametrize(("yaw", "side"), [(0.5, -1), (-0.5, 1)])
def test_arrows_point_where_the_gaze_goes(mesh, yaw, side):
    """Positive yaw is the image's left. Against a look into the camera only the arrows differ."""
    arrows = drawn_over(mesh, (0.0, yaw)) & ~drawn_over(mesh, (0.0, 0.0))
    left_eye = mesh[list(faces.LEFT_EYE), :2].mean(axis=0)
    right_eye = mesh[list(faces.RIGHT_EYE), :2].mean(axis=0)
    rows, columns = np.nonzero(arrows[int(left_eye[1]) - 10 : int(left_eye[1]) + 10])
    middle = (left_eye[0] + right_eye[0]) / 2
    assert np.sign(columns.mean() - middle) == side
    assert len(rows) > 50


def test_a_picture_far_from_the_face_stays_as_it_is(mesh):
    changed = drawn_over(mesh, (0.1, 0.1))
    left, right = mesh[:, 0].min(), mesh[:, 0].max()
    reach = 0.8 * (right - left)
    assert changed.any()
    assert not changed[:, : int(left - reach)].any()
    assert not changed[:, int(right + reach) :].any()


def test_faces_beyond_the_edge_and_tiny_pictures_can_be_drawn(mesh):
    half_out = mesh - np.array([WIDTH / 2, HEIGHT / 2, 0])
    (gaze,) = gaze_of(drawn_face(), [half_out], CAMERA, bundle(EYES), Recorder((1.5, 1.5)))
    for height, width in ((432, 648), (3, 5), (1, 1)):
        image = np.zeros((height, width, 3), np.uint8)
        draw_faces(image, [Seen(7, gaze)], CAMERA)
        draw_panel(image, ["30 frames/s", "read 1"])
        assert image.any()
