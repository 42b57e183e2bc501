"""The user's own images: every form of gaze, with and without normalisation, and every fault of a row by its number."""

import csv
import json

import cv2
import numpy as np
import pytest
from native_layouts import PLAIN, manifest_block, patches, write_manifest
from scipy.spatial.transform import Rotation
from toy_config import toy_config

from gazepipe.config import load as config
from gazepipe.datasets.images import UnusableImage, read_picture
from gazepipe.datasets.layouts import manifest
from gazepipe.datasets.prepare import expected_subjects, merge, write_part
from gazepipe.datasets.store import open_store
from gazepipe.drawn.draw import checked, draw
from gazepipe.drawn.face import laptop
from gazepipe.drawn.layouts import manifest as drawer
from gazepipe.errors import UserError
from gazepipe.geometry import angles_to_vector, angular_error_deg, look_at, rotation_matrix, screen_point

EYES = {"kind": "eyes", "height": 36, "width": 112}
EYE = {"kind": "eye", "height": 36, "width": 60}
DRAWN = {"layout": "manifest", "subjects": 2, "seed": 5, "images": 10, "size": 640}


def face(gaze, **keys):
    screen = {"screen": laptop.SCREEN} if gaze == "screen" else {}
    return manifest_block(normalise="face", gaze=gaze, camera=drawer.camera_block(640), **screen, **keys)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    draw(DRAWN, folder, workers=1)
    return folder


def errors_deg(prepared, index):
    """Angles between the stored labels and the drawn ones, each turned by the drawn head's own R."""
    subject, errors = drawer._subject(index, checked(DRAWN)), []
    for frame, target in zip(prepared.frame, prepared.target, strict=True):
        rng = np.random.default_rng([DRAWN["seed"], drawer.STREAM, index, 1 + int(frame[-7:-4])])
        sample = laptop.sample_geometry(subject, rng, DRAWN["size"])
        centre = sample.view.to_camera(subject.face_centre)
        exact = look_at(centre, sample.view.rotation[:, 0]) @ (sample.target - centre)
        errors.append(angular_error_deg(angles_to_vector(target), exact))
    return errors


@pytest.mark.parametrize("gaze", ["angles", "point", "screen"])
def test_with_given_heads_labels_agree_with_the_analytic_ones_within_a_tenth_of_a_degree(drawn, gaze):
    for index in range(2):
        prepared = manifest.prepare_subject(drawn, f"s{index:02d}", EYES, face(gaze, head="given"))
        assert len(prepared.frame) == 10
        assert max(errors_deg(prepared, index)) < 0.001


def test_with_found_heads_angles_are_good_and_points_feel_the_guessed_depth(drawn):
    """A point is seen from where the face is, which a single picture tells no better than the mean of people's eyes."""
    for gaze, median in (("angles", 0.5), ("point", 1.5), ("screen", 1.5)):
        errors = []
        for index in range(2):
            prepared = manifest.prepare_subject(drawn, f"s{index:02d}", EYES, face(gaze))
            assert prepared.rejected == []
            errors += errors_deg(prepared, index)
        assert np.median(errors) < median


def test_the_given_head_shows_the_patch_that_the_found_one_shows(drawn):
    found, given = (manifest.prepare_subject(drawn, "s00", EYES, face("angles", head=head)) for head in HEADS)
    correlations = [
        np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1]
        for a, b in zip(found.image, given.image, strict=True)
    ]
    assert np.median(correlations) > 0.8
    assert np.degrees(np.abs(found.head_pose - given.head_pose)).mean() < 8


HEADS = ("found", "given")


def test_native_to_store(drawn, tmp_path):
    options = {"manifest": face("screen")}
    names = expected_subjects(drawn, "manifest", 2, options)
    write_part(drawn, "manifest", EYES, names, 0, 1, tmp_path / "part.h5", options)
    merge([tmp_path / "part.h5"], tmp_path / "s.h5", tmp_path / "r.csv", {"dataset": "own"}, 0.0)
    store = open_store(tmp_path / "s.h5")
    assert store.image.shape == (20, 1, 36, 112)
    assert set(store.subject) == {"s00", "s01"}
    assert store.frame[0] == "images/s00/000.jpg"
    native = manifest.native_image(drawn, "s00", store.frame[0], **options)
    assert native.shape == (480, 640, 3)


def test_screen_points_follow_the_screen_s_pose():
    screen = {**laptop.SCREEN, "origin": (100.0, 20.0, -5.0)}
    assert screen_point([0, 0], screen) == pytest.approx([100, 20, -5])
    # As the user sees it, to the right is the camera's -x.
    assert screen_point([1920, 0], screen) == pytest.approx([100 - 344, 20, -5])
    assert screen_point([960, 1080], screen) == pytest.approx([100 - 172, 20 + 194, -5])
    vector = np.array([0.3, 2.9, -0.2])
    assert rotation_matrix(vector) == pytest.approx(Rotation.from_rotvec(vector).as_matrix())
    assert np.array_equal(rotation_matrix(np.zeros(3)), np.eye(3))
    corner = screen_point([[0, 0], [1920, 0]], {**screen, "rotation": tuple(vector)})
    assert corner[1] - corner[0] == pytest.approx(344 * Rotation.from_rotvec(vector).as_matrix()[:, 0])


# The user's patches


def test_images_taken_as_patches_are_kept_as_they_are(tmp_path):
    write_manifest(tmp_path, patches(tmp_path))
    prepared = manifest.prepare_subject(tmp_path, "anna", EYE, manifest_block(**PLAIN))
    assert prepared.frame == ["0.png", "1.png", "2.png", "3.png"]
    assert np.array_equal(prepared.image[2, 0], cv2.imread(str(tmp_path / "2.png"), cv2.IMREAD_GRAYSCALE))
    assert prepared.target == pytest.approx(np.array([[0, 0], [0.1, -0.1], [0.2, -0.2], [0.3, -0.3]]))
    assert not prepared.head_pose.any()
    smaller = manifest.prepare_subject(
        tmp_path, "anna", {"kind": "eye", "height": 18, "width": 30}, manifest_block(**PLAIN)
    )
    assert smaller.image.shape == (4, 1, 18, 30)
    assert manifest.subjects(tmp_path, manifest_block(**PLAIN)) == ["anna"]


def test_degrees_are_turned_into_radians_and_jsonl_is_read(tmp_path):
    patches(tmp_path)
    rows = [{"image": "1.png", "subject": "b", "pitch": -10, "yaw": 45.5, "more": [1]}, {"image": "0.png"}]
    rows[1] |= {"subject": "b", "pitch": 0, "yaw": 1e0}
    (tmp_path / "l.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    own = manifest_block(file="l.jsonl", units="degrees", **PLAIN)
    prepared = manifest.prepare_subject(tmp_path, "b", EYE, own)
    assert prepared.frame == ["0.png", "1.png"]
    assert np.degrees(prepared.target) == pytest.approx(np.array([[0, 1], [-10, 45.5]]), rel=1e-6)


def test_a_spreadsheet_s_own_habits_are_read(tmp_path):
    """A byte order mark, carriage returns, quotes, blanks in the header, more columns."""
    patches(tmp_path)
    text = '\ufeffimage, subject ,"pitch",yaw,note\r\n"0.png",anna,0.1,0.2,"a, ""b"""\r\n\r\n1.png,anna,0,0,\r\n'
    (tmp_path / "labels.csv").write_bytes(text.encode())
    assert [row.number for row in manifest.read_rows(tmp_path, manifest_block(**PLAIN))] == [2, 4]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1.png,anna,oops,0", "row 3: pitch is 'oops', not a number"),
        ("1.png,anna,0,nan", "row 3: yaw is 'nan', not a number"),
        ("1.png,anna,0,inf", "row 3: yaw is 'inf'"),
        ("1.png,anna,,0", "row 3: has no pitch"),
        ("1.png,anna,0", "row 3: has 3 cells, expected 4"),
        ("1.png,anna,12.5,0", r"row 3: pitch is 12.5, not within \+-1.571 radians; .*units: degrees"),
        ("0.png,anna,0,0", r"row 3: image '0\.png' is that of row 2 again"),
        ("./0.png,anna,0,0", "is that of row 2 again"),
        ("../1.png,anna,0,0", r"row 3: image '../1.png' lies outside"),
        ("/etc/1.png,anna,0,0", "row 3: image '/etc/1.png' lies outside"),
        (",anna,0,0", "row 3: has no image"),
        ("1.png,,0,0", "row 3: has no subject"),
        ("1.png,a/b,0,0", "row 3: subject 'a/b' is no name"),
        ('1.png,"anna,0,0', "row 3: is not CSV"),
    ],
)
def test_faults_are_reported_with_their_row(tmp_path, row, message):
    write_manifest(tmp_path, ["0.png,anna,0,0", row])
    with pytest.raises(UserError, match=message) as caught:
        manifest.subjects(tmp_path, manifest_block(**PLAIN))
    assert str(tmp_path / "labels.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_faults_are_counted(tmp_path):
    write_manifest(tmp_path, ["0.png,anna,20,0", "1.png,anna,0,0", "2.png,anna,0,40", "2.png,anna,0,0"])
    with pytest.raises(UserError, match=r"row 2: pitch is 20.*\(1 more such rows\)"):
        manifest.read_rows(tmp_path, manifest_block(**PLAIN))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'image'"),
        ("image,subject,pitch,yaw\n", "holds no rows"),
        ("image,subject,pitch\n1.png,a,0\n", "has no column 'yaw'; give it once"),
        ("image,subject,pitch,yaw,yaw\n", "has 2 times a column 'yaw'"),
        ("image;subject;pitch;yaw\n", "has no column 'image'"),
    ],
)
def test_files_that_are_no_manifest(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        manifest.read_rows(tmp_path, manifest_block(**PLAIN))


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(UserError, match=r"labels\.csv: cannot be read .*correct `file`"):
        manifest.read_rows(tmp_path, manifest_block(**PLAIN))
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        manifest.read_rows(tmp_path, manifest_block(**PLAIN))
    (tmp_path / "labels.txt").write_text("x")
    with pytest.raises(UserError, match=r"neither \.csv nor \.jsonl"):
        manifest.read_rows(tmp_path, manifest_block(file="labels.txt", **PLAIN))
    (tmp_path / "l.jsonl").write_text('{"image": "a.png"}\n[1]\n')
    with pytest.raises(UserError, match=r"row 1: has no subject.*1 more"):
        manifest.read_rows(tmp_path, manifest_block(file="l.jsonl", **PLAIN))
    write_manifest(tmp_path, patches(tmp_path))
    with pytest.raises(UserError, match="has no row of subject bert"):
        manifest.prepare_subject(tmp_path, "bert", EYE, manifest_block(**PLAIN))


@pytest.mark.parametrize("value", [True, [1], {"a": 1}, 10**400, "1e999", None])
def test_values_of_other_kinds_in_jsonl(tmp_path, value):
    row = {"image": "a.png", "subject": "b", "pitch": value, "yaw": 0}
    (tmp_path / "l.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=r"row 1: (pitch is|has no pitch)"):
        manifest.read_rows(tmp_path, manifest_block(file="l.jsonl", **PLAIN))


@pytest.mark.parametrize(
    ("gaze", "cells", "message"),
    [
        ("screen", "1921,5", r"screen_x is 1921, outside of the screen's 0-1920 px"),
        ("screen", "5,-1", "screen_y is -1, outside"),
        ("point", "1,2,30000", "z is 30000, more than 20 m away; give mm"),
    ],
)
def test_points_out_of_range(tmp_path, gaze, cells, message):
    write_manifest(tmp_path, [f"1.png,anna,{cells}"], ",".join(["image", "subject", *manifest.COLUMNS[gaze]]))
    with pytest.raises(UserError, match=f"row 2: {message}"):
        manifest.read_rows(tmp_path, face(gaze))


def test_images_that_cannot_be_used_are_rejected_by_row(tmp_path):
    rows = patches(tmp_path, 8)
    (tmp_path / "1.png").unlink()
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((36, 60), np.uint16))
    cv2.imwrite(str(tmp_path / "3.png"), np.zeros((36, 61), np.uint8))
    (tmp_path / "4.png").write_bytes((tmp_path / "5.png").read_bytes()[:300])
    (tmp_path / "5.png").write_bytes(b"")
    (tmp_path / "6.png").write_text("no picture, but long enough to hold a header of one")
    write_manifest(tmp_path, rows)
    prepared = manifest.prepare_subject(tmp_path, "anna", EYE, manifest_block(**PLAIN))
    assert prepared.frame == ["0.png", "7.png"]
    reasons = dict(prepared.rejected)
    for name, reason in [
        ("1.png", "row 3: cannot be read (No such file"),
        ("2.png", "row 4: has 16 bits per channel"),
        ("3.png", "row 5: is 61x36 px, expected 60x36"),
        ("4.png", "row 6: cut short"),
        ("5.png", "row 7: empty file"),
        ("6.png", "row 8: neither JPEG nor PNG"),
    ]:
        assert reason in reasons[name]


def test_pictures_of_another_size_than_the_camera_s_and_without_a_face_are_rejected(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((480, 640, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "b.jpg"), np.zeros((240, 320, 3), np.uint8))
    write_manifest(tmp_path, ["a.jpg,anna,0,0", "b.jpg,anna,0,0"])
    prepared = manifest.prepare_subject(tmp_path, "anna", EYES, face("angles"))
    assert [reason for _, reason in prepared.rejected] == [
        "row 2: no face found",
        "row 3: is 320x240 px, expected 640x480",
    ]


def test_gaze_away_from_the_camera_is_rejected(tmp_path, drawn):
    """Behind the head, or behind the camera's subject: no angle of the normalised view."""
    with open(drawn / "labels.csv", newline="") as file:
        row = next(csv.DictReader(file))
    row |= {"x": 0, "y": 0, "z": 5000}
    write_manifest(tmp_path, [",".join(map(str, row.values()))], ",".join(row))
    (tmp_path / "images").symlink_to(drawn / "images")
    prepared = manifest.prepare_subject(tmp_path, "s00", EYES, face("point", head="given"))
    assert "row 2: gaze or face point away" in prepared.rejected[0][1]


def test_giant_pictures_are_refused_before_memory_is_claimed(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4), np.uint8))
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UnusableImage, match="claims 60000 x 60000 pixels"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "normalise"),
        ({"normalise": "face"}, "'camera' goes with"),
        ({"normalise": "none", "camera": drawer.camera_block(64)}, "'camera' goes with"),
        ({"normalise": "none", "gaze": "point"}, "needs 'normalise: face'"),
        ({"normalise": "none", "gaze": "screen"}, "'screen' goes with"),
        ({"normalise": "none", "head": "given"}, "'head: given' goes with"),
    ],
)
def test_blocks_that_contradict_themselves(keys, message):
    raw = toy_config()
    raw["datasets"]["own"] = {
        "layout": "manifest",
        "subjects": 3,
        "source": {"path": "own"},
        "split": {"protocol": "k-fold", "folds": 3},
        "manifest": keys,
    }
    with pytest.raises(UserError, match=message):
        config.load(raw)


def test_a_jpeg_whose_damaged_header_claims_too_much_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((16, 16, 3), np.uint8))
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (400).to_bytes(2, "big") + (40_000).to_bytes(2, "big")
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(UnusableImage, match="claims 40000 x 400 pixels"):
        read_picture(tmp_path / "a.jpg")
