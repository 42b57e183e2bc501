"""ETH-XGaze: what is drawn comes back from the store, the labels are those of the pixels, broken files are named."""

import h5py
import numpy as np
import pytest
from eye_model import PUPIL_TOLERANCE_MM, pupil_errors_mm
from native_layouts import write_xgaze

from gazepipe.datasets.images import gray
from gazepipe.datasets.layouts import ethxgaze
from gazepipe.datasets.prepare import expected_subjects, merge, prepare_part
from gazepipe.datasets.store import open_store
from gazepipe.drawn.draw import draw
from gazepipe.drawn.layouts import ethxgaze as drawer
from gazepipe.errors import UserError
from gazepipe.geometry import angles_to_vector, angular_error_deg

EYES = {"kind": "eyes", "height": 36, "width": 112}
FACE = {"kind": "face", "height": 96, "width": 96}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "xgaze_224"
    draw({"layout": "ethxgaze", "subjects": 2, "seed": 3, "images": 8, "size": 96}, folder, workers=1)
    return folder


def columns(path):
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


@pytest.mark.parametrize("patch", [EYES, FACE])
def test_drawn_faces_reach_the_store(drawn, tmp_path, patch):
    names = expected_subjects(drawn, "ethxgaze", 2, {})
    parts = [tmp_path / "0.h5", tmp_path / "1.h5"]
    for part, path in enumerate(parts):
        prepare_part(drawn, "ethxgaze", patch, names, part, 2, path)
    merge(parts, tmp_path / "store.h5", tmp_path / "rejected.csv", {"dataset": "x"}, 0.0)
    store = open_store(tmp_path / "store.h5")
    assert store.image.shape == (16, 1, patch["height"], patch["width"])
    assert set(store.subject) == {"subject0000", "subject0001"}
    assert store.frame[:5].tolist() == ["0000/00", "0000/01", "0000/02", "0000/03", "0001/00"]
    native = columns(drawn / "train" / "subject0001.h5")
    assert np.array_equal(store.target[8:], native["face_gaze"])
    assert np.array_equal(store.head_pose[8:], native["face_head_pose"])
    assert "140 mm" in store.attrs["geometry"]
    if patch == FACE:  # as large as the native image: unchanged
        assert np.array_equal(store.image[11, 0], gray(native["face_patch"][3]))
        assert np.array_equal(ethxgaze.native_image(drawn, "subject0001", "0000/03"), native["face_patch"][3])


@pytest.mark.parametrize(("seed", "camera"), [(0, 0), (2, 3), (4, 2), (7, 1), (9, 3)])
def test_drawn_pupils_agree_with_the_label(plain_subject, seed, camera):
    sample = drawer.sample_geometry(plain_subject, np.random.default_rng(seed), 1400, camera)
    centre = sample.view.to_camera(plain_subject.face_centre)
    gaze_point = centre + np.linalg.norm(sample.target - centre) * angles_to_vector(sample.gaze)
    assert max(pupil_errors_mm(plain_subject, sample.view, sample.target, gaze_point)) < PUPIL_TOLERANCE_MM


def test_the_same_gaze_seen_from_two_cameras_differs_by_the_angle_between_them(plain_subject):
    """Whatever the camera, the angle between gaze and the direction that the face points in is the same."""
    samples = [drawer.sample_geometry(plain_subject, np.random.default_rng(0), 96, camera) for camera in range(4)]
    angles = [
        angular_error_deg(angles_to_vector(sample.gaze), angles_to_vector(sample.head_pose)) for sample in samples
    ]
    assert angles == pytest.approx([angles[0]] * 4)
    turned = angular_error_deg(angles_to_vector(samples[1].gaze), angles_to_vector(samples[2].gaze))
    assert 20 < turned < 55
    for sample in samples:
        assert sample.view.project(plain_subject.face_centre) == pytest.approx([47.5, 47.5])
        assert sample.view.rotation[1, 0] == pytest.approx(0, abs=1e-12)  # no roll
        # 140 mm across at the face centre
        assert sample.view.matrix[0, 0] / sample.view.to_camera(plain_subject.face_centre)[2] == pytest.approx(96 / 140)


def test_the_eye_band_is_the_same_120_mm(tmp_path):
    """A bright spot 30 mm left of and 20 mm above the face centre, at 140 mm for the image's width."""
    size, per_mm = 224, 224 / 140
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    middle = (size - 1) / 2
    spot = 255 * np.exp(-((x - middle + 30 * per_mm) ** 2 + (y - middle + 20 * per_mm) ** 2) / 2 / 6**2)
    views = np.repeat(spot.astype(np.uint8)[None, ..., None], 3, axis=-1).repeat(6, axis=0)
    write_xgaze(tmp_path / "train" / "subject0007.h5", face_patch=views)
    patch = ethxgaze.prepare_subject(tmp_path, "subject0007", EYES).image[0, 0].astype(float)
    rows, cols = np.mgrid[:36, :112]
    found = [(patch * cols).sum() / patch.sum(), (patch * rows).sum() / patch.sum()]
    assert found == pytest.approx([55.5 - 30 * 112 / 120, 17.5], abs=0.1)


def test_training_files_are_found_beside_the_test_files_and_sorted(tmp_path):
    for name in ("test/subject0001.h5", "train/subject0000.h5", "train/Subject0003.H5", "train/._subject0003.h5"):
        write_xgaze(tmp_path / "raw" / "xgaze_224" / name)
    assert ethxgaze.subjects(tmp_path / "raw") == ["subject0000", "subject0003"]
    assert expected_subjects(tmp_path / "raw", "ethxgaze", 1, {}) == ["subject0000"]
    with pytest.raises(UserError, match="holds 2 subjects, expected 3"):
        expected_subjects(tmp_path / "raw", "ethxgaze", 3, {})
    with pytest.raises(UserError, match=r"(?i)subject0001\.h5: the subject's file is missing"):
        ethxgaze.prepare_subject(tmp_path / "raw", "subject0001", FACE)


def test_frames_are_sorted_with_their_labels(tmp_path):
    order = np.array([3, 1, 0, 2, 5, 4])
    write_xgaze(tmp_path / "train" / "subject0000.h5", frame_index=order[:, None])
    prepared = ethxgaze.prepare_subject(tmp_path, "subject0000", FACE)
    native = columns(tmp_path / "train" / "subject0000.h5")
    assert prepared.frame == sorted(prepared.frame)
    assert prepared.target == pytest.approx(native["face_gaze"][np.argsort(order)], abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"face_gaze": None}, "holds no numbers in face_gaze; give the training files"),
        ({"face_gaze": np.full((6, 2), 20.0)}, r"face_gaze row 0: gaze pitch is 20, not within .*degrees"),
        ({"face_head_pose": np.full((6, 2), np.nan)}, "face_head_pose row 0: head pitch is nan"),
        ({"face_gaze": np.zeros((5, 2))}, r"face_gaze has shape \(5, 2\), expected \(6, 2\)"),
        ({"face_gaze": np.zeros((6, 3))}, r"face_gaze has shape \(6, 3\)"),
        ({"cam_index": np.zeros((6, 2))}, r"cam_index has shape \(6, 2\)"),
        ({"face_patch": np.zeros((6, 3, 32, 32), np.uint8)}, r"face_patch has shape \(6, 3, 32, 32\)"),
        ({"face_patch": np.zeros((0, 32, 32, 3), np.uint8)}, "face_patch has shape"),
        ({"face_patch": np.full((6, 32, 32, 3), 1000, np.uint16)}, "face_patch row 0 holds values outside 0-255"),
        ({"face_patch": np.full((6, 32, 32, 3), 0.5)}, "row 0 holds 0-1, expected 0-255"),
        ({"frame_index": np.array([b"a"] * 6)}, "holds no numbers in frame_index"),
    ],
)
def test_files_that_break_the_layout_are_named(tmp_path, change, message):
    path = write_xgaze(tmp_path / "train" / "subject0000.h5", **change)
    with pytest.raises(UserError, match=message) as caught:
        ethxgaze.prepare_subject(tmp_path, "subject0000", EYES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_named(tmp_path):
    path = write_xgaze(tmp_path / "train" / "subject0000.h5")
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(UserError, match=r"subject0000\.h5: is damaged"):
        ethxgaze.prepare_subject(tmp_path, "subject0000", EYES)
