"""One workflow at a time on a folder of results."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gazepipe.dag.lock import Lock
from gazepipe.errors import UserError

HOLDER = """
import sys, time
from gazepipe.dag.lock import Lock
lock = Lock(sys.argv[1])
lock.require()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_workflow_is_told_who_has_the_folder(tmp_path, holder):
    second = Lock(tmp_path)
    with pytest.raises(UserError, match=rf"{re.escape(str(tmp_path))}: .*process {holder.pid} on .* since \d{{4}}-"):
        second.require()
    assert "\n" not in str(second.error)
    Lock(tmp_path / "another-run").require()


def test_a_killed_workflow_leaves_no_lock(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    lock = Lock(tmp_path)
    lock.require()
    assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_who_came_while_another_was_at_work_begins_anew(tmp_path, holder):
    """Its DAG is of results that have changed since."""
    second = Lock(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with pytest.raises(UserError, match="another workflow"):
        second.require()


def test_of_many_at_once_one_gets_the_folder(tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "new")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(6)
    ]
    try:
        end = time.monotonic() + 60
        while sum(process.poll() is None for process in started) > 1 and time.monotonic() < end:
            time.sleep(0.05)
        running = [process for process in started if process.poll() is None]
        assert len(running) == 1
        assert running[0].stdout.readline() == b"held\n"
        others = [process for process in started if process is not running[0]]
        assert all(b"another workflow is at work here" in process.stderr.read() for process in others)
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.workflow
def test_snakemake_ends_with_one_line_and_status_2(tmp_path, repository):
    """The lines of common.smk that deal with the lock, in a workflow of one job."""
    rules = (repository / "workflow/rules/common.smk").read_text()
    taken = re.search(r"^LOCK = .*\n", rules, re.MULTILINE)[0].replace("PLAN.root", '"results"')
    hook = re.search(r"^onstart:\n    try:\n(?: {8}.*\n)+    except .*\n(?: {8}.*\n)+", rules, re.MULTILINE)[0]
    (tmp_path / "Snakefile").write_text(
        f"import sys\nsys.path.insert(0, {str(repository)!r})\nfrom gazepipe.errors import UserError\n"
        "from gazepipe.dag.lock import Lock\n"
        f"{taken}\n{hook}\n"
        'rule all:\n    output: "results/a"\n    shell: "echo a > {output}"\n'
    )
    (tmp_path / "profiles/default").mkdir(parents=True)
    (tmp_path / "profiles/default/config.yaml").write_text((repository / "profiles/default/config.yaml").read_text())
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "results")], stdout=subprocess.PIPE, cwd=repository
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        dry = snakemake(tmp_path, "--dry-run")
        assert dry.returncode == 0, dry.stderr
        real = snakemake(tmp_path)
        assert real.returncode == 2
        assert real.stderr.strip().splitlines()[-1].startswith("results: another workflow is at work here (process")
        assert "Traceback" not in real.stderr
    finally:
        holder.kill()
        holder.wait()
    assert snakemake(tmp_path).returncode == 0
    assert Path(tmp_path / "results/a").read_text() == "a\n"


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
