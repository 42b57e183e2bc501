"""MPIIGaze eyes: the native layout and the one-subject import, folds by day, mirrored right eyes, every broken file."""

import re

import numpy as np
import pandas as pd
import pytest
from eye_model import PUPIL_TOLERANCE_MM, apparent_pupil, close_up, darkest_blob, turned_axis
from native_layouts import arrays, day, write_eyes, write_npz
from scipy.spatial.transform import Rotation

from gazepipe.datasets.layouts import mpiigaze, mpiigaze_npz
from gazepipe.datasets.prepare import expected_subjects, merge, prepare_part
from gazepipe.datasets.splits import make_split
from gazepipe.datasets.store import open_store
from gazepipe.drawn.draw import draw
from gazepipe.drawn.face import laptop
from gazepipe.drawn.layouts import mpiigaze as drawer
from gazepipe.errors import UserError
from gazepipe.geometry import angles_to_vector, angular_error_deg, eye_camera, patch_camera

EYE = {"kind": "eye", "height": 36, "width": 60}
DRAWN = {"layout": "mpiigaze", "subjects": 2, "seed": 3, "images": 12}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    draw(DRAWN, folder, workers=1)
    return folder


def build(folder, out, layout="mpiigaze", count=2, by_day=False):
    names = expected_subjects(folder, layout, count, {})
    prepare_part(folder, layout, EYE, names, 0, 1, out / "part.h5")
    merge([out / "part.h5"], out / "store.h5", out / "rejected.csv", {"dataset": "x"}, 0.0, by_day=by_day)
    return open_store(out / "store.h5")


def test_drawn_eyes_reach_the_store_with_the_analytic_labels(drawn, tmp_path):
    store = build(drawn, tmp_path)
    assert store.image.shape == (48, 1, 36, 60)
    assert set(store.subject) == {"p00", "p01"}
    assert store.frame[:3].tolist() == ["day01/0001.jpg left", "day01/0001.jpg right", "day01/0002.jpg left"]
    assert "normalised eye" in store.attrs["geometry"]
    subject = drawer.build_subject(np.random.default_rng([3, drawer.STREAM, 1]), drawer.evenly(1, 5, 15))
    rng = np.random.default_rng([3, drawer.STREAM, 1, 1 + 11])  # the last picture: day02/0002.jpg
    sample = laptop.sample_geometry(subject, rng, 60)
    for side, row in (("left", 46), ("right", 47)):
        assert store.frame[row] == f"day02/0002.jpg {side}"
        corners = subject.landmarks[:2] if side == "right" else subject.landmarks[2:4]
        centre = sample.view.to_camera(corners.mean(axis=0))
        gaze = sample.target - centre
        z = centre / np.linalg.norm(centre)
        y = np.cross(z, sample.view.rotation[:, 0])
        y /= np.linalg.norm(y)
        exact = np.array([np.cross(y, z), y, z]) @ gaze
        if side == "right":
            exact[0] *= -1
        # The middle of the eye was found with an error of 1 mm or so.
        assert angular_error_deg(angles_to_vector(store.target[row]), exact) < 0.4


@pytest.mark.parametrize(("seed", "side"), [(0, "left"), (0, "right"), (1, "left"), (3, "right"), (4, "left")])
def test_drawn_pupils_agree_with_the_label(plain_subject, seed, side):
    rng = np.random.default_rng(seed)
    sample = laptop.sample_geometry(plain_subject, rng, 60)
    eye = drawer.eye_geometry(plain_subject, sample, side, np.zeros(3))
    matrix = eye.view.matrix.copy()
    matrix[:2] *= 10  # fine enough to find the pupil
    view = drawer.View(1200, 720, matrix, eye.view.rotation, eye.view.translation)
    index, nose = (0, 1) if side == "right" else (1, -1)
    middle = plain_subject.landmarks[2 * index : 2 * index + 2].mean(axis=0)
    centre = view.to_camera(plain_subject.eyes.centres[index])
    # `target` and the label mean the same ray.
    assert angular_error_deg(eye.target - view.to_camera(middle), eye.gaze) < 1e-9
    gaze_point = view.to_camera(middle) + np.linalg.norm(eye.target - view.to_camera(middle)) * eye.gaze
    visual = view.rotation.T @ (gaze_point - centre)
    kappa = plain_subject.eyes.kappa[index]
    axis = view.rotation @ turned_axis(visual / np.linalg.norm(visual), nose * kappa[0], kappa[1])
    expected = apparent_pupil(centre, axis, plain_subject, matrix)
    scale = matrix[0, 0] / centre[2]
    around = matrix @ (centre - [0, 0, plain_subject.eyes.radius])
    found = darkest_blob(close_up(plain_subject, view, eye.target), around[:2] / around[2], 8 * scale)
    assert np.linalg.norm(found - expected) / scale < PUPIL_TOLERANCE_MM


def test_the_eye_is_in_the_middle_at_the_release_s_scale(plain_subject):
    sample = laptop.sample_geometry(plain_subject, np.random.default_rng(0), 60)
    eye = drawer.eye_geometry(plain_subject, sample, "left", np.zeros(3))
    middle = plain_subject.landmarks[2:4].mean(axis=0)
    assert eye.view.project(middle) == pytest.approx([59.5, 35.5])
    assert eye.view.matrix[0, 0] / eye.view.to_camera(middle)[2] == pytest.approx(2 * 960 / 600)
    assert eye.view.rotation[1, 0] == pytest.approx(0, abs=1e-12)
    assert Rotation.from_rotvec(eye.pose).as_matrix() == pytest.approx(eye.view.rotation)
    assert patch_camera(EYE) == pytest.approx(eye_camera())
    assert eye_camera()[0, 0] == eye_camera()[1, 1] == 960


def test_right_eyes_are_mirrored_and_their_yaws_negated(tmp_path):
    content = day()
    write_eyes(tmp_path, content)
    prepared = mpiigaze.prepare_subject(tmp_path, "p00", EYE)
    assert prepared.frame == ["day01/0001.jpg left", "day01/0001.jpg right", "day01/0003.jpg left"]
    left, right = content["data"]["left"], content["data"]["right"]
    assert np.array_equal(prepared.image[0, 0], left["image"][0])
    assert np.array_equal(prepared.image[1, 0], right["image"][0][:, ::-1])
    assert np.array_equal(prepared.image[2, 0], left["image"][2])
    assert angles_to_vector(prepared.target[0]) == pytest.approx(left["gaze"][0], abs=1e-6)
    assert angles_to_vector(prepared.target[1]) * [-1, 1, 1] == pytest.approx(right["gaze"][0], abs=1e-6)
    z = Rotation.from_rotvec(right["pose"][0]).as_matrix()[:, 2]
    assert prepared.head_pose[1] == pytest.approx([np.arcsin(z[1]), -np.arctan2(z[0], z[2])], abs=1e-6)
    native = mpiigaze.native_image(tmp_path, "p00", "day01/0001.jpg right")
    assert np.array_equal(native[..., 0], prepared.image[1, 0])


def test_a_day_of_one_picture_is_read(tmp_path):
    write_eyes(tmp_path, day(1), ["day01/0001.jpg right"])
    assert mpiigaze.prepare_subject(tmp_path, "p00", EYE).image.shape == (1, 1, 36, 60)


def test_folds_by_day_share_no_day(drawn, tmp_path):
    store = build(drawn, tmp_path, by_day=True)
    assert sorted(set(store.subject)) == ["p00/day01", "p00/day02", "p01/day01", "p01/day02"]
    assert np.char.startswith(store.frame, [f"{name.split('/')[1]}/" for name in store.subject]).all()
    split = make_split(set(store.subject), {"protocol": "k-fold", "folds": 2, "validation": 0.4, "seed": 0})
    for _, rows in split.groupby("fold"):
        assert len(rows) == len(set(rows["subject"])) == 4


def test_folds_by_day_need_frames_that_name_one(tmp_path):
    from test_ethxgaze import FACE
    from test_prepare import labels, views, write_mat

    write_mat(tmp_path / "raw" / "p00.mat", views(3), labels(3))
    prepare_part(tmp_path / "raw", "mpiifacegaze", FACE, ["p00"], 0, 1, tmp_path / "part.h5")
    with pytest.raises(UserError, match="frame 0000 names no day"):
        merge([tmp_path / "part.h5"], tmp_path / "s.h5", tmp_path / "r.csv", {"dataset": "x"}, 0.0, by_day=True)
    assert not (tmp_path / "s.h5").exists()


def test_the_archive_s_own_folder_and_other_folders_named_alike(tmp_path):
    write_eyes(tmp_path / "raw" / "MPIIGaze")
    (tmp_path / "raw" / "MPIIGaze" / "Data" / "Original" / "p03").mkdir(parents=True)
    (tmp_path / "raw" / "MPIIGaze" / "Data" / "Normalized").rename(
        tmp_path / "raw" / "MPIIGaze" / "Data" / "normalized"
    )
    assert mpiigaze.subjects(tmp_path / "raw") == ["p00"]
    assert len(mpiigaze.prepare_subject(tmp_path / "raw", "p00", EYE).frame) == 3


def test_listed_eyes_that_are_not_there_are_rejected(tmp_path):
    write_eyes(tmp_path, lines=["day01/0001.jpg left", "day01/0009.jpg left"])
    prepared = mpiigaze.prepare_subject(tmp_path, "p00", EYE)
    assert prepared.rejected == [("day01/0009.jpg left", "day01.mat holds no such picture")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["day01/0001.jpg"], "line 1: 'day01/0001.jpg' is not of the form"),
        (["day01/0001.jpg left", "../day01/0001.jpg left"], "line 2: .* is not of the form"),
        (["day01/0001.jpg left", "", "day01/0001.jpg left"], "line 3 is line 1 again"),
        ([], "is empty"),
        (["day02/0001.jpg left"], r"day02\.mat: is missing"),
    ],
)
def test_broken_lists_are_named(tmp_path, lines, message):
    write_eyes(tmp_path, lines=lines)
    with pytest.raises(UserError, match=message):
        mpiigaze.prepare_subject(tmp_path, "p00", EYE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": 1}, "holds no data.left"),
        ({"data": {"left": 1, "right": 2}, "filenames": "a"}, "holds no data.left"),
        ({"data": 3, "filenames": "a"}, "holds no data.left"),
        (day(image=np.zeros((3, 36, 60))), "image is float64"),
        (day(image=np.zeros((2, 36, 60), np.uint8)), r"image has shape \(2, 36, 60\)"),
        (day(image=np.zeros((3, 36), np.uint8)), "image"),
        (day(gaze=np.zeros((3, 2))), r"gaze has shape \(3, 2\)"),
        (day(gaze=np.zeros((3, 3))), "row 0: gaze .* is no unit vector"),
        (day(gaze=np.full((3, 3), 30.0)), "is no unit vector"),
        (day(gaze=np.full((3, 3), np.nan)), "is no unit vector"),
        (day(gaze=np.array([[0, 0, 1.0]] * 3)), r"row 0: gaze yaw is .* not within"),
        (day(pose=np.full((3, 3), np.inf)), "is no unit vector, or its pose"),
    ],
)
def test_files_that_break_the_layout_are_named(tmp_path, content, message):
    path = write_eyes(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        mpiigaze.prepare_subject(tmp_path, "p00", EYE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file", bytes(300), "half"])
def test_damaged_files_are_named(tmp_path, content):
    path = write_eyes(tmp_path)
    path.write_bytes(path.read_bytes()[:1500] if content == "half" else content)
    with pytest.raises(UserError, match=r"day01\.mat: is damaged or no MATLAB v5 file"):
        mpiigaze.prepare_subject(tmp_path, "p00", EYE)


def test_missing_folders_and_lists_are_named(tmp_path):
    with pytest.raises(UserError, match="holds no folder Data/Normalized"):
        mpiigaze.subjects(tmp_path)
    write_eyes(tmp_path)
    with pytest.raises(UserError, match="p01: the subject's folder is missing"):
        mpiigaze.prepare_subject(tmp_path, "p01", EYE)
    (tmp_path / "Evaluation Subset" / "sample list for eye image" / "p00.txt").unlink()
    with pytest.raises(UserError, match=r"p00\.txt: cannot be read .*evaluation list"):
        mpiigaze.prepare_subject(tmp_path, "p00", EYE)


# One subject as arrays


def test_arrays_are_taken_as_they_are_and_folded_by_day(tmp_path):
    folder = write_npz(tmp_path / "eyes_P00")
    store = build(folder, tmp_path, "mpiigaze-npz", 1, by_day=True)
    assert store.frame.tolist() == [
        "day01/0001.jpg left",
        "day01/0001.jpg right",
        "day02/0001.jpg left",
        "day02/0002.jpg right",
    ]
    assert store.subject.tolist() == ["p00/day01", "p00/day01", "p00/day02", "p00/day02"]
    order = [1, 3, 0, 2]
    assert np.array_equal(store.image[:, 0], arrays()["image"][order])
    assert np.array_equal(store.target, arrays()["gaze_pitch_yaw_rad"][order])
    native = mpiigaze_npz.native_image(folder, "p00", "day02/0002.jpg right")
    assert np.array_equal(native[..., 0], arrays()["image"][2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame": None}, "lacks one of"),
        ({"image": np.zeros((4, 36, 61), np.uint8)}, r"image is uint8 \(4, 36, 61\), expected shape \(4, 36, 60\)"),
        ({"image": np.zeros((4, 36, 60), np.uint16)}, "image is not uint8"),
        ({"gaze_pitch_yaw_rad": np.full((4, 2), 30.0)}, "gaze_pitch_yaw_rad row 0: gaze pitch is 30, .*degrees"),
        ({"gaze_pitch_yaw_rad": np.zeros((3, 2))}, "gaze_pitch_yaw_rad is"),
        ({"right_flipped": np.zeros(4)}, "right_flipped is"),
        ({"frame": np.array([{}] * 4, object)}, "is damaged"),
    ],
)
def test_broken_arrays_are_named(tmp_path, change, message):
    folder = write_npz(tmp_path / "p00", **change)
    with pytest.raises(UserError, match=message):
        mpiigaze_npz.prepare_subject(folder, "p00", EYE)


def test_the_subject_is_in_the_folder_s_name(tmp_path):
    with pytest.raises(UserError, match="does not end in a subject"):
        mpiigaze_npz.subjects(write_npz(tmp_path / "eyes"))
    (tmp_path / "p01").mkdir()
    with pytest.raises(UserError, match=r"eyes\.npz: is missing"):
        mpiigaze_npz.subjects(tmp_path / "p01")


def test_the_real_eyes(shared_data, tmp_path):
    """3,000 eyes of 39 days; the mean gaze of the other days misses by 8.25 degrees."""
    store = build(shared_data / "mpiigaze_p00", tmp_path, "mpiigaze-npz", 1, by_day=True)
    assert len(store) == 3000
    assert len(set(store.subject)) == 39
    assert all(re.fullmatch(r"day\d\d/\d{4}\.jpg (left|right)", frame) for frame in store.frame)
    frame = pd.DataFrame({"day": store.subject, "pitch": store.target[:, 0], "yaw": store.target[:, 1]})
    assert frame.groupby("day").size().min() == 18
    mean = angles_to_vector(store.target.mean(axis=0))
    assert angular_error_deg(angles_to_vector(store.target), mean).mean() == pytest.approx(8.25, abs=0.15)
