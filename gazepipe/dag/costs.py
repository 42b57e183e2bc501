"""What jobs will take: seconds of processor time and megabytes, from the amounts of `work` and a table of rates.

    seconds = sum of amount * rate,   the same for memory

A rate belongs to a stage, or, where `MACHINE` names its amount, to the machine: multiply-adds take as long in whichever
stage. `rates.json` holds the rates of one processor core. Once jobs of the project have left what they took, stages
are scaled by the median of measured / predicted over their own jobs, and a job that ran with the same settings is
predicted by what it took then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from gazepipe.dag.stage import WILDCARDS, Job
from gazepipe.dag.stages import STAGES
from gazepipe.dag.work import Amounts, work
from gazepipe.errors import UserError
from gazepipe.provenance.fingerprint import digest

if TYPE_CHECKING:
    from gazepipe.dag.measured import Measured
    from gazepipe.dag.plan import Plan

RATES = Path(__file__).with_name("rates.json")
MACHINE = ("gigamacs", "gigamaps", "augmented", "augmented_megapixels")
"""Amounts whose rate in seconds is the machine's."""
GPU_SPEED = 50.0
"""How many cores a GPU is worth at the amounts of MACHINE: a guess, until jobs on it have been measured."""
ON_GPU = ("batch",)
"""What is in the memory of the GPU where there is one."""
LEAST = (0.1, 10.0)
"""No job is predicted to take fewer seconds, or fewer MB."""
FARTHEST = 10.0
"""A stage is scaled by at most this factor, up or down: beyond it something else is wrong."""

Rates = dict[str, dict[str, Amounts]]


@dataclass(frozen=True)
class Cost:
    """Processor time of a job (s; where it computes on a GPU, the time that it holds one), its largest resident size
    (MB), and what says so: `rates`, the jobs of its `stage`, or the same `job` when it last ran."""

    seconds: float
    memory_mb: float
    source: str


def shipped() -> Rates:
    """The table of rates: `machine` (seconds), `seconds` and `memory` by stage."""
    return json.loads(RATES.read_text(encoding="utf-8"))


class Costs:
    """The costs of a plan's jobs. `measured` holds what jobs took, by name; those with other settings than the plan's
    jobs are left out."""

    def __init__(self, plan: Plan, measured: Mapping[str, Measured] | None = None, rates: Rates | None = None):
        self.plan, self.rates = plan, rates or shipped()
        self.of = cache(self._of)
        self.predicted = cache(self._predicted)
        self._before = {job: took for job, took in _jobs(measured or {}) if self._same(job, took)}
        ratios = self._ratios()
        self._scale = {stage: (scale(found[0]), scale(found[1])) for stage, found in ratios.items()}
        # How fast this machine is, for stages of which nothing has run.
        self._machine = scale([scale(found[0]) for found in ratios.values()])

    def on_gpu(self, job: Job) -> bool:
        """Whether the configuration names the GPU and the job uses one: its seconds are then those of the GPU."""
        return self.plan.config.device == "cuda" and STAGES[job.stage].gpus(self.plan.settings(job)) > 0

    def _took(self, job: Job, took: Measured) -> float:
        return took.wall if self.on_gpu(job) and took.wall is not None else took.seconds

    def _same(self, job: Job, took: Measured) -> bool:
        """Whether the plan's job does what was measured."""
        try:
            return digest(self.plan.settings(job).deciding()) == took.settings
        except (KeyError, UserError):
            return False

    def _ratios(self) -> dict[str, tuple[list[float], list[float]]]:
        """Measured / predicted of the jobs of each stage, for time and memory."""
        found: dict[str, tuple[list[float], list[float]]] = {}
        for job, took in self._before.items():
            seconds, memory = self.predicted(job)
            ratios = found.setdefault(job.stage, ([], []))
            ratios[0].append(self._took(job, took) / seconds)
            ratios[1].append(took.memory_mb / memory)
        return found

    def _predicted(self, job: Job) -> tuple[float, float]:
        """Seconds and MB by the rates alone."""
        amounts, table, gpu = work(self.plan, job), self.rates, self.on_gpu(job)
        machine = {name: rate / (GPU_SPEED if gpu else 1) for name, rate in table["machine"].items()}
        seconds = _total(amounts.seconds, {**table["seconds"].get(job.stage, {}), **machine})
        held = {name: rate for name, rate in table["memory"].get(job.stage, {}).items() if not (gpu and name in ON_GPU)}
        memory = _total(amounts.memory, held)
        return max(seconds, LEAST[0]), max(memory, LEAST[1])

    def _of(self, job: Job) -> Cost:
        if job in self._before:
            took = self._before[job]
            return Cost(self._took(job, took), took.memory_mb, "job")
        seconds, memory = self.predicted(job)
        if job.stage in self._scale:
            time, space = self._scale[job.stage]
            return Cost(seconds * time, memory * space, "stage")
        return Cost(seconds * self._machine, memory, "rates")


def _total(amounts: Amounts, rates: Amounts) -> float:
    return sum(rates.get(name, 0.0) * amount for name, amount in amounts.items())


def scale(ratios: Iterable[float]) -> float:
    """The median of measured / predicted, within a factor of FARTHEST; 1 of none."""
    found = list(ratios)
    return min(max(median(found), 1 / FARTHEST), FARTHEST) if found else 1.0


def job_named(name: str) -> Job | None:
    """The job of a name ("train columbia-drawn ..."); None where no stage has such jobs."""
    stage, *values = name.split()
    if stage not in STAGES or len(values) != len(STAGES[stage].wildcards):
        return None
    names = [each for each in WILDCARDS if each in STAGES[stage].wildcards]
    return Job.of(stage, **dict(zip(names, values, strict=True)))


def _jobs(measured: Mapping[str, Measured]) -> Iterable[tuple[Job, Measured]]:
    for name, took in measured.items():
        job = job_named(name)
        if job is not None:
            yield job, took
