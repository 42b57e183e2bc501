"""`gazepipe run`: what Snakemake's records make of the screen."""

import io
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from gazepipe.cli import main
from gazepipe.dag import watch as module
from gazepipe.dag.cores import HELD
from gazepipe.dag.progress import RUN
from gazepipe.dag.schedule import Task
from gazepipe.dag.stage import Job
from gazepipe.dag.watch import CLEAR, Screen, Watch, cleaned, far, tail

TRAIN = {"dataset": "faces", "model": "resnet18", "method": "kd", "fold": "0", "seed": "2"}
NAME = "train faces resnet18 kd fold 0 seed 2"
JOBS = [Job.of("fetch", dataset="faces"), Job.of("train", **TRAIN)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def told(monkeypatch, tmp_path):
    """What the Snakefile has told: two jobs on one core; the folder is that of the workflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")
    tasks = {JOBS[0]: Task(20, 1, []), JOBS[1]: Task(100, 1, JOBS[:1])}
    for name, value in {
        "root": "results",
        "jobs": JOBS,
        "cores": 1,
        "planned": SimpleNamespace(tasks=lambda jobs, cores: tasks),
    }.items():
        monkeypatch.setattr(RUN, name, value)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watched(clock):
    """A watch whose screen is no terminal."""
    return Watch(Screen(io.StringIO()), clock)


@pytest.fixture
def on_terminal(clock):
    return Watch(Screen(Terminal()), clock)


def give(watch: Watch, text: str = "", level: int = logging.INFO, **facts: object) -> None:
    record = logging.LogRecord("snakemake", level, "", 0, text, None, None)
    record.__dict__.update(facts)
    watch.take(record, text)


def begin(watch: Watch, job: Job, number: int, works: bool = True) -> None:
    facts = {"jobid": number, "rule_name": job.stage, "wildcards": dict(job.wildcards), "log": ["job.log"]}
    give(watch, event=LogEvent.JOB_INFO, **facts)
    if works:
        watch.progress.work(job, watch.time())


def end(watch: Watch, number: int) -> None:
    give(watch, event=LogEvent.JOB_FINISHED, job_id=number)


def fail(
    watch: Watch, number: int, status: str = "non-zero exit status 2", log: tuple[str, ...] = ("job.log",)
) -> None:
    give(watch, f"RuleException:\nCommand 'x' returned {status}.", logging.ERROR, event=LogEvent.ERROR)
    facts = {"jobid": number, "rule_name": "train", "rule_msg": None, "log": ["job.log"]}
    give(watch, "Error in rule", logging.ERROR, event=LogEvent.JOB_ERROR, **facts)


def written(watch: Watch) -> str:
    return watch.screen.stream.getvalue()


def test_without_a_terminal_a_line_follows_each_stage_that_is_done(watched, clock):
    begin(watched, JOBS[0], 1)
    assert written(watched) == ""
    clock.now = 20
    end(watched, 1)
    assert written(watched) == "[1/2 jobs] 16 %, about 2 min left; done: all of fetch\n"
    begin(watched, JOBS[1], 2)
    clock.now = 60
    watched.show()
    assert written(watched).splitlines()[1:] == [f"[1/2 jobs] 50 %, about 60 s left; running: {NAME}"]
    clock.now = 120
    end(watched, 2)
    assert len(written(watched).splitlines()) == 2, "the last line comes at the end"


def test_on_a_terminal_one_line_is_drawn_again(on_terminal, clock, tmp_path):
    begin(on_terminal, JOBS[0], 1)
    on_terminal.show()
    (tmp_path / "job.log").write_text("faces: 5/20 image, 3.0 image/s\nfaces: 12/20 image, 3.0 image/s\n")
    clock.now = 12
    on_terminal.show()
    assert written(on_terminal) == (
        f"{CLEAR}[0/2 jobs] 0 %, about 2 min left; running: fetch faces"
        f"{CLEAR}[0/2 jobs] 10 %, about 2 min left; running: fetch faces (12/20 image)"
    )


def test_what_is_drawn_fits_the_terminal(on_terminal, monkeypatch):
    begin(on_terminal, JOBS[1], 1)
    for columns in (100, 60, 20, 1):
        monkeypatch.setattr(module.os, "get_terminal_size", lambda _, columns=columns: os.terminal_size((columns, 24)))
        monkeypatch.setattr(on_terminal.screen.stream, "fileno", lambda: 1)
        on_terminal.show()
        assert len(written(on_terminal).rpartition(CLEAR)[2]) < columns


def test_jobs_that_have_written_to_their_logs_are_at_work(watched, clock, tmp_path):
    log = tmp_path / "job.log"
    log.write_text("of the last time")
    os.utime(log, (1000, 1000))
    begin(watched, JOBS[1], 1, works=False)
    watched.look()
    log.write_text("")
    watched.look()
    assert watched.progress.waiting == [JOBS[1]]
    log.write_text(f"gazepipe train: {HELD}\n")
    clock.now = 7
    watched.look()
    assert watched.progress.at_work == {JOBS[1]: 7}


def test_a_failure_is_told_at_once_with_the_jobs_message_and_log(watched, tmp_path):
    (tmp_path / "job.log").write_text("epoch 1/2: 3/3 batch\ngazepipe train: config: wrong; mend it\n\n")
    begin(watched, JOBS[1], 1)
    fail(watched, 1)
    give(watched, "Exiting because a job execution failed. Look above for error messages", logging.ERROR)
    give(watched, "WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR)
    assert written(watched) == f"{NAME}: exit status 2: gazepipe train: config: wrong; mend it (log: job.log)\n"
    end = "0 of 2 jobs done, 1 failed; the same command goes on from there"
    assert watched.last(1, 90.0) == f"stopped after 90 s: {end}"


def test_a_job_that_was_killed_before_it_wrote_anything(watched, tmp_path):
    (tmp_path / "job.log").write_text(f"gazepipe train: {HELD}\n")
    begin(watched, JOBS[1], 1)
    fail(watched, 1, "died with <Signals.SIGKILL: 9>")
    said = "it wrote no message; see the log of Snakemake"
    assert written(watched) == f"{NAME}: died with <Signals.SIGKILL: {said} (log: job.log)\n"


def test_jobs_that_are_stopped_have_not_failed(watched):
    begin(watched, JOBS[1], 1)
    give(watched, "Terminating processes on user request, this might take some time.")
    fail(watched, 1, "non-zero exit status 143")
    give(watched, f"Complete log(s): {os.getcwd()}/.snakemake/log/a.log")
    assert watched.last(1, 30.0) == (
        "stopped after 30 s: 0 of 2 jobs done; the same command goes on from there "
        "(log of Snakemake: .snakemake/log/a.log)"
    )


def test_other_words_of_snakemake_are_shown_from_warnings_on(watched):
    give(watched, "Building DAG of jobs...")
    give(watched, "MissingInputException: no such file", logging.ERROR, event=LogEvent.ERROR)
    give(watched, "careful", logging.WARNING)
    assert written(watched) == "MissingInputException: no such file\ncareful\n"


def test_rules_that_are_no_stage_do_not_count(watched):
    give(watched, event=LogEvent.JOB_INFO, jobid=0, rule_name="all", wildcards={}, log=[])
    end(watched, 0)
    assert watched.progress is None


def test_no_escape_reaches_the_screen(tmp_path, monkeypatch):
    hostile = "\x1b[2J\x07\rgone\x9b31m\u202e\u2028 end"
    (tmp_path / "job.log").write_text(hostile)
    job = Job.of("train", **{**TRAIN, "model": hostile})
    monkeypatch.setattr(RUN, "planned", SimpleNamespace(tasks=lambda jobs, cores: {job: Task(9, 1, [])}))
    for stream in (io.StringIO(), Terminal()):
        watch = Watch(Screen(stream), Clock())
        begin(watch, job, 1)
        give(watch, hostile, logging.WARNING)
        watch.show()
        fail(watch, 1)
        shown = written(watch).replace(CLEAR, "")
        assert "gone" in shown
        assert all(each.isprintable() or each == "\n" for each in shown)


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen(Terminal()).live


def test_time_is_simulated_only_as_often_as_is_cheap(watched, clock, monkeypatch):
    begin(watched, JOBS[0], 1)
    monkeypatch.setattr(module.time, "process_time", iter([0.0, 1.0, 1.0, 2.0]).__next__)
    counts = []
    simulate = watched.progress.left
    monkeypatch.setattr(watched.progress, "left", lambda now: counts.append(now) or simulate(now))
    for now in (5, 30, 99, 106, 150):
        clock.now = now
        watched.show()
    # A simulation took 1 s, which is to be a hundredth of the time.
    assert counts == [5, 106]


def test_the_last_line_says_where_the_tables_are(watched, tmp_path):
    assert watched.last(0, 5.0) == ""
    begin(watched, JOBS[0], 1)
    end(watched, 1)
    (tmp_path / "results").mkdir()
    for name in ("tables.md", "index.html"):
        (tmp_path / "results" / name).touch()
    assert watched.last(0, 1020.0) == "2 jobs in 17 min: results/tables.md, results/index.html"


def test_when_nothing_is_to_be_done_the_last_line_says_so(watched):
    give(watched, "Nothing to be done (all requested files are present and up to date).")
    assert watched.last(0, 5.0) == "Nothing to be done (all requested files are present and up to date)"


def test_how_far_a_job_is_by_its_log(tmp_path):
    assert far("resnet epoch 3/120: 1/9 batch\nresnet epoch 4/120: 9/9 batch, 3.1 batch/s\n") == "epoch 4/120"
    assert far("draw: 40/210 images") == "40/210 images"
    assert far("nothing") == ""
    (tmp_path / "long.log").write_bytes(b"x" * 100_000 + b"\xff end")
    assert tail("long.log").endswith("x� end")
    assert len(tail("long.log")) == module.TAIL
    assert tail("none.log") == tail("") == ""


def test_tabs_become_spaces():
    assert cleaned("a\tb\x00c") == "a b?c"


def test_arguments_are_handed_to_snakemake_as_they_are(monkeypatch):
    called = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: called.append((program, arguments)))
    arguments = ["--cores", "8", "--configfile", "a.yaml", "--", "results/tables.md", "--help"]
    assert main(["run", *arguments]) == 0
    assert called == [(sys.executable, [sys.executable, "-m", "gazepipe.dag.watch", *arguments])]


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["--cores", "2", "results/tables.md"], []),
        (["--configfile", "a.yaml", "b.yaml", "--cores", "2", "c"], ["a.yaml", "b.yaml"]),
        (["-n", "--configfiles", "a.yaml", "--", "c"], ["a.yaml"]),
        (["--configfile=a.yaml", "--configfile", "b.yaml"], ["a.yaml", "b.yaml"]),
    ],
)
def test_configuration_files_among_the_arguments(arguments, files):
    assert module.configured(arguments) == files


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), ("a: [1\n", "is not YAML")])
def test_a_configuration_file_that_cannot_be_read_is_one_line(tmp_path, capsys, content, said):
    path = tmp_path / "own.yaml"
    if content is not None:
        path.write_text(content)
    assert module.main(["--configfile", str(path), "--cores", "1"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"gazepipe run: {path}: {said}")
    assert told.count("\n") == 1


def test_the_module_stands_on_nothing_heavy(repository):
    code = "import sys, gazepipe.dag.watch; print({'torch', 'numpy', 'pandas', 'matplotlib'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=repository).strip() == "set()"
