"""`gazepipe compare`: results folders and foreign predictions against each other, through the command."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from toy_predictions import errors_of, frame_of, prediction_path, put_test, write_predictions, write_results, write_run

from gazepipe import cli
from gazepipe.common.files import write_json
from gazepipe.evaluation import inference
from gazepipe.evaluation.across import SAME_BYTES, SAME_WEIGHTS
from gazepipe.evaluation.comparisons import THESE_FILES
from gazepipe.evaluation.metrics import per_subject_errors
from gazepipe.evaluation.settings import CONTROLS

MATRIX = np.array([[3.0, 5.0, 4.0, 6.0, 4.4], [3.4, 5.1, 4.6, 6.5, 4.9], [2.9, 5.3, 3.8, 6.2, 4.1]])
NOISE = np.random.default_rng(0).normal(0, 0.05, MATRIX.shape)


def compared(tmp_path: Path, *arguments: object) -> pd.DataFrame:
    """The CSV of the command."""
    out = tmp_path / "compared.csv"
    assert cli.main(["compare", *map(str, arguments), "--csv", str(out)]) == 0
    return pd.read_csv(out, keep_default_na=False, na_values=[""], dtype={"reason": str, "note": str}).fillna(
        {"reason": "", "note": "", "method": "", "train": ""}
    )


def refused(capsys, *arguments: object) -> str:
    """What the command says of input that it refuses: one line."""
    capsys.readouterr()
    assert cli.main(["compare", *map(str, arguments)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("gazepipe compare: ")
    return said.err.removeprefix("gazepipe compare: ").strip()


def long_table(matrix: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"fold": "0", "seed": str(seed), "subject": subject, "error": error}
            for seed, row in enumerate(errors_of(matrix))
            for subject, error in row.items()
        ]
    )


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Two results folders: `net` 2.5 degrees better in b than in a, `small` the same but for noise."""
    a, b = tmp_path / "a", tmp_path / "b"
    write_results(a, MATRIX)
    write_results(b, MATRIX - 2.5 + NOISE)
    write_results(a, MATRIX + 1, network="small/kd")
    write_results(b, MATRIX + 1 + NOISE[::-1], network="small/kd")
    return a, b


def test_networks_of_one_name_are_compared_as_the_inference_does(tmp_path, folders):
    frame = compared(tmp_path, *folders)
    assert list(frame["model"]) == ["net", "small"]
    expected = [
        inference.compare(long_table(MATRIX - 2.5 + NOISE), long_table(MATRIX), paired_seeds=False, margin=0.5),
        inference.compare(long_table(MATRIX + 1 + NOISE[::-1]), long_table(MATRIX + 1), paired_seeds=False, margin=0.5),
    ]
    for row, found in zip(frame.to_dict("records"), expected, strict=True):
        numbers = [row[name] for name in ("difference_deg", "low_deg", "high_deg", "p", "p_equivalence", "d_z")]
        found_numbers = [
            *(found.difference, found.low, found.high, found.p, found.p_equivalence, found.effect_size),
        ]
        assert numbers == pytest.approx(found_numbers, rel=1e-3)
        assert (row["n_subjects"], row["n_seeds"], row["n_seeds_against"]) == (5, 3, 3)
        assert not row["paired_seeds"]
    assert frame["p_holm"].to_numpy() == pytest.approx(inference.holm(frame["p"].to_numpy()), rel=1e-4)
    assert frame["error"].iloc[0] - frame["error_against"].iloc[0] == pytest.approx(-2.5, abs=0.05)


def test_what_is_printed(folders, capsys):
    assert cli.main(["compare", *map(str, folders)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"a: {folders[0]}\nb: {folders[1]}\n\n")
    row = next(line for line in text.splitlines() if line.startswith("lab") and " net " in line)
    assert "different" in row
    assert "3 and 3" in row
    assert "95 % interval over subjects and trainings" in text
    assert "- On lab: b: lab net has a lower error than a: lab net by 2.5" in text
    assert "\n- b: lab small + KD against a: lab small + KD: " in text
    assert "*" not in text


def test_paired_seeds_and_margin(tmp_path, folders):
    paired, unpaired = compared(tmp_path, *folders, "--trainings", "paired"), compared(tmp_path, *folders)
    assert paired["paired_seeds"].all()
    assert (paired["high_deg"] - paired["low_deg"] < unpaired["high_deg"] - unpaired["low_deg"]).all()
    assert list(paired["finding"]) == ["different", "equivalent"]
    assert (
        list(compared(tmp_path, *folders, "--trainings", "paired", "--margin", "0.01")["finding"])[1] == "nothing found"
    )
    with pytest.raises(SystemExit):
        cli.main(["compare", *map(str, folders), "--margin", "0"])


def test_percent_is_of_the_first_side(tmp_path, folders):
    plain, percent = compared(tmp_path, *folders), compared(tmp_path, *folders, "--unit", "percent")
    expected = 100 * plain["difference_deg"] / plain["error_against"]
    assert percent["difference_percent"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-3)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    shift=st.floats(-2, 2),
    options=st.sampled_from(
        [
            (),
            (
                "--trainings",
                "paired",
            ),
        ]
    ),
)
def test_exchanged_sides_negate_the_difference_and_mirror_the_interval(tmp_path, seed, shift, options):
    rng = np.random.default_rng(seed)
    places = [tmp_path / f"{seed}-{name}" for name in "ab"]
    for place, add in zip(places, (0, shift), strict=True):
        write_results(place, 6 + add + rng.normal(0, 0.5, (3, 4)))
    one, other = (compared(tmp_path, *sides, *options).iloc[0] for sides in (places, places[::-1]))
    numbers = (other["difference_deg"], other["low_deg"], other["high_deg"], other["d_z"], other["p"])
    mirrored = (-one["difference_deg"], -one["high_deg"], -one["low_deg"], -one["d_z"], one["p"])
    assert numbers == pytest.approx(mirrored, rel=1e-4, abs=1e-5)
    assert (other["error"], other["error_against"]) == (one["error_against"], one["error"])


def test_equal_recipes_split_four_against_four(shared_data, tmp_path):
    runs = pd.read_csv(shared_data / "same_recipe_seeds.csv", dtype={"subject": str})
    runs = runs[runs["recipe"] == "base"]
    for (fold, seed, test), part in runs.groupby(["fold", "seed", "test"]):
        errors = dict(zip(part["subject"], part["error_deg"], strict=True))
        write_run(tmp_path / "all", seed, errors, {"fold": fold}, test, samples=1)
    found = []
    # Every third of the 35 splits; tests/evaluation/test_inference.py takes all of them.
    for half in list(itertools.combinations(range(1, 8), 3))[::3]:
        sides = [tmp_path / "-".join(map(str, half)) / name for name in "ab"]
        for fold, seed in itertools.product((1, 4), range(8)):
            place = prediction_path(sides[0 if seed in (0, *half) else 1], seed, fold)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(prediction_path(tmp_path / "all", seed, fold))
        found.append(compared(tmp_path, *sides))
    frame = pd.concat(found)
    assert len(frame) == 24
    assert frame.groupby("test")["n_subjects"].unique().map(list).to_dict() == {"cross": [30], "own": [16]}
    assert (frame["p"] < 0.05).groupby(frame["test"]).sum().max() <= 2
    assert frame["finding"].str.startswith("different").sum() <= 1


# ---- which networks meet


def test_named_networks_of_one_folder_meet(tmp_path, folders):
    a, _ = folders
    write_results(a, MATRIX - 1 + NOISE, network="net/kd")
    frame = compared(tmp_path, f"{a}:lab/net/base", f"{a}:lab/net/kd")
    assert list(zip(frame["method"], frame["against_method"], strict=True)) == [("kd", "base")]
    wild = compared(tmp_path, f"{a}:*/net/base", f"{a}:*/net/kd")
    assert wild.equals(frame)
    every = compared(tmp_path, f"{a}:lab/net/base", f"{a}:lab")
    assert list(zip(every["model"], every["method"], strict=True)) == [("net", "base"), ("net", "kd"), ("small", "kd")]
    assert every["reason"].iloc[0] == SAME_BYTES


def test_each_later_side_meets_the_first(tmp_path, folders, capsys):
    a, b = folders
    c = shutil.copytree(b, tmp_path / "c")
    write_run(c, 0, errors_of(MATRIX)[0], {"network": "only/c"})
    frame = compared(tmp_path, a, b, c)
    assert list(frame["side"]) == ["b", "b", "c", "c"]
    assert set(frame["against_side"]) == {"a"}
    assert "Only in c: lab only + c on lab" in capsys.readouterr().out


def test_only_the_asked_tests(tmp_path, folders, capsys):
    for folder in folders:
        for seed, row in enumerate(errors_of(MATRIX + len(folder.name))):
            write_run(folder, seed, row, test="field")
    assert list(compared(tmp_path, *folders)["test"]) == ["field", "lab", "lab"]
    assert list(compared(tmp_path, *folders, "--test", "field")["test"]) == ["field"]
    said = refused(capsys, *folders, "--test", "street")
    assert said.endswith("have no network and test set in common on street; name one network of a folder by :NAMES")


@pytest.mark.parametrize("control", CONTROLS)
def test_what_predicts_without_a_network_has_no_chance_of_training(tmp_path, folders, capsys, control):
    a, b = folders
    write_run(a, 0, errors_of(MATRIX + 3)[0], {"network": f"{control}/none"})
    assert control not in set(compared(tmp_path, a, b)["model"])
    assert "Only in" not in capsys.readouterr().out, "nobody asked for it"
    row = compared(tmp_path, f"{a}:lab/{control}/none", f"{b}:lab/net/base").iloc[0]
    assert row["finding"] == "different"
    assert row["n_seeds_against"] == 3


# ---- foreign predictions


def foreign(path: Path, matrix: np.ndarray, columns: tuple[str, ...] = ()) -> Path:
    """Trainings in one CSV, told by its column seed; only these other columns beside subject and gaze."""
    frames = [frame_of(row).assign(seed=f"run {seed}") for seed, row in enumerate(errors_of(matrix))]
    frame = pd.concat(frames).drop(columns=[name for name in ("sample", "frame") if name not in columns])
    frame.to_csv(path, index=False)
    return path


def test_a_foreign_csv_meets_every_network_on_the_test_set_of_its_subjects(tmp_path, folders):
    a, _ = folders
    for seed in range(3):
        write_run(a, seed, {"x": 1.0, "y": 2.0}, test="field")
    path = foreign(tmp_path / "foreign.csv", MATRIX - 1 + NOISE)
    frame = compared(tmp_path, a, path)
    assert list(zip(frame["test"], frame["against_model"], strict=True)) == [("lab", "net"), ("lab", "small")]
    assert set(frame["model"]) == {"foreign.csv"}
    found = inference.compare(long_table(MATRIX - 1 + NOISE), long_table(MATRIX), paired_seeds=False)
    assert frame["p"].iloc[0] == pytest.approx(found.p, rel=1e-3)
    named = compared(tmp_path, f"{a}:lab/small/kd", path)
    assert list(named["against_model"]) == ["small"]


def test_a_foreign_csv_that_tells_its_test_sets_meets_networks_there(tmp_path, folders, capsys):
    a, _ = folders
    for seed, errors in enumerate(errors_of(MATRIX + 2)):
        write_run(a, seed, errors, test="field")
    theirs = {"lab": MATRIX - 1 + NOISE, "field": MATRIX + 1 + NOISE, "street": MATRIX}
    for test, matrix in theirs.items():
        frame = pd.concat(frame_of(row).assign(seed=seed) for seed, row in enumerate(errors_of(matrix)))
        put_test(tmp_path / "theirs.csv", test, frame)
    found = compared(tmp_path, f"{a}:lab/net", tmp_path / "theirs.csv")
    assert list(found["test"]) == ["field", "lab"]
    assert found["error"].to_numpy() == pytest.approx([theirs[test].mean() for test in ("field", "lab")], abs=1e-3)
    assert "Only in b: theirs.csv on street" in capsys.readouterr().out
    assert list(compared(tmp_path, f"{a}:lab/net", tmp_path / "theirs.csv", "--test", "lab")["test"]) == ["lab"]
    old = foreign(tmp_path / "lab.csv", MATRIX)
    for sides, sign in (((old, tmp_path / "theirs.csv"), -1), ((tmp_path / "theirs.csv", old), 1)):
        both = compared(tmp_path, *sides, "--test", "lab")
        assert list(both["test"]) == ["lab"]
        assert both["difference_deg"].to_numpy() == pytest.approx(sign * (1 - NOISE.mean()), abs=1e-4)
    other = put_test(tmp_path / "other.csv", "road", frame_of(errors_of(MATRIX)[0]))
    assert refused(capsys, f"{a}:lab/net", other) == (
        f"{other}: has the test sets road, but {a}:lab/net the test sets field, lab; name test sets as its files do"
    )


def test_a_file_of_an_earlier_version_meets_the_test_set_of_its_subjects(tmp_path, folders):
    """Then each test set had a file, fold0/seed0/lab.csv, without the column test."""
    a, b = folders
    for seed, errors in enumerate(errors_of(MATRIX)):
        write_predictions(tmp_path / f"old/seed{seed}/lab.csv", errors)
    row = compared(tmp_path, f"{b}:lab/net", f"{tmp_path}/old/seed{{seed}}/lab.csv").iloc[0]
    expected = compared(tmp_path, f"{b}:lab/net", f"{a}:lab/net").iloc[0]
    numbers = ["test", "difference_deg", "low_deg", "high_deg", "p", "n_seeds"]
    assert list(row[numbers]) == list(expected[numbers])
    (same,) = compared(tmp_path, f"{a}:lab/net", f"{tmp_path}/old/seed{{seed}}/lab.csv").to_dict("records")
    assert same["reason"] == SAME_BYTES


def test_foreign_csvs_of_seeds_and_folds(tmp_path, folders):
    a, _ = folders
    for seed, row in enumerate(errors_of(MATRIX - 1 + NOISE)):
        for fold, subjects in enumerate((["p00", "p03"], ["p01", "p02", "p04"])):
            part = {name: row[name] for name in subjects}
            write_predictions(tmp_path / f"theirs/{fold}-{seed}.csv", part)
    many = compared(tmp_path, f"{a}:lab/net/base", f"{tmp_path}/theirs/{{fold}}-{{seed}}.csv")
    one = compared(tmp_path, f"{a}:lab/net/base", foreign(tmp_path / "foreign.csv", MATRIX - 1 + NOISE))
    numbers = ["difference_deg", "low_deg", "high_deg", "p", "n_subjects", "n_seeds"]
    assert many[numbers].equals(one[numbers])


def published(shared_data: Path, offset: bool = False) -> pd.DataFrame:
    """The published log; with `offset`, calibrated by the first nine samples of each subject."""
    log = np.load(shared_data / "mpiifacegaze_predictions/resnet_simple_14.npz")
    true, predicted = log["gaze"].astype(np.float64), log["prediction"].astype(np.float64)
    if offset:
        predicted = predicted - (predicted - true)[:, :9].mean(axis=1, keepdims=True)
    subjects = np.repeat([f"p{number:02}" for number in range(15)], true.shape[1])
    gaze = np.hstack([true.reshape(-1, 2), predicted.reshape(-1, 2)])
    frame = pd.DataFrame(gaze, columns=["pitch", "yaw", "pitch_pred", "yaw_pred"])
    return frame.assign(subject=subjects)


def test_the_published_log_against_itself_calibrated(shared_data, tmp_path, capsys):
    published(shared_data).to_csv(tmp_path / "log.csv", index=False, float_format="%.5f")
    calibrated = published(shared_data, offset=True).sample(frac=1, random_state=0)
    calibrated.to_csv(tmp_path / "calibrated.csv", index=False, float_format="%.4f")
    row = compared(tmp_path, tmp_path / "log.csv", tmp_path / "calibrated.csv").iloc[0]
    assert row["error_against"] == pytest.approx(4.8243, abs=1e-3)
    assert row["difference_deg"] == pytest.approx(row["error"] - row["error_against"], abs=1e-4)
    assert row["difference_deg"] < -0.8
    assert (row["n_subjects"], row["reason"]) == (15, inference.ONE_SEED)
    assert np.isnan(row["p"])
    row = compared(tmp_path, tmp_path / "log.csv", tmp_path / "calibrated.csv", "--trainings", "same").iloc[0]
    of_subjects = [
        per_subject_errors(frame).to_numpy() for frame in (published(shared_data, offset=True), published(shared_data))
    ]
    expected = stats.ttest_1samp(of_subjects[0] - of_subjects[1], 0).confidence_interval()
    assert (row["low_deg"], row["high_deg"]) == pytest.approx(tuple(expected), abs=2e-3)
    assert (row["reason"], row["finding"]) == (THESE_FILES, "not tested")
    calibrated["yaw"] *= -1
    calibrated.to_csv(tmp_path / "mirrored.csv", index=False)
    said = refused(capsys, tmp_path / "log.csv", tmp_path / "mirrored.csv")
    assert said.startswith(f"{tmp_path / 'mirrored.csv'}: line ")
    assert ": the true gaze of subject p" in said


def test_foreign_predictions_of_nobody_known_or_of_two_test_sets_are_refused(tmp_path, folders, capsys):
    a, _ = folders
    strangers = write_predictions(tmp_path / "strangers.csv", {"q1": 1.0})
    said = refused(capsys, a, strangers)
    assert said == f"{strangers}: has no subject of lab in {a}; name subjects as its files do"
    write_run(a, 0, errors_of(MATRIX)[0], test="field", shift=0.5)
    path = foreign(tmp_path / "foreign.csv", MATRIX)
    assert refused(capsys, a, path) == f"{path}: may be of field or lab, by its subjects; name one with --test"
    assert set(compared(tmp_path, a, path, "--test", "lab")["test"]) == {"lab"}


def test_points_are_compared_in_percent(tmp_path, capsys):
    for name, offset in (("a", 10), ("b", 5)):
        for seed in range(3):
            lines = [f"s{n},{n},{n},{n + offset + seed},{n}" for n in range(4)]
            path = tmp_path / f"{name}{seed}.csv"
            path.write_text("\n".join(["subject,x,y,x_pred,y_pred", *lines]))
    sides = [f"{tmp_path}/{name}{{seed}}.csv" for name in "ab"]
    row = compared(tmp_path, *sides).iloc[0]
    assert row["error_unit"] == "px"
    assert row["difference_percent"] == pytest.approx(-100 * 5 / 11, rel=1e-4)
    assert refused(capsys, *sides, "--unit", "deg").startswith("unit: errors of points are in pixels")
    said = refused(capsys, sides[0], write_predictions(tmp_path / "angles.csv", {"s0": 1.0}), "--unit", "percent")
    assert "compare one task" in said


def test_folders_of_angles_and_points_are_compared_in_percent(tmp_path, capsys):
    folders = [tmp_path / name for name in "ab"]
    for number, folder in enumerate(folders):
        for seed, row in enumerate(errors_of(MATRIX)):
            write_run(folder, seed, {name: error + number for name, error in row.items()})
            points = [(f"s{n}", n, n, n + 10 - 2 * number + seed, n) for n in range(4)]
            frame = pd.DataFrame(points, columns=["subject", "x", "y", "x_pred", "y_pred"])
            put_test(prediction_path(folder, seed, train="scene"), "scene", frame)
    found = compared(tmp_path, *folders).set_index("test")
    assert sorted(found["error_unit"]) == ["deg", "px"]
    assert found.loc["scene", "difference_percent"] == pytest.approx(-100 * 2 / 11, rel=1e-4)
    assert refused(capsys, *folders, "--unit", "deg").startswith("unit: errors of points are in pixels")


def test_more_sides_than_letters_are_refused(capsys, folders):
    said = refused(capsys, *([folders[0]] * 27))
    assert said == f"{folders[0]}: is side 27; compare 26 sides at most"


# ---- what cannot be compared


def test_one_seed_gives_the_difference_and_the_reason(tmp_path, folders, capsys):
    a, _ = folders
    one = write_results(tmp_path / "one", MATRIX[:1] - 1)
    for sides in ((a, one), (one, a)):
        row = compared(tmp_path, *sides).iloc[0]
        assert abs(row["difference_deg"]) == pytest.approx(MATRIX.mean() - MATRIX[0].mean() + 1, abs=1e-4)
        assert row[["low_deg", "p", "p_equivalence", "detectable_deg"]].isna().all()
        assert (row["finding"], row["reason"]) == ("not tested", inference.ONE_SEED)
    text = capsys.readouterr().out
    assert f"¹ {inference.ONE_SEED}" in text
    assert text.count("Nothing could be tested; the footnotes say why.") == 2


def test_one_subject_gives_the_difference_and_the_reason(tmp_path):
    sides = [write_results(tmp_path / name, MATRIX[:, :1] + add) for name, add in (("a", 0), ("b", 1))]
    row = compared(tmp_path, *sides).iloc[0]
    assert row["difference_deg"] == pytest.approx(1)
    assert row["reason"] == inference.ONE_SUBJECT
    assert np.isnan(row["p"])


def test_a_seed_that_lacks_a_fold_is_named(tmp_path, folders):
    a, b = folders
    for folder, seeds in ((a, (0, 1, 2)), (b, (0, 2))):
        for seed in seeds:
            write_run(folder, seed, {"p05": 3.0 + seed, "p06": 4.0}, {"fold": 1})
    row = compared(tmp_path, a, b).iloc[0]
    assert row["reason"] == "net of b: seed 1 has no error of fold 1, subject p05, as other seeds have"
    assert row[["difference_deg", "p", "error"]].isna().all()


def test_subjects_that_differ_are_told_and_compared_where_asked(tmp_path, folders, capsys):
    a, _ = folders
    fewer = write_results(tmp_path / "fewer", MATRIX[:, :3] - 1 + NOISE[:, :3])
    row = compared(tmp_path, a, fewer).iloc[0]
    assert row["reason"] == "only net of a has fold 0, subject p03; compare on the same subjects and folds"
    assert row[["difference_deg", "p"]].isna().all()
    shared = compared(tmp_path, a, fewer, "--shared").iloc[0]
    alone = inference.compare(
        long_table(MATRIX[:, :3] - 1 + NOISE[:, :3]), long_table(MATRIX[:, :3]), paired_seeds=False
    )
    assert (shared["p"], shared["n_subjects"]) == (pytest.approx(alone.p, rel=1e-3), 3)
    kept = "3 of 5 subjects and 27 of 45 predictions of a, 3 of 3 subjects and 27 of 27 predictions of b"
    assert shared["note"] == f"only what both have: {kept}"
    assert f"¹ {shared['note']}" in capsys.readouterr().out
    others = write_results(tmp_path / "others", MATRIX)
    shutil.move(others / "predictions/lab/net/base/fold0", others / "predictions/lab/net/base/fold7")
    assert compared(tmp_path, a, others, "--shared").iloc[0]["reason"] == "no fold and subject in common"


def test_samples_that_differ_are_told_and_left_out_where_asked(tmp_path, folders):
    a, _ = folders
    more = write_results(tmp_path / "more", MATRIX - 1 + NOISE, samples=5)
    row = compared(tmp_path, a, more).iloc[0]
    assert row["reason"].startswith("other samples were tested: not every file has that of ")
    assert row["reason"].endswith("; test the same ones, or compare what both have by --shared")
    assert row[["difference_deg", "p"]].isna().all()
    shared = compared(tmp_path, a, more, "--shared").iloc[0]
    found = inference.compare(long_table(MATRIX - 1 + NOISE), long_table(MATRIX), paired_seeds=False)
    assert shared["p"] == pytest.approx(found.p, rel=1e-3)
    assert "45 of 75 predictions of b" in shared["note"]
    nameless = foreign(tmp_path / "foreign.csv", MATRIX)
    row = compared(tmp_path, more, nameless, "--shared").iloc[0]
    assert row["reason"].startswith("other samples were tested: "), "which samples are the same cannot be told"
    assert row[["difference_deg", "p"]].isna().all()


def test_other_labels_are_one_line(tmp_path, folders, capsys):
    a, _ = folders
    moved = write_results(tmp_path / "moved", MATRIX, shift=0.1)
    said = refused(capsys, a, moved)
    assert said.startswith(f"{prediction_path(moved, 0)}: line 2: the true gaze of subject p00 is (")
    assert f"in {prediction_path(a, 0)}, line 2; " in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.assign(yaw_pred=np.nan), "line 2: yaw_pred is ''"),
        (lambda frame: pd.concat([frame, frame[:1]]), "is predicted twice"),
        (lambda frame: frame[:0], "holds no rows"),
        (lambda frame: frame.drop(columns="subject"), "no column subject"),
        (lambda frame: frame.drop(columns="test"), "has no column test"),
        (lambda frame: frame.assign(test=["lab"] * 5 + [" "] * 10), "line 7: test is empty"),
        (lambda frame: frame.assign(test=["lab", "field", "lab"] * 5), "line 4: test is lab again"),
    ],
)
def test_bad_files_are_one_line(folders, capsys, change, message):
    a, b = folders
    path = prediction_path(b, 1)
    change(pd.read_csv(path)).to_csv(path, index=False)
    said = refused(capsys, a, b)
    assert said.startswith(str(path))
    assert message in said


def test_bad_sides_are_one_line(tmp_path, folders, capsys):
    a, _ = folders
    assert refused(capsys, a) == f"{a}: is one side; name what to compare it with"
    said = refused(capsys, a, tmp_path / "absent")
    assert said == f"{tmp_path / 'absent'}: is no folder and no CSV; name a results folder or a prediction CSV"
    assert "cannot be read" in refused(capsys, a, tmp_path / "absent.csv")
    assert ": no file is named so; " in refused(capsys, a, f"{tmp_path}/absent{{seed}}.csv")
    assert ": holds no predictions of lab/gone; " in refused(capsys, a, f"{a}:lab/gone")
    assert ": names more than DATASET/MODEL/METHOD " in refused(capsys, a, f"{a}:lab/net/base/0")
    (tmp_path / "empty").mkdir()
    assert ": holds no predictions; " in refused(capsys, a, tmp_path / "empty")


# ---- the same bytes, and what differs between runs


def test_the_same_bytes_are_told(tmp_path, folders, capsys):
    a, b = folders
    copy = shutil.copytree(a, tmp_path / "copy")
    assert set(compared(tmp_path, a, copy)["reason"]) == {SAME_BYTES}
    assert "All 2 predictions that were found in both are the same to the byte." in capsys.readouterr().out
    for seed, errors in enumerate(errors_of(MATRIX - 5)):
        write_run(copy, seed, errors, test="field")
        write_run(copy, seed, errors, {"network": "small/kd"}, test="field")
    assert set(compared(tmp_path, a, copy)["reason"]) == {SAME_BYTES}, "another test set in the file does not matter"
    shutil.copy(prediction_path(a, 0), prediction_path(b, 2))
    shutil.copy(prediction_path(b, 0), prediction_path(b, 1))
    row = compared(tmp_path, a, b).iloc[0]
    assert row["note"] == (
        "1 of 3 files of b are also of a, to the byte; 1 of 3 files of b repeat another to the byte: no other training"
    )
    shutil.copytree(a / "predictions/lab/small", b / "predictions/lab/small", dirs_exist_ok=True)
    capsys.readouterr()
    compared(tmp_path, a, b)
    text = capsys.readouterr().out
    assert "The same predictions to the byte as a: b: lab small + KD on lab" in text
    table = text.split("\n\n")[2]
    assert [line.split()[:3] for line in table.splitlines()[2:]] == [["lab", "lab", "net"]]


def write_runs(folder: Path, weights: str, seeds: int = 3, network: str = "net/base", **facts: object) -> None:
    for seed in range(seeds):
        run = folder / "runs/lab" / network / "fold0" / f"seed{seed}"
        known = {"settings": {"seed": seed}, "machine": {"cpu": "one"}, "packages": {"torch": "2"}, "source": "s"}
        write_json(run / "run.json", {**known, **facts})
        (run / "model.safetensors").write_text(f"{weights} {seed}")


def test_what_differs_between_the_runs(folders, capsys, tmp_path):
    a, b = folders
    write_runs(a, "x")
    write_runs(b, "y", machine={"cpu": "two"}, settings={"epochs": 6})
    write_runs(a, "x", network="small/kd")
    write_runs(b, "y", network="small/kd", machine={"cpu": "two"})
    assert cli.main(["compare", str(a), str(b), "--json", str(tmp_path / "out.json")]) == 0
    _, _, said = capsys.readouterr().out.partition("What differs between the runs, by their facts:\n")
    assert said.splitlines() == [
        "  all 2 networks",
        '    machine: machine.cpu: "one" -> "two"',
        "  b: lab net",
        "    configuration: settings.seed: 0 -> nothing",
        "    configuration: settings.epochs: nothing -> 6",
        "    configuration: settings.seed: 1 -> nothing",
        "    configuration: settings.seed: 2 -> nothing",
        "  the same in all: source, data, versions",
    ]
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["runs"]["b: lab small + KD"]["machine"] == ['machine.cpu: "one" -> "two"']
    assert written["sides"] == {"a": str(a), "b": str(b)}
    assert written["margin"] == 0.5
    assert [row["finding"] for row in written["rows"]] == ["different", "nothing found"]


def test_the_same_weights_are_paired_with_themselves(tmp_path, folders):
    a, b = folders
    for folder in folders:
        write_runs(folder, "x")
    net, small = compared(tmp_path, a, b).to_dict("records")
    assert net["paired_seeds"]
    assert net["note"] == SAME_WEIGHTS
    assert not small["paired_seeds"]
    (b / "runs/lab/net/base/fold0/seed1/model.safetensors").write_text("other")
    assert not compared(tmp_path, a, b)["paired_seeds"].any()


def test_latex(tmp_path, folders):
    compared(tmp_path, *folders, "--latex", tmp_path / "out.tex")
    text = (tmp_path / "out.tex").read_text()
    assert r"\toprule" in text
    assert r"\label{tab:compare}" in text
    assert "net & 2.1" in text
    assert "$-$2.5" in text


def test_equal_input_gives_equal_bytes(tmp_path, folders):
    files = {name: tmp_path / f"out.{name}" for name in ("csv", "json", "latex")}
    arguments = ["compare", *map(str, folders), *(f"--{name}={path}" for name, path in files.items())]
    written = []
    for _ in range(2):
        assert cli.main(arguments) == 0
        written.append([path.read_bytes() for path in files.values()])
    assert written[0] == written[1]
