"""`gazepipe plan`: jobs, hours and memory of a configuration before it runs, and how good the numbers were."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from statistics import median

from gazepipe.common.files import write_text
from gazepipe.config.load import load_files
from gazepipe.dag.costs import Costs
from gazepipe.dag.measured import Measured, benchmark, noted
from gazepipe.dag.plan import Plan
from gazepipe.dag.schedule import Task, chains, in_order, longest_chain, makespan
from gazepipe.dag.stage import ALL_CORES, Job, filled
from gazepipe.dag.stages import STAGES
from gazepipe.errors import UserError
from gazepipe.provenance import records

COLUMNS = ("stage", "job", "runs", "cores", "processor_seconds", "memory_mb", "source", "chain_seconds")
SPARE_TIME, SPARE_MEMORY = 3.0, 2.0
"""What rules ask for, in units of what is predicted."""
SHORTEST = 10
"""Minutes that rules ask for at least: a node may be slow to start."""
EVERY_CORE_FIRST = 101
"""Above every chain."""
GOOD = 2.0
"""A prediction is good within this factor."""


class Planned:
    """The jobs of a configuration's tables and page, each with its cost."""

    def __init__(self, plan: Plan, costs: Costs | None = None):
        self.plan = plan
        self.costs = costs or Costs(plan, noted(plan.root))

    @cached_property
    def jobs(self) -> list[Job]:
        """All jobs, each after those that it needs."""
        return needed(self.plan)

    @cached_property
    def chains(self) -> dict[Job, float]:
        """Seconds from the start of each job to the end of all that waits for it."""
        return chains(self.tasks(self.jobs))

    @cached_property
    def _longest(self) -> float:
        return max(self.chains.values())

    def cores(self, job: Job) -> int:
        """Cores that a job computes on; ALL_CORES for all of them."""
        slots = STAGES[job.stage].cores(self.plan.settings(job))
        return 1 if slots is None else slots

    def seconds(self, job: Job) -> float:
        """Wall time of a job that has its cores to itself."""
        seconds = self.costs.of(job).seconds
        return seconds if self.costs.on_gpu(job) else seconds / max(1, self.cores(job))

    def tasks(self, jobs: Iterable[Job], cores: int = 1) -> dict[Job, Task]:
        """The jobs for the scheduler; those that take every core take `cores`."""
        return {
            job: Task(
                self.seconds(job),
                cores if self.cores(job) == ALL_CORES else max(1, self.cores(job)),
                self.plan.upstream(job),
            )
            for job in jobs
        }

    # ---- what the rules ask for

    def memory_mb(self, job: Job) -> int:
        """Twice the predicted memory of all processes of a job."""
        processes = STAGES[job.stage].processes(self.plan.settings(job))
        return ceil(SPARE_MEMORY * self.costs.of(job).memory_mb * processes)

    def minutes(self, job: Job, least: int) -> int:
        """Three times the predicted minutes of a job, SHORTEST at least. `least` at least where nothing like it was
        measured: on a GPU, and of data from elsewhere."""
        predicted = max(SHORTEST, ceil(SPARE_TIME * self.seconds(job) / 60))
        return predicted if self._known(job) else max(least, predicted)

    def _known(self, job: Job) -> bool:
        if self.costs.of(job).source != "rates":
            return True
        if job.stage in ("fetch", "prepare_part", "prepare", "sheet"):
            return self.plan.config.datasets[dict(job.wildcards)["dataset"]].source.drawn is not None
        return self.plan.config.device != "cuda" or not STAGES[job.stage].gpus(self.plan.settings(job))

    def priority(self, job: Job) -> int:
        """The time from the start of a job to the end of all that waits for it, in hundredths of the longest such time.
        A job that takes all cores comes before: one that waits for them while others run leaves cores idle."""
        if self.cores(job) == ALL_CORES:
            return EVERY_CORE_FIRST
        # Small numbers: Snakemake's solver multiplies them with cores and gigabytes.
        return round(100 * self.chains.get(job, 0.0) / self._longest)

    @cached_property
    def to_run(self) -> list[Job]:
        """The jobs that have no results of the present key, and those that these need."""
        waiting, stale = [Job.of("page")], {}
        while waiting:
            job = waiting.pop()
            if job not in stale and not self._there(job):
                stale[job] = None
                waiting += self.plan.upstream(job)
        return [job for job in self.jobs if job in stale]

    def _there(self, job: Job) -> bool:
        outputs = self.plan.outputs(job).values()
        return all(os.path.exists(path) for path in outputs) and records.recorded(self.plan, job).get(
            "key"
        ) == self.plan.key(job)


def needed(plan: Plan) -> list[Job]:
    """Every job of the tables and the page, each after those that it needs."""
    return in_order([Job.of("page")], plan.upstream)


# ---- what is printed


def overview(planned: Planned, cores: int) -> str:
    """A row for each stage, the time that all of it takes on `cores` cores, and what the numbers are from."""
    jobs, run = planned.jobs, planned.to_run
    lines = [f"{'stage':<16}{'jobs':>6}{'to run':>8}{'processor':>12}{'longest':>10}{'memory':>10}"]
    for stage in STAGES:
        here = [job for job in jobs if job.stage == stage]
        if here:
            lines.append(_row(planned, stage, here, [job for job in run if job.stage == stage]))
    lines.append(_row(planned, "all", jobs, run))
    if not run:
        return "\n".join([*lines, "", "Everything is up to date."])
    return "\n".join([*lines, "", *_time(planned, run, cores), _source(planned, run)])


def _row(planned: Planned, name: str, jobs: list[Job], run: list[Job]) -> str:
    costs = [planned.costs.of(job) for job in run]
    if not costs:
        return f"{name:<16}{len(jobs):>6}{0:>8}{'-':>12}{'-':>10}{'-':>10}"
    total, longest = sum(each.seconds for each in costs), max(planned.seconds(job) for job in run)
    memory = max(each.memory_mb for each in costs)
    return f"{name:<16}{len(jobs):>6}{len(run):>8}{told(total):>12}{told(longest):>10}{memory / 1e3:>7.1f} GB"


def _time(planned: Planned, run: list[Job], cores: int) -> Iterator[str]:
    tasks = planned.tasks(run, cores)
    chain = longest_chain(tasks)
    alone = sum(tasks[job].seconds for job in chain)
    yield f"On {cores} core{'s' * (cores != 1)}: about {told(makespan(tasks, cores))}."
    held = [(job, STAGES[job.stage].processes(planned.plan.settings(job))) for job in run if planned.costs.on_gpu(job)]
    if held:
        hours = sum(planned.seconds(job) * gpus for job, gpus in held)
        yield f"{len(held)} jobs hold a GPU, {told(hours)} in all."
    steps = " > ".join(str(job) for job in chain)
    yield f"Longest chain, {told(alone)} on however many cores: {steps}"


def _source(planned: Planned, run: list[Job]) -> str:
    sources = [planned.costs.of(job).source for job in run]
    same, stage = sources.count("job"), sources.count("stage")
    if not same and not stage:
        text = "Estimated from the rates of another machine: no job has run here yet with these settings."
    else:
        text = (
            f"Estimated from records of {same} of the {len(run)} jobs, for {stage} others from those of their stage,"
            " and for the rest from rates scaled to this machine."
        )
    if planned.plan.config.device == "cuda":
        text += " What a GPU takes is a guess until jobs on it are measured."
    return text


def told(seconds: float) -> str:
    """A time to two or three figures: "45 s", "12 min", "3.4 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def write_jobs(planned: Planned, path: Path) -> None:
    """Write a row for each job, as CSV with COLUMNS."""
    run = set(planned.to_run)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for job in planned.jobs:
        cost, cores = planned.costs.of(job), planned.cores(job) or "all"
        numbers = [f"{cost.seconds:.1f}", f"{cost.memory_mb:.0f}", cost.source, f"{planned.chains[job]:.1f}"]
        table.writerow([job.stage, job, "yes" if job in run else "no", cores, *numbers])
    write_text(path, text.getvalue())


# ---- predicted and measured


@dataclass(frozen=True)
class Compared:
    """A job with what was predicted by the rates alone, and what was measured."""

    job: Job
    predicted: tuple[float, float]
    measured: Measured

    @property
    def factors(self) -> tuple[float, float]:
        """Measured / predicted, of time and memory."""
        return self.measured.seconds / self.predicted[0], self.measured.memory_mb / self.predicted[1]


def measured_jobs(plan: Plan, results: str) -> list[tuple[Job, Measured]]:
    """The jobs of the configuration that a folder of results has measured, whatever its settings were: by what they
    noted themselves, else by Snakemake's file where it says enough.

    Raises UserError where the folder holds neither, and for a file of Snakemake's that is broken.
    """
    notes = noted(results)
    found = []
    for job in needed(plan):
        took = notes.get(str(job))
        path = filled(plan.benchmark(job.stage), dict(job.wildcards)).removeprefix(f"{plan.root}/")
        if took is None and os.path.exists(f"{results}/{path}"):
            took = benchmark(f"{results}/{path}")
        if took is not None:
            found.append((job, took))
    if not found:
        raise UserError(f"{results}: holds no measured job of this configuration; give the folder of its results")
    return found


def checked(plan: Plan, results: str, scaled: bool) -> str:
    """How far predictions are from what jobs took: a row for each stage, and the worst jobs.

    `scaled`: predict each job as after the first jobs of its stage, by the median of the others.
    """
    costs = Costs(plan, {})
    found = [Compared(job, costs.predicted(job), took) for job, took in measured_jobs(plan, results)]
    if scaled:
        found = _by_others(found)
    lines = [f"{'stage':<16}{'jobs':>6}{'time: within 2':>16}{'median':>8}{'memory: within 2':>18}{'median':>8}"]
    for stage in STAGES:
        here = [each for each in found if each.job.stage == stage]
        if here:
            lines.append(_agreement(stage, here))
    lines.append(_agreement("all", found))
    total = sum(each.measured.seconds for each in found), sum(each.predicted[0] for each in found)
    lines += ["", f"Measured {told(total[0])}, predicted {told(total[1])}. Median: of measured / predicted. Worst:"]
    worst = sorted(found, key=lambda each: -max(map(_off, each.factors)))[:5]
    return "\n".join([*lines, *(_worst(each) for each in worst)])


def _by_others(found: list[Compared]) -> list[Compared]:
    scaled = []
    for each in found:
        others = [other.factors for other in found if other.job.stage == each.job.stage and other is not each]
        time, space = (median(column) for column in zip(*others, strict=True)) if others else (1.0, 1.0)
        scaled.append(Compared(each.job, (each.predicted[0] * time, each.predicted[1] * space), each.measured))
    return scaled


def _agreement(name: str, found: list[Compared]) -> str:
    columns = list(zip(*(each.factors for each in found), strict=True))
    within = [f"{sum(_off(factor) <= GOOD for factor in column)}/{len(column)}" for column in columns]
    time, space = (f"{median(column):.2f}" for column in columns)
    return f"{name:<16}{len(found):>6}{within[0]:>16}{time:>8}{within[1]:>18}{space:>8}"


def _off(factor: float) -> float:
    return max(factor, 1 / factor)


def _worst(each: Compared) -> str:
    seconds, memory = each.predicted
    return (
        f"  {each.job}: {each.measured.seconds:.1f} s, predicted {seconds:.1f} s; "
        f"{each.measured.memory_mb:.0f} MB, predicted {memory:.0f} MB"
    )


def plan_of(files: Iterable[str | Path]) -> Plan:
    """The plan of config.yaml with these files on top."""
    return Plan(load_files(files))
