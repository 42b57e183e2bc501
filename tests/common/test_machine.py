import os
import subprocess
import sys

import pytest

from gazepipe.common import machine


def test_available_cores_respects_affinity():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
    code += "from gazepipe.common.machine import available_cores; print(available_cores())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "1"


@pytest.mark.parametrize(("given", "expected"), [("1", 1), ("3", 3), ("64", 4), ("0", 1), ("2(x2)", 4)])
def test_a_slurm_job_has_the_cores_that_it_was_given(monkeypatch, given, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(machine.Path, "read_text", lambda _: "max 100000")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", given)
    assert machine.available_cores() == expected
