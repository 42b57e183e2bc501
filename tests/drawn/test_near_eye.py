"""Drawn near-eye data: pupils, lamps' mirror images, cameras and labels proved on the pixels by a second model."""

import csv
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.optimize import minimize

from gazepipe.drawn.draw import checked, draw
from gazepipe.drawn.layouts import near_eye
from gazepipe.drawn.near_eye.image import Moment, build_wearer, draw_image
from gazepipe.drawn.near_eye.lids import Lashes, edge, place_lids
from gazepipe.drawn.near_eye.rig import CAMERAS, LEFT, RIGHT, Pose, sample_geometry, scene_view, seat, slipped
from gazepipe.drawn.near_eye.scene import build_room, draw_scene
from gazepipe.errors import UserError
from gazepipe.geometry import rotation_matrix

SMALL = {"layout": "near-eye", "subjects": 3, "seed": 3, "images": 2, "scale": 0.1}
SCALE = 0.5
PUPIL_MM = 2.0
SHARP = Moment(pupil_radius=PUPIL_MM, openness=1.0, exposure=1.0, blur=0.0, noise=0.0)
WATER = 1.3375


@pytest.fixture(scope="module")
def wearer():
    """Nothing hides the pupil: no lashes, lids far apart."""
    drawn = build_wearer(np.random.default_rng(5))
    eyes = replace(drawn.subject.eyes, upper=7.5, lower=6.5, upper_follow=1.0, lower_follow=1.0)
    bald = Lashes(*(np.zeros(0) for _ in range(5)))
    return replace(drawn, subject=replace(drawn.subject, eyes=eyes), lashes=(bald, bald))


@pytest.fixture(scope="module")
def samples(wearer):
    rng = np.random.default_rng(11)
    pose = seat(wearer.subject, rng)
    return [sample_geometry(wearer.subject, slipped(pose, rng), SCALE, rng) for _ in range(6)]


def pixel(view, point):
    """By hand: rotate, shift, divide by depth, scale and shift."""
    x, y, z = (sum(view.rotation[i][j] * point[j] for j in range(3)) + view.translation[i] for i in range(3))
    return np.array(
        [view.matrix[0, 0] * x / z + (view.width - 1) / 2, view.matrix[1, 1] * y / z + (view.height - 1) / 2]
    )


def turned(axis, right, up):
    """Yaw and pitch of a gaze vector changed by `right` and `up`, rad, through its angles."""
    pitch, yaw = np.arcsin(-axis[1]) + up, np.arctan2(-axis[0], -axis[2]) + right
    return np.array([-np.cos(pitch) * np.sin(yaw), -np.sin(pitch), -np.cos(pitch) * np.cos(yaw)])


def on_sphere(centre, radius, front, cost):
    """The point of a sphere, near the unit direction `front`, at which `cost` is least: Fermat's principle."""
    side = np.cross(front, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    up = np.cross(side, front)

    def place(angles):
        direction = front + angles[0] * side + angles[1] * up
        return centre + radius * direction / np.linalg.norm(direction)

    found = minimize(
        lambda a: cost(place(a)), [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}
    )
    return place(found.x)


def cornea_of(eyes, centre, axis):
    limbus = np.sqrt(eyes.radius**2 - eyes.iris_radius**2)
    return centre + (limbus - np.sqrt(eyes.cornea_radius**2 - eyes.iris_radius**2)) * axis, limbus


def expected_pupil(eyes, centre, axis, view):
    """Centroid (px) of the pupil's outline: shortest optical paths from its rim, through the cornea, to the camera."""
    cornea, limbus = cornea_of(eyes, centre, axis)
    across = np.cross(axis, [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across)
    down = np.cross(axis, across)
    camera = -view.rotation.T @ view.translation
    outline = []
    for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False):
        rim = centre + (limbus - 0.45) * axis + PUPIL_MM * (np.cos(angle) * across + np.sin(angle) * down)
        bend = on_sphere(
            cornea,
            eyes.cornea_radius,
            axis,
            lambda q, rim=rim: WATER * np.linalg.norm(q - rim) + np.linalg.norm(q - camera),
        )
        outline.append(pixel(view, bend))
    x, y = np.array(outline).T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    return np.array([((a + np.roll(a, -1)) * cross).sum() for a in (x, y)]) / (3 * cross.sum())


def drawn_pupil(image, near):
    """Centroid of the dark blob nearest to `near`, the glints in it filled."""
    _, labels, _, middles = cv2.connectedComponentsWithStats((image < 45).astype(np.uint8))
    blob = 1 + np.argmin(np.linalg.norm(middles[1:] - near, axis=1))
    hull = cv2.convexHull(np.argwhere(labels == blob)[:, ::-1].astype(np.int32))
    filled = cv2.fillPoly(np.zeros_like(image), [hull], 1)
    return np.argwhere(filled).mean(axis=0)[::-1]


@pytest.mark.parametrize("camera", CAMERAS)
def test_pupils_are_drawn_where_snells_law_says(wearer, samples, camera):
    eye, _ = CAMERAS[camera]
    eyes = wearer.subject.eyes
    for sample in samples[:3]:
        view = sample.views[list(CAMERAS).index(camera)]
        expected = expected_pupil(eyes, eyes.centres[eye], sample.axes[eye], view)
        image = draw_image(wearer, sample, camera, SHARP, np.random.default_rng(0))
        assert drawn_pupil(image, expected) == pytest.approx(expected, abs=0.7)


@pytest.mark.parametrize("camera", CAMERAS)
def test_glints_are_drawn_where_light_takes_the_shortest_way(wearer, samples, camera):
    eye, _ = CAMERAS[camera]
    eyes = wearer.subject.eyes
    seen = 0
    for sample in samples[:3]:
        view = sample.views[list(CAMERAS).index(camera)]
        image = draw_image(wearer, sample, camera, replace(SHARP, exposure=0.3), np.random.default_rng(0))
        _, _, _, spots = cv2.connectedComponentsWithStats((image > 160).astype(np.uint8))
        cornea, limbus = cornea_of(eyes, eyes.centres[eye], sample.axes[eye])
        origin = -view.rotation.T @ view.translation
        front = (origin - cornea) / np.linalg.norm(origin - cornea)
        for lamp in sample.lamps[eye]:
            point = on_sphere(
                cornea,
                eyes.cornea_radius,
                front,
                lambda q, lamp=lamp, origin=origin: np.linalg.norm(q - lamp) + np.linalg.norm(q - origin),
            )
            if (point - eyes.centres[eye]) @ sample.axes[eye] > limbus + 0.3:  # well within the cornea
                distance = np.linalg.norm(spots[1:] - pixel(view, point), axis=1).min()
                assert distance < 0.7
                seen += 1
    assert seen >= 12


def test_both_cameras_of_an_eye_see_one_pupil(wearer, samples):
    eyes = wearer.subject.eyes
    for sample in samples:
        for eye, pair in ((LEFT, (0, 1)), (RIGHT, (3, 4))):
            true = eyes.centres[eye] + (np.sqrt(eyes.radius**2 - eyes.iris_radius**2) - 0.45) * sample.axes[eye]
            normal, right = np.zeros((3, 3)), np.zeros(3)
            for camera in pair:
                view = sample.views[list(CAMERAS).index(camera)]
                image = draw_image(wearer, sample, camera, SHARP, np.random.default_rng(0))
                x, y = drawn_pupil(image, pixel(view, true))
                ray = view.rotation.T @ np.linalg.solve(view.matrix, [x, y, 1])
                across = np.eye(3) - np.outer(ray, ray) / (ray @ ray)
                normal += across
                right += across @ (-view.rotation.T @ view.translation)
            # The cornea makes the pupil appear about half a millimetre nearer.
            apparent = np.linalg.solve(normal, right) - true
            assert 0.2 < apparent @ sample.axes[eye] < 1.0
            assert np.linalg.norm(apparent - (apparent @ sample.axes[eye]) * sample.axes[eye]) < 0.4


def test_the_visual_axes_meet_at_the_target_kappa_nasal_of_the_optical_ones(wearer, samples):
    eyes = wearer.subject.eyes
    for sample in samples:
        assert 390 < np.linalg.norm(sample.target - eyes.centres.mean(axis=0)) < 3010
        for eye, nose in ((RIGHT, -1), (LEFT, 1)):  # yaw is positive to the person's right
            visual = turned(sample.axes[eye], nose * eyes.kappa[eye, 0], eyes.kappa[eye, 1])
            to_target = sample.target - eyes.centres[eye]
            assert np.linalg.norm(np.cross(visual, to_target)) < 1e-6 * np.linalg.norm(to_target)
            assert nose * (sample.axes[eye, 0] - visual[0]) == pytest.approx(
                eyes.kappa[eye, 0], rel=0.2
            )  # x: to the left


def test_the_scene_camera_by_hand():
    slip = Pose(rotation_matrix(np.array([0.02, -0.03, 0.01])), np.array([1.0, -2.0, 30.0]), 31.0)
    in_headset = np.array([-250.0, 90.0, -900.0])  # to the person's right and down
    forth, right = -in_headset[2] - 52.0, 250.0  # the camera sits 38 mm above and 52 mm before the eyes
    tilt = np.radians(4.0)
    below = 90.0 + 38.0
    depth = np.cos(tilt) * forth + np.sin(tilt) * below
    y = np.cos(tilt) * below - np.sin(tilt) * forth
    expected = [639.5 + 850 * right / depth, 359.5 + 850 * y / depth]
    assert scene_view(slip).project(slip.to_head(in_headset)) == pytest.approx(expected)


def test_cameras_are_mirrored_and_look_at_their_eyes(wearer):
    middle = wearer.subject.eyes.centres.mean(axis=0)
    sample = sample_geometry(wearer.subject, Pose(np.eye(3), middle, 31.5), 1.0, np.random.default_rng(0))
    places = [view.origin - middle for view in sample.views]
    assert places[2] == pytest.approx(places[0] * [-1, 1, 1])
    assert places[3] == pytest.approx(places[1] * [-1, 1, 1])
    assert places[0][0] > places[1][0] > 0  # the left eye's, outer then inner
    for view, (eye, _) in zip(sample.views, CAMERAS.values(), strict=True):
        assert pixel(view, middle + np.array([(-31.5, 31.5)[eye], 0, -9.0])) == pytest.approx([359.5, 287.5])


def test_the_drawn_files_hold_the_label_and_show_the_card_there(tmp_path):
    draw(SMALL, tmp_path, workers=1)
    session = near_eye.open_session(checked(SMALL), 1)
    with (tmp_path / "val" / "2" / "IMG1" / "Learn.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == SMALL["images"]
    for number, row in enumerate(rows, 1):
        label = np.array([float(row["cornerxy[0]"]), float(row["cornerxy[1]"])])
        sample, _, _ = near_eye.session_row(session, number)
        assert label == pytest.approx(pixel(sample.scene, sample.target), abs=1e-4)
        scene = cv2.imread(str(tmp_path / "val" / "2" / "IMG1" / f"{number}_2.png"))
        assert scene.shape == (720, 1280, 3)
        red = np.abs(scene.astype(int) - [60, 50, 200]).max(axis=2) < 12
        depth = sample.scene.to_camera(sample.target)[2]
        y, x = np.indices(red.shape)
        red &= np.hypot(x - label[0], y - label[1]) < 1 + 30 * 850 / depth
        assert np.argwhere(red).mean(axis=0)[::-1] == pytest.approx(label, abs=0.6)


@pytest.mark.parametrize("yaw", [0.0, 0.5, -0.9])
def test_the_room_fills_the_scene_wherever_the_head_turns(samples, yaw):
    room = build_room(np.random.default_rng(1))
    scene = draw_scene(room, (0.1, yaw), samples[0].scene, samples[0].target)
    assert scene.max(axis=2).min() > 0  # black is what nothing covers
    assert len(np.unique(scene[::8, ::8].reshape(-1, 3), axis=0)) > 8


def test_bytes_repeat_whatever_the_number_of_workers_and_follow_the_seed(tmp_path):
    folders = {}
    for name, seed, workers in (("one", 3, 1), ("two", 3, 2), ("other", 4, 1)):
        draw({**SMALL, "images": 1, "seed": seed}, tmp_path / name, workers)
        paths = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        folders[name] = {path.relative_to(tmp_path / name).as_posix(): path.read_bytes() for path in paths}
    assert folders["one"] == folders["two"]
    assert set(folders["one"]) == {
        f"{role}/IMG1/{file}"
        for role in ("train/1", "val/2", "test/3")
        for file in ["Learn.csv", *(f"1_{number}.png" for number in range(5))]
    }
    assert all(folders["other"][name] != data for name, data in folders["one"].items())


def test_each_role_has_subjects_and_most_train():
    assert Counter(near_eye.role(index, 22) for index in range(22)) == {"train": 15, "val": 3, "test": 4}
    for count in range(3, 60):
        roles = [near_eye.role(index, count) for index in range(count)]
        assert roles == sorted(roles, key=near_eye.ROLES.index)
        shares = Counter(roles)
        assert len(shares) == 3
        assert shares["train"] >= shares["test"] >= shares["val"]
        if count >= 10:
            assert 0.6 <= shares["train"] / count <= 0.8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subjects": 2}, "subjects: 2 found; take a whole number from 3"),
        ({"scale": 0.05}, r"scale: 0\.05 found; take a number from 0\.1 to 1"),
        ({"images": 0}, "images: 0 found"),
        ({"size": 64}, "size: unknown in drawn near-eye data"),
    ],
)
def test_impossible_blocks_are_refused(change, message, tmp_path):
    with pytest.raises(UserError, match=message):
        draw({**SMALL, **change}, tmp_path, workers=1)


def test_lids_follow_the_gaze_and_close():
    eyes = build_wearer(np.random.default_rng(2)).subject.eyes
    down, level = np.array([0, np.sin(0.25), -np.cos(0.25)]), np.array([0, 0, -1.0])

    def upper(axis, openness):
        return edge(place_lids(eyes, LEFT, axis, openness), 0, np.zeros(1))[0, 1]

    assert upper(down, 1.0) - upper(level, 1.0) == pytest.approx(0.88 * 0.25 * 12, rel=0.25)  # mm, y is down
    assert upper(level, 0.6) > upper(level, 1.0) + 1.0
    both = [edge(place_lids(eyes, eye, level, 1.0), 0, np.array([-0.5, 0.5])) for eye in (LEFT, RIGHT)]
    assert both[1] == pytest.approx(both[0] * [-1, 1, 1])


def test_a_wider_pupil_is_wider_and_more_exposure_brighter(wearer, samples):
    def drawn(**change):
        return draw_image(wearer, samples[0], 0, replace(SHARP, **change), np.random.default_rng(0))

    assert (drawn(pupil_radius=3.0) < 45).sum() / (drawn(pupil_radius=1.5) < 45).sum() == pytest.approx(4, rel=0.12)
    assert drawn(exposure=0.5).mean() / drawn().mean() == pytest.approx(0.5 ** (1 / 1.5), rel=0.03)
    noisy = drawn(noise=3.0).astype(float) - drawn()
    assert noisy.std() == pytest.approx(3.0, rel=0.1)
