"""`gazepipe plan`: jobs, hours and memory before a run, and what the rules ask for."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml
from toy_config import PATH

from gazepipe.cli import main
from gazepipe.config import load as config
from gazepipe.dag.costs import Costs
from gazepipe.dag.measured import cost_path
from gazepipe.dag.plan import Plan
from gazepipe.dag.planning import COLUMNS, Planned, needed, told
from gazepipe.dag.stage import Job
from gazepipe.provenance import records
from gazepipe.provenance.fingerprint import digest

RUN = {"dataset": "columbia-drawn", "model": "resnet18", "fold": "1", "seed": "0"}
HEADER = "s\tmax_rss\tcpu_time\n"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with a small config.yaml."""
    shutil.copy(PATH, tmp_path / "config.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plan(project) -> Plan:
    return Plan(config.load_files([]))


def leave(plan: Plan, job: Job, seconds: float, memory: float) -> None:
    """A note of the job, as it leaves one."""
    path = cost_path(plan.root, str(job))
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = {"processor_seconds": seconds, "wall_seconds": seconds, "memory_mb": memory}
    path.write_text(json.dumps({**numbers, "settings": digest(plan.settings(job).deciding())}))


def finished(plan: Plan, job: Job) -> None:
    """The results of the job and its record."""
    for path in plan.outputs(job).values():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    records.announce(plan, [job])
    records.finish(plan.root, str(job), plan.key(job))


def test_the_table_and_the_file_of_jobs_agree(project, plan, capsys):
    assert main(["plan", "--cores", "4", "--csv", "jobs.csv"]) == 0
    printed = capsys.readouterr().out
    rows = list(csv.DictReader((project / "jobs.csv").open()))
    assert list(rows[0]) == list(COLUMNS)
    assert {row["job"] for row in rows} == {str(job) for job in needed(plan)}
    line = next(line.split() for line in printed.splitlines() if line.startswith("train "))
    trained = [row for row in rows if row["stage"] == "train"]
    assert line[1:3] == [str(len(trained))] * 2
    assert " ".join(line[3:5]) == told(sum(float(row["processor_seconds"]) for row in trained))
    assert "On 4 cores: about " in printed
    assert "no job has run here yet" in printed
    chain = next(line for line in printed.splitlines() if line.startswith("Longest chain"))
    assert chain.endswith("> tables > page")
    longest = max(float(row["chain_seconds"]) for row in rows)
    assert told(longest) in chain


def test_what_is_there_is_not_to_run(plan):
    jobs = needed(plan)
    assert Planned(plan).to_run == jobs
    store, split = (Job.of(stage, dataset="columbia-drawn") for stage in ("prepare", "split"))
    for job in (store, split):
        finished(plan, job)
    # Nor are the parts of the store, which were removed; the raw data set is still needed by its sheet.
    left = [job for job in jobs if job not in Planned(plan).to_run]
    assert {job.stage for job in left} == {"prepare", "split", "prepare_part"}
    assert {dict(job.wildcards)["dataset"] for job in left} == {"columbia-drawn"}
    Path(plan.outputs(store)["store"]).unlink()
    assert store in Planned(plan).to_run


def test_all_is_up_to_date(plan, capsys):
    for job in needed(plan):
        finished(plan, job)
    assert main(["plan"]) == 0
    assert "Everything is up to date." in capsys.readouterr().out


def test_records_tell_what_is_estimated_from_what(plan, capsys):
    base = Job.of("train", method="base", **RUN)
    leave(plan, base, 600, 1000)
    assert main(["plan"]) == 0
    trained = [job for job in needed(plan) if job.stage == "train"]
    text = f"from records of 1 of the {len(needed(plan))} jobs, for {len(trained) - 1} others"
    assert text in capsys.readouterr().out
    assert Planned(plan).costs.of(base).seconds == 600


# ---- what the rules ask for


def test_rules_ask_for_more_than_is_predicted(plan):
    base = Job.of("train", method="base", **RUN)
    leave(plan, base, 3600, 5000)
    planned = Planned(plan)
    assert planned.minutes(base, 720) == 3 * 60
    assert planned.memory_mb(base) == 2 * 5000
    # The least of a job that takes seconds.
    assert planned.minutes(Job.of("split", dataset="columbia-drawn"), 720) == 10


def test_where_nothing_is_known_rules_ask_for_their_own_minutes(project):
    (project / "more.yaml").write_text(
        "device: cuda\ndatasets: {columbia-drawn: {source: {drawn: null, path: somewhere}}}\n"
    )
    plan = Plan(config.load_files(["more.yaml"]))
    base, store = Job.of("train", method="base", **RUN), Job.of("prepare", dataset="columbia-drawn")
    assert Planned(plan).minutes(base, 720) == 720
    assert Planned(plan).minutes(store, 60) == 60
    assert Planned(plan).minutes(Job.of("tables"), 30) == 10
    leave(plan, base, 60, 500)
    assert Planned(plan).minutes(base, 720) == 10


def test_what_others_wait_for_comes_first(plan):
    planned = Planned(plan)
    for job in planned.jobs:
        assert 0 <= planned.priority(job) <= 101
        if planned.cores(job):
            assert all(planned.priority(job) <= planned.priority(each) for each in plan.upstream(job))
    profile = next(job for job in planned.jobs if job.stage == "profile")
    assert planned.priority(profile) == 101
    # A bundle, which is asked for by name: nothing waits for it.
    assert planned.priority(Job.of("export", dataset="columbia-drawn", model="resnet18", method="base")) == 0


# ---- predicted and measured


def test_check_compares_with_notes_and_benchmark_files(project, plan, capsys):
    base, other = (Job.of("train", method="base", **{**RUN, "fold": fold}) for fold in ("1", "2"))
    if other not in needed(plan):
        other = next(job for job in needed(plan) if job.stage == "train" and job != base)
    sheet = Job.of("sheet", dataset="columbia-drawn")
    costs = Costs(plan, {})
    seconds, memory = costs.predicted(base)
    leave(plan, base, 3 * seconds, memory)
    seconds, memory = costs.predicted(other)
    leave(plan, other, 3 * seconds, memory)
    seconds, memory = costs.predicted(sheet)
    path = Path("results/benchmarks/sheet-columbia-drawn.tsv")
    path.parent.mkdir(parents=True)
    path.write_text(f"{HEADER}{seconds}\t{memory}\t{seconds}\n")
    assert main(["plan", "--check", "results"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:] if line and line[0] != " "}
    assert rows["train"] == ["2", "0/2", "3.00", "2/2", "1.00"]
    assert rows["sheet"][:2] == ["1", "1/1"]
    assert rows["all"][:2] == ["3", "1/3"]
    assert any(str(other) in line for line in lines if line.startswith("  "))
    # Scaled by the other one of its stage, each is met.
    assert main(["plan", "--check", "results", "--scaled"]) == 0
    assert "3/3" in capsys.readouterr().out
    path.write_text(f"{HEADER}nan\t1\t1\n")
    assert main(["plan", "--check", "results"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--configfile", "none.yaml"], "none.yaml: cannot be read"),
        (["--check", "elsewhere"], "elsewhere: holds no measured job"),
        (["--scaled"], "--scaled: goes with --check"),
        (["--configfile", "bad.yaml"], "training.epochs"),
    ],
)
def test_mistakes_are_one_line(project, capsys, arguments, message):
    (project / "bad.yaml").write_text(yaml.safe_dump({"training": {"epochs": -1}}))
    assert main(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("seconds", "text"), [(0.44, "0.4 s"), (45, "45 s"), (720, "12 min"), (12240, "3.4 h")])
def test_times_are_told_shortly(seconds, text):
    assert told(seconds) == text
