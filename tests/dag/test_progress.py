"""How far a run is, and what is left of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazepipe.dag.progress import Progress, counted, named, shortened, status
from gazepipe.dag.schedule import Task
from gazepipe.dag.stage import Job

DATA = Job.of("fetch", dataset="faces")
SPLIT = Job.of("split", dataset="faces")
BASE, KD = (Job.of("train", dataset="faces", model="resnet18", method=name, fold=0, seed=2) for name in ("base", "kd"))
TABLES = Job.of("tables")
TASKS = {
    DATA: Task(20, 1, []),
    SPLIT: Task(5, 1, [DATA]),
    BASE: Task(100, 1, [DATA]),
    KD: Task(60, 1, [DATA]),
    TABLES: Task(10, 1, [BASE, KD]),
}


def begin(progress: Progress, job: Job, now: float) -> None:
    """Start a job that has its cores at once."""
    progress.start(job)
    progress.work(job, now)


@pytest.fixture
def progress() -> Progress:
    """A run on two cores that began at 1000 s."""
    return Progress(TASKS, 2, 1000.0)


def test_what_is_left_before_anything_ran_is_the_schedule(progress):
    # 20 s of data, 100 s of the longer training, 10 s of tables.
    assert progress.left(1000) == 130


def test_what_has_run_is_not_left(progress):
    begin(progress, DATA, 1000)
    assert progress.left(1005) == pytest.approx(125)
    progress.end(DATA, 1020)
    begin(progress, BASE, 1020)
    begin(progress, KD, 1020)
    # KD ends at 60 s, the split follows on its core.
    assert progress.left(1020) == pytest.approx(110)
    assert progress.left(1060) == pytest.approx(70)
    progress.end(KD, 1080)
    begin(progress, SPLIT, 1080)
    assert progress.left(1080) == pytest.approx(50)


def test_what_is_left_is_scaled_by_the_jobs_that_have_ended(progress):
    begin(progress, DATA, 1000)
    progress.end(DATA, 1080)
    # 80 s in place of 20, and 20 s as foretold: (80 + 20) / (20 + 20).
    assert progress.left(1080) == pytest.approx(2.5 * 110)


def test_a_job_that_is_over_its_time_needs_a_share_of_it(progress):
    begin(progress, DATA, 1000)
    assert progress.left(1100) == pytest.approx(0.1 * 100 + 110)


def test_nothing_is_left_when_all_is_done(progress):
    for job in TASKS:
        begin(progress, job, 1000)
        progress.end(job, 1000)
    assert progress.left(1000) == 0
    assert counted(progress) == "[5/5 jobs]"


def test_a_job_that_waits_for_its_cores_has_not_begun(progress):
    progress.start(DATA)
    assert (progress.waiting, progress.at_work) == ([DATA], {})
    assert progress.left(1010) == 130
    progress.work(DATA, 1010)
    progress.start(DATA)
    assert (progress.waiting, progress.at_work) == ([], {DATA: 1010})
    assert progress.left(1015) == pytest.approx(125)


def test_a_job_that_was_never_seen_at_work_scales_nothing(progress):
    progress.start(DATA)
    progress.end(DATA, 1090)
    assert progress.left(1090) == 110


def test_a_failed_job_that_is_tried_again_has_not_failed(progress):
    begin(progress, DATA, 1000)
    progress.end(DATA, 1001, failed=True)
    assert (progress.failed, progress.at_work) == ({DATA}, {})
    begin(progress, DATA, 1002)
    assert (progress.failed, progress.at_work) == (set(), {DATA: 1002})


def test_jobs_of_no_task_change_nothing(progress):
    other = Job.of("page")
    progress.start(other)
    progress.end(other, 1001)
    assert (progress.waiting, progress.done) == ([], set())


@given(st.lists(st.tuples(st.sampled_from(list(TASKS)), st.sampled_from(["start", "work", "end", "fail"]))))
def test_a_job_is_in_one_place_and_no_time_is_negative(steps):
    progress = Progress(TASKS, 2, 0.0)
    for now, (job, step) in enumerate(steps):
        if step == "start":
            progress.start(job)
        elif step != "work":
            progress.end(job, now, failed=step == "fail")
        elif job in progress.waiting:
            progress.work(job, now)
        places = [progress.waiting, progress.at_work, progress.failed]
        assert all(sum(each in place for place in places) <= 1 for each in TASKS)
        assert progress.left(now) >= 0


# ---- the line


def test_the_line_says_how_many_how_long_and_what(progress):
    begin(progress, DATA, 1000)
    progress.end(DATA, 1020)
    begin(progress, BASE, 1020)
    begin(progress, KD, 1020)
    progress.start(SPLIT)
    line = status(progress, 1050, 80.0, {BASE: "epoch 43/120"})
    assert line == (
        "[1/5 jobs] 38 %, about 80 s left; running: train faces resnet18 base fold 0 seed 2 (epoch 43/120), "
        "train faces resnet18 kd fold 0 seed 2; 1 waiting"
    )


@pytest.mark.parametrize(
    ("left", "said"), [(0, "99 %, under 10 s left"), (9.9, "under 10 s left"), (720, "about 12 min left")]
)
def test_the_time_left_is_said_as_well_as_it_is_known(progress, left, said):
    assert status(progress, 1500, left, {}).endswith(said)


def test_names_are_cut_before_how_far_they_are(progress):
    begin(progress, BASE, 1000)
    begin(progress, KD, 1000)
    notes = {BASE: "epoch 43/120", KD: "epoch 7/120"}
    line = status(progress, 1001, 130, notes, width=119)
    assert len(line) <= 119
    assert "train faces resnet1... (epoch 43/120), train faces resnet1... (epoch 7/120)" in line


def test_failures_and_the_end_are_said_in_place_of_the_time(progress):
    begin(progress, BASE, 1000)
    begin(progress, KD, 1000)
    progress.end(KD, 1001, failed=True)
    assert status(progress, 1001, 9, {}).startswith("[0/5 jobs] 1 failed; running: train faces resnet18 base")
    progress.stopping = True
    progress.end(BASE, 1002, failed=True)
    assert status(progress, 1002, 9, {}) == "[0/5 jobs] stopping"
    assert progress.failed == {KD}


def test_the_count_keeps_its_width():
    assert counted(Progress(dict.fromkeys(map(str, range(162)), Task(1, 1, [])), 2, 0.0)) == "[  0/162 jobs]"


def test_names_say_which_number_is_what():
    assert named(Job.of("prepare_part", dataset="faces", part=3)) == "prepare_part faces part 3"
    assert named(TABLES) == "tables"


@given(st.text(max_size=30), st.integers(0, 40))
def test_what_is_shortened_fits(text, width):
    found = shortened(text, width)
    assert len(found) <= width
    assert found == text or len(text) > width
