"""Native layouts to store: pixels, labels and every bad input, plus drawn heads whose gaze is known exactly."""

import csv
import shutil

import cv2
import h5py
import numpy as np
import pytest
from native_layouts import labels, straight_mesh, views, write_mat, write_pictures

from gazepipe.datasets import faces
from gazepipe.datasets.images import UnusableImage, jpeg_width, read_jpeg, warp
from gazepipe.datasets.layouts import columbia, mpiifacegaze
from gazepipe.datasets.prepare import merge, prepare_part
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError
from gazepipe.geometry import (
    angles_to_vector,
    angular_error_deg,
    columbia_camera,
    columbia_gaze,
    look_at,
    patch_camera,
    view_camera,
)

EYES = {"kind": "eyes", "height": 36, "width": 112}
FACE = {"kind": "face", "height": 64, "width": 64}
ATTRS = {"dataset": "test"}


# Warps and decoding


def stripes(size, period):
    row = np.where(np.arange(size) % period < period / 2, 255, 0).astype(np.uint8)
    return np.repeat(row[None], size, axis=0)


def test_a_minifying_warp_averages_and_does_not_alias():
    small = warp(stripes(400, 2), np.diag([0.1, 0.1, 1.0]), 40, 40)
    assert np.ptp(small[5:-5, 5:-5].astype(int)) <= 30  # a plain warp gives stripes of 0 and 255
    assert abs(small[5:-5, 5:-5].mean() - 127.5) < 10


@pytest.mark.parametrize("scale", [0.13, 0.3, 0.5, 0.9, 1.0, 1.7])
def test_a_warp_keeps_positions_at_every_scale(scale):
    x, y = np.meshgrid(np.arange(300), np.arange(300))
    blob = (255 * np.exp(-((x - 140) ** 2 + (y - 90) ** 2) / 2 / 20**2)).astype(np.uint8)
    matrix = np.array([[scale, 0, 3], [0, scale, 5], [0, 0, 1.0]])
    size = int(300 * scale) + 10
    small = warp(blob, matrix, size, size).astype(float)
    small[small < 5] = 0
    rows, columns = np.mgrid[:size, :size]
    middle = np.array([(small * columns).sum(), (small * rows).sum()]) / small.sum()
    assert middle == pytest.approx([140 * scale + 3, 90 * scale + 5], abs=0.06)


def test_an_unchanged_warp_returns_the_image():
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    assert np.array_equal(warp(image, np.eye(3), 30, 20), image)


@pytest.mark.parametrize(("least", "width"), [(640, 648), (700, 1296), (1300, 2592), (2593, 5184)])
def test_large_pictures_are_decoded_no_larger_than_needed(tmp_path, least, width):
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.zeros((96, 5184, 3), np.uint8))
    image, data = read_jpeg(path, least)
    assert image.shape[1] == width
    assert data == path.read_bytes()
    assert jpeg_width(data) == 5184


def test_unusable_pictures_say_why(tmp_path):
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8))
    whole = path.read_bytes()
    for content, reason in [
        (b"", "empty file"),
        (b"no picture at all", "not a JPEG"),
        (whole[:300], "not a JPEG|cut short|cannot be decoded"),
        (whole[: len(whole) // 2], "cut short"),
        (whole[:-2], "cut short"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UnusableImage, match=reason):
            read_jpeg(path, 640)
    with pytest.raises(UnusableImage, match="cannot be read"):
        read_jpeg(tmp_path / "none.jpg", 640)


# Columbia Gaze


@pytest.fixture
def found(monkeypatch):
    """Detection replaced: these tests are about files and labels."""
    monkeypatch.setattr(columbia, "find_mesh", straight_mesh)


def build(folder, out, subjects, layout="columbia", patch=EYES, parts=1, share=0.0):
    files = [out / f"part{part}.h5" for part in range(parts)]
    for part, path in enumerate(files):
        prepare_part(folder, layout, patch, subjects, part, parts, path)
    merge(files, out / "store.h5", out / "rejected.csv", ATTRS, share)
    return open_store(out / "store.h5")


def rejected(out):
    with open(out / "rejected.csv", newline="") as file:
        return list(csv.reader(file))


def test_columbia_labels_are_turned_into_the_normalised_frame(tmp_path, found):
    store = build(write_pictures(tmp_path / "raw", ["0001", "0002"]), tmp_path, ["0001", "0002"])
    assert store.image.shape == (6, 1, 36, 112)
    assert store.subject.tolist() == ["0001"] * 3 + ["0002"] * 3
    labels = dict(zip(store.frame.tolist(), np.degrees(store.target), strict=True))
    assert labels["0001_2m_0P_0V_0H.jpg"] == pytest.approx([0, 0], abs=1e-4)
    assert labels["0001_2m_0P_10V_-5H.jpg"] == pytest.approx([10, 5], abs=1e-3)
    assert labels["0002_2m_-15P_-10V_15H.jpg"] == pytest.approx([-10, -15], abs=1e-3)
    assert np.degrees(store.head_pose) == pytest.approx(np.zeros((6, 2)), abs=0.1)
    assert store.attrs["patch"] == EYES
    assert rejected(tmp_path) == [["subject", "frame", "reason"]]


def test_bytes_do_not_depend_on_the_number_of_parts_or_their_order(tmp_path, found):
    names = ["0001", "0002", "0003", "0004", "0005"]
    folder = write_pictures(tmp_path / "raw", names)
    (folder / "0003" / "0003_2m_0P_0V_0H.jpg").write_bytes(b"?")
    for parts in (1, 2, 7):
        (tmp_path / str(parts)).mkdir()
        build(folder, tmp_path / str(parts), names, parts=parts, share=0.5)
    one, two, seven = (tmp_path / str(parts) for parts in (1, 2, 7))
    assert (one / "store.h5").read_bytes() == (two / "store.h5").read_bytes() == (seven / "store.h5").read_bytes()
    assert (one / "rejected.csv").read_bytes() == (seven / "rejected.csv").read_bytes()
    backwards = [seven / f"part{part}.h5" for part in reversed(range(7))]
    merge(backwards, tmp_path / "again.h5", tmp_path / "again.csv", ATTRS, 0.5)
    assert (tmp_path / "again.h5").read_bytes() == (one / "store.h5").read_bytes()


def test_a_changed_picture_changes_the_source_checksum(tmp_path, found):
    folder = write_pictures(tmp_path / "raw", ["0001"])
    before = build(folder, tmp_path, ["0001"]).attrs["source"]
    shutil.copy(folder / "0001" / "0001_2m_0P_0V_0H.jpg", folder / "0001" / "0001_2m_0P_10V_-5H.jpg")
    assert build(folder, tmp_path, ["0001"]).attrs["source"] != before


def test_an_archive_s_own_folder_and_mixed_case_are_tolerated(tmp_path, found):
    folder = write_pictures(tmp_path / "raw" / "Columbia Gaze Data Set", ["0001"])
    (folder / "0001" / "0001_2m_0P_0V_0H.jpg").rename(folder / "0001" / "0001_2m_0P_0V_0H.JPG")
    (folder / "0001" / ".DS_Store").write_text("x")
    (folder / "0001" / "Thumbs.db").write_text("x")
    (folder / "license.txt").write_text("x")
    assert columbia.subjects(tmp_path / "raw") == ["0001"]
    assert len(build(tmp_path / "raw", tmp_path, ["0001"])) == 3


def test_unusable_pictures_are_listed_and_named_on_stderr(tmp_path, found, capfd):
    folder = write_pictures(tmp_path / "raw", ["0001", "0002"])
    place = folder / "0002"
    (place / "0002_2m_0P_0V_0H.jpg").write_bytes((place / "0002_2m_0P_0V_0H.jpg").read_bytes()[:2000])
    for name in ("0002_2m_0P_0V.jpg", "0002_2m_7P_0V_0H.jpg", "0001_2m_0P_0V_5H.jpg"):
        shutil.copy(place / "0002_2m_0P_10V_-5H.jpg", place / name)
    store = build(folder, tmp_path, ["0001", "0002"], share=0.5)
    assert len(store) == 5
    assert [row[:2] for row in rejected(tmp_path)] == [
        ["subject", "frame"],
        ["0002", "0001_2m_0P_0V_5H.jpg"],
        ["0002", "0002_2m_0P_0V.jpg"],
        ["0002", "0002_2m_0P_0V_0H.jpg"],
        ["0002", "0002_2m_7P_0V_0H.jpg"],
    ]
    reasons = " ".join(row[2] for row in rejected(tmp_path))
    for reason in ("names subject 0001", "not of the form", "cut short", "7P is not one of"):
        assert reason in reasons
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 4
    assert f"{place / '0002_2m_0P_0V_0H.jpg'}: cut short" in warnings[2]


def test_too_many_rejected_frames_fail_and_leave_nothing(tmp_path, found):
    folder = write_pictures(tmp_path / "raw", ["0001", "0002"])
    (folder / "0001" / "0001_2m_0P_10V_-5H.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 6 frames .* 0\.1 .*0001_2m_0P_10V_-5H\.jpg: empty file"):
        build(folder, tmp_path, ["0001", "0002"], share=0.1)
    assert not (tmp_path / "store.h5").exists()
    assert not (tmp_path / "rejected.csv").exists()


def test_pictures_without_a_face_are_rejected(tmp_path):
    folder = write_pictures(tmp_path / "raw", ["0001"])
    prepared = columbia.prepare_subject(folder, "0001", EYES)
    assert prepared.image.shape == (0, 1, 36, 112)
    assert {reason for _, reason in prepared.rejected} == {"no face found"}
    with pytest.raises(UserError, match=r"0001: no usable picture .*no face found"):
        build(folder, tmp_path, ["0001"])
    assert not (tmp_path / "part0.h5").exists()


def test_a_face_at_an_impossible_distance_is_rejected(tmp_path, monkeypatch):
    folder = write_pictures(tmp_path / "raw", ["0001"])
    monkeypatch.setattr(columbia, "find_mesh", lambda image: straight_mesh(image) / 8)
    prepared = columbia.prepare_subject(folder, "0001", EYES)
    assert "seems 16.3 m away" in prepared.rejected[0][1]


def test_missing_subjects_and_empty_folders_are_named(tmp_path, found):
    folder = write_pictures(tmp_path / "raw", ["0001"])
    with pytest.raises(UserError, match="0002: the subject's folder is missing"):
        build(folder, tmp_path, ["0001", "0002"])
    (folder / "0002").mkdir()
    with pytest.raises(UserError, match="0002: holds no pictures"):
        build(folder, tmp_path, ["0001", "0002"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no subject folders"):
        columbia.subjects(tmp_path / "empty")
    with pytest.raises(UserError, match="absent: is not a folder"):
        columbia.subjects(tmp_path / "absent")


def test_parts_that_do_not_belong_together_are_refused(tmp_path, found):
    folder = write_pictures(tmp_path / "raw", ["0001"])
    build(folder, tmp_path, ["0001"])
    part, other = tmp_path / "part0.h5", tmp_path / "other.h5"
    with pytest.raises(UserError, match="0001 lies in two parts"):
        merge([part, part], tmp_path / "s.h5", tmp_path / "r.csv", ATTRS, 0)
    prepare_part(folder, "columbia", FACE, ["0001"], 0, 1, other)
    with pytest.raises(UserError, match="2 different patches"):
        merge([part, other], tmp_path / "s.h5", tmp_path / "r.csv", ATTRS, 0)
    other.write_bytes(part.read_bytes()[:500])
    with pytest.raises(UserError, match=r"other\.h5: is missing or damaged"):
        merge([other], tmp_path / "s.h5", tmp_path / "r.csv", ATTRS, 0)
    assert not (tmp_path / "s.h5").exists()


# MPIIFaceGaze


def test_mpiifacegaze_is_read_as_it_is(tmp_path):
    for index in range(2):
        write_mat(tmp_path / "raw" / f"p0{index}.mat", views(70, seed=index), labels(70, index))
    store = build(tmp_path / "raw", tmp_path, ["p00", "p01"], "mpiifacegaze", parts=2)
    assert store.image.shape == (140, 1, 36, 112)
    assert np.array_equal(store.target[70:], labels(70, 1)[:, :2])
    assert np.array_equal(store.head_pose[70:], labels(70, 1)[:, 2:4])
    assert store.frame[[0, 69, 139]].tolist() == ["0000", "0069", "0069"]
    # Row 65 lies in the second batch; its patch is the band of the gray view.
    whole = cv2.cvtColor(np.ascontiguousarray(views(70, seed=1)[65].transpose(1, 2, 0)), cv2.COLOR_BGR2GRAY)
    to_band = patch_camera(EYES) @ np.linalg.inv(view_camera(112))
    assert np.array_equal(store.image[135, 0], warp(whole, to_band, 112, 36))


@pytest.mark.parametrize("size", [112, 224, 448])
def test_the_patch_shows_the_same_part_of_the_view_at_every_native_size(tmp_path, size):
    """A bright spot 30 mm left of and 20 mm above the face centre."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    per_mm = 960 / 600 * size / 448
    spot = [(size - 1) / 2 - 30 * per_mm, (size - 1) / 2 - 20 * per_mm]
    image = 255 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 2 / (4 * per_mm) ** 2)
    write_mat(tmp_path / "p00.mat", np.repeat(image.astype(np.uint8)[None, None], 3, axis=1), labels(1))
    patch = mpiifacegaze.prepare_subject(tmp_path, "p00", EYES).image[0, 0].astype(float)
    rows, columns = np.mgrid[:36, :112]
    middle = [(patch * columns).sum() / patch.sum(), (patch * rows).sum() / patch.sum()]
    assert middle == pytest.approx([55.5 - 30 * 112 / 120, 17.5], abs=0.1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_any_numeric_type_that_holds_0_to_255_is_read(tmp_path, dtype):
    write_mat(tmp_path / "p00.mat", views(3).astype(dtype), labels(3).astype(np.float64))
    write_mat(tmp_path / "plain" / "p00.mat", views(3), labels(3))
    read, plain = (mpiifacegaze.prepare_subject(folder, "p00", FACE) for folder in (tmp_path, tmp_path / "plain"))
    assert np.array_equal(read.image, plain.image)
    assert np.array_equal(read.target, plain.target)


def test_the_release_s_own_folder_is_found(tmp_path):
    write_mat(tmp_path / "raw" / "MPIIFaceGaze_normalizad" / "p00.mat", views(2), labels(2))
    assert mpiifacegaze.subjects(tmp_path / "raw") == ["p00"]
    assert len(build(tmp_path / "raw", tmp_path, ["p00"], "mpiifacegaze")) == 2


def changed(table, row, column, new):
    table[row, column] = new
    return table


@pytest.mark.parametrize(
    ("images", "table", "message"),
    [
        (views(70), changed(labels(70), 66, 1, np.nan), "label row 66: gaze yaw is nan"),
        (views(4), changed(labels(4), 2, 3, np.inf), "label row 2: head yaw is inf"),
        (views(4), 20 * labels(4), r"label row 0: gaze .* not within \+-pi/2 rad; .*degrees"),
        (views(4), labels(3), r"Data/label has shape \(3, 16\), expected \(4, 16\)"),
        (views(4), labels(4)[:, :14], r"Data/label has shape \(4, 14\)"),
        (views(4)[:, :1], labels(4), r"Data/data has shape \(4, 1, 112, 112\)"),
        (views(4)[:, :, :50], labels(4), r"expected \(n, 3, S, S\)"),
        (views(4)[:0], labels(4)[:0], r"Data/data has shape \(0, 3"),
        (views(70).astype(np.float32) / 255, labels(70), "row 0 holds 0-1, expected 0-255"),
        (
            np.where(np.arange(70)[:, None, None, None] == 65, np.int16(256), views(70)),
            labels(70),
            "row 65 holds values outside",
        ),
        (np.where(np.arange(4)[:, None, None, None] == 1, np.nan, views(4)), labels(4), "row 1 holds values outside"),
    ],
)
def test_files_that_break_the_layout_are_named(tmp_path, images, table, message):
    write_mat(tmp_path / "raw" / "p00.mat", images, table)
    with pytest.raises(UserError, match=message) as caught:
        build(tmp_path / "raw", tmp_path, ["p00"], "mpiifacegaze")
    assert str(tmp_path / "raw" / "p00.mat") in str(caught.value)
    assert not (tmp_path / "part0.h5").exists()


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "raw" / "p00.mat"
    write_mat(path, views(20), labels(20))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match=r"p00\.mat: is damaged or no HDF5 file") as caught:
        build(tmp_path / "raw", tmp_path, ["p00"], "mpiifacegaze")
    assert "\n" not in str(caught.value)


def test_missing_files_and_data_sets_are_named(tmp_path):
    write_mat(tmp_path / "raw" / "p00.mat", views(2), labels(2))
    with pytest.raises(UserError, match=r"p03\.mat: the subject's file is missing"):
        build(tmp_path / "raw", tmp_path, ["p00", "p03"], "mpiifacegaze")
    with h5py.File(tmp_path / "raw" / "p00.mat", "w") as file:
        file["Data"] = 1
    with pytest.raises(UserError, match=r"p00\.mat: holds no Data/data"):
        build(tmp_path / "raw", tmp_path, ["p00"], "mpiifacegaze")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: holds no files p00\.mat"):
        mpiifacegaze.subjects(tmp_path / "empty")


# Drawn heads through the whole of it


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two drawn Columbia subjects, the second with glasses, in 15 pictures each; and the true samples by file name."""
    from gazepipe.drawn.face.render import render
    from gazepipe.drawn.face.style import lab
    from gazepipe.drawn.face.subject import build_subject
    from gazepipe.drawn.layouts import columbia as drawer

    folder, truth = tmp_path_factory.mktemp("drawn"), {}
    for index in range(2):
        name = drawer.subject_name(index)
        (folder / name).mkdir()
        subject = build_subject(np.random.default_rng(index), glasses=index == 1)
        for pose in drawer.POSES:
            for vertical, horizontal in ((0, 0), (10, 15), (-10, -10)):
                rng = np.random.default_rng([index, pose + 90, vertical + 90])
                sample = drawer.sample_geometry(subject, rng, (648, 432), pose, vertical, horizontal)
                picture = render(subject, sample.view, sample.target, *lab(rng), rng)
                file = drawer.frame_name(name, pose, vertical, horizontal)
                cv2.imwrite(str(folder / name / file), picture)
                truth[file] = (subject, sample.view, columbia_gaze(vertical, horizontal, center(subject, sample.view)))
    return folder, truth


def center(subject, view):
    return view.rotation @ subject.face_centre + view.translation


def test_drawn_faces_are_found_and_their_labels_agree_with_the_analytic_ones(drawn):
    folder, truth = drawn
    errors = []
    for subject in columbia.subjects(folder):
        prepared = columbia.prepare_subject(folder, subject, EYES)
        assert prepared.rejected == []
        for file, target in zip(prepared.frame, prepared.target, strict=True):
            who, view, gaze = truth[file]
            exact = look_at(center(who, view), view.rotation[:, 0]) @ gaze
            errors.append(angular_error_deg(angles_to_vector(target), exact))
            if "_0V_0H" in file:
                assert np.abs(target).max() < 1e-6
    assert len(errors) == 30
    assert np.median(errors) < 0.3
    assert np.max(errors) < 2.0


def test_the_eyes_of_drawn_heads_land_where_the_normalised_view_has_them(drawn):
    """The middle between the drawn eyes, seen through each picture's own warp, against the ideal normalisation."""
    folder, truth = drawn
    patch, camera = patch_camera(EYES), columbia_camera(648, 432)
    shifts = []
    for file, (who, view, _) in truth.items():
        picture = cv2.imread(str(folder / file[:4] / file))
        rotation, middle = faces.head_pose(columbia.find_mesh(picture), camera)
        eyes = who.landmarks[:4].mean(axis=0) @ view.rotation.T + view.translation
        places = []
        for where, across in ((middle, rotation[:, 0]), (center(who, view), view.rotation[:, 0])):
            turned = look_at(where, across) @ eyes * [1, 1, 600 / np.linalg.norm(where)]
            places.append((patch @ turned / turned[2])[:2])
        shifts.append(places[0] - places[1])
    assert np.abs(np.median(shifts, axis=0)).max() < 2.0
    assert np.percentile(np.abs(shifts), 90) < 4.0
