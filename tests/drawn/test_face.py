"""Drawn data: labels proved on the pixels by a second eye model, layouts, determinism, bad blocks."""

from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from eye_model import PUPIL_TOLERANCE_MM, close_up, pupil_errors_mm

from gazepipe.drawn.draw import draw
from gazepipe.drawn.face.subject import build_subject
from gazepipe.drawn.face.view import View, head_rotation
from gazepipe.drawn.layouts import columbia, mpiifacegaze
from gazepipe.errors import UserError
from gazepipe.geometry import angles_to_vector, angular_error_deg, camera_matrix, vector_to_angles

SMALL = {
    "columbia": {"layout": "columbia", "subjects": 2, "seed": 3, "scale": 0.03},
    "mpiifacegaze": {"layout": "mpiifacegaze", "subjects": 3, "seed": 3, "images": 2, "size": 64},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict[str, Path]:
    """Both layouts, drawn by one process."""
    folders = {layout: tmp_path_factory.mktemp(layout) for layout in SMALL}
    for layout, folder in folders.items():
        draw(SMALL[layout], folder, workers=1)
    return folders


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5, 7])  # with 3 and 6 the nose hides a part of one pupil
def test_drawn_pupils_agree_with_normalised_labels(plain_subject, seed):
    sample = mpiifacegaze.sample_geometry(plain_subject, np.random.default_rng(seed), 1600)
    label = mpiifacegaze.label(plain_subject, sample)
    corners = plain_subject.landmarks @ sample.view.rotation.T + sample.view.translation
    centre = np.mean([corners[0:2].mean(0), corners[2:4].mean(0), corners[4:6].mean(0)], axis=0)
    pitch, yaw = label[:2]
    direction = np.array([-np.cos(pitch) * np.sin(yaw), -np.sin(pitch), -np.cos(pitch) * np.cos(yaw)])
    gaze_point = centre + np.linalg.norm(sample.target - centre) * direction
    errors = pupil_errors_mm(plain_subject, sample.view, sample.target, gaze_point)
    assert max(errors) < PUPIL_TOLERANCE_MM


@pytest.mark.parametrize("condition", [(0, 0, 0), (15, 10, -15), (-15, -10, 15), (0, 10, 15), (30, 0, 10)])
def test_drawn_pupils_agree_with_columbia_names(plain_subject, condition):
    size = (5184, 3456)
    sample = columbia.sample_geometry(plain_subject, np.random.default_rng(1), size, *condition)
    _, vertical, horizontal = condition
    centre = sample.view.rotation @ plain_subject.face_centre + sample.view.translation
    # From the face: towards the camera, then `vertical` up and `horizontal` to the image's right.
    towards = -centre / np.linalg.norm(centre)
    right = np.cross([0, 1, 0], -towards)
    right /= np.linalg.norm(right)
    up = np.cross(right, towards)
    up *= -np.sign(up[1])
    v, h = np.radians([vertical, horizontal])
    direction = np.cos(v) * (np.cos(h) * towards + np.sin(h) * right) + np.sin(v) * up
    gaze_point = centre + 2500 * direction
    # A part of the full-resolution frame, to save time: the camera is turned by nothing, only cropped.
    crop = np.array([1700, 900])
    matrix = sample.view.matrix.copy()
    matrix[:2, 2] -= crop
    view = replace(sample.view, width=1800, height=1400, matrix=matrix)
    errors = pupil_errors_mm(plain_subject, view, sample.target, gaze_point)
    assert max(errors) < PUPIL_TOLERANCE_MM


def test_wrong_label_is_seen(plain_subject):
    """The proof above can fail: labels with the other sign of yaw miss the drawn pupils by millimetres."""
    rotation, centre = head_rotation(0, 0), np.array([0, 0, 600.0])
    view = View(1600, 1600, camera_matrix(1600, 1600, 3400), rotation, centre - plain_subject.face_centre)
    points = [centre + 600 * angles_to_vector(np.radians([-5, yaw])) for yaw in (10, -10)]
    assert max(pupil_errors_mm(plain_subject, view, points[0], points[0])) < PUPIL_TOLERANCE_MM
    assert min(pupil_errors_mm(plain_subject, view, points[0], points[1])) > 2


def test_pose_turns_the_face_to_the_images_right(plain_subject):
    sample = columbia.sample_geometry(plain_subject, np.random.default_rng(0), (648, 432), 30, 0, 0)
    facing = -sample.view.rotation[:, 2]
    assert np.degrees(np.arctan2(facing[0], -facing[2])) == pytest.approx(30, abs=8)


def test_normalised_view_is_normalised(plain_subject):
    """Face centre in the image's middle, 600 mm away for a 960 px focal length at 448 px, head's x axis level."""
    for seed in range(20):
        view = mpiifacegaze.sample_geometry(plain_subject, np.random.default_rng(seed), 256).view
        assert view.project(plain_subject.face_centre) == pytest.approx([127.5, 127.5], abs=1e-9)
        centre = view.to_camera(plain_subject.face_centre)
        assert view.matrix[0, 0] / centre[2] == pytest.approx(960 / 600 * 256 / 448)
        assert view.rotation[1, 0] == pytest.approx(0, abs=1e-12)
        assert np.linalg.det(view.rotation) == pytest.approx(1)


@pytest.mark.parametrize("layout", list(SMALL))
def test_bytes_do_not_depend_on_workers(layout, drawn, tmp_path):
    draw(SMALL[layout], tmp_path, workers=2)
    first, second = drawn[layout], tmp_path
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_seed_changes_everything(drawn, tmp_path):
    draw({**SMALL["mpiifacegaze"], "seed": 4}, tmp_path, workers=1)
    assert (tmp_path / "p00.mat").read_bytes() != (drawn["mpiifacegaze"] / "p00.mat").read_bytes()


def test_columbia_layout(drawn):
    folder = drawn["columbia"]
    assert sorted(path.name for path in folder.iterdir()) == ["0001", "0002"]
    expected = {
        f"0002_2m_{pose}P_{vertical}V_{horizontal}H.jpg"
        for pose in (-30, -15, 0, 15, 30)
        for vertical in (-10, 0, 10)
        for horizontal in (-15, -10, -5, 0, 5, 10, 15)
    }
    assert {path.name for path in (folder / "0002").iterdir()} == expected
    picture = cv2.imread(str(folder / "0002" / "0002_2m_-15P_-10V_-10H.jpg"))
    assert picture.shape == (104, 156, 3)
    assert np.median(picture) < 60 < picture.max()  # a face before black


def test_mpiifacegaze_layout(drawn):
    folder = drawn["mpiifacegaze"]
    assert sorted(path.name for path in folder.iterdir()) == ["p00.mat", "p01.mat", "p02.mat"]
    with h5py.File(folder / "p01.mat") as file:
        images, labels = file["Data/data"][:], file["Data/label"][:]
    assert images.shape == (2, 3, 64, 64)
    assert images.dtype == np.uint8
    assert images.std() > 20
    assert labels.shape == (2, 16)
    assert np.all(np.abs(labels[:, :4]) < np.radians(45))
    assert np.all((labels[:, 4:] > 0) & (labels[:, 4:] < 64))
    assert np.all(np.diff(labels[:, 4:12:2]) > 0)  # eye corners from left to right


def test_label_ranges(plain_subject):
    rng = np.random.default_rng(0)
    gazes = np.degrees([mpiifacegaze.sample_geometry(plain_subject, rng, 64).gaze for _ in range(2000)])
    assert gazes.mean(axis=0) == pytest.approx([-9, 0], abs=0.8)
    assert gazes.std(axis=0) == pytest.approx([6.4, 10.5], abs=0.8)
    assert gazes[:, 0].min() >= -26
    assert gazes[:, 0].max() <= 8


def test_head_angles_in_the_label(plain_subject):
    sample = mpiifacegaze.sample_geometry(plain_subject, np.random.default_rng(2), 64)
    label = mpiifacegaze.label(plain_subject, sample)
    forwards = sample.view.rotation @ [0, 0, -1]
    assert label[2:4] == pytest.approx(vector_to_angles(forwards))
    assert (
        angular_error_deg(angles_to_vector(label[:2]), sample.target - sample.view.to_camera(plain_subject.face_centre))
        < 1e-6
    )


def test_glasses_shares():
    assert sum(map(columbia.has_glasses, range(56))) == 21
    assert sum(map(mpiifacegaze.has_glasses, range(15))) == 5
    subjects = [build_subject(np.random.default_rng(1), glasses) for glasses in (False, True)]
    rng = np.random.default_rng(0)
    sample = columbia.sample_geometry(subjects[0], rng, (648, 432), 0, 0, 0)
    bare, worn = (close_up(subject, sample.view, sample.target).astype(int) for subject in subjects)
    changed = np.abs(bare - worn).max(axis=2) > 10
    eyes = sample.view.project(subjects[0].eyes.centres)
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 300
    assert rows.mean() == pytest.approx(eyes[:, 1].mean(), abs=12)
    assert columns.mean() == pytest.approx(eyes[:, 0].mean(), abs=6)


def test_subjects_differ():
    subjects = [build_subject(np.random.default_rng([1, 1, index]), False) for index in range(12)]
    assert len({subject.eyes.radius for subject in subjects}) == 12
    distances = [subject.eyes.centres[1, 0] - subject.eyes.centres[0, 0] for subject in subjects]
    assert 55 < min(distances) < max(distances) < 71
    assert np.std([subject.skin.mean() for subject in subjects]) > 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "columbia2"}, "layout: 'columbia2'"),
        ({"subjects": 0}, "subjects: 0"),
        ({"subjects": None}, "subjects: None"),
        ({"subjects": True}, "subjects: True"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": 1.5}, "seed: 1.5"),
        ({"scale": 0}, "scale: 0"),
        ({"scale": float("nan")}, "scale: nan"),
        ({"images": 3}, "images: unknown"),
    ],
)
def test_bad_blocks(change, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        draw({**SMALL["columbia"], **change}, tmp_path / "data", workers=1)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_other_files_are_refused(tmp_path):
    (tmp_path / "p07.mat").touch()
    with pytest.raises(UserError, match=r"p07\.mat"):
        draw(SMALL["mpiifacegaze"], tmp_path, workers=1)


def test_nothing_half_written(tmp_path, monkeypatch):
    calls = iter(range(3))

    def fails(*_):
        if next(calls) == 2:
            raise OSError("disk full")
        return np.zeros((104, 156, 3), np.uint8)

    monkeypatch.setattr(columbia, "render", fails)
    with pytest.raises(OSError, match="disk full"):
        draw(SMALL["columbia"], tmp_path, workers=1)
    assert list(tmp_path.iterdir()) == []
