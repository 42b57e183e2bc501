import os
import signal
import subprocess
import sys
import time

import pytest

from gazepipe import slots

HOLDER = """
import sys, time
from pathlib import Path
from gazepipe import slots
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


def test_available_cores_respects_affinity():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    code += "from gazepipe.slots import available_cores; print(available_cores())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "1"
