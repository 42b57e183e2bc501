"""A stage ends with its workflow, and a workflow begins when the stages of the last one have ended."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from gazepipe.dag import orphans as lifeline
from gazepipe.dag.lock import Lock

STAGE = """
import os, signal, sys, time
from contextlib import nullcontext
from pathlib import Path
from gazepipe.dag.orphans import at_work
if "tidy" in sys.argv:
    def tidy(*_):
        os.write(1, b"tidied\\n")  # print may be interrupted by itself
        sys.exit(143)
    signal.signal(signal.SIGTERM, tidy)
with at_work(Path(sys.argv[1])):
    print("at work", flush=True)
    for _ in range(600):
        time.sleep(0.1)
"""
WORKFLOW = """
import subprocess, sys, time
from gazepipe.dag.orphans import lead
lead()
# As Snakemake does: a shell between the workflow and its stage.
stage = subprocess.Popen(["bash", "-c", '"$@"; true', "bash", sys.executable, "-c", *sys.argv[1:]])
time.sleep(60)
"""


def start(code: str, *arguments: object, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def is_free(root: Path) -> bool:
    """Whether no stage is at work."""
    with open(root / lifeline.STAGES, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize("words", [[], ["tidy"]])
def test_a_stage_ends_with_a_workflow_that_is_killed(tmp_path, words):
    workflow = start(WORKFLOW, STAGE, tmp_path, *words)
    assert workflow.stdout.readline() == "at work\n"
    assert not is_free(tmp_path)
    workflow.kill()
    # The pipe ends when the stage does, long before it would by itself.
    began = time.monotonic()
    assert workflow.stdout.read() == ("tidied\n" if words else "")
    assert time.monotonic() - began < 30
    assert is_free(tmp_path)
    workflow.wait()


def test_a_stage_of_a_workflow_that_is_gone_does_not_begin(tmp_path):
    gone = start("import os; from gazepipe.dag.orphans import *; lead(); print(os.environ[WORKFLOW])")
    name = gone.communicate()[0].strip()
    stage = start(STAGE, tmp_path, **{lifeline.WORKFLOW: name})
    out, _ = stage.communicate(timeout=60)
    assert (out, stage.returncode) == ("", -signal.SIGTERM)


@pytest.mark.parametrize("name", ["", f"{os.getppid()} elsewhere", "nonsense"])
def test_a_stage_without_a_workflow_here_works(tmp_path, name):
    """Started by a person, or where the workflow's process cannot be seen."""
    stage = start(STAGE, tmp_path, **{lifeline.WORKFLOW: name})
    try:
        assert stage.stdout.readline() == "at work\n"
    finally:
        stage.kill()
        stage.communicate()


def test_a_workflow_begins_when_the_stages_have_ended(tmp_path):
    stages = [start(STAGE, tmp_path) for _ in range(2)]
    for stage in stages:
        assert stage.stdout.readline() == "at work\n"
    workflow = start(
        "import sys; from gazepipe.dag.lock import Lock; Lock(sys.argv[1]).require(); print('on')", tmp_path
    )
    line = workflow.stderr.readline()
    assert line == f"{tmp_path}: waiting for the end of stages that an earlier workflow left\n"
    stages[0].kill()
    stages[0].communicate()
    time.sleep(0.5)
    assert workflow.poll() is None
    stages[1].kill()
    stages[1].communicate()
    out, _ = workflow.communicate(timeout=60)
    assert (out, workflow.returncode) == ("on\n", 0)


def test_without_stages_nobody_waits(tmp_path, capsys):
    Lock(tmp_path).require()
    assert capsys.readouterr().err == ""


def test_a_stage_of_the_workflow_names_its_folder(tmp_path, monkeypatch):
    """Through the entry that rules call."""
    from gazepipe import cli

    seen = []
    monkeypatch.setattr(cli.orphans, "at_work", lambda root: nullcontext(seen.append(root)))
    job = json.dumps({"name": "split a", "root": f"{tmp_path}/results/smoke", "key": "k"})
    files = ["--store", f"{tmp_path}/none.h5", "--split", f"{tmp_path}/a.csv"]
    cli.main(["split", "--settings", '{"protocol": "columbia"}', "--job", job, *files])
    assert seen == [tmp_path / "results/smoke"]
