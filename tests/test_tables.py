from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gazepipe import config
from gazepipe.errors import UserError
from gazepipe.io import write_json
from gazepipe.plan import Plan
from gazepipe.report import tables

OFFSET_DEG = {("mean", "none"): 9.0, ("resnet18", "base"): 4.0, ("resnet18", "kd"): 3.0}


@pytest.fixture
def results(repository, tmp_path):
    """Predictions whose pitch is off by a known angle: an error of offset + fold + subject + (4 across data sets)."""
    raw = config.read(repository / "config.yaml")
    raw["benchmark"] |= {"models": ["resnet18"], "methods": ["base", "kd"], "seeds": [0, 1]}
    raw["benchmark"]["folds"] = {"columbia-drawn": [0, 1], "mpiifacegaze-drawn": [0, 1, 2]}
    plan = Plan(config.load(raw))
    plan.root = str(tmp_path / "results")
    for job in plan.table_jobs():
        wildcards = dict(job.wildcards)
        if job.stage == "profile":
            row = {"runtime": "eager", "batch": 1, "images_per_second": 50.0, "latency_ms": 20.0}
            size = {"model": {}, "params": 1_000_000, "macs": 2_000_000_000, "rows": [row]}
            profile = {"sizes": {"paper": size, "run": size}, "threads": 2, "machine": {"cpu": "a cpu", "cores": 2}}
            write_json(plan.outputs(job)[0], profile)
            continue
        write_predictions(plan.outputs(job)[0], wildcards)
    return plan, tmp_path / "results" / "tables.md"


def write_predictions(path, wildcards):
    fold, test = int(wildcards["fold"]), wildcards["test"]
    own = wildcards["dataset"] == test
    subjects = [f"{test[:2]}{fold}{i}" for i in range(2)] if own else [f"{test[:2]}0{i}" for i in range(4)]
    base = OFFSET_DEG[wildcards.get("model", "mean"), wildcards.get("method", "none")]
    seed = 0.5 if wildcards["seed"] == "1" else -0.5 if wildcards.get("model") else 0.0
    rows = []
    for number, subject in enumerate(subjects):
        error = np.radians(base + fold + number + seed + (0 if own else 4))
        rows += [(subject, p, 0.0, p + error, 0.0) for p in (-0.1, 0.0, 0.1)]
    frame = pd.DataFrame(rows, columns=["subject", "pitch", "yaw", "pitch_pred", "yaw_pred"])
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)


def row(frame: pd.DataFrame, **where: str) -> pd.Series:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_numbers_against_a_closed_form(results):
    plan, out = results
    tables.write_tables(plan.block("tables"), out)
    benchmark = pd.read_csv(out.parent / "tables/benchmark.csv")
    assert list(benchmark) == ["dataset", "model", "method", "error_deg", "std_deg", "n_subjects"]
    # Subjects of fold f have errors base + f and base + f + 1; seeds cancel.
    lab = row(benchmark, dataset="columbia-drawn", method="base")
    assert lab.error_deg == pytest.approx(4.0 + np.mean([0, 1, 1, 2]), abs=1e-3)
    assert lab.std_deg == pytest.approx(np.std([0.5, 1.5], ddof=1), abs=1e-3)
    assert lab.n_subjects == 4
    assert row(benchmark, dataset="mpiifacegaze-drawn", model="mean").error_deg == pytest.approx(10.5, abs=1e-3)

    cross = pd.read_csv(out.parent / "tables/cross_dataset.csv")
    assert list(cross) == ["train", "test", "model", "method", "error_deg", "std_deg", "n_subjects"]
    # The same four subjects under every fold's network: folds average within a subject.
    there = row(cross, train="mpiifacegaze-drawn", method="kd")
    assert there.error_deg == pytest.approx(3.0 + 4 + np.mean([0, 1, 2]) + 1.5, abs=1e-3)
    assert there.std_deg == pytest.approx(1.0, abs=1e-3)
    assert there.n_subjects == 4

    efficiency = pd.read_csv(out.parent / "tables/efficiency.csv")
    assert list(efficiency) == [
        "model", "method", "params", "macs", "runtime", "batch", "images_per_second", "latency_ms",
    ]  # fmt: skip
    assert set(efficiency.method) == {"base", "kd"}

    compared = pd.read_csv(out.parent / "tables/comparisons.csv")
    assert len(compared) == 4
    assert compared.difference_deg.to_numpy() == pytest.approx(-1.0, abs=1e-3)
    assert (compared.p_holm >= compared.p_wilcoxon).all()


def test_the_page_says_what_a_reader_must_know(results):
    plan, out = results
    tables.write_tables(plan.block("tables"), out)
    page = out.read_text()
    for heading in ("## Benchmark", "## Cross-dataset", "## Inference speed", "## What was run"):
        assert heading in page
    assert "*predict the mean*" in page
    assert "resnet18 + KD" in page
    assert "4.97" in page
    assert page.index("real") < page.index("4.97"), "published figures are marked before they appear"
    assert "5.00 ± 0.71" in page
    assert "1.00 M" in page
    assert plan.source("train", model="resnet18", method="kd") in page


def test_same_inputs_same_bytes(results):
    plan, out = results
    tables.write_tables(plan.block("tables"), out)
    before = {path: path.read_bytes() for path in [out, *(out.parent / "tables").iterdir()]}
    tables.write_tables(plan.block("tables"), out)
    assert {path: path.read_bytes() for path in before} == before


def test_a_damaged_prediction_is_named(results):
    plan, out = results
    job = next(job for job in plan.table_jobs() if job.stage == "predict")
    with open(plan.outputs(job)[0], "a") as file:
        file.write("s,0.1,nan,0.1,0.1\n")
    with pytest.raises(UserError, match=plan.outputs(job)[0]):
        tables.write_tables(plan.block("tables"), out)
    assert not out.exists()
