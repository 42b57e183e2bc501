"""The profiles beside profiles/slurm: what they ask of a scheduler; one runs jobs through a queue of the test's own."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from real_workflow import ON_CLUSTERS, copy_source, environment

pytestmark = pytest.mark.workflow

CLUSTERS = ("slurm", "cluster-generic", "kubernetes")

# qsub and qstat of a queue that runs each script at once, in a session and a folder that are not the caller's; its
# first job is killed.
QUEUE = """#!{python}
import json, os, subprocess, sys
from pathlib import Path

folder = Path({folder!r})
if Path(sys.argv[0]).name == "qsub":
    number = len(list(folder.glob("*.json"))) + 1
    told = {{"arguments": sys.argv[1:-1], "slots": os.environ.get("GAZEPIPE_SLOTS")}}
    (folder / f"{{number}}.json").write_text(json.dumps(told))
    script = "kill -TERM $$" if number == 1 else f"bash {{sys.argv[-1]}}"
    output = open(folder / f"{{number}}.out", "w")
    subprocess.Popen(
        ["bash", "-c", f"bash -c '{{script}}'; echo $? > {{number}}.part; mv {{number}}.part {{number}}.status"],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
    )
    print(f"{{number}}.queue")
else:
    assert sys.argv[1:-1] == ["-x", "-f"]
    status = folder / sys.argv[-1].replace(".queue", ".status")
    print("Job Id:", sys.argv[-1])
    print(f"    job_state = F\\n    Exit_status = {{status.read_text()}}" if status.exists() else "    job_state = R")
"""


def settings(repository: Path, name: str) -> dict:
    return yaml.safe_load((repository / f"profiles/{name}/config.yaml").read_text())


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_profile_keeps_what_the_default_profile_sets(repository, name):
    own, default = settings(repository, name), settings(repository, "default")
    assert {key: own.get(key) for key in default} == default
    assert own["retries"] >= 1


@pytest.mark.parametrize("name", CLUSTERS)
def test_groups_are_of_rules_that_there_are(repository, name):
    text = "\n".join(path.read_text() for path in (repository / "workflow/rules").glob("*.smk"))
    assert set(settings(repository, name)["groups"]) <= set(re.findall(r"^rule (\w+):", text, re.MULTILINE))


def test_the_shell_of_a_rule_waits_for_its_stage_when_all_are_told_to_stop(repository, tmp_path):
    prefix = re.search(
        r'^shell\.prefix\("(.*)"\)$', (repository / "workflow/rules/common.smk").read_text(), re.MULTILINE
    )
    stage = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), print('saved'),"
        " sys.exit(143))); print('ready', flush=True); time.sleep(60)"
    )
    command = f'{prefix[1]}set -euo pipefail; {sys.executable} -c "{stage}" 2> {tmp_path}/log'
    shell = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert shell.stdout.readline() == "ready\n"
    os.killpg(shell.pid, signal.SIGTERM)
    assert shell.wait(timeout=60) == 143
    assert shell.stdout.read() == "saved\n"


@pytest.fixture
def queue(tmp_path) -> Path:
    folder = tmp_path / "queue"
    folder.mkdir()
    for name in ("qsub", "qstat"):
        (folder / name).write_text(QUEUE.format(python=sys.executable, folder=str(folder)))
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.slow
def test_the_generic_profile_takes_jobs_through_a_queue(repository, tmp_path, queue):
    (tmp_path / "workflow").mkdir()
    folder = copy_source(repository, tmp_path / "workflow", ON_CLUSTERS)
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/cluster-generic"]
    command += ["--configfile", "tiny.yaml", "--seconds-between-status-checks", "1", "--"]
    command += ["results/splits/mpiifacegaze-drawn.csv", "results/figures/sheets/mpiifacegaze-drawn.png"]
    path = os.pathsep.join([str(queue), environment()["PATH"]])
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment(PATH=path), timeout=1800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / command[-1]).read_bytes().startswith(b"\x89PNG")
    told = [json.loads((queue / f"{number}.json").read_text()) for number in range(1, 5)]
    # Fetch twice, as the first was killed; one part; store, split and sheet together.
    assert len(list(queue.glob("*.json"))) == 4
    assert all(job["slots"] == "off" for job in told)
    asked = [" ".join(job["arguments"]) for job in told]
    assert "select=1:ncpus=1:mem=2000mb:ngpus=0 -l walltime=600" in asked[0]
    assert "select=1:ncpus=1:mem=4000mb:ngpus=0 -l walltime=1200" in asked[1]
    # Split and sheet run side by side, after the store. Minutes are the fewest that rules ask for: ten of each job.
    assert "select=1:ncpus=2:mem=3000mb:ngpus=0 -l walltime=1200" in asked[3]


def test_the_kubernetes_profile_is_understood(repository, tmp_path):
    """By a dry run, with the bucket that its executor asks for."""
    pytest.importorskip("snakemake_executor_plugin_kubernetes", reason="see docs/clusters.md for how to install it")
    pytest.importorskip("snakemake_storage_plugin_s3", reason="the S3 storage plugin is not installed")
    boto3, server = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    folder = copy_source(repository, tmp_path, ON_CLUSTERS)
    serving = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    serving.start()
    try:
        endpoint = "http://{}:{}".format(*serving.get_host_and_port())
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket="of-tests")
        command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/kubernetes", "--dry-run"]
        command += ["--default-storage-provider", "s3", "--default-storage-prefix", "s3://of-tests/gazepipe"]
        done = subprocess.run(
            [*command, "--storage-s3-endpoint-url", endpoint, "--configfile", "tiny.yaml", "--config", "device=cuda"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env=environment(
                SNAKEMAKE_STORAGE_S3_ACCESS_KEY="test",
                SNAKEMAKE_STORAGE_S3_SECRET_KEY="test",
                PYTHONPATH=os.environ.get("PYTHONPATH", ""),
            ),
            timeout=600,
        )
    finally:
        serving.stop()
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "gpu_manufacturer=nvidia" in done.stdout + done.stderr
