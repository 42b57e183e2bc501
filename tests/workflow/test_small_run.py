"""The real workflow at its smallest, run once from nothing; test_workflow.py asks more of a run of two data sets."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from real_workflow import SMALL, cloned, finished_run, gazepipe, snakemake, told_by_why, would_run

pytestmark = pytest.mark.workflow

RUN = "results/runs/mpiifacegaze-drawn/resnet18/kd/fold0/seed0/model.safetensors"
PREDICTIONS = "results/predictions/mpiifacegaze-drawn/resnet18/kd/fold0/seed0.csv"


@pytest.fixture(scope="module")
def finished(repository, tmp_path_factory) -> Path:
    """A folder in which the small workflow has run from nothing."""
    return finished_run(repository, tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture
def clone(finished, tmp_path) -> Path:
    return cloned(finished, tmp_path / "clone")


def test_one_command_gives_the_tables(finished):
    benchmark = pd.read_csv(finished / "results/tables/benchmark.csv")
    assert set(benchmark.dataset) == {"mpiifacegaze-drawn"}
    assert set(benchmark.method) == {"none", "base", "kd"}
    assert benchmark.error_deg.between(1, 60).all()
    assert "## Benchmark" in (finished / "results/tables.md").read_text()
    html = (finished / "results/index.html").read_text()
    assert all(f">{title}</h2>" in html for title in ("Benchmark", "Methods", "Provenance"))
    assert gazepipe(finished, "check").returncode == 0


def test_a_clone_without_snakemakes_records_has_nothing_to_do(clone):
    shutil.rmtree(clone / ".snakemake")
    assert would_run(clone) == {}


def test_a_changed_loss_reruns_training_and_what_follows(clone):
    losses = clone / "gazepipe/training/losses.py"
    losses.write_text(losses.read_text() + "\nANOTHER = 1\n")
    expected = {"train": 2, "predict": 2, "tables": 1, "page": 1}
    assert would_run(clone) == expected
    assert told_by_why(clone) == expected


def test_a_deleted_result_is_made_again_to_the_byte(finished):
    before = {name: (finished / name).read_bytes() for name in (RUN, PREDICTIONS)}
    for name in before:
        (finished / name).unlink()
    done = snakemake(finished, "--", PREDICTIONS)
    assert done.returncode == 0, done.stderr[-2000:]
    rules = re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", done.stdout + done.stderr, re.MULTILINE)
    assert rules == ["train", "predict"]
    assert {name: (finished / name).read_bytes() for name in before} == before


def test_a_mistake_in_the_configuration_is_one_line_and_status_2(clone):
    path = clone / "tiny.yaml"
    path.write_text(path.read_text().replace("width: 0.0625", "witdh: 0.0625"))
    done = snakemake(clone)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("configuration: models.resnet18.witdh: unknown key with value 0.0625; did you mean")
