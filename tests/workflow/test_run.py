"""`gazepipe run` with the real Snakemake: lines in place of its log, its exit status, and the trace."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from real_workflow import ONE_TRAINING, copy_source, edit, environment, gazepipe

pytestmark = pytest.mark.workflow

SPLIT = "results/tiny/splits/columbia-drawn.csv"
WEIGHTS = "results/tiny/runs/columbia-drawn/resnet18/base/fold1/seed0/model.safetensors"
MAIN = "import sys; from gazepipe.cli import main; sys.exit(main())"


def run(folder: Path, *targets: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", MAIN, "run", "--cores", "2", "--configfile", "tiny.yaml", "--", *targets]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment())


def log_of_snakemake(folder: Path) -> str:
    return max((folder / ".snakemake/log").iterdir()).read_text()


@pytest.fixture(scope="module")
def folder(repository, tmp_path_factory) -> Path:
    """A folder in which the split has been made."""
    folder = copy_source(repository, tmp_path_factory.mktemp("run"), ONE_TRAINING)
    done = run(folder, SPLIT)
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stderr)
    return folder


def test_a_run_is_told_in_lines_and_snakemakes_log_is_in_its_file(folder):
    said = (folder / "said").read_text()
    assert "\x1b" not in said
    assert "rule " not in said
    assert re.search(r"^\[[1-4]/5 jobs\] .*; done: all of fetch$", said, re.MULTILINE)
    assert re.fullmatch(r"5 jobs in .*; what ran when: results/tiny/trace.svg", said.splitlines()[-1])
    assert "rule fetch:" in log_of_snakemake(folder)


def test_a_run_leaves_a_trace_of_its_jobs(folder):
    with open(folder / "results/tiny/trace.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["job"].split()[0] for row in rows) == [
        "fetch",
        "prepare",
        "prepare_part",
        "prepare_part",
        "split",
    ]
    assert all(float(row["began_s"]) < float(row["ended_s"]) for row in rows)
    assert {row["cores"] for row in rows if row["job"].startswith("split")} == {"0"}
    assert {row["cores"] for row in rows if not row["job"].startswith("split")} == {"1"}
    assert (folder / "results/tiny/trace.svg").read_text().startswith("<?xml")
    again = gazepipe(folder, "trace", "results/tiny")
    assert again.stdout.startswith("5 jobs, ")


def test_a_second_run_says_that_nothing_is_to_be_done(folder):
    done = run(folder, SPLIT)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith("Nothing to be done")


def test_a_failed_job_says_why_and_gives_the_exit_status_of_snakemake(folder):
    edit(folder / "tiny.yaml", "{epochs: 2}", "{epochs: 1, learning_rate: 1.0e+30, warmup_epochs: 0}")
    done = run(folder, WEIGHTS)
    assert done.returncode == 1
    told, last = done.stderr.splitlines()[-2:]
    assert told.startswith("train columbia-drawn resnet18 base fold 1 seed 0: exit status 2: gazepipe train: ")
    assert "lower training.learning_rate" in told
    log = re.search(r"\(log: (results/tiny/logs/train\S+\.log)\)$", told)[1]
    assert "learning_rate" in (folder / log).read_text()
    assert re.match(r"stopped after .*: 0 of 1 jobs done, 1 failed; the same command goes on from there", last)
    assert "Traceback" not in done.stderr


def test_a_wrong_configuration_ends_as_it_does_with_snakemake(folder):
    with open(folder / "tiny.yaml", "a") as file:
        file.write("profilings: {}\n")
    done = run(folder, SPLIT)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("configuration: profilings: unknown key")
