"""The workflow on a real Slurm of one node: a training preempted, then cancelled while its node drains, and resumed."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from real_workflow import ON_CLUSTERS, copy_source, environment

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

RUN = Path("results/runs/mpiifacegaze-drawn/resnet18/base/fold0/seed0")
STATE = Path("results/.state/train/mpiifacegaze-drawn/resnet18/base/0/0")
LOG = Path("results/logs/train-mpiifacegaze-drawn-resnet18-base-0-0.log")
# Slurm without a database, a node of two cores, and a short time to look again.
HERE = ["--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"]
HERE += ["--cores", "2"]


def called(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def wait_for(what: str, look: Callable[[], object], seconds: float = 1800) -> object:
    """What `look` finds, as soon as it finds something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(f"no {what} within {seconds} s")


def jobs(comment: str) -> list[SimpleNamespace]:
    """Slurm's jobs of this comment, the oldest first."""
    lines = called("squeue", "--noheader", "--states=all", "--sort=i", "--format=%A|%T|%k|%r").splitlines()
    rows = [line.split("|") for line in lines]
    return [SimpleNamespace(id=row[0], state=row[1], why=row[3]) for row in rows if comment in row[2]]


def training() -> list[SimpleNamespace]:
    return jobs("rule_train_wildcards_mpiifacegaze-drawn_resnet18_base_")


def ended(workflow: subprocess.Popen, output: Path) -> None:
    if workflow.poll() is not None:
        pytest.fail(f"the workflow ended with {workflow.returncode}:\n{output.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def slurm(repository, tmp_path_factory):
    """A Slurm of one node with two cores at least and a fake GPU."""
    folder = tmp_path_factory.mktemp("slurm")
    up = subprocess.run(
        [repository / ".ci/slurm-up", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(),
    )
    if up.returncode:
        give_up = pytest.fail if os.environ.get("GAZEPIPE_SLURM") == "required" else pytest.skip
        give_up(f"no Slurm here: {up.stderr.strip()}")
    yield folder
    subprocess.run([repository / ".ci/slurm-down", folder], check=True, timeout=60)


@pytest.fixture(scope="module")
def told(slurm, repository, tmp_path_factory) -> SimpleNamespace:
    """What was seen of a workflow whose training was preempted, and then cancelled while its node was drained."""
    folder = copy_source(repository, tmp_path_factory.mktemp("cluster"), ON_CLUSTERS)
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", *HERE]
    command += ["--configfile", "tiny.yaml", "--set-resources", "train:gpu=1", "--", "results/tables.md"]
    output = folder / "snakemake.log"
    began = time.monotonic()
    with open(output, "w") as file:
        workflow = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env=environment(GAZEPIPE_SAVE_SECONDS="0.2")
        )
    seen = SimpleNamespace(folder=folder, times={}, logs=[])

    def wait(what: str, look: Callable[[], object], **limit: float) -> object:
        found = wait_for(what, lambda: look() or ended(workflow, output), **limit)
        seen.times[what] = round(time.monotonic() - began, 1)
        return found

    def saved_since(moment: float) -> bool:
        return (folder / STATE).is_file() and (folder / STATE).stat().st_mtime > moment

    def log(text: str) -> Callable[[], bool]:
        return lambda: (folder / LOG).is_file() and text in (folder / LOG).read_text()

    try:
        wait("training at work", lambda: saved_since(0))
        [seen.first] = training()
        # As Slurm preempts with PreemptMode=REQUEUE.
        called("scontrol", "requeue", seen.first.id)
        wait("preempted training saved", log("stopped by SIGTERM"))
        seen.logs.append((folder / LOG).read_text())
        wait("requeued training at work", log("continuing"))
        wait("requeued training further on", partial(saved_since, time.time()))
        called("scontrol", "update", "nodename=node1", "state=drain", "reason=test")
        called("scancel", seen.first.id)
        wait("cancelled training saved", log("stopped by SIGTERM"))
        seen.logs.append((folder / LOG).read_text())
        wait("submitted again", lambda: len(training()) == 2)
        seen.waiting = wait("waiting for the node", lambda: training()[1].why != "None" and training()[1])
        time.sleep(2)
        seen.still = training()
        called("scontrol", "update", "nodename=node1", "state=resume")
        wait("resumed training at work", log("continuing"))
        wait("end", lambda: workflow.poll() is not None)
        seen.logs.append((folder / LOG).read_text())
    finally:
        workflow.kill()
        workflow.wait()
    seen.status, seen.output = workflow.returncode, output.read_text()
    seen.queue = called("squeue", "--states=all", "--sort=i", "--format=%.4A %.10T %.8M %k")
    return seen


def test_the_workflow_ends_with_its_tables(told):
    assert told.status == 0, told.output[-3000:]
    assert "## Benchmark" in (told.folder / "results/tables.md").read_text()


def test_a_preempted_job_saves_its_state_and_comes_back_as_itself(told):
    assert "stopped by SIGTERM; run again to continue" in told.logs[0]
    assert "continuing" not in told.logs[0]
    assert "continuing" in told.logs[1]


def test_a_cancelled_job_saves_its_state_and_is_submitted_again(told):
    assert "stopped by SIGTERM; run again to continue" in told.logs[1]
    assert [job.state for job in training()] == ["CANCELLED", "COMPLETED"]
    assert "continuing" in told.logs[2]
    assert json.loads((told.folder / RUN / "run.json").read_text())["resumes"] == 2


def test_a_drained_node_gets_no_job_until_it_returns(told):
    assert told.waiting.state == "PENDING"
    assert [job.state for job in told.still] == ["CANCELLED", "PENDING"]


def test_a_training_asks_for_a_gpu(told):
    assert "TresPerJob=gres:gpu:1" in called("scontrol", "show", "job", told.first.id)
    [store] = jobs("rule_store")
    assert "gres" not in called("scontrol", "show", "job", store.id)


def test_small_jobs_are_grouped(told):
    """Fetch, one part, the store's group, two trainings (one of them twice), profiles, predictions, tables."""
    count = len(re.findall(r"Group job .* submitted|Job .* has been submitted", told.output))
    assert count == 9, told.queue


def test_the_weights_are_those_of_a_local_run(told, repository, tmp_path):
    folder = copy_source(repository, tmp_path, ON_CLUSTERS)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "tiny.yaml", "--"]
    done = subprocess.run(
        [*command, str(RUN / "model.safetensors")],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / RUN / "model.safetensors").read_bytes() == (told.folder / RUN / "model.safetensors").read_bytes()
    assert json.loads((folder / RUN / "run.json").read_text())["resumes"] == 0
