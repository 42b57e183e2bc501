"""Angular errors against published numbers and closed forms; each bad prediction file; the contact sheet."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gazepipe.datasets.sheet import CELL_WIDTH, MARGIN, TITLE_HEIGHT, contact_sheet
from gazepipe.errors import UserError
from gazepipe.evaluation.inference import ONE_SUBJECT
from gazepipe.evaluation.metrics import (
    mean_error,
    per_subject_errors,
    read_predictions,
    sample_errors,
    units_of,
)
from gazepipe.evaluation.trainings import format_trainings

SHARED = Path(__file__).resolve().parents[3] / "shared"
COLUMNS = ["subject", "pitch", "yaw", "pitch_pred", "yaw_pred"]


def predictions(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture
def published_csv(tmp_path) -> Path:
    """A published leave-one-subject-out run on MPIIFaceGaze as a prediction file."""
    log = SHARED / "data" / "mpiifacegaze_predictions" / "resnet_simple_14.npz"
    if not log.is_file():
        pytest.skip(f"the published log {log.name} is not here")
    arrays = np.load(log)
    true, predicted = arrays["gaze"].reshape(-1, 2), arrays["prediction"].reshape(-1, 2)
    frame = pd.DataFrame(np.hstack([true, predicted]), columns=COLUMNS[1:])
    frame.insert(0, "subject", np.repeat([f"p{number:02d}" for number in range(15)], 3000))
    frame.to_csv(tmp_path / "published.csv", index=False, float_format="%.6f")
    return tmp_path / "published.csv"


def test_published_log(published_csv):
    frame = read_predictions(published_csv)
    errors = per_subject_errors(frame)
    assert mean_error(frame) == pytest.approx(4.8243, abs=5e-5)
    assert errors.min() == pytest.approx(2.111, abs=5e-4)
    assert errors.max() == pytest.approx(7.144, abs=5e-4)
    assert list(errors.index) == [f"p{number:02d}" for number in range(15)]
    table = format_trainings([published_csv]).splitlines()
    assert len(table) == 1 + 1 + 15 + 1 + 1 + 2
    assert table[-3].split() == ["mean", "45000", "4.8243"]
    low, high = stats.t.interval(0.95, 14, errors.mean(), stats.sem(errors))
    said = f"95 % interval of the mean over 15 subjects: {low:.4f} to {high:.4f}; for these predictions only"
    assert table[-2:] == ["", said]
    assert table[2].split() == ["p00", "3000", "2.1107"]


def test_closed_forms():
    quarter = np.pi / 4
    frame = predictions(
        ("a", 0, 0, 0, 0),
        ("a", 0, 0.1, 0, -0.2),  # on the equator yaws subtract
        ("a", 0.3, 1.0, -0.2, 1.0),  # on a meridian pitches subtract
        ("a", quarter, 0, quarter, np.pi / 2),  # cos = sin^2 of the pitch = 1/2
        ("a", 0, 0, 0, np.pi),
        ("a", 0, 1e-8, 0, 0),  # where acos would return 0
    )
    expected = [0, np.degrees(0.3), np.degrees(0.5), 60, 180, np.degrees(1e-8)]
    np.testing.assert_allclose(sample_errors(frame), expected, rtol=1e-9, atol=1e-13)


angle = st.floats(-1.5, 1.5)


@settings(deadline=None)
@given(st.tuples(angle, angle), st.tuples(angle, angle))
def test_error_is_symmetric_and_blind_to_a_mirror(true, predicted):
    (p, y), (q, z) = true, predicted
    frame = predictions(("a", p, y, q, z), ("a", q, z, p, y), ("a", p, -y, q, -z))
    error, swapped, mirrored = sample_errors(frame)
    assert error == pytest.approx(swapped, abs=1e-9) == pytest.approx(mirrored, abs=1e-9)
    assert abs(np.degrees(p - q)) - 1e-9 <= error <= 180


POINTS = "subject,x,y,x_pred,y_pred\n"


def test_points_in_pixels(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(POINTS + "test-11,100,200,103,204\ntest-2,0,0,-5,12\ntest-2,1e3,0,1000,1\n")
    frame = read_predictions(path)
    assert units_of(frame) == "px"
    assert sample_errors(frame).tolist() == [5, 13, 1]
    assert sample_errors(frame).name == "error_px"
    assert per_subject_errors(frame).to_dict() == {"test-2": 7, "test-11": 5}
    assert mean_error(frame) == 6
    lines = format_trainings([path]).splitlines()
    assert lines[0].split() == ["subject", "samples", "error_px"]
    path.write_text(POINTS + "test-11,100,200,103,204\n")
    assert format_trainings([path]).splitlines()[-1] == f"no interval of the mean: {ONE_SUBJECT}"


def test_angles_are_in_degrees_whatever_columns_are_beside():
    frame = predictions(("a", 0, 0, 0, 0)).assign(x=1, y=2, x_pred=3, y_pred=4)
    assert units_of(frame) == "rad"
    assert sample_errors(frame).name == "error_deg"


def test_every_subject_counts_alike():
    frame = predictions(
        *[("p10", 0, 0, 0, np.radians(1))] * 9, ("p2", 0, 0, 0, np.radians(2)), ("p2", 0, 0, 0, np.radians(4))
    )
    assert per_subject_errors(frame).to_dict() == pytest.approx({"p2": 3.0, "p10": 1.0})
    assert list(per_subject_errors(frame).index) == ["p2", "p10"]
    assert mean_error(frame) == pytest.approx(2.0)


def test_subjects_stay_text_and_other_columns_stay(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sample,subject,frame,pitch,yaw,pitch_pred,yaw_pred\n0,0001,NA,0,0,0,0\n1,0001,x,0,0,-1e-3,0\n")
    frame = read_predictions(path)
    assert frame["subject"].tolist() == ["0001", "0001"]
    assert frame["frame"].tolist() == ["NA", "x"]
    assert frame["pitch_pred"].tolist() == [0, -1e-3]


HEAD = ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no CSV"),
        (HEAD, "no rows"),
        ("subject,pitch,yaw\n1,0,0\n", "no column pitch_pred, yaw_pred; found subject, pitch, yaw"),
        (HEAD + "a,0,0,0,0\na,0,nan,0,0\n", "line 3: yaw is 'nan'"),
        (HEAD + "a,0,0,0,inf\n", "line 2: yaw_pred is 'inf'"),
        (HEAD + "a,0,0,,0\n", "line 2: pitch_pred is ''"),
        (HEAD + "a,0,left,0,0\n", "line 2: yaw is 'left'"),
        (HEAD + "a,0,0,0,0\na,0,0,0,-12.5\n", "line 3: yaw_pred is -12.5, beyond pi; angles are in radians"),
        (HEAD + "a,0,0,0,0\n ,0,0,0,0\n", "line 3: subject is empty"),
        (HEAD + "a,0,0,0,0\na,0,0\n", "line 3: pitch_pred"),
        ("sample," + HEAD + "0,a,0,0,0,0\n0,b,0,0,0,0\n0,a,0,0,0,0\n", "line 4: sample 0 is predicted twice"),
        (HEAD + "a,0,0,0,0,7\n", "is no CSV"),
        (HEAD + "a,0,0,0,0\na,0,0,0,0,7\n", "is no CSV"),
        (
            HEAD.strip() + ",head_pitch,head_yaw\na,0,0,0,0,x,0\n",
            "line 2: head_pitch is 'x'; every angle is a finite number",
        ),
        (HEAD.strip() + ",head_pitch,head_yaw\na,0,0,0,0,,9\n", "line 2: head_yaw is 9, beyond pi"),
        (POINTS + "a,0,0,0,inf\n", "line 2: y_pred is 'inf'; every coordinate is a finite number"),
        ("test," + HEAD + "A,a,0,0,0,0\n,a,0,0,0,0\n", "line 3: test is empty; name the test set of every row"),
        ("test," + HEAD + "A,a,0,0,0,0\nB,a,0,0,0,0\nA,b,0,0,0,0\n", "line 4: test is A again; put the rows of a"),
        ("test,sample," + HEAD + "A,0,a,0,0,0,0\nB,0,a,0,0,0,0\nB,0,a,0,0,0,0\n", "line 4: sample 0 is predicted"),
        ("test," + HEAD, "no rows"),
        ("subject,x,y\na,0,0\n", "no column x_pred, y_pred; found subject, x, y"),
    ],
)
def test_bad_prediction_files(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        format_trainings([path])
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_unreadable_prediction_files(tmp_path):
    with pytest.raises(UserError, match=r"absent\.csv: cannot be read \(No such file"):
        read_predictions(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_predictions(tmp_path)
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(UserError, match=r"binary\.csv: is no CSV"):
        read_predictions(tmp_path / "binary.csv")


# -- contact sheets --------------------------------------------------------------------------------------------------


def arrow_pixels(path: Path) -> np.ndarray:
    """Mean (x, y) of the pixels in the arrow's colour, relative to the middle of the only native image."""
    image = cv2.imread(str(path)).astype(int)
    marked = np.abs(image - (0, 190, 255)).max(axis=2) < 40
    y, x = np.nonzero(marked)
    return np.array([x.mean() - MARGIN - CELL_WIDTH / 2, y.mean() - TITLE_HEIGHT - CELL_WIDTH / 2])


@pytest.mark.parametrize(
    ("target", "sign"),
    [((0.3, 0), (0, -1)), ((-0.3, 0), (0, 1)), ((0, 0.3), (-1, 0)), ((0, -0.3), (1, 0)), ((0, 0), (0, 0))],
)
def test_arrow_points_where_the_gaze_goes(tmp_path, target, sign):
    out = tmp_path / "sheet.png"
    patch = np.full((1, 1, 36, 112), 90, np.uint8)
    contact_sheet([np.full((50, 50, 3), 60, np.uint8)], patch, np.array([target]), out, "one", ["p00"])
    offset = arrow_pixels(out)
    assert np.array_equal(np.where(np.abs(offset) > 10, np.sign(offset), 0), sign)


def test_sheet_is_the_same_to_the_byte_and_takes_mixed_sizes(tmp_path):
    rng = np.random.default_rng(0)
    native = [rng.integers(0, 255, (60 + index, 90, 3), np.uint8) for index in range(8)]
    patches = rng.integers(0, 255, (8, 36, 112), np.uint8)
    targets = rng.normal(0, 0.2, (8, 2))
    origins = np.full((8, 2), 30.0)
    for name in ("a.png", "b.png"):
        contact_sheet(native, patches, targets, tmp_path / name, "eight", [f"{n:04d}" for n in range(8)], origins)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] > 6 * 320
