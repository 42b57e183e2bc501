import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import latex
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from toy_config import toy_config
from toy_predictions import put_test
from toy_results import Run, row, write_near_eye, write_profile

from gazepipe.common.files import write_json
from gazepipe.common.latex import text as in_latex
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job, made
from gazepipe.dag.stages import RUN
from gazepipe.errors import UserError
from gazepipe.evaluation.comparisons import THESE_FILES
from gazepipe.evaluation.inference import NO_SPREAD, ONE_SEED
from gazepipe.report import settings as report_settings
from gazepipe.report.settings import TABLES, Table
from gazepipe.report.tables import tables

OFFSET_DEG = {"mean": 9.0, "ridge": 8.0, "base": 4.0, "kd": 3.0}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Callable[..., Run]:
    """Gives the run that a function makes in a folder, with its tables: made once, for tests that change nothing."""

    @cache
    def of(make: Callable[[Path], Run]) -> Run:
        run = make(tmp_path_factory.mktemp("written") / "results")
        run.write()
        return run

    return of


@pytest.fixture
def results(tmp_path) -> Run:
    return plain(tmp_path / "results")


def plain(folder: Path) -> Run:
    """Predictions whose pitch is off by a known angle: an error of offset + fold + subject + (4 across data sets)."""
    raw = toy_config()
    chosen = {"datasets": ["columbia-drawn", "mpiifacegaze-drawn"], "models": ["resnet18"]}
    raw["benchmark"] |= {**chosen, "methods": ["base", "kd"], "seeds": [0, 1]}
    raw["benchmark"]["folds"] = {"columbia-drawn": [0, 1], "mpiifacegaze-drawn": [0, 1, 2]}
    run = Run(raw, folder)
    for file, wildcards, path in run.inputs("predictions", "profiles"):
        if file.job.stage == "profile":
            write_profile(path)
            continue
        write_predictions(path, wildcards, OFFSET_DEG)
    return run


def write_predictions(path, wildcards, offsets):
    fold, test = int(wildcards["fold"]), wildcards["test"]
    own = wildcards["dataset"] == test
    subjects = [f"{test[:2]}{fold}{i}" for i in range(2)] if own else [f"{test[:2]}0{i}" for i in range(4)]
    base = offsets[wildcards.get("method", wildcards["model"])]
    seed = 0.5 if wildcards["seed"] == "1" else -0.5 if wildcards.get("method") else 0.0
    rows = []
    for number, subject in enumerate(subjects):
        error = np.radians(base + fold + number + seed + (0 if own else 4))
        rows += [(subject, p, 0.0, p + error, 0.0) for p in (-0.1, 0.0, 0.1)]
    frame = pd.DataFrame(rows, columns=["subject", "pitch", "yaw", "pitch_pred", "yaw_pred"])
    put_test(path, test, frame)


def test_numbers_against_a_closed_form(written):
    run = written(plain)
    benchmark = run.table("benchmark")
    summary = ["error_deg", "low_deg", "high_deg", "std_deg", "n_subjects", "n_seeds", "reason"]
    assert list(benchmark) == ["dataset", "model", "method", *summary, "epochs"]
    # Subjects of fold f have errors base + f and base + f + 1; seeds cancel.
    lab = row(benchmark, dataset="columbia-drawn", method="base")
    assert lab.error_deg == pytest.approx(4.0 + np.mean([0, 1, 1, 2]), abs=1e-3)
    assert lab.std_deg == pytest.approx(np.std([0.5, 1.5], ddof=1), abs=1e-3)
    assert lab.n_subjects == 4
    assert row(benchmark, dataset="mpiifacegaze-drawn", model="mean").error_deg == pytest.approx(10.5, abs=1e-3)

    cross = run.table("cross_dataset")
    assert list(cross) == ["train", "test", "model", "method", *summary]
    # The same four subjects under every fold's network: folds average within a subject.
    there = row(cross, train="mpiifacegaze-drawn", method="kd")
    assert there.error_deg == pytest.approx(3.0 + 4 + np.mean([0, 1, 2]) + 1.5, abs=1e-3)
    assert there.std_deg == pytest.approx(1.0, abs=1e-3)
    assert there.n_subjects == 4

    efficiency = run.table("efficiency")
    assert list(efficiency) == [
        "model", "method", "params", "macs", "runtime", "batch", "images_per_second", "latency_ms",
    ]  # fmt: skip
    assert set(efficiency.method) == {"base", "kd"}

    compared = run.table("comparisons")
    assert len(compared) == 4
    assert compared.difference_deg.to_numpy() == pytest.approx(-1.0, abs=1e-3)
    assert compared.p_holm.isna().all()
    assert set(compared.reason) == {NO_SPREAD}  # the same difference in every run and subject: nothing to test


def test_every_test_subject_of_each_run_is_listed(written):
    run = written(plain)
    subjects = run.table("subjects")
    assert list(subjects) == ["dataset", "model", "method", "subject", "fold", "seed", "error_deg"]
    assert len(subjects) == (4 + 6) * (2 + 2 * 2)
    one = row(subjects, dataset="mpiifacegaze-drawn", method="kd", subject="mp21", seed=1)
    assert (one.fold, one.error_deg) == (2, pytest.approx(3.0 + 2 + 1 + 0.5, abs=1e-3))
    section = run.page.read_text().partition("## Per subject")[2]
    line = next(line for line in section.splitlines() if line.startswith("| mp21 "))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == ["12.00", "11.00", "7.00 ± 0.71", "6.00 ± 0.71"]


def test_the_page_says_what_a_reader_must_know(written):
    run = written(plain)
    page = run.page.read_text()
    for heading in ("## Benchmark", "## Cross-dataset", "## Inference speed", "## What was run"):
        assert heading in page
    assert "*predict the mean*" in page
    assert "resnet18 + KD" in page
    assert "4.97" in page
    assert page.index("real") < page.index("4.97"), "published figures are marked before they appear"
    assert "5.00 ± 0.71" in page
    assert "1.00 M" in page
    trained = run.inputs("predictions")[-1][1]
    assert run.plan.source(Job.of("train", **{name: trained[name] for name in RUN})) in page


def with_controls(folder: Path) -> Run:
    """A method whose control trains for fewer epochs, and networks that cannot have learnt, one of them the best."""
    raw = toy_config()
    raw["benchmark"] |= {"datasets": ["columbia-drawn", "mpiifacegaze-drawn"], "models": ["resnet18"], "seeds": [0, 1]}
    raw["benchmark"] |= {"methods": ["shuffled", "base", "kd", "kd_train_on", "kd_prune", "untrained"]}
    raw["benchmark"]["folds"] = {"columbia-drawn": [0], "mpiifacegaze-drawn": [0, 1]}
    raw["methods"]["kd_train_on"]["rebirth"]["epochs"] = 1
    run = Run(raw, folder)
    offsets = {"mean": 9.0, "ridge": 1.5, "shuffled": 1.0, "untrained": 8.0}
    offsets |= {"base": 4.0, "kd": 3.0, "kd_train_on": 2.0, "kd_prune": 2.5}
    for file, wildcards, path in run.inputs("predictions", "profiles"):
        if file.job.stage == "profile":
            write_profile(path)
        else:
            write_predictions(path, wildcards, offsets)
    return run


def test_controls_are_rows_that_are_marked_and_never_the_best(written):
    run = written(with_controls)
    page = run.page.read_text()
    section = page.partition("## Benchmark")[2].partition("*Published")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:2] == "| "]
    rows = {cells[0]: cells[1:] for cells in lines}
    assert list(rows) == [
        "Model", "*predict the mean*", "*ridge regression on pixels*", "*resnet18, labels shuffled*", "resnet18",
        "resnet18 + KD", "resnet18 + KD + longer", "resnet18 + KD + Prune", "*resnet18, untrained*",
    ]  # fmt: skip
    bold = [name for name, cells in rows.items() if any("**" in cell for cell in cells)]
    assert bold == ["resnet18 + KD + longer"], "1.0 degrees with shuffled labels is no result to beat"
    assert "*resnet18, untrained*" in page.partition("## Cross-dataset")[2].partition("*Published")[0]
    compared = run.table("comparisons")
    assert not {"shuffled", "untrained", "mean", "ridge"} & {*compared.method, *compared.baseline, *compared.model}


def test_epochs_are_counted_with_those_of_the_parents(written):
    run = written(with_controls)
    frame = run.table("benchmark").set_index(["dataset", "method"]).epochs
    # kd has 6 epochs, and 8 on the other set; re-birth goes on for 2 x 2, its control here for 2 x 1.
    for method, own, other in [
        ("base", 6, 8), ("kd", 6, 8), ("kd_train_on", 8, 10), ("kd_prune", 10, 12), ("shuffled", 6, 8),
        ("untrained", 0, 0),
    ]:  # fmt: skip
        assert (frame["columbia-drawn", method], frame["mpiifacegaze-drawn", method]) == (own, other)
    assert frame[:, "none"].isna().all()
    text = (run.folder / "tables" / "benchmark.csv").read_text()
    assert re.search(r"^columbia-drawn,resnet18,kd_prune,.*,10$", text, re.MULTILINE)
    page = run.page.read_text()
    lines = [line for line in page.partition("*Published")[0].splitlines() if line.startswith("| resnet18")]
    assert [line.split("|")[-2].strip() for line in lines] == ["6/8", "6/8", "8/10", "10/12"]
    warning = "resnet18 + KD + Prune is trained for 10 epochs in all, its control for 8: not as long"
    assert warning in page.partition("## Does it help?")[2]
    notes = run.table("comparisons").set_index(["train", "method", "role"]).note
    assert (notes["columbia-drawn", "kd_prune", "control"] == warning).all()
    assert notes["columbia-drawn", "kd_prune", "parent"].isna().all()
    assert notes["columbia-drawn", "kd", "control"].isna().all(), "base trains as long"
    assert "as long without the idea" in page


def test_same_inputs_same_bytes(written):
    run = written(plain)
    before = {path: path.read_bytes() for path in [run.page, *(run.folder / "tables").iterdir()]}
    run.write()
    assert {path: path.read_bytes() for path in before} == before


def test_a_damaged_prediction_is_named(results):
    path = next(path for file, _, path in results.inputs("predictions") if file.job.stage == "predict")
    test = path.read_text().splitlines()[-1].partition(",")[0]
    with open(path, "a") as file:
        file.write(f"{test},s,0.1,nan,0.1,0.1\n")
    with pytest.raises(UserError, match=rf"{path}: line \d+: yaw is 'nan'"):
        results.write()
    assert not results.page.exists()
    assert not (results.folder / "tables").exists()


OFFSET_PX = {"none": 100.0, "base": 10.0, "small": 12.0, "small_scratch": 15.0}


@pytest.fixture
def near_eye_results(tmp_path) -> Run:
    return near_eye(tmp_path / "results")


def near_eye(folder: Path) -> Run:
    """Gaze points that are off to the right by a known distance: offset + 2 * seed + subject, and 4 px more in one of
    three images."""
    raw = toy_config()
    raw["benchmark"] = {**raw["benchmark"], "datasets": ["near-eye-drawn"], "models": ["itracker4"], "seeds": [0, 1]}
    raw["benchmark"]["folds"] = {}
    run = Run(raw, folder)
    write_near_eye(run, lambda method, seed: {
        f"test-0{n}": [OFFSET_PX[method] + 2 * seed + n + 4 * (i == 2) for i in range(3)] for n in (1, 2)
    })  # fmt: skip
    return run


def test_near_eye_numbers_against_a_closed_form(written):
    run = written(near_eye)
    names = ("near_eye", "near_eye_subjects", "near_eye_comparisons")
    files = {path.name for path in (run.folder / "tables").iterdir()}
    assert files == {f"{name}.{end}" for name in names for end in ("csv", "tex")}
    networks = run.table("near_eye")
    small = row(networks, method="small")
    # Subjects 1 and 2, seeds 0 and 2 px more, a third of the images 4 px more.
    assert small.error_px == pytest.approx(12 + 1.5 + 1 + 4 / 3, abs=1e-3)
    assert small.median_px == pytest.approx(
        np.median([12 + n + 2 * s + 4 * i for n in (1, 2) for s in (0, 1) for i in (0, 0, 1)])
    )
    assert small.seed_std_px == pytest.approx(np.sqrt(2), abs=1e-3)
    assert (small.file_kb, small.latency_ms, small.first_fc_params) == (2.0, 20.0, 160_000)
    mean = row(networks, model="mean")
    assert mean.error_px == pytest.approx(100 + 1.5 + 4 / 3, abs=1e-3)
    assert np.isnan(mean.params)
    subjects = run.table("near_eye_subjects")
    assert list(subjects) == ["dataset", "model", "method", "subject", "fold", "seed", "error_px"]
    for seed in (0, 1):
        one = row(subjects, method="base", subject="test-02", seed=seed)
        assert one.error_px == pytest.approx(10 + 2 + 2 * seed + 4 / 3, abs=1e-3)
    lines = run.page.read_text().splitlines()
    head, cells = (
        next([cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith(f"| {start} "))
        for start in ("Subject", "test-02")
    )
    of_subject = dict(zip(head, cells, strict=True))
    for name in ("*predict the mean*", "*ridge regression on pixels*"):
        assert of_subject[name] == f"{100 + 2 + 4 / 3:.2f}"
    assert of_subject["itracker4"] == f"{10 + 2 + 1 + 4 / 3:.2f} ± 1.41"
    pairs = run.table("near_eye_comparisons")
    base = 10 + 1.5 + 1 + 4 / 3
    assert row(pairs, method="small", baseline="base").difference_percent == pytest.approx(100 * 2 / base, abs=1e-3)
    against = row(pairs, method="small", baseline="small_scratch").difference_percent
    assert against == pytest.approx(100 * -3 / (base + 5), abs=1e-3)


def test_the_near_eye_page_shows_what_the_explanation_says(written):
    run = written(near_eye)
    page = run.page.read_text()
    for text in ("| itracker4 + small ", "| *predict the mean* ", "500.00 k", "160.00 k", "0.750"):
        assert text in page
    lines = [line for line in page.splitlines() if line.startswith("| itracker4, seed 1")]
    assert [cell.strip() for cell in lines[0].split("|")[2:5]] == ["6", "12", "11.50"]
    assert "the maps of every method change" in page
    for link in ("width.png", "heatmaps.png"):
        assert f"explain/near-eye-drawn/itracker4/base/fold0/seed0/{link}" in page


def test_a_point_network_of_ones_own_has_no_first_layer_to_count(near_eye_results):
    for _, _, path in near_eye_results.inputs("profiles"):
        path.write_text(path.read_text().replace("first_fc_params", "other"))
    near_eye_results.write()
    networks = near_eye_results.table("near_eye")
    assert networks.first_fc_params.isna().all()
    assert row(networks, method="base").params == 500_000


PRUNED_DEG = {"base": 4.0, "half": 3.8, "half_scratch": 4.4, "half_scratch_kd": 4.2}
EXPORTED = [("eager", "fp32", 0.0), ("onnxruntime", "fp32", 0.0), ("onnxruntime", "int8", 0.04)]


@pytest.fixture
def pruned(tmp_path) -> Run:
    return cut(tmp_path / "results")


def cut(folder: Path) -> Run:
    """A network, what is left of it, and both twins, on two folds of two subjects; int8 costs 0.04 degrees."""
    raw = toy_config()
    raw["benchmark"] |= {"datasets": ["columbia-drawn"], "models": ["resnet18"], "methods": list(PRUNED_DEG)}
    raw["benchmark"] |= {"folds": {"columbia-drawn": [0, 1]}, "deploy": ["resnet18/base", "resnet18/half"]}
    run = Run(raw, folder)
    for file, wildcards, path in run.inputs("predictions", "profiles", "deployed"):
        cost = {"params": 4000, "macs": 8000} if wildcards.get("method") == "base" else {"params": 1000, "macs": 4000}
        match file.job.stage:
            case "profile":
                row = {"runtime": "eager", "batch": 1, "images_per_second": 50.0, "latency_ms": 20.0}
                sizes = {name: {**cost, "rows": [row]} for name in ("run", "paper")}
                full = wildcards["method"] == "base"
                machine = {"threads": 2, "machine": {"cpu": "a cpu", "cores": 2}}
                write_json(path, {"sizes": sizes if full else {"run": sizes["run"]}, **machine})
            case "speed":
                write_speed(path.with_suffix(".csv"))
            case "export_errors":
                errors = [PRUNED_DEG[wildcards["method"]] + int(wildcards["fold"]) + number for number in (0, 1)]
                names = [f"{wildcards['fold']}{number}" for number in (0, 1)]
                rows = [(r, p, n, e + more) for r, p, more in EXPORTED for n, e in zip(names, errors, strict=True)]
                path.parent.mkdir(parents=True, exist_ok=True)
                pd.DataFrame(rows, columns=["runtime", "precision", "subject", "error"]).to_csv(path, index=False)
            case _:
                write_predictions(path, wildcards, OFFSET_DEG | PRUNED_DEG)
    return run


def write_speed(path: Path) -> None:
    facts = {"params": 1, "macs": 2, "bytes": 3_000_000, "units": "deg", "latency_ms_p95": 2.0, "threads": 2}
    rows = [{"network": "reference", "runtime": "eager", "precision": "fp32", "batch": 1, **facts}]
    for network in ("resnet18/base", "resnet18/half"):
        for runtime, precision, _ in EXPORTED:
            for batch in (1, 8):
                names = {"network": network, "runtime": runtime, "precision": precision, "batch": batch}
                rows.append({**names, **facts, "latency_ms": 1.0, "images_per_second": 100.0 * batch, "ratio": 9.0})
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    reference = {"arch": "resnet18", "width": 1.0, "input": [1, 224, 224]}
    write_json(path.with_suffix(".json"), {"threads": 2, "machine": {"cpu": "a cpu"}, "reference": reference})


def test_pruned_networks_beside_the_full_one_and_their_twins(written):
    run = written(cut)
    frame = run.table("compression")
    assert list(frame.role) == ["full", "scratch", "scratch_kd"]
    # Subjects of fold 0 are 0 and 1 degrees beside the offset, those of fold 1 are 1 and 2; the seed takes 0.5 off.
    expected = {name: degrees + 1 - 0.5 for name, degrees in PRUNED_DEG.items()}
    assert frame.error_deg.to_numpy() == pytest.approx(expected["half"], abs=1e-3)
    for line in frame.itertuples():
        assert line.against_deg == pytest.approx(expected[line.against], abs=1e-3)
        change = 100 * (expected["half"] / expected[line.against] - 1)
        assert line.difference_percent == pytest.approx(change, abs=0.02)
        assert (line.reason, line.finding) == (ONE_SEED, "not tested")
        assert line.paired_seeds  # the pruned one starts from base, and its twins have its shape
    page = run.page.read_text()
    first, second, _ = [line for line in page.splitlines() if line.startswith("| resnet18 + half | columbia")][-3:]
    cells = [
        "1.00 k",
        "4.00 k",
        "4.30",
        "base: the full network, 6 epochs",
        "4.0×",
        "2.0×",
        "4.50",
        "-4.4 ¹",
        "not tested",
        "4",
        "1 pair",
    ]
    assert [cell.strip() for cell in first.split("|")][3:-1] == cells
    assert "half_scratch: from scratch, 6 epochs" in second
    assert len(run.table("efficiency")) == 1  # no published size of a pruned network


def test_exported_networks_are_told_by_what_their_files_predict(written):
    run = written(cut)
    frame = run.table("deployed")
    assert len(frame) == 2 * 3 * 2  # networks, variants, batches
    int8 = frame[(frame.method == "half") & (frame.precision == "int8")].iloc[0]
    assert (int8.error, int8.n_subjects) == (pytest.approx(4.84), 4)
    own, total = 100 * 0.04 / 4.8, 100 * (4.84 / 5.0 - 1)
    frame = run.table("deployed_comparisons")
    assert len(frame) == 2 + 3  # int8 of both networks alone, all variants of the second against the first
    alone = row(frame, method="half", change="int8")
    changes = [alone.difference_percent, alone.low_percent, alone.high_percent]
    assert changes == pytest.approx([own] * 3, abs=1e-3)  # one run, and yet an interval: its chance cancels
    assert (alone.against, alone.reason, alone.finding) == ("resnet18/half", THESE_FILES, "not tested")
    whole = row(frame, method="half", change="all", precision="int8")
    assert whole.difference_percent == pytest.approx(total, abs=1e-3)
    assert (whole.against, whole.reason) == ("resnet18/base", ONE_SEED)
    assert np.isnan(whole.low_percent)
    assert (run.folder / "figures/pareto/columbia-drawn.png").read_bytes()[:4] == b"\x89PNG"
    assert "| resnet18 + half | ONNX Runtime, int8 |" in run.page.read_text()


def test_damaged_errors_of_an_exported_network(pruned):
    names = {"dataset": "columbia-drawn", "model": "resnet18", "method": "half", "fold": 1, "seed": 0}
    path = pruned.file(made("export_errors", "errors", **names))
    good = path.read_text()
    first = good.splitlines()[1]
    for text, said in [
        ("runtime,subject\n", "cannot be read"),
        (good + first + "\n", "holds several errors of one subject"),
        (good.replace(first, first.rpartition(",")[0] + ",nan"), "holds errors that are no finite numbers"),
        (good.replace("eager", "other"), "holds no errors of eager PyTorch"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=rf"seed0\.csv: {said}"):
            pruned.write()
    path.unlink()
    with pytest.raises(UserError, match=r"seed0\.csv: cannot be read"):
        pruned.write()


@pytest.mark.parametrize("make", [plain, near_eye, cut])
def test_every_table_is_written_as_latex(written, make):
    run = written(make)
    files = sorted((run.folder / "tables").glob("*.tex"))
    assert [path.stem for path in files] == [path.stem for path in sorted((run.folder / "tables").glob("*.csv"))]
    texts = {path.stem: path.read_text() for path in files}
    shown = {name: latex.tables(text) for name, text in texts.items()}
    page = [line for line in run.page.read_text().splitlines() if line.startswith("|")]
    heads = {tuple(rows[0]) for tables in shown.values() for rows in tables}
    for line in page:
        cells = tuple(in_latex(cell.strip()) for cell in line.strip("|").split("|"))
        if cells[0] in ("Model", "Subject"):
            assert cells in heads
    labels = [label for text in texts.values() for label in re.findall(r"\\label\{([^}]*)\}", text)]
    assert len(set(labels)) == len(labels) == sum(map(len, shown.values()))


def test_the_cells_of_the_latex_are_those_of_the_page(written):
    own, published = (
        {row[0]: row[1:] for row in rows}
        for rows in latex.tables((written(plain).folder / "tables/benchmark.tex").read_text())
    )
    assert {r"\emph{predict the mean}", r"\emph{ridge regression on pixels}"} < {*own}
    assert own["resnet18"][0].startswith(r"5.00 $\pm$ 0.71 [")
    assert published["ResNet10 (wide)"] == ["4.00", "4.97"]
    text = (written(cut).folder / "tables/compression.tex").read_text()
    assert r"\caption[{Structural pruning}]{\textbf{Structural pruning.} Each pruned network" in text
    assert "$-$4.4 $^{1}$ & not tested" in text
    assert rf"\par\smallskip $^{{1}}$ {ONE_SEED}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here; the strict reader is asked above")
@pytest.mark.parametrize("make", [plain, near_eye, cut])
def test_latex_compiles(written, make, tmp_path):
    run = written(make)
    names = "".join(f"\\input{{{path}}}\n" for path in sorted((run.folder / "tables").glob("*.tex")))
    document = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{names}\\end{{document}}\n"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert "Missing character" not in (tmp_path / "all.log").read_text(errors="replace")


def toy(results):
    """A table of its own: the sum of the errors of each model."""
    return results.errors.groupby("model", sort=False).error.sum().rename("sum_deg").reset_index()


def toy_section(results, frame):
    return ["## Toy", f"{len(frame)} models in all, {len(results.settings.seeds)} seeds.", frame]


def test_a_table_is_its_functions_and_one_declaration(results, monkeypatch):
    before = results.plan.key(Job.of("tables"))
    declared = Table("toy", "angles", frame=f"{__name__}:toy", section=f"{__name__}:toy_section")
    other = Table("other", "point", frame=f"{__name__}:toy", section=f"{__name__}:toy_section")
    monkeypatch.setattr(report_settings, "TABLES", (TABLES[0], declared, other, *TABLES[1:]))
    plan, job = Plan(results.plan.config), Job.of("tables")
    assert plan.outputs(job)["toy"] == "results/tables/toy.csv"
    assert plan.outputs(job)["toy_tex"] == "results/tables/toy.tex"
    assert "other" not in plan.outputs(job)  # no data set of gaze points is selected
    assert __name__ in plan.modules(job)
    assert plan.key(job) != before
    results.fill()
    tables(plan.settings(job), results.folder)
    frame = results.table("toy")
    assert list(frame.model) == ["mean", "ridge", "resnet18"]
    assert (frame.sum_deg > 0).all()
    page = results.page.read_text()
    assert (
        page.index("## Benchmark") < page.index("## Toy\n\n3 models in all, 2 seeds.") < page.index("## Cross-dataset")
    )
    listed = json.loads((results.folder / "checksums.json").read_text())["files"]
    assert {"tables/toy.csv", "tables/toy.tex"} < {*listed}
    assert "sum\\_deg" in (results.folder / "tables/toy.tex").read_text()
    assert "tables/other.csv" not in listed


def toy_draw(results, frame):
    """A line of the seeds for each data set, and one figure of its own."""
    figures = {}
    for name in ("toy", *(f"toy/{dataset}" for dataset in results.settings.datasets)):
        figures[name] = Figure()
        figures[name].add_subplot().plot(results.settings.seeds, label=name)
    return figures


def test_figures_are_declared_with_their_table(results, monkeypatch):
    names = ["toy", "toy/columbia-drawn", "toy/mpiifacegaze-drawn"]
    functions = {"section": f"{__name__}:toy_section", "draw": f"{__name__}:toy_draw"}
    declared = Table("toy", "angles", frame=f"{__name__}:toy", figures=("toy", "toy/{dataset}"), **functions)
    monkeypatch.setattr(report_settings, "TABLES", (declared,))
    plan, job = Plan(results.plan.config), Job.of("tables")
    files = [f"{name}.{kind}" for name in names for kind in ("svg", "png")]
    assert [name for name in plan.outputs(job) if name.endswith((".svg", ".png"))] == files
    assert plan.outputs(job)["toy/columbia-drawn.svg"] == "results/figures/toy/columbia-drawn.svg"
    before = {}
    for _ in range(2):
        tables(plan.settings(job), results.folder)
        written = {name: (results.folder / "figures" / name).read_bytes() for name in files}
        assert before in ({}, written)
        before = written
    assert written["toy.svg"].startswith(b"<?xml")
    assert written["toy.png"].startswith(b"\x89PNG")
    assert b"<dc:date>" not in written["toy.svg"]
    other = replace(declared, figures=("toy", "other"))
    monkeypatch.setattr(report_settings, "TABLES", (other,))
    with pytest.raises(ValueError, match="toy declares"):
        tables(Plan(results.plan.config).settings(job), results.folder)


def test_figures_need_names_and_a_function():
    with pytest.raises(ValueError, match="both their names and a function"):
        Table("toy", "angles", section="a:b", figures=("toy",))


def test_the_fingerprint_of_the_tables_holds_their_modules_and_no_others(results, pruned):
    angles, all_angles = (run.plan.modules(Job.of("tables")) for run in (results, pruned))
    assert "gazepipe.report.angles" in angles
    assert not {"gazepipe.near_eye.tables", "gazepipe.report.deployed", "gazepipe.report.compression"} & {*angles}
    assert {"gazepipe.report.compression", "gazepipe.report.deployed", "gazepipe.report.pareto"} < {*all_angles}
