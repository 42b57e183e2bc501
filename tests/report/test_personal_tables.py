"""The tables calibration, by_gaze and by_pose, and their figures, from predictions whose errors are known."""

import numpy as np
import pandas as pd
import pytest
from toy_config import toy_config
from toy_predictions import put_test
from toy_results import Run, row, write_profile

from gazepipe.dag.stage import Job
from gazepipe.evaluation.calibration import FITS, NONE, SAMPLES, calibrate
from gazepipe.evaluation.inference import ONE_SEED, compare, holm, mean_interval
from gazepipe.evaluation.metrics import read_tests
from gazepipe.evaluation.results import Results
from gazepipe.report import calibration as personal
from gazepipe.report import conditions

COLUMBIA, MPII = "columbia-drawn", "mpiifacegaze-drawn"
GAZE = [(pitch, yaw) for pitch in (-12.0, 2.0, 7.0) for yaw in (-13.0, -3.0, 3.0, 5.0, 13.0, 22.0)]
"""Of every subject, in degrees."""
HEAD = [(0.0, yaw) for yaw in (-15.0, 0.5, 15.0)] * 6


def write_predictions(path, wildcards, head=True, few=None):
    """Two subjects a fold in the own data set, four across; each has an offset, and noise that changes with the seed.

    The first sample of all is off by 1 degree in pitch more for each 5 degrees of yaw to the left.
    """
    fold, test, seed = int(wildcards["fold"]), wildcards["test"], int(wildcards["seed"])
    own = wildcards["dataset"] == test
    numbers = range(2 * fold, 2 * fold + 2) if own else range(4)
    rows = []
    for number in numbers:
        random = np.random.default_rng([number, seed, len(wildcards.get("method", ""))])
        offset = np.random.default_rng(number).normal(0, 6, 2)
        gaze = np.array(GAZE)[: few if number == 0 else None]
        predicted = gaze - offset + random.normal(0, 1, gaze.shape)
        if "method" not in wildcards:
            predicted = np.zeros_like(gaze)
        angles = np.radians(np.hstack([gaze, predicted, np.array(HEAD)[: len(gaze)]]))
        rows += [(str(100 * number + place), f"{test[0]}{number}", *values) for place, values in enumerate(angles)]
    names = ["sample", "subject", "pitch", "yaw", "pitch_pred", "yaw_pred", "head_pitch", "head_yaw"]
    frame = pd.DataFrame(rows, columns=names)
    put_test(path, test, frame if head else frame[names[:-2]], float_format="%.6f")


def make(folder, seeds=(0, 1), **options) -> Results:
    raw = toy_config()
    chosen = {"datasets": [COLUMBIA, MPII], "models": ["resnet18"], "methods": ["base", "kd"], "seeds": list(seeds)}
    raw["benchmark"] |= chosen | {"folds": {COLUMBIA: [0, 1], MPII: [0, 1]}}
    run = Run(raw, folder)
    for file, wildcards, path in run.inputs("predictions", "profiles"):
        if file.job.stage == "profile":
            write_profile(path)
        else:
            write_predictions(path, wildcards, **options)
    return Results(run.plan.settings(Job.of("tables")).of_task("angles"), folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make(tmp_path_factory.mktemp("results"))


def read(results: Results, test: str, **names) -> pd.DataFrame:
    return read_tests(results.file("predict", "predictions", **names))[test].reset_index(drop=True)


def own_errors(results: Results, method: str, dataset: str = COLUMBIA) -> pd.DataFrame:
    """Every subject's errors after calibration: both folds of one seed together."""
    parts = []
    for seed in (0, 1):
        names = {"dataset": dataset, "model": "resnet18", "method": method, "seed": seed, "test": dataset}
        found = calibrate(pd.concat([read(results, fold=fold, **names) for fold in (0, 1)]))
        parts.append(found.assign(seed=seed, fold=[int(name[1:]) // 2 for name in found.subject]))
    return pd.concat(parts)


# -- calibration -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calibrated(results):
    return personal.calibration(results)


def test_calibration_holds_every_network_fit_and_k(results, calibrated):
    assert list(calibrated) == personal.COLUMNS
    networks, pairs = 4, 4  # mean and ridge, base and kd
    assert len(calibrated) == pairs * networks * (1 + len(FITS) * len(SAMPLES))
    errors = own_errors(results, "kd")
    own = {"train": COLUMBIA, "test": COLUMBIA, "model": "resnet18", "method": "kd"}
    for fit, k in ((NONE, 0), ("offset", 1), ("affine", 9), ("shrunk", 5)):
        expected = mean_interval(errors[(errors.fit == fit) & (errors.k == k)])
        found = row(calibrated[calibrated.k == k], fit=fit, **own)
        assert [found.error_deg, found.low_deg, found.high_deg] == pytest.approx(
            [expected.mean, expected.low, expected.high]
        )
        assert (found.n_subjects, found.n_seeds, found.n_short, found.reason) == (4, 2, 0, "")


def test_across_data_sets_folds_are_averaged_within_a_subject(results, calibrated):
    errors = []
    for fold in (0, 1):
        for seed in (0, 1):
            names = {"dataset": MPII, "model": "resnet18", "method": "base", "seed": seed, "test": COLUMBIA}
            found = calibrate(read(results, fold=fold, **names))
            errors.append(found[(found.fit == "shrunk") & (found.k == 3)].error.mean())
    across = {"train": MPII, "test": COLUMBIA, "model": "resnet18", "method": "base", "fit": "shrunk"}
    assert row(calibrated[calibrated.k == 3], **across).error_deg == pytest.approx(np.mean(errors))


def test_folds_that_share_a_subject_are_calibrated_by_themselves(results):
    shared = Results(results.settings, results.folder)
    own = [(names, rows) for names, rows in results.frames if names["train"] == names["test"] == COLUMBIA]
    shared.frames = [(names, rows.assign(subject=rows.subject.replace({"c2": "c0"}))) for names, rows in own]
    for names, rows, folds in personal._calibrated_together(shared):
        assert set(rows.subject) == set(folds) == ({"c0", "c1"} if 0 in folds.values() else {"c0", "c3"})
        assert "fold" not in names
    together = Results(results.settings, results.folder)
    together.frames = own
    assert {len(folds) for _, _, folds in personal._calibrated_together(together)} == {4}


def test_fits_are_compared_over_subjects_and_seeds(results, calibrated):
    best = personal._best(results, calibrated, COLUMBIA, COLUMBIA)
    errors = own_errors(results, best[1])
    rows = calibrated[(calibrated[personal.PAIR] == COLUMBIA).all(axis=1) & calibrated.against.notna()]
    assert set(map(tuple, rows[personal.NETWORK].to_numpy())) == {best}
    p_values = []
    for found in rows.itertuples():
        fits = rows[rows.k == found.k]
        lowest = fits.loc[fits.error_deg.idxmin(), "fit"]
        assert found.against == (NONE if found.fit == lowest else lowest)
        other = errors[(errors.fit == found.against) & (errors.k == (0 if found.against == NONE else found.k))]
        mine = errors[(errors.fit == found.fit) & (errors.k == found.k)]
        p_values.append(compare(mine, other, paired_seeds=True).p)
    assert len(p_values) == len(FITS) * len(SAMPLES)
    assert rows.p_holm.to_numpy() == pytest.approx(holm(p_values), nan_ok=True)
    assert rows.p_holm.isna().sum() == 1  # with one sample the affine fit is the offset


def test_the_section_says_which_fit_is_the_best(results, calibrated):
    blocks = personal.calibration_section(results, calibrated)
    shown = [block for block in blocks if isinstance(block, pd.DataFrame)]
    assert len(shown) == 4
    assert list(shown[0]) == ["Model", "Fit", *(f"k = {k}" for k in (0, *SAMPLES))]
    assert len(shown[0]) == 4 * len(FITS)
    said = next(block for block in blocks if isinstance(block, str) and block.startswith(f"**{COLUMBIA}.**"))
    assert "Lowest error of resnet18" in said
    assert "p corrected after Holm" in said
    assert all(str(k) in said for k in SAMPLES)
    assert blocks[-1] == f"![Error against samples of the person]({results.figure('calibration')})"


def test_one_seed_and_short_subjects_are_said(tmp_path):
    results = make(tmp_path, seeds=(0,), few=6)
    frame = personal.calibration(results)
    assert frame.p_holm.isna().all()
    own = {"train": COLUMBIA, "test": COLUMBIA, "model": "resnet18", "method": "kd", "fit": "offset"}
    short = row(frame[frame.k == 9], **own)
    assert (short.n_short, short.n_subjects) == (1, 3)
    assert short.reason.startswith("subjects with fewer than 10 samples left out: 1")
    assert row(frame[frame.k == 5], **own).n_short == 0
    text = "\n".join(block for block in personal.calibration_section(results, frame) if isinstance(block, str))
    assert ONE_SEED in text
    assert "subjects with fewer than 17 samples left out: 1" in text
    assert "One seed: the intervals are over subjects only" in text


# -- gaze and pose ---------------------------------------------------------------------------------------------------


def test_bins_of_the_gaze(results):
    frame = conditions.by_gaze(results)
    assert list(frame) == conditions.COLUMNS
    own = frame[(frame.train == COLUMBIA) & (frame.test == COLUMBIA)]
    mean = own[(own.model == "mean") & (own.by == "angle")]
    # Predicted straight ahead, so the error is the angle itself.
    true = np.radians(np.array(GAZE))
    angle = np.degrees(np.arccos(np.cos(true[:, 0]) * np.cos(true[:, 1])))
    start = np.floor(angle / 5) * 5
    assert mean.from_deg.tolist() == sorted(set(start))
    for found in mean.itertuples():
        inside = angle[start == found.from_deg]
        assert found.to_deg == found.from_deg + 5
        assert found.error_deg == pytest.approx(inside.mean(), abs=1e-3)
        assert (found.n_subjects, found.n_samples) == (4, 4 * len(inside))
    yaw = own[(own.model == "mean") & (own.by == "yaw")]
    assert yaw.from_deg.tolist() == [-20, -10, 0, 10, 20]
    assert yaw.n_samples.tolist() == [12, 12, 24, 12, 12]


def test_a_bin_is_the_mean_over_subjects_and_its_interval(results):
    frame = conditions.by_gaze(results)
    rows = []
    for fold in (0, 1):
        for seed in (0, 1):
            names = {"dataset": COLUMBIA, "model": "resnet18", "method": "kd", "seed": seed, "test": COLUMBIA}
            given = read(results, fold=fold, **names)
            error = next(
                rows.error
                for found, rows in results.frames
                if found == {"train": COLUMBIA, "fold": fold, **{k: v for k, v in names.items() if k != "dataset"}}
            )
            inside = np.degrees(given.yaw).between(10, 20)
            means = error[inside].groupby(given.subject[inside]).mean()
            rows += [(fold, seed, subject, value) for subject, value in means.items()]
    expected = mean_interval(pd.DataFrame(rows, columns=["fold", "seed", "subject", "error"]))
    where = {"train": COLUMBIA, "test": COLUMBIA, "model": "resnet18", "method": "kd", "by": "yaw"}
    found = row(frame[frame.from_deg == 10], **where)
    assert [found.error_deg, found.low_deg, found.high_deg] == pytest.approx(
        [expected.mean, expected.low, expected.high]
    )
    assert found.n_samples == 12


def test_bins_of_the_head(results):
    frame = conditions.by_pose(results)
    own = frame[(frame.train == MPII) & (frame.test == MPII) & (frame.model == "mean")]
    assert own[own.by == "yaw"].from_deg.tolist() == [-20, 0, 10]
    assert own[own.by == "angle"].from_deg.tolist() == [0, 15]
    assert own[own.by == "angle"].n_samples.tolist() == [24, 48]
    blocks = conditions.by_pose_section(results, frame)
    table = next(block for block in blocks if isinstance(block, pd.DataFrame))
    assert table.iloc[0].tolist() == ["*subjects, samples*", "4, 24", "4, 48"]
    assert list(table) == ["Model", "0 to 5°", "15 to 20°"]


def test_a_bin_of_one_subject_is_marked(tmp_path):
    results = make(tmp_path, seeds=(0,), few=None)
    for found, _ in results.frames:
        if found["train"] == found["test"] == COLUMBIA and found["fold"] == 0:
            stage = "predict_control" if found["method"] == "none" else "predict"
            path = results.file(stage, "predictions", dataset=COLUMBIA, **found)
            frame = pd.read_csv(path)
            frame.loc[0, "yaw"] = np.radians(-44)
            frame.to_csv(path, index=False)
    changed = Results(results.settings, results.folder)
    frame = conditions.by_gaze(changed)
    alone = frame[(frame.train == frame.test) & (frame.by == "angle") & (frame.from_deg == 45)]
    assert alone.n_subjects.tolist() == [1, 1, 1, 1]
    text = "\n".join(block for block in conditions.by_gaze_section(changed, frame) if isinstance(block, str))
    assert "one subject: nothing is known of others" in text


def test_files_without_head_poses(tmp_path):
    results = make(tmp_path, head=False)
    frame = conditions.by_pose(results)
    assert frame.empty
    assert list(frame) == conditions.COLUMNS
    assert conditions.by_pose_section(results, frame)[1] == conditions.NO_HEAD
    drawn = conditions.draw(results, frame)
    assert "no head pose in the predictions" in {text.get_text() for text in drawn[f"gaze_pose-{MPII}"].axes[0].texts}


# -- figures ---------------------------------------------------------------------------------------------------------


def test_cells_of_the_plane(results):
    figures = conditions.draw(results, None)
    assert set(figures) == {f"gaze_pose-{COLUMBIA}", f"gaze_pose-{MPII}"}
    best = conditions._best(results, COLUMBIA)
    rows = conditions._plane_rows(results, COLUMBIA, best)
    cells = conditions._plane(rows, "yaw")
    assert cells.samples.sum() == 4 * len(GAZE)
    assert set(cells.subjects) == {4}
    inside = rows[np.degrees(rows.yaw).between(10, 15) & np.degrees(rows.head_yaw).between(0, 5)]
    found = cells[(cells.gaze == 10) & (cells["head"] == 0)]
    if not inside.empty:
        assert found.error.iloc[0] == pytest.approx(inside.groupby("subject").error.mean().mean())
    shown = {text.get_text() for text in figures[f"gaze_pose-{COLUMBIA}"].axes[0].texts}
    assert shown == {f"{error:.1f}" for error in cells.error[~cells.few]}
    hatched = [patch for patch in figures[f"gaze_pose-{COLUMBIA}"].axes[0].patches if patch.get_hatch()]
    assert len(hatched) == cells.few.sum()


def test_lines_of_the_calibration_figure(results, calibrated):
    figure = personal.draw(results, calibrated)["calibration"]
    assert len(figure.axes) == 4
    axes = figure.axes[0]
    own = (calibrated.train == calibrated.train[0]) & (calibrated.test == calibrated.test[0])
    best = personal._best(results, calibrated, calibrated.train[0], calibrated.test[0])
    rows = calibrated[own & (calibrated[personal.NETWORK] == list(best)).all(axis=1)]
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"no calibration", *FITS}
    for fit in FITS:
        assert lines[fit].get_ydata().tolist() == rows[rows.fit == fit].error_deg.tolist()
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines.values()}) == 4
