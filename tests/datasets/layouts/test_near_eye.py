"""The reader of the near-eye layout: what it makes of a folder, its corrections, and one line for each defect."""

import cv2
import numpy as np
import pytest
from native_layouts import write_recording

from gazepipe.datasets import overview, prepare
from gazepipe.datasets.layouts import near_eye
from gazepipe.datasets.store import open_store
from gazepipe.errors import UserError

PATCH = {"kind": "near-eye", "height": 24, "width": 30}


@pytest.fixture
def raw(tmp_path):
    """Three subjects, one a role."""
    for number, role in enumerate(("train", "val", "test"), 1):
        points = [(10.5 + row, 20 - number) for row in range(12)]
        write_recording(tmp_path / "raw" / role / str(number) / "IMG1", points, seed=number)
    return tmp_path / "raw"


def test_subjects_rows_and_views_in_order(tmp_path, raw):
    images = write_recording(tmp_path / "raw" / "train" / "11" / "IMG1", [(1.25, 2), (3, -4.5), (64, 48)], seed=9)
    assert near_eye.subjects(raw) == ["test-03", "train-01", "train-11", "val-02"]
    prepared = near_eye.prepare_subject(raw, "train-11", PATCH)
    assert np.array_equal(prepared.image, images)
    assert prepared.image.dtype == np.uint8
    assert prepared.target.tolist() == [[1.25, 2], [3, -4.5], [64, 48]]
    assert prepared.frame == ["0001", "0002", "0003"]
    assert prepared.target_scale == (64, 64)
    assert not prepared.head_pose.any()
    assert prepared.rejected == []


def test_row_10_is_not_row_2(raw):
    assert near_eye.prepare_subject(raw, "val-02", PATCH).target[:, 0].tolist() == [10.5 + row for row in range(12)]


def test_archives_own_folders_capitals_spaces_and_other_columns(tmp_path):
    place = tmp_path / "NearEye-1.0" / "data" / "Train" / "07" / "img1"
    images = write_recording(
        place, [("a", " 2 ", "1"), ("b", "4", "3")], header=["time", " cornerxy[1] ", " cornerxy[0]"]
    )
    (place / "Learn.csv").rename(place / "learn.csv")
    (tmp_path / "NearEye-1.0" / "data" / "Train" / "notes").mkdir()
    assert near_eye.subjects(tmp_path) == ["train-07"]
    prepared = near_eye.prepare_subject(tmp_path, "train-07", PATCH)
    assert prepared.target.tolist() == [[1, 2], [3, 4]]
    assert np.array_equal(prepared.image, images)


def test_images_are_resized_by_area_or_taken_from_their_copies(tmp_path):
    place = tmp_path / "train" / "1" / "IMG1"
    images = write_recording(place, [(1, 1)], size=(48, 60))
    halved = images.reshape(1, 4, 24, 2, 30, 2).mean(axis=(3, 5))
    assert np.abs(near_eye.prepare_subject(tmp_path, "train-01", PATCH).image - halved).max() <= 0.5
    copy = np.full((256, 256), 77, np.uint8)
    cv2.imwrite(str(place / "1_3_256.png"), copy)
    square = {"kind": "near-eye", "height": 256, "width": 256}
    prepared = near_eye.prepare_subject(tmp_path, "train-01", square).image[0]
    assert (prepared[2] == 77).all()
    assert np.array_equal(prepared[0], cv2.resize(images[0, 0], (256, 256), interpolation=cv2.INTER_LINEAR))
    assert not (near_eye.prepare_subject(tmp_path, "train-01", PATCH).image[0, 2] == 77).all()


def test_colour_images_become_gray(tmp_path):
    place = tmp_path / "train" / "1" / "IMG1"
    write_recording(place, [(1, 1)])
    colour = np.full((24, 30, 3), (200, 100, 50), np.uint8)
    cv2.imwrite(str(place / "1_0.png"), colour)
    gray = near_eye.prepare_subject(tmp_path, "train-01", PATCH).image[0, 0]
    assert np.unique(gray) == round(0.114 * 200 + 0.587 * 100 + 0.299 * 50)


def test_corrections_have_their_closed_forms(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert near_eye.gamma_corrected(values, 2.0).ravel() == pytest.approx(255 * np.sqrt(np.arange(256) / 255), abs=0.5)
    # A constant image v is brought to one half: v^(1/gamma) = 1/2.
    for level in (30, 200, 250):
        corrected = near_eye.intensity_corrected(np.full((8, 8), level, np.uint8))
        reachable = level > 5 and near_eye.GAMMAS[0] < np.log(level / 255) / np.log(0.5) < near_eye.GAMMAS[1]
        assert (abs(corrected[0, 0] - 127.5) <= 1) == reachable
    dim = np.random.default_rng(0).integers(0, 90, (40, 40)).astype(np.uint8)
    assert near_eye.intensity_corrected(dim).mean() / 255 == pytest.approx(0.5, abs=0.01)
    black = np.zeros((4, 4), np.uint8)
    assert not near_eye.intensity_corrected(black).any()


def test_options_apply_in_order(tmp_path):
    images = write_recording(tmp_path / "val" / "1" / "IMG1", [(1, 1)])
    read = near_eye.prepare_subject
    options = {"intensity_correction": True, "gamma": 0.5, "equalise": True}
    expected = cv2.equalizeHist(near_eye.gamma_corrected(near_eye.intensity_corrected(images[0, 1]), 0.5))
    assert np.array_equal(read(tmp_path, "val-01", PATCH, **options).image[0, 1], expected)
    assert near_eye.subjects(tmp_path, **options) == ["val-01"]
    assert np.array_equal(near_eye.native_image(tmp_path, "val-01", "0001", **options)[0, 0, 0], images[0, 0, 0, 0])


def test_the_checksum_follows_pictures_and_points(raw):
    def checksum():
        return near_eye.prepare_subject(raw, "train-01", PATCH).checksum

    place = raw / "train" / "1" / "IMG1"
    first = checksum()
    assert checksum() == first
    cv2.imwrite(str(place / "4_1.png"), np.zeros((24, 30), np.uint8))
    second = checksum()
    (place / "Learn.csv").write_text((place / "Learn.csv").read_text().replace("10.5", "10.6"))
    assert len({first, second, checksum()}) == 3


def test_the_store_and_the_sheet(raw, tmp_path):
    names = prepare.expected_subjects(raw, "near-eye", 3, {"gamma": 1.0})
    parts = [tmp_path / f"{part}.h5" for part in range(2)]
    for part, path in enumerate(parts):
        prepare.prepare_part(raw, "near-eye", PATCH, names, part, 2, path, {"gamma": 1.0})
    prepare.merge(parts, tmp_path / "s.h5", tmp_path / "r.csv", {"dataset": "near"}, 0.0)
    store = open_store(tmp_path / "s.h5")
    assert store.image.shape == (36, 4, 24, 30)
    assert store.attrs["units"] == "px"
    assert store.attrs["task"] == "gaze point"
    assert list(store.attrs["target_scale"]) == [64, 64]
    block = {"dataset": "near", "layout": "near-eye", "options": {"gamma": 1.0}}
    overview.write_overview(block, raw, tmp_path / "s.h5", tmp_path / "s.png")
    assert cv2.imread(str(tmp_path / "s.png")).shape[1] > 1000


def delete(name):
    return lambda place: (place / name).unlink()


def table(text):
    return lambda place: (place / "Learn.csv").write_text(text)


def picture(name, data):
    return lambda place: (place / name).write_bytes(data)


def image(name, array):
    return lambda place: cv2.imwrite(str(place / name), array)


ROWS = "cornerxy[0],cornerxy[1]\n" + "1,2\n" * 12
EYE = np.zeros((24, 30), np.uint8)
WHOLE = cv2.imencode(".png", EYE)[1].tobytes()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (delete("5_3.png"), r"5_3\.png: row 5: the picture is missing; add it"),
        (delete("7_2.png"), r"7_2\.png: row 7: the scene frame cannot be read \(No such file or directory\); add it"),
        (delete("Learn.csv"), r"Learn\.csv: cannot be read"),
        (table(ROWS[:-4]), r"Learn\.csv: ends at row 11, but there are pictures of row 12; add the missing rows"),
        (table(ROWS + "1,2\n"), r"13_2\.png: row 13: the scene frame cannot be read"),
        (
            table(ROWS.replace("cornerxy[1]", "corner_y")),
            r"columns are \['cornerxy\[0\]', 'corner_y'\], expected cornerxy\[1\]",
        ),
        (table("cornerxy[0],cornerxy[0],cornerxy[1]\n1,1,2\n"), r"expected cornerxy\[0\] once"),
        (table(""), r"its columns are \[\]"),
        (table("cornerxy[0],cornerxy[1]\n"), r"Learn\.csv: holds no rows"),
        (table(ROWS.replace("1,2\n", "1,two\n", 1)), r"Learn\.csv row 1: cornerxy is 'two', which is no number"),
        (table(ROWS[:-4] + "1\n"), r"Learn\.csv row 12: cornerxy is '', which is no number"),
        (table(ROWS[:-4] + "nan,2\n"), r"Learn\.csv row 12: cornerxy is 'nan'"),
        (table(ROWS[:-4] + "1,97\n"), r"Learn\.csv row 12: the gaze point \(1, 97\) is far outside .* 64 x 48 px"),
        (table(ROWS[:-4] + "-65,2\n"), r"row 12: the gaze point \(-65, 2\) is far outside"),
        (picture("Learn.csv", b"\xff\xfe\x00"), r"Learn\.csv: is no CSV text"),
        (picture("3_0.png", b""), r"3_0\.png: row 3: the picture empty file"),
        (picture("3_0.png", b"GIF89a" + bytes(40)), r"3_0\.png: row 3: the picture neither JPEG nor PNG"),
        (picture("3_0.png", WHOLE[:-20]), r"3_0\.png: row 3: the picture cut short"),
        (picture("3_2.png", b"BM" + bytes(40)), r"3_2\.png: row 3: the scene frame is no PNG file"),
        (image("3_0.png", EYE.astype(np.uint16)), r"3_0\.png: row 3: the picture has 16 bits per channel; convert"),
        (image("3_2.png", EYE), r"3_2\.png: row 3: the scene frame is 30 x 24 px, the first 64 x 48"),
    ],
)
def test_each_defect_is_named_in_one_line(raw, harm, message):
    harm(raw / "train" / "1" / "IMG1")
    with pytest.raises(UserError, match=message) as caught:
        near_eye.prepare_subject(raw, "train-01", PATCH)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


def test_defects_of_the_folder_are_named(raw, tmp_path):
    with pytest.raises(UserError, match="holds no subject train-09; add its folder train/09"):
        near_eye.prepare_subject(raw, "train-09", PATCH)
    write_recording(raw / "test" / "01" / "IMG1", [(1, 1)])
    with pytest.raises(UserError, match=r"subject 1 is in .*test.*; leave it in one role|subject 1 is in .*train"):
        near_eye.subjects(raw)
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no folders train/1"):
        near_eye.subjects(tmp_path / "empty")
    (tmp_path / "empty" / "train" / "4").mkdir()
    with pytest.raises(UserError, match="IMG1: is missing"):
        near_eye.subjects(tmp_path / "empty")
    with pytest.raises(UserError, match="is not a folder"):
        near_eye.subjects(tmp_path / "nowhere")


def test_points_a_little_outside_the_scene_are_kept(tmp_path):
    write_recording(tmp_path / "train" / "1" / "IMG1", [(-63, -47), (127, 95)])
    assert near_eye.prepare_subject(tmp_path, "train-01", PATCH).target.tolist() == [[-63, -47], [127, 95]]
