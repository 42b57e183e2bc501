"""The tables and figures of robustness, from files written by hand."""

import numpy as np
import pandas as pd
import pytest
from toy_config import toy_config
from toy_results import Run, row

from gazepipe.common.plotting import network_looks
from gazepipe.config import load as config
from gazepipe.dag.stage import Job
from gazepipe.errors import UserError
from gazepipe.evaluation import inference
from gazepipe.evaluation.corruptions import CLEAN, variants
from gazepipe.evaluation.results import Results
from gazepipe.evaluation.settings import Corruptions
from gazepipe.report.robustness import (
    robustness,
    robustness_comparisons,
    robustness_comparisons_section,
    robustness_comparisons_sentences,
    robustness_section,
)
from gazepipe.report.robustness_figure import curves, draw

COST = {"noise": 1.0, "blur": 0.5, "darker": 0.1, "brighter": 0.0, "jpeg": -0.1, "occlusion": 2.0}
"""Degrees, or pixels, of each step of strength."""
NETWORK = {"base": 4.0, "kd": 3.0, "small": 5.0, "small_scratch": 6.0}


def written(folder, seeds=(0, 1, 2), networks=None, datasets=("columbia-drawn", "near-eye-drawn")) -> Run:
    """Errors of network + subject + seed + strength x cost (kd: half of it), of three subjects in each of two folds."""
    raw = toy_config()
    models = ["resnet18", "itracker4"][: len(datasets)]
    raw["benchmark"] |= {"datasets": list(datasets), "models": models, "methods": ["base", "kd"]}
    raw["benchmark"] |= {"seeds": list(seeds), "folds": {"columbia-drawn": [0, 1]}}
    raw["robustness"] = {"networks": networks}
    run = Run(raw, folder / "results")
    for file, names, path in run.inputs("robustness"):
        if file.job.stage == "corruptions":
            continue
        folds = (0, 1) if names["dataset"] == "columbia-drawn" else (0,)
        cells = [(fold, seed, f"{fold}{n}") for fold in folds for seed in seeds for n in range(3)]
        write(path, names["method"], cells, file.output)
    return run


def write(path, method, cells, output):
    share = 0.5 if method == "kd" else 1.0
    rows = []
    for fold, seed, subject in cells:
        first, number = {"fold": fold, "seed": seed, "subject": subject}, int(subject[1])
        if output == "jitter":
            rows.append({**first, "std": 0.2 + 0.01 * number, "rms_s2s": 0.3, "n": 4, "repeats": 8})
            continue
        for kind, strength, level in variants(Corruptions()):
            harm = share * strength * (0 if kind == CLEAN else COST[kind]) * (1 + 0.1 * (number - 1))
            error = NETWORK[method] + 0.2 * number + 0.1 * (seed - 1) + harm
            rows.append({**first, "corruption": kind, "strength": strength, "level": level, "error": error, "n": 4})
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


def of(run: Run) -> Results:
    return Results(run.plan.settings(Job.of("tables")).of_task(None), run.folder)


@pytest.fixture
def results(tmp_path) -> Results:
    return of(written(tmp_path))


def test_increases_are_those_over_the_clean_images(results):
    frame = robustness(results)
    assert len(frame) == (2 + 3) * (1 + 6 * 3 + 2)
    assert set(zip(frame.dataset, frame.unit, strict=True)) == {("columbia-drawn", "deg"), ("near-eye-drawn", "px")}
    where = {"dataset": "columbia-drawn", "method": "base"}
    strong = row(frame[frame.strength == 3], measure="noise", **where)
    # Subjects 0, 1, 2 suffer 2.7, 3.0 and 3.3; each twice, as there are two folds.
    assert strong.increase == pytest.approx(3.0)
    harm = np.tile([2.7, 3.0, 3.3], 2)
    half = 2.570582 * harm.std(ddof=1) / np.sqrt(6)  # t of 5 degrees of freedom; the seeds' part cancels
    assert (strong.increase_low, strong.increase_high) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert strong["mean"] == pytest.approx(4.0 + 0.2 + 3.0)
    assert (strong.n_subjects, strong.n_seeds, strong.level) == (6, 3, 30.0)
    kd = frame[(frame.strength == 3) & (frame.measure == "noise") & (frame.method == "kd")]
    assert kd.increase.to_numpy() == pytest.approx(1.5)
    clean = row(frame, measure=CLEAN, **where)
    assert (clean["mean"], clean.strength) == (pytest.approx(4.2), 0)
    assert np.isnan(clean.increase)
    scatter = row(frame, measure="std", **where)
    assert scatter["mean"] == pytest.approx(0.21)
    assert np.isnan(scatter.strength)


def test_an_interval_of_the_increase_is_narrower_than_that_of_the_error(results):
    frame = robustness(results)
    harmed = frame[(frame.strength > 0) & (frame.measure != "brighter")]
    assert (harmed.increase_high - harmed.increase_low < harmed.high - harmed.low).mean() > 0.8


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_all_intervals_are_those_of_one_mean(tmp_path, seeds):
    """The same cells, one mean_interval each."""
    run = written(tmp_path, seeds=seeds)
    path = next(path for file, _, path in run.inputs("robustness") if file.output == "errors" and "kd" in path.stem)
    errors = pd.read_csv(path, dtype={"subject": str})
    rng = np.random.default_rng(0)
    errors = errors.assign(error=errors.error + rng.normal(0, 0.5, len(errors)))
    errors.to_csv(path, index=False)
    frame = robustness(of(run))
    cell = ["fold", "seed", "subject"]
    clean = errors[errors.strength == 0].set_index(cell).error
    for line in frame[(frame.method == "kd") & frame.strength.notna()].itertuples():
        own = errors[(errors.corruption == line.measure) & (errors.strength == line.strength)]
        expected = inference.mean_interval(own)
        assert (line.mean, line.low, line.high) == pytest.approx((expected.mean, expected.low, expected.high))
        more = own.set_index(cell).error - clean
        expected = inference.mean_interval(more.reset_index())
        if line.strength:
            found = (line.increase, line.increase_low, line.increase_high)
            assert found == pytest.approx((expected.mean, expected.low, expected.high))


def test_the_page_shows_each_network_and_says_what_costs_most(results):
    blocks = robustness_section(results, robustness(results))
    tables = [block for block in blocks if not isinstance(block, str)]
    text = "\n".join(block for block in blocks if isinstance(block, str))
    networks = [["resnet18", "resnet18 + KD"], ["itracker4", "itracker4 + small", "itracker4 + small_scratch"]]
    assert [list(table["Model"]) for table in tables[1::2]] == networks
    assert [list(table["Model"]) for table in tables[::2]] == [
        [name for name in own for _ in range(3)] for own in networks
    ]
    assert list(tables[0]["Strength"][:3]) == ["mild", "medium", "strong"]
    cells = tables[0].iloc[2]
    assert cells["Noise"] == "+3.00 [2.72, 3.28]"
    assert cells["Jpeg"] == "-0.30 [-0.33, -0.27]"
    assert cells["Brighter"].startswith("+0.00 [")
    scatter = tables[1].iloc[0]
    assert scatter["Error, clean"].startswith("4.20 [")
    assert scatter["Jitter"].startswith("0.21 [0.20, 0.22")
    assert scatter["RMS-S2S"].startswith("0.30 [")
    assert "Strong occlusion costs most (+4.50 degrees on average over networks), strong jpeg least (-0.23)." in text
    assert "noise: 5, 15, 30 grey levels; blur: 0.5, 1, 2 % of the width; darker: 1, 2, 3 stops" in text
    assert "![The corruptions](figures/corruptions/near-eye-drawn.png)" in text
    assert "![Error against strength](figures/robustness/columbia-drawn.svg)" in text
    assert "One seed" not in text


def test_methods_are_compared_under_the_worst_corruption(results):
    frame = robustness_comparisons(results)
    assert set(zip(frame.train, frame.corruption, strict=True)) == {
        ("columbia-drawn", "occlusion"), ("near-eye-drawn", "occlusion"),
    }  # fmt: skip
    kd = row(frame, method="kd")
    # Base: 4.2 + 6; kd: 3.2 + 3.
    assert kd.difference_percent == pytest.approx(100 * (6.2 / 10.2 - 1))
    assert kd.n_seeds == 3
    assert kd.p < 0.05
    blocks = robustness_comparisons_section(results, frame)
    shown = next(block for block in blocks if not isinstance(block, str))
    assert set(shown["Corruption"]) == {"occlusion"}
    assert robustness_comparisons_section(results, frame[:0]) == []
    said = "\n".join(robustness_comparisons_sentences(results, frame))
    assert "On columbia-drawn under strong occlusion: KD lowers the error of resnet18 by 39.2 %" in said
    assert robustness_comparisons_sentences(results, frame[:0]) == []


def test_one_seed_has_an_interval_over_subjects_and_no_test(tmp_path):
    results = of(written(tmp_path, seeds=(0,)))
    frame = robustness(results)
    assert set(frame.reason) == {inference.ONE_TRAINING}
    assert any("One seed" in block for block in robustness_section(results, frame) if isinstance(block, str))
    assert robustness_comparisons(results).p.isna().all()


def test_a_run_without_a_subject_is_a_dash_with_a_note(tmp_path):
    run = written(tmp_path)
    for file, names, path in run.inputs("robustness"):
        if file.output == "errors" and names["method"] == "kd":
            table = pd.read_csv(path, dtype=str)
            table[(table.seed != "1") | (table.subject != "02")].to_csv(path, index=False)
    results = of(run)
    blocks = robustness_section(results, robustness(results))
    increases, scatter = [block for block in blocks if not isinstance(block, str)][:2]
    assert tuple(increases.iloc[3][["Model", "Noise"]]) == ("resnet18 + KD ¹", "—")
    assert tuple(scatter.iloc[1][["Model", "Error, clean"]]) == ("resnet18 + KD ¹", "—")
    assert scatter["Jitter"][1].startswith("0.21")
    assert any("seed 1 has no error of fold 0, subject 02" in block for block in blocks if isinstance(block, str))


@pytest.mark.parametrize(
    ("mend", "match"),
    [
        (
            lambda table: table.assign(error=["nan", *table.error[1:]]),
            r"kd\.csv: line 2 holds what is no finite",
        ),
        (lambda table: pd.concat([table, table[:1]]), r"kd\.csv: holds two rows of one fold, seed and subject"),
        (lambda table: table.drop(columns="error"), r"kd\.csv: cannot be read"),
        (
            lambda table: table[table.corruption != "clean"],
            r"kd\.csv: has no clean images of fold 0, seed 0, subject",
        ),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path, mend, match):
    run = written(tmp_path, datasets=("columbia-drawn",))
    path = next(path for file, names, path in run.inputs("robustness") if file.output == "errors" and "kd" in path.stem)
    mend(pd.read_csv(path, dtype=str)).to_csv(path, index=False)
    with pytest.raises(UserError, match=match) as caught:
        robustness(of(run))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    run = written(tmp_path, datasets=("columbia-drawn",))
    path = next(path for file, _, path in run.inputs("robustness") if file.output == "jitter")
    path.unlink()
    with pytest.raises(UserError, match=str(path)):
        robustness(of(run))


def test_a_figure_for_each_data_set_with_a_line_for_each_network(results):
    figures = draw(results, robustness(results))
    assert set(figures) == {"robustness/columbia-drawn", "robustness/near-eye-drawn"}
    panels = {axes.get_title(loc="left"): axes for axes in figures["robustness/columbia-drawn"].axes}
    assert set(panels) == {*COST, "jitter", ""}
    lines = panels["noise"].get_lines()
    np.testing.assert_allclose(lines[0].get_ydata().astype(float), [4.2, 5.2, 6.2, 7.2])
    assert panels["noise"].get_ylim() == panels["jpeg"].get_ylim()
    low, high = panels["noise"].get_ylim()
    assert low < 3.2
    assert high > 10.2


def test_only_the_networks_that_are_asked_for(tmp_path):
    run = written(tmp_path, networks=["resnet18/kd"])
    frame = robustness(of(run))
    assert set(zip(frame.dataset, frame.method, strict=True)) == {("columbia-drawn", "kd")}
    outputs = run.plan.outputs(Job.of("tables"))
    assert "robustness/columbia-drawn.svg" in outputs
    assert not any("near-eye" in name for name in outputs if name.startswith("robustness"))


def test_no_network_no_topic(tmp_path):
    run = written(tmp_path, networks=[])
    assert not any(name.startswith("robustness") for name in run.plan.outputs(Job.of("tables")))
    assert "robustness" not in {file.job.stage for file, _, _ in run.inputs("robustness")}


@pytest.mark.parametrize(
    ("block", "match"),
    [
        ({"noise": [5, 4, 9]}, r"^configuration: robustness: .* is not valid; 'noise' is \[5.0, 4.0, 9.0\], but rises"),
        ({"jpeg": [5, 10, 20]}, r"'jpeg' is \[5, 10, 20\], but falls from mild to strong"),
        ({"blur": [0.1, 0.2]}, r"configuration: robustness\.blur: \[0.1, 0.2\] is not valid"),
        ({"occlusion": [0.1, 0.2, 1.5]}, r"configuration: robustness\.occlusion\.2: 1.5 is not valid"),
        ({"samples": 0}, r"configuration: robustness\.samples: 0 is not valid"),
        ({"jitter": {"repeats": 1}}, r"configuration: robustness\.jitter\.repeats: 1 is not valid"),
        ({"networks": ["resnet18/kdd"]}, r"robustness\.networks: 'resnet18/kdd' does not exist; did you mean"),
        ({"networks": ["resnet18/kd"] * 2}, r"robustness\.networks: 'resnet18/kd' is listed twice"),
        ({"colour": 1}, r"configuration: robustness\.colour: unknown key"),
    ],
)
def test_bad_settings_are_one_line(block, match):
    raw = toy_config()
    raw["robustness"] = block
    with pytest.raises(UserError, match=match) as caught:
        config.load(raw)
    assert "\n" not in str(caught.value)


def test_another_network_tested_reruns_no_other(tmp_path):
    names = {"dataset": "columbia-drawn", "model": "resnet18", "method": "base"}
    job = Job.of("robustness", **names)
    keys = []
    for networks, level in ((None, 5), (["resnet18/base"], 5), (None, 6)):
        raw = toy_config()
        raw["robustness"] = {"networks": networks, "noise": [level, 15, 30]}
        keys.append(Run(raw, tmp_path).plan.key(job))
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(("networks", "tested"), [(None, ["base"]), (["resnet18/shuffled"], ["shuffled"])])
def test_placebos_are_tested_only_where_they_are_named(tmp_path, networks, tested):
    raw = toy_config()
    raw["benchmark"] |= {"datasets": ["columbia-drawn"], "models": ["resnet18"], "methods": ["base", "shuffled"]}
    raw["benchmark"]["folds"] = {}
    raw["robustness"] = {"networks": networks}
    settings = Run(raw, tmp_path).plan.settings(Job.of("tables"))
    assert settings.corrupted == {"columbia-drawn": [("resnet18", method) for method in tested]}


def test_models_of_one_method_look_different_in_every_panel(results):
    frame = robustness(results)
    own = frame[(frame.dataset == "columbia-drawn") & (frame.method == "base")]
    figure = curves(pd.concat([own, own.assign(model="itracker4")]), network_looks(["resnet18", "itracker4"], ["base"]))
    for axes in figure.axes[:-1]:
        marks = [container.lines[0] for container in axes.containers]
        assert len({(mark.get_color(), mark.get_marker(), mark.get_fillstyle()) for mark in marks}) == 2
