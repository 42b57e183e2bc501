"""`gazepipe run`: Snakemake in this process, with a line on how far it is in place of its log, which goes to its file.

On a terminal one line is drawn again each second. Elsewhere a line is written each minute, and when all jobs of a stage
are done. Failures are written at once. Snakemake finds logger plugins only as installed packages, and not in editable
installations, so this one is registered by hand.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from gazepipe.config.load import read
from gazepipe.dag.cores import HELD
from gazepipe.dag.planning import told
from gazepipe.dag.progress import RUN, Progress, named, shortened, status
from gazepipe.dag.stage import Job
from gazepipe.dag.stages import STAGES
from gazepipe.errors import UserError

NAME = "gazepipe"
LOOK, PLAIN = 1.0, 60.0
"""Seconds between two looks at the jobs, after each of which a terminal's line is drawn again; between two lines
elsewhere."""
SHARE = 0.01
"""Share of the time that may go into telling what is left."""
TAIL = 4096
"""Bytes at the end of a job's log that are read."""
EPOCH = re.compile(r"epoch \d+/\d+")
COUNT = re.compile(r"\d+/\d+ [a-z]+")
ENDED = re.compile(r"exit status \d+|died with <?Signals\.\w+")
SILENT = ("Exiting because a job execution failed", "WorkflowError:\nAt least one job did not complete")
"""What Snakemake says of failures that have been told."""
STOPPING = ("Terminating processes on user request", "Will exit after finishing currently running jobs")
IDLE = "Nothing to be done"
LOGS = "Complete log(s): "
CLEAR = "\r\x1b[K"
CONFIGURE = ("--configfile", "--configfiles")


class Screen:
    """Lines on stderr, and below them, on a terminal, one line that changes."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._drawn = False

    @property
    def width(self) -> int:
        """Characters that the line that changes has room for."""
        if not self.live:
            return 10_000
        with suppress(OSError):
            return (os.get_terminal_size(self.stream.fileno()).columns or 80) - 1
        return 79

    def say(self, text: str) -> None:
        """Write lines that stay."""
        lines = "\n".join(cleaned(line) for line in text.splitlines())
        self.clear()
        self._write(f"{lines}\n")

    def show(self, text: str) -> None:
        """Write the line that changes, as much of it as there is room for."""
        if not self.live:
            self.say(text)
            return
        self._write(CLEAR + shortened(cleaned(text), self.width))
        self._drawn = True

    def clear(self) -> None:
        """Take the line that changes away."""
        if self._drawn:
            self._write(CLEAR)
            self._drawn = False

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


class Watch:
    """What Snakemake's log records make of the screen. `time` is the clock, in seconds."""

    def __init__(self, screen: Screen, time: Any = time.monotonic) -> None:
        self.screen, self.time = screen, time
        self.progress: Progress | None = None
        self.idle, self.logfile = "", ""
        self._jobs: dict[int, Job] = {}
        self._logs: dict[Job, str] = {}
        self._begun: dict[Job, float] = {}
        self._ends: dict[int | None, str] = {}
        self._left = self._simulated = self._cost = 0.0
        self._stale = True

    def take(self, record: logging.LogRecord, text: str) -> None:
        """Follow one record of Snakemake's, whose text is `text`."""
        event, now = getattr(record, "event", None), self.time()
        if event == LogEvent.JOB_INFO:
            self._started(record, now)
        elif event == LogEvent.JOB_FINISHED:
            self._ended(record, now)
        elif event == LogEvent.JOB_ERROR:
            self._failed(record, now)
        elif event == LogEvent.ERROR and (found := ENDED.search(text)):
            # The record of the job itself comes next, from the same thread.
            self._ends[record.thread] = found[0]
        elif text.startswith(STOPPING):
            self._stop(text)
        elif text.startswith(IDLE):
            self.idle = text
        elif text.startswith(LOGS):
            self.logfile = os.path.relpath(text.removeprefix(LOGS))
        elif record.levelno >= logging.WARNING and not text.startswith(SILENT):
            self.screen.say(text)

    def _started(self, record: Any, now: float) -> None:
        if record.rule_name not in STAGES:
            return
        if self.progress is None:
            self.progress = Progress(RUN.planned.tasks(RUN.jobs, RUN.cores), RUN.cores, now)
        job = Job.of(record.rule_name, **record.wildcards)
        self._jobs[record.jobid] = job
        self._logs[job] = next(iter(record.log), "")
        self._begun[job] = record.created
        self.progress.start(job)

    def look(self) -> None:
        """See which of the jobs that wait have their cores by now: those that have written to their logs."""
        for job in list(self.progress.waiting) if self.progress else ():
            with suppress(OSError):
                log = os.stat(self._logs[job])
                # Until the job opens its log, that of an earlier attempt lies there.
                if log.st_size and log.st_mtime >= self._begun[job]:
                    self.progress.work(job, self.time())

    def _ended(self, record: Any, now: float) -> None:
        job = self._jobs.get(record.job_id)
        if job is not None:
            self.progress.end(job, now)
            self._stale = True
            if not self.screen.live and self.progress.whole_stage(job):
                self.show(f"; done: all of {job.stage}")

    def _failed(self, record: Any, now: float) -> None:
        job, end = self._jobs.get(record.jobid), self._ends.pop(record.thread, "failed")
        if job is not None:
            self.progress.end(job, now, failed=True)
        log = next(iter(record.log), "")
        said = [line for line in tail(log).splitlines() if line.strip() and not line.endswith(HELD)]
        what = said[-1].strip() if said else f"it wrote no message; {record.rule_msg or 'see the log of Snakemake'}"
        self.screen.say(f"{named(job) if job else record.rule_name}: {end}: {what} (log: {log or 'none'})")

    def _stop(self, text: str) -> None:
        if self.progress is not None:
            self.progress.stopping = True
        self.screen.say(text)

    def show(self, more: str = "") -> None:
        """Show how far the run is, and `more`."""
        if self.progress is None or len(self.progress.done) == len(self.progress.tasks):
            return
        now = self.time()
        notes = {job: far(tail(self._logs[job])) for job in self.progress.at_work}
        self.screen.show(status(self.progress, now, self._seconds_left(now), notes, self.screen.width) + more)

    def _seconds_left(self, now: float) -> float:
        """What is left by the last simulation; a new one where a job has ended, or its time or a minute has passed."""
        since = now - self._simulated
        if (self._stale or since > min(PLAIN, self._left)) and since >= self._cost / SHARE:
            began = time.process_time()
            self._left, self._simulated, self._stale = self.progress.left(now), now, False
            self._cost = time.process_time() - began
        return max(0.0, self._left - (now - self._simulated))

    def last(self, status: int, now: float) -> str:
        """The line at the end, by Snakemake's exit status."""
        there = [path for name in ("tables.md", "index.html") if os.path.exists(path := f"{RUN.root}/{name}")]
        results = f": {', '.join(there)}" if there else ""
        if self.progress is None:
            return f"{self.idle.rstrip('.')}{results}" if self.idle and status == 0 else ""
        took, total = told(now - self.progress.began), len(self.progress.tasks)
        if status == 0:
            return f"{total} job{'s' * (total != 1)} in {took}{results}"
        failed = f", {len(self.progress.failed)} failed" if self.progress.failed else ""
        log = f" (log of Snakemake: {self.logfile})" if self.logfile else ""
        goes_on = "the same command goes on from there"
        return f"stopped after {took}: {len(self.progress.done)} of {total} jobs done{failed}; {goes_on}{log}"


class Handler(LogHandlerBase):
    """Snakemake's interface to a Watch, and the thread that draws."""

    writes_to_file = has_filter = has_formatter = needs_rulegraph = False
    watch: Watch

    @property
    def writes_to_stream(self) -> bool:
        """In a dry run Snakemake's own words are shown."""
        return not self.common_settings.dryrun

    def __post_init__(self) -> None:
        self._over = threading.Event()
        if self.writes_to_stream:
            threading.Thread(target=self._draw, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Follow a record; one that cannot be followed is no reason to stop."""
        try:
            if self.writes_to_stream:
                self.watch.take(record, self.format(record) or "")
        except Exception:
            self.handleError(record)

    def _draw(self) -> None:
        shown = time.monotonic()
        while not self._over.wait(LOOK):
            with self.lock, suppress(OSError):
                self.watch.look()
                if self.watch.screen.live or time.monotonic() - shown > PLAIN:
                    shown = time.monotonic()
                    self.watch.show()

    def close(self) -> None:
        """Stop drawing."""
        self._over.set()
        with self.lock, suppress(OSError):
            self.watch.screen.clear()
        super().close()


def tail(path: str) -> str:
    """The end of a text file; empty where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def far(log: str) -> str:
    """How far a job is, by the end of its log: "epoch 3/120", "40/210 images"; empty where it does not say."""
    found = EPOCH.findall(log) or COUNT.findall(log)
    return found[-1] if found else ""


def cleaned(line: str) -> str:
    """The line without what could move the cursor or change colours: control characters become question marks."""
    return "".join(each if each.isprintable() else " " if each == "\t" else "?" for each in line)


def configured(arguments: Sequence[str]) -> list[str]:
    """The configuration files among arguments of Snakemake, which ends with a traceback where one is missing."""
    found, follows = [], False
    for argument in arguments:
        if argument.startswith("-"):
            option, _, value = argument.partition("=")
            follows = option in CONFIGURE
            found += [value] if follows and value else []
        elif follows:
            found.append(argument)
    return found


def main(arguments: Sequence[str]) -> int:
    """Run Snakemake with these arguments; returns its exit status, 2 where a configuration file cannot be read."""
    from snakemake.cli import main as snakemake

    try:
        for path in configured(arguments):
            read(path)
    except UserError as error:
        print(f"gazepipe run: {error}", file=sys.stderr, flush=True)
        return 2
    screen = Screen(sys.stderr)
    watch = Watch(screen)
    handler = type("LogHandler", (Handler,), {"watch": watch})
    LoggerPluginRegistry().register_plugin(f"snakemake_logger_plugin_{NAME}", SimpleNamespace(LogHandler=handler))
    try:
        snakemake([f"--logger={NAME}", *arguments])
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    text = watch.last(code, time.monotonic())
    if text:
        screen.say(text + (_traced(RUN.root) if watch.progress is not None and code == 0 else ""))
    return code


def _traced(root: str) -> str:
    """Write the trace of the run that has ended; where it is. A run without one has succeeded all the same."""
    from gazepipe.dag.trace import trace, write_trace

    try:
        return f"; what ran when: {write_trace(trace(root), root)[1]}"
    except (UserError, OSError) as error:
        return f"; no trace: {error}"


if __name__ == "__main__":
    sys.argv[0] = "gazepipe run"  # as it is called in its help
    sys.exit(main(sys.argv[1:]))
