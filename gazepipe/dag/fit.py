"""Rates fitted to what jobs took: `python -m gazepipe.dag.fit RESULTS:FILE,FILE ... > rates.json`.

RESULTS is a folder of results, FILE what was on top of config.yaml when they were made (none: only config.yaml). Rates
are found by least squares of the relative errors, none below zero. Errors beyond a fifth count less (Huber's weights):
a job that waited or was disturbed says little. The present rates count as one weak measurement each, so those that
nothing was measured for stay as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gazepipe.dag.costs import MACHINE, Rates, shipped
from gazepipe.dag.work import Amounts, work

if TYPE_CHECKING:
    from gazepipe.dag.measured import Measured
    from gazepipe.dag.plan import Plan
    from gazepipe.dag.stage import Job

PRIOR = 0.05
"""Weight of a present rate, where a measurement has 1."""
LEAST = 0.25
"""No rate falls below this share of the present one: what jobs so far were too small to show is not nothing."""
HUBER = 0.2
ROUNDS = 10

Sample = tuple["Plan", "Job", "Measured"]


def fitted(samples: Iterable[Sample], present: Rates) -> Rates:
    """The rates under which these jobs take what they took."""
    known = [(job.stage, work(plan, job), took) for plan, job, took in samples]
    stages = {stage: present["seconds"].get(stage, {}) for stage in present["seconds"]}
    prior = {("machine", name): rate for name, rate in present["machine"].items()}
    prior |= {(stage, name): rate for stage, rates in stages.items() for name, rate in rates.items()}
    rows = [
        ({("machine" if name in MACHINE else stage, name): n for name, n in amounts.seconds.items()}, took.seconds)
        for stage, amounts, took in known
    ]
    seconds = solved(rows, prior)
    held = {(stage, name): rate for stage, rates in present["memory"].items() for name, rate in rates.items()}
    rows = [
        ({(stage, name): n for name, n in amounts.memory.items()}, took.memory_mb) for stage, amounts, took in known
    ]
    memory = solved(rows, held)
    machine = {name: rate for (stage, name), rate in seconds.items() if stage == "machine"}
    return {"machine": machine, "seconds": _by_stage(seconds), "memory": _by_stage(memory)}


def _by_stage(rates: dict[tuple[str, str], float]) -> dict[str, Amounts]:
    found: dict[str, Amounts] = {}
    for (stage, name), rate in rates.items():
        if stage != "machine":
            found.setdefault(stage, {})[name] = rate
    return found


def solved(rows: list[tuple[dict, float]], prior: dict) -> dict:
    """The rates x >= 0, by name, for which sum of amount * x is as near to each row's value as can be."""
    import numpy as np
    from scipy.optimize import nnls

    names = list(prior)
    place = {name: index for index, name in enumerate(names)}
    before = np.array([prior[name] for name in names])
    amounts = np.zeros((len(rows), len(names)))
    for row, (found, value) in enumerate(rows):
        for name, amount in found.items():
            # Without a rate of before an amount is left out.
            if name in place:
                amounts[row, place[name]] = amount / value
    # In units of the present rates, above the least that is allowed: numbers of one size, and a prior for each.
    amounts *= before
    pull = PRIOR * np.eye(len(names))
    weights = np.ones(len(rows))
    for _ in range(ROUNDS):
        left = np.vstack([amounts * weights[:, None], pull])
        right = np.concatenate([weights, pull.diagonal()])
        found = nnls(left, right - LEAST * left.sum(axis=1))[0] + LEAST
        errors = np.abs(amounts @ found - 1)
        weights = np.sqrt(np.minimum(1, HUBER / np.maximum(errors, 1e-9)))
    return {name: float(f"{rate:.3g}") for name, rate in zip(names, found * before, strict=True)}


def main(arguments: list[str]) -> None:
    """Print the table that `arguments` give."""
    from gazepipe.dag.planning import measured_jobs, plan_of

    samples = []
    for argument in arguments:
        results, _, files = argument.partition(":")
        plan = plan_of([file for file in files.split(",") if file])
        samples += [(plan, job, took) for job, took in measured_jobs(plan, results)]
    json.dump(fitted(samples, shipped()), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(sys.argv[1:])
