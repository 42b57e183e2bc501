"""How far a run of the workflow is, and what is left: from predictions, and when its jobs begin and end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from gazepipe.dag.planning import Planned, told
from gazepipe.dag.schedule import Task, chains, makespan
from gazepipe.dag.stage import NUMBERS, WILDCARDS, Job

TRUST = 20.0
"""Predictions are scaled by measured / predicted of the jobs that have ended, as if so many seconds had been foretold
exactly: the first short job says little."""
OVER = 0.1
"""A job that runs longer than predicted is taken to need this share of its time so far."""
SOON = 10.0
"""Less than that is not told more exactly, in seconds."""
SHORTEST = 12
"""Characters of a job's name that are always shown."""


@dataclass
class Run:
    """What the Snakefile tells the one who watches it in the same process."""

    root: str = ""
    planned: Planned | None = None
    jobs: list[Job] = field(default_factory=list)
    cores: int = 1


RUN = Run()


class Progress:
    """The jobs of a run that began at `began`; all times are seconds of one clock.

    A job that is started may wait for its cores (`dag.cores`): `snakemake --cores 8` starts eight on two cores.
    """

    def __init__(self, tasks: Mapping[Job, Task], cores: int, began: float) -> None:
        self.tasks, self.cores, self.began = dict(tasks), cores, began
        self.waiting: list[Job] = []
        self.at_work: dict[Job, float] = {}
        self.done: set[Job] = set()
        self.failed: set[Job] = set()
        self.stopping = False
        self._foretold = self._took = TRUST

    def start(self, job: Job) -> None:
        """The job has been started, perhaps once more, and waits for its cores."""
        self.failed.discard(job)
        if job in self.tasks and job not in self.waiting and job not in self.at_work:
            self.waiting.append(job)

    def work(self, job: Job, now: float) -> None:
        """The job has been started, and has its cores."""
        self.waiting.remove(job)
        self.at_work[job] = now

    def end(self, job: Job, now: float, failed: bool = False) -> None:
        """The job has ended."""
        if job in self.waiting:
            self.waiting.remove(job)
        since = self.at_work.pop(job, None)
        if failed:
            # One that was stopped with the others has not failed.
            if not self.stopping:
                self.failed.add(job)
        elif job in self.tasks:
            self.done.add(job)
            if since is not None:
                self._took += now - since
                self._foretold += self.tasks[job].seconds

    def left(self, now: float) -> float:
        """Seconds until all jobs will have ended: the rest is scheduled on the cores, as `gazepipe plan` does."""
        rest = {job: self._remaining(job, now) for job in self.tasks if job not in self.done}
        return makespan(rest, self.cores, chains(rest) | dict.fromkeys(self.at_work, inf))

    def _remaining(self, job: Job, now: float) -> Task:
        task = self.tasks[job]
        seconds = task.seconds * self._took / self._foretold
        if job in self.at_work:
            elapsed = now - self.at_work[job]
            seconds = max(seconds - elapsed, OVER * elapsed)
        return Task(seconds, task.cores, task.after)

    def whole_stage(self, job: Job) -> bool:
        """Whether all jobs of this one's stage are done."""
        return all(each in self.done for each in self.tasks if each.stage == job.stage)


def status(progress: Progress, now: float, left: float, notes: Mapping[Job, str], width: int = 10_000) -> str:
    """The line that says how far the run is, `left` seconds before its end; `notes` say how far single jobs are.

    In a line wider than `width` names of jobs are cut, since how far they are says more.
    """
    start, wait = f"{counted(progress)} {_time(progress, now, left)}", ""
    if progress.waiting:
        wait = f"; {len(progress.waiting)} waiting"
    jobs = [(named(job), f" ({notes[job]})" if notes.get(job) else "") for job in progress.at_work]
    if not jobs:
        return start + wait
    start += "; running: "
    taken = len(start) + len(wait) + sum(len(note) + len(", ") for _, note in jobs) - len(", ")
    room = max(SHORTEST, (width - taken) // len(jobs))
    return start + ", ".join(shortened(name, room) + note for name, note in jobs) + wait


def counted(progress: Progress) -> str:
    """The jobs that are done, of all: "[ 57/162 jobs]"."""
    total = len(progress.tasks)
    return f"[{len(progress.done):>{len(str(total))}}/{total} jobs]"


def _time(progress: Progress, now: float, left: float) -> str:
    if progress.stopping:
        return "stopping"
    if progress.failed:
        return f"{len(progress.failed)} failed"
    elapsed = now - progress.began
    share = min(99, int(100 * elapsed / max(elapsed + left, 1e-9)))
    return f"{share} %, {f'about {told(left)}' if left >= SOON else f'under {SOON:.0f} s'} left"


def named(job: Job) -> str:
    """The job for a person: "train faces resnet18 kd fold 0 seed 2"."""
    values = dict(job.wildcards)
    words = [f"{name} {values[name]}" if name in NUMBERS else values[name] for name in WILDCARDS if name in values]
    return " ".join([job.stage, *words])


def shortened(text: str, width: int) -> str:
    """The text in at most `width` characters."""
    return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."[:width]
