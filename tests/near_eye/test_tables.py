"""The near-eye tables: what is bold, and what is said of runs that lack something."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_config import toy_config
from toy_results import Run, row, write_near_eye, write_points

from gazepipe.errors import UserError
from gazepipe.evaluation import inference
from gazepipe.evaluation.means import BOLD, SINGLE

DATASET = "near-eye-drawn"
OFFSET_PX = {"none": 100.0, "base": 14.0, "small": 10.0, "small_scratch": 10.02}
SUBJECTS = [f"s{n}" for n in range(1, 7)]
NAMES = {
    "none": "*predict the mean*",
    "base": "itracker4",
    "small": "itracker4 + small",
    "small_scratch": "itracker4 + small_scratch",
}


def errors_of(method: str, seed: int) -> dict[str, list[float]]:
    """Pixels: the offset of the method, 0.5 more for each subject, and chance of the run and its subjects; subjects
    have different numbers of images."""
    chance = np.random.default_rng([list(OFFSET_PX).index(method), seed])
    run, own = chance.normal(0, 0.2), chance.normal(0, 0.2, len(SUBJECTS))
    drawn = 0 if method == "none" else 1
    return {
        subject: [OFFSET_PX[method] + 0.5 * n + drawn * (run + own[n]) + 2 * i for i in range(n + 1)]
        for n, subject in enumerate(SUBJECTS)
    }


@pytest.fixture
def run_of(tmp_path) -> Callable[[list[int]], Run]:
    def of(seeds: list[int]) -> Run:
        raw = toy_config()
        raw["benchmark"] |= {"datasets": [DATASET], "models": ["itracker4"], "seeds": seeds, "folds": {}}
        run = Run(raw, tmp_path / "results")
        write_near_eye(run, errors_of)
        return run

    return of


def prediction(run: Run, method: str, seed: int) -> Path:
    found = {(names.get("method"), int(names["seed"])): path for _, names, path in run.inputs("predictions")}
    return found[method, seed]


def cells_of(page: str, above: str, start: str) -> list[str]:
    """Cells of the first row that starts so, below a text."""
    lines = page.partition(above)[2].splitlines()
    return next([cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(f"| {start} "))


def test_the_best_and_what_does_not_differ_from_it_are_bold(run_of):
    run = run_of([0, 1, 2])
    run.write()
    page = run.page.read_text()
    assert BOLD in page
    bold = {method for method, name in NAMES.items() if cells_of(page, "## Near-eye", name)[1].startswith("**")}
    assert bold == {"small", "small_scratch"}, "0.02 px apart: nothing found"


def test_subjects_count_alike_whatever_their_images(run_of):
    run = run_of([0, 1, 2])
    run.write()
    means = [[np.mean(errors_of("small", seed)[subject]) for subject in SUBJECTS] for seed in range(3)]
    found = row(run.table("near_eye"), method="small")
    assert found.error_px == pytest.approx(np.mean(means), abs=1e-4)
    assert found.seed_std_px == pytest.approx(np.std(np.mean(means, axis=1), ddof=1), abs=1e-4)
    cells = cells_of(run.page.read_text(), "of every test subject", "s6")
    of_s6 = np.array(means)[:, 5]
    assert f"{of_s6.mean():.2f} ± {of_s6.std(ddof=1):.2f}" in cells


def test_one_seed_marks_nothing_and_says_why(run_of):
    run = run_of([0])
    run.write()
    page = run.page.read_text()
    assert SINGLE in page
    assert BOLD not in page
    assert "**" not in page.partition("## Near-eye:")[2].partition("## What was run")[0]
    assert run.table("near_eye_comparisons").p.isna().all()
    assert "2 comparisons: one seed" in page.partition("## Near-eye:")[0]


def test_a_run_that_lacks_a_subject_is_a_marked_cell(run_of):
    run = run_of([0, 1, 2])
    whole = errors_of("small", 1)
    write_points(prediction(run, "small", 1), DATASET, {subject: whole[subject] for subject in SUBJECTS[:-1]})
    run.write()
    reason = "itracker4 + small: seed 1 has no error of fold 0, subject s6, as other seeds have"
    found = row(run.table("near_eye"), method="small")
    assert np.isnan([found.error_px, found.low_px, found.median_px, found.seed_std_px]).all()
    assert found.reason == reason
    assert found.params == 500_000, "what it costs is known"
    page = run.page.read_text()
    assert cells_of(page, "## Near-eye:", "itracker4 + small")[1:3] == ["— ¹", "—"]
    assert cells_of(page, "## Near-eye:", "itracker4 + small_scratch")[1].startswith("**"), "the best of the others"
    assert not cells_of(page, "## Near-eye:", "itracker4")[1].startswith("**")
    compared = run.table("near_eye_comparisons")
    assert set(compared.reason) == {reason}
    assert compared.difference_percent.isna().all()
    subject = cells_of(page, "of every test subject", "s6")
    assert [cell == "— ¹" for cell in subject[1:]] == [False, False, False, True, False]
    assert "seed 1 has no error of it in fold 0, as other seeds have" in page
    assert "—" not in "".join(cells_of(page, "of every test subject", "s5"))
    for name in ("near_eye", "near_eye_comparisons", "near_eye_subjects"):
        assert "--- $^{1}$" in (run.folder / f"tables/{name}.tex").read_text()


def test_subjects_that_differ_between_methods(run_of):
    run = run_of([0, 1])
    for seed in (0, 1):
        whole = errors_of("small_scratch", seed)
        write_points(
            prediction(run, "small_scratch", seed), DATASET, {subject: whole[subject] for subject in SUBJECTS[1:]}
        )
    run.write()
    compared = run.table("near_eye_comparisons")
    other = row(compared, baseline="small_scratch")
    assert other.reason == "only itracker4 + small has fold 0, subject s1; compare on the same subjects and folds"
    assert np.isnan([other.difference_percent, other.p]).all()
    assert not np.isnan(row(compared, baseline="base").p)
    page = run.page.read_text()
    assert cells_of(page, "of every test subject", "s1")[1:][-1] == "— ¹"
    assert "- ¹ itracker4 + small_scratch: not tested on it, as others are" in page


def test_one_subject_has_a_mean_and_no_more(run_of):
    run = run_of([0, 1])
    for _, names, path in run.inputs("predictions"):
        errors = errors_of(names.get("method", "none"), int(names["seed"]))
        write_points(path, DATASET, {"s1": errors["s1"]})
    run.write()
    networks = run.table("near_eye")
    assert networks.error_px.notna().all()
    assert networks.low_px.isna().all()
    assert set(networks.reason) == {inference.ONE_SUBJECT}
    assert set(run.table("near_eye_comparisons").reason) == {inference.ONE_SUBJECT}
    assert BOLD not in run.page.read_text()


def test_a_missing_seed_of_one_method_is_named(run_of):
    run = run_of([0, 1, 2])
    path = prediction(run, "small", 2)
    path.unlink()
    with pytest.raises(UserError, match=rf"^{path}: cannot be read"):
        run.write()
    assert not run.page.exists()
    assert not (run.folder / "tables").exists()


def test_bad_rows_are_named(run_of):
    run = run_of([0, 1])
    path = prediction(run, "small", 1)
    head, *rows = path.read_text().splitlines()
    for text, said in [
        ([head, *rows, f"{DATASET},s1,600,400,nan,400"], "x_pred is 'nan'; every coordinate is a finite number"),
        ([f"{head},sample", *(f"{line},7" for line in rows)], "sample 7 is predicted twice; keep one row of each"),
    ]:
        path.write_text("\n".join(text) + "\n")
        with pytest.raises(UserError, match=rf"^{path}: line \d+: {said}$"):
            run.write()
        assert not (run.folder / "tables").exists()
