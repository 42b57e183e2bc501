"""`gazepipe trace`: what ran when on which core in the last run of a folder of results, and how much of it stood idle.

Each job leaves when it began and ended in `results/.costs/` (`dag.measured`), each run when it began and on how many
cores. A core is a slot (`dag.cores`): which one a job had is not known, and follows from the times.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gazepipe.common.files import write_text
from gazepipe.dag.measured import Ran, Started, ran, started
from gazepipe.errors import UserError

COLUMNS = ("job", "began_s", "ended_s", "processor_s", "cores", "lanes")
SLACK = 0.1
"""Seconds by which times of two jobs on one core may overlap: clocks are read one after the other."""


@dataclass(frozen=True)
class Placed:
    """A job with the cores that it had, counted from 0; none: it waited for none, and ran beside the others."""

    job: Ran
    lanes: tuple[int, ...]


@dataclass(frozen=True)
class Trace:
    """The jobs of a run on `cores` cores from `began` (s since 1970) on, `wall` seconds long."""

    placed: tuple[Placed, ...]
    cores: int
    began: float
    wall: float

    @property
    def processor_seconds(self) -> float:
        """Processor time of all jobs, also while they waited for their cores."""
        return sum(each.job.processor_seconds for each in self.placed)

    def idle(self, lane: int) -> float:
        """Share of the time in which no job had this core."""
        held = sum(each.job.seconds for each in self.placed if lane in each.lanes)
        return 1 - held / self.wall

    @property
    def idle_slots(self) -> float:
        """Share of cores and time that no job had."""
        return sum(map(self.idle, range(self.cores))) / self.cores

    @property
    def idle_processor(self) -> float:
        """Share of cores and time that the jobs did not compute in, whether they had the cores or not."""
        return 1 - self.processor_seconds / (self.wall * self.cores)


def trace(root: str) -> Trace:
    """The last run of a folder of results; of results that do not say when runs began, all jobs.

    Raises UserError where no job left its times.
    """
    begun = started(root)
    jobs = [job for job in ran(root) if begun is None or job.began >= begun.began - SLACK]
    if not jobs:
        raise UserError(f"{root}: no job of its last run says when it ran; give a folder of results that ran here")
    return traced(jobs, begun)


def traced(jobs: Sequence[Ran], begun: Started | None) -> Trace:
    """The trace of these jobs; from the first to the last of them, on as many cores at least as the run had."""
    placed = place(jobs)
    cores = max((lane + 1 for each in placed for lane in each.lanes), default=1)
    first, last = min(job.began for job in jobs), max(job.ended for job in jobs)
    return Trace(tuple(placed), max(cores, begun.cores if begun else 1), first, max(last - first, 1e-9))


def place(jobs: Sequence[Ran]) -> list[Placed]:
    """The jobs in the order in which they began, each on the lowest cores that are free."""
    ends: list[float] = []
    placed = []
    for job in sorted(jobs, key=lambda job: (job.began, job.ended, job.name)):
        free = [lane for lane, end in enumerate(ends) if end <= job.began + SLACK]
        lanes = (free + list(range(len(ends), len(ends) + job.cores)))[: job.cores]
        ends += [0.0] * (max(lanes, default=-1) + 1 - len(ends))
        for lane in lanes:
            ends[lane] = job.ended
        placed.append(Placed(job, tuple(lanes)))
    return placed


def told_of(trace: Trace) -> str:
    """The shares of a trace in one line."""
    return (
        f"{len(trace.placed)} jobs, {trace.wall:.0f} s on {trace.cores} core{'s' * (trace.cores != 1)}, "
        f"{trace.processor_seconds:.0f} s of processor time: idle {trace.idle_processor:.0%} by processor time, "
        f"{trace.idle_slots:.0%} without a job"
    )


def write_trace(trace: Trace, root: str) -> list[Path]:
    """Write `trace.csv`, `trace.svg`, `trace.png` below `root`; returns their paths."""
    from gazepipe.common.plotting import save
    from gazepipe.dag.trace_figure import draw

    table, *pictures = paths = [Path(root, f"trace.{ending}") for ending in ("csv", "svg", "png")]
    write_text(table, _table(trace))
    figure = draw(trace)
    for path in pictures:
        save(figure, path)
    return paths


def _table(trace: Trace) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for each in trace.placed:
        job = each.job
        times = [job.began - trace.began, job.ended - trace.began, job.processor_seconds]
        lanes = " ".join(str(lane + 1) for lane in each.lanes)
        table.writerow([job.name, *(f"{seconds:.2f}" for seconds in times), job.cores, lanes])
    return text.getvalue()
