"""What jobs took: their own notes, and Snakemake's benchmark files."""

import json
import os
import time

import pytest

from gazepipe.dag.measured import (
    Measured,
    Started,
    benchmark,
    cost_path,
    last_look,
    note,
    noted,
    ran,
    start,
    started,
)
from gazepipe.errors import UserError

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def test_a_job_notes_what_it_took(tmp_path):
    note(str(tmp_path), "train faces resnet-0.5 base 0 1", "abc", time.monotonic() - 2)
    found = noted(str(tmp_path))
    took = found.pop("train faces resnet-0.5 base 0 1")
    assert not found
    assert took.wall == pytest.approx(2, abs=0.5)
    # That of this very process and of those that tests before have started.
    assert took.seconds == pytest.approx(sum(os.times()[:4]), rel=0.5)
    assert 20 < took.memory_mb < 100_000
    assert took.settings == "abc"


@pytest.mark.parametrize(
    "content",
    ["", "[1]", "{}", '{"processor_seconds": NaN, "memory_mb": 1, "wall_seconds": 1, "settings": ""}'],
)
def test_a_damaged_note_is_left_out(tmp_path, content):
    note(str(tmp_path), "tables", "abc", time.monotonic() - 1)
    path = cost_path(str(tmp_path), "split faces")
    path.parent.mkdir()
    path.write_text(content)
    assert list(noted(str(tmp_path))) == ["tables"]


def test_a_note_is_plain_json(tmp_path):
    note(str(tmp_path), "page", "abc", time.monotonic())
    assert set(json.loads((tmp_path / ".costs/page.json").read_text())) == {
        *("processor_seconds", "wall_seconds", "memory_mb", "settings", "last"),
    }


def test_a_job_notes_when_it_ran(tmp_path):
    before = time.time()
    now = time.monotonic()
    note(str(tmp_path), "train faces resnet-0.5 base 0 1", "abc", now - 32, ended=now - 30, cores=3)
    (job,) = ran(str(tmp_path))
    assert (job.name, job.stage, job.cores) == ("train faces resnet-0.5 base 0 1", "train", 3)
    assert job.seconds == pytest.approx(2, abs=0.01)
    assert before - 0.1 <= job.ended + 30 <= time.time() + 0.1
    assert job.processor_seconds == noted(str(tmp_path))[job.name].seconds


def test_a_job_that_goes_on_changes_only_when_it_ran(tmp_path):
    note(str(tmp_path), "tables", "abc", time.monotonic() - 500)
    before = noted(str(tmp_path))
    note(str(tmp_path), "tables", "other", time.monotonic() - 2, continues=True)
    assert noted(str(tmp_path)) == before
    note(str(tmp_path), "page", "abc", time.monotonic() - 2, continues=True)
    assert list(noted(str(tmp_path))) == ["tables"]
    assert [job.name for job in ran(str(tmp_path))] == ["page", "tables"]
    assert all(job.seconds < 5 for job in ran(str(tmp_path)))


def test_a_run_notes_when_it_began(tmp_path):
    assert started(str(tmp_path)) is None
    start(str(tmp_path), 8)
    assert started(str(tmp_path)) == Started(pytest.approx(time.time(), abs=60), 8)
    assert (noted(str(tmp_path)), ran(str(tmp_path))) == ({}, [])


@pytest.mark.parametrize(("wall", "last"), [(0.4, 0), (7.3, 7), (15.2, 15), (30, 15), (51.6, 45), (80, 75)])
def test_when_snakemake_looked_last(wall, last):
    assert last_look(wall) == last


def written(path, wall, memory, seen):
    path.write_text(f"{HEADER}{wall}\t0:00:01\t{memory}\t1\t1\t1\t0\t0\t50\t{seen}\n")
    return path


def test_what_passed_after_the_last_look_is_added(tmp_path):
    # 48 s at the look after 75 s of 80 s: the rest at the same rate.
    took = benchmark(written(tmp_path / "a.tsv", 80, 1000, 48))
    assert took == Measured(pytest.approx(48 + 5 * 48 / 75), pytest.approx(1048.576))


@pytest.mark.parametrize(("wall", "seen"), [(44, 9), (0.3, 0), (112.5, 0.3), (4, "NA"), (15.1, 0.2)])
def test_a_file_that_may_have_missed_much_is_not_used(tmp_path, wall, seen):
    memory = {"NA": "NA", 0.2: 36}.get(seen, 300)  # 36 MB: it waited until the last look
    assert benchmark(written(tmp_path / "a.tsv", wall, memory, seen)) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("", "is no benchmark file"),
        (HEADER, "is no benchmark file"),
        ("a\tb\n1\t2\n", "is no benchmark file"),
        (f"{HEADER}1\t\tx\t1\t1\t1\t0\t0\t50\t1\n", "are no numbers"),
        (f"{HEADER}nan\t\t1\t1\t1\t1\t0\t0\t50\t1\n", "are no times and sizes"),
        (f"{HEADER}1\t\t-4\t1\t1\t1\t0\t0\t50\t1\n", "are no times and sizes"),
        (f"{HEADER}1\t\n", "are no numbers|is no benchmark file"),
        (b"\xff\xfe\x00", "is no benchmark file"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "a.tsv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as raised:
        benchmark(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
