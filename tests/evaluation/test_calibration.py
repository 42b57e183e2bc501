"""Personal calibration: closed forms, a slow reference, the published log, and what it must never do."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_predictions import put_test

from gazepipe.errors import UserError
from gazepipe.evaluation import calibration
from gazepipe.evaluation.calibration import FITS, NO_OTHERS, NONE, SAMPLES, calibrate, format_calibration
from gazepipe.evaluation.metrics import mean_error
from gazepipe.geometry import angles_to_vector, angular_error_deg

ANGLES = ["pitch", "yaw", "pitch_pred", "yaw_pred"]


def file_of(true: np.ndarray, predicted: np.ndarray, samples: bool = True) -> pd.DataFrame:
    """Predictions of subjects s0, s1, ... from angles [subjects, n, 2]."""
    subjects, count = true.shape[:2]
    frame = pd.DataFrame(np.concatenate([true, predicted], axis=-1).reshape(-1, 4), columns=ANGLES)
    frame.insert(0, "subject", np.repeat([f"s{number}" for number in range(subjects)], count))
    if samples:
        frame.insert(0, "sample", [str(number) for number in range(len(frame))])
    return frame


def gaze(subjects: int, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (subjects, count, 2))


def means(found: pd.DataFrame) -> dict[tuple[str, int], float]:
    return found.groupby(["fit", "k"])["error"].mean().to_dict()


@pytest.fixture(scope="module")
def published(shared_data) -> pd.DataFrame:
    log = np.load(shared_data / "mpiifacegaze_predictions" / "resnet_simple_14.npz")
    return file_of(log["gaze"].astype(float), log["prediction"].astype(float))


# -- closed forms ----------------------------------------------------------------------------------------------------


def test_an_offset_is_removed():
    true = gaze(5, 40)
    offsets = np.random.default_rng(1).normal(0, 0.1, (5, 1, 2))
    frame = file_of(true, true - offsets)
    found = calibrate(frame)
    assert means(found)[NONE, 0] == pytest.approx(mean_error(frame), rel=1e-6)
    exact = found[found.fit.isin(["offset", "affine"])]
    assert exact.error.max() < 1e-4
    assert found[found.fit == "shrunk"].error.max() < 1e-2  # as small as its prior allows noise to be


def test_an_affine_distortion_is_removed_from_three_samples_on():
    true = gaze(6, 40)
    random = np.random.default_rng(2)
    slopes, offsets = np.eye(2) + random.normal(0, 0.15, (6, 2, 2)), random.normal(0, 0.1, (6, 1, 2))
    found = calibrate(file_of((true @ slopes) + offsets, true))
    assert found[(found.fit == "affine") & (found.k >= 3)].error.max() < 1e-4
    assert found[(found.fit == "affine") & (found.k < 3)].error.min() > 0.1  # two samples leave slopes open
    assert found[(found.fit == "shrunk") & (found.k >= 5)].error.max() < 0.02
    assert found[(found.fit == "offset")].error.min() > 0.1


def test_predictions_on_a_line_have_no_slopes():
    true = gaze(4, 30)
    predicted = true.copy()
    predicted[..., 1] = 2 * predicted[..., 0] + 0.1
    found = means(calibrate(file_of(true, predicted)))
    assert all(found["affine", k] == found["offset", k] for k in SAMPLES)


def test_the_same_gaze_for_all_samples_of_all_people_has_an_offset_only():
    true = gaze(4, 30) + np.random.default_rng(3).normal(0, 0.1, (4, 1, 2))
    found = means(calibrate(file_of(true, np.full_like(true, 0.02))))
    assert all(found["affine", k] == found["offset", k] for k in SAMPLES)
    assert all(found["shrunk", k] < found[NONE, 0] for k in SAMPLES)


# -- a slow reference ------------------------------------------------------------------------------------------------


def slow_fit(fit: str, predicted: np.ndarray, residual: np.ndarray, prior: dict) -> np.ndarray:
    """Coefficients [3, 2] of one draw, from the formulas of the module's docstring."""
    coefficients = np.zeros((3, 2))
    if fit == "offset" or (fit == "affine" and len(predicted) < 3):
        coefficients[0] = residual.mean(axis=0)
    elif fit == "affine":
        coefficients = np.linalg.lstsq(np.c_[np.ones(len(predicted)), predicted], residual, rcond=None)[0]
    else:
        k = len(predicted)
        share = prior["between"] / (prior["between"] + prior["within"] / k)
        center = (1 - share) * prior["center"] + share * predicted.mean(axis=0)
        design = np.c_[np.ones(k), predicted - center]
        for output in (0, 1):
            spread = prior["spread"][:, output].copy()
            spread[0] += ((1 - share) * prior["between"] * spread[1:]).sum()
            precision = design.T @ design / prior["noise"][output] + np.diag(1 / spread)
            coefficients[:, output] = np.linalg.solve(
                precision, design.T @ residual[:, output] / prior["noise"][output]
            )
        coefficients[0] -= center @ coefficients[1:]
    return coefficients


def slow_prior(true: np.ndarray, predicted: np.ndarray) -> dict:
    """From the other people's angles [m, n, 2]."""
    count, residual, middle = predicted.shape[1], true - predicted, predicted.mean(axis=1)
    squares, squared_errors, left = [], [], np.zeros(2)
    for own, rest in zip(predicted - middle[:, None], residual, strict=True):
        design = np.c_[np.ones(count), own]
        fitted, sums = np.linalg.lstsq(design, rest, rcond=None)[:2]
        squares.append(fitted**2)
        squared_errors.append(np.outer(np.diag(np.linalg.inv(design.T @ design)), sums / (count - 3)))
        left += sums
    spread = np.maximum((np.array(squares) - squared_errors).sum(axis=0), 0) / (len(true) + 2)
    spread[1:] = np.minimum(spread[1:], 1)
    within = predicted.var(axis=1, ddof=1).mean(axis=0)
    return {
        "spread": spread,
        "noise": left / (len(true) * (count - 3)),
        "center": middle.mean(axis=0),
        "within": within,
        "between": np.maximum(middle.var(axis=0, ddof=1) - within / count, 1e-12),
    }


def test_every_number_against_a_slow_reference():
    random = np.random.default_rng(4)
    true = gaze(4, 25)
    predicted = true @ (np.eye(2) + random.normal(0, 0.3, (4, 2, 2))) + random.normal(0, 0.06, (4, 1, 2))
    predicted += random.normal(0, 0.04, true.shape) + random.normal(0, 0.03, (4, 1, 2))
    frame = file_of(true, predicted)
    found = calibrate(frame, seed=7).set_index(["subject", "fit", "k"]).error
    for own, person in enumerate(calibration._people(frame, seed=7)):
        others = [place for place in range(4) if place != own]
        prior = slow_prior(true[others], predicted[others])
        for fit, k in itertools.product(FITS, SAMPLES):
            errors = []
            for draw in person.draws:
                taken, rest = draw[:k], np.setdiff1d(np.arange(25), draw[:k])
                coefficients = slow_fit(fit, predicted[own][taken], (true - predicted)[own][taken], prior)
                corrected = predicted[own] + coefficients[0] + predicted[own] @ coefficients[1:]
                vectors = angles_to_vector(corrected), angles_to_vector(true[own])
                errors.append(angular_error_deg(*vectors)[rest].mean())
            assert found[f"s{own}", fit, k] == pytest.approx(np.mean(errors), rel=2e-4), (fit, k)


# -- the published log -----------------------------------------------------------------------------------------------


def test_the_published_log(published):
    found = means(calibrate(published))
    assert found[NONE, 0] == pytest.approx(4.8243, abs=5e-4)
    known = {1: 4.96, 3: 4.01, 5: 3.87, 9: 3.69}
    assert [found["offset", k] for k in known] == pytest.approx(list(known.values()), abs=0.1)  # other draws
    for k in SAMPLES:
        assert found["shrunk", k] < found[NONE, 0]
        assert found["shrunk", k] < min(found["offset", k], found["affine", k])
    assert found["shrunk", 1] < 4.1
    assert found["shrunk", 9] < 3.6


# -- what it must never do -------------------------------------------------------------------------------------------


def test_nobodys_labels_reach_their_own_prior():
    true = gaze(4, 30)
    predicted = true + np.random.default_rng(5).normal(0, 0.05, true.shape)
    changed = true.copy()
    changed[1] += np.random.default_rng(6).normal(0.2, 0.3, changed[1].shape)
    before, after = (calibration._priors(list(calibration._people(file_of(t, predicted), 0))) for t in (true, changed))
    for field in ("center", "between", "within", "noise", "spread"):
        assert np.array_equal(getattr(before[1], field), getattr(after[1], field))
    assert not np.array_equal(before[0].noise, after[0].noise)


def test_all_networks_are_calibrated_with_the_same_samples():
    true = gaze(3, 30)
    one, two = (file_of(true, true + np.random.default_rng(seed).normal(0, 0.1, true.shape)) for seed in (1, 2))
    shuffled = two.sample(frac=1, random_state=0)
    for a, b, other in zip(*(calibration._people(*of) for of in ((one, 0), (shuffled, 0), (one, 1))), strict=True):
        assert np.array_equal(a.draws, b.draws)
        assert np.array_equal(a.true, b.true)
        assert not np.array_equal(a.draws, other.draws)
        assert all(len(set(draw)) == max(SAMPLES) for draw in a.draws.tolist())


@pytest.mark.parametrize("subjects", [3, 5, 12])
@pytest.mark.parametrize("between", [0.0, 0.01, 0.05])
def test_the_shrunk_fit_is_never_worse_than_none_on_average(subjects, between):
    """Errors of 0.05 rad within a person; offsets and slopes that differ a little, much or not at all."""
    worse = {k: [] for k in SAMPLES}
    for seed in range(30):
        random = np.random.default_rng([seed, subjects])
        true = random.uniform(-0.3, 0.3, (subjects, 40, 2))
        slopes = random.normal(0, 2 * between, (subjects, 1, 2))
        predicted = true * (1 + slopes) + random.normal(0, between, (subjects, 1, 2))
        found = means(calibrate(file_of(true, predicted + random.normal(0, 0.05, true.shape))))
        for k in SAMPLES:
            worse[k].append(found["shrunk", k] / found[NONE, 0] - 1)
    assert max(np.mean(values) for values in worse.values()) < 0.005


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([1, 2, 3, None]),
    named=st.booleans(),
)
def test_any_file_gives_numbers_or_reasons_in_any_order(counts, seed, levels, named):
    random = np.random.default_rng(seed)
    rows = random.uniform(-1, 1, (sum(counts), 4))
    if levels is not None:
        rows = np.round(rows * (levels - 1)) / levels  # few values, many of them equal
    frame = pd.DataFrame(rows, columns=ANGLES)
    frame.insert(0, "subject", np.repeat([f"p{number}" for number in range(len(counts))], counts))
    if named:
        frame.insert(0, "sample", np.arange(len(frame)).astype(str))
    found = calibrate(frame)
    assert len(found) == len(counts) * (1 + len(FITS) * len(SAMPLES))
    assert (found.error.isna() == (found.reason != "")).all()
    assert found.error.dropna().between(0, 180).all()
    size = found.subject.map(frame.subject.value_counts())
    assert found[found.k >= size].error.isna().all()
    assert found[(found.k < size) & (found.fit != "shrunk")].error.notna().all()
    pd.testing.assert_frame_equal(calibrate(frame.sample(frac=1, random_state=seed % 1000)), found)


def test_subjects_with_few_samples_are_named():
    frame = pd.concat([file_of(gaze(3, 20), gaze(3, 20, 1)), file_of(gaze(1, 5), gaze(1, 5, 1)).assign(subject="few")])
    found = calibrate(frame)
    missing = found[found.error.isna()]
    assert set(zip(missing.subject, missing.k, strict=True)) == {("few", 5), ("few", 9), ("few", 16)}
    assert missing.reason.iloc[0] == "subject few has 5 samples; 6 are needed"


def test_two_subjects_have_no_shrunk_fit():
    found = calibrate(file_of(gaze(2, 20), gaze(2, 20, 1)))
    assert set(found.reason[found.fit == "shrunk"]) == {NO_OTHERS}
    assert found.error[found.fit != "shrunk"].notna().all()


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_table_of_a_file(tmp_path):
    frame = pd.concat([file_of(gaze(3, 20), gaze(3, 20, 1)), file_of(gaze(1, 5), gaze(1, 5, 1)).assign(subject="few")])
    frame.to_csv(tmp_path / "p.csv", index=False)
    lines = format_calibration(tmp_path / "p.csv").splitlines()
    assert lines[0].split() == ["fit", "k", "=", "0", *(word for k in SAMPLES for word in ("k", "=", str(k)))]
    assert [line.split()[0] for line in lines[2:6]] == [NONE, *FITS]
    errors = calibrate(frame)
    mean = errors[(errors.fit == "shrunk") & (errors.k == 9)].error.mean()
    assert f"{mean:.2f} [" in lines[5]
    assert "1 of 4 subjects left out: subject few has 5 samples; 17 are needed" in lines
    assert "for these predictions only" in lines[7]


def test_each_test_set_has_a_table(tmp_path):
    frames = {"lab": file_of(gaze(3, 20), gaze(3, 20, 1)), "field": file_of(gaze(4, 20, 2), gaze(4, 20, 3))}
    alone = {}
    for name, frame in frames.items():
        frame.to_csv(tmp_path / "p.csv", index=False)
        alone[name] = format_calibration(tmp_path / "p.csv")
        put_test(tmp_path / "both.csv", name, frame)
    tables = format_calibration(tmp_path / "both.csv").split("\n\n\n")
    assert tables == [f"Tested on {name}:\n\n{text}" for name, text in alone.items()]


def test_points_are_refused(tmp_path):
    (tmp_path / "p.csv").write_text("subject,x,y,x_pred,y_pred\na,0,0,0,0\n")
    with pytest.raises(UserError, match=r"p\.csv: holds points in pixels; personal calibration is of angles"):
        format_calibration(tmp_path / "p.csv")
    with pytest.raises(UserError, match="these predictions are points in pixels"):
        calibrate(pd.DataFrame({"subject": ["a"], "x": [0.0], "y": [0.0], "x_pred": [0.0], "y_pred": [0.0]}))


@pytest.mark.parametrize("name", ["seed", "fold"])
def test_several_trainings_of_a_subject_are_refused(tmp_path, name):
    one = file_of(gaze(3, 20), gaze(3, 20, 1))
    pd.concat([one.assign(**{name: 0}), one.assign(**{name: 1})]).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(UserError, match=rf"p\.csv: column {name}: tells several trainings of one subject"):
        format_calibration(tmp_path / "p.csv")
