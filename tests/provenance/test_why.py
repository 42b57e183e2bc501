"""Records of what results were made of, and what `gazepipe why` and `gazepipe diff` tell of them."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy_config import PATH, toy_config

from gazepipe import cli
from gazepipe.common.files import write_json
from gazepipe.config import load as config
from gazepipe.dag.plan import Plan
from gazepipe.dag.stage import Job
from gazepipe.dag.stages import STAGES
from gazepipe.errors import UserError
from gazepipe.provenance import changes, records
from gazepipe.provenance import diff as compare
from gazepipe.provenance.why import explain

RUN = {"dataset": "columbia-drawn", "model": "resnet18", "fold": "1", "seed": "0"}


@pytest.fixture
def raw() -> dict:
    return toy_config()


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan_of(raw: dict, **changed: object) -> Plan:
    return Plan(config.load(config.merged(raw, changed)))


def chain(plan: Plan, job: Job) -> list[Job]:
    found = [each for up in plan.upstream(job) for each in chain(plan, up)]
    return list(dict.fromkeys([*found, job]))


def make(plan: Plan, *jobs: Job) -> None:
    """As a workflow does, but for what the stages compute: announce, write the results, finish."""
    for job in jobs:
        records.announce(plan, [job])
        for path in plan.outputs(job).values():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
        records.finish(plan.root, str(job), plan.key(job))


def run(method: str) -> Job:
    return Job.of("train", method=method, **RUN)


@pytest.fixture
def made(place, raw) -> Plan:
    plan = plan_of(raw)
    make(plan, *chain(plan, run("kd_prune")))
    return plan


def weights(plan: Plan, method: str) -> Path:
    return Path(plan.outputs(run(method))["weights"])


def reasons(text: str) -> list[str]:
    """The lines of the jobs that would run, the asked one's first."""
    head, _, rest = text.partition("\nwould run again, because of\n")
    assert rest, head
    return [line.strip() for line in rest.splitlines()]


def test_what_nothing_has_changed_would_not_run_again(made):
    text = explain(made, weights(made, "kd_prune"))
    assert "made by   train columbia-drawn resnet18 kd_prune 1 0" in text
    assert "in all on 1 fetch, 4 prepare_part, 1 prepare, 1 split, 2 train" in text
    assert text.splitlines()[-1].startswith("would not run again")


def test_a_changed_key_is_named_with_both_values(made, raw):
    text = explain(plan_of(raw, training={"epochs": 8}), weights(made, "base"))
    assert reasons(text) == ["training.epochs: 6 -> 8"]


def test_a_change_upstream_is_named_with_the_job_that_it_reaches_first(made, raw):
    lines = reasons(explain(plan_of(raw, patch={"width": 96}), weights(made, "base")))
    assert lines[:3] == [
        "model.input: [1, 36, 112] -> [1, 36, 96]",
        "upstream: prepare columbia-drawn (patch.width: 112 -> 96)",
        "upstream: split columbia-drawn (patch.width: 112 -> 96)",
    ]
    before = lines.index("and before it")
    assert lines[before + 1 : before + 3] == ["prepare_part, 4 jobs", "patch.width: 112 -> 96 (4 jobs)"]
    assert not any(line.startswith("fetch") for line in lines)


def test_only_what_changed_of_a_methods_chain_would_run(made, raw):
    changed = plan_of(raw, methods={"kd": {"training": {"learning_rate": 0.01}}})
    lines = reasons(explain(changed, weights(made, "kd_prune")))
    assert lines == [
        "upstream: train columbia-drawn resnet18 kd 1 0 (training.learning_rate: 0.006 -> 0.01)",
        "and before it",
        "train columbia-drawn resnet18 kd 1 0",
        "training.learning_rate: 0.006 -> 0.01",
    ]


def test_what_has_run_again_upstream_still_tells_why(made, raw):
    changed = plan_of(raw, patch={"width": 96})
    make(changed, *chain(changed, Job.of("split", dataset="columbia-drawn")))
    lines = reasons(explain(changed, weights(made, "base")))
    assert "upstream: prepare columbia-drawn (patch.width: 112 -> 96)" in lines
    assert "and before it" not in lines
    again = plan_of(raw, patch={"width": 80})
    make(again, *chain(again, Job.of("split", dataset="columbia-drawn")))
    assert "upstream: prepare columbia-drawn (made again since)" in reasons(explain(again, weights(made, "base")))


def test_a_change_that_is_taken_back_leaves_nothing_to_do(made, raw):
    changed = plan_of(raw, training={"epochs": 8})
    records.announce(changed, [run("base")])
    assert "would not run again" in explain(plan_of(raw), weights(made, "base"))
    # Run again by force: what was planned under another key does not become its record.
    now = plan_of(raw)
    records.finish(now.root, str(run("base")), now.key(run("base")))
    assert records.recorded(made, run("base"))["key"] == made.key(run("base"))


def test_a_missing_result_is_named(made):
    weights(made, "kd").with_name("history.csv").unlink()
    assert reasons(explain(made, weights(made, "kd"))) == [f"missing: {weights(made, 'kd').with_name('history.csv')}"]
    weights(made, "kd_prune").unlink()
    lines = reasons(explain(made, weights(made, "kd_prune")))
    assert lines[-1] == "missing: its results"


def test_without_a_record_snakemake_is_asked(made):
    shutil.rmtree("results/.records")
    assert "no record" in explain(made, weights(made, "base"))


def test_records_are_as_equal_as_results(made, raw, tmp_path, monkeypatch):
    path = Path("results/.records/train/columbia-drawn/resnet18/base/1/0.json")
    (tmp_path / "other").mkdir()
    before = path.read_bytes()
    monkeypatch.chdir(tmp_path / "other")
    plan = plan_of(raw)
    make(plan, *chain(plan, run("base")))
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", ["elsewhere/model.safetensors", "results/none.csv", "results/data/unknown.h5"])
def test_what_no_job_makes_is_named(place, raw, path):
    with pytest.raises(UserError, match=path):
        explain(plan_of(raw), Path(path))


def test_every_result_is_found_to_be_its_jobs(raw):
    plan = plan_of(raw, benchmark={"seeds": [0, 1], "deploy": ["resnet18/base"]})
    exported = Job.of("export", dataset="columbia-drawn", model="resnet18", method="kd")
    jobs = {*chain(plan, Job.of("page")), exported}
    assert {job.stage for job in jobs} == set(STAGES)
    for job in jobs:
        assert all(plan.maker(path) == job for path in plan.outputs(job).values())
        assert set(dict(job.wildcards)) == set(STAGES[job.stage].wildcards)
    assert plan.maker("results/runs/columbia-drawn/resnet18/base/fold1/seed0") == run("base")


def test_the_changed_function_is_named(tmp_path, repository):
    """In a copy of the package, whose source a test may change."""
    shutil.copytree(repository / "gazepipe", tmp_path / "gazepipe")
    shutil.copy(PATH, tmp_path)
    program = (
        "import sys; sys.path[:0] = ['.', sys.argv[1]]; import test_why as t; from gazepipe.config import load;"
        "raw = load.read('config.yaml'); plan = t.plan_of(raw); job = t.run('base');"
        "t.make(plan, *t.chain(plan, job)) if len(sys.argv) > 2 else print(t.explain(plan, t.weights(plan, 'base')))"
    )

    def python(*arguments: str) -> str:
        command = [sys.executable, "-c", program, str(repository / "tests/provenance"), *arguments]
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PATH.parent}"}
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment).stdout

    python("make")
    losses, optim = tmp_path / "gazepipe/training/losses.py", tmp_path / "gazepipe/training/optim.py"
    losses.write_text(f"{losses.read_text()}\n\ndef another() -> int:\n    return 1\n")
    optim.write_text(f"{optim.read_text()}\n\nANOTHER = 1\n")
    assert reasons(python()) == [
        "source: gazepipe.training.losses.another is new",
        "source: gazepipe.training.optim changed outside its functions",
    ]
    losses.write_text(losses.read_text().replace("    return 1\n", "    return 2\n"))
    python("make")
    losses.write_text(losses.read_text().replace("    return 2\n", '    """A docstring."""\n    return 3\n'))
    assert reasons(python()) == ["source: gazepipe.training.losses.another changed"]


def test_values_that_differ():
    before = {"a": 1, "b": {"c": [1, 2], "d": None}, "gone": 1, "list": [{"x": 1}, {"x": 2}]}
    now = copy.deepcopy(before)
    assert list(changes.of_values(before, now)) == []
    now["b"]["d"], now["list"][1]["x"], now["new"] = {"e": 1}, 3, True
    del now["gone"]
    assert list(changes.of_values(before, now)) == [
        'b.d: null -> {"e": 1}',
        "gone: 1 -> nothing",
        "list.1.x: 2 -> 3",
        "new: nothing -> true",
    ]


def write_run(folder: Path, **facts: object) -> Path:
    write_json(folder / "run.json", {"source": "s1", "validation_error": 3.0, "machine": {"cpu": "x"}, **facts})
    (folder / "model.safetensors").write_bytes(json.dumps(facts, sort_keys=True).encode())
    return folder


def test_two_runs_are_compared_by_their_records(tmp_path, capsys):
    a = write_run(tmp_path / "results/runs/a", settings={"training": {"epochs": 6}})
    b = write_run(tmp_path / "results/runs/b", settings={"training": {"epochs": 8}}, source="s2", validation_error=2.5)
    for source, module in (("s1", "m1"), ("s2", "m2")):
        write_json(tmp_path / f"results/.records/.source/{source}.json", {"gazepipe.training.losses": module})
        write_json(tmp_path / f"results/.records/.source/{module}.json", {"l1": module, "l2": "same"})
    assert cli.main(["diff", str(a), str(b)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "configuration:",
        "  settings.training.epochs: 6 -> 8",
        "source:",
        "  source: gazepipe.training.losses.l1 changed",
        "results:",
        "  validation_error: 3.0 -> 2.5",
        "  model.safetensors: differs",
        "the same: data, versions, machine, effort",
    ]
    assert "the same: configuration, source, data" in compare.compare(a, a)
    assert cli.main(["diff", str(a), str(tmp_path / "none")]) == 2
