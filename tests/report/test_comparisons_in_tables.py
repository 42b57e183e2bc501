"""Intervals, tests and marks of the tables: from files of predictions to what the page says."""

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_config import toy_config
from toy_predictions import put_test
from toy_results import Run, row, write_profile

from gazepipe.errors import UserError
from gazepipe.evaluation import inference
from gazepipe.evaluation.means import BOLD, SINGLE
from gazepipe.evaluation.metrics import read_tests
from gazepipe.evaluation.sentences import NOTHING_TESTED

OFFSET_DEG = {"none": 9.0, "base": 5.0, "kd": 4.0, "kd_prune": 4.01}
SUBJECTS = [f"s{number}" for number in range(6)]


def error_of(method: str, seed: int, subject: str) -> float:
    """Degrees: the offset of the method, 0.3 more for each subject, and chance of the run and of its subjects."""
    by_run = np.random.default_rng([list(OFFSET_DEG).index(method), seed])
    chance = by_run.normal(0, 0.1) + by_run.normal(0, 0.1, len(SUBJECTS))[SUBJECTS.index(subject)]
    return OFFSET_DEG[method] + 0.3 * SUBJECTS.index(subject) + (0 if method == "none" else chance)


def write_errors(path: Path, errors: dict[str, float], test: str = "columbia-drawn") -> None:
    """Predictions of a test set whose every sample of a subject is off by so many degrees."""
    rows = [(n, subject, 0.0, 0.1, np.radians(error), 0.1) for n, (subject, error) in enumerate(errors.items())]
    frame = pd.DataFrame(rows, columns=["sample", "subject", "pitch", "yaw", "pitch_pred", "yaw_pred"])
    put_test(path, test, frame)


@pytest.fixture
def run_of(tmp_path) -> Callable[..., Run]:
    return lambda *arguments: one_fold(tmp_path / "results", *arguments)


def one_fold(folder: Path, seeds: list[int], subjects: list[str] = SUBJECTS) -> Run:
    """Results of base, kd and kd_prune, one fold, with these seeds and subjects."""
    raw = toy_config()
    raw["benchmark"] |= {"datasets": ["columbia-drawn"], "models": ["resnet18"], "seeds": seeds}
    raw["benchmark"] |= {"methods": ["base", "kd", "kd_prune"], "folds": {"columbia-drawn": [0]}}
    run = Run(raw, folder)
    for file, names, path in run.inputs("predictions", "profiles"):
        if file.job.stage == "profile":
            write_profile(path)
        else:
            method, seed = names.get("method", "none"), int(names["seed"])
            write_errors(path, {subject: error_of(method, seed, subject) for subject in subjects})
    return run


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory) -> Run:
    """With its tables; for tests that change nothing."""
    run = one_fold(tmp_path_factory.mktemp("three") / "results", [0, 1, 2])
    run.write()
    return run


def prediction(run: Run, method: str, seed: int) -> Path:
    found = [path for _, names, path in run.inputs("predictions") if names.get("method") == method]
    return found[seed]


def long_table(method: str, seeds: range) -> pd.DataFrame:
    rows = [(seed, subject, error_of(method, seed, subject)) for seed, subject in product(seeds, SUBJECTS)]
    return pd.DataFrame(rows, columns=["seed", "subject", "error"])


def line_of(page: str, heading: str, start: str) -> list[str]:
    """Cells of the first row of a section's table that starts so."""
    section = page.partition(heading)[2]
    line = next(line for line in section.splitlines() if line.startswith(f"| {start} "))
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_several_seeds(three_seeds):
    run = three_seeds
    mean = inference.mean_interval(long_table("kd", range(3)))
    found = row(run.table("benchmark"), method="kd")
    assert [found.error_deg, found.low_deg, found.high_deg] == pytest.approx([mean.mean, mean.low, mean.high], abs=1e-4)
    assert (found.n_subjects, found.n_seeds) == (6, 3)
    assert pd.isna(found.reason)

    compared = run.table("comparisons")
    pairs = {
        (method, other): inference.compare(
            long_table(method, range(3)), long_table(other, range(3)), paired_seeds=True, margin=0.5
        )
        for method, other in (("kd", "base"), ("kd_prune", "kd"), ("kd_prune", "base"))
    }
    assert list(zip(compared.method, compared.baseline, strict=True)) == list(pairs)
    assert list(compared.role) == ["control", "parent", "teacher"]
    for (method, other), pair in pairs.items():
        line = row(compared, method=method, baseline=other)
        assert [line.difference_deg, line.low_deg, line.high_deg, line.detectable_deg, line.d_z, line.df] == (
            pytest.approx(
                [pair.difference, pair.low, pair.high, pair.smallest_detectable, pair.effect_size, pair.df], abs=1e-4
            )
        )
        assert (line.n_subjects, line.n_seeds, line.n_seeds_against, line.paired_seeds) == (6, 3, 3, True)
        assert line.p == pytest.approx(pair.p, rel=0.01)
        assert line.finding == ("equivalent" if other == "kd" else "different")
    assert compared.p_holm.to_numpy() == pytest.approx(inference.holm([pair.p for pair in pairs.values()]), rel=0.01)

    page = run.page.read_text()
    cells = line_of(page, "## Does it help?", "columbia-drawn")
    assert cells[2:4] == ["resnet18 + KD", "resnet18 (control)"]
    assert "Controls that were not run: resnet18 + KD + longer (of resnet18 + KD + Prune)." in page
    assert re.fullmatch(r"-\d\.\d\d \[-\d\.\d\d, -\d\.\d\d\]", cells[4])
    assert cells[6] == "different"
    assert cells[-2:] == ["6", "3 pairs"]
    assert BOLD in page
    assert SINGLE not in page
    said = page.partition("## What the numbers say")[2].partition("## Benchmark")[0]
    kd = pairs["kd", "base"]
    p = row(compared, method="kd").p_holm
    amount = f"by {-kd.difference:.2f} degrees [{-kd.high:.2f}, {-kd.low:.2f}] (p = {p:.3f})"
    first = f"- On columbia-drawn: KD lowers the error of resnet18 {amount} against "
    assert f"{first}the same training without it (resnet18)." in said


def test_the_best_and_what_does_not_differ_from_it_are_bold(three_seeds):
    page = three_seeds.page.read_text()
    bold = {
        name: line_of(page, "## Benchmark", name)[1].startswith("**") for name in ("resnet18", "*predict the mean*")
    }
    assert bold == {"resnet18": False, "*predict the mean*": False}
    for name in ("resnet18 + KD", "resnet18 + KD + Prune"):
        assert line_of(page, "## Benchmark", name)[1].startswith("**"), "0.01 degrees apart: nothing found"


def test_one_seed_says_a_difference_and_why_no_more(run_of):
    run = run_of([0])
    run.write()
    compared = run.table("comparisons")
    assert compared.difference_deg.notna().all()
    assert compared[["low_deg", "p", "p_holm", "p_equivalence", "detectable_deg", "d_z"]].isna().all(axis=None)
    assert set(compared.reason) == {inference.ONE_SEED}
    page = run.page.read_text()
    cells = line_of(page, "## Does it help?", "columbia-drawn")
    assert re.fullmatch(r"-\d\.\d\d ¹", cells[4])
    assert cells[5:] == ["not tested", "6", "1 pair"]
    assert f"- ¹ {inference.ONE_SEED}" in page
    assert f"{NOTHING_TESTED}\n\n- 3 comparisons: {inference.ONE_SEED}." in page.partition("## Benchmark")[0]
    assert "p (Holm)" not in page
    assert SINGLE in page
    benchmark = page.partition("## Benchmark")[2].partition("##")[0]
    assert "**" not in benchmark.partition("Lower is better.")[2].partition("Published")[0]
    assert re.search(r"\| \*predict the mean\* +\| +9\.75 \[\d", page), "the mean has no chance of training"


def test_one_subject_has_a_mean_and_no_more(run_of):
    run = run_of([0, 1], SUBJECTS[:1])
    run.write()
    found = row(run.table("benchmark"), method="kd")
    assert np.isnan(found.low_deg)
    assert found.reason == inference.ONE_SUBJECT
    page = run.page.read_text()
    assert re.fullmatch(r"\d\.\d\d ¹", line_of(page, "## Benchmark", "resnet18 + KD")[1])
    compared, _, personal = page.partition("## Personal calibration")
    assert compared.count(f"- ¹ {inference.ONE_SUBJECT}") == 2
    assert personal.count(f"- ¹ {inference.ONE_SUBJECT}") == 3
    assert BOLD not in page


def test_a_missing_run_is_named(run_of):
    run = run_of([0, 1, 2])
    path = prediction(run, "kd", 1)
    path.unlink()
    with pytest.raises(UserError, match=rf"^{path}: cannot be read"):
        run.write()
    assert not run.page.exists()


def test_a_run_that_lacks_a_subject_is_a_marked_cell(run_of):
    run = run_of([0, 1, 2])
    write_errors(prediction(run, "kd", 1), {subject: error_of("kd", 1, subject) for subject in SUBJECTS[:-1]})
    run.write()
    reason = "resnet18 + KD: seed 1 has no error of fold 0, subject s5, as other seeds have"
    found = row(run.table("benchmark"), method="kd")
    assert np.isnan([found.error_deg, found.low_deg, found.std_deg]).all()
    assert found.reason == reason
    page = run.page.read_text()
    assert line_of(page, "## Benchmark", "resnet18 + KD")[1] == "— ¹"
    assert line_of(page, "## Does it help?", "columbia-drawn")[4:7] == ["— ¹", "", "not tested"]
    assert page.count(f"- ¹ {reason}") == 2
    assert line_of(page, "## Benchmark", "resnet18 + KD + Prune")[1].startswith("**"), "the others are still compared"


def test_subjects_that_differ_between_methods(run_of):
    run = run_of([0, 1])
    for seed in (0, 1):
        write_errors(prediction(run, "kd", seed), {subject: error_of("kd", seed, subject) for subject in SUBJECTS[:-1]})
    run.write()
    line = row(run.table("comparisons"), method="kd")
    assert np.isnan([line.difference_deg, line.p]).all()
    assert line.reason == "only resnet18 has fold 0, subject s5; compare on the same subjects and folds"
    assert not np.isnan(row(run.table("comparisons"), method="kd_prune", baseline="base").p)
    assert "— ¹" in run.page.read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("columbia-drawn,9,s1,0.1,nan,0.1,0.1", "line 8: yaw is 'nan'; every angle is a finite number"),
        (" ,9,s1,0.1,0.1,0.1,0.1", "line 8: test is empty; name the test set of every row"),
        ("columbia-drawn,1,s1,0.1,0.1,0.1,0.1", "line 8: sample 1 is predicted twice; keep one row of each"),
    ],
)
def test_bad_rows_are_named(run_of, line, said):
    run = run_of([0, 1])
    path = prediction(run, "kd", 1)
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(UserError) as error:
        run.write()
    assert str(error.value) == f"{path}: {said}"
    assert not (run.folder / "tables").exists()


def test_a_small_p_value_is_not_written_as_0(run_of):
    run = run_of([0, 1, 2])
    for method, seed in product(("base", "kd"), range(3)):
        errors = {name: 100 * (method == "base") + error_of(method, seed, name) for name in SUBJECTS}
        write_errors(prediction(run, method, seed), errors)
    run.write()
    p = row(run.table("comparisons"), method="kd").p
    assert 0 < p < 1e-5
    assert "<0.001" in run.page.read_text()


# ---- across data sets

FOLDS = (0, 1)
OTHER = "mpiifacegaze-drawn"


def cross_error(method: str, fold: int, seed: int, subject: str) -> float:
    """Degrees on the other data set: as `error_of`, 1 more in fold 1, and the order of kd and base turned round."""
    turned = {"base": "kd", "kd": "base"}.get(method, method)
    return error_of(turned, 10 * fold + seed, subject) + fold


@pytest.fixture
def cross(tmp_path) -> Run:
    """Two data sets, two folds of the first, three seeds; subjects of the other are tested by the networks of all
    folds, with more images in fold 1.
    """
    raw = toy_config()
    raw["benchmark"] |= {"datasets": ["columbia-drawn", "mpiifacegaze-drawn"], "models": ["resnet18"]}
    raw["benchmark"] |= {"methods": ["base", "kd", "kd_prune"], "seeds": [0, 1, 2]}
    raw["benchmark"]["folds"] = {"columbia-drawn": list(FOLDS), "mpiifacegaze-drawn": [0]}
    run = Run(raw, tmp_path / "results")
    for file, names, path in run.inputs("predictions", "profiles"):
        if file.job.stage == "profile":
            write_profile(path)
            continue
        method, fold, seed = names.get("method", "none"), int(names["fold"]), int(names["seed"])
        if names["dataset"] == names["test"]:
            errors = {f"{fold}{name}": error_of(method, seed, name) for name in SUBJECTS}
        else:
            errors = {name: cross_error(method, fold, seed, name) for name in SUBJECTS}
        write_errors(path, errors, names["test"])
    return run


def cross_prediction(run: Run, method: str, fold: int, seed: int) -> Path:
    wanted = {"dataset": "columbia-drawn", "test": "mpiifacegaze-drawn", "method": method}
    wanted |= {"fold": str(fold), "seed": str(seed)}
    (path,) = (
        path
        for _, names, path in run.inputs("predictions")
        if wanted == {name: str(names.get(name)) for name in wanted}
    )
    return path


def test_errors_across_data_sets_are_means_over_seeds_and_folds_first(cross):
    path = cross_prediction(cross, "kd", 1, 0)
    often = read_tests(path)[OTHER].drop(columns="test")
    put_test(path, OTHER, pd.concat([often, often.assign(sample="1" + often["sample"])]))
    cross.write()
    errors = [
        [np.mean([cross_error("kd", fold, seed, name) for fold in FOLDS for seed in range(3)])] for name in SUBJECTS
    ]
    found = row(cross.table("cross_dataset"), train="columbia-drawn", method="kd")
    assert found.error_deg == pytest.approx(np.mean(errors), abs=1e-4)
    assert (found.n_subjects, found.n_seeds) == (len(SUBJECTS), 3)
    long = [
        (fold, seed, name, cross_error("kd", fold, seed, name))
        for fold, seed, name in product(FOLDS, range(3), SUBJECTS)
    ]
    mean = inference.mean_interval(pd.DataFrame(long, columns=["fold", "seed", "subject", "error"]))
    assert [found.low_deg, found.high_deg] == pytest.approx([mean.low, mean.high], abs=1e-4)


def test_the_best_is_bold_in_each_column_by_itself(cross):
    cross.write()
    page = cross.page.read_text()
    names = ("*predict the mean*", "resnet18", "resnet18 + KD", "resnet18 + KD + Prune")
    own, across = (
        {name: [cell.startswith("**") for cell in line_of(page, heading, name)[1:3]] for name in names}
        for heading in ("## Benchmark", "## Cross-dataset")
    )
    assert [own[name] for name in names] == [[False, False], [False, False], [True, True], [True, True]]
    assert [across[name] for name in names] == [[False, False], [True, True], [False, False], [True, True]]


def test_a_fold_that_lacks_a_subject_is_a_marked_cell(cross):
    path = cross_prediction(cross, "kd", 1, 2)
    write_errors(path, {name: cross_error("kd", 1, 2, name) for name in SUBJECTS[1:]}, OTHER)
    cross.write()
    reason = "resnet18 + KD: seed 2 has no error of fold 1, subject s0, as other seeds have"
    cells = line_of(cross.page.read_text(), "## Cross-dataset", "resnet18 + KD")
    assert cells[1] == "— ¹"
    assert cells[2][0].isdigit(), "the other direction is known"
    assert row(cross.table("cross_dataset"), train="columbia-drawn", method="kd").reason == reason
    compared = row(cross.table("comparisons"), train="columbia-drawn", test="mpiifacegaze-drawn", method="kd")
    assert (compared.reason, compared.finding) == (reason, "not tested")
    # kd against base, and kd_prune against kd.
    assert f"- 2 comparisons: {reason}." in cross.page.read_text().partition("## Benchmark")[0]


def test_a_subject_that_met_fewer_folds_than_others_is_a_marked_cell(cross):
    for seed in range(3):
        errors = {name: cross_error("kd", 1, seed, name) for name in SUBJECTS[1:]}
        write_errors(cross_prediction(cross, "kd", 1, seed), errors, OTHER)
    cross.write()
    found = row(cross.table("cross_dataset"), train="columbia-drawn", method="kd")
    assert found.reason == "resnet18 + KD: subject s0 was tested in 1 folds, subject s1 in 2"
    assert np.isnan(found.error_deg)


# ---- pruned networks


@pytest.fixture
def pruned(tmp_path) -> Run:
    raw = toy_config()
    raw["benchmark"] |= {"datasets": ["columbia-drawn"], "models": ["resnet18"], "seeds": [0, 1, 2]}
    raw["benchmark"] |= {"methods": ["base", "half", "half_scratch"], "folds": {"columbia-drawn": [0]}}
    run = Run(raw, tmp_path / "results")
    alike = {"half": "kd", "half_scratch": "kd_prune"}
    for file, names, path in run.inputs("predictions", "profiles"):
        if file.job.stage == "profile":
            write_profile(path)
        else:
            method = names.get("method", "none")
            errors = {name: error_of(alike.get(method, method), int(names["seed"]), name) for name in SUBJECTS}
            write_errors(path, errors)
    return run


def test_pruned_networks_of_several_seeds(pruned):
    pruned.write()
    found = row(pruned.table("compression"), against="base")
    base = np.mean([error_of("base", seed, name) for seed in range(3) for name in SUBJECTS])
    half = np.mean([error_of("kd", seed, name) for seed in range(3) for name in SUBJECTS])
    assert found.difference_percent == pytest.approx(100 * (half / base - 1), abs=1e-3)
    assert (found.finding, found.n_seeds) == ("different", 3)
    said = pruned.page.read_text().partition("### Pruned networks")[2].partition("## Benchmark")[0]
    amount = f"{-found.difference_percent:.1f} % [{-found.high_percent:.1f}, {-found.low_percent:.1f}]"
    assert f"half lowers the error of resnet18 by {amount}" in said


def test_a_pruned_network_whose_run_lacks_a_subject_is_a_marked_cell(pruned):
    write_errors(prediction(pruned, "base", 1), {name: error_of("base", 1, name) for name in SUBJECTS[:-1]})
    pruned.write()
    reason = "resnet18: seed 1 has no error of fold 0, subject s5, as other seeds have"
    full, twin = (row(pruned.table("compression"), against=name) for name in ("base", "half_scratch"))
    assert full.reason == reason
    assert np.isnan([full.against_deg, full.difference_percent, full.p]).all()
    assert not np.isnan([full.error_deg, twin.difference_percent, twin.p]).any()
    cells = line_of(pruned.page.read_text(), "## Structural pruning", "resnet18 + half")
    assert cells[8:10] == ["— ¹", "— ¹"], "its error and the difference"
    assert cells[4][0].isdigit()


def test_a_missing_seed_of_a_twin_is_named(pruned):
    path = prediction(pruned, "half_scratch", 2)
    path.unlink()
    with pytest.raises(UserError, match=rf"^{path}: cannot be read"):
        pruned.write()
    assert not pruned.page.exists()
