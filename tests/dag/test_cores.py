import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from gazepipe import cli
from gazepipe.dag import cores as slots
from gazepipe.errors import UserError
from gazepipe.evaluation import predict

HOLDER = """
import sys, time
from pathlib import Path
from gazepipe.dag import cores as slots
folder, log = Path(sys.argv[1]), Path(sys.argv[4])
count, total, seconds = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[5])
with slots.hold(count, folder, total) as held:
    with open(log, "a") as file:
        file.write(f"+{held}\\n")
    time.sleep(seconds)
    with open(log, "a") as file:
        file.write(f"-{held}\\n")
"""


@pytest.fixture
def start(tmp_path):
    started = []

    def holder(count: int, total: int, seconds: float) -> subprocess.Popen:
        arguments = [str(tmp_path / "slots"), str(count), str(total), str(tmp_path / "log"), str(seconds)]
        started.append(subprocess.Popen([sys.executable, "-c", HOLDER, *arguments]))
        return started[-1]

    yield holder
    for process in started:
        process.kill()
        process.wait()


def held_over_time(tmp_path) -> list[int]:
    changes = [int(line) for line in (tmp_path / "log").read_text().split()]
    return [sum(changes[: i + 1]) for i in range(len(changes))]


def test_never_more_slots_than_cores(start, tmp_path):
    processes = [start(count, 3, 0.05) for count in (1, 2, 3, 1, 2, 0, 1, 5)]
    assert [process.wait(timeout=60) for process in processes] == [0] * len(processes)
    held = held_over_time(tmp_path)
    assert len(held) == 2 * len(processes)
    assert max(held) <= 3
    assert held[-1] == 0


def test_a_killed_holder_gives_its_slots_back(start, tmp_path):
    holder = start(2, 2, 600)
    while not (tmp_path / "log").exists():
        assert holder.poll() is None
        time.sleep(0.02)
    waiting = start(2, 2, 0)
    time.sleep(0.5)
    assert waiting.poll() is None
    os.kill(holder.pid, signal.SIGKILL)
    assert waiting.wait(timeout=30) == 0


def test_no_more_than_there_are_and_zero_means_all(tmp_path):
    with slots.hold(9, tmp_path, 2) as held:
        assert held == 2
    with slots.hold(0, tmp_path, 3) as held:
        assert held == 3


def test_off_where_a_scheduler_hands_out_cores(tmp_path, monkeypatch):
    monkeypatch.setenv(slots.DISABLE, "off")
    with slots.hold(2, tmp_path, 2), slots.hold(2, tmp_path, 2) as held:
        assert held == 2
    assert list(tmp_path.iterdir()) == []


GPU_HOLDER = """
import os, sys, time
from pathlib import Path
from gazepipe.dag import cores as slots
folder, log, count, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
before = os.environ.get("CUDA_VISIBLE_DEVICES")
with slots.hold_gpus(count, folder) as held:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(held) and len(held) == count
    with open(log, "a") as file:
        file.write("".join(f"+{name}\\n" for name in held))
    time.sleep(seconds)
    with open(log, "a") as file:
        file.write("".join(f"-{name}\\n" for name in held))
assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
"""


@pytest.fixture
def start_gpu(tmp_path):
    started = []

    def holder(count: int, seconds: float, **environment: str) -> subprocess.Popen:
        arguments = [str(tmp_path / "slots"), str(tmp_path / "log"), str(count), str(seconds)]
        clean = {name: value for name, value in os.environ.items() if name not in (slots.VISIBLE, slots.DISABLE)}
        command = [sys.executable, "-c", GPU_HOLDER, *arguments]
        started.append(subprocess.Popen(command, env={**clean, **environment}))
        return started[-1]

    yield holder
    for process in started:
        process.kill()
        process.wait()


def devices_over_time(tmp_path) -> list[set[str]]:
    """The devices held after each change; fails where one is taken twice."""
    held: set[str] = set()
    moments = []
    for line in (tmp_path / "log").read_text().split():
        change, name = line[0], line[1:]
        assert (name in held) == (change == "-"), f"{line} while {sorted(held)} were held"
        held = held | {name} if change == "+" else held - {name}
        moments.append(held)
    return moments


@pytest.mark.parametrize("environment", [{"GAZEPIPE_GPUS": "3"}, {"CUDA_VISIBLE_DEVICES": "4,GPU-8f2a,7"}])
def test_no_two_jobs_get_the_same_gpu(start_gpu, tmp_path, environment):
    processes = [start_gpu(count, 0.1, **environment) for count in (1, 1, 2, 1, 3, 1, 1, 2)]
    assert [process.wait(timeout=60) for process in processes] == [0] * len(processes)
    moments = devices_over_time(tmp_path)
    assert len(moments) == 2 * 12
    assert max(map(len, moments)) == 3
    assert set().union(*moments) == set(environment.get("CUDA_VISIBLE_DEVICES", "0,1,2").split(","))


def most_held(tmp_path) -> dict[str, int]:
    """The most jobs that held each device at once."""
    now, most = Counter(), Counter()
    for line in (tmp_path / "log").read_text().split():
        now[line[1:]] += 1 if line[0] == "+" else -1
        most[line[1:]] = max(most[line[1:]], now[line[1:]])
    return dict(most)


def test_as_many_jobs_share_a_gpu_as_are_asked_for(start_gpu, tmp_path):
    shared = {"GAZEPIPE_GPUS": "2", "GAZEPIPE_JOBS_PER_GPU": "2"}
    processes = [start_gpu(count, 0.5, **shared) for count in (1, 1, 1, 1, 1, 1, 2, 2)]
    assert [process.wait(timeout=120) for process in processes] == [0] * len(processes)
    assert len((tmp_path / "log").read_text().split()) == 2 * 10
    assert max(most_held(tmp_path).values()) == 2


def test_jobs_spread_over_the_gpus_before_they_share_one(start_gpu, tmp_path):
    log = tmp_path / "log"
    # The last one's processes get a GPU each.
    for count, expected in ((1, "0"), (1, "01"), (1, "010"), (2, "01001")):
        holder = start_gpu(count, 600, GAZEPIPE_GPUS="2", GAZEPIPE_JOBS_PER_GPU="3")
        while not log.exists() or len(log.read_text().split()) < len(expected):
            assert holder.poll() is None
            time.sleep(0.02)
        assert log.read_text().split() == [f"+{name}" for name in expected]


@pytest.mark.parametrize("given", ["0", "two", "-1", "1.5", ""])
def test_no_number_of_jobs_for_a_gpu(tmp_path, monkeypatch, given):
    monkeypatch.delenv(slots.VISIBLE, raising=False)
    monkeypatch.setenv(slots.GPUS, "1")
    monkeypatch.setenv(slots.JOBS_PER_GPU, given)
    with pytest.raises(UserError, match=r"GAZEPIPE_JOBS_PER_GPU: .* 1 or more"), slots.hold_gpus(1, tmp_path):
        pass


def test_a_killed_holder_gives_its_gpu_back(start_gpu, tmp_path):
    holder = start_gpu(1, 600, GAZEPIPE_GPUS="1")
    while not (tmp_path / "log").exists():
        assert holder.poll() is None
        time.sleep(0.02)
    waiting = start_gpu(1, 0, GAZEPIPE_GPUS="1")
    time.sleep(0.5)
    assert waiting.poll() is None
    os.kill(holder.pid, signal.SIGKILL)
    assert waiting.wait(timeout=30) == 0
    assert (tmp_path / "log").read_text().split() == ["+0", "+0", "-0"]


@pytest.mark.parametrize("folder", [slots.gpu_folder, slots.slot_folder])
def test_slurm_jobs_on_one_node_have_their_own_slots(monkeypatch, folder):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    first = folder()
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    second = folder()
    monkeypatch.delenv("SLURM_JOB_ID")
    assert len({first, second, folder()}) == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0,1", ["0", "1"]),
        ("2", ["2"]),
        ("", []),
        ("-1", []),
        ("1,-1,0", ["1"]),
        ("NoDevFiles", []),
        (" 0, 3", ["0", "3"]),
    ],
)
def test_gpus_are_those_that_cuda_would_see(monkeypatch, given, expected):
    monkeypatch.setenv(slots.VISIBLE, given)
    monkeypatch.setenv(slots.GPUS, "8")
    assert slots.gpus() == expected


def test_nothing_changes_without_gpus(tmp_path, monkeypatch):
    monkeypatch.delenv(slots.VISIBLE, raising=False)
    monkeypatch.setenv(slots.GPUS, "0")
    with slots.hold_gpus(1, tmp_path) as held:
        assert held == []
        assert slots.VISIBLE not in os.environ
    monkeypatch.setenv(slots.GPUS, "2")
    monkeypatch.setenv(slots.DISABLE, "off")
    with slots.hold_gpus(1, tmp_path) as held:
        assert held == []
    monkeypatch.delenv(slots.DISABLE)
    with slots.hold_gpus(0, tmp_path) as held:
        assert held == []
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(slots.GPUS, "two")
    with pytest.raises(UserError, match="GAZEPIPE_GPUS: 'two'"):
        slots.gpus()


def test_stages_that_compute_on_a_device_ask_for_a_gpu(tmp_path, monkeypatch):
    """The command itself, with the stages' work taken out."""
    seen = []
    monkeypatch.delenv(slots.VISIBLE, raising=False)
    monkeypatch.setenv(slots.GPUS, "2")
    monkeypatch.setattr(slots, "gpu_folder", lambda: tmp_path / "gpus")
    monkeypatch.setattr(slots, "slot_folder", lambda: tmp_path / "cores")
    monkeypatch.setattr(predict, "predict", lambda *args, **files: seen.append(os.environ.get(slots.VISIBLE)))
    files = [f"--{name}=x" for name in ("weights", "stores", "split", "predictions")]
    for device in ("auto", "cuda", "cpu"):
        settings = {
            "model": {"arch": "resnet18"},
            "dataset": "a",
            "fold": 0,
            "tests": ["a"],
            "device": device,
            "threads": 1,
        }
        assert cli.main(["predict", "--settings", json.dumps(settings), *files]) == 0
    assert seen == ["0", "0", None]


@pytest.mark.skipif(os.path.isdir("/proc/driver/nvidia/gpus"), reason="the driver itself is asked first")
@pytest.mark.parametrize(
    ("text", "status", "expected"), [("GPU 0: A\nGPU 1: B\n  MIG 1g\n", 0, ["0", "1"]), ("", 9, [])]
)
def test_where_the_driver_shows_no_files_its_tool_is_asked(tmp_path, monkeypatch, text, status, expected):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{text}'\nexit {status}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in (slots.VISIBLE, slots.GPUS):
        monkeypatch.delenv(name, raising=False)
    assert slots.gpus() == expected
