"""Prediction files of several trainings, read as one: which are found, and whether they are of one test set."""

import numpy as np
import pandas as pd
import pytest
from toy_predictions import errors_of, frame_of, put_test, write_predictions

from gazepipe.errors import UserError
from gazepipe.evaluation.inference import mean_interval
from gazepipe.evaluation.trainings import (
    File,
    by_test,
    errors,
    forget,
    format_trainings,
    named_by,
    over_folds,
    read,
    same_samples,
)

MATRIX = np.array([[3.0, 5.0, 4.0, 6.0], [3.4, 5.1, 4.6, 6.5], [2.9, 5.3, 3.8, 6.2]])


@pytest.fixture
def seeds(tmp_path) -> list:
    return [write_predictions(tmp_path / f"seed{n}.csv", row) for n, row in enumerate(errors_of(MATRIX))]


def sided(*frames: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame.assign(side=str(n)) for n, frame in enumerate(frames)], ignore_index=True, join="inner")


def test_files_are_found_by_seed_and_fold_in_natural_order(tmp_path):
    for fold in (0, 1):
        for seed in (2, 10):
            write_predictions(tmp_path / f"fold{fold}" / f"net-{seed}" / f"seed{seed}.csv", {"p00": 1.0})
    write_predictions(tmp_path / "fold0" / "net-3" / "seed2.csv", {"p00": 1.0})
    found = named_by(f"{tmp_path}/fold{{fold}}/net-{{seed}}/seed{{seed}}.csv")
    assert [(file.seed, file.fold) for file in found] == [("2", "0"), ("2", "1"), ("10", "0"), ("10", "1")]
    assert found[3].path == tmp_path / "fold1" / "net-10" / "seed10.csv"
    assert named_by("some.csv") == (File(path=named_by("some.csv")[0].path),)
    with pytest.raises(UserError, match=r"absent\{seed\}\.csv: no file is named so; "):
        named_by(f"{tmp_path}/absent{{seed}}.csv")


def test_brackets_and_stars_in_a_name_are_themselves(tmp_path):
    write_predictions(tmp_path / "a[1]" / "seed0.csv", {"p00": 1.0})
    write_predictions(tmp_path / "a1" / "seed1.csv", {"p00": 1.0})
    assert [file.seed for file in named_by(f"{tmp_path}/a[1]/seed{{seed}}.csv")] == ["0"]


def test_errors_are_those_of_the_files(seeds):
    rows = read(tuple(File(path, seed=str(n)) for n, path in enumerate(seeds)))
    table = errors(rows).pivot_table(index="seed", columns="subject", values="error")
    assert table.to_numpy() == pytest.approx(MATRIX, abs=1e-6)


def test_columns_tell_fold_and_seed(tmp_path):
    frame = pd.concat(frame_of(row).assign(seed=f"s{n}", fold=n % 2) for n, row in enumerate(errors_of(MATRIX)))
    frame.to_csv(tmp_path / "all.csv", index=False)
    table = errors(read((File(tmp_path / "all.csv"),)))
    assert set(zip(table["seed"], table["fold"], strict=True)) == {("s0", "0"), ("s1", "1"), ("s2", "0")}
    assert set(over_folds(table)["fold"]) == {"0"}
    with pytest.raises(UserError, match=r"all\.csv: the seed is told by its name and by a column; "):
        read((File(tmp_path / "all.csv", seed="1"),))
    frame.assign(seed=[" ", *frame["seed"][1:]]).to_csv(tmp_path / "empty.csv", index=False)
    with pytest.raises(UserError, match=r"empty\.csv: line 2: seed is empty; "):
        read((File(tmp_path / "empty.csv"),))


def test_a_sample_may_be_there_once_for_each_seed(tmp_path):
    twice = pd.concat([frame_of({"p00": 1.0}), frame_of({"p00": 2.0})])
    twice.assign(seed=[0] * 3 + [1] * 3).to_csv(tmp_path / "a.csv", index=False)
    assert errors(read((File(tmp_path / "a.csv"),)))["error"].to_numpy() == pytest.approx([1, 2])
    twice.assign(seed=0).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(UserError, match=r"b\.csv: line 5: sample p00-0 is predicted twice"):
        read((File(tmp_path / "b.csv"),))


def test_files_of_one_task_only(tmp_path, seeds):
    (tmp_path / "points.csv").write_text("subject,x,y,x_pred,y_pred\np00,1,2,3,4\n")
    with pytest.raises(UserError, match=r"points\.csv: is in px, unlike .*seed0\.csv; compare one task"):
        read((File(seeds[0]), File(tmp_path / "points.csv")))


# ---- one test set


def rows_of(frame: pd.DataFrame, path) -> pd.DataFrame:
    frame.to_csv(path, index=False)
    return read((File(path),))


ORDERS = [("as it is", lambda frame: frame), ("shuffled", lambda frame: frame.sample(frac=1, random_state=1))]
COLUMNS = [[], ["frame"], ["frame", "sample"]]


@pytest.mark.parametrize("dropped", COLUMNS, ids=str)
@pytest.mark.parametrize(("name", "order"), ORDERS)
def test_the_same_samples_are_the_same_in_any_order_and_rounded(tmp_path, dropped, name, order):
    frame = frame_of(errors_of(MATRIX)[0], samples=40)
    one = rows_of(frame, tmp_path / "one.csv")
    other = rows_of(order(frame.drop(columns=dropped)).round(3), tmp_path / "other.csv")
    inside, reason = same_samples(sided(one, other))
    assert reason == ""
    assert inside.all()


@pytest.mark.parametrize("dropped", COLUMNS, ids=str)
def test_other_labels_are_an_error_that_names_file_and_line(tmp_path, dropped):
    frame = frame_of({"p00": 1.0, "p01": 2.0})
    one = rows_of(frame.drop(columns=dropped), tmp_path / "one.csv")
    changed = frame.drop(columns=dropped)
    changed.loc[4, "yaw"] += 0.9
    other = rows_of(changed, tmp_path / "other.csv")
    with pytest.raises(UserError) as error:
        same_samples(sided(one, other))
    text = str(error.value)
    assert text.startswith(f"{tmp_path / 'other.csv'}: line ")
    assert f"in {tmp_path / 'one.csv'}, line " in text
    assert text.endswith("compare predictions of the same test set")
    if len(dropped) < 2:
        assert ": line 6: the true gaze of subject p01 is " in text
        assert text.count("line 6") == 2


@pytest.mark.parametrize("dropped", COLUMNS, ids=str)
def test_other_samples_are_told(tmp_path, dropped):
    frame = frame_of({"p00": 1.0, "p01": 2.0}).drop(columns=dropped)
    one = rows_of(frame, tmp_path / "one.csv")
    other = rows_of(frame.drop(index=[5]), tmp_path / "other.csv")
    inside, reason = same_samples(sided(one, other))
    assert reason.startswith(f"other samples were tested: not every file has that of {tmp_path / 'one.csv'}, line ")
    if len(dropped) < 2:
        assert "line 7 (" in reason
        assert list(inside[~inside].index) == [5]


def test_samples_may_be_numbered_otherwise_where_frames_are_told(tmp_path):
    frame = frame_of({"p00": 1.0, "p01": 2.0})
    one = rows_of(frame, tmp_path / "one.csv")
    other = rows_of(frame.assign(sample=range(90, 96)), tmp_path / "other.csv")
    assert same_samples(sided(one, other))[1] == ""


# ---- gazepipe errors


def test_errors_of_several_trainings_have_the_crossed_interval(seeds):
    lines = format_trainings(seeds).splitlines()
    table = pd.concat(
        pd.DataFrame({"seed": n, "subject": list(row), "error": list(row.values())})
        for n, row in enumerate(errors_of(MATRIX))
    )
    expected = mean_interval(table)
    assert lines[0].split() == ["subject", "predictions", "error_deg", "sd", "of", "trainings"]
    assert lines[2].split() == ["p00", "9", "3.1000", f"{np.std([3, 3.4, 2.9], ddof=1):.4f}"]
    assert lines[-3].split() == ["mean", "36", f"{MATRIX.mean():.4f}"]
    said = f"95 % interval of the mean over 4 subjects and 3 trainings: {expected.low:.4f} to {expected.high:.4f}"
    assert lines[-1] == said


def test_one_file_is_shown_as_before_and_a_pattern_as_its_files(tmp_path, seeds):
    lines = format_trainings([seeds[0]]).splitlines()
    assert lines[0].split() == ["subject", "samples", "error_deg"]
    assert lines[2].split() == ["p00", "3", "3.0000"]
    assert lines[-1].endswith("; for these predictions only")
    assert format_trainings([f"{tmp_path}/seed{{seed}}.csv"]) == format_trainings(seeds)


def test_each_test_set_has_a_table(tmp_path, seeds):
    both = []
    for seed, row in enumerate(errors_of(MATRIX)):
        path = tmp_path / f"both{seed}.csv"
        put_test(path, "lab", frame_of(row), float_format="%.9f")
        both.append(put_test(path, "field", frame_of({"q": 1.0 + seed}), float_format="%.9f"))
    assert list(by_test([File(path) for path in both])) == ["lab", "field"]
    for files, alone in ((both, seeds), (both[:1], seeds[:1])):
        lab, field = format_trainings(files).split("\n\n\n")
        assert lab == f"Tested on lab:\n\n{format_trainings(alone)}"
        assert field.startswith("Tested on field:\n\nsubject ")
    one = put_test(tmp_path / "one.csv", "lab", frame_of(errors_of(MATRIX)[0]), float_format="%.9f")
    assert format_trainings([one]) == format_trainings([seeds[0]]), "one test set has no heading"
    with pytest.raises(UserError, match=r"one\.csv: has the test sets lab, but .*both0\.csv the test sets lab, field"):
        format_trainings([both[0], one])
    with pytest.raises(UserError, match=r"seed0\.csv: has no column test, but .*one\.csv the test sets lab; name"):
        format_trainings([one, seeds[0]])


def test_all_test_sets_of_a_file_are_read_at_once(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    for test in ("lab", "field", "street"):
        put_test(path, test, frame_of({test: 1.0}))
    forget()
    opened, read_csv = [], pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda *args, **options: opened.append(args) or read_csv(*args, **options))
    assert [set(read((File(path, test=test),))["subject"]) for test in ("lab", "field")] == [{"lab"}, {"field"}]
    assert len(opened) == 1


def test_folds_of_one_seed_are_one_training(tmp_path):
    for fold, errors_by_subject in enumerate([{"p00": 3.0, "p01": 5.0}, {"p02": 4.0, "p03": 6.0}]):
        write_predictions(tmp_path / f"fold{fold}.csv", errors_by_subject)
    lines = format_trainings([f"{tmp_path}/fold{{fold}}.csv"]).splitlines()
    assert lines[-3].split() == ["mean", "12", "4.5000"]
    assert lines[-1].startswith("95 % interval of the mean over 4 subjects: ")
    assert "; one training: " in lines[-1]


def test_a_training_that_lacks_a_subject_has_no_interval(tmp_path, seeds):
    write_predictions(tmp_path / "fewer.csv", {"p00": 1.0, "p01": 2.0})
    lines = format_trainings([*seeds, tmp_path / "fewer.csv"]).splitlines()
    assert lines[-1].startswith("no interval of the mean: these files: seed 3 has no error of fold 0, subject p02")
    assert lines[-3].split() == ["mean", "42"]


def test_trainings_of_other_samples_or_labels_are_refused(tmp_path, seeds):
    write_predictions(tmp_path / "more.csv", errors_of(MATRIX)[0], samples=5)
    with pytest.raises(UserError, match=r"seed0\.csv: other samples were tested: .*; name trainings that were tested"):
        format_trainings([seeds[0], tmp_path / "more.csv"])
    write_predictions(tmp_path / "moved.csv", errors_of(MATRIX)[0], shift=0.2)
    with pytest.raises(UserError, match=r"moved\.csv: line 2: the true gaze of subject p00 "):
        format_trainings([seeds[0], tmp_path / "moved.csv"])
